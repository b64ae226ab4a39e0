//! Hides passwords and keys in the source lines and messages that diagnostics show: what follows a keyword of a secret,
//! misspelt or not, the values of all lines in a block that holds secrets, and the values of definitions used there.
//!
//! Which keywords these are is said by the tables: rows marked `secret` or `secret_key`. A secret is shown as three
//! stars, whatever its length; `file:PATH` of a key stays. Diagnostics are printed with [`Secrets::place`] instead of
//! [`Sources::place`]; text of the configuration enters messages through [`mark`].

pub(crate) mod mark;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::keyword::{Secrecy, Table, walk as tables};
use super::span::{Place, Sources, Span, u32_of};
use crate::base::near::nearest;

/// Shown instead of a secret.
pub(crate) const STARS: &str = "***";
/// The beginning of a key that is the content of a file.
pub(crate) const FILE: &[u8] = b"file:";
/// Parts of the names of definitions that hold secrets.
const NAMES: [&str; 3] = ["pass", "key", "secret"];
/// Lines longer than this in a file that is included in a block of secrets are hidden as a whole.
const LONG: usize = 4096;
/// Nested includes that are followed to find out whether a line is in a block of secrets.
const INCLUDES: usize = 16;

/// What the tables say about secrets.
#[derive(Debug, Default)]
struct Rules {
    /// Keywords whose values are secrets.
    keywords: BTreeMap<&'static str, Secrecy>,
    /// Blocks in which the value of every line counts as a secret, with their keywords whose values do not.
    blocks: Vec<(&'static str, Vec<&'static str>)>,
}

impl Rules {
    fn new(vocabulary: &'static Table) -> Self {
        let mut rules = Self::default();
        tables(vocabulary, &mut |table| {
            let (open, secret): (Vec<_>, Vec<_>) =
                table.keywords.iter().partition(|keyword| keyword.secrecy == Secrecy::Open);
            if !secret.is_empty() {
                rules.keywords.extend(secret.iter().map(|keyword| (keyword.name, keyword.secrecy)));
                rules.blocks.push((table.name, open.iter().map(|keyword| keyword.name).collect()));
            }
        });
        rules
    }

    /// Whether a text may have secrets. A misspelt keyword is recognised by another part of it.
    fn may_be_in(&self, text: &[u8]) -> bool {
        let words = self.keywords.keys().chain(self.blocks.iter().map(|(name, _)| name));
        let parts = words.flat_map(|word| word.split('_')).filter(|part| part.len() > 2);
        let mut parts = parts.chain(NAMES).chain(["auth", "word"]);
        parts.any(|part| memchr::memmem::find(text, part.as_bytes()).is_some())
    }

    /// What is secret about the value of a word that is, or is meant to be, a keyword of a secret.
    fn keyword(&self, word: &str) -> Option<Secrecy> {
        let exact = self.keywords.get(word);
        let near = || nearest(word, self.keywords.keys().copied()).filter(|_| word.len() > 4);
        exact.or_else(|| self.keywords.get(near()?)).copied()
    }

    /// The block of secrets that a word opens, or is meant to open.
    fn block(&self, word: &str) -> Option<usize> {
        self.blocks.iter().position(|(name, _)| is_near(word, &[*name]))
    }

    /// The keywords of a block of secrets whose values are not secret.
    fn open(&self, block: Option<usize>) -> &[&'static str] {
        block.and_then(|block| self.blocks.get(block)).map_or(&[], |(_, open)| open)
    }
}

/// What is known at the beginning of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// How many blocks are open, from a block of secrets on.
    depth: u32,
    /// The innermost block of secrets that is open, as a position in [`Rules::blocks`].
    block: Option<usize>,
    /// The line continues the secret value of a definition, which is only used as a key or not.
    continues: Option<bool>,
}

/// Offsets of lines, and the states from there on.
type States = Vec<(u32, State)>;
/// Offsets of beginnings and ends.
type Ranges = Vec<(u32, u32)>;

/// A secret part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hidden {
    from: usize,
    to: usize,
    /// It is the value of a key, of which a path may be shown.
    key: bool,
}

/// A place as it may be shown.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub file: &'a str,
    /// From 1.
    pub line: u32,
    /// In bytes from 1, in the file. In a secret, where that begins.
    pub column: u32,
    /// The line without its end, with stars for secrets.
    pub text: Cow<'a, [u8]>,
    /// The marked part within `text`.
    pub start: usize,
    pub end: usize,
}

/// Where secrets are, in all files.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    rules: Rules,
    /// For each file, the offsets of lines at which the state changes.
    states: Vec<States>,
    /// For each file, where secrets begin and end, by offset, if it is not included in a block of secrets.
    ranges: Vec<Ranges>,
    /// Names of definitions that are used as secrets, and whether only as keys.
    names: BTreeMap<Box<str>, bool>,
    /// All keywords.
    pub(super) keywords: BTreeSet<&'static str>,
}

impl Secrets {
    pub(super) fn new(sources: &Sources, vocabulary: &'static Table) -> Self {
        let mut keywords = BTreeSet::new();
        tables(vocabulary, &mut |table| keywords.extend(table.names()));
        let mut secrets = Self { rules: Rules::new(vocabulary), keywords, ..Self::default() };
        if sources.texts().any(|text| secrets.rules.may_be_in(text)) {
            // A secret may be composed of definitions, so names are collected until there are no more.
            let mut changed = true;
            while changed {
                changed = false;
                (secrets.states, secrets.ranges) =
                    sources.texts().map(|text| secrets.scan(text, &mut changed)).unzip();
            }
        }
        secrets
    }

    /// The states and ranges of a file. Adds the definitions used as secrets to the names.
    fn scan(&mut self, text: &[u8], changed: &mut bool) -> (States, Ranges) {
        let (mut states, mut ranges) = (Vec::new(), Vec::new());
        let (mut state, mut at) = (State::default(), 0);
        for line in text.split(|b| *b == b'\n') {
            let (hidden, next) = walk(line, state, &self.rules, &self.names);
            for Hidden { from, to, key } in hidden {
                for name in used(line.get(from..to).unwrap_or_default()) {
                    let known = self.names.get(&name).copied();
                    let only_keys = key && known != Some(false);
                    if known != Some(only_keys) {
                        self.names.insert(name, only_keys);
                        *changed = true;
                    }
                }
                ranges.push((u32_of(at + from), u32_of(at + to)));
            }
            at += line.len() + 1;
            if next != state {
                state = next;
                states.push((u32_of(at), state));
            }
        }
        (states, ranges)
    }

    /// The state in the blocks of secrets that include the file of a place.
    fn state_outside(&self, place: &Place<'_>, span: Span, sources: &Sources) -> State {
        let mut begin = span.start.saturating_sub(u32_of(place.start));
        let mut at = span;
        for level in 0..INCLUDES {
            let Some(unit) = sources.unit(at.unit) else {
                break;
            };
            let states = self.states.get(unit.file as usize).map_or(&[][..], Vec::as_slice);
            let changes = states.partition_point(|(offset, _)| *offset <= begin);
            match changes.checked_sub(1).and_then(|last| states.get(last)) {
                Some((_, state)) if *state != State::default() => {
                    return if level == 0 { State::default() } else { *state };
                }
                _ => (at, begin) = (unit.include, unit.include.start),
            }
        }
        State::default()
    }

    /// The secrets in the line of a place, as ranges that are not empty.
    fn hidden(&self, place: &Place<'_>, span: Span, sources: &Sources) -> Vec<(usize, usize)> {
        let state = self.state_outside(place, span, sources);
        let length = place.text.len();
        let list: Vec<(usize, usize)> = if state == State::default() {
            let file = sources.unit(span.unit).map_or(u32::MAX, |unit| unit.file);
            let ranges = self.ranges.get(file as usize).map_or(&[][..], Vec::as_slice);
            let begin = span.start.saturating_sub(u32_of(place.start));
            let end = begin.saturating_add(u32_of(length));
            let first = ranges.partition_point(|(_, to)| *to <= begin);
            let here = ranges.iter().skip(first).take_while(|(from, _)| *from < end);
            let offset = |at: u32| at.saturating_sub(begin) as usize;
            here.map(|(from, to)| (offset(*from), offset(*to))).collect()
        } else if length > LONG {
            vec![(0, length)]
        } else {
            let (hidden, _) = walk(place.text, state, &self.rules, &self.names);
            hidden.iter().map(|part| (part.from, part.to)).collect()
        };
        let clipped = list.into_iter().map(|(from, to)| (from, to.min(length)));
        clipped.filter(|(from, to)| from < to).collect()
    }

    /// The place of a span, with stars for the secrets in its line.
    pub(super) fn place<'a>(&self, span: Span, sources: &'a Sources) -> Option<Shown<'a>> {
        let place = sources.place(span)?;
        let hidden = self.hidden(&place, span, sources);
        let Place { file, line, column, text, start, end } = place;
        if hidden.is_empty() {
            return Some(Shown { file, line, column, text: Cow::Borrowed(text), start, end });
        }
        let within = hidden.iter().find(|(from, to)| (*from..*to).contains(&start));
        let column = within.map_or(column, |(from, _)| column.saturating_sub(u32_of(start - from)));
        let text = Cow::Owned(starred(text, &hidden));
        let (start, end) = (moved(start, &hidden, false), moved(end, &hidden, true));
        Some(Shown { file, line, column, text, start, end })
    }

    /// Whether a place is in a secret.
    pub(super) fn is_in(&self, span: Span, sources: &Sources) -> bool {
        sources.place(span).is_some_and(|place| {
            let hidden = self.hidden(&place, span, sources);
            hidden.iter().any(|(from, to)| (*from..*to).contains(&place.start))
        })
    }

    /// Text from a place, with stars for what is secret.
    fn shown(&self, text: &str, from: Span, sources: &Sources) -> String {
        let Some(place) = sources.place(from) else {
            return text.to_owned();
        };
        let (start, end) = (place.start, place.start + text.len());
        let exact = place.text.get(start..end) == Some(text.as_bytes());
        let end = if exact { end } else { place.end.max(start + 1) };
        let mut hidden = self.hidden(&place, from, sources);
        hidden.retain(|(from, to)| *from < end && *to > start);
        match hidden.as_slice() {
            [] => text.to_owned(),
            list if exact => {
                let offset = |at: usize| at.saturating_sub(start).min(text.len());
                let list: Vec<_> = list.iter().map(|(a, b)| (offset(*a), offset(*b))).collect();
                String::from_utf8_lossy(&starred(text.as_bytes(), &list)).into_owned()
            }
            _ => STARS.to_owned(),
        }
    }

    /// Takes secrets out of a message.
    pub(super) fn hide(&self, message: &mut String, sources: &Sources) {
        mark::settle(message, |text, from| self.shown(text, from, sources));
    }
}

/// A text with stars for parts of it.
fn starred(text: &[u8], hidden: &[(usize, usize)]) -> Vec<u8> {
    let (mut shown, mut at) = (Vec::with_capacity(text.len()), 0);
    for (from, to) in hidden {
        shown.extend_from_slice(text.get(at..*from).unwrap_or_default());
        shown.extend_from_slice(STARS.as_bytes());
        at = *to;
    }
    shown.extend_from_slice(text.get(at..).unwrap_or_default());
    shown
}

/// Where a position of a line is after its secrets were replaced: the beginning or the end of the stars for one in a
/// secret.
fn moved(at: usize, hidden: &[(usize, usize)], to_end: bool) -> usize {
    let (mut old, mut new) = (0, 0);
    for (from, to) in hidden {
        if at <= *from {
            break;
        }
        let begin = new + (from - old);
        (old, new) = (*to, begin + STARS.len());
        if at < *to {
            return if to_end { new } else { begin };
        }
    }
    new + (at - old)
}

/// Whether a word is one of the keywords or a misspelling of one.
fn is_near(word: &str, keywords: &[&str]) -> bool {
    keywords.contains(&word)
        || (word.len() > 4 && nearest(word, keywords.iter().copied()).is_some())
}

/// The secrets of a line, and the state after it.
fn walk(
    line: &[u8],
    mut state: State,
    rules: &Rules,
    names: &BTreeMap<Box<str>, bool>,
) -> (Vec<Hidden>, State) {
    let mut list = Vec::new();
    let blank = |b: &u8| b.is_ascii_whitespace();
    let goes_on = |line: &[u8]| line.trim_ascii_end().ends_with(b"\\");
    if let Some(key) = state.continues {
        list.push(Hidden { from: 0, to: line.len(), key });
        state.continues = goes_on(line).then_some(key);
        return (list, state);
    }
    // What follows is secret; the block of secrets that may follow; the next word is a keyword; a comment has begun.
    let (mut hidden, mut opens, mut first, mut comment) = (None, None, true, false);
    let mut open_value = false;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        let rest = line.get(at..).unwrap_or_default();
        let length = match byte {
            b if blank(b) => {
                at += 1;
                continue;
            }
            b'{' | b'}' if comment => 1,
            b'{' | b'}' => {
                let inside = state.depth > 0 || opens.is_some() || hidden.is_some();
                state.depth = match byte {
                    b'{' if inside => state.depth + 1,
                    b'{' => 0,
                    _ => state.depth.saturating_sub(1),
                };
                state.block = if *byte == b'{' { opens.or(state.block) } else { state.block };
                state.block = state.block.filter(|_| state.depth > 0);
                (hidden, opens, first, open_value) = (None, None, true, false);
                at += 1;
                continue;
            }
            b'"' => {
                let inner = rest.get(1..).unwrap_or_default();
                memchr::memchr(b'"', inner).map_or(rest.len(), |end| end + 2)
            }
            _ => word_length(rest),
        };
        let bytes = rest.get(..length).unwrap_or_default();
        let end = at + length;
        let word = String::from_utf8_lossy(bytes);
        comment |= !word.starts_with('"') && word.contains(['#', '!']);
        if let Some((name, _)) = word.strip_prefix('$').and_then(|w| w.split_once('=')) {
            let lower = name.to_ascii_lowercase();
            let known = names.get(name).copied();
            if known.is_some() || NAMES.iter().any(|part| lower.contains(part)) {
                let (from, key) = (at + name.len() + 2, known.unwrap_or(true));
                let value = line.get(from..).unwrap_or_default();
                if !(key && value.trim_ascii_start().starts_with(FILE)) {
                    list.push(Hidden { from, to: line.len(), key });
                    state.continues = goes_on(line).then_some(key);
                }
                return (list, state);
            }
        }
        let is_keyword = core::mem::replace(&mut first, false);
        let mut hide = |from: usize, key: bool| list.push(Hidden { from, to: end, key });
        let of_names =
            || used(bytes).iter().filter_map(|name| names.get(name).copied()).reduce(|a, b| a && b);
        if hidden.is_none()
            && word.contains('$')
            && let Some(key) = of_names()
        {
            hide(at, key);
        } else if let Some(secrecy) = hidden {
            let path = bytes.strip_prefix(b"\"").unwrap_or(bytes).starts_with(FILE);
            if !(secrecy == Secrecy::Key && path) {
                hide(at, secrecy == Secrecy::Key);
            }
            // Behind the path nothing is open.
            hidden = Some(Secrecy::Whole);
        } else if is_keyword && rules.open(state.block).contains(&&*word) {
            open_value = true;
        } else if let Some(sign) = memchr::memchr(b'=', bytes)
            && word.split_once('=').is_some_and(|(name, _)| rules.keyword(name).is_some())
        {
            hide(at + sign + 1, false);
            hidden = Some(Secrecy::Whole);
        } else if let Some(secrecy) = rules.keyword(&word) {
            hidden = Some(secrecy);
            // The id of a key precedes it.
            let id = line.get(end..).unwrap_or_default();
            let blanks = id.iter().take_while(|b| blank(b)).count();
            let digits = id.iter().skip(blanks).take_while(|b| b.is_ascii_digit()).count();
            let ends = id.get(blanks + digits).is_none_or(blank);
            if secrecy == Secrecy::Key && digits < 4 && ends {
                at = end + blanks + digits;
                continue;
            }
        } else if let Some(block) = rules.block(&word) {
            opens = Some(block);
        } else if state.depth > 0 {
            if is_keyword && is_near(&word, rules.open(state.block)) {
                open_value = true;
            } else if is_keyword {
                let word_like = |b: &u8| b.is_ascii_lowercase() || *b == b'_';
                // `auth_pass=...`, or a value on a line of its own.
                let sign = memchr::memchr(b'=', bytes);
                let rest = line.get(end..).unwrap_or_default().trim_ascii_start();
                let alone = matches!(rest.first(), None | Some(b'}' | b'#' | b'!'));
                if alone || !bytes.iter().all(word_like) {
                    hide(at + sign.map_or(0, |sign| sign + 1), false);
                }
                hidden = Some(Secrecy::Whole);
            } else if !core::mem::take(&mut open_value) {
                // Another keyword on the same line, which is not read as one, and its value.
                hide(at, false);
            }
        }
        at = end;
    }
    // How many words there are does not show either.
    list.dedup_by(|next, last| {
        let between = line.get(last.to..next.from).unwrap_or_default();
        let joins = between.iter().all(blank);
        if joins {
            *last = Hidden { to: next.to, key: last.key && next.key, ..*last };
        }
        joins
    });
    (list, state)
}

/// The length of the word at the beginning of a text; the braces of `${NAME}` belong to it.
fn word_length(text: &[u8]) -> usize {
    let mut length = 1;
    while let Some(byte) = text.get(length) {
        let of_name = *byte == b'{' && text.get(length - 1) == Some(&b'$');
        let rest = text.get(length..).unwrap_or_default();
        if let Some(end) = memchr::memchr(b'}', rest).filter(|_| of_name) {
            length += end;
        } else if byte.is_ascii_whitespace() || matches!(byte, b'{' | b'}' | b'"') {
            break;
        }
        length += 1;
    }
    length
}

/// The names of definitions used in a text.
fn used(text: &[u8]) -> BTreeSet<Box<str>> {
    let text = String::from_utf8_lossy(text);
    let used = text.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
    });
    used.filter(|name| !name.is_empty()).map(Box::from).collect()
}

#[cfg(test)]
mod tests;
