//! Stories of checks over HTTP, with servers that are slow, broken, or lie.

use proptest::prelude::*;

use super::*;

const SERVER: &str = "10.77.0.21:80";
const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

fn http(fall: u8) -> Settings {
    let path = "/health".to_owned();
    let asks = HttpCheck { path, host: Some("www.example.org".into()), wanted: vec![(200, 399)] };
    let check = Check { http: Some(asks.into()), fall, rise: 1, ..Check::default() };
    let backends = vec![settings().backends[0]];
    Settings { check, backends, ..settings() }
}

/// A server that is being asked.
struct Asked {
    world: World,
    leg: FourTuple,
    /// The number behind our request.
    end: u32,
    /// The number of what the server says next.
    seq: u32,
}

impl World {
    fn watching(fall: u8) -> Self {
        Self::with(&[http(fall)], limits())
    }

    fn tick(&mut self) {
        self.relays.on_timer(self.now, &numbers(self.now));
    }

    fn wait_millis(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.tick();
    }

    fn health(&mut self) -> (bool, Option<String>) {
        let view = self.relays.backends().next().expect("there is one");
        (view.up, view.failed.map(|(failure, _)| self.relays.words(PORT, failure)))
    }

    /// The next check begins.
    fn syn(&mut self) -> TcpHeader {
        self.wait_millis(2000);
        let headers = self.headers();
        let [syn] = &headers[..] else { panic!("{headers:?}") };
        assert_eq!(syn.flags, Flags::SYN);
        syn.clone()
    }

    /// A server has taken the connection, and has our request.
    fn asked(mut self) -> Asked {
        let syn = self.syn();
        let leg = syn.tuple;
        let fate = self.say(leg, &segment(Flags::SYN | Flags::ACK, 5000, syn.seq.add(1).0));
        assert_eq!(fate, Fate::Taken);
        let (header, text) = self.relays.poll_request().expect("it is asked");
        assert_eq!((header.seq, header.ack), (syn.seq.add(1), SeqNum(5001)));
        assert_eq!((header.flags, header.tuple), (Flags::ACK | Flags::PSH, leg));
        assert_eq!(
            core::str::from_utf8(&text).unwrap(),
            "GET /health HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: standin\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        let end = header.seq.add(text.len() as u32).0;
        Asked { world: self, leg, end, seq: 5001 }
    }
}

impl Asked {
    fn hear(&mut self, seq: u32, flags: Flags, text: &[u8]) -> Vec<TcpHeader> {
        let heard = Segment { payload: text, ..segment(flags | Flags::ACK, seq, self.end) };
        assert_eq!(self.world.say(self.leg, &heard), Fate::Taken);
        self.world.headers()
    }

    /// The server says more; what is said to it.
    fn says(&mut self, text: &str) -> Vec<TcpHeader> {
        let said = self.hear(self.seq, Flags::PSH, text.as_bytes());
        self.seq += text.len() as u32;
        said
    }

    fn says_all(&mut self, text: &str) {
        let said = self.says(text);
        let [ack] = &said[..] else { panic!("{said:?}") };
        assert_eq!((ack.flags, ack.seq.0, ack.ack.0), (Flags::ACK, self.end, self.seq));
    }

    /// It closes; nothing of the check is left.
    fn ends(&mut self) {
        let said = self.hear(self.seq, Flags::FIN, &[]);
        self.is_reset(&said);
    }

    fn is_reset(&self, said: &[TcpHeader]) {
        let [reset] = said else { panic!("{said:?}") };
        assert_eq!((reset.flags, reset.seq.0, reset.tuple), (Flags::RST, self.end, self.leg));
        assert!(!self.world.relays.is_probe(&self.leg));
    }

    #[track_caller]
    fn failed(mut self, words: &str) {
        let (up, failed) = self.world.health();
        assert_eq!((up, failed.as_deref()), (false, Some(words)));
        let events = self.world.events();
        let is_told = |event: &Event| match event {
            Event::Backend { up: false, why: Some(why), .. } => {
                self.world.relays.words(PORT, *why) == words
            }
            _ => false,
        };
        assert!(events.iter().any(is_told), "{events:?}");
    }
}

#[test]
fn the_status_of_a_reply_decides_and_a_server_sees_an_orderly_end() {
    let mut asked = World::watching(2).asked();
    asked.says_all(GOOD);
    assert_eq!(asked.world.health(), (true, None));
    assert!(asked.world.relays.backends().all(|view| view.known));
    asked.says_all("hi");
    asked.ends();
    for up in [true, false] {
        asked = asked.world.asked();
        asked.says_all(BUSY);
        asked.ends();
        let words = "answered 503, 200-399 is wanted".to_owned();
        assert_eq!(asked.world.health(), (up, Some(words)));
    }
    assert_eq!(asked.world.say(client(1), &segment(Flags::SYN, 1000, 0)), Fate::Foreign);
    asked = asked.world.asked();
    asked.says_all(GOOD);
    let (up, failed) = asked.world.health();
    assert!(up && failed.is_some(), "why it failed last is still to be seen");
    asked.world.open(1);
}

/// One byte at a time, and in any order: what does not follow is asked for.
#[test]
fn a_reply_may_come_in_any_pieces() {
    let mut asked = World::watching(1).asked();
    for at in 0..GOOD.len() {
        asked.says_all(&GOOD[at..=at]);
    }
    assert_eq!(asked.world.health(), (true, None));
    let mut asked = World::watching(1).asked();
    let (first, second) = BUSY.as_bytes().split_at(20);
    let said = asked.hear(5021, Flags::PSH, second);
    assert_eq!(said.iter().map(|ack| ack.ack.0).collect::<Vec<_>>(), [5001], "there is a gap");
    asked.hear(5001, Flags::PSH, first);
    // With some of what has come already.
    let said = asked.hear(5011, Flags::PSH, &BUSY.as_bytes()[10..]);
    assert_eq!(said[0].ack.0, 5001 + BUSY.len() as u32);
    let said = asked.hear(5001, Flags::PSH, first);
    assert_eq!(said[0].ack.0, 5001 + BUSY.len() as u32, "old");
    asked.failed("answered 503, 200-399 is wanted");
}

#[test]
fn a_reply_and_its_end_may_come_at_once_and_after_others() {
    let mut asked = World::watching(1).asked();
    let all = format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{GOOD}hi");
    let said = asked.hear(5001, Flags::FIN, all.as_bytes());
    asked.is_reset(&said);
    assert_eq!(asked.world.health(), (true, None));
}

#[test]
fn what_is_lost_is_said_again_until_it_is_heard() {
    let mut world = World::watching(1);
    let syn = world.syn();
    world.wait_millis(250);
    let headers = world.headers();
    assert_eq!((headers.len(), headers[0].seq, headers[0].flags), (1, syn.seq, Flags::SYN));
    let greeting = segment(Flags::SYN | Flags::ACK, 5000, syn.seq.add(1).0);
    world.say(syn.tuple, &greeting);
    let first = world.relays.poll_request().expect("it is asked");
    world.wait_millis(250);
    assert_eq!(world.relays.poll_request(), Some(first.clone()));
    world.say(syn.tuple, &greeting);
    assert_eq!(world.relays.poll_request(), Some(first.clone()), "nor has it heard our ACK");
    let end = first.0.seq.add(first.1.len() as u32).0;
    world.say(syn.tuple, &segment(Flags::ACK, 5001, end));
    world.wait_millis(250);
    assert!(!world.relays.has_headers());
}

#[test]
fn nobody_is_waited_for_beyond_the_time() {
    let mut world = World::watching(1);
    let leg = world.syn().tuple;
    (0..4).for_each(|_| world.wait_millis(250));
    assert_eq!(world.health(), (false, Some("no answer in 1 s".into())));
    assert!(!world.relays.is_probe(&leg));

    let mut mute = World::watching(1).asked();
    (0..4).for_each(|_| mute.world.wait_millis(250));
    mute.failed("took the connection, and no reply in 1 s");

    let mut drip = World::watching(1).asked();
    for at in 0..10 {
        drip.says_all(&GOOD[at..=at]);
        drip.world.wait_millis(100);
    }
    let said = drip.world.headers();
    drip.is_reset(&said);
    drip.failed("the head of its reply did not end in 1 s");

    let mut endless = World::watching(1).asked();
    endless.says_all(GOOD);
    for _ in 0..10 {
        endless.says_all("x");
        endless.world.wait_millis(100);
    }
    let said = endless.world.headers();
    endless.is_reset(&said);
    assert_eq!(endless.world.health(), (true, None), "what follows is of no interest");
}

#[test]
fn nobody_is_listened_to_beyond_what_a_head_may_have() {
    let mut asked = World::watching(1).asked();
    asked.says_all("HTTP/1.1 200 OK\r\n");
    let line = format!("A: {}\r\n", "b".repeat(995));
    let mut said = Vec::new();
    for _ in 0..17 {
        said = asked.says(&line);
    }
    asked.is_reset(&said);
    asked.failed(&format!("its reply is none: {}", crate::http::Refusal::HeadTooLong));

    let mut asked = World::watching(1).asked();
    let mut said = Vec::new();
    for _ in 0..9 {
        said = asked.says("HTTP/1.1 100 Continue\r\n\r\n");
    }
    assert_eq!(said.len(), 1);
    asked.failed("answered 100, 200-399 is wanted");

    let mut asked = World::watching(1).asked();
    asked.says_all(GOOD);
    let much = "x".repeat(16_384);
    (0..4).for_each(|_| asked.says_all(&much));
    let said = asked.says("x");
    asked.is_reset(&said);
    assert_eq!(asked.world.health(), (true, None));
}

#[test]
fn what_is_no_reply_is_called_by_its_name() {
    let mut ssh = World::watching(1).asked();
    let said = ssh.says("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    ssh.is_reset(&said);
    ssh.failed(&format!("its reply is none: {}", crate::http::Refusal::StatusLine));

    let mut closed = World::watching(1).asked();
    closed.says_all("HTTP/1.1 200 OK\r\n");
    closed.ends();
    closed.failed("ended the connection before it had replied");

    let mut reset = World::watching(1).asked();
    assert_eq!(reset.hear(5002, Flags::RST, &[]), [], "a guess");
    assert_eq!(reset.world.health(), (true, None));
    assert_eq!(reset.hear(5001, Flags::RST, &[]), []);
    reset.failed("ended the connection before it had replied");

    let mut refused = World::watching(1);
    let syn = refused.syn();
    let answer = segment(Flags::RST | Flags::ACK, 0, syn.seq.add(1).0);
    refused.say(syn.tuple, &answer);
    assert_eq!(refused.health(), (false, Some("refused the connection".into())));
}

/// Without a name the address is asked for, as it is written in one.
#[test]
fn a_server_is_called_by_its_address_where_nothing_else_is_said() {
    let asks = HttpCheck { path: "/".into(), host: None, wanted: vec![(204, 204)] };
    for address in [SERVER, "[fd77::21]:8080"] {
        let request = asks.request(&address.parse().unwrap());
        let text = core::str::from_utf8(&request).unwrap();
        assert!(text.contains(&format!("\r\nHost: {address}\r\n")), "{text}");
    }
    let longest = HttpCheck {
        path: "/".repeat(HttpCheck::PATH_MAX),
        host: Some("x".repeat(HttpCheck::HOST_MAX)),
        wanted: Vec::new(),
    };
    assert!(longest.request(&SERVER.parse().unwrap()).len() <= 536, "it is one segment everywhere");
}

#[test]
fn a_follower_is_told_why_and_when() {
    let mut asked = World::watching(1).asked();
    asked.says_all(BUSY);
    let health = core::iter::from_fn(|| asked.world.relays.poll_event())
        .find_map(|event| match event {
            Event::Health { port, address, health } => Some((port, address, health)),
            _ => None,
        })
        .expect("it is told");
    let failed = Some((Failure::Status(503), asked.world.now));
    let (port, address, health) = health;
    assert_eq!((port, address), (PORT, SERVER.parse().unwrap()));
    assert_eq!((health.up, health.failed), (false, failed));
    let mut other = World::watching(1);
    other.relays.hold_health(PORT, address, health);
    let words = "answered 503, 200-399 is wanted".to_owned();
    assert_eq!(other.health(), (false, Some(words.clone())));
    other.relays.hold_health(PORT, address, Health { up: true, ..Health::default() });
    assert_eq!(other.health(), (true, Some(words)), "it is not forgotten");
}

proptest! {
    /// Whatever a server says, the check ends in time, and holds no more than a head.
    #[test]
    fn any_server_is_borne(
        said in prop::collection::vec(
            (any::<u8>(), -40_i32..70_000, 0u32..3, prop::collection::vec(any::<u8>(), 0..60), 0u64..300),
            0..60,
        ),
        begin in prop::sample::select(vec!["", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\nA: "]),
    ) {
        let mut asked = World::watching(1).asked();
        let started = asked.world.now;
        if !begin.is_empty() {
            asked.says(begin);
        }
        for (flags, seq, ack, text, millis) in said {
            let seq = if seq < 1000 { asked.seq.wrapping_add_signed(seq.min(3)) } else { seq as u32 };
            let flags = Flags::from_bits_retain(flags & 0x1f);
            let ack = asked.end.wrapping_sub(ack);
            let heard = Segment { payload: &text, ..segment(flags, seq, ack) };
            let _ = asked.world.say(asked.leg, &heard);
            asked.world.wait_millis(millis);
            prop_assert!(asked.world.headers().len() <= 4);
            while asked.world.relays.poll_request().is_some() {}
            if asked.world.now.since(started) >= Duration::from_secs(1) {
                break;
            }
        }
        asked.world.now = asked.world.now.max(started + Duration::from_secs(1));
        asked.world.tick();
        prop_assert!(!asked.world.relays.is_probe(&asked.leg), "it is over");
    }
}
