//! "Did you mean": reports about words that are not keywords.

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
    } else if let Some((keyword, _)) =
        text.split_once('=').filter(|(k, _)| table.find(k.as_bytes()).is_some())
    {
        new = new
            .label(format!("not known {place}"))
            .help(format!("a keyword and its value are separated by a blank: '{keyword} ...'"));
    } else if let Some(near) = nearest(text, table.names()) {
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

/// The blocks in which a word is a keyword.
fn homes(vocabulary: &'static Table, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(vocabulary, &mut |table| {
        if table.find(word.as_bytes()).is_some() && found.len() < 4 {
            let name = place(table);
            if !found.contains(&name) {
                found.push(name);
            }
        }
    });
    found
}
