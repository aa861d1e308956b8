//! Faults in words, for a person.

use core::fmt;

use super::plan::{Slip, Target, Trouble, Way, Weather, Wire};

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
            Self::Primary => "the primary",
            Self::Standby => "the standby",
        })
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay_us, jitter_us, loss, duplicate, corrupt, reorder, rate } = *self;
        write!(f, "{} to {} ms", millis(delay_us), millis(delay_us + jitter_us))?;
        let parts = [(loss, "lost"), (duplicate, "twice"), (corrupt, "damaged"), (reorder, "late")];
        for (part, what) in parts.into_iter().filter(|(part, _)| *part > 0) {
            write!(f, ", {} % {what}", percent(part))?;
        }
        if rate > 0 { write!(f, ", {rate} bytes/ms") } else { Ok(()) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Crash { node, outputs, flushed, restart_us } => {
                write!(f, "the process of {node} dies{}", Before(outputs))?;
                write!(f, ", {} % of what it wrote to the link arrives", percent(flushed))?;
                write!(f, "{}", Again(restart_us))
            }
            Self::Poweroff { node, outputs, restart_us } => {
                write!(f, "the host of {node} loses its power{}", Before(outputs))?;
                write!(f, "{}", Again(restart_us))
            }
            Self::Freeze { node, outputs, for_us, host } => {
                let what = if host { "host" } else { "process" };
                write!(f, "the {what} of {node} stands still{}{}", Before(outputs), For(for_us))
            }
            Self::Cut { node, wire, way, carrier, for_us } => {
                let wire = match wire {
                    Wire::Lan => "the LAN",
                    Wire::Replication => "the replication network",
                    Wire::Both => "both networks",
                };
                write!(f, "{node} is cut off from {wire}{}", Only(way))?;
                f.write_str(if carrier { ", its interface shows it" } else { "" })?;
                write!(f, "{}", For(for_us))
            }
            Self::CutMachine { machine, way, for_us } => {
                write!(f, "client machine {machine} is cut off{}{}", Only(way), For(for_us))
            }
            Self::ResetLink => f.write_str("the replication stream is reset"),
            Self::StallLink { node, for_us } => {
                write!(f, "what {node} writes to the link gets stuck{}", For(for_us))
            }
            Self::Storm { weather, for_us } => write!(f, "storm: {weather}{}", For(for_us)),
            Self::BeatLoss { wire, loss, for_us } => {
                let wire = match wire {
                    Wire::Lan => "on the LAN",
                    Wire::Replication => "on the replication network",
                    Wire::Both => "on both networks",
                };
                write!(f, "{} % of heartbeats {wire} are lost{}", percent(loss), For(for_us))
            }
            Self::WallJump { node, seconds } => {
                write!(f, "the wall clock of {node} jumps by {seconds} s")
            }
            Self::BusyDisk { node, for_us } => {
                write!(f, "the disk of {node} keeps everybody waiting{}", For(for_us))
            }
            Self::Unfit { node, for_us } => {
                write!(f, "the host of {node} carries nothing for the service{}", For(for_us))
            }
            Self::LanMtu { node, mtu, for_us } => {
                write!(f, "the LAN interface of {node} carries {mtu} bytes{}", For(for_us))
            }
            Self::Slip { node, slip, for_us } => {
                let what = match slip {
                    Slip::Alone => "without another node",
                    Slip::Services => "with other services",
                };
                write!(f, "{node} is started anew {what}{}", For(for_us))
            }
            Self::Estranged { for_us } => {
                write!(f, "the nodes do not reach each other on either network{}", For(for_us))
            }
            Self::CutArbiter { node, for_us } => {
                write!(f, "{node} does not reach the arbiter{}", For(for_us))
            }
            Self::Outage { for_us } => write!(f, "nobody reaches the arbiter{}", For(for_us)),
            Self::BackendDies { backend, restart_us } => {
                write!(f, "the process of backend {backend} dies{}", Again(restart_us))
            }
            Self::BackendPoweroff { backend, restart_us } => {
                write!(f, "the host of backend {backend} loses its power{}", Again(restart_us))
            }
            Self::BackendFalls { backend, stage, requests, orderly, restart_us } => {
                write!(f, "the process of backend {backend} dies after {requests} more requests")?;
                write!(f, ", at {stage:?}{}", if orderly { ", in order" } else { "" })?;
                write!(f, "{}", Again(restart_us))
            }
            Self::CutBackend { backend, way, for_us } => {
                write!(f, "backend {backend} is cut off{}{}", Only(way), For(for_us))
            }
            Self::SlowBackend { backend, for_us } => {
                write!(f, "the application of backend {backend} stands still{}", For(for_us))
            }
            Self::Replay { node, count, for_us } => {
                write!(f, "{count} recorded heartbeats of {node} are played{}", For(for_us))
            }
            Self::Switchover => f.write_str("an operator asks for a switchover"),
        }
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn percent(per_million: u32) -> f64 {
    f64::from(per_million) / 10_000.0
}

/// Right before so many outputs from now.
struct Before(u32);

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " after {count} more outputs"),
        }
    }
}

/// For how long.
struct For(u64);

impl fmt::Display for For {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", for {} ms", millis(self.0))
    }
}

/// When whoever is gone is back.
struct Again(u64);

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str(", and is not started again before everything heals"),
            after => write!(f, ", and is started again after {} ms", millis(after)),
        }
    }
}

/// Which way, if not both.
struct Only(Way);

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Way::Out => " (what it sends)",
            Way::In => " (what it would receive)",
            Way::Both => "",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_a_sentence() {
        let crash = Trouble::Crash {
            node: Target::Primary,
            outputs: 3,
            flushed: 500_000,
            restart_us: 1000,
        };
        assert_eq!(
            crash.to_string(),
            "the process of the primary dies after 3 more outputs, 50 % of what it wrote to the \
             link arrives, and is started again after 1 ms"
        );
        let cut = Trouble::Cut {
            node: Target::B,
            wire: Wire::Lan,
            way: Way::In,
            carrier: false,
            for_us: 1500,
        };
        let text = "b is cut off from the LAN (what it would receive), for 1.5 ms";
        assert_eq!(cut.to_string(), text);
    }
}
