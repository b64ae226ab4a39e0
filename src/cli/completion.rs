//! Completion for bash, zsh and fish, from the tables of options and commands: names, values and files.

use super::args;
use super::command::{COMMANDS, Command, Flag};
use super::generate::TARGETS;
use crate::config::codes;

/// What can be completed at one position.
enum Choice {
    /// Nothing that can be completed.
    Anything,
    /// Names of files.
    Files,
    /// One of these words.
    Words(Vec<&'static str>),
    /// Some of these words, separated by commas.
    List(Vec<&'static str>),
}

use Choice::{Anything, Files, List, Words};

/// The possible values of an option, by their name in the help text.
fn values(name: &str) -> Choice {
    match name {
        "FILE" => Files,
        "FORMAT" => Words(vec!["text", "json"]),
        "FORM" => Words(vec!["json", "conf"]),
        "WHEN" => Words(vec!["auto", "always", "never"]),
        "CODES" => List(ids()),
        "FACILITY" => Words(args::FACILITIES.to_vec()),
        "NAME" => Words(args::signal_names().collect()),
        _ => Anything,
    }
}

/// The operands of a command.
fn operands(command: &Command) -> Choice {
    match command.name {
        "check" | "fmt" | "convert" => Files,
        "explain" => Words(ids()),
        "generate" => Words(TARGETS.iter().map(|t| t.name).collect()),
        "help" => Words(names()),
        _ => Anything,
    }
}

fn ids() -> Vec<&'static str> {
    codes::ALL.iter().map(|c| c.id).collect()
}

fn names() -> Vec<&'static str> {
    COMMANDS.iter().map(|c| c.name).collect()
}

const BASH_HEAD: &str = r#"# Completion for bash, made by 'evervip generate bash'.

# What is typed, and the option before it, with or without an equals sign between them.
_evervip_typed() {
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [ "$cur" = = ]; then
        cur=
    elif [ "$prev" = = ]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
}

# _evervip_offer KIND [WORDS]
_evervip_offer() {
    local head=
    case $1 in
        files)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            ;;
        words) mapfile -t COMPREPLY < <(compgen -W "$2" -- "$cur") ;;
        list)
            [[ $cur != *,* ]] || head=${cur%,*},
            mapfile -t COMPREPLY < <(compgen -P "$head" -W "$2" -- "${cur##*,}")
            ;;
        *) COMPREPLY=() ;;
    esac
}
"#;

fn bash_offer(choice: &Choice) -> String {
    match choice {
        Anything => "_evervip_offer nothing".into(),
        Files => "_evervip_offer files".into(),
        Words(words) => format!("_evervip_offer words '{}'", words.join(" ")),
        List(words) => format!("_evervip_offer list '{}'", words.join(" ")),
    }
}

/// The values of options, as branches of a `case` over the command and the option before.
fn bash_values<'a>(command: &str, flags: impl Iterator<Item = Flag<'a>>) -> String {
    let mut text = String::new();
    for flag in flags {
        let Some(value) = flag.value else { continue };
        let mut names = format!("{command}--{}", flag.long);
        if let Some(short) = flag.short {
            names.push_str(&format!(" | {command}-{short}"));
        }
        text.push_str(&format!("        {names}) {}; return ;;\n", bash_offer(&values(value))));
    }
    text
}

pub(super) fn bash() -> String {
    let mut text = String::from(BASH_HEAD);
    let names = names().join(" ");
    text.push_str(&format!(
        "\n_evervip() {{\n    local cur prev\n    _evervip_typed\n    \
         if [ \"$COMP_CWORD\" -eq 1 ]; then\n        \
         _evervip_offer words '{names} --help --version'\n        return\n    fi\n    \
         case ${{COMP_WORDS[1]}}:$prev in\n"
    ));
    for command in COMMANDS {
        text.push_str(&bash_values(&format!("{}:", command.name), command.flags()));
    }
    text.push_str("    esac\n    case ${COMP_WORDS[1]}:$cur in\n");
    for command in COMMANDS {
        let flags: Vec<String> = command.flags().map(|f| format!("--{}", f.long)).collect();
        let (name, operands) = (command.name, bash_offer(&operands(command)));
        text.push_str(&format!(
            "        {name}:-*) _evervip_offer words '{}' ;;\n        {name}:*) {operands} ;;\n",
            flags.join(" ")
        ));
    }
    text.push_str("    esac\n}\ncomplete -F _evervip evervip\n");
    let options: Vec<String> = args::flags().map(|f| format!("--{}", f.long)).collect();
    text.push_str(&format!(
        "\n_evervipd() {{\n    local cur prev\n    _evervip_typed\n    case $prev in\n{}    esac\n    \
         _evervip_offer words '{}'\n}}\ncomplete -F _evervipd evervipd\n",
        bash_values("", args::flags()),
        options.join(" ")
    ));
    text
}

fn zsh_action(choice: &Choice) -> String {
    match choice {
        Anything => " ".into(),
        Files => "_files".into(),
        Words(words) => format!("({})", words.join(" ")),
        List(words) => format!("_sequence compadd - {}", words.join(" ")),
    }
}

/// An option for `_arguments`.
fn zsh_flag(flag: &Flag<'_>) -> String {
    let what = flag.what.replace('\'', "").replace(['[', ']', ':'], " ");
    let value = flag.value.map_or(String::new(), |v| format!(":{v}:{}", zsh_action(&values(v))));
    let equals = if flag.value.is_some() { "=" } else { "" };
    format!("'--{}{equals}[{what}]{value}'", flag.long)
}

pub(super) fn zsh() -> String {
    let mut text = String::from(
        "#compdef evervip evervipd\n# Completion for zsh, made by 'evervip generate zsh'.\n\n_evervip_daemon() {\n    _arguments",
    );
    for flag in args::flags() {
        text.push_str(&format!(" \\\n        {}", zsh_flag(&flag)));
    }
    text.push_str("\n}\n\n_evervip_command() {\n    local -a commands\n    commands=(\n");
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
        let operands = zsh_action(&operands(command));
        text.push_str(&format!("            '*:operand:{operands}' ;;\n"));
    }
    text.push_str(
        "    esac\n}\n\ncase $service in\n    evervipd) _evervip_daemon ;;\n    *) _evervip_command ;;\nesac\n",
    );
    text
}

fn fish_words(choice: &Choice) -> String {
    match choice {
        Anything => " -f".into(),
        Files => " -F".into(),
        Words(words) | List(words) => format!(" -f -a '{}'", words.join(" ")),
    }
}

fn fish_flag(program: &str, when: &str, flag: &Flag<'_>) -> String {
    let short = flag.short.map_or(String::new(), |c| format!(" -s {c}"));
    let value = flag.value.map_or(String::new(), |v| format!(" -r{}", fish_words(&values(v))));
    let what = flag.what.replace('\'', "\\\'");
    format!("complete -c {program}{when}{short} -l {}{value} -d '{what}'\n", flag.long)
}

pub(super) fn fish() -> String {
    let mut text = String::from("# Completion for fish, made by 'evervip generate fish'.\n");
    text.push_str("complete -c evervip -n __fish_use_subcommand -f\n");
    for flag in args::flags() {
        text.push_str(&fish_flag("evervipd", "", &flag));
    }
    for command in COMMANDS {
        text.push_str(&format!(
            "complete -c evervip -n __fish_use_subcommand -a {} -d '{}'\n",
            command.name, command.what
        ));
        let when = format!(" -n '__fish_seen_subcommand_from {}'", command.name);
        for flag in command.flags() {
            text.push_str(&fish_flag("evervip", &when, &flag));
        }
        let operands = fish_words(&operands(command));
        text.push_str(&format!("complete -c evervip{when}{operands}\n"));
    }
    text
}
