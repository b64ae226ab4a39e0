//! Errors by their meaning, independent of their line: a reload compares them with those of the configuration in force.
//!
//! An ignored word is identified by its code, the kind of block and the keyword, so a generated file may repeat an old
//! mistake in each new block; an ignored option of a line in a list also by itself. An object that is left out (an address, a server, an instance) is identified by its
//! identity: losing another one is a new mistake. The errors themselves come from the other modules.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::codes::{self, Code};
use super::diagnostic::{Diagnostic, Diagnostics, Kind, Severity, Subject};
use super::keyword::{Keyword, Shape, Times};
use super::span::Span;

/// The position of the reader, stored in every problem.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    /// The kind of the block, as its table is named.
    pub block: &'static str,
    /// The keyword of the statement, once it is known.
    pub keyword: Option<&'static Keyword>,
    /// The top-level block around it.
    pub within: Span,
    /// Its end, while it is resolved.
    pub end: Span,
    /// The text is read; blocks are being resolved.
    pub settled: bool,
}

impl Position {
    /// A statement of a block begins.
    pub(crate) fn begin(&mut self, block: &'static str) {
        let within = if self.settled { Span::NONE } else { self.within };
        *self = Self { block, within, ..Self::default() };
    }

    /// The top-level block `within`, or the whole text, was read.
    pub(crate) fn settle(&mut self, block: &'static str, within: Span, end: Span) {
        *self = Self { block, within, end, keyword: None, settled: true };
    }

    /// The subject of a problem at this position.
    pub(crate) fn subject(&self) -> Subject {
        let (kind, keyword) = match self.keyword {
            _ if self.settled => (Kind::Settled, ""),
            Some(keyword) if identifies(keyword) => (Kind::Object, keyword.name),
            Some(keyword) => (Kind::Word, keyword.name),
            None if self.block.is_empty() && !self.within.is_some() => (Kind::Text, ""),
            None => (Kind::Unknown, ""),
        };
        Subject { kind, block: self.block, keyword, within: self.within, end: self.end }
    }
}

/// Whether each use of a keyword creates an object of its own.
fn identifies(keyword: &Keyword) -> bool {
    let block = matches!((keyword.shape)(), Shape::Block(..) | Shape::Lines(_) | Shape::List(_));
    block || keyword.times == Times::Many
}

/// Errors through which a whole object, or a reference to one, is lost. Their messages contain its name.
const OBJECTS: [&Code; 7] = [
    &codes::INCOMPLETE,
    &codes::DUPLICATE_NAME,
    &codes::DUPLICATE_VRID,
    &codes::DUPLICATE_ENTRY,
    &codes::UNKNOWN_REFERENCE,
    &codes::DEFINED_LATER,
    &codes::FAMILY,
];

/// The meaning of a missing interface.
fn missing(message: &str) -> String {
    format!("{} {message}", codes::NO_INTERFACE.id)
}

/// A meaning as a number.
fn number(meaning: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    meaning.hash(&mut hasher);
    hasher.finish()
}

impl Diagnostics {
    /// Every error by its meaning, and every interface that the configuration names, which may be missing the next time.
    /// Reading the same text twice gives the same result.
    #[must_use]
    pub fn mistakes(&self) -> BTreeSet<String> {
        let errors = self.all().filter(|d| d.severity == Severity::Error).map(|d| self.meaning(d));
        errors.chain(self.interfaces.iter().map(|message| missing(message))).collect()
    }

    /// [`Self::mistakes`] as numbers of 8 bytes, the same in every process of this program.
    #[must_use]
    pub fn mistake_numbers(&self) -> BTreeSet<u64> {
        self.mistakes().iter().map(|mistake| number(mistake)).collect()
    }

    /// The errors that are not in `known`, the result of [`Self::mistake_numbers`] for another text.
    pub fn new_errors<'a>(
        &'a self,
        known: &'a BTreeSet<u64>,
    ) -> impl Iterator<Item = &'a Diagnostic> {
        self.all()
            .filter(|d| d.severity == Severity::Error)
            .filter(move |d| !known.contains(&number(&self.meaning(d))))
    }

    fn is_missing_interface(&self, found: &Diagnostic) -> bool {
        *found.code == codes::NO_INTERFACE && self.interfaces.contains(&found.message)
    }

    /// The meaning of an error, as text to compare.
    fn meaning(&self, error: &Diagnostic) -> String {
        let code = error.code.id;
        if self.is_missing_interface(error) {
            return missing(&error.message);
        }
        // The number of problems over the limit changes with every line.
        if *error.code == codes::LIMIT {
            return code.to_owned();
        }
        let Subject { kind, block, keyword, within, .. } = error.subject;
        match kind {
            Kind::Text => format!("{code} {}", error.message),
            Kind::Unknown => format!("{code} {block} {}", self.marked(error.span)),
            Kind::Word => format!("{code} {block} {keyword}"),
            // The object is there without the option.
            Kind::Object if *error.code == codes::OPTION => {
                format!("{code} {block} / {keyword} {}", self.marked(error.span))
            }
            Kind::Object => {
                format!("{code} {} / {keyword} {}", self.line(within), self.line(error.span))
            }
            Kind::Settled => {
                let at = self.beginning(error);
                let line = self.line(at);
                let lost = OBJECTS.contains(&error.code) || self.opens(at);
                if lost || line.is_empty() {
                    format!("{code} {} / {} / {line}", self.line(within), error.message)
                } else {
                    format!("{code} {block} {}", line.split(' ').next().unwrap_or_default())
                }
            }
        }
    }

    /// Where the object begins, even if the error is at its closing brace.
    fn beginning(&self, error: &Diagnostic) -> Span {
        match error.related.first() {
            Some((start, _)) if self.marked(error.span) == "}" => *start,
            _ => error.span,
        }
    }

    /// Whether the place is at the beginning of a line.
    fn opens(&self, span: Span) -> bool {
        self.sources.place(span).is_some_and(|place| {
            place.text.iter().take(place.start).all(|byte| byte.is_ascii_whitespace())
        })
    }

    /// The marked text.
    fn marked(&self, span: Span) -> String {
        let Some(place) = self.sources.place(span) else {
            return String::new();
        };
        let text = place.text.get(place.start..place.end).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// The statement of the line: without comment and brace, with single blanks.
    fn line(&self, span: Span) -> String {
        let Some(place) = self.sources.place(span) else {
            return String::new();
        };
        let is_end = |byte: &u8| matches!(byte, b'{' | b'#' | b'!');
        let end = place.text.iter().position(is_end).unwrap_or(place.text.len());
        let text = String::from_utf8_lossy(place.text.get(..end).unwrap_or_default());
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
