//! A backend's connection on `smoltcp`: a server that was never told of any pair.
//!
//! It has one listening socket in an interface of its own, so that a SYN that comes twice finds the
//! socket that it has opened, and not another one that listens.

use core::net::SocketAddr;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::app::App;
use super::{BackendPlan, Condition, Server};
use crate::sim::client::{Outgoing, Queue, clock, interface, shuts_window};
use standin::wire::VnetHeader;

/// Bytes of send buffer.
const SEND_BUFFER: usize = 16 * 1024;
/// Bytes read and written at a time.
const PIECE: usize = 8 * 1024;

pub(super) struct Foreign {
    remote: SocketAddr,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    line: Queue,
    app: App,
    /// What has been given to the socket to send.
    said: u64,
    closed: bool,
    heard_end: bool,
}

impl core::fmt::Debug for Foreign {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.story())
    }
}

impl Foreign {
    /// A socket that listens at `local` and hears `syn` of `remote` first.
    pub(super) fn accept(
        now: u64,
        plan: &BackendPlan,
        app: App,
        (local, remote): (SocketAddr, SocketAddr),
        syn: &[u8],
        mtu: u16,
        random: u64,
    ) -> Option<Self> {
        let mut line = Queue::new(mtu);
        let interface = interface(now, &mut line, local.ip(), random);
        let buffer = |length: usize| tcp::SocketBuffer::new(vec![0; length]);
        let mut socket =
            tcp::Socket::new(buffer(plan.receive_buffer as usize), buffer(SEND_BUFFER));
        socket.set_nagle_enabled(random & 1 == 0);
        socket.listen(local).ok()?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let (said, closed, heard_end) = (0, false, false);
        let mut server =
            Self { remote, interface, sockets, handle, line, app, said, closed, heard_end };
        server.on_packet(now, syn);
        Some(server)
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Lets the stack work, then the application, until neither has more to do.
    fn turn(&mut self, now: u64) {
        loop {
            self.interface.poll(clock(now), &mut self.line, &mut self.sockets);
            if !self.apply(now) {
                return;
            }
        }
    }

    /// One round of the application. Returns whether anything was done.
    fn apply(&mut self, now: u64) -> bool {
        let queued = self.socket().send_queue() as u64;
        self.app.on_acked(self.said - queued);
        let mut busy = self.hear();
        busy |= self.app.tick(now);
        busy |= self.say();
        busy
    }

    /// Reads as far as the application wants to; the rest stays in the buffer, and the window with it.
    fn hear(&mut self) -> bool {
        let mut bytes = [0; PIECE];
        if !self.app.is_hungry() {
            return false;
        }
        match self.socket().recv_slice(&mut bytes) {
            Ok(count) => {
                self.app.hear(&bytes[..count]);
                count > 0
            }
            Err(tcp::RecvError::Finished) if !self.heard_end => {
                self.heard_end = true;
                self.app.hear_end();
                true
            }
            Err(_) => false,
        }
    }

    /// Says what there is room for.
    fn say(&mut self) -> bool {
        let mut busy = false;
        let mut bytes = [0; PIECE];
        while self.socket().can_send() && self.said < self.app.output_end() {
            let count = (self.app.output_end() - self.said).min(PIECE as u64) as usize;
            self.app.speak(self.said, &mut bytes[..count]);
            let Ok(sent) = self.socket().send_slice(&bytes[..count]) else { break };
            self.said += sent as u64;
            busy |= sent > 0;
        }
        let all = self.said == self.app.output_end() && self.app.finished();
        if all && !self.closed && self.socket().may_send() {
            self.socket().close();
            self.closed = true;
            busy = true;
        }
        busy
    }
}

impl Server for Foreign {
    fn on_packet(&mut self, now: u64, packet: &[u8]) {
        if !shuts_window(packet) {
            self.line.deliver(packet);
        }
        self.turn(now);
    }

    fn on_timer(&mut self, now: u64) {
        self.turn(now);
    }

    fn deadline(&mut self, now: u64) -> u64 {
        let stack = self.interface.poll_at(clock(now), &self.sockets);
        let stack = stack.map_or(u64::MAX, |at| (at.total_micros() as u64).saturating_mul(1000));
        stack.min(self.app.deadline())
    }

    fn poll_packet(&mut self, _now: u64) -> Option<Outgoing> {
        let packet = self.line.pop()?;
        Some(Outgoing { vnet: VnetHeader::PLAIN, packet })
    }

    fn kill(&mut self, now: u64, orderly: bool) {
        if orderly && !self.app.ends_by_close() {
            self.socket().close();
        } else {
            self.socket().abort();
        }
        self.interface.poll(clock(now), &mut self.line, &mut self.sockets);
    }

    fn stand_still(&mut self, still: bool) {
        self.app.still = still;
    }

    fn condition(&self) -> Condition {
        let socket: &tcp::Socket<'_> = self.sockets.get(self.handle);
        match socket.state() {
            // A socket that was reset in the handshake listens again.
            tcp::State::Closed | tcp::State::Listen => Condition::Over,
            tcp::State::TimeWait => Condition::Waits,
            _ => Condition::Lives,
        }
    }

    fn taken(&self) -> u64 {
        self.app.taken()
    }

    fn story(&self) -> String {
        let socket: &tcp::Socket<'_> = self.sockets.get(self.handle);
        format!(
            "smoltcp, with {}: {}, took {}, said {} of {}",
            self.remote,
            socket.state(),
            self.app.taken(),
            self.said,
            self.app.output_end()
        )
    }
}
