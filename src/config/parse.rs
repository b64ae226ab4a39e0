//! The structure of a chunk of text: braces, and the text between them.

use pest::Parser;

use super::grammar::file::{FileParser, Rule};
use super::span::u32_of;
use super::text::Text;

/// A token of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Lines without a brace outside quotes: from, to.
    Text(u32, u32),
    /// `{`
    Open(u32),
    /// `}`
    Close(u32),
}

/// The size of the parts passed to the parser, in octets: it needs ten times as much memory.
const PART: usize = 8 << 10;

/// Splits a chunk of whole lines at its braces.
pub(crate) fn tokens(chunk: &Text, out: &mut Vec<Token>) {
    out.clear();
    match core::str::from_utf8(&chunk.bytes) {
        Ok(text) => parse_all(text, out),
        // Files have no character set; the grammar only depends on ASCII, so any other byte may be replaced by a
        // letter.
        Err(_) => {
            let masked: String = chunk
                .bytes
                .iter()
                .map(|&b| if b.is_ascii() { char::from(b) } else { 'x' })
                .collect();
            parse_all(&masked, out);
        }
    }
}

/// Parses in parts of whole lines: in the grammar only text reaches beyond a line, and it is joined again.
fn parse_all(text: &str, out: &mut Vec<Token>) {
    let mut from = 0;
    while let Some(rest) = text.get(from..).filter(|rest| !rest.is_empty()) {
        let bytes = rest.as_bytes();
        let after = bytes.get(PART..).unwrap_or_default();
        // What is before a line feed ends between letters.
        let length = memchr::memchr(b'\n', after).map_or(bytes.len(), |at| PART + at + 1);
        parse(rest.get(..length).unwrap_or(rest), from, out);
        from += length;
    }
}

fn parse(text: &str, base: usize, out: &mut Vec<Token>) {
    // The grammar accepts every text, so there is no error to report.
    let Ok(pairs) = FileParser::parse(Rule::pieces, text) else {
        return;
    };
    for pair in pairs {
        let span = pair.as_span();
        let (start, end) = (u32_of(base + span.start()), u32_of(base + span.end()));
        match pair.as_rule() {
            Rule::text => match out.last_mut() {
                Some(Token::Text(_, last)) if *last == start => *last = end,
                _ => out.push(Token::Text(start, end)),
            },
            Rule::open => out.push(Token::Open(start)),
            Rule::close => out.push(Token::Close(start)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8]) -> Vec<String> {
        let mut chunk = Text::default();
        chunk.push_linear(text, 0, 0);
        let mut found = Vec::new();
        tokens(&chunk, &mut found);
        found
            .into_iter()
            .map(|t| match t {
                Token::Text(a, b) => {
                    String::from_utf8_lossy(&text[a as usize..b as usize]).into_owned()
                }
                Token::Open(_) => "{".into(),
                Token::Close(_) => "}".into(),
            })
            .collect()
    }

    /// Parts are invisible: text across their borders is one token, and places are those of the chunk.
    #[test]
    fn long_text_is_parsed_in_parts() {
        let line = "a \"{\" ö\n";
        let long = line.repeat(3 * PART / line.len());
        let found = split(format!("{long}b {{\n{long}}}\n{long}").as_bytes());
        assert_eq!(found.len(), 5, "{found:?}");
        assert_eq!(found[0], format!("{long}b "));
        assert_eq!(found[2], format!("\n{long}"));
        assert_eq!(found[4], format!("\n{long}"));
    }

    #[test]
    fn braces_cut_unless_quoted() {
        assert_eq!(split(b"a{b}c\n"), ["a", "{", "b", "}", "c\n"]);
        assert_eq!(split(b"a \"{\" b\nc\n{"), ["a \"{\" b\nc\n", "{"]);
        // A quote ends with its line even when it is not closed.
        assert_eq!(split(b"a \"{ b\nc {\n"), ["a \"{ b\nc ", "{", "\n"]);
        assert_eq!(split(b""), Vec::<String>::new());
        assert_eq!(split(b"\xff{\xfe}"), ["\u{fffd}", "{", "\u{fffd}", "}"]);
        assert_eq!(split("ä{ö\"{\"}".as_bytes()), ["ä", "{", "ö\"{\"", "}"]);
    }
}
