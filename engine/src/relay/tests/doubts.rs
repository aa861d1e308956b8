//! Splices that may be over: who is believed at once, who is asked, and what the answers mean.

use super::*;

/// Segments that guess nothing but the four-tuple, at strides of 2²⁴, from every number on.
fn guess(world: &mut World, leg: FourTuple) {
    for base in [0, 77, 1001, 5001, 0x00ff_ffff] {
        for step in 0..256_u32 {
            let seq = base + (step << 24);
            for ack in [12_345, seq, seq.wrapping_add(1000)] {
                world.say(leg, &segment(Flags::ACK, seq, ack));
            }
            for (flags, ack) in
                [(Flags::RST, 0), (Flags::RST | Flags::ACK, seq), (Flags::FIN | Flags::ACK, seq)]
            {
                // The one right number in 2³² is no guess.
                if seq != 1001 && seq != 5001 {
                    world.say(leg, &segment(flags, seq, ack));
                }
            }
            world.say(leg, &segment(Flags::SYN, seq, 0));
        }
    }
}

/// Answers every question to an end of the splice `id`, as one who has it, or has it not.
fn answer(world: &mut World, id: SpliceId, alive: [bool; 2]) -> usize {
    let Some(splice) = world.relays.splice(id) else { return 0 };
    let mut asked = 0;
    for header in world.headers() {
        let side = [splice.client, splice.backend].iter().position(|leg| *leg == header.tuple);
        let Some(side) = side.filter(|_| header.flags == Flags::ACK) else { continue };
        asked += 1;
        if !alive[side] {
            world.say(header.tuple, &segment(Flags::RST, header.ack.0, 0));
        } else if side == 0 {
            world.client_says(1, Flags::ACK);
        } else {
            world.backend_says(id, Flags::ACK);
        }
    }
    asked
}

/// An heir of the splice that the client with port 1 has.
fn heir(id: SpliceId, splice: Splice) -> World {
    let mut heir = World::new();
    assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    assert_eq!(heir.relays.hold_stage(id, Stage::Open), Ok(()));
    heir.relays.arm(heir.now);
    heir
}

fn wait_for(world: &mut World, id: SpliceId, seconds: u64, alive: [bool; 2]) -> usize {
    let mut asked = 0;
    for _ in 0..seconds {
        world.wait(1);
        asked += answer(world, id, alive);
    }
    asked
}

#[test]
fn whoever_knows_no_more_than_the_four_tuple_ends_nothing() {
    let mut world = World::new();
    let id = world.open(1);
    for leg in [client(1), world.backend(id)] {
        guess(&mut world, leg);
        assert_eq!((world.relays.stage(id), world.events()), (Some(Stage::Open), vec![]));
    }
    let asked = wait_for(&mut world, id, 1000, [true; 2]);
    assert!(asked <= 24, "asked {asked} times");
    assert_eq!(world.relays.stage(id), Some(Stage::Open));
}

#[test]
fn whoever_knows_no_more_than_the_four_tuple_ends_nothing_that_was_taken_over() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    let mut heir = heir(id, splice);
    for leg in [splice.client, splice.backend] {
        guess(&mut heir, leg);
        assert_eq!(heir.relays.stage(id), Some(Stage::Open));
    }
    assert!(wait_for(&mut heir, id, 1000, [true; 2]) > 0);
    assert_eq!(heir.relays.splice(id), Some(splice));
    assert_eq!(heir.relays.stage(id), Some(Stage::Open));
}

#[test]
fn an_acknowledgment_that_nobody_could_have_sent_makes_no_reset_right() {
    let mut world = World::new();
    let id = world.open(1);
    let backend = world.backend(id);
    let shift = world.relays.splice(id).unwrap().seq;
    for ahead in [1, 500, 70_000, 1 << 30] {
        // In the backend's name, in its window: of what the client has not sent.
        world.say(backend, &segment(Flags::ACK, 5001, SeqNum(1001 + ahead).add(shift).0));
        world.say(client(1), &segment(Flags::RST, 1001 + ahead, 0));
        assert_eq!(world.relays.stage(id), Some(Stage::Open), "{ahead}");
    }
    // Nor what is right, in a segment that the client does not take.
    let text = Segment { payload: b"text", ..segment(Flags::ACK, 1001, 5001) };
    world.say(client(1), &text);
    world.say(backend, &segment(Flags::ACK, 9_000_000, SeqNum(1005).add(shift).0));
    world.say(client(1), &segment(Flags::RST, 1003, 0));
    assert_eq!(world.relays.stage(id), Some(Stage::Open));
}

#[test]
fn text_beyond_the_window_is_nobodys() {
    let mut world = World::new();
    let id = world.open(1);
    // The window is 1000, and one byte more asks whether it is still shut.
    for (at, believed) in [(1002 + 1000, false), (1001 + 1000, true)] {
        world.say(client(1), &segment(Flags::ACK, at, 5001));
        let text = Segment { payload: b"t", ..segment(Flags::ACK, at, 5001) };
        world.say(client(1), &text);
        world.say(client(1), &segment(Flags::RST, at + 1, 0));
        assert_eq!(world.relays.stage(id) == Some(Stage::Over), believed, "{at}");
        world.backend_says(id, Flags::ACK);
    }
}

#[test]
fn a_reset_that_is_kept_out_leaves_no_port_taken_once_its_end_says_so() {
    let mut world = World::new();
    let id = world.open(1);
    world.client_says(1, Flags::ACK);
    // The client has gone on, unseen, and gives up.
    world.say(client(1), &segment(Flags::RST, 1500, 0));
    assert_eq!(world.relays.stage(id), Some(Stage::Open));
    assert!(wait_for(&mut world, id, 3, [false; 2]) > 0);
    assert_eq!(world.events(), [Event::Stage(id, Stage::Over)]);
    wait_for(&mut world, id, 65, [false; 2]);
    assert_eq!(world.relays.len(), 0);
}

#[test]
fn resets_of_a_splice_that_was_taken_over_are_asked_about() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    // The client reset, and both know; or the backend did not hear of it, and is told by what its
    // answer to the question draws.
    for alive in [[false, false], [false, true]] {
        let mut heir = heir(id, splice);
        assert!(matches!(heir.client_says(1, Flags::RST), Fate::Forward { .. }));
        assert_eq!(heir.relays.stage(id), Some(Stage::Open), "anybody can say that");
        wait_for(&mut heir, id, 10, alive);
        assert_eq!(heir.relays.stage(id), Some(Stage::Over), "{alive:?}");
    }
    // Nobody says anything any more.
    let mut heir = heir(id, splice);
    heir.client_says(1, Flags::RST);
    heir.wait(600);
    assert_eq!(heir.relays.splice(id), None);
}

#[test]
fn ends_of_a_splice_that_was_taken_over_are_found_to_have_closed() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    for alive in [[true, false], [false, false], [true, true]] {
        let mut heir = heir(id, splice);
        heir.finish(1, id);
        assert_eq!(heir.relays.stage(id), Some(Stage::Open), "anybody can say that");
        wait_for(&mut heir, id, 10, alive);
        let over = heir.relays.stage(id) == Some(Stage::Over);
        assert_eq!(over, alive != [true, true], "{alive:?}");
    }
}

#[test]
fn a_reset_that_answers_another_number_than_was_asked_says_nothing() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    let mut heir = heir(id, splice);
    heir.client_says(1, Flags::RST);
    for _ in 0..20 {
        heir.wait(1);
        for header in heir.headers() {
            for by in [1, 2, 1 << 24] {
                heir.say(header.tuple, &segment(Flags::RST, header.ack.0 + by, 0));
            }
            // Nor is it the other end's to say.
            let other = if header.tuple == client(1) { splice.backend } else { client(1) };
            heir.say(other, &segment(Flags::RST, header.ack.0, 0));
        }
    }
    assert_eq!(heir.relays.stage(id), Some(Stage::Open));
}

#[test]
fn a_question_is_none_of_the_connection_and_has_its_stamps() {
    let mut world = World::new();
    let mut syn = segment(Flags::SYN, 1000, 0);
    syn.options.timestamps = Some(Timestamps { val: 7, ecr: 0 });
    world.say(client(1), &syn);
    let [Event::Spliced(id)] = world.events()[..] else { panic!("a splice") };
    world.relays.commit(world.now, id);
    let splice = world.relays.splice(id).unwrap();
    let mut answer = segment(Flags::SYN | Flags::ACK, 5000, SeqNum(1001).add(splice.seq).0);
    answer.options.timestamps = Some(Timestamps { val: 900, ecr: 7_u32.wrapping_add(splice.ts) });
    world.say(splice.backend, &answer);
    world.client_says(1, Flags::ACK);
    world.headers();
    world.say(client(1), &segment(Flags::RST, 1500, 0));
    world.wait(1);
    let headers = world.headers();
    let asked: Vec<_> = headers.iter().filter(|header| header.flags == Flags::ACK).collect();
    let [question] = asked[..] else { panic!("{headers:?}") };
    assert_eq!(question.tuple, splice.backend, "the reset went there");
    assert_eq!(question.seq, SeqNum(1000).add(splice.seq), "right below its window");
    assert!(question.window > 0, "no window is shut");
    let stamps = Timestamps { val: 7_u32.wrapping_add(splice.ts), ecr: 900 };
    assert_eq!(question.options.timestamps, Some(stamps));
}

/// What both ends have of each other's input is as it was before somebody said that the splice was over.
#[test]
fn a_reset_that_nobody_believes_takes_back_no_end_of_input() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).expect("a splice");
    let acked = SeqNum(1002).add(splice.seq).0;
    world.client_says(1, Flags::FIN | Flags::ACK);
    world.say(splice.backend, &segment(Flags::ACK, 5001, acked));
    world.say(splice.backend, &segment(Flags::RST, 5001, 0));
    assert_eq!(world.relays.stage(id), Some(Stage::Over));
    world.say(client(1), &segment(Flags::ACK, 1002, 5001));
    assert_eq!(world.relays.stage(id), Some(Stage::Open), "it goes on");
    world.say(splice.backend, &segment(Flags::FIN | Flags::ACK, 5001, acked));
    assert_eq!(world.relays.stage(id), Some(Stage::Open));
    world.say(client(1), &segment(Flags::ACK, 1002, 5002));
    assert_eq!(world.relays.stage(id), Some(Stage::Over), "both have finished");
}
