//! `evervip peers`: who was heard, queried over the control socket of the daemon.

use std::process::ExitCode;

use super::client::Shown;
use crate::api::peers::{self, Report};
use crate::api::report::is_known;
use crate::status::Ask;

pub(super) const HELP: &str = "\
Usage: evervip peers [OPTION]... [NAME]

Shows the routers that each instance has heard since its process started: source
address, version, priority, interval, form of the checksum, authentication,
number of valid adverts, time since the last one, and refused packets by reason.
With NAME only those of the instance with that name. Only masters send adverts:
a backup is not heard.

  -j, --json         print it as JSON (docs/control-socket.md)
  -s, --socket FILE  control socket; default /run/evervip/control.sock. A daemon
                     with --pid FILE uses FILE with the extension .sock
  -h, --help         print this text

Exit status: 0 the VRRP process answered, or there is none; 1 the daemon does
not run, or this user may not query it; 2 wrong arguments; 3 no instance has
that name; 4 the process did not answer in time.
";

/// `evervip peers [OPTION]... [NAME]`
///
/// # Errors
/// Wrong arguments, as a text for the user.
pub fn run(args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    let shown = Shown {
        help: HELP,
        ask: Ask::Peers,
        select: peers::select,
        screen: peers::screen,
        complete: |report: &Report| is_known(report.vrrp.as_ref()),
    };
    shown.run(args)
}
