//! The commands of `evervip`, one row each: for the program, its help, its manual page and its completion.

pub use crate::sys::process::end_at_broken_pipe;

use std::process::ExitCode;

use super::print::out;
use super::{check, convert, demo, explain, fmt, generate, metrics, peers, reload, status, why};
use crate::base::near::nearest;

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// The text of `--help`. Lines that begin with two blanks and a dash declare options.
    pub help: &'static str,
    /// Runs it with the words after its name.
    pub run: fn(lexopt::Parser) -> Result<ExitCode, lexopt::Error>,
}

/// All commands, in the order of the help text.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "status",
        what: "show what the daemon is doing",
        help: status::HELP,
        run: status::run,
    },
    Command {
        name: "peers",
        what: "show which routers were heard",
        help: peers::HELP,
        run: peers::run,
    },
    Command {
        name: "why",
        what: "tell why an instance is in its state",
        help: why::HELP,
        run: why::run,
    },
    Command {
        name: "metrics",
        what: "print the state as OpenMetrics text",
        help: metrics::HELP,
        run: metrics::run,
    },
    Command {
        name: "reload",
        what: "make the daemon read its configuration again",
        help: reload::HELP,
        run: reload::run,
    },
    Command {
        name: "check",
        what: "report errors and questionable settings of a configuration",
        help: check::HELP,
        run: check::run,
    },
    Command {
        name: "explain",
        what: "explain what a message of check means",
        help: explain::HELP,
        run: explain::run,
    },
    Command { name: "fmt", what: "lay out a configuration", help: fmt::HELP, run: fmt::run },
    Command {
        name: "convert",
        what: "turn a configuration into JSON, and back",
        help: convert::HELP,
        run: convert::run,
    },
    Command {
        name: "generate",
        what: "print reference pages and shell completion",
        help: generate::HELP,
        run: generate::run,
    },
    Command {
        name: "demo",
        what: "show a failover between two nodes, without root",
        help: demo::HELP,
        run: demo::run,
    },
    Command { name: "help", what: "print how a command is used", help: HELP, run: print_help },
];

/// The command with this name.
///
/// # Errors
/// If there is none, with the closest one.
pub fn find(name: &str) -> Result<&'static Command, lexopt::Error> {
    COMMANDS.iter().find(|c| c.name == name).ok_or_else(|| {
        let near = nearest(name, COMMANDS.iter().map(|c| c.name))
            .map_or(String::new(), |near| format!(", did you mean '{near}'?"));
        format!("unknown command '{name}'{near} (see 'evervip --help')").into()
    })
}

/// An error of the command line of a command, or of the program itself, in words.
#[must_use]
pub fn words(error: &lexopt::Error, command: Option<&Command>) -> String {
    use lexopt::Error;
    match error {
        Error::UnexpectedOption(option) => {
            let near = option.strip_prefix("--").and_then(|name| match command {
                Some(command) => nearest(name, command.flags().map(|flag| flag.long)),
                None => nearest(name, OPTIONS.into_iter()),
            });
            let near = near.map_or(String::new(), |near| format!(", did you mean '--{near}'?"));
            format!("unknown option '{option}'{near}")
        }
        Error::UnexpectedArgument(word) => format!("unexpected argument '{}'", word.display()),
        Error::UnexpectedValue { option, value } => {
            format!("option '{option}' takes no value, but '{}' is given", value.display())
        }
        Error::MissingValue { option: Some(option) } => format!("option '{option}' needs a value"),
        Error::NonUnicodeValue(value) => format!("'{}' is not valid UTF-8", value.display()),
        Error::ParsingFailed { value, error } => format!("wrong value '{value}': {error}"),
        other => other.to_string(),
    }
}

/// The long options of the program itself.
const OPTIONS: [&str; 2] = ["help", "version"];

/// `evervip help [COMMAND]`
fn print_help(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let text = match args.next()? {
        None => help(),
        Some(Short('h') | Long("help")) => HELP.to_owned(),
        Some(Value(name)) => find(&name.string()?)?.help.to_owned(),
        Some(other) => return Err(other.unexpected()),
    };
    match args.next()? {
        Some(other) => Err(other.unexpected()),
        None => out(&text).map(|()| ExitCode::SUCCESS),
    }
}

const HELP: &str = "\
Usage: evervip help [COMMAND]

Prints how a command is used, or lists the commands.

  -h, --help   print this text
";

/// An option of a command, as its help text declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag<'a> {
    /// `-i`, if there is a short form.
    pub short: Option<char>,
    /// `config-id`
    pub long: &'a str,
    /// The name of its value, if it takes one.
    pub value: Option<&'a str>,
    /// What it does.
    pub what: &'a str,
}

impl Command {
    /// The options, from the help text.
    pub fn flags(&self) -> impl Iterator<Item = Flag<'static>> {
        self.help.lines().filter_map(flag)
    }
}

/// `  -i, --config-id ID   what it does`
fn flag(line: &str) -> Option<Flag<'_>> {
    let (names, what) = line.strip_prefix("  ")?.trim_start().split_once("  ")?;
    let (short, long) = match names.split_once(", ") {
        Some((short, long)) => (short.strip_prefix('-')?.chars().next(), long),
        None => (None, names),
    };
    let long = long.strip_prefix("--")?;
    let (long, value) = match long.split_once(' ') {
        Some((long, value)) => (long, Some(value)),
        None => (long, None),
    };
    Some(Flag { short, long, value, what: what.trim_start() })
}

/// The text of `evervip --help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Usage: evervip COMMAND [OPTION]...\n\nCommands:\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<12} {}\n", command.name, command.what));
    }
    text.push_str(
        "\n  -h, --help     print this text\n  \
         -V, --version  print the version\n\n\
         'evervip help COMMAND' explains a command.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_into_80_columns() {
        let mut texts = vec![help(), super::super::args::help()];
        texts.extend(COMMANDS.iter().map(|c| c.help.to_owned()));
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.chars().count() <= super::super::print::WIDTH, "{line}");
        }
        assert!(help().contains("--version") && help().contains("  help "), "{}", help());
    }

    #[test]
    fn an_unknown_command_is_met_with_the_likely_one() {
        let said = |name: &str| find(name).unwrap_err().to_string();
        assert!(said("chek").contains("did you mean 'check'?"), "{}", said("chek"));
        assert_eq!(said("x"), "unknown command 'x' (see 'evervip --help')");
        assert_eq!(find("help").unwrap().name, "help");
    }

    #[test]
    fn options_are_read_from_the_help_text() {
        let with_short = flag("  -i, --config-id ID   read '@ID' lines");
        let wanted = Flag {
            short: Some('i'),
            long: "config-id",
            value: Some("ID"),
            what: "read '@ID' lines",
        };
        assert_eq!(with_short, Some(wanted));
        let plain = flag("      --strict         warnings count");
        assert_eq!(plain.map(|f| (f.short, f.long, f.value)), Some((None, "strict", None)));
        assert_eq!(flag("Usage: evervip check [OPTION]..."), None);
        for command in COMMANDS {
            assert!(command.flags().any(|f| f.long == "help"), "{}", command.name);
        }
    }
}
