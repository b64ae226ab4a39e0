//! The interpreters: they carry out the engines' actions and answer with events.
//!
//! No decision is taken here; the engine evaluates the answers.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: clocks, threads, sockets, programs"
)]

pub mod apart;
pub mod bfd;
pub mod check;
pub mod class;
pub mod file;
pub mod probe;
pub mod process;
pub mod script;
pub mod smtp;
pub mod vrrp;
