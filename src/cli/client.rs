//! The client of the control socket: what the commands that ask the daemon have in common.

use core::time::Duration;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::print::{out, say};
use crate::api::SCHEMA;
use crate::api::request::{Wrong, report_word};
use crate::api::text::NotFound;
use crate::role::socket::{ACCOUNT, DEFAULT};
use crate::status::Ask;

/// The longest answer that is read.
const LONGEST: u64 = 256 << 20;
/// How long the daemon may take: it gives its processes a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Exit status: the daemon does not run, or this user may not query it.
pub(super) const UNREACHABLE: u8 = 1;
/// Exit status: no object has the name.
pub(super) const NOT_FOUND: u8 = 3;
/// Exit status: a process did not answer in time.
pub(super) const INCOMPLETE: u8 = 4;

/// The arguments of a command that shows a report.
#[derive(Debug)]
pub(super) struct Options {
    pub json: bool,
    /// The only object that is shown.
    pub name: Option<String>,
    pub socket: PathBuf,
}

impl Options {
    /// Reads them; none if only the help text was wanted, which is printed.
    ///
    /// # Errors
    /// Wrong arguments, as a text for the user.
    pub fn read(mut args: lexopt::Parser, help: &str) -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Self { json: false, name: None, socket: DEFAULT.into() };
        while let Some(arg) = args.next()? {
            match arg {
                Short('j') | Long("json") => options.json = true,
                Short('s') | Long("socket") => options.socket = args.value()?.into(),
                Short('h') | Long("help") => {
                    out(help)?;
                    return Ok(None);
                }
                Value(word) if options.name.is_none() => options.name = Some(word.string()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// A command that asks the daemon for a report and shows it, whole or only the object with a name.
pub(super) struct Shown<R> {
    pub help: &'static str,
    pub ask: Ask,
    pub select: fn(R, &str) -> Result<R, NotFound>,
    pub screen: fn(&R) -> String,
    /// Whether all processes answered.
    pub complete: fn(&R) -> bool,
}

impl<R: DeserializeOwned + Serialize> Shown<R> {
    /// Runs it with these arguments.
    ///
    /// # Errors
    /// Wrong arguments, as a text for the user.
    pub fn run(&self, args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
        let Some(options) = Options::read(args, self.help)? else { return Ok(ExitCode::SUCCESS) };
        let mut report: R = match ask(&options.socket, self.ask) {
            Ok(report) => report,
            Err(e) => return Ok(fail(e, UNREACHABLE)),
        };
        if let Some(name) = &options.name {
            report = match (self.select)(report, name) {
                Ok(report) => report,
                Err(e) => return Ok(fail(e, NOT_FOUND)),
            };
        }
        if options.json {
            // Plain structures of numbers and text are always JSON.
            out(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"))?;
        } else {
            out(&(self.screen)(&report))?;
        }
        Ok(if (self.complete)(&report) { ExitCode::SUCCESS } else { INCOMPLETE.into() })
    }
}

/// Prints why a command failed; returns its exit status.
pub(super) fn fail(why: impl core::fmt::Display, status: u8) -> ExitCode {
    say(format_args!("evervip: {why}"));
    status.into()
}

/// Why there is no answer.
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

/// An answer, whichever report it carries.
#[derive(Deserialize)]
struct Whole<T> {
    #[serde(alias = "status", alias = "peers", alias = "why")]
    report: T,
}

/// Asks the daemon with this socket for a report.
///
/// # Errors
/// Why there is none.
pub(super) fn ask<T: DeserializeOwned>(path: &Path, ask: Ask) -> Result<T, Error> {
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
    let request = format!("{{\"id\":1,\"request\":\"{}\"}}\n", report_word(ask));
    stream.write_all(request.as_bytes()).map_err(failed)?;
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
    serde_json::from_str::<Whole<T>>(&line).map(|whole| whole.report).map_err(nonsense)
}
