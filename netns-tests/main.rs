//! Tests of the built daemon on real kernels: machines made of namespaces, real packets, real peers.
//!
//! `cargo test --test netns` runs them all, with a part of a name only those. What each test shows, and how, is in
//! docs/testing.md. Not here: protocol rules in their breadth, which the tests of the engines hold.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the laboratory is made of clocks, threads, files, sockets and processes"
)]

mod case;
mod failover;
mod lab;
mod scenario;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::Arguments;

/// Tests run at the same time: they mostly wait for timers of a second.
const AT_A_TIME: usize = 8;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, first, host, scratch] = words.as_slice()
        && first == lab::node::INIT
    {
        return match lab::node::first_process(host, Path::new(scratch)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("first process of {host}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_A_TIME);
    let cases = [failover::CASES].concat();
    case::run(&arguments, &cases)
}
