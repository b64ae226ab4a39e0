//! What every stage of a load shares: the files, the machine, the options, and the list of problems.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexMap;

use super::checks::Checks;
use super::codes;
use super::diagnostic::{Class, Diagnostic, Diagnostics, Severity};
use super::document::Document;
use super::host::{Host, Interface};
use super::keyword::{Keyword, Table};
use super::mistake::Position;
use super::names::{Folders, Names};
use super::source::Files;
use super::span::{Sources, Span};
use crate::base::IfName;
use crate::model::Vrrp;

/// How a configuration is to be read.
#[derive(Clone, Debug)]
pub struct Options {
    /// The main file, or a pattern.
    pub file: Vec<u8>,
    /// The configuration id that `@id` lines are compared with (`-i`); the node name up to its first point otherwise.
    pub config_id: Vec<u8>,
    /// All include checks are on from the start (`-e`).
    pub all_checks: bool,
    /// Run the lints.
    pub lints: bool,
    /// The other router, for lints that compare with it.
    pub peer: Option<Peer>,
    /// Also report what keepalived passes over in silence, as errors.
    pub strict: bool,
    /// Also report what only follows from a misspelt block word or a missing brace, as keepalived does.
    pub consequences: bool,
    /// Keep what was understood as a [`super::Document`], for dumps and conversion.
    pub document: bool,
    /// Bounds on what a configuration may ask for.
    pub limits: Limits,
}

impl Options {
    /// Reads `file` as the daemon does, with the configuration id of `host`.
    #[must_use]
    pub fn new(file: impl Into<Vec<u8>>, host: &dyn Host) -> Self {
        let name = host.host_name();
        let id = name.split('.').next().unwrap_or_default();
        Self {
            file: file.into(),
            config_id: id.as_bytes().to_vec(),
            all_checks: false,
            lints: false,
            peer: None,
            strict: false,
            consequences: false,
            document: false,
            limits: Limits::default(),
        }
    }
}

/// The other router.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// The name of its file, as it is shown.
    pub file: String,
    /// What its file says.
    pub vrrp: Vrrp,
}

/// Bounds on what a configuration may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file: usize,
    /// Bytes that definitions and repetitions may make.
    pub expansion: usize,
    /// Includes within includes.
    pub depth: usize,
    /// Files that one include may match.
    pub files: usize,
    /// Values of one repetition.
    pub rounds: u64,
    /// Problems that are kept; further ones are counted only, and at ten times as many reading ends.
    pub problems: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file: 1 << 30,
            expansion: 256 << 20,
            depth: 64,
            files: 100_000,
            rounds: 1_000_000,
            problems: 10_000,
        }
    }
}

/// What values look at of `global_defs`, which may stand after them.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub dynamic_interfaces: bool,
    /// None until `global_defs` is known.
    pub default_interface: Option<IfName>,
    /// Where names of numbers are read.
    pub iproute: Folders,
    /// `script_user` names an account that does not exist.
    pub bad_script_user: bool,
    /// Something of it was looked at.
    pub used: bool,
}

/// What every stage of one load shares; what was understood is kept above (`resolve::Load`).
pub(crate) struct Cx<'a> {
    pub files: &'a dyn Files,
    pub host: &'a dyn Host,
    pub options: &'a Options,
    pub sources: Sources,
    pub reports: Vec<Diagnostic>,
    /// Problems beyond the limit.
    pub dropped: usize,
    /// Include checks in force, from `include_check` and `-e`.
    pub include_checks: Checks,
    /// How far reading has come.
    pub position: Position,
    /// The keywords outside all blocks, for what can be said about unknown ones.
    pub vocabulary: &'static Table,
    /// What values look at of `global_defs`.
    pub given: Given,
    /// What was understood, statement by statement.
    pub document: Document,
    /// Files read so far, by normalised path: each is read once.
    texts: IndexMap<Vec<u8>, Result<Arc<Vec<u8>>, String>>,
    interfaces: IndexMap<IfName, Option<Interface>>,
    resolved: IndexMap<Box<str>, bool>,
    names: Names,
    /// Keywords that are not in effect yet: first place and number of uses.
    later_options: IndexMap<&'static str, (Span, usize)>,
    later: IndexMap<(&'static str, &'static str), (&'static Keyword, Span, usize)>,
    /// Names of all definitions.
    pub defined: BTreeSet<Box<str>>,
}

/// Characters that look like a blank or like nothing.
const HIDDEN: &[(char, &str)] = &[
    ('\u{feff}', "a byte order mark (U+FEFF)"),
    ('\u{a0}', "a no-break space (U+00A0)"),
    ('\u{202f}', "a narrow no-break space (U+202F)"),
    ('\u{200b}', "a zero-width space (U+200B)"),
];

/// The first name in `text` that looks like the use of a definition, `$NAME` or `${NAME}`.
fn name_used(text: &str) -> Option<&str> {
    text.split('$').skip(1).find_map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = rest.get(..end)?;
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_').then_some(name)
    })
}

impl<'a> Cx<'a> {
    pub(crate) fn new(
        files: &'a dyn Files,
        host: &'a dyn Host,
        options: &'a Options,
        vocabulary: &'static Table,
    ) -> Self {
        Self {
            files,
            host,
            options,
            sources: Sources::default(),
            reports: Vec::new(),
            dropped: 0,
            include_checks: Self::initial_checks(options),
            position: Position::default(),
            vocabulary,
            given: Given::default(),
            document: Document::default(),
            texts: IndexMap::new(),
            interfaces: IndexMap::new(),
            resolved: IndexMap::new(),
            names: Names::default(),
            later: IndexMap::new(),
            later_options: IndexMap::new(),
            defined: BTreeSet::new(),
        }
    }

    fn initial_checks(options: &Options) -> Checks {
        if options.all_checks { Checks::ALL } else { Checks::default() }
    }

    /// Forgets everything but the files and what was given, for a second reading.
    pub(crate) fn restart(&mut self) {
        self.document = Document::default();
        self.given.used = false;
        self.given.bad_script_user = false;
        // They may have been read in other folders.
        self.names = Names::default();
        self.later.clear();
        self.later_options.clear();
        self.sources = Sources::default();
        self.reports.clear();
        self.dropped = 0;
        self.include_checks = Self::initial_checks(self.options);
        self.position = Position::default();
    }

    pub(crate) fn report(&mut self, mut diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            diagnostic.subject = self.position.subject();
        }
        if self.reports.len() < self.options.limits.problems {
            self.reports.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    /// Whether there are so many problems that reading on is a waste of time.
    pub(crate) fn flooded(&self) -> bool {
        self.dropped / 9 >= self.options.limits.problems
    }

    /// The text of a file, read at most once.
    pub(crate) fn file_text(&mut self, path: &[u8]) -> Result<Arc<Vec<u8>>, String> {
        if let Some(text) = self.texts.get(path) {
            return text.clone();
        }
        let text = self.files.read(path, self.options.limits.file).map(Arc::new);
        self.texts.insert(path.to_vec(), text.clone());
        text
    }

    /// The interface, if it exists now. The machine is asked once for each name.
    pub(crate) fn interface(&mut self, name: &IfName) -> Option<Interface> {
        if let Some(known) = self.interfaces.get(name) {
            return known.clone();
        }
        let found = self.host.interface(name);
        self.interfaces.insert(name.clone(), found.clone());
        found
    }

    /// Whether an interface exists; one that does not is reported.
    pub(crate) fn check_interface(&mut self, name: Option<&IfName>, at: Span, what: &str) -> bool {
        let Some(name) = name else {
            return true;
        };
        let exists = match self.interfaces.get(name) {
            Some(known) => known.is_some(),
            None => self.interface(name).is_some(),
        };
        if !exists {
            let message = format!("interface {name} {what} doesn't exist");
            let mut new = Diagnostic::environment(&codes::NO_INTERFACE, message)
                .at(at)
                .note("it is used when it appears");
            if self.given().dynamic_interfaces {
                new = new.class(Class::Quiet);
            }
            self.report(new);
        }
        exists
    }

    /// Whether a host name resolves now. Each name is asked for once.
    pub(crate) fn resolves(&mut self, name: &str) -> bool {
        if let Some(known) = self.resolved.get(name) {
            return *known;
        }
        let found = self.host.resolve(name).is_some();
        self.resolved.insert(name.into(), found);
        found
    }

    /// `global_defs`, as far as values look at it.
    fn given(&mut self) -> &Given {
        self.given.used = true;
        &self.given
    }

    /// The number of a name in `table`, which is the file name of iproute2, or `protocols`.
    pub(crate) fn number_of(&mut self, table: &'static str, name: &str) -> Option<u32> {
        if let Some(known) = Names::built_in(table, name) {
            return Some(known);
        }
        self.given.used |= table != "protocols";
        self.names.number_of(table, name, &self.given.iproute, self.host)
    }

    /// The interface of static addresses that name none.
    pub(crate) fn default_interface(&mut self) -> Option<IfName> {
        self.given().default_interface.clone()
    }

    /// Notes the use of a keyword that is not in effect yet.
    pub(crate) fn later(&mut self, table: &'static Table, keyword: &'static Keyword, at: Span) {
        let entry = self.later.entry((table.name, keyword.name)).or_insert((keyword, at, 0));
        entry.2 += 1;
    }

    /// Notes the use of an option of a line that is not in effect yet.
    pub(crate) fn later_option(&mut self, option: &'static str, at: Span) {
        let entry = self.later_options.entry(option).or_insert((at, 0));
        entry.1 += 1;
    }

    /// Says what cannot be seen in the marked text: definitions that there are not, and blanks that are none.
    fn explain_marks(&mut self) {
        let Self { reports, sources, defined, .. } = self;
        for report in reports {
            let Some(place) = sources.place(report.span) else {
                continue;
            };
            let marked = place.text.get(place.start..place.end).unwrap_or_default();
            let text = String::from_utf8_lossy(marked);
            for (hidden, name) in HIDDEN {
                if text.contains(*hidden) {
                    report.help.push(format!(
                        "it contains {name}; remove it, or replace it with an ordinary blank"
                    ));
                }
            }
            let Some(name) = name_used(&text)
                .filter(|name| !name.starts_with('_') && !report.names_definition())
            else {
                continue;
            };
            report.help.push(if defined.contains(name) {
                format!(
                    "'${name}' is only replaced if a blank, a comma, a ')' or the end of the line follows: write ${{{name}}}"
                )
            } else {
                format!("'{name}' is not defined before this line; define it with ${name}=value")
            });
        }
    }

    /// The problems of the whole load, and what was understood statement by statement.
    pub(crate) fn finish(mut self) -> (Diagnostics, Document) {
        for ((block, _), (keyword, at, uses)) in core::mem::take(&mut self.later) {
            let mut new = if keyword.dead {
                Diagnostic::note_only(&codes::DEAD, format!("'{}' has no effect", keyword.name))
            } else {
                Diagnostic::advice(
                    &codes::NOT_IN_EFFECT,
                    format!("'{}': parsed, but not in effect in this version", keyword.name),
                )
            }
            .at(at);
            if !block.is_empty() {
                new = new.label(format!("in '{block}'"));
            }
            if uses > 1 {
                let places = if uses == 2 { "place" } else { "places" };
                new = new.note(format!("it is used in {} more {places}", uses - 1));
            }
            self.report(new);
        }
        for (option, (at, _)) in core::mem::take(&mut self.later_options) {
            let message = format!("{option}: parsed, but not in effect in this version");
            self.report(Diagnostic::advice(&codes::NOT_IN_EFFECT, message).at(at));
        }
        if self.dropped > 0 {
            let end = if self.flooded() { ", and the rest of the file was not read" } else { "" };
            let message = format!("{} more problems are not shown{end}", self.dropped);
            self.reports.push(Diagnostic::error(&codes::LIMIT, message));
        }
        self.explain_marks();
        let Self { reports, sources, document, .. } = self;
        (Diagnostics::new(reports, sources), document)
    }
}
