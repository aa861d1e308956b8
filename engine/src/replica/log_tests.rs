//! The log's tests; among them group commit against a naive model, which is what I1 and I2 rest on.

use proptest::prelude::*;

use super::*;
use crate::replica::commit::Output;
use crate::replica::strategies::{OwnedRecord, opened, record};
use crate::replica::{Follower, Frame, FrameReader, MAX_FRAME};

const EPOCH: Epoch = Epoch(2);
const CLOSED: Record<'static> = Record::Closed { conn: ConnId(1), cause: 0 };

fn input(bytes: &[u8]) -> Record<'_> {
    Record::Input { conn: ConnId(1), offset: 0, ts_recent: 0, bytes }
}

fn flushed(log: &mut Log) -> Vec<u8> {
    let mut out = Vec::new();
    log.flush(EPOCH, 77, &mut out);
    out
}

/// The log frames of a stream: first position and length of each.
fn frames(stream: &[u8]) -> Vec<(u64, usize)> {
    let mut reader = FrameReader::new();
    let mut input = stream;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next(&mut input).unwrap() {
        let Frame::Log { first, epoch: EPOCH, clock: 77, records } = frame else {
            panic!("a stamped log frame, got {frame:?}")
        };
        frames.push((first.0, records.len()));
    }
    frames
}

#[test]
fn nothing_appended_is_nothing_sent() {
    let mut log = Log::starting_at(Lsn(1));
    assert!(!log.needs_flush());
    assert!(flushed(&mut log).is_empty());
    assert_eq!((log.sent(), log.backlog_bytes()), (Lsn(0), 0));
}

#[test]
fn a_batch_is_one_frame_and_positions_go_on() {
    let mut log = Log::starting_at(Lsn(1));
    assert_eq!(log.append(&CLOSED), Ok(Lsn(1)));
    assert_eq!(log.append(&CLOSED), Ok(Lsn(2)));
    assert!(log.needs_flush());
    assert_eq!(frames(&flushed(&mut log)), [(1, 20)]);
    assert_eq!(log.append(&CLOSED), Ok(Lsn(3)));
    assert_eq!(frames(&flushed(&mut log)), [(3, 10)]);
    assert!(!log.needs_flush());
}

#[test]
fn a_large_batch_is_cut_between_records() {
    let mut log = Log::starting_at(Lsn(1));
    let bytes = vec![0; 30_000];
    for _ in 0..5 {
        log.append(&input(&bytes)).unwrap();
    }
    let length = 30_025;
    assert_eq!(
        frames(&flushed(&mut log)),
        [(1, 2 * length), (3, 2 * length), (5, length)],
        "each frame is stamped, none is empty"
    );
}

#[test]
fn the_longest_record_fits_and_one_byte_more_does_not() {
    let mut log = Log::starting_at(Lsn(1));
    let bytes = vec![0; MAX_RECORD - 25 + 1];
    log.append(&CLOSED).unwrap();
    log.append(&input(&bytes[1..])).unwrap();
    assert_eq!(log.append(&input(&bytes)), Err(TooLarge { length: MAX_RECORD + 1 }));
    log.append(&CLOSED).unwrap();
    let out = flushed(&mut log);
    assert_eq!(frames(&out), [(1, 10), (2, MAX_RECORD), (3, 10)]);
    assert_eq!(out.len(), MAX_FRAME + 2 * (29 + 10));
}

#[test]
fn a_link_that_is_behind_gets_the_batch_behind_what_waits() {
    let mut log = Log::starting_at(Lsn(1));
    let mut out = Vec::new();
    log.append(&CLOSED).unwrap();
    log.flush(EPOCH, 77, &mut out);
    log.append(&CLOSED).unwrap();
    log.flush(EPOCH, 77, &mut out);
    assert_eq!(frames(&out), [(1, 10), (2, 10)]);
}

#[test]
fn a_flush_to_an_idle_link_copies_nothing() {
    let mut log = Log::starting_at(Lsn(1));
    log.append(&input(&[0; 1000])).unwrap();
    let batch = log.batch.as_ptr();
    let mut out = Vec::with_capacity(5000);
    let link = out.as_ptr();
    log.flush(EPOCH, 77, &mut out);
    assert_eq!((out.as_ptr(), log.batch.as_ptr()), (batch, link), "the buffers change places");
}

#[test]
fn the_backlog_is_what_is_appended_and_not_confirmed() {
    let mut log = Log::starting_at(Lsn(1));
    log.append(&CLOSED).unwrap();
    assert_eq!(log.backlog_bytes(), 10, "the open batch counts");
    flushed(&mut log);
    log.append(&CLOSED).unwrap();
    log.append(&CLOSED).unwrap();
    flushed(&mut log);
    assert_eq!(log.backlog_bytes(), 30);
    log.on_confirm(Lsn(1)).unwrap();
    assert_eq!(log.backlog_bytes(), 20);
    log.on_confirm(Lsn(2)).unwrap();
    assert_eq!(log.backlog_bytes(), 20, "a frame counts until all of it is confirmed");
    log.on_confirm(Lsn(3)).unwrap();
    assert_eq!((log.backlog_bytes(), log.confirmed()), (0, Lsn(3)));
}

#[test]
fn confirmations_are_of_what_was_sent_and_never_taken_back() {
    let mut log = Log::starting_at(Lsn(1));
    log.append(&CLOSED).unwrap();
    assert_eq!(
        log.on_confirm(Lsn(1)),
        Err(Violation::ConfirmedUnsent { confirmed: Lsn(1), sent: Lsn(0) }),
        "appended is not sent"
    );
    flushed(&mut log);
    assert_eq!(log.on_confirm(Lsn(1)), Ok(()));
    assert_eq!(log.on_confirm(Lsn(1)), Ok(()), "the same again says nothing new");
    assert_eq!(
        log.on_confirm(Lsn(0)),
        Err(Violation::ConfirmedLess { confirmed: Lsn(0), before: Lsn(1) })
    );
    assert_eq!(log.confirmed(), Lsn(1));
}

#[test]
fn a_log_starts_where_it_is_told() {
    let mut log = Log::starting_at(Lsn(50));
    assert!(log.is_clear(Pending::default()) && !log.needs_flush());
    assert_eq!((log.backlog_bytes(), log.poll_commit(&mut { usize::MAX })), (0, None));
    assert_eq!(log.append(&CLOSED), Ok(Lsn(50)));
    assert_eq!(frames(&flushed(&mut log)), [(50, 10)]);
    assert!(log.on_confirm(Lsn(48)).is_err(), "a position of the session before");
}

#[test]
fn steady_traffic_reuses_all_memory() {
    let (mut log, mut out, mut pending) =
        (Log::starting_at(Lsn(1)), Vec::new(), Pending::default());
    let mut turn = |log: &mut Log, out: &mut Vec<u8>| {
        for _ in 0..3 {
            let lsn = log.append(&input(&[0; 50_000])).unwrap();
            let _ = log.note(&mut pending, ConnId(1), lsn, lsn.0, 0);
        }
        let sent = log.sent();
        log.flush(EPOCH, 77, out);
        out.clear();
        log.on_confirm(sent).unwrap(); // one batch stays on its way
        while log.poll_commit(&mut { usize::MAX }).is_some() {}
        (log.batch.capacity(), out.capacity(), log.unconfirmed.capacity())
    };
    let warm = (0..10).map(|_| turn(&mut log, &mut out)).last();
    for _ in 0..500 {
        turn(&mut log, &mut out);
    }
    assert_eq!(Some(sorted(turn(&mut log, &mut out))), warm.map(sorted));
}

/// The batch and the link's buffer change places with every flush.
fn sorted((batch, out, unconfirmed): (usize, usize, usize)) -> (usize, usize, usize) {
    (batch.min(out), batch.max(out), unconfirmed)
}

proptest! {
    #[test]
    fn a_follower_gets_what_was_appended(
        batches in prop::collection::vec(prop::collection::vec(record(), 0..5), 0..5),
    ) {
        let (mut log, mut out) = (Log::starting_at(Lsn(1)), Vec::new());
        let mut sent = vec![OwnedRecord::SnapshotBegin { connections: u32::MAX }];
        log.append(&sent[0].borrow()).unwrap();
        for batch in batches {
            for record in batch {
                if matches!(record, OwnedRecord::SnapshotBegin { .. } | OwnedRecord::SnapshotEnd) {
                    continue; // once in a session
                }
                log.append(&record.borrow()).unwrap();
                sent.push(record);
            }
            log.flush(EPOCH, 77, &mut out);
        }
        log.append(&opened(3, false).borrow()).unwrap();
        sent.push(opened(3, false));
        log.flush(EPOCH, 77, &mut out);

        let (mut reader, mut follower) = (FrameReader::new(), Follower::new(EPOCH));
        let (mut input, mut got) = (&out[..], 0);
        while let Some(frame) = reader.next(&mut input).unwrap() {
            let Frame::Log { first, epoch, mut records, .. } = frame else { panic!("a log frame") };
            follower.on_log(first, epoch).unwrap();
            while let Some((_, record)) = follower.next(&mut records).unwrap() {
                prop_assert_eq!(record, sent[got].borrow());
                got += 1;
            }
            log.on_confirm(follower.confirm().unwrap()).unwrap();
        }
        prop_assert_eq!(got, sent.len());
        prop_assert_eq!((log.confirmed(), log.backlog_bytes()), (log.appended(), 0));
    }
}

/// One connection as an engine sees it, and the whole truth about it.
#[derive(Debug, Default)]
struct Conn {
    pending: Pending,
    /// The horizons in force, as the log's answers set them. Nothing may be said at first.
    received: u64,
    output: u64,
    /// Every record of it: position, input up to there, output before it.
    records: Vec<(Lsn, u64, u64)>,
    /// Its input and output by now.
    input_end: u64,
    output_end: u64,
}

impl Conn {
    /// What may be said by definition (output commit): last confirmed, first unconfirmed.
    fn truth(&self, confirmed: Lsn) -> (u64, u64) {
        let last = self.records.iter().rev().find(|record| record.0 <= confirmed);
        let first = self.records.iter().find(|record| record.0 > confirmed);
        let received = last.map_or(0, |record| record.1);
        let output = first.map_or(u64::MAX, |record| record.2);
        (received, if self.records.is_empty() { 0 } else { output })
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Connection `conn` gets input, and answers it.
    Input {
        conn: usize,
        bytes: u64,
        answer: u64,
    },
    /// A record that nothing depends on.
    Unnoted,
    /// Connection `conn` produces output of its own accord.
    Output {
        conn: usize,
        bytes: u64,
    },
    Flush,
    /// Confirms this part (of 256) of what is sent and unconfirmed.
    Confirm {
        part: u64,
    },
    /// Takes at most so many commits.
    Poll {
        count: usize,
    },
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let conn = 0..5usize;
    prop_oneof![
        8 => (conn.clone(), 0..100u64, 0..1000u64)
            .prop_map(|(conn, bytes, answer)| Step::Input { conn, bytes, answer }),
        2 => Just(Step::Unnoted),
        3 => (conn, 0..100u64).prop_map(|(conn, bytes)| Step::Output { conn, bytes }),
        4 => Just(Step::Flush),
        4 => (0..=256u64).prop_map(|part| Step::Confirm { part }),
        4 => (0..8usize).prop_map(|count| Step::Poll { count }),
        1 => Just(Step::Reset),
    ]
}

/// The log, five connections, and how far the confirmation has come.
struct World {
    log: Log,
    conns: [Conn; 5],
    out: Vec<u8>,
}

impl World {
    fn act(&mut self, step: &Step) {
        match *step {
            Step::Input { conn, bytes, answer } => self.input(conn, bytes, answer),
            Step::Unnoted => {
                self.log.append(&CLOSED).unwrap();
            }
            Step::Output { conn, bytes } => self.conns[conn].output_end += bytes,
            Step::Flush => self.log.flush(EPOCH, 0, &mut self.out),
            Step::Confirm { part } => {
                let (confirmed, sent) = (self.log.confirmed().0, self.log.sent().0);
                let lsn = Lsn(confirmed + (sent - confirmed) * part / 256);
                self.log.on_confirm(lsn).unwrap();
            }
            Step::Poll { count } => self.poll(count),
            Step::Reset => {
                self.log = Log::starting_at(self.log.appended().next());
                self.conns = Default::default();
            }
        }
    }

    fn input(&mut self, index: usize, bytes: u64, answer: u64) {
        let conn = &mut self.conns[index];
        let id = ConnId(index as u64);
        let output_before = conn.output_end;
        conn.input_end += bytes;
        conn.output_end += answer;
        let lsn = self.log.append(&CLOSED).unwrap();
        let limit = self.log.note(&mut conn.pending, id, lsn, conn.input_end, output_before);
        conn.records.push((lsn, conn.input_end, output_before));
        if let Some(limit) = limit
            && conn.records.len() > 1
        {
            conn.output = limit;
        }
    }

    fn poll(&mut self, count: usize) {
        for _ in 0..count {
            let Some(commit) = self.log.poll_commit(&mut { usize::MAX }) else { return };
            let conn = &mut self.conns[usize::try_from(commit.conn.0).unwrap()];
            assert!(conn.records.iter().any(|record| record.0 == commit.lsn));
            assert!(conn.received <= commit.received, "horizons only grow");
            assert!(conn.output <= commit.output.limit(), "horizons only grow");
            (conn.received, conn.output) = (commit.received, commit.output.limit());
        }
    }

    /// At every moment nothing more may be said than the truth allows; after all commits are
    /// taken, nothing less either.
    fn check(&self, all_polled: bool) {
        let confirmed = self.log.confirmed();
        for conn in &self.conns {
            let (received, output) = conn.truth(confirmed);
            assert!(conn.received <= received, "I1: {conn:?} at {confirmed:?}");
            assert!(conn.output <= output, "I2: {conn:?} at {confirmed:?}");
            let waits = conn.records.last().is_some_and(|record| record.0 > confirmed);
            if waits {
                assert!(!self.log.is_clear(conn.pending), "{conn:?} at {confirmed:?}");
            }
            if all_polled {
                let opened = conn.records.first().is_some_and(|record| record.0 <= confirmed);
                let truth = if opened { (received, output) } else { (0, 0) };
                assert_eq!((conn.received, conn.output), truth, "{conn:?} at {confirmed:?}");
                assert_eq!(self.log.is_clear(conn.pending), !waits);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn group_commit_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World { log: Log::starting_at(Lsn(1)), conns: Default::default(), out: Vec::new() };
        for step in &steps {
            world.act(step);
            world.check(false);
        }
        for step in [Step::Poll { count: usize::MAX }, Step::Flush, Step::Confirm { part: 128 }] {
            world.act(&step);
        }
        world.act(&Step::Poll { count: usize::MAX });
        world.check(true);
        world.act(&Step::Confirm { part: 256 });
        world.act(&Step::Poll { count: usize::MAX });
        world.check(true);
        assert!(world.conns.iter().all(|conn| world.log.is_clear(conn.pending)));
    }

    #[test]
    fn a_confirmation_wakes_each_connection_once(conns in prop::collection::vec(0..5u64, 1..60)) {
        let mut log = Log::starting_at(Lsn(1));
        let mut pendings = [Pending::default(); 5];
        let mut last = [None; 5];
        for (index, &conn) in conns.iter().enumerate() {
            let place = usize::try_from(conn).unwrap();
            let lsn = log.append(&CLOSED).unwrap();
            let _ = log.note(&mut pendings[place], ConnId(conn), lsn, index as u64, 0);
            last[place] = Some((conn, lsn));
        }
        flushed(&mut log);
        log.on_confirm(log.sent()).unwrap();
        let mut commits: Vec<_> = std::iter::from_fn(|| log.poll_commit(&mut { usize::MAX }))
            .inspect(|commit| assert_eq!(commit.output, Output::All))
            .map(|commit| (commit.conn.0, commit.lsn))
            .collect();
        commits.sort_unstable();
        prop_assert_eq!(commits, last.into_iter().flatten().collect::<Vec<_>>());
    }
}
