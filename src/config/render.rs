//! Diagnostics for people and programs: rustc's form, lines for a log, JSON.

use std::borrow::Cow;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use super::codes;
use super::diagnostic::{Diagnostic, Diagnostics, Severity, Stops};
use super::secret::Shown;
use super::span::Span;

/// The form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without colours.
    Plain,
    /// With the colours of a terminal.
    Coloured,
}

/// The text above the source line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// `error[E0101]: message`
    Title,
    /// `(FILE: Line N) Message`, as in keepalived.
    Log,
}

impl Diagnostics {
    /// One diagnostic with its source line and a caret.
    #[must_use]
    pub fn render(&self, diagnostic: &Diagnostic, style: Style, head: Head) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let mut group = match head {
            Head::Title => level
                .primary_title(printable(&diagnostic.message).into_owned())
                .id(diagnostic.id())
                .elements(Vec::<annotate_snippets::Message<'_>>::new()),
            Head::Log => Group::with_level(level),
        };
        let lines = self.lines(diagnostic);
        for line in &lines {
            let mut snippet = Snippet::source(line.text.as_str())
                .line_start(line.number as usize)
                .path(line.file.as_str())
                .fold(false);
            for mark in &line.marks {
                let kind =
                    if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                snippet =
                    snippet.annotation(kind.span(mark.from..mark.to).label(mark.label.as_str()));
            }
            group = group.element(snippet);
        }
        for note in self.chain(diagnostic.span).iter().chain(&diagnostic.notes) {
            group = group.element(Level::NOTE.message(printable(note).into_owned()));
        }
        for help in &diagnostic.help {
            group = group.element(Level::HELP.message(printable(help).into_owned()));
        }
        if let Some(text) = replacement_help(diagnostic) {
            group = group.element(Level::HELP.message(printable(&text).into_owned()));
        }
        let body = renderer.render(&[group]).to_string();
        match head {
            Head::Title => body,
            Head::Log => format!("{}\n{body}", self.log_line(diagnostic)),
        }
    }

    /// All diagnostics, with a line that counts them.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for diagnostic in self.shown() {
            text.push_str(&self.render(diagnostic, style, Head::Title));
            text.push_str("\n\n");
        }
        text
    }

    /// `(FILE: Line N) Message, did you mean 'WORD'? (column N) [CODE]`: one line for the log, the place first, as
    /// keepalived writes it.
    #[must_use]
    pub fn log_line(&self, diagnostic: &Diagnostic) -> String {
        let mut message = diagnostic.message.clone();
        // Keywords stay as they are: users search for them.
        let word = message.split([' ', ':', ',']).next().unwrap_or_default();
        let is_keyword = word.contains(|c: char| c == '_' || c.is_ascii_digit())
            || self.secrets.keywords.contains(word);
        if let Some(first) = message.get_mut(..1).filter(|_| !is_keyword) {
            first.make_ascii_uppercase();
        }
        if let Some(near) = &diagnostic.replacement {
            let hint = if *diagnostic.code == codes::DEPRECATED { "use" } else { "did you mean" };
            let end = if hint == "use" { "" } else { "?" };
            message.push_str(&format!(", {hint} '{near}'{end}"));
        }
        if *diagnostic.code == codes::MISSING_CLOSE
            && message.contains(" before ")
            && let Some(open) =
                diagnostic.related.first().and_then(|(at, _)| self.sources.place(*at))
        {
            message.push_str(&format!(", opened at line {}", open.line));
        }
        if diagnostic.more > 0 {
            message.push_str(&format!(", and {} more like this", diagnostic.more));
        }
        let code = diagnostic.id();
        let line = match self.secrets.place(diagnostic.span, &self.sources) {
            Some(place) => {
                let (file, line, column) = (place.file, place.line, place.column);
                format!("({file}: Line {line}) {message} (column {column}) [{code}]")
            }
            None => format!("{message} [{code}]"),
        };
        printable(&line).into_owned()
    }

    /// A log line for each diagnostic that is to be shown.
    pub fn log_lines(&self) -> impl Iterator<Item = (Severity, String)> {
        self.shown().map(|d| (d.severity, self.log_line(d)))
    }

    /// The log line of the first problem that stops a start.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        self.all().find(|d| d.stops() == Stops::Start).map(|d| self.log_line(d))
    }

    /// File and line of a diagnostic, for tests and tools.
    #[must_use]
    pub fn location(&self, diagnostic: &Diagnostic) -> Option<(&str, u32, u32)> {
        let place = self.secrets.place(diagnostic.span, &self.sources)?;
        Some((place.file, place.line, place.column))
    }

    /// The diagnostics as JSON, described by `docs/diagnostics.schema.json`.
    #[must_use]
    pub fn json(&self) -> String {
        let report = Report {
            format: 1,
            errors: self.errors(),
            warnings: self.warnings(),
            keepalived_status: self.status(),
            usable: !self.unusable(),
            split_brain: self.split_brain(),
            reload_check_config: self.tested(),
            diagnostics: self.shown().map(|d| self.item(d)).collect(),
        };
        // A report only contains what JSON can represent.
        serde_json::to_string_pretty(&report).unwrap_or_default()
    }

    fn item<'a>(&'a self, diagnostic: &'a Diagnostic) -> Item<'a> {
        Item {
            code: diagnostic.id(),
            stops: diagnostic.stops().word(),
            title: diagnostic.code.title,
            severity: diagnostic.severity.to_string(),
            environment: diagnostic.environment,
            message: &diagnostic.message,
            label: &diagnostic.label,
            location: self.spot(diagnostic.span),
            related: diagnostic
                .related
                .iter()
                .filter_map(|(span, text)| {
                    Some(Related { message: text, location: self.spot(*span)? })
                })
                .collect(),
            chain: self.chain(diagnostic.span),
            notes: &diagnostic.notes,
            help: &diagnostic.help,
            replacement: diagnostic.replacement.as_deref(),
            more: diagnostic.more,
        }
    }

    fn spot(&self, span: Span) -> Option<Spot> {
        let place = self.secrets.place(span, &self.sources)?;
        Some(Spot {
            file: place.file.to_owned(),
            line: place.line,
            column: place.column,
            length: place.end - place.start,
            text: String::from_utf8_lossy(&place.text).into_owned(),
        })
    }

    /// The includes and definitions that led to a place, innermost first.
    fn chain(&self, span: Span) -> Vec<String> {
        let mut chain = Vec::new();
        let Some(unit) = self.sources.unit(span.unit) else {
            return chain;
        };
        let mut next = unit.expansion;
        while let Some(expansion) = self.sources.expansion(next) {
            chain.push(match self.sources.place(expansion.defined) {
                Some(place) => format!(
                    "in the expansion of '{}', defined at {}:{}",
                    expansion.name, place.file, place.line
                ),
                None => format!("in the expansion of '{}'", expansion.name),
            });
            next = expansion.parent;
            if chain.len() > 16 {
                break;
            }
        }
        let mut include = unit.include;
        while let Some(place) = self.sources.place(include) {
            chain.push(format!("included at {}:{}", place.file, place.line));
            include = match self.sources.unit(include.unit) {
                Some(unit) => unit.include,
                None => Span::NONE,
            };
            if chain.len() > 32 {
                break;
            }
        }
        chain
    }

    /// The source lines of a diagnostic with their marks, that of the primary place first.
    fn lines(&self, diagnostic: &Diagnostic) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let primary = (diagnostic.span, diagnostic.label.as_str(), true);
        let related = diagnostic.related.iter().map(|(span, text)| (*span, text.as_str(), false));
        for (span, label, primary) in core::iter::once(primary).chain(related) {
            let Some(place) = self.secrets.place(span, &self.sources) else {
                continue;
            };
            let (text, from, to) = shown(&place);
            let mark = Mark { from, to, label: printable(label).into_owned(), primary };
            let known = lines
                .iter_mut()
                .find(|l| l.number == place.line && l.file == printable(place.file));
            match known {
                Some(line) => line.marks.push(mark),
                None => lines.push(Line {
                    file: printable(place.file).into_owned(),
                    number: place.line,
                    text,
                    marks: vec![mark],
                }),
            }
        }
        lines
    }
}

/// A text for a terminal: characters that control it or change the order of others are replaced, as in the drawn source
/// lines.
fn printable(text: &str) -> Cow<'_, str> {
    let replaced = |c: char| match c {
        '\u{7f}' => '\u{2421}',
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(' '),
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' => char::REPLACEMENT_CHARACTER,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    if text.chars().all(|c| replaced(c) == c) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(replaced).collect())
}

/// A source line with its marks.
struct Line {
    file: String,
    number: u32,
    text: String,
    marks: Vec<Mark>,
}

struct Mark {
    from: usize,
    to: usize,
    label: String,
    primary: bool,
}

/// The longest line that is shown completely, in bytes: longer than any valid line.
const SHOWN: usize = 1100;
/// For a longer line, the number of bytes shown on either side of the mark.
const AROUND: usize = 100;

/// A line as text, with the marked range; bytes that are not UTF-8 are replaced. For a very long line, only the
/// surroundings of the mark.
fn shown(place: &Shown<'_>) -> (String, usize, usize) {
    let part = |from: usize, to: usize| {
        let part = String::from_utf8_lossy(place.text.get(from..to).unwrap_or_default());
        // The others are replaced when the line is drawn.
        part.replace(|c| ('\u{80}'..='\u{9f}').contains(&c), "\u{fffd}")
    };
    let whole = place.text.len();
    let (first, end, last) = if whole <= SHOWN {
        (0, place.end, whole)
    } else {
        let end = place.end.min(place.start.saturating_add(AROUND));
        (place.start.saturating_sub(AROUND), end, end.saturating_add(AROUND).min(whole))
    };
    let before = part(first, place.start);
    let marked = part(place.start, end);
    let after = part(end, last);
    let (from, to) = (before.len(), before.len() + marked.len());
    (before + &marked + &after, from, to)
}

/// The replacement, unless the label already contains it.
fn replacement_help(diagnostic: &Diagnostic) -> Option<String> {
    let text = diagnostic.replacement.as_ref()?;
    if diagnostic.label.contains(text.as_str()) && diagnostic.label.starts_with("did you mean") {
        return None;
    }
    Some(format!("write '{text}' instead"))
}

#[derive(Serialize)]
struct Report<'a> {
    format: u32,
    errors: usize,
    warnings: usize,
    keepalived_status: u8,
    usable: bool,
    split_brain: bool,
    reload_check_config: bool,
    diagnostics: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    code: String,
    stops: &'static str,
    title: &'a str,
    severity: String,
    environment: bool,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Spot>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    related: Vec<Related<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chain: Vec<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    help: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    more: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

#[derive(Serialize)]
struct Related<'a> {
    message: &'a str,
    location: Spot,
}

#[derive(Serialize)]
struct Spot {
    file: String,
    line: u32,
    column: u32,
    length: usize,
    text: String,
}
