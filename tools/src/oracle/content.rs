//! I6: what a service may say, byte for byte, given what its client said.

use super::http::Http;
use super::sight::{File, Kind};
use super::stream::Stream;
use crate::drill::chargen_difference;

/// What a connection's output is held against.
#[derive(Debug)]
pub(super) enum Content {
    Echo,
    Discard,
    Chargen,
    Files(Box<Http>),
    /// Any bytes: not judged here.
    Others,
    /// The port is not one of the configured ones: no connection can be there.
    None,
}

impl Content {
    pub(super) fn of(kind: Option<Kind>) -> Self {
        match kind {
            Some(Kind::Echo) => Self::Echo,
            Some(Kind::Discard) => Self::Discard,
            Some(Kind::Chargen) => Self::Chargen,
            Some(Kind::Files) => Self::Files(Box::default()),
            Some(Kind::Others) => Self::Others,
            None => Self::None,
        }
    }

    /// Judges `bytes` of output at `offset`, which `output` has taken already. `Err` says what is
    /// wrong with them.
    pub(super) fn judge(
        &mut self,
        offset: u64,
        bytes: &[u8],
        output: &Stream,
        input: &Stream,
        files: &[File],
    ) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        match self {
            Self::Echo => judge_echo(offset, bytes, input),
            Self::Discard => Err("discard says something".to_owned()),
            Self::Chargen => match chargen_difference(offset, bytes) {
                Some((index, right)) => Err(wrong(offset + index as u64, right, bytes[index])),
                None => Ok(()),
            },
            Self::Files(http) => http.judge(output, input, files),
            Self::Others => Ok(()),
            Self::None => Err("a service on a port that has none".to_owned()),
        }
    }

    /// Judges an end of output at `offset`, with the client's own end, if it has come.
    pub(super) fn judge_end(&self, offset: u64, finished: Option<u64>) -> Result<(), String> {
        match self {
            Self::Echo if finished != Some(offset) => {
                Err(format!("echo ends at {offset}, the client's input at {finished:?}"))
            }
            Self::Discard if finished.is_none() => Err("discard ends before its client".to_owned()),
            Self::Chargen => Err("chargen ends".to_owned()),
            Self::Echo | Self::Discard | Self::Files(_) | Self::Others | Self::None => Ok(()),
        }
    }
}

fn judge_echo(offset: u64, bytes: &[u8], input: &Stream) -> Result<(), String> {
    if offset + bytes.len() as u64 > input.next() {
        let (end, came) = (offset + bytes.len() as u64, input.next());
        return Err(format!("echo of {end} bytes where {came} came in"));
    }
    for (at, &found) in (offset..).zip(bytes) {
        match input.byte(at) {
            Some(right) if right != found => return Err(wrong(at, right, found)),
            Some(_) | None => {}
        }
    }
    Ok(())
}

pub(super) fn wrong(offset: u64, right: u8, found: u8) -> String {
    format!("byte {offset} of the output is {found:#04x}, and {right:#04x} belongs there")
}
