//! `evervip status`: the state of the daemon, queried over its control socket.

use core::time::Duration;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Deserialize;

use super::print::{out, say};
use crate::api::report::{Answer, Report};
use crate::api::request::Wrong;
use crate::api::{SCHEMA, text};
use crate::role::socket::{ACCOUNT, DEFAULT};

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

/// The longest answer that is read.
const LONGEST: u64 = 256 << 20;
/// How long the daemon may take: it gives its processes a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// The daemon does not run, or this user may not query it.
pub(super) const UNREACHABLE: u8 = 1;
/// No object has the name.
const NOT_FOUND: u8 = 3;
/// A process did not answer in time.
pub(super) const INCOMPLETE: u8 = 4;

/// `evervip status [OPTION]... [NAME]`
///
/// # Errors
/// Wrong arguments, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut json, mut name) = (false, None);
    let mut socket = PathBuf::from(DEFAULT);
    while let Some(arg) = args.next()? {
        match arg {
            Short('j') | Long("json") => json = true,
            Short('s') | Long("socket") => socket = args.value()?.into(),
            Short('h') | Long("help") => {
                out(HELP)?;
                return Ok(ExitCode::SUCCESS);
            }
            Value(word) if name.is_none() => name = Some(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let report = match ask(&socket) {
        Ok(report) => report,
        Err(e) => {
            say(format_args!("evervip: {e}"));
            return Ok(UNREACHABLE.into());
        }
    };
    let report = match &name {
        Some(name) => match text::select(report, name) {
            Ok(report) => report,
            Err(e) => {
                say(format_args!("evervip: {e}"));
                return Ok(NOT_FOUND.into());
            }
        },
        None => report,
    };
    let output = if json {
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    } else {
        text::screen(&report)
    };
    out(&output)?;
    Ok(if is_complete(&report) { ExitCode::SUCCESS } else { INCOMPLETE.into() })
}

/// Whether all processes answered.
pub(super) fn is_complete(report: &Report) -> bool {
    fn known<T>(answer: Option<&Answer<T>>) -> bool {
        answer.is_none_or(|answer| answer.known().is_some())
    }
    known(Some(&report.daemon)) && known(report.vrrp.as_ref()) && known(report.checker.as_ref())
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "nothing listens at {path}: is evervipd running? (systemctl status evervip; a daemon with --pid FILE listens at FILE with the extension .sock: --socket)"
    )]
    NotRunning { path: PathBuf },
    #[error(
        "this user may not connect to {path}: only root and members of the group {ACCOUNT} may"
    )]
    Forbidden { path: PathBuf },
    #[error("asking the daemon at {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the daemon at {path} refused: {wrong}")]
    Refused { path: PathBuf, wrong: Wrong },
    #[error("the daemon at {path} did not answer")]
    Silent { path: PathBuf },
    #[error("the daemon speaks version {theirs} of the protocol, this program version {SCHEMA}")]
    Version { theirs: u32 },
    #[error("the answer of the daemon at {path} is invalid: {source}")]
    Nonsense { path: PathBuf, source: serde_json::Error },
}

#[derive(Deserialize)]
struct Head {
    schema: u32,
    error: Option<Wrong>,
}

#[derive(Deserialize)]
struct Whole {
    status: Report,
}

pub(super) fn ask(path: &Path) -> Result<Report, Error> {
    let failed = |source: io::Error| {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NotRunning { path }
            }
            io::ErrorKind::PermissionDenied => Error::Forbidden { path },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Silent { path },
            _ => Error::Io { path, source },
        }
    };
    let nonsense = |source| Error::Nonsense { path: path.into(), source };
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(b"{\"id\":1,\"request\":\"status\"}\n").map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line).map_err(failed)?;
    if line.is_empty() {
        return Err(Error::Silent { path: path.into() });
    }
    let Head { schema, error } = serde_json::from_str(&line).map_err(nonsense)?;
    if let Some(wrong) = error {
        return Err(Error::Refused { path: path.into(), wrong });
    }
    if schema != SCHEMA {
        return Err(Error::Version { theirs: schema });
    }
    serde_json::from_str::<Whole>(&line).map(|whole| whole.status).map_err(nonsense)
}
