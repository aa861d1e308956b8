//! The beginning of a splice: a backend is chosen, told, and perhaps another one asked.
//!
//! ```text
//!   client's SYN ─► choose ─► Event::Spliced ─► commit ─► SYN ─┬─ SYN-ACK ─► answered ─► ACK ─► open
//!                     ▲                                         │
//!                     └──── move_on ◄── RST, or the SYN again ──┘
//! ```

use super::*;

/// SYNs that may wait to be taken, at least: more than one turn brings.
const HEADERS_MIN: usize = 16;

/// How long a handshake may take before it gives way to others where there is no more room: who goes on
/// with one that gave way earlier would be reset. Longer than any round trip; what is lost of it and
/// repeated may begin anew.
const HANDSHAKE_MAX: Duration = Duration::from_secs(1);

impl Relays {
    /// A client's SYN.
    pub(super) fn open(
        &mut self,
        now: Instant,
        relay: usize,
        client: FourTuple,
        segment: &Segment<'_>,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) -> Fate {
        if self.is_greedy(&client) {
            self.counts.greedy += 1;
            return Fate::Taken;
        }
        let full = self.table.is_full() && !self.end_oldest_over();
        let crowded = self.half_open >= self.limits.opening_max;
        if (full || crowded) && !self.end_late_opening(now) {
            self.counts.full += 1;
            return Fate::Taken;
        }
        let Some(server) = self.choose(relay, client.is_ipv6(), None) else {
            // Nobody serves here now: as a port where nobody listens.
            self.counts.refused += 1;
            return Fate::Foreign;
        };
        let Some(backend) = self.free_leg(now, relay, server, client.local.ip()) else {
            self.counts.full += 1;
            return Fate::Taken;
        };
        let Some(id) = self.table.vacant() else { return Fate::Taken };
        self.counts.spliced += 1;
        let syn = Syn::of(segment);
        let splice = splice_with(&syn, client, backend, numbers);
        self.put(now, id, splice, Some((relay as u16, server as u16)), syn);
        self.list_opening(now, id);
        Fate::Taken
    }

    fn put(
        &mut self,
        now: Instant,
        id: SpliceId,
        splice: Splice,
        at: Option<(u16, u16)>,
        syn: Syn,
    ) {
        let opened_by = Some(syn.seq);
        let phase = Phase::Opening(Box::new(syn));
        let entry = Entry { opened_by, ..Entry::new(now, id, splice, phase, at) };
        let inserted = self.table.insert(Box::new(entry));
        assert!(inserted.is_ok(), "a vacant slot takes a splice of free legs");
        self.count(&splice.client, at, None, Some(Stage::HalfOpen));
        self.events.push_back(Event::Spliced(id));
    }

    /// The splice `id` is known to whoever has to know: its SYN may leave.
    pub fn commit(&mut self, now: Instant, id: SpliceId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        entry.committed = true;
        self.send_syn(now, id);
    }

    pub(super) fn send_syn(&mut self, now: Instant, id: SpliceId) {
        if self.headers.len() >= self.limits.opening_max.max(HEADERS_MIN) {
            // Nobody takes them. Its client will repeat it.
            return;
        }
        let Some(entry) = self.table.get_mut(id) else { return };
        let Phase::Opening(syn) = &mut entry.phase else { return };
        syn.sent = Some(now);
        let Splice { backend, seq, ts, .. } = entry.splice;
        let most = mss_for(self.limits.mtu, &backend.local);
        let mut options = syn.options.clone();
        options.mss = options.mss.map(|mss| mss.min(most));
        if let Some(timestamps) = &mut options.timestamps {
            timestamps.val = timestamps.val.wrapping_add(ts);
            timestamps.ecr = 0;
        }
        let header =
            TcpHeader { window: syn.window, options, ..bare(backend, syn.seq.add(seq), syn.flags) };
        self.headers.push_back(header);
    }

    /// The client speaks before its backend has answered.
    pub(super) fn on_opening_client(
        &mut self,
        now: Instant,
        id: SpliceId,
        segment: &Segment<'_>,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) -> Fate {
        let Some(entry) = self.table.get_mut(id) else { return Fate::Taken };
        let (client, committed) = (entry.splice.client, entry.committed);
        let rewrite = entry.splice.rewrite(Side::Client, 0);
        let Phase::Opening(syn) = &mut entry.phase else { return Fate::Taken };
        if segment.flags.contains(Flags::RST) {
            if segment.seq == syn.seq || segment.seq == syn.seq.add(1) {
                self.end(id);
            }
            // If not of this connection, it answers what a backend remembers of an old one.
            return if committed { pass(rewrite) } else { Fate::Taken };
        }
        if !is_syn(segment) {
            return Fate::Taken;
        }
        if segment.seq != syn.seq {
            self.end(id);
            return self.on_segment(now, client, segment, numbers);
        }
        let (sent, asked) = (syn.sent, syn.asked);
        **syn = Syn { sent, asked, ..Syn::of(segment) };
        entry.heard = now;
        let unanswered = sent.is_some_and(|sent| now.since(sent) >= PATIENCE);
        if committed && !(unanswered && self.move_on(now, id, numbers)) {
            self.send_syn(now, id);
        }
        Fate::Taken
    }

    /// The backend's first word.
    pub(super) fn on_opening_backend(
        &mut self,
        now: Instant,
        id: SpliceId,
        segment: &Segment<'_>,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) -> Fate {
        let Some(entry) = self.table.get_mut(id) else { return Fate::Taken };
        let Phase::Opening(syn) = &entry.phase else { return Fate::Taken };
        if syn.sent.is_none() {
            // Of whoever had this port before.
            return Fate::Taken;
        }
        let flags = segment.flags;
        let ours =
            flags.contains(Flags::ACK) && segment.ack == syn.seq.add(entry.splice.seq).add(1);
        let mss_max = mss_for(self.limits.mtu, &entry.splice.backend.local);
        let forward = pass(entry.splice.rewrite(Side::Backend, mss_max));
        if flags.contains(Flags::RST) {
            return match ours {
                true if !self.on_refused(now, id, numbers) => {
                    self.end(id);
                    forward
                }
                _ => Fate::Taken,
            };
        }
        if ours && flags.contains(Flags::SYN) {
            entry.answered(now, segment);
            let at = entry.at;
            self.on_served(at);
        }
        // A word of an old connection is answered by the client, with a reset.
        forward
    }

    /// A backend has answered a client's SYN.
    pub(super) fn on_served(&mut self, at: Option<(u16, u16)>) {
        let Some((relay, _)) = at else { return };
        let Some(server) = self.server(at) else { return };
        let (address, news) = (server.address, server.on_served().then_some(News::Confirmed));
        let port = self.relays[usize::from(relay)].settings.port;
        self.tell(port, address, news);
    }

    /// A backend does not want the splice `id`. Whether another one is asked.
    fn on_refused(
        &mut self,
        now: Instant,
        id: SpliceId,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) -> bool {
        let at = self.table.get(id).and_then(|entry| entry.at);
        self.note_refusal(now, at);
        self.move_on(now, id, numbers)
    }

    /// A backend has refused a SYN.
    pub(super) fn note_refusal(&mut self, now: Instant, at: Option<(u16, u16)>) {
        if let Some((relay, server)) = at
            && let Some(relay) = self.relays.get_mut(usize::from(relay))
            && let Some(server) = relay.servers.get_mut(usize::from(server))
        {
            let news = server.on_refused(now, &relay.settings.check);
            let (port, address) = (relay.settings.port, server.address);
            self.tell(port, address, news);
        }
    }

    /// Asks another backend, unless all have been asked. The splice keeps its name.
    fn move_on(
        &mut self,
        now: Instant,
        id: SpliceId,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) -> bool {
        let Some(entry) = self.table.get(id) else { return false };
        let Phase::Opening(syn) = &entry.phase else { return false };
        let Some((relay, last)) = entry.at else { return false };
        let client = entry.splice.client;
        let syn = Syn { sent: None, asked: syn.asked.saturating_add(1), ..(**syn).clone() };
        let relay = usize::from(relay);
        if usize::from(syn.asked) >= self.relays[relay].settings.backends.len() {
            return false;
        }
        let Some(server) = self.choose(relay, client.is_ipv6(), Some(usize::from(last))) else {
            return false;
        };
        let Some(backend) = self.free_leg(now, relay, server, client.local.ip()) else {
            return false;
        };
        let Some(entry) = self.table.remove(id) else { return false };
        self.count(&client, entry.at, Some(Stage::HalfOpen), None);
        self.counts.moved += 1;
        let splice = splice_with(&syn, client, backend, numbers);
        self.put(now, id, splice, Some((relay as u16, server as u16)), syn);
        true
    }

    /// The backend with the least to do for its weight; one of which nothing is known only now and then,
    /// as long as there are others.
    pub(super) fn choose(&mut self, relay: usize, ipv6: bool, but: Option<usize>) -> Option<usize> {
        let relay = &mut self.relays[relay];
        let best = relay.freest(ipv6, but, true).or_else(|| relay.freest(ipv6, but, false));
        if let Some(best) = best {
            relay.turn = best + 1;
            relay.servers[best].begin_try();
        }
        best
    }

    /// A leg to a backend that nobody uses, or nobody needs any more.
    pub(super) fn free_leg(
        &mut self,
        now: Instant,
        relay: usize,
        server: usize,
        ours: IpAddr,
    ) -> Option<FourTuple> {
        let mut half_open = None;
        for _ in 0..PORT_TRIES {
            let server = &mut self.relays[relay].servers[server];
            let local = Endpoint::new(ours, server.next_port());
            let leg = FourTuple { local, remote: server.address };
            if self.serves(local.port()) {
                // It could be a client's leg: whose, is in the hands of whoever sends a SYN.
                continue;
            }
            match self.table.find(&leg) {
                None if self.is_probe(&leg) || self.has_dialled(&leg) => {}
                None => return Some(leg),
                Some((id, _)) => {
                    let entry = self.table.get_mut(id)?;
                    if entry.is_over() && entry.heard + SWEEP <= now {
                        self.end(id);
                        return Some(leg);
                    }
                    if entry.is_half_open() && entry.heard + HANDSHAKE_MAX <= now {
                        half_open = half_open.or(Some((id, leg)));
                    }
                }
            }
        }
        // Ports come in turn: that is about the oldest one, and a flood has used up all of them.
        let (id, leg) = half_open?;
        self.end(id);
        Some(leg)
    }

    pub(super) fn list_opening(&mut self, now: Instant, id: SpliceId) {
        let Self { opening, table, half_open, .. } = self;
        let is_opening = |id| table.get(id).is_some_and(Entry::is_half_open);
        opening.push((now, id), *half_open, |(_, id)| is_opening(*id));
    }

    /// Makes room: ends the splice that is half-open for longest, if that is longer than a handshake
    /// takes. Whether there was one.
    fn end_late_opening(&mut self, now: Instant) -> bool {
        for _ in 0..SHARE {
            let Some(&(since, id)) = self.opening.front() else { return false };
            if since.max(self.armed_at) + HANDSHAKE_MAX > now {
                return false;
            }
            self.opening.pop_front();
            if self.table.get(id).is_some_and(Entry::is_half_open) {
                self.end(id);
                return true;
            }
        }
        false
    }

    /// Ends splices whose ends have not found each other while their client was waiting, a turn's share
    /// of them. Whether that is all.
    pub(super) fn end_opening(&mut self, now: Instant) -> bool {
        for _ in 0..SHARE {
            let Some(&(since, id)) = self.opening.front() else { return true };
            if since.max(self.armed_at) + OPENING_MAX > now {
                return true;
            }
            self.opening.pop_front();
            let entry = self.table.get_mut(id).filter(|entry| entry.is_half_open());
            match entry.map(|entry| entry.heard) {
                Some(heard) if heard + OPENING_MAX > now => self.list_opening(heard, id),
                Some(_) => self.end(id),
                None => {}
            }
        }
        false
    }
}

impl Relay {
    /// The backend with the least to do for its weight, of those that are known to serve or may be tried
    /// if `hopeful`.
    fn freest(&self, ipv6: bool, but: Option<usize>, hopeful: bool) -> Option<usize> {
        let count = self.servers.len();
        let mut best: Option<usize> = None;
        for at in (0..count).map(|step| (self.turn + step) % count) {
            let server = &self.servers[at];
            if Some(at) != but
                && server.is_open_to(ipv6)
                && (!hopeful || server.is_hopeful())
                && best.is_none_or(|best| server.is_freer_than(&self.servers[best]))
            {
                best = Some(at);
            }
        }
        best
    }
}

/// A packet of a handshake goes on.
const fn pass(rewrite: Rewrite) -> Fate {
    Fate::Forward { rewrite, mtu: None }
}

fn splice_with(
    syn: &Syn,
    client: FourTuple,
    backend: FourTuple,
    numbers: &dyn Fn(&FourTuple) -> Numbers,
) -> Splice {
    let Numbers { iss, ts } = numbers(&backend);
    let shift = |timestamps: Timestamps| ts.wrapping_sub(timestamps.val);
    let ts = syn.options.timestamps.map_or(0, shift);
    Splice { client, backend, seq: iss.since(syn.seq), ts }
}
