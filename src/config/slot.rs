//! How often a keyword may occur in its block, and which occurrence counts.

use super::codes;
use super::context::Cx;
use super::diagnostic::Diagnostic;
use super::document::Node;
use super::keyword::walk;
use super::reader::Reader;
use super::schema::{
    Args, Block, Keyword, Next, Shape, Single, Slot, Times, Value, Words, read_block,
};
use super::span::{Span, Spanned};
use super::words::Statement;

/// One value; the last one counts.
#[derive(Debug)]
pub(crate) struct One<T>(pub Option<Spanned<T>>);

/// One value; the first one counts and others are reported.
#[derive(Debug)]
pub(crate) struct First<T>(pub Option<Spanned<T>>);

/// One value; the last one counts, and the overwriting is reported.
#[derive(Debug)]
pub(crate) struct Over<T>(pub Option<Spanned<T>>);

/// A value from each statement.
#[derive(Debug)]
pub(crate) struct Many<T>(pub Vec<Spanned<T>>);

/// A block of words. Several blocks add up.
#[derive(Debug)]
pub(crate) struct List<T> {
    pub items: Vec<Spanned<T>>,
    at: Span,
}

/// A block of words that may occur once.
#[derive(Debug)]
pub(crate) struct OneList<T> {
    pub items: Vec<Spanned<T>>,
    pub at: Span,
}

/// A block of lines. Several blocks add up.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    pub items: Vec<Spanned<T>>,
    pub at: Span,
}

/// A block with keywords of its own. Several blocks add up.
#[derive(Debug)]
pub(crate) struct Sub<B>(pub Option<Box<B>>);

/// Blocks with keywords of their own.
#[derive(Debug)]
pub(crate) struct Subs<B>(pub Vec<B>);

impl<T> One<T> {
    pub(crate) fn value(&self) -> Option<&T> {
        self.0.as_ref().map(|s| &s.value)
    }

    pub(crate) fn span(&self) -> Span {
        self.0.as_ref().map_or(Span::NONE, |s| s.span)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Forgets the value.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

impl<T> First<T> {
    pub(crate) fn value(&self) -> Option<&T> {
        self.0.as_ref().map(|s| &s.value)
    }

    pub(crate) fn span(&self) -> Span {
        self.0.as_ref().map_or(Span::NONE, |s| s.span)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

impl<T> Over<T> {
    pub(crate) fn value(&self) -> Option<&T> {
        self.0.as_ref().map(|s| &s.value)
    }

    pub(crate) fn span(&self) -> Span {
        self.0.as_ref().map_or(Span::NONE, |s| s.span)
    }
}

macro_rules! single {
    ($($slot:ident)*) => {
        $(impl<T: Value + Clone> Single for $slot<T> {
            type Value = T;

            fn given(&self) -> Option<T> {
                self.value().cloned()
            }

            fn words(value: &T, out: &mut Words) {
                value.words(out);
            }
        })*
    };
}

single! { One First Over }

impl<T: Value + Clone> Single for Many<T> {
    type Value = Vec<T>;

    fn given(&self) -> Option<Vec<T>> {
        (!self.0.is_empty()).then(|| self.0.iter().map(|v| v.value.clone()).collect())
    }

    fn words(value: &Vec<T>, out: &mut Words) {
        for one in value {
            one.words(out);
        }
    }
}

macro_rules! defaults {
    ($($slot:ident { $($init:tt)* })*) => {
        $(impl<T> Default for $slot<T> {
            fn default() -> Self {
                Self $($init)*
            }
        })*
    };
}

defaults! {
    One { (None) }
    First { (None) }
    Over { (None) }
    Many { (Vec::new()) }
    List { { items: Vec::new(), at: Span::NONE } }
    OneList { { items: Vec::new(), at: Span::NONE } }
    Lines { { items: Vec::new(), at: Span::NONE } }
    Sub { (None) }
    Subs { (Vec::new()) }
}

/// Reads the value of a statement.
fn value<T: Value>(
    keyword: &'static Keyword,
    statement: &Statement<'_>,
    cx: &mut Cx<'_>,
) -> Option<Spanned<T>> {
    let mut args = Args::of(keyword, statement);
    let value = T::read(&mut args, cx);
    cx.refused = value.is_none();
    let value = value?;
    extra(&args, cx);
    Some(Spanned::new(value, args.span()))
}

/// Superfluous words, which keepalived does not report.
fn extra(args: &Args<'_>, cx: &mut Cx<'_>) {
    if !(cx.options.lints || cx.options.strict) {
        return;
    }
    if let Some(word) = args.rest() {
        let keyword = args.keyword;
        let message = format!(
            "'{}' is ignored: '{}' takes {}",
            word.shown(),
            keyword.name,
            (keyword.shape)().expected()
        );
        let mut new = if cx.options.strict {
            Diagnostic::error(&codes::EXTRA_WORDS, message).class(super::diagnostic::Class::Quiet)
        } else {
            Diagnostic::advice(&codes::EXTRA_WORDS, message)
        }
        .at(word.span());
        if matches!((keyword.shape)(), Shape::Flag)
            && matches!(word.bytes, b"false" | b"off" | b"no")
        {
            new = new.help(format!(
                "'{}' is on, whatever follows it; remove the line to switch it off",
                keyword.name
            ));
        }
        // Another statement on the same line.
        let mut is_keyword = false;
        walk(cx.vocabulary, &mut |table| {
            is_keyword |= table.name == cx.position.block && table.find(word.bytes).is_some();
        });
        if is_keyword {
            new = new.help(format!("one statement a line: write '{}' on a new line", word.shown()));
        }
        cx.report(new);
    }
}

/// One statement for a value.
fn node<T: Value>(keyword: &'static Keyword, value: &T) -> Node {
    let mut words = Words::default();
    value.words(&mut words);
    Node::statement(keyword, words.0)
}

impl<T: Value> Slot for One<T> {
    const TIMES: Times = Times::Last;

    fn shape() -> Shape {
        T::shape()
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        if let Some(value) = value(keyword, statement, cx) {
            if let Some(first) = &self.0
                && cx.options.lints
            {
                repeated(keyword, first, &value, cx);
            }
            self.0 = Some(value);
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(self.0.iter().map(|v| node(keyword, &v.value)));
    }
}

/// Reports that a value replaces another one.
fn repeated<T: Value>(
    keyword: &'static Keyword,
    first: &Spanned<T>,
    last: &Spanned<T>,
    cx: &mut Cx<'_>,
) {
    let words = |value: &T| {
        let mut words = Words::default();
        value.words(&mut words);
        words.0
    };
    if words(&first.value) == words(&last.value) {
        return;
    }
    let message = format!("'{}' is set twice, the last value is used", keyword.name);
    let new = Diagnostic::advice(&codes::REPEATED, message).at(last.span);
    cx.report(new.related(first.span, "this value is not used"));
}

impl<T: Value> Slot for First<T> {
    const TIMES: Times = Times::First;

    fn shape() -> Shape {
        T::shape()
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        match &self.0 {
            Some(first) => set_twice(keyword, statement.span(), first.span, cx),
            None => self.0 = value(keyword, statement, cx),
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(self.0.iter().map(|v| node(keyword, &v.value)));
    }
}

fn set_twice(keyword: &Keyword, at: Span, first: Span, cx: &mut Cx<'_>) {
    cx.report(
        Diagnostic::error(
            &codes::SET_TWICE,
            format!("'{}' is already set, this one is ignored", keyword.name),
        )
        .at(at)
        .related(first, "this one is used"),
    );
}

impl<T: Value> Slot for Over<T> {
    const TIMES: Times = Times::Last;

    fn shape() -> Shape {
        T::shape()
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        if let Some(value) = value(keyword, statement, cx) {
            if let Some(first) = &self.0 {
                let message = format!("'{}' overwrites an earlier setting", keyword.name);
                let new = Diagnostic::warning(&codes::OVERWRITTEN, message).at(value.span);
                cx.report(new.related(first.span, "this one is not used"));
            }
            self.0 = Some(value);
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(self.0.iter().map(|v| node(keyword, &v.value)));
    }
}

impl<T: Value> Slot for Many<T> {
    const TIMES: Times = Times::Many;

    fn shape() -> Shape {
        T::shape()
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        self.0.extend(value(keyword, statement, cx));
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(self.0.iter().map(|v| node(keyword, &v.value)));
    }
}

/// Begins a list: reports words between its keyword and its brace. Returns its place.
fn begin_list(keyword: &'static Keyword, statement: &Statement<'_>, cx: &mut Cx<'_>) -> Span {
    if let Some(word) = statement.word(1) {
        cx.report(
            Diagnostic::error(
                &codes::EXTRA_BEFORE_BLOCK,
                format!("unexpected word before the block of '{}', ignored", keyword.name),
            )
            .at(word.span())
            .label("expected '{'"),
        );
    }
    statement.word(0).map_or(Span::NONE, |word| word.span())
}

/// Reads a block of words.
fn read_words<T: Value>(
    items: &mut Vec<Spanned<T>>,
    at: Span,
    keyword: &'static Keyword,
    reader: &mut Reader,
    cx: &mut Cx<'_>,
) {
    let mut count = 0_u32;
    let end = reader.lines(cx, keyword.name, at, |statement, cx| {
        for index in 0..statement.len() {
            count += 1;
            let mut args = Args::one(keyword, statement, index);
            let span = statement.word(index).map_or(Span::NONE, |w| w.span());
            if let Some(value) = T::read(&mut args, cx) {
                items.push(Spanned::new(value, span));
            }
        }
    });
    if count == 0 {
        let message = format!("the block of '{}' is empty", keyword.name);
        let new = Diagnostic::warning(&codes::EMPTY_LIST, message).at(end);
        cx.report(new.related(at, "it begins here"));
    }
}

/// The children of a list: a line for each value.
fn list_node<T: Value>(keyword: &'static Keyword, items: &[Spanned<T>], out: &mut Vec<Node>) {
    if items.is_empty() {
        return;
    }
    let lines = items.iter().map(|item| {
        let mut words = Words::default();
        item.value.words(&mut words);
        words.0
    });
    out.push(Node::list(keyword, lines.collect()));
}

impl<T: Value> Slot for List<T> {
    const TIMES: Times = Times::Many;

    fn shape() -> Shape {
        Shape::List(T::shape().expected())
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        self.at = begin_list(keyword, statement, cx);
        Next::Body
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        read_words(&mut self.items, self.at, keyword, reader, cx);
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        list_node(keyword, &self.items, out);
    }
}

impl<T: Value> Slot for OneList<T> {
    const TIMES: Times = Times::First;

    fn shape() -> Shape {
        Shape::List(T::shape().expected())
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        if self.at.is_some() {
            set_twice(keyword, statement.span(), self.at, cx);
            return Next::Skip;
        }
        self.at = begin_list(keyword, statement, cx);
        Next::Body
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        read_words(&mut self.items, self.at, keyword, reader, cx);
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        list_node(keyword, &self.items, out);
    }
}

impl<T: Value> Slot for Lines<T> {
    const TIMES: Times = Times::Many;

    fn shape() -> Shape {
        Shape::Lines(T::shape().expected())
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        self.at = begin_list(keyword, statement, cx);
        Next::Body
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        let (items, at) = (&mut self.items, self.at);
        reader.lines(cx, keyword.name, at, |statement, cx| {
            let mut args = Args::line(keyword, statement);
            if let Some(value) = T::read(&mut args, cx) {
                extra(&args, cx);
                items.push(Spanned::new(value, statement.span()));
            }
        });
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        list_node(keyword, &self.items, out);
    }
}

/// The header of a block: the words between its keyword and the brace.
pub(crate) fn header<B: Block>(
    keyword: &'static Keyword,
    statement: &Statement<'_>,
    cx: &mut Cx<'_>,
) -> Option<B> {
    let mut args = Args::of(keyword, statement);
    let header = B::Header::read(&mut args, cx)?;
    extra(&args, cx);
    Some(B::new(header, statement.span()))
}

/// A block as a node.
pub(crate) fn block_node<B: Block>(keyword: &'static Keyword, block: &B) -> Node {
    let mut words = Words::default();
    block.header().words(&mut words);
    Node::block(keyword, words.0, block.nodes())
}

impl<B: Block> Slot for Sub<B> {
    const TIMES: Times = Times::Last;

    fn shape() -> Shape {
        Shape::Block(B::table, B::Header::shape().expected_header())
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        if self.0.is_none() {
            self.0 = header(keyword, statement, cx).map(Box::new);
        }
        if self.0.is_some() { Next::Body } else { Next::Skip }
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        if let Some(block) = &mut self.0
            && read_block(block.as_mut(), keyword.name, reader, cx) == Next::Leave
        {
            self.0 = None;
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(self.0.iter().map(|b| block_node(keyword, b.as_ref())));
    }
}

impl<B: Block> Slot for Subs<B> {
    const TIMES: Times = Times::Many;

    fn shape() -> Shape {
        Shape::Block(B::table, B::Header::shape().expected_header())
    }

    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next {
        match header(keyword, statement, cx) {
            Some(block) => {
                self.0.push(block);
                Next::Body
            }
            None => Next::Skip,
        }
    }

    fn body(&mut self, keyword: &'static Keyword, reader: &mut Reader, cx: &mut Cx<'_>) -> Next {
        if let Some(block) = self.0.last_mut()
            && read_block(block, keyword.name, reader, cx) == Next::Leave
        {
            self.0.pop();
        }
        Next::Done
    }

    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>) {
        out.extend(self.0.iter().map(|b| block_node(keyword, b)));
    }
}
