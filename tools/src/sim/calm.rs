//! A world in which nothing happens: what others are made of.

use super::plan::{
    BackendPlan, ClockPlan, LinkPlan, MachinePlan, PairPlan, Plan, RelaysPlan, Stack, Weather,
};

impl Plan {
    /// A pair on fair networks with one machine for clients, and none of them.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            seed: 1,
            pair: PairPlan::calm(),
            lan: Weather { delay_us: 100, ..Weather::FAIR },
            link: LinkPlan::CALM,
            machines: vec![MachinePlan::CALM],
            clients: Vec::new(),
            faults: Vec::new(),
            heal_us: 0,
            relays: None,
        }
    }
}

impl PairPlan {
    /// Room for everybody, and everything negotiated. Node `a` owns first.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            offload: true,
            vouched: true,
            mtu: 1500,
            connections_max: 100_000,
            backlog_bytes_max: 64 << 20,
            memory_max: 256 << 20,
            backlog: 1_000,
            output_buffer: 1 << 20,
            receive_buffer: 1 << 20,
            sack: true,
            timestamps: true,
            time_wait_us: 60_000_000,
            hashing: true,
            clocks: [ClockPlan::starting_at(1_000_000), ClockPlan::starting_at(5_000_000)],
            start_us: [0, 1_000],
            turn_us: 5,
            lost_peer_stops: false,
            request_timeout_us: 0,
            arbiter: None,
            #[cfg(feature = "defects")]
            defect: None,
        }
    }
}

impl ClockPlan {
    const fn starting_at(origin_us: u64) -> Self {
        Self { origin_us, ppm: 0, wall: 1_700_000_000 }
    }
}

impl LinkPlan {
    /// Quick, and whole.
    pub const CALM: Self = Self {
        delay_us: 50,
        jitter_us: 0,
        loss: 0,
        duplicate: 0,
        chunk: 64 << 10,
        capacity: 4 << 20,
        rate: 0,
    };
}

impl MachinePlan {
    /// It heeds every announcement.
    pub const CALM: Self = Self {
        ignores: 0,
        reachable_us: 30_000_000,
        doubt_us: 5_000_000,
        retry_us: 1_000_000,
        confirms: true,
        path_mtu: 0,
    };
}

impl RelaysPlan {
    /// Two servers of this project's TCP, looked at twice a second.
    #[must_use]
    pub const fn calm() -> Self {
        let backend = BackendPlan {
            stack: Stack::Own,
            machine: MachinePlan::CALM,
            weight: 1,
            receive_buffer: 64 << 10,
            reads: 0,
            offload: true,
            modern: true,
        };
        Self {
            backends: [backend; 2],
            check_us: 500_000,
            timeout_us: 200_000,
            rise: 2,
            fall: 2,
            join: false,
            mirror: None,
            http: None,
        }
    }
}
