//! Output to a terminal, a file or a pipe. A reader that closes the pipe is not an error, a full disk is.

use std::fmt::Display;
use std::io::{self, Write};

/// The most columns that help texts use.
pub const WIDTH: usize = 80;

/// Prints a text to standard output as it is.
///
/// # Errors
/// If it cannot be written, except for a closed pipe.
pub fn out(text: &str) -> Result<(), lexopt::Error> {
    bytes(text.as_bytes())
}

/// As [`out`], for text of any encoding.
///
/// # Errors
/// As [`out`].
pub fn bytes(text: &[u8]) -> Result<(), lexopt::Error> {
    let mut stream = io::stdout().lock();
    match unless_closed(stream.write_all(text).and_then(|()| stream.flush())) {
        Ok(()) => Ok(()),
        Err(e) => Err(format!("cannot write the output: {e}").into()),
    }
}

/// Prints a line to standard error. Failures are ignored: they cannot be reported.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Does not treat a closed pipe as an error.
///
/// # Errors
/// Those of `result` otherwise.
pub fn unless_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Lays text out in lines of at most [`WIDTH`] columns that begin in column `indent`; the first line continues one of
/// `used` columns.
#[must_use]
pub fn wrapped(text: &str, indent: usize, used: usize) -> String {
    let (mut out, mut column) = (String::new(), used);
    for (i, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if i > 0 && column + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words() {
        let text = wrapped(&"word ".repeat(30), 4, 4);
        assert!(text.lines().all(|line| line.len() <= WIDTH));
        assert!(text.lines().skip(1).all(|line| line.starts_with("    word")));
        assert_eq!(text.split_whitespace().count(), 30);
        assert_eq!(wrapped("one", 32, 79), "one");
    }
}
