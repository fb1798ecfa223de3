//! What is read from the system: CPU time and memory of a server, cores, limits; and the median.

/// Where the servers run and where the load runs.
#[derive(Clone, Debug)]
pub enum Cores {
    /// On a core each, so that neither takes time from the other.
    Separate { server: usize, load: usize },
    /// Wherever the system puts them, and why.
    Shared { why: &'static str },
}

/// The machine, for the record.
pub struct Machine {
    pub system: String,
    pub processor: String,
    pub processors: usize,
}

impl Machine {
    /// This machine, as far as it says what it is.
    pub fn here() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown processor", |(_, name)| name.trim());
        let release = read("/proc/sys/kernel/osrelease");
        // What a distribution or a host appends to the version says nothing about speed.
        let version = release.split(['-', '+']).next().unwrap_or_default().trim();
        Self {
            system: format!("{} {version}", std::env::consts::OS).trim_end().to_owned(),
            processor: processor.to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The middle value; the mean of the two middle ones of an even count. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Whether CPU time and memory of another process can be read here.
pub const SEES_PROCESSES: bool = cfg!(target_os = "linux");

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Neighbours, allow_open_files, cpu_time, listen_overflows, resident_bytes};
#[cfg(target_os = "linux")]
pub use linux::{Neighbours, allow_open_files, cpu_time, listen_overflows, resident_bytes};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
    use nix::sys::time::TimeVal;
    use nix::time::ClockId;
    use nix::unistd::Pid;

    use super::Cores;
    use crate::failure::Failure;

    fn pid(process: u32) -> Pid {
        Pid::from_raw(i32::try_from(process).expect("process ids are positive i32"))
    }

    fn failed(what: &str) -> impl FnOnce(Errno) -> Failure {
        let what = what.to_owned();
        move |errno| Failure::io(what)(errno.into())
    }

    /// CPU time that all threads of the process have used, to the nanosecond.
    pub fn cpu_time(process: u32) -> Result<Duration, Failure> {
        let clock = ClockId::pid_cpu_clock_id(pid(process)).map_err(failed("cannot find the CPU clock"))?;
        let time = clock.now().map_err(failed("cannot read the CPU clock"))?;
        Ok(Duration::from(time))
    }

    /// Resident memory of the process: `VmRSS`.
    pub fn resident_bytes(process: u32) -> Result<u64, Failure> {
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).map_err(Failure::io(format!("cannot read {path}")))?;
        let kibibytes = status
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            })
            .ok_or(Failure::Unmeasurable("resident memory"))?;
        Ok(kibibytes * 1024)
    }

    /// Connections that the kernel has refused since it started because nobody accepted them: `ListenOverflows`.
    pub fn listen_overflows() -> Result<u64, Failure> {
        let path = "/proc/net/netstat";
        let text = fs::read_to_string(path).map_err(Failure::io(format!("cannot read {path}")))?;
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        names
            .split_ascii_whitespace()
            .zip(values.split_ascii_whitespace())
            .find_map(|(name, value)| if name == "ListenOverflows" { value.parse().ok() } else { None })
            .ok_or(Failure::Unmeasurable("what the kernel refused"))
    }

    /// Raises the limit of open files, for us and the servers we start, to at least `needed`.
    pub fn allow_open_files(needed: u64) -> Result<(), Failure> {
        let limit = Resource::RLIMIT_NOFILE;
        let (soft, hard) = getrlimit(limit).map_err(failed("cannot read the limit of open files"))?;
        if hard < needed {
            return Err(Failure::TooFewFiles { needed, allowed: hard });
        }
        if soft < hard {
            setrlimit(limit, hard, hard).map_err(failed("cannot raise the limit of open files"))?;
        }
        Ok(())
    }

    /// What everyone else does with the processors, and takes from the figures' worth.
    pub struct Neighbours {
        begin: Instant,
        everyone: Duration,
        ours: Duration,
    }

    impl Neighbours {
        /// Looks from here on.
        pub fn watch() -> Option<Self> {
            Some(Self { begin: Instant::now(), everyone: busy_time()?, ours: our_time()? })
        }

        /// CPU time of other programs (and other machines on the same host) since then, in processors: 0.5 is half
        /// of one. Servers that still run count as others.
        pub fn processors(&self) -> Option<f64> {
            let everyone = busy_time()?.saturating_sub(self.everyone);
            let ours = our_time()?.saturating_sub(self.ours);
            Some(everyone.saturating_sub(ours).as_secs_f64() / self.begin.elapsed().as_secs_f64())
        }
    }

    /// proc_stat(5), first line: all but `idle` and `iowait`, in hundredths of a second.
    fn busy_time() -> Option<Duration> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let ticks = stat.lines().next()?.split_ascii_whitespace().skip(1).take(8).map(str::parse::<u64>);
        let ticks = ticks.collect::<Result<Vec<_>, _>>().ok()?;
        let busy = ticks.iter().sum::<u64>() - ticks.get(3)? - ticks.get(4)?;
        Some(Duration::from_millis(busy * 10))
    }

    /// CPU time of this process and of the servers that have ended.
    fn our_time() -> Option<Duration> {
        let of = |who| {
            let usage = getrusage(who).ok()?;
            Some(duration(usage.user_time()) + duration(usage.system_time()))
        };
        Some(of(UsageWho::RUSAGE_SELF)? + of(UsageWho::RUSAGE_CHILDREN)?)
    }

    fn duration(time: TimeVal) -> Duration {
        let unsigned = |value: i64| u64::try_from(value).unwrap_or_default();
        Duration::from_secs(unsigned(time.tv_sec())) + Duration::from_micros(unsigned(time.tv_usec()))
    }

    impl Cores {
        /// The last core that we may use for the servers (the first has most interrupts), the first for the load.
        pub fn choose() -> Self {
            let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else {
                return Self::Shared { why: "the CPU affinity cannot be read" };
            };
            let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core) == Ok(true));
            match (cores.next(), cores.next_back()) {
                (Some(load), Some(server)) => Self::Separate { server, load },
                _ => Self::Shared { why: "there is only one core" },
            }
        }

        /// Moves this thread, and the processes it starts from here on, to the core of the servers.
        pub fn enter_server(&self) -> Result<(), Failure> {
            match self {
                Self::Separate { server, .. } => pin(*server),
                Self::Shared { .. } => Ok(()),
            }
        }

        /// Moves this thread to the core of the load.
        pub fn enter_load(&self) -> Result<(), Failure> {
            match self {
                Self::Separate { load, .. } => pin(*load),
                Self::Shared { .. } => Ok(()),
            }
        }
    }

    fn pin(core: usize) -> Result<(), Failure> {
        let mut set = CpuSet::new();
        set.set(core)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
            .map_err(failed("cannot move to another core"))
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::time::Duration;

    use super::Cores;
    use crate::failure::Failure;

    pub fn cpu_time(_: u32) -> Result<Duration, Failure> {
        Err(Failure::Unmeasurable("the CPU time of another process"))
    }

    pub fn resident_bytes(_: u32) -> Result<u64, Failure> {
        Err(Failure::Unmeasurable("resident memory"))
    }

    pub fn listen_overflows() -> Result<u64, Failure> {
        Err(Failure::Unmeasurable("what the kernel refused"))
    }

    pub struct Neighbours;

    impl Neighbours {
        pub fn watch() -> Option<Self> {
            None
        }

        pub fn processors(&self) -> Option<f64> {
            None
        }
    }

    pub fn allow_open_files(_: u64) -> Result<(), Failure> {
        Ok(())
    }

    impl Cores {
        pub fn choose() -> Self {
            Self::Shared { why: "only Linux lets us choose the core" }
        }

        pub fn enter_server(&self) -> Result<(), Failure> {
            Ok(())
        }

        pub fn enter_load(&self) -> Result<(), Failure> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_in_any_order() {
        for (values, middle) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
            (vec![4.0, 1.0], Some(2.5)),
        ] {
            assert_eq!(median(&values), middle, "{values:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_clocks_of_this_process_run() {
        let before = cpu_time(std::process::id()).expect("readable");
        let resident = resident_bytes(std::process::id()).expect("readable");
        let sum: u64 = (0..5_000_000_u64).map(std::hint::black_box).sum();
        assert!(sum > 0 && resident > 100_000);
        assert!(cpu_time(std::process::id()).expect("readable") > before);
    }
}
