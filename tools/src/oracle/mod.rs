//! The independent observer.

mod sight;

pub use sight::{Facts, File, Kind, NodeId, Service, Sight};
