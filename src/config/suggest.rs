//! "Did you mean": reports about words that are not keywords.

use std::sync::OnceLock;

use super::codes;
use super::context::Cx;
use super::diagnostic::Diagnostic;
use super::keyword::{Table, walk};
use super::secret::mark;
use super::span::Span;
use super::unclosed::FOLLOWING;
use crate::base::near::nearest;

/// Reports a word that is not a keyword of `table`.
pub(crate) fn unknown_keyword(
    cx: &mut Cx<'_>,
    table: &'static Table,
    text: &str,
    at: Span,
    opens: bool,
) {
    let shown = mark::text(text, at);
    let mut new =
        Diagnostic::error(&codes::UNKNOWN_KEYWORD, format!("unknown keyword '{shown}'")).at(at);
    let place = place(table);
    // Beyond the limit nobody reads it.
    if cx.reports.len() >= cx.options.limits.problems {
        return cx.report(new);
    }
    let homes = homes(cx.vocabulary, text);
    if text.bytes().any(|b| b.is_ascii_uppercase())
        && table.find(text.to_ascii_lowercase().as_bytes()).is_some()
    {
        let lower = text.to_ascii_lowercase();
        new = new.label(format!("keywords are case sensitive: '{lower}'")).replacement(lower);
    } else if !homes.is_empty() {
        new = new
            .label(format!("not known {place}"))
            .help(format!("'{shown}' belongs {}", homes.join(" or ")));
    } else if let Some(bare) =
        text.strip_suffix([':', ';', '=']).filter(|bare| table.find(bare.as_bytes()).is_some())
    {
        let mark = text.strip_prefix(bare).unwrap_or_default();
        new = new.label(format!("a keyword is written without '{mark}'")).replacement(bare);
    } else if let Some((keyword, _)) =
        text.split_once('=').filter(|(k, _)| table.find(k.as_bytes()).is_some())
    {
        new = new
            .label(format!("not known {place}"))
            .help(format!("a keyword and its value are separated by a blank: '{keyword} ...'"));
    } else if let Some(near) = near(text, table) {
        new = new.label(format!("did you mean '{near}'?")).replacement(near);
    } else {
        new = new.label(format!("not known {place}"));
        if text.starts_with('$') {
            new = new.help("a definition is written $NAME=value, without blanks before '='");
        } else if text.starts_with('@') {
            new = new
                .help("a condition must be at the start of a line, and a line can have only one");
        } else if text.starts_with('~') {
            new = new.help("repetitions are ~SEQ(...) and ~LST(...)");
        } else if text.starts_with("include") {
            new = new
                .help("the forms are include, includer, includem, includew, includeb and includea");
        }
    }
    if opens {
        let lines = if table.name.is_empty() {
            "its lines are read as if they were outside blocks".to_owned()
        } else {
            format!(
                "its lines are read as if they were in '{0}', and its '}}' ends '{0}'",
                table.name
            )
        };
        new = new.note(format!("{lines}; {FOLLOWING}"));
    }
    cx.report(new);
}

fn place(table: &Table) -> String {
    if table.name.is_empty() { "outside blocks".into() } else { format!("in '{}'", table.name) }
}

/// The keyword that a word is meant for: a similar one, or the only one that begins with it.
fn near(text: &str, table: &'static Table) -> Option<&'static str> {
    let begun = || {
        let mut names = table.names().filter(|name| text.len() > 2 && name.starts_with(text));
        names.next().filter(|_| names.next().is_none())
    };
    nearest(text, table.names()).or_else(begun)
}

/// The blocks in which a word is a keyword.
fn homes(vocabulary: &'static Table, word: &str) -> Vec<String> {
    // Walking through all shapes takes long, and a file may have thousands of such words.
    static TABLES: OnceLock<Vec<&'static Table>> = OnceLock::new();
    let tables = TABLES.get_or_init(|| {
        let mut all = Vec::new();
        walk(vocabulary, &mut |table| all.push(table));
        all
    });
    let mut found = Vec::new();
    for table in tables {
        if found.len() < 4 && table.find(word.as_bytes()).is_some() {
            let name = place(table);
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}
