//! Measures this project's server beside others on the same work, in one run, on one machine.
//!
//! Absolute times mean little on a shared machine; the ratios are what counts.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

mod deadline;
mod failure;
mod floor;
mod hold;
mod limits;
mod load;
mod measure;
mod nodes;
mod peers;
mod race;
mod report;
mod subjects;
mod work;

use deadline::Interrupt;
use failure::Failure;
use measure::{Cores, Machine, Neighbours};
use report::Record;
use subjects::{Starter, Subject};
use work::{Bench, Sizes, Work};

/// Measures duplex beside a bare epoll loop, npm ws and socket.io.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Flags {
    #[command(subcommand)]
    command: Option<Part>,
    /// The server to measure [default: `duplex` beside this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Do only these works, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WORKS")]
    only: Vec<Work>,
    /// Measure only these servers, comma-separated
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERVERS")]
    subjects: Vec<Subject>,
    /// Rounds of each work, 1 to 99; figures are the medians [default: 5; with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    rounds: Option<u8>,
    /// One round with fewer clients and messages: a first impression
    #[arg(long)]
    quick: bool,
    /// Where to write all samples
    #[arg(long, value_name = "FILE", default_value = "target/bench/bench.json")]
    json: PathBuf,
    /// Where to draw the ratios
    #[arg(long, value_name = "FILE", default_value = "target/bench/bench.svg")]
    svg: PathBuf,
    /// Where to write the tables, besides printing them
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// Be the bare epoll loop that the benchmark compares with.
    #[command(hide = true)]
    Floor { address: SocketAddr },
    /// Be the clients of one of several nodes.
    #[command(hide = true)]
    Group { address: SocketAddr },
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    let outcome = match flags.command {
        Some(Part::Floor { address }) => mio::net::TcpListener::bind(address)
            .and_then(floor::serve)
            .map_err(Failure::io(format!("cannot serve on {address}"))),
        Some(Part::Group { address }) => hold::group::run(address),
        None => measure_all(&flags),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(flags: &Flags) -> Result<(), Failure> {
    let interrupt = Interrupt::default();
    interrupt.listen()?;
    let cores = Cores::choose();
    if let Cores::Shared { why } = cores {
        eprintln!(
            "NOTE: server and load share their cores, since {why}. Expect noise; trust only clear differences."
        );
    }
    let sizes = if flags.quick { Sizes::QUICK } else { Sizes::FULL };
    measure::allow_open_files(sizes.open_files())?;
    let machine = Machine::here();
    let starter = starter(flags, cores)?;
    let subjects = subjects(flags, &starter)?;
    let bench = Bench { starter, sizes, interrupt };
    let rounds = usize::from(flags.rounds.unwrap_or(if flags.quick { 1 } else { 5 }));
    let neighbours = Neighbours::watch();
    let samples = samples(&bench, &works(flags), &subjects, rounds)?;
    let disturbance = neighbours.and_then(|neighbours| neighbours.processors());
    let record = Record {
        samples,
        rounds,
        machine,
        disturbance,
        versions: versions(&bench.starter, &subjects),
        subjects,
        sizes: bench.sizes,
        cores: bench.starter.cores,
    };
    publish(flags, &record)
}

fn starter(flags: &Flags, cores: Cores) -> Result<Starter, Failure> {
    let beside = std::env::current_exe().map_err(Failure::io("cannot find our own binary"))?;
    let server = flags.server.clone().unwrap_or_else(|| beside.with_file_name("duplex"));
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let logs = flags.json.parent().unwrap_or(Path::new(".")).join("logs");
    fs::create_dir_all(&logs).map_err(Failure::io(format!("cannot create {}", logs.display())))?;
    Ok(Starter { server, peers, logs, cores })
}

/// Those that were asked for, as far as they can run here. Ours must; the npm peers may be missing.
fn subjects(flags: &Flags, starter: &Starter) -> Result<Vec<Subject>, Failure> {
    let mut subjects = match flags.subjects.as_slice() {
        [] => Subject::value_variants().to_vec(),
        asked => asked.to_vec(),
    };
    subjects.sort();
    subjects.dedup();
    if subjects.iter().any(|subject| subject.is_ours()) && !starter.server.exists() {
        return Err(Failure::NoServer { path: starter.server.display().to_string() });
    }
    let is_peer = |subject: &Subject| subject.npm_package().is_some();
    if subjects.iter().any(is_peer)
        && let Err(why) = peers::prepare(&starter.peers)
    {
        eprintln!("NOTE: npm ws and socket.io are LEFT OUT: {why}.");
        subjects.retain(|subject| !is_peer(subject));
    }
    Ok(subjects)
}

fn works(flags: &Flags) -> Vec<Work> {
    let mut works = match flags.only.as_slice() {
        [] => Work::value_variants().iter().copied().filter(|work| work.is_usual()).collect(),
        asked => asked.to_vec(),
    };
    works.retain(|work| {
        if !work.is_measurable() {
            eprintln!(
                "NOTE: {} is LEFT OUT: only Linux shows us another process's CPU time and memory.",
                work.name()
            );
        }
        work.is_measurable()
    });
    works
}

/// Round by round, and within a round server by server, so that a noisy minute hits all alike.
fn samples(
    bench: &Bench,
    works: &[Work],
    subjects: &[Subject],
    rounds: usize,
) -> Result<BTreeMap<(work::Metric, Subject), Vec<f64>>, Failure> {
    let mut samples = BTreeMap::<_, Vec<f64>>::new();
    let steps = works.iter().flat_map(|&work| (0..rounds).map(move |round| (work, round)));
    let bar = progress_bar(works.len() * rounds);
    for (work, round) in steps {
        let mut suited: Vec<Subject> =
            subjects.iter().copied().filter(|subject| work.suits(*subject)).collect();
        // Nobody is always first.
        let first = round % suited.len().max(1);
        suited.rotate_left(first);
        let mut starting = |subject: Subject| {
            bar.set_message(format!("{}, round {}: {}", work.name(), round + 1, subject.name()));
        };
        for (subject, metric, figure) in bench.round(work, &suited, &mut starting)? {
            samples.entry((metric, subject)).or_default().push(figure);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(samples)
}

fn progress_bar(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")
        .expect("the template is well-formed");
    ProgressBar::new(steps as u64).with_style(style)
}

fn versions(starter: &Starter, subjects: &[Subject]) -> Vec<(String, String)> {
    let mut versions = Vec::new();
    if subjects.iter().any(|subject| subject.is_ours()) {
        let version = subjects::version(&starter.server).unwrap_or_else(|| "unknown".into());
        versions.push(("duplex".to_owned(), version));
    }
    let packages = subjects.iter().filter_map(|subject| Some((subject.name(), subject.npm_package()?)));
    for (name, package) in packages {
        let version = peers::package_version(&starter.peers, package).unwrap_or_else(|_| "unknown".into());
        versions.push((name.to_owned(), version));
    }
    if subjects.iter().any(|subject| subject.npm_package().is_some())
        && let Some(version) = subjects::version(Path::new("node"))
    {
        versions.push(("node".to_owned(), version));
    }
    versions
}

fn publish(flags: &Flags, record: &Record) -> Result<(), Failure> {
    let text = report::markdown::render(record);
    println!("{text}");
    write(&flags.json, &report::json::render(record))?;
    write(&flags.svg, &report::svg::render(record))?;
    flags.markdown.as_ref().map_or(Ok(()), |path| write(path, &text))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let what = format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Failure::io(what.clone()))?;
    }
    fs::write(path, text).map_err(Failure::io(what))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
