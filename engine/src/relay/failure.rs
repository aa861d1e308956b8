//! Why a check has failed, for people, and for a standby.

use super::settings::Check;
use crate::http::Refusal;
use crate::time::Duration;

/// Why a check has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// Nobody answers.
    Silent,
    /// It takes connections, and says nothing on them.
    Mute,
    /// The head of its reply did not end in time.
    Slow,
    /// It ended the connection before its reply had a head.
    Closed,
    /// Its reply is none.
    Malformed(Refusal),
    /// Its reply has a status that is not wanted.
    Status(u16),
}

impl Failure {
    /// Whether it shows that nobody serves there. Who answers, and not as is wanted, lives: it gets no new
    /// clients, and those that it has may go on.
    #[must_use]
    pub const fn is_death(self) -> bool {
        match self {
            Self::Refused | Self::Silent | Self::Mute | Self::Slow | Self::Closed => true,
            Self::Malformed(_) | Self::Status(_) => false,
        }
    }

    /// In numbers, for another node: what, and what of it.
    #[must_use]
    pub const fn code(self) -> (u8, u16) {
        match self {
            Self::Refused => (1, 0),
            Self::Silent => (2, 0),
            Self::Mute => (3, 0),
            Self::Slow => (4, 0),
            Self::Closed => (5, 0),
            Self::Malformed(refusal) => (6, refusal.index() as u16),
            Self::Status(status) => (7, status),
        }
    }

    /// What a code stands for, if this version knows it.
    #[must_use]
    pub fn of_code(what: u8, detail: u16) -> Option<Self> {
        Some(match what {
            1 => Self::Refused,
            2 => Self::Silent,
            3 => Self::Mute,
            4 => Self::Slow,
            5 => Self::Closed,
            6 => Self::Malformed(*Refusal::ALL.get(usize::from(detail))?),
            7 => Self::Status(detail),
            _ => return None,
        })
    }

    /// In words, of a backend that is checked in this way.
    #[must_use]
    pub fn words(self, check: &Check) -> String {
        let time = span(check.timeout);
        match self {
            Self::Refused => "refused the connection".to_owned(),
            Self::Silent => format!("no answer in {time}"),
            Self::Mute => format!("took the connection, and no reply in {time}"),
            Self::Slow => format!("the head of its reply did not end in {time}"),
            Self::Closed => "ended the connection before it had replied".to_owned(),
            Self::Malformed(refusal) => format!("its reply is none: {refusal}"),
            Self::Status(status) => match &check.http {
                Some(http) => format!("answered {status}, {} is wanted", http.wanted()),
                None => format!("answered {status}"),
            },
        }
    }
}

/// A time, for a person.
fn span(time: Duration) -> String {
    match time.as_millis() {
        millis if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::HttpCheck;

    #[test]
    fn each_failure_has_its_words_and_its_code() {
        let http =
            HttpCheck { path: "/health".into(), host: None, wanted: vec![(200, 299), (401, 401)] };
        let check = Check { http: Some(http.into()), ..Check::default() };
        let all = [
            (Failure::Refused, true, "refused the connection"),
            (Failure::Silent, true, "no answer in 1 s"),
            (Failure::Mute, true, "took the connection, and no reply in 1 s"),
            (Failure::Slow, true, "the head of its reply did not end in 1 s"),
            (Failure::Closed, true, "ended the connection before it had replied"),
            (Failure::Malformed(Refusal::StatusLine), false, "its reply is none: "),
            (Failure::Status(503), false, "answered 503, 200-299, 401 is wanted"),
        ];
        for (failure, death, words) in all {
            let told = failure.words(&check);
            assert!(told.starts_with(words), "{told}");
            assert_eq!(failure.is_death(), death, "{told}");
            let (what, detail) = failure.code();
            assert_eq!(Failure::of_code(what, detail), Some(failure), "{told}");
        }
        for unknown in [(0, 0), (8, 0), (6, Refusal::COUNT as u16)] {
            assert_eq!(Failure::of_code(unknown.0, unknown.1), None, "of a later version");
        }
        let quick = Check { timeout: Duration::from_millis(300), ..check };
        assert_eq!(Failure::Silent.words(&quick), "no answer in 300 ms");
    }
}
