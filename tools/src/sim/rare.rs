//! What a share of the worlds has, and the others have not: each drawn apart, so that the rest of a
//! world is what it is without.

use super::dice::{Place, dice};
use super::draw::{CALM_US, one, rarely};
use super::plan::{ClientPlan, Fault, Job, Plan, Slip, Stack, Target, Trouble, Way, Wire};
use fastrand::Rng;

impl Plan {
    /// All of it.
    pub(super) fn draw_what_is_rare(&mut self, seed: u64, lasts: u64) {
        self.operate(&mut dice(seed, Place::OperatorPlan), lasts);
        self.narrow_hosts(&mut dice(seed, Place::MtuPlan), lasts);
        self.entangle(&mut dice(seed, Place::TanglePlan), lasts);
        self.starve(&mut dice(seed, Place::MemoryPlan), lasts);
        self.press(&mut dice(seed, Place::PressPlan), lasts);
        self.faults.sort_by_key(|fault| fault.at_us);
    }

    fn strike(&mut self, at_us: u64, what: Trouble) {
        self.faults.push(Fault { at_us, what });
    }

    /// Operators: where a lost peer stops its primary, they start that one alone in the end, and
    /// together with the other later. And they make mistakes.
    fn operate(&mut self, rng: &mut Rng, lasts: u64) {
        self.pair.lost_peer_stops = rarely(rng, 5);
        let at_us = rng.u64(CALM_US - 200_000..lasts);
        if self.pair.lost_peer_stops && rng.bool() {
            let gone = Trouble::Poweroff { node: Target::Standby, outputs: 0, restart_us: 0 };
            self.strike(at_us, gone);
            let (slip, for_us) = (Slip::Alone, rng.u64(500_000..3_000_000));
            let later = at_us + rng.u64(200_000..800_000);
            self.strike(later, Trouble::Slip { node: Target::Primary, slip, for_us });
        } else if rarely(rng, 6) {
            let nodes = [Target::A, Target::B, Target::Primary, Target::Standby];
            let (node, slip) = (one(rng, &nodes), one(rng, &[Slip::Alone, Slip::Services]));
            // From its first start on, or later.
            let at_us = if rng.bool() { 0 } else { at_us };
            let for_us = rng.u64(200_000..2_500_000);
            self.strike(at_us, Trouble::Slip { node, slip, for_us });
        }
    }

    /// The LAN interfaces of the two hosts do not carry the same.
    fn narrow_hosts(&mut self, rng: &mut Rng, lasts: u64) {
        if !rarely(rng, 8) {
            return;
        }
        for _ in 0..rng.usize(1..3) {
            let node = one(rng, &[Target::A, Target::B, Target::Primary, Target::Standby]);
            let at_us = if rarely(rng, 4) { 0 } else { rng.u64(CALM_US - 200_000..lasts) };
            let mtu = one(rng, &[1280, 1300, 1400, 1492]);
            let for_us = rng.u64(20_000..2_500_000);
            self.strike(at_us, Trouble::LanMtu { node, mtu, for_us });
        }
    }

    /// Two things at one moment, the one in the middle of the other.
    fn entangle(&mut self, rng: &mut Rng, lasts: u64) {
        if !rarely(rng, 5) {
            return;
        }
        let at_us = rng.u64(CALM_US..lasts);
        let restart_us = one(rng, &[0, 1000, 100_000, 400_000]);
        let node = one(rng, &[Target::Primary, Target::Standby]);
        let outputs = rng.u32(..25);
        let flushed = one(rng, &[0, 500_000, 1_000_000]);
        let crash = Trouble::Crash { node, outputs, flushed, restart_us };
        match rng.u32(..4) {
            0 => {
                // Dead while nothing gets through to the other, or in the moment in which it does again.
                let for_us = rng.u64(10_000..400_000);
                let way = one(rng, &[Way::Out, Way::In, Way::Both]);
                let wire = one(rng, &[Wire::Replication, Wire::Replication, Wire::Both]);
                let cut = Trouble::Cut { node, wire, way, carrier: false, for_us };
                self.strike(at_us, cut);
                let within = if rng.bool() { rng.u64(..for_us) } else { for_us + rng.u64(..3000) };
                self.strike(at_us + within, crash);
            }
            1 => {
                for node in [Target::A, Target::B] {
                    let (outputs, host) = (rng.u32(..10), rng.bool());
                    let for_us = rng.u64(1000..300_000);
                    self.strike(at_us, Trouble::Freeze { node, outputs, for_us, host });
                }
            }
            2 => {
                self.strike(at_us, Trouble::Switchover);
                self.strike(at_us, crash);
            }
            _ => {
                self.strike(at_us, Trouble::Switchover);
                let for_us = rng.u64(1000..200_000);
                self.strike(at_us, Trouble::Freeze { node, outputs, for_us, host: rng.bool() });
            }
        }
    }

    /// Little memory, and clients that make an engine keep much.
    fn starve(&mut self, rng: &mut Rng, lasts: u64) {
        if !rarely(rng, 8) {
            return;
        }
        self.pair.memory_max = one(rng, &[32 << 10, 96 << 10, 300 << 10, 1 << 20]);
        for _ in 0..rng.usize(1..4) {
            let bytes = rng.u64(100_000..500_000);
            let client = self.another(rng, lasts, Job::Echo { bytes, early: true });
            self.clients.push(ClientPlan { reads: one(rng, &[5, 20, 200]), ..client });
        }
    }

    /// Clients that ask for very much at once, and clients that never come to an end.
    fn press(&mut self, rng: &mut Rng, lasts: u64) {
        if rarely(rng, 12) {
            let requests = rng.u32(200..2500);
            let client = self.another(rng, lasts, Job::Burst { requests });
            self.clients.push(ClientPlan { reads: 0, receive_buffer: 1 << 20, ..client });
            if rng.bool() {
                // Nothing but its budget keeps an engine from answering all of it.
                (self.pair.receive_buffer, self.pair.output_buffer) = (1 << 20, 1 << 20);
            }
        }
        // A burst may be cut in the middle of a head, whose rest is lost: then its time may be up.
        let bursts = |client: &ClientPlan| matches!(client.job, Job::Burst { .. });
        if !rarely(rng, 8) || self.clients.iter().any(bursts) {
            return;
        }
        self.pair.request_timeout_us = rng.u64(300_000..1_500_000);
        for _ in 0..rng.usize(1..3) {
            let job = Job::Dawdle { pause_us: one(rng, &[1000, 20_000, 100_000]) };
            let client = self.another(rng, lasts, job);
            self.clients.push(client);
        }
    }

    fn another(&self, rng: &mut Rng, lasts: u64, job: Job) -> ClientPlan {
        let id = self.clients.iter().map(|client| client.id + 1).max().unwrap_or(0);
        ClientPlan {
            id,
            at_us: CALM_US - 200_000 + rng.u64(..lasts - CALM_US),
            stack: if rarely(rng, 3) { Stack::Foreign } else { Stack::Own },
            machine: rng.usize(..self.machines.len()),
            ipv6: rng.bool(),
            job,
            receive_buffer: one(rng, &[64 << 10, 8 << 10]),
            reads: 0,
            offload: rng.bool(),
            modern: !rarely(rng, 5),
            relay: false,
        }
    }
}
