//! The TUN device: where the packets of the service address enter and leave the engine.
//!
//! Every buffer starts with a virtio header of [`HEADER_LEN`] bytes:
//!
//! ```text
//!     ┌───────────────┬──────────────────────────────┐
//!     │ vnet header   │ IP packet, up to 64 KiB      │
//!     └───────────────┴──────────────────────────────┘
//!     0               10
//! ```
//!
//! With [`TunOffload::Segments`] the header says how to finish the packet: the kernel hands us
//! whole super-segments with partial checksums and cuts ours into packets of the MTU. Without it a
//! TUN moves one packet of 1500 bytes a system call, a tenth of the throughput. Some kernels and
//! containers refuse that; then the device is a plain one ([`TunOffload::None`]), the header in
//! the buffer is zero on reading, and must ask for nothing on writing.
//!
//! The device is gone when the [`Tun`] is dropped or the process dies, and with it its routes and
//! settings: nothing about it needs undoing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use tun_tap::{Iface, Mode};

use super::netlink::Netlink;
use super::sys::{self, OsError};
use super::sysctl;

/// Why a TUN device could not be set up.
pub type TunError = OsError;

/// Bytes of the virtio header before every packet (`virtio_net_hdr`, host byte order).
pub const HEADER_LEN: usize = 10;

/// Packets that the kernel queues for the engine. The default of 500 drops in bursts (many
/// clients, one reader); a slot costs 8 bytes.
pub(super) const QUEUE_LEN: u32 = 4096;

/// Where checksums are completed and super-segments cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunOffload {
    /// The kernel: super-segments and partial checksums in both directions.
    Segments,
    /// Nobody: every packet is complete and fits the MTU.
    None,
}

/// An open TUN device that is up; non-blocking.
#[derive(Debug)]
pub struct Tun {
    device: Device,
    name: String,
    index: u32,
}

#[derive(Debug)]
enum Device {
    Offload(File),
    Plain(Iface),
}

impl Tun {
    /// Creates the device `name` (1 to 15 bytes; `%d` lets the kernel number it), sets its MTU in
    /// bytes and its queue, and takes it up. With `offload` segmentation offload is tried, and
    /// where the kernel refuses, a plain device is opened and a warning logged.
    pub fn open(name: &str, mtu: u32, offload: bool) -> Result<Self, TunError> {
        let (device, name) = if offload {
            open_offload(name).or_else(|error| {
                let plain = open_plain(name)?;
                log::warn!(
                    "TUN without segmentation offload, expect a tenth of the speed: {error}"
                );
                Ok(plain)
            })?
        } else {
            open_plain(name)?
        };
        allow_ipv6(&name);
        keep_ipv6_quiet(&name);
        let mut netlink = Netlink::open()?;
        let index = netlink.link(&name)?.index;
        netlink.configure_link(index, mtu, QUEUE_LEN)?;
        Ok(Self { device, name, index })
    }

    /// Where checksums are completed and super-segments cut.
    pub const fn offload(&self) -> TunOffload {
        match self.device {
            Device::Offload(_) => TunOffload::Segments,
            Device::Plain(_) => TunOffload::None,
        }
    }

    /// The name that the kernel gave the device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface number.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Reads one packet with its header into `buffer`; the length includes the header. A packet
    /// that does not fit is cut. `WouldBlock` when there is none.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.device {
            Device::Offload(file) => (&*file).read(buffer),
            Device::Plain(iface) => {
                let (header, packet) = split_header(buffer)?;
                let len = iface.recv(packet)?;
                header.fill(0);
                Ok(HEADER_LEN + len)
            }
        }
    }

    /// Writes one packet that follows its header. `WouldBlock` cannot happen on a healthy device;
    /// other errors concern this packet alone.
    pub fn write(&self, buffer: &[u8]) -> io::Result<()> {
        let written = match &self.device {
            Device::Offload(file) => (&*file).write(buffer)?,
            Device::Plain(iface) => HEADER_LEN + iface.send(complete_packet(buffer)?)?,
        };
        if written == buffer.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> RawFd {
        match &self.device {
            Device::Offload(file) => file.as_raw_fd(),
            Device::Plain(iface) => iface.as_raw_fd(),
        }
    }
}

fn open_offload(name: &str) -> Result<(Device, String), TunError> {
    let failed = |error| OsError::new(format!("open TUN device {name} with offload"), error);
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(failed)?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let name = sys::tun_attach(&file, name, flags).map_err(failed)?;
    sys::tun_set_header_len(&file, HEADER_LEN as libc::c_int).map_err(failed)?;
    // TSO_ECN and USO stay off: then the kernel itself cuts segments that carry CWR, and UDP.
    let features = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    sys::tun_set_offload(&file, features).map_err(failed)?;
    sys::set_nonblocking(&file).map_err(failed)?;
    Ok((Device::Offload(file), name))
}

fn open_plain(name: &str) -> Result<(Device, String), TunError> {
    let failed = |error: io::Error| {
        let advice = match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "load the tun module: modprobe tun",
            Some(libc::EBUSY) => "another process holds it: is an engine running?",
            _ => "see ip link for a device of that name",
        };
        OsError::new(format!("open TUN device {name}"), error).advise(advice)
    };
    let iface = Iface::without_packet_info(name, Mode::Tun).map_err(failed)?;
    sys::set_nonblocking(&iface).map_err(failed)?;
    let name = iface.name().to_owned();
    Ok((Device::Plain(iface), name))
}

/// Hardened hosts and containers switch IPv6 off for interfaces that are made later. The device is
/// the engine's own, and without IPv6 it takes no route of an IPv6 service address. Whether it can
/// take one is tried and told later; with IPv6 switched off altogether there is no such setting.
fn allow_ipv6(name: &str) {
    let setting = sysctl::ipv6(name, "disable_ipv6");
    if sysctl::read(&setting).is_ok_and(|value| value != "0")
        && let Err(error) = sysctl::write(&setting, "0")
    {
        log::warn!("{name} has no IPv6: {error}");
    }
}

/// The kernel would give the device a link-local address and send router solicitations through it:
/// noise that the engine would have to read and drop. (A few MLD reports remain; there is no switch
/// for them.) A failure costs just that, so it is not reported: IPv6 may be off altogether.
fn keep_ipv6_quiet(name: &str) {
    const NO_LINK_LOCAL: &str = "1";
    for (key, value) in [
        ("addr_gen_mode", NO_LINK_LOCAL),
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
        ("accept_dad", "0"),
    ] {
        if let Err(error) = sysctl::write(&sysctl::ipv6(name, key), value) {
            log::debug!("{error}");
        }
    }
}

fn split_header(buffer: &mut [u8]) -> io::Result<(&mut [u8], &mut [u8])> {
    buffer
        .split_at_mut_checked(HEADER_LEN)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no room for the vnet header"))
}

/// The packet in `buffer`, if its header leaves nothing for the kernel to finish.
fn complete_packet(buffer: &[u8]) -> io::Result<&[u8]> {
    match buffer.split_at_checked(HEADER_LEN) {
        // Flags bit 0 asks for a checksum, and a GSO type other than 0 for segmentation.
        Some((header, packet)) if header[0] & 1 == 0 && header[1] == 0 => Ok(packet),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a plain TUN finishes no packets")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_device_takes_complete_packets_only() {
        let mut buffer = [0u8; HEADER_LEN + 3];
        assert_eq!(complete_packet(&buffer).unwrap(), [0; 3]);
        for (byte, value) in [(0, 1), (1, 1), (1, 4)] {
            buffer[byte] = value;
            assert!(complete_packet(&buffer).is_err(), "header byte {byte} = {value}");
            buffer[byte] = 0;
        }
        buffer[0] = 2; // DATA_VALID asks for nothing.
        assert!(complete_packet(&buffer).is_ok());
        assert!(complete_packet(&buffer[..HEADER_LEN - 1]).is_err());
    }
}
