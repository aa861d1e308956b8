//! What of a connection survives a takeover.
//!
//! Everything else in a [`Tcb`](super::Tcb) is a function of time or of traffic to come: timers,
//! congestion, the scoreboard, out-of-order input. The primary writes a [`Hard`] when a connection
//! opens; records keep the standby's copy up to date; at a takeover [`Tcb::resume`](super::Tcb::resume)
//! goes on from it. `acked`, `snd_wnd`, `ts_recent` and `srtt` may lag; the others must be exact.

use super::settings::{EDGE_SLACK, Settings};
use crate::time::Duration;
use crate::wire::SeqNum;

/// The hard state of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hard {
    /// Our initial sequence number.
    pub iss: SeqNum,
    /// The peer's initial sequence number; meaningless in SYN-SENT.
    pub irs: SeqNum,
    /// Shift of the window the peer advertises.
    pub snd_scale: u8,
    /// Shift of the window we advertise.
    pub rcv_scale: u8,
    /// The peer's MSS option (or the default in its place).
    pub peer_mss: u16,
    /// SACK was negotiated.
    pub sack: bool,
    /// ECN was negotiated.
    pub ecn: bool,
    /// Timestamps were negotiated.
    pub timestamps: bool,
    /// Added to the clock's milliseconds to make TSval.
    pub ts_offset: u32,
    /// TS.Recent. An older one than the true one is safe.
    pub ts_recent: u32,
    /// Path MTU in bytes.
    pub mtu: u16,
    /// The packets are IPv6.
    pub ipv6: bool,
    /// We sent the first SYN.
    pub active_open: bool,
    /// The handshake is complete.
    pub handshake_done: bool,
    /// The peer's SYN was received: `irs` holds. False only in SYN-SENT.
    pub syn_received: bool,
    /// Output offset acknowledged by the peer, without its FIN position. May lag.
    pub acked: u64,
    /// The peer's window in bytes, relative to `acked`. May lag.
    pub snd_wnd: u32,
    /// Input offset received in order and committed; a FIN counts one.
    pub received: u64,
    /// Input offset that the application has consumed. May lag.
    pub consumed: u64,
    /// The input offset that the advertised window reaches. May lag.
    pub received_edge: u64,
    /// The peer's FIN is received: it is the last position of `received`.
    pub peer_fin: bool,
    /// The peer has acknowledged our FIN.
    pub fin_acked: bool,
    /// Smoothed round-trip time; zero if unknown.
    pub srtt: Duration,
}

/// The bytes are no hard state of a version that is known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not the hard state of a connection")]
pub struct HardError;

impl Hard {
    /// The handshake is known to be complete: by a word of it, or by what only comes after it.
    pub const fn establish(&mut self) {
        self.syn_received = true;
        self.handshake_done = true;
    }

    /// The right edge that the last owner may have advertised (I4), creeping included.
    pub(super) fn edge_promised(&self, settings: &Settings) -> u64 {
        let window = u64::from(settings.receive_buffer) + u64::from(EDGE_SLACK);
        self.received_edge.max(self.received + window.min(65_535 << self.rcv_scale.min(14)))
    }

    /// Length of an encoded value.
    pub const LEN: usize = 1 + 2 + 4 + 4 + 1 + 1 + 2 + 4 + 4 + 2 + 8 + 4 + 8 + 8 + 8 + 4;
    /// The first byte. Version 1, which nobody speaks any more, knew nothing of ECN.
    const VERSION: u8 = 2;

    /// Appends the encoded value. Integers are big-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            iss,
            irs,
            snd_scale,
            rcv_scale,
            peer_mss,
            sack,
            ecn,
            timestamps,
            ts_offset,
            ts_recent,
            mtu,
            ipv6,
            active_open,
            handshake_done,
            syn_received,
            acked,
            snd_wnd,
            received,
            consumed,
            received_edge,
            peer_fin,
            fin_acked,
            srtt,
        } = self;
        let bits = [
            sack,
            timestamps,
            ipv6,
            active_open,
            handshake_done,
            syn_received,
            peer_fin,
            fin_acked,
        ];
        let flags = (0..).zip(bits).fold(0u8, |all, (shift, bit)| all | u8::from(*bit) << shift);
        let srtt = u32::try_from(srtt.as_micros()).unwrap_or(u32::MAX);
        out.extend_from_slice(&[Self::VERSION, flags, u8::from(*ecn)]);
        out.extend_from_slice(&iss.0.to_be_bytes());
        out.extend_from_slice(&irs.0.to_be_bytes());
        out.extend_from_slice(&[*snd_scale, *rcv_scale]);
        out.extend_from_slice(&peer_mss.to_be_bytes());
        out.extend_from_slice(&ts_offset.to_be_bytes());
        out.extend_from_slice(&ts_recent.to_be_bytes());
        out.extend_from_slice(&mtu.to_be_bytes());
        out.extend_from_slice(&acked.to_be_bytes());
        out.extend_from_slice(&snd_wnd.to_be_bytes());
        out.extend_from_slice(&received.to_be_bytes());
        out.extend_from_slice(&consumed.to_be_bytes());
        out.extend_from_slice(&received_edge.to_be_bytes());
        out.extend_from_slice(&srtt.to_be_bytes());
    }

    /// Reads an encoded value. Total: any bytes give a value that is safe to resume, or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, HardError> {
        let mut reader = Reader(bytes);
        let [version, flags, more] = reader.take::<3>()?;
        if version != Self::VERSION || bytes.len() != Self::LEN || more > 1 {
            return Err(HardError);
        }
        let bit = |shift: u8| flags >> shift & 1 == 1;
        let hard = Self {
            sack: bit(0),
            ecn: more == 1,
            timestamps: bit(1),
            ipv6: bit(2),
            active_open: bit(3),
            handshake_done: bit(4),
            syn_received: bit(5),
            peer_fin: bit(6),
            fin_acked: bit(7),
            iss: SeqNum(reader.u32()?),
            irs: SeqNum(reader.u32()?),
            snd_scale: reader.u8()?,
            rcv_scale: reader.u8()?,
            peer_mss: reader.u16()?,
            ts_offset: reader.u32()?,
            ts_recent: reader.u32()?,
            mtu: reader.u16()?,
            acked: reader.u64()?,
            snd_wnd: reader.u32()?,
            received: reader.u64()?,
            consumed: reader.u64()?,
            received_edge: reader.u64()?,
            srtt: Duration::from_micros(reader.u32()?.into()),
        };
        if hard.plausible() { Ok(hard) } else { Err(HardError) }
    }

    /// The rules that the rest of the module builds on.
    fn plausible(&self) -> bool {
        let offsets = [self.acked, self.received, self.consumed, self.received_edge];
        self.snd_scale <= 14
            && self.rcv_scale <= 14
            && offsets.iter().all(|offset| *offset < OFFSET_MAX)
            && (!self.peer_fin || self.received > 0)
            && (!self.handshake_done || self.syn_received)
            && (self.handshake_done || !(self.peer_fin || self.fin_acked))
    }
}

/// Offsets stay below this, so that sums of them cannot overflow.
const OFFSET_MAX: u64 = 1 << 62;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HardError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(HardError)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, HardError> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, HardError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, HardError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, HardError> {
        self.take().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hard() -> Hard {
        Hard {
            iss: SeqNum(1),
            irs: SeqNum(u32::MAX),
            snd_scale: 7,
            rcv_scale: 5,
            peer_mss: 1460,
            sack: true,
            ecn: true,
            timestamps: false,
            ts_offset: 77,
            ts_recent: 78,
            mtu: 1500,
            ipv6: true,
            active_open: false,
            handshake_done: true,
            syn_received: true,
            acked: 1 << 40,
            snd_wnd: 65_535,
            received: 12,
            consumed: 11,
            received_edge: 13,
            peer_fin: true,
            fin_acked: false,
            srtt: Duration::from_micros(123),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        hard().encode(&mut bytes);
        assert_eq!(bytes.len(), Hard::LEN);
        assert_eq!(Hard::decode(&bytes), Ok(hard()));
        bytes.push(0);
        assert_eq!(Hard::decode(&bytes), Err(HardError), "too long");
        bytes.pop();
        bytes[0] = 9;
        assert_eq!(Hard::decode(&bytes), Err(HardError), "of another version");
    }

    /// Two nodes of different versions read what the other wrote.
    #[test]
    fn it_is_written_as_ever() {
        let mut bytes = Vec::new();
        hard().encode(&mut bytes);
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "02 75 01 00000001 ffffffff 07 05 05b4 0000004d 0000004e 05dc \
                      0000010000000000 0000ffff 000000000000000c 000000000000000b \
                      000000000000000d 0000007b";
        assert_eq!(digits, golden.replace(' ', ""));
    }

    #[test]
    fn implausible_state_is_refused() {
        let written = |hard: Hard| {
            let mut bytes = Vec::new();
            hard.encode(&mut bytes);
            Hard::decode(&bytes)
        };
        assert_eq!(written(Hard { snd_scale: 15, ..hard() }), Err(HardError));
        assert_eq!(written(Hard { received: u64::MAX, ..hard() }), Err(HardError));
        assert_eq!(written(Hard { received: 0, ..hard() }), Err(HardError));
        let early = Hard { handshake_done: false, peer_fin: false, ..hard() };
        assert_eq!(written(early.clone()), Ok(early.clone()));
        for (peer_fin, fin_acked) in [(true, false), (false, true)] {
            let fin = Hard { peer_fin, fin_acked, ..early.clone() };
            assert_eq!(written(fin), Err(HardError), "a FIN before the handshake was done");
        }
        let no_syn = Hard { syn_received: false, ..hard() };
        assert_eq!(written(no_syn), Err(HardError));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Hard::decode(&bytes);
        }
    }
}
