//! `evervip metrics`: the state of the daemon as OpenMetrics text.

use std::path::PathBuf;
use std::process::ExitCode;

use super::client::{self, INCOMPLETE, UNREACHABLE, fail};
use super::print::out;
use super::status;
use crate::api::metrics::openmetrics;
use crate::api::report::Report;
use crate::role::socket::DEFAULT;
use crate::status::Ask;

pub(super) const HELP: &str = "\
Usage: evervip metrics [OPTION]...

Prints the state of the daemon as metrics in OpenMetrics text: states and
priorities of instances, counters of adverts and of refused packets, virtual
servers, real servers and checks (docs/metrics.md). For the textfile collector
of node_exporter, write them to a file and rename it.

  -s, --socket FILE  control socket; default /run/evervip/control.sock. A daemon
                     with --pid FILE uses FILE with the extension .sock
  -h, --help         print this text

Exit status: 0 all processes answered; 1 the daemon does not run, or this user
may not query it; 2 wrong arguments; 4 a process did not answer in time, its
metrics are missing.
";

/// `evervip metrics [OPTION]...`
///
/// # Errors
/// Wrong options, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let mut socket = PathBuf::from(DEFAULT);
    while let Some(arg) = args.next()? {
        match arg {
            Short('s') | Long("socket") => socket = args.value()?.into(),
            Short('h') | Long("help") => {
                out(HELP)?;
                return Ok(ExitCode::SUCCESS);
            }
            other => return Err(other.unexpected()),
        }
    }
    let report: Report = match client::ask(&socket, Ask::State) {
        Ok(report) => report,
        Err(e) => return Ok(fail(e, UNREACHABLE)),
    };
    out(&openmetrics(&report).unwrap_or_default())?;
    Ok(if status::is_complete(&report) { ExitCode::SUCCESS } else { INCOMPLETE.into() })
}
