//! Mistakes to be made on purpose: the proof that the simulator's observer sees them.
//!
//! Each breaks one invariant, or a budget, as a plausible slip in the code would. Built only with the feature
//! `defects`, which no release build can have; `tools/tests/bite.rs` makes each of them in seeded
//! worlds until it is found out, and `docs/proof.md` says how soon.

#[cfg(not(debug_assertions))]
compile_error!("the feature `defects` breaks the engine on purpose and is not for release builds");

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// I1: input is acknowledged as soon as it is here.
    AckBeforeCommit,
    /// I1: the client's FIN is not put into the log.
    FinNotLogged,
    /// I2: output leaves as soon as it exists.
    OutputBeforeCommit,
    /// I2: what an event brings about leaves as soon as what was before it is confirmed.
    EffectBeforeCause,
    /// I2: what a service saw outside its input is not put into the log.
    PinNotLogged,
    /// I1: a splice shows before the standby knows of it.
    SpliceBeforeCommit,
    /// I2: whoever takes a splice over adds another number to those of its client.
    WrongDeltaAfterTakeover,
    /// I3: whoever owned a moment ago still speaks when it wakes.
    SpeakAfterLease,
    /// I3: what an arbiter would have to grant is taken as granted.
    TakeOverUnasked,
    /// I3: whoever speaks for the peer counts as having answered.
    BelieveUnanswered,
    /// I4: a carried connection's timestamps start a minute earlier.
    TimestampRegression,
    /// I4: a carried connection's window is an eighth of what it was.
    WindowShrink,
    /// I4: carried connections are reset.
    ResetAtTakeover,
    /// I4: whoever takes over has forgotten what it held, and refuses it.
    ForgetAtTakeover,
    /// I5: the address is claimed before packets for it find their way.
    AnnounceBeforeRoutes,
    /// I5: packets leave before the address is claimed.
    SpeakBeforeAnnounce,
    /// I6: one bit of each segment after a takeover is wrong.
    WrongByteAfterTakeover,
    /// I6: a server's reply goes on where another one's ended, whatever stood before.
    GoOnUnverified,
    /// I6: the end of a server that said too little counts as the end of its reply.
    EarlyEndIsEnd,
    /// I2: what only one of two servers has said goes to their client.
    PassUnagreed,
    /// I6: a standby's sessions do not hear that a server's connection is no more.
    ServerEndNotFollowed,
    /// I8: any request may be sent again.
    SendAgainUnasked,
    /// I7: a primary always says that it is protected.
    AlwaysProtected,
    /// I7: what is in the way of a host is kept secret.
    HideObstacles,
    /// Budget: whoever asks for much is answered all at once.
    AnswerAtOnce,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::AckBeforeCommit,
        Self::FinNotLogged,
        Self::OutputBeforeCommit,
        Self::EffectBeforeCause,
        Self::PinNotLogged,
        Self::SpliceBeforeCommit,
        Self::WrongDeltaAfterTakeover,
        Self::SpeakAfterLease,
        Self::TakeOverUnasked,
        Self::BelieveUnanswered,
        Self::TimestampRegression,
        Self::WindowShrink,
        Self::ResetAtTakeover,
        Self::ForgetAtTakeover,
        Self::AnnounceBeforeRoutes,
        Self::SpeakBeforeAnnounce,
        Self::WrongByteAfterTakeover,
        Self::GoOnUnverified,
        Self::EarlyEndIsEnd,
        Self::PassUnagreed,
        Self::ServerEndNotFollowed,
        Self::SendAgainUnasked,
        Self::AlwaysProtected,
        Self::HideObstacles,
        Self::AnswerAtOnce,
    ];
}

impl core::str::FromStr for Defect {
    type Err = String;

    /// Reads a mistake's name, as it stands above.
    fn from_str(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(|defect| format!("{defect:?}"));
        let found = names.iter().position(|known| known == name);
        found.map(|at| Self::ALL[at]).ok_or_else(|| format!("one of {}", names.join(", ")))
    }
}
