//! Tests of the built daemon on real kernels: machines made of namespaces, real packets, real peers.
//!
//! `cargo test --test netns` runs them all, with a part of a name only the matching ones. docs/testing.md describes
//! what each test shows. Protocol rules in detail are left to the tests of the engines.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the laboratory is made of clocks, threads, files, sockets and processes"
)]

mod ask;
mod attack;
mod bfd;
mod case;
mod command;
mod compare;
mod demo;
mod dr;
mod dump;
mod failover;
mod fifo;
mod firewall;
mod foreign;
mod frr;
mod group;
mod haproxy;
mod hostile;
mod http;
mod interop;
mod lab;
mod mail;
mod nat;
mod ownership;
mod place;
mod privilege;
mod probe;
mod process;
mod reader;
mod reload;
mod renamed;
mod route;
mod rule;
mod scenario;
mod script;
mod service;
mod status;
mod systemd;
mod table;
mod tracker;
mod unicast;
mod vmac;
mod vrf;
mod without;

use std::path::Path;
use std::process::ExitCode;

use lab::node::{INIT, SHELTER, first_process};
use lab::temporary;
use libtest_mimic::Arguments;

/// Number of concurrent tests: they mostly wait for timers of a second.
const AT_A_TIME: usize = 8;

fn main() -> ExitCode {
    let cases = [
        failover::CASES,
        nat::CASES,
        dr::CASES,
        dump::CASES,
        haproxy::CASES,
        reload::CASES,
        fifo::CASES,
        foreign::CASES,
        frr::CASES,
        ownership::CASES,
        route::CASES,
        route::guest::CASES,
        firewall::CASES,
        firewall::guest::CASES,
        rule::CASES,
        place::CASES,
        probe::CASES,
        process::CASES,
        reader::CASES,
        attack::CASES,
        privilege::CASES,
        privilege::guest::CASES,
        interop::CASES,
        hostile::CASES,
        http::CASES,
        mail::CASES,
        mail::guest::CASES,
        command::CASES,
        compare::CASES,
        demo::CASES,
        systemd::CASES,
        table::CASES,
        tracker::CASES,
        bfd::CASES,
        unicast::CASES,
        renamed::CASES,
        vmac::CASES,
        vmac::guest::CASES,
        vrf::guest::CASES,
        service::CASES,
        script::CASES,
        status::CASES,
        ask::CASES,
        group::CASES,
        without::CASES,
        without::guest::CASES,
    ]
    .concat();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let special = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [word @ (INIT | SHELTER), host] => first_process(word, host),
        [lab::guest::INSIDE, names, results] => {
            case::run_inside(&cases, Path::new(names), Path::new(results))
        }
        _ => {
            let mut arguments = Arguments::from_args();
            arguments.test_threads.get_or_insert(AT_A_TIME);
            if let Err(stop) = temporary::clean_when_interrupted() {
                eprintln!("{stop:?}");
            }
            let code = case::run(&arguments, &cases);
            temporary::clean();
            return code;
        }
    };
    special.map_or_else(
        |error| {
            eprintln!("{}: {error}", words.join(" "));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
