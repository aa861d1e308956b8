//! The `standin` command.
//!
//! It exits with 0 when it did what it was asked, 1 when it could not, 2 when it was asked wrongly:
//! usage or configuration.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};

use super::backend::{BackendAction, backend};
use super::capture::CaptureSpec;
use super::clock::Clock;
use super::config::Config;
use super::control::{self, Answer, Request};
use super::host;
use super::key::PairKey;
use super::readiness;
use crate::ids::Node;
use crate::time::Duration;

/// It was asked wrongly.
const MISTAKEN: u8 = 2;
/// How long an engine may take to say how it is; one that does not answer has stopped.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take to do what it is asked.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);
/// How long a switchover may take before the command stops watching it.
const SWITCHOVER_WATCH: Duration = Duration::from_secs(10);

/// TCP connections that outlive their server.
#[derive(Parser, Debug)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum CliCommand {
    /// Run the engine of one node in the foreground
    Run {
        /// The configuration, the same file on both nodes
        #[arg(long)]
        config: PathBuf,
        /// Which node this host is
        #[arg(long, value_parser = parse_node)]
        node: Node,
        /// Write what passes through the engine into a pcapng file, from the start
        #[arg(long, value_name = "FILE[,SIZE][,RING]", long_help = CAPTURE_HELP)]
        capture: Option<CaptureSpec>,
    },
    /// Check a configuration and say everything that is wrong with it
    Check {
        /// The configuration
        file: PathBuf,
        /// Also check the files and directories that this node needs on this host
        #[arg(long, value_parser = parse_node)]
        node: Option<Node>,
    },
    /// Write a new key file; both nodes need the same one
    Key {
        /// Where; an existing file is left alone
        file: PathBuf,
    },
    /// Show what an engine is doing
    Status {
        /// Which engine
        #[command(flatten)]
        engine: EngineArgs,
        /// Print the whole status as JSON
        #[arg(long)]
        json: bool,
    },
    /// Hand the service addresses to the other node; refused if a connection would be lost
    Switchover {
        /// Which engine
        #[command(flatten)]
        engine: EngineArgs,
        /// Return once it has begun
        #[arg(long)]
        no_wait: bool,
        /// Hand over also if connections are lost by it
        #[arg(long)]
        force: bool,
    },
    /// Say what a server behind a relay is there for, while the pair runs
    Backend {
        /// What
        #[command(subcommand)]
        action: BackendAction,
    },
    /// Capture what passes through an engine: packets, replication, changes of role
    Capture {
        /// Begin or end
        #[command(subcommand)]
        action: CaptureAction,
    },
}

/// What to do about a capture.
#[derive(Subcommand, Debug)]
pub enum CaptureAction {
    /// Begin a capture
    Start {
        /// Which file, how large, and how many of them
        #[arg(value_name = "FILE[,SIZE][,RING]", long_help = CAPTURE_HELP)]
        capture: CaptureSpec,
        /// Which engine
        #[command(flatten)]
        engine: EngineArgs,
    },
    /// End the capture and say what was written
    Stop {
        /// Which engine
        #[command(flatten)]
        engine: EngineArgs,
    },
}

/// What the two ways to begin a capture say about its file.
const CAPTURE_HELP: &str = "\
A pcapng file on the engine's host, mode 0600. SIZE bounds it (64MiB; 1GiB if left out): then the \
capture ends. With RING (4) it goes on: the full file becomes FILE.1, the one before it FILE.2, and \
so on, and RING files are kept. A file that is no capture of standin is never overwritten; an \
earlier capture is kept as FILE.1 if there is a ring, and refused otherwise.

The file holds everything that clients send and receive. See docs/operations.md, section Captures.";

/// Which engine is meant.
#[derive(Args, Debug)]
pub struct EngineArgs {
    /// Its control socket
    #[arg(long, conflicts_with_all = ["config", "node"], required_unless_present = "node")]
    socket: Option<PathBuf>,
    /// The configuration that names the socket; without it the default path is taken
    #[arg(long, requires = "node")]
    config: Option<PathBuf>,
    /// Which node this host is
    #[arg(long, value_parser = parse_node)]
    node: Option<Node>,
}

/// How a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Usage or configuration.
    Mistaken(String),
    /// Anything else.
    Failed(String),
}

fn parse_node(text: &str) -> Result<Node, String> {
    match text {
        "a" => Ok(Node::A),
        "b" => Ok(Node::B),
        _ => Err("a node is a or b".into()),
    }
}

/// Runs the command line. `run` runs an engine to its end.
pub fn main(
    run: impl FnOnce(&Config, Node, Option<&CaptureSpec>) -> Result<(), String>,
) -> ExitCode {
    let result = match Cli::parse().command {
        CliCommand::Run { config, node, capture } => {
            start(&config, node, |config, node| run(config, node, capture.as_ref()))
        }
        CliCommand::Check { file, node } => check(&file, node),
        CliCommand::Key { file } => make_key(&file),
        CliCommand::Status { engine, json } => status(&engine, json),
        CliCommand::Switchover { engine, no_wait, force } => switchover(&engine, no_wait, force),
        CliCommand::Backend { action } => backend(&action),
        CliCommand::Capture { action: CaptureAction::Start { capture, engine } } => {
            start_capture(&engine, &capture)
        }
        CliCommand::Capture { action: CaptureAction::Stop { engine } } => {
            tell(&engine, &Request::CaptureStop)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            complain(&why);
            ExitCode::FAILURE
        }
        Err(Failure::Mistaken(why)) => {
            complain(&why);
            ExitCode::from(MISTAKEN)
        }
    }
}

/// One message on standard error, if anyone is there to read it.
fn complain(why: &str) {
    let _ = writeln!(std::io::stderr(), "standin: {why}");
}

/// Lines on standard output; a closed pipe is no reason to fail.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|error| Failure::Mistaken(error.to_string()))
}

fn start(
    file: &Path,
    node: Node,
    run: impl FnOnce(&Config, Node) -> Result<(), String>,
) -> Result<(), Failure> {
    let config = load(file)?;
    let complaints = config.check_host(node);
    if !complaints.is_empty() {
        return Err(Failure::Mistaken(complaints.join("\n")));
    }
    run(&config, node).map_err(Failure::Failed)
}

fn check(file: &Path, node: Option<Node>) -> Result<(), Failure> {
    let config = load(file)?;
    config.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    if let Some(node) = node {
        let mut complaints = config.check_host(node);
        complaints.extend(readiness::lacking(&config, node));
        complaints.extend(readiness::unfit(&config, node));
        config.host_warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
        if let Some(key_file) = &config.key_file {
            match PairKey::read(key_file) {
                Err(error) => complaints.push(error.to_string()),
                Ok(read) => {
                    if let Some(mode) = read.loose_mode {
                        let name = key_file.display();
                        say(&format!("warning: {name} has mode {mode:04o}, 0600 is wanted"));
                    }
                }
            }
        }
        warn_of_firewall(&config, node);
        if !complaints.is_empty() {
            return Err(Failure::Mistaken(complaints.join("\n")));
        }
    }
    let kind = if config.is_pair() { "a pair" } else { "one node" };
    let (services, addresses) = (config.services.len(), config.addresses.len());
    let backends: usize = config.services.iter().map(|service| service.kind.backends().len()).sum();
    let backends = if backends == 0 { String::new() } else { format!(", backends {backends}") };
    let file = file.display();
    say(&format!("{file}: {kind}, services {services}{backends}, addresses {addresses}"));
    Ok(())
}

/// What is for the service addresses is forwarded, and many firewalls forward nothing.
fn warn_of_firewall(config: &Config, node: Node) {
    let Some(own) = config.node(node) else { return };
    match host::forward_drops(&own.tun, &config.addresses) {
        Ok(chains) => {
            for chain in chains {
                say(&format!(
                    "warning: chain {chain} of nf_tables drops what it forwards, and no rule in its table \
                     names {} or a service address: clients would not be served. Admit them there \
                     (operations.md, Firewall)",
                    own.tun
                ));
            }
        }
        Err(error) => say(&format!("warning: {error}")),
    }
}

fn make_key(file: &Path) -> Result<(), Failure> {
    PairKey::generate()
        .and_then(|key| key.write_new(file))
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let file = file.display();
    say(&format!(
        "{file}: a new key, for both nodes. Next:\n  copy it to the other host, for example: scp -p \
         {file} OTHER:{file}\n  name it in the configuration of both, under [pair]: key-file = \"{file}\""
    ));
    Ok(())
}

fn socket(engine: &EngineArgs) -> Result<PathBuf, Failure> {
    match (&engine.socket, &engine.config, engine.node) {
        (Some(socket), _, _) => Ok(socket.clone()),
        (None, Some(file), Some(node)) => {
            let config = load(file)?;
            let configured = config.node(node);
            let missing = || Failure::Mistaken(format!("node {node} is not configured"));
            Ok(configured.ok_or_else(missing)?.control_socket.clone())
        }
        (None, None, Some(node)) => Ok(format!("/run/standin/{node}.sock").into()),
        (None, _, None) => Err(Failure::Mistaken("--socket or --node is needed".into())),
    }
}

/// Asks an engine one thing. Whether it answers at all is found out first: what it is to do may take
/// long, and a stopped one would keep us waiting for it.
pub(super) fn ask(engine: &EngineArgs, request: &Request) -> Result<Answer, Failure> {
    let socket = socket(engine)?;
    let failed =
        |error: io::Error, patience| Failure::Failed(say_failed(engine, &socket, &error, patience));
    if *request != Request::Status {
        control::ask(&socket, &Request::Status, STATUS_PATIENCE)
            .map_err(|error| failed(error, STATUS_PATIENCE))?;
    }
    let patience = if *request == Request::Status { STATUS_PATIENCE } else { COMMAND_PATIENCE };
    let answer =
        control::ask(&socket, request, patience).map_err(|error| failed(error, patience))?;
    match answer {
        Answer { ok: true, .. } => Ok(answer),
        Answer { error, .. } => Err(Failure::Failed(error.unwrap_or_else(|| "refused".into()))),
    }
}

/// Why there is no answer, and what that means.
fn say_failed(engine: &EngineArgs, socket: &Path, error: &io::Error, patience: Duration) -> String {
    let socket = socket.display();
    let who = engine
        .node
        .map_or("no engine runs".to_owned(), |node| format!("no engine runs as node {node} here"));
    match error.kind() {
        io::ErrorKind::NotFound => format!("{who}: {socket} does not exist"),
        io::ErrorKind::ConnectionRefused => format!("{who}: it left {socket} behind"),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => {
            format!("{who} any more: it ended while it was asked ({socket})")
        }
        io::ErrorKind::TimedOut => {
            format!("no answer in {} s: the engine stands still ({socket})", patience.as_secs())
        }
        _ => format!("{socket}: {error}"),
    }
}

/// Shows the status. One that is no longer true is shown, too, and is a failure: so is none, of which
/// a program is told in its own way.
fn status(engine: &EngineArgs, json: bool) -> Result<(), Failure> {
    let answer = match ask(engine, &Request::Status) {
        Err(Failure::Failed(why)) if json => {
            let status = json!({ "protected": false, "why": [why], "error": why });
            say(&serde_json::to_string_pretty(&status).unwrap_or_default());
            return Err(Failure::Failed(why));
        }
        answer => answer?,
    };
    let mut status = answer.status.unwrap_or_default();
    if let Some(fields) = status.as_object_mut() {
        fields.insert("age_ms".into(), answer.age_ms.into());
        fields.insert("stale".into(), answer.stale.into());
    }
    if json {
        say(&serde_json::to_string_pretty(&status).unwrap_or_default());
    } else {
        say(describe(&status).trim_end());
    }
    if answer.stale {
        let age = answer.age_ms.unwrap_or_default();
        let why = format!("the status is {age} ms old: the engine's loop does not turn");
        return Err(Failure::Failed(why));
    }
    Ok(())
}

/// The status for a person: one value a line, those within others indented. Of a list of such, each
/// has one line.
fn describe(status: &Value) -> String {
    fn lines(value: &Value, depth: usize, out: &mut String) {
        let Value::Object(map) = value else { return };
        let width = map.keys().map(String::len).max().unwrap_or(0);
        for (key, value) in map {
            let indent = "  ".repeat(depth);
            let key = key.replace('_', " ");
            match value {
                Value::Object(_) => {
                    out.push_str(&format!("{indent}{key}:\n"));
                    lines(value, depth + 1, out);
                }
                Value::String(text) => out.push_str(&format!("{indent}{key:width$}  {text}\n")),
                Value::Array(items) if items.is_empty() => {
                    out.push_str(&format!("{indent}{key:width$}  -\n"));
                }
                Value::Array(items) if items.iter().all(Value::is_object) => {
                    out.push_str(&format!("{indent}{key}:\n"));
                    for values in items.iter().filter_map(Value::as_object) {
                        let values: Vec<String> = values
                            .iter()
                            .filter(|(_, value)| !value.is_null())
                            .map(|(key, value)| format!("{key} {}", item(value)))
                            .collect();
                        out.push_str(&format!("{indent}  {}\n", values.join(", ")));
                    }
                }
                Value::Array(items) if key == "why" => {
                    out.push_str(&format!("{indent}{key}:\n"));
                    for reason in items.iter().map(item) {
                        out.push_str(&format!("{indent}  {reason}\n"));
                    }
                }
                Value::Array(items) => {
                    let items: Vec<String> = items.iter().map(item).collect();
                    out.push_str(&format!("{indent}{key:width$}  {}\n", items.join(", ")));
                }
                Value::Null => out.push_str(&format!("{indent}{key:width$}  -\n")),
                Value::Bool(_) | Value::Number(_) => {
                    out.push_str(&format!("{indent}{key:width$}  {value}\n"));
                }
            }
        }
    }
    fn item(value: &Value) -> String {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }
    let mut out = String::new();
    lines(status, 0, &mut out);
    out
}

/// Begins a switchover and watches until this engine is no longer primary.
fn switchover(engine: &EngineArgs, no_wait: bool, force: bool) -> Result<(), Failure> {
    ask(engine, &Request::Switchover { force })?;
    if no_wait {
        return Ok(());
    }
    let until = Clock.now() + SWITCHOVER_WATCH;
    while Clock.now() < until {
        thread::sleep(Duration::from_millis(20));
        let status = ask(engine, &Request::Status)?.status.unwrap_or_default();
        let role = status.get("role").and_then(Value::as_str).unwrap_or_default();
        if role == "standby" {
            return Ok(());
        }
    }
    Err(Failure::Failed("the switchover has begun and is not complete".into()))
}

/// A command that is answered with a line.
fn tell(engine: &EngineArgs, request: &Request) -> Result<(), Failure> {
    if let Some(text) = ask(engine, request)?.text {
        say(&text);
    }
    Ok(())
}

fn start_capture(engine: &EngineArgs, spec: &CaptureSpec) -> Result<(), Failure> {
    // The engine has another working directory.
    let file = std::path::absolute(spec.file())
        .map_err(|error| Failure::Failed(format!("{}: {error}", spec.file().display())))?;
    let (size, ring) = (Some(spec.size()), Some(spec.ring()));
    tell(engine, &Request::CaptureStart { file, size, ring })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn an_engine_that_dies_while_it_is_asked_is_a_dead_one() {
        let engine = EngineArgs { socket: None, config: None, node: parse_node("a").ok() };
        let told = |kind: io::ErrorKind| {
            say_failed(&engine, Path::new("a.sock"), &kind.into(), STATUS_PATIENCE)
        };
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
        for kind in [ConnectionRefused, ConnectionReset, BrokenPipe, UnexpectedEof] {
            assert!(told(kind).contains("no engine runs as node a here"), "{kind}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        for good in [
            "standin run --config f --node a",
            "standin check f",
            "standin check f --node b",
            "standin key f",
            "standin status --json --config f --node b",
            "standin status --socket s",
            "standin switchover --node a",
            "standin switchover --force --no-wait --node a",
            "standin run --config f --node a --capture c.pcapng,64MiB,4",
            "standin capture start c.pcapng --node a",
            "standin capture stop --config f --node b",
            "standin backend ready 10.0.0.2:80 --node a",
            "standin backend drain [fd00::2]:80 --relay 8080 --wait --timeout 90s --cut --node a",
            "standin backend maint 10.0.0.2:80 --wait --config f --node b",
            "standin backend weight 10.0.0.2:80 256 --socket s",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "standin",
            "standin run --config f --node c",
            "standin status",
            "standin status --config f",
            "standin status --socket s --node a",
            "standin run --config f --node a --capture c,1KiB",
            "standin capture start --node a",
            "standin capture start c,1MiB,0 --node a",
            "standin capture stop",
            "standin backend drain 10.0.0.2 --node a",
            "standin backend drain web:80 --node a",
            "standin backend drain 10.0.0.2:80",
            "standin backend drain 10.0.0.2:80 --timeout 1s --node a",
            "standin backend drain 10.0.0.2:80 --wait --timeout long --node a",
            "standin backend ready 10.0.0.2:80 --cut --node a",
            "standin backend weight 10.0.0.2:80 --node a",
            "standin backend weight 10.0.0.2:80 257 --node a",
            "standin backend weight 10.0.0.2:80 -1 --node a",
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn the_socket_is_found() {
        let found = |line: &str| match parse(line).unwrap().command {
            CliCommand::Status { engine, .. } => socket(&engine).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(found("standin status --socket /s"), Path::new("/s"));
        assert_eq!(found("standin status --node b"), Path::new("/run/standin/b.sock"));
    }

    #[test]
    fn the_status_reads_as_lines() {
        let status = json!({
            "role": "primary",
            "peer": null,
            "log": { "sent": 3, "confirmed_lsn": 2 },
            "addresses": ["10.0.0.1", "fd00::1"],
            "backends": [
                { "port": 80, "address": "10.0.0.2:80", "up": true, "last_failure": null },
                { "port": 80, "address": "10.0.0.3:80", "up": false },
            ],
            "others": [],
            "why": ["one", "the other, in words"],
        });
        assert_eq!(
            describe(&status),
            "role       primary\n\
             peer       -\n\
             log:\n  sent           3\n  confirmed lsn  2\n\
             addresses  10.0.0.1, fd00::1\n\
             backends:\n  port 80, address 10.0.0.2:80, up true\n  \
               port 80, address 10.0.0.3:80, up false\n\
             others     -\n\
             why:\n  one\n  the other, in words\n"
        );
    }
}
