//! "Did you mean": the keyword or word nearest to one that is unknown.

use super::codes;
use super::context::Cx;
use super::diagnostic::Diagnostic;
use super::schema::{Shape, Table};
use super::words::Word;

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

/// The candidate nearest to `word`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = match word.len() {
        0..=2 => return None,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    };
    candidates
        .filter(|c| c.len().abs_diff(word.len()) <= limit)
        .map(|c| (distance(word.as_bytes(), c.as_bytes()), c))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, c)| c)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other. Texts longer than 64
/// bytes count as far apart.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let at = |v: &[usize], k: usize| v.get(k).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(&y) && b.get(j - 1) == Some(&x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words() {
        let words = ["interface", "priority", "virtual_ipaddress", "state"];
        let near = |w| nearest(w, words.into_iter());
        assert_eq!(near("interfaec"), Some("interface"));
        assert_eq!(near("prioritiy"), Some("priority"));
        assert_eq!(near("virtul_ipadress"), Some("virtual_ipaddress"));
        assert_eq!(near("stat"), Some("state"));
        assert_eq!(near("xyz"), None);
        assert_eq!(distance(b"ab", b"ba"), 1);
        assert_eq!(distance(b"", b"abc"), 3);
    }
}
