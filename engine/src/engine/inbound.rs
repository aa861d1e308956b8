//! Packets in: from the TUN to a connection, or to an answer.

use core::net::IpAddr;

use super::connection::{Body, Connection};
use super::notice::Notice;
use super::outbox::{Kind, Loose, Relayed};
use super::relaying::Passing;
use super::replicate::append_input;
use super::settle::Before;
use super::{Complaint, Engine};
use crate::ids::ConnId;
use crate::service::{App, Env};
use crate::tcp::{self, CloseCause, PathSignal, State, Tcb, Verdict};
use crate::time::Instant;
use crate::wire::{
    ChecksumState, Flags, FourTuple, Fragments, Icmp, IcmpKind, IpPacket, Segment, SeqNum,
    VnetHeader, destination, parse_icmp, parse_ip, parse_tcp, write_echo_reply,
};

/// The least that every IPv6 link carries, RFC 8200 §5: fragments are never cut smaller.
const IPV6_MTU_MIN: usize = 1280;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_ICMPV6: u8 = 58;

impl Engine {
    /// A packet arrived for a service address: IP header first, no link header.
    ///
    /// What a relay forwards is rewritten where it lies, and returned: the host puts it on the wire
    /// at once, if the engine may still speak ([`Self::speak_until`]).
    pub(crate) fn on_packet(
        &mut self,
        now: Instant,
        vnet: VnetHeader,
        bytes: &mut [u8],
    ) -> Option<Relayed> {
        self.stats.packets_in += 1;
        self.work += 1;
        if !self.owns() {
            // Until a connection's state is known its packets are dropped, never refused (I5).
            self.stats.not_owner += 1;
            return None;
        }
        let Ok(ip) = parse_ip(bytes) else {
            // The kernel greets the network on every interface of its own, from no address.
            let ours = destination(bytes).is_none_or(|to| self.setup.addresses.contains(&to));
            *if ours { &mut self.stats.malformed } else { &mut self.stats.not_for_us } += 1;
            return None;
        };
        if !self.setup.addresses.contains(&ip.dst)
            || !is_host(ip.src)
            || self.setup.addresses.contains(&ip.src)
        {
            self.stats.not_for_us += 1;
            return None;
        }
        if ip.fragment.is_none() {
            let checked = vnet.flags & (VnetHeader::NEEDS_CSUM | VnetHeader::DATA_VALID) != 0;
            let check = if checked { ChecksumState::Trusted } else { ChecksumState::Verify };
            let passing = self.on_datagram(now, &ip, check)?;
            return self.pass_on(vnet, bytes, &passing);
        }
        let owner = self.duty.owner_mut()?;
        match owner.reassembler.insert(now, &ip) {
            Ok(Some(whole)) => match whole.packet() {
                Ok(ip) => {
                    if let Some(passing) = self.on_datagram(now, &ip, ChecksumState::Verify) {
                        self.pass_on_in_pieces(&whole, &passing);
                    }
                }
                Err(_) => self.stats.malformed += 1,
            },
            Ok(None) => {}
            Err(_) => self.stats.malformed += 1,
        }
        None
    }

    fn on_datagram(
        &mut self,
        now: Instant,
        ip: &IpPacket<'_>,
        check: ChecksumState,
    ) -> Option<Passing> {
        match (ip.protocol, ip.dst.is_ipv6()) {
            (PROTOCOL_TCP, _) => match parse_tcp(ip, check) {
                Ok((remote, local, segment)) => {
                    let tuple = FourTuple {
                        local: (ip.dst, local).into(),
                        remote: (ip.src, remote).into(),
                    };
                    if !self.relays.is_empty()
                        && let Some(passing) = self.relay(now, tuple, ip, &segment)
                    {
                        return passing;
                    }
                    self.on_segment(now, tuple, &segment);
                }
                Err(_) => self.stats.malformed += 1,
            },
            (PROTOCOL_ICMP, false) | (PROTOCOL_ICMPV6, true) => self.on_icmp(now, ip),
            _ => self.refuse_datagram(now, ip, check),
        }
        None
    }

    fn answer_ping(&mut self, request: &IpPacket<'_>) {
        if self.room(Kind::Echo) == 0 {
            return;
        }
        self.ip_id = self.ip_id.wrapping_add(1);
        let mut reply = Vec::new();
        if write_echo_reply(request, tcp::HOP_LIMIT, self.ip_id, &mut reply).is_err() {
            self.stats.malformed += 1;
            return;
        }
        self.push_in_pieces(Kind::Echo, &reply);
    }

    /// Queues a packet of any length, in fragments of the MTU. All of them or none: a part is no use
    /// to anybody.
    pub(super) fn push_in_pieces(&mut self, kind: Kind, packet: &[u8]) {
        // The longest headers, and a length that is a multiple of 8.
        let text = usize::from(self.setup.mtu).saturating_sub(48 + 7).max(8);
        if self.room(kind) < packet.len().div_ceil(text) {
            return;
        }
        let mut fragments = Fragments::of(packet, self.setup.mtu.into(), self.ip_id.into());
        let mut piece = vec![0; usize::from(self.setup.mtu).max(IPV6_MTU_MIN)];
        while let Some(length) = fragments.write_next(&mut piece) {
            self.push(kind, Loose::Packet(piece[..length].to_vec()));
        }
    }

    fn on_icmp(&mut self, now: Instant, ip: &IpPacket<'_>) {
        match parse_icmp(ip) {
            Ok(Icmp::EchoRequest { .. }) => self.answer_ping(ip),
            Ok(Icmp::Error(error)) => {
                let Some(id) = self.table.find(error.tuple) else {
                    return self.relay_error(now, &error);
                };
                self.wake(now, id);
                let signal = match error.kind {
                    IcmpKind::TooBig { mtu: 0 } => {
                        PathSignal::TooBig { mtu: tcp::plateau_below(error.quoted_len) }
                    }
                    IcmpKind::TooBig { mtu } => PathSignal::TooBig { mtu },
                    IcmpKind::Unreachable { hard: true } => PathSignal::HardError,
                    IcmpKind::Unreachable { hard: false }
                    | IcmpKind::TimeExceeded
                    | IcmpKind::ParameterProblem => PathSignal::SoftError,
                    // RFC 6633: ignored.
                    IcmpKind::SourceQuench => return,
                };
                let Some(tcb) = self.table.get_mut(id).and_then(Connection::tcb_mut) else {
                    return;
                };
                let verdict = tcb.on_icmp(now, signal, error.seq);
                self.after(now, id, verdict);
            }
            Ok(Icmp::Other) => self.stats.not_for_us += 1,
            Err(_) => self.stats.malformed += 1,
        }
    }

    fn on_segment(&mut self, now: Instant, tuple: FourTuple, segment: &Segment<'_>) {
        let Some(id) = self.table.find(tuple) else { return self.on_stranger(now, tuple, segment) };
        self.wake(now, id);
        if let Some(facts) = self.cookie_beside(now, id, &tuple, segment) {
            self.end(now, id, CloseCause::Aborted);
            return self.open_from_cookie(now, tuple, segment, &facts);
        }
        let is_syn = segment.flags.contains(Flags::SYN)
            && !segment.flags.intersects(Flags::ACK | Flags::RST);
        if is_syn
            && let Some(least) = self
                .table
                .get_mut(id)
                .and_then(Connection::tcb_mut)
                .and_then(|t| t.reuse_allowed(segment))
        {
            // RFC 6191: a new incarnation may begin while the old one waits. That goes on waiting if
            // its successor is not taken.
            if self.is_crowded() {
                self.stats.backlog_dropped += 1;
                return;
            }
            if !self.may_begin(now, &tuple) {
                return;
            }
            self.end(now, id, CloseCause::Done);
            return self.open(now, tuple, segment, Some(least));
        }
        self.feed(now, id, segment);
    }

    /// A SYN was answered twice: by a cookie, and when it came again, and there was room, by the
    /// connection `id`. Its client may have heard the cookie alone; then this segment returns it.
    fn cookie_beside(
        &mut self,
        now: Instant,
        id: ConnId,
        tuple: &FourTuple,
        segment: &Segment<'_>,
    ) -> Option<tcp::cookie::Facts> {
        let flags = segment.flags.intersection(Flags::SYN | Flags::ACK | Flags::RST);
        if flags != Flags::ACK || !self.cookies.valid(now) {
            return None;
        }
        let tcb = self.table.get_mut(id).and_then(Connection::tcb_mut)?;
        if tcb.state() != State::SynReceived || segment.ack == tcb.hard().iss.add(1) {
            return None;
        }
        self.read_cookie(now, tuple, segment)
    }

    /// A segment that belongs to no connection.
    fn on_stranger(&mut self, now: Instant, tuple: FourTuple, segment: &Segment<'_>) {
        let asked = self.hear_answer(&tuple, segment);
        let listening = self.listener(tuple.local.port()).is_some();
        let syn_only = Flags::SYN | Flags::ACK | Flags::RST;
        if listening && segment.flags.intersection(syn_only) == Flags::SYN {
            return self.open(now, tuple, segment, None);
        }
        if listening
            && !asked
            && self.cookies.valid(now)
            && segment.flags.intersection(syn_only) == Flags::ACK
        {
            if let Some(facts) = self.read_cookie(now, &tuple, segment) {
                return self.open_from_cookie(now, tuple, segment, &facts);
            }
            if self.may_follow_cookie(now, &tuple, segment) {
                // Refusing it would end a connection that is about to begin.
                self.stats.tcp_dropped += 1;
                return;
            }
        }
        let serves = listening || self.relays.serves(tuple.local.port());
        if serves && !segment.flags.intersects(Flags::ACK | Flags::SYN) {
            // LISTEN, RFC 9293 §3.10.7.2, fourth step: what has neither SYN nor ACK is dropped.
            self.stats.tcp_dropped += 1;
            return;
        }
        if let Some(reset) = tcp::reset_for(segment) {
            self.stats.refused += 1;
            self.push(Kind::Reset, Loose::Segment(tuple, reset));
        }
    }

    /// Whether the end of `tuple` is asked where it is, and goes on being asked: its answer is to be
    /// refused, and the reset may be lost.
    fn hear_answer(&mut self, tuple: &FourTuple, segment: &Segment<'_>) -> bool {
        let Some(owner) = self.duty.owner_mut() else { return false };
        let Some(question) = owner.questions.find(tuple) else { return false };
        let over = match segment.flags.intersection(Flags::SYN | Flags::ACK | Flags::RST) {
            // Nobody is there: that is how a question of this number is answered then.
            Flags::RST => segment.seq == question.ack,
            // Somebody new.
            Flags::SYN => true,
            _ => false,
        };
        if over {
            owner.questions.forget(tuple);
        }
        !over
    }

    fn read_cookie(
        &self,
        now: Instant,
        tuple: &FourTuple,
        segment: &Segment<'_>,
    ) -> Option<tcp::cookie::Facts> {
        let clock = self.clock.at(now);
        let mut layouts = self.cookies.accepted(now);
        layouts.find_map(|layout| tcp::cookie::decode(&self.secret, tuple, segment, clock, layout))
    }

    fn may_follow_cookie(&self, now: Instant, tuple: &FourTuple, segment: &Segment<'_>) -> bool {
        let clock = self.clock.at(now);
        let mut layouts = self.cookies.accepted(now);
        layouts.any(|layout| tcp::cookie::may_follow(&self.secret, tuple, segment, clock, layout))
    }

    /// Which service listens on `port`.
    pub(super) fn listener(&self, port: u16) -> Option<u16> {
        self.setup
            .services
            .iter()
            .position(|service| service.port == port)
            .map(|index| index as u16)
    }

    /// LISTEN, RFC 9293 §3.10.7.2: a SYN.
    fn open(&mut self, now: Instant, tuple: FourTuple, syn: &Segment<'_>, least: Option<SeqNum>) {
        let Some(service) = self.listener(tuple.local.port()) else { return };
        let clock = self.clock.at(now);
        let kind = self.setup.services[usize::from(service)].kind;
        if self.lacks_backend(service, &tuple) {
            // As a port where nobody listens.
            self.stats.refused += 1;
            if let Some(reset) = tcp::reset_for(syn) {
                self.push(Kind::Reset, Loose::Segment(tuple, reset));
            }
            return;
        }
        if !self.may_begin(now, &tuple) {
            return;
        }
        if !self.has_room(now) {
            // Nor a cookie: its client would take the connection for open, and wait in vain.
            return self.refuse_for_room(now);
        }
        // A cookie cannot begin above the old incarnation, RFC 6191; the old one made room.
        if self.half_open >= self.setup.backlog && least.is_none() {
            self.stats.cookies_sent += 1;
            self.cookies.note_sent(now);
            let answer = tcp::cookie::syn_ack(
                self.tcp_for.of(kind, false),
                &self.secret,
                &tuple,
                syn,
                clock,
                // On the pair's clock already, which is what `clock` shows.
                self.secret.ts_offset(&tuple),
                self.setup.mtu,
                self.cookies.layout(),
            );
            return self.push(Kind::Cookie, Loose::Segment(tuple, answer));
        }
        if self.is_crowded() {
            // A SYN costs a record, too.
            self.stats.backlog_dropped += 1;
            return;
        }
        let offset = self.secret.ts_offset(&tuple).wrapping_add(self.clock.ahead_millis());
        let Some(id) = self.make_room(now) else {
            self.refuse_for_room(now);
            return;
        };
        let mut iss = self.secret.isn(&tuple, clock);
        if let Some(least) = least
            && iss.before(least)
        {
            iss = least;
        }
        let settings = self.tcp_for.of(kind, false);
        let tcb = Tcb::accept(settings, now, syn, iss, offset, self.setup.mtu, tuple.is_ipv6());
        self.begin(now, id, tuple, service, tcb);
    }

    fn open_from_cookie(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        ack: &Segment<'_>,
        facts: &tcp::cookie::Facts,
    ) {
        let Some(service) = self.listener(tuple.local.port()) else { return };
        if !self.may_begin(now, &tuple) {
            return;
        }
        let Some(id) = self.make_room(now) else {
            self.refuse_for_room(now);
            return;
        };
        let offset = self.secret.ts_offset(&tuple).wrapping_add(self.clock.ahead_millis());
        let kind = self.setup.services[usize::from(service)].kind;
        let tcb = Tcb::accept_cookie(
            self.tcp_for.of(kind, false),
            now,
            ack,
            facts,
            offset,
            self.setup.mtu,
            tuple.is_ipv6(),
        );
        self.stats.cookies_accepted += 1;
        self.begin(now, id, tuple, service, tcb);
        self.feed(now, id, ack);
    }

    /// Whether the standby is so far behind that clients have to wait and resend.
    pub(super) fn is_crowded(&self) -> bool {
        self.backlog_bytes() > self.setup.backlog_bytes_max as u64
    }

    /// The table is full: the client may try again.
    fn refuse_for_room(&mut self, now: Instant) {
        self.stats.table_full += 1;
        if let Some(left_out) = self.complaints.permit(now, Complaint::Full) {
            self.report(Notice::Full { connections: self.table.len(), left_out });
        }
    }

    /// Puts a new connection into the table and, if there is a standby, into the log.
    fn begin(&mut self, now: Instant, id: ConnId, tuple: FourTuple, service: u16, tcb: Tcb) {
        let app = App::new(self.setup.services[usize::from(service)].kind, &self.setup.limits);
        let mut connection =
            Box::new(Connection::new(id, tuple, service, app, Body::Live(Box::new(tcb))));
        connection.handshake_logged = connection.tcb_mut().is_some_and(|tcb| tcb.established());
        let stands = connection.handshake_logged;
        if self.table.insert(connection).is_err() {
            self.refuse_for_room(now);
            return;
        }
        self.half_open += usize::from(!stands);
        self.stats.opened += 1;
        self.pay(now, &tuple);
        self.begin_session(id);
        self.note_source(id);
        self.replicate_opened(now, id);
        if stands {
            self.on_stands(now, id);
        }
        self.touch(now, id);
    }

    /// Hands a segment to its connection, its bytes to the log and to the application.
    fn feed(&mut self, now: Instant, id: ConnId, segment: &Segment<'_>) {
        let (crowded, edition) = (self.is_crowded(), self.edition());
        if !segment.payload.is_empty() && self.is_put_off(now, id) {
            // What it acknowledges counts.
            let flags = segment.flags.difference(Flags::FIN);
            let segment = &Segment { payload: &[], flags, ..segment.clone() };
            self.stats.tcp_dropped += 1;
            return self.feed(now, id, segment);
        }
        let Self { table, duty, store, pins, stats, wall, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        let Body::Live(tcb) = &mut connection.body else { return };
        if crowded && connection.replicated && !segment.payload.is_empty() {
            stats.backlog_dropped += 1;
            return;
        }
        let before = Before::of(tcb, &connection.app);
        let mut offset = before.received;
        let ts_recent = segment.options.timestamps.map_or(0, |timestamps| timestamps.val);
        let (app, replicated) = (&mut connection.app, connection.replicated);
        let mut standby = duty.standby_mut().filter(|_| replicated);
        let mut last = None;
        let verdict = tcb.on_segment(now, segment, &mut |bytes| {
            if let Some(standby) = &mut standby {
                last = append_input(&mut standby.log, id, offset, ts_recent, bytes).or(last);
            }
            offset += bytes.len() as u64;
            stats.bytes_in += bytes.len() as u64;
            let store = store.of(id);
            app.on_input(bytes, &mut Env { store, lead: true, pins, wall: *wall, edition });
        });
        self.settle(now, id, before, last, verdict);
    }

    /// What an acknowledgment, an end of input or a timer may have set in motion: tells the
    /// application, the log and the queue.
    pub(super) fn after(&mut self, now: Instant, id: ConnId, verdict: Verdict) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Body::Live(tcb) = &connection.body else { return };
        let before = Before::of(tcb, &connection.app);
        self.settle(now, id, before, None, verdict);
    }
}

/// Whether `address` can be the source of a connection.
fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified() || v4.is_loopback())
        }
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified() || v6.is_loopback()),
    }
}
