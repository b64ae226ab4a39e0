//! The operator's command.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "speaks to a terminal"
)]

use std::process::ExitCode;

use evervip::cli;

type Run = fn(lexopt::Parser) -> Result<ExitCode, lexopt::Error>;

/// Name, what it does, and what carries it out.
const COMMANDS: &[(&str, &str, Run)] = &[
    ("check", "say what is wrong with a configuration", cli::check::run),
    ("demo", "show a failover between two nodes, without root", |_| Ok(cli::demo::run())),
];

fn main() -> ExitCode {
    let mut args = lexopt::Parser::from_env();
    match dispatch(&mut args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("evervip: {error}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(args: &mut lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    match args.next()? {
        Some(Value(name)) => {
            let name = name.string()?;
            let Some((_, _, run)) = COMMANDS.iter().find(|(n, _, _)| *n == name) else {
                return Err(format!("unknown command '{name}', see 'evervip --help'").into());
            };
            let args = std::mem::replace(args, lexopt::Parser::from_args(Vec::<String>::new()));
            run(args)
        }
        Some(Short('V' | 'v') | Long("version")) => {
            println!("evervip {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Some(Short('h') | Long("help")) => {
            help();
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected()),
        None => {
            help();
            Ok(ExitCode::from(2))
        }
    }
}

fn help() {
    println!("Usage: evervip COMMAND [OPTION]...\n");
    for (name, what, _) in COMMANDS {
        println!("  {name:<12} {what}");
    }
    println!("\n'evervip COMMAND --help' tells more.");
}
