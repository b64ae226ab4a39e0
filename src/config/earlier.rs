//! Virtual servers of an earlier read, for a read of the same files after a change.
//!
//! A configuration that takes long to read consists of `virtual_server` blocks, of which a reload changes few. The
//! result of such a block is used again if the block stands there unchanged, byte for byte, and depends on nothing but
//! its text and `global_defs`. Everything else is read as always, so the result is that of a full read: the model and
//! every diagnostic. A block does not qualify if reading it
//!
//! - reported anything, or used a keyword that is counted for the end;
//! - asked the machine or used another block (scripts, tracked files, BFD, interfaces, groups);
//! - met a line that the expansion has to look at (definitions, conditions, includes, repetitions);
//! - began or ended within a line, or among misplaced braces.
//!
//! If `global_defs` says something else than in the earlier read, or comes after a block that uses it, no result is
//! used. `resolve` and the expansion call this module; it reads nothing itself.

use core::hash::Hasher as _;
use std::cell::Cell;
use std::hash::DefaultHasher;
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;

use super::span::{Span, u32_of};
use crate::model::{Service, Shared};

/// The beginning of the first line of a block.
const KEYWORD: &[u8] = b"virtual_server";

/// Results of a read that the next one may use.
#[derive(Debug, Default)]
pub struct Earlier {
    /// `global_defs` as text.
    global: Vec<u8>,
    /// In the order of the text.
    blocks: Vec<Block>,
    /// Blocks by their first line.
    by_line: IndexMap<u64, u32>,
}

/// A block and its result.
#[derive(Debug)]
struct Block {
    spot: Spot,
    service: Shared<Service>,
}

/// Where a block stands.
#[derive(Clone, Debug)]
struct Spot {
    /// The text of the file.
    text: Arc<Vec<u8>>,
    /// The block in it, in whole lines without the last line feed.
    from: u32,
    to: u32,
    /// What is marked in it if the service as a whole is meant, from `from` on.
    mark: u32,
    mark_len: u32,
}

impl Spot {
    fn text(&self) -> &[u8] {
        self.text.get(self.from as usize..self.to as usize).unwrap_or_default()
    }

    /// Whether the same block begins in `text` at `at`.
    fn is_at(&self, text: &[u8], at: usize) -> bool {
        let own = self.text();
        let rest = text.get(at..).unwrap_or_default();
        rest.starts_with(own) && matches!(rest.get(own.len()), None | Some(b'\n'))
    }
}

impl Earlier {
    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Number of blocks whose results may be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }
}

/// The use of earlier results in a read.
#[derive(Debug, Default)]
pub(crate) struct Again {
    /// Results are used and recorded.
    active: bool,
    earlier: Earlier,
    /// The block that is expected next.
    next: usize,
    /// `global_defs` as text, as far as they are read; none after they changed.
    global: Option<Vec<u8>>,
    /// They are those of the earlier read.
    fits: bool,
    /// The blocks of this read for the next one.
    blocks: Vec<Block>,
    /// Something outside the current block was used.
    touched: Rc<Cell<bool>>,
}

impl Again {
    pub(crate) fn new(earlier: Earlier, active: bool) -> Self {
        Self { active, earlier, ..Self::default() }
    }

    /// What records that something outside a block is used.
    pub(crate) fn touch(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.touched)
    }

    /// The result of the current block depends on more than its text and `global_defs`.
    pub(crate) fn depends(&self) {
        self.touched.set(true);
    }

    pub(crate) const fn is_active(&self) -> bool {
        self.active
    }

    /// Nothing is used or recorded from now on.
    pub(crate) fn end(&mut self) {
        self.active = false;
        self.blocks.clear();
    }

    /// Whether `global_defs` must be passed to [`Self::settle`] before the next block is read.
    pub(crate) const fn is_unsettled(&self) -> bool {
        self.global.is_none()
    }

    /// `global_defs`, as text, before a block is read.
    pub(crate) fn settle(&mut self, global: Vec<u8>) {
        self.fits = global == self.earlier.global;
        self.global = Some(global);
    }

    /// `global_defs` changes.
    pub(crate) fn unsettle(&mut self) {
        self.global = None;
    }

    /// Whether a line may be the first one of a known block.
    pub(crate) fn begins(&self, line: &[u8]) -> bool {
        self.active
            && !self.earlier.blocks.is_empty()
            && line.trim_ascii_start().starts_with(KEYWORD)
            && self.earlier.by_line.contains_key(&digest(line))
    }

    /// The known block that stands in `text` at `at`, where a line begins.
    fn find(&self, text: &[u8], at: usize) -> Option<usize> {
        let blocks = &self.earlier.blocks;
        let is_it = |index: &usize| blocks.get(*index).is_some_and(|b| b.spot.is_at(text, at));
        if is_it(&self.next) {
            return Some(self.next);
        }
        let rest = text.get(at..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let index = self.earlier.by_line.get(&digest(rest.get(..length)?))?;
        Some(*index as usize).filter(is_it)
    }

    /// The result of the block that stands at `at` of the file of `unit`, the place of its first statement, and the
    /// offset behind it; none if it is not known.
    pub(crate) fn take(
        &mut self,
        text: &Arc<Vec<u8>>,
        unit: u32,
        at: usize,
    ) -> Option<(Shared<Service>, Span, usize)> {
        let index = self.find(text, at).filter(|_| self.fits)?;
        let Block { spot, service } = self.earlier.blocks.get(index)?;
        self.next = index + 1;
        let from = u32_of(at);
        let to = from + (spot.to - spot.from);
        let spot = Spot { text: Arc::clone(text), from, to, ..*spot };
        let span = Span { unit, start: from + spot.mark, len: spot.mark_len };
        let service = service.clone();
        self.blocks.push(Block { spot, service: service.clone() });
        Some((service, span, to as usize))
    }

    /// A block begins: what it depends on is watched.
    pub(crate) fn begin(&self) {
        self.touched.set(false);
    }

    /// Whether the block that began depended on its text and `global_defs` only.
    pub(crate) fn is_pure(&self) -> bool {
        self.active && !self.touched.get()
    }

    /// A block was read with this result: `first` is its first statement, `last` its closing brace, `text` the text of
    /// its file. `is_plain` tells whether a line is copied as it is.
    pub(crate) fn note(
        &mut self,
        text: &Arc<Vec<u8>>,
        (first, last): (Span, Span),
        service: &Shared<Service>,
        is_plain: impl Fn(&[u8]) -> bool,
    ) {
        let (start, end) = (first.start as usize, last.start as usize);
        if first.unit != last.unit || last.len != 1 || end < start {
            return;
        }
        let before = text.get(..start).unwrap_or_default();
        let from = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let rest = text.get(end..).unwrap_or_default();
        let to = end + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let blank = |range| {
            let text: &[u8] = text.get(range).unwrap_or_default();
            text.trim_ascii_start().is_empty()
        };
        let tail = text.get(end + 1..to).unwrap_or_default().trim_ascii_start();
        let ends = matches!(tail.first(), None | Some(b'#' | b'!'));
        let body = text.get(from..to).unwrap_or_default();
        if blank(from..start) && ends && body.split(|b| *b == b'\n').all(is_plain) {
            let spot = Spot {
                text: Arc::clone(text),
                from: u32_of(from),
                to: u32_of(to),
                mark: u32_of(start - from),
                mark_len: first.len,
            };
            self.blocks.push(Block { spot, service: service.clone() });
        }
    }

    /// What the next read needs.
    pub(crate) fn finish(self) -> Earlier {
        let mut by_line = IndexMap::with_capacity(self.blocks.len());
        for (index, block) in (0_u32..).zip(&self.blocks) {
            let own = block.spot.text();
            let length = memchr::memchr(b'\n', own).unwrap_or(own.len());
            let line = digest(own.get(..length).unwrap_or_default());
            by_line.entry(line).or_insert(index);
        }
        Earlier { global: self.global.unwrap_or_default(), blocks: self.blocks, by_line }
    }
}

fn digest(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(line);
    hasher.finish()
}
