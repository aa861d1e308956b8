//! The simulator, as far as every build can wait for it: some hundred seeds, and what makes seeds
//! worth running.

use standin_tools::sim::plan::Trouble;
use standin_tools::sim::swarm::{Orders, Summary, swarm};
use standin_tools::sim::{Judge, Nobody, Plan, Tell, run, shrink, verdict};

/// What happens to packets, at every place where something can.
const OFTEN: [&str; 16] = [
    "packet lost",
    "packet twice",
    "packet late",
    "packet corrupted",
    "packet too big for its path",
    "fragments",
    "queue full",
    "link full",
    "slow reader",
    "beat lost",
    "announcement ignored",
    "packet to a place that has moved",
    "failure between two outputs",
    "splices",
    "packets relayed",
    "replies of a server",
];
/// Limits of memory, and moments that are rare.
const SOMETIMES: [&str; 25] = [
    "link ended amid a frame",
    "no room in the table",
    "no room in the log",
    "SYN cookies",
    "gated packets",
    "strays passed on",
    "splits",
    "SYN refused by a backend",
    "splices moved to another backend",
    "splices ended",
    "health checks failed",
    "excused by the end of a backend",
    "clients refused for lack of a backend",
    "gated packets of a relay",
    "packet that a host does not carry",
    "packet too long for a host",
    "told of a peer that is no partner",
    "excused for want of memory",
    "requests that took too long",
    "servers that died in a request",
    "requests that were sent again",
    "replies of the pair for want of a server",
    "replies that could not be continued",
    "twins that a session went on without",
    "twins that differed",
];

fn swarm_of(start: u64, seeds: u64) -> Summary {
    let jobs = std::thread::available_parallelism().map_or(1, |count| count.get());
    let orders = Orders { start, seeds, jobs, failures_max: 1 };
    swarm(orders, Judge::of, &|| false, &Plan::draw, &|_| ())
}

#[test]
fn some_hundred_seeds_are_clean_and_cover_every_kind_of_fault() {
    let summary = swarm_of(0, 400);
    if let Some(failure) = summary.failures.first() {
        panic!(
            "seed {}: {}: {}\nreplay: standin-sim --start {0} --seeds 1 --timeline",
            failure.seed, failure.violation.rule, failure.violation.text
        );
    }
    let tally = &summary.tally;
    for kind in Trouble::KINDS {
        assert!(tally.count(kind) > 0, "no seed has: {kind}");
    }
    for often in OFTEN {
        assert!(tally.count(often) > 100, "{often}: {}", tally.count(often));
    }
    for sometimes in SOMETIMES {
        assert!(tally.count(sometimes) > 0, "no seed has: {sometimes}");
    }
    assert!(tally.count("takeovers") > 100, "takeovers: {}", tally.count("takeovers"));
    let (all, done) = (tally.count("connections"), tally.count("connections done"));
    assert!(all > 1000 && done * 10 > all * 8, "{done} of {all} connections came to their end");
}

#[test]
fn a_seed_gives_the_same_trace_twice_and_another_seed_another() {
    for seed in [3, 17, 90] {
        let plan = Plan::draw(seed);
        let once = run(&plan, Box::new(Nobody), Tell::Nothing);
        let again = run(&plan, Box::new(Nobody), Tell::Packets);
        assert_eq!(once.fingerprint, again.fingerprint, "seed {seed}");
        assert_eq!(once.tally, again.tally, "seed {seed}");
        let other = run(&Plan::draw(seed + 1), Box::new(Nobody), Tell::Nothing);
        assert_ne!(once.fingerprint, other.fingerprint, "seed {seed}");
    }
}

#[test]
fn a_plan_survives_being_written_and_read() {
    for seed in 0..50 {
        let plan = Plan::draw(seed);
        let text = serde_json::to_string(&plan).expect("a plan can be written");
        let read: Plan = serde_json::from_str(&text).expect("and read");
        assert_eq!(plan, read);
        assert_eq!(read.check(), Ok(()));
    }
}

#[test]
fn a_plan_out_of_range_is_refused_and_says_why() {
    let mut plan = Plan::draw(1);
    plan.machines.clear();
    assert_eq!(plan.check(), Err("machines: one at least, 200 at most".to_owned()));
}

/// A world that cannot come to an end in time: one client connects long after everything healed.
#[test]
fn a_failing_plan_is_made_small() {
    let mut plan = Plan::draw(2);
    while plan.clients.len() < 3 || plan.faults.len() < 2 {
        plan = Plan::draw(plan.seed + 1);
    }
    plan.clients[1].at_us = 3_599_000_000;
    let rule = verdict(&plan, |_| Box::new(Nobody)).expect("it never comes to an end").rule;
    let small = shrink(&plan, &rule, |_| Box::new(Nobody), &mut || ());
    assert_eq!((small.clients.len(), small.faults.len()), (1, 0));
    assert_eq!(small.clients[0].id, plan.clients[1].id);
}
