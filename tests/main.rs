//! The integration tests: one binary, one module per subject.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests read files and run programs"
)]

mod adverts;
mod arch;
mod check;
mod command;
mod config;
mod fuzz;
mod quotes;
mod reference;
