//! Configuration tests: `evervipd -t` and `evervip check`.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use crate::config::{self, Diagnostics, Head, Loaded, Options, Peer, Stops, Style, codes};
use crate::sys::host::Machine;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";

/// What a configuration test of the daemon is to look at.
#[derive(Clone, Debug, Default)]
pub struct Test {
    /// `-f`: the main file or a pattern.
    pub file: Option<OsString>,
    /// `-i`: the configuration id.
    pub config_id: Option<OsString>,
    /// `-e`: all include checks are on.
    pub all_checks: bool,
    /// Look for what is valid and doubtful, too.
    pub lints: bool,
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

fn options(file: Option<OsString>, id: Option<OsString>, machine: &Machine) -> Options {
    let file = file.map_or_else(|| DEFAULT_FILE.as_bytes().to_vec(), OsString::into_vec);
    let mut options = Options::new(file, machine);
    if let Some(id) = id {
        options.config_id = id.into_vec();
    }
    options
}

/// `evervipd -t`: writes each problem to `out`, the line that keepalived would write first, and gives keepalived's exit
/// status. Nothing is written when all is well.
///
/// # Errors
/// When `out` cannot be written.
pub fn test(test: &Test, out: &mut dyn Write, style: Style) -> io::Result<u8> {
    let loaded = load(test, false);
    let diagnostics = &loaded.diagnostics;
    for diagnostic in diagnostics.iter() {
        writeln!(out, "{}\n", diagnostics.render(diagnostic, style, Head::Log))?;
    }
    out.flush()?;
    Ok(diagnostics.status())
}

/// Colours for a terminal, unless `NO_COLOR` is set.
#[must_use]
pub fn style_for(stream: &impl IsTerminal) -> Style {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    if stream.is_terminal() && !refused { Style::Coloured } else { Style::Plain }
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
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Value(name) if file.is_none() => file = Some(name),
            other => return Err(other.unexpected()),
        }
    }
    let mut options = options(file, id, &machine);
    options.lints = true;
    if let Some(name) = peer {
        options.peer = Some(other_router(name, peer_id, &machine)?);
    }
    options.strict = strict;
    let mut loaded = config::load(&machine, &machine, &options);
    loaded.diagnostics.silence(&silenced);
    let diagnostics = &loaded.diagnostics;
    if json {
        println!("{}", diagnostics.json());
    } else {
        let style = colour.unwrap_or_else(|| style_for(&io::stdout()));
        print!("{}", diagnostics.text(style));
        let (errors, warnings) = (diagnostics.errors(), diagnostics.warnings());
        if errors + warnings > 0 {
            println!(
                "{}{}, {}",
                count(errors, "error"),
                stopping(diagnostics),
                count(warnings, "warning")
            );
        }
    }
    let bad = diagnostics.errors() > 0 || (strict && diagnostics.warnings() > 0);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads the other router's file. What is wrong there is for a check of that file to say.
fn other_router(
    name: OsString,
    id: Option<OsString>,
    machine: &Machine,
) -> Result<Peer, lexopt::Error> {
    let shown = name.display().to_string();
    let loaded = config::load(machine, machine, &options(Some(name), id, machine));
    if loaded.unusable() {
        let why = loaded.diagnostics.log_lines().next().map_or_else(String::new, |(_, line)| line);
        return Err(format!("the peer's file cannot be used: {why}").into());
    }
    Ok(Peer { file: shown, vrrp: loaded.model.vrrp })
}

/// The code of that name, in any case.
///
/// # Errors
/// When there is none, with the one that may be meant.
pub(super) fn known(id: &str) -> Result<&'static codes::Code, lexopt::Error> {
    codes::find(id).ok_or_else(|| {
        let near =
            codes::similar(id).map_or(String::new(), |c| format!(", did you mean {}?", c.id));
        format!("unknown code '{id}'{near}").into()
    })
}

/// What the errors stop: ` (1 stops the start, 2 stop a reload)`.
fn stopping(diagnostics: &Diagnostics) -> String {
    let of = |stops, what| {
        let n = diagnostics.iter().filter(|d| d.stops() == stops).count();
        let verb = if n == 1 { "stops" } else { "stop" };
        (n > 0).then(|| format!("{n} {verb} {what}"))
    };
    let parts = [of(Stops::Start, "the start"), of(Stops::Reload, "a reload that brings it")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn count(n: usize, what: &str) -> String {
    match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

pub(super) const HELP: &str = "\
Usage: evervip check [OPTION]... [FILE]

Reads a configuration (default: /etc/keepalived/keepalived.conf) and says what is wrong with it.

  -i, --config-id ID   read '@ID' lines for this configuration id
      --peer FILE      compare with the file of the router that takes over from this one
      --peer-id ID     read '@ID' lines of that file for this configuration id
      --strict         warnings count as errors, and so does what keepalived passes over in silence
      --silence CODES  leave out warnings with these codes (comma separated)
      --format FORMAT  text or json
      --color WHEN     auto, always or never
  -h, --help           print this text

'evervip explain CODE' tells more about a code.

Exit status: 0 when there is no error, 1 when there is one, 2 for wrong options.
";
