//! Repetitions: `~SEQ(...)` and `~LST(...)` at the start of a line.

use pest::Parser;
use pest::iterators::Pair;

use super::define::{Definitions, ascii_prefix};
use super::{Cx, Expander, Text};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::grammar::value::{Rule, ValueParser};
use crate::config::span::Span;

/// The rest of a line, repeated with different values of one or more names.
pub(super) struct Repetition {
    names: Vec<Box<str>>,
    values: Values,
    rest: Text,
    pub(super) span: Span,
}

enum Values {
    Sequence { next: Option<i64>, step: i64, end: i64, hexadecimal: bool },
    List(std::vec::IntoIter<Vec<Box<str>>>),
}

impl Values {
    /// The number of values.
    fn count(&self) -> u64 {
        match self {
            Self::Sequence { next: None, .. } => 0,
            Self::Sequence { next: Some(next), step, end, .. } => {
                end.abs_diff(*next) / step.unsigned_abs().max(1) + 1
            }
            Self::List(tuples) => u64::try_from(tuples.len()).unwrap_or(u64::MAX),
        }
    }
}

/// Whether a line begins like a repetition.
pub(crate) fn is_head(line: &[u8]) -> bool {
    line.starts_with(b"~SEQ") || line.starts_with(b"~LST")
}

impl Repetition {
    /// Sets the names to their next values and returns the line to read with them.
    pub(super) fn next(&mut self, definitions: &mut Definitions) -> Option<Text> {
        match &mut self.values {
            Values::Sequence { next, step, end, hexadecimal } => {
                let value = (*next)?;
                *next = value
                    .checked_add(*step)
                    .filter(|n| if *step > 0 { *n <= *end } else { *n >= *end });
                let text = if *hexadecimal { format!("{value:x}") } else { value.to_string() };
                if let Some(name) = self.names.first() {
                    definitions.set(name, text.as_bytes(), self.span);
                }
            }
            Values::List(tuples) => {
                let tuple = tuples.next()?;
                for (i, name) in self.names.iter().enumerate() {
                    let value = tuple.get(i).map_or("", |v| v);
                    definitions.set(name, value.as_bytes(), self.span);
                }
            }
        }
        Some(self.rest.clone())
    }
}

impl Expander {
    /// Reads the head of a repetition; reports and drops a malformed one.
    pub(super) fn repetition(&mut self, cx: &mut Cx<'_>, line: &Text) -> Option<Repetition> {
        let close = memchr::memchr(b')', &line.bytes).map_or(line.bytes.len(), |at| at + 1);
        let mut head = Text::default();
        head.push_part(line, 0, close);
        let (head, _) = self.replace(cx, head);
        match read_head(ascii_prefix(&head.bytes)) {
            Ok((_, values)) if values.count() > cx.options.limits.rounds => {
                let message = format!(
                    "the repetition has {} values, the limit is {}",
                    values.count(),
                    cx.options.limits.rounds
                );
                let new = Diagnostic::error(&codes::LIMIT, message).at(line.span(0, close));
                cx.report(new.label("this line is ignored"));
                None
            }
            Ok((names, values)) => Some(Repetition {
                names,
                values,
                rest: line.trimmed(close, line.bytes.len()),
                span: line.span(0, close),
            }),
            Err(reason) => {
                cx.report(
                    Diagnostic::error(&codes::REPETITION, "malformed repetition")
                        .at(line.span(0, close))
                        .label(reason)
                        .help("see 'evervip explain E0205' for the forms"),
                );
                None
            }
        }
    }
}

type Head = (Vec<Box<str>>, Values);

fn read_head(text: &str) -> Result<Head, &'static str> {
    const FORM: &str = "not of the form ~SEQ(NAME, START, STEP, END) or ~LST(NAME, a, b)";
    let pair = ValueParser::parse(Rule::repetition, text)
        .ok()
        .and_then(|mut p| p.next())
        .and_then(|p| p.into_inner().next())
        .ok_or(FORM)?;
    match pair.as_rule() {
        Rule::sequence => sequence(pair),
        _ => list(pair),
    }
}

fn sequence(pair: Pair<'_, Rule>) -> Result<Head, &'static str> {
    let mut hexadecimal = false;
    let mut name = None;
    let mut numbers = Vec::new();
    for part in pair.into_inner() {
        match part.as_rule() {
            Rule::hexadecimal => hexadecimal = true,
            Rule::name => name = Some(part.as_str().into()),
            _ => numbers.push(integer(part.as_str()).ok_or("number too large")?),
        }
    }
    let direction = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end) = match numbers.as_slice() {
        [end] => {
            let start = match end {
                0 => 1,
                e if *e < 0 => -1,
                _ => 1,
            };
            (start, direction(start, *end), *end)
        }
        [start, end] => (*start, direction(*start, *end), *end),
        [start, step, end] => (*start, *step, *end),
        _ => return Err("expected one to three numbers"),
    };
    if step == 0 {
        return Err("the step is zero");
    }
    if start != end && (step > 0) != (end > start) {
        return Err("the step leads away from the end");
    }
    let values = Values::Sequence { next: Some(start), step, end, hexadecimal };
    Ok((name.into_iter().collect(), values))
}

/// A number in C notation: decimal, octal with a leading 0, hexadecimal with 0x.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    let value = match hex {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None if digits.len() > 1 && digits.starts_with('0') => {
            i64::from_str_radix(digits, 8).ok()?
        }
        None => digits.parse().ok()?,
    };
    Some(sign * value)
}

fn list(pair: Pair<'_, Rule>) -> Result<Head, &'static str> {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut tuples: Vec<Vec<Box<str>>> = Vec::new();
    for part in pair.into_inner() {
        match part.as_rule() {
            Rule::names => names = part.into_inner().map(|n| n.as_str().into()).collect(),
            Rule::name => names.push(part.as_str().into()),
            Rule::tuple if names.len() > 1 => {
                let members: Vec<Box<str>> =
                    part.into_inner().map(|m| m.as_str().trim().into()).collect();
                if members.len() > names.len() {
                    return Err("a tuple has more members than there are names");
                }
                tuples.push(members);
            }
            _ => tuples.push(vec![part.as_str().trim().into()]),
        }
    }
    Ok((names, Values::List(tuples.into_iter())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(head: &str) -> Result<Vec<String>, &'static str> {
        let (names, values) = read_head(head)?;
        let mut repetition = Repetition { names, values, rest: Text::default(), span: Span::NONE };
        let mut definitions = Definitions::default();
        let mut all = Vec::new();
        while repetition.next(&mut definitions).is_some() && all.len() < 100 {
            let values: Vec<String> =
                repetition.names.iter().map(|n| definitions.text_of(n)).collect();
            all.push(values.join("/"));
        }
        Ok(all)
    }

    #[test]
    fn sequences_count_as_documented() {
        for (head, expected) in [
            ("~SEQ(N, 4, 6)", &["4", "5", "6"][..]),
            ("~SEQ(N, -2)", &["-1", "-2"]),
            ("~SEQ(N, 0)", &["1", "0"]),
            ("~SEQ(N, 3)", &["1", "2", "3"]),
            ("~SEQ(N, 10, -3, 4)", &["10", "7", "4"]),
            ("~SEQ(N, 4, 4, 10)", &["4", "8"]),
            ("~SEQx(N, 0x0e, 0x11)", &["e", "f", "10", "11"]),
            ("~SEQ(N, 010, 011)", &["8", "9"]),
            ("~SEQ( N , 5 , 5 )", &["5"]),
        ] {
            assert_eq!(rounds(head).unwrap(), expected, "{head}");
        }
        for bad in [
            "~SEQ(N)",
            "~SEQ N 1 2",
            "~SEQ(N, 1, 2",
            "~SEQ(N, 1, 0, 4)",
            "~SEQ(N, 1, -1, 4)",
            "~SEQ(N, 1, 2, 3, 4)",
            "~SEQ(1N, 1, 2)",
        ] {
            assert!(rounds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_set_one_name_or_several() {
        assert_eq!(rounds("~LST(N, a, b,c)").unwrap(), ["a", "b", "c"]);
        assert_eq!(rounds("~LST({X, Y}, {a,1}, {b,2})").unwrap(), ["a/1", "b/2"]);
        assert_eq!(rounds("~LST({X, Y}, {a}, {b,2})").unwrap(), ["a/", "b/2"]);
        assert!(rounds("~LST({X, Y}, {a,1,9}, {b,2})").is_err());
    }
}
