//! Tables of keywords: one row declares a keyword for the parser, the dump and the reference pages.
//!
//! The `block!` macro generates a struct from a table. A field is a slot (how often the keyword may occur, and which
//! occurrence counts) of a value type (the meaning of its words). The rest of the row gives the keyword, its aliases
//! and marks: `later` for a keyword that this version does not support, `lenient` and `quiet` for how a missing value
//! is handled. `default(VALUE)` is the value in force without the keyword: the reference pages show it, and a method
//! named like the field returns the configured value or else this one; `resolve` uses that method. `otherwise("..")`
//! describes a default that depends on other keywords or on the host; `default(VALUE), after("..")` is both. The effect of a change at a reload follows from
//! the difference of two models (`model::diff`).

use super::codes;
use super::context::{Cx, visible};
use super::diagnostic::{Class, Diagnostic};
use super::document::Node;
use super::keyword::Secrecy;
pub(crate) use super::keyword::{Alias, Keyword, Missing, Shape, Table, Times};
use super::reader::{Piece, Reader};
use super::span::{Span, Spanned};
use super::suggest;
use super::words::{Statement, Word};

/// What comes after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The statement is complete.
    Done,
    /// A block follows and is read.
    Body,
    /// A block follows and is discarded.
    Skip,
    /// The rest of the enclosing block is discarded.
    Leave,
}

/// The meaning of the words of a statement or a line.
pub(crate) trait Value: Sized {
    /// The form.
    fn shape() -> Shape;
    /// Parses the words; reports errors and returns none if nothing usable remains.
    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self>;
    /// Returns the words in canonical form.
    fn words(&self, out: &mut Words);
}

/// A struct generated from a table.
pub(crate) trait Block: Sized + 'static {
    /// The words between the keyword and the brace.
    type Header: Value;
    fn table() -> &'static Table;
    fn new(header: Self::Header, span: Span) -> Self;
    fn header(&self) -> &Self::Header;
    /// The place of the keyword.
    fn span(&self) -> Span;
    /// The place of its closing brace; that of the keyword if there is none.
    fn end(&self) -> Span;
    /// The block ended at this place.
    fn ended(&mut self, at: Span);
    fn begin(&mut self, row: usize, statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next;
    fn body(&mut self, row: usize, reader: &mut Reader, cx: &mut Cx<'_>) -> Next;
    /// Parses a line of a block that has entries instead of keywords. False if the block is an ordinary one.
    fn lines(&mut self, _statement: &Statement<'_>, _cx: &mut Cx<'_>) -> bool {
        false
    }
    /// The statements of the block.
    fn nodes(&self) -> Vec<Node>;
    /// The first setting that decides about a server and cannot be used, in the order of the table.
    fn refused(&self) -> Option<Refused> {
        None
    }
}

/// A statement that cannot be used: its keyword and place.
pub(crate) type Refused = Spanned<&'static str>;

/// A field of a block.
pub(crate) trait Slot: Default {
    const TIMES: Times;
    fn shape() -> Shape;
    fn begin(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement<'_>,
        cx: &mut Cx<'_>,
    ) -> Next;
    fn body(&mut self, _keyword: &'static Keyword, _reader: &mut Reader, _cx: &mut Cx<'_>) -> Next {
        Next::Done
    }
    fn nodes(&self, keyword: &'static Keyword, out: &mut Vec<Node>);
    /// The statement, if it decides about a server and cannot be used.
    fn refused(&self) -> Option<Refused> {
        None
    }
}

/// The words of a statement that are not yet consumed.
pub(crate) struct Args<'a> {
    pub keyword: &'static Keyword,
    pub statement: &'a Statement<'a>,
    next: usize,
}

impl<'a> Args<'a> {
    /// The words after the keyword.
    pub(crate) fn of(keyword: &'static Keyword, statement: &'a Statement<'a>) -> Self {
        Self { keyword, statement, next: 1 }
    }

    /// All words of a line of a list.
    pub(crate) fn line(keyword: &'static Keyword, statement: &'a Statement<'a>) -> Self {
        Self { keyword, statement, next: 0 }
    }

    /// One word of a line of a list.
    pub(crate) fn one(
        keyword: &'static Keyword,
        statement: &'a Statement<'a>,
        next: usize,
    ) -> Self {
        Self { keyword, statement, next }
    }

    /// The next word, if there is one.
    pub(crate) fn next(&mut self) -> Option<Word<'a>> {
        let word = self.statement.word(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// The next word without taking it.
    pub(crate) fn peek(&self) -> Option<Word<'a>> {
        self.statement.word(self.next)
    }

    /// The next word. A missing one is reported according to the keyword's row.
    pub(crate) fn need(&mut self, cx: &mut Cx<'_>) -> Option<Word<'a>> {
        let word = self.next();
        if word.is_none() {
            self.report_missing(cx);
        }
        word
    }

    /// Reports a missing word according to the keyword's row.
    pub(crate) fn report_missing(&self, cx: &mut Cx<'_>) {
        let class = match self.keyword.missing {
            Missing::Quiet => return,
            Missing::Reported => Class::Problem,
            Missing::Fatal => Class::Parameter,
        };
        self.missing_with(cx, class);
    }

    /// Reports a missing word without which keepalived exits.
    pub(crate) fn need_or_end(&mut self, cx: &mut Cx<'_>) -> Option<Word<'a>> {
        let word = self.next();
        if word.is_none() {
            // It is the value of the word before it, not of the keyword or the list.
            match self.next.checked_sub(1).and_then(|before| self.statement.word(before)) {
                Some(option) => {
                    let text = option.text();
                    let expected = match option.bytes {
                        b"via" | b"gw" | b"or" | b"src" | b"to" | b"from" => "expected an address",
                        _ => "expected its value after it",
                    };
                    self.missing_of(&text, expected.into(), Class::Parameter, cx);
                }
                None => self.missing_with(cx, Class::Parameter),
            }
        }
        word
    }

    fn missing_with(&self, cx: &mut Cx<'_>, class: Class) {
        let expected = format!("expected {}", (self.keyword.shape)().expected());
        self.missing_of(self.keyword.name, expected, class, cx);
    }

    fn missing_of(&self, name: &str, expected: String, class: Class, cx: &mut Cx<'_>) {
        let last = self.statement.len().saturating_sub(1);
        let at = self.statement.word(last).map_or_else(|| self.statement.span(), |w| w.span());
        let mut new =
            Diagnostic::error(&codes::MISSING_PARAMETER, format!("'{name}' needs a value"))
                .at(at)
                .label(expected)
                .class(class);
        // `auth_pass #x`
        let behind = cx.sources.place(at).and_then(|place| place.text.get(place.end..));
        if let Some([mark @ (b'#' | b'!'), next, ..]) = behind.map(<[u8]>::trim_ascii_start)
            && !next.is_ascii_whitespace()
        {
            let open = self.keyword.secrecy == Secrecy::Open;
            let what = if open { "value" } else { "password" };
            new = new.help(format!(
                "'{}' begins a comment: put the {what} between double quotes",
                char::from(*mark)
            ));
        }
        // The value begins with a quote that is not closed.
        let line = self.statement.span();
        if let Some(last) = cx.reports.last_mut()
            && *last.code == codes::MISSING_QUOTE
            && last.span.unit == line.unit
            && (line.start..line.start.saturating_add(line.len)).contains(&last.span.start)
        {
            new.hidden = true;
            last.class = last.class.max(class);
        }
        cx.report(new);
    }

    /// The place of the consumed and the following words.
    pub(crate) fn span(&self) -> Span {
        self.statement.span_from(1.min(self.statement.len().saturating_sub(1)))
    }

    /// Consumes all remaining words.
    pub(crate) fn finish(&mut self) {
        self.next = self.statement.len();
    }

    /// The remaining words.
    pub(crate) fn rest(&self) -> Option<Word<'a>> {
        self.statement.word(self.next)
    }
}

/// Words in canonical form.
#[derive(Debug, Default)]
pub(crate) struct Words(pub Vec<Vec<u8>>);

impl Words {
    /// A literal word; quotes are added when it is written.
    pub(crate) fn push(&mut self, word: impl AsRef<[u8]>) {
        self.0.push(word.as_ref().to_vec());
    }

    /// A value by its text.
    pub(crate) fn show(&mut self, value: impl core::fmt::Display) {
        self.0.push(value.to_string().into_bytes());
    }
}

/// Reads the statements of a block up to its closing brace.
pub(crate) fn read_block<B: Block>(
    block: &mut B,
    keyword: &'static str,
    reader: &mut Reader,
    cx: &mut Cx<'_>,
) -> Next {
    reader.enter(cx, keyword, Some(B::table()), block.span());
    loop {
        match reader.next(cx) {
            Piece::Line(from, to) => {
                if statement(block, reader, cx, from, to) == Next::Leave {
                    reader.abandon(cx);
                    return Next::Leave;
                }
            }
            Piece::Open(at) => reader.unexpected_open(cx, at),
            piece => {
                if let Piece::Close(at) = piece {
                    block.ended(reader.brace(at));
                }
                reader.leave(cx, piece);
                return Next::Done;
            }
        }
    }
}

/// A statement whose words were consumed.
pub(crate) struct Begun {
    row: usize,
    keyword: &'static Keyword,
    pub next: Next,
    at: Span,
}

/// Processes one statement of a block, with the block it may open.
pub(crate) fn statement<B: Block>(
    block: &mut B,
    reader: &mut Reader,
    cx: &mut Cx<'_>,
    from: u32,
    to: u32,
) -> Next {
    match begin(block, reader, cx, from, to) {
        Some(begun) => go_on(block, begun, reader, cx),
        None => Next::Done,
    }
}

/// Parses the words of a statement. None if it is not a statement of the block.
pub(crate) fn begin<B: Block>(
    block: &mut B,
    reader: &mut Reader,
    cx: &mut Cx<'_>,
    from: u32,
    to: u32,
) -> Option<Begun> {
    let table = B::table();
    cx.position.begin(table.name);
    reader.undefined(cx, from, to);
    if table.keywords.is_empty() {
        reader.line_of_list(cx, from, to);
    }
    let opens = reader.block_follows();
    let statement = reader.statement(cx, from, to);
    let word = statement.word(0)?;
    if table.keywords.is_empty() && block.lines(&statement, cx) {
        return None;
    }
    let Some((row, alias)) = table.find(word.bytes) else {
        let (text, at) = (word.bytes.to_vec(), word.span());
        unknown(table, &text, at, opens, reader, cx);
        if opens && reader.is_astray() {
            reader.lose_name(cx, from, to);
        }
        return None;
    };
    let keyword = table.keywords.get(row)?;
    cx.position.keyword = Some(keyword);
    notice(cx, table, keyword, alias, &word);
    Some(Begun { row, keyword, next: block.begin(row, &statement, cx), at: word.span() })
}

/// Processes a word that is not a keyword of the block.
fn unknown(
    table: &'static Table,
    word: &[u8],
    at: Span,
    opens: bool,
    reader: &mut Reader,
    cx: &mut Cx<'_>,
) {
    let text = String::from_utf8_lossy(word);
    // The rest of a split `${NAME}` is not a block.
    let opens = opens && visible(&text).starts_with(|c: char| c.is_ascii_alphabetic());
    if reader.is_astray() || reader.may_be_unclosed(cx, word, at, opens) {
        return;
    }
    suggest::unknown_keyword(cx, table, &text, at, opens);
    if opens && !cx.options.consequences {
        reader.go_astray(cx, at);
    }
}

/// Reads the block that a statement opens, if it opens one.
pub(crate) fn go_on<B: Block>(
    block: &mut B,
    begun: Begun,
    reader: &mut Reader,
    cx: &mut Cx<'_>,
) -> Next {
    match begun.next {
        Next::Body => block.body(begun.row, reader, cx),
        Next::Skip => {
            reader.skip(cx, begun.keyword.name, begun.at);
            Next::Done
        }
        next => next,
    }
}

/// Reports what concerns a keyword regardless of its value.
fn notice(
    cx: &mut Cx<'_>,
    table: &'static Table,
    keyword: &'static Keyword,
    alias: Option<&'static Alias>,
    word: &Word<'_>,
) {
    if let Some(alias) = alias.filter(|a| a.deprecated) {
        let message = format!("'{}' is deprecated", alias.name);
        let new = if alias.counted {
            Diagnostic::warning(&codes::DEPRECATED, message)
        } else {
            Diagnostic::note_only(&codes::DEPRECATED, message)
        };
        cx.report(new.at(word.span()).replacement(keyword.name));
    }
    if let Some(instead) = keyword.deprecated {
        let message = format!("'{}' is deprecated, {instead}", keyword.name);
        cx.report(Diagnostic::warning(&codes::DEPRECATED, message).at(word.span()));
    }
    if keyword.later || keyword.dead {
        cx.later(table, keyword, word.span());
    }
}

/// A slot with a single value, so that it can have a default.
pub(crate) trait Single {
    type Value;
    /// The configured value.
    fn given(&self) -> Option<Self::Value>;
    fn words(value: &Self::Value, out: &mut Words);
}

/// The text of a default.
pub(crate) fn shown<S: Single>(value: &S::Value) -> String {
    let mut words = Words::default();
    S::words(value, &mut words);
    let words: Vec<_> = words.0.iter().map(|w| String::from_utf8_lossy(w)).collect();
    words.join(" ")
}

/// Generates a struct from a table of keywords.
macro_rules! block {
    (
        $(#[doc = $block_doc:literal])+
        pub struct $Block:ident($Header:ty) = $block_name:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $slot:ty = $name:literal $(| $alias:literal $(($($mark:ident)+))?)*
                    $(, $flag:ident $(($arg:expr))?)* $(=> $hook:path)?;
            )*
        }
    ) => {
        $(#[doc = $block_doc])+
        #[derive(Debug)]
        pub(crate) struct $Block {
            pub header: $Header,
            pub span: $crate::config::span::Span,
            pub end: $crate::config::span::Span,
            $(pub $field: $slot,)*
        }

        impl $Block {
            $($crate::config::schema::value_or_default! {
                $field $slot, []; $($flag $(($arg))?;)*
            })*
        }

        impl $crate::config::schema::Block for $Block {
            type Header = $Header;

            fn table() -> &'static $crate::config::schema::Table {
                use $crate::config::schema::{Keyword, Slot, Table};
                static KEYWORDS: &[Keyword] = &[$(
                    Keyword::new(
                        $name,
                        &[$($crate::config::schema::Alias {
                            name: $alias,
                            deprecated: $crate::config::schema::has!(old $($($mark)+)?),
                            counted: !$crate::config::schema::has!(silent $($($mark)+)?),
                        }),*],
                        concat!($($doc, "\n"),+),
                        <$slot as Slot>::shape,
                        <$slot as Slot>::TIMES,
                    )$(.$flag($($crate::config::schema::argument!($flag $slot, $arg))?))*,
                )*];
                static TABLE: Table =
                    Table::new($block_name, concat!($($block_doc, "\n"),+), KEYWORDS);
                &TABLE
            }

            fn new(header: $Header, span: $crate::config::span::Span) -> Self {
                Self { header, span, end: span, $($field: Default::default(),)* }
            }

            fn header(&self) -> &$Header {
                &self.header
            }

            fn span(&self) -> $crate::config::span::Span {
                self.span
            }

            fn end(&self) -> $crate::config::span::Span {
                self.end
            }

            fn ended(&mut self, at: $crate::config::span::Span) {
                self.end = at;
            }

            fn begin(
                &mut self,
                row: usize,
                statement: &$crate::config::words::Statement<'_>,
                cx: &mut $crate::config::context::Cx<'_>,
            ) -> $crate::config::schema::Next {
                use $crate::config::schema::{Keyword, Next, Slot};
                type Begin = fn(
                    &mut $Block,
                    &'static Keyword,
                    &$crate::config::words::Statement<'_>,
                    &mut $crate::config::context::Cx<'_>,
                ) -> Next;
                static BEGIN: &[Begin] = &[$(|block, keyword, statement, cx| {
                    let next = Slot::begin(&mut block.$field, keyword, statement, cx);
                    $(if next == Next::Done {
                        return $hook(block, statement, cx);
                    })?
                    next
                },)*];
                match (BEGIN.get(row), Self::table().keywords.get(row)) {
                    (Some(begin), Some(keyword)) => begin(self, keyword, statement, cx),
                    _ => Next::Done,
                }
            }

            fn body(
                &mut self,
                row: usize,
                reader: &mut $crate::config::reader::Reader,
                cx: &mut $crate::config::context::Cx<'_>,
            ) -> $crate::config::schema::Next {
                use $crate::config::schema::{Keyword, Next, Slot};
                type Body = fn(
                    &mut $Block,
                    &'static Keyword,
                    &mut $crate::config::reader::Reader,
                    &mut $crate::config::context::Cx<'_>,
                ) -> Next;
                static BODY: &[Body] = &[$(|block, keyword, reader, cx| {
                    Slot::body(&mut block.$field, keyword, reader, cx)
                },)*];
                match (BODY.get(row), Self::table().keywords.get(row)) {
                    (Some(body), Some(keyword)) => body(self, keyword, reader, cx),
                    _ => Next::Done,
                }
            }

            fn nodes(&self) -> Vec<$crate::config::document::Node> {
                let mut out = Vec::new();
                let mut rows = Self::table().keywords.iter();
                $(if let Some(keyword) = rows.next() {
                    $crate::config::schema::Slot::nodes(&self.$field, keyword, &mut out);
                })*
                out
            }

            fn refused(&self) -> Option<$crate::config::schema::Refused> {
                None$(.or_else(|| $crate::config::schema::Slot::refused(&self.$field)))*
            }
        }
    };
}

/// The argument of a row's mark: a default becomes the function that shows it.
macro_rules! argument {
    (default $slot:ty, $value:expr) => {
        || $crate::config::schema::shown::<$slot>(&$value)
    };
    ($mark:ident $slot:ty, $value:expr) => {
        $value
    };
}

/// The method that returns the configured value or else the default, for a row that has one. It must be used for a
/// supported keyword, and may be unused for others.
macro_rules! value_or_default {
    ($field:ident $slot:ty, [$($allow:ident)?];) => {};
    ($field:ident $slot:ty, [$($allow:ident)?]; later; $($rest:tt)*) => {
        $crate::config::schema::value_or_default! { $field $slot, [allow]; $($rest)* }
    };
    ($field:ident $slot:ty, [$($allow:ident)?]; default($value:expr); $($rest:tt)*) => {
        $(#[$allow(dead_code, reason = "not every keyword is carried out yet")])?
        pub(crate) fn $field(&self) -> <$slot as $crate::config::schema::Single>::Value {
            $crate::config::schema::Single::given(&self.$field).unwrap_or_else(|| $value)
        }
    };
    ($field:ident $slot:ty, [$($allow:ident)?]; $mark:ident $(($value:expr))?; $($rest:tt)*) => {
        $crate::config::schema::value_or_default! { $field $slot, [$($allow)?]; $($rest)* }
    };
}

/// Whether a mark is among others.
macro_rules! has {
    ($want:ident) => { false };
    (old old $($rest:ident)*) => { true };
    (silent silent $($rest:ident)*) => { true };
    ($want:ident $other:ident $($rest:ident)*) => { $crate::config::schema::has!($want $($rest)*) };
}

pub(crate) use {argument, block, has, value_or_default};
