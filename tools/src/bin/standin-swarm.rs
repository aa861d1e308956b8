//! `standin-swarm`: very many clients from one process.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ipnet::IpNet;
use standin_tools::swarm::{Ask, Plan, Report, RunError, run};

/// Opens very many connections to an echo service, holds them, and says what became of each.
///
/// The clients have a TCP of their own behind a TUN device: route their network into it, forward
/// packets, and let the server's side know the way back (testbed/lib/swarm.sh does). Before the
/// end every connection is asked once more, so one that died in silence is found. Interrupt it
/// (Ctrl-C) to end the holding, twice to give up.
///
/// Exit status: 0 if every connection was opened, answered to the end, every byte right, and
/// closed in order; 1 if not; 2 for a command that cannot be carried out.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The service's address.
    target: IpAddr,
    /// The service's port.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The network whose addresses the connections come from; each has ports 1024 to 65535.
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    sources: IpNet,
    /// The TUN device of that network.
    #[arg(long, default_value = "swarm0", value_name = "NAME", value_parser = device_name)]
    device: String,
    /// Connections.
    #[arg(long, short = 'n', default_value_t = 1000, value_name = "COUNT")]
    connections: u32,
    /// Connections opened per second; also how fast they are checked and closed.
    #[arg(long, default_value_t = 20_000, value_name = "COUNT")]
    rate: u32,
    /// Of them, how many ask the service again and again while they hold.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    asking: u32,
    /// The time from one such request to the next.
    #[arg(long, default_value = "1s", value_name = "TIME")]
    every: humantime::Duration,
    /// Bytes of a request.
    #[arg(long, default_value_t = 32, value_name = "BYTES")]
    request: u32,
    /// How long to hold the connections once they are open; otherwise until interrupted.
    #[arg(long, value_name = "TIME")]
    hold: Option<humantime::Duration>,
    /// A connection that waits longer for an answer is lost.
    #[arg(long, default_value = "30s", value_name = "TIME")]
    stall: humantime::Duration,
    /// MTU of the path.
    #[arg(long, default_value_t = 1500, value_name = "BYTES")]
    mtu: u16,
    /// Chooses the contents.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where to write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write our process id to this file once every connection is open.
    #[arg(long, value_name = "FILE")]
    ready: Option<PathBuf>,
    /// Say once a second how things are.
    #[arg(long)]
    progress: bool,
}

fn device_name(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len());
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte));
    if fits && plain && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err("1 to 15 bytes, as an interface is named".to_owned())
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let cli = Cli::parse();
    match swarm(&cli) {
        Ok(report) => {
            let _ = writeln!(std::io::stdout(), "{report}");
            if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("standin-swarm: {why}");
            ExitCode::from(2)
        }
    }
}

fn swarm(cli: &Cli) -> Result<Report, String> {
    let plan = Plan {
        target: SocketAddr::new(cli.target, cli.port),
        sources: cli.sources,
        count: cli.connections,
        rate: cli.rate,
        asking: cli.asking,
        every: cli.every.into(),
        request: cli.request,
        hold: cli.hold.map(Into::into),
        stall: cli.stall.into(),
        mtu: cli.mtu,
        seed: cli.seed,
    };
    let Cli { device, ready, progress, .. } = cli;
    let ask = Ask { device: device.clone(), ready: ready.clone(), progress: *progress };
    let report = run(plan, &ask).map_err(|error| match error {
        RunError::Host(what, error) => format!("{what}: {error}"),
        RunError::Plan(why) => why.to_string(),
    })?;
    if let Some(path) = &cli.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(report)
}
