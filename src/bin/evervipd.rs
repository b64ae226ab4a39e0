//! The daemon: picks what the command line asks for and calls it.
#![allow(clippy::disallowed_methods, reason = "the entry point of the shell")]

use std::process::ExitCode;

fn main() -> ExitCode {
    evervip::cli::daemon::main()
}
