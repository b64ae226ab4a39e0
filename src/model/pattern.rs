//! Patterns that a page must, or must not, contain.
//!
//! They are in PCRE2's notation. The time of a search is linear in the length of the page, because the contents are
//! controlled by the server and not trusted. A pattern that this excludes (look-around, references back) is a
//! configuration error, and every page fails it. Characters are octets unless `utf` or `ucp` is set.

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Octets of a page that are searched, from the first permitted start of a match.
pub const SEARCHED: usize = 256 << 10;
/// Most octets of a compiled pattern.
const COMPILED: usize = 4 << 20;

/// What a page must, or must not, contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// The expression, in PCRE2's notation.
    pub text: Box<[u8]>,
    /// `regex_options`
    pub options: Vec<Box<str>>,
    /// `regex_no_match`: the page must not match.
    pub absent: bool,
    /// `regex_min_offset`: the first octet of the page at which a match may begin.
    pub min_offset: u64,
    /// `regex_max_offset`: the last octet at which a match may begin.
    pub max_offset: Option<u64>,
}

impl Pattern {
    /// The compiled pattern.
    ///
    /// # Errors
    /// A description of why the pattern is invalid or not supported.
    pub fn compile(&self) -> Result<Regex, String> {
        let is_set = |name: &str| self.options.iter().any(|option| **option == *name);
        let unicode = is_set("utf") || is_set("ucp");
        let built = RegexBuilder::new(&translated(&self.text, is_set("dollar_endonly"), unicode))
            .unicode(unicode)
            .case_insensitive(is_set("caseless"))
            .multi_line(is_set("multiline"))
            .dot_matches_new_line(is_set("dotall"))
            .ignore_whitespace(is_set("extended"))
            .swap_greed(is_set("ungreedy"))
            .size_limit(COMPILED)
            .dfa_size_limit(COMPILED)
            .build();
        built.map_err(|error| {
            let text = error.to_string();
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            last.trim().trim_start_matches("error: ").to_owned()
        })
    }

    /// Whether a match begins in the permitted range. `octets` are those of the page from its start, or from one
    /// octet before `min_offset`, which is context and not part of a match.
    #[must_use]
    pub fn is_in(&self, regex: &Regex, octets: &[u8]) -> bool {
        let start = usize::from(self.min_offset > 0);
        if octets.len() < start {
            return false;
        }
        let Some(found) = regex.find_at(octets, start) else {
            return false;
        };
        // The match found is the leftmost one.
        let at = u64::try_from(found.start() - start).unwrap_or(u64::MAX);
        let line = octets.get(start..found.start()).unwrap_or_default();
        let first_line = self.options.iter().any(|option| **option == *"firstline");
        let within = self.max_offset.is_none_or(|max| self.min_offset.saturating_add(at) <= max);
        within && !(first_line && line.contains(&b'\n'))
    }
}

/// The pattern in the notation of the library: what is plain text for PCRE2 and not for it, and the other way round.
fn translated(pattern: &[u8], dollar_is_end: bool, unicode: bool) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut class = None;
    while let Some((&octet, more)) = rest.split_first() {
        let before = rest;
        rest = more;
        match octet {
            b'\\' if more.starts_with(b"Q") => {
                let quoted = more.get(1..).unwrap_or_default();
                let end = memchr::memmem::find(quoted, b"\\E").unwrap_or(quoted.len());
                let (quoted, after) = quoted.split_at(end);
                quoted.iter().for_each(|octet| literal(&mut out, *octet));
                rest = after.get(2..).unwrap_or_default();
            }
            b'\\' => {
                out.push('\\');
                if let Some((&next, after)) = more.split_first() {
                    if next.is_ascii() {
                        out.push(char::from(next));
                        rest = after;
                    } else {
                        // Plain text, as without the backslash.
                        out.pop();
                    }
                }
            }
            b'[' if class.is_none() => {
                out.push('[');
                class = Some(());
                if let Some(after) = rest.strip_prefix(b"^") {
                    out.push('^');
                    rest = after;
                }
                // The first one is plain text.
                if let Some(after) = rest.strip_prefix(b"]") {
                    out.push_str("\\]");
                    rest = after;
                }
            }
            b'[' if more.starts_with(b":") => match memchr::memmem::find(more, b":]") {
                Some(end) => {
                    let (name, after) = before.split_at(end + 3);
                    out.push_str(&String::from_utf8_lossy(name));
                    rest = after;
                }
                None => out.push_str("\\["),
            },
            b']' => {
                out.push_str(if class.take().is_some() { "]" } else { "\\]" });
            }
            b'[' | b'&' | b'~' if class.is_some() => literal(&mut out, octet),
            b'{' if class.is_none() && !repeats(more) => out.push_str("\\{"),
            b'$' if class.is_none() && !dollar_is_end => out.push_str("(?:$|\\n\\z)"),
            _ if octet.is_ascii() => out.push(char::from(octet)),
            _ => match before.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
                Some(character) if unicode => {
                    out.push(character);
                    rest = before.get(character.len_utf8()..).unwrap_or_default();
                }
                _ => literal(&mut out, octet),
            },
        }
    }
    out
}

/// One octet as it is.
fn literal(out: &mut String, octet: u8) {
    use core::fmt::Write;
    if octet.is_ascii_alphanumeric() {
        out.push(char::from(octet));
    } else {
        let _ = write!(out, "\\x{octet:02x}");
    }
}

/// Whether what follows a brace makes it a repetition: `3}`, `3,}` or `3,5}`.
fn repeats(rest: &[u8]) -> bool {
    let end = memchr::memchr(b'}', rest).unwrap_or(0);
    let inner = rest.get(..end).unwrap_or_default();
    inner.first().is_some_and(u8::is_ascii_digit)
        && inner.iter().all(|octet| octet.is_ascii_digit() || *octet == b',')
        && inner.iter().filter(|octet| **octet == b',').count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str, options: &str) -> Pattern {
        Pattern {
            text: text.as_bytes().into(),
            options: options.split_whitespace().map(Into::into).collect(),
            absent: false,
            min_offset: 0,
            max_offset: None,
        }
    }

    fn finds(text: &str, options: &str, page: &[u8]) -> bool {
        let pattern = pattern(text, options);
        let regex = pattern.compile().unwrap_or_else(|why| panic!("{text}: {why}"));
        pattern.is_in(&regex, page)
    }

    #[test]
    fn patterns_as_users_write_them() {
        for (text, options, yes, no) in [
            ("passing", "", &b"all passing"[..], &b"failing"[..]),
            (
                "BUILD: rpm-.{3,50} :: DATE: ../../.... .{12}",
                "",
                b"BUILD: rpm-1.2 :: DATE: 01/02/2026 12:00:00 UTC\n",
                b"BUILD: rpm-1.2",
            ),
            ("{\"status\": *\"UP\"}", "", b"{\"status\": \"UP\"}", b"{\"status\":\"DOWN\"}"),
            ("a{2}", "", b"aa", b"a{2}"),
            ("a{,2}", "", b"a{,2}", b"aa"),
            ("^ok$", "", b"ok\n", b"ok\nx"),
            ("^ok$", "dollar_endonly", b"ok", b"ok\n"),
            ("^ok$", "multiline", b"x\nok\ny", b"xok\n"),
            ("OK", "caseless", b"ok", b"no"),
            ("a.b", "", b"a\xffb", b"a\nb"),
            ("a.b", "dotall", b"a\nb", b"a"),
            ("a b # and", "extended", b"ab", b"a b"),
            ("[]a]x", "", b"]x", b"bx"),
            ("[[:digit:]]+[a&&b~]", "", b"1&", b"1c"),
            ("[[]x", "", b"[x", b"x"),
            ("\\Qa.b[\\E.", "", b"a.b[c", b"axb[c"),
            ("x]", "", b"x]", b"x"),
            ("(?i)up|(?:ready)", "", b"UP", b"down"),
            ("\u{e4}", "utf", "\u{e4}".as_bytes(), b"a"),
            ("\u{e4}", "", "\u{e4}".as_bytes(), b"a"),
            ("\\d\\w\\s", "", b"1a ", b"\xd9\xa1a "),
            ("^.b", "firstline", b"ab\n", b"a\nb"),
            ("b", "firstline", b"ab\n", b"a\nb"),
        ] {
            assert!(finds(text, options, yes), "{text}");
            assert!(!finds(text, options, no), "{text}");
        }
    }

    #[test]
    fn offsets_are_where_a_match_begins() {
        let mut pattern = pattern("\\bab", "");
        let regex = pattern.compile().unwrap();
        pattern.min_offset = 3;
        // With the octet before: `x` makes it no beginning of a word.
        assert!(pattern.is_in(&regex, b" ab"));
        assert!(!pattern.is_in(&regex, b"xab"));
        assert!(!pattern.is_in(&regex, b""));
        pattern.max_offset = Some(5);
        assert!(pattern.is_in(&regex, b"x- ab"));
        assert!(!pattern.is_in(&regex, b"x-- ab"));
    }

    #[test]
    fn what_cannot_be_searched_for_is_said() {
        for (text, why) in [
            ("(?=a)b", "look-around, including look-ahead and look-behind, is not supported"),
            ("(a)\\1", "backreferences are not supported"),
            ("(a", "unclosed group"),
            ("((a{500}){500}){500}", "Compiled regex exceeds size limit of 4194304 bytes."),
        ] {
            assert_eq!(pattern(text, "").compile().unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn a_pattern_that_backtracks_elsewhere_takes_no_time() {
        let page = vec![b'a'; SEARCHED];
        assert!(!finds("(a+)+$x", "", &page));
        assert!(!finds("(a*)*(a*)*b", "", &page));
    }
}
