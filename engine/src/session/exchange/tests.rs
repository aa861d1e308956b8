use proptest::prelude::*;

use super::*;
use crate::service::{Again, App, Edition, Env, Kind, Limits, MemoryStore};
use crate::session::LEGS;

const PATIENCE: HttpPatience = HttpPatience {
    connect: Duration::from_secs(3),
    first_byte: Duration::from_secs(20),
    idle: Duration::from_secs(60),
};

const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";

/// An exchange, and the legs that an engine would have.
struct Node {
    exchange: Exchange,
    legs: [Option<App>; LEGS],
    lead: bool,
    /// For what there is no memory.
    waits: [bool; 2],
    outcomes: Vec<Outcome>,
    /// What each server was told, in order, but for the one that is there.
    told: Vec<String>,
}

fn rules(masking: Masking) -> Rules {
    Rules { request_max: 4096, reply_max: 4096, ..Rules::of(masking) }
}

fn app() -> App {
    let kind = Kind::Exchange(Rules::of(Masking::Replay), PATIENCE);
    App::new(kind, &Limits { output_buffer: 100 })
}

impl Node {
    fn new(rules: Rules, lead: bool) -> Self {
        let legs = [Some(app()), None, None];
        let exchange = Exchange::new(rules, [7; 16]);
        let (waits, outcomes, told) = ([false; 2], Vec::new(), Vec::new());
        let mut node = Self { exchange, legs, lead, waits, outcomes, told };
        assert_eq!(node.event(Event::Stands(CLIENT)), []);
        node
    }

    /// A leader whose client has said `text`, and whose server stands.
    fn asked(rules: Rules, text: &str) -> Self {
        let mut node = Self::new(rules, true);
        assert_eq!(node.say(CLIENT, text), [Effect::Dial(BACKEND)]);
        assert_eq!(node.answer_dial(), []);
        node
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        let (mut effects, mut scratch) = (Vec::new(), Vec::new());
        let (effects_, scratch) = (&mut effects, &mut scratch);
        let mut call = Call {
            lead: self.lead,
            now: Instant::ZERO,
            buffer: 100,
            effects: effects_,
            scratch,
            #[cfg(feature = "defects")]
            defect: None,
        };
        self.exchange.on_event(event, &mut self.legs, &mut call);
        self.exchange.open_windows(self.waits, &mut self.legs, &call);
        effects.retain(|effect| match effect {
            Effect::Count(outcome) => {
                self.outcomes.push(*outcome);
                false
            }
            Effect::Dial(_) | Effect::DialOnceMore | Effect::Reset(_) => true,
            Effect::Lost(..) | Effect::Forsake(..) | Effect::Differs { .. } => true,
        });
        effects
    }

    fn with(&mut self, leg: Leg, what: impl FnOnce(&mut App, &mut Env<'_>)) {
        let (mut store, mut pins) = (MemoryStore::new(), Vec::new());
        let (lead, store, pins) = (self.lead, &mut store, &mut pins);
        let mut env = Env { store, lead, pins, wall: 0, edition: Edition::Second };
        if let Some(app) = self.legs.leg(leg) {
            what(app, &mut env);
        }
    }

    fn say(&mut self, leg: Leg, text: &str) -> Vec<Effect> {
        self.with(leg, |app, env| app.on_input(text.as_bytes(), env));
        self.event(Event::Moved)
    }

    fn finish(&mut self, leg: Leg) -> Vec<Effect> {
        self.with(leg, App::on_peer_finished);
        self.event(Event::Moved)
    }

    /// The server that is dialled answers.
    fn answer_dial(&mut self) -> Vec<Effect> {
        self.legs[1] = Some(app());
        self.event(Event::Stands(BACKEND))
    }

    /// The server's leg is no more.
    fn close_server(&mut self, orderly: bool) -> Vec<Effect> {
        let said = self.said(BACKEND);
        self.told.push(said);
        let effects = self.event(Event::Closed { leg: BACKEND, orderly });
        self.legs[1] = None;
        effects
    }

    /// All that a leg has been given to say.
    fn said(&mut self, leg: Leg) -> String {
        let Some(app) = self.legs.leg(leg) else { return String::new() };
        let mut bytes = vec![0; app.output_end() as usize];
        app.read(0..app.output_end(), &mut bytes, &mut MemoryStore::new());
        String::from_utf8(bytes).expect("text")
    }

    fn has_finished(&mut self, leg: Leg) -> bool {
        self.legs.leg(leg).is_some_and(|app| app.finished())
    }
}

/// The reply as its client is to have it.
fn expect(node: &mut Node, text: &str) {
    assert_eq!(node.said(CLIENT), text);
}

#[test]
fn requests_are_answered_one_by_one_on_one_connection_to_a_server() {
    let two = format!("{GET}{GET}");
    let mut node = Node::asked(rules(Masking::Replay), &two);
    assert_eq!(node.said(BACKEND), GET, "the next one waits");
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(node.say(BACKEND, reply), []);
    assert_eq!(node.said(BACKEND), two);
    assert_eq!(node.say(BACKEND, reply), []);
    expect(&mut node, &reply.repeat(2));
    assert_eq!(node.outcomes, [Outcome::Answered; 2]);
    assert!(!node.has_finished(CLIENT));
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let text = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close, X-Own\r\nX-Own: 1\r\nA: b\r\n\r\n";
    let mut node = Node::asked(rules(Masking::Replay), text);
    assert_eq!(node.said(BACKEND), "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n");
    node.say(BACKEND, "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n");
    expect(&mut node, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(node.has_finished(CLIENT), "as its client wanted");
}

#[test]
fn a_reply_goes_on_at_the_byte_wherever_its_server_dies() {
    let (head, body) = (
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 26\r\n\r\n",
        "abcdefghijklmnopqrstuvwxyz",
    );
    let reply = format!("{head}{body}");
    for cut in 0..reply.len() {
        for how in 0..3 {
            let mut node = Node::asked(rules(Masking::Replay), GET);
            assert_eq!(node.say(BACKEND, &reply[..cut]), []);
            match how {
                0 => {}
                1 => assert_eq!(node.finish(BACKEND), [Effect::Reset(BACKEND)]),
                _ => assert_eq!(node.event(Event::Moved), []),
            }
            assert_eq!(node.close_server(how == 2), [Effect::Dial(BACKEND)]);
            assert_eq!(node.answer_dial(), []);
            assert_eq!(node.said(BACKEND), GET, "asked again, once");
            let second = format!("Date: now\r\nServer: other\r\n{head}").replacen(head, "", 1);
            let second = reply.replacen("ETag", &format!("{second}ETag"), 1);
            assert_eq!(node.say(BACKEND, &second), [], "{cut}");
            if cut >= head.len() {
                expect(&mut node, &reply);
            } else {
                expect(&mut node, &second);
            }
            assert_eq!(node.outcomes, [Outcome::Repeated, Outcome::Answered, Outcome::Continued]);
        }
    }
}

#[test]
fn chunks_are_filled_from_whatever_the_next_server_cuts() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let first = format!("{head}5;x=y\r\nabcde\r\nA\r\nfghijklmno\r\n2\r\npq\r\n0\r\nT: v\r\n\r\n");
    let second = format!("{head}7\r\nabcdefg\r\n1\r\nh\r\n9\r\nijklmnopq\r\n0\r\nT: v\r\n\r\n");
    for cut in head.len()..first.len() {
        for size in [1, 3, 1000] {
            let mut node = Node::asked(rules(Masking::Replay), GET);
            node.say(BACKEND, &first[..cut]);
            node.close_server(false);
            node.answer_dial();
            for piece in second.as_bytes().chunks(size) {
                node.say(BACKEND, core::str::from_utf8(piece).expect("text"));
            }
            let said = node.said(CLIENT);
            let body = unchunk(said.strip_prefix(head).expect("the head"));
            assert_eq!(
                body,
                ("abcdefghijklmnopq".to_owned(), "T: v\r\n".to_owned()),
                "{cut}: {said:?}"
            );
            assert_eq!(node.outcomes.last(), Some(&Outcome::Continued));
        }
    }
}

/// A reader of chunks of its own: payload, and trailers.
fn unchunk(mut text: &str) -> (String, String) {
    let mut payload = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").expect("a size line");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            let trailers = rest.strip_suffix("\r\n").expect("an empty line");
            return (payload, trailers.to_owned());
        }
        payload.push_str(&rest[..size]);
        text = rest[size..].strip_prefix("\r\n").expect("the chunk's end");
    }
}

#[test]
fn another_reply_is_never_made_to_look_like_the_end_of_the_first() {
    let begun = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 10\r\n\r\nabcde";
    for other in [
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 10\r\n\r\nabcdXfghij",
        "HTTP/1.1 200 OK\r\nETag: \"2\"\r\nContent-Length: 10\r\n\r\nabcdefghij",
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 11\r\n\r\nabcdefghijk",
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nabcdefghij\r\n0\r\n\r\n",
        "HTTP/1.1 404 No\r\nETag: \"1\"\r\nContent-Length: 10\r\n\r\nabcdefghij",
        "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Type: a/b\r\nContent-Length: 10\r\n\r\nabcdefghij",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 0\r\n\r\nabcdefghij",
        "nonsense\r\n\r\n",
    ] {
        let mut node = Node::asked(rules(Masking::Replay), GET);
        node.say(BACKEND, begun);
        node.close_server(false);
        node.answer_dial();
        let effects = node.say(BACKEND, other);
        assert!(effects.ends_with(&[Effect::Reset(CLIENT), Effect::Reset(BACKEND)]), "{other}");
        assert_eq!(node.outcomes, [Outcome::Repeated, Outcome::Broken]);
        expect(&mut node, begun);
        assert!(!node.has_finished(CLIENT), "no orderly end");
    }
}

#[test]
fn a_server_that_cannot_just_now_is_followed_by_a_third_one() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcdefghij";
    let mut node = Node::asked(rules(Masking::Replay), GET);
    node.say(BACKEND, &reply[..45]);
    node.close_server(false);
    node.answer_dial();
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(node.say(BACKEND, busy), [Effect::Reset(BACKEND)]);
    assert_eq!(node.close_server(false), [Effect::DialOnceMore]);
    node.answer_dial();
    node.say(BACKEND, reply);
    expect(&mut node, reply);
}

#[test]
fn of_a_long_reply_only_the_rest_is_read_again_and_a_stretch_before_it() {
    let length = 1 << 20;
    let body: String = (0..length).map(|at: u32| char::from(b'a' + (at / 7 % 26) as u8)).collect();
    let fields = "Accept-Ranges: bytes\r\nETag: \"1\"\r\n";
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n");
    let (from, got) = (256 << 10, 700 << 10);
    let part = |fields: &str, range: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 206 Partial Content\r\n{fields}Content-Range: bytes {range}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let begun = |masking, get: &str, head: &str| {
        let mut node = Node::asked(rules(masking), get);
        node.say(BACKEND, &format!("{head}{}", &body[..got]));
        assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
        node.answer_dial();
        node
    };
    let whole = format!("{head}{body}");
    let range = format!("{from}-{}/{length}", length - 1);
    let tag = "ETag: \"1\"\r\n";
    for masking in [Masking::Replay, Masking::Journal] {
        for (reply, right) in [
            (part(tag, &range, &body[from..]), true),
            // It may take no ranges today.
            (whole.clone(), true),
            (part("", &range, &body[from..]), false),
            (part("ETag: \"2\"\r\n", &range, &body[from..]), false),
            (part(&format!("{tag}Content-Type: a/b\r\n"), &range, &body[from..]), false),
            (part(tag, &range, &body[from + 1..]), false),
            (part(tag, &format!("{from}-{}/{}", length - 1, length + 1), &body[from..]), false),
            (part(tag, &range, &body[from..].replacen("ab", "aX", 1)), false),
            (whole.replacen("aaa", "aab", 1), false),
        ] {
            let mut node = begun(masking, GET, &head);
            let asked = GET.replacen(
                "\r\n\r\n",
                &format!("\r\nRange: bytes={from}-\r\nIf-Range: \"1\"\r\n\r\n"),
                1,
            );
            assert_eq!(node.said(BACKEND), asked);
            node.say(BACKEND, &reply);
            assert_eq!(node.said(CLIENT) == whole, right, "{}", &reply[..200]);
            let last = if right { Outcome::Continued } else { Outcome::Broken };
            assert_eq!(node.outcomes.last(), Some(&last), "{}", &reply[..200]);
        }
    }
    // Whoever asks for a part, or under a condition, and what has no strong tag, is asked for anew.
    for (get, head) in [
        (GET.replacen("Host", "Range: bytes=0-\r\nHost", 1), head.clone()),
        (GET.replacen("Host", "If-None-Match: \"2\"\r\nHost", 1), head.clone()),
        (GET.to_owned(), head.replacen("\"1\"", "W/\"1\"", 1)),
        (GET.to_owned(), head.replacen("bytes", "none", 1)),
        (GET.to_owned(), head.replacen("ETag", "X-Tag", 1)),
    ] {
        let mut node = begun(Masking::Replay, &get, &head);
        assert_eq!(node.said(BACKEND), get);
    }
}

#[test]
fn a_chunked_reply_that_ends_within_what_was_said_is_another() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (first, second) in [
        ("5\r\nabcde\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        // A chunk of ten was begun.
        ("A\r\nabcde", "5\r\nabcde\r\n0\r\n\r\n"),
    ] {
        let mut node = Node::asked(rules(Masking::Replay), GET);
        node.say(BACKEND, &format!("{head}{first}"));
        node.close_server(false);
        node.answer_dial();
        node.say(BACKEND, &format!("{head}{second}"));
        assert_eq!(node.outcomes, [Outcome::Repeated, Outcome::Broken]);
        assert!(!node.said(CLIENT).contains("0\r\n\r\n"));
    }
}

#[test]
fn a_journal_shows_nothing_of_a_reply_that_its_server_does_not_finish() {
    let one = "HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 10\r\n\r\nabcdefghij";
    let two = "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nxyz";
    for cut in 0..one.len() {
        let mut node = Node::asked(rules(Masking::Journal), GET);
        node.say(BACKEND, &one[..cut]);
        expect(&mut node, "");
        node.close_server(false);
        node.answer_dial();
        node.say(BACKEND, two);
        expect(&mut node, two);
    }
}

#[test]
fn a_journal_of_a_long_reply_lets_it_pass_and_masks_it_as_a_replay_does() {
    let body = "x".repeat(10_000);
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{body}");
    let mut node = Node::asked(rules(Masking::Journal), GET);
    node.say(BACKEND, &reply[..3000]);
    expect(&mut node, "");
    node.say(BACKEND, &reply[3000..5000]);
    expect(&mut node, &reply[..5000]);
    node.close_server(false);
    node.answer_dial();
    node.say(BACKEND, &reply);
    expect(&mut node, &reply);
    // Or it is refused.
    let rules = Rules { oversize: Oversize::Refuse, ..rules(Masking::Journal) };
    let mut node = Node::asked(rules, GET);
    assert_eq!(node.say(BACKEND, &reply), [Effect::Reset(BACKEND)]);
    assert!(node.said(CLIENT).starts_with("HTTP/1.1 502 "));
}

/// I8, by method, key and policy.
#[test]
fn a_request_that_a_server_may_have_seen_goes_to_another_only_if_it_may() {
    let keyed = POST.replacen("Host", "Idempotency-Key: \"k\"\r\nHost", 1);
    let put = POST.replacen("POST", "PUT", 1);
    let texts = [GET, put.as_str(), keyed.as_str(), POST];
    for (again, permitted) in
        [Again::Never, Again::Safe, Again::Idempotent, Again::Keyed, Again::All]
            .into_iter()
            .zip(0..)
    {
        for (text, place) in texts.iter().zip(1..) {
            let rules = Rules { again, ..rules(Masking::Replay) };
            // One that nobody can have seen goes elsewhere.
            let mut node = Node::new(rules, true);
            node.say(CLIENT, text);
            node.legs[1] = Some(app());
            assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
            node.answer_dial();
            let effects = node.close_server(false);
            if permitted >= place {
                assert_eq!(effects, [Effect::Dial(BACKEND)], "{again:?} {text}");
                assert_eq!(node.outcomes, [Outcome::Repeated]);
            } else {
                assert_eq!(effects, [], "{again:?} {text}");
                assert_eq!(node.outcomes, [Outcome::Failed]);
                assert!(node.said(CLIENT).starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
                assert!(node.said(CLIENT).contains("is not known"));
                assert!(!node.has_finished(CLIENT), "its next request is welcome");
            }
        }
    }
}

#[test]
fn a_journal_gives_requests_a_key_that_stays_the_same() {
    let rules = Rules { again: Again::All, ..rules(Masking::Journal) };
    let mut node = Node::asked(rules, POST);
    node.close_server(false);
    node.answer_dial();
    let (first, second) = (node.told[0].clone(), node.said(BACKEND));
    assert_eq!(first, second);
    let key = first.split_once("Idempotency-Key: \"").expect("a key").1;
    assert_eq!(key.find('"'), Some(32));
    assert!(first.ends_with("\r\n\r\nhello"));
}

#[test]
fn attempts_are_bounded() {
    let mut node = Node::asked(rules(Masking::Replay), GET);
    // That of one server's death is for nobody to grudge, of those behind it for the budget.
    for dial in [Effect::Dial(BACKEND), Effect::DialOnceMore, Effect::DialOnceMore] {
        assert_eq!(node.close_server(false), [dial]);
        node.answer_dial();
    }
    assert_eq!(node.close_server(false), []);
    assert_eq!(node.outcomes, [[Outcome::Repeated; 3].as_slice(), &[Outcome::Failed]].concat());
    // But not those of a reply that gets on.
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n{}", "p".repeat(600));
    let mut node = Node::asked(rules(Masking::Replay), GET);
    for turn in 1..=300 {
        node.say(BACKEND, &reply[..50 + turn]);
        assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
        node.answer_dial();
    }
    node.say(BACKEND, &reply);
    expect(&mut node, &reply);
    // And of servers that do not take the connection.
    let mut node = Node::new(rules(Masking::Replay), true);
    node.say(CLIENT, GET);
    for _ in 1..REFUSALS {
        node.legs[1] = Some(app());
        assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
    }
    node.legs[1] = Some(app());
    assert_eq!(node.close_server(false), []);
    assert_eq!(node.outcomes, [Outcome::Failed]);
}

#[test]
fn what_is_no_request_is_refused_and_reaches_no_server() {
    for (text, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("\u{16}\u{3}\u{1}", 400),
    ] {
        let mut node = Node::new(rules(Masking::Replay), true);
        assert_eq!(node.say(CLIENT, text), []);
        assert!(node.said(CLIENT).starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(node.has_finished(CLIENT));
        assert_eq!(node.outcomes, [Outcome::Refused]);
    }
    // Found when a server has the beginning of it.
    let text = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let mut node = Node::asked(rules(Masking::Replay), text);
    assert_eq!(node.said(BACKEND), text);
    assert_eq!(node.say(CLIENT, "x\r\n"), [Effect::Reset(BACKEND)]);
    assert!(node.said(CLIENT).starts_with("HTTP/1.1 400 "));
}

#[test]
fn long_requests_pass_and_are_not_masked_or_are_refused() {
    let body = "y".repeat(9000);
    let text = format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n{body}");
    let chunked = format!(
        "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2328\r\n{body}\r\n0\r\n\r\n"
    );
    for text in [&text, &chunked] {
        let pass = Rules { again: Again::All, ..rules(Masking::Replay) };
        let mut node = Node::new(pass, true);
        assert_eq!(node.say(CLIENT, &text[..6000]), [Effect::Dial(BACKEND)]);
        node.answer_dial();
        node.say(CLIENT, &text[6000..]);
        assert_eq!(node.said(BACKEND), *text);
        assert!(node.exchange.memory() < 4096, "it is not kept");
        assert_eq!(node.close_server(false), []);
        assert_eq!(node.outcomes, [Outcome::Failed]);
        let mut node = Node::new(Rules { oversize: Oversize::Refuse, ..pass }, true);
        node.say(CLIENT, text);
        assert!(node.said(CLIENT).starts_with("HTTP/1.1 413 "));
    }
}

#[test]
fn interim_replies_pass_once_and_upgrades_join_both_ends() {
    let text = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for masking in [Masking::Replay, Masking::Journal] {
        let mut node = Node::asked(rules(masking), text);
        assert_eq!(node.said(BACKEND), text);
        node.say(BACKEND, &format!("{switch}\u{1}first"));
        node.say(CLIENT, "second");
        expect(&mut node, &format!("{switch}\u{1}first"));
        assert_eq!(node.said(BACKEND), format!("{text}second"));
        assert_eq!(node.finish(BACKEND), []);
        assert!(node.has_finished(CLIENT));
        let resets = [Effect::Reset(CLIENT), Effect::Reset(BACKEND)];
        assert_eq!(node.close_server(false), resets, "not masked");
        // Nobody asked for it.
        let mut node = Node::asked(rules(masking), GET);
        node.say(BACKEND, switch);
        assert!(node.said(CLIENT).starts_with("HTTP/1.1 502 "));
    }
    let text = "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut node = Node::asked(rules(Masking::Replay), text);
    let go = "HTTP/1.1 100 Continue\r\n\r\n";
    node.say(BACKEND, go);
    expect(&mut node, go);
    // Another server says so, too: whoever waits for it would wait for ever.
    let rules = Rules { again: Again::Idempotent, ..rules(Masking::Replay) };
    let mut node = Node::asked(rules, text);
    node.close_server(false);
    node.answer_dial();
    node.say(BACKEND, go);
    expect(&mut node, go);
    node.say(CLIENT, "ok");
    assert_eq!(node.said(BACKEND), format!("{text}ok"));
    // Interim replies without end.
    assert_eq!(node.say(BACKEND, &go.repeat(20)), [Effect::Reset(BACKEND)]);
}

#[test]
fn replies_without_a_measure_end_with_the_connection_and_not_with_a_reset() {
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    for orderly in [true, false] {
        let mut node = Node::asked(rules(Masking::Replay), GET);
        node.say(BACKEND, &format!("{head}abc"));
        if orderly {
            node.finish(BACKEND);
            assert!(node.has_finished(CLIENT));
            assert_eq!(node.close_server(true), []);
            assert_eq!(node.outcomes, [Outcome::Answered]);
        } else {
            assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
            node.answer_dial();
            node.say(BACKEND, &format!("{head}abcdef"));
            node.finish(BACKEND);
            assert_eq!(node.said(CLIENT), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcdef");
        }
    }
}

#[test]
fn an_idle_server_that_leaves_is_replaced_with_the_next_request() {
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let mut node = Node::asked(rules(Masking::Replay), GET);
    node.say(BACKEND, reply);
    assert_eq!(node.finish(BACKEND), []);
    assert!(node.has_finished(BACKEND));
    // It comes before the old one is gone.
    assert_eq!(node.say(CLIENT, GET), [Effect::Reset(BACKEND)]);
    assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
    node.answer_dial();
    node.say(BACKEND, reply);
    expect(&mut node, &reply.repeat(2));
    assert_eq!(node.outcomes, [Outcome::Answered; 2], "nothing was repeated");
}

#[test]
fn whoever_keeps_the_pair_waiting_is_told_so() {
    // A server that has the request.
    let mut node = Node::asked(rules(Masking::Replay), GET);
    assert_eq!(node.event(Event::Tick), [Effect::Reset(BACKEND)]);
    assert!(node.said(CLIENT).starts_with("HTTP/1.1 504 "));
    assert_eq!(node.close_server(false), [], "it is not sent again");
    // A client in mid-head, in mid-body, and one that asks for nothing.
    let late = "HTTP/1.1 408 ";
    for (text, begins) in
        [("GET / HT", late), (POST.strip_suffix("lo").unwrap_or(""), late), ("", "")]
    {
        let mut node = Node::new(rules(Masking::Replay), true);
        if text.starts_with("POST") {
            node = Node::asked(rules(Masking::Replay), text);
        } else {
            node.say(CLIENT, text);
        }
        node.event(Event::Tick);
        assert!(node.said(CLIENT).starts_with(begins), "{text:?}");
        assert!(node.has_finished(CLIENT));
    }
    // A server that stops in mid-reply: as if it had died.
    let mut node = Node::asked(rules(Masking::Replay), GET);
    node.say(BACKEND, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
    assert_eq!(node.event(Event::Tick), [Effect::Reset(BACKEND)]);
    assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
}

#[test]
fn a_slow_reader_slows_the_writer() {
    let body = "z".repeat(1000);
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{body}");
    for (lead, credit) in [(true, 100), (false, reply.len() as u64)] {
        let mut node = Node::asked(rules(Masking::Replay), GET);
        node.lead = lead;
        node.say(BACKEND, &reply);
        assert_eq!(node.legs[1].as_ref().map(App::consumed), Some(credit));
        node.with(CLIENT, |app, env| app.on_acked(300, env));
        node.event(Event::Moved);
        let credit = if lead { credit + 300 } else { credit };
        assert_eq!(node.legs[1].as_ref().map(App::consumed), Some(credit));
    }
}

/// What may happen, in the order of the log.
#[derive(Debug, Clone)]
enum Step {
    Client(String),
    Server(String),
    ClientEnds,
    ServerEnds,
    ServerCloses(bool),
    Stands,
    Tick,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let get = Just(GET.to_owned());
    let requests = prop_oneof![
        4 => get,
        2 => Just(POST.to_owned()),
        1 => Just("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        1 => Just("5\r\nhello\r\n0\r\n\r\n".to_owned()),
        1 => "[ -~]{0,9}",
        1 => (1..9000_usize).prop_map(|length| "q".repeat(length)),
        1 => Just("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n".to_owned()),
        1 => Just(GET.replacen("GET", "HEAD", 1)),
        1 => Just(GET.replacen("1.1", "1.0", 1)),
    ];
    let replies = prop_oneof![
        4 => Just("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
        2 => Just("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe".to_owned()),
        2 => Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        2 => Just("6\r\nabcdef\r\n".to_owned()),
        1 => Just("3\r\nab".to_owned()),
        2 => Just("0\r\n\r\n".to_owned()),
        1 => Just("HTTP/1.1 200 OK\r\n\r\nabc".to_owned()),
        1 => Just("HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        1 => "[ -~]{0,9}",
        1 => (1..9000_usize).prop_map(|length| "r".repeat(length)),
    ];
    let step = prop_oneof![
        6 => requests.prop_map(Step::Client),
        8 => replies.prop_map(Step::Server),
        1 => Just(Step::ClientEnds),
        2 => Just(Step::ServerEnds),
        2 => any::<bool>().prop_map(Step::ServerCloses),
        6 => Just(Step::Stands),
        1 => Just(Step::Tick),
    ];
    prop::collection::vec(step, 1..40)
}

/// One step, its text cut into pieces of `size`; whatever is dialled appears at once.
fn take(node: &mut Node, step: &Step, size: usize) {
    let mut effects = Vec::new();
    let ended = |leg: Leg| node.legs[usize::from(leg)].as_ref().is_none_or(App::says_no_more);
    let ended = [ended(CLIENT), ended(BACKEND)];
    match step {
        Step::Client(_) | Step::ClientEnds if ended[0] => {}
        Step::Server(_) | Step::ServerEnds if ended[1] => {}
        Step::Client(text) => {
            for piece in text.as_bytes().chunks(size) {
                effects.extend(node.say(CLIENT, core::str::from_utf8(piece).expect("ASCII")));
            }
        }
        Step::Server(text) => {
            for piece in text.as_bytes().chunks(size) {
                effects.extend(node.say(BACKEND, core::str::from_utf8(piece).expect("ASCII")));
            }
        }
        Step::ClientEnds => effects.extend(node.finish(CLIENT)),
        Step::ServerEnds => effects.extend(node.finish(BACKEND)),
        Step::ServerCloses(orderly) if node.legs[1].is_some() => {
            effects.extend(node.close_server(*orderly));
        }
        Step::ServerCloses(_) => {}
        Step::Stands if node.legs[1].is_some() => {
            effects.extend(node.event(Event::Stands(BACKEND)))
        }
        Step::Stands => {}
        Step::Tick => effects.extend(node.event(Event::Tick)),
    }
    // Of a leg that is there nobody dials another: the reset comes first.
    let dials = effects.iter().any(|one| matches!(one, Effect::Dial(_) | Effect::DialOnceMore));
    if dials && node.legs[1].is_none() {
        node.legs[1] = Some(app());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// I2: whoever takes over goes on with the same bytes on every leg, whatever the cuts and whatever
    /// was acknowledged, and so does a standby that came in the middle.
    #[test]
    fn both_nodes_say_the_same(
        steps in steps(), masking in prop_oneof![Just(Masking::Replay), Just(Masking::Journal)],
        refuses: bool, sizes in (1..2000_usize, 1..2000_usize), joins in 0..40_usize,
    ) {
        let oversize = if refuses { Oversize::Refuse } else { Oversize::Pass };
        let rules = Rules { oversize, ..rules(masking) };
        let (mut leader, mut follower) = (Node::new(rules, true), Node::new(rules, false));
        for (index, step) in steps.iter().enumerate() {
            if index == joins {
                let mut bytes = Vec::new();
                follower.exchange.encode(&mut bytes);
                let decoded = Exchange::decode(&bytes).expect("what was encoded");
                prop_assert_eq!(&decoded, &follower.exchange);
                follower.exchange = decoded;
            }
            take(&mut leader, step, sizes.0);
            take(&mut follower, step, sizes.1);
            for leg in [CLIENT, BACKEND] {
                let there = leader.legs[usize::from(leg)].is_some();
                prop_assert_eq!(there, follower.legs[usize::from(leg)].is_some());
                prop_assert_eq!(leader.said(leg), follower.said(leg));
                prop_assert_eq!(leader.has_finished(leg), follower.has_finished(leg));
            }
            prop_assert_eq!(&leader.told, &follower.told);
            prop_assert_eq!(&leader.outcomes, &follower.outcomes);
        }
    }

    #[test]
    fn any_bytes_are_a_session_or_none(bytes: Vec<u8>) {
        let _ = Exchange::decode(&bytes);
    }
}

#[test]
fn a_server_that_is_left_gets_no_other_request() {
    let mut node = Node::asked(rules(Masking::Replay), GET);
    assert_eq!(node.say(BACKEND, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), []);
    assert!(node.exchange.can_leave());
    assert_eq!(node.event(Event::Leave), []);
    assert!(node.has_finished(BACKEND), "it has nothing to do");
    assert!(!node.exchange.can_leave());
    assert_eq!(node.close_server(true), []);
    assert_eq!(node.say(CLIENT, GET), [Effect::Dial(BACKEND)]);
    assert_eq!(node.answer_dial(), []);
    assert_eq!(node.said(BACKEND), GET);
    assert!(node.exchange.can_leave(), "the next one is another");
}

/// However many the client has sent ahead.
#[test]
fn a_server_that_is_left_finishes_what_it_has_begun() {
    let two = format!("{GET}{GET}");
    let mut node = Node::asked(rules(Masking::Replay), &two);
    assert_eq!(node.say(BACKEND, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh"), []);
    assert_eq!(node.event(Event::Leave), []);
    assert!(!node.has_finished(BACKEND));
    let mut bytes = Vec::new();
    node.exchange.encode(&mut bytes);
    node.exchange = Exchange::decode(&bytes).expect("it decodes");
    assert!(!node.exchange.can_leave(), "an heir knows that it is being left");
    assert_eq!(node.say(BACKEND, "i"), [Effect::Reset(BACKEND)], "the next request waits");
    assert_eq!(node.said(BACKEND), GET, "and goes to another");
    assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
    assert_eq!(node.answer_dial(), []);
    assert_eq!(node.said(BACKEND), GET);
    assert_eq!(node.outcomes, [Outcome::Answered], "nothing was sent twice");
}

#[test]
fn a_server_that_has_not_answered_yet_is_left_for_another() {
    let mut node = Node::new(rules(Masking::Replay), true);
    assert_eq!(node.say(CLIENT, GET), [Effect::Dial(BACKEND)]);
    node.legs[1] = Some(app());
    assert_eq!(node.event(Event::Leave), [Effect::Reset(BACKEND)]);
    assert_eq!(node.event(Event::Stands(BACKEND)), [], "it comes too late");
    assert_eq!(node.said(BACKEND), "");
    assert_eq!(node.close_server(false), [Effect::Dial(BACKEND)]);
    assert_eq!(node.answer_dial(), []);
    assert_eq!(node.said(BACKEND), GET);
}

#[test]
fn a_tunnel_is_not_left() {
    let asks = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n";
    let mut node = Node::asked(rules(Masking::Replay), asks);
    let switches = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n";
    node.say(BACKEND, switches);
    assert!(!node.exchange.can_leave());
    assert_eq!(node.event(Event::Leave), []);
    assert!(!node.has_finished(BACKEND));
}

#[test]
fn what_there_is_no_memory_for_opens_no_window_until_there_is() {
    let head = "PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    let rules = Rules { request_max: 1 << 20, reply_max: 1 << 20, ..rules(Masking::Journal) };
    let mut node = Node::new(rules, true);
    let consumed = |node: &mut Node, leg| node.legs.leg(leg).map(|app| app.consumed());
    assert_eq!(node.say(CLIENT, head), [Effect::Dial(BACKEND)]);
    assert!(node.exchange.keeps()[0] >= 100_000 && node.exchange.is_wide(CLIENT));
    node.waits = [true, false];
    node.say(CLIENT, "body");
    assert_eq!(consumed(&mut node, CLIENT), Some(head.len() as u64));
    node.waits = [false; 2];
    node.event(Event::Lead);
    assert_eq!(consumed(&mut node, CLIENT), Some(head.len() as u64 + 4));

    let mut node = Node::asked(rules, GET);
    assert_eq!((node.exchange.keeps(), node.exchange.is_wide(BACKEND)), ([0; 2], false));
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    node.waits = [false, true];
    node.say(BACKEND, head);
    assert!(node.exchange.keeps()[1] >= 100_000 && node.exchange.is_wide(BACKEND));
    assert_eq!(consumed(&mut node, BACKEND), Some(0));
    node.waits = [false; 2];
    node.say(BACKEND, "body");
    assert_eq!(consumed(&mut node, BACKEND), Some(head.len() as u64 + 4));
}
