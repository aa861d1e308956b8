//! What goes wrong in a run, as data.
//!
//! Times are microseconds of the world's true clock.

use serde::{Deserialize, Serialize};

use super::http::Stage;
use super::plan::Weather;

/// Something that goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    pub at_us: u64,
    /// What.
    pub what: Trouble,
}

/// To which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Node `a`.
    A,
    /// Node `b`.
    B,
    /// The primary at that moment; `a` if nobody is.
    Primary,
    /// The other one.
    Standby,
}

/// A path between things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wire {
    /// A node's line into the LAN.
    Lan,
    /// The replication network.
    Replication,
    /// Both at once.
    Both,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// What the node sends.
    Out,
    /// What it receives.
    In,
    /// All.
    Both,
}

/// What may be wrong with a node's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slip {
    /// There is no other node in it. An operator does so on purpose where a lost peer stops the
    /// primary, and keeps the other node down meanwhile.
    Alone,
    /// Its services are others than its peer's.
    Services,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The engine's process dies; its host lives.
    Crash {
        /// Whose.
        node: Target,
        /// Right before so many outputs from now: an action, a write to the link, a packet.
        outputs: u32,
        /// How much of what the kernel had accepted for the link still arrives, per million.
        flushed: u32,
        /// It is started again after that; 0 is not before everything heals.
        restart_us: u64,
    },
    /// The whole host is gone at once.
    Poweroff {
        /// Whose.
        node: Target,
        /// Right before so many outputs from now.
        outputs: u32,
        /// It is up and started again after that; 0 is not before everything heals.
        restart_us: u64,
    },
    /// The process stands still.
    Freeze {
        /// Whose.
        node: Target,
        /// Right before so many outputs from now.
        outputs: u32,
        /// How long.
        for_us: u64,
        /// The host stands still with it, and hears nothing meanwhile.
        host: bool,
    },
    /// A path carries nothing.
    Cut {
        /// Whose end of it.
        node: Target,
        /// Which.
        wire: Wire,
        /// Which way.
        way: Way,
        /// Whether the host's interface shows it (LAN, both ways).
        carrier: bool,
        /// How long.
        for_us: u64,
    },
    /// A client machine's line carries nothing.
    CutMachine {
        /// Which.
        machine: usize,
        /// Which way.
        way: Way,
        /// How long.
        for_us: u64,
    },
    /// The replication stream is reset, wherever in a record it is.
    ResetLink,
    /// One direction of the stream carries nothing; heartbeats pass.
    StallLink {
        /// Whose output.
        node: Target,
        /// How long.
        for_us: u64,
    },
    /// The LAN becomes worse.
    Storm {
        /// What it is like.
        weather: Weather,
        /// How long.
        for_us: u64,
    },
    /// Heartbeats are lost on one path.
    BeatLoss {
        /// On which.
        wire: Wire,
        /// Per million.
        loss: u32,
        /// How long.
        for_us: u64,
    },
    /// The wall clock jumps.
    WallJump {
        /// Whose.
        node: Target,
        /// How far, in seconds.
        seconds: i64,
    },
    /// The disk keeps everybody waiting.
    BusyDisk {
        /// Whose.
        node: Target,
        /// How long.
        for_us: u64,
    },
    /// The host carries nothing for the service: no packet passes its TUN, either way. It finds out, and
    /// tells its engine.
    Unfit {
        /// Whose.
        node: Target,
        /// How long.
        for_us: u64,
    },
    /// The MTU of a host's LAN interface becomes smaller: nothing longer passes it.
    LanMtu {
        /// Whose.
        node: Target,
        /// How much it carries.
        mtu: u16,
        /// How long.
        for_us: u64,
    },
    /// An operator starts a node anew with a configuration that is wrong, and later with the right one.
    Slip {
        /// Which.
        node: Target,
        /// What is wrong.
        slip: Slip,
        /// How long.
        for_us: u64,
    },
    /// The nodes do not reach each other on either network. Everybody else reaches them.
    Estranged {
        /// How long.
        for_us: u64,
    },
    /// The arbiter is out of a node's reach, both ways.
    CutArbiter {
        /// Whose.
        node: Target,
        /// How long.
        for_us: u64,
    },
    /// The arbiter is out of everybody's reach. What it knows stays.
    Outage {
        /// How long.
        for_us: u64,
    },
    /// The process of a backend dies: its connections are reset, its ports refuse.
    BackendDies {
        /// Which: 0 or 1.
        backend: usize,
        /// It is started again after that; 0 is not before everything heals.
        restart_us: u64,
    },
    /// A backend's host is gone at once.
    BackendPoweroff {
        /// Which.
        backend: usize,
        /// It is up again after that, and knows nothing; 0 is not before everything heals.
        restart_us: u64,
    },
    /// The process of a backend that speaks HTTP dies at a moment of its work.
    BackendFalls {
        /// Which.
        backend: usize,
        /// At which.
        stage: Stage,
        /// Requests that it still answers before.
        requests: u32,
        /// Whether its connections end as if it had said all, where nobody could take it for that.
        orderly: bool,
        /// It is started again after that; 0 is not before everything heals.
        restart_us: u64,
    },
    /// A backend's line carries nothing.
    CutBackend {
        /// Which.
        backend: usize,
        /// Which way.
        way: Way,
        /// How long.
        for_us: u64,
    },
    /// A backend's application stands still; its TCP goes on.
    SlowBackend {
        /// Which.
        backend: usize,
        /// How long.
        for_us: u64,
    },
    /// Somebody plays recordings of heartbeats, of any run since the beginning, to the other node.
    Replay {
        /// Whose.
        node: Target,
        /// How many.
        count: u32,
        /// In how long.
        for_us: u64,
    },
    /// An operator asks for a switchover. No fault, and no excuse.
    Switchover,
}

impl Trouble {
    /// Whether it befalls a backend, or its line.
    pub(super) const fn befalls_backend(&self) -> bool {
        matches!(
            self,
            Self::BackendDies { .. }
                | Self::BackendPoweroff { .. }
                | Self::BackendFalls { .. }
                | Self::CutBackend { .. }
                | Self::SlowBackend { .. }
        )
    }

    /// Its name, for counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::Poweroff { .. } => "poweroff",
            Self::Freeze { host: false, .. } => "freeze process",
            Self::Freeze { host: true, .. } => "freeze host",
            Self::Cut { wire: Wire::Lan, way: Way::Both, carrier: true, .. } => "carrier lost",
            Self::Cut { wire: Wire::Lan, way: Way::Both, .. } => "cut lan",
            Self::Cut { wire: Wire::Lan, .. } => "cut lan one way",
            Self::Cut { wire: Wire::Replication, way: Way::Both, .. } => "cut replication",
            Self::Cut { wire: Wire::Replication, .. } => "cut replication one way",
            Self::Cut { wire: Wire::Both, .. } => "cut both",
            Self::CutMachine { .. } => "cut client",
            Self::ResetLink => "reset link",
            Self::StallLink { .. } => "stall link",
            Self::Storm { .. } => "storm",
            Self::BeatLoss { .. } => "beat loss",
            Self::WallJump { .. } => "wall jump",
            Self::BusyDisk { .. } => "busy disk",
            Self::Unfit { .. } => "host unfit",
            Self::LanMtu { .. } => "narrow host",
            Self::Slip { slip: Slip::Alone, .. } => "started alone",
            Self::Slip { slip: Slip::Services, .. } => "started with other services",
            Self::Estranged { .. } => "estranged",
            Self::CutArbiter { .. } => "cut arbiter",
            Self::Outage { .. } => "outage",
            Self::BackendDies { .. } => "backend died",
            Self::BackendPoweroff { .. } => "backend lost power",
            Self::BackendFalls { .. } => "backend to die in a request",
            Self::CutBackend { way: Way::Both, .. } => "cut backend",
            Self::CutBackend { .. } => "cut backend one way",
            Self::SlowBackend { .. } => "slow backend",
            Self::Replay { .. } => "replay",
            Self::Switchover => "switchover",
        }
    }

    /// How long it lasts, or until what it stopped goes on; 0 where it is over at once or never.
    #[must_use]
    pub const fn lasts_us(&self) -> u64 {
        match *self {
            Self::Crash { restart_us: us, .. }
            | Self::Poweroff { restart_us: us, .. }
            | Self::BackendDies { restart_us: us, .. }
            | Self::BackendPoweroff { restart_us: us, .. }
            | Self::BackendFalls { restart_us: us, .. }
            | Self::Freeze { for_us: us, .. }
            | Self::Cut { for_us: us, .. }
            | Self::CutMachine { for_us: us, .. }
            | Self::StallLink { for_us: us, .. }
            | Self::Storm { for_us: us, .. }
            | Self::BeatLoss { for_us: us, .. }
            | Self::BusyDisk { for_us: us, .. }
            | Self::Unfit { for_us: us, .. }
            | Self::LanMtu { for_us: us, .. }
            | Self::Slip { for_us: us, .. }
            | Self::Estranged { for_us: us }
            | Self::CutArbiter { for_us: us, .. }
            | Self::Outage { for_us: us }
            | Self::CutBackend { for_us: us, .. }
            | Self::SlowBackend { for_us: us, .. }
            | Self::Replay { for_us: us, .. } => us,
            Self::ResetLink | Self::WallJump { .. } | Self::Switchover => 0,
        }
    }

    /// Every name that [`Trouble::kind`] can give.
    pub const KINDS: [&'static str; 32] = [
        "crash",
        "poweroff",
        "freeze process",
        "freeze host",
        "carrier lost",
        "cut lan",
        "cut lan one way",
        "cut replication",
        "cut replication one way",
        "cut both",
        "cut client",
        "reset link",
        "stall link",
        "storm",
        "beat loss",
        "wall jump",
        "busy disk",
        "host unfit",
        "narrow host",
        "started alone",
        "started with other services",
        "estranged",
        "cut arbiter",
        "outage",
        "backend died",
        "backend lost power",
        "backend to die in a request",
        "cut backend",
        "cut backend one way",
        "slow backend",
        "replay",
        "switchover",
    ];
}
