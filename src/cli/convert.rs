//! `evervip convert`: configurations as JSON, and back.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use super::check;
use super::input::{self, STANDARD_INPUT};
use super::print::{self, out};
use crate::config::{Document, codes};

pub(super) const HELP: &str = "\
Usage: evervip convert --to json [FILE]
       evervip convert --to conf [FILE]

Prints the parsed configuration (default: /etc/keepalived/keepalived.conf) as
JSON: definitions are replaced, included files are part of it, and comments are
gone. With --to conf, prints the configuration that such JSON describes. For -,
and with --to conf also without FILE, reads standard input.

      --to FORM        json or conf
  -i, --config-id ID   read '@ID' lines for this configuration id
  -h, --help           print this text

Problems of the configuration are written to standard error; wrong parts are not
included in the result. Text that is not UTF-8 would change: a file with such
text is refused. docs/config.schema.json describes the JSON.
";

/// `evervip convert --to FORM [FILE]`
///
/// # Errors
/// Wrong options and unreadable files, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let mut file: Option<OsString> = None;
    let mut id = None;
    let mut json = None;
    while let Some(arg) = args.next()? {
        match arg {
            Long("to") => {
                json = match args.value()?.string()?.as_str() {
                    "json" => Some(true),
                    "conf" => Some(false),
                    other => return Err(format!("unknown form '{other}': json or conf").into()),
                };
            }
            Short('i') | Long("config-id") => id = Some(args.value()?),
            Short('h') | Long("help") => {
                out(HELP)?;
                return Ok(ExitCode::SUCCESS);
            }
            Value(name) if file.is_none() => file = Some(name),
            other => return Err(other.unexpected()),
        }
    }
    let (result, failed) = match json {
        Some(true) => to_json(file, id)?,
        Some(false) => (to_conf(file)?, false),
        None => return Err("--to json or --to conf is needed".into()),
    };
    print::bytes(&result)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn to_json(file: Option<OsString>, id: Option<OsString>) -> Result<(Vec<u8>, bool), lexopt::Error> {
    let loaded = check::load_or_read(file, id)?;
    let style = check::style_for(&io::stderr());
    let text = loaded.diagnostics.text(style);
    if !text.is_empty() {
        print::say(text.trim_end_matches('\n'));
    }
    if loaded.diagnostics.iter().any(|d| *d.code == codes::NOT_UTF8) {
        return Err("nothing is converted: text that is not UTF-8 would change".into());
    }
    Ok((loaded.document.to_json().into_bytes(), loaded.unusable()))
}

fn to_conf(file: Option<OsString>) -> Result<Vec<u8>, lexopt::Error> {
    let text = input::read(&file.unwrap_or_else(|| STANDARD_INPUT.into()))?;
    let document = Document::from_json(&text).map_err(|e| e.to_string())?;
    Ok(document.to_conf())
}
