//! Relays at work: packets that pass, splices in the log, backends that are asked.
//!
//! `relay` decides; here its events become records, and its splices wait for the standby (I1, I2):
//!
//! ```text
//!   SYN ─► Event::Spliced ─► Record::Spliced ─► … confirmed ─► Relays::commit ─► SYN to the backend
//! ```

use super::Engine;
use super::notice::Notice;
use super::outbox::{Kind, Loose, Relayed};
use super::replicate::SNAPSHOT_BUDGET;
use super::setup::Setup;
use crate::ids::{Lsn, SpliceId};
use crate::relay::{
    Event, Failure, Fate, Health, Limits, Numbers, OPENING_MOST, Relays, Splice, Stage, TooBig,
    View,
};
use crate::replica::{BackendFailure, Record};
use crate::tcp;
use crate::time::Instant;
use crate::wire::{
    ChecksumField, Cut, Endpoint, Flags, FourTuple, IcmpError, IcmpKind, IpPacket, Reassembled,
    Rewrite, Segment, VnetHeader, write_icmp_error,
};

/// The version of the protocol that knows [`Record::Backend`] and [`Record::BackendState`].
pub(super) const VERSION_BACKENDS: u16 = 4;

/// Splices that go on in one turn, with a SYN to their backend each.
const COMMITS: usize = 512;

/// A packet that goes on to the other leg.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing {
    rewrite: Rewrite,
    /// What it may have, in bytes, where that is less than the LAN carries.
    mtu: Option<u16>,
    /// Bytes of its TCP segment, and of the text in it.
    segment: usize,
    text: usize,
}

/// The relays that `setup` asks for.
pub(super) fn relays(setup: &Setup) -> Relays {
    let limits = Limits {
        splices_max: setup.connections_max,
        // No cookie stands in for one that finds no room: many, so that a flood has to be large, and not
        // so many that a backend has no port left for those who are no part of it.
        opening_max: setup.connections_max.div_ceil(4).min(OPENING_MOST),
        mtu: setup.mtu,
        addresses: setup.addresses.clone(),
        key: setup.table_key,
    };
    Relays::new(&setup.relays, limits)
}

impl Engine {
    /// A segment came in, which may be a relay's: `Some` if it is, with what is to pass.
    pub(super) fn relay(
        &mut self,
        now: Instant,
        leg: FourTuple,
        ip: &IpPacket<'_>,
        segment: &Segment<'_>,
    ) -> Option<Option<Passing>> {
        if !self.has_announced() {
            // I5: whoever has not announced says nothing yet, to nobody.
            return self.relays.knows(&leg).then_some(None);
        }
        let is_syn = segment.flags.intersection(Flags::SYN | Flags::ACK) == Flags::SYN;
        if is_syn && self.is_crowded() && self.relays.serves(leg.local.port()) {
            // A splice costs a record, too.
            self.stats.backlog_dropped += 1;
            return Some(None);
        }
        if is_syn && self.relays.would_begin(&leg) && !self.may_begin(now, &leg) {
            return Some(None);
        }
        let begun = self.relays.counts().spliced;
        let Self { relays, secret, clock, .. } = self;
        let clock = clock.at(now);
        let fate = relays.on_segment(now, leg, segment, &|leg| numbers(secret, leg, clock));
        if self.relays.counts().spliced > begun {
            self.pay(now, &leg);
        }
        let away = self.turn_splice_away(now);
        self.follow_relays(now);
        match fate {
            _ if away => None,
            Fate::Foreign => None,
            Fate::Taken => Some(None),
            Fate::Forward { rewrite, mtu } => {
                let (segment, text) = (ip.payload.len(), segment.payload.len());
                Some(Some(Passing { rewrite, mtu, segment, text }))
            }
        }
    }

    /// Rewrites a packet where it lies.
    pub(super) fn pass_on(
        &mut self,
        vnet: VnetHeader,
        packet: &mut [u8],
        passing: &Passing,
    ) -> Option<Relayed> {
        let partial = vnet.needs_csum();
        let field = if partial { ChecksumField::Partial } else { ChecksumField::Full };
        let Ok(length) = passing.rewrite.apply(packet, passing.segment, field) else {
            self.stats.malformed += 1;
            return None;
        };
        self.count_relayed(passing);
        // What was verified on its way in has to be verifiable on its way out.
        let vnet = VnetHeader { flags: vnet.flags & VnetHeader::NEEDS_CSUM, ..vnet };
        let packet = &mut packet[..length];
        let cut = passing.mtu.and_then(|mtu| Cut::to_fit(mtu, vnet, packet, passing.segment));
        let Some(cut) = cut else { return Some(Relayed { vnet, length }) };
        if self.setup.offload {
            return Some(Relayed { vnet: cut.offload(vnet, packet), length });
        }
        self.stats.packets_out -= 1;
        self.push_cut(&cut, packet);
        None
    }

    fn push_cut(&mut self, cut: &Cut, packet: &[u8]) {
        cut.pieces(packet).for_each(|piece| self.push(Kind::Piece, Loose::Packet(piece)));
    }

    /// Passes on what came in fragments, in fragments if it has to be.
    pub(super) fn pass_on_in_pieces(&mut self, whole: &Reassembled, passing: &Passing) {
        self.ip_id = self.ip_id.wrapping_add(1);
        let mut packet = Vec::new();
        let written = whole.write(self.ip_id, &mut packet);
        let rewrite = &passing.rewrite;
        let full = ChecksumField::Full;
        if written.and_then(|()| rewrite.apply(&mut packet, passing.segment, full)).is_err() {
            self.stats.malformed += 1;
            return;
        }
        self.count_relayed(passing);
        self.stats.packets_out -= 1;
        let vnet = VnetHeader::PLAIN;
        match passing.mtu.and_then(|mtu| Cut::to_fit(mtu, vnet, &packet, passing.segment)) {
            Some(cut) => self.push_cut(&cut, &packet),
            None => self.push_in_pieces(Kind::Piece, &packet),
        }
    }

    fn count_relayed(&mut self, passing: &Passing) {
        self.stats.packets_out += 1;
        self.stats.relayed += 1;
        self.stats.relayed_bytes += passing.text as u64;
    }

    /// An error about a packet that passed: whose packet it was is told, as it knows the packet. That it
    /// was too big stays here: it holds for this one client, and the other end would believe it of all
    /// that has our address.
    pub(super) fn relay_error(&mut self, now: Instant, error: &IcmpError) {
        if !self.has_announced() {
            return;
        }
        if let IcmpKind::TooBig { mtu } = error.kind {
            let mtu = if mtu == 0 { tcp::plateau_below(error.quoted_len) } else { mtu };
            if self.relays.on_too_big(now, &error.tuple, error.seq, mtu) == TooBig::Noted {
                self.stats.paths_narrowed += 1;
            }
            return;
        }
        let Some((tuple, seq)) = self.relays.origin_of(&error.tuple, error.seq) else { return };
        if !self.may_send_error(now) {
            return;
        }
        let error = IcmpError { tuple, seq, ..*error };
        self.ip_id = self.ip_id.wrapping_add(1);
        let mut packet = Vec::new();
        write_icmp_error(&error, tuple.remote.ip(), tcp::HOP_LIMIT, self.ip_id, &mut packet);
        if !packet.is_empty() {
            self.push(Kind::Error, Loose::Packet(packet));
        }
    }

    pub(super) fn relay_timer(&mut self, now: Instant) {
        if self.relays.is_empty() || !self.has_announced() {
            return;
        }
        let Self { relays, secret, clock, .. } = self;
        let clock = clock.at(now);
        relays.on_timer(now, &|leg| numbers(secret, leg, clock));
        self.follow_relays(now);
    }

    pub(super) fn follow_relays(&mut self, now: Instant) {
        while let Some(event) = self.relays.poll_event() {
            match event {
                Event::Spliced(id) => self.replicate_spliced(now, id),
                Event::Stage(id, stage) => self.replicate_stage(id, stage),
                Event::Unspliced(id) => self.replicate_unspliced(id),
                Event::Health { port, address, health } => {
                    self.replicate_health(now, port, address, health);
                }
                Event::Backend { port, address, up, why } => {
                    let why = why.map(|why| self.relays.words(port, why));
                    self.report(Notice::Backend { port, address, up, why });
                }
                Event::Dead { port, address, left } => {
                    self.report(Notice::BackendDead { port, address, left });
                }
                Event::State { .. } | Event::Cut(_) | Event::Leave(_) | Event::Break(_) => {
                    self.follow_backend(now, &event);
                }
            }
        }
    }

    /// Tells the standby of a splice, new or gone on to another backend.
    fn replicate_spliced(&mut self, now: Instant, id: SpliceId) {
        let Some(standby) = self.duty.standby_mut() else { return self.relays.commit(now, id) };
        standby.splices.on_opened(Relays::slot_of(id));
        if let Some(lsn) = self.append_spliced(id)
            && let Some(standby) = self.duty.standby_mut()
        {
            standby.unconfirmed.push_back((lsn, id));
        }
        #[cfg(feature = "defects")]
        if self.setup.has(crate::defects::Defect::SpliceBeforeCommit) {
            self.relays.commit(now, id);
        }
    }

    fn append_spliced(&mut self, splice: SpliceId) -> Option<Lsn> {
        let Splice { client, backend, seq, ts } = self.relays.splice(splice)?;
        let lsn = self.append(&Record::Spliced { splice, client, backend, seq, ts })?;
        if let Some(stage) = self.relays.stage(splice)
            && stage != Stage::HalfOpen
        {
            return self.append(&Record::SpliceStage { splice, over: stage == Stage::Over });
        }
        Some(lsn)
    }

    pub(super) fn replicate_stage(&mut self, splice: SpliceId, stage: Stage) {
        let slot = Relays::slot_of(splice);
        if self.duty.standby().is_some_and(|standby| standby.splices.is_told(slot)) {
            self.append(&Record::SpliceStage { splice, over: stage == Stage::Over });
        }
    }

    fn replicate_unspliced(&mut self, splice: SpliceId) {
        let slot = Relays::slot_of(splice);
        let Some(standby) = self.duty.standby_mut() else { return };
        let is_told = standby.splices.is_told(slot);
        standby.splices.on_closed(slot);
        if is_told {
            self.append(&Record::Unspliced { splice });
        }
    }

    /// Tells the standby what a backend is, if it knows the word: it need not find out after a takeover,
    /// at the expense of those who connect then.
    fn replicate_health(&mut self, now: Instant, port: u16, address: Endpoint, health: Health) {
        if self.is_attached() && self.link.speaks(VERSION_BACKENDS) {
            let Health { up, barred, born, failed } = health;
            let failed = failed.map(|(failure, at)| {
                let (what, detail) = failure.code();
                let ago = u32::try_from(now.since(at).as_millis()).unwrap_or(u32::MAX);
                BackendFailure { what, detail, ago }
            });
            self.append(&Record::Backend { port, address, up, barred, born, failed });
        }
    }

    /// Follower: what the owner has found out.
    pub(super) fn hold_health(
        &mut self,
        now: Instant,
        port: u16,
        address: Endpoint,
        health: Health,
        failed: Option<BackendFailure>,
    ) {
        let failed = failed.and_then(|BackendFailure { what, detail, ago }| {
            let ago = u64::from(ago) * 1_000_000;
            let at = Instant::from_nanos(now.as_nanos().saturating_sub(ago));
            Some((Failure::of_code(what, detail)?, at))
        });
        self.relays.hold_health(port, address, Health { failed, ..health });
    }

    /// Tells a new standby what is known of every backend.
    pub(super) fn replicate_backends(&mut self, now: Instant) {
        let told = |of: &View| !of.removed && (of.known || of.barred || of.born > 0);
        let health = |View { up, barred, born, failed, .. }| Health { up, barred, born, failed };
        let known = self.relays.backends().filter(told);
        let known: Vec<_> = known.map(|of| (of.port, of.address, health(of))).collect();
        for (port, address, health) in known {
            self.replicate_health(now, port, address, health);
        }
    }

    /// Lets go on what the standby has confirmed, or what no standby has to confirm: a turn's share.
    pub(super) fn commit_splices(&mut self, now: Instant) {
        for _ in 0..COMMITS {
            let Some(id) = self.next_splice() else { return };
            self.relays.commit(now, id);
        }
    }

    /// Where the numbers of a leg begin now.
    pub(super) fn numbers(&self, now: Instant, leg: &FourTuple) -> Numbers {
        numbers(&self.secret, leg, self.clock.at(now))
    }

    /// Moves the splices' part of the snapshot on by one turn's share. Whether all have been told.
    pub(super) fn advance_splices(&mut self) -> bool {
        let Some(standby) = self.duty.standby_mut() else { return false };
        standby.splices.begin_turn(SNAPSHOT_BUDGET);
        while let Some(slot) = self.duty.standby_mut().and_then(|of| of.splices.next_slot()) {
            let Some(id) = self.relays.tenant(slot) else { continue };
            let bytes = self.backlog_bytes();
            let appended = self.append_spliced(id).is_some();
            let bytes = self.backlog_bytes() - bytes;
            if let Some(standby) = self.duty.standby_mut().filter(|_| appended) {
                standby.splices.on_sent(bytes as usize);
            }
        }
        self.duty.standby().is_some_and(|standby| standby.splices.is_complete())
    }
}

/// Where the numbers of a leg begin now: RFC 6528, RFC 7323 §5.4.
fn numbers(secret: &tcp::isn::Secret, leg: &FourTuple, clock: Instant) -> Numbers {
    // Modulo 2³², as timestamps count.
    let ts = secret.ts_offset(leg).wrapping_add(clock.as_millis() as u32);
    Numbers { iss: secret.isn(leg, clock), ts }
}
