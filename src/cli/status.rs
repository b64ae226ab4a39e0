//! `evervip status`: the state of the daemon, queried over its control socket.

use std::process::ExitCode;

use super::client::Shown;
use crate::api::report::{Report, is_known};
use crate::api::text;
use crate::status::Ask;

pub(super) const HELP: &str = "\
Usage: evervip status [OPTION]... [NAME]

Shows what the daemon is doing: each instance with its state, priority, master
and addresses, groups, trackers, virtual servers with their real servers, what
the kernel refuses, when the configuration was read and whether the last reload
was refused. With NAME only the instance, group, tracker or virtual server with
that name, such as VRRP1 or '[10.0.0.1]:tcp:80'.

  -j, --json         print the state as JSON (docs/control-socket.md)
  -s, --socket FILE  control socket; default /run/evervip/control.sock. A daemon
                     with --pid FILE uses FILE with the extension .sock
  -h, --help         print this text

Exit status: 0 all processes answered; 1 the daemon does not run, or this user
may not query it; 2 wrong arguments; 3 no object has that name; 4 a process did
not answer in time, the rest is shown.
";

/// `evervip status [OPTION]... [NAME]`
///
/// # Errors
/// Wrong arguments, as a text for the user.
pub fn run(args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let shown = Shown {
        help: HELP,
        ask: Ask::State,
        select: text::select,
        screen: text::screen,
        complete: is_complete,
    };
    shown.run(args)
}

/// Whether all processes answered.
pub(super) fn is_complete(report: &Report) -> bool {
    report.daemon.known().is_some()
        && is_known(report.vrrp.as_ref())
        && is_known(report.checker.as_ref())
}
