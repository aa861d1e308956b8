//! Stories of relays on their own: what becomes of each segment, and of each splice.

use super::*;
use crate::wire::TcpOptions;

mod deaths;
mod doubts;
mod ends;
mod hostile;
mod kernels;
mod paths;
mod probes;
mod room;
mod states;

const PORT: u16 = 8080;
const FLOOD: usize = 8;

fn settings() -> Settings {
    let backend = |text: &str| Backend { address: text.parse().unwrap(), weight: 1 };
    Settings {
        mode: Mode::Splice,
        port: PORT,
        backends: ["10.77.0.21:80", "10.77.0.22:80", "[fd77::21]:80"].map(backend).to_vec(),
        check: Check::default(),
        idle: IDLE,
        client_max: CLIENT_MAX,
        on_death: OnDeath::Keep,
    }
}

fn limits() -> Limits {
    Limits {
        splices_max: 100,
        opening_max: FLOOD,
        mtu: 1500,
        addresses: vec!["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()],
        key: [3; 16],
    }
}

/// A leg's numbers grow with time.
fn numbers(now: Instant) -> impl Fn(&FourTuple) -> Numbers {
    move |leg| {
        let own = u32::from(leg.local.port()) << 16;
        let millis = now.as_millis() as u32;
        Numbers {
            iss: SeqNum(own.wrapping_add(millis.wrapping_mul(250))),
            ts: own.wrapping_add(millis),
        }
    }
}

struct World {
    relays: Relays,
    now: Instant,
}

fn segment(flags: Flags, seq: u32, ack: u32) -> Segment<'static> {
    let (seq, ack, options) = (SeqNum(seq), SeqNum(ack), TcpOptions::default());
    Segment { seq, ack, flags, window: 1000, options, marked: false, payload: &[] }
}

fn client(port: u16) -> FourTuple {
    FourTuple { local: ([10, 77, 0, 100], PORT).into(), remote: ([10, 77, 0, 10], port).into() }
}

impl World {
    fn new() -> Self {
        Self::with(&[settings()], limits())
    }

    fn with(settings: &[Settings], limits: Limits) -> Self {
        let mut relays = Relays::new(settings, limits);
        let now = Instant::from_millis(10_000);
        relays.arm(now);
        Self { relays, now }
    }

    fn say(&mut self, leg: FourTuple, segment: &Segment<'_>) -> Fate {
        let fate = self.relays.on_segment(self.now, leg, segment, &numbers(self.now));
        self.check_counts();
        fate
    }

    /// What is counted is what is there.
    fn check_counts(&self) {
        if self.relays.len() <= 200 {
            self.relays.audit(false).expect("it adds up");
        }
    }

    /// All that is to be told, but for what a standby alone has to know of backends.
    fn events(&mut self) -> Vec<Event> {
        let all = core::iter::from_fn(|| self.relays.poll_event());
        all.filter(|event| !matches!(event, Event::Health { .. })).collect()
    }

    /// What leaves, without checks of backends.
    fn headers(&mut self) -> Vec<TcpHeader> {
        core::iter::from_fn(|| self.relays.poll_header()).collect()
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + Duration::from_secs(1);
            self.relays.on_timer(self.now, &numbers(self.now));
        }
    }

    /// A client's SYN, told to the standby at once.
    fn begin(&mut self, port: u16) -> SpliceId {
        assert_eq!(self.say(client(port), &segment(Flags::SYN, 1000, 0)), Fate::Taken);
        let events = self.events();
        let Some(Event::Spliced(id)) = events.last() else { panic!("{events:?}") };
        self.relays.commit(self.now, *id);
        *id
    }

    /// The leg to the backend.
    fn backend(&self, id: SpliceId) -> FourTuple {
        self.relays.splice(id).expect("a splice").backend
    }

    /// The backend's answer to the SYN, with `flags`.
    fn answer(&mut self, id: SpliceId, flags: Flags) -> Fate {
        let splice = self.relays.splice(id).expect("a splice");
        let ack = SeqNum(1001).add(splice.seq).0;
        self.say(splice.backend, &segment(flags, 5000, ack))
    }

    /// A splice on which packets pass.
    fn open(&mut self, port: u16) -> SpliceId {
        let id = self.begin(port);
        let fate = self.answer(id, Flags::SYN | Flags::ACK);
        assert!(matches!(fate, Fate::Forward { .. }), "{fate:?}");
        self.client_says(port, Flags::ACK);
        self.headers();
        self.events();
        id
    }

    fn client_says(&mut self, port: u16, flags: Flags) -> Fate {
        self.say(client(port), &segment(flags, 1001, 5001))
    }

    fn backend_says(&mut self, id: SpliceId, flags: Flags) -> Fate {
        let splice = self.relays.splice(id).expect("a splice");
        self.say(splice.backend, &segment(flags, 5001, SeqNum(1001).add(splice.seq).0))
    }

    /// Both send a FIN; and each acknowledges the other's.
    fn finish(&mut self, port: u16, id: SpliceId) {
        let splice = self.relays.splice(id).expect("a splice");
        let acked = SeqNum(1002).add(splice.seq).0;
        self.client_says(port, Flags::FIN | Flags::ACK);
        self.say(splice.backend, &segment(Flags::FIN | Flags::ACK, 5001, acked));
        self.say(client(port), &segment(Flags::ACK, 1002, 5002));
    }
}

#[test]
fn a_syn_leaves_once_the_splice_is_known_and_keeps_its_options() {
    let mut world = World::new();
    let mut syn = segment(Flags::SYN | Flags::ECE | Flags::CWR, 1000, 0);
    syn.options = TcpOptions {
        mss: Some(8960),
        window_scale: Some(9),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 7, ecr: 0 }),
        ..TcpOptions::default()
    };
    assert_eq!(world.say(client(1), &syn), Fate::Taken);
    let events = world.events();
    let [Event::Spliced(id)] = events[..] else { panic!("{events:?}") };
    assert_eq!(world.say(client(1), &syn), Fate::Taken);
    assert_eq!((world.headers(), world.events()), (vec![], vec![]), "nor when it is repeated");
    world.relays.commit(world.now, id);

    let splice = world.relays.splice(id).unwrap();
    let begin = numbers(world.now)(&splice.backend);
    let headers = world.headers();
    let [header] = &headers[..] else { panic!("{headers:?}") };
    let options = TcpOptions {
        mss: Some(1460),
        timestamps: Some(Timestamps { val: begin.ts, ecr: 0 }),
        ..syn.options
    };
    assert_eq!((header.seq, header.flags, header.window), (begin.iss, syn.flags, 1000));
    assert_eq!((&header.options, header.tuple), (&options, splice.backend));
    assert_eq!(splice.backend.remote, "10.77.0.21:80".parse().unwrap());
}

#[test]
fn both_ways_are_each_others_inverse() {
    let mut world = World::new();
    let mut syn = segment(Flags::SYN, 1000, 0);
    syn.options.timestamps = Some(Timestamps { val: 7, ecr: 0 });
    world.say(client(1), &syn);
    let id = world.open(1);
    assert_ne!(world.relays.splice(id).unwrap().ts, 0);
    let (Fate::Forward { rewrite: to, .. }, Fate::Forward { rewrite: back, .. }) =
        (world.client_says(1, Flags::ACK), world.backend_says(id, Flags::ACK))
    else {
        panic!("both pass")
    };
    let Splice { client, backend, seq, ts } = world.relays.splice(id).unwrap();
    let mss_max = 1460;
    let (source, destination) = (backend.local, backend.remote);
    let forward = Rewrite { source, destination, seq, ack: 0, ts_val: ts, ts_ecr: 0, mss_max };
    assert_eq!(to, forward);
    let (source, destination) = (client.local, client.remote);
    let (ack, ts_ecr) = (seq.wrapping_neg(), ts.wrapping_neg());
    assert_eq!(back, Rewrite { source, destination, seq: 0, ack, ts_val: 0, ts_ecr, mss_max });
}

#[test]
fn a_refused_syn_goes_to_the_next_backend_and_then_back_to_its_client() {
    let mut world = World::new();
    let id = world.begin(1);
    let first = world.backend(id);
    assert_eq!(world.answer(id, Flags::RST | Flags::ACK), Fate::Taken);
    assert_eq!(world.events(), [Event::Spliced(id)], "told again under its name");
    let second = world.backend(id);
    assert_ne!(first.remote, second.remote);
    world.headers();
    world.relays.commit(world.now, id);
    assert_eq!(world.headers().len(), 1);
    // The first backend's port is free again: its late words are nobody's.
    assert_eq!(world.say(first, &segment(Flags::ACK, 1, 1)), Fate::Foreign);
    // One more could be asked if it were of the client's family.
    assert!(matches!(
        world.answer(id, Flags::RST | Flags::ACK),
        Fate::Taken | Fate::Forward { .. }
    ));
    while let [Event::Spliced(again)] = world.events()[..] {
        world.relays.commit(world.now, again);
        let fate = world.answer(id, Flags::RST | Flags::ACK);
        if matches!(fate, Fate::Forward { .. }) {
            break;
        }
    }
    assert_eq!(world.relays.splice(id), None);
    assert_eq!(world.relays.counts().unspliced, 1);
    assert!(world.relays.backends().all(|view| view.splices == 0));
}

#[test]
fn a_reset_that_does_not_fit_the_syn_moves_nothing() {
    let mut world = World::new();
    let id = world.begin(1);
    let leg = world.backend(id);
    assert_eq!(world.say(leg, &segment(Flags::RST | Flags::ACK, 0, 77)), Fate::Taken);
    assert_eq!(world.say(leg, &segment(Flags::RST, 0, 0)), Fate::Taken);
    assert_eq!((world.backend(id), world.events()), (leg, vec![]));
}

#[test]
fn a_repeated_syn_is_sent_again_and_moves_on_when_patience_is_over() {
    let mut world = World::new();
    let id = world.begin(1);
    let first = world.backend(id);
    world.headers();
    world.now = world.now + Duration::from_millis(300);
    world.say(client(1), &segment(Flags::SYN, 1000, 0));
    assert_eq!(world.headers().len(), 1);
    assert_eq!((world.backend(id), world.events()), (first, vec![]));
    world.now = world.now + Duration::from_millis(1000);
    world.say(client(1), &segment(Flags::SYN, 1000, 0));
    assert_eq!(world.events(), [Event::Spliced(id)]);
    assert_ne!(world.backend(id).remote, first.remote);
}

#[test]
fn a_new_syn_on_an_open_splice_is_for_the_backend_to_judge() {
    let mut world = World::new();
    let id = world.open(1);
    let fate = world.say(client(1), &segment(Flags::SYN, 9_000_000, 0));
    assert!(matches!(fate, Fate::Forward { .. }));
    assert!(world.relays.splice(id).is_some());
}

#[test]
fn a_splice_is_over_when_both_have_finished_and_goes_a_minute_later() {
    let mut world = World::new();
    let id = world.open(1);
    world.client_says(1, Flags::FIN | Flags::ACK);
    world.wait(200);
    world.events();
    assert!(world.relays.splice(id).is_some(), "half-closed may last");
    world.finish(1, id);
    assert_eq!(world.events(), [Event::Stage(id, Stage::Over)]);
    world.wait(40);
    world.client_says(1, Flags::ACK);
    world.wait(40);
    assert!(world.relays.splice(id).is_some(), "counted from its last packet");
    world.wait(65);
    assert!(world.events().contains(&Event::Unspliced(id)));
    assert!(matches!(world.client_says(1, Flags::ACK), Fate::Foreign));
}

/// A full table must not take a splice from ends that have not heard the last of each other.
#[test]
fn a_fin_that_is_lost_behind_us_can_be_sent_again() {
    let mut world = World::with(&[settings()], Limits { splices_max: 1, ..limits() });
    let id = world.open(1);
    world.client_says(1, Flags::FIN | Flags::ACK);
    world.backend_says(id, Flags::FIN | Flags::ACK);
    assert_eq!(world.say(client(2), &segment(Flags::SYN, 1000, 0)), Fate::Taken);
    assert_eq!((world.events(), world.relays.counts().full), (vec![], 1));
    assert!(matches!(world.backend_says(id, Flags::FIN | Flags::ACK), Fate::Forward { .. }));
    world.finish(1, id);
    assert_ne!(world.begin(2), id);
}

#[test]
fn a_late_copy_of_its_syn_does_not_end_what_is_closing() {
    let mut world = World::new();
    let id = world.open(1);
    world.finish(1, id);
    world.events();
    let copy = world.say(client(1), &segment(Flags::SYN, 1000, 0));
    assert!(matches!(copy, Fate::Forward { .. }), "{copy:?}");
    assert_eq!(world.events(), []);
    world.say(client(1), &segment(Flags::SYN, 2000, 0));
    assert_eq!(world.relays.splice(id), None);
}

#[test]
fn a_reset_that_nobody_believes_ends_nothing() {
    let mut world = World::new();
    let id = world.open(1);
    assert!(
        matches!(world.client_says(1, Flags::RST), Fate::Forward { .. }),
        "for the end to judge"
    );
    assert_eq!(world.events(), [Event::Stage(id, Stage::Over)]);
    // The end that sent the reset proves nothing by going on; the end that got it does.
    world.client_says(1, Flags::ACK);
    assert_eq!(world.events(), []);
    world.backend_says(id, Flags::ACK);
    assert_eq!(world.events(), [Event::Stage(id, Stage::Open)]);
    world.wait(300);
    assert!(world.relays.splice(id).is_some());
}

#[test]
fn a_new_incarnation_takes_the_place_of_one_that_is_over() {
    let mut world = World::new();
    let id = world.open(1);
    world.backend_says(id, Flags::RST);
    world.events();
    let before = world.relays.splice(id).unwrap();
    let next = world.begin(1);
    assert_ne!(next, id);
    assert_eq!((world.relays.splice(id), world.relays.len()), (None, 1));
    assert_ne!(world.relays.splice(next).unwrap().backend, before.backend);
}

#[test]
fn a_port_that_is_used_again_begins_above_its_last_numbers() {
    let mut settings = settings();
    settings.backends.truncate(1);
    let mut world = World::with(&[settings], Limits { splices_max: 100_000, ..limits() });
    let first = world.open(1);
    let before = world.relays.splice(first).unwrap();
    world.client_says(1, Flags::RST);
    world.now = world.now + Duration::from_secs(2);
    // Once around all ports, each connection at once reset and out of the way of the next.
    let mut again = None;
    for _ in 0..70_000 {
        let id = world.open(2);
        if world.backend(id) == before.backend {
            again = world.relays.splice(id);
            break;
        }
        world.client_says(2, Flags::RST);
    }
    let again = again.expect("the port comes around");
    let started = |splice: &Splice| SeqNum(1000).add(splice.seq);
    assert!(started(&again).after(started(&before)));
}

#[test]
fn who_waits_longest_for_a_backend_gives_way_in_a_flood() {
    let mut world = World::new();
    let first = world.begin(1);
    let stays = world.open(2);
    for port in 1..FLOOD as u16 {
        world.begin(100 + port);
    }
    world.say(client(3), &segment(Flags::SYN, 1000, 0));
    assert!(world.events().is_empty(), "nobody has waited for too long");
    world.wait(4);
    world.begin(3);
    assert_eq!(world.relays.splice(first), None);
    assert!(world.relays.splice(stays).is_some());
    assert_eq!(world.relays.len(), FLOOD + 1);
}

#[test]
fn a_full_table_gives_up_what_is_over_and_nothing_else() {
    let mut world = World::with(&[settings()], Limits { splices_max: 2, ..limits() });
    let (one, two) = (world.open(1), world.open(2));
    assert_eq!(world.say(client(3), &segment(Flags::SYN, 1000, 0)), Fate::Taken);
    assert_eq!((world.events(), world.relays.counts().full), (vec![], 1));
    world.client_says(2, Flags::RST);
    let three = world.begin(3);
    assert_eq!(world.relays.splice(two), None);
    assert!(world.relays.splice(one).is_some() && world.relays.splice(three).is_some());
}

#[test]
fn an_idle_splice_goes_when_its_relay_says_so() {
    let idle = Duration::from_secs(300);
    let mut world = World::with(&[Settings { idle, ..settings() }], limits());
    let (quiet, busy) = (world.open(1), world.open(2));
    for _ in 0..40 {
        world.wait(10);
        world.client_says(2, Flags::ACK);
    }
    assert_eq!(world.relays.splice(quiet), None);
    assert!(world.relays.splice(busy).is_some());
}

#[test]
fn backends_get_splices_by_weight_and_none_at_zero() {
    let mut settings = settings();
    settings.backends[0].weight = 3;
    let mut world = World::with(&[settings.clone()], limits());
    for port in 1..=8 {
        world.open(port);
    }
    let loads =
        |world: &World| world.relays.backends().map(|view| view.splices).collect::<Vec<_>>();
    assert_eq!(loads(&world), [6, 2, 0], "IPv6 has no clients");
    settings.backends[0].weight = 0;
    let mut world = World::with(&[settings], limits());
    for port in 1..=4 {
        world.open(port);
    }
    assert_eq!(loads(&world), [0, 4, 0]);
}

/// Answers every check that is under way as `good` says.
fn answer_checks(world: &mut World, good: impl Fn(&Endpoint) -> Option<bool>) -> usize {
    let mut resets = 0;
    for header in world.headers() {
        if header.flags != Flags::SYN {
            resets += usize::from(header.flags == Flags::RST);
            continue;
        }
        let Some(good) = good(&header.tuple.remote) else { continue };
        let flags = if good { Flags::SYN | Flags::ACK } else { Flags::RST | Flags::ACK };
        let fate = world.say(header.tuple, &segment(flags, 1, header.seq.add(1).0));
        assert_eq!(fate, Fate::Taken);
    }
    resets + world.headers().iter().filter(|header| header.flags == Flags::RST).count()
}

#[test]
fn checks_take_a_backend_down_and_up_again() {
    let mut world = World::new();
    let sick: Endpoint = "10.77.0.21:80".parse().unwrap();
    for answer in [Some(false), None] {
        for _ in 0..12 {
            world.wait(1);
            answer_checks(&mut world, |address| if *address == sick { answer } else { Some(true) });
        }
        let why = answer.map_or(Failure::Silent, |_| Failure::Refused);
        let why = Some(why);
        let down = Event::Backend { port: PORT, address: sick, up: false, why };
        assert_eq!(world.events(), [down], "told once, for {answer:?}");
        let id = world.begin(1);
        assert_ne!(world.backend(id).remote, sick);
        world.client_says(1, Flags::RST);
        world.headers();
        let mut resets = 0;
        for _ in 0..8 {
            world.wait(1);
            resets += answer_checks(&mut world, |_| Some(true));
        }
        let up = Event::Backend { port: PORT, address: sick, up: true, why: None };
        assert!(world.events().contains(&up));
        assert!(resets > 0, "a check leaves nothing open");
    }
}

#[test]
fn without_a_backend_up_nobody_listens() {
    let mut world = World::new();
    for _ in 0..12 {
        world.wait(1);
        answer_checks(&mut world, |_| None);
    }
    assert_eq!(world.say(client(1), &segment(Flags::SYN, 1000, 0)), Fate::Foreign);
    assert_eq!(world.relays.counts().refused, 1);
}

#[test]
fn what_is_held_is_gone_on_with_and_what_cannot_be_true_is_refused() {
    let mut world = World::new();
    let (id, over) = (world.open(1), world.open(2));
    let [splice, ended] = [id, over].map(|id| world.relays.splice(id).unwrap());
    let mut standby = World::new();
    let now = standby.now;
    let relays = &mut standby.relays;
    assert_eq!(relays.hold(now, id, splice), Ok(()));
    assert_eq!(relays.hold(now, over, ended), Ok(()));
    assert_eq!(relays.hold_stage(over, Stage::Over), Ok(()));
    let mut refuse = |id: u64, splice: Splice| relays.hold(now, SpliceId(id), splice).unwrap_err();
    assert_eq!(refuse(9, splice), "splice's place is taken", "its legs are");
    let elsewhere = FourTuple { local: "10.77.0.1:8080".parse().unwrap(), ..splice.client };
    let wrong = Splice { client: elsewhere, ..splice };
    assert_eq!(refuse(9, wrong), "splice is not one of the service's");
    let port = FourTuple { local: "10.77.0.100:81".parse().unwrap(), ..splice.client };
    assert_eq!(refuse(9, Splice { client: port, ..splice }), "splice is of no relay");
    let v6 = FourTuple { remote: "[fd77::21]:80".parse().unwrap(), ..splice.backend };
    assert_eq!(refuse(9, Splice { backend: v6, ..splice }), "splice joins two address families");
    assert_eq!(relays.release(SpliceId(77)), Err("splice that ends is unknown"));
    assert_eq!(relays.hold_stage(SpliceId(77), Stage::Over), Err("splice that goes on is unknown"));

    // However long it was only held.
    standby.now = now + Duration::from_secs(10_000);
    standby.relays.arm(standby.now);
    assert!(matches!(standby.client_says(3, Flags::ACK), Fate::Foreign));
    for _ in 0..30 {
        standby.wait(1);
        answer_checks(&mut standby, |_| Some(true));
    }
    assert_eq!(standby.relays.splice(id), Some(splice), "heard of just now");
    assert!(matches!(standby.client_says(1, Flags::ACK), Fate::Forward { .. }));
    assert!(matches!(standby.backend_says(id, Flags::ACK), Fate::Forward { .. }));
    for _ in 0..70 {
        standby.wait(1);
        answer_checks(&mut standby, |_| Some(true));
    }
    assert_eq!(standby.relays.splice(over), None, "over there is over here");
    assert_eq!(standby.relays.splice(id), Some(splice));
    assert!(standby.begin(3).0 >> 32 > over.0 >> 32, "names are not given twice");
}

#[test]
fn an_error_about_a_packet_is_told_as_its_sender_knows_it() {
    let mut world = World::new();
    let id = world.open(1);
    let Splice { client, backend, seq, .. } = world.relays.splice(id).unwrap();
    let swapped = |leg: FourTuple| FourTuple { local: leg.remote, remote: leg.local };
    // To the client went what the backend had sent, and the other way round.
    assert_eq!(world.relays.origin_of(&client, SeqNum(5)), Some((swapped(backend), SeqNum(5))));
    let sent = SeqNum(1001);
    assert_eq!(world.relays.origin_of(&backend, sent.add(seq)), Some((swapped(client), sent)));
}
