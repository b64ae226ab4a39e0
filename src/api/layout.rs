//! Text in lines of 80 columns: lines, wrapped texts, tables, distances of times. Pure.

use core::fmt::Write as _;

/// Columns of a line.
pub(super) const WIDTH: usize = 80;

/// The time from one RFC 3339 time of this program to another, with its two largest units.
pub(super) fn ago(from: &str, to: &str) -> String {
    let (Some(from), Some(to)) = (seconds(from), seconds(to)) else {
        return "?".into();
    };
    let s = to.saturating_sub(from);
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// Seconds since 1970 of a time written by this program.
fn seconds(time: &str) -> Option<u64> {
    let mut numbers = time.split(['-', 'T', ':', '.']).map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    // Years that begin in March, so that a leap day is the last day.
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let since = days.checked_sub(719_469)?;
    Some(since * 86_400 + hour * 3600 + minute * 60 + second)
}

/// One line, cut at the width of the screen.
pub(super) fn line(text: &mut String, content: &str) {
    let (start, content) = match content.strip_prefix('\n') {
        Some(rest) => ("\n", rest),
        None => ("", content),
    };
    let _ = writeln!(text, "{start}{}", cut(content, WIDTH));
}

/// A text on several lines, wrapped at blanks.
pub(super) fn wrapped(text: &mut String, indent: &str, content: &str) {
    let mut current = indent.to_owned();
    for word in content.split(' ') {
        if current.trim_start().is_empty() {
            current.push_str(word);
        } else if current.chars().count() + 1 + word.chars().count() <= WIDTH {
            current.push(' ');
            current.push_str(word);
        } else {
            line(text, current.trim_end());
            current = format!("{indent}  {word}");
        }
    }
    line(text, current.trim_end());
}

/// At most `width` characters, without control characters; `~` marks a cut.
fn cut(content: &str, width: usize) -> String {
    let clean = content.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut short: String = clean.take(width).collect();
    if content.chars().count() > width {
        short.pop();
        short.push('~');
    }
    short
}

/// A table whose columns are narrowed until it fits.
pub(super) struct Table<const N: usize> {
    rows: Vec<Row<N>>,
    pub right: [bool; N],
    /// Columns that are never cut: what somebody copies, or that tells rows apart.
    pub whole: [bool; N],
    /// Whether an empty line comes before it.
    pub gap: bool,
}

enum Row<const N: usize> {
    Cells([String; N]),
    Note(String),
}

impl<const N: usize> Table<N> {
    pub fn new(head: [&str; N]) -> Self {
        Self {
            rows: vec![Row::Cells(head.map(Into::into))],
            right: [false; N],
            whole: [false; N],
            gap: true,
        }
    }

    pub fn row(&mut self, cells: [String; N]) {
        self.rows.push(Row::Cells(cells));
    }

    pub fn note(&mut self, text: String) {
        self.rows.push(Row::Note(text));
    }

    pub fn print(&self, text: &mut String) {
        let mut widths = [0; N];
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = cell.chars().count().max(*width);
                }
            }
        }
        // Two blanks between columns; the widest column that may be cut is narrowed.
        let room = WIDTH - 2 * (N - 1);
        while widths.iter().sum::<usize>() > room {
            let cut = widths.iter_mut().zip(self.whole).filter(|(_, whole)| !whole);
            match cut.map(|(width, _)| width).max() {
                Some(width) if *width > 1 => *width -= 1,
                _ => break,
            }
        }
        if self.gap {
            text.push('\n');
        }
        for row in &self.rows {
            match row {
                Row::Cells(cells) => {
                    let mut content = String::new();
                    for ((cell, width), right) in cells.iter().zip(widths).zip(self.right) {
                        let cell = cut(cell, width);
                        let _ = match right {
                            true => write!(content, "{cell:>width$}  "),
                            false => write!(content, "{cell:<width$}  "),
                        };
                    }
                    line(text, content.trim_end());
                }
                Row::Note(note) => wrapped(text, "    ", note),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-01T00:00:10.500Z";

    #[test]
    fn times_are_told_by_their_distance() {
        for (from, text) in [
            (NOW, "0s"),
            ("2026-02-28T23:59:11.000Z", "59s"),
            ("2026-02-28T23:59:10.000Z", "1m00s"),
            ("2026-02-28T00:00:00.000Z", "1d00h"),
            ("2024-02-29T00:00:10.000Z", "731d00h"),
            ("2026-03-01T00:00:11.000Z", "0s"),
            ("nonsense", "?"),
        ] {
            assert_eq!(ago(from, NOW), text, "{from}");
        }
        // The reader and the writer of times agree.
        for secs in [0, 68_169_599, 951_782_400, 4_107_542_399, 4_107_542_400] {
            let text = crate::base::WallTime { secs, nanos: 0 }.to_string();
            assert_eq!(seconds(&text), Some(secs), "{text}");
        }
    }
}
