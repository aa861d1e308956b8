//! `standin backend`: what a server behind a relay is there for, said while the pair runs.

use core::net::SocketAddr;
use std::thread;

use clap::{Args, Subcommand};
use humantime_serde::re::humantime;
use serde_json::Value;

use super::cli::{EngineArgs, Failure, ask, say};
use super::clock::Clock;
use super::control::{BackendRequest, BackendState, Request};
use crate::relay::WEIGHT_MAX;
use crate::time::Duration;

/// From one look at what is left to the next.
const LOOK: Duration = Duration::from_millis(100);

/// What is to become of a backend.
#[derive(Subcommand, Debug)]
pub enum BackendAction {
    /// It gets clients (again)
    Ready {
        /// Which
        #[command(flatten)]
        which: Which,
    },
    /// It gets no new connection and no new request, and finishes what it has
    Drain {
        /// Which
        #[command(flatten)]
        which: Which,
        /// What of what it has
        #[command(flatten)]
        end: End,
    },
    /// The same, and it is not checked
    Maint {
        /// Which
        #[command(flatten)]
        which: Which,
        /// What of what it has
        #[command(flatten)]
        end: End,
    },
    /// Its share of new clients, relative to the others'; 0 for none
    Weight {
        /// Which
        #[command(flatten)]
        which: Which,
        /// 0 to 256
        #[arg(value_parser = clap::value_parser!(u16).range(0..=i64::from(WEIGHT_MAX)))]
        weight: u16,
    },
}

/// Which backend is meant.
#[derive(Args, Debug)]
pub struct Which {
    /// Where it listens, ADDRESS:PORT, as the configuration has it
    address: SocketAddr,
    /// The port of the relay that is meant; otherwise every relay that has the backend
    #[arg(long, value_name = "PORT")]
    relay: Option<u16>,
    /// Which engine: the primary's
    #[command(flatten)]
    engine: EngineArgs,
}

/// What becomes of what a backend has.
#[derive(Args, Debug, Clone, Copy)]
pub struct End {
    /// End what it has: connections are reset; a request goes to another backend where the relay's mode
    /// permits it
    #[arg(long)]
    cut: bool,
    /// Return when nothing is left on it
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, requires = "wait", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: core::time::Duration,
}

/// Carries it out.
pub(super) fn backend(action: &BackendAction) -> Result<(), Failure> {
    let none = End { cut: false, wait: false, timeout: Duration::ZERO };
    let (which, state, weight, end) = match action {
        BackendAction::Ready { which } => (which, Some(BackendState::Ready), None, none),
        BackendAction::Drain { which, end } => (which, Some(BackendState::Drain), None, *end),
        BackendAction::Maint { which, end } => (which, Some(BackendState::Maint), None, *end),
        BackendAction::Weight { which, weight } => (which, None, Some(*weight), none),
    };
    let Which { address, relay, engine } = which;
    let End { cut, wait, timeout } = end;
    let (address, relay) = (*address, *relay);
    let request = BackendRequest { address, relay, state, weight, cut };
    if let Some(text) = ask(engine, &Request::Backend(request))?.text {
        say(&text);
    }
    if !wait {
        return Ok(());
    }
    let until = Clock.now() + timeout;
    loop {
        let status = ask(engine, &Request::Status)?.status.unwrap_or_default();
        match Left::of(&status, address, relay) {
            Left::Nothing => {
                say(&format!("nothing is left on {address}"));
                return Ok(());
            }
            Left::Ready => {
                let why =
                    format!("{address} is ready again, and gets clients: nobody waits for its end");
                return Err(Failure::Failed(why));
            }
            left if Clock.now() >= until => {
                let time = humantime::format_duration(timeout);
                let why = format!(
                    "after {time} {address} still has {left}: wait for longer (--timeout), or end them (--cut)"
                );
                return Err(Failure::Failed(why));
            }
            Left::Unknown | Left::Some { .. } => thread::sleep(LOOK),
        }
    }
}

/// What is left on a backend, as a status tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Some {
        splices: u64,
        sessions: u64,
    },
    /// It gets clients.
    Ready,
    /// The engine does not know all that there is.
    Unknown,
}

impl Left {
    fn of(status: &Value, address: SocketAddr, relay: Option<u16>) -> Self {
        let knows = match status["role"].as_str() {
            Some("primary") => true,
            Some("standby") => status["synced"] == true,
            _ => false,
        };
        if !knows {
            return Self::Unknown;
        }
        let address = address.to_string();
        let is_it = |one: &&Value| {
            let port = one["port"].as_u64();
            one["address"] == *address && relay.is_none_or(|relay| port == Some(relay.into()))
        };
        let backends = status["backends"].as_array().map_or(&[][..], Vec::as_slice);
        let (mut splices, mut sessions, mut cut) = (0, 0, false);
        for one in backends.iter().filter(is_it) {
            if one["state"] == "ready" && one["removed"] != true {
                return Self::Ready;
            }
            let count = |name: &str| one[name].as_u64().unwrap_or(0);
            splices += count("splices");
            sessions += count("sessions");
            cut |= one["cut"] == true;
        }
        match (splices, sessions, cut) {
            (0, 0, false) => Self::Nothing,
            _ => Self::Some { splices, sessions },
        }
    }
}

impl core::fmt::Display for Left {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let many = |count: u64| if count == 1 { "" } else { "s" };
        match *self {
            Self::Nothing => f.write_str("nothing"),
            Self::Some { splices, sessions } => {
                write!(f, "{splices} splice{}, {sessions} session{}", many(splices), many(sessions))
            }
            Self::Ready => f.write_str("clients"),
            Self::Unknown => f.write_str("what this engine does not know yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_is_what_an_engine_says_that_knows_everything() {
        let backend = |port: u16, state: &str, splices: u64, sessions: u64, cut: bool| {
            json!({
                "port": port, "address": "10.77.0.21:80", "state": state, "splices": splices,
                "sessions": sessions, "splices_over": 3, "cut": cut, "removed": false,
            })
        };
        let left = |role: &str, synced: bool, backends: &[Value], relay| {
            let status = json!({ "role": role, "synced": synced, "backends": backends });
            Left::of(&status, "10.77.0.21:80".parse().unwrap(), relay)
        };
        let both = [backend(8080, "drain", 2, 0, false), backend(8081, "maint", 0, 1, false)];
        let some = |splices, sessions| Left::Some { splices, sessions };
        assert_eq!(left("primary", false, &both, None), some(2, 1));
        assert_eq!(left("standby", true, &both, Some(8081)), some(0, 1));
        for (role, synced) in [("standby", false), ("joining", false), ("silent", false)] {
            assert_eq!(left(role, synced, &[], None), Left::Unknown, "{role}");
        }
        let done = |cut| [backend(8080, "drain", 0, 0, cut)];
        assert_eq!(left("primary", true, &done(false), None), Left::Nothing);
        assert_eq!(left("primary", true, &done(true), None), some(0, 0), "it is being ended");
        assert_eq!(left("primary", true, &[], None), Left::Nothing, "it was removed, and had some");
        let again = [backend(8080, "drain", 0, 0, false), backend(8081, "ready", 0, 0, false)];
        assert_eq!(left("primary", true, &again, None), Left::Ready);
        assert_eq!(some(1, 2).to_string(), "1 splice, 2 sessions");
    }
}
