//! HTTP as data.

use serde::{Deserialize, Serialize};
use standin::service::{self, HttpPatience, Kind, Masking, Oversize, Rules};
use standin::time::Duration;

/// How the pair serves HTTP, and what its servers are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpPlan {
    /// Which requests may be sent to another server when one may have seen them.
    pub again: Again,
    /// How often one may.
    pub retries: u8,
    /// How long a request may be to be kept, in bytes.
    pub request_max: u32,
    /// How long a reply may be to be gathered, in bytes.
    pub reply_max: u32,
    /// Whether longer ones are refused, or else pass by weaker rules.
    pub refuses: bool,
    /// How long a server may take to begin a reply.
    pub first_byte_us: u64,
    /// How long anything else may take.
    pub idle_us: u64,
    /// How each server cuts its chunks, in bytes.
    pub chunk: [u16; 2],
    /// What each server has, before its first death and after it: whoever has another number has
    /// other bodies.
    pub editions: [[u8; 2]; 2],
}

impl HttpPlan {
    /// What answers at a port.
    pub(in crate::sim) fn kind(&self, port: u16) -> Kind {
        let masking = if port == super::JOURNAL { Masking::Journal } else { Masking::Replay };
        let rules = Rules {
            masking,
            request_max: self.request_max,
            reply_max: self.reply_max,
            oversize: if self.refuses { Oversize::Refuse } else { Oversize::Pass },
            again: match self.again {
                Again::Never => service::Again::Never,
                Again::Safe => service::Again::Safe,
                Again::Idempotent => service::Again::Idempotent,
                Again::Keyed => service::Again::Keyed,
                Again::All => service::Again::All,
            },
            retries: self.retries,
        };
        let patience = HttpPatience {
            connect: Duration::from_secs(9),
            first_byte: Duration::from_micros(self.first_byte_us),
            idle: Duration::from_micros(self.idle_us),
        };
        Kind::Exchange(rules, patience)
    }

    /// Whether all servers say the same, always.
    pub(in crate::sim) fn agree(&self) -> bool {
        self.editions.iter().flatten().all(|edition| *edition == self.editions[0][0])
    }
}

/// As the configuration has it: each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Again {
    /// None.
    Never,
    /// GET and HEAD.
    Safe,
    /// And PUT.
    Idempotent,
    /// And those to which their client gave a key.
    Keyed,
    /// All.
    All,
}

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// Asks.
    Get,
    /// Asks for the head alone.
    Head,
    /// Does the same when it comes twice.
    Put,
    /// Does it twice when it comes twice.
    Post,
}

/// How a reply says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Framing {
    /// By a number.
    Length,
    /// By a last chunk.
    Chunks,
    /// By the end of the connection.
    Close,
}

/// One request, and what its reply is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Its method.
    pub method: Method,
    /// Bytes of its body (PUT, POST).
    pub sends: u64,
    /// Whether that goes in chunks.
    pub chunked: bool,
    /// Whether it has an `Idempotency-Key`.
    pub keyed: bool,
    /// How the reply ends.
    pub framing: Framing,
    /// Bytes of the reply's body.
    pub length: u64,
    /// Whether the reply has a validator.
    pub tagged: bool,
}

impl Ask {
    /// Whether another server may be asked when one may have seen it.
    pub(in crate::sim) fn may_be_repeated(&self, again: Again) -> bool {
        let keyed = self.keyed && matches!(self.method, Method::Put | Method::Post);
        match again {
            Again::Never => false,
            Again::Safe => matches!(self.method, Method::Get | Method::Head),
            Again::Idempotent => self.method != Method::Post,
            Again::Keyed => self.method != Method::Post || keyed,
            Again::All => true,
        }
    }
}

/// How far a server is with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It has begun to hear it.
    InRequest,
    /// It has heard it.
    BeforeHead,
    /// It has said a part of the reply's head.
    InHead,
    /// It has said a part of the body, per mille.
    InBody(u16),
    /// It has said the half of a line that says how long a chunk is.
    InSize,
    /// All but what tells the end.
    InLast,
    /// Everything.
    After,
}
