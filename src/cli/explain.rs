//! `evervip explain`: what a code means and what to do.

use std::process::ExitCode;

use super::check::known;
use super::print::out;
use crate::config::codes::{ALL, Code};

/// `evervip explain [CODE]...`
///
/// # Errors
/// Wrong options and unknown codes, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let mut wanted = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Short('h') | Long("help") => {
                out(HELP)?;
                return Ok(ExitCode::SUCCESS);
            }
            Value(id) => wanted.push(known(&id.string()?)?),
            other => return Err(other.unexpected()),
        }
    }
    if wanted.is_empty() {
        out(&list())?;
    }
    for (i, code) in wanted.into_iter().enumerate() {
        if i > 0 {
            out("\n")?;
        }
        out(&explanation(code))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each code.
fn list() -> String {
    ALL.iter().map(|c| format!("{}  {}\n", c.id, c.title)).collect()
}

fn explanation(code: &Code) -> String {
    let mut text = format!("{}: {}\n\n", code.id, code.title);
    for line in code.lines() {
        text.push_str(line);
        text.push('\n');
    }
    if code.id.starts_with('L') {
        text.push_str(&format!("\n'evervip check --silence {0}' leaves it out.\n", code.id));
    }
    text
}

pub(super) const HELP: &str = "\
Usage: evervip explain [CODE]...

Explains what the code of a diagnostic means and what to do about it. Without
CODE, lists all codes.

  -h, --help   print this text
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_explained_in_any_case() {
        let text = explanation(known("e0101").unwrap());
        assert!(text.starts_with("E0101: unknown keyword\n\nThe word is not a keyword"), "{text}");
        assert!(explanation(known("L0801").unwrap()).contains("--silence L0801"));
        assert!(list().lines().any(|l| l == "E0101  unknown keyword"));
    }

    #[test]
    fn an_unknown_code_is_met_with_the_likely_one() {
        let said = |id: &str| known(id).unwrap_err().to_string();
        assert_eq!(said("X0801"), "unknown code 'X0801', did you mean L0801?");
        assert_eq!(said("E101"), "unknown code 'E101', did you mean E0101?");
        assert_eq!(said("nonsense"), "unknown code 'nonsense'");
    }
}
