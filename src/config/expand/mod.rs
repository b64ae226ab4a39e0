//! From files to plain text: comments, conditions, definitions, repetitions and includes.
//!
//! A line is processed in the order of keepalived 2.4.3: strip comments; collect a definition of several lines;
//! condition; definition; repetition; replace names; include; cut at a brace and process the rest as a line. Lines
//! without any of this, which is nearly all, are copied unchanged, many at a time. The result comes in chunks of whole
//! lines together with a map back to the files.

mod define;
mod include;
mod random;
mod repeat;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

pub(crate) use include::pattern_at;
pub(crate) use repeat::is_head as is_repetition;

use self::define::Definitions;
use self::repeat::Repetition;
use super::checks::Checks;
use super::codes;
use super::context::Cx;
use super::diagnostic::Diagnostic;
use super::earlier::Again;
use super::span::Span;
use super::text::{Text, Trim, is_blank};
use crate::model::{Service, Shared};

/// Size of a chunk in bytes.
const CHUNK: usize = 64 << 10;
/// Longest line of a file in bytes, without its newline.
const LINE: usize = 1022;
/// Longest line in bytes after names were replaced.
const EXPANDED_LINE: usize = 64 << 10;

/// What a line counts in addition to its bytes against the limit on expansion: the work of reading it.
const LINE_COST: usize = 64;

/// Produces the text of a configuration chunk by chunk.
pub(crate) struct Expander {
    /// The sources of the next line: the last one first.
    frames: Vec<Frame>,
    definitions: Definitions,
    /// Number of bytes that do not come directly from a file.
    expanded: usize,
    /// Includes are held back until everything before them is parsed, because it may contain `include_check`.
    held: Option<(Text, Span)>,
    random: random::Random,
    /// Opened files: several includes may open them again.
    opened: BTreeSet<Rc<[u8]>>,
    exhausted: bool,
}

enum Frame {
    /// A file being read.
    File(FileFrame),
    /// The rest of a line that was cut at a brace.
    Rest(Text),
    /// A line that is repeated.
    Repeat(Repetition),
    /// Files that an include matched.
    Files(include::Pending),
    /// Further lines of a definition.
    Lines(std::vec::IntoIter<Text>),
}

struct FileFrame {
    unit: u32,
    text: Arc<Vec<u8>>,
    at: usize,
    /// The directory in which relative names of this file start.
    directory: Rc<[u8]>,
    /// The displayed name.
    name: Rc<[u8]>,
    /// Normalised path, to detect a file that includes itself.
    path: Rc<[u8]>,
    /// Include checks that were in force before the file was opened.
    checks: Checks,
}

/// Why a run of plain lines ended.
enum Stop {
    End,
    Full,
    /// A block begins that may be known from an earlier read.
    Known,
    /// The line from the first to the second offset needs special processing.
    Special(usize, usize),
}

impl Expander {
    /// Opens the main file or files.
    pub(crate) fn new(cx: &mut Cx<'_>) -> Self {
        let mut new = Self {
            frames: Vec::new(),
            definitions: Definitions::default(),
            expanded: 0,
            held: None,
            random: random::Random::new(cx.host.seed()),
            opened: BTreeSet::new(),
            exhausted: false,
        };
        new.open_main(cx);
        new
    }

    /// Puts the next chunk into `out`: whole lines, each ended by a line feed. False at the end of the text.
    pub(crate) fn fill(&mut self, cx: &mut Cx<'_>, out: &mut Text) -> bool {
        out.clear();
        if cx.flooded() {
            self.exhausted = true;
            self.held = None;
            self.frames.clear();
        }
        if let Some((pattern, site)) = self.held.take() {
            self.include(cx, &pattern, site);
        }
        while out.bytes.len() < CHUNK && self.held.is_none() {
            let Some(frame) = self.frames.last_mut() else {
                break;
            };
            match frame {
                Frame::File(file) => {
                    let collecting = self.definitions.is_collecting();
                    match file.plain_lines(out, collecting, &cx.again) {
                        Stop::Full => {}
                        Stop::Known => break,
                        Stop::End => {
                            cx.include_checks = file.checks;
                            self.frames.pop();
                            if !self.frames.iter().any(|f| matches!(f, Frame::File(_))) {
                                self.definitions.end_collecting();
                            }
                        }
                        Stop::Special(from, to) => {
                            let (unit, text) = (file.unit, Arc::clone(&file.text));
                            self.file_line(cx, out, unit, &text, from, to);
                        }
                    }
                }
                Frame::Files(_) => self.open_pending(cx),
                Frame::Rest(_) => {
                    if let Some(Frame::Rest(line)) = self.frames.pop() {
                        self.line(cx, out, line);
                    }
                }
                Frame::Lines(lines) => match lines.next() {
                    Some(line) => self.line(cx, out, line),
                    None => {
                        self.frames.pop();
                    }
                },
                Frame::Repeat(repetition) => {
                    let site = repetition.span;
                    match repetition.next(&mut self.definitions) {
                        Some(line) => {
                            self.line(cx, out, line);
                            // A round may produce no text, and there may be very many.
                            self.account(cx, 0, site);
                        }
                        None => {
                            self.frames.pop();
                        }
                    }
                }
            }
        }
        !(out.is_empty() && self.frames.is_empty() && self.held.is_none())
    }

    /// Whether the text that follows the current chunk begins with an opening brace.
    pub(crate) fn brace_follows(&self) -> bool {
        match self.frames.last() {
            Some(Frame::File(file)) => {
                let rest = file.text.get(file.at..).unwrap_or_default();
                let mut lines = rest.split(|byte| *byte == b'\n');
                let line = lines.find(|line| !is_empty_line(line)).unwrap_or_default();
                line.trim_ascii_start_vt().starts_with(b"{")
            }
            Some(Frame::Rest(line)) => line.bytes.starts_with(b"{"),
            _ => false,
        }
    }

    /// Passes over a block that is known from an earlier read, if the next line of a file begins it: its result and its
    /// place. Only between blocks, after everything before it was read.
    pub(crate) fn known(&mut self, cx: &mut Cx<'_>) -> Option<(Shared<Service>, Span)> {
        let is_busy = self.held.is_some() || self.definitions.is_collecting() || self.exhausted;
        if !is_busy && matches!(self.frames.last(), Some(Frame::Files(_))) {
            let position = core::mem::take(&mut cx.position);
            self.open_pending(cx);
            cx.position = position;
        }
        let Some(Frame::File(file)) = self.frames.last_mut().filter(|_| !is_busy) else {
            return None;
        };
        let mut at = file.at;
        loop {
            let rest = file.text.get(at..)?;
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest.get(..length)?;
            if rest.is_empty() || !is_empty_line(line) {
                break;
            }
            at += length + 1;
        }
        let (service, span, end) = cx.again.take(&file.text, file.unit, at)?;
        file.at = end + 1;
        Some((service, span))
    }

    /// A line of a file that is not just a plain statement.
    fn file_line(
        &mut self,
        cx: &mut Cx<'_>,
        out: &mut Text,
        unit: u32,
        text: &[u8],
        from: usize,
        to: usize,
    ) {
        let Some(from) = self.shorten(cx, unit, text, from, to) else {
            return;
        };
        let raw = text.get(from..to).unwrap_or_default();
        let mut whole = Text::default();
        whole.push_linear(raw, unit, from);
        if raw.contains(&0) {
            cx.report(
                Diagnostic::error(&codes::ZERO_BYTE, "the line contains a zero byte")
                    .at(whole.span(0, raw.len()))
                    .label("this line is ignored"),
            );
            return;
        }
        let line = glue(uncomment(&whole));
        if line.is_empty() {
            let blank = raw.trim_ascii_start_vt().is_empty();
            if blank && self.definitions.is_collecting() {
                self.definitions.end_collecting();
            }
            return;
        }
        self.line(cx, out, line);
    }

    /// Drops the beginning of a line that is too long: returns where the rest begins, or none if nothing is left.
    fn shorten(
        &mut self,
        cx: &mut Cx<'_>,
        unit: u32,
        text: &[u8],
        from: usize,
        to: usize,
    ) -> Option<usize> {
        let mut from = from;
        while to.saturating_sub(from) > LINE {
            let raw = text.get(from..to).unwrap_or_default();
            let head = raw.get(..=LINE).unwrap_or_default();
            let tail_of_comment = strip_comment(head).1 < head.len();
            let mut place = Text::default();
            place.push_linear(head, unit, from);
            cx.report(
                Diagnostic::error(
                    &codes::LINE_TOO_LONG,
                    format!("the line is {} bytes long, the limit is {LINE}", raw.len()),
                )
                .at(place.span(0, head.len()))
                .label(if tail_of_comment {
                    "the line is ignored"
                } else {
                    "the first 1023 bytes are ignored, the rest is read as a line"
                }),
            );
            if tail_of_comment {
                return None;
            }
            from += LINE + 1;
        }
        Some(from)
    }

    /// A line without comments and without blanks at its ends, from any source.
    fn line(&mut self, cx: &mut Cx<'_>, out: &mut Text, line: Text) {
        if self.definitions.is_collecting() {
            self.definitions.collect(line);
            return;
        }
        let mut line = line;
        if line.bytes.first() == Some(&b'@') {
            match condition(&line, &cx.options.config_id) {
                Some(rest) => line = rest,
                None => return,
            }
        }
        if line.bytes.first() == Some(&b'$') && self.definitions.define(cx, &line) {
            return;
        }
        let mut replace = true;
        if line.bytes.first() == Some(&b'~') {
            if repeat::is_head(&line.bytes) {
                if let Some(repetition) = self.repetition(cx, &line) {
                    self.frames.push(Frame::Repeat(repetition));
                }
                return;
            }
            replace = false;
        }
        if replace && memchr::memchr(b'$', &line.bytes).is_some() {
            let site = line.span(0, line.bytes.len());
            let (replaced, further) = self.replace(cx, line);
            // Its cost counts, even if it produces nothing.
            self.account(cx, replaced.bytes.len(), site);
            if self.exhausted {
                return;
            }
            if !further.is_empty() {
                self.frames.push(Frame::Lines(further.into_iter()));
            }
            line = uncomment(&replaced);
        }
        if line.is_empty() {
            return;
        }
        if let Some(at) = pattern_at(&line.bytes) {
            self.held = Some((line.clone(), line.span(0, at)));
            return;
        }
        self.emit(cx, out, line);
    }

    /// Emits a line up to its first brace and keeps the rest for later.
    fn emit(&mut self, cx: &mut Cx<'_>, out: &mut Text, line: Text) {
        let end = line.bytes.len();
        let cut = first_brace(&line.bytes).map_or(end, |at| at + 1);
        out.push_part(&line, 0, cut);
        out.push_end(b'\n');
        self.account(cx, cut, line.span(0, cut));
        let rest = line.trimmed(cut, end);
        if !rest.is_empty() && !self.exhausted {
            self.frames.push(Frame::Rest(rest));
        }
    }

    /// Counts text that a small configuration can multiply.
    fn account(&mut self, cx: &mut Cx<'_>, bytes: usize, site: Span) {
        self.expanded = self.expanded.saturating_add(bytes + LINE_COST);
        if self.expanded > cx.options.limits.expansion && !self.exhausted {
            self.exhausted = true;
            cx.report(
                Diagnostic::error(
                    &codes::LIMIT,
                    format!(
                        "definitions, repetitions and repeated includes make more than {} bytes of text",
                        cx.options.limits.expansion
                    ),
                )
                .at(site)
                .label("reading ends here"),
            );
            self.frames.clear();
        }
    }

    /// Directory and checks of the file being read.
    fn current_file(&self) -> Option<&FileFrame> {
        self.frames.iter().rev().find_map(|f| match f {
            Frame::File(file) => Some(file),
            _ => None,
        })
    }
}

impl FileFrame {
    /// Copies lines as long as they contain only statements and comments.
    fn plain_lines(&mut self, out: &mut Text, collecting: bool, again: &Again) -> Stop {
        while out.bytes.len() < CHUNK {
            let Some(rest) = self.text.get(self.at..).filter(|r| !r.is_empty()) else {
                return Stop::End;
            };
            let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let from = self.at;
            let line = rest.get(..length).unwrap_or_default();
            if !out.is_empty() && !collecting && again.begins(line) {
                return Stop::Known;
            }
            self.at = from + length + 1;
            let kept = match plain(line) {
                Some(kept) if !collecting => kept,
                _ => return Stop::Special(from, from + length),
            };
            if kept == length && rest.len() > length {
                let with_end = rest.get(..=length).unwrap_or_default();
                out.push_linear(with_end, self.unit, from);
            } else if kept > 0 {
                out.push_linear(rest.get(..kept).unwrap_or_default(), self.unit, from);
                out.push_end(b'\n');
            }
        }
        Stop::Full
    }
}

/// The length of a line without its comment, if it is copied as it is.
fn plain(line: &[u8]) -> Option<usize> {
    classify(line).filter(|_| line.len() <= LINE)
}

/// Whether a line is a statement, or its beginning or end, that is copied as it is.
pub(crate) fn is_plain(line: &[u8]) -> bool {
    plain(line).is_some()
}

/// Whether a line is blank, except for a comment.
fn is_empty_line(line: &[u8]) -> bool {
    let kept = plain(line).and_then(|kept| line.get(..kept));
    kept.is_some_and(|kept| kept.trim_ascii_start_vt().is_empty())
}

/// The length of a line without its comment; none if the line needs more processing.
fn classify(line: &[u8]) -> Option<usize> {
    let mut quoted = false;
    // At the beginning of a line, and after a brace: here conditions, definitions and includes are recognised.
    let mut fresh = true;
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            b'"' => {
                quoted = !quoted;
                fresh = false;
            }
            b'#' | b'!' if !quoted => return Some(at),
            b'$' | b'\\' | 0 => return None,
            b'{' | b'}' if !quoted => fresh = true,
            b'@' | b'~' if fresh => return None,
            b'i' if fresh => {
                if line.get(at..).is_some_and(|r| r.starts_with(b"include")) {
                    return None;
                }
                fresh = false;
            }
            _ => fresh &= is_blank(byte),
        }
    }
    Some(line.len())
}

/// Where the comment of a line begins, and positions of backslashes to drop before it.
pub(crate) fn strip_comment(line: &[u8]) -> (Vec<usize>, usize) {
    let mut quoted = false;
    let mut dropped = Vec::new();
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        match byte {
            b'\\' => {
                if !quoted && matches!(line.get(at + 1), Some(b'#' | b'!')) {
                    dropped.push(at);
                }
                at += 1;
            }
            b'"' => quoted = !quoted,
            b'#' | b'!' if !quoted => return (dropped, at),
            _ => {}
        }
        at += 1;
    }
    (dropped, line.len())
}

/// A line without its comment, blanks at its ends and backslashes before comment marks.
fn uncomment(line: &Text) -> Text {
    let (dropped, end) = strip_comment(&line.bytes);
    if dropped.is_empty() {
        return line.trimmed(0, end);
    }
    let mut clean = Text::default();
    let mut from = 0;
    for at in dropped {
        clean.push_part(line, from, at);
        from = at + 1;
    }
    clean.push_part(line, from, end);
    clean.trimmed(0, clean.bytes.len())
}

/// A backslash at the end of a line belongs to the word before it.
fn glue(line: Text) -> Text {
    let Some(rest) = line.bytes.strip_suffix(b"\\") else {
        return line;
    };
    let kept = rest.trim_ascii_end_vt().len();
    if kept == rest.len() {
        return line;
    }
    let mut glued = Text::default();
    glued.push_part(&line, 0, kept);
    glued.push_part(&line, rest.len(), line.bytes.len());
    glued
}

/// The first brace that is not between double quotes.
fn first_brace(line: &[u8]) -> Option<usize> {
    let mut quoted = false;
    line.iter().position(|&b| {
        quoted ^= b == b'"';
        !quoted && matches!(b, b'{' | b'}')
    })
}

/// What remains of a line that begins with `@`: none if it is not for this configuration id.
fn condition(line: &Text, id: &[u8]) -> Option<Text> {
    let word_end = line.bytes.iter().position(|&b| is_blank(b)).unwrap_or(line.bytes.len());
    let word = line.bytes.get(1..word_end).unwrap_or_default();
    let (negated, word) = match word.strip_prefix(b"^") {
        Some(word) => (true, word),
        None => (false, word),
    };
    // An empty id is never equal to the configured one.
    let equal = !word.is_empty() && word == id;
    let rest = line.trimmed(word_end, line.bytes.len());
    (equal != negated && !rest.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests;
