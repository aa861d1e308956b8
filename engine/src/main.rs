//! The `standin` command.

use std::process::ExitCode;

use standin::runtime::cli;

fn main() -> ExitCode {
    cli::main(|_, _| Err("this build has no engine".into()))
}
