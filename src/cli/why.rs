//! `evervip why`: the causes of states, queried over the control socket of the daemon.

use std::process::ExitCode;

use super::client::Shown;
use crate::api::report::is_known;
use crate::api::why::{self, Report};
use crate::status::Ask;

pub(super) const HELP: &str = "\
Usage: evervip why [OPTION]... [NAME]

Tells why the instance with this name is in its state, and why it was in the
five states before: the advert of another router, its silence, a fault, a script
or another tracked object, the group, a reload, the start. Without NAME it tells
so of each instance. What is older than its process is not known.

  -j, --json         print it as JSON (docs/control-socket.md)
  -s, --socket FILE  control socket; default /run/evervip/control.sock. A daemon
                     with --pid FILE uses FILE with the extension .sock
  -h, --help         print this text

Exit status: 0 the VRRP process answered, or there is none; 1 the daemon does
not run, or this user may not query it; 2 wrong arguments; 3 no instance has
that name; 4 the process did not answer in time.
";

/// `evervip why [OPTION]... [NAME]`
///
/// # Errors
/// Wrong arguments, as a text for the user.
pub fn run(args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let shown = Shown {
        help: HELP,
        ask: Ask::Causes,
        select: why::select,
        screen: why::screen,
        complete: |report: &Report| is_known(report.vrrp.as_ref()),
    };
    shown.run(args)
}
