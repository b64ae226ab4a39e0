//! Text of the configuration in messages: marked with its place until all is read, since only then it is known which
//! places hold secrets.
//!
//! The marks are noncharacters of Unicode, which are meant for such a purpose: a text cannot contain them.

use crate::config::span::Span;

const BEGIN: char = '\u{fdd0}';
const MIDDLE: char = '\u{fdd1}';
const END: char = '\u{fdd2}';

/// Text from `at`, for a message.
pub(crate) fn text(text: &str, at: Span) -> String {
    let text = text.replace([BEGIN, MIDDLE, END], "\u{fffd}");
    format!("{BEGIN}{},{},{}{MIDDLE}{text}{END}", at.unit, at.start, at.len)
}

/// The text without its marks, to compare it: not for a message.
pub(crate) fn plain(text: &str) -> String {
    let mut text = text.to_owned();
    settle(&mut text, |inner, _| inner.to_owned());
    text
}

/// Removes the marks, and passes what was marked through `shown`.
pub(super) fn settle(text: &mut String, shown: impl Fn(&str, Span) -> String) {
    if !text.contains(BEGIN) {
        return;
    }
    let mut settled = String::with_capacity(text.len());
    for part in text.split(BEGIN) {
        let marked = part.split_once(END).and_then(|(marked, rest)| {
            let (place, inner) = marked.split_once(MIDDLE)?;
            let mut numbers = place.split(',').map(str::parse);
            let mut next = || numbers.next()?.ok();
            let span = Span { unit: next()?, start: next()?, len: next()? };
            Some((span, inner, rest))
        });
        match marked {
            Some((span, inner, rest)) => {
                settled.push_str(&shown(inner, span));
                settled.push_str(rest);
            }
            None => settled.push_str(part),
        }
    }
    *text = settled;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_text_is_settled_by_its_place() {
        let span = |start| Span { unit: 3, start, len: 4 };
        let shown = |text: &str, at: Span| if at.start == 7 { "*".into() } else { text.to_owned() };
        let mut message = format!(
            "'{}' is ignored: '{}' \u{fdd1}",
            text("a'b", span(7)),
            text("c\u{fdd0}", span(8))
        );
        settle(&mut message, shown);
        assert_eq!(message, "'*' is ignored: 'c\u{fffd}' \u{fdd1}");
        let mut plain = "no mark \u{fdd0} x \u{fdd0}1,7\u{fdd2}".to_owned();
        settle(&mut plain, shown);
        assert_eq!(plain, "no mark  x 1,7\u{fdd2}");
    }
}
