//! What an engine tells people, each kind a variant. Code that wants to know matches on the variant;
//! only people read the words.

use core::fmt;
use core::net::IpAddr;

use super::{Engine, Greed, Obstacle, why};
use crate::ids::Node;
use crate::limiter::LeftOut;
use crate::replica::{TooLarge, Violation};
use crate::role::{self, Change};
use crate::service::{Difference, Doubt};
use crate::time::Duration;
use crate::wire::{Endpoint, FourTuple, MacAddr};

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Somebody should be woken.
    Warn,
    /// A change of role or membership, or the end of what was wrong.
    Info,
}

/// Something that an operator should know of. It prints as its line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// This node owns the address.
    Owns {
        /// How it came to it.
        change: Change,
        /// Connections that go on here.
        carried: usize,
    },
    /// The owner goes on without a standby.
    Alone(Change),
    /// A standby holds everything.
    Protected {
        /// How it came to that.
        change: Change,
        /// Connections that it could go on with.
        connections: usize,
    },
    /// This node follows the peer.
    Follows(Change),
    /// This node is silent and looks for an owner.
    StoodDown(Change),
    /// The address is given to the standby.
    HandsOver(Change),
    /// This standby holds everything, and the primary counts on it.
    Synchronised {
        /// Connections that it holds.
        connections: usize,
    },
    /// Something that the role machine found, and that changes no role.
    Role(role::Report),
    /// The peer broke the replication protocol: the stream ends.
    PeerBroke(Breach),
    /// The standby took the log and confirmed nothing.
    StandbyStalled {
        /// For how long at least it is kept away.
        wait: Duration,
    },
    /// The peer, or another at its address, cannot be worked with.
    Incompatible {
        /// What is in the way; it may be the peer's own words.
        why: String,
    },
    /// The interface of the replication address gained or lost its carrier.
    ReplicationCarrier {
        /// Whether it has one now.
        up: bool,
    },
    /// The LAN interface has another hardware address.
    LanMac {
        /// The one it had.
        before: MacAddr,
        /// The one it has.
        now: MacAddr,
    },
    /// Another host announced a service address of ours.
    Claimed {
        /// Which address.
        address: IpAddr,
        /// Whose hardware address was announced.
        mac: MacAddr,
        /// Notices like this one that were left out.
        left_out: LeftOut,
    },
    /// There is no room for another connection.
    Full {
        /// How many there are.
        connections: usize,
        /// Notices like this one that were left out.
        left_out: LeftOut,
    },
    /// An address has all that one may have: what it begins is refused.
    Greedy {
        /// One that does.
        address: IpAddr,
        /// Of what.
        greed: Greed,
        /// Notices like this one that were left out.
        left_out: LeftOut,
    },
    /// The memory budget is used up: the connections that hold most are reset.
    MemoryShort {
        /// The budget in MiB.
        mib: u64,
        /// Notices like this one that were left out.
        left_out: LeftOut,
    },
    /// A backend of a relay came up or went down.
    Backend {
        /// The relay's port.
        port: u16,
        /// Which backend.
        address: Endpoint,
        /// Whether it is up now.
        up: bool,
        /// Why it is not, in words.
        why: Option<String>,
    },
    /// Checks find nobody at a backend: what it has is ended.
    BackendDead {
        /// The relay's port.
        port: u16,
        /// Which backend.
        address: Endpoint,
        /// How many splices and connections of sessions it has.
        left: u32,
    },
    /// Two servers on the same input have said different things.
    TwinsDiffer {
        /// The relay's port.
        port: u16,
        /// How much they had in common in that session.
        offset: u64,
        /// Which servers.
        twins: [Option<Endpoint>; 2],
        /// What each of them says there.
        excerpts: [Vec<u8>; 2],
        /// Which of them gets no new clients from now on; `None`: the client was reset.
        barred: Option<Endpoint>,
        /// Notices like this one that were left out.
        left_out: LeftOut,
    },
    /// A connection's state does not fit into a record: the standby cannot be told of it.
    TooLarge {
        /// Which connection.
        tuple: FourTuple,
        /// How large its record would be.
        why: TooLarge,
    },
    /// Something keeps this host from carrying the service.
    Obstacle(Obstacle),
    /// Nothing does any more.
    Fit,
    /// Something keeps the peer's host from carrying the service.
    PeerObstacles {
        /// The peer.
        peer: Node,
        /// What, in its words.
        obstacles: String,
    },
    /// Nothing does any more.
    PeerFit {
        /// The peer.
        peer: Node,
    },
    /// The hosts of the two nodes are not alike.
    HostsDiffer {
        /// In what.
        differences: String,
        /// Whether a takeover would lose connections for it.
        costs: bool,
    },
    /// They are alike again.
    HostsAlike,
    /// A connection's reply could not be continued from the file here.
    File(FileNotice),
}

/// A file of which the copy here is not, or is not known to be, the one that is being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNotice {
    /// What it means for a connection.
    pub fate: Fate,
    /// The number of its document root.
    pub root: u16,
    /// Where it lies below that.
    pub path: Box<str>,
    /// What is wrong with the copy; `None` while it is being compared.
    pub why: Option<Difference>,
    /// Notices of other files that were left out before.
    pub left_out: u64,
}

/// What a doubt about a file means for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A takeover would lose it.
    Exposed,
    /// It is reset (I6).
    Reset,
}

/// How a peer broke the replication protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Bytes that cannot stand where they stood.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The first frame was no greeting.
    #[error("expected a greeting")]
    NoGreeting,
    /// A greeting in the middle of the stream.
    #[error("a second greeting")]
    SecondGreeting,
    /// The greeting names a role that this version does not know.
    #[error("the peer has an unknown role")]
    UnknownRole,
    /// Something came after the end.
    #[error("a frame on a closed link")]
    AfterEnd,
    /// The address was handed over before the end of the log.
    #[error("hand-over without its last records")]
    EarlyHandover,
    /// A standby took records and confirmed none of them.
    #[error("nothing was confirmed for too long")]
    NothingConfirmed,
}

impl Notice {
    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        let good = match self {
            Self::Owns { .. }
            | Self::Protected { .. }
            | Self::Follows(_)
            | Self::HandsOver(_)
            | Self::Synchronised { .. }
            | Self::LanMac { .. }
            | Self::Fit
            | Self::PeerFit { .. }
            | Self::HostsAlike => true,
            Self::Alone(_)
            | Self::PeerBroke(_)
            | Self::StandbyStalled { .. }
            | Self::Incompatible { .. }
            | Self::Claimed { .. }
            | Self::Full { .. }
            | Self::Greedy { .. }
            | Self::MemoryShort { .. }
            | Self::TwinsDiffer { .. }
            | Self::TooLarge { .. }
            | Self::Obstacle(_)
            | Self::BackendDead { .. }
            | Self::PeerObstacles { .. } => false,
            // The end of a hand-over is as it should be.
            Self::StoodDown(change) => change.from == role::Role::Silent,
            Self::Role(report) => report.is_good_news(),
            Self::ReplicationCarrier { up } | Self::Backend { up, .. } => *up,
            Self::HostsDiffer { costs, .. } => !costs,
            // Mostly a copy is compared soon.
            Self::File(file) => file.why.is_none(),
        };
        if good { Level::Info } else { Level::Warn }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owns { change, carried } => {
                write!(f, "{change}; {carried} connections carried on")
            }
            Self::Alone(change) => write!(f, "unprotected: {change}"),
            Self::Protected { change, connections } => {
                write!(f, "{change}; {connections} connections protected")
            }
            Self::Follows(change) | Self::StoodDown(change) | Self::HandsOver(change) => {
                change.fmt(f)
            }
            Self::Synchronised { connections } => {
                write!(f, "{}; {connections} connections held", role::Report::Synchronised)
            }
            Self::Role(report) => report.fmt(f),
            Self::PeerBroke(breach) => {
                write!(f, "the peer broke the replication protocol: {breach}")
            }
            Self::StandbyStalled { wait } => write!(
                f,
                "the standby confirms nothing; unprotected for {} s at least",
                wait.as_secs()
            ),
            Self::Incompatible { why } => write!(f, "the peer is not compatible: {why}"),
            Self::ReplicationCarrier { up: true } => {
                f.write_str("the replication address has a carrier again")
            }
            Self::ReplicationCarrier { up: false } => write!(f, "unprotected: {}", why::NO_CABLE),
            Self::LanMac { before, now } => {
                write!(f, "the LAN interface has MAC address {now} now, no longer {before}")
            }
            Self::Claimed { address, mac, left_out } => {
                write!(f, "{mac} announced our service address {address}{left_out}")
            }
            Self::Full { connections, left_out } => {
                write!(f, "no room for new connections: there are {connections}{left_out}")
            }
            Self::Greedy { address, greed: Greed::Connections(most), left_out } => write!(
                f,
                "{address} has {most} connections, and may have no more (limits, \
                 connections-per-source){left_out}"
            ),
            Self::Greedy { address, greed: Greed::Rate(most), left_out } => write!(
                f,
                "{address} begins more than {most} connections a second (limits, \
                 rate-per-source){left_out}"
            ),
            Self::MemoryShort { mib, left_out } => write!(
                f,
                "memory is short: what clients have sent and not read is more than {mib} MiB \
                 (limits, memory); those that hold most are reset{left_out}"
            ),
            Self::TwinsDiffer { port, offset, twins, excerpts, barred, left_out } => {
                write!(f, "relay {port}: two servers differ at byte {offset} of a session:")?;
                for (twin, excerpt) in twins.iter().zip(excerpts) {
                    let Some(twin) = twin else { continue };
                    write!(f, " {twin} says \"{}\",", excerpt.escape_ascii())?;
                }
                match barred {
                    Some(twin) => write!(
                        f,
                        " and {twin} is barred: it gets no new clients until it is ready (standin backend \
                         ready {twin})"
                    )?,
                    None => f.write_str(" and the client was reset")?,
                }
                left_out.fmt(f)
            }
            Self::Backend { port, address, up, why } => {
                let state = if *up { "up" } else { "down" };
                write!(f, "relay {port}: backend {address} is {state}")?;
                why.iter().try_for_each(|why| write!(f, ": {why}"))
            }
            Self::BackendDead { port, address, left } => {
                let s = if *left == 1 { "" } else { "s" };
                write!(
                    f,
                    "relay {port}: nobody is at backend {address} any more: {left} connection{s} to it end{} \
                     (on-death)",
                    if *left == 1 { "s" } else { "" }
                )
            }
            Self::TooLarge { tuple, why } => write!(f, "{tuple:?} is not protected: {why}"),
            Self::Obstacle(obstacle) => {
                write!(f, "this host cannot carry the service: {obstacle}")
            }
            Self::Fit => f.write_str("this host can carry the service again"),
            Self::PeerObstacles { peer, obstacles } => {
                write!(f, "node {peer} cannot carry the service: {obstacles}")
            }
            Self::PeerFit { peer } => write!(f, "node {peer} can carry the service again"),
            Self::HostsDiffer { differences, .. } => {
                write!(f, "the hosts of the two nodes differ: {differences}")
            }
            Self::HostsAlike => f.write_str("the hosts of the two nodes no longer differ"),
            Self::File(file) => file.fmt(f),
        }
    }
}

impl fmt::Display for FileNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fate, root, path, why, left_out } = self;
        let doubt = Doubt { root: *root, path, why: *why };
        write!(f, "{fate}: file {doubt}")?;
        match left_out {
            0 => Ok(()),
            count => write!(f, "; {count} such lines were left out before"),
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exposed => "not protected",
            Self::Reset => "a connection was reset, because it cannot be continued",
        })
    }
}

impl Engine {
    pub(super) fn report(&mut self, notice: Notice) {
        self.actions.push_back(super::Action::Report(notice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::role::{Cause, Held, Role};

    const CHANGE: Change = Change {
        from: Role::Standby { synced: true },
        to: Role::Primary { duplex: false },
        epoch: Epoch(3),
        cause: Cause::PeerSilent,
        held: Held::Whole,
        silent_for: Duration::from_millis(50),
        lasted: Duration::from_millis(7000),
    };

    /// The log is read by scripts of operators, too: its sentences stay.
    #[test]
    fn each_notice_has_its_level_and_its_sentence() {
        let address = "10.77.0.100".parse().unwrap();
        let [before, now] = [1, 2].map(|last| MacAddr([2, 0, 0, 0, 0, last]));
        let left_out = LeftOut(7);
        let (fate, path, why) = (Fate::Exposed, Box::from("a b"), None);
        let file = FileNotice { fate, root: 0, path, why, left_out: 0 };
        let (fate, why) = (Fate::Reset, Some(Difference::Length));
        let reset = FileNotice { fate, why, left_out: 2, ..file.clone() };
        let sysctl = "net.ipv4.ip_forward".to_owned();
        let text = || "a".to_owned();
        let backend =
            |up, why| Notice::Backend { port: 8080, address: Endpoint::new(address, 80), up, why };
        let [one, other] = [21, 22].map(|last| Endpoint::new([10, 77, 0, last].into(), 6379));
        let twins = |barred| Notice::TwinsDiffer {
            port: 8084,
            offset: 77,
            twins: [Some(one), Some(other)],
            excerpts: [b":7\r\n".to_vec(), b"\"\x07".to_vec()],
            barred,
            left_out: LeftOut(0),
        };
        let differ = |costs| Notice::HostsDiffer { differences: text(), costs };
        let all = [
            Notice::Owns { change: CHANGE, carried: 4 },
            Notice::Alone(CHANGE),
            Notice::Protected { change: CHANGE, connections: 4 },
            Notice::Follows(CHANGE),
            Notice::StoodDown(CHANGE),
            Notice::StoodDown(Change { from: Role::Silent, ..CHANGE }),
            Notice::HandsOver(CHANGE),
            Notice::Synchronised { connections: 4 },
            Notice::Role(role::Report::LanDown),
            Notice::Role(role::Report::LanUp),
            Notice::PeerBroke(Breach::SecondGreeting),
            Notice::PeerBroke(Violation::NotStandin.into()),
            Notice::StandbyStalled { wait: Duration::from_secs(10) },
            Notice::Incompatible { why: text() },
            Notice::ReplicationCarrier { up: true },
            Notice::ReplicationCarrier { up: false },
            Notice::LanMac { before, now },
            Notice::Claimed { address, mac: now, left_out },
            Notice::Full { connections: 9, left_out },
            Notice::Greedy { address, greed: Greed::Connections(100), left_out },
            Notice::Greedy { address, greed: Greed::Rate(20), left_out: LeftOut(0) },
            Notice::MemoryShort { mib: 64, left_out: LeftOut(0) },
            backend(false, Some("no answer in 1 s".to_owned())),
            backend(true, None),
            Notice::BackendDead { port: 8080, address: one, left: 1 },
            Notice::BackendDead { port: 8080, address: one, left: 2 },
            twins(Some(other)),
            twins(None),
            Notice::Obstacle(Obstacle::ForwardingOff { sysctl }),
            Notice::Fit,
            Notice::PeerObstacles { peer: Node::B, obstacles: text() },
            Notice::PeerFit { peer: Node::B },
            differ(true),
            differ(false),
            Notice::HostsAlike,
            Notice::File(file),
            Notice::File(reset),
        ];
        let change = CHANGE.to_string();
        let lines = all.map(|notice| format!("{:?} {notice}", notice.level()));
        let lines = lines.join("\n").replace(&change, "<change>");
        assert_eq!(
            lines,
            SENTENCES.trim().replace("<from silent>", &change.replacen("standby", "silent", 1))
        );
    }

    const SENTENCES: &str = r#"
Info <change>; 4 connections carried on
Warn unprotected: <change>
Info <change>; 4 connections protected
Info <change>
Warn <change>
Info <from silent>
Info <change>
Info synchronised: this node would carry on; 4 connections held
Warn LAN carrier lost
Info LAN carrier back
Warn the peer broke the replication protocol: a second greeting
Warn the peer broke the replication protocol: the hello does not start with the protocol's name: not a standin engine
Warn the standby confirms nothing; unprotected for 10 s at least
Warn the peer is not compatible: a
Info the replication address has a carrier again
Warn unprotected: no cable: the replication address has no carrier
Info the LAN interface has MAC address 02:00:00:00:00:02 now, no longer 02:00:00:00:00:01
Warn 02:00:00:00:00:02 announced our service address 10.77.0.100 (7 more like it since the last line)
Warn no room for new connections: there are 9 (7 more like it since the last line)
Warn 10.77.0.100 has 100 connections, and may have no more (limits, connections-per-source) (7 more like it since the last line)
Warn 10.77.0.100 begins more than 20 connections a second (limits, rate-per-source)
Warn memory is short: what clients have sent and not read is more than 64 MiB (limits, memory); those that hold most are reset
Warn relay 8080: backend 10.77.0.100:80 is down: no answer in 1 s
Info relay 8080: backend 10.77.0.100:80 is up
Warn relay 8080: nobody is at backend 10.77.0.21:6379 any more: 1 connection to it ends (on-death)
Warn relay 8080: nobody is at backend 10.77.0.21:6379 any more: 2 connections to it end (on-death)
Warn relay 8084: two servers differ at byte 77 of a session: 10.77.0.21:6379 says ":7\r\n", 10.77.0.22:6379 says "\"\x07", and 10.77.0.22:6379 is barred: it gets no new clients until it is ready (standin backend ready 10.77.0.22:6379)
Warn relay 8084: two servers differ at byte 77 of a session: 10.77.0.21:6379 says ":7\r\n", 10.77.0.22:6379 says "\"\x07", and the client was reset
Warn this host cannot carry the service: this host does not forward (net.ipv4.ip_forward=0): set it to 1
Info this host can carry the service again
Warn node b cannot carry the service: a
Info node b can carry the service again
Warn the hosts of the two nodes differ: a
Info the hosts of the two nodes differ: a
Info the hosts of the two nodes no longer differ
Info not protected: file "a b": the copy here is still being hashed
Warn a connection was reset, because it cannot be continued: file "a b": the copy here has another length; 2 such lines were left out before
"#;
}
