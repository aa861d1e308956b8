//! `standin-wire`: a link with faults between two network interfaces.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use standin_tools::wire::{Bursts, Counts, Direction, Impairments, Port, Report, Share, join};

/// A link with delay, loss and the other faults of a real one, between two network interfaces.
///
/// Every frame that arrives at one interface leaves through the other. Give it two interfaces that
/// nothing else uses, such as the near ends of two veth pairs. The hosts at the far ends must send
/// what a wire would carry: there, run `ethtool -K INTERFACE tx off tso off gso off gro off`.
///
/// Delay, jitter, rate and queue hold in both directions; the other faults too, unless --faults says
/// otherwise. The same traffic at the same times with the same seed meets the same fate. Interrupt
/// it to end; it then tells what became of the frames.
///
/// Exit status: 0 when told to stop, 1 when an interface fails, 2 for a command that cannot be
/// understood.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The first interface.
    first: String,
    /// The second interface.
    second: String,
    /// Time from one end to the other.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Up to so much more or less delay, evenly spread; keeps the order.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Frames lost, each by itself: a share such as 0.1% or 0.001.
    #[arg(long, default_value = "0", value_parser = share)]
    loss: Share,
    /// Loss in bursts: how many frames begin one, and how many frames it takes on average, such as
    /// 0.05%:8.
    #[arg(long, value_parser = bursts, value_name = "SHARE:FRAMES")]
    bursts: Option<Bursts>,
    /// Frames held back for --reorder-by.
    #[arg(long, default_value = "0", value_parser = share)]
    reorder: Share,
    /// For how long a reordered frame is held back.
    #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration)]
    reorder_by: Duration,
    /// Frames that arrive twice.
    #[arg(long, default_value = "0", value_parser = share)]
    duplicate: Share,
    /// Frames with one bit flipped behind the Ethernet header.
    #[arg(long, default_value = "0", value_parser = share)]
    corrupt: Share,
    /// Bits per second, such as 100Mbit; counts what an Ethernet frame occupies on a real wire.
    #[arg(long, value_parser = rate)]
    rate: Option<u64>,
    /// Bytes that wait when there is a rate; more are dropped.
    #[arg(long, default_value = "1MiB")]
    queue: ByteSize,
    /// Which way loss, reordering, duplication and corruption happen.
    #[arg(long, value_enum, default_value_t = Faults::Both)]
    faults: Faults,
    /// Makes chance repeatable.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write this process's id to this file once frames pass.
    #[arg(long, value_name = "FILE")]
    ready: Option<PathBuf>,
    /// Write what became of the frames to this file, as JSON, at the end.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Faults {
    /// Both ways.
    Both,
    /// From the first interface to the second.
    Forth,
    /// From the second interface to the first.
    Back,
}

impl Cli {
    fn impairments(&self, direction: Direction) -> Impairments {
        let faulty = match (self.faults, direction) {
            (Faults::Both, _)
            | (Faults::Forth, Direction::Forth)
            | (Faults::Back, Direction::Back) => true,
            (Faults::Forth, Direction::Back) | (Faults::Back, Direction::Forth) => false,
        };
        let link = Impairments {
            delay: self.delay,
            jitter: self.jitter,
            rate: self.rate,
            queue: usize::try_from(self.queue.as_u64()).unwrap_or(usize::MAX),
            ..Impairments::default()
        };
        if !faulty {
            return link;
        }
        Impairments {
            loss: self.loss,
            bursts: self.bursts,
            reorder: self.reorder,
            reorder_by: self.reorder_by,
            duplicate: self.duplicate,
            corrupt: self.corrupt,
            ..link
        }
    }
}

fn share(text: &str) -> Result<Share, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent, 0.01),
        None => (text, 1.0),
    };
    number
        .trim()
        .parse::<f64>()
        .ok()
        .and_then(|number| Share::new(number * unit))
        .ok_or_else(|| "a share between 0 and 1, or 0% and 100%, is expected".to_owned())
}

fn bursts(text: &str) -> Result<Bursts, String> {
    let (begin, length) = text.split_once(':').ok_or("SHARE:FRAMES is expected, as in 0.05%:8")?;
    let length: f64 = length.parse().map_err(|_| "the frames in a burst are a number")?;
    if !(1.0..=1e9).contains(&length) {
        return Err("a burst has at least one frame".to_owned());
    }
    Ok(Bursts { begin: share(begin)?, length })
}

fn rate(text: &str) -> Result<u64, String> {
    let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
    let lower = text.to_ascii_lowercase();
    let (number, unit) = units
        .iter()
        .find_map(|&(unit, factor)| Some((lower.strip_suffix(unit)?, factor)))
        .ok_or("bits per second are expected, such as 100Mbit or 1Gbit")?;
    match number.trim().parse::<f64>() {
        Ok(number) if (1.0..=1e12).contains(&(number * unit)) => Ok((number * unit) as u64),
        Ok(_) => Err("between 1bit and 1000Gbit".to_owned()),
        Err(_) => Err(format!("'{}' is not a number", number.trim())),
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("standin-wire: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    if cli.first == cli.second {
        return Err("the two interfaces are the same".to_owned());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| format!("cannot catch signals: {error}"))?;
    }
    let open = |name: &str| Port::open(name).map_err(|error| format!("{name}: {error}"));
    let ports = [open(&cli.first)?, open(&cli.second)?];
    if let Some(path) = &cli.ready {
        // A script waits for this before it sends anything.
        fs::write(path, std::process::id().to_string())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let report = join(ports, |direction| cli.impairments(direction), cli.seed, &stop)
        .map_err(|error| error.to_string())?;
    tell(cli, &report)
}

fn tell(cli: &Cli, report: &Report) -> Result<(), String> {
    for (from, to, counts) in
        [(&cli.first, &cli.second, report.forth), (&cli.second, &cli.first, report.back)]
    {
        let Counts { offered, delivered, bytes, lost, dropped, duplicated, reordered, corrupted } =
            counts;
        let _ = writeln!(
            io::stdout(),
            "{from} to {to}: {offered} frames in, {delivered} out ({bytes} bytes), {lost} lost, \
             {dropped} dropped by the queue, {duplicated} twice, {reordered} held back, \
             {corrupted} corrupted"
        );
    }
    let Report { unfit, refused, .. } = *report;
    if unfit > 0 {
        let _ = writeln!(io::stdout(), "{unfit} frames were not fit for a wire");
    }
    if refused > 0 {
        let _ = writeln!(io::stdout(), "{refused} frames were not taken by an interface");
    }
    let Some(path) = &cli.json else { return Ok(()) };
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::create(path).map_err(|error| told(&error))?;
    serde_json::to_writer_pretty(file, report).map_err(|error| told(&error))
}
