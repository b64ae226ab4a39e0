//! Masks passwords and keys in the source lines that diagnostics show: what follows a keyword of a secret, misspelt or not,
//! the values of all lines in a block that holds secrets, and the values of definitions used there.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::span::{Place, Sources, Span, u32_of};
use crate::base::near::nearest;

/// Keywords whose values are secrets.
const KEYWORDS: [&str; 3] = ["auth_pass", "key", "password"];
/// Blocks in which the value of every line counts as a secret.
const BLOCKS: [&str; 2] = ["authentication", "auth_hmac"];
/// Keywords of those blocks whose value is none.
const OPEN: [&str; 5] = ["auth_type", "active_key", "time_window", "anti_replay", "mode"];
/// Parts of the names of definitions that hold secrets.
const NAMES: [&str; 3] = ["pass", "key", "secret"];
/// Lines longer than this in a file that is included in a block of secrets are masked as a whole.
const LONG: usize = 4096;
/// Nested includes that are followed to find out whether a line is in a block of secrets.
const INCLUDES: usize = 16;

type Pairs = Vec<(u32, u32)>;

/// Where secrets are, in all files.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// For each file, the offsets of lines at which the depth in blocks of secrets changes.
    depths: Vec<Pairs>,
    /// For each file, where secrets begin and end, by offset, if it is not included in a block of secrets.
    ranges: Vec<Pairs>,
    /// Names of definitions that are used as secrets.
    names: BTreeSet<Box<str>>,
    /// All keywords.
    pub(super) keywords: BTreeSet<&'static str>,
}

impl Secrets {
    pub(super) fn new(sources: &Sources, keywords: BTreeSet<&'static str>) -> Self {
        let mut secrets = Self { keywords, ..Self::default() };
        if !sources.texts().any(may_hold) {
            return secrets;
        }
        // A secret may be composed of definitions, so names are collected until there are no more.
        loop {
            let known = secrets.names.len();
            (secrets.depths, secrets.ranges) =
                sources.texts().map(|text| secrets.scan(text)).unzip();
            if secrets.names.len() == known {
                return secrets;
            }
        }
    }

    /// The depths and ranges of a file. Adds the definitions used as secrets to the names.
    fn scan(&mut self, text: &[u8]) -> (Pairs, Pairs) {
        let (mut depths, mut ranges) = (Vec::new(), Vec::new());
        let (mut depth, mut at) = (0, 0);
        for line in text.split(|b| *b == b'\n') {
            let mut secret = Vec::new();
            let next = walk(line, depth, &self.names, |from, to| secret.push((from, to)));
            for (from, to) in secret {
                self.names.extend(used(line.get(from..to).unwrap_or_default()));
                ranges.push((u32_of(at + from), u32_of(at + to)));
            }
            at += line.len() + 1;
            if next != depth {
                depth = next;
                depths.push((u32_of(at), depth));
            }
        }
        (depths, ranges)
    }

    /// The depth in the blocks of secrets that include the file of a place.
    fn depth_outside(&self, place: &Place<'_>, span: Span, sources: &Sources) -> u32 {
        let mut begin = span.start.saturating_sub(u32_of(place.start));
        let mut at = span;
        for level in 0..INCLUDES {
            let Some(unit) = sources.unit(at.unit) else {
                return 0;
            };
            let depths = self.depths.get(unit.file as usize).map_or(&[][..], Vec::as_slice);
            let changes = depths.partition_point(|(offset, _)| *offset <= begin);
            match changes.checked_sub(1).and_then(|last| depths.get(last)) {
                Some((_, depth)) if *depth > 0 => return if level == 0 { 0 } else { *depth },
                _ => (at, begin) = (unit.include, unit.include.start),
            }
        }
        0
    }

    /// The line of a place with stars for possible secrets; as long as the line.
    pub(super) fn masked<'a>(
        &self,
        place: &Place<'a>,
        span: Span,
        sources: &Sources,
    ) -> Cow<'a, [u8]> {
        let mut text: Option<Vec<u8>> = None;
        let mut hide = |from: usize, to: usize| {
            let text = text.get_or_insert_with(|| place.text.to_vec());
            for byte in text.iter_mut().take(to).skip(from).filter(|b| !b.is_ascii_whitespace()) {
                *byte = b'*';
            }
        };
        match self.depth_outside(place, span, sources) {
            0 => {
                let file = sources.unit(span.unit).map_or(u32::MAX, |unit| unit.file);
                let ranges = self.ranges.get(file as usize).map_or(&[][..], Vec::as_slice);
                let begin = span.start.saturating_sub(u32_of(place.start));
                let end = begin.saturating_add(u32_of(place.text.len()));
                let first = ranges.partition_point(|(_, to)| *to <= begin);
                for (from, to) in ranges.iter().skip(first).take_while(|(from, _)| *from < end) {
                    hide(from.saturating_sub(begin) as usize, to.saturating_sub(begin) as usize);
                }
            }
            _ if place.text.len() > LONG => hide(0, place.text.len()),
            depth => {
                walk(place.text, depth, &self.names, hide);
            }
        }
        text.map_or(Cow::Borrowed(place.text), Cow::Owned)
    }
}

impl Secrets {
    /// Takes a secret out of the texts of a problem whose place is in it; returns whether there is one.
    pub(super) fn hide<'t>(
        &self,
        span: Span,
        texts: impl Iterator<Item = &'t mut String>,
        sources: &Sources,
    ) -> bool {
        let Some(place) = sources.place(span) else {
            return false;
        };
        let masked = self.masked(&place, span, sources);
        let stars = masked.get(place.start..place.end).unwrap_or_default();
        let marked = place.text.get(place.start..place.end).unwrap_or_default();
        if stars == marked {
            return false;
        }
        // Only the beginning of a long one is in a message.
        let (stars, marked) = (cut(stars), cut(marked));
        let whole = stars.starts_with(b"*");
        // The secret parts of the marked text.
        let mut words: Vec<&[u8]> = Vec::new();
        let mut at = 0;
        for part in stars.split(|b| *b != b'*') {
            words.extend(marked.get(at..at + part.len()).filter(|word| !word.is_empty()));
            at += part.len() + 1;
        }
        let mut next = sources.unit(span.unit).map_or(u32::MAX, |unit| unit.expansion);
        while let Some(expansion) = sources.expansion(next).filter(|_| words.len() < INCLUDES) {
            let value = sources.place(expansion.defined);
            words.extend(value.and_then(|value| value.text.get(value.start..value.end)));
            next = expansion.parent;
        }
        let words: Vec<_> = words
            .iter()
            .flat_map(|text| text.split(|b| b.is_ascii_whitespace() || *b == b'"'))
            .filter(|word| !word.is_empty())
            .map(String::from_utf8_lossy)
            .collect();
        for text in texts {
            for word in &words {
                *text = text.replace(&format!("'{word}'"), "'***'");
                if word.len() > 3 {
                    *text = text.replace(&**word, "***");
                }
            }
            // A word may consist of several parts.
            let mut parts = text.split('\'').enumerate().map(|(index, part)| match index % 2 {
                1 if whole && !self.keywords.contains(part) && part.len() > 1 => "***",
                _ => part,
            });
            *text = parts.next().map_or_else(String::new, |first| {
                parts.fold(first.to_owned(), |all, part| all + "'" + part)
            });
        }
        true
    }
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..LONG).unwrap_or(text)
}

/// Whether a text may have secrets.
fn may_hold(text: &[u8]) -> bool {
    ["auth", "pass", "hmac", "key", "word", "secret"]
        .iter()
        .any(|part| memchr::memmem::find(text, part.as_bytes()).is_some())
}

/// Whether a word is a keyword of a secret or a misspelling of one.
fn is_near(word: &str, keywords: &[&str]) -> bool {
    keywords.contains(&word)
        || (word.len() > 4 && nearest(word, keywords.iter().copied()).is_some())
}

/// Calls `secret` for each range of the line that may be secret; returns the depth in blocks of secrets after the line.
fn walk(
    line: &[u8],
    mut depth: u32,
    names: &BTreeSet<Box<str>>,
    mut secret: impl FnMut(usize, usize),
) -> u32 {
    let blank = |b: &u8| b.is_ascii_whitespace();
    // What follows is secret; a block of secrets may follow; the next word is a keyword; a comment has begun.
    let (mut hidden, mut opens, mut first, mut comment) = (false, false, true, false);
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
            b'{' => {
                depth = if depth > 0 || opens || hidden { depth + 1 } else { 0 };
                (hidden, opens, first, open_value) = (false, false, true, false);
                at += 1;
                continue;
            }
            b'}' => {
                depth = depth.saturating_sub(1);
                (hidden, opens, first, open_value) = (false, false, true, false);
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
            if names.contains(name) || NAMES.iter().any(|part| lower.contains(part)) {
                secret(at + name.len() + 2, line.len());
                return depth;
            }
        }
        let is_keyword = core::mem::replace(&mut first, false);
        if !hidden && word.contains('$') && used(bytes).iter().any(|name| names.contains(name)) {
            secret(at, end);
            at = end;
            continue;
        }
        if hidden {
            secret(at, end);
        } else if let Some(sign) = memchr::memchr(b'=', bytes)
            && word.split_once('=').is_some_and(|(name, _)| is_near(name, &KEYWORDS))
        {
            secret(at + sign + 1, end);
            hidden = true;
        } else if is_near(&word, &KEYWORDS) {
            hidden = true;
            // The id of a key precedes it.
            let id = line.get(end..).unwrap_or_default();
            let blanks = id.iter().take_while(|b| blank(b)).count();
            let digits = id.iter().skip(blanks).take_while(|b| b.is_ascii_digit()).count();
            let ends = id.get(blanks + digits).is_none_or(blank);
            if word == "key" && digits < 4 && ends {
                at = end + blanks + digits;
                continue;
            }
        } else if is_near(&word, &BLOCKS) {
            opens = true;
        } else if depth > 0 {
            if is_keyword {
                open_value = is_near(&word, &OPEN);
                let word_like = |b: &u8| b.is_ascii_lowercase() || *b == b'_';
                // `auth_pass=...`, or a value on a line of its own.
                if !open_value && !bytes.iter().all(|b| word_like(b) || *b == b'=') {
                    let from = memchr::memchr(b'=', bytes).map_or(0, |sign| sign + 1);
                    secret(at + from, end);
                    hidden = true;
                } else if let Some(sign) = memchr::memchr(b'=', bytes) {
                    secret(at + sign + 1, end);
                    hidden = true;
                }
                hidden |= !open_value;
            } else if !core::mem::take(&mut open_value) {
                // Another keyword on the same line, which is not read as one, and its value.
                secret(at, end);
            }
        }
        at = end;
    }
    depth
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
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut secrets = Secrets::default();
        while {
            let known = secrets.names.len();
            secrets.scan(text.as_bytes());
            secrets.names.len() > known
        } {}
        let mut depth = 0;
        let lines = text.split('\n').map(|line| {
            let mut out = line.as_bytes().to_vec();
            depth = walk(line.as_bytes(), depth, &secrets.names, |from, to| {
                for byte in &mut out[from..to] {
                    *byte = if byte.is_ascii_whitespace() { *byte } else { b'*' };
                }
            });
            String::from_utf8(out).unwrap()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn values_of_secret_lines_are_masked() {
        for (text, expected) in [
            ("auth_pass abc", "auth_pass ***"),
            ("auth_pas abc }", "auth_pas *** }"),
            ("auth_pass \"a}c\" x", "auth_pass ***** *"),
            ("key 7 abc def", "key 7 *** ***"),
            ("key 7abc", "key ****"),
            ("key 12345678", "key ********"),
            (
                "authentication { auth_type PASS auth_pass ab }",
                "authentication { auth_type PASS auth_pass ** }",
            ),
            (
                "auth_hmac {\n kye 2 ab\n keys cd\n mode enforce\n}\nx y",
                "auth_hmac {\n kye * **\n keys **\n mode enforce\n}\nx y",
            ),
            ("autentication\n{\n pw ab", "autentication\n{\n pw ab"),
            ("auth_hmac { kye { 2 ab } } priority 3", "auth_hmac { kye { * ** } } priority 3"),
            ("$PW=ab # c\nauth_pass x$PW", "$PW=** * *\nauth_pass ****"),
            ("$A=ab\n$B=$A\n$C=cd\nauth_pass ${B}", "$A=**\n$B=**\n$C=cd\nauth_pass ****"),
            ("$MY_KEY=ab cd", "$MY_KEY=** **"),
            ("auth_pass a#b}c d", "auth_pass ***** *"),
            ("authentication {\n auth_pass=ab\n}", "authentication {\n auth_pass=**\n}"),
            (
                "priority 100 # authentication {\n state MASTER",
                "priority 100 # authentication {\n state MASTER",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
