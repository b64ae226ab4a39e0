//! Iterates over the text of a configuration: statements and braces, with keepalived's recovery after a misplaced
//! brace.
//!
//! The meaning of a brace depends on whether the keyword opens a block, so the tables guide the reader: an opening
//! brace after any other keyword is reported and ignored, and the next closing brace ends the block around it.

use std::collections::BTreeSet;

use super::codes;
use super::context::Cx;
use super::diagnostic::Diagnostic;
use super::expand::Expander;
use super::keyword::{Shape, Table};
use super::parse::{Token, tokens};
use super::secret::mark;
use super::span::{Span, u32_of};
use super::text::{Text, Trim, is_blank};
use super::unclosed::{FOLLOWING, Open, Signs, keyword_around};
use super::words::{Range, Statement, split};
use crate::model::{Service, Shared};

/// The next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A statement: from, to within the chunk.
    Line(u32, u32),
    Open(u32),
    Close(u32),
    End,
}

/// Reads statements and braces, chunk by chunk.
pub(crate) struct Reader {
    expander: Expander,
    chunk: Text,
    tokens: Vec<Token>,
    next: usize,
    /// The rest of the current text token.
    text: (u32, u32),
    /// A piece that was pushed back.
    back: Option<Piece>,
    words: Vec<Range>,
    /// The open blocks.
    blocks: Vec<Open>,
    /// What speaks for a missing `}`.
    signs: Signs,
    /// Number of opening minus closing braces.
    balance: i64,
    /// The last misplaced `{` or `}`, to explain its consequences.
    misplaced: Option<Span>,
    ended: bool,
    astray: Astray,
    /// An open block was already reported.
    unclosed: bool,
    /// Names in braces that are not defined and were reported.
    undefined: BTreeSet<String>,
    /// The end of the last `}` of text that is not read as it was meant.
    last: Span,
}

/// Whether the braces still have their intended meaning: after an unknown word with a block they do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Astray {
    No,
    /// The brace of the unknown word comes next.
    Opening,
    /// Until all braces are closed.
    Inside,
    /// Until the innermost block ends, whose `{` is missing.
    Bare,
}

impl Reader {
    pub(crate) fn new(expander: Expander) -> Self {
        Self {
            expander,
            chunk: Text::default(),
            tokens: Vec::new(),
            next: 0,
            text: (0, 0),
            back: None,
            words: Vec::new(),
            blocks: Vec::new(),
            signs: Signs::default(),
            balance: 0,
            misplaced: None,
            ended: false,
            astray: Astray::No,
            unclosed: false,
            undefined: BTreeSet::new(),
            last: Span::NONE,
        }
    }

    /// Whether a block follows the last statement.
    pub(crate) fn block_follows(&self) -> bool {
        let (from, to) = self.text;
        let rest = self.chunk.bytes.get(from as usize..to as usize).unwrap_or_default();
        rest.trim_ascii_start_vt().is_empty()
            && match self.tokens.get(self.next) {
                Some(token) => matches!(token, Token::Open(_)),
                // Where a chunk ends must make no difference.
                None => self.expander.brace_follows(),
            }
    }

    /// An unknown word opens a block: keepalived takes its lines as those of the enclosing block, and its `}` as the
    /// end of that one. Consequences of it until all braces are closed are not reported.
    pub(crate) fn go_astray(&mut self, cx: &mut Cx<'_>, at: Span) {
        if self.astray == Astray::No {
            self.astray = Astray::Opening;
            cx.lose_track(at);
        }
    }

    /// Reports `${NAME}` with a name that is not defined at the end of the statement between two offsets of the chunk:
    /// keepalived takes its braces as those of a block.
    pub(crate) fn undefined(&mut self, cx: &mut Cx<'_>, from: u32, to: u32) {
        let bytes = &self.chunk.bytes;
        let statement = bytes.get(from as usize..to as usize).unwrap_or_default();
        if cx.options.consequences || !statement.ends_with(b"$") {
            return;
        }
        let Some(&Token::Open(open)) = self.tokens.get(self.next).filter(|_| self.block_follows())
        else {
            return;
        };
        // Behind the brace the text is cut: the rest is the next line.
        let rest = bytes.get(open as usize + 1..).unwrap_or_default().trim_ascii_start_vt();
        let of_name = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
        let name = rest.get(..rest.iter().take_while(of_name).count()).unwrap_or_default();
        if open != to || name.is_empty() || rest.get(name.len()) != Some(&b'}') {
            return;
        }
        let mut at = self.chunk.span(to as usize - 1, to as usize);
        at.len = at.len.max(u32_of(name.len()) + 3);
        let name = String::from_utf8_lossy(name).into_owned();
        // It does not follow from an earlier error either, but once is enough then.
        let is_new = self.undefined.insert(name.clone());
        if is_new || self.astray == Astray::No {
            let name = mark::text(&name, at);
            let new = Diagnostic::error(&codes::UNDEFINED, format!("'{name}' is not defined"))
                .at(at)
                .label("its braces are read as those of a block")
                .help(format!("define it before this line with ${name}=value"));
            cx.report(if self.astray == Astray::No { new.note(FOLLOWING) } else { new });
        }
        self.go_astray(cx, at);
    }

    /// Whether unknown words and misplaced braces are only consequences of a reported error.
    pub(crate) fn is_astray(&self) -> bool {
        self.astray != Astray::No
    }

    /// A word that the innermost block does not know, or a line of a list begins with: if a block around it knows the
    /// word, its `}` may be missing. It is if the word opens a block: true if that was reported.
    pub(crate) fn may_be_unclosed(
        &mut self,
        cx: &mut Cx<'_>,
        word: &[u8],
        at: Span,
        opens: bool,
    ) -> bool {
        if self.is_astray() || self.unclosed || cx.options.consequences {
            return false;
        }
        let known = keyword_around(&self.blocks, cx.vocabulary, word);
        let (Some(keyword), Some(&open)) = (known, self.blocks.last()) else {
            return false;
        };
        let is_block =
            matches!((keyword.shape)(), Shape::Block(..) | Shape::Lines(_) | Shape::List(_));
        if is_block != opens {
            return false;
        }
        if opens && open.bare {
            // keepalived ignores this `{` too, and its `}` ends the block: the braces are in order behind it.
            self.balance -= 1;
            self.astray = Astray::Bare;
            cx.lose_track(at);
            return true;
        }
        let stray = self.signs.stray(word, at, open, cx);
        if !opens {
            self.signs.note(stray);
            return false;
        }
        self.signs.report(Some(stray), cx);
        self.unclosed = true;
        self.astray = Astray::Opening;
        true
    }

    /// Looks for a missing `}` before a line of a list.
    pub(crate) fn line_of_list(&mut self, cx: &mut Cx<'_>, from: u32, to: u32) {
        let bytes = self.chunk.bytes.get(from as usize..to as usize).unwrap_or_default();
        // Nearly always an address or a name.
        if !bytes.first().is_some_and(u8::is_ascii_alphabetic) {
            return;
        }
        let end = bytes.iter().position(|b| is_blank(*b)).unwrap_or(bytes.len());
        let word = bytes.get(..end).unwrap_or_default();
        if self.astray == Astray::No && keyword_around(&self.blocks, cx.vocabulary, word).is_none()
        {
            return;
        }
        let (opens, word) = (self.block_follows(), word.to_vec());
        let at = self.chunk.span(from as usize, from as usize + end);
        self.may_be_unclosed(cx, &word, at, opens);
        if opens && self.is_astray() {
            self.lose_name(cx, from, to);
        }
    }

    /// The block of a statement is not read as it was meant: references to its name follow from that.
    pub(crate) fn lose_name(&mut self, cx: &mut Cx<'_>, from: u32, to: u32) {
        let bytes = self.chunk.bytes.get(from as usize..to as usize).unwrap_or_default();
        split(bytes, from, &mut self.words);
        let statement = Statement::new(&self.chunk, &self.words, from, to);
        if let Some(name) = statement.word(1) {
            cx.lost_names.insert(name.bytes.into());
        }
    }

    /// The next statement or brace.
    pub(crate) fn next(&mut self, cx: &mut Cx<'_>) -> Piece {
        if let Some(piece) = self.back.take() {
            return piece;
        }
        if self.astray == Astray::Inside && self.balance <= 0 {
            self.astray = Astray::No;
            self.unclosed = false;
            cx.found_back(self.last);
        }
        loop {
            while self.text.0 < self.text.1 {
                let (from, to) = self.text;
                let bytes = self.chunk.bytes.get(from as usize..to as usize).unwrap_or_default();
                let length = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
                self.text.0 = from.saturating_add(u32_of(length) + 1);
                let line = bytes.get(..length).unwrap_or_default();
                let start = line.trim_ascii_start_vt();
                let kept = start.trim_ascii_end_vt();
                if !kept.is_empty() {
                    let from = from + u32_of(line.len() - start.len());
                    return Piece::Line(from, from + u32_of(kept.len()));
                }
            }
            let Some(&token) = self.tokens.get(self.next) else {
                if self.ended {
                    let open = self.balance > 0 && !self.unclosed && !self.is_astray();
                    if open && !cx.options.consequences {
                        self.unclosed = self.signs.report(None, cx);
                    }
                    cx.found_back(Span::NONE);
                    return Piece::End;
                }
                // The expansion is ahead of the reader: its problems do not belong to the current block.
                let position = core::mem::take(&mut cx.position);
                self.ended = !self.expander.fill(cx, &mut self.chunk);
                cx.position = position;
                tokens(&self.chunk, &mut self.tokens);
                self.next = 0;
                self.text = (0, 0);
                continue;
            };
            self.next += 1;
            match token {
                Token::Text(from, to) => self.text = (from, to),
                Token::Open(at) => {
                    self.balance += 1;
                    if self.astray == Astray::Opening {
                        self.astray = Astray::Inside;
                    }
                    return Piece::Open(at);
                }
                Token::Close(at) => {
                    self.balance -= 1;
                    if self.balance <= 0 {
                        self.signs.clear();
                    }
                    if self.astray != Astray::No {
                        self.last = self.chunk.span(at as usize + 1, at as usize + 1);
                    }
                    return Piece::Close(at);
                }
            }
        }
    }

    /// Whether the reader stands between blocks and all braces have their intended meaning.
    pub(crate) fn is_between(&self) -> bool {
        self.blocks.is_empty()
            && self.back.is_none()
            && self.balance == 0
            && self.misplaced.is_none()
            && self.astray == Astray::No
            && !self.unclosed
    }

    /// Passes over a block that is known from an earlier read, if it comes next: its result and its place.
    pub(crate) fn known(&mut self, cx: &mut Cx<'_>) -> Option<(Shared<Service>, Span)> {
        if self.ended || !self.is_between() {
            return None;
        }
        loop {
            let (from, to) = self.text;
            let rest = self.chunk.bytes.get(from as usize..to as usize).unwrap_or_default();
            if !rest.trim_ascii_start_vt().is_empty() {
                return None;
            }
            match self.tokens.get(self.next) {
                Some(Token::Text(from, to)) => self.text = (*from, *to),
                Some(_) => return None,
                None => break,
            }
            self.next += 1;
        }
        self.expander.known(cx)
    }

    /// The statement between two offsets of the chunk, split into words. Reports an unclosed quote.
    pub(crate) fn statement(&mut self, cx: &mut Cx<'_>, from: u32, to: u32) -> Statement<'_> {
        let bytes = self.chunk.bytes.get(from as usize..to as usize).unwrap_or_default();
        if let Some(open) = split(bytes, from, &mut self.words) {
            let open = from as usize + open;
            cx.report(
                Diagnostic::error(&codes::MISSING_QUOTE, "missing closing quote")
                    .at(self.chunk.span(open, open + 1))
                    .label("this quote is not closed on its line; the words before it are used"),
            );
        }
        Statement::new(&self.chunk, &self.words, from, to)
    }

    /// The place of a brace.
    pub(crate) fn brace(&self, at: u32) -> Span {
        self.chunk.span(at as usize, at as usize + 1)
    }

    /// Reads the `{` of a block whose keyword is at `at`. A missing one is reported, and the block begins nevertheless.
    pub(crate) fn enter(
        &mut self,
        cx: &mut Cx<'_>,
        keyword: &'static str,
        table: Option<&'static Table>,
        at: Span,
    ) {
        let mut bare = false;
        match self.next(cx) {
            Piece::Open(_) => {}
            piece => {
                bare = true;
                let here = match piece {
                    Piece::Line(from, to) => self.chunk.span(from as usize, to as usize),
                    Piece::Close(at) => self.brace(at),
                    _ => at,
                };
                cx.report(
                    Diagnostic::error(
                        &codes::MISSING_OPEN,
                        format!("missing '{{' at the beginning of block '{keyword}'"),
                    )
                    .at(here)
                    .label("expected '{' before this")
                    .related(at, "the block begins here"),
                );
                self.back = Some(piece);
                // Its `}` will come.
                self.balance += 1;
            }
        }
        self.blocks.push(Open { keyword, at, table, bare });
    }

    /// Ends a block at its `}`, or at the end of the text.
    pub(crate) fn leave(&mut self, cx: &mut Cx<'_>, piece: Piece) {
        match piece {
            Piece::End if self.unclosed => self.blocks.clear(),
            Piece::End if !self.blocks.is_empty() => {
                let mut open = self.blocks.iter().rev();
                let (keyword, at) = open.next().map_or(("", Span::NONE), |o| (o.keyword, o.at));
                let mut new = Diagnostic::error(
                    &codes::MISSING_CLOSE,
                    format!("missing '}}': block '{keyword}' is not closed"),
                )
                .at(at)
                .label("no matching '}'");
                for Open { keyword, at, .. } in open {
                    new = new.related(*at, format!("block '{keyword}' is open as well"));
                }
                if let Some(span) = self.misplaced {
                    new = new.related(span, "this brace was ignored");
                }
                cx.report(new);
                self.blocks.clear();
            }
            _ => {}
        }
        let block = self.blocks.pop();
        if self.astray == Astray::Bare && block.is_some_and(|block| block.bare) {
            self.astray = Astray::No;
            cx.found_back(self.last);
        }
        if let (Some(block), Piece::Close(at)) = (block, piece)
            && self.balance > 0
        {
            let brace = self.brace(at);
            self.signs.closed(block, brace, self.blocks.last(), cx);
        }
    }

    /// Reports a `{` that opens nothing.
    pub(crate) fn unexpected_open(&mut self, cx: &mut Cx<'_>, at: u32) {
        let span = self.brace(at);
        self.misplaced = Some(span);
        if self.is_astray() {
            return;
        }
        let mut new = Diagnostic::error(&codes::UNEXPECTED_OPEN, "unexpected '{', ignored")
            .at(span)
            .label("no block can begin here");
        // `${NAME}` with an unknown name is split at its braces.
        let before = self.chunk.bytes.get(..at as usize).unwrap_or_default();
        if before.ends_with(b"$") {
            let rest = self.chunk.bytes.get(at as usize + 1..).unwrap_or_default();
            let name: Vec<u8> = rest
                .trim_ascii_start_vt()
                .iter()
                .copied()
                .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
                .collect();
            let name = mark::text(&String::from_utf8_lossy(&name), span);
            new = new.help(format!(
                "'{name}' is not defined before this line; define it with ${name}=value"
            ));
        } else if let Some(Open { keyword, .. }) = self.blocks.last() {
            new = new.note(format!("the next '}}' ends block '{keyword}'"));
        }
        cx.report(new);
    }

    /// Reports a `}` outside all blocks.
    pub(crate) fn unexpected_close(&mut self, cx: &mut Cx<'_>, at: u32) {
        if self.is_astray() {
            self.balance = self.balance.max(0);
            return;
        }
        let mut new = Diagnostic::error(&codes::UNEXPECTED_CLOSE, "unexpected '}', ignored")
            .at(self.brace(at))
            .label("no block is open here");
        if let Some(span) = self.misplaced {
            new = new.related(span, "the '{' that was ignored here may explain it");
        }
        self.balance = self.balance.max(0);
        cx.report(new);
    }

    /// Reads and discards a block, including nested blocks, without reports.
    pub(crate) fn skip(&mut self, cx: &mut Cx<'_>, keyword: &'static str, at: Span) {
        match self.next(cx) {
            Piece::Open(_) => self.skip_rest(cx, keyword, at),
            piece => self.back = Some(piece),
        }
    }

    fn skip_rest(&mut self, cx: &mut Cx<'_>, keyword: &'static str, at: Span) {
        self.blocks.push(Open { keyword, at, table: None, bare: false });
        self.abandon(cx);
    }

    /// Reads and discards the rest of an entered block.
    pub(crate) fn abandon(&mut self, cx: &mut Cx<'_>) {
        let mut depth = 1_u32;
        loop {
            match self.next(cx) {
                Piece::Open(_) => depth += 1,
                Piece::Close(_) if depth > 1 => depth -= 1,
                piece @ (Piece::Close(_) | Piece::End) => return self.leave(cx, piece),
                Piece::Line(..) => {}
            }
        }
    }

    /// Reads the lines of a list block: `each` gets every line. Returns where the block ends.
    pub(crate) fn lines(
        &mut self,
        cx: &mut Cx<'_>,
        keyword: &'static str,
        at: Span,
        mut each: impl FnMut(&Statement<'_>, &mut Cx<'_>),
    ) -> Span {
        self.enter(cx, keyword, None, at);
        loop {
            match self.next(cx) {
                Piece::Line(from, to) => {
                    self.undefined(cx, from, to);
                    self.line_of_list(cx, from, to);
                    let statement = self.statement(cx, from, to);
                    if statement.len() > 0 {
                        each(&statement, cx);
                    }
                }
                Piece::Open(at) => self.unexpected_open(cx, at),
                piece => {
                    let end = match piece {
                        Piece::Close(at) => self.brace(at),
                        _ => at,
                    };
                    self.leave(cx, piece);
                    return end;
                }
            }
        }
    }
}
