//! Two nodes in one deterministic world: scenarios, the truth table, and a seeded swarm.

mod arbiter;
mod edges;
mod grants;
mod scenarios;
mod stale;
mod swarm;
mod truth_table;
mod world;
