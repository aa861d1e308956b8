//! What differs, and whether it matters.
//!
//! **It matters** what a client could rely on: whether its connection is accepted, which options
//! are in force, the bytes of both streams as far as the recording got, and how the connection
//! ends. **It does not** how the bytes are cut into segments, when they leave, how wide a window
//! is, or the value of an option that each host chooses: that is shown and not judged.

use std::fmt;

use serde::Serialize;

use super::case::{Case, Ours};
use super::said::{Agreed, Answers};
use crate::replay::roster::{Counts, Ends};

/// One connection's outcome.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// From 1, in the order of their first packets.
    pub(crate) number: usize,
    pub(crate) ends: Ends,
    pub(crate) first_frame: u64,
    /// What a client could notice.
    pub(crate) differences: Vec<String>,
    /// What is different and does not matter, and what could not be judged.
    pub(crate) notes: Vec<String>,
}

/// The outcome of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub(super) capture: Counts,
    pub(super) connections: Vec<Outcome>,
    /// How many connections differ in what matters.
    pub(super) different: usize,
    /// Only connections that differ are printed.
    #[serde(skip)]
    pub(super) brief: bool,
}

impl Report {
    /// Whether nothing that matters differs.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.different == 0
    }

    /// Whether there was nothing to replay.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.capture)?;
        for outcome in &self.connections {
            if self.brief && outcome.differences.is_empty() {
                continue;
            }
            let Outcome { number, ends, first_frame, .. } = outcome;
            writeln!(f, "\nconnection {number}: {ends}, from packet {first_frame}")?;
            for text in &outcome.differences {
                writeln!(f, "  DIFFERS  {text}")?;
            }
            for text in &outcome.notes {
                writeln!(f, "           {text}")?;
            }
        }
        let count = self.connections.len();
        match self.different {
            0 => {
                write!(f, "\n{count} connections replayed: nothing that a client relies on differs")
            }
            different => write!(f, "\n{different} of {count} connections DIFFER"),
        }
    }
}

/// Judges a case.
pub(super) fn judge(number: usize, case: &Case) -> Outcome {
    let mut outcome = Outcome {
        number,
        ends: case.ends,
        first_frame: case.first_frame,
        differences: Vec::new(),
        notes: Vec::new(),
    };
    if outcome.handshake(&case.recorded_says, &case.ours_says) {
        outcome.reply(case);
        outcome.input(case);
        outcome.ending(case);
        outcome.style(case);
    }
    outcome
}

impl Outcome {
    fn differs(&mut self, text: String) {
        self.differences.push(text);
    }

    fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Whether both sides were there to go on.
    fn handshake(&mut self, recorded: &Answers, ours: &Answers) -> bool {
        match (recorded.agreed, ours.agreed) {
            (Some(theirs), Some(own)) => {
                self.options(theirs, own);
                true
            }
            (None, None) if recorded.reset && !ours.reset => {
                self.note(
                    "the recorded server refused the connection, and so does ours".to_owned(),
                );
                false
            }
            (None, None) => {
                let text = if ours.reset { "ours refuses the connection" } else { "no answer" };
                self.note(format!("no SYN-ACK on either side; {text}"));
                false
            }
            (None, Some(_)) if recorded.reset => {
                self.differs("the recorded server refused the connection; ours accepts it".into());
                false
            }
            (None, Some(own)) => {
                self.note(format!("the capture has no SYN-ACK; ours: {}", Shown(own)));
                recorded.segments > 0
            }
            (Some(_), None) => {
                let what = if ours.reset { "refuses it" } else { "does not answer" };
                self.differs(format!("the recorded server accepted the connection; ours {what}"));
                false
            }
        }
    }

    fn options(&mut self, theirs: Agreed, own: Agreed) {
        let word = |yes: bool| if yes { "yes" } else { "no" };
        for (name, recorded, ours) in [
            ("SACK", theirs.sack, own.sack),
            ("timestamps", theirs.timestamps, own.timestamps),
            ("window scaling", theirs.scale.is_some(), own.scale.is_some()),
            ("MSS option", theirs.mss.is_some(), own.mss.is_some()),
        ] {
            if recorded != ours {
                let (recorded, ours) = (word(recorded), word(ours));
                self.differs(format!("handshake: {name}: recorded {recorded}, ours {ours}"));
            }
        }
        if theirs != own {
            self.note(format!("handshake: recorded {}; ours {}", Shown(theirs), Shown(own)));
        }
    }

    /// The bytes to the client, as far as it acknowledged them.
    fn reply(&mut self, case: &Case) {
        let Case { recorded_says, ours_says, lockstep, client, .. } = case;
        let wanted = client.acked.min(recorded_says.length());
        let sent = ours_says.length();
        if sent < wanted {
            self.differs(format!(
                "reply: the client had {wanted} bytes of the recorded server; ours sent {sent}"
            ));
        } else {
            self.note(format!("reply: {wanted} bytes were acknowledged, ours sent {sent}"));
        }
        if let Some((at, theirs, own)) = &lockstep.differs {
            let (theirs, own) = (theirs.escape_ascii(), own.escape_ascii());
            self.differs(format!("reply: byte {at}: recorded \"{theirs}\", ours \"{own}\""));
        }
        if matches!(case.ours, Ours::Engine) {
            self.engine_reply(case);
        } else if case.filled > 0 {
            self.note(format!(
                "reply: {} bytes are not in the capture; zeros instead",
                case.filled
            ));
        }
    }

    fn engine_reply(&mut self, case: &Case) {
        let compared = case.lockstep.compared;
        if case.snapped {
            self.note("reply: not compared, the capture has not kept all payload".to_owned());
        } else if case.lockstep.given_up {
            self.note(format!("reply: compared up to byte {compared}, then too far apart"));
        } else if case.lockstep.differs.is_none() {
            self.note(format!("reply: {compared} bytes compared, the same"));
        }
    }

    /// The bytes from the client.
    fn input(&mut self, case: &Case) {
        let (recorded, ours) = (case.recorded_says.acked, case.ours_says.acked);
        let text = format!("input: the recorded server acknowledged {recorded}, ours {ours}");
        if ours >= recorded {
            self.note(text);
        } else if case.client_lacks {
            self.note(format!("{text}; not judged: the capture lacks some of the client's bytes"));
        } else {
            self.differs(text);
        }
    }

    fn ending(&mut self, case: &Case) {
        let (theirs, own) = (&case.recorded_says, &case.ours_says);
        let shown = |answers: &Answers| match (answers.reset, answers.fin, answers.fin_second) {
            (true, ..) => "reset".to_owned(),
            (false, Some(fin), true) => format!("FIN at {fin}, after the client's"),
            (false, Some(fin), false) => format!("FIN at {fin}, before the client's"),
            (false, None, _) => "open".to_owned(),
        };
        let text = format!("end: recorded {}; ours {}", shown(theirs), shown(own));
        let over = theirs.reset || theirs.fin.is_some();
        let same = theirs.reset == own.reset && (theirs.reset || theirs.fin == own.fin);
        if same {
            self.note(text);
        } else if own.reset && !case.client.reset {
            self.differs(text);
        } else if !over || case.client.reset {
            self.note(format!("{text}; not judged: the recorded one had not ended by itself"));
        } else if case.client_lacks {
            self.note(format!("{text}; not judged: the capture lacks some of the client's bytes"));
        } else {
            self.differs(text);
        }
    }

    /// What is shown and never judged.
    fn style(&mut self, case: &Case) {
        let Case { recorded_says: theirs, ours_says: own, client, .. } = case;
        let window = |answers: &Answers| match answers.window {
            Some((least, most)) => format!("{least} to {most}"),
            None => "none".to_owned(),
        };
        self.note(format!(
            "segments: recorded {} ({} again), ours {} ({} again)",
            theirs.segments, theirs.resent, own.segments, own.resent
        ));
        self.note(format!("window: recorded {}, ours {}", window(theirs), window(own)));
        for (name, recorded, ours) in [
            ("segments with SACK", theirs.sacks, own.sacks),
            ("zero windows", theirs.zero_windows, own.zero_windows),
        ] {
            if recorded != ours {
                self.note(format!("{name}: recorded {recorded}, ours {ours}"));
            }
        }
        if client.held_back > 0 {
            self.note(format!(
                "{} acknowledgments came before ours had sent so much, and were held back",
                client.held_back
            ));
        }
    }
}

/// Options for people.
struct Shown(Agreed);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Agreed { mss, scale, sack, timestamps } = self.0;
        let number = |value: Option<u16>| value.map_or("none".to_owned(), |v| v.to_string());
        write!(f, "MSS {}, scale {}", number(mss), number(scale.map(u16::from)))?;
        f.write_str(if sack { ", SACK" } else { ", no SACK" })?;
        f.write_str(if timestamps { ", timestamps" } else { ", no timestamps" })
    }
}
