//! The words in which roles speak with the engine: events, beats, actions, causes.

use core::fmt;

use super::ownership::arbiter::{ArbiterPolicy, ArbiterRecord, Ask};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

/// How fast a pair notices and decides. All of it follows from three configured times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Beats leave this far apart on each path; default 10 ms.
    pub heartbeat: Duration,
    /// Silence that means a failure; default 50 ms, at least three heartbeats.
    pub detection: Duration,
    /// How much earlier than `detection` a primary falls silent: what clock rates and the turn of
    /// a loop may differ by; default a tenth of `detection`.
    pub margin: Duration,
    /// Pause between two attempts to reach the peer's listener; default 100 ms.
    pub redial: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_millis(50))
    }
}

impl Timing {
    /// Timing for beats `heartbeat` apart and failures noticed after `detection`.
    #[must_use]
    pub const fn new(heartbeat: Duration, detection: Duration) -> Self {
        let margin = Duration::from_nanos(detection.as_nanos() as u64 / 10);
        Self { heartbeat, detection, margin, redial: Duration::from_millis(100) }
    }

    /// How long a node listens for an owner before it thinks that there is none.
    #[must_use]
    pub fn startup(&self) -> Duration {
        self.detection * 5
    }

    /// Silence after which a duplex primary may go on alone: its own gate has closed, a standby
    /// that lives has taken over by then and has been heard.
    #[must_use]
    pub fn alone(&self) -> Duration {
        self.detection * 3
    }

    /// How long a handed-over address may stay without an owner before it is asked back.
    #[must_use]
    pub fn handover(&self) -> Duration {
        self.detection * 4
    }

    /// A gap between two events that means "this process stood still".
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.detection / 2
    }
}

/// What a primary does whose standby is silent on both paths and not known to be dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LostPeer {
    /// Go on alone: availability first.
    #[default]
    Continue,
    /// Stay silent until the peer is heard again or proven dead: consistency first.
    Stop,
}

/// The configured choices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What to do about a peer that cannot be heard.
    pub lost_peer: LostPeer,
    /// Whether a peer is configured at all.
    pub paired: bool,
    /// The third party that grants epochs, if there is one.
    pub arbiter: Option<ArbiterPolicy>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { lost_peer: LostPeer::Continue, paired: true, arbiter: None }
    }
}

/// A way on which beats travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// The replication network.
    Replication,
    /// The LAN of the service address.
    Lan,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replication => "replication path",
            Self::Lan => "LAN path",
        })
    }
}

/// What a node says of itself in a beat or a Hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BeatRole {
    /// Looks for an owner; makes no claim.
    Joining,
    /// Would own the address and asks the peer's consent.
    Candidate,
    /// Follows the owner of the beat's epoch.
    Standby,
    /// Has heard the peer's question and will not take over. The answer counts only when its
    /// echo is later than the question.
    Renounced,
    /// Owns the address.
    Primary,
    /// Owns the address in duplex and asks its standby to renounce, so that it may go on alone.
    Parting,
    /// Has fallen silent in favour of the peer.
    Yielding,
}

impl BeatRole {
    /// The number on the wire, 0–6.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Joining => 0,
            Self::Candidate => 1,
            Self::Standby => 2,
            Self::Renounced => 3,
            Self::Primary => 4,
            Self::Parting => 5,
            Self::Yielding => 6,
        }
    }

    /// The role with this number; `None` for one that this version does not know.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Joining,
            1 => Self::Candidate,
            2 => Self::Standby,
            3 => Self::Renounced,
            4 => Self::Primary,
            5 => Self::Parting,
            6 => Self::Yielding,
            _ => return None,
        })
    }

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Candidate => "candidate",
            Self::Standby => "standby",
            Self::Renounced => "renounced",
            Self::Primary => "primary",
            Self::Parting => "parting",
            Self::Yielding => "silent",
        }
    }

    /// Whether the sender may be speaking for the address.
    #[must_use]
    pub const fn owns(self) -> bool {
        matches!(self, Self::Primary | Self::Parting)
    }
}

/// The latest of the peer's beats that the sender has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Echo {
    /// The boot whose beat it was: a clock value means nothing to another boot.
    pub boot: u64,
    /// That beat's [`Beat::sent`].
    pub sent: u64,
}

/// One beat. The same value is sent on both paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// The sender.
    pub node: Node,
    /// The sender's process: drawn anew at every start.
    pub boot: u64,
    /// Grows with every beat of a boot; tells a late beat from a new one.
    pub sequence: u64,
    /// The epoch owned, followed, or (joining) the highest known.
    pub epoch: Epoch,
    /// What the sender is.
    pub role: BeatRole,
    /// The sender's clock in nanoseconds when it made this beat.
    pub sent: u64,
    /// What it has heard; a primary's lease.
    pub echo: Echo,
    /// Primary: in duplex. Standby: armed, it would carry on every connection.
    pub synced: bool,
    /// The sender's LAN interface has carrier.
    pub lan_ok: bool,
    /// The sender's arbiter answers, or it has none.
    pub arbiter_ok: bool,
    /// Nothing on the sender's host would make it fail as an owner.
    pub fit: bool,
    /// The sender hears beats on the LAN.
    pub hears_lan: bool,
}

/// What happens to the replication link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// Hellos were exchanged; this is what the peer's said. The runtime drops any dial still under
    /// way, so that no refusal arrives that is older than the link.
    Up {
        /// The peer's process.
        boot: u64,
        /// Its epoch, as in a beat.
        epoch: Epoch,
        /// Its role, as in a beat.
        role: BeatRole,
    },
    /// The link ended: end of file, reset or error.
    Lost,
    /// A dial or knock was refused by the peer's kernel (and nothing less: no timeout, no filter).
    Refused,
    /// The peer is there and cannot be followed: version or configuration differs.
    Incompatible,
}

/// What came of [`Action::Probe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeResult {
    /// Nobody answers for the address.
    Clear,
    /// Somebody does.
    InUse,
}

/// What a node is, for status and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Looks for an owner.
    Joining,
    /// Follows; `synced` once it would carry on every connection.
    Standby {
        /// Armed: knows everything, and the primary has bound itself to the lease.
        synced: bool,
    },
    /// Owns the address.
    Primary {
        /// A standby holds everything.
        duplex: bool,
    },
    /// Has handed over and waits for the peer to own.
    Silent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "joining",
            Self::Standby { synced: false } => "standby (unsynchronised)",
            Self::Standby { synced: true } => "standby",
            Self::Primary { duplex: false } => "primary (simplex)",
            Self::Primary { duplex: true } => "primary (duplex)",
            Self::Silent => "silent",
        })
    }
}

/// Why a role changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// No peer is configured.
    Unpaired,
    /// Nobody owns the address and nobody else is there.
    NobodyThere,
    /// Nobody owned the address and the peer agreed.
    PeerAgreed,
    /// The peer owns the address.
    PeerOwns,
    /// The peer is silent on both paths.
    PeerSilent,
    /// The peer's process is dead: its link was lost and is refused.
    LinkRefused,
    /// The peer's process is dead: another one took its place.
    PeerRestarted,
    /// The peer no longer owns, by its own word.
    PeerStoodDown,
    /// The peer handed over after its last record.
    HandedOver,
    /// The peer owns a later epoch.
    Superseded,
    /// While silent: somebody else announced the address.
    Claimed,
    /// The own LAN interface lost its carrier.
    LanLost,
    /// This host cannot carry the service as it is.
    HostUnfit,
    /// An operator asked for it.
    Switchover,
    /// The standby agreed to be left behind.
    StandbyRenounced,
    /// The standby lives and can no longer take over.
    StandbyLeft,
    /// The standby holds everything.
    StandbySynced,
    /// The link to the primary began anew.
    LinkAgain,
    /// The arbiter has granted a later epoch to the peer.
    Overruled,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unpaired => "no peer configured",
            Self::NobodyThere => "nobody owns the address",
            Self::PeerAgreed => "nobody owned the address, peer agreed",
            Self::PeerOwns => "peer owns the address",
            Self::PeerSilent => "peer silent on both paths",
            Self::LinkRefused => "peer process dead: link lost, then refused",
            Self::PeerRestarted => "peer process dead: it was restarted",
            Self::PeerStoodDown => "peer stood down",
            Self::HandedOver => "peer handed over",
            Self::Superseded => "peer owns a later epoch",
            Self::Claimed => "address announced by another while silent",
            Self::LanLost => "LAN carrier lost",
            Self::HostUnfit => "this host cannot carry the service",
            Self::Switchover => "switchover requested",
            Self::StandbyRenounced => "standby renounced",
            Self::StandbyLeft => "standby can no longer take over",
            Self::StandbySynced => "standby holds everything",
            Self::LinkAgain => "link to the primary began anew",
            Self::Overruled => "arbiter granted a later epoch to the peer",
        })
    }
}

/// What a new owner knows of the connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Everything a client could rely on: all connections go on.
    Whole,
    /// Another owner may have served since: never synchronised, or cut off too long to know. What
    /// cannot be shown to be current is reset (I6).
    Doubtful,
    /// A first start: there were no connections here.
    Nothing,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "state whole",
            Self::Doubtful => "state unsynchronised",
            Self::Nothing => "no state",
        })
    }
}

/// One change of role, as the log line tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// What this node was.
    pub from: Role,
    /// What it is now.
    pub to: Role,
    /// The epoch owned or followed after the change.
    pub epoch: Epoch,
    /// Why.
    pub cause: Cause,
    /// What is known of the connections; for the changes that own.
    pub held: Held,
    /// How long the peer had not been heard on either path. Zero if it never was.
    pub silent_for: Duration,
    /// How long the previous role had lasted.
    pub lasted: Duration,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, epoch, cause, held, silent_for, lasted } = self;
        write!(f, "{from} -> {to}: {cause}; epoch {epoch}")?;
        if matches!(to, Role::Primary { .. }) {
            write!(f, ", {held}")?;
        }
        write!(f, ", peer heard {silent_for:.1?} ago, after {lasted:.1?}")
    }
}

/// Something worth a line that changes no role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// A path went silent while beats still come on the other (or on none, for the second).
    PathSilent {
        /// Which.
        path: Path,
        /// Since the last beat on it.
        silent_for: Duration,
    },
    /// A silent path delivers again.
    PathBack {
        /// Which.
        path: Path,
        /// How long it had been silent.
        silent_for: Duration,
    },
    /// This process stood still.
    Paused {
        /// For how long.
        lasted: Duration,
        /// Whether it fell silent over it.
        gated: bool,
    },
    /// The LAN carrier is gone and nobody can be handed the address.
    LanDown,
    /// The LAN carrier is back.
    LanUp,
    /// The standby's LAN carrier changed: without it nothing is protected.
    PeerLan {
        /// Carrier present.
        up: bool,
    },
    /// The primary is gone and this node has no LAN carrier: it waits for it.
    TakeoverBlocked {
        /// What calls for a takeover.
        cause: Cause,
    },
    /// The peer cannot be followed.
    Incompatible,
    /// The link is stalled while the LAN path lives: it was hung up.
    LinkStalled,
    /// Both nodes own the address; ours is the later epoch and the peer will stand down.
    Conflict {
        /// The peer's epoch.
        theirs: Epoch,
    },
    /// The standby is silent and the policy forbids going on alone.
    StoppedByPolicy,
    /// The arbiter does not answer.
    ArbiterLost,
    /// The arbiter answers again.
    ArbiterBack {
        /// How long it had not.
        silent_for: Duration,
    },
    /// The address is wanted, the arbiter does not answer, and the policy is to wait for it.
    Barred,
    /// The address is wanted, and the arbiter's record names another that may be speaking.
    NotGranted {
        /// What the record says.
        record: ArbiterRecord,
    },
    /// This standby holds everything, and the primary counts on it.
    Synchronised,
}

impl Report {
    /// Whether something that was wrong no longer is.
    #[must_use]
    pub const fn is_good_news(&self) -> bool {
        matches!(
            self,
            Self::PathBack { .. }
                | Self::LanUp
                | Self::PeerLan { up: true }
                | Self::ArbiterBack { .. }
                | Self::Synchronised
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathSilent { path, silent_for } => {
                write!(f, "{path} silent for {silent_for:.1?}")
            }
            Self::PathBack { path, silent_for } => write!(f, "{path} back after {silent_for:.1?}"),
            Self::Paused { lasted, gated: true } => {
                write!(f, "this process stood still for {lasted:.1?}: silent until it has looked")
            }
            Self::Paused { lasted, gated: false } => {
                write!(f, "this process stood still for {lasted:.1?}")
            }
            Self::LanDown => f.write_str("LAN carrier lost"),
            Self::LanUp => f.write_str("LAN carrier back"),
            Self::PeerLan { up: true } => f.write_str("peer's LAN carrier back"),
            Self::PeerLan { up: false } => f.write_str("unprotected: peer's LAN carrier lost"),
            Self::TakeoverBlocked { cause } => {
                write!(f, "cannot take over ({cause}): LAN carrier down")
            }
            Self::Incompatible => f.write_str("peer's version or configuration differs"),
            Self::LinkStalled => f.write_str("replication link stalled while the LAN path lives"),
            Self::Conflict { theirs } => {
                write!(f, "peer claims the address with earlier epoch {theirs}")
            }
            Self::StoppedByPolicy => {
                f.write_str("stopped: standby silent, policy forbids going on alone")
            }
            Self::ArbiterLost => f.write_str("arbiter does not answer"),
            Self::ArbiterBack { silent_for } => {
                write!(f, "arbiter answers again, after {silent_for:.1?}")
            }
            Self::Barred => {
                f.write_str("stopped: cannot own without the arbiter, and it does not answer")
            }
            Self::Synchronised => f.write_str("synchronised: this node would carry on"),
            Self::NotGranted { record } => {
                write!(f, "waiting: the arbiter's record names {record}, which may be speaking")
            }
        }
    }
}

/// Why the engine must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// A host that is not the peer answers for the service address.
    AddressInUse,
}

/// Why a switchover is not possible now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Only a primary hands over.
    #[error("this node is not the primary")]
    NotPrimary,
    /// There is no standby that holds everything.
    #[error("no synchronised standby")]
    NotDuplex,
    /// The link to the standby is down.
    #[error("the replication link is down")]
    NoLink,
    /// The standby could not be reached by clients.
    #[error("the standby's LAN carrier is down")]
    PeerLanDown,
    /// The standby could not own: the arbiter does not answer it, and the policy is to wait.
    #[error("the arbiter does not answer the standby")]
    PeerBarred,
}

/// Why a failure of the primary right now would lose connections, as far as roles know (I7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// No peer is configured.
    Unpaired,
    /// This node is not the primary.
    NotPrimary,
    /// This process stood still, and has not looked around since.
    Paused,
    /// No beat of the peer's has come since this process started.
    NeverHeard,
    /// Beats came, and come no more on either path.
    Silent {
        /// For how long.
        silent_for: Duration,
    },
    /// There is no duplex: the standby does not hold everything.
    NotSynced,
    /// The owner slept past its lease, and nobody has told it yet whether the standby owned meanwhile.
    InDoubt,
    /// The peer is heard and does not hear us.
    Unheard,
    /// The standby would not be given the address.
    Refused(Refusal),
    /// This host cannot carry the service as it is.
    Unfit,
    /// The peer's host could not carry it on.
    PeerUnfit,
    /// Nothing of the peer's comes over the LAN, though there is a carrier.
    LanSilent {
        /// For how long.
        silent_for: Duration,
    },
    /// Nothing of ours reaches the peer over the LAN.
    LanUnheard,
}

/// What the engine is to do, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Ask the LAN whether anybody holds the address (RFC 5227); answer with `on_probe`.
    Probe,
    /// Connect to the peer's listener; answer with `on_link`.
    Dial,
    /// Connect to the peer's listener only to learn whether it is refused, and close at once.
    /// A refusal is [`LinkEvent::Refused`]; anything else is not reported.
    Knock,
    /// Close the replication link and abandon a dial. No event answers it.
    HangUp,
    /// Announce the address again: another claimant was seen.
    Announce,
    /// Own the address: fence, arm the state, install the route, open the gate, announce (I5).
    Own(Change),
    /// Follow the peer from nothing: forget all state.
    StandBy(Change),
    /// Be silent (the gate is closed already), forget all state, remove the route.
    StandDown(Change),
    /// Go on without a standby: horizons to infinity.
    GoSimplex(Change),
    /// The standby now protects every connection.
    GoDuplex(Change),
    /// Silent already: send the last records, then the handover of this epoch.
    HandOver {
        /// The epoch the peer is expected to own.
        epoch: Epoch,
        /// The change for the log.
        change: Change,
    },
    /// Put this question to the arbiter.
    Ask(Ask),
    /// A line for the log.
    Report(Report),
    /// End with this reason.
    Exit(Exit),
}

/// Epochs above this are not believed: nobody counts that far, and arithmetic stays safe.
pub(super) const EPOCH_LIMIT: Epoch = Epoch(u64::MAX / 2);

/// A beat's clock value as an instant of the clock that made it.
pub(super) const fn instant(sent: u64) -> Instant {
    Instant::from_nanos(sent)
}
