//! What a drill does: how many connections, from where, to which service, for how long.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::http::Expected;
use super::sources::Sources;

/// The services that a drill knows how to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Sends back what it receives (RFC 862).
    Echo,
    /// Takes and forgets (RFC 863).
    Discard,
    /// Sends a pattern without end (RFC 864).
    Chargen,
    /// Static files over HTTP/1.1.
    Files,
}

impl Service {
    /// Its name, as in the configuration of a pair.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Chargen => "chargen",
            Self::Files => "files",
        }
    }

    /// The port that it is assigned.
    pub const fn port(self) -> u16 {
        match self {
            Self::Echo => 7,
            Self::Discard => 9,
            Self::Chargen => 19,
            Self::Files => 80,
        }
    }
}

/// What one kind of connection does.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The service that it talks to.
    pub service: Service,
    /// The service's port.
    pub port: u16,
    /// Its share among the connections.
    pub weight: usize,
    /// Echo only: send one request, await its echo, think this long, and so on. Without it the
    /// stream is continuous. [`Duration::MAX`] is an idle connection: one request when it opens,
    /// one before it closes.
    pub think: Option<Duration>,
    /// Size of such a request, in bytes, at least 1.
    pub request: u64,
    /// Bytes of a connection, after which it closes; without it the drill's end does.
    pub bytes: Option<u64>,
    /// Files only: what to ask for and what to expect.
    pub file: Option<Expected>,
    /// Files only: send FIN right after the request, so that the reply travels on a half-closed
    /// connection.
    pub early_fin: bool,
}

impl Workload {
    /// A continuous stream to the service's own port.
    pub fn new(service: Service) -> Self {
        Self {
            service,
            port: service.port(),
            weight: 1,
            think: None,
            request: 64,
            bytes: None,
            file: None,
            early_fin: false,
        }
    }
}

/// A whole drill.
#[derive(Debug)]
pub struct Plan {
    /// Where to; connections go round.
    pub targets: Vec<IpAddr>,
    /// Where from.
    pub sources: Sources,
    /// What; connections go round by weight.
    pub workloads: Vec<Workload>,
    /// Connections at one time.
    pub connections: usize,
    /// The time over which they are opened, evenly.
    pub ramp: Duration,
    /// When to begin to close; without it each connection ends by its own bytes, or by a signal.
    pub duration: Option<Duration>,
    /// Whether a connection that ended is followed by another until `duration` is over.
    pub repeat: bool,
    /// Bytes per second and connection, sent or, for downloads, read.
    pub rate: Option<u64>,
    /// A connection that waits longer than this without any progress is lost.
    pub stall: Duration,
    /// Chooses the contents.
    pub seed: u64,
    /// Says once a second on standard error how things are.
    pub progress: bool,
    /// Created, with our process id in it, when every connection has been opened and has moved a
    /// byte: the moment at which a script may pull the plug.
    pub ready_file: Option<PathBuf>,
    /// Whether SIGINT and SIGTERM end the drill in order.
    pub signals: bool,
}

/// A plan that contradicts itself.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Nobody to talk to.
    #[error("no target address")]
    NoTarget,
    /// Nothing to do.
    #[error("no workload: every weight is zero")]
    NoWorkload,
    /// Nobody to do it.
    #[error("no connections")]
    NoConnections,
    /// A rate of nothing never ends.
    #[error("a rate of zero never moves a byte")]
    NoRate,
    /// Repetition would go on for ever.
    #[error("--repeat needs --duration")]
    EndlessRepeat,
    /// A file is wanted and not named.
    #[error("files: what to expect is not said")]
    NoFile,
}

impl Plan {
    /// A plan with the usual values: one connection, no limit of rate, no end.
    pub fn new(targets: Vec<IpAddr>, workloads: Vec<Workload>) -> Self {
        Self {
            targets,
            sources: Sources::default(),
            workloads,
            connections: 1,
            ramp: Duration::ZERO,
            duration: None,
            repeat: false,
            rate: None,
            stall: Duration::from_secs(30),
            seed: 0,
            progress: false,
            ready_file: None,
            signals: false,
        }
    }

    /// Looks for contradictions.
    ///
    /// # Errors
    /// The first one.
    pub fn check(&self) -> Result<(), PlanError> {
        let fails = |yes: bool, error| if yes { Err(error) } else { Ok(()) };
        fails(self.targets.is_empty(), PlanError::NoTarget)?;
        fails(self.workloads.iter().all(|w| w.weight == 0), PlanError::NoWorkload)?;
        fails(self.connections == 0, PlanError::NoConnections)?;
        fails(self.rate == Some(0), PlanError::NoRate)?;
        fails(self.repeat && self.duration.is_none(), PlanError::EndlessRepeat)?;
        let nameless = |w: &Workload| w.service == Service::Files && w.file.is_none();
        fails(self.workloads.iter().any(nameless), PlanError::NoFile)
    }

    /// Index of the workload of a slot: round the weights.
    pub(super) fn workload_of(&self, slot: usize) -> usize {
        let mut place = slot % self.round();
        for (index, workload) in self.workloads.iter().enumerate() {
            if place < workload.weight {
                return index;
            }
            place -= workload.weight;
        }
        0
    }

    /// Where a slot's connections go. Shifted by one each round of weights, so that every
    /// workload meets every target.
    pub(super) fn target_of(&self, slot: usize) -> SocketAddr {
        let address = self.targets[(slot + slot / self.round()) % self.targets.len()];
        SocketAddr::new(address, self.workloads[self.workload_of(slot)].port)
    }

    fn round(&self) -> usize {
        self.workloads.iter().map(|w| w.weight).sum::<usize>().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(weights: &[usize], targets: &[&str]) -> Plan {
        let workloads = weights.iter().map(|&weight| Workload { weight, ..echo() }).collect();
        Plan::new(targets.iter().map(|t| t.parse().unwrap()).collect(), workloads)
    }

    fn echo() -> Workload {
        Workload::new(Service::Echo)
    }

    #[test]
    fn weights_share_out_the_connections() {
        let plan = plan(&[2, 0, 1], &["::1"]);
        let workloads: Vec<usize> = (0..6).map(|slot| plan.workload_of(slot)).collect();
        assert_eq!(workloads, [0, 0, 2, 0, 0, 2]);
    }

    #[test]
    fn every_workload_meets_every_target() {
        let plan = plan(&[1, 1], &["::1", "127.0.0.1"]);
        let pairs: Vec<(usize, bool)> =
            (0..4).map(|slot| (plan.workload_of(slot), plan.target_of(slot).is_ipv4())).collect();
        assert_eq!(pairs, [(0, false), (1, true), (0, true), (1, false)]);
    }

    #[test]
    fn contradictions_are_named() {
        assert_eq!(plan(&[1], &[]).check(), Err(PlanError::NoTarget));
        assert_eq!(plan(&[0], &["::1"]).check(), Err(PlanError::NoWorkload));
        let repeat = Plan { repeat: true, ..plan(&[1], &["::1"]) };
        assert_eq!(repeat.check(), Err(PlanError::EndlessRepeat));
        let slow = Plan { rate: Some(0), ..plan(&[1], &["::1"]) };
        assert_eq!(slow.check(), Err(PlanError::NoRate));
        assert_eq!(plan(&[1], &["::1"]).check(), Ok(()));
    }
}
