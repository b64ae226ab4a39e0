//! "Did you mean": the keyword or word nearest to one that is unknown.

use super::codes;
use super::context::Cx;
use super::diagnostic::Diagnostic;
use super::schema::{Shape, Table};
use super::words::Word;
pub(crate) use crate::base::near::nearest;

/// Reports a word that is no keyword of `table`.
pub(crate) fn unknown_keyword(cx: &mut Cx<'_>, table: &'static Table, word: &Word<'_>) {
    let text = word.text();
    let mut new = Diagnostic::error(&codes::UNKNOWN_KEYWORD, format!("unknown keyword '{text}'"))
        .at(word.span());
    let place = place(table);
    let homes = homes(&text);
    if text.bytes().any(|b| b.is_ascii_uppercase())
        && table.find(text.to_ascii_lowercase().as_bytes()).is_some()
    {
        let lower = text.to_ascii_lowercase();
        new = new.label(format!("keywords are case sensitive: '{lower}'")).replacement(lower);
    } else if !homes.is_empty() {
        new = new
            .label(format!("not known {place}"))
            .help(format!("'{text}' belongs {}", homes.join(" or ")));
    } else if let Some(near) = nearest(&text, table.names()) {
        new = new.label(format!("did you mean '{near}'?")).replacement(near);
    } else {
        new = new.label(format!("not known {place}"));
        if text.starts_with('$') {
            new = new.help("a definition is written $NAME=value, without blanks before '='");
        } else if text.starts_with('@') {
            new = new.help("a condition counts only at the start of a line, and only one a line");
        } else if text.starts_with('~') {
            new = new.help("repetitions are ~SEQ(...) and ~LST(...)");
        } else if text.starts_with("include") {
            new = new
                .help("the forms are include, includer, includem, includew, includeb and includea");
        } else if text.starts_with("\u{feff}") {
            new = new.help("the file begins with a byte order mark; save it without one");
        } else if let Some((keyword, _)) =
            text.split_once('=').filter(|(k, _)| table.find(k.as_bytes()).is_some())
        {
            new = new
                .help(format!("a keyword and its value are separated by a blank: '{keyword} ...'"));
        }
    }
    cx.report(new);
}

fn place(table: &Table) -> String {
    if table.name.is_empty() { "outside blocks".into() } else { format!("in '{}'", table.name) }
}

/// The blocks in which a word is a keyword.
fn homes(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(super::block::root_table(), &mut |table| {
        if table.find(word.as_bytes()).is_some() && found.len() < 4 {
            let name = place(table);
            if !found.contains(&name) {
                found.push(name);
            }
        }
    });
    found
}

/// Visits a table and all below it.
pub(crate) fn walk(table: &'static Table, visit: &mut impl FnMut(&'static Table)) {
    visit(table);
    for keyword in table.keywords {
        if let Shape::Block(child, _) = (keyword.shape)() {
            walk(child(), visit);
        }
    }
}
