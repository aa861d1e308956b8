//! Backends as data.

use serde::{Deserialize, Serialize};

use crate::sim::http::HttpPlan;
use crate::sim::plan::{MachinePlan, Stack};

/// Two backends, and how the pair watches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaysPlan {
    /// The servers.
    pub backends: [BackendPlan; 2],
    /// From one health check to the next; 0 is no checks.
    pub check_us: u64,
    /// How long an answer may take.
    pub timeout_us: u64,
    /// Checks in a row that bring a backend up.
    pub rise: u8,
    /// Checks in a row that take it down.
    pub fall: u8,
    /// Whether clients and backends have a connection of their own each. Then nothing befalls the backends:
    /// no client has an excuse.
    #[serde(default)]
    pub join: bool,
    /// Both get what each client says. Then one of them may die, and no client has an excuse.
    #[serde(default)]
    pub mirror: Option<MirrorPlan>,
    /// They speak HTTP, and whoever dies of them is masked. Nothing else is served by them then.
    #[serde(default)]
    pub http: Option<HttpPlan>,
}

/// Two backends on the same input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorPlan {
    /// How long one may be silent where the other one is not.
    pub lag_us: u64,
    /// From which byte of each connection on the second one says something else.
    pub differs_at: Option<u64>,
    /// Whether the connections of one that dies end as if all had been said.
    pub orderly: bool,
}

impl RelaysPlan {
    /// Whether the pair has connections of its own to them.
    pub(in crate::sim) const fn dials(&self) -> bool {
        self.join || self.http.is_some()
    }
}

/// One server behind the pair: unmodified, and no friend of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendPlan {
    /// Whose TCP.
    pub stack: Stack,
    /// Its host: neighbour cache and path.
    pub machine: MachinePlan,
    /// Its share of the splices.
    pub weight: u8,
    /// Bytes of receive buffer.
    pub receive_buffer: u32,
    /// Bytes per millisecond that its application reads; 0 is at once.
    pub reads: u64,
    /// Own TCP: whether it sends super-segments.
    pub offload: bool,
    /// Own TCP: whether it accepts selective acknowledgments and timestamps.
    pub modern: bool,
}
