//! An oracle: two kernels at the ends of a splice, and somebody who sends in their names. What the
//! relay holds for over, one of the kernels must hold for over; and whatever a kernel says passes.

use proptest::prelude::*;

use super::*;

/// One end, as RFC 9293 and RFC 5961 have it. Its text has no bytes, only numbers.
#[derive(Debug, Clone)]
struct Kernel {
    una: u32,
    nxt: u32,
    rcv: u32,
    window: u32,
    /// The other's window, as last heard.
    wnd: u32,
    fin_sent: bool,
    fin_rcvd: bool,
    /// It has no such connection any more.
    gone: bool,
}

/// The scale of either's windows.
const SCALE: u8 = 4;
const TEXT: [u8; 8000] = [0; 8000];

#[derive(Debug, Clone)]
struct Said {
    flags: Flags,
    seq: u32,
    ack: u32,
    window: u32,
    text: usize,
}

impl Kernel {
    fn new(iss: u32, irs: u32) -> Self {
        let (una, rcv, window) = (iss + 1, irs + 1, 60_000);
        let (fin_sent, fin_rcvd, gone) = (false, false, false);
        Self { una, nxt: una, rcv, window, wnd: 1000, fin_sent, fin_rcvd, gone }
    }

    fn says(&self, flags: Flags, seq: u32, text: usize) -> Said {
        let window = self.window >> SCALE << SCALE;
        Said { flags: flags | Flags::ACK, seq, ack: self.rcv, window, text }
    }

    fn write(&mut self, count: usize) -> Option<Said> {
        let room = (self.una + self.wnd).saturating_sub(self.nxt) as usize;
        if self.gone || self.fin_sent {
            return None;
        }
        // One byte asks whether the window is still shut.
        let count = count.min(room.max(usize::from(self.una == self.nxt)));
        let said = self.says(Flags::PSH, self.nxt, count);
        self.nxt += count as u32;
        (count > 0).then_some(said)
    }

    fn again(&self) -> Option<Said> {
        let text = (self.nxt - self.una - u32::from(self.fin_sent && self.nxt > self.una)) as usize;
        let fin = if self.fin_sent && self.nxt > self.una { Flags::FIN } else { Flags::empty() };
        (!self.gone).then(|| self.says(fin, self.una, text.min(TEXT.len())))
    }

    fn close(&mut self) -> Option<Said> {
        if self.gone || core::mem::replace(&mut self.fin_sent, true) {
            return None;
        }
        let said = self.says(Flags::FIN, self.nxt, 0);
        self.nxt += 1;
        Some(said)
    }

    fn abort(&mut self) -> Option<Said> {
        let said = self.says(Flags::RST, self.nxt, 0);
        (!core::mem::replace(&mut self.gone, true)).then_some(said)
    }

    /// SEGMENT ARRIVES.
    fn hears(&mut self, said: &Said) -> Option<Said> {
        let Said { flags, seq, ack, window, text } = *said;
        if self.gone {
            let reset = Said { flags: Flags::RST, seq: ack, ack: 0, window: 0, text: 0 };
            return (!flags.contains(Flags::RST)).then_some(reset);
        }
        let length = text as u32 + u32::from(flags.contains(Flags::FIN));
        let end = seq.wrapping_add(length);
        let inside = |at: u32| at.wrapping_sub(self.rcv) < self.window.max(1);
        let fits = if length == 0 {
            inside(seq) || seq == self.rcv
        } else {
            self.window > 0 && (inside(seq) || inside(end.wrapping_sub(1)))
        };
        let challenge = self.says(Flags::empty(), self.nxt, 0);
        if flags.contains(Flags::RST) {
            self.gone |= seq == self.rcv;
            return (fits && !self.gone).then_some(challenge);
        }
        if !fits || flags.contains(Flags::SYN) {
            return Some(challenge);
        }
        if !flags.contains(Flags::ACK) {
            return None;
        }
        if ack.wrapping_sub(self.una) > self.nxt - self.una {
            return (self.una.wrapping_sub(ack) > 1 << 20).then_some(challenge);
        }
        (self.una, self.wnd) = (ack, window);
        if seq.wrapping_sub(self.rcv) as i32 > 0 || self.fin_rcvd {
            return Some(challenge);
        }
        let taken = end.wrapping_sub(self.rcv).min(self.window + 1);
        self.rcv += taken;
        self.fin_rcvd |= flags.contains(Flags::FIN) && self.rcv == end;
        (length > 0).then(|| self.says(Flags::empty(), self.nxt, 0))
    }

    fn is_over(&self) -> bool {
        self.gone || (self.fin_sent && self.fin_rcvd && self.una == self.nxt)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(bool, usize),
    Again(bool),
    Window(bool, u32),
    Close(bool),
    Abort(bool),
    /// The oldest packet of a side's comes, or the newest, or is lost, or comes twice.
    Deliver(bool, u8),
    Forge(bool, u8, u32, u32, usize),
    Wait(u8),
    TakeOver,
}

fn step() -> impl Strategy<Value = Step> {
    let near =
        prop_oneof![0..3_u32, 0..100_000_u32, any::<u32>(), (0..256_u32).prop_map(|n| n << 24)];
    let side = any::<bool>();
    prop_oneof![
        4 => (side, 1..8000_usize).prop_map(|(side, count)| Step::Write(side, count)),
        2 => side.prop_map(Step::Again),
        1 => (side, prop_oneof![Just(0), Just(60_000_u32), 0..200_000_u32])
            .prop_map(|(side, window)| Step::Window(side, window)),
        1 => side.prop_map(Step::Close),
        1 => side.prop_map(Step::Abort),
        12 => (side, 0..8_u8).prop_map(|(side, how)| Step::Deliver(side, how)),
        4 => (side, any::<u8>(), near.clone(), near, 0..100_usize)
            .prop_map(|(side, flags, seq, ack, text)| Step::Forge(side, flags, seq, ack, text)),
        1 => (0..5_u8).prop_map(Step::Wait),
        1 => Just(Step::TakeOver),
    ]
}

struct Scene {
    world: World,
    id: SpliceId,
    splice: Splice,
    /// The client and the backend.
    ends: [Kernel; 2],
    /// On the way to each.
    ways: [VecDeque<Said>; 2],
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new();
        let mut syn = segment(Flags::SYN, 1000, 0);
        syn.options.window_scale = Some(SCALE);
        world.say(client(1), &syn);
        let [Event::Spliced(id)] = world.events()[..] else { panic!("a splice") };
        world.relays.commit(world.now, id);
        let splice = world.relays.splice(id).unwrap();
        let mut answer = segment(Flags::SYN | Flags::ACK, 5000, SeqNum(1001).add(splice.seq).0);
        answer.options.window_scale = Some(SCALE);
        world.say(splice.backend, &answer);
        world.client_says(1, Flags::ACK);
        let ends = [Kernel::new(1000, 5000), Kernel::new(5000, 1000)];
        Self { world, id, splice, ends, ways: Default::default() }
    }

    fn obey(&mut self, step: &Step) {
        match *step {
            Step::Write(side, count) => {
                let said = self.ends[usize::from(side)].write(count);
                self.pass(side, said, true);
            }
            Step::Again(side) => {
                let said = self.ends[usize::from(side)].again();
                self.pass(side, said, true);
            }
            Step::Window(side, window) => {
                let end = &mut self.ends[usize::from(side)];
                end.window = window;
                let said = end.says(Flags::empty(), end.nxt, 0);
                let said = (!end.gone).then_some(said);
                self.pass(side, said, true);
            }
            Step::Close(side) => {
                let said = self.ends[usize::from(side)].close();
                self.pass(side, said, true);
            }
            Step::Abort(side) => {
                let said = self.ends[usize::from(side)].abort();
                self.pass(side, said, true);
            }
            Step::Deliver(side, how) => self.deliver(side, how),
            Step::Forge(side, flags, seq, ack, text) => {
                let (one, other) = (&self.ends[usize::from(side)], &self.ends[usize::from(!side)]);
                let flags = Flags::from_bits_retain(flags);
                let seq = one.nxt.wrapping_add(seq.max(1));
                let ack = other.nxt.wrapping_add(ack.max(1));
                self.pass(side, Some(Said { flags, seq, ack, window: 1000, text }), false);
            }
            Step::Wait(seconds) => self.wait(seconds.into()),
            Step::TakeOver => {
                let stage = self.world.relays.stage(self.id).unwrap();
                let mut heir = World::new();
                heir.now = self.world.now;
                assert_eq!(heir.relays.hold(heir.now, self.id, self.splice), Ok(()));
                assert_eq!(heir.relays.hold_stage(self.id, stage), Ok(()));
                heir.relays.arm(heir.now);
                self.world = heir;
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.wait(1);
            for header in self.world.headers() {
                let side = [self.splice.client, self.splice.backend];
                if header.flags != Flags::ACK {
                    // A check, which may come from a port that is free now.
                    continue;
                }
                let Some(to) = side.iter().position(|leg| *leg == header.tuple) else { continue };
                let shift = [0, self.splice.seq][to];
                let seq = header.seq.sub(shift).0;
                let said = Said { flags: header.flags, seq, ack: header.ack.0, window: 0, text: 0 };
                let before = self.ends[to].clone();
                let answer = self.ends[to].hears(&said);
                let Kernel { una, rcv, gone, .. } = &self.ends[to];
                assert_eq!((una, rcv, gone), (&before.una, &before.rcv, &before.gone));
                self.pass(to == 1, answer, true);
            }
        }
    }

    /// A side's segment comes to the relay. Numbers of the client are the client's in all that the kernels
    /// say; on the backend's leg they are shifted.
    fn pass(&mut self, side: bool, said: Option<Said>, real: bool) {
        let Some(said) = said else { return };
        let Said { flags, seq, ack, window, text } = said;
        // What answers a question is a number of the question's own.
        let question = flags == Flags::RST && real;
        let shift = if side && !question { self.splice.seq } else { 0 };
        let leg = if side { self.splice.backend } else { self.splice.client };
        let ack_out = SeqNum(ack).add(shift).0;
        let mut passing = segment(flags, seq, ack_out);
        (passing.window, passing.payload) = ((window >> SCALE) as u16, &TEXT[..text]);
        let fate = self.world.say(leg, &passing);
        if let Fate::Forward { .. } = fate {
            self.ways[usize::from(!side)].push_back(said);
        }
        if real && !self.ends.iter().any(Kernel::is_over) {
            assert!(matches!(fate, Fate::Forward { .. }), "{passing:?} of a living splice");
        }
    }

    fn deliver(&mut self, side: bool, how: u8) {
        let way = &mut self.ways[usize::from(side)];
        let said = match how {
            0..=4 => way.pop_front(),
            5 => way.pop_back(),
            6 => way.front().cloned(),
            _ => {
                way.pop_front();
                None
            }
        };
        let Some(said) = said else { return };
        let answer = self.ends[usize::from(side)].hears(&said);
        self.pass(side, answer, true);
    }

    fn check(&self) {
        let over = self.world.relays.stage(self.id).is_none_or(|stage| stage == Stage::Over);
        let known = self.ends.iter().any(Kernel::is_over)
            || self.ends.iter().all(|end| end.fin_sent && end.fin_rcvd);
        assert!(!over || known, "over, and {:?}", self.ends);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_is_over_here_is_over_there(steps in prop::collection::vec(step(), 1..120)) {
        let mut scene = Scene::new();
        for step in &steps {
            scene.obey(step);
            if scene.world.relays.splice(scene.id).is_none() {
                break;
            }
            scene.check();
        }
        scene.check();
    }

    #[test]
    fn what_is_over_there_is_not_kept_for_hours_here(
        steps in prop::collection::vec(step(), 1..60), by: bool,
    ) {
        let mut scene = Scene::new();
        for step in steps {
            scene.obey(&step);
            if scene.world.relays.splice(scene.id).is_none() {
                return Ok(());
            }
        }
        // One gives up, and its reset passes here; what is under way comes or does not.
        let said = Kernel { gone: false, ..scene.ends[usize::from(by)].clone() }.abort();
        scene.ends[usize::from(by)].gone = true;
        scene.pass(by, said, true);
        scene.ways.iter_mut().for_each(VecDeque::clear);
        scene.wait(600);
        prop_assert!(scene.world.relays.splice(scene.id).is_none(), "{:?}", scene.ends);
    }
}
