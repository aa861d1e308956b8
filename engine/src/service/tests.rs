//! One app, and two of them in the roles of primary and standby.

use super::*;
use proptest::prelude::*;

/// One node: an app and what it is given.
pub(super) struct Node {
    pub(super) app: App,
    pub(super) store: MemoryStore,
    pub(super) lead: bool,
    pub(super) wall: u64,
    pub(super) edition: Edition,
    pub(super) limits: Limits,
    kind: Kind,
}

pub(super) const WALL: u64 = 1_700_000_000;
/// When the files of [`library`] were last modified.
const MODIFIED: u64 = 1_577_836_800 * 1_000_000_000 + 5;

impl Node {
    pub(super) fn new(kind: Kind, store: &MemoryStore, lead: bool, output_buffer: u32) -> Self {
        let limits = Limits { output_buffer };
        let app = App::new(kind, &limits);
        let edition = Edition::default();
        Self { app, store: store.clone(), lead, wall: WALL, edition, limits, kind }
    }

    /// Calls the app; returns the pins that it emitted.
    pub(super) fn call(&mut self, what: impl FnOnce(&mut App, &mut Env<'_>)) -> Vec<PinBytes> {
        let mut pins = Vec::new();
        let Self { app, store, lead, wall, edition, .. } = self;
        what(app, &mut Env { store, lead: *lead, pins: &mut pins, wall: *wall, edition: *edition });
        assert!(*lead || pins.is_empty(), "a follower emits no pins");
        pins
    }

    pub(super) fn input(&mut self, bytes: &[u8]) -> Vec<PinBytes> {
        self.call(|app, env| app.on_input(bytes, env))
    }

    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.app.snapshot(&mut bytes);
        bytes
    }

    /// Replaces the app by one restored from `snapshot`.
    pub(super) fn restore(&mut self, snapshot: &[u8]) -> Vec<PinBytes> {
        self.app.close(&mut self.store);
        let mut pins = Vec::new();
        let Self { app, store, lead, wall, edition, limits, kind } = self;
        let mut env = Env { store, lead: *lead, pins: &mut pins, wall: *wall, edition: *edition };
        *app = App::restore(*kind, limits, snapshot, &mut env).expect("our own snapshot");
        pins
    }

    /// All output from `from` on.
    pub(super) fn output(&mut self, from: u64) -> Result<Vec<u8>, Read> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            let at = from + bytes.len() as u64;
            match self.app.read(at..at + 1000, &mut buffer, &mut self.store) {
                Read::Ready(0) => return Ok(bytes),
                Read::Ready(count) => bytes.extend_from_slice(&buffer[..count]),
                failed @ (Read::Pending | Read::Gone) => return Err(failed),
            }
        }
    }

    pub(super) fn acked(&mut self, offset: u64) -> Vec<PinBytes> {
        self.call(|app, env| app.on_acked(offset, env))
    }
}

pub(super) fn files() -> Kind {
    Kind::Files { root: 0, patience: Patience::ENDLESS }
}

/// A few files, modified in 2020.
pub(super) fn library() -> MemoryStore {
    let mut store = MemoryStore::new();
    let modified = MODIFIED;
    store.put(0, "index.html", "<h1>hello</h1>", modified);
    store.put(0, "ten.txt", "0123456789", modified);
    store.put(0, "empty.bin", "", modified);
    let long: Vec<u8> = (0..5000u32).map(|n| (n % 251) as u8).collect();
    store.put(0, "docs/long", long, modified);
    store.put(0, "docs/index.html", "docs", modified);
    store.forbid(0, "secret");
    store
}

/// Two nodes of different versions read what the other wrote.
#[test]
fn snapshots_are_written_as_ever() {
    let expect = |kind, input: &[u8], golden: &str| {
        let mut node = Node::new(kind, &library(), true, 100);
        node.input(input);
        let digits: String = node.snapshot().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, golden.replace(' ', ""));
    };
    expect(Kind::Echo, b"abc", "01 00 00 03 00 00 03 01 00 03 616263 00");
    expect(Kind::Discard, b"abc", "01 00 00 03 00 00 00 00 01");
    expect(Kind::Chargen, b"abc", "01 00 00 03 00 00 808080808080808040 01 01 02");
    let head: String = "HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 10\r\n\
        ETag: \"f30131fad6a9985195ecb4395aaf7044\"\r\n\
        Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n\r\n"
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    expect(
        files(),
        b"GET /ten.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /",
        &format!(
            "01 00 00 22 05 474554202f 00 ed01 02 00 e301 {head} 03 0a 8580a8ccdbc6e6f215 \
             f30131fad6a9985195ecb4395aaf7044e30aa67277d41fa1cbaf373df8987cb1 \
             07 74656e2e747874 00 0a 03 00 00"
        ),
    );
}

#[test]
fn an_idle_app_is_small() {
    assert!(size_of::<App>() <= 120, "{}", size_of::<App>());
    let mut node = Node::new(Kind::Echo, &MemoryStore::new(), true, 100);
    node.input(b"hello");
    node.acked(5);
    assert!(node.app.input.is_none());
    assert_eq!(node.app.output.held(), 0);
}

#[test]
fn echo_stops_taking_input_while_its_output_is_full() {
    let mut node = Node::new(Kind::Echo, &MemoryStore::new(), true, 8);
    node.input(b"0123456789abcdef");
    assert_eq!((node.app.consumed(), node.app.output_end()), (8, 8));
    node.acked(3);
    assert_eq!((node.app.consumed(), node.app.output_end()), (11, 11));
    node.call(App::on_peer_finished);
    assert!(!node.app.finished(), "five bytes are still to be echoed");
    node.acked(11);
    assert!(node.app.finished());
    assert_eq!(node.output(11), Ok(b"bcdef".to_vec()));
}

#[test]
fn a_following_echo_has_every_byte_that_the_leader_may_have_sent() {
    let mut node = Node::new(Kind::Echo, &MemoryStore::new(), false, 8);
    node.input(&[7; 100]);
    assert_eq!(node.app.output_end(), 100);
}

#[test]
fn an_acknowledgment_ahead_of_the_output_is_skipped_to() {
    let mut node = Node::new(Kind::Echo, &MemoryStore::new(), true, 8);
    node.acked(20);
    node.input(b"0123456789abcdefghijklmnop");
    assert_eq!((node.app.consumed(), node.output(20)), (26, Ok(b"klmnop".to_vec())));
}

#[test]
fn discard_takes_everything_and_finishes_with_the_peer() {
    let mut node = Node::new(Kind::Discard, &MemoryStore::new(), true, 8);
    node.input(&[1; 1000]);
    assert_eq!((node.app.consumed(), node.app.output_end(), node.app.finished()), (1000, 0, false));
    node.call(App::on_peer_finished);
    assert!(node.app.finished());
}

#[test]
fn chargen_goes_on_whatever_the_peer_says() {
    let mut node = Node::new(Kind::Chargen, &MemoryStore::new(), true, 8);
    node.input(b"stop");
    node.call(App::on_peer_finished);
    node.acked(1 << 40);
    assert_eq!(
        (node.app.output_end(), node.app.finished(), node.app.consumed()),
        (ENDLESS, false, 4)
    );
    let mut expected = [0; 200];
    pattern::fill(1 << 40, &mut expected);
    let snapshot = node.snapshot();
    node.restore(&snapshot);
    let mut bytes = [0; 200];
    let range = 1 << 40..ENDLESS;
    assert_eq!(node.app.read(range, &mut bytes, &mut node.store), Read::Ready(200));
    assert_eq!(bytes, expected);
}

#[test]
fn output_below_the_acknowledgment_is_a_failure_not_a_guess() {
    let mut node = Node::new(Kind::Chargen, &MemoryStore::new(), true, 8);
    node.acked(100);
    assert_eq!(node.output(99), Err(Read::Gone));
    assert_eq!(node.app.failed(), Some(Failure::Released));
}

#[test]
fn only_files_takes_pins_and_only_when_following() {
    let pin = pin(pin::Outcome::NotFound);
    for (kind, lead) in [(Kind::Echo, false), (files(), true)] {
        let mut node = Node::new(kind, &MemoryStore::new(), lead, 8);
        node.call(|app, env| assert_eq!(app.on_pin(&pin, env), Err(PinError::Unexpected)));
    }
    let mut node = Node::new(files(), &MemoryStore::new(), false, 8);
    node.call(|app, env| assert_eq!(app.on_pin(b"x", env), Err(PinError::Version(b'x'))));
}

#[test]
fn a_pin_of_another_request_is_noticed() {
    let pin = pin(pin::Outcome::NotAsked);
    let mut node = Node::new(files(), &library(), false, 8);
    node.input(b"GET /ten.txt HTTP/1.0\r\n\r\n");
    node.call(|app, env| assert_eq!(app.on_pin(&pin, env), Ok(())));
    assert_eq!((node.app.failed(), node.app.protected()), (Some(Failure::Diverged), false));
}

fn pin(outcome: pin::Outcome) -> PinBytes {
    pin::Pin { edition: Edition::default(), wall: 1, outcome }.encode()
}

const REQUEST: &[u8] = b"GET /ten.txt HTTP/1.1\r\nHost: h\r\n\r\n";

/// A primary that has answered one request for ten.txt, and a standby behind it with a copy of its
/// own.
fn both_with(copy: impl FnOnce(&mut MemoryStore), unhashed: bool, edition: Edition) -> [Node; 2] {
    let mut store = library();
    store.unhashed = unhashed;
    let mut primary = Node::new(files(), &store, true, 1000);
    primary.edition = edition;
    copy(&mut store);
    store.unhashed = false;
    let mut standby = Node::new(files(), &store, false, 1000);
    let pins = primary.input(REQUEST);
    standby.input(REQUEST);
    follow(&mut standby, &pins);
    assert_eq!(standby.app.output_end(), primary.app.output_end());
    [primary, standby]
}

fn follow(standby: &mut Node, pins: &[PinBytes]) {
    for pin in pins {
        standby.call(|app, env| app.on_pin(pin, env).expect("a pin"));
    }
}

fn standby_with(copy: impl FnOnce(&mut MemoryStore)) -> Node {
    let [_, standby] = both_with(copy, false, Edition::default());
    standby
}

fn why(node: &Node) -> Option<Difference> {
    node.app.doubt().expect("a doubt").why
}

#[test]
fn a_standby_with_another_copy_is_unprotected_and_never_sends_it() {
    let mut standby = standby_with(|store| store.put(0, "ten.txt", "012345678X", MODIFIED));
    assert!(!standby.app.protected() && !standby.app.awaits_store());
    assert_eq!(why(&standby), Some(Difference::Content));
    standby.lead = true;
    standby.call(App::lead);
    assert_eq!(standby.app.failed(), None, "the client may have it all already");
    let body = standby.app.output_end() - 10;
    assert!(standby.output(0).is_err());
    assert_eq!(standby.app.failed(), Some(Failure::Content));
    let mut lucky = standby_with(|store| store.remove(0, "ten.txt"));
    assert_eq!((lucky.app.protected(), why(&lucky)), (false, Some(Difference::Missing)));
    lucky.acked(body + 10);
    assert!(lucky.app.protected(), "acknowledged bodies do not matter");
    let longer = standby_with(|store| store.put(0, "ten.txt", "0123456789.", MODIFIED));
    assert_eq!(why(&longer), Some(Difference::Length));
}

/// Copies of one length and one time may hold other bytes, and nobody has looked.
#[test]
fn a_reply_that_was_not_hashed_is_unprotected_and_never_continued() {
    let same = |_: &mut MemoryStore| {};
    let other = |store: &mut MemoryStore| store.put(0, "ten.txt", "012345678X", MODIFIED);
    for copy in [&same as &dyn Fn(&mut MemoryStore), &other] {
        for edition in [Edition::First, Edition::Second] {
            let [_, mut standby] = both_with(copy, true, edition);
            assert_eq!(
                (standby.app.protected(), why(&standby)),
                (false, Some(Difference::Unpinned))
            );
            standby.lead = true;
            standby.call(App::lead);
            let body = standby.app.output_end() - 10;
            assert_eq!(standby.output(body), Err(Read::Gone));
            assert_eq!(standby.app.failed(), Some(Failure::Content));
        }
    }
}

#[test]
fn a_reply_whose_hash_follows_is_protected_from_then_on() {
    let other = |store: &mut MemoryStore| store.put(0, "ten.txt", "012345678X", MODIFIED);
    let touched = |store: &mut MemoryStore| store.put(0, "ten.txt", "0123456789", 1);
    for (copy, same) in [(&touched as &dyn Fn(&mut MemoryStore), true), (&other, false)] {
        let [mut primary, mut standby] = both_with(copy, true, Edition::Second);
        assert!(primary.app.is_unhashed());
        assert!(primary.call(App::pin_hashes).is_empty(), "it is not known yet");
        primary.store.unhashed = false;
        let pins = primary.call(App::pin_hashes);
        assert_eq!((pins.len(), primary.app.is_unhashed()), (1, false));
        assert!(primary.call(App::pin_hashes).is_empty(), "once");
        follow(&mut standby, &pins);
        assert_eq!(standby.app.protected(), same);
        assert_eq!(standby.output(0).is_ok(), same);
    }
}

#[test]
fn a_hash_that_comes_late_or_for_nothing_changes_nothing() {
    let [mut primary, mut standby] = both_with(|_| {}, true, Edition::Second);
    let end = primary.app.output_end();
    for at in [0, 1, end - 10, end - 1, end + 1] {
        follow(&mut standby, &[pin::Pinned::encode_hash(at, &[7; 32])]);
        assert_eq!(why(&standby), Some(Difference::Unpinned));
    }
    primary.store.unhashed = false;
    let pins = primary.call(App::pin_hashes);
    standby.acked(end);
    follow(&mut standby, &pins);
    assert!(standby.app.protected());
    standby.app.close(&mut standby.store);
    assert_eq!(standby.store.holds(), 0);
}

/// The file was replaced before anybody had hashed what is being sent.
#[test]
fn the_hash_of_a_later_content_is_not_pinned() {
    let [mut primary, _] = both_with(|_| {}, true, Edition::Second);
    primary.store.unhashed = false;
    primary.store.put(0, "ten.txt", "9876543210", 77);
    assert!(primary.call(App::pin_hashes).is_empty() && primary.app.is_unhashed());
}

#[test]
fn a_snapshot_of_a_reply_that_was_not_hashed_is_completed_later() {
    let [mut primary, mut standby] = both_with(|_| {}, true, Edition::Second);
    let snapshot = primary.snapshot();
    standby.restore(&snapshot);
    assert_eq!(why(&standby), Some(Difference::Unpinned));
    primary.store.unhashed = false;
    let pins = primary.call(App::pin_hashes);
    follow(&mut standby, &pins);
    assert!(standby.app.protected());
    assert_eq!(standby.output(0), primary.output(0));
}

/// What one version answers otherwise than the other it answers as the older one does, while that
/// is its peer; and both nodes say the same, whatever the follower would say by itself.
#[test]
fn both_nodes_answer_by_the_edition_that_is_pinned() {
    let requests = [
        "GET /empty.bin HTTP/1.1\r\nHost: h\r\nRange: bytes=-5\r\n\r\n",
        "GET /ten.txt HTTP/1.1\r\nHost: h\r\n\r\n",
        "\nGET /ten.txt HTTP/1.1\nHost: h\n\n",
        "GET /ten.txt HTTP/1.1\r\nHost: h\n\r\n",
    ];
    for (edition, codes) in [
        (Edition::First, ["416", "200", "200", "200"]),
        (Edition::Second, ["200", "200", "400", "400"]),
    ] {
        for (request, code) in requests.iter().zip(codes) {
            let mut primary = Node::new(files(), &library(), true, 1000);
            primary.edition = edition;
            let mut standby = Node::new(files(), &library(), false, 1000);
            let pins = primary.input(request.as_bytes());
            standby.input(request.as_bytes());
            follow(&mut standby, &pins);
            let reply = primary.output(0).expect("readable");
            let text = String::from_utf8_lossy(&reply);
            assert_eq!(&text[9..12], code, "{request:?}");
            let time_tag = text.contains("ETag: \"15e59a35b98a0005-");
            assert_eq!(time_tag, edition == Edition::First && code == "200", "{text}");
            assert_eq!(standby.output(0), Ok(reply), "{edition:?} {request:?}");
            assert_eq!(standby.app.consumed(), primary.app.consumed(), "{edition:?} {request:?}");
        }
    }
}

/// A dead primary of another version took something for a request that we do not.
#[test]
fn a_pin_without_its_request_ends_the_stream_at_a_takeover() {
    let mut standby = Node::new(files(), &library(), false, 8);
    standby.input(b"GET /ten.txt HTTP/1.1\r\nHo");
    follow(&mut standby, &[pin(pin::Outcome::NotAsked)]);
    standby.lead = true;
    standby.call(App::lead);
    assert_eq!(standby.app.failed(), Some(Failure::Diverged));
}

#[test]
fn a_standby_whose_copy_arrives_later_becomes_protected() {
    let mut standby = standby_with(|store| store.remove(0, "ten.txt"));
    assert!(!standby.app.protected());
    standby.store.put(0, "ten.txt", "0123456789", 999);
    standby.call(App::go_on);
    assert!(standby.app.protected(), "the hash decides, not the time");
    assert!(standby.output(0).expect("all of it").ends_with(b"\r\n\r\n0123456789"));
}

#[test]
fn a_standby_that_cannot_say_yet_waits_and_says_so() {
    let mut standby = standby_with(|store| store.pending = true);
    assert!(!standby.app.protected() && standby.app.awaits_store());
    assert_eq!(why(&standby), None);
    standby.lead = true;
    standby.call(App::lead);
    let end = standby.app.output_end();
    assert_eq!(standby.output(end - 10), Err(Read::Pending));
    standby.store.pending = false;
    standby.call(App::go_on);
    assert!(standby.app.protected() && !standby.app.awaits_store());
    assert_eq!(standby.output(end - 10), Ok(b"0123456789".to_vec()));
}

#[test]
fn content_that_changes_while_it_is_sent_fails_the_stream() {
    let mut node = Node::new(files(), &library(), true, 1000);
    node.input(b"GET /ten.txt HTTP/1.0\r\n\r\n");
    assert!(node.output(0).is_ok() && node.app.finished());
    node.store.put(0, "ten.txt", "9876543210", 77);
    assert_eq!(node.output(node.app.output_end() - 3), Err(Read::Gone));
    assert_eq!(node.app.failed(), Some(Failure::Content));
    assert_eq!(why(&node), Some(Difference::Changed));
    node.app.close(&mut node.store);
    assert_eq!(node.store.holds(), 0);
}

// ── Properties ──────────────────────────────────────────────────────────────────────────────────

/// What may happen to a pair between two bytes.
#[derive(Clone, Debug)]
enum Event {
    /// So many more bytes of input.
    Input(usize),
    /// The client closes its side, once all input is there.
    Finish,
    /// The client acknowledges this share (of 255) of what it has.
    Ack(u8),
    /// The standby hears of the acknowledgments.
    Progress,
    /// The primary's store becomes slow, or answers.
    Slow(bool),
    /// The primary's store knows no hash of what is asked for now, or knows all.
    Unhashed(bool),
    /// An instance is replaced by its own snapshot.
    RestoreStandby,
    /// A new standby is made from the primary's snapshot.
    Rejoin,
    /// A second passes.
    Tick,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1usize..400).prop_map(Event::Input),
        1 => Just(Event::Finish),
        3 => any::<u8>().prop_map(Event::Ack),
        2 => Just(Event::Progress),
        1 => any::<bool>().prop_map(Event::Slow),
        1 => any::<bool>().prop_map(Event::Unhashed),
        1 => Just(Event::RestoreStandby),
        1 => Just(Event::Rejoin),
        1 => Just(Event::Tick),
    ]
}

/// Requests and things that are none, to be sent one behind the other.
const REQUESTS: &[&str] = &[
    "GET /ten.txt HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /docs/long HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /docs HTTP/1.1\r\nHost: h\r\n\r\n",
    "\r\nHEAD /docs/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /ten.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=2-4\r\n\r\n",
    "GET /missing HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /secret HTTP/1.1\nHost: h\n\n",
    "GET /ten.txt HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: v\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\nGET /ten.txt HTTP/1.1\r\nHost: evil\r\n\r\n...",
];

const ENDINGS: &[&str] = &[
    "",
    "GET /ten.txt HTTP/1.1\r\nHo",
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nbroken",
    "GET /../x HTTP/1.1\r\nHost: h\r\n\r\n",
    "\u{1}",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let requests = prop::collection::vec(prop::sample::select(REQUESTS), 0..12);
    (requests, prop::sample::select(ENDINGS))
        .prop_map(|(requests, ending)| [requests.concat(), ending.to_owned()].concat().into_bytes())
}

/// A primary, its standby, and a client that keeps what it receives.
struct Pair {
    primary: Node,
    standby: Node,
    received: Vec<u8>,
    acked: u64,
    finished: bool,
}

impl Pair {
    fn new(kind: Kind, output_buffer: u32) -> Self {
        let mut store = library();
        store.read_limit = 700;
        let primary = Node::new(kind, &store, true, output_buffer);
        let standby = Node::new(kind, &store, false, output_buffer);
        Self { primary, standby, received: Vec::new(), acked: 0, finished: false }
    }

    /// Hands pins over, lets the client receive what there is, and checks it against the standby.
    fn settle(&mut self, pins: Vec<PinBytes>) {
        for pin in pins {
            self.standby.call(|app, env| app.on_pin(&pin, env).expect("a pin"));
        }
        if let Ok(more) = self.primary.output(self.received.len() as u64) {
            self.received.extend(more);
        }
        assert!(self.standby.app.output_end() >= self.primary.app.output_end(), "I2");
        let late = self.primary.call(App::pin_hashes);
        follow(&mut self.standby, &late);
        if !self.standby.app.protected() {
            assert_eq!(why(&self.standby), Some(Difference::Unpinned), "only for want of a hash");
            return;
        }
        let from = self.standby.app.output.acked();
        let same = self.standby.output(from).expect("the standby's copy is the same");
        let ours = self.received.get(from as usize..).unwrap_or_default();
        assert!(same.starts_with(ours), "I2: what was sent can be sent again");
    }

    fn on_event(&mut self, event: &Event, input: &mut &[u8]) {
        let pins = match event {
            Event::Input(count) => {
                let (now, later) = input.split_at((*count).min(input.len()));
                *input = later;
                self.standby.input(now);
                self.primary.input(now)
            }
            Event::Finish if self.finished || !input.is_empty() => Vec::new(),
            Event::Finish => {
                self.finished = true;
                self.standby.call(App::on_peer_finished);
                self.primary.call(App::on_peer_finished)
            }
            Event::Ack(share) => {
                let open = self.received.len() as u64 - self.acked;
                self.acked += open * u64::from(*share) / 255;
                self.primary.acked(self.acked)
            }
            Event::Progress => self.standby.acked(self.acked),
            Event::Slow(pending) => {
                self.primary.store.pending = *pending;
                self.primary.call(App::go_on)
            }
            Event::Unhashed(unhashed) => {
                self.primary.store.unhashed = *unhashed;
                Vec::new()
            }
            Event::RestoreStandby => {
                let snapshot = self.standby.snapshot();
                self.standby.restore(&snapshot)
            }
            Event::Rejoin => {
                let snapshot = self.primary.snapshot();
                self.standby.restore(&snapshot)
            }
            Event::Tick => {
                self.primary.wall += 1;
                self.standby.wall += 77;
                Vec::new()
            }
        };
        self.settle(pins);
    }

    /// The primary dies, the rest of the input and the client's end reach the standby.
    fn take_over(mut self, rest: &[u8]) -> (Vec<u8>, bool) {
        self.primary.store.unhashed = false;
        let late = self.primary.call(App::pin_hashes);
        follow(&mut self.standby, &late);
        self.standby.lead = true;
        self.standby.wall = self.primary.wall;
        self.standby.acked(self.acked);
        self.standby.call(App::lead);
        if !self.finished {
            self.standby.input(rest);
            self.standby.call(App::on_peer_finished);
        }
        self.received.truncate(self.acked as usize);
        loop {
            let more = self.standby.output(self.received.len() as u64).expect("readable");
            if more.is_empty() {
                break;
            }
            self.received.extend(more);
            self.standby.acked(self.received.len() as u64);
        }
        let finished = self.standby.app.finished();
        self.standby.app.close(&mut self.standby.store);
        self.primary.app.close(&mut self.primary.store);
        assert_eq!((self.standby.store.holds(), self.primary.store.holds()), (0, 0));
        (self.received, finished)
    }
}

/// The whole stream from one instance that is given everything at once.
fn reference(kind: Kind, input: &[u8]) -> Vec<u8> {
    let mut node = Node::new(kind, &library(), true, 1 << 20);
    node.input(input);
    node.call(App::on_peer_finished);
    assert!(node.app.finished());
    node.output(0).expect("readable")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_takeover_anywhere_leaves_the_stream_unchanged(
        input in stream(),
        events in prop::collection::vec(event(), 0..60),
        kind in prop::sample::select(vec![Kind::Echo, files()]),
        output_buffer in 1u32..3000,
    ) {
        let mut pair = Pair::new(kind, output_buffer);
        let mut rest = input.as_slice();
        for event in &events {
            pair.on_event(event, &mut rest);
        }
        // Dates and entity tags are others then.
        let ticked = events.iter().any(|event| matches!(event, Event::Tick | Event::Unhashed(true)));
        let (received, finished) = pair.take_over(rest);
        prop_assert!(finished);
        if !ticked {
            prop_assert_eq!(received, reference(kind, &input));
        }
    }

    #[test]
    fn hostile_input_never_panics(pieces in prop::collection::vec(
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..50),
            prop::sample::select(REQUESTS).prop_map(|r| r.as_bytes().to_vec()),
            "(GET|HEAD|PUT|GE) [!-~]{0,20} HTTP/1.[0-2]\r\n".prop_map(String::into_bytes),
            "(Host|Range|If-Range|If-Match|If-None-Match|If-Modified-Since|Content-Length|Connection): [ -~]{0,20}\r\n"
                .prop_map(String::into_bytes),
            Just(b"\r\n".to_vec()),
        ], 0..20)) {
        let mut node = Node::new(files(), &library(), true, 1000);
        for piece in &pieces {
            node.input(piece);
        }
        node.call(App::on_peer_finished);
        let all = pieces.concat();
        let end = node.app.output_end();
        let mut once = Node::new(files(), &library(), true, 1000);
        once.input(&all);
        once.call(App::on_peer_finished);
        prop_assert_eq!(end, once.app.output_end());
        prop_assert!(node.output(0) == once.output(0));
    }

    #[test]
    fn hostile_snapshots_are_refused_without_panic(
        mut input in stream(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        input.truncate(2000);
        let mut node = Node::new(files(), &library(), true, 500);
        node.input(&input);
        let mut bytes = node.snapshot();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let (mut pins, mut store) = (Vec::new(), library());
        for lead in [false, true] {
            let edition = Edition::default();
            let mut env = Env { store: &mut store, lead, pins: &mut pins, wall: WALL, edition };
            let restored = App::restore(files(), &node.limits, &bytes, &mut env);
            if let Ok(mut app) = restored {
                app.on_input(b"GET / HTTP/1.0\r\n\r\n", &mut env);
                let acked = app.output.acked();
                let _ = app.read(acked..acked + 5000, &mut [0; 5000], env.store);
                app.close(env.store);
            }
        }
        prop_assert_eq!(store.holds(), 0);
    }
}
