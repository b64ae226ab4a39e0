//! What the control socket says: requests, the report of the state as JSON and as text, who waits for which part of it,
//! and the clients with their limits. The processes behind it and their channels are the business of `role::api`.
//!
//! The protocol: a stream of lines, one JSON object each. `docs/control-socket.md` describes it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: serves a socket"
)]

pub mod report;
pub mod request;
pub mod rounds;
pub mod server;
pub mod text;

/// Version of the protocol and of the report; a new number means that a field went or changed its meaning.
pub const SCHEMA: u32 = 1;
