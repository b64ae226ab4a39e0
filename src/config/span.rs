//! The origin of a piece of configuration: files, the includes that opened them, and the definitions that produced it.
//!
//! A [`Span`] is three numbers, so that every value can carry one. The readable form (file, line, column, the line
//! itself) is only looked up when a diagnostic is shown.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A range of bytes of one file, in one reading of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Index of the [`Unit`].
    pub(crate) unit: u32,
    /// First byte.
    pub(crate) start: u32,
    /// Number of bytes.
    pub(crate) len: u32,
}

impl Span {
    /// No place: a problem of the configuration as a whole.
    pub const NONE: Self = Self { unit: u32::MAX, start: 0, len: 0 };

    /// Whether this is a place.
    #[must_use]
    pub fn is_some(self) -> bool {
        self.unit != u32::MAX
    }

    /// From the start of `self` to the end of `other`, if both are in the same unit.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        let end = other.start.saturating_add(other.len);
        if self.unit == other.unit && end >= self.start {
            Self { len: end - self.start, ..self }
        } else {
            self
        }
    }
}

impl Default for Span {
    fn default() -> Self {
        Self::NONE
    }
}

/// One reading of a file: as the main file, through an include, or through a definition used in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// Index of the file.
    pub file: u32,
    /// The include statement that opened it.
    pub include: Span,
    /// Index of the [`Expansion`] that produced the text, `u32::MAX` for text of the file itself.
    pub expansion: u32,
}

/// One use of a definition or of a repetition.
#[derive(Clone, Debug)]
pub(crate) struct Expansion {
    /// `$NAME`, or the head of a repetition.
    pub name: Box<str>,
    /// Where it was defined; `NONE` for predefined names.
    pub defined: Span,
    /// Index of the expansion within whose text it was used, `u32::MAX` for none.
    pub parent: u32,
    /// The replaced text.
    pub site: Span,
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// The name under which it was opened.
    pub name: Box<str>,
    /// Its content.
    pub text: Arc<Vec<u8>>,
    lines: OnceCell<Vec<u32>>,
}

/// All files, in the order in which they were opened, and the units.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<SourceFile>,
    units: Vec<Unit>,
    expansions: Vec<Expansion>,
}

/// A span in readable form.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub file: &'a str,
    /// From 1.
    pub line: u32,
    /// In bytes from 1.
    pub column: u32,
    /// The line without its end.
    pub text: &'a [u8],
    /// The marked part within `text`.
    pub start: usize,
    pub end: usize,
}

impl Place<'_> {
    /// `FILE:LINE:COLUMN`.
    pub(crate) fn shown(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Sources {
    pub(crate) fn add_file(&mut self, name: &str, text: Arc<Vec<u8>>) -> u32 {
        let index = u32_of(self.files.len());
        self.files.push(SourceFile { name: name.into(), text, lines: OnceCell::new() });
        index
    }

    pub(crate) fn add_unit(&mut self, unit: Unit) -> u32 {
        let index = u32_of(self.units.len());
        self.units.push(unit);
        index
    }

    pub(crate) fn add_expansion(&mut self, expansion: Expansion) -> u32 {
        let index = u32_of(self.expansions.len());
        self.expansions.push(expansion);
        index
    }

    /// The contents of all files.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|file| file.text.as_slice())
    }

    /// File and offset of all text that was replaced by a definition.
    pub(crate) fn replaced(&self) -> BTreeSet<(u32, u32)> {
        let sites = self.expansions.iter().map(|expansion| self.order(expansion.site));
        sites.map(|(file, start, _)| (file, start)).collect()
    }

    pub(crate) fn unit(&self, index: u32) -> Option<&Unit> {
        self.units.get(index as usize)
    }

    /// The text of the file that a unit reads directly; none for text that a definition or repetition produced.
    pub(crate) fn direct_text(&self, unit: u32) -> Option<&Arc<Vec<u8>>> {
        let unit = self.units.get(unit as usize).filter(|unit| unit.expansion == u32::MAX)?;
        Some(&self.files.get(unit.file as usize)?.text)
    }

    pub(crate) fn expansion(&self, index: u32) -> Option<&Expansion> {
        self.expansions.get(index as usize)
    }

    /// File, line and column of `span`; none for a span without a place.
    pub(crate) fn place(&self, span: Span) -> Option<Place<'_>> {
        let unit = self.units.get(span.unit as usize)?;
        let file = self.files.get(unit.file as usize)?;
        let starts = file.lines();
        let line = starts.partition_point(|&s| s <= span.start).max(1);
        let begin = starts.get(line - 1).copied().unwrap_or(0) as usize;
        let next = starts.get(line).map_or(file.text.len(), |&s| s as usize);
        let whole = file.text.get(begin..next).unwrap_or_default();
        let text = whole.strip_suffix(b"\n").unwrap_or(whole);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let start = (span.start as usize).saturating_sub(begin).min(text.len());
        let end = start.saturating_add(span.len as usize).min(text.len());
        Some(Place {
            file: &file.name,
            line: u32_of(line),
            column: u32_of(start + 1),
            text,
            start,
            end,
        })
    }

    /// File and line by their numbers, to compare them.
    pub(crate) fn line(&self, span: Span) -> Option<(u32, u32)> {
        let unit = self.units.get(span.unit as usize)?;
        let starts = self.files.get(unit.file as usize)?.lines();
        Some((unit.file, u32_of(starts.partition_point(|&s| s <= span.start))))
    }

    /// For sorting: the reading order of files, then the position.
    pub(crate) fn order(&self, span: Span) -> (u32, u32, u32) {
        match self.units.get(span.unit as usize) {
            Some(unit) => (unit.file, span.start, span.unit),
            None => (u32::MAX, 0, 0),
        }
    }
}

impl SourceFile {
    /// Offset of the first byte of each line.
    fn lines(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let mut starts = vec![0];
            starts.extend(
                memchr::memchr_iter(b'\n', &self.text)
                    .map(|at| u32_of(at + 1))
                    .filter(|&at| (at as usize) < self.text.len()),
            );
            starts
        })
    }
}

/// A value with the place where it was written. Comparisons ignore the place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spanned<T> {
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value` written at `span`.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// Sizes here stay below the limits of [`super::Limits`], which fit into 32 bits.
pub(crate) fn u32_of(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
