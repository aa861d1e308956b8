//! `standin-drill`: proves on ordinary kernel sockets that a takeover loses nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use standin_tools::capture;
use standin_tools::drill::{
    Expected, GAPS_TOLD, Pattern, Plan, Report, Service, Sources, Workload, measure, run,
    write_file,
};

/// Clients that check every byte while a server dies.
///
/// Opens connections to the services of a Standin pair, moves bytes, compares each with what
/// belongs at its offset, and measures every connection's longest time without progress. Kill the
/// primary meanwhile. Interrupt it (Ctrl-C) to end in order, twice to give up.
///
/// Exit status: 0 if every byte was right and no connection was lost, 1 if not, 2 for a command
/// that cannot be understood.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a stream and check its echo; with --think, ask and wait for the answer.
    Echo {
        #[command(flatten)]
        asking: Asking,
        #[command(flatten)]
        common: Common,
    },
    /// Open connections that say something at the start and at the end, and nothing between.
    Idle {
        #[command(flatten)]
        common: Common,
    },
    /// Upload; progress is what the peer acknowledges.
    Discard {
        #[command(flatten)]
        common: Common,
    },
    /// Download from the character generator.
    Chargen {
        #[command(flatten)]
        common: Common,
    },
    /// Download a file over HTTP, again and again when there is a --duration.
    Files {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Several of these at once.
    Mixed {
        /// Shares, such as echo=2,discard=1,chargen=1,files=1.
        #[arg(long, value_name = "LIST", default_value = "echo=1,discard=1,chargen=1")]
        weights: String,
        /// Ports, where they are not the assigned ones, such as echo=7007.
        #[arg(long, value_name = "LIST", default_value = "")]
        ports: String,
        #[command(flatten)]
        asking: Asking,
        #[command(flatten)]
        file: OptionalFile,
        #[command(flatten)]
        common: Common,
    },
    /// Write a file whose every byte a drill knows (see `files --seed-content`).
    MakeFile {
        /// The file to write.
        path: PathBuf,
        /// Its length.
        #[arg(long, value_name = "SIZE")]
        bytes: ByteSize,
        /// Which content.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Measure the gaps in another client's output: curl … | standin-drill pipe > FILE.
    Pipe {
        /// Where to write the report as JSON.
        #[arg(long, value_name = "FILE")]
        json: PathBuf,
        /// Write our process id to this file once a byte has come.
        #[arg(long, value_name = "FILE")]
        ready: Option<PathBuf>,
    },
    /// Show, from reports, each client's longest gap after given moments.
    Gaps {
        /// A moment, in milliseconds since 1970; repeat for more.
        #[arg(long, required = true, value_name = "MILLIS")]
        at: Vec<u64>,
        /// How long after a moment a gap may have begun to be counted to it.
        #[arg(long, default_value = "2s", value_name = "TIME")]
        within: humantime::Duration,
        /// Reports as --json wrote them; each client has its file's name.
        #[arg(required = true)]
        reports: Vec<PathBuf>,
    },
    /// Check a client's packet capture: no reset, no regression, no shrunk window.
    CheckCapture {
        /// A pcap or pcapng file of an Ethernet interface.
        file: PathBuf,
        /// The service's address; repeat for more.
        #[arg(long, required = true, value_name = "ADDRESS")]
        service: Vec<IpAddr>,
        /// Fail unless the service's Ethernet address changed at least so often.
        #[arg(long, default_value_t = 0, value_name = "COUNT")]
        takeovers: u64,
        /// How much later than its successors a segment may come: behind a relay the service's segments
        /// have crossed a network, and may have overtaken each other there.
        #[arg(long, default_value = "0s", value_name = "TIME")]
        late: humantime::Duration,
        /// Where to write the result as JSON; - is standard output.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The service's addresses; connections go round.
    #[arg(required = true, value_name = "ADDRESS")]
    targets: Vec<IpAddr>,
    /// The service's port, if it is not the assigned one (not for mixed).
    #[arg(long)]
    port: Option<u16>,
    /// Connections at one time.
    #[arg(long, short = 'n', default_value_t = 1, value_name = "COUNT")]
    connections: usize,
    /// Where connections come from: an address, FIRST-LAST or a network; repeat for more.
    #[arg(long, value_name = "ADDRESSES")]
    source: Vec<String>,
    /// When to begin to close. Without it connections end by their bytes, or by a signal.
    #[arg(long, short = 'd', value_name = "TIME")]
    duration: Option<humantime::Duration>,
    /// Bytes of each connection, after which it closes.
    #[arg(long, short = 'b', value_name = "SIZE")]
    bytes: Option<ByteSize>,
    /// Follow each connection that ended by another, until the duration is over.
    #[arg(long, requires = "duration")]
    repeat: bool,
    /// Bytes per second of each connection.
    #[arg(long, value_name = "SIZE")]
    rate: Option<ByteSize>,
    /// Open the connections evenly over this time.
    #[arg(long, default_value = "0s", value_name = "TIME")]
    ramp: humantime::Duration,
    /// A connection that waits longer than this is lost.
    #[arg(long, default_value = "30s", value_name = "TIME")]
    stall: humantime::Duration,
    /// Chooses the bytes that are sent.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to write the report as JSON; - is standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write our process id to this file once every connection is open and has moved a byte.
    #[arg(long, value_name = "FILE")]
    ready: Option<PathBuf>,
    /// Say once a second how things are.
    #[arg(long)]
    progress: bool,
}

#[derive(Debug, Args)]
struct Asking {
    /// Send one request, wait for its echo, pause for this long, and so on.
    #[arg(long, value_name = "TIME")]
    think: Option<humantime::Duration>,
    /// The size of such a request.
    #[arg(long, default_value = "64", value_name = "SIZE")]
    request: ByteSize,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// What to ask for.
    #[arg(long, value_name = "PATH")]
    path: String,
    #[command(flatten)]
    content: ContentArgs,
}

#[derive(Debug, Args)]
struct OptionalFile {
    /// What to ask for, where files have a share.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    #[command(flatten)]
    content: ContentArgs,
}

#[derive(Debug, Args)]
struct ContentArgs {
    /// The file was written by make-file with this seed.
    #[arg(long, value_name = "SEED")]
    seed_content: Option<u64>,
    /// The file is the same as this one.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// SHA-256 of the body, hexadecimal.
    #[arg(long, value_name = "DIGEST")]
    sha256: Option<String>,
    /// Length of the body.
    #[arg(long, value_name = "SIZE")]
    length: Option<ByteSize>,
    /// Ask for these bytes only, FIRST-LAST or FIRST-.
    #[arg(long, value_name = "RANGE")]
    range: Option<String>,
    /// Half-close right after the request.
    #[arg(long)]
    early_fin: bool,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    let outcome = match Cli::parse().command {
        Command::MakeFile { path, bytes, seed } => write_file(&path, bytes.as_u64(), seed)
            .map(|()| true)
            .map_err(|error| Trouble::failure(format!("cannot write {}: {error}", path.display()))),
        Command::CheckCapture { file, service, takeovers, late, json } => {
            check_capture(&file, &service, takeovers, late.into(), json.as_deref())
        }
        Command::Pipe { json, ready } => measure(ready.as_deref())
            .map_err(|error| Trouble::failure(format!("cannot copy: {error}")))
            .and_then(|report| {
                write_json(&report, &json)?;
                Ok(report.ok)
            }),
        Command::Gaps { at, within, reports } => gaps(&at, within.into(), &reports),
        drill => plan(drill).and_then(|(plan, json)| drill_with(&plan, json.as_deref())),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Trouble { text, code }) => {
            eprintln!("standin-drill: {text}");
            ExitCode::from(code)
        }
    }
}

/// Why nothing was tried, or nothing was found out.
#[derive(Debug)]
struct Trouble {
    text: String,
    code: u8,
}

impl Trouble {
    fn failure(text: String) -> Self {
        Self { text, code: 1 }
    }

    fn usage(text: impl ToString) -> Self {
        Self { text: text.to_string(), code: 2 }
    }
}

fn drill_with(plan: &Plan, json: Option<&Path>) -> Result<bool, Trouble> {
    plan.check().map_err(Trouble::usage)?;
    let report: Report = run(plan).map_err(|error| Trouble::failure(error.to_string()))?;
    publish(&report, &report.to_string(), json)?;
    Ok(report.ok)
}

fn check_capture(
    file: &Path,
    services: &[IpAddr],
    takeovers: u64,
    late: Duration,
    json: Option<&Path>,
) -> Result<bool, Trouble> {
    let verdict = capture::check_file(file, services, late)
        .map_err(|error| Trouble::failure(format!("{}: {error}", file.display())))?;
    publish(&verdict, &verdict.to_string(), json)?;
    if verdict.speaker_changes < takeovers {
        let seen = verdict.speaker_changes;
        return Err(Trouble::failure(format!("{seen} takeovers in the capture, not {takeovers}")));
    }
    Ok(verdict.ok())
}

/// Text for a person on standard output, or, where that belongs to JSON, on standard error.
fn publish(value: &impl Serialize, text: &str, json: Option<&Path>) -> Result<(), Trouble> {
    match json {
        Some(path) if path == Path::new("-") => eprintln!("{text}"),
        Some(_) | None => println!("{text}"),
    }
    json.map_or(Ok(()), |path| write_json(value, path))
}

fn write_json(value: &impl Serialize, path: &Path) -> Result<(), Trouble> {
    let failed =
        |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    let mut encoded =
        serde_json::to_string_pretty(value).map_err(|error| Trouble::failure(failed(&error)))?;
    encoded.push('\n');
    let written = if path == Path::new("-") {
        std::io::stdout().write_all(encoded.as_bytes())
    } else {
        std::fs::write(path, encoded)
    };
    written.map_err(|error| Trouble::failure(failed(&error)))
}

/// The part of a report that [`gaps`] shows.
#[derive(Debug, Deserialize)]
struct Shown {
    ok: bool,
    started_unix_ms: u64,
    total: ShownTotal,
    longest: Vec<ShownGap>,
}

#[derive(Debug, Deserialize)]
struct ShownTotal {
    sent: u64,
    received: u64,
}

#[derive(Debug, Deserialize)]
struct ShownGap {
    ms: f64,
    at_s: f64,
}

/// Prints a line for each report: what was moved, and the longest gap after each moment.
fn gaps(moments: &[u64], within: Duration, reports: &[PathBuf]) -> Result<bool, Trouble> {
    let mut head = format!("{:<14}{:>12}{:>12}", "client", "sent", "received");
    for number in 1..=moments.len() {
        head.push_str(&format!("{:>12}", format!("gap {number}")));
    }
    println!("{head}  bytes");
    let mut all_right = true;
    for path in reports {
        let failed = |error: &dyn std::fmt::Display| {
            Trouble::failure(format!("cannot read {}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let report: Shown = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let (sent, received) = (ByteSize(report.total.sent), ByteSize(report.total.received));
        let mut line = format!("{name:<14}{:>12}{:>12}", sent.to_string(), received.to_string());
        for &moment in moments {
            let gap = gap_after(&report, moment, within);
            let shown = gap.map_or_else(|| unlisted(&report), |ms| format!("{ms:.1} ms"));
            line.push_str(&format!("{shown:>12}"));
        }
        println!("{line}  {}", if report.ok { "right" } else { "WRONG OR LOST" });
        all_right &= report.ok;
    }
    Ok(all_right)
}

/// How a gap that is not among a report's longest is shown: by the shortest of those. A client that
/// had nothing to wait for has none.
fn unlisted(report: &Shown) -> String {
    let shortest = report.longest.iter().map(|gap| gap.ms).reduce(f64::min);
    match shortest {
        Some(ms) if report.longest.len() >= GAPS_TOLD => format!("< {ms:.1} ms"),
        Some(_) | None => "none".to_owned(),
    }
}

/// The longest of the gaps that were there at a moment or began soon after it.
fn gap_after(report: &Shown, moment: u64, within: Duration) -> Option<f64> {
    let moment = moment as f64;
    let after = report.longest.iter().filter(|gap| {
        let end = report.started_unix_ms as f64 + gap.at_s * 1e3;
        end >= moment && end - gap.ms <= moment + within.as_secs_f64() * 1e3
    });
    after.map(|gap| gap.ms).reduce(f64::max)
}

fn plan(command: Command) -> Result<(Plan, Option<PathBuf>), Trouble> {
    let single = |common: Common, workload: Workload| {
        let port = common.port.unwrap_or(workload.port);
        common.plan(vec![Workload { port, ..workload }])
    };
    match command {
        Command::Echo { asking, common } => single(common, asking.workload()),
        Command::Idle { common } => {
            let think = Some(Duration::MAX);
            single(common, Workload { think, ..Workload::new(Service::Echo) })
        }
        Command::Discard { common } => single(common, Workload::new(Service::Discard)),
        Command::Chargen { common } => single(common, Workload::new(Service::Chargen)),
        Command::Files { file, common } => {
            let workload = file.content.workload(file.path)?;
            single(common, workload)
        }
        Command::Mixed { weights, ports, asking, file, common } => {
            if common.port.is_some() {
                return Err(Trouble::usage("mixed takes --ports, not --port"));
            }
            let weights = by_service(&weights, "--weights")?;
            let ports = by_service(&ports, "--ports")?;
            let workloads = mixed(&weights, &ports, &asking, file)?;
            common.plan(workloads)
        }
        Command::MakeFile { .. }
        | Command::CheckCapture { .. }
        | Command::Pipe { .. }
        | Command::Gaps { .. } => Err(Trouble::usage("not a drill")),
    }
}

fn mixed(
    weights: &BTreeMap<Service, u64>,
    ports: &BTreeMap<Service, u64>,
    asking: &Asking,
    file: OptionalFile,
) -> Result<Vec<Workload>, Trouble> {
    let mut file = Some(file);
    let mut workloads = Vec::new();
    for (&service, &weight) in weights.iter().filter(|(_, weight)| **weight > 0) {
        let workload = match (service, file.take_if(|_| service == Service::Files)) {
            (Service::Files, Some(OptionalFile { path: Some(path), content })) => {
                content.workload(path)?
            }
            (Service::Files, _) => return Err(Trouble::usage("files have a share but no --path")),
            (Service::Echo, _) => asking.workload(),
            (Service::Discard | Service::Chargen, _) => Workload::new(service),
        };
        let port = match ports.get(&service) {
            Some(&port) => u16::try_from(port).map_err(|_| Trouble::usage("no such port"))?,
            None => workload.port,
        };
        let weight = usize::try_from(weight).map_err(Trouble::usage)?;
        workloads.push(Workload { weight, port, ..workload });
    }
    Ok(workloads)
}

/// Reads `echo=2,discard=1`.
fn by_service(list: &str, option: &str) -> Result<BTreeMap<Service, u64>, Trouble> {
    let services = [Service::Echo, Service::Discard, Service::Chargen, Service::Files];
    let mut values = BTreeMap::new();
    for entry in list.split(',').filter(|entry| !entry.is_empty()) {
        let wrong = || Trouble::usage(format!("{option}: '{entry}' is not SERVICE=NUMBER"));
        let (name, value) = entry.split_once('=').ok_or_else(wrong)?;
        let service = services.into_iter().find(|s| s.name() == name).ok_or_else(wrong)?;
        values.insert(service, value.parse().map_err(|_| wrong())?);
    }
    Ok(values)
}

impl Common {
    fn plan(self, workloads: Vec<Workload>) -> Result<(Plan, Option<PathBuf>), Trouble> {
        let mut sources = Sources::default();
        for entry in &self.source {
            sources.add(entry).map_err(|error| Trouble::usage(format!("--source: {error}")))?;
        }
        let bytes = self.bytes.map(|bytes| bytes.as_u64());
        let workloads = workloads.into_iter().map(|w| Workload { bytes, ..w }).collect();
        let plan = Plan {
            sources,
            connections: self.connections,
            ramp: self.ramp.into(),
            duration: self.duration.map(Into::into),
            repeat: self.repeat,
            rate: self.rate.map(|rate| rate.as_u64()),
            stall: self.stall.into(),
            seed: self.seed,
            progress: self.progress,
            ready_file: self.ready,
            signals: true,
            ..Plan::new(self.targets, workloads)
        };
        Ok((plan, self.json))
    }
}

impl Asking {
    fn workload(&self) -> Workload {
        Workload {
            think: self.think.map(Into::into),
            request: self.request.as_u64(),
            ..Workload::new(Service::Echo)
        }
    }
}

impl ContentArgs {
    fn workload(self, path: String) -> Result<Workload, Trouble> {
        if self.seed_content.is_none() && self.reference.is_none() && self.sha256.is_none() {
            let text = "files: say what is right with --seed-content, --reference or --sha256";
            return Err(Trouble::usage(text));
        }
        if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Trouble::usage("--path must start with / and hold no blanks"));
        }
        let reference = match &self.reference {
            Some(path) => Some(Arc::new(File::open(path).map_err(|error| {
                Trouble::failure(format!("cannot open {}: {error}", path.display()))
            })?)),
            None => None,
        };
        let file = Expected {
            path,
            range: self.range.as_deref().map(parse_range).transpose()?,
            pattern: self.seed_content.map(|seed| Pattern::new(seed, 0)),
            reference,
            sha256: self.sha256.as_deref().map(parse_digest).transpose()?,
            length: self.length.map(|length| length.as_u64()),
        };
        let early_fin = self.early_fin;
        Ok(Workload { file: Some(file), early_fin, ..Workload::new(Service::Files) })
    }
}

fn parse_range(text: &str) -> Result<(u64, Option<u64>), Trouble> {
    let wrong = || Trouble::usage(format!("--range: '{text}' is not FIRST-LAST"));
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first = first.parse().map_err(|_| wrong())?;
    let last = if last.is_empty() { None } else { Some(last.parse().map_err(|_| wrong())?) };
    if last.is_some_and(|last: u64| last < first) {
        return Err(wrong());
    }
    Ok((first, last))
}

fn parse_digest(text: &str) -> Result<[u8; 32], Trouble> {
    let wrong = || Trouble::usage("--sha256: 64 hexadecimal digits, please");
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        let digits = &text[2 * index..2 * index + 2];
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("standin-drill").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        plan(cli.command).map(|(plan, _)| plan).map_err(|trouble| trouble.text)
    }

    #[test]
    fn options_reach_the_plan() {
        let line = "echo ::1 10.0.0.1 --port 7007 -n 5 -d 250ms --rate 1MiB --think 2ms \
                    --request 10 --source 10.0.0.2-10.0.0.3";
        let plan = plan_of(line).unwrap();
        let workload = &plan.workloads[0];
        assert_eq!(plan.targets.len(), 2);
        assert_eq!((plan.connections, plan.rate), (5, Some(1 << 20)));
        assert_eq!(plan.duration, Some(Duration::from_millis(250)));
        assert_eq!((workload.port, workload.request), (7007, 10));
        assert_eq!(workload.think, Some(Duration::from_millis(2)));
    }

    #[test]
    fn mixed_takes_shares_and_ports() {
        let plan = plan_of("mixed ::1 --weights echo=2,discard=0,chargen=1 --ports chargen=1919");
        let shares: Vec<_> =
            plan.unwrap().workloads.iter().map(|w| (w.service, w.weight, w.port)).collect();
        assert_eq!(shares, [(Service::Echo, 2, 7), (Service::Chargen, 1, 1919)]);
    }

    #[test]
    fn gap_belongs_to_the_moment_before_it() {
        let gap = |ms, at_s| ShownGap { ms, at_s };
        let longest = vec![gap(90.0, 8.0), gap(40.0, 2.03), gap(7.0, 2.5), gap(5.0, 1.0)];
        let total = ShownTotal { sent: 0, received: 0 };
        let report = Shown { ok: true, started_unix_ms: 10_000, total, longest };
        let within = Duration::from_secs(2);
        assert_eq!(gap_after(&report, 12_000, within), Some(40.0));
        assert_eq!(gap_after(&report, 17_000, within), Some(90.0));
        assert_eq!(gap_after(&report, 19_000, within), None);
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |line: &str| plan_of(line).unwrap_err();
        assert!(refused("echo ::1 --repeat").contains("--duration"));
        assert!(refused("files ::1 --path /f").contains("say what is right"));
        assert!(refused("files ::1 --path f --seed-content 1").contains("--path"));
        assert!(refused("files ::1 --path /f --sha256 12").contains("64 hexadecimal"));
        assert!(refused("files ::1 --path /f --seed-content 1 --range 9-2").contains("FIRST-LAST"));
        assert!(refused("mixed ::1 --weights files=1").contains("no --path"));
        assert!(refused("mixed ::1 --weights tea=1").contains("SERVICE=NUMBER"));
        assert!(refused("mixed ::1 --port 9").contains("--ports"));
        assert!(refused("echo").contains("ADDRESS"));
    }
}
