//! The daemon: picks what the command line asks for and calls it.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the entry point speaks to a terminal"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    evervip::cli::daemon::main()
}
