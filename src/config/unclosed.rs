//! Which block lacks its `}`: what is noticed while the text is read, and the report.
//!
//! As keepalived does, the reader takes what follows a missing `}` as lines of the open block, and the next `}` as the
//! end of that one. That a brace is missing is certain only later: at a block that cannot begin there, or at the end of
//! the text. Then the earliest sign counts, and what was reported since follows from it.

use super::codes;
use super::context::Cx;
use super::diagnostic::Diagnostic;
use super::keyword::{Keyword, Table};
use super::secret::mark;
use super::span::{Place, Sources, Span};
use super::text::Trim;

/// Ends a note about text that is not read as it was meant.
pub(crate) const FOLLOWING: &str = "errors that follow from this are not reported";

/// An open block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub keyword: &'static str,
    pub at: Span,
    /// Its keywords; none for a list.
    pub table: Option<&'static Table>,
    /// Its `{` is missing.
    pub bare: bool,
}

/// A word in a block to which it does not belong.
#[derive(Clone, Debug)]
pub(crate) struct Stray {
    pub text: String,
    pub at: Span,
    /// The innermost block there.
    pub open: (&'static str, Span),
    /// The top-level block there.
    within: Span,
    /// Number of problems before it.
    reports: usize,
    /// Number of closed blocks before it.
    closed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    keyword: &'static str,
    at: Span,
    /// The place of its `}`.
    brace: Span,
    /// The block around it.
    around: Span,
    reports: usize,
}

/// Signs of a missing `}` since all braces were closed.
#[derive(Debug, Default)]
pub(crate) struct Signs {
    stray: Option<Stray>,
    closed: Vec<Closed>,
}

impl Signs {
    /// All braces are closed.
    pub(crate) fn clear(&mut self) {
        self.stray = None;
        self.closed.clear();
    }

    /// A block ended at `brace`.
    pub(crate) fn closed(&mut self, block: Open, brace: Span, around: Option<&Open>, cx: &Cx<'_>) {
        if let Some(around) = around {
            let (keyword, at, around) = (block.keyword, block.at, around.at);
            self.closed.push(Closed { keyword, at, brace, around, reports: cx.reports.len() });
        }
    }

    /// A word that a block around `open` knows, and `open` does not.
    pub(crate) fn stray(&self, text: &[u8], at: Span, open: Open, cx: &Cx<'_>) -> Stray {
        Stray {
            text: mark::text(&String::from_utf8_lossy(text), at),
            at,
            open: (open.keyword, open.at),
            within: cx.position.within,
            reports: cx.reports.len(),
            closed: self.closed.len(),
        }
    }

    /// Notes a word that may be where it is.
    pub(crate) fn note(&mut self, stray: Stray) {
        self.stray.get_or_insert(stray);
    }

    /// A `}` is missing, at the latest before `last`: reports the earliest sign of it, and hides what was reported
    /// since then. False if there is no sign.
    pub(crate) fn report(&mut self, last: Option<Stray>, cx: &mut Cx<'_>) -> bool {
        let stray = self.stray.take().or(last);
        let before = stray.as_ref().map_or(self.closed.len(), |stray| stray.closed);
        let closed = core::mem::take(&mut self.closed);
        let begin = stray.as_ref().map_or(Span::NONE, |stray| stray.within);
        let (new, since) =
            match (closed.iter().take(before).find(|c| c.by_another(&cx.sources)), stray) {
                (Some(closed), _) => {
                    let new = missing("}", closed.keyword)
                        .at(closed.brace)
                        .label("by its indentation, this '}' ends a block around it")
                        .related(closed.at, "block opened here");
                    (new, closed.reports)
                }
                (None, Some(stray)) => {
                    let (open, at) = stray.open;
                    let new = missing(&stray.text, open)
                    .at(stray.at)
                    .label(format!("'{}' is not allowed in '{open}'", stray.text))
                    .related(at, "block opened here")
                    .help(format!(
                        "close '{open}', or a block within it whose '}}' closed '{open}' instead"
                    ));
                    (new, stray.reports)
                }
                (None, None) => return false,
            };
        let new = new.class(cx.hide_since(since));
        cx.lose_track_from(if begin.is_some() { begin } else { new.span });
        cx.report(new.note(FOLLOWING));
        true
    }
}

fn missing(before: &str, open: &str) -> Diagnostic {
    let message = format!("missing '}}' before '{before}': block '{open}' is still open");
    Diagnostic::error(&codes::MISSING_CLOSE, message)
}

impl Closed {
    /// Whether its `}` stands where that of the block around it is expected.
    fn by_another(&self, sources: &Sources) -> bool {
        let place = |span| sources.place(span);
        let (Some(open), Some(brace), Some(around)) =
            (place(self.at), place(self.brace), place(self.around))
        else {
            return false;
        };
        let before = brace.text.get(..brace.start).unwrap_or_default();
        before.trim_ascii_start_vt().is_empty()
            && before == margin(&around)
            && margin(&open).len() > before.len()
            && margin(&open).starts_with(before)
    }
}

/// The blanks at the beginning of a line.
fn margin<'a>(place: &Place<'a>) -> &'a [u8] {
    let rest = place.text.trim_ascii_start_vt();
    place.text.get(..place.text.len() - rest.len()).unwrap_or_default()
}

/// The keyword of a block around the innermost one, or outside all blocks.
pub(crate) fn keyword_around(
    blocks: &[Open],
    root: &'static Table,
    word: &[u8],
) -> Option<&'static Keyword> {
    let (_, around) = blocks.split_last()?;
    let tables = around.iter().rev().filter_map(|open| open.table).chain([root]);
    tables.into_iter().find_map(|table| table.keywords.get(table.find(word)?.0))
}
