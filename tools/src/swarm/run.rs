//! A swarm on a device: the loop around it.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use standin::time::{Duration, Instant};
use thiserror::Error;
use tun_tap::{Iface, Mode};

use super::crowd::{Phase, Swarm};
use super::plan::{Plan, PlanError};
use super::report::Report;
use crate::{clock, sys};

/// Packets read in one turn at most, so that timers and new connections are not starved.
const READS: usize = 512;
/// The longest packet there is.
const PACKET_MAX: usize = 65_535;

/// What a swarm needs of its host.
#[derive(Debug)]
pub struct Ask {
    /// The TUN device: made if there is none of that name, and otherwise joined.
    pub device: String,
    /// Created, with our process id in it, when every connection is open.
    pub ready: Option<PathBuf>,
    /// Says once a second on standard error how things are.
    pub progress: bool,
}

/// Why a swarm could not run.
#[derive(Debug, Error)]
pub enum RunError {
    /// A plan that cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The host refused something.
    #[error("{0}: {1}")]
    Host(String, #[source] io::Error),
}

/// Runs a swarm to its end.
///
/// # Errors
/// A bad plan, or a device that cannot be opened or read.
pub fn run(plan: Plan, ask: &Ask) -> Result<Report, RunError> {
    // Before the device is touched: a bad plan changes nothing.
    plan.check()?;
    let failed = |what: &str, error| RunError::Host(what.to_owned(), error);
    let opening = format!("cannot open the TUN device {}", ask.device);
    let device = Iface::without_packet_info(&ask.device, Mode::Tun)
        .map_err(|error| failed(&opening, error))?;
    sys::set_nonblocking(&device).map_err(|error| failed(&opening, error))?;
    let mut poll = Poll::new().map_err(|error| failed("poll", error))?;
    poll.registry()
        .register(&mut SourceFd(&device.as_raw_fd()), Token(0), Interest::READABLE)
        .map_err(|error| failed("poll", error))?;
    let origin = clock::now();
    let now =
        || Instant::from_nanos(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| failed("signals", error))?;
    let swarm = Swarm::new(plan, now())?;
    let mut shell = Shell {
        swarm,
        device,
        signals,
        stops: 0,
        ask,
        buffer: vec![0; PACKET_MAX],
        packet: Vec::new(),
        ready: false,
        told: now(),
    };
    let mut events = Events::with_capacity(4);
    loop {
        let more =
            shell.read(now()).map_err(|error| failed("cannot read from the device", error))?;
        shell.obey(now());
        shell.swarm.turn(now());
        shell.write(now());
        shell.tell(now())?;
        if shell.swarm.phase() == Phase::Over {
            shell.write(now());
            return Ok(shell.swarm.report(now()));
        }
        let wait = if more { Duration::ZERO } else { shell.patience(now()) };
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(failed("poll", error));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

struct Shell<'a> {
    swarm: Swarm,
    device: Iface,
    signals: Signals,
    /// How often somebody asked for the end.
    stops: usize,
    ask: &'a Ask,
    buffer: Vec<u8>,
    packet: Vec<u8>,
    ready: bool,
    told: Instant,
}

impl Shell<'_> {
    /// Reads what there is; true if there may be more.
    fn read(&mut self, now: Instant) -> io::Result<bool> {
        for _ in 0..READS {
            match self.device.recv(&mut self.buffer) {
                Ok(length) => self.swarm.on_packet(now, &self.buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What the device does not take is lost as on any link: TCP sends it again.
    fn write(&mut self, now: Instant) {
        while self.swarm.poll_packet(now, &mut self.packet) {
            if self.device.send(&self.packet).is_err() {
                self.swarm.packet_refused();
            }
        }
    }

    /// The first signal ends in order, the second at once.
    fn obey(&mut self, now: Instant) {
        self.stops += self.signals.pending().count();
        match self.stops {
            0 => {}
            1 => self.swarm.finish(now),
            _ => self.swarm.give_up(now),
        }
    }

    fn tell(&mut self, now: Instant) -> Result<(), RunError> {
        if !self.ready && self.swarm.phase() >= Phase::Holding {
            self.ready = true;
            self.swarm.set_resident(resident());
            if let Some(path) = &self.ask.ready {
                fs::write(path, std::process::id().to_string())
                    .map_err(|error| RunError::Host(path.display().to_string(), error))?;
            }
        }
        if self.ask.progress && now.since(self.told) >= Duration::from_secs(1) {
            self.told = now;
            let counts = self.swarm.counts();
            let Report { connections, opened, completed, answers, .. } = counts;
            let (phase, failed) = (self.swarm.phase(), counts.failed());
            eprintln!(
                "{phase:?}: {opened} of {connections} opened, {answers} answers, {completed} \
                 closed, {failed} failed"
            );
        }
        Ok(())
    }

    /// How long nothing has to be done. Signals do not wake us everywhere: not longer than that.
    fn patience(&self, now: Instant) -> Duration {
        const LONGEST: Duration = Duration::from_millis(100);
        self.swarm.deadline().map_or(LONGEST, |at| at.since(now).min(LONGEST))
    }
}

/// Resident memory of this process, in bytes; zero where the kernel does not say.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
