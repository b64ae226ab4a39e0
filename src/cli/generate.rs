//! `evervip generate`: reference pages and shell completion from the tables of keywords, options and commands.

use std::process::ExitCode;

use super::args;
use super::command::COMMANDS;
use super::completion::{bash, fish, zsh};
use super::print::{out, say};
use crate::config::{convert, reference};

/// Something that can be generated.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// The file of the project that contains it.
    pub file: &'static str,
    /// Generates it.
    pub make: fn() -> String,
}

const fn target(name: &'static str, file: &'static str, make: fn() -> String) -> Target {
    Target { name, file, make }
}

pub const TARGETS: &[Target] = &[
    target("keywords", "docs/keywords.md", reference::keywords),
    target("evervip.conf.5", "etc/man/evervip.conf.5", reference::manual),
    target("evervipd.8", "etc/man/evervipd.8", args::manual),
    target("evervip.1", "etc/man/evervip.1", manual),
    target("config.schema.json", "docs/config.schema.json", convert::schema),
    target("status.schema.json", "docs/status.schema.json", crate::api::report::schema),
    target("peers.schema.json", "docs/peers.schema.json", crate::api::peers::schema),
    target("why.schema.json", "docs/why.schema.json", crate::api::why::schema),
    target("bash", "etc/completion/evervip.bash", bash),
    target("zsh", "etc/completion/_evervip", zsh),
    target("fish", "etc/completion/evervip.fish", fish),
];

pub(super) const HELP: &str = "\
Usage: evervip generate TARGET

Prints a page or a script that is generated from the program's own tables.

  keywords            the keywords of the configuration, as Markdown
  evervip.conf.5      manual page of the configuration
  evervipd.8          manual page of the daemon
  evervip.1           manual page of this command
  config.schema.json  JSON Schema of the output of 'evervip convert'
  status.schema.json  JSON Schema of the output of 'evervip status --json'
  peers.schema.json   JSON Schema of the output of 'evervip peers --json'
  why.schema.json     JSON Schema of the output of 'evervip why --json'
  bash, zsh, fish     completion for these shells, for both programs

  -h, --help          print this text
";

/// `evervip generate TARGET`
///
/// # Errors
/// Wrong arguments, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    match args.next()? {
        Some(Value(name)) => {
            let name = name.string()?;
            let Some(target) = TARGETS.iter().find(|t| t.name == name) else {
                return Err(
                    format!("unknown target '{name}', see 'evervip generate --help'").into()
                );
            };
            out(&(target.make)())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Short('h') | Long("help")) => {
            out(HELP)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected()),
        None => {
            say(HELP.trim_end());
            Ok(ExitCode::from(2))
        }
    }
}

/// Text for roff.
pub(super) fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

/// `evervip(1)`
fn manual() -> String {
    let mut page = String::from(
        ".\\\" Made from the tables of the program: do not edit.\n\
         .TH EVERVIP 1 \"\" \"EverVIP\" \"User Commands\"\n\
         .SH NAME\nevervip \\- look at evervipd and work on its configurations\n\
         .SH SYNOPSIS\n.B evervip\n.I COMMAND\n[\\fIOPTION\\fR]...\n",
    );
    page.push_str(".SH COMMANDS\n");
    for command in COMMANDS {
        page.push_str(&format!(".SS \"evervip {}\"\n", command.name));
        page.push_str(".nf\n");
        for line in command.help.lines() {
            page.push_str(&roff(line));
            page.push('\n');
        }
        page.push_str(".fi\n");
    }
    page.push_str(".SH SEE ALSO\n.BR evervipd (8),\n.BR evervip.conf (5)\n");
    page
}
