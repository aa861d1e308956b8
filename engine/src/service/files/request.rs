//! What a request asks of `files`: which file, if any, and what its reply looks like.

use super::status::Status;
use super::target::Target;
use crate::http::{Fields, Framing, Persist, RequestHead};
use crate::service::pin::Edition;

/// Everything that a head asks.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    /// What is to be served, or what the request is refused with.
    pub(crate) want: Result<Target, Status>,
    /// HEAD: the reply has no body.
    pub(crate) head_only: bool,
    /// What becomes of the connection.
    pub(crate) persist: Persist,
    /// The body that follows, if any. Where it cannot be measured, `persist` is `Close`.
    pub(crate) body: Option<Framing>,
    /// The client waits for 100 (Continue) before it sends its body.
    pub(crate) proceed: bool,
    /// Header fields, for the conditional ones.
    pub(crate) fields: Fields<'a>,
}

impl<'a> Asked<'a> {
    /// Refuses something whose end cannot be known: the connection closes.
    pub(crate) fn refused(status: Status) -> Self {
        Self {
            want: Err(status),
            head_only: false,
            persist: Persist::Close,
            body: None,
            proceed: false,
            fields: Fields::default(),
        }
    }

    /// Reads a complete head, as strictly as the reply's edition has it.
    pub(crate) fn parse(head: &'a [u8], edition: Edition) -> Self {
        let read = match edition {
            Edition::First => RequestHead::parse_leniently(head),
            Edition::Second => RequestHead::parse(head),
        };
        match read {
            Ok(read) => Self::of(read),
            // What does not look like a head has no method, either.
            Err(refusal) => {
                let head_only = !refusal.is_of_syntax() && head.starts_with(b"HEAD ");
                Self { head_only, ..Self::refused(refusal.into()) }
            }
        }
    }

    fn of(read: RequestHead<'a>) -> Self {
        let RequestHead { method, target, fields, body, persist, proceed, .. } = read;
        let head_only = method == "HEAD";
        match method {
            "GET" | "HEAD" => match Target::parse(target) {
                Ok(target) => Self { want: Ok(target), head_only, persist, body, proceed, fields },
                // What is meant is in doubt, and what comes behind it, too.
                Err(status) => Self { head_only, ..Self::refused(status) },
            },
            _ => {
                // The client may or may not send the body after this final answer.
                let persist = if proceed { Persist::Close } else { persist };
                let want = Err(Status::MethodNotAllowed);
                Self { want, head_only, persist, body, proceed: false, fields }
            }
        }
    }
}
