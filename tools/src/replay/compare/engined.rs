//! Our server as it is: one engine alone, on the capture's clock, with its own services.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use standin::engine::{Action, Engine, PACKET_BUFFER, ServicePort, Setup};
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
    buffer: Vec<u8>,
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
        let mut this = Self { engine, buffer: vec![0; PACKET_BUFFER] };
        while !matches!(this.engine.status(now).role, Role::Primary { .. }) {
            now = this.engine.deadline().max(now + Duration::from_micros(1));
            if now > limit {
                return Err(SetupError("the engine does not come to own its addresses".to_owned()));
            }
            this.on_timer(now)?;
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
        self.engine.on_packet(now, trusted, &mut packet);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.engine.deadline()
    }

    pub(super) fn on_timer(&mut self, now: Instant) -> Result<(), SetupError> {
        self.engine.on_timer(now);
        self.act(now)
    }

    /// What it asks of its host. There is none: only an end matters.
    pub(super) fn act(&mut self, now: Instant) -> Result<(), SetupError> {
        while let Some(action) = self.engine.poll_action(now) {
            if let Action::Exit(reason) = action {
                return Err(SetupError(format!("the engine ends: {reason}")));
            }
        }
        self.engine.link_output(now).clear();
        Ok(())
    }

    /// The next segment that it sends.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Word> {
        loop {
            let range = self.engine.poll_packet(now, &mut self.buffer)?;
            let packet = self.buffer.get(range.start + VnetHeader::LEN..range.end)?;
            let Ok(ip) = parse_ip(packet) else { continue };
            let Ok((local, remote, segment)) = parse_tcp(&ip, ChecksumState::Trusted) else {
                continue;
            };
            let tuple =
                FourTuple { local: (ip.src, local).into(), remote: (ip.dst, remote).into() };
            let text = segment.payload.to_vec();
            return Some(Word { tuple, said: Said::parsed(&segment), text });
        }
    }
}

fn setup(services: &[Service], mtu: u16) -> Result<Setup, SetupError> {
    let addresses: BTreeSet<_> = services.iter().map(|service| service.at.ip()).collect();
    let mut ports: Vec<ServicePort> = Vec::new();
    for service in services {
        let port = ServicePort { port: service.at.port(), kind: service.kind };
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
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        router: false,
        mtu,
        offload: true,
        clock_origin: Duration::from_secs(1_000),
        backlog: CONNECTIONS_MAX,
        connections_max: CONNECTIONS_MAX,
        live_max: 1024,
        backlog_bytes_max: 64 << 20,
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
