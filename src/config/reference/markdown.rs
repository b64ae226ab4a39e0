//! `docs/keywords.md`.

use super::{Chapter, chapters, form, paragraphs, remarks};

const HEAD: &str = "\
# Keywords

Made from the tables of the program: do not edit. `EVERVIP_BLESS=1 cargo test --test main reference` writes it anew.

Every keyword of keepalived 2.4.3, block by block. A value in brackets may be left out. *Not in effect in this
version* means: read and checked, but only named in a warning. The language around them (comments,
quotes, includes, conditions, definitions) is in [configuration.md](configuration.md). Times are in seconds and may
have decimals. A keyword without a default has no effect unless it is given.
";

/// The page as Markdown.
#[must_use]
pub fn keywords() -> String {
    let mut page = HEAD.to_owned();
    let chapters = chapters();
    page.push_str("\n## Blocks\n\n");
    for chapter in chapters.iter().skip(1) {
        let depth = chapter.path.len().saturating_sub(1);
        let name = chapter.path.last().copied().unwrap_or_default();
        page.push_str(&format!("{}- [{name}](#{})\n", "  ".repeat(depth), anchor(&title(chapter))));
    }
    for chapter in &chapters {
        write(chapter, &mut page);
    }
    page
}

fn title(chapter: &Chapter) -> String {
    match chapter.path.as_slice() {
        [] => "Outside of blocks".into(),
        path => path.join(" / "),
    }
}

/// The fragment that renderers give a heading.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

fn write(chapter: &Chapter, page: &mut String) {
    page.push_str(&format!("\n## {}\n\n", title(chapter)));
    for paragraph in paragraphs(chapter.table.doc) {
        page.push_str(&paragraph);
        page.push_str("\n\n");
    }
    if let Some(name) = chapter.path.last() {
        let header = if chapter.header.is_empty() {
            String::new()
        } else {
            format!(" *{}*", escape(&chapter.header))
        };
        page.push_str(&format!("`{name}`{header} `{{ … }}`\n\n"));
    }
    if chapter.table.keywords.is_empty() {
        return;
    }
    page.push_str("| keyword | value | default | meaning |\n|---|---|---|---|\n");
    for keyword in chapter.table.keywords {
        let value = form(keyword).map_or(String::new(), |f| escape(&f));
        let default = keyword.default.map_or(String::new(), |d| escape(&d.text()));
        let mut meaning = paragraphs(keyword.doc).join(" ");
        for remark in remarks(keyword) {
            meaning.push(' ');
            meaning.push_str(&remark);
        }
        page.push_str(&format!(
            "| `{}` | {value} | {default} | {} |\n",
            keyword.name,
            escape(&meaning)
        ));
    }
}

/// Text within a cell.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for c in text.chars() {
        code ^= c == '`';
        if matches!(c, '|') || (!code && matches!(c, '*' | '_' | '<' | '[')) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
