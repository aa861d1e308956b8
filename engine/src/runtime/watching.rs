//! What the loop does about the news of the host: it follows the LAN interface, and puts host routes
//! back.

use mio::Interest;
use mio::unix::SourceFd;
use std::os::fd::AsRawFd as _;

use super::assemble::LAN;
use super::lan::Lan;
use super::netlink::Link;
use super::run::Run;
use super::watch::News;

impl Run {
    /// Takes what the watching thread has posted.
    pub(super) fn on_host_news(&mut self) {
        while let Some(news) = self.outside.assembly.watch.next() {
            self.outside.changed = true;
            let now = self.now();
            match news {
                News::Carrier(up) => {
                    let state = if up { "up" } else { "down" };
                    self.outside.tap.mark(format_args!("carrier: {state}"));
                    self.engine.on_carrier(now, up);
                }
                News::Lan { link, socket } => self.follow_lan(&link, socket),
                News::Cable(up) => self.engine.on_replication_carrier(up),
                News::RouteGone => {
                    if let Err(error) = self.outside.assembly.host.put_back_routes() {
                        log::warn!("a route cannot be put back: {error}");
                    }
                }
                News::Obstacles(obstacles) => self.engine.on_host(now, obstacles),
            }
        }
    }

    /// The LAN interface has another number, name, MAC address or MTU.
    fn follow_lan(&mut self, link: &Link, socket: Option<Lan>) {
        let now = self.now();
        let described = format_args!("LAN: {}, number {}, MTU {}", link.name, link.index, link.mtu);
        self.outside.tap.mark(described);
        if let Some(socket) = socket {
            self.listen_on(socket);
        }
        if let Some(pair) = &mut self.outside.assembly.pair {
            pair.beats.follow_lan(&link.name);
        }
        self.engine.on_mtu(now, u16::try_from(link.mtu).unwrap_or(u16::MAX));
        if let Some(mac) = link.mac {
            self.engine.on_lan_mac(now, mac);
        }
    }

    /// Hears and speaks on the new packet socket from here on.
    fn listen_on(&mut self, socket: Lan) {
        let registry = self.outside.assembly.poll.registry();
        let fd = socket.as_raw_fd();
        if let Err(error) = registry.register(&mut SourceFd(&fd), LAN, Interest::READABLE) {
            log::error!("the LAN is not heard any more: poll: {error}");
            return;
        }
        let old = core::mem::replace(&mut self.outside.assembly.lan, socket);
        let fd = old.as_raw_fd();
        if let Err(error) = registry.deregister(&mut SourceFd(&fd)) {
            log::debug!("poll: {error}");
        }
        self.outside.assembly.watch.retire(old);
        self.outside.lan_readable = true;
    }
}
