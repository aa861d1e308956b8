//! One performance: a pair in duplex, the clients of the play, and perhaps a death.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::compare::Kind;
use super::act::Act;
use super::living::{Living, Pauses};
use super::{Death, Options};
use crate::sim::plan::{MachinePlan, PairPlan, Plan, Target, Trouble, Weather};
use crate::sim::watch::Judge;
use crate::sim::{Standing, World};

/// Client machines of the world, each with a neighbour cache.
const MACHINES: usize = 4;
/// How long a pair may take to come into duplex, and how long the clients may take after the last
/// recorded packet.
const READY_MAX: u64 = 30_000_000_000;
const END_MAX: u64 = 90_000_000_000;
/// How often the world is asked.
const LOOK: u64 = 5_000_000;
/// Outputs of a primary that one performance can have.
const OUTPUTS_MAX: usize = 5_000_000;

/// How a performance went.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// The first thing that must not have happened: when, and what.
    pub(super) failure: Option<(u64, String)>,
    /// When the play began, in the world's time.
    pub(super) origin: u64,
    /// When each output of the primary left, counted from the beginning of the play.
    pub(super) outputs: Vec<u64>,
    /// The longest pause of a client that was connecting and awaited something, in nanoseconds.
    pub(super) opening_pause: u64,
    /// And of one that was connected.
    pub(super) pause: u64,
}

fn plan(options: &Options) -> Plan {
    let calm = Plan::calm();
    Plan {
        pair: PairPlan {
            mtu: options.mtu,
            #[cfg(feature = "defects")]
            defect: options.defect,
            ..calm.pair
        },
        lan: Weather::FAIR,
        machines: vec![MachinePlan::CALM; MACHINES],
        heal_us: u64::MAX / 1_000,
        ..calm
    }
}

/// Performs the play. With `death`, the primary dies right before its output of that number; else
/// the moments of its outputs are noted.
pub(super) fn perform(acts: &[Arc<Act>], options: &Options, death: Option<u64>) -> Outcome {
    let plan = plan(options);
    let judge = Judge::of(&plan);
    let mut world = World::new(plan, judge);
    let pauses = Arc::new(Pauses::default());
    let mut stage = Stage { outputs: Vec::new(), noting: death.is_none(), base: 0, primary: 0 };
    stage.settle(&mut world);
    let origin = world.now();
    if let Some(death) = death {
        world.strike_now(trouble(options.death, death));
    }
    let mut clients = Vec::new();
    for act in acts {
        if !stage.run(&mut world, origin + act.at) {
            break;
        }
        let machine = clients.len() % MACHINES;
        let ends = ends(act, clients.len());
        let living = Living::new(world.now(), origin, act, ends, options.mtu, &pauses);
        clients.push(world.join(machine, Box::new(living)));
    }
    let done = stage.finish(&mut world, &clients);
    let violation = world.violation().map(|v| (v.at, format!("{}: {}", v.rule, v.text)));
    let unfinished = || (world.now(), format!("not every client is done\n{}", world.portrait()));
    Outcome {
        failure: violation.or_else(|| (!done).then(unfinished)),
        origin,
        outputs: stage.outputs,
        opening_pause: pauses.opening.load(Ordering::Relaxed),
        pause: pauses.connected.load(Ordering::Relaxed),
    }
}

const fn trouble(death: Death, outputs: u64) -> Trouble {
    // The world counts from one: right before the next output.
    let outputs = outputs as u32;
    match death {
        Death::Process => {
            Trouble::Crash { node: Target::Primary, outputs, flushed: 0, restart_us: 0 }
        }
        Death::Host => Trouble::Poweroff { node: Target::Primary, outputs, restart_us: 0 },
    }
}

/// A client's ends in the world: its machines are numbered from 10.77.0.10 on.
fn ends(act: &Act, index: usize) -> (SocketAddr, SocketAddr) {
    let port = match act.kind {
        Kind::Echo => 7,
        Kind::Discard => 9,
        Kind::Chargen => 19,
        Kind::Files { .. } | Kind::Join(_) | Kind::Exchange(..) | Kind::Mirror(..) => 80,
    };
    let number = 10 + (index % MACHINES) as u8;
    let local: [IpAddr; 2] = if act.ends.client.is_ipv6() {
        [number.into(), 0x100].map(|last| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last).into())
    } else {
        [number, 100].map(|last| [10, 77, 0, last].into())
    };
    let own = 20_000 + (index / MACHINES) as u16;
    (SocketAddr::new(local[0], own), SocketAddr::new(local[1], port))
}

/// The world's steps, and what is noted of them.
struct Stage {
    outputs: Vec<u64>,
    noting: bool,
    base: u64,
    primary: usize,
}

impl Stage {
    /// Waits for duplex.
    fn settle(&mut self, world: &mut World) {
        while !world.is_protected() && world.now() < READY_MAX {
            if !world.run_until(world.now() + LOOK) {
                return;
            }
        }
        self.primary = world.primary().unwrap_or(0);
        self.base = world.outputs()[self.primary];
    }

    /// Runs until `end`. Whether all is well.
    fn run(&mut self, world: &mut World, end: u64) -> bool {
        if !self.noting {
            return world.run_until(end);
        }
        // In small steps, so that each output gets its moment.
        while world.now() < end {
            let next = (world.now() + LOOK / 100).min(end);
            if !world.run_until(next) {
                return false;
            }
            self.note(world);
        }
        true
    }

    fn note(&mut self, world: &World) {
        let count = world.outputs()[self.primary].saturating_sub(self.base);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(OUTPUTS_MAX);
        self.outputs.resize(count.max(self.outputs.len()), world.now());
    }

    /// Until every client has had what it wanted. Whether that came.
    fn finish(&mut self, world: &mut World, clients: &[usize]) -> bool {
        let limit = world.now() + END_MAX;
        let working = |world: &World| {
            clients.iter().any(|client| world.standing(*client) == Some(&Standing::Working))
        };
        while working(world) && world.now() < limit {
            if !self.run(world, world.now() + LOOK) {
                return false;
            }
        }
        !working(world)
    }
}
