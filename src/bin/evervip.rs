//! The operator's command.
#![allow(clippy::disallowed_methods, reason = "speaks to a terminal")]

use std::process::ExitCode;

use evervip::cli::command::{Command, find, help, words};
use evervip::cli::print::{out, say};

fn main() -> ExitCode {
    evervip::cli::command::end_at_broken_pipe();
    let mut args = lexopt::Parser::from_env();
    let mut command = None;
    match dispatch(&mut args, &mut command) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!("evervip: {}", words(&error, command)));
            ExitCode::from(2)
        }
    }
}

fn dispatch(
    args: &mut lexopt::Parser,
    command: &mut Option<&'static Command>,
) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    match args.next()? {
        Some(Value(name)) => {
            let name = name.string()?;
            let found = command.insert(find(&name)?);
            let args = std::mem::replace(args, lexopt::Parser::from_args(Vec::<String>::new()));
            (found.run)(args)
        }
        Some(Short('V' | 'v') | Long("version")) => {
            out(concat!("evervip ", env!("CARGO_PKG_VERSION"), "\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Short('h') | Long("help")) => {
            out(&help())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => Err(other.unexpected()),
        None => {
            out(&help())?;
            Ok(ExitCode::from(2))
        }
    }
}
