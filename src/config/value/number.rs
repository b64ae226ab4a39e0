//! Integers, times and truth values.

use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::{Args, Shape, Value, Words};
use crate::config::words::Word;

/// The keyword alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flag;

/// A truth value; the keyword alone means true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bool(pub bool);

/// A decimal integer in a range. Text after the digits is reported and ignored, for keywords whose numbers keepalived's
/// daemon reads so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int<const MIN: i64, const MAX: i64>(pub i64);

/// A decimal integer in a range, and nothing else: for keywords that keepalived's daemon ignores if text follows the digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exact<const MIN: i64, const MAX: i64>(pub i64);

/// A time in seconds, kept in units of ten to the minus `DIGITS` seconds; the bounds are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time<const MIN: u64, const MAX: u64, const DIGITS: u32>(pub u64);

/// A time in seconds with up to six decimals, in microseconds.
pub(crate) type Seconds<const MIN: u64, const MAX: u64> = Time<MIN, MAX, 6>;

/// The largest time in microseconds that fits into 32 bits.
pub(crate) const TIMER_MAX: u64 = 4_294_967_295;
/// The largest time in microseconds that fits into 64 bits.
pub(crate) const LONG_MAX: u64 = 4_294_967_295_000_000;
/// The largest value of 32 bits.
pub(crate) const U32: i64 = u32::MAX as i64;

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    /// The value as an unsigned number; guaranteed to fit by the range of the type.
    pub(crate) fn u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(0)
    }

    /// The value as a small unsigned number.
    pub(crate) fn u8(self) -> u8 {
        u8::try_from(self.0).unwrap_or(0)
    }
}

impl<const MIN: i64, const MAX: i64> Exact<MIN, MAX> {
    /// The value as an unsigned number.
    pub(crate) fn u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(0)
    }

    /// The value as a small unsigned number.
    pub(crate) fn u8(self) -> u8 {
        u8::try_from(self.0).unwrap_or(0)
    }
}

impl<const MIN: u64, const MAX: u64, const DIGITS: u32> Time<MIN, MAX, DIGITS> {
    /// A number of seconds, for defaults.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000_000)
    }

    pub(crate) fn duration(self) -> core::time::Duration {
        core::time::Duration::from_micros(self.0)
    }
}

impl Value for Flag {
    fn shape() -> Shape {
        Shape::Flag
    }

    fn read(_args: &mut Args<'_>, _cx: &mut Cx<'_>) -> Option<Self> {
        Some(Self)
    }

    fn words(&self, _out: &mut Words) {}
}

impl Value for Bool {
    fn shape() -> Shape {
        Shape::Boolean
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let Some(word) = args.next() else {
            return Some(Self(true));
        };
        match word.bytes {
            b"true" | b"on" | b"yes" => Some(Self(true)),
            b"false" | b"off" | b"no" => Some(Self(false)),
            other => {
                let message = format!("'{}' is not a truth value", word.shown());
                let mut new = Diagnostic::error(&codes::BOOLEAN, message)
                    .at(word.span())
                    .label(format!("expected {}", Self::shape().expected()));
                let lower = other.to_ascii_lowercase();
                match lower.as_slice() {
                    b"true" | b"on" | b"yes" | b"1" => new = new.replacement("true"),
                    b"false" | b"off" | b"no" | b"0" => new = new.replacement("false"),
                    _ => {}
                }
                cx.report(new);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        out.push(if self.0 { "true" } else { "false" });
    }
}

/// Corrects the error about a number of seconds that has a unit.
pub(crate) fn without_unit(word: &Word<'_>, cx: &mut Cx<'_>) {
    let head = word.bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = word.bytes.split_at(head);
    if !matches!(unit, b"s" | b"sec" | b"m" | b"min" | b"h" | b"d" | b"ms" | b"msec") {
        return;
    }
    let seconds = in_seconds(number, unit).filter(|s| s.bytes().all(|b| b.is_ascii_digit()));
    if let Some(last) = cx.reports.last_mut().filter(|last| last.span == word.span()) {
        last.help.push("write seconds without a unit".into());
        last.replacement = seconds;
    }
}

impl<const MIN: i64, const MAX: i64> Value for Int<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Integer { min: MIN, max: MAX }
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let number = integer(&word, MIN, MAX, true, cx).map(Self);
        if args.keyword.doc.contains("econds") {
            without_unit(&word, cx);
        }
        number
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl<const MIN: i64, const MAX: i64> Value for Exact<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Integer { min: MIN, max: MAX }
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let number = integer(&word, MIN, MAX, false, cx).map(Self);
        if args.keyword.doc.contains("econds") {
            without_unit(&word, cx);
        }
        number
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl<const MIN: u64, const MAX: u64, const DIGITS: u32> Value for Time<MIN, MAX, DIGITS> {
    fn shape() -> Shape {
        Shape::Seconds { min: seconds_of(MIN), max: seconds_of(MAX) }
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        time(&word, MIN, MAX, DIGITS, cx).map(Self)
    }

    fn words(&self, out: &mut Words) {
        out.push(show_micros(self.0));
    }
}

#[allow(clippy::cast_precision_loss, reason = "for messages only")]
fn seconds_of(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Microseconds as decimal seconds without trailing zeros.
pub(crate) fn show_micros(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    if part == 0 {
        whole.to_string()
    } else {
        let digits = format!("{part:06}");
        format!("{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// A parsed number: sign, digits, and where the digits end.
struct Digits {
    negative: bool,
    /// None if there are no digits; the largest number if there are too many.
    value: Option<i64>,
    end: usize,
}

fn digits(bytes: &[u8]) -> Digits {
    let blanks = bytes.iter().take_while(|&&b| crate::config::text::is_blank(b)).count();
    let rest = bytes.get(blanks..).unwrap_or_default();
    let (negative, sign) = match rest.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let mut value: Option<i64> = None;
    let mut end = blanks + sign;
    for byte in bytes.get(end..).unwrap_or_default() {
        if !byte.is_ascii_digit() {
            break;
        }
        let digit = i64::from(byte - b'0');
        value = Some(
            value
                .unwrap_or(0)
                .checked_mul(10)
                .and_then(|v| v.checked_add(digit))
                .unwrap_or(i64::MAX),
        );
        end += 1;
    }
    Digits { negative, value, end }
}

/// Reads a decimal integer of a range. Text after it is a warning if `lenient`, else an error.
pub(crate) fn integer(
    word: &Word<'_>,
    min: i64,
    max: i64,
    lenient: bool,
    cx: &mut Cx<'_>,
) -> Option<i64> {
    let read = digits(word.bytes);
    let expected = || format!("expected an integer from {min} to {max}");
    // A quoted empty word counts as 0.
    let value = match read.value {
        Some(value) if read.negative => value.checked_neg()?,
        Some(value) => value,
        None if word.bytes.is_empty() => 0,
        None => {
            let message = format!("invalid number '{}'", word.shown());
            let new = Diagnostic::error(&codes::NUMBER, message).at(word.span());
            cx.report(new.label(expected()));
            return None;
        }
    };
    if read.negative && min >= 0 && value <= 0 {
        let message = format!("negative number '{}'", word.shown());
        let new = Diagnostic::error(&codes::RANGE, message).at(word.span());
        cx.report(new.label(expected()));
        return None;
    }
    let rest = word.bytes.get(read.end..).unwrap_or_default();
    let hexadecimal = matches!(rest.first(), Some(b'x' | b'X')) && value == 0;
    if !rest.is_empty() && (!lenient || hexadecimal) {
        let message = format!("invalid number '{}'", word.shown());
        let mut new = Diagnostic::error(&codes::NUMBER, message).at(word.span()).label(expected());
        let number = core::str::from_utf8(rest.get(1..).unwrap_or_default())
            .ok()
            .and_then(|h| i64::from_str_radix(h, 16).ok());
        if let (true, Some(number)) = (hexadecimal, number) {
            new = new.help("numbers must be decimal here").replacement(number.to_string());
        } else if (min..=max).contains(&value) {
            new = new
                .help("text after the number is not allowed here")
                .replacement(value.to_string());
        }
        cx.report(new);
        return None;
    }
    if !(min..=max).contains(&value) {
        let message = format!("number '{}' outside range [{min}, {max}]", word.shown());
        let new = Diagnostic::error(&codes::RANGE, message).at(word.span());
        cx.report(new.label(expected()));
        return None;
    }
    if !rest.is_empty() {
        report_rest(word, &value.to_string(), expected(), cx);
    }
    Some(value)
}

/// Reports text after a number that is used.
pub(crate) fn report_rest(word: &Word<'_>, value: &str, expected: String, cx: &mut Cx<'_>) {
    let message = format!("text after the number in '{}', {value} is used", word.shown());
    let mut new = Diagnostic::warning(&codes::TRAILING_TEXT, message)
        .at(word.span())
        .label(expected)
        .replacement(value);
    if word.bytes.ends_with(b",") || word.bytes.ends_with(b";") {
        new = new.help("entries are separated by blanks and line ends");
    }
    cx.report(new);
}

/// A number with a unit as seconds, for a hint. An unknown unit is taken for seconds.
fn in_seconds(number: &[u8], unit: &[u8]) -> Option<String> {
    let micros = decimal(number, 6)?.value;
    let (times, parts) = match unit {
        b"ms" | b"msec" => (1, 1_000),
        b"us" | b"usec" => (1, 1_000_000),
        b"m" | b"min" => (60, 1),
        b"h" => (3_600, 1),
        b"d" => (86_400, 1),
        _ => (1, 1),
    };
    Some(show_micros(micros.saturating_mul(times) / parts))
}

/// Reads decimal seconds into microseconds. `kept` decimals count.
pub(crate) fn time(word: &Word<'_>, min: u64, max: u64, kept: u32, cx: &mut Cx<'_>) -> Option<u64> {
    let expected =
        || format!("expected a time from {} to {} seconds", show_micros(min), show_micros(max));
    let Some(read) = decimal(word.bytes, kept) else {
        let negative = word.bytes.first() == Some(&b'-');
        let what = if negative { "negative number" } else { "invalid number" };
        let message = format!("{what} '{}'", word.shown());
        let mut new = Diagnostic::error(&codes::SECONDS, message).at(word.span()).label(expected());
        let head = word.bytes.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        let (number, unit) = word.bytes.split_at(head.min(word.bytes.len()));
        if let Some(seconds) = in_seconds(number, unit) {
            new = new.help(format!(
                "write seconds without a unit, '{seconds}'; keepalived reads the digits before the text as microseconds"
            ));
        }
        cx.report(new);
        return None;
    };
    let scale = 10_u64.pow(6 - kept.min(6));
    let micros = read.value.saturating_mul(scale);
    if !(min..=max).contains(&micros) {
        let message = format!(
            "number '{}' outside range [{}, {}]",
            word.shown(),
            show_micros(min),
            show_micros(max)
        );
        let new = Diagnostic::error(&codes::RANGE, message).at(word.span());
        cx.report(new.label(expected()));
        return None;
    }
    if read.excess {
        let message = format!(
            "number '{}' has too many decimal places, {} is used",
            word.shown(),
            show_micros(micros)
        );
        cx.report(
            Diagnostic::warning(&codes::DECIMALS, message)
                .at(word.span())
                .label(format!("{kept} decimal places are used"))
                .replacement(show_micros(micros)),
        );
    }
    Some(micros)
}

/// A decimal number scaled by ten to the number of kept decimals.
pub(crate) struct Decimal {
    pub value: u64,
    pub excess: bool,
}

/// A number in any base of C.
pub(crate) fn any_base(text: &str) -> Option<u64> {
    if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()
    } else if text.len() > 1 && text.starts_with('0') {
        u64::from_str_radix(text, 8).ok()
    } else {
        text.parse().ok()
    }
}

/// Reads digits with an optional decimal point. None if there is anything else.
pub(crate) fn decimal(bytes: &[u8], kept: u32) -> Option<Decimal> {
    let blanks = bytes.iter().take_while(|&&b| crate::config::text::is_blank(b)).count();
    let bytes = bytes.get(blanks..)?;
    let bytes = bytes.strip_prefix(b"+").unwrap_or(bytes);
    let mut value: u64 = 0;
    let mut decimals: Option<u32> = None;
    let mut any = false;
    let mut round_up = false;
    for &byte in bytes {
        match (byte, decimals) {
            (b'.', None) => decimals = Some(0),
            (b'0'..=b'9', _) => {
                any = true;
                let digit = u64::from(byte - b'0');
                match &mut decimals {
                    Some(n) if *n >= kept => {
                        if *n == kept {
                            round_up = digit >= 5;
                        }
                        *n += 1;
                    }
                    more => {
                        if let Some(n) = more {
                            *n += 1;
                        }
                        value = value.saturating_mul(10).saturating_add(digit);
                    }
                }
            }
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    let used = decimals.unwrap_or(0);
    let missing = kept.saturating_sub(used);
    value = value.saturating_mul(10_u64.saturating_pow(missing));
    Some(Decimal { value: value.saturating_add(u64::from(round_up)), excess: used > kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_unit_is_hinted_at_in_seconds() {
        let hint = |number: &str, unit: &str| in_seconds(number.as_bytes(), unit.as_bytes());
        assert_eq!(hint("100", "ms").as_deref(), Some("0.1"));
        assert_eq!(hint("1500", "us").as_deref(), Some("0.0015"));
        assert_eq!(hint("1.5", "s").as_deref(), Some("1.5"));
        assert_eq!(hint("2", "min").as_deref(), Some("120"));
        assert_eq!(hint("7", "x").as_deref(), Some("7"));
        assert_eq!(hint("", "ms"), None);
    }

    #[test]
    fn decimals() {
        let read = |t: &str| decimal(t.as_bytes(), 6).map(|d| (d.value, d.excess));
        assert_eq!(read("1.5"), Some((1_500_000, false)));
        assert_eq!(read(".25"), Some((250_000, false)));
        assert_eq!(read("2."), Some((2_000_000, false)));
        assert_eq!(read("0.1234567"), Some((123_457, true)));
        assert_eq!(read("0.1234564"), Some((123_456, true)));
        assert_eq!(read("1e3"), None);
        assert_eq!(read("1,5"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read("."), None);
        assert_eq!(read(""), None);
        assert_eq!(read("99999999999999999999999999"), Some((u64::MAX, false)));
        assert_eq!(show_micros(1_500_000), "1.5");
        assert_eq!(show_micros(1), "0.000001");
        assert_eq!(show_micros(3_000_000), "3");
    }
}
