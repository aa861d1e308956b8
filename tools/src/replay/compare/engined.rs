//! Our server as it is: one engine alone, on the capture's clock, with its own services.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use standin::engine::{Action, Engine, Output, PerSource, ServicePort, Setup, Step, Turn};
use standin::ids::Node;
use standin::role::{Policy, Role, Timing};
use standin::service::{Kind, Limits, MemoryStore};
use standin::tcp::Settings;
use standin::time::{Duration, Instant};
use standin::wire::{
    ChecksumState, FourTuple, MacAddr, Offload, Segment, TcpHeader, VnetHeader, parse_ip, parse_tcp,
};

use super::super::roster::CONNECTIONS_MAX;
use super::said::Said;

/// Content that is loaded for `files`, in bytes.
const CONTENT_MAX: u64 = 1 << 30;
/// Directories below each other.
const DEPTH_MAX: usize = 32;
/// How long an engine alone may take until it owns its addresses.
const START_MAX: Duration = Duration::from_secs(60);

/// A service of ours that stands where the recorded server stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Where the recorded clients connect to.
    pub at: SocketAddr,
    /// What answers.
    pub kind: Kind,
}

/// Why our server cannot be set up. The text is for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(String);

/// What it says next: of which connection, and its text.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) tuple: FourTuple,
    pub(super) said: Said,
    pub(super) text: Vec<u8>,
}

/// The engine.
#[derive(Debug)]
pub(super) struct Engined {
    engine: Engine,
    turn: Turn,
}

impl Engined {
    /// An engine that owns the addresses of `services`, and the time at which it does.
    pub(super) fn start(
        services: &[Service],
        files: Option<&Path>,
        mtu: u16,
    ) -> Result<(Self, Instant), SetupError> {
        let mut store = MemoryStore::new();
        if let Some(files) = files {
            load(&mut store, files)?;
        }
        let mut now = Instant::from_millis(1_000);
        let mut engine = Engine::new(setup(services, mtu)?, Box::new(store), now);
        engine.on_carrier(now, true);
        let limit = now + START_MAX;
        let mut this = Self { engine, turn: Turn::new() };
        while !matches!(this.engine.status(now).role, Role::Primary { .. }) {
            now = this.engine.deadline().max(now + Duration::from_micros(1));
            if now > limit {
                return Err(SetupError("the engine does not come to own its addresses".to_owned()));
            }
            while this.poll(now)?.is_some() {}
        }
        Ok((this, now))
    }

    pub(super) fn set_wall(&mut self, seconds: u64) {
        self.engine.set_wall(seconds);
    }

    /// A segment of a client.
    pub(super) fn on_client(&mut self, now: Instant, tuple: FourTuple, segment: &Segment<'_>) {
        let header = TcpHeader {
            tuple: FourTuple { local: tuple.remote, remote: tuple.local },
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            options: segment.options.clone(),
            ecn: 0,
            ttl: 64,
            ip_id: 0,
        };
        let mut packet = vec![0; header.len()];
        // A super-segment of a capture may be longer than an IP packet with these options.
        let room = usize::from(u16::MAX) - header.len();
        let text = &segment.payload[..segment.payload.len().min(room)];
        packet.extend_from_slice(text);
        let _: VnetHeader = header.write(&mut packet, text.len(), Offload::Partial { mss: 0 });
        let trusted = VnetHeader { flags: VnetHeader::DATA_VALID, ..VnetHeader::PLAIN };
        let length = self.turn.put(trusted, &packet);
        self.turn.on_packet(&mut self.engine, now, length);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.engine.deadline()
    }

    /// The next segment that it sends. Of what else it asks of its host, only an end matters.
    pub(super) fn poll(&mut self, now: Instant) -> Result<Option<Word>, SetupError> {
        loop {
            match self.turn.next(&mut self.engine, now) {
                Step::Output => match self.turn.release(&self.engine, now) {
                    Some(Output::Action(Action::Exit(reason))) => {
                        return Err(SetupError(format!("the engine ends: {reason}")));
                    }
                    Some(Output::Packet(packet)) => {
                        if let Some(word) = packet.get(VnetHeader::LEN..).and_then(word) {
                            return Ok(Some(word));
                        }
                    }
                    Some(Output::Action(_) | Output::Link(_)) | None => {}
                },
                Step::Done { more: true } => {}
                Step::Done { more: false } => return Ok(None),
                Step::Beats | Step::News | Step::Link | Step::Frame | Step::Packet => {}
            }
        }
    }
}

/// What a packet says, if it is a segment.
fn word(packet: &[u8]) -> Option<Word> {
    let ip = parse_ip(packet).ok()?;
    let (local, remote, segment) = parse_tcp(&ip, ChecksumState::Trusted).ok()?;
    let tuple = FourTuple { local: (ip.src, local).into(), remote: (ip.dst, remote).into() };
    let text = segment.payload.to_vec();
    Some(Word { tuple, said: Said::parsed(&segment), text })
}

fn setup(services: &[Service], mtu: u16) -> Result<Setup, SetupError> {
    let addresses: BTreeSet<_> = services.iter().map(|service| service.at.ip()).collect();
    let mut ports: Vec<ServicePort> = Vec::new();
    for service in services {
        let port = ServicePort::at(service.at.port(), service.kind);
        match ports.iter().find(|other| other.port == port.port) {
            Some(other) if *other != port => {
                let text = format!("port {} cannot be two services in one run", port.port);
                return Err(SetupError(text));
            }
            Some(_) => {}
            None => ports.push(port),
        }
    }
    Ok(Setup {
        node: Node::A,
        boot: 1,
        addresses: addresses.into_iter().collect(),
        services: ports,
        relays: Vec::new(),
        tcp: Arc::new(Settings::default()),
        limits: Limits::default(),
        timing: Timing::default(),
        policy: Policy { paired: false, ..Policy::default() },
        isn_key: [0x5a; 16],
        table_key: [0xa5; 16],
        parts: Vec::new(),
        parts_3: Vec::new(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        router: false,
        mtu,
        offload: true,
        clock_origin: Duration::from_secs(1_000),
        backlog: CONNECTIONS_MAX,
        connections_max: CONNECTIONS_MAX,
        live_max: 1024,
        backlog_bytes_max: 64 << 20,
        memory_max: 256 << 20,
        per_source: PerSource::default(),
        #[cfg(feature = "defects")]
        defect: None,
    })
}

/// Reads the files below `root`, with the times that replies will name.
fn load(store: &mut MemoryStore, root: &Path) -> Result<(), SetupError> {
    let mut left = CONTENT_MAX;
    let mut open = vec![(root.to_path_buf(), String::new(), 0)];
    while let Some((directory, prefix, depth)) = open.pop() {
        let failed = |error: std::io::Error| {
            SetupError(format!("cannot read {}: {error}", directory.display()))
        };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() && depth < DEPTH_MAX {
                open.push((entry.path(), format!("{path}/"), depth + 1));
            } else if kind.is_file() {
                let facts = entry.metadata().map_err(failed)?;
                left = left.checked_sub(facts.len()).ok_or_else(|| {
                    SetupError(format!("{} holds more than {CONTENT_MAX} bytes", root.display()))
                })?;
                let modified = facts.modified().map_err(failed)?;
                let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
                store.put(0, &path, fs::read(entry.path()).map_err(failed)?, nanos);
            }
        }
    }
    Ok(())
}
