//! The command lines.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "part of the shell: speaks to a terminal"
)]

pub mod args;
pub mod check;
mod client;
pub mod command;
mod completion;
pub mod convert;
pub mod daemon;
pub mod demo;
pub mod exit;
pub mod explain;
pub mod fmt;
pub mod generate;
mod input;
mod metrics;
mod peers;
pub mod print;
pub mod reload;
pub mod status;
mod why;
