//! The canonical layout of configurations: the original text, including comments, in lines indented by their blocks.
//!
//! Only the layout changes, never the meaning: a line is cut at its braces and its words are separated by single
//! blanks. Text that the language takes literally is not changed: definitions, conditions, repetitions, includes, lines
//! that use definitions, lines with unclosed quotes, and lines that are too long to be read.

use super::expand::{is_repetition, pattern_at, strip_comment};
use super::text::is_blank;

/// Indentation of a block, in blanks.
const INDENT: usize = 4;
/// Longest line that is read as a whole.
const LINE: usize = 1022;

/// The same configuration in the canonical layout. Formatting is idempotent.
#[must_use]
pub fn format(text: &[u8]) -> Vec<u8> {
    let mut layout = Layout::default();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    for line in text.split(|&b| b == b'\n') {
        layout.line(line);
    }
    layout.finish()
}

/// A line of the result.
#[derive(Debug, Default)]
struct Line {
    depth: usize,
    code: Vec<u8>,
    comment: Vec<u8>,
    kind: Kind,
}

impl Line {
    /// Bytes of the line without its indentation.
    fn width(&self) -> usize {
        let comment = if self.comment.is_empty() { 0 } else { 2 + self.comment.len() };
        self.code.len() + comment
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Blank,
    /// An empty line that ends a definition.
    End,
    Comment,
    /// A statement to which a brace may be moved.
    Statement,
    /// A statement with its opening brace.
    Open,
    Close,
    /// Left unchanged.
    Literal,
}

#[derive(Debug, Default)]
struct Layout {
    lines: Vec<Line>,
    depth: usize,
    /// The previous line ends in a backslash: this one may belong to a definition.
    continued: bool,
}

impl Layout {
    fn line(&mut self, raw: &[u8]) {
        let text = trim(raw);
        let continued = core::mem::take(&mut self.continued);
        if text.is_empty() {
            self.push(self.depth, &[], if continued { Kind::End } else { Kind::Blank });
            return;
        }
        if raw.len() > LINE {
            // The whole length counts, and where the limit cuts it.
            self.continued = text.ends_with(b"\\");
            self.push(0, raw, Kind::Literal);
            return;
        }
        if text.contains(&0) {
            // The reader ignores the line, and a definition continues after it.
            self.continued = continued;
            self.push(self.depth + usize::from(continued), text, Kind::Literal);
            return;
        }
        let (_, end) = strip_comment(text);
        let (code, comment) = text.split_at(end);
        let code = trim(code);
        if continued {
            // A line with only a comment is skipped, and the definition continues after it.
            self.continued = code.is_empty() || code.ends_with(b"\\");
            self.push(self.depth + 1, text, Kind::Literal);
            return;
        }
        if code.is_empty() {
            self.push(self.depth, comment, Kind::Comment);
            return;
        }
        if !closed(code) {
            return self.literal(text, code);
        }
        let first = self.lines.len();
        let mut rest = code;
        while !rest.is_empty() {
            if literal(rest) {
                self.literal(rest, rest);
                rest = &[];
            } else {
                rest = self.piece(rest);
            }
        }
        self.comment(comment, first);
    }

    /// A statement up to its brace, or a brace. Returns what comes after it.
    fn piece<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        let at = brace(text).unwrap_or(text.len());
        let (statement, rest) = text.split_at(at);
        let statement = trim(statement);
        if !statement.is_empty() {
            self.push(self.depth, &words(statement), Kind::Statement);
        }
        match rest.split_first() {
            Some((b'{', rest)) => {
                self.open();
                trim(rest)
            }
            Some((_, rest)) => {
                self.close();
                trim(rest)
            }
            None => &[],
        }
    }

    /// Puts a brace after its statement.
    fn open(&mut self) {
        let skipped = |l: &Line| matches!(l.kind, Kind::Blank | Kind::Comment);
        let statement = self.lines.iter().rposition(|l| !skipped(l));
        let after = match statement.and_then(|at| Some((at, self.lines.get_mut(at)?))) {
            Some((at, line)) if line.kind == Kind::Statement && line.width() + 2 <= LINE => {
                line.code.extend_from_slice(b" {");
                line.kind = Kind::Open;
                at + 1
            }
            _ => {
                self.push(self.depth, b"{", Kind::Open);
                self.lines.len()
            }
        };
        self.depth += 1;
        let depth = self.depth;
        for line in self.lines.iter_mut().skip(after) {
            line.depth = depth;
        }
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.push(self.depth, b"}", Kind::Close);
    }

    /// A line that stays unchanged. Its braces count for the lines after it.
    fn literal(&mut self, text: &[u8], code: &[u8]) {
        self.continued = code.ends_with(b"\\");
        let (opened, closed) = braces(code);
        let own = if code.first() == Some(&b'}') { 1 } else { 0 };
        self.push(self.depth.saturating_sub(own), text, Kind::Literal);
        self.depth = (self.depth + opened).saturating_sub(closed);
    }

    /// Puts the comment of a line after the last line produced from it.
    fn comment(&mut self, comment: &[u8], first: usize) {
        let comment = trim(comment);
        if comment.is_empty() {
            return;
        }
        let (made, depth) = (self.lines.len() > first, self.depth);
        let room = |l: &Line| l.depth * INDENT + l.code.len() + 2 + comment.len() <= LINE;
        match self.lines.last_mut() {
            // A brace that moved up to its statement leaves its comment in the block.
            Some(last) if made && last.comment.is_empty() && room(last) => {
                last.comment = comment.to_vec();
            }
            _ => self.push(depth, comment, Kind::Comment),
        }
    }

    fn push(&mut self, depth: usize, code: &[u8], kind: Kind) {
        self.lines.push(Line { depth, code: code.to_vec(), comment: Vec::new(), kind });
    }

    /// The text: at most one consecutive empty line, none at the ends of blocks, one after a top-level block.
    fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut before = Kind::Open;
        let mut owed = false;
        for line in &self.lines {
            match line.kind {
                Kind::Blank => {
                    owed |= before != Kind::Open;
                    continue;
                }
                Kind::End => {
                    // It has a meaning; the lines around it cannot be joined.
                    out.push(b'\n');
                    (owed, before) = (false, Kind::Open);
                    continue;
                }
                _ => {}
            }
            if owed && line.kind != Kind::Close {
                out.push(b'\n');
            }
            if line.depth * INDENT + line.width() <= LINE {
                out.resize(out.len() + line.depth * INDENT, b' ');
            }
            out.extend_from_slice(&line.code);
            if !line.comment.is_empty() {
                out.extend_from_slice(b"  ");
                out.extend_from_slice(&line.comment);
            }
            out.push(b'\n');
            before = line.kind;
            owed = line.kind == Kind::Close && line.depth == 0;
        }
        out
    }
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let Some((first, rest)) = text.split_first() {
        if !is_blank(*first) {
            break;
        }
        text = rest;
    }
    while let Some((last, rest)) = text.split_last() {
        if !is_blank(*last) {
            break;
        }
        text = rest;
    }
    text
}

/// Whether every double quote is closed.
fn closed(code: &[u8]) -> bool {
    code.iter().filter(|&&b| b == b'"').count() % 2 == 0
}

/// Whether a line, or the rest of one after a brace, must stay unchanged.
fn literal(code: &[u8]) -> bool {
    matches!(code.first(), Some(b'@' | b'~'))
        || is_repetition(code)
        || pattern_at(code).is_some()
        || code.contains(&b'$')
        || code.contains(&b'\\')
}

/// The first brace that is not quoted.
fn brace(code: &[u8]) -> Option<usize> {
    let mut quoted = false;
    code.iter().position(|&b| {
        quoted ^= b == b'"';
        !quoted && matches!(b, b'{' | b'}')
    })
}

/// How many blocks a literal line opens and closes. Braces of a definition and of an include's name do not count.
fn braces(code: &[u8]) -> (usize, usize) {
    let (mut opened, mut closed, mut quoted, mut name) = (0, 0, false, false);
    let mut before = 0;
    let start = code
        .iter()
        .position(|&b| is_blank(b))
        .map_or(code, |at| trim(code.get(at..).unwrap_or_default()));
    let body = if code.first() == Some(&b'@') { start } else { code };
    let definition = body.first() == Some(&b'$')
        && body.iter().take_while(|&&b| !is_blank(b)).any(|&b| b == b'=');
    if definition || pattern_at(body).is_some() {
        return (0, 0);
    }
    // The names and values of a repetition stand in parentheses.
    let mut parentheses = 0_usize;
    let head = is_repetition(body);
    let mut heading = head;
    for &byte in body {
        match byte {
            b'"' => quoted = !quoted,
            b'(' if heading => parentheses += 1,
            b')' if heading => {
                parentheses = parentheses.saturating_sub(1);
                heading = parentheses > 0;
            }
            b'{' if !quoted && before == b'$' => name = true,
            b'}' if name => name = false,
            b'{' if !quoted && !heading => opened += 1,
            b'}' if !quoted && !heading => closed += 1,
            _ => {}
        }
        before = byte;
    }
    (opened, closed)
}

/// Single blanks between words; quoted text stays unchanged. With apostrophes, which group words of scripts, nothing
/// changes.
fn words(statement: &[u8]) -> Vec<u8> {
    if statement.contains(&b'\'') {
        return statement.to_vec();
    }
    let mut out = Vec::with_capacity(statement.len());
    let (mut quoted, mut owed) = (false, false);
    for &byte in statement {
        if is_blank(byte) && !quoted {
            owed = true;
            continue;
        }
        if core::mem::take(&mut owed) {
            out.push(b' ');
        }
        quoted ^= byte == b'"';
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        String::from_utf8(format(text.as_bytes())).unwrap()
    }

    #[test]
    fn blocks_are_indented_and_braces_stand_with_their_keyword() {
        assert_eq!(
            show("a{b   1\t2}c  # x\nd\n\n# why\n{ # inner\n e }\n\n\n\nf"),
            "a {\n    b 1 2\n}\n\nc  # x\nd {\n    # why\n    # inner\n    e\n}\n\nf\n"
        );
        assert_eq!(show("a {\n\n  b\n\n}\n"), "a {\n    b\n}\n");
        assert_eq!(show(""), "");
        assert_eq!(show("\r\na\r\n"), "a\n");
    }

    #[test]
    fn what_is_literal_stays() {
        assert_eq!(show("  x \"a  {b\"  c\n"), "x \"a  {b\" c\n");
        assert_eq!(show(" script 'a  b'   c\n"), "script 'a  b'   c\n");
        assert_eq!(
            show("a {\n$X=b {  c \\\n   d  }\n\n  e $X\n}\n"),
            "a {\n    $X=b {  c \\\n        d  }\n\n    e $X\n}\n"
        );
        // A line with a zero byte is ignored: the definition continues after it.
        assert_eq!(show("$X=\\\n\0\n{ a\nb{\n}\n"), "$X=\\\n    \0\n    { a\nb {\n}\n");
        assert_eq!(show("  @a  b   {\nc\n}\n"), "@a  b   {\n    c\n}\n");
        assert_eq!(show("include  x  {a,b}.conf  # c\n"), "include  x  {a,b}.conf  # c\n");
        assert_eq!(show("~SEQ(X, 3)  a ${X}  {\n b\n}\n"), "~SEQ(X, 3)  a ${X}  {\n    b\n}\n");
        assert_eq!(show("a \"b   {\nc\n"), "a \"b   {\nc\n");
    }

    #[test]
    fn a_line_does_not_grow_beyond_what_is_read() {
        let long = format!("a {{\n{}\n}}\n", "x".repeat(LINE));
        assert_eq!(show(&long), long);
        let comment = format!("a {{\nb # {}\n}}\n", "x".repeat(LINE - 8));
        let shown = show(&comment);
        assert!(shown.lines().all(|l| l.len() <= LINE), "{shown}");
        assert_eq!(show(&shown), shown);
        // A brace that would not fit stays on its line.
        let full = format!("b  # {}\n{{\n    c\n}}\n", "x".repeat(LINE - 5));
        assert_eq!(show(&full), full);
    }
}
