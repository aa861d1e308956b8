//! A run as data: everything that will be done to a world, before anything is.
//!
//! A [`Plan`] is drawn from a seed ([`Plan::draw`]), written to a file and read back, and cut down
//! by the shrinker. What is not in it, the fate of each packet say, follows from [`Plan::seed`]
//! by a generator of its own for each place, so that taking a client or a fault out of the plan
//! leaves the dice of all others alone.
//!
//! Times are microseconds of the world's true clock, from its beginning.

use serde::{Deserialize, Serialize};

pub use super::backend::{BackendPlan, MirrorPlan, RelaysPlan};
pub use super::fault::{Fault, Slip, Target, Trouble, Way, Wire};
pub use super::http::{Again, Ask, Framing, HttpPlan, Method, Stage};

/// Everything about one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What all dice of the run follow from.
    pub seed: u64,
    /// The two engines and their hosts.
    pub pair: PairPlan,
    /// The LAN between clients and hosts.
    pub lan: Weather,
    /// The replication network.
    pub link: LinkPlan,
    /// The clients' hosts, each with a neighbour cache.
    pub machines: Vec<MachinePlan>,
    /// Which clients connect, when, and for what.
    pub clients: Vec<ClientPlan>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// When everything is healed and the run has to come to a good end.
    pub heal_us: u64,
    /// Backends, and relays to them, if there are any.
    #[serde(default)]
    pub relays: Option<RelaysPlan>,
}

/// How both engines are configured, and their hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairPlan {
    /// Whether the TUN devices take super-segments and partial checksums.
    pub offload: bool,
    /// Whether the hosts vouch for checksums of intact packets (as a NIC does).
    pub vouched: bool,
    /// The LAN's MTU.
    pub mtu: u16,
    /// Connections that an engine takes.
    pub connections_max: usize,
    /// Unconfirmed bytes of log beyond which input is dropped.
    pub backlog_bytes_max: usize,
    /// Bytes that clients may make an engine keep.
    pub memory_max: u64,
    /// Half-open connections beyond which cookies answer.
    pub backlog: usize,
    /// A service's output buffer.
    pub output_buffer: u32,
    /// TCP's receive buffer.
    pub receive_buffer: u32,
    /// Whether engines negotiate selective acknowledgments.
    pub sack: bool,
    /// Whether engines negotiate timestamps.
    pub timestamps: bool,
    /// TIME-WAIT.
    pub time_wait_us: u64,
    /// Whether content stores know hashes at once, or a little later.
    pub hashing: bool,
    /// The hosts' clocks.
    pub clocks: [ClockPlan; 2],
    /// When each engine is started first.
    pub start_us: [u64; 2],
    /// How long a turn of a loop may take to begin.
    pub turn_us: u64,
    /// Whether a primary whose peer is lost stays silent, and does not go on alone.
    #[serde(default)]
    pub lost_peer_stops: bool,
    /// How long `files` waits for the end of a request's head; 0 is for ever.
    #[serde(default)]
    pub request_timeout_us: u64,
    /// The third party, if there is one.
    #[serde(default)]
    pub arbiter: Option<ArbiterPlan>,
    /// The mistake that both engines make.
    #[cfg(feature = "defects")]
    #[serde(skip)]
    pub defect: Option<standin::defects::Defect>,
}

/// The arbiter and the ways to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArbiterPlan {
    /// What does without an answer: nobody owns, or else the truth table decides.
    pub stop: bool,
    /// How long a grant holds.
    pub lease_us: u64,
    /// How long an answer may take.
    pub timeout_us: u64,
    /// Each way at least.
    pub delay_us: u64,
    /// And at most this more.
    pub jitter_us: u64,
    /// Words lost each way, per million.
    pub loss: u32,
}

/// One host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPlan {
    /// What it shows when the world begins.
    pub origin_us: u64,
    /// How much it gains, in parts per million.
    pub ppm: i64,
    /// Seconds since 1970 on the wall clock when the world begins.
    pub wall: u64,
}

/// What a network does to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weather {
    /// The least one-way delay.
    pub delay_us: u64,
    /// What may come on top of it, each packet for itself: packets overtake one another.
    pub jitter_us: u64,
    /// Packets lost, per million.
    pub loss: u32,
    /// Packets that arrive twice, per million.
    pub duplicate: u32,
    /// Packets that arrive with a bit turned over, per million.
    pub corrupt: u32,
    /// Packets that arrive up to 5 ms late, per million.
    pub reorder: u32,
    /// Bytes per millisecond that one machine's line carries each way; 0 is no limit. What finds
    /// more than 50 ms of others before it is lost.
    pub rate: u64,
}

impl Plan {
    /// Whether a plan that somebody wrote can be run.
    ///
    /// # Errors
    /// Says what is out of range.
    pub fn check(&self) -> Result<(), String> {
        let Self { pair, machines, clients, link, heal_us, faults, relays, .. } = self;
        let backends = relays.iter().flat_map(|relays| &relays.backends);
        let paths = machines.iter().chain(backends.map(|backend| &backend.machine));
        let hour = 3_600_000_000;
        let mut ids: Vec<u16> = clients.iter().map(|client| client.id).collect();
        ids.sort_unstable();
        let far = |at: u64| at > hour;
        match () {
            () if !(1280..=9000).contains(&pair.mtu) => Err("mtu is not in 1280..=9000".into()),
            () if machines.is_empty() || machines.len() > 200 => {
                Err("machines: one at least, 200 at most".into())
            }
            () if relays.is_some() && machines.len() > 10 => {
                Err("machines: 10 at most where there are backends".into())
            }
            () if relays.is_none() && clients.iter().any(|client| client.relay) => {
                Err("clients: relay, and there are no backends".into())
            }
            () if clients.iter().any(|client| {
                let http = relays.as_ref().is_some_and(|relays| relays.http.is_some());
                let asks = matches!(client.job, Job::Http { .. });
                client.relay && asks != http || asks && !client.relay
            }) =>
            {
                Err("clients: they ask HTTP of relays that mask it, and nothing else of them"
                    .into())
            }
            () if paths.clone().any(|machine| (1..1280).contains(&machine.path_mtu)) => {
                Err("path_mtu is 0, or 1280 at least".into())
            }
            () if ids.windows(2).any(|two| two[0] == two[1]) || ids.last() > Some(&20_000) => {
                Err("clients: ids are different, and 20000 at most".into())
            }
            () if link.chunk == 0 || link.capacity == 0 => {
                Err("link: chunk and capacity are 1 at least".into())
            }
            () if far(*heal_us)
                || pair.start_us.iter().any(|at| far(*at))
                || clients.iter().any(|client| far(client.at_us))
                || faults.iter().any(|fault| far(fault.at_us)) =>
            {
                Err("nothing happens later than an hour after the beginning".into())
            }
            () => Ok(()),
        }
    }
}

impl Weather {
    /// Nothing happens to anybody.
    pub const FAIR: Self =
        Self { delay_us: 50, jitter_us: 0, loss: 0, duplicate: 0, corrupt: 0, reorder: 0, rate: 0 };
}

/// The replication network: a stream and datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// The least one-way delay.
    pub delay_us: u64,
    /// What may come on top of it.
    pub jitter_us: u64,
    /// Heartbeats lost, per million.
    pub loss: u32,
    /// Heartbeats that arrive twice, per million.
    pub duplicate: u32,
    /// The stream is cut into pieces of at most so many bytes.
    pub chunk: usize,
    /// Bytes that the sockets of one direction hold.
    pub capacity: usize,
    /// Bytes per millisecond that the stream carries; 0 is no limit.
    pub rate: u64,
}

/// One host of clients: how its neighbour cache behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachinePlan {
    /// Announcements it does not heed, per million.
    pub ignores: u32,
    /// How long an entry is trusted after it was confirmed.
    pub reachable_us: u64,
    /// How long it goes on using a doubtful entry before it asks.
    pub doubt_us: u64,
    /// Between two questions.
    pub retry_us: u64,
    /// Whether packets from the address confirm an entry, as TCP's progress does in Linux.
    pub confirms: bool,
    /// The MTU of the narrowest link on the way to it; 0 is none narrower than the LAN. What it
    /// sends is cut into fragments for it, what is sent to it is dropped by a router that says so.
    pub path_mtu: u16,
}

/// Whose TCP a client runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stack {
    /// Standin's own, as active opener.
    Own,
    /// `smoltcp`.
    Foreign,
}

/// One connection of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientPlan {
    /// Its number: what it says follows from it, and stays when others are taken out of the plan.
    pub id: u16,
    /// When it connects.
    pub at_us: u64,
    /// Whose TCP.
    pub stack: Stack,
    /// On which machine.
    pub machine: usize,
    /// Over IPv6.
    pub ipv6: bool,
    /// What it does.
    pub job: Job,
    /// Bytes of receive buffer.
    pub receive_buffer: u32,
    /// Bytes per millisecond that its application reads; 0 is at once.
    pub reads: u64,
    /// Own TCP: whether it sends super-segments.
    pub offload: bool,
    /// Own TCP: whether it offers selective acknowledgments and timestamps.
    pub modern: bool,
    /// Whether a backend serves it, and not the pair. There are none that serve files.
    #[serde(default)]
    pub relay: bool,
}

/// What a client does with its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// Sends bytes to echo and expects them back.
    Echo {
        /// How many.
        bytes: u64,
        /// Closes its side as soon as all is sent, and not when all is back.
        early: bool,
    },
    /// Sends bytes to discard.
    Upload {
        /// How many.
        bytes: u64,
    },
    /// Receives from chargen, then resets.
    Chargen {
        /// How many bytes.
        bytes: u64,
    },
    /// Fetches files on one connection.
    Fetch {
        /// What, one after the other.
        requests: Vec<Request>,
        /// Asks for all at once.
        pipelined: bool,
        /// Closes its side as soon as it has asked.
        half_close: bool,
    },
    /// Says something to echo, hears it back, waits, says more.
    Talk {
        /// How often.
        messages: u32,
        /// Bytes of each.
        bytes: u64,
        /// The wait.
        pause_us: u64,
    },
    /// Asks for an empty file again and again, all at once.
    Burst {
        /// How often.
        requests: u32,
    },
    /// Begins a request and never ends it, a byte at a time: `files` has to end it.
    Dawdle {
        /// Between two bytes.
        pause_us: u64,
    },
    /// Asks servers that speak HTTP, through a relay that masks them.
    Http {
        /// What, one after the other.
        asks: Vec<Ask>,
        /// Asks for all at once.
        pipelined: bool,
        /// Closes its side as soon as it has asked.
        half_close: bool,
        /// Whether replies are gathered before they show.
        journal: bool,
    },
    /// Sends to echo and resets in mid-stream.
    Abort {
        /// After so many bytes are back.
        bytes: u64,
    },
}

/// One HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which of the files.
    pub file: u8,
    /// First and last byte, if not all of it.
    pub range: Option<(u64, u64)>,
}
