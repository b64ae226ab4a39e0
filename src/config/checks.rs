//! How strictly includes are checked.

/// Which problems of an include are errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    /// A file that matches cannot be used.
    pub read: bool,
    /// A name without wildcards does not exist.
    pub matched: bool,
    /// A pattern has no match.
    pub wildcard: bool,
    /// An alternative in braces has no match.
    pub braces: bool,
}

impl Checks {
    /// Everything is checked.
    pub(crate) const ALL: Self = Self { read: true, matched: true, wildcard: true, braces: true };

    /// The checks of a letter after `include`.
    pub(crate) fn of_letter(letter: Option<u8>) -> Self {
        let none = Self::default();
        match letter {
            Some(b'r') => Self { read: true, ..none },
            Some(b'm') => Self { read: true, matched: true, ..none },
            Some(b'w') => Self { braces: false, ..Self::ALL },
            Some(b'b') => Self { read: true, braces: true, ..none },
            Some(b'a') => Self::ALL,
            _ => none,
        }
    }

    /// The union of both.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            matched: self.matched || other.matched,
            wildcard: self.wildcard || other.wildcard,
            braces: self.braces || other.braces,
        }
    }
}
