//! Configuration tests: `evervipd -t` and `evervip check`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use super::args::is_file_name;
use super::input::{self, STANDARD_INPUT};
use super::print::{self, out};
use crate::config::{
    self, Diagnostics, FileKind, Files, Head, Loaded, Options, Peer, ReadError, Stops, Style, codes,
};
use crate::sys::host::Machine;
use crate::sys::netns::NetNs;

/// The default file.
pub const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";

/// The name of standard input in messages.
const PIPED: &[u8] = b"<stdin>";
/// Exit status: both routers would be master at the same time.
const SPLIT_BRAIN: u8 = 3;

/// What a configuration test reads.
#[derive(Clone, Debug, Default)]
pub struct Test {
    /// `-f`: the main file or a pattern.
    pub file: Option<OsString>,
    /// `-i`: the configuration id.
    pub config_id: Option<OsString>,
    /// `-e`: all include checks are on.
    pub all_checks: bool,
    /// Also run the lints.
    pub lints: bool,
    /// `-s`: the network namespace, whatever the configuration says.
    pub namespace: Option<String>,
}

/// Reads a configuration as the daemon does.
#[must_use]
pub fn load(test: &Test, document: bool) -> Loaded {
    let machine = Machine::new();
    let mut options = options(test.file.clone(), test.config_id.clone(), &machine);
    options.all_checks = test.all_checks;
    options.lints = test.lints;
    options.document = document;
    config::load(&machine, &machine, &options)
}

/// Reads a configuration with its document; from standard input if the name is `-`.
///
/// # Errors
/// If standard input cannot be read.
pub(super) fn load_or_read(
    file: Option<OsString>,
    config_id: Option<OsString>,
) -> Result<Loaded, lexopt::Error> {
    let machine = Machine::new();
    let mut options = options(file, config_id, &machine);
    options.document = true;
    load_any(&machine, &mut options)
}

/// Reads a configuration; from standard input if the name is `-`.
fn load_any(machine: &Machine, options: &mut Options) -> Result<Loaded, lexopt::Error> {
    if options.file == STANDARD_INPUT.as_bytes() {
        piped(machine, options)
    } else {
        Ok(config::load(machine, machine, options))
    }
}

fn options(file: Option<OsString>, id: Option<OsString>, machine: &Machine) -> Options {
    let file = file.map_or_else(|| DEFAULT_FILE.as_bytes().to_vec(), OsString::into_vec);
    let mut options = Options::new(file, machine);
    if let Some(id) = id {
        options.config_id = id.into_vec();
    }
    options
}

/// Reads it in the network namespace in which the daemon would run, for its interfaces and addresses. This process stays
/// there. Returns why a namespace cannot be entered.
fn load_inside(test: &Test) -> (Loaded, Option<String>) {
    let enter = |name: &str| NetNs::named(name).and_then(|namespace| namespace.enter());
    let refused = |name: &str| enter(name).err().map(|e| format!("{name}: {e}"));
    if let Some(name) = &test.namespace {
        let refused = refused(name);
        return (load(test, false), refused);
    }
    let loaded = load(test, false);
    let named = loaded.model.global.settings.namespace.as_deref();
    match named.filter(|name| is_file_name(name)).map(refused) {
        Some(None) => (load(test, false), None),
        Some(refused) => (loaded, refused),
        None => (loaded, None),
    }
}

/// `evervipd -t`: writes each problem to `out`, beginning with the line that keepalived would write, and returns
/// keepalived's exit status. Writes nothing if there is no problem.
///
/// # Errors
/// If `out` cannot be written.
pub fn test(test: &Test, out: &mut dyn Write, style: Style) -> io::Result<u8> {
    let (loaded, refused) = load_inside(test);
    if let Some(why) = refused {
        let told = writeln!(out, "the daemon could not enter the network namespace {why}\n");
        print::unless_closed(told)?;
    }
    let diagnostics = &loaded.diagnostics;
    let mut all = diagnostics.shown();
    let written = all
        .try_for_each(|d| writeln!(out, "{}\n", diagnostics.render(d, style, Head::Log)))
        .and_then(|()| out.flush());
    print::unless_closed(written)?;
    Ok(diagnostics.status())
}

/// Colours for a terminal that has them, unless `NO_COLOR` is set (no-color.org).
#[must_use]
pub fn style_for(stream: &impl IsTerminal) -> Style {
    style(stream.is_terminal(), |name| std::env::var_os(name))
}

fn style(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Style {
    let refused = variable("NO_COLOR").is_some_and(|v| !v.is_empty());
    let dumb = variable("TERM").is_none_or(|v| v.is_empty() || v == "dumb");
    if terminal && !refused && !dumb { Style::Coloured } else { Style::Plain }
}

/// `evervip check [OPTION]... FILE`
///
/// # Errors
/// Wrong options, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let machine = Machine::new();
    let mut file = None;
    let mut id = None;
    let mut peer = None;
    let mut peer_id = None;
    let mut strict = false;
    let mut json = false;
    let mut colour = None;
    let mut silenced: Vec<String> = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Short('i') | Long("config-id") => id = Some(args.value()?),
            Long("peer") => peer = Some(args.value()?),
            Long("peer-id") => peer_id = Some(args.value()?),
            Long("strict") => strict = true,
            Long("format") => match args.value()?.string()?.as_str() {
                "json" => json = true,
                "text" => json = false,
                other => return Err(format!("unknown format '{other}': text or json").into()),
            },
            Long("color" | "colour") => {
                colour = match args.value()?.string()?.as_str() {
                    "always" => Some(Style::Coloured),
                    "never" => Some(Style::Plain),
                    "auto" => None,
                    other => return Err(format!("unknown value '{other}' of --color").into()),
                };
            }
            Long("silence") => {
                let list = args.value()?.string()?;
                for code in list.split(',').map(str::trim).filter(|c| !c.is_empty()) {
                    silenced.push(known(code)?.id.to_owned());
                }
            }
            Short('h') | Long("help") => {
                out(HELP)?;
                return Ok(ExitCode::SUCCESS);
            }
            Value(name) if file.is_none() => file = Some(name),
            other => return Err(other.unexpected()),
        }
    }
    let standard_input =
        |name: &Option<OsString>| name.as_ref().is_some_and(|n| n == STANDARD_INPUT);
    if standard_input(&file) && standard_input(&peer) {
        return Err("only one of FILE and --peer can be standard input".into());
    }
    let mut options = options(file, id, &machine);
    options.lints = true;
    if let Some(name) = peer {
        options.peer = Some(other_router(name, peer_id, &machine)?);
    }
    options.strict = strict;
    let mut loaded = load_any(&machine, &mut options)?;
    loaded.diagnostics.silence(&silenced);
    let diagnostics = &loaded.diagnostics;
    if json {
        out(&(diagnostics.json() + "\n"))?;
    } else {
        let style = colour.unwrap_or_else(|| style_for(&io::stdout()));
        out(&(diagnostics.text(style) + &summary(diagnostics)))?;
    }
    let bad = diagnostics.errors() > 0 || (strict && diagnostics.warnings() > 0);
    Ok(if diagnostics.split_brain() {
        SPLIT_BRAIN.into()
    } else if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Reads the configuration from standard input; includes are relative to the working directory.
fn piped(machine: &Machine, options: &mut Options) -> Result<Loaded, lexopt::Error> {
    let text = input::up_to(options.limits.file, io::stdin())
        .map_err(|e| format!("standard input {e}"))?;
    options.file = PIPED.to_vec();
    let mut path = machine.current_directory();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(PIPED);
    let files = Piped { machine, path, text };
    Ok(config::load(&files, machine, options))
}

/// The files of the machine, and standard input as an additional file.
struct Piped<'a> {
    machine: &'a Machine,
    path: Vec<u8>,
    text: Vec<u8>,
}

impl Files for Piped<'_> {
    fn status(&self, path: &[u8]) -> Result<Option<(FileKind, u32)>, String> {
        if path == self.path {
            Ok(Some((FileKind::Regular, 0o600)))
        } else {
            self.machine.status(path)
        }
    }

    fn read(&self, path: &[u8], limit: usize) -> Result<Vec<u8>, ReadError> {
        if path == self.path { Ok(self.text.clone()) } else { self.machine.read(path, limit) }
    }

    fn list(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.machine.list(directory)
    }

    fn current_directory(&self) -> Vec<u8> {
        self.machine.current_directory()
    }
}

/// Reads the other router's file. Its errors are left to a check of that file.
fn other_router(
    name: OsString,
    id: Option<OsString>,
    machine: &Machine,
) -> Result<Peer, lexopt::Error> {
    let mut options = options(Some(name), id, machine);
    let loaded = load_any(machine, &mut options)?;
    if let Some(why) = loaded.diagnostics.obstacle() {
        return Err(format!("the peer's file cannot be used: {why}").into());
    }
    let file = String::from_utf8_lossy(&options.file).into_owned();
    Ok(Peer { file, vrrp: loaded.model.vrrp })
}

/// The code with this name, in upper or lower case.
///
/// # Errors
/// If there is none, with the closest one.
pub(super) fn known(id: &str) -> Result<&'static codes::Code, lexopt::Error> {
    codes::find(id).ok_or_else(|| {
        let near =
            codes::similar(id).map_or(String::new(), |c| format!(", did you mean {}?", c.id));
        format!("unknown code '{id}'{near}").into()
    })
}

/// The last lines: `2 errors (1 stops a start, 1 stops a reload that adds it), 3 warnings (they stop nothing)`.
fn summary(diagnostics: &Diagnostics) -> String {
    let (errors, warnings) = (diagnostics.errors(), diagnostics.warnings());
    if errors + warnings == 0 {
        return String::new();
    }
    let of = |stops: Stops, one: &str, several: &str| {
        let n = diagnostics.iter().filter(|d| d.stops() == stops).count();
        (n > 0).then(|| format!("{n} {}", if n == 1 { one } else { several }))
    };
    let parts = [
        of(Stops::Start, "stops a start", "stop a start"),
        of(Stops::Reload, "stops a reload that adds it", "stop a reload that adds them"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let detail = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    let none = match warnings {
        0 => "",
        1 => " (it stops nothing)",
        _ => " (they stop nothing)",
    };
    let mut text =
        format!("{}{detail}, {}{none}\n", count(errors, "error"), count(warnings, "warning"));
    let counted = diagnostics.counted().count();
    if diagnostics.tested() && counted > 0 {
        let (which, stop) = if counted == 1 { ("one", "stops") } else { ("those", "stop") };
        text.push_str(&format!(
            "reload_check_config is set: the {which} that keepalived counts ({counted}) {stop} every reload\n"
        ));
    }
    text
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

pub(super) const HELP: &str = "\
Usage: evervip check [OPTION]... [FILE]

Reads a configuration (default: /etc/keepalived/keepalived.conf; - for standard
input) and reports errors and questionable settings.

  -i, --config-id ID   read '@ID' lines for this configuration id
      --peer FILE      compare with the file of the router that backs it up
                       (- for standard input)
      --peer-id ID     read '@ID' lines of that file for this configuration id
      --strict         treat warnings as errors, and report what keepalived
                       ignores without a message
      --silence CODES  leave out warnings with these codes (comma separated),
                       and E0501, interfaces that this machine does not have
      --format FORMAT  text or json
      --color WHEN     auto, always or never
  -h, --help           print this text

Codes that begin with F stop a start, those with E stop a reload that adds them,
others stop nothing. 'evervip explain CODE' explains a code. With --color auto
there are no colours if NO_COLOR is set or TERM is dumb.

Exit status: 0 no error; 1 an error; 2 wrong options; 3 --peer found that both
routers would be master at the same time.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_have_them() {
        let of = |terminal, variables: &[(&str, &str)]| {
            style(terminal, |name| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into())
            })
        };
        assert_eq!(of(true, &[("TERM", "xterm")]), Style::Coloured);
        assert_eq!(of(true, &[("TERM", "xterm"), ("NO_COLOR", "")]), Style::Coloured);
        assert_eq!(of(true, &[("TERM", "xterm"), ("NO_COLOR", "1")]), Style::Plain);
        assert_eq!(of(true, &[("TERM", "dumb")]), Style::Plain);
        assert_eq!(of(true, &[]), Style::Plain);
        assert_eq!(of(false, &[("TERM", "xterm")]), Style::Plain);
    }
}
