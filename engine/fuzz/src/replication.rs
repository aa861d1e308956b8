//! The replication stream as a standby reads it: frames, records, and what hangs on them.
//!
//! The first byte says how the stream is cut on its way, the rest is the stream.

use std::sync::Arc;

use standin::ids::Epoch;
use standin::replica::{Follower, Frame, FrameReader, Record, ServiceRef, Violation};
use standin::service::{App, Edition, Env, Kind, Limits, Patience, Read};
use standin::tcp::{Hard, Horizon, Settings, Tcb};
use standin::time::Instant;

use crate::library::{WALL, library};

/// Reads the stream whole and in pieces, which must make no difference; follows the log in it; and
/// lets every connection that it tells of go on.
pub fn run(data: &[u8]) {
    let (cut, stream) = data.split_first().unwrap_or((&0, &[]));
    let whole = read(stream, stream.len().max(1));
    let pieces = read(stream, usize::from(*cut) + 1);
    assert_eq!(whole, pieces, "frames do not depend on how they arrive");

    let mut follower = Follower::new(Epoch(2));
    let mut input = stream;
    let mut reader = FrameReader::new();
    while let Ok(Some(frame)) = reader.next(&mut input) {
        if let Frame::Log { first, epoch, records, .. } = frame
            && follow(&mut follower, first, epoch, records).is_err()
        {
            return;
        }
    }
}

/// Every frame of `stream`, encoded again, and how it ended.
fn read(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<Violation>) {
    let (mut frames, mut reader) = (Vec::new(), FrameReader::new());
    for mut piece in stream.chunks(step) {
        loop {
            match reader.next(&mut piece) {
                Ok(Some(frame)) => frames.push(written(&frame)),
                Ok(None) => break assert!(piece.is_empty(), "all of it is taken"),
                Err(violation) => {
                    assert_eq!(reader.next(&mut piece), Err(violation), "for ever");
                    return (frames, Some(violation));
                }
            }
        }
    }
    (frames, None)
}

fn written(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    assert_eq!(Frame::decode(&bytes).as_ref(), Ok(frame), "written as read");
    bytes
}

fn follow(
    follower: &mut Follower,
    first: standin::ids::Lsn,
    epoch: Epoch,
    records: &[u8],
) -> Result<(), Violation> {
    follower.on_log(first, epoch)?;
    let mut rest = records;
    let mut before = follower.applied();
    while let Some((lsn, record)) = follower.next(&mut rest)? {
        assert!(lsn > before, "positions grow");
        before = lsn;
        check_record(&record);
        if let Record::Opened { service, hard, app, .. } = record {
            let number = match service {
                ServiceRef::Index(index) => index.into(),
                ServiceRef::Name(name) => name.0 as usize,
            };
            check_hard(hard);
            check_app(KINDS[number % KINDS.len()], app);
        }
    }
    assert_eq!(follower.applied(), before);
    Ok(())
}

const KINDS: [Kind; 4] = [
    Kind::Echo,
    Kind::Discard,
    Kind::Chargen,
    Kind::Files { root: 0, patience: Patience::ENDLESS },
];

fn check_record(record: &Record<'_>) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    assert_eq!(bytes.len(), record.encoded_len());
    let mut rest = &bytes[..];
    assert_eq!(Record::decode(&mut rest).as_ref(), Ok(record), "written as read");
    assert!(rest.is_empty());
}

/// A connection whose state is believed must be able to go on.
fn check_hard(bytes: &[u8]) {
    let Ok(hard) = Hard::decode(bytes) else { return };
    let mut written = Vec::new();
    hard.encode(&mut written);
    assert_eq!(written, bytes, "written as read");
    let mut now = Instant::from_millis(1_000_000);
    let mut tcb = Tcb::resume(&Arc::new(Settings::default()), now, &hard);
    tcb.set_output_end(hard.acked + 100_000);
    tcb.set_horizon(Horizon::OPEN);
    tcb.nudge(now);
    for _ in 0..20 {
        let mut polls = 0;
        while tcb.poll_transmit(now, &mut |range| (range.end - range.start) as usize).is_some() {
            polls += 1;
            assert!(polls < 5_000, "it comes to rest");
        }
        let Some(at) = tcb.deadline() else { break };
        assert!(at > now, "what is due has been done");
        now = at;
        tcb.on_timer(now);
    }
}

/// A service's state that is believed is a state that the service can be in.
fn check_app(kind: Kind, bytes: &[u8]) {
    let limits = Limits { output_buffer: 10_000 };
    let (mut pins, mut store) = (Vec::new(), library());
    let mut env = Env {
        store: &mut store,
        lead: false,
        pins: &mut pins,
        wall: WALL,
        edition: Edition::Second,
    };
    let Ok(mut app) = App::restore(kind, &limits, bytes, &mut env) else { return };
    let mut first = Vec::new();
    app.snapshot(&mut first);
    let mut env = Env {
        store: &mut store,
        lead: false,
        pins: &mut pins,
        wall: WALL,
        edition: Edition::Second,
    };
    let mut again = App::restore(kind, &limits, &first, &mut env).expect("our own snapshot");
    let mut second = Vec::new();
    again.snapshot(&mut second);
    assert_eq!(first, second, "a snapshot of a snapshot is that snapshot");
    again.close(&mut store);

    let mut env = Env {
        store: &mut store,
        lead: true,
        pins: &mut pins,
        wall: WALL + 1,
        edition: Edition::Second,
    };
    app.lead(&mut env);
    app.on_input(b"GET /ten.txt HTTP/1.0\r\n\r\n", &mut env);
    app.on_peer_finished(&mut env);
    let mut buffer = [0; 5000];
    let end = app.output_end();
    let from = end.saturating_sub(5000);
    if let Read::Ready(count) = app.read(from..end, &mut buffer, &mut store) {
        assert!(count as u64 <= end - from);
    }
    app.close(&mut store);
    assert_eq!(store.holds(), 0, "every hold is given back");
}
