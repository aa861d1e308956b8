//! Hand-made sights: a pair in duplex with one client, told in few words.

use core::net::SocketAddr;

use etherparse::{PacketBuilder, PacketBuilderStep, TcpHeader, TcpOptionElement as Opt};

use crate::oracle::{Facts, File, Invariant, Kind, NodeId, Oracle, Service, Sight};

pub(super) const A: NodeId = NodeId::A;
pub(super) const B: NodeId = NodeId::B;
pub(super) const MILLISECOND: u64 = 1_000_000;
pub(super) const DETECTION: u64 = 50 * MILLISECOND;

pub(super) const ECHO: u16 = 7;
pub(super) const CHARGEN: u16 = 19;
pub(super) const FILES: u16 = 80;

const CLIENT: [u8; 4] = [10, 77, 0, 1];
const SERVICE: [u8; 4] = [10, 77, 0, 100];
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const CLIENT_PORT: u16 = 40_000;
/// Their SYN and ours.
pub(super) const IRS: u32 = u32::MAX - 5;
pub(super) const ISS: u32 = 1_000;
/// The stream that the pair begins with.
pub(super) const STREAM: u64 = 1;
const CONN: u64 = 17;

pub(super) fn facts() -> Facts {
    let service = |port, kind| Service { port, kind };
    Facts {
        addresses: vec![SERVICE.into()],
        macs: MACS,
        services: vec![
            service(ECHO, Kind::Echo),
            service(CHARGEN, Kind::Chargen),
            service(FILES, Kind::Files),
        ],
        relays: Vec::new(),
        backends: Vec::new(),
        dialled: Vec::new(),
        files: vec![
            File { path: "/f".to_owned(), content: b"0123456789".to_vec() },
            File { path: "/f".to_owned(), content: b"01234abcde".to_vec() },
        ],
        mtu: 1500,
        offload: false,
        detection: DETECTION,
    }
}

/// A segment of ours, to be changed before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Ours<'a> {
    pub(super) at: u64,
    pub(super) ack: u64,
    pub(super) window: u16,
    pub(super) options: Vec<Opt>,
    pub(super) payload: &'a [u8],
    pub(super) fin: bool,
    pub(super) rst: bool,
}

pub(super) struct Scene {
    pub(super) oracle: Oracle,
    pub(super) now: u64,
    port: u16,
}

impl Scene {
    /// Node `a` owns, alone.
    pub(super) fn simplex(port: u16) -> Self {
        let mut scene = Self { oracle: Oracle::new(facts()), now: 0, port };
        for node in [A, B] {
            scene.see(Sight::Started { node });
        }
        scene.own(A, 2);
        scene
    }

    /// Node `a` owns, node `b` holds a snapshot of nothing.
    pub(super) fn duplex(port: u16) -> Self {
        let mut scene = Self::simplex(port);
        scene.link(STREAM);
        scene.tell(&[7, 0, 0, 0, 0]);
        scene.tell(&[8]);
        scene.says(A, true, 2, true);
        scene
    }

    /// The same with an established connection.
    pub(super) fn connected(port: u16) -> Self {
        let mut scene = Self::duplex(port);
        scene.syn();
        scene.tell(&opened(port, false, 0, 0));
        scene.syn_ack(A);
        scene.client(0, 0, b"");
        scene
    }

    pub(super) fn see(&mut self, sight: Sight<'_>) {
        self.oracle.see(self.now, sight);
    }

    pub(super) fn after(&mut self, time: u64) {
        self.now += time;
    }

    pub(super) fn says(&mut self, node: NodeId, owner: bool, epoch: u64, protected: bool) {
        self.see(Sight::Says { node, owner, epoch, protected });
    }

    /// `node` becomes owner, in order.
    pub(super) fn own(&mut self, node: NodeId, epoch: u64) {
        self.says(node, true, epoch, false);
        self.see(Sight::Routes { node, installed: true });
        self.claim(node);
    }

    pub(super) fn claim(&mut self, node: NodeId) {
        let frame = announcement(node);
        self.see(Sight::FrameOut { node, frame: &frame });
    }

    pub(super) fn link(&mut self, stream: u64) {
        for node in [A, B] {
            self.see(Sight::LinkUp { node, stream });
        }
    }

    /// Node `a` writes a record, and node `b` is handed it.
    pub(super) fn tell(&mut self, record: &[u8]) {
        self.write(record);
        self.hand(record);
    }

    pub(super) fn write(&mut self, record: &[u8]) {
        self.see(Sight::LinkOut { node: A, stream: STREAM, bytes: &frame(record) });
    }

    pub(super) fn hand(&mut self, record: &[u8]) {
        self.see(Sight::LinkIn { node: B, stream: STREAM, bytes: &frame(record) });
    }

    pub(super) fn syn(&mut self) {
        let builder = to_service(self.port, IRS, 65_535).syn();
        let builder = builder.options(&syn_options()).unwrap();
        self.packet_in(builder, b"");
    }

    pub(super) fn syn_ack(&mut self, node: NodeId) {
        let builder = to_client(self.port, ISS, 20_000).syn().ack(IRS.wrapping_add(1));
        let builder = builder.options(&syn_options()).unwrap();
        self.packet_out(node, builder, b"");
    }

    /// A client's segment at input offset `at`, acknowledging `acked` of the output.
    pub(super) fn client(&mut self, at: u64, acked: u64, payload: &[u8]) {
        let builder = to_service(self.port, seq(IRS, at), 1_000).ack(seq(ISS, acked));
        self.packet_in(builder, payload);
    }

    pub(super) fn client_fin(&mut self, at: u64, acked: u64) {
        let builder = to_service(self.port, seq(IRS, at), 1_000).ack(seq(ISS, acked)).fin();
        self.packet_in(builder, b"");
    }

    /// What an owner would send now: no change of anything.
    pub(super) fn ours<'a>(&self, at: u64, ack: u64, payload: &'a [u8]) -> Ours<'a> {
        let stamp = 500 + u32::try_from(self.now / MILLISECOND).unwrap();
        let options = vec![Opt::Noop, Opt::Noop, Opt::Timestamp(stamp, 1)];
        Ours { at, ack, window: 1_024, options, payload, fin: false, rst: false }
    }

    pub(super) fn send(&mut self, node: NodeId, ours: &Ours<'_>) {
        let mut builder =
            to_client(self.port, seq(ISS, ours.at), ours.window).ack(seq(IRS, ours.ack));
        builder = builder.options(&ours.options).unwrap();
        builder = if ours.fin { builder.fin() } else { builder };
        builder = if ours.rst { builder.rst() } else { builder };
        self.packet_out(node, builder, ours.payload);
    }

    /// A whole takeover by node `b` after node `a`'s process died.
    pub(super) fn takeover(&mut self) {
        self.see(Sight::Ended { node: A });
        self.see(Sight::LinkDown { node: B, stream: STREAM });
        self.after(DETECTION);
        self.own(B, 3);
    }

    pub(super) fn reset(&mut self, node: NodeId) {
        let reset = Ours { options: Vec::new(), rst: true, ..self.ours(0, 0, b"") };
        self.send(node, &reset);
    }

    pub(super) fn excuse(&mut self) {
        let client = SocketAddr::from((CLIENT, CLIENT_PORT));
        let service = SocketAddr::from((SERVICE, self.port));
        self.see(Sight::Excused { client, service, why: "test" });
    }

    fn packet_in(&mut self, builder: PacketBuilderStep<TcpHeader>, payload: &[u8]) {
        let packet = written(builder, payload);
        self.see(Sight::PacketIn { node: A, packet: &packet });
    }

    fn packet_out(&mut self, node: NodeId, builder: PacketBuilderStep<TcpHeader>, payload: &[u8]) {
        let packet = written(builder, payload);
        self.see(Sight::PacketOut { node, packet: &packet });
    }

    #[track_caller]
    pub(super) fn expect_clean(&self) {
        let violations: Vec<_> = self.oracle.violations().iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }

    /// Exactly one violation: of this invariant, with this in its text.
    #[track_caller]
    pub(super) fn expect(&self, invariant: Invariant, text: &str) {
        let violations = self.oracle.violations();
        let right =
            |v: &crate::oracle::Violation| v.invariant == invariant && v.text.contains(text);
        assert!(violations.len() == 1 && violations.iter().all(right), "{violations:#?}");
    }
}

/// A frame by which `node` claims the address.
pub(super) fn announcement(node: NodeId) -> Vec<u8> {
    let mac = MACS[node.index()];
    let builder = PacketBuilder::ethernet2(mac, [0xff; 6]);
    let arp = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation::REQUEST,
        &mac,
        &SERVICE,
        &[0; 6],
        &SERVICE,
    );
    let mut frame = Vec::new();
    builder.arp(arp.unwrap()).write(&mut frame).unwrap();
    frame
}

fn seq(initial: u32, offset: u64) -> u32 {
    initial.wrapping_add(1).wrapping_add(u32::try_from(offset).unwrap())
}

fn to_service(port: u16, seq: u32, window: u16) -> PacketBuilderStep<TcpHeader> {
    PacketBuilder::ipv4(CLIENT, SERVICE, 64).tcp(CLIENT_PORT, port, seq, window)
}

fn to_client(port: u16, seq: u32, window: u16) -> PacketBuilderStep<TcpHeader> {
    PacketBuilder::ipv4(SERVICE, CLIENT, 64).tcp(port, CLIENT_PORT, seq, window)
}

fn syn_options() -> [Opt; 4] {
    [
        Opt::MaximumSegmentSize(1460),
        Opt::SelectiveAcknowledgementPermitted,
        Opt::Timestamp(500, 1),
        Opt::WindowScale(5),
    ]
}

fn written(builder: PacketBuilderStep<TcpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

/// A log frame with one record.
pub(super) fn frame(record: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(24 + record.len()).unwrap().to_le_bytes().to_vec();
    frame.push(2);
    frame.extend_from_slice(&[0; 24]);
    frame.extend_from_slice(record);
    frame
}

/// The opening of the scene's connection with `received` bytes, of which the service has used
/// `consumed`.
pub(super) fn opened(port: u16, snapshot: bool, received: u64, consumed: u64) -> Vec<u8> {
    let mut state = vec![2, 0b1_0111, 0];
    state.extend_from_slice(&ISS.to_be_bytes());
    state.extend_from_slice(&IRS.to_be_bytes());
    state.resize(37, 0);
    state.extend_from_slice(&received.to_be_bytes());
    state.extend_from_slice(&consumed.to_be_bytes());
    state.resize(65, 0);

    let mut record = vec![1];
    record.extend_from_slice(&CONN.to_le_bytes());
    for (address, port) in [(SERVICE, port), (CLIENT, CLIENT_PORT)] {
        record.push(4);
        record.extend_from_slice(&address);
        record.extend_from_slice(&port.to_le_bytes());
    }
    record.extend_from_slice(&[0, 0, u8::from(snapshot)]);
    record.extend_from_slice(&65u32.to_le_bytes());
    record.extend_from_slice(&state);
    record.extend_from_slice(&[0; 4]);
    record
}

pub(super) fn input(offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut record = vec![2];
    record.extend_from_slice(&CONN.to_le_bytes());
    record.extend_from_slice(&offset.to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
    record.extend_from_slice(bytes);
    record
}

pub(super) fn peer_finished(offset: u64) -> Vec<u8> {
    let mut record = vec![3];
    record.extend_from_slice(&CONN.to_le_bytes());
    record.extend_from_slice(&offset.to_le_bytes());
    record
}

pub(super) fn pin() -> Vec<u8> {
    let mut record = vec![4];
    record.extend_from_slice(&CONN.to_le_bytes());
    record.extend_from_slice(&3u32.to_le_bytes());
    record.extend_from_slice(&[1, 0, 0]);
    record
}
