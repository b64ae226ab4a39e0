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
mod earlier;
mod expand;
mod format;
#[doc(hidden)]
pub mod fuzz;
mod grammar;
mod host;
mod judging;
mod keyword;
mod lint;
mod mistake;
mod names;
mod order;
mod parse;
mod reader;
pub mod reference;
mod render;
mod resolve;
pub(crate) mod schema;
mod secret;
mod slot;
mod source;
mod span;
mod suggest;
mod text;
mod unclosed;
mod value;
mod words;

pub use context::{Limits, Options, Peer};
pub use diagnostic::{Class, Diagnostic, Diagnostics, Severity, Stops};
pub use document::Document;
pub use earlier::Earlier;
pub use format::format;
pub use host::{Account, FileInfo, FileKind, Host, Interface, StaticHost};
pub use render::{Head, Style};
pub use source::{Files, MemoryFiles, ReadError, too_large};
pub use span::Span;

use self::block::root::{Root, Top};
use self::context::Cx;
use self::earlier::Again;
use self::expand::Expander;
use self::host::Watched;
use self::lint::Kept;
use self::reader::{Piece, Reader};
use self::resolve::Load;
use self::schema::{Block, Next};
use crate::model::Model;

/// The result of loading a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The running configuration, without everything that is wrong.
    pub model: Model,
    /// The problems, sorted by place, each once.
    pub diagnostics: Diagnostics,
    /// The parsed statements, if [`Options::document`] is set.
    pub document: Document,
    /// Number of configured virtual routers, including those that are left out.
    pub instances_asked: usize,
    /// Number of configured virtual servers, including those that are left out.
    pub services_asked: usize,
}

impl Loaded {
    /// Whether the daemon must not start with this: there is no usable file, an include failed under a check, or a
    /// keyword lacks the value it needs.
    #[must_use]
    pub fn unusable(&self) -> bool {
        self.diagnostics.unusable()
    }
}

/// Reads a configuration. Always returns a model; the diagnostics report which parts of the text are left out.
pub fn load(files: &dyn Files, host: &dyn Host, options: &Options) -> Loaded {
    load_with(files, host, options, None).0
}

/// The same, with results of an earlier read of other texts: the result does not depend on them. Also returns the
/// results for the next one.
pub fn load_again(
    files: &dyn Files,
    host: &dyn Host,
    options: &Options,
    earlier: Earlier,
) -> (Loaded, Earlier) {
    // A document has the text of all blocks, and advice needs the blocks.
    let whole = options.document || options.lints || options.strict || options.consequences;
    let had = !earlier.is_empty();
    let (loaded, next, is_cut) = load_with(files, host, options, Some(earlier).filter(|_| !whole));
    if is_cut && had {
        // Which problems are left out, and where reading ends, depends on where pieces of the text begin.
        return (load(files, host, options), Earlier::default());
    }
    (loaded, next)
}

/// The result, those for the next read, and whether there were more problems than are kept.
fn load_with(
    files: &dyn Files,
    host: &dyn Host,
    options: &Options,
    earlier: Option<Earlier>,
) -> (Loaded, Earlier, bool) {
    let is_active = earlier.is_some();
    let again = Again::new(earlier.unwrap_or_default(), is_active);
    let host = Watched::new(host, again.touch());
    let mut cx = Cx::new(files, &host, options, block::root_table());
    cx.again = again;
    let mut load = Load::new(cx);
    read(&mut load);
    if load.draft.needs_second() {
        // global_defs comes after settings that depend on it: read again with its result, as keepalived's processes do.
        load.restart();
        read(&mut load);
    }
    let is_cut = load.dropped > 0;
    let again = core::mem::take(&mut load.again);
    let (draft, mut diagnostics, document) = load.finish();
    diagnostics.tested = draft.model.global.settings.reload_check.is_some();
    let (instances_asked, services_asked) = (draft.instances.len(), draft.services_asked);
    let loaded =
        Loaded { model: draft.model, diagnostics, document, instances_asked, services_asked };
    (loaded, again.finish(), is_cut)
}

/// Reads all text into the draft, block by block.
fn read(load: &mut Load<'_>) {
    let expander = Expander::new(load);
    let mut reader = Reader::new(expander);
    let mut root = Root::new((), Span::NONE);
    let mut kept = Kept::default();
    loop {
        if load.again.is_active() && use_earlier(&mut reader, load) {
            continue;
        }
        let is_between = reader.is_between();
        match reader.next(load) {
            Piece::Line(from, to) => {
                load.again.begin();
                let services = load.draft.services.len();
                let Some(mut begun) = schema::begin(&mut root, &mut reader, load, from, to) else {
                    continue;
                };
                if begun.next == Next::Body && !load.open(&mut root) {
                    root.take();
                    begun.next = Next::Skip;
                }
                schema::go_on(&mut root, begun, &mut reader, load);
                if let Some(block) = root.take() {
                    let place = match &block {
                        Top::Server(block) if is_between && reader.is_between() => {
                            Some((block.span, block.end))
                        }
                        _ => None,
                    };
                    close(block, &mut kept, load);
                    load.position.end = Span::NONE;
                    if let Some(place) = place {
                        note(place, services, load);
                    }
                }
            }
            Piece::Open(at) => reader.unexpected_open(load, at),
            Piece::Close(at) => reader.unexpected_close(load, at),
            Piece::End => break,
        }
    }
    if !load.draft.needs_second() {
        resolve::finish(&mut root, load);
        if load.options.lints {
            lint::run(&kept, load);
        }
    }
}

/// Uses the result of the next block from an earlier read, if it is known.
fn use_earlier(reader: &mut Reader, load: &mut Load<'_>) -> bool {
    if load.again.is_unsettled() {
        let global = load.global_text();
        load.again.settle(global);
    }
    let Some((service, span)) = reader.known(load) else {
        return false;
    };
    load.close_known(service, span);
    true
}

/// Keeps the result of a `virtual_server` block for the next read. There were `before` services without it.
fn note(place: (Span, Span), before: usize, load: &mut Load<'_>) {
    if !load.again.is_pure() || load.draft.services.len() != before + 1 {
        return;
    }
    let service = load.draft.model.lvs.services.last().cloned();
    let text = load.sources.direct_text(place.0.unit).cloned();
    if let (Some(text), Some(service)) = (text, service) {
        load.again.note(&text, place, &service, expand::is_plain);
    }
}

/// Resolves a complete block and runs its lints.
fn close(block: Top, kept: &mut Kept, load: &mut Load<'_>) {
    match block {
        Top::Instance(block) if load.options.lints => {
            load.instance(&block);
            lint::instance(*block, kept, load);
        }
        block => {
            if let Top::Server(block) = &block
                && load.options.lints
            {
                lint::service(block, kept);
            }
            load.close(block);
        }
    }
}

#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod tests;
