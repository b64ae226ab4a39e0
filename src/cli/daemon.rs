//! `evervipd`: carries out the command line, up to the supervisor.

use core::time::Duration;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use ::caps::Capability;

use super::args::{self, Options, Wish};
use super::check;
use super::exit::Exit;
use super::print::{self, say};
use crate::config::Style;
use crate::kernel::connector;
use crate::role::supervisor::first::UMASK;
use crate::role::supervisor::{self, First, PidFiles, Place};
use crate::sys::netns::NetNs;
use crate::sys::process::{self, Split};
use crate::sys::{caps, sched};
use crate::{log, role};

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(name) = words.first().and_then(|word| word.to_str())
        && let Some(name) = name.strip_prefix(role::ARGUMENT)
    {
        return role::main(name);
    }
    let parsed = args::parse(words.clone(), &temporary_folder());
    for error in &parsed.errors {
        say(format_args!("evervipd: {error}"));
    }
    match parsed.wish {
        None => {
            say("'evervipd --help' lists the options");
            Exit::Fatal.into()
        }
        Some(Wish::Version) => {
            // To standard error, as keepalived: tools read it there.
            say(args::version().trim_end());
            Exit::Ok.into()
        }
        Some(Wish::Help) => {
            say(args::help().trim_end());
            Exit::Ok.into()
        }
        Some(Wish::Number(number)) => match print::out(&format!("{number}\n")) {
            Ok(()) => Exit::Ok.into(),
            Err(e) => {
                say(format_args!("evervipd: {e}"));
                Exit::Fatal.into()
            }
        },
        Some(Wish::Test(options, file)) => test(&options, file.as_deref()),
        Some(Wish::Run(options)) => daemon(*options, &words).into(),
    }
}

/// Tests the configuration, with messages to standard error or to a file.
fn test(options: &Options, file: Option<&Path>) -> ExitCode {
    let what = check::Test {
        file: Some(options.file.clone().into()),
        config_id: options.config_id.clone().map(Into::into),
        all_checks: options.all_checks,
        lints: true,
        namespace: options.namespace.clone(),
    };
    let result = match file {
        Some(path) => std::fs::File::create(path)
            .and_then(|mut out| check::test(&what, &mut out, Style::Plain)),
        None => {
            let mut out = io::stderr();
            let style = check::style_for(&out);
            check::test(&what, &mut out, style)
        }
    };
    if let Some(names) = missing() {
        say(format_args!("evervipd: started by this user, the daemon would lack {names}"));
    }
    match result {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            say(format_args!("evervipd: cannot write the result of the test: {e}"));
            Exit::Fatal.into()
        }
    }
}

/// The names of the capabilities that a daemon started by this user lacks, if there are any.
fn missing() -> Option<String> {
    let missing = caps::missing(&role::table::needed());
    (!missing.is_empty()).then(|| caps::names(&missing))
}

/// Directory for temporary files: `TMPDIR` if that is an absolute path.
fn temporary_folder() -> OsString {
    std::env::var_os("TMPDIR")
        .filter(|path| Path::new(path).is_absolute())
        .unwrap_or_else(|| OsStr::new("/tmp").into())
}

/// Starts the daemon and, in the foreground, stays with it to its end.
fn daemon(mut options: Options, words: &[OsString]) -> Exit {
    sched::thrifty_allocator();
    process::unblock_signals();
    // This must precede the change of the namespace. A kernel without the connector is not an error.
    let processes = connector::open().ok();
    // In the background the working directory changes; reloads must still read the same file.
    if let Ok(path) = std::path::absolute(&options.file) {
        options.file = path;
    }
    process::umask(options.umask.unwrap_or(UMASK));
    // Before this process gives them up itself.
    let missing = missing();
    if let Err(e) = enter(options.namespace.as_deref()) {
        return refuse(&options, &Place::default(), &e);
    }
    let first = match First::read(&options) {
        Ok(first) => first,
        Err(e) => return refuse(&options, &Place::default(), &format!("cannot start: {e}")),
    };
    let place = first.place.clone();
    process::umask(first.umask);
    if options.namespace.is_none()
        && let Err(e) = enter(place.namespace.as_deref())
    {
        return refuse(&options, &place, &e);
    }
    let mut pid_files = match PidFiles::lock(&options, &place) {
        Ok(files) => files,
        Err(e) => return refuse(&options, &place, &e.to_string()),
    };
    pid_files.processes = processes;
    let no_socket = pid_files.open_socket(&options, &place);
    if options.core_files
        && let Err(e) = sched::core_files()
    {
        say(format_args!("evervipd: core files: {e}"));
    }
    let report = if options.foreground {
        None
    } else {
        match go_to_background() {
            Ok(Background::Here(pipe)) => Some(pipe),
            Ok(Background::There(exit)) => return exit,
            Err(e) => {
                pid_files.remove();
                return refuse(&options, &place, &format!("cannot go to the background: {e}"));
            }
        }
    };
    if let Err(e) = log::start(&supervisor::log_settings(&options, &place).for_daemon()) {
        say(format_args!("evervipd: cannot start the log: {e}"));
        pid_files.remove();
        return Exit::Fatal;
    }
    if process::is_root()
        // Roles get their capabilities when they are executed. KILL: they may run as another user.
        && let Err(e) = caps::reduce(&[Capability::CAP_KILL])
    {
        tracing::warn!("cannot drop privileges: {e}");
    }
    greet(&options, words);
    if let Some(names) = missing {
        tracing::error!("started by this user, the daemon lacks {names}");
    }
    if let Err(why) = no_socket {
        tracing::warn!("{why}");
    }
    let mut report = report;
    let exit = supervisor::run(options, first, pid_files, || tell(&mut report, Exit::Ok));
    log::flush(Duration::from_secs(1));
    tell(&mut report, exit);
    exit
}

/// Another daemon runs, or the start is impossible: reported on the terminal and in the log.
fn refuse(options: &Options, place: &Place, why: &str) -> Exit {
    say(format_args!("evervipd: {why}"));
    // Probably the reason, and otherwise the next obstacle.
    let lacks = missing().map(|names| format!("started by this user, the daemon lacks {names}"));
    if let Some(line) = &lacks {
        say(format_args!("evervipd: {line}"));
    }
    let settings = supervisor::log_settings(options, place).for_daemon();
    let quiet = log::Settings { console: false, ..settings };
    if log::start(&quiet).is_ok() {
        tracing::error!("{why}");
        if let Some(line) = &lacks {
            tracing::error!("{line}");
        }
        log::flush(Duration::from_secs(1));
    }
    Exit::Fatal
}

/// Moves this process into a network namespace, if one is named.
fn enter(namespace: Option<&str>) -> Result<(), String> {
    let Some(name) = namespace else { return Ok(()) };
    NetNs::named(name)
        .and_then(|namespace| namespace.enter())
        .map_err(|e| format!("cannot enter the network namespace {name}: {e}"))
}

fn greet(options: &Options, words: &[OsString]) {
    tracing::info!("Starting EverVIP v{}", env!("CARGO_PKG_VERSION"));
    if let Ok(system) = nix::sys::utsname::uname() {
        let text = |s: &OsStr| String::from_utf8_lossy(s.as_bytes()).into_owned();
        tracing::info!("Running on {} {}", text(system.sysname()), text(system.release()));
    }
    let line: Vec<String> = words.iter().map(|w| format!("'{}'", w.display())).collect();
    tracing::info!("Command line: 'evervipd' {}", line.join(" "));
    tracing::info!("Configuration file {}", options.file.display());
}

enum Background {
    /// This is the daemon; it reports the result of its start here.
    Here(io::PipeWriter),
    /// This is the original process; the daemon runs, or could not start.
    There(Exit),
}

/// Forks. The original process ends when the daemon runs or has failed to start, so that its exit status gives the
/// result.
fn go_to_background() -> io::Result<Background> {
    let (mut reader, writer) = io::pipe()?;
    match process::split()? {
        Split::Child => {
            drop(reader);
            process::leave_terminal()?;
            Ok(Background::Here(writer))
        }
        Split::Parent(_) => {
            drop(writer);
            let mut status = [Exit::Internal.into()];
            let exit = match reader.read_exact(&mut status) {
                Ok(()) => match status {
                    [0] => Exit::Ok,
                    [2] => Exit::Config,
                    [4] => Exit::Permission,
                    [6] => Exit::NoConfig,
                    [70] => Exit::Internal,
                    _ => Exit::Fatal,
                },
                // It ended without a report.
                Err(_) => Exit::Internal,
            };
            Ok(Background::There(exit))
        }
    }
}

/// Reports the result to the original process; once.
fn tell(report: &mut Option<io::PipeWriter>, exit: Exit) {
    if let Some(mut pipe) = report.take() {
        let _ = pipe.write_all(&[exit.into()]);
    }
}
