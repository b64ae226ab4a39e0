//! The operator's command: a table of subcommands.
#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "the entry point speaks to a terminal"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("demo") => evervip::cli::demo::run(),
        _ => {
            eprintln!("usage: evervip demo");
            ExitCode::FAILURE
        }
    }
}
