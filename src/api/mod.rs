//! The control socket: requests, the report of the state as JSON and as text, rounds of queries, and the clients with
//! their limits. `role::api` handles the other processes and their channels.
//!
//! The protocol: a stream of lines, one JSON object each. `docs/control-socket.md` describes it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: serves a socket"
)]

mod layout;
pub mod metrics;
pub mod peers;
pub mod report;
pub mod request;
pub mod rounds;
pub mod server;
pub mod text;
pub mod why;

/// Version of the protocol and of the report; it increases when a field is removed or changes its meaning.
pub const SCHEMA: u32 = 1;
