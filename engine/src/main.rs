//! The `standin` command.

use std::process::ExitCode;

use standin::runtime::{cli, run};

fn main() -> ExitCode {
    cli::main(run::run)
}
