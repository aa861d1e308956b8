//! Two nodes in one deterministic world: scenarios, the truth table, and a seeded swarm.

mod arbiter;
mod scenarios;
mod swarm;
mod truth_table;
mod world;
