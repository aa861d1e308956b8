//! The bytes of the records and frames. A change here is a change of the protocol: it needs a new version, and
//! the old one must stay readable for one release.
//!
//! Fields are set apart by spaces, in the order in which they are written.

use core::net::SocketAddr;

use super::{
    BackendAdmin, BackendFailure, Frame, Heartbeat, Hello, HostFacts, HostWord, Part, Record,
    Refusal, ServiceRef, Versions, Violation,
};
use crate::ids::{ConnId, Epoch, Lsn, Node, ServiceName, SpliceId};
use crate::wire::FourTuple;

const CONN: ConnId = ConnId(0x0102_0304_0506_0708);

/// Bytes as hexadecimal digits, compared without the spaces of the golden text.
#[track_caller]
fn expect(bytes: &[u8], golden: &str) {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digits, golden.replace(char::is_whitespace, ""), "golden: {golden}");
}

#[track_caller]
fn expect_record(record: Record<'_>, golden: &str) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    expect(&bytes, golden);
    assert_eq!(Record::decode(&mut &bytes[..]), Ok(record));
}

#[track_caller]
fn expect_frame(frame: &Frame<'_>, golden: &str) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    expect(&bytes, golden);
    assert_eq!(Frame::decode(&bytes), Ok(frame.clone()));
}

fn tuple(local: &str, remote: &str) -> FourTuple {
    let parse = |address: &str| address.parse::<SocketAddr>().unwrap().into();
    FourTuple { local: parse(local), remote: parse(remote) }
}

#[test]
fn opened() {
    expect_record(
        Record::Opened {
            conn: CONN,
            tuple: tuple("10.77.0.100:7", "10.77.0.10:4660"),
            service: ServiceRef::Index(3),
            snapshot: false,
            hard: &[0xaa, 0xbb],
            app: &[],
        },
        "01 0807060504030201 04 0a4d0064 0700 04 0a4d000a 3412 0300 00 02000000 aabb 00000000",
    );
    expect_record(
        Record::Opened {
            conn: CONN,
            tuple: tuple("[fd77::100]:80", "[fd77::10]:4660"),
            service: ServiceRef::Index(0),
            snapshot: true,
            hard: &[],
            app: &[0xcc],
        },
        "01 0807060504030201 06 fd770000000000000000000000000100 5000 \
         06 fd770000000000000000000000000010 3412 0000 01 00000000 01000000 cc",
    );
    expect_record(
        Record::Opened {
            conn: CONN,
            tuple: tuple("10.77.0.100:7", "10.77.0.10:4660"),
            service: ServiceRef::Name(ServiceName(0x0102_0304)),
            snapshot: false,
            hard: &[0xaa, 0xbb],
            app: &[],
        },
        "0f 0807060504030201 04 0a4d0064 0700 04 0a4d000a 3412 04030201 00 02000000 aabb 00000000",
    );
}

#[test]
fn input() {
    expect_record(
        Record::Input { conn: CONN, offset: 0x1122, ts_recent: 0x3344, bytes: b"abc" },
        "02 0807060504030201 2211000000000000 44330000 03000000 616263",
    );
}

#[test]
fn peer_finished() {
    expect_record(
        Record::PeerFinished { conn: CONN, offset: 0x1122 },
        "03 0807060504030201 2211000000000000",
    );
}

#[test]
fn pin() {
    expect_record(Record::Pin { conn: CONN, bytes: b"abc" }, "04 0807060504030201 03000000 616263");
}

#[test]
fn progress() {
    let progress = |fin_acked, handshake_done| Record::Progress {
        conn: CONN,
        acked: 0x1122,
        window: 0x3344,
        ts_recent: 0x5566,
        fin_acked,
        handshake_done,
    };
    let fields = "05 0807060504030201 2211000000000000 44330000 66550000";
    expect_record(progress(false, false), &format!("{fields} 00"));
    expect_record(progress(true, false), &format!("{fields} 01"));
    expect_record(progress(false, true), &format!("{fields} 02"));
}

#[test]
fn closed() {
    expect_record(Record::Closed { conn: CONN, cause: 9 }, "06 0807060504030201 09");
}

#[test]
fn snapshot() {
    expect_record(Record::SnapshotBegin { connections: 0x1122 }, "07 22110000");
    expect_record(Record::SnapshotEnd, "08");
}

#[test]
fn splice() {
    expect_record(
        Record::Spliced {
            splice: SpliceId(0x0102_0304_0506_0708),
            client: tuple("10.77.0.100:8080", "10.77.0.10:4660"),
            backend: tuple("10.77.0.100:4661", "10.77.0.21:80"),
            seq: 0x1122,
            ts: 0x3344,
        },
        "09 0807060504030201 04 0a4d0064 901f 04 0a4d000a 3412 \
         04 0a4d0064 3512 04 0a4d0015 5000 22110000 44330000",
    );
    expect_record(
        Record::SpliceStage { splice: SpliceId(0x0102_0304_0506_0708), over: false },
        "0b 0807060504030201 00",
    );
    expect_record(
        Record::SpliceStage { splice: SpliceId(0x0102_0304_0506_0708), over: true },
        "0b 0807060504030201 01",
    );
    expect_record(
        Record::Unspliced { splice: SpliceId(0x0102_0304_0506_0708) },
        "0a 0807060504030201",
    );
    expect_record(
        Record::Stood { conn: ConnId(0x0102_0304_0506_0708), hard: &[1, 2, 3] },
        "0e 0807060504030201 03000000 010203",
    );
    expect_record(Record::Tick { conn: ConnId(0x0102_0304_0506_0708) }, "0d 0807060504030201");
    let address = "10.77.0.21:80".parse().unwrap();
    expect_record(
        Record::Backend {
            port: 8080,
            address,
            up: false,
            barred: true,
            born: 0x0102_0304,
            failed: None,
        },
        "0c 901f 04 0a4d0015 5000 02 04030201",
    );
    expect_record(
        Record::Backend { port: 8080, address, up: true, barred: false, born: 0, failed: None },
        "0c 901f 04 0a4d0015 5000 01 00000000",
    );
    let failed = Some(BackendFailure { what: 7, detail: 503, ago: 0x1122 });
    expect_record(
        Record::Backend { port: 8080, address, up: false, barred: false, born: 1, failed },
        "0c 901f 04 0a4d0015 5000 04 01000000 07 f701 22110000",
    );
    let state =
        |admin, weight, cut| Record::BackendState { port: 8080, address, admin, weight, cut };
    for (record, golden) in [
        (state(BackendAdmin::Ready, None, false), "00 00 0000"),
        (state(BackendAdmin::Drain, Some(0x0100), false), "01 02 0001"),
        (state(BackendAdmin::Maint, Some(0), true), "02 03 0000"),
    ] {
        expect_record(record, &format!("10 901f 04 0a4d0015 5000 {golden}"));
    }
    expect_record(Record::Leave { conn: CONN }, "11 0807060504030201");
}

#[test]
fn hello() {
    expect_frame(
        &Frame::Hello(Hello {
            versions: Versions { min: 1, max: 2 },
            node: Node::B,
            boot: 0x1122,
            role: 3,
            epoch: Epoch(0x44),
            config: Vec::new(),
            config_3: vec![Part::new("ports", 0x55), Part::new("ip", 0x66)],
        }),
        "38000000 01 7374616e64696e0a 0100 0200 01 03 2211000000000000 4400000000000000 02 \
         05 706f727473 5500000000000000 02 6970 6600000000000000",
    );
    expect_frame(
        &Frame::Hello(Hello {
            versions: Versions { min: 3, max: 4 },
            node: Node::A,
            boot: 0x1122,
            role: 3,
            epoch: Epoch(0x44),
            config: vec![Part::new("ip", 0x77)],
            config_3: vec![Part::new("ip", 0x66)],
        }),
        "36000000 01 7374616e64696e0a 0300 0400 00 03 2211000000000000 4400000000000000 \
         01 02 6970 6600000000000000 01 02 6970 7700000000000000",
    );
}

#[test]
fn log() {
    expect_frame(
        &Frame::Log { first: Lsn(0x11), epoch: Epoch(0x22), clock: 0x33, records: &[8] },
        "19000000 02 1100000000000000 2200000000000000 3300000000000000 08",
    );
}

#[test]
fn confirm() {
    expect_frame(
        &Frame::Confirm { lsn: Lsn(0x11), unprotected: 0x22 },
        "0c000000 03 1100000000000000 22000000",
    );
}

#[test]
fn handover() {
    expect_frame(
        &Frame::Handover { epoch: Epoch(0x11), lsn: Lsn(0x22) },
        "10000000 04 1100000000000000 2200000000000000",
    );
}

#[test]
fn refuse() {
    let refuse = |reason| Frame::Refuse { reason, text: "no" };
    expect_frame(&refuse(Refusal::Incompatible), "03000000 05 01 6e6f");
    expect_frame(&refuse(Refusal::NotPrimary), "03000000 05 02 6e6f");
    expect_frame(&refuse(Refusal::Busy), "03000000 05 03 6e6f");
    expect_frame(&refuse(Refusal::Violation), "03000000 05 04 6e6f");
}

#[test]
fn ping_and_pong() {
    expect_frame(&Frame::Ping { token: 0x11 }, "08000000 06 1100000000000000");
    expect_frame(&Frame::Pong { token: 0x11 }, "08000000 07 1100000000000000");
}

fn all_is_well() -> Heartbeat {
    Heartbeat {
        node: Node::B,
        role: 2,
        synced: false,
        lan_ok: false,
        arbiter_ok: true,
        boot: 0x11,
        epoch: Epoch(0x22),
        sequence: 0x33,
        sent: 0x44,
        echo: 0x55,
        echo_boot: 0x56,
        applied: Lsn(0x66),
        clock: 0x77,
        unprotected: 0x88,
        fit: true,
        hears_lan: true,
    }
}

#[test]
fn heartbeat() {
    let heartbeat =
        |synced, lan_ok, arbiter_ok| Heartbeat { synced, lan_ok, arbiter_ok, ..all_is_well() };
    let numbers = "1100000000000000 2200000000000000 3300000000000000 4400000000000000 \
                   5500000000000000 5600000000000000 6600000000000000 7700000000000000 \
                   88000000";
    for (synced, lan_ok, arbiter_ok, flags) in [
        (false, false, true, 0),
        (true, false, true, 1),
        (false, true, true, 2),
        (false, false, false, 4),
    ] {
        let heartbeat = heartbeat(synced, lan_ok, arbiter_ok);
        let version_3 = format!("01 01 02 {flags:02x} {numbers}");
        expect(&heartbeat.encode(), &format!("{version_3} 00 0000 0000"));
        assert_eq!(Heartbeat::decode(&heartbeat.encode()), Ok(heartbeat));
        let old = &heartbeat.encode()[..Heartbeat::LEN_3];
        expect(old, &version_3);
        assert_eq!(Heartbeat::decode(old), Ok(heartbeat), "version 3 says no more");
    }
    let more = |fit, hears_lan| {
        let heartbeat = Heartbeat { fit, hears_lan, ..all_is_well() };
        assert_eq!(Heartbeat::decode(&heartbeat.encode()), Ok(heartbeat));
        heartbeat.encode()[Heartbeat::LEN_3]
    };
    assert_eq!([more(true, true), more(false, true), more(true, false)], [0, 1, 2]);
}

/// Room for more than one group of addresses, and for more than one engine of a group.
#[test]
fn another_group_or_shard_is_refused_by_name() {
    let refused = |what, value| Err(Violation::Value { what, value, expected: "0" });
    let confirm = Frame::Confirm { lsn: Lsn(0x11), unprotected: 0x22 };
    let placed = |group: u8, shard: u8| {
        let frame = [16, 0, 0, 0, 0x83, group, 0, shard, 0];
        let body = [0x11, 0, 0, 0, 0, 0, 0, 0, 0x22, 0, 0, 0];
        [&frame[..], &body[..]].concat()
    };
    assert_eq!(Frame::decode(&placed(0, 0)), Ok(confirm));
    assert_eq!(Frame::decode(&placed(7, 0)), refused("the group of a frame", 7));
    assert_eq!(Frame::decode(&placed(0, 7)), refused("the shard of a frame", 7));
    let hello = Frame::decode(&[0, 0, 0, 0, 0x81]);
    let unknown = Violation::Value { what: "the kind of a frame", value: 0x81, expected: "1 to 8" };
    assert_eq!(hello, Err(unknown), "a hello is of all groups");

    let beat = Heartbeat::decode(&all_is_well().encode());
    assert_eq!(beat, Ok(all_is_well()));
    for (place, what) in [(1, "the group of a heartbeat"), (3, "the shard of a heartbeat")] {
        let mut bytes = all_is_well().encode();
        bytes[Heartbeat::LEN_3 + place] = 7;
        assert_eq!(
            Heartbeat::decode(&bytes),
            Err(Violation::Value { what, value: 7, expected: "0" })
        );
    }
}

#[test]
fn host() {
    let facts = HostFacts { mtu: 0x05dc, ipv4: true, ipv6: false, offload: true };
    expect_frame(
        &Frame::Host(HostWord { facts, release: "0.1", obstacles: "no TUN" }),
        "0f000000 08 dc05 05 03 302e31 0600 6e6f2054554e",
    );
    let facts = HostFacts { mtu: 1280, ipv4: false, ipv6: true, offload: false };
    expect_frame(
        &Frame::Host(HostWord { facts, release: "", obstacles: "" }),
        "06000000 08 0005 02 00 0000",
    );
}
