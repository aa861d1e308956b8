//! The `standin` command.

use std::process::ExitCode;

use standin::runtime::{cli, run};

/// A loop that must not stand still, and small pieces by the million: of glibc's allocator one `free` in
/// millions joins all that was freed before it, and what clients made it take it keeps.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(run::run)
}
