//! The configuration language: from a `keepalived.conf` to a [`Model`], with diagnostics.
//!
//! Files become plain text (`expand`), text becomes statements and braces (`parse`, `reader`), statements fill
//! blocks by the tables (`schema`, `block`, `value`), and blocks become the model (`resolve`). Nothing here touches
//! the operating system: files and the machine are the traits [`Files`] and [`Host`].
#![forbid(unsafe_code)]

pub(crate) mod block;
mod checks;
pub mod codes;
mod context;
pub mod convert;
mod diagnostic;
mod document;
mod expand;
mod format;
#[doc(hidden)]
pub mod fuzz;
mod grammar;
mod host;
mod lint;
mod mistake;
mod names;
mod parse;
mod reader;
pub mod reference;
mod render;
mod resolve;
pub(crate) mod schema;
mod slot;
mod source;
mod span;
mod suggest;
mod text;
mod value;
mod words;

pub use context::{Limits, Options, Peer};
pub use diagnostic::{Class, Diagnostic, Diagnostics, Severity, Stops};
pub use document::Document;
pub use format::format;
pub use host::{Account, FileInfo, FileKind, Host, Interface, StaticHost};
pub use render::{Head, Style};
pub use source::{Files, MemoryFiles};
pub use span::Span;

use self::context::Cx;
use self::expand::Expander;
use self::reader::{Piece, Reader};
use self::schema::{Block, statement};
use crate::model::Model;

/// What became of a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The running configuration: what remains when everything that is wrong is left out.
    pub model: Model,
    /// What is wrong, sorted by place, each problem once.
    pub diagnostics: Diagnostics,
    /// What was understood, statement by statement, if [`Options::document`] asked for it.
    pub document: Document,
    /// Virtual routers that the text asks for, with those that are left out.
    pub instances_asked: usize,
}

impl Loaded {
    /// Whether the daemon must not start with this: there is no usable file, an include failed under a check, or a
    /// keyword lacks the value it needs.
    #[must_use]
    pub fn unusable(&self) -> bool {
        self.diagnostics.unusable()
    }

    /// Whether something that was written is not carried out. A reload is refused then, unless the configuration in
    /// force has the same mistakes ([`Diagnostics::new_errors`]).
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.errors() > 0
    }
}

/// Reads a configuration. Always gives a model; the diagnostics say how much of the text it covers.
pub fn load(files: &dyn Files, host: &dyn Host, options: &Options) -> Loaded {
    let mut cx = Cx::new(files, host, options);
    read(&mut cx);
    if cx.draft.needs_second() {
        // global_defs stands after what depends on it: read again with its result, as keepalived's processes do.
        cx.restart();
        read(&mut cx);
    }
    cx.finish()
}

/// Reads all text into the draft of `cx`.
fn read(cx: &mut Cx<'_>) {
    let expander = Expander::new(cx);
    let mut reader = Reader::new(expander);
    let mut root = block::root::Root::new((), Span::NONE);
    loop {
        match reader.next(cx) {
            Piece::Line(from, to) => {
                statement(&mut root, &mut reader, cx, from, to);
            }
            Piece::Open(at) => reader.unexpected_open(cx, at),
            Piece::Close(at) => reader.unexpected_close(cx, at),
            Piece::End => break,
        }
    }
    if !cx.draft.needs_second() {
        resolve::finish(root, cx);
    }
}

#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod tests;
