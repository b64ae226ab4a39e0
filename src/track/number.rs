//! The number in a tracked file.

/// Number of octets of a file that are evaluated.
pub const LONGEST: usize = 127;

/// Why there is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The number at the beginning of `text`, in C notation: decimal, octal after `0`, hexadecimal after `0x`, with
/// optional leading blanks and sign, and anything after it. 0 if there is none.
///
/// # Errors
/// If the number does not fit into 32 bits.
pub fn number(text: &[u8]) -> Result<i32, TooLarge> {
    let text = text.get(..LONGEST).unwrap_or(text);
    let text = text.trim_ascii_start();
    // C also treats a vertical tab as a blank.
    let text = text.strip_prefix(b"\x0b").map_or(text, <[u8]>::trim_ascii_start);
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (radix, digits) = match text {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
            (16, rest)
        }
        [b'0', rest @ ..] => (8, rest),
        _ => (10, text),
    };
    let mut value: i64 = 0;
    for digit in digits.iter().map_while(|c| char::from(*c).to_digit(radix)) {
        value = value.saturating_mul(i64::from(radix)).saturating_add(i64::from(digit));
    }
    i32::try_from(if negative { -value } else { value }).map_err(|_| TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (text, value) in [
            ("5\n", 5),
            ("  \t\n-12abc", -12),
            ("+7", 7),
            ("", 0),
            ("\n", 0),
            ("garbage", 0),
            ("- 5", 0),
            ("0x1F", 31),
            ("-0X10 ", -16),
            ("0x", 0),
            ("0xg", 0),
            ("017", 15),
            ("08", 0),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
            ("\u{b} 3", 3),
        ] {
            assert_eq!(number(text.as_bytes()), Ok(value), "{text:?}");
        }
        for text in ["2147483648", "-2147483649", "99999999999999999999999999"] {
            assert_eq!(number(text.as_bytes()), Err(TooLarge), "{text}");
        }
        let late = format!("{}5", " ".repeat(LONGEST));
        assert_eq!(number(late.as_bytes()), Ok(0));
        assert_eq!(number(&[0xff, 0, b'5']), Ok(0));
    }
}
