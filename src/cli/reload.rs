//! `evervip reload`: makes the daemon read its configuration again, waits for the outcome and prints it.

use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::{self, UNREACHABLE};
use super::print::{out, say};
use crate::api::report::{Daemon, Report};
use crate::role::socket::DEFAULT;
use crate::status::Ask;

pub(super) const HELP: &str = "\
Usage: evervip reload [OPTION]...

Makes the daemon read its configuration again, as SIGHUP does, and waits until
the new one is in force or was refused. The reason for a refusal is printed; the
running configuration then stays in force.

  -s, --socket FILE  control socket; default /run/evervip/control.sock
  -p, --pid PID      the process that the signal is sent to. With this option,
                     a daemon whose socket cannot be reached is sent the signal
                     nevertheless, without waiting for the result
  -h, --help         print this text

Exit status: 0 the new configuration is in force; 1 the daemon does not run, or
this user may not query it; 2 wrong arguments; 3 the reload was refused; 4 the
reload did not finish within two minutes.
";

/// The daemon gives each step a minute at most.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time from one query to the next.
const PAUSE: Duration = Duration::from_millis(100);

const REFUSED: u8 = 3;
const TOO_LONG: u8 = 4;

/// `evervip reload [OPTION]...`
///
/// # Errors
/// Wrong arguments, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let mut socket = PathBuf::from(DEFAULT);
    let mut pid: Option<i32> = None;
    while let Some(arg) = args.next()? {
        match arg {
            Short('s') | Long("socket") => socket = args.value()?.into(),
            Short('p') | Long("pid") => pid = Some(args.value()?.parse()?),
            Short('h') | Long("help") => {
                out(HELP)?;
                return Ok(ExitCode::SUCCESS);
            }
            other => return Err(other.unexpected()),
        }
    }
    let first = client::ask::<Report>(&socket, Ask::State);
    let asked = first.as_ref().ok().and_then(daemon);
    let told = asked.and_then(|daemon| i32::try_from(daemon.pid).ok());
    // 0 and negative numbers mean process groups.
    let Some(target) = pid.or(told).filter(|pid| *pid > 0) else {
        match &first {
            Err(e) => say(format_args!("evervip: {e}")),
            Ok(_) => say("evervip: the daemon does not say which process it is"),
        }
        return Ok(UNREACHABLE.into());
    };
    if let Err(e) = kill(Pid::from_raw(target), Signal::SIGHUP) {
        say(format_args!("evervip: sending SIGHUP to process {target}: {}", e.desc()));
        return Ok(UNREACHABLE.into());
    }
    let Some(asked) = asked else {
        say(format_args!(
            "evervip: asked process {target} to reload; how that ends cannot be seen"
        ));
        return Ok(ExitCode::SUCCESS);
    };
    let before = asked.reloads;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::sleep(PAUSE);
        // The answering process may be being replaced.
        let Ok(report) = client::ask::<Report>(&socket, Ask::State) else { continue };
        let Some(daemon) = daemon(&report).filter(|daemon| !daemon.reloading) else { continue };
        if daemon.reloads == before {
            continue;
        }
        let Some(why) = daemon.last_reload.as_ref().and_then(|reload| reload.refused.as_ref())
        else {
            return Ok(ExitCode::SUCCESS);
        };
        say(format_args!(
            "evervip: reload refused, the running configuration stays in force: {why}"
        ));
        return Ok(REFUSED.into());
    }
    say(format_args!("evervip: the daemon is not through with it after {} s", PATIENCE.as_secs()));
    Ok(TOO_LONG.into())
}

/// The supervisor's part, if it answered.
const fn daemon(report: &Report) -> Option<&Daemon> {
    report.daemon.known()
}
