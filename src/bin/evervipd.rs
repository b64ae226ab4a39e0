//! The daemon: dispatches to a role or to the command line.
#![allow(clippy::disallowed_methods, reason = "the entry point of the shell")]

use std::process::ExitCode;

fn main() -> ExitCode {
    evervip::cli::daemon::main()
}
