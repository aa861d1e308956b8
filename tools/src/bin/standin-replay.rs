//! `standin-replay`: packet captures explained, replayed and crashed.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use standin_tools::replay::compare::{self, Kind, Patience, ReplayError, Service};
use standin_tools::replay::crash::{self, Death, Events};
use standin_tools::replay::explain::{self, Choice};

/// What happened in a packet capture, and what Standin would have done.
///
/// Reads pcap and pcapng of Ethernet, raw IP and Linux "any" interfaces.
///
/// Exit status: 0 if all is well, 1 for a difference, a violation or a failure, 2 for a command
/// that cannot be understood or a file that cannot be read.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tell each connection's story: handshake, losses, windows, takeovers, stalls and their cause.
    Explain(ExplainArgs),
    /// Let the recorded clients meet our TCP, and show how our answers differ from the recorded.
    Replay(ReplayArgs),
    /// Let the recorded clients live again, and the primary of a pair die at each event in turn.
    Crash(CrashArgs),
}

#[derive(Debug, Args)]
struct CrashArgs {
    /// A pcap or pcapng file; - for standard input.
    file: PathBuf,
    /// What a recorded server is, where its port does not tell: echo, discard or chargen; repeat
    /// for more.
    #[arg(long, value_name = "ADDRESS:PORT=KIND", value_parser = parse_player)]
    service: Vec<Service>,
    /// Die at every event: each packet, write to the standby, frame and heartbeat.
    #[arg(long, conflicts_with = "at")]
    every_event: bool,
    /// Die at the events between this packet of the capture and the next of a client.
    #[arg(long, value_name = "PACKET", value_parser = clap::value_parser!(u64).range(1..))]
    at: Option<u64>,
    /// Otherwise die at so many events, evenly spread.
    #[arg(long, default_value = "200", value_name = "COUNT")]
    events: NonZeroUsize,
    /// What dies.
    #[arg(long, value_enum, default_value_t = Victim::Process)]
    death: Victim,
    /// Connections of the capture that are played, the first ones.
    #[arg(long, default_value = "50", value_name = "COUNT")]
    connections: NonZeroUsize,
    /// Shorten pauses of the capture to this.
    #[arg(long, default_value = "1s", value_name = "TIME")]
    pause: humantime::Duration,
    /// The LAN's MTU.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(1280..))]
    mtu: u16,
    /// Worlds at a time; 0 is one for each core.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    threads: usize,
    /// The mistake that both engines make, to see how it is found out.
    #[cfg(feature = "defects")]
    #[arg(long)]
    defect: Option<standin::defects::Defect>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// What of the primary dies.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Victim {
    /// The process; its host's kernel closes its sockets.
    Process,
    /// The whole host, without a word.
    Host,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// A pcap or pcapng file; - for standard input.
    file: PathBuf,
    /// A server that our own service stands in for: echo, discard, chargen or files; repeat for
    /// more. Every other server says again what the capture has.
    #[arg(long, value_name = "ADDRESS:PORT=KIND", value_parser = parse_service)]
    service: Vec<Service>,
    /// The document root of files.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// The MTU of our side.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..))]
    mtu: u16,
    /// Print only connections that differ.
    #[arg(long)]
    brief: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// A pcap or pcapng file; - for standard input.
    file: PathBuf,
    /// Tell this connection: its number in the table, ADDRESS:PORT or ADDRESS; repeat for more.
    /// Otherwise those with the most to tell.
    #[arg(long, value_name = "WHICH")]
    conn: Vec<Choice>,
    /// Draw a time-sequence plot of the connections told.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// No progress for so long is a stall.
    #[arg(long, default_value = "200ms", value_name = "TIME")]
    stall: humantime::Duration,
    /// A server, for connections that began before the capture; repeat for more.
    #[arg(long, value_name = "ADDRESS:PORT")]
    service: Vec<SocketAddr>,
    /// Take part in connections that began before the capture, the lower port being the server.
    #[arg(long)]
    midway: bool,
    /// Tell every exchange of data, where long rows of them would be folded.
    #[arg(long)]
    unfolded: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Why nothing more can be done.
enum Trouble {
    /// Exit status 2.
    Input(String),
    /// Exit status 1.
    Failure(String),
}

/// A file that cannot be read, in words.
fn unreadable(file: &Path, error: &impl std::fmt::Display) -> Trouble {
    Trouble::Input(format!("{}: {error}", file.display()))
}

fn main() -> ExitCode {
    env_logger::init();
    let outcome = match Cli::parse().command {
        Command::Explain(args) => explain(&args),
        Command::Replay(args) => replay(&args),
        Command::Crash(args) => crash(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Trouble::Failure(text)) => complain(&text, 1),
        Err(Trouble::Input(text)) => complain(&text, 2),
    }
}

fn complain(text: &str, status: u8) -> ExitCode {
    eprintln!("standin-replay: {text}");
    ExitCode::from(status)
}

/// Prints; a reader that has gone away is no failure.
fn print(text: &impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
}

fn explain(args: &ExplainArgs) -> Result<bool, Trouble> {
    let options = explain::Options {
        servers: args.service.clone(),
        midway: args.midway,
        choices: args.conn.clone(),
        stall: args.stall.into(),
        unfolded: args.unfolded,
    };
    let report =
        explain::explain(&args.file, &options).map_err(|error| unreadable(&args.file, &error))?;
    if args.json {
        print(&report.to_json())
    } else {
        print(&report)
    }
    if report.is_empty() {
        let text = "no TCP connection to tell in this capture (see --service and --midway for \
                    connections that began before it)";
        return Err(Trouble::Failure(text.to_owned()));
    }
    if !report.tells() {
        return Err(Trouble::Input("--conn names no connection of this capture".to_owned()));
    }
    if let Some(path) = &args.svg {
        let plot = report.plot().map_err(Trouble::Failure)?;
        std::fs::write(path, plot).map_err(|error| {
            Trouble::Failure(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    Ok(true)
}

fn parse_service(text: &str) -> Result<Service, String> {
    let wrong = || "ADDRESS:PORT=echo, discard, chargen or files".to_owned();
    let (at, kind) = text.split_once('=').ok_or_else(wrong)?;
    let kind = match kind {
        "echo" => Kind::Echo,
        "discard" => Kind::Discard,
        "chargen" => Kind::Chargen,
        "files" => Kind::Files { root: 0, patience: Patience::ENDLESS },
        _ => return Err(wrong()),
    };
    Ok(Service { at: at.parse().map_err(|_| wrong())?, kind })
}

fn parse_player(text: &str) -> Result<Service, String> {
    match parse_service(text)? {
        Service { kind: Kind::Files { .. }, .. } => {
            Err("echo, discard or chargen; chargen stands in for files".to_owned())
        }
        service => Ok(service),
    }
}

fn replay(args: &ReplayArgs) -> Result<bool, Trouble> {
    let options = compare::Options {
        services: args.service.clone(),
        files: args.files.clone(),
        mtu: args.mtu,
        brief: args.brief,
    };
    let report = compare::replay(&args.file, &options).map_err(|error| match error {
        ReplayError::Capture(error) => unreadable(&args.file, &error),
        ReplayError::Setup(error) => Trouble::Input(error.to_string()),
    })?;
    print_as(args.json, &report)?;
    if report.is_empty() {
        return Err(Trouble::Failure(NOTHING.to_owned()));
    }
    Ok(report.is_clean())
}

/// Why there is nothing to replay.
const NOTHING: &str = "no connection to replay: none of this capture begins with its SYN";

fn print_as(
    json: bool,
    report: &(impl std::fmt::Display + serde::Serialize),
) -> Result<(), Trouble> {
    if json {
        let json = serde_json::to_string(report);
        print(&json.map_err(|error| Trouble::Failure(error.to_string()))?);
    } else {
        print(report);
    }
    Ok(())
}

fn crash(args: &CrashArgs) -> Result<bool, Trouble> {
    let options = crash::Options {
        services: args.service.clone(),
        events: match args.at {
            Some(packet) => Events::Packet(packet),
            None if args.every_event => Events::Every,
            None => Events::Spread(args.events.get()),
        },
        death: match args.death {
            Victim::Process => Death::Process,
            Victim::Host => Death::Host,
        },
        connections: args.connections.get(),
        pause_max: args.pause.into(),
        mtu: args.mtu,
        threads: args.threads,
        progress: !args.json,
        #[cfg(feature = "defects")]
        defect: args.defect,
    };
    let report =
        crash::crash(&args.file, &options).map_err(|error| unreadable(&args.file, &error))?;
    if let Some(packet) = args.at.filter(|packet| *packet > report.frames()) {
        let text = format!("--at {packet}: the capture has {} packets", report.frames());
        return Err(Trouble::Input(text));
    }
    print_as(args.json, &report)?;
    if report.is_empty() {
        return Err(Trouble::Failure(NOTHING.to_owned()));
    }
    Ok(report.is_clean())
}
