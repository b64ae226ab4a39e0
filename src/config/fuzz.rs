//! The first stages alone, with the invariants between them, for fuzzers.

use super::context::{Cx, Options};
use super::expand::Expander;
use super::host::Host;
use super::parse::{Token, tokens};
use super::source::Files;
use super::text::{Text, is_blank};
use super::words::{Statement, split, split_script};

/// The output sizes of the first stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Octets of plain text.
    pub octets: usize,
    /// Statements and braces.
    pub pieces: usize,
    pub words: usize,
    pub problems: usize,
}

/// Expands the files to plain text, and splits it at braces and into words.
///
/// # Panics
/// If a stage passes invalid data to the next one: a piece outside its text, a word that contains a blank, a line
/// without a newline, a place that is in no file.
#[must_use]
pub fn stages(files: &dyn Files, host: &dyn Host, options: &Options) -> Amounts {
    let mut cx = Cx::new(files, host, options, super::block::root_table());
    let mut expander = Expander::new(&mut cx);
    let (mut chunk, mut pieces, mut words) = (Text::default(), Vec::new(), Vec::new());
    let mut amounts = Amounts::default();
    while expander.fill(&mut cx, &mut chunk) {
        amounts.octets += chunk.bytes.len();
        tokens(&chunk, &mut pieces);
        amounts.pieces += pieces.len();
        let mut end = 0;
        for piece in &pieces {
            let (from, to) = match *piece {
                Token::Text(from, to) => (from as usize, to as usize),
                Token::Open(at) | Token::Close(at) => (at as usize, at as usize + 1),
            };
            assert_eq!(from, end, "pieces follow one another");
            end = to;
            let bytes = chunk.bytes.get(from..to).unwrap_or_default();
            match piece {
                Token::Open(_) => assert_eq!(bytes, b"{"),
                Token::Close(_) => assert_eq!(bytes, b"}"),
                Token::Text(..) => {
                    let mut start = from;
                    for line in bytes.split(|b| *b == b'\n') {
                        amounts.words += statement(&cx, &chunk, start, line, &mut words);
                        start += line.len() + 1;
                    }
                }
            }
        }
        assert_eq!(end, chunk.bytes.len(), "pieces cover the text");
    }
    let (diagnostics, _) = cx.finish();
    amounts.problems = diagnostics.len();
    amounts
}

/// Splits one line in all ways; returns the number of its words.
fn statement(
    cx: &Cx<'_>,
    chunk: &Text,
    start: usize,
    line: &[u8],
    words: &mut Vec<super::words::Range>,
) -> usize {
    let base = super::span::u32_of(start);
    let open = split(line, base, words);
    assert!(open.is_none_or(|at| line.get(at) == Some(&b'"')), "a quote is where it is said to be");
    let statement = Statement::new(chunk, words, base, super::span::u32_of(start + line.len()));
    assert_eq!(statement.raw(), line);
    for (n, range) in words.iter().enumerate() {
        let Some(word) = statement.word(n) else { continue };
        let before = (range.start as usize).checked_sub(1).and_then(|at| chunk.bytes.get(at));
        let quoted = before == Some(&b'"');
        assert!(quoted || !word.bytes.iter().any(|b| is_blank(*b)), "a word without blanks");
        assert!(!word.bytes.contains(&b'"'), "a word without quotes");
        let span = word.span();
        assert!(!span.is_some() || cx.sources.place(span).is_some(), "a place is in a file");
    }
    for word in split_script(line).into_iter().flatten() {
        assert!(
            word.start < word.end && word.end <= line.len(),
            "a word is not a part of its line"
        );
        let _ = split_script(&word.bytes);
    }
    statement.len()
}
