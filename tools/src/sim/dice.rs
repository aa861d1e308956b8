//! Dice: seeded, one cup for each place in the world.

use fastrand::Rng;

/// Where dice are thrown. Each place has its own, so that what happens in one does not change
/// what is thrown in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What a plan holds.
    Plan,
    /// A machine's line and cache.
    Machine(usize),
    /// A host's loop and restarts.
    Host(usize),
    /// What one node sends on the stream.
    Stream(usize),
    /// What one node sends as heartbeats.
    Beats(usize),
    /// Packets and frames from one host to the other.
    Between(usize),
    /// Whether there is an arbiter, and what goes wrong with it.
    ArbiterPlan,
    /// The ways to the arbiter.
    Arbiter,
    /// What the paths of a plan's machines are like.
    Paths,
    /// Whether there are backends, what they are like, and what befalls them.
    RelaysPlan,
    /// Whether somebody plays recordings, and when.
    ReplayPlan,
    /// Which hosts cannot carry the service, and when.
    HostsPlan,
    /// What operators do.
    OperatorPlan,
    /// Which hosts carry less than others.
    MtuPlan,
    /// What happens at one moment.
    TanglePlan,
    /// Whether there is little memory.
    MemoryPlan,
    /// Whether clients ask for very much, or for nothing without end.
    PressPlan,
    /// Whether backends speak HTTP, who asks them, and what befalls them.
    HttpPlan,
    /// Whether two backends get the same input, and what befalls one of them.
    MirrorPlan,
    /// Which recordings are played.
    Replay,
    /// A backend's line and cache, and its own randomness.
    Backend(usize),
    /// A client's own randomness.
    Client(u16),
}

/// The dice of `place` in the run of `seed`.
pub(super) fn dice(seed: u64, place: Place) -> Rng {
    let tag = match place {
        Place::Plan => 0,
        Place::Machine(index) => 0x100 + index as u64,
        Place::Host(index) => 0x200 + index as u64,
        Place::Stream(index) => 0x300 + index as u64,
        Place::Beats(index) => 0x400 + index as u64,
        Place::Between(index) => 0x500 + index as u64,
        Place::ArbiterPlan => 0x601,
        Place::Arbiter => 0x602,
        Place::Paths => 0x600,
        Place::RelaysPlan => 0x603,
        Place::ReplayPlan => 0x604,
        Place::Replay => 0x605,
        Place::HostsPlan => 0x606,
        Place::OperatorPlan => 0x607,
        Place::MtuPlan => 0x608,
        Place::TanglePlan => 0x609,
        Place::MemoryPlan => 0x60A,
        Place::PressPlan => 0x60B,
        Place::HttpPlan => 0x60C,
        Place::MirrorPlan => 0x60D,
        Place::Backend(index) => 0x700 + index as u64,
        Place::Client(id) => 0x1_0000 + u64::from(id),
    };
    Rng::with_seed(mix(seed ^ mix(tag)))
}

/// SplitMix64's finaliser: neighbouring seeds become strangers.
pub(super) const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Throws for something that happens `per_million` times in a million. Throws always, so that the
/// rate does not change what else is thrown.
pub(super) fn happens(rng: &mut Rng, per_million: u32) -> bool {
    rng.u32(..1_000_000) < per_million
}

/// A number from `0..=most`.
pub(super) fn up_to(rng: &mut Rng, most: u64) -> u64 {
    rng.u64(..=most)
}
