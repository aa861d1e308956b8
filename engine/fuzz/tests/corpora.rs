//! The committed corpora, and mutations of them, through every target: what a machine without a
//! nightly compiler can do for the fuzzers.
//!
//! A corpus is what the fuzzers have found worth keeping, minimised (`testbed/fuzz`). What has found
//! a fault is kept beside it, under a name that says which (`findings/TARGET`): a minimised corpus
//! has no more use for it. The mutations are seeded: the same ones every time.

use std::path::Path;

use fastrand::Rng;
use standin_fuzz::{TARGETS, pack};

/// Mutations for each target. A run takes a few seconds.
const MUTATIONS: usize = 200;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(format!("{name}.pack"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let inputs = pack::unpack(&bytes).expect("a pack");
    inputs.into_iter().map(<[u8]>::to_vec).collect()
}

/// Says which input it was, so that it can be looked at.
fn feed(name: &str, target: fn(&[u8]), input: &[u8]) {
    let result = std::panic::catch_unwind(|| target(input));
    if result.is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{name}: finding, {} bytes: {hex}", input.len());
    }
}

fn mutated(random: &mut Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut input = inputs[random.usize(..inputs.len())].clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=input.len());
        match random.u8(..6) {
            0 => input.truncate(at),
            1 => input.insert(at, random.u8(..)),
            2 if at < input.len() => input[at] = random.u8(..),
            3 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            4 if at < input.len() => drop(input.remove(at)),
            // The end of another input.
            _ => {
                let other = &inputs[random.usize(..inputs.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
    input
}

/// What has found a fault of `name`, with the names of the files.
fn findings(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings").join(name);
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.expect("a file").path();
        (path.display().to_string(), std::fs::read(path).expect("a finding"))
    };
    files.map(read).collect()
}

#[test]
fn what_has_found_a_fault_finds_none_any_more() {
    let mut found = 0;
    for (name, target) in TARGETS {
        for (file, input) in findings(name) {
            found += 1;
            println!("{file}");
            feed(name, target, &input);
        }
    }
    assert!(found > 1, "they are there");
}

#[test]
fn every_committed_input_is_handled() {
    for (name, target) in TARGETS {
        for input in corpus(name) {
            feed(name, target, &input);
        }
    }
}

#[test]
fn mutations_of_the_corpora_are_handled() {
    for (name, target) in TARGETS {
        let (inputs, mut random) = (corpus(name), Rng::with_seed(7));
        for _ in 0..MUTATIONS {
            feed(name, target, &mutated(&mut random, &inputs));
        }
    }
}

#[test]
fn every_target_takes_nothing_and_noise() {
    let mut random = Rng::with_seed(9);
    for (name, target) in TARGETS {
        feed(name, target, &[]);
        for _ in 0..50 {
            let length = random.usize(..300);
            let noise: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            feed(name, target, &noise);
        }
    }
}
