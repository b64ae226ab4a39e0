//! The operator's command.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "speaks to a terminal"
)]

use std::process::ExitCode;

use evervip::cli::command::{COMMANDS, help};

fn main() -> ExitCode {
    evervip::cli::command::end_at_broken_pipe();
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
            let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
                return Err(format!("unknown command '{name}', see 'evervip --help'").into());
            };
            let args = std::mem::replace(args, lexopt::Parser::from_args(Vec::<String>::new()));
            (command.run)(args)
        }
        Some(Short('V' | 'v') | Long("version")) => {
            println!("evervip {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Some(Short('h') | Long("help")) => {
            print!("{}", help());
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected()),
        None => {
            print!("{}", help());
            Ok(ExitCode::from(2))
        }
    }
}
