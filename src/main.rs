//! The binary: the command line, with the allocator that it runs on.

use std::process::ExitCode;

/// Each request and each event is many small allocations on several threads, at which this
/// allocator is better than the system's. It goes without huge pages: they make an idle bus half as
/// large again, and whoever touches a new one waits for two megabytes to be zeroed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pointsman::main()
}
