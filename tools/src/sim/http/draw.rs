//! Which worlds have servers that speak HTTP, what is asked of them, and what befalls them.

use super::plan::{Again, Ask, Framing, HttpPlan, Method, Stage};
use crate::sim::draw::{CALM_US, backend_trouble, client, one, rarely, relays};
use crate::sim::plan::{ClientPlan, Fault, Job, Plan, Trouble};
use fastrand::Rng;

impl Plan {
    /// Of the worlds without backends a third gets some that speak HTTP, and clients for them. Drawn
    /// apart, so that the other worlds are what they were.
    pub(in crate::sim) fn speak_http(&mut self, rng: &mut Rng, lasts: u64) {
        if self.relays.is_some() || !rarely(rng, 3) {
            return;
        }
        let mut relays = relays(rng);
        relays.http = Some(http(rng));
        for backend in &mut relays.backends {
            backend.weight = backend.weight.max(1);
        }
        if relays.check_us == 0 {
            // Who is gone without a word is found out by its checks, or not before a wait is over.
            relays.check_us = 500_000;
        }
        self.relays = Some(relays);
        // One who is let in and finds no room for a second connection would have an excuse.
        self.pair.connections_max = self.pair.connections_max.max(1000);
        self.pair.memory_max = self.pair.memory_max.max(64 << 20);
        let (machines, first) = (self.machines.len(), self.clients.len() as u16);
        for id in first..first + rng.u16(2..6) {
            let client = client(rng, id, machines, lasts);
            self.clients.push(ClientPlan { job: job(rng), relay: true, ..client });
        }
        for _ in 0..rng.usize(1..5) {
            let at_us = rng.u64(CALM_US - 300_000..lasts);
            let what = if rarely(rng, 4) { backend_trouble(rng) } else { fall(rng) };
            self.faults.push(Fault { at_us, what });
        }
        self.faults.sort_by_key(|fault| fault.at_us);
    }
}

fn http(rng: &mut Rng) -> HttpPlan {
    // Most servers are alike; or one is another, or becomes another when it dies.
    let editions = match rng.u32(..4) {
        0 => [[0, 0], [1, 1]],
        1 => [[0, rng.u8(..2)], [0, rng.u8(..3)]],
        _ => [[0; 2]; 2],
    };
    HttpPlan {
        again: one(rng, &[Again::Safe, Again::Keyed, Again::Idempotent, Again::Never, Again::All]),
        retries: one(rng, &[3, 3, 1, 0]),
        request_max: one(rng, &[1 << 20, 1 << 20, 10_000]),
        reply_max: one(rng, &[8 << 20, 8 << 20, 20_000]),
        refuses: rng.bool(),
        // A client that has said all waits for no longer than a minute (FIN-WAIT-2).
        first_byte_us: one(rng, &[55_000_000, 55_000_000, 1_000_000]),
        idle_us: 55_000_000,
        chunk: [0; 2].map(|_| one(rng, &[1, 7, 100, 1000, 1460, 5000, 16_384])),
        editions,
    }
}

fn job(rng: &mut Rng) -> Job {
    let count = 1 + rng.usize(..5);
    let mut asks: Vec<Ask> = (0..count).map(|_| ask(rng)).collect();
    if rarely(rng, 4)
        && let Some(last) = asks.last_mut()
        && last.method != Method::Head
    {
        last.framing = Framing::Close;
    }
    Job::Http { asks, pipelined: rng.bool(), half_close: rarely(rng, 3), journal: rng.bool() }
}

fn ask(rng: &mut Rng) -> Ask {
    let bytes = |rng: &mut Rng| match rng.u32(..6) {
        0 => rng.u64(..4),
        1 | 2 => rng.u64(..5000),
        3 | 4 => rng.u64(5000..60_000),
        _ => rng.u64(60_000..200_000),
    };
    let method = match rng.u32(..8) {
        0..=3 => Method::Get,
        4 => Method::Head,
        5 => Method::Put,
        _ => Method::Post,
    };
    let sends = match method {
        Method::Get | Method::Head => 0,
        Method::Put | Method::Post => bytes(rng).min(50_000),
    };
    let chunks = method != Method::Head && rng.bool();
    Ask {
        method,
        sends,
        chunked: rarely(rng, 3),
        keyed: rng.bool(),
        framing: if chunks { Framing::Chunks } else { Framing::Length },
        length: bytes(rng),
        tagged: rng.bool(),
    }
}

/// A server dies in the middle of its work.
fn fall(rng: &mut Rng) -> Trouble {
    let stage = match rng.u32(..9) {
        0 => Stage::InRequest,
        1 => Stage::BeforeHead,
        2 => Stage::InHead,
        3 => Stage::InSize,
        4 => Stage::InLast,
        5 => Stage::After,
        _ => Stage::InBody(rng.u16(..1000)),
    };
    Trouble::BackendFalls {
        backend: rng.usize(..2),
        stage,
        requests: rng.u32(..4),
        orderly: rng.bool(),
        restart_us: one(rng, &[0, 1000, 100_000, 400_000]),
    }
}
