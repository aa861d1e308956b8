//! A client that runs `smoltcp`: another make of TCP, by people who never heard of this one.

use core::net::SocketAddr;
use std::sync::Arc;

use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::line::{Queue, clock, interface};
use super::{Endpoint, Outgoing, Standing};
use crate::sim::content::Content;
use crate::sim::http::Desk;
use crate::sim::plan::ClientPlan;
use crate::sim::script::Script;
use standin::wire::VnetHeader;

/// Bytes of send buffer.
const SEND_BUFFER: usize = 16 * 1024;
/// Bytes read at a time.
const READ: usize = 8 * 1024;

pub(in crate::sim) struct Foreign {
    ends: (SocketAddr, SocketAddr),
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    line: Queue,
    script: Script,
    standing: Standing,
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
    pub(in crate::sim) fn new(
        now: u64,
        plan: &ClientPlan,
        ends: (SocketAddr, SocketAddr),
        mtu: u16,
        (content, desk): (&Arc<Content>, &Desk),
        random: u64,
    ) -> Self {
        let mut line = Queue::new(mtu);
        let (local, remote) = ends;
        let mut interface = interface(now, &mut line, local.ip(), random);
        let buffer = |length: usize| tcp::SocketBuffer::new(vec![0; length]);
        let mut socket =
            tcp::Socket::new(buffer(plan.receive_buffer as usize), buffer(SEND_BUFFER));
        socket.set_nagle_enabled(random & 1 == 0);
        let mut sockets = SocketSet::new(Vec::new());
        let connected = socket.connect(interface.context(), remote, local);
        let handle = sockets.add(socket);
        let standing = match connected {
            Ok(()) => Standing::Working,
            Err(error) => Standing::Lost(format!("cannot connect: {error}")),
        };
        let script = Script::new(now, plan, content, desk);
        let (said, closed, heard_end) = (0, false, false);
        let mut client = Self {
            ends,
            interface,
            sockets,
            handle,
            line,
            script,
            standing,
            said,
            closed,
            heard_end,
        };
        client.turn(now);
        client
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Lets the stack work, then the application, until neither has more to do.
    fn turn(&mut self, now: u64) {
        loop {
            self.interface.poll(clock(now), &mut self.line, &mut self.sockets);
            if self.standing != Standing::Working || !self.apply(now) {
                return;
            }
        }
    }

    /// One round of the application. Returns whether anything was done.
    fn apply(&mut self, now: u64) -> bool {
        self.script.tick(now);
        let mut busy = self.hear(now);
        busy |= self.say();
        let state = self.socket().state();
        if self.script.aborts() {
            self.socket().abort();
            self.standing = Standing::Content;
            return true;
        }
        let over = matches!(state, tcp::State::TimeWait | tcp::State::Closed);
        if over && self.heard_end && self.script.is_content() {
            self.standing = Standing::Content;
        } else if state == tcp::State::Closed
            && !self.socket().may_recv()
            && self.standing == Standing::Working
        {
            let received = self.script.received();
            self.standing = Standing::Lost(format!("reset or timed out, received {received}"));
        }
        busy
    }

    /// Reads as far as the application wants to.
    fn hear(&mut self, now: u64) -> bool {
        let mut busy = false;
        let mut bytes = [0; READ];
        loop {
            // A slow reader leaves in the buffer what it has not got round to. It hurries in
            // TIME-WAIT: when that ends `smoltcp` forgets what was not read.
            let hurries = self.socket().state() == tcp::State::TimeWait;
            if self.script.taken() < self.script.received() && !hurries {
                return busy;
            }
            match self.socket().recv_slice(&mut bytes) {
                Ok(0) => return busy,
                Ok(count) => {
                    busy = true;
                    if let Err(why) = self.script.hear(now, &bytes[..count]) {
                        self.standing = Standing::Wrong(why);
                        return false;
                    }
                }
                Err(tcp::RecvError::Finished) if !self.heard_end => {
                    self.heard_end = true;
                    if let Err(why) = self.script.hear_end(now) {
                        self.standing = Standing::Wrong(why);
                        return false;
                    }
                    return true;
                }
                Err(_) => return busy,
            }
        }
    }

    /// Says what there is room for.
    fn say(&mut self) -> bool {
        let mut busy = false;
        let mut bytes = [0; READ];
        while self.socket().can_send() && self.said < self.script.output_end() {
            let count = (self.script.output_end() - self.said).min(READ as u64) as usize;
            self.script.speak(self.said, &mut bytes[..count]);
            let Ok(sent) = self.socket().send_slice(&bytes[..count]) else { break };
            self.said += sent as u64;
            busy |= sent > 0;
        }
        let all = self.said == self.script.output_end();
        if all && self.script.finished() && !self.closed && self.socket().may_send() {
            self.socket().close();
            self.closed = true;
            busy = true;
        }
        busy
    }
}

impl Endpoint for Foreign {
    fn on_packet(&mut self, now: u64, packet: &[u8]) {
        self.line.deliver(packet);
        self.turn(now);
    }

    fn on_timer(&mut self, now: u64) {
        self.turn(now);
    }

    fn deadline(&mut self, now: u64) -> u64 {
        let script = match self.standing {
            Standing::Working => self.script.deadline(),
            Standing::Content | Standing::Lost(_) | Standing::Wrong(_) => u64::MAX,
        };
        let stack = self.interface.poll_at(clock(now), &self.sockets);
        // Its clock counts microseconds: it must not be called in the one before.
        let stack = stack.map_or(u64::MAX, |at| (at.total_micros() as u64).saturating_mul(1000));
        stack.min(script)
    }

    fn poll_packet(&mut self, _now: u64) -> Option<Outgoing> {
        let packet = self.line.pop()?;
        Some(Outgoing { vnet: VnetHeader::PLAIN, packet })
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        self.ends
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }

    fn story(&self) -> String {
        let socket: &tcp::Socket<'_> = self.sockets.get(self.handle);
        format!(
            "smoltcp {} {}, received {}, said {} of {}: {:?}",
            self.ends.0,
            socket.state(),
            self.script.received(),
            self.said,
            self.script.output_end(),
            self.standing
        )
    }
}
