//! `evervip generate`: reference pages and shell completion from the tables of keywords, options and commands.

use std::process::ExitCode;

use super::args;
use super::command::{COMMANDS, Flag};
use crate::config::{convert, reference};

/// Something that can be made.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// How it is asked for.
    pub name: &'static str,
    /// The file in the project that holds it.
    pub file: &'static str,
    /// Makes it.
    pub make: fn() -> String,
}

const fn target(name: &'static str, file: &'static str, make: fn() -> String) -> Target {
    Target { name, file, make }
}

/// What can be made.
pub const TARGETS: &[Target] = &[
    target("keywords", "docs/keywords.md", reference::keywords),
    target("evervip.conf.5", "etc/man/evervip.conf.5", reference::manual),
    target("evervipd.8", "etc/man/evervipd.8", args::manual),
    target("evervip.1", "etc/man/evervip.1", manual),
    target("config.schema.json", "docs/config.schema.json", convert::schema),
    target("status.schema.json", "docs/status.schema.json", crate::api::report::schema),
    target("bash", "etc/completion/evervip.bash", bash),
    target("zsh", "etc/completion/_evervip", zsh),
    target("fish", "etc/completion/evervip.fish", fish),
];

pub(super) const HELP: &str = "\
Usage: evervip generate TARGET

Prints a page or a script that is made from the program's own tables.

  keywords         the keywords of the configuration, as Markdown
  evervip.conf.5   manual page of the configuration
  evervipd.8       manual page of the daemon
  evervip.1        manual page of this command
  config.schema.json  JSON Schema of what 'evervip convert' writes
  status.schema.json  JSON Schema of what 'evervip status --json' prints
  bash, zsh, fish  completion for these shells, for both programs

  -h, --help       print this text
";

/// `evervip generate TARGET`
///
/// # Errors
/// Wrong words, as a text for the user.
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
            print!("{}", (target.make)());
            Ok(ExitCode::SUCCESS)
        }
        Some(Short('h') | Long("help")) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected()),
        None => {
            eprint!("{HELP}");
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

fn bash() -> String {
    let names: Vec<&str> = COMMANDS.iter().map(|c| c.name).collect();
    let mut text = String::from(
        "# Completion for bash, made by 'evervip generate bash'.\n\
         _evervip() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words=\n    case ${COMP_WORDS[1]} in\n",
    );
    for command in COMMANDS {
        let mut words: Vec<String> = command.flags().map(|f| format!("--{}", f.long)).collect();
        if command.name == "generate" {
            words.extend(TARGETS.iter().map(|t| t.name.to_owned()));
        }
        text.push_str(&format!("        {}) words='{}' ;;\n", command.name, words.join(" ")));
    }
    text.push_str(&format!(
        "        *) words='{} --help --version' ;;\n    esac\n    \
         [ \"$COMP_CWORD\" -gt 1 ] || words='{} --help --version'\n    \
         COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    \
         [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}}\n\
         complete -o filenames -F _evervip evervip\n",
        names.join(" "),
        names.join(" ")
    ));
    let options: Vec<String> = args::flags().map(|f| format!("--{}", f.long)).collect();
    text.push_str(&format!(
        "_evervipd() {{\n    COMPREPLY=($(compgen -W '{}' -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n    \
         [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\n\
         complete -o filenames -F _evervipd evervipd\n",
        options.join(" ")
    ));
    text
}

/// An option for `_arguments` of zsh.
fn zsh_flag(flag: &Flag<'_>) -> String {
    let what = flag.what.replace('\'', "").replace(['[', ']', ':'], " ");
    let value = flag
        .value
        .map_or(String::new(), |v| format!(":{}:_files", v.trim_matches(['[', ']', '='])));
    let equals = if flag.value.is_some() { "=" } else { "" };
    format!("'--{}{equals}[{what}]{value}'", flag.long)
}

fn zsh() -> String {
    let mut text = String::from(
        "#compdef evervip evervipd\n# Completion for zsh, made by 'evervip generate zsh'.\n\n_evervip_daemon() {\n    _arguments \\\n",
    );
    for flag in args::flags() {
        text.push_str(&format!("        {} \\\n", zsh_flag(&flag)));
    }
    text.push_str("        '*:file:_files'\n}\n\n_evervip_command() {\n    local -a commands\n    commands=(\n");
    for command in COMMANDS {
        text.push_str(&format!("        '{}:{}'\n", command.name, command.what));
    }
    text.push_str(
        "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n    \
         case $words[2] in\n",
    );
    for command in COMMANDS {
        text.push_str(&format!(
            "        {}) shift words; (( CURRENT-- )); _arguments \\\n",
            command.name
        ));
        for flag in command.flags() {
            text.push_str(&format!("            {} \\\n", zsh_flag(&flag)));
        }
        let rest = if command.name == "generate" {
            let targets: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            format!("'1:target:({})'", targets.join(" "))
        } else {
            "'*:file:_files'".into()
        };
        text.push_str(&format!("            {rest} ;;\n"));
    }
    text.push_str(
        "    esac\n}\n\ncase $service in\n    evervipd) _evervip_daemon ;;\n    *) _evervip_command ;;\nesac\n",
    );
    text
}

fn fish() -> String {
    let mut text = String::from("# Completion for fish, made by 'evervip generate fish'.\n");
    let line = |program: &str, when: &str, flag: &Flag<'_>| {
        let short = flag.short.map_or(String::new(), |c| format!(" -s {c}"));
        let value = if flag.value.is_some() { " -r" } else { "" };
        let what = flag.what.replace('\'', "\\\'");
        format!("complete -c {program}{when}{short} -l {}{value} -d '{what}'\n", flag.long)
    };
    for flag in args::flags() {
        text.push_str(&line("evervipd", "", &flag));
    }
    for command in COMMANDS {
        text.push_str(&format!(
            "complete -c evervip -n __fish_use_subcommand -a {} -d '{}'\n",
            command.name, command.what
        ));
        let when = format!(" -n '__fish_seen_subcommand_from {}'", command.name);
        for flag in command.flags() {
            text.push_str(&line("evervip", &when, &flag));
        }
        if command.name == "generate" {
            let targets: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
            text.push_str(&format!("complete -c evervip{when} -f -a '{}'\n", targets.join(" ")));
        }
    }
    text
}
