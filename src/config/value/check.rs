//! Values used only by checks: status codes, digests, expressions, queries, datagrams.

use super::entry::unknown_option;
use super::number::integer;
use super::router::hex;
use super::text::{choice, report_choice, text_of};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::words::{Word, split_script};
use crate::model::checker::{HttpProtocol, ReplyPattern};

/// `status_code`: single codes and ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusCodes(pub Vec<(u16, u16)>);

/// `digest`: MD5 in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub [u8; 16]);

/// `http_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol(pub HttpProtocol);

/// `regex`: the expression, escapes decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Regex(pub Box<[u8]>);

/// `regex_options`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegexOptions(pub Vec<Box<str>>);

/// `regex_min_offset`, `regex_max_offset`: a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(pub u64);

/// `regex_stack START MAX`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stack(pub u64, pub u64);

/// `payload`: hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload(pub Box<[u8]>);

/// `require_reply`: hexadecimal digits, X for ignored ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply(pub ReplyPattern);

/// `name` of a query, without a final dot; empty for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Domain(pub Box<str>);

/// `FILE_CHECK` `weight N [reverse|noreverse]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileWeight {
    pub weight: i32,
    pub reverse: Option<bool>,
}

choice! {
    /// `type` of a query.
    pub enum RecordType {
        A = "A",
        Ns = "NS",
        Cname = "CNAME",
        Soa = "SOA",
        Mx = "MX",
        Txt = "TXT",
        Aaaa = "AAAA",
        Rrsig = "RRSIG",
        Dnskey = "DNSKEY",
    }
    ignore_case
}

impl RecordType {
    /// The number in a query (RFC 1035 3.2.2, RFC 3596, RFC 4034).
    pub(crate) const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Rrsig => 46,
            Self::Dnskey => 48,
        }
    }
}

const REGEX_OPTIONS: &[&str] = &[
    "allow_empty_class",
    "alt_bsux",
    "auto_callout",
    "caseless",
    "dollar_endonly",
    "dotall",
    "dupnames",
    "extended",
    "firstline",
    "match_unset_backref",
    "multiline",
    "never_ucp",
    "never_utf",
    "no_auto_capture",
    "no_auto_possess",
    "no_dotstar_anchor",
    "no_start_optimize",
    "ucp",
    "ungreedy",
    "utf",
    "never_backslash_c",
    "alt_circumflex",
    "alt_verbnames",
    "use_offset_limit",
];

impl Value for StatusCodes {
    fn shape() -> Shape {
        Shape::Words("codes and ranges of codes from 100 to 599".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut list = Vec::new();
        let mut word = args.need(cx)?;
        loop {
            list.extend(codes_of(&word, cx));
            match args.next() {
                Some(next) => word = next,
                None => break,
            }
        }
        (!list.is_empty()).then_some(Self(list))
    }

    fn words(&self, out: &mut Words) {
        for (first, last) in &self.0 {
            if first == last {
                out.show(first);
            } else {
                out.show(format_args!("{first}-{last}"));
            }
        }
    }
}

fn codes_of(word: &Word<'_>, cx: &mut Cx<'_>) -> Option<(u16, u16)> {
    let dash = memchr::memchr(b'-', word.bytes);
    let number = |w: Word<'_>, cx: &mut Cx<'_>| {
        integer(&w, 100, 599, false, cx).and_then(|n| u16::try_from(n).ok())
    };
    let (first, last) = match dash {
        None => {
            let code = number(*word, cx)?;
            (code, code)
        }
        Some(at) => {
            (number(word.slice(0, at), cx)?, number(word.slice(at + 1, word.bytes.len()), cx)?)
        }
    };
    if first > last {
        let message = format!("'{}' is an empty range, ignored", word.shown());
        cx.report(Diagnostic::error(&codes::RANGE, message).at(word.span()));
        return None;
    }
    Some((first, last))
}

impl Value for Digest {
    fn shape() -> Shape {
        Shape::Text("32 hexadecimal digits (MD5)")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let digest = hex(word.bytes).and_then(|d| <[u8; 16]>::try_from(d).ok());
        if digest.is_none() {
            let message = match word.bytes.len() {
                32 => format!("digest '{}' is not hexadecimal", word.shown()),
                n => format!("digest '{}' has {n} characters, not 32", word.shown()),
            };
            cx.report(Diagnostic::error(&codes::HEX, message).at(word.span()));
        }
        digest.map(Self)
    }

    fn words(&self, out: &mut Words) {
        let text: String = self.0.iter().map(|b| format!("{b:02x}")).collect();
        out.push(text);
    }
}

impl Value for Protocol {
    fn shape() -> Shape {
        Shape::Choice(&["1.0", "1.0C", "1.1"])
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        match word.bytes {
            b"1.0" => Some(Self(HttpProtocol::V1_0)),
            b"1.0C" | b"1.0c" => Some(Self(HttpProtocol::V1_0Close)),
            b"1.1" => Some(Self(HttpProtocol::V1_1)),
            _ => {
                report_choice(&word, &["1.0", "1.0C", "1.1"], cx);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        out.push(match self.0 {
            HttpProtocol::V1_0 => "1.0",
            HttpProtocol::V1_0Close => "1.0C",
            HttpProtocol::V1_1 => "1.1",
        });
    }
}

impl Value for Regex {
    fn shape() -> Shape {
        Shape::Words("a regular expression, in quotes if it has blanks".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        args.finish();
        let words = split_script(args.statement.raw());
        match words.as_deref() {
            Ok([_, pattern]) => Some(Self(pattern.bytes.clone().into())),
            Ok([_]) => {
                args.report_missing(cx);
                None
            }
            Ok([_, _, extra, ..]) => {
                let at = args.statement.raw_span(extra.start, extra.end);
                let message = "a regular expression must be one word";
                let new = Diagnostic::error(&codes::VALUE, message).at(at);
                cx.report(new.help("enclose it in double quotes"));
                None
            }
            Ok([]) => None,
            Err(open) => {
                let at = args.statement.raw_span(open.0, open.0 + 1);
                let message = "missing closing quote in a regular expression";
                cx.report(Diagnostic::error(&codes::SCRIPT_TEXT, message).at(at));
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        // Decoded once only, unlike commands.
        let mut text = vec![crate::config::document::RAW, b'"'];
        for &byte in &*self.0 {
            match byte {
                b'\\' => text.extend_from_slice(b"\\\\"),
                b'"' | b'$' | 0..=31 | 127.. => {
                    text.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
                }
                _ => text.push(byte),
            }
        }
        text.push(b'"');
        out.0.push(text);
    }
}

impl Value for RegexOptions {
    fn shape() -> Shape {
        Shape::Words(format!("words of {}", REGEX_OPTIONS.join(", ")))
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut list = Vec::new();
        let mut all = true;
        while let Some(word) = args.next() {
            match REGEX_OPTIONS.iter().find(|o| o.as_bytes() == word.bytes) {
                Some(option) => list.push((*option).into()),
                // keepalived ignores it without a message, and the expression then matches something else.
                None => {
                    all = false;
                    let message = format!("unknown regular expression option '{}'", word.shown());
                    let mut new = Diagnostic::error(&codes::OPTION, message).at(word.span());
                    new = new.class(Class::Quiet);
                    let near =
                        crate::base::near::nearest(&word.text(), REGEX_OPTIONS.iter().copied());
                    if let Some(near) = near {
                        new = new.replacement(near);
                    }
                    cx.report(new);
                }
            }
        }
        all.then_some(Self(list))
    }

    fn words(&self, out: &mut Words) {
        for word in &self.0 {
            out.push(word.as_bytes());
        }
    }
}

impl Value for Offset {
    fn shape() -> Shape {
        Shape::Integer { min: 0, max: i64::MAX }
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let number = integer(&word, 0, i64::MAX, false, cx)?;
        u64::try_from(number).ok().map(Self)
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for Stack {
    fn shape() -> Shape {
        Shape::Words("two sizes in bytes, the first not above the second".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let mut number = |cx: &mut Cx<'_>| {
            let word = args.need(cx)?;
            integer(&word, 0, i64::MAX, false, cx).and_then(|n| u64::try_from(n).ok())
        };
        let (start, max) = (number(cx)?, number(cx)?);
        if start > max {
            let message = "the first size of 'regex_stack' is above the second, ignored";
            cx.report(Diagnostic::error(&codes::RANGE, message).at(args.statement.span()));
            return None;
        }
        Some(Self(start, max))
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
        out.show(self.1);
    }
}

/// Hexadecimal digits of all remaining words, two for each byte: a blank ends a byte that has only one.
fn digits(args: &mut Args<'_>) -> Vec<u8> {
    let mut digits = Vec::new();
    while let Some(word) = args.next() {
        for piece in word.bytes.split(|b| crate::config::text::is_blank(*b)) {
            let (pairs, single) = piece.split_at(piece.len() - piece.len() % 2);
            digits.extend_from_slice(pairs);
            if let [digit] = single {
                digits.extend([b'0', *digit]);
            }
        }
    }
    digits
}

fn not_hex(args: &Args<'_>, cx: &mut Cx<'_>) {
    let message = format!("'{}' needs hexadecimal digits", args.keyword.name);
    cx.report(Diagnostic::error(&codes::HEX, message).at(args.span()));
}

impl Value for Payload {
    fn shape() -> Shape {
        Shape::Words("hexadecimal digits".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        if args.peek().is_none() {
            args.report_missing(cx);
            return None;
        }
        let octets = hex(&digits(args));
        if octets.is_none() {
            not_hex(args, cx);
        }
        octets.map(|o| Self(o.into()))
    }

    fn words(&self, out: &mut Words) {
        let text: String = self.0.iter().map(|b| format!("{b:02x}")).collect();
        out.push(text);
    }
}

impl Value for Reply {
    fn shape() -> Shape {
        Shape::Words("nothing, or hexadecimal digits, X for a digit that is not compared".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let text = digits(args);
        let wild: Vec<u8> =
            text.iter().map(|b| if matches!(b, b'x' | b'X') { b'0' } else { *b }).collect();
        let mask: Vec<u8> =
            text.iter().map(|b| if matches!(b, b'x' | b'X') { b'0' } else { b'f' }).collect();
        match (hex(&wild), hex(&mask)) {
            (Some(octets), Some(mask)) => {
                Some(Self(ReplyPattern { octets: octets.into(), mask: mask.into() }))
            }
            _ => {
                not_hex(args, cx);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        let digit = |value: u8, mask: u8| match mask {
            0 => 'X',
            _ => char::from_digit(u32::from(value), 16).unwrap_or('X'),
        };
        let text: String = self
            .0
            .octets
            .iter()
            .zip(&self.0.mask)
            .flat_map(|(o, m)| [digit(o >> 4, m >> 4), digit(o & 15, m & 15)])
            .collect();
        if !text.is_empty() {
            out.push(text);
        }
    }
}

impl Value for Domain {
    fn shape() -> Shape {
        Shape::Text("a domain name")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let text = text_of(&word, cx);
        let name = text.strip_suffix('.').unwrap_or(&text);
        let wrong = name.split('.').any(|l| l.is_empty() || l.len() > 63) || name.len() > 253;
        if wrong && !name.is_empty() {
            let message = format!("'{}' is not a domain name", word.shown());
            cx.report(Diagnostic::error(&codes::VALUE, message).at(word.span()));
            return None;
        }
        Some(Self(name.into()))
    }

    fn words(&self, out: &mut Words) {
        if self.0.is_empty() {
            out.push(".");
        } else {
            out.push(self.0.as_bytes());
        }
    }
}

impl Value for FileWeight {
    fn shape() -> Shape {
        Shape::Words(
            "an integer from -2147483647 to 2147483647, and optionally 'reverse' or 'noreverse'"
                .into(),
        )
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let weight = integer(&word, -2_147_483_647, 2_147_483_647, true, cx)?;
        let mut reverse = None;
        if let Some(word) = args.next() {
            match word.bytes {
                b"reverse" => reverse = Some(true),
                b"noreverse" => reverse = Some(false),
                _ => unknown_option(&word, &["reverse", "noreverse"], "a weight", cx),
            }
        }
        Some(Self { weight: i32::try_from(weight).unwrap_or(0), reverse })
    }

    fn words(&self, out: &mut Words) {
        out.show(self.weight);
        match self.reverse {
            Some(true) => out.push("reverse"),
            Some(false) => out.push("noreverse"),
            None => {}
        }
    }
}
