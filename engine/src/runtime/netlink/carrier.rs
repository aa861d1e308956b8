//! Carrier changes of one interface, for the poll loop.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{BUFFER_LEN, Link, Netlink};
use crate::runtime::sys::OsError;

/// Tells when an interface loses or regains its carrier. Poll its descriptor for reading.
///
/// A message on the socket is a hint that some interface changed; what is reported is the state
/// read afterwards. So an overrun of the socket or a message that cannot be read loses nothing.
#[derive(Debug)]
pub struct CarrierWatch {
    events: Socket,
    netlink: Netlink,
    index: u32,
    carrier: bool,
    scratch: Vec<u8>,
}

impl CarrierWatch {
    /// Watches the interface `name`.
    pub fn open(name: &str) -> Result<Self, OsError> {
        let subscribe = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.add_membership(libc::RTNLGRP_LINK)?;
            Ok(socket)
        };
        let events =
            subscribe().map_err(|error| OsError::new("subscribe to link changes", error))?;
        let mut netlink = Netlink::open()?;
        // Read after subscribing: a change in between is then seen twice rather than never.
        let Link { index, carrier, .. } = netlink.link(name)?;
        Ok(Self { events, netlink, index, carrier, scratch: Vec::with_capacity(BUFFER_LEN) })
    }

    /// The state last reported.
    pub const fn carrier(&self) -> bool {
        self.carrier
    }

    /// Drains the socket; the new state if it differs from [`Self::carrier`]. An interface that is
    /// gone has no carrier.
    pub fn poll(&mut self) -> Result<Option<bool>, OsError> {
        if !self.drain().map_err(|error| OsError::new("read link changes", error))? {
            return Ok(None);
        }
        let carrier = match self.netlink.link_at(self.index) {
            Ok(link) => link.carrier,
            Err(error) if error.errno() == Some(libc::ENODEV) => false,
            Err(error) => return Err(error),
        };
        let changed = carrier != self.carrier;
        self.carrier = carrier;
        Ok(changed.then_some(carrier))
    }

    /// Reads until the socket is empty; true if there was anything.
    fn drain(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            self.scratch.clear();
            match self.events.recv(&mut self.scratch, 0) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Messages were lost for want of room: something changed.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for CarrierWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}
