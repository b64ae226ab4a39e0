//! keepalived's command line: the same options, short and long, read the same way.
//!
//! An option that this version does not support is reported as an error, as is a word that is not an option; none is
//! silently ignored.

mod help;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lexopt::Arg;

use super::command::COMMANDS;
use crate::base::near::nearest;
use crate::log::Facility;

pub(super) use help::{FACILITIES, flags, signal_names};
pub use help::{help, manual, version};

/// The default configuration file.
pub const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";
/// keepalived's default name of a log file, in the directory for temporary files.
const DEFAULT_LOG: &str = "keepalived.log";

/// What the command line requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Run the daemon.
    Run(Box<Options>),
    /// Test the configuration; messages go to the file, if one is named.
    Test(Box<Options>, Option<PathBuf>),
    /// Print the version.
    Version,
    /// Print the available options.
    Help,
    /// Print this number.
    Number(i32),
}

/// How to run the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Main configuration file or a pattern for several.
    pub file: PathBuf,
    /// Run virtual routers (off: `--check`).
    pub vrrp: bool,
    /// Run health checks (off: `--vrrp`).
    pub checker: bool,
    /// Run BFD sessions (off: `--no_bfd`).
    pub bfd: bool,
    /// Run both even without configuration.
    pub all: bool,
    /// Copy the log to standard error, if it stays in the foreground.
    pub console: bool,
    /// How much to log: 0 to 2.
    pub detail: u8,
    /// Facility in syslog.
    pub facility: Facility,
    /// Log to this file as well.
    pub log_file: Option<PathBuf>,
    /// Directory for temporary files.
    pub temporary: PathBuf,
    /// Do not log to syslog.
    pub no_syslog: bool,
    /// The umask of new files; none: what the configuration says.
    pub umask: Option<u32>,
    /// Leave addresses in place at a stop.
    pub keep_vrrp: bool,
    /// Leave the IPVS table in place at a stop.
    pub keep_ipvs: bool,
    /// Restart processes that end.
    pub respawn: bool,
    /// Do not go to the background.
    pub foreground: bool,
    /// Log the configuration at start.
    pub dump: bool,
    /// Pid files of the supervisor, of `vrrp`, of `checker`.
    pub pid_files: PidFiles,
    /// Log addresses that other programs add and remove.
    pub watch_addresses: bool,
    /// Write core files.
    pub core_files: bool,
    /// All checks of included files are on.
    pub all_checks: bool,
    /// The network namespace to run in, whatever the configuration says.
    pub namespace: Option<String>,
    /// The configuration id, which selects lines with `@`.
    pub config_id: Option<String>,
    /// Ignore SIGINT.
    pub ignore_sigint: bool,
    /// A reload may leave the daemon without virtual routers, or with nothing to do.
    pub allow_empty: bool,
}

/// The pid files given by options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidFiles {
    /// `--pid`
    pub supervisor: Option<PathBuf>,
    /// `--vrrp_pid`
    pub vrrp: Option<PathBuf>,
    /// `--checkers_pid`
    pub checker: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file: DEFAULT_FILE.into(),
            vrrp: true,
            checker: true,
            bfd: true,
            all: false,
            console: false,
            detail: 0,
            facility: Facility::DAEMON,
            log_file: None,
            temporary: "/tmp".into(),
            no_syslog: false,
            umask: None,
            keep_vrrp: false,
            keep_ipvs: false,
            respawn: true,
            foreground: false,
            dump: false,
            pid_files: PidFiles::default(),
            watch_addresses: false,
            core_files: false,
            all_checks: false,
            namespace: None,
            config_id: None,
            ignore_sigint: false,
            allow_empty: false,
        }
    }
}

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The request; none if there is an error.
    pub wish: Option<Wish>,
    /// Its errors, one line each. Print these in any case.
    pub errors: Vec<String>,
}

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    None,
    Required(&'static str),
    /// Only as `-xVALUE` or `--long=VALUE`.
    Optional(&'static str),
}

use Value::{None as Flag, Optional, Required};

/// One option: short and long name, value, meaning; in the order of the help text.
struct Row(Option<char>, &'static str, Value, What, &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    File,
    OnlyVrrp,
    OnlyCheck,
    NoBfd,
    All,
    Console,
    Detail,
    Facility,
    LogFile,
    FlushLog,
    NoSyslog,
    Umask,
    ReleaseVips,
    KeepVrrp,
    KeepIpvs,
    NoRespawn,
    Foreground,
    Dump,
    Pid,
    VrrpPid,
    CheckerPid,
    Watch,
    Core,
    AllChecks,
    Namespace,
    Id,
    IgnoreInt,
    AllowEmpty,
    Signum,
    Test,
    Version,
    Help,
    /// Not in this version.
    Later,
    /// Specific to keepalived.
    Never,
}

const ROWS: &[Row] = &[
    Row(
        Some('f'),
        "use-file",
        Required("FILE"),
        What::File,
        "read this configuration file (/etc/keepalived/keepalived.conf)",
    ),
    Row(Some('P'), "vrrp", Flag, What::OnlyVrrp, "virtual routers only"),
    Row(Some('C'), "check", Flag, What::OnlyCheck, "virtual servers and their health checks only"),
    Row(
        Some('B'),
        "no_bfd",
        Flag,
        What::NoBfd,
        "start no BFD sessions: trackers count them as down",
    ),
    Row(None, "all", Flag, What::All, "start all processes, even without configuration for them"),
    Row(
        Some('l'),
        "log-console",
        Flag,
        What::Console,
        "copy the log to standard error (with --dont-fork)",
    ),
    Row(Some('D'), "log-detail", Flag, What::Detail, "log details; twice: more of them"),
    Row(
        Some('S'),
        "log-facility",
        Required("FACILITY"),
        What::Facility,
        "syslog facility: 0-7, local0-local7, user, daemon (daemon)",
    ),
    Row(
        Some('g'),
        "log-file",
        Optional("FILE"),
        What::LogFile,
        "log to a file as well (/tmp/keepalived.log)",
    ),
    Row(
        None,
        "flush-log-file",
        Flag,
        What::FlushLog,
        "write each line to the file at once (always the case)",
    ),
    Row(Some('G'), "no-syslog", Flag, What::NoSyslog, "do not log to syslog"),
    Row(Some('u'), "umask", Required("MASK"), What::Umask, "umask for files and programs (0177)"),
    Row(
        Some('X'),
        "release-vips",
        Flag,
        What::ReleaseVips,
        "a backup removes its virtual addresses, whoever added them (always the case)",
    ),
    Row(
        Some('V'),
        "dont-release-vrrp",
        Flag,
        What::KeepVrrp,
        "leave virtual addresses in place at the end",
    ),
    Row(
        Some('I'),
        "dont-release-ipvs",
        Flag,
        What::KeepIpvs,
        "leave the IPVS table in place at the end",
    ),
    Row(Some('R'), "dont-respawn", Flag, What::NoRespawn, "end when one of the processes ends"),
    Row(Some('n'), "dont-fork", Flag, What::Foreground, "stay in the foreground"),
    Row(Some('d'), "dump-conf", Flag, What::Dump, "log the configuration at start"),
    Row(Some('p'), "pid", Required("FILE"), What::Pid, "pid file (/run/keepalived.pid)"),
    Row(
        Some('r'),
        "vrrp_pid",
        Required("FILE"),
        What::VrrpPid,
        "pid file of the process for virtual routers (/run/vrrp.pid)",
    ),
    Row(
        Some('c'),
        "checkers_pid",
        Required("FILE"),
        What::CheckerPid,
        "pid file of the process for health checks (/run/checkers.pid)",
    ),
    Row(Some('b'), "bfd_pid", Required("FILE"), What::Later, ""),
    Row(Some('T'), "genhash", Flag, What::Later, ""),
    Row(Some('a'), "address-monitoring", Flag, What::Watch, "log addresses that come and go"),
    Row(Some('x'), "snmp", Flag, What::Later, ""),
    Row(Some('A'), "snmp-agent-socket", Required("FILE"), What::Later, ""),
    Row(
        Some('s'),
        "namespace",
        Required("NAME"),
        What::Namespace,
        "run in this network namespace (net_namespace)",
    ),
    Row(Some('m'), "core-dump", Flag, What::Core, "write a core file after a crash"),
    Row(Some('M'), "core-dump-pattern", Optional("PATTERN"), What::Later, ""),
    Row(
        Some('e'),
        "all-config",
        Flag,
        What::AllChecks,
        "included files that are missing are errors",
    ),
    Row(
        Some('i'),
        "config-id",
        Required("ID"),
        What::Id,
        "read '@ID' lines for this configuration id (the host name)",
    ),
    Row(None, "ignore-sigint", Flag, What::IgnoreInt, "SIGINT does not end the daemon"),
    Row(
        None,
        "allow-empty",
        Flag,
        What::AllowEmpty,
        "allow a reload to remove every virtual router, or everything",
    ),
    Row(
        None,
        "signum",
        Required("NAME"),
        What::Signum,
        "print a signal number: STOP, RELOAD, DATA, STATS, STATS_CLEAR, JSON",
    ),
    Row(
        Some('t'),
        "config-test",
        Optional("FILE"),
        What::Test,
        "test the configuration and exit; messages to standard error or FILE",
    ),
    Row(Some('v'), "version", Flag, What::Version, "print the version"),
    Row(Some('h'), "help", Flag, What::Help, "print this text"),
    Row(None, "config-fd", Required("N"), What::Never, ""),
    Row(None, "perf", Optional("WHEN"), What::Never, ""),
    Row(None, "debug", Optional("OPTIONS"), What::Never, ""),
    Row(None, "no-mem-check", Flag, What::Never, ""),
    Row(None, "mem-check-log", Flag, What::Never, ""),
];

/// Names of signals for scripts, and their numbers.
const SIGNALS: [(&str, i32); 6] = [
    ("STOP", libc::SIGTERM),
    ("RELOAD", libc::SIGHUP),
    ("DATA", libc::SIGUSR1),
    ("STATS", libc::SIGUSR2),
    // SIGRTMAX - 1 and SIGRTMIN + 2 of the C library: tools have these numbers built in.
    ("STATS_CLEAR", 63),
    ("JSON", 36),
];

/// Reads a command line, without the name of the program. `temporary` is the directory for temporary files.
#[must_use]
pub fn parse<I>(words: I, temporary: &OsStr) -> Parsed
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut reader = Reader {
        options: Options { temporary: temporary.into(), ..Options::default() },
        test: None,
        errors: Vec::new(),
        console_at: false,
    };
    // lexopt takes the first word as the name of the program.
    let words = words.into_iter().map(Into::into);
    let mut parser = lexopt::Parser::from_iter(core::iter::once(OsString::new()).chain(words));
    let wish = loop {
        match reader.next(&mut parser) {
            Ok(Step::On) => {}
            Ok(Step::Wish(wish)) => break Some(wish),
            Ok(Step::End) => break reader.finish(),
            Err(error) => reader.errors.push(error),
        }
    };
    Parsed { wish, errors: reader.errors }
}

enum Step {
    On,
    Wish(Wish),
    End,
}

struct Reader {
    options: Options,
    test: Option<Option<PathBuf>>,
    errors: Vec<String>,
    console_at: bool,
}

impl Reader {
    fn next(&mut self, parser: &mut lexopt::Parser) -> Result<Step, String> {
        let argument = match parser.next() {
            Ok(Some(argument)) => argument,
            Ok(None) => return Ok(Step::End),
            Err(e) => return Err(e.to_string()),
        };
        let (row, shown) = match argument {
            Arg::Value(word) => return Err(self.unexpected(&word)),
            Arg::Short(c) => (ROWS.iter().find(|r| r.0 == Some(c)), format!("-{c}")),
            Arg::Long(name) => (long(name)?, format!("--{name}")),
        };
        let Some(row) = row else {
            if shown.starts_with("--") {
                // It has a value, which must be consumed.
                let _ = parser.optional_value();
            }
            return Err(format!("Unknown option {shown}{}", similar(&shown)));
        };
        let value = match row.2 {
            // Characters after a short option are further options.
            Flag if !shown.starts_with("--") => OsString::new(),
            Flag => match parser.optional_value() {
                Some(_) => return Err(format!("Option {shown} takes no value")),
                None => OsString::new(),
            },
            Required(_) => parser
                .value()
                .ok()
                .filter(|v| !v.is_empty())
                .ok_or_else(|| format!("Missing parameter for option {shown}"))?,
            // Upstream reports a word after `-g` as unexpected, and ignores it.
            Optional(_) if row.3 == What::LogFile => {
                parser.optional_value().or_else(|| next_word(parser)).unwrap_or_default()
            }
            Optional(_) => parser.optional_value().unwrap_or_default(),
        };
        self.take(row, &shown, value)
    }

    fn take(&mut self, row: &Row, shown: &str, value: OsString) -> Result<Step, String> {
        let o = &mut self.options;
        match row.3 {
            What::File => o.file = value.into(),
            What::OnlyVrrp => o.checker = false,
            What::OnlyCheck => o.vrrp = false,
            What::NoBfd => o.bfd = false,
            What::FlushLog | What::ReleaseVips => {}
            What::All => o.all = true,
            What::Console => self.console_at = true,
            What::Detail => o.detail = o.detail.saturating_add(1).min(2),
            What::Facility => {
                o.facility = value
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| format!("Invalid log facility '{}'", value.display()))?;
            }
            What::LogFile => {
                let name = if value.is_empty() { DEFAULT_LOG.into() } else { value };
                o.log_file = Some(o.temporary.join(name));
            }
            What::NoSyslog => o.no_syslog = true,
            What::Umask => {
                let mask = value.to_str().and_then(number).filter(|mask| *mask <= 0o777);
                o.umask = Some(mask.ok_or_else(|| format!("Invalid umask '{}'", value.display()))?);
            }
            What::KeepVrrp => o.keep_vrrp = true,
            What::KeepIpvs => o.keep_ipvs = true,
            What::NoRespawn => o.respawn = false,
            What::Foreground => o.foreground = true,
            What::Dump => o.dump = true,
            What::Pid => o.pid_files.supervisor = Some(value.into()),
            What::VrrpPid => o.pid_files.vrrp = Some(value.into()),
            What::CheckerPid => o.pid_files.checker = Some(value.into()),
            What::Watch => o.watch_addresses = true,
            What::Core => o.core_files = true,
            What::AllChecks => o.all_checks = true,
            What::Namespace => {
                let name = value.to_str().filter(|name| is_file_name(name));
                o.namespace = Some(
                    name.ok_or_else(|| format!("Invalid namespace '{}'", value.display()))?.into(),
                );
            }
            What::Id => o.config_id = Some(value.to_string_lossy().into_owned()),
            What::IgnoreInt => o.ignore_sigint = true,
            What::AllowEmpty => o.allow_empty = true,
            What::Signum => {
                let found = SIGNALS.iter().find(|(name, _)| value.as_bytes() == name.as_bytes());
                let (_, n) = found.ok_or_else(|| format!("Unknown sigfunc {}", value.display()))?;
                return Ok(Step::Wish(Wish::Number(*n)));
            }
            What::Test => self.test = Some((!value.is_empty()).then(|| value.into())),
            What::Version => return Ok(Step::Wish(Wish::Version)),
            What::Help => return Ok(Step::Wish(Wish::Help)),
            What::Later => {
                let long = format!("--{}", row.1);
                let full = if shown == long { String::new() } else { format!(" ({long})") };
                return Err(format!(
                    "Option {shown}{full} is not supported by this version of EverVIP"
                ));
            }
            What::Never => {
                return Err(format!("Option {shown} is for keepalived's own use"));
            }
        }
        Ok(Step::On)
    }

    /// What to say about a word that is not an option. keepalived reports and ignores it, and then tests or runs the
    /// default file when another one was meant.
    fn unexpected(&self, word: &OsStr) -> String {
        let shown = word.display();
        let hint = if COMMANDS.iter().any(|command| word == command.name) {
            format!(", did you mean 'evervip {shown}'?")
        } else if self.test == Some(None) && self.options.file == Path::new(DEFAULT_FILE) {
            format!(": '-f {shown}' tests this file, '-t{shown}' writes the messages to it")
        } else {
            String::new()
        };
        format!("Unexpected argument '{shown}'{hint}")
    }

    fn finish(&mut self) -> Option<Wish> {
        if !self.errors.is_empty() {
            return None;
        }
        let mut options = core::mem::take(&mut self.options);
        // In the background standard error is not connected.
        options.console = self.console_at && options.foreground;
        Some(match self.test.take() {
            Some(file) => Wish::Test(Box::new(options), file),
            None => Wish::Run(Box::new(options)),
        })
    }
}

/// The next word, unless it is an option.
fn next_word(parser: &mut lexopt::Parser) -> Option<OsString> {
    let mut words = parser.try_raw_args()?;
    words.next_if(|word| !word.is_empty() && !word.as_bytes().starts_with(b"-"))
}

/// The option with this long name, or with an unambiguous prefix, as in getopt_long.
fn long(name: &str) -> Result<Option<&'static Row>, String> {
    if let Some(exact) = ROWS.iter().find(|row| row.1 == name) {
        return Ok(Some(exact));
    }
    let mut found = ROWS.iter().filter(|row| row.1.starts_with(name));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(format!("Option --{name} is ambiguous")),
        (one, _) => Ok(one),
    }
}

/// A hint at the option with the most similar long name.
fn similar(shown: &str) -> String {
    let names = ROWS.iter().filter(|row| row.3 != What::Never).map(|row| row.1);
    shown
        .strip_prefix("--")
        .and_then(|name| nearest(name, names))
        .map_or(String::new(), |near| format!(", did you mean --{near}?"))
}

/// Whether a file may be called that.
#[must_use]
pub fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/')
}

/// A number in C notation: decimal, octal with a leading 0, hexadecimal with 0x.
fn number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        u32::from_str_radix(hex, 16).ok()
    } else if let Some(octal) = text.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        u32::from_str_radix(octal, 8).ok()
    } else {
        text.parse().ok()
    }
}

#[cfg(test)]
mod tests;
