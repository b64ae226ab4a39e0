//! The parsed configuration, as a tree of statements in canonical form: for dumps and conversion.

use std::borrow::Cow;

use super::keyword::{Keyword, Secrecy};
use super::secret::{FILE, STARS};

/// A statement with the block it may open.
#[derive(Clone, Debug)]
pub struct Node {
    /// None for a line of a block that has entries instead of keywords.
    pub(crate) keyword: Option<&'static Keyword>,
    /// Words after the keyword.
    pub(crate) words: Vec<Vec<u8>>,
    pub(crate) body: Body,
}

/// The body that a statement opens.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    /// A list: words for each line.
    Lines(Vec<Vec<Vec<u8>>>),
    /// A block of statements.
    Block(Vec<Node>),
}

/// A parsed configuration, one node for each top-level statement.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(crate) nodes: Vec<Node>,
}

impl Node {
    pub(crate) fn statement(keyword: &'static Keyword, words: Vec<Vec<u8>>) -> Self {
        Self { keyword: Some(keyword), words, body: Body::None }
    }

    pub(crate) fn list(keyword: &'static Keyword, lines: Vec<Vec<Vec<u8>>>) -> Self {
        Self { keyword: Some(keyword), words: Vec::new(), body: Body::Lines(lines) }
    }

    pub(crate) fn block(keyword: &'static Keyword, words: Vec<Vec<u8>>, nodes: Vec<Self>) -> Self {
        Self { keyword: Some(keyword), words, body: Body::Block(nodes) }
    }

    /// A line of a block that has entries instead of keywords.
    pub(crate) fn line(words: Vec<Vec<u8>>) -> Self {
        Self { keyword: None, words, body: Body::None }
    }

    /// Its words, as far as they may be shown.
    fn shown(&self) -> Vec<Vec<u8>> {
        let stars = || STARS.as_bytes().to_vec();
        match (self.keyword.map_or(Secrecy::Open, |keyword| keyword.secrecy), &*self.words) {
            (Secrecy::Open, words) => words.to_vec(),
            (Secrecy::Key, [id, path]) if path.starts_with(FILE) => vec![id.clone(), path.clone()],
            (Secrecy::Key, [id, ..]) => vec![id.clone(), stars()],
            (Secrecy::Whole | Secrecy::Key, _) => vec![stars()],
        }
    }

    /// Writes the statement; `open`: with its secrets.
    fn write(&self, depth: usize, open: bool, out: &mut Vec<u8>) {
        indent(depth, out);
        let mut first = true;
        if let Some(keyword) = self.keyword {
            out.extend_from_slice(keyword.name.as_bytes());
            first = false;
        }
        let words = if open { Cow::Borrowed(&self.words) } else { Cow::Owned(self.shown()) };
        for word in words.iter() {
            if !core::mem::take(&mut first) {
                out.push(b' ');
            }
            quote(word, out);
        }
        match &self.body {
            Body::None => {}
            Body::Lines(lines) => {
                out.extend_from_slice(b" {\n");
                for line in lines {
                    indent(depth + 1, out);
                    for (i, word) in line.iter().enumerate() {
                        if i > 0 {
                            out.push(b' ');
                        }
                        quote(word, out);
                    }
                    out.push(b'\n');
                }
                indent(depth, out);
                out.push(b'}');
            }
            Body::Block(nodes) => {
                out.extend_from_slice(b" {\n");
                for node in nodes {
                    node.write(depth + 1, open, out);
                }
                indent(depth, out);
                out.push(b'}');
            }
        }
        out.push(b'\n');
    }
}

impl Document {
    /// The configuration in keepalived's syntax.
    #[must_use]
    pub fn to_conf(&self) -> Vec<u8> {
        self.text(true)
    }

    /// The configuration in keepalived's syntax with stars instead of passwords and keys.
    #[must_use]
    pub fn without_secrets(&self) -> Vec<u8> {
        self.text(false)
    }

    fn text(&self, open: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, node) in self.nodes.iter().enumerate() {
            if i > 0 && !matches!(node.body, Body::None) {
                out.push(b'\n');
            }
            node.write(0, open, &mut out);
        }
        out
    }
}

fn indent(depth: usize, out: &mut Vec<u8>) {
    for _ in 0..depth {
        out.extend_from_slice(b"    ");
    }
}

/// Writes a word, in double quotes if it would not be read back unchanged. A first byte 0 marks a word that is already
/// in the syntax of the file.
pub(crate) fn quote(word: &[u8], out: &mut Vec<u8>) {
    if let Some(raw) = word.strip_prefix(&[RAW]) {
        out.extend_from_slice(raw);
        return;
    }
    let special = |b: &u8| matches!(b, b'{' | b'}' | b'#' | b'!') || super::text::is_blank(*b);
    let plain = !word.is_empty()
        && !word.iter().any(special)
        && !matches!(word.first(), Some(b'@' | b'~' | b'\\'))
        && !word.iter().any(|b| matches!(b, b'$' | b'\''))
        && !word.starts_with(b"include");
    if plain {
        out.extend_from_slice(word);
    } else {
        out.push(b'"');
        out.extend(word.iter().filter(|b| **b != b'"'));
        out.push(b'"');
    }
}

/// Marks a word that is already in the syntax of the file.
pub(crate) const RAW: u8 = 0;

/// The text of a script's words for the file, which survives both splittings. In double quotes; characters with a
/// meaning in the language are escaped.
pub(crate) fn script_text(words: &[Box<[u8]>]) -> Vec<u8> {
    let mut text = vec![RAW, b'"'];
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            text.push(b' ');
        }
        let group = word.is_empty() || word.iter().any(|b| matches!(b, b' ' | b'\t'));
        if group {
            text.push(b'\'');
        }
        for &byte in word.iter() {
            match byte {
                b' ' => text.push(byte),
                b'\\' | b'"' | b'\'' | b'$' | 0..=31 | 127.. => {
                    text.extend_from_slice(format!("\\\\x{byte:02x}").as_bytes());
                }
                _ => text.push(byte),
            }
        }
        if group {
            text.push(b'\'');
        }
    }
    text.push(b'"');
    text
}
