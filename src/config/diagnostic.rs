//! The problems of a configuration, as values.
//!
//! A [`Diagnostic`] contains the problem, its place and the remedy; [`Diagnostics`] is the sorted result of a load
//! together with the text needed to show it (`render.rs`). Nothing is printed here.

use std::collections::BTreeSet;
use std::fmt;

use super::codes::{self, Code};
use super::secret::Secrets;
use super::span::{Sources, Span};

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Information.
    Note,
    /// Applied as written, or the ignored part has no effect, or the environment does not fit (a missing script): does
    /// not refuse a reload.
    Warning,
    /// A part of the configuration is not applied, or cannot work on this machine although keepalived requires it:
    /// refuses a reload that adds it.
    Error,
}

/// What a problem stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stops {
    /// Nothing: at most a word without effect is ignored.
    Nothing,
    /// A reload, if the configuration in force does not have it already.
    Reload,
    /// The start, and every reload: keepalived does not start either.
    Start,
}

impl Stops {
    /// The word for it in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Reload => "reload",
            Self::Start => "start",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// keepalived's class of the problem: decides the exit status of a configuration test, and whether the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// keepalived does not count it.
    Quiet,
    /// The main file cannot be read, or is missing while all include checks are on: status 4.
    Fatal,
    /// Reported and skipped, a warning, or deprecated: status 5.
    Problem,
    /// Script security: status 6.
    Security,
    /// An include failed under a check: status 6, the daemon does not start.
    Include,
    /// A keyword lacks a word it needs: status 2, the daemon does not start.
    Parameter,
}

/// One problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Its stable code.
    pub code: &'static Code,
    pub severity: Severity,
    /// keepalived's class of it.
    pub class: Class,
    /// It concerns this machine, not the text.
    pub environment: bool,
    /// What is wrong, in one line.
    pub message: String,
    pub span: Span,
    /// The label at the caret.
    pub label: String,
    /// Other places that belong to it.
    pub related: Vec<(Span, String)>,
    /// Facts that explain it.
    pub notes: Vec<String>,
    /// The remedy.
    pub help: Vec<String>,
    /// Both routers would certainly be master at the same time.
    pub split_brain: bool,
    /// A replacement for the marked text, if that is certain enough.
    pub replacement: Option<String>,
    /// Where the reader was.
    pub(super) subject: Subject,
    /// It is only a consequence of a reported error, and is not shown.
    pub(super) hidden: bool,
    /// It is a consequence of errors up to this place, or to the end of the text if there is none, and is shown after
    /// them.
    pub(super) follows: Option<Span>,
    /// It is counted in an earlier one of the same kind instead of being shown.
    pub(super) folded: bool,
    /// How many like it are not shown.
    pub(super) more: usize,
}

impl Diagnostic {
    /// What it stops.
    #[must_use]
    pub fn stops(&self) -> Stops {
        if self.class >= Class::Include || *self.code == codes::MAIN_FILE {
            Stops::Start
        } else if self.severity == Severity::Error {
            Stops::Reload
        } else {
            Stops::Nothing
        }
    }

    /// Its code with the letter that says what it stops: `F` a start, `E` a reload, `W`, `L` (a lint) and `N` (a
    /// note) nothing. The number is that of the code.
    #[must_use]
    pub fn id(&self) -> String {
        let letter = match (self.stops(), self.severity) {
            (Stops::Start, _) => 'F',
            (Stops::Reload, _) => 'E',
            (Stops::Nothing, _) if self.code.is_lint() => 'L',
            (Stops::Nothing, Severity::Note) => 'N',
            (Stops::Nothing, _) => 'W',
        };
        format!("{letter}{}", self.code.number())
    }

    /// A part is not applied as written.
    pub fn error(code: &'static Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, Class::Problem, message.into())
    }

    /// Applied, but questionable.
    pub fn warning(code: &'static Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, Class::Problem, message.into())
    }

    /// A warning that keepalived does not give.
    pub fn advice(code: &'static Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, Class::Quiet, message.into())
    }

    /// The environment does not fit: a warning that keepalived counts as a problem.
    pub fn environment(code: &'static Code, message: impl Into<String>) -> Self {
        let mut new = Self::warning(code, message);
        new.environment = true;
        new
    }

    /// A reload that adds it is refused, although nothing is left out.
    #[must_use]
    pub(crate) fn refusing(mut self) -> Self {
        self.severity = Severity::Error;
        self
    }

    /// Only information.
    pub fn note_only(code: &'static Code, message: impl Into<String>) -> Self {
        Self::new(code, Severity::Note, Class::Quiet, message.into())
    }

    fn new(code: &'static Code, severity: Severity, class: Class, message: String) -> Self {
        Self {
            code,
            severity,
            class,
            environment: false,
            message,
            span: Span::NONE,
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
            split_brain: false,
            replacement: None,
            subject: Subject::default(),
            hidden: false,
            follows: None,
            folded: false,
            more: 0,
        }
    }

    /// Sets its place.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = span;
        self
    }

    /// It is a consequence of errors up to this place, and is shown after them.
    #[must_use]
    pub fn after(mut self, span: Span) -> Self {
        self.follows = Some(span);
        self
    }

    /// Whether it already explains the use of definitions.
    pub(super) fn names_definition(&self) -> bool {
        *self.code == codes::DEFINITION_LOOP || self.help.iter().any(|help| help.contains("defin"))
    }

    /// The label at the caret.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.label = text.into();
        self
    }

    /// Another place that belongs to it.
    #[must_use]
    pub fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        if span.is_some() {
            self.related.push((span, text.into()));
        }
        self
    }

    /// A fact that explains it.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// The remedy.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// A replacement for the marked text.
    #[must_use]
    pub fn replacement(mut self, text: impl Into<String>) -> Self {
        self.replacement = Some(text.into());
        self
    }

    /// With this, both routers are master at the same time.
    #[must_use]
    pub(crate) fn split_brain(mut self) -> Self {
        self.split_brain = true;
        self
    }

    /// keepalived's class of it.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    pub kind: Kind,
    pub block: &'static str,
    pub keyword: &'static str,
    pub within: Span,
    /// The end of the block, if it was being resolved.
    pub end: Span,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Files, includes, definitions: identified by the message.
    #[default]
    Text,
    /// The marked word is not a keyword.
    Unknown,
    /// The value of a keyword.
    Word,
    /// A block, or an entry of a list.
    Object,
    /// Found when a block was resolved.
    Settled,
}

/// All problems of a configuration, sorted by place, each once.
#[derive(Debug, Default)]
pub struct Diagnostics {
    pub(super) list: Vec<Diagnostic>,
    /// Consequences of others, which are not shown. A reload and the exit status count them.
    pub(super) hidden: Vec<Diagnostic>,
    pub(super) sources: Sources,
    pub(super) secrets: Secrets,
    /// What would be reported of the interfaces that the configuration names if they did not exist.
    pub(super) interfaces: BTreeSet<String>,
    /// `reload_check_config` is set: every problem that keepalived counts refuses a reload.
    pub(super) tested: bool,
}

impl Diagnostics {
    /// The problems in the order in which they are shown, and those that are not.
    pub(super) fn new(
        list: Vec<Diagnostic>,
        hidden: Vec<Diagnostic>,
        sources: Sources,
        secrets: Secrets,
    ) -> Self {
        Self { list, hidden, sources, secrets, interfaces: BTreeSet::new(), tested: false }
    }

    /// The problems to show: of many of the same kind only the first ones, with the number of the others.
    pub fn shown(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().filter(|d| !d.folded)
    }

    /// All problems, in the order of the files.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// The problems including those that are not shown.
    pub(super) fn all(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().chain(&self.hidden)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|d| d.severity == severity).count()
    }

    /// Whether the daemon must not start with this: keepalived does not either.
    #[must_use]
    pub fn unusable(&self) -> bool {
        self.all().any(|d| d.stops() == Stops::Start)
    }

    /// Whether `reload_check_config` is set, so that each of [`Self::counted`] refuses a reload.
    #[must_use]
    pub fn tested(&self) -> bool {
        self.tested
    }

    /// Whether a comparison with the other router found that both would be master at the same time.
    #[must_use]
    pub fn split_brain(&self) -> bool {
        self.list.iter().any(|d| d.split_brain)
    }

    /// The exit status of `keepalived -t`.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self.all().map(|d| d.class).max() {
            None | Some(Class::Quiet) => 0,
            Some(Class::Fatal) => 4,
            Some(Class::Problem) => 5,
            Some(Class::Security | Class::Include) => 6,
            Some(Class::Parameter) => 2,
        }
    }

    /// The problems for which the daemon refuses every reload while `reload_check_config` is set: those that keepalived
    /// counts.
    pub fn counted(&self) -> impl Iterator<Item = &Diagnostic> {
        self.iter().filter(|d| d.class != Class::Quiet)
    }

    /// Removes the codes that the user silenced. Errors stay, except for interfaces that this machine does not have.
    pub fn silence(&mut self, silenced: &[String]) {
        self.list.retain(|d| {
            (d.severity == Severity::Error && *d.code != codes::NO_INTERFACE)
                || !silenced.iter().any(|c| c.eq_ignore_ascii_case(d.code.id))
        });
    }
}
