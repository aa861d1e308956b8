//! Relays: a client and an unmodified server, joined by a splice.

mod settings;

pub use settings::{Backend, Check, IDLE, Settings};
