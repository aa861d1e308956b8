//! `standin-chart`: what a bench measured, as a table, as JSON and as a picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use standin_tools::chart::Sheet;

/// Tells what a bench measured: a table with the ratios first on standard output, and files.
///
/// Exit status: 0 if all is well, 2 for a command that cannot be understood, a file that cannot
/// be read or written, or a line in it that says nothing.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Samples, as testbed/bench writes them.
    samples: PathBuf,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to write the tables as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Where to draw it.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("standin-chart: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<String, String> {
    let at = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = fs::read_to_string(&cli.samples).map_err(|error| at(&cli.samples, &error))?;
    let sheet = Sheet::parse(&text).map_err(|error| at(&cli.samples, &error))?;
    if let Some(path) = &cli.json {
        fs::write(path, format!("{:#}\n", sheet.json())).map_err(|error| at(path, &error))?;
    }
    if let Some(path) = &cli.markdown {
        fs::write(path, sheet.markdown()).map_err(|error| at(path, &error))?;
    }
    if let Some(path) = &cli.svg {
        fs::write(path, sheet.svg()?).map_err(|error| at(path, &error))?;
    }
    Ok(sheet.table())
}
