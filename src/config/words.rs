//! Words of a statement: the ordinary splitting, and the two splittings of script keywords.

use super::secret::mark;
use super::span::{Span, u32_of};
use super::text::{Text, is_blank};

/// The range of a word within a chunk, without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub start: u32,
    pub end: u32,
}

/// A statement: one line, or the part of one between braces.
#[derive(Clone, Copy)]
pub(crate) struct Statement<'a> {
    pub chunk: &'a Text,
    words: &'a [Range],
    start: u32,
    end: u32,
}

/// A word with its place.
#[derive(Clone, Copy)]
pub(crate) struct Word<'a> {
    pub bytes: &'a [u8],
    chunk: &'a Text,
    start: u32,
    end: u32,
}

impl<'a> Statement<'a> {
    pub(crate) fn new(chunk: &'a Text, words: &'a [Range], start: u32, end: u32) -> Self {
        Self { chunk, words, start, end }
    }

    /// Number of words.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    pub(crate) fn word(&self, index: usize) -> Option<Word<'a>> {
        let range = self.words.get(index)?;
        Some(Word {
            bytes: self
                .chunk
                .bytes
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default(),
            chunk: self.chunk,
            start: range.start,
            end: range.end,
        })
    }

    /// The original text of the statement, including quotes.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.chunk.bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The place of the statement.
    pub(crate) fn span(&self) -> Span {
        self.chunk.span(self.start as usize, self.end as usize)
    }

    /// The place of a part of [`Self::raw`].
    pub(crate) fn raw_span(&self, from: usize, to: usize) -> Span {
        let base = self.start as usize;
        self.chunk.span(base + from, base + to)
    }

    /// From the word at `from` to the end.
    pub(crate) fn span_from(&self, from: usize) -> Span {
        match self.words.get(from) {
            Some(word) => self.chunk.span(word.start as usize, self.end as usize),
            None => self.span(),
        }
    }
}

impl<'a> Word<'a> {
    /// The place of the word.
    pub(crate) fn span(&self) -> Span {
        self.chunk.span(self.start as usize, self.end as usize)
    }

    /// The place of a part of the word.
    pub(crate) fn part(&self, from: usize, to: usize) -> Span {
        let start = self.start as usize;
        self.chunk.span(start + from, (start + to).min(self.end as usize))
    }

    /// A part of the word as a word.
    pub(crate) fn slice(&self, from: usize, to: usize) -> Self {
        let to = to.min(self.bytes.len());
        let from = from.min(to);
        Self {
            bytes: self.bytes.get(from..to).unwrap_or_default(),
            start: self.start + u32_of(from),
            end: self.start + u32_of(to),
            ..*self
        }
    }

    /// The word as text; bytes that are not UTF-8 are replaced. For a message use [`Self::shown`].
    pub(crate) fn text(&self) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.bytes)
    }

    /// The word as text for a message, which shows no secrets.
    pub(crate) fn shown(&self) -> String {
        mark::text(&self.text(), self.span())
    }

    /// The word as text if it is UTF-8.
    pub(crate) fn str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.bytes).ok()
    }
}

/// Splits a statement into words. Blanks separate; a double quote ends a word and starts one that ends at the next
/// double quote. If a quote is not closed, its position is returned and the words before it are kept.
pub(crate) fn split(bytes: &[u8], base: u32, out: &mut Vec<Range>) -> Option<usize> {
    out.clear();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if is_blank(byte) {
            at += 1;
            continue;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        if byte == b'"' {
            let inner = rest.get(1..).unwrap_or_default();
            let Some(length) = memchr::memchr(b'"', inner) else {
                return Some(at);
            };
            out.push(Range { start: base + u32_of(at + 1), end: base + u32_of(at + 1 + length) });
            at += length + 2;
        } else {
            let length = rest.iter().position(|&b| is_blank(b) || b == b'"').unwrap_or(rest.len());
            out.push(Range { start: base + u32_of(at), end: base + u32_of(at + length) });
            at += length;
        }
    }
    None
}

/// An unclosed quote, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenQuote(pub usize);

/// A word of a script keyword, escapes decoded, and the part of the text that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScriptWord {
    pub bytes: Vec<u8>,
    pub start: usize,
    pub end: usize,
}

/// Splits as script keywords do: blanks separate, apostrophes and double quotes group, a backslash starts an escape:
/// `\a \b \E \f \n \r \t \v`, one to three octal digits, `\x` with one or two hexadecimal digits, `\cC`, else the next
/// character unchanged. The line is split in this way, and the command in its second word again.
pub(crate) fn split_script(bytes: &[u8]) -> Result<Vec<ScriptWord>, OpenQuote> {
    let mut words: Vec<ScriptWord> = Vec::new();
    let mut word: Option<ScriptWord> = None;
    let mut quote: Option<(u8, usize)> = None;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let blank = quote.is_none() && is_blank(byte);
        if blank {
            words.extend(word.take());
            at += 1;
            continue;
        }
        let current = word.get_or_insert(ScriptWord { bytes: Vec::new(), start: at, end: at });
        let mut used = 1;
        match (byte, quote) {
            (b'\\', _) => {
                let (value, more) = escape(bytes.get(at + 1..).unwrap_or_default());
                current.bytes.extend(value);
                used += more;
            }
            (_, Some((open, _))) if byte == open => quote = None,
            (b'"' | b'\'', None) => quote = Some((byte, at)),
            _ => current.bytes.push(byte),
        }
        at += used;
        current.end = at.min(bytes.len());
    }
    if let Some((_, at)) = quote {
        return Err(OpenQuote(at));
    }
    words.extend(word);
    Ok(words)
}

/// The text after a backslash: the byte it represents, and how many bytes were consumed.
fn escape(rest: &[u8]) -> (Option<u8>, usize) {
    let digits = |from: usize, most: usize, hexadecimal: bool| {
        rest.iter()
            .skip(from)
            .take(most)
            .take_while(|b| {
                if hexadecimal { b.is_ascii_hexdigit() } else { (b'0'..=b'7').contains(*b) }
            })
            .count()
    };
    let number = |from: usize, length: usize, base: u32| {
        let value = rest
            .get(from..from + length)
            .and_then(|d| core::str::from_utf8(d).ok())
            .and_then(|d| u32::from_str_radix(d, base).ok());
        value.map(|v| u8::try_from(v & 0xff).unwrap_or(0))
    };
    let Some(&first) = rest.first() else {
        return (None, 0);
    };
    let plain = match first {
        b'a' => 7,
        b'b' => 8,
        b'E' => 27,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'0'..=b'7' => {
            let length = digits(0, 3, false);
            return (number(0, length, 8), length);
        }
        b'x' => match digits(1, 2, true) {
            0 => b'x',
            length => return (number(1, length, 16), 1 + length),
        },
        b'c' => match rest.get(1) {
            Some(c) => return (Some(c.to_ascii_uppercase() & 0x1f), 2),
            None => b'c',
        },
        other => other,
    };
    (Some(plain), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        split(text.as_bytes(), 0, &mut out);
        out.iter().map(|r| text[r.start as usize..r.end as usize].to_owned()).collect()
    }

    #[test]
    fn ordinary_words() {
        assert_eq!(words("a  b\tc"), ["a", "b", "c"]);
        assert_eq!(words("router_id \"two words\""), ["router_id", "two words"]);
        assert_eq!(words("version 3\"9\""), ["version", "3", "9"]);
        assert_eq!(words("a \"\" b"), ["a", "", "b"]);
        assert_eq!(words("a 'b c'"), ["a", "'b", "c'"]);
        assert_eq!(words("a \"b\\\"4\""), ["a", "b\\", "4"]);
        let mut out = Vec::new();
        assert_eq!(split(b"a \"b c", 0, &mut out), Some(2));
        assert_eq!(out.len(), 1);
    }

    fn script(text: &str) -> Vec<String> {
        split_script(text.as_bytes())
            .unwrap()
            .iter()
            .map(|w| String::from_utf8_lossy(&w.bytes).into_owned())
            .collect()
    }

    #[test]
    fn script_words_are_decoded_twice() {
        let line =
            script(r#"notify "/usr/bin/true 'one arg' two \"three four\" \x41\102" root wheel"#);
        assert_eq!(line[2..], ["root", "wheel"]);
        assert_eq!(script(&line[1]), ["/usr/bin/true", "one arg", "two", "three four", "AB"]);
        let line = script(r#"notify "/bin/printf \\x41 a\\ b \\\"c d\\\" 'q\x20r' x\ny""#);
        assert_eq!(script(&line[1]), ["/bin/printf", "A", "a b", "\"c", "d\"", "q r", "x", "y"]);
        assert_eq!(script(r"\q \cA \E"), ["q", "\u{1}", "\u{1b}"]);
        assert_eq!(script("a '' b"), ["a", "", "b"]);
        assert_eq!(script("a\" b c\"d"), ["a b cd"]);
        assert_eq!(split_script(b"a 'b"), Err(OpenQuote(2)));
    }
}
