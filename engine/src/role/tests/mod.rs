//! Two nodes in one deterministic world: scenarios, the truth table, and a seeded swarm.

mod alone;
mod arbiter;
mod edges;
mod grants;
mod joins;
mod parts;
mod scenarios;
mod stale;
mod swarm;
mod told;
mod truth_table;
mod words;
mod world;
