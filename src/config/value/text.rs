//! Words of text: names, interfaces, mail addresses, paths, choices.

use crate::base::{IfName, Name};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::secret::mark;
use crate::config::span::Span;
use crate::config::words::Word;

/// One word of any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub Box<str>);

/// One word, not longer than `MAX` bytes; a longer one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Short<const MAX: usize>(pub Box<str>);

/// One word; one longer than `MAX` bytes is reported and cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut<const MAX: usize>(pub Box<str>);

/// The name of an object of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName(pub Name);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface(pub IfName);

/// A path of any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(pub Box<[u8]>);

/// Octets as text: UTF-8, or else Latin-1.
pub(crate) fn decode(bytes: &[u8]) -> Box<str> {
    match core::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().map(|&b| char::from(b)).collect::<String>().into(),
    }
}

/// A word that the configuration stores as text. One that is not UTF-8 is read as Latin-1, which is reported: its octets
/// are not those of the file any more.
pub(crate) fn text_of(word: &Word<'_>, cx: &mut Cx<'_>) -> Box<str> {
    text_at(word.bytes, word.span(), cx)
}

/// [`text_of`] for octets from a place.
pub(crate) fn text_at(bytes: &[u8], at: Span, cx: &mut Cx<'_>) -> Box<str> {
    let text = decode(bytes);
    if text.as_bytes() != bytes {
        let message = format!("'{}' is not UTF-8, it is read as Latin-1", mark::text(&text, at));
        let new = Diagnostic::advice(&codes::NOT_UTF8, message).at(at);
        cx.report(new.help("convert the file: iconv -f ISO-8859-1 -t UTF-8 FILE > NEW"));
    }
    text
}

impl Value for Text {
    fn shape() -> Shape {
        Shape::Text("text")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        Some(Self(text_of(&word, cx)))
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.as_bytes());
    }
}

impl<const MAX: usize> Value for Short<MAX> {
    fn shape() -> Shape {
        Shape::Text("a short text")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        if word.bytes.len() > MAX || word.bytes.is_empty() {
            report_length(&word, MAX, "it is left out", cx);
            return None;
        }
        Some(Self(text_of(&word, cx)))
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.as_bytes());
    }
}

impl<const MAX: usize> Value for Cut<MAX> {
    fn shape() -> Shape {
        Shape::Text("a short text")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        if word.bytes.len() > MAX {
            report_length(&word, MAX, "the rest is cut off", cx);
        }
        // Not within a character.
        let whole = |end: &usize| word.str().is_none_or(|text| text.is_char_boundary(*end));
        let end = (0..=word.bytes.len().min(MAX)).rev().find(whole).unwrap_or(0);
        Some(Self(text_of(&word.slice(0, end), cx)))
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.as_bytes());
    }
}

/// Reports a text that is empty or too long.
pub(crate) fn report_length(word: &Word<'_>, max: usize, effect: &str, cx: &mut Cx<'_>) {
    let message = format!("'{}' must be 1 to {max} characters long", word.shown());
    let new = Diagnostic::error(&codes::TOO_LONG, message);
    let from = max.min(word.bytes.len());
    let at = if from < word.bytes.len() { word.part(from, word.bytes.len()) } else { word.span() };
    cx.report(new.at(at).label(effect));
}

impl Value for ObjectName {
    fn shape() -> Shape {
        Shape::Text("a name")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        Some(Self(Name::from(text_of(&word, cx))))
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.as_str());
    }
}

/// A name that must be the only word before its block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SoleName(pub Name);

impl Value for SoleName {
    fn shape() -> Shape {
        Shape::Text("a name")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let ObjectName(name) = ObjectName::read(args, cx)?;
        if let Some(word) = args.rest() {
            let message = format!("'{}' takes one word as its name", args.keyword.name);
            cx.report(
                Diagnostic::error(&codes::VALUE, message)
                    .at(word.span())
                    .label("the block is left out")
                    .help("enclose a name that contains blanks in double quotes"),
            );
            return None;
        }
        Some(Self(name))
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.as_str());
    }
}

impl Value for Interface {
    fn shape() -> Shape {
        Shape::Text("an interface")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        interface(&word, cx).map(Self)
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.as_str());
    }
}

/// Reads the name of an interface.
pub(crate) fn interface(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<IfName> {
    let name = word.str().and_then(|t| t.parse::<IfName>().ok());
    if name.is_none() {
        let message = format!("'{}' is not an interface name", word.shown());
        cx.report(
            Diagnostic::error(&codes::INTERFACE_NAME, message)
                .at(word.span())
                .label("expected 1 to 15 characters, none of them '/', ':' or blank"),
        );
    }
    name
}

impl Value for Path {
    fn shape() -> Shape {
        Shape::Text("a path")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        args.need(cx).map(|w| Self(w.bytes.into()))
    }

    fn words(&self, out: &mut Words) {
        out.push(&self.0);
    }
}

impl Value for () {
    fn shape() -> Shape {
        Shape::Flag
    }

    fn read(_args: &mut Args<'_>, _cx: &mut Cx<'_>) -> Option<Self> {
        Some(())
    }

    fn words(&self, _out: &mut Words) {}
}

/// Reports a word that is not one of the choices.
pub(crate) fn report_choice(word: &Word<'_>, choices: &'static [&'static str], cx: &mut Cx<'_>) {
    let message = format!("'{}' is not allowed here", word.shown());
    let mut new = Diagnostic::error(&codes::CHOICE, message)
        .at(word.span())
        .label(format!("expected one of {}", choices.join(", ")));
    let text = word.text();
    if let Some(same) = choices.iter().find(|c| c.eq_ignore_ascii_case(&text)) {
        new = new.replacement(*same);
    } else if let Some(meant) = synonym(&text).filter(|meant| choices.contains(meant)) {
        new = new.replacement(meant);
    } else if let Some(near) = crate::base::near::nearest(&text, choices.iter().copied()) {
        new = new.replacement(near);
    }
    cx.report(new);
}

/// The word for what other programs call differently.
fn synonym(text: &str) -> Option<&'static str> {
    let plain: String = text.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    Some(match plain.to_ascii_lowercase().as_str() {
        "roundrobin" => "rr",
        "weightedroundrobin" | "wroundrobin" => "wrr",
        "leastconn" | "leastconns" | "leastconnection" | "leastconnections" => "lc",
        "weightedleastconn" | "weightedleastconnection" | "weightedleastconnections" => "wlc",
        "source" | "sourcehash" | "sourcehashing" | "iphash" => "sh",
        "destinationhash" | "destinationhashing" => "dh",
        "maglev" | "maglevhash" | "maglevhashing" => "mh",
        "masq" | "masquerade" | "masquerading" => "NAT",
        "dsr" | "direct" | "directrouting" | "gateway" | "gatewaying" => "DR",
        "tunnel" | "tunneling" | "tunnelling" | "ipip" => "TUN",
        "primary" | "active" => "MASTER",
        "secondary" | "slave" | "standby" | "passive" => "BACKUP",
        _ => return None,
    })
}

/// An enum whose values are words of the configuration.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident { $($(#[$doc:meta])* $Variant:ident = $word:literal $(| $other:literal)*,)+ }
        $($case:ident)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $Name { $($(#[$doc])* $Variant,)+ }

        impl $Name {
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The value of a word.
            pub(crate) fn of(word: &[u8]) -> Option<Self> {
                let same = |text: &str| $crate::config::value::text::same_word!(word, text $(, $case)?);
                $(if same($word) $(|| same($other))* {
                    return Some(Self::$Variant);
                })+
                None
            }

            /// The word of a value.
            pub(crate) const fn word(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

        impl $crate::config::schema::Value for $Name {
            fn shape() -> $crate::config::schema::Shape {
                $crate::config::schema::Shape::Choice(Self::WORDS)
            }

            fn read(
                args: &mut $crate::config::schema::Args<'_>,
                cx: &mut $crate::config::context::Cx<'_>,
            ) -> Option<Self> {
                let word = args.need(cx)?;
                let value = Self::of(word.bytes);
                if value.is_none() {
                    $crate::config::value::text::report_choice(&word, Self::WORDS, cx);
                }
                value
            }

            fn words(&self, out: &mut $crate::config::schema::Words) {
                out.push(self.word());
            }
        }
    };
}

/// Whether a word is equal to a text, optionally ignoring case.
macro_rules! same_word {
    ($word:expr, $text:expr) => {
        $word == $text.as_bytes()
    };
    ($word:expr, $text:expr, ignore_case) => {
        $word.eq_ignore_ascii_case($text.as_bytes())
    };
}

pub(crate) use {choice, same_word};
