//! The properties of a keyword in a table: names, the form of its value, how often it counts.
//! Reading statements is left to `schema`.

use std::sync::OnceLock;

/// How often a keyword may occur in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Any number of times, the last one counts.
    Last,
    /// The first one counts, others are reported.
    First,
    /// All of them count.
    Many,
}

/// The form of a value, for reference pages, completion and JSON.
#[derive(Clone, Debug)]
pub enum Shape {
    /// No value: the keyword alone.
    Flag,
    /// A truth value; the keyword alone means true.
    Boolean,
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A time in seconds, with decimals.
    Seconds {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One word of text.
    Text(&'static str),
    /// Several words, as in this description.
    Words(String),
    /// A block of lines, each as in this description.
    Lines(String),
    /// A block of words, each as in this description.
    List(String),
    /// A block with keywords of its own.
    Block(fn() -> &'static Table, String),
}

/// How a keyword without its value is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// keepalived ends with status 2.
    Fatal,
    /// Reported, the line is ignored.
    Reported,
    /// Not even reported.
    Quiet,
}

/// Another name of a keyword.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    pub name: &'static str,
    /// It is deprecated.
    pub deprecated: bool,
    /// keepalived logs that it is deprecated.
    pub counted: bool,
}

/// The effective setting if a keyword is not given.
#[derive(Clone, Copy, Debug)]
pub enum Unset {
    /// The value in its textual form. Resolving takes it from the same row.
    Value(fn() -> String),
    /// What another place gives, in words, or else the value.
    Inherited(&'static str, fn() -> String),
    /// Something that depends on other keywords or on the host, in words.
    Words(&'static str),
}

/// One row of a table.
#[derive(Debug)]
pub struct Keyword {
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [Alias],
    /// What it means.
    pub doc: &'static str,
    /// The form of its value.
    pub shape: fn() -> Shape,
    /// How often it may occur.
    pub times: Times,
    /// The effective setting without it.
    pub default: Option<Unset>,
    /// Not supported in this version.
    pub later: bool,
    /// How a missing value is handled.
    pub missing: Missing,
    /// Deprecated, with what to use instead.
    pub deprecated: Option<&'static str>,
    /// Accepted without any effect.
    pub dead: bool,
    /// Not part of keepalived 2.4.3.
    pub newer: bool,
    /// What of its value must not be shown.
    pub secrecy: Secrecy,
}

/// What of the value of a keyword must not be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secrecy {
    /// Nothing.
    #[default]
    Open,
    /// All of it: a password.
    Whole,
    /// A key behind its id, unless it is `file:PATH`.
    Key,
}

impl Keyword {
    pub(crate) const fn new(
        name: &'static str,
        aliases: &'static [Alias],
        doc: &'static str,
        shape: fn() -> Shape,
        times: Times,
    ) -> Self {
        Self {
            name,
            aliases,
            doc,
            shape,
            times,
            default: None,
            later: false,
            missing: Missing::Fatal,
            deprecated: None,
            dead: false,
            newer: false,
            secrecy: Secrecy::Open,
        }
    }

    /// Sets the value that is in force if the keyword is not given.
    pub(crate) const fn default(mut self, shown: fn() -> String) -> Self {
        self.default = Some(Unset::Value(shown));
        self
    }

    /// Something else is in force before the default set before: in words, such as "that of the real server".
    pub(crate) const fn after(mut self, what: &'static str) -> Self {
        if let Some(Unset::Value(shown)) = self.default {
            self.default = Some(Unset::Inherited(what, shown));
        }
        self
    }

    /// Sets the description of a default that depends on other keywords or on the host.
    pub(crate) const fn otherwise(mut self, what: &'static str) -> Self {
        self.default = Some(Unset::Words(what));
        self
    }

    /// Parsed, but not in effect in this version.
    pub(crate) const fn later(mut self) -> Self {
        self.later = true;
        self
    }

    /// A missing value is only reported.
    pub(crate) const fn lenient(mut self) -> Self {
        self.missing = Missing::Reported;
        self
    }

    /// A missing value is not reported.
    pub(crate) const fn quiet(mut self) -> Self {
        self.missing = Missing::Quiet;
        self
    }

    pub(crate) const fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecated = Some(instead);
        self
    }

    pub(crate) const fn dead(mut self) -> Self {
        self.dead = true;
        self
    }

    pub(crate) const fn newer(mut self) -> Self {
        self.newer = true;
        self
    }

    /// Its value is a password.
    pub(crate) const fn secret(mut self) -> Self {
        self.secrecy = Secrecy::Whole;
        self
    }

    /// Its value is an id and a key.
    pub(crate) const fn secret_key(mut self) -> Self {
        self.secrecy = Secrecy::Key;
        self
    }
}

/// The keywords of a block.
#[derive(Debug)]
pub struct Table {
    /// The keyword that opens the block, `global_defs` or `virtual_server`.
    pub name: &'static str,
    /// The meaning of the block.
    pub doc: &'static str,
    /// The rows, in the order of the dump.
    pub keywords: &'static [Keyword],
    /// Names in sorted order with their rows, and the alias each is.
    index: OnceLock<Vec<Entry>>,
}

type Entry = (&'static [u8], u16, Option<&'static Alias>);

impl Table {
    pub(crate) const fn new(
        name: &'static str,
        doc: &'static str,
        keywords: &'static [Keyword],
    ) -> Self {
        Self { name, doc, keywords, index: OnceLock::new() }
    }

    fn index(&'static self) -> &'static [Entry] {
        self.index.get_or_init(|| {
            let mut index = Vec::new();
            for (row, keyword) in self.keywords.iter().enumerate() {
                let row = u16::try_from(row).unwrap_or(u16::MAX);
                index.push((keyword.name.as_bytes(), row, None));
                for alias in keyword.aliases {
                    index.push((alias.name.as_bytes(), row, Some(alias)));
                }
            }
            index.sort_unstable_by_key(|e| e.0);
            index
        })
    }

    /// The row of a keyword, and the alias if it is not its main name.
    pub(crate) fn find(&'static self, word: &[u8]) -> Option<(usize, Option<&'static Alias>)> {
        let index = self.index();
        let at = index.binary_search_by_key(&word, |e| e.0).ok()?;
        index.get(at).map(|e| (usize::from(e.1), e.2))
    }

    /// All names, aliases included.
    pub fn names(&'static self) -> impl Iterator<Item = &'static str> {
        self.keywords
            .iter()
            .flat_map(|k| core::iter::once(k.name).chain(k.aliases.iter().map(|a| a.name)))
    }
}

impl Unset {
    /// Its text in the reference pages.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Value(shown) => shown(),
            Self::Inherited(what, shown) => format!("{what}, else {}", shown()),
            Self::Words(what) => what.to_owned(),
        }
    }
}

impl Shape {
    /// The form in words, for messages: `an integer from 1 to 255`.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Flag => "no value".into(),
            Self::Boolean => "one of true, on, yes, false, off, no".into(),
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Seconds { min, max } => format!("a time from {min} to {max} seconds"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Text(what) => (*what).to_owned(),
            Self::Words(form) | Self::Lines(form) | Self::List(form) => form.clone(),
            Self::Block(_, header) if header.is_empty() => "a block".into(),
            Self::Block(_, header) => format!("{header} and a block"),
        }
    }

    /// The form of the words before a block; nothing if there are none.
    pub(crate) fn expected_header(&self) -> String {
        match self {
            Self::Flag => String::new(),
            other => other.expected(),
        }
    }
}

/// Visits a table and all below it.
pub(crate) fn walk(table: &'static Table, visit: &mut impl FnMut(&'static Table)) {
    visit(table);
    for keyword in table.keywords {
        if let Shape::Block(child, _) = (keyword.shape)() {
            walk(child(), visit);
        }
    }
}
