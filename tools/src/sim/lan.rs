//! The LAN: machines of clients, lines, frames and packets from and to hosts.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::client::Outgoing;
use super::dice::{Place, dice, happens};
use super::fragments::is_fragment;
use super::host::{SOCKET_QUEUE, TUN_QUEUE, mac};
use super::neighbours::{Entry, Heed, Output};
use super::offload::{destination, ends, quoted_ends, to_wire};
use super::plan::MachinePlan;
use super::weather::{Line, flip};
use super::world::{Client, Event, World};
use fastrand::Rng;
use standin::role::Path;
use standin::tcp::reset_for;
use standin::wire::{
    ChecksumState, FourTuple, MacAddr, Offload, TcpHeader, VnetHeader, parse_ip, parse_tcp,
};

/// The service addresses.
pub(super) const SERVICE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100)),
];

/// The backends' addresses, in both families.
pub(super) const BACKENDS: [[IpAddr; 2]; 2] = [addresses(21), addresses(22)];

const fn addresses(number: u8) -> [IpAddr; 2] {
    [
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, number)),
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number as u16)),
    ]
}

/// What a host's kernel needs to pass a stray on.
const STRAY: u64 = 30_000;
/// How long a host needs to find out that it cannot carry the service, or can again.
const FINDING_OUT: u64 = 20_000_000;
/// How long an interface needs to notice its carrier.
const CARRIER: u64 = 300_000;

/// A host of clients, or a backend's.
#[derive(Debug)]
pub(super) struct Machine {
    mac: MacAddr,
    pub(super) addresses: [IpAddr; 2],
    pub(super) plan: MachinePlan,
    /// Without power nothing reaches it.
    pub(super) powered: bool,
    entries: [Entry; 2],
    /// Its line, from it and to it.
    up: Line,
    down: Line,
    rng: Rng,
    wake_at: u64,
    wake_serial: u64,
}

impl Machine {
    pub(super) fn new(seed: u64, index: usize, plan: &MachinePlan) -> Self {
        let place = |way: usize| Place::Machine(index * 4 + way);
        Self::at(seed, 10 + index as u8, place, plan)
    }

    /// The host of a backend.
    pub(super) fn of_backend(seed: u64, index: usize, plan: &MachinePlan) -> Self {
        let place = |way: usize| Place::Backend(index * 4 + way);
        Self::at(seed, 21 + index as u8, place, plan)
    }

    fn at(seed: u64, number: u8, place: impl Fn(usize) -> Place, plan: &MachinePlan) -> Self {
        let (mac, addresses) = (MacAddr([2, 0, 0, 0, 1, number]), addresses(number));
        Self {
            mac,
            addresses,
            plan: *plan,
            powered: true,
            entries: empty_cache(plan, mac, addresses),
            up: Line::new(dice(seed, place(0))),
            down: Line::new(dice(seed, place(1))),
            rng: dice(seed, place(2)),
            wake_at: u64::MAX,
            wake_serial: 0,
        }
    }

    /// It has been without power: its cache is empty.
    pub(super) fn forget(&mut self) {
        self.entries = empty_cache(&self.plan, self.mac, self.addresses);
    }
}

fn empty_cache(plan: &MachinePlan, mac: MacAddr, own: [IpAddr; 2]) -> [Entry; 2] {
    [0, 1].map(|family| Entry::new(*plan, mac, own[family], SERVICE[family]))
}

impl World {
    // ---- machines ----

    /// A client on a machine sends a packet.
    pub(super) fn machine_sends(&mut self, machine: usize, outgoing: Outgoing) {
        let family = usize::from(outgoing.packet.first().is_some_and(|byte| byte >> 4 == 6));
        let mut out = Vec::new();
        self.machines[machine].entries[family].send(self.now, outgoing, &mut out);
        self.machine_acts(machine, out);
    }

    pub(super) fn machine_wakes(&mut self, machine: usize, serial: u64) {
        if self.machines[machine].wake_serial != serial || !self.machines[machine].powered {
            return;
        }
        self.machines[machine].wake_at = u64::MAX;
        let mut out = Vec::new();
        for entry in &mut self.machines[machine].entries {
            entry.on_timer(self.now, &mut out);
        }
        self.machine_acts(machine, out);
    }

    pub(super) fn frame_reaches_machine(&mut self, machine: usize, frame: &[u8]) {
        if self.cuts.machine_in(machine) || !self.machines[machine].powered {
            return;
        }
        let state = &mut self.machines[machine];
        let heeds = !happens(&mut state.rng, state.plan.ignores);
        let (mut out, mut ignored) = (Vec::new(), 0);
        for entry in &mut state.entries {
            ignored += u64::from(entry.on_frame(self.now, frame, heeds, &mut out) == Heed::No);
        }
        self.tally.add("announcement ignored", ignored);
        self.machine_acts(machine, out);
    }

    pub(super) fn packet_reaches_machine(&mut self, machine: usize, from: usize, packet: &[u8]) {
        if self.cuts.machine_in(machine) || !self.machines[machine].powered {
            return;
        }
        let family = usize::from(packet.first().is_some_and(|byte| byte >> 4 == 6));
        self.machines[machine].entries[family].confirm(self.now, mac(from));
        if let Some(backend) = self.backends.iter().position(|backend| backend.machine == machine) {
            self.backend_hears(backend, packet);
            return self.set_machine_alarm(machine);
        }
        let to = ends(packet).map(|(source, destination)| (destination, source));
        let Some(to) = to.or_else(|| quoted_ends(packet)) else { return };
        if let Some(&client) = self.by_ends.get(&to)
            && let Client { endpoint: Some(endpoint), answered, .. } = &mut self.clients[client]
        {
            *answered = true;
            endpoint.on_packet(self.now, packet);
            self.serve_client(client);
        } else if let Some(outgoing) = refusal(packet) {
            self.machine_sends(machine, outgoing);
        }
        self.set_machine_alarm(machine);
    }

    /// Puts on the line what a neighbour cache decided.
    fn machine_acts(&mut self, machine: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Frame(frame) => self.machine_sends_frame(machine, frame),
                Output::Packet(to, outgoing) => {
                    if let Some(host) = (0..2).find(|&host| mac(host) == to) {
                        self.machine_sends_to(machine, host, outgoing);
                    }
                }
            }
        }
        self.set_machine_alarm(machine);
    }

    fn set_machine_alarm(&mut self, machine: usize) {
        let state = &mut self.machines[machine];
        let due = state.entries.iter().map(Entry::deadline).min().unwrap_or(u64::MAX);
        if due == u64::MAX || due == state.wake_at {
            return;
        }
        state.wake_at = due;
        let serial = self.fresh();
        self.machines[machine].wake_serial = serial;
        self.post_at(due, Event::Machine { machine, serial });
    }

    fn machine_sends_frame(&mut self, machine: usize, frame: Vec<u8>) {
        if self.cuts.machine_out(machine) {
            return;
        }
        let to = destination(&frame);
        for host in 0..2 {
            if to.is_multicast() || to == mac(host) {
                self.lan_up(machine, &frame, |frame| Event::Frame { host, frame });
            }
        }
    }

    /// Over a machine's line to the LAN.
    fn lan_up(&mut self, machine: usize, bytes: &[u8], make: impl Fn(Vec<u8>) -> Event) {
        let Self { machines, weather, tally, now, .. } = self;
        let arrivals = machines[machine].up.carry(*now, weather, bytes.len(), tally);
        for arrival in arrivals.into_iter().flatten() {
            // A frame that is damaged fails its checksum and is gone: Ethernet has one of its own.
            if arrival.flipped.is_none() {
                self.post(arrival.delay, make(bytes.to_vec()));
            }
        }
    }

    /// Sends a packet to a host. A super-segment stays one if both ends have the offload for it.
    fn machine_sends_to(&mut self, machine: usize, host: usize, outgoing: Outgoing) {
        if self.cuts.machine_out(machine) {
            return;
        }
        let narrow = self.path_mtu(machine).is_some();
        let whole = self.plan.pair.offload && outgoing.vnet.needs_csum() && !narrow;
        if whole {
            return self.up_to_host(machine, host, outgoing);
        }
        let Some(wire) = to_wire(outgoing.vnet, &outgoing.packet) else { return };
        for packet in wire {
            let vouched = self.plan.pair.vouched;
            let flags = if vouched { VnetHeader::DATA_VALID } else { 0 };
            let vnet = VnetHeader { flags, ..VnetHeader::PLAIN };
            let pieces = self.fitted(machine, packet);
            let vnet = if pieces.len() > 1 { VnetHeader::PLAIN } else { vnet };
            for packet in pieces {
                self.up_to_host(machine, host, Outgoing { vnet, packet });
            }
        }
    }

    fn up_to_host(&mut self, machine: usize, host: usize, outgoing: Outgoing) {
        let Self { machines, weather, tally, now, .. } = self;
        let arrivals = machines[machine].up.carry(*now, weather, outgoing.packet.len(), tally);
        for arrival in arrivals.into_iter().flatten() {
            let mut outgoing = outgoing.clone();
            if let Some(bit) = arrival.flipped {
                // Damage in a router's memory: nobody vouches for it, and it fails its checksum.
                let wire = to_wire(outgoing.vnet, &outgoing.packet);
                let Some(first) = wire.and_then(|wire| wire.into_iter().next()) else { continue };
                if is_fragment(&first) {
                    // What it would be put together with nobody could tell: it is lost.
                    continue;
                }
                outgoing = Outgoing { vnet: VnetHeader::PLAIN, packet: first };
                let bits = outgoing.packet.len() as u64 * 8;
                flip(&mut outgoing.packet, bit % bits);
            }
            self.post(arrival.delay, Event::Packet { host, packet: outgoing, stray: false });
        }
    }

    // ---- hosts ----

    /// A packet for the service address reaches a host's kernel: into the TUN, or back onto the LAN.
    pub(super) fn packet_reaches_host(&mut self, host: usize, packet: Outgoing, stray: bool) {
        let state = &mut self.hosts[host];
        if !state.receives() || self.cuts.lan_in(host) {
            return;
        }
        let taken = state.routes && state.engine.is_some();
        if self.is_too_long(host, &packet) {
            return;
        }
        if taken {
            if self.cuts.unfit(host) {
                return self.tally.add("packet that a host does not carry", 1);
            }
            let state = &mut self.hosts[host];
            if state.inbox.packets.len() >= TUN_QUEUE {
                self.tally.add("TUN queue full", 1);
                return;
            }
            state.inbox.packets.push_back((packet.vnet, packet.packet));
            return self.want_turn(host);
        }
        if !stray {
            self.tally.add("packet to a place that has moved", 1);
        }
        let ipv4 = packet.packet.first().is_some_and(|byte| byte >> 4 == 4);
        if ipv4 && !stray && !self.cuts.lan_out(host) && !self.cuts.estranged() {
            // DESIGN §5: passed on to the new owner. IPv6 is dropped (redirects cannot be kept in).
            self.tally.add("strays passed on", 1);
            self.post(STRAY, Event::Packet { host: 1 - host, packet, stray: true });
        }
    }

    pub(super) fn frame_reaches_host(&mut self, host: usize, frame: Vec<u8>) {
        let state = &mut self.hosts[host];
        if !state.receives() || self.cuts.lan_in(host) || state.engine.is_none() {
            return;
        }
        if state.inbox.frames.len() < SOCKET_QUEUE {
            state.inbox.frames.push_back(frame);
            self.want_turn(host);
        }
    }

    pub(super) fn beat_reaches_host(&mut self, host: usize, path: Path, bytes: Vec<u8>) {
        let state = &mut self.hosts[host];
        let cut = match path {
            Path::Lan => self.cuts.lan_in(host),
            Path::Replication => self.cuts.link_in(host),
        };
        if !state.receives() || cut || state.engine.is_none() {
            return;
        }
        if state.inbox.beats.len() < SOCKET_QUEUE {
            state.inbox.beats.push_back((path, bytes));
            self.want_turn(host);
        }
    }

    pub(super) fn carrier_changes(&mut self, host: usize, up: bool) {
        if self.hosts[host].engine.is_some() {
            self.hosts[host].inbox.carrier = Some(up);
            self.want_turn(host);
        }
    }

    /// An interface's carrier went or came: it notices after a moment.
    pub(super) fn post_carrier(&mut self, host: usize, up: bool) {
        self.promise_after_carrier(host, up);
        self.post(CARRIER, Event::Carrier { host, up });
    }

    /// Whether a host can carry the service may have changed: it finds out after a moment.
    pub(super) fn post_fitness(&mut self, host: usize) {
        self.post(FINDING_OUT, Event::Fitness { host });
    }

    /// A host has found out whether it can carry the service.
    pub(super) fn fitness_is_known(&mut self, host: usize) {
        let fit = !self.cuts.unfit(host);
        self.promise_after_fitness(host, fit);
        if self.hosts[host].engine.is_some() {
            self.hosts[host].inbox.fit = Some(fit);
            self.want_turn(host);
        }
    }

    /// A host puts an Ethernet frame on the LAN.
    pub(super) fn host_sends_frame(&mut self, host: usize, frame: &[u8]) {
        if self.cuts.lan_out(host) {
            return;
        }
        let to = destination(frame);
        let other = 1 - host;
        if (to.is_multicast() || to == mac(other)) && !self.cuts.estranged() {
            let Self { lines, weather, tally, now, .. } = self;
            let arrivals = lines[host].carry(*now, weather, frame.len(), tally);
            for arrival in arrivals.into_iter().flatten() {
                if arrival.flipped.is_none() {
                    let frame = frame.to_vec();
                    self.post(arrival.delay, Event::Frame { host: other, frame });
                }
            }
        }
        for machine in 0..self.machines.len() {
            if to.is_multicast() || to == self.machines[machine].mac {
                let Self { machines, weather, tally, now, .. } = self;
                let line = &mut machines[machine].down;
                let arrivals = line.carry(*now, weather, frame.len(), tally);
                for arrival in arrivals.into_iter().flatten() {
                    if arrival.flipped.is_none() {
                        let frame = frame.to_vec();
                        self.post(arrival.delay, Event::FrameToMachine { machine, frame });
                    }
                }
            }
        }
    }

    /// A host puts a packet of the service address on the LAN.
    pub(super) fn host_sends_packet(&mut self, host: usize, vnet: VnetHeader, packet: &[u8]) {
        let Some(wire) = to_wire(vnet, packet) else {
            return self.complain("packet", "an engine wrote what no kernel can cut".to_owned());
        };
        let Some(machine) = parse_ip(packet).ok().and_then(|ip| {
            self.machines.iter().position(|machine| machine.addresses.contains(&ip.dst))
        }) else {
            // An answer to a packet whose source address was damaged.
            return;
        };
        if let Some(long) = wire.iter().find(|wire| wire.len() > usize::from(self.plan.pair.mtu)) {
            let text =
                format!("a packet of {} bytes where the MTU is {}", long.len(), self.plan.pair.mtu);
            return self.complain("packet", text);
        }
        if self.cuts.lan_out(host) {
            return;
        }
        if self.cuts.unfit(host) {
            return self.tally.add("packet that a host does not carry", 1);
        }
        self.note_offer(packet);
        for packet in wire {
            if !self.leaves(host, &packet) {
                continue;
            }
            if !self.passes(host, machine, &packet) {
                continue;
            }
            let Self { machines, weather, tally, now, .. } = self;
            let arrivals = machines[machine].down.carry(*now, weather, packet.len(), tally);
            for arrival in arrivals.into_iter().flatten() {
                let mut packet = packet.clone();
                if let Some(bit) = arrival.flipped {
                    flip(&mut packet, bit);
                }
                self.post(arrival.delay, Event::ToMachine { machine, from: host, packet });
            }
        }
    }
}

/// What a machine answers to a segment that belongs to none of its connections.
pub(super) fn refusal(packet: &[u8]) -> Option<Outgoing> {
    let ip = parse_ip(packet).ok()?;
    let (remote, local, segment) = parse_tcp(&ip, ChecksumState::Verify).ok()?;
    let reset = reset_for(&segment)?;
    let header = TcpHeader {
        tuple: FourTuple { local: (ip.dst, local).into(), remote: (ip.src, remote).into() },
        seq: reset.seq,
        ack: reset.ack,
        flags: reset.flags,
        window: 0,
        options: reset.options,
        ecn: 0,
        ttl: 64,
        ip_id: 0,
    };
    let mut packet = vec![0; header.len()];
    let vnet = header.write(&mut packet, 0, Offload::Full);
    Some(Outgoing { vnet, packet })
}
