//! Definitions: `$NAME=value`, their use as `$NAME` and `${NAME}`, and the predefined names.

use indexmap::IndexMap;
use pest::Parser;

use super::{Cx, EXPANDED_LINE, Expander, Text, Trim, is_blank};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::grammar::value::{Rule, ValueParser};
use crate::config::span::{Expansion, Span, Unit};

/// Memory that one recorded use of a name takes, in bytes.
const USE: usize = 64;

/// All definitions in force.
#[derive(Default)]
pub(super) struct Definitions {
    by_name: IndexMap<Box<str>, Definition>,
    /// The definition whose further lines are being read.
    collecting: Option<(Box<str>, Definition)>,
}

#[derive(Clone)]
struct Definition {
    /// The lines of the value, with their places.
    lines: Vec<(Vec<u8>, Span)>,
    several: bool,
    span: Span,
}

/// A use of a name within a line.
struct Reference {
    start: usize,
    end: usize,
    name: Box<str>,
    kind: Kind,
}

enum Kind {
    Defined,
    /// A computed value: `_PWD`, `_ENV`, `_RANDOM` and so on.
    Made(Vec<u8>),
}

impl Definitions {
    pub(super) fn is_collecting(&self) -> bool {
        self.collecting.is_some()
    }

    /// Adds a line to the definition that is being read.
    pub(super) fn collect(&mut self, line: Text) {
        let Some((_, definition)) = &mut self.collecting else {
            return;
        };
        let (text, more) = continued(&line.bytes);
        definition.lines.push((text.to_vec(), line.span(0, text.len())));
        if !more {
            self.end_collecting();
        }
    }

    pub(super) fn end_collecting(&mut self) {
        if let Some((name, definition)) = self.collecting.take() {
            self.by_name.insert(name, definition);
        }
    }

    /// Takes a line of the form `$NAME=value`; false if it has another form.
    pub(super) fn define(&mut self, cx: &mut Cx<'_>, line: &Text) -> bool {
        let Some((name, after)) = head(&line.bytes) else {
            return false;
        };
        cx.defined.insert(name.clone());
        let value = line.trimmed(after, line.bytes.len());
        let (text, more) = continued(&value.bytes);
        let mut definition = Definition {
            lines: Vec::new(),
            several: more,
            span: line.span(0, after.saturating_sub(1)),
        };
        if !(more && text.is_empty()) {
            definition.lines.push((text.to_vec(), value.span(0, text.len())));
        }
        if more {
            self.collecting = Some((name, definition));
        } else {
            self.by_name.insert(name, definition);
        }
        true
    }

    /// Sets a name to a value: a repetition does this for each round.
    pub(super) fn set(&mut self, name: &str, value: &[u8], span: Span) {
        let definition = Definition { lines: vec![(value.to_vec(), span)], several: false, span };
        self.by_name.insert(name.into(), definition);
    }

    #[cfg(test)]
    pub(super) fn text_of(&self, name: &str) -> String {
        let first = self.find(name).and_then(|d| d.lines.first());
        first.map_or_else(String::new, |(t, _)| String::from_utf8_lossy(t).into())
    }

    fn find(&self, name: &str) -> Option<&Definition> {
        self.by_name.get(name)
    }
}

impl Expander {
    /// Replaces all names in a line until nothing changes. Further lines of a definition that ends the line come
    /// second.
    pub(super) fn replace(&mut self, cx: &mut Cx<'_>, mut line: Text) -> (Text, Vec<Text>) {
        let mut further = Vec::new();
        // Each round replaces names inserted by the previous one; a definition that uses itself is detected by its
        // chain, so the rounds end.
        loop {
            let mut next = Text::default();
            let mut copied = 0;
            let mut changed = false;
            let mut from = 0;
            while let Some(reference) = self.next_reference(cx, &line, from) {
                from = reference.start + 1;
                let last = reference.end == line.bytes.len();
                let Some(value) = self.value(cx, &line, &reference, last) else {
                    continue;
                };
                next.push_part(&line, copied, reference.start);
                self.account(cx, USE, line.span(reference.start, reference.end));
                if self.exhausted {
                    return (Text::default(), Vec::new());
                }
                let site = line.span(reference.start, reference.end);
                let unit = |at: Span, cx: &mut Cx<'_>| expansion(cx, &reference.name, at, site);
                let mut lines = value.into_iter();
                if let Some((text, defined)) = lines.next() {
                    let unit = unit(defined, cx);
                    next.push_fixed(&text, unit, site);
                }
                let mut rest: Vec<Text> = lines
                    .map(|(text, defined)| {
                        let mut line = Text::default();
                        line.push_fixed(&text, unit(defined, cx), site);
                        line
                    })
                    .collect();
                rest.append(&mut further);
                further = rest;
                copied = reference.end;
                from = reference.end;
                changed = true;
            }
            if !changed {
                return (line, further);
            }
            next.push_part(&line, copied, line.bytes.len());
            line = next;
            if line.bytes.len() > EXPANDED_LINE {
                cx.report(
                    Diagnostic::error(
                        &codes::LIMIT,
                        format!(
                            "the line is longer than {EXPANDED_LINE} bytes after its definitions are replaced"
                        ),
                    )
                    .at(line.span(0, 1))
                    .label("this line is ignored"),
                );
                self.account(cx, line.bytes.len(), line.span(0, 1));
                return (Text::default(), Vec::new());
            }
        }
    }

    /// The next use of a known name at or after `from`.
    fn next_reference(&mut self, cx: &mut Cx<'_>, line: &Text, from: usize) -> Option<Reference> {
        let mut from = from;
        loop {
            let rest = line.bytes.get(from..)?;
            let start = from + memchr::memchr(b'$', rest)?;
            let text = line.bytes.get(start..).unwrap_or_default();
            if let Some((end, name)) = reference(text) {
                if self.definitions.find(&name).is_some() {
                    return Some(Reference { start, end: start + end, name, kind: Kind::Defined });
                }
                if let Some(value) = self.predefined(cx, &name, &[]) {
                    return Some(Reference {
                        start,
                        end: start + end,
                        name,
                        kind: Kind::Made(value),
                    });
                }
            } else if let Some((end, name, words)) = with_arguments(text) {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                match self.predefined(cx, &name, &words) {
                    Some(value) => {
                        return Some(Reference {
                            start,
                            end: start + end,
                            name: name.into(),
                            kind: Kind::Made(value),
                        });
                    }
                    None => cx.report(
                        Diagnostic::error(&codes::RANDOM, "malformed random number")
                            .at(line.span(start, start + end))
                            .label("expected at most two integers, the lower one first")
                            .help(
                                "the forms are ${_RANDOM}, ${_RANDOM MIN} and ${_RANDOM MIN MAX}",
                            ),
                    ),
                }
            }
            from = start + 1;
        }
    }

    /// The value of a predefined name.
    fn predefined(&mut self, cx: &Cx<'_>, name: &str, words: &[&str]) -> Option<Vec<u8>> {
        Some(match (name, words) {
            ("_PWD", []) => {
                let mut directory = self
                    .current_file()
                    .map_or_else(|| cx.files.current_directory(), |f| f.directory.to_vec());
                while directory.len() > 1 && directory.last() == Some(&b'/') {
                    directory.pop();
                }
                directory
            }
            ("_INSTANCE", []) => cx.options.config_id.to_vec(),
            ("_HASH", []) => b"#".to_vec(),
            ("_BANG", []) => b"!".to_vec(),
            ("_RANDOM", words) => self.random.number(words)?.to_string().into_bytes(),
            ("_ENV", [variable]) => cx.host.environment(variable).unwrap_or_default(),
            _ => return None,
        })
    }

    /// The value of a use of a name; none if it has to stay.
    fn value(
        &self,
        cx: &mut Cx<'_>,
        line: &Text,
        reference: &Reference,
        last: bool,
    ) -> Option<Vec<(Vec<u8>, Span)>> {
        let definition = match &reference.kind {
            Kind::Made(value) => return Some(vec![(value.clone(), Span::NONE)]),
            Kind::Defined => self.definitions.find(&reference.name)?,
        };
        if definition.several && !last {
            return None;
        }
        let unit = line.unit_at(reference.start);
        if uses(cx, unit, &reference.name) {
            let name = &reference.name;
            cx.report(
                Diagnostic::error(
                    &codes::DEFINITION_LOOP,
                    format!("definition '{name}' uses itself"),
                )
                .at(line.span(reference.start, reference.end))
                .label("replaced by nothing")
                .related(definition.span, "defined here"),
            );
            return Some(vec![(Vec::new(), Span::NONE)]);
        }
        Some(definition.lines.clone())
    }
}

/// Creates a unit for text that `name` inserts at `site`.
fn expansion(cx: &mut Cx<'_>, name: &str, defined: Span, site: Span) -> u32 {
    let Some(&base) = cx.sources.unit(site.unit) else {
        return site.unit;
    };
    let expansion = cx.sources.add_expansion(Expansion {
        name: name.into(),
        defined,
        parent: base.expansion,
        site,
    });
    cx.sources.add_unit(Unit { expansion, ..base })
}

/// Whether the text of `unit` comes from the definition `name`.
fn uses(cx: &Cx<'_>, unit: u32, name: &str) -> bool {
    let mut next = cx.sources.unit(unit).map_or(u32::MAX, |u| u.expansion);
    let mut depth = 0;
    while let Some(expansion) = cx.sources.expansion(next) {
        depth += 1;
        if &*expansion.name == name || depth > 256 {
            return true;
        }
        next = expansion.parent;
    }
    false
}

/// A value without the backslash that continues it on the next line, and whether there was one.
fn continued(value: &[u8]) -> (&[u8], bool) {
    match value.strip_suffix(b"\\") {
        Some(rest) => (rest.trim_ascii_end_vt(), true),
        None => (value, false),
    }
}

/// The name in `$NAME=`, and where the value begins.
fn head(line: &[u8]) -> Option<(Box<str>, usize)> {
    let text = ascii_prefix(line);
    let pair = ValueParser::parse(Rule::definition, text).ok()?.next()?;
    let end = pair.as_span().end();
    let name = pair.into_inner().next()?;
    Some((name.as_str().into(), end))
}

/// The longest part of `text`, which begins with `$`, that a use of a name can take, and the byte behind it. A line may
/// contain tens of thousands of uses, so each must not scan the whole rest of it.
fn window(text: &[u8]) -> &[u8] {
    let length = match text.strip_prefix(b"${") {
        Some(rest) => memchr::memchr2(b'{', b'}', rest).map_or(text.len(), |at| at + 3),
        None => {
            let of_name = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
            text.iter().skip(1).take_while(of_name).count() + 2
        }
    };
    text.get(..length).unwrap_or(text)
}

/// The name used at the beginning of `text` and where the use ends.
fn reference(text: &[u8]) -> Option<(usize, Box<str>)> {
    let text = window(text);
    let ascii = ascii_prefix(text);
    let pair = ValueParser::parse(Rule::reference, ascii).ok()?.next()?;
    let form = pair.into_inner().next()?;
    let braced = form.as_rule() == Rule::braced;
    let end = form.as_span().end();
    // The prefix may end before a non-ASCII byte, which is not the end of the line.
    if !braced && end == ascii.len() && ascii.len() < text.len() {
        return None;
    }
    Some((end, form.into_inner().next()?.as_str().into()))
}

/// A predefined name with arguments at the beginning of `text`.
fn with_arguments(text: &[u8]) -> Option<(usize, String, Vec<String>)> {
    let pair = ValueParser::parse(Rule::predefined, ascii_prefix(window(text))).ok()?.next()?;
    let end = pair.as_span().end();
    let form = pair.into_inner().next()?;
    let name = match form.as_rule() {
        Rule::environment => "_ENV",
        _ => "_RANDOM",
    };
    let words = form.into_inner().map(|w| w.as_str().to_owned()).collect();
    Some((end, name.to_owned(), words))
}

/// The part of a line up to its first non-ASCII byte: all names and heads are ASCII.
pub(super) fn ascii_prefix(line: &[u8]) -> &str {
    let end = line.iter().position(|b| !b.is_ascii()).unwrap_or(line.len());
    line.get(..end).and_then(|l| core::str::from_utf8(l).ok()).unwrap_or_default()
}

/// Whether a line begins with `word` and a blank.
pub(super) fn starts_with_word(line: &[u8], word: &[u8]) -> bool {
    line.strip_prefix(word).is_some_and(|r| r.first().is_some_and(|&b| is_blank(b)))
}
