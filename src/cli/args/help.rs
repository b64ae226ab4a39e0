//! Texts about the options: help, manual page, version, words for completion.

use super::super::command;
use super::super::generate::roff;
use super::super::print;
use super::Value::{None as Flag, Optional, Required};
use super::{ROWS, SIGNALS, Value, What};

/// The column in which the meanings of options begin in the help text.
const MEANINGS: usize = 32;

/// The help text.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Usage: evervipd [OPTION...]\n\n");
    let (mut later, mut list) = (Vec::new(), Vec::new());
    for row in ROWS {
        let value = match row.2 {
            Flag => String::new(),
            Required(name) => format!("={name}"),
            Optional(name) => format!("[={name}]"),
        };
        let short = row.0.map_or("    ".into(), |c| format!("-{c}, "));
        match row.3 {
            What::Later => later.push(format!("--{}", row.1)),
            What::Never => {}
            _ => list.push((format!("  {short}--{}{value}", row.1), row.4)),
        }
    }
    for (option, meaning) in list {
        let meaning = print::wrapped(meaning, MEANINGS, MEANINGS);
        text.push_str(&format!("{option:<MEANINGS$}{meaning}\n"));
    }
    let refused = format!("Options of keepalived that this version refuses: {}", later.join(" "));
    text.push_str(&format!("\n{}\n\n", print::wrapped(&refused, 2, 0)));
    text.push_str(
        "The options are keepalived's. Documentation: evervipd(8), docs/operations.md.\n",
    );
    text
}

/// Words for `--log-facility`.
pub(in crate::cli) const FACILITIES: [&str; 10] = [
    "daemon", "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// Words for `--signum`.
pub(in crate::cli) fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(name, _)| *name)
}

/// The supported options, for completion.
pub(in crate::cli) fn flags() -> impl Iterator<Item = command::Flag<'static>> {
    let served = ROWS.iter().filter(|row| !matches!(row.3, What::Later | What::Never));
    served.map(|row| {
        let value = match row.2 {
            Value::None => None,
            Required(name) | Optional(name) => Some(name),
        };
        command::Flag { short: row.0, long: row.1, value, what: row.4 }
    })
}

/// `evervipd(8)`
#[must_use]
pub fn manual() -> String {
    let mut page = String::from(MANUAL_HEAD);
    for row in ROWS {
        let value = match row.2 {
            Flag => String::new(),
            Required(name) => format!("=\\fI{}\\fR", roff(name)),
            Optional(name) => format!("[=\\fI{}\\fR]", roff(name)),
        };
        let short = row.0.map_or(String::new(), |c| format!("\\fB\\-{c}\\fR, "));
        let text = match row.3 {
            What::Never => continue,
            What::Later => "Refused: not in this version.".to_owned(),
            _ => format!("{}.", roff(row.4)),
        };
        page.push_str(&format!(".TP\n{short}\\fB\\-\\-{}\\fR{value}\n{text}\n", roff(row.1)));
    }
    page.push_str(MANUAL_TAIL);
    page
}

const MANUAL_HEAD: &str = r#".\" Made from the tables of the program: do not edit.
.TH EVERVIPD 8 "" "EverVIP" "System Administration"
.SH NAME
evervipd \- high availability by VRRP and load balancing by LVS
.SH SYNOPSIS
.B evervipd
[\fIOPTION\fR]...
.SH DESCRIPTION
Takes the configuration and the options of keepalived 2.4.3.
A value of a long option follows an equals sign, that of a short one follows it with or without a blank; an optional value of a
short option is written without a blank, except that of \fB\-g\fR: \fB\-g\fR \fIFILE\fR works as well.
.SH OPTIONS
"#;

const MANUAL_TAIL: &str = r#".SH SIGNALS
.TP
.B HUP
Read the configuration again. It comes into force as a whole or not at all.
.TP
.B TERM\fR, \fBINT
Give up the virtual addresses and the IPVS table, and end.
.SH EXIT STATUS
.TP
.B 0
A normal end.
.TP
.B 1
A wrong option, another running instance, a missing requirement of the daemon.
.TP
.B 2
A configuration that cannot be carried out.
.TP
.B 4
A missing permission.
.TP
.B 6
No configuration file.
.PP
With
.B \-\-config\-test
the status is that of keepalived: 0 no problem, 2 a keyword lacks its value, 4 a missing file with
.BR \-\-all\-config ,
5 problems, 6 script security or a failed include.
.SH FILES
.I /etc/keepalived/keepalived.conf
.br
.I /run/keepalived.pid
.SH SEE ALSO
.BR evervip (1),
.BR evervip.conf (5)
"#;

/// The version text, in the form expected by tools that query keepalived.
#[must_use]
pub fn version() -> String {
    format!(
        "EverVIP v{} (takes the configuration and the options of keepalived 2.4.3)\n\n\
         Licensed under MIT OR Apache-2.0.\n",
        env!("CARGO_PKG_VERSION")
    )
}
