//! The `duplex` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages. They are as fast here as others and make memory grow in steps of 2 MiB, much of which
    // stays empty: 10 MB more at the start, a quarter more per idle client. Where it fails, it is so.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    duplex::cli::run()
}
