//! HTTP/1.1 as the gateway speaks it to model servers: requests become bytes, bytes become answers.
//!
//! Stands under the data plane's connections to endpoints. A general client moves every answer between two tasks and
//! hands on one chunk at a time; here one task drives both sides, and all chunks that have come are one piece of data.
//! Must not do I/O. Whatever a server sends, the outcome is an answer or a fault, never a panic, and never an answer
//! that the server may have meant otherwise: framing is read strictly (RFC 9112).

mod answer;
mod content;
mod request;

pub use answer::{Answer, HeadFault, LONGEST_HEAD, read_head};
pub use content::{Content, ContentFault, Decoder};
pub use request::{RequestLength, write_chunk, write_end, write_head};
