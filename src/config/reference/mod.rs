//! Reference pages generated from the tables of keywords.
//!
//! [`keywords`] gives `docs/keywords.md`, [`manual`] the manual page `evervip.conf(5)`. Programs' options and
//! completion belong to `cli`.

mod manual;
mod markdown;

pub use manual::manual;
pub use markdown::keywords;

use super::block;
pub use super::keyword::Unset;
use super::keyword::{Keyword, Shape, Table, Times};

/// A block with the path that leads to it.
struct Chapter {
    /// Keywords of the blocks around it and its own, `virtual_server`, `real_server`.
    path: Vec<&'static str>,
    table: &'static Table,
    /// The words between its keyword and the brace.
    header: String,
    /// It is not in effect in this version.
    later: bool,
}

/// All blocks, each once, in the order of the tables; the first is the text outside of blocks.
fn chapters() -> Vec<Chapter> {
    let root = Chapter {
        path: Vec::new(),
        table: block::root_table(),
        header: String::new(),
        later: false,
    };
    let mut list = vec![root];
    let mut at = 0;
    while let Some(chapter) = list.get(at) {
        let (path, around) = (chapter.path.clone(), chapter.later);
        let mut found = Vec::new();
        for keyword in chapter.table.keywords {
            if let Shape::Block(table, header) = (keyword.shape)() {
                let table = table();
                let known = list.iter().chain(&found).any(|c| core::ptr::eq(c.table, table));
                if !known {
                    let mut path = path.clone();
                    path.push(keyword.name);
                    let later = around || keyword.later;
                    found.push(Chapter { path, table, header, later });
                }
            }
        }
        // Inner blocks come directly after the block that contains them.
        at += 1;
        list.splice(at..at, found);
    }
    list
}

/// A doc comment as one paragraph, or several when it has empty lines.
fn paragraphs(doc: &str) -> Vec<String> {
    let mut list = vec![String::new()];
    for line in doc.lines().map(str::trim) {
        match list.last_mut() {
            Some(last) if line.is_empty() && !last.is_empty() => list.push(String::new()),
            Some(last) => {
                if !last.is_empty() && !line.is_empty() {
                    last.push(' ');
                }
                last.push_str(line);
            }
            None => {}
        }
    }
    list.retain(|p| !p.is_empty());
    list
}

/// The form of a value; none for a keyword that stands alone.
fn form(keyword: &Keyword) -> Option<String> {
    match (keyword.shape)() {
        Shape::Flag => None,
        Shape::Boolean => Some("[true|false]".into()),
        Shape::Integer { min, max } => Some(format!("{min} to {max}")),
        Shape::Seconds { min, max } => Some(format!("{min} to {max} seconds")),
        Shape::Choice(words) => Some(words.join("|")),
        Shape::Text(what) => Some(what.to_owned()),
        Shape::Words(form) => Some(form),
        Shape::Lines(form) => Some(format!("{{ a line each: {form} }}")),
        Shape::List(form) => Some(format!("{{ any number of: {form} }}")),
        Shape::Block(_, header) if header.is_empty() => Some("{ … }".into()),
        Shape::Block(_, header) => Some(format!("{header} {{ … }}")),
    }
}

/// Further remarks about a keyword, one sentence each.
fn remarks(keyword: &Keyword) -> Vec<String> {
    let mut list = Vec::new();
    for alias in keyword.aliases {
        let old = if alias.deprecated { ", deprecated" } else { "" };
        list.push(format!("Also written {}{old}.", alias.name));
    }
    if let Some(instead) = keyword.deprecated {
        list.push(format!("Deprecated: {instead}."));
    }
    if keyword.newer {
        list.push("Newer than keepalived 2.4.3.".into());
    }
    if keyword.dead {
        list.push("Accepted, and does nothing.".into());
    } else if keyword.later {
        list.push("Not in effect in this version.".into());
    }
    let block = matches!((keyword.shape)(), Shape::Block(..) | Shape::Lines(_) | Shape::List(_));
    match keyword.times {
        Times::First if block => list.push("Once; a later block is ignored.".into()),
        Times::First => list.push("The first one counts.".into()),
        Times::Many if block => list.push("Several add up.".into()),
        Times::Many => list.push("May stand several times.".into()),
        Times::Last => {}
    }
    list
}

/// A keyword with the blocks that contain it.
#[derive(Clone, Debug)]
pub struct Term {
    /// The blocks, `virtual_server/real_server`; `-` outside of blocks.
    pub path: String,
    /// The keyword, or another name of it.
    pub name: &'static str,
    /// The main name of the keyword.
    pub keyword: &'static str,
    /// keepalived 2.4.3 knows it.
    pub upstream: bool,
    /// It is accepted and has no effect.
    pub dead: bool,
    /// It, or an enclosing block, is not in effect in this version.
    pub later: bool,
    /// The effective setting if it is not given.
    pub default: Option<Unset>,
    /// It takes one value: it is neither a flag, nor a block, nor a list.
    pub single: bool,
    /// Its possible values; none if its form does not tell them.
    pub values: Vec<String>,
}

/// Every keyword, other names included.
#[must_use]
pub fn vocabulary() -> Vec<Term> {
    let mut list = Vec::new();
    for chapter in chapters() {
        let path = if chapter.path.is_empty() { "-".to_owned() } else { chapter.path.join("/") };
        for keyword in chapter.table.keywords {
            let aliases = keyword.aliases.iter().map(|a| a.name);
            for name in core::iter::once(keyword.name).chain(aliases) {
                list.push(Term {
                    path: path.clone(),
                    name,
                    keyword: keyword.name,
                    upstream: !keyword.newer,
                    dead: keyword.dead,
                    later: chapter.later || keyword.later,
                    default: keyword.default,
                    single: keyword.times != Times::Many
                        && !matches!(
                            (keyword.shape)(),
                            Shape::Flag | Shape::Lines(_) | Shape::List(_) | Shape::Block(..)
                        ),
                    values: values(&(keyword.shape)()),
                });
            }
        }
    }
    list
}

fn values(shape: &Shape) -> Vec<String> {
    match shape {
        Shape::Flag => vec![String::new()],
        Shape::Boolean => vec!["true".into(), "false".into()],
        Shape::Integer { min, max } => {
            let between = [min.saturating_add(1), 7, 150, 2000].map(|n| n.clamp(*min, *max));
            between.iter().chain([min, max]).map(ToString::to_string).collect()
        }
        Shape::Seconds { min, max } => {
            [3.0_f64.clamp(*min, *max), *min, *max].iter().map(ToString::to_string).collect()
        }
        Shape::Choice(words) => words.iter().map(|w| (*w).to_owned()).collect(),
        Shape::Text(_) | Shape::Words(_) | Shape::Lines(_) | Shape::List(_) | Shape::Block(..) => {
            Vec::new()
        }
    }
}
