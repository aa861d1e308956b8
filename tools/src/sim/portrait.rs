//! The world as it is at a moment, for a person.

use core::fmt::Write as _;

use super::host::Host;
use super::world::World;
use crate::oracle::NodeId;
use standin::engine::Status;

impl World {
    /// Both nodes and every client. What the nodes logged is part of the story, and added here only
    /// where none is told.
    #[must_use]
    pub fn portrait(&self) -> String {
        let mut text = String::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let name = NodeId(index as u8).name();
            let status = host.engine.as_ref().map(|engine| engine.status(host.clock.at(self.now)));
            let status = status.map(|status| in_words(&status)).unwrap_or_default();
            let routes = if host.routes { ", routes in" } else { "" };
            let _ = writeln!(text, "node {name}: {}{routes}{status}", state(host));
            for line in host.log.iter().filter(|_| self.story.is_none()) {
                let _ = writeln!(text, "  {line}");
            }
        }
        for (index, backend) in self.backends.iter().enumerate() {
            let _ = writeln!(text, "backend {index}: {}", backend.story());
        }
        for (index, client) in self.clients.iter().enumerate() {
            let story = client.endpoint.as_ref().map_or("not yet".to_owned(), |e| e.story());
            let excuse = client.excused.map_or(String::new(), |why| format!(" (excused: {why})"));
            let joined =
                client.joined.map_or(String::new(), |at| format!(", joined to backend {at}"));
            let _ = writeln!(text, "client {index}: {story}{joined}{excuse}");
        }
        text
    }
}

const fn state(host: &Host) -> &'static str {
    match (&host.engine, host.frozen) {
        _ if !host.powered => "no power",
        (None, _) => "no process",
        (Some(_), true) => "stands still",
        (Some(_), false) => "runs",
    }
}

fn in_words(status: &Status) -> String {
    let Status { role, epoch, protected, connections, splices, half_open, log, peer, .. } = status;
    let protected = if *protected { ", protected" } else { "" };
    let linked = if peer.linked { "up" } else { "down" };
    format!(
        ", {role}, epoch {epoch}{protected}\n  {connections} connections, {half_open} of them half-open; {splices} splices; \
         link {linked}, log at {}, confirmed up to {}\n  peer heard {:.1?} ago on the replication network, \
         {:.1?} ago on the LAN",
        log.0, log.1, peer.silent_replication, peer.silent_lan
    )
}
