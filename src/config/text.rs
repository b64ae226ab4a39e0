//! Text between the files and the parser, with a map back to the origin of each byte.

use crate::config::span::{Span, u32_of};

/// Consecutive bytes of one file, or text that replaces one piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// First byte in the text here.
    start: u32,
    /// Index of the unit.
    unit: u32,
    /// Byte of the file that the first byte comes from.
    pos: u32,
    /// `LINEAR`, or the length of the piece that all bytes of this run replace.
    fixed: u32,
}

const LINEAR: u32 = u32::MAX;

/// Text with its origins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text {
    pub bytes: Vec<u8>,
    runs: Vec<Run>,
}

impl Text {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends bytes from position `pos` of the file of `unit`.
    pub(crate) fn push_linear(&mut self, bytes: &[u8], unit: u32, pos: usize) {
        let (start, pos) = (u32_of(self.bytes.len()), u32_of(pos));
        let follows = self.runs.last().is_some_and(|r| {
            r.fixed == LINEAR && r.unit == unit && r.pos + (start - r.start) == pos
        });
        if !follows {
            let fixed = LINEAR;
            self.runs.push(Run { start, unit, pos, fixed });
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends bytes that as a whole replace the text at `site`, read as `unit`.
    pub(crate) fn push_fixed(&mut self, bytes: &[u8], unit: u32, site: Span) {
        if !bytes.is_empty() {
            self.runs.push(Run {
                start: u32_of(self.bytes.len()),
                unit,
                pos: site.start,
                fixed: site.len.min(LINEAR - 1),
            });
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Appends a part of another text.
    pub(crate) fn push_part(&mut self, other: &Self, from: usize, to: usize) {
        let Some(bytes) = other.bytes.get(from..to) else {
            return;
        };
        let base = u32_of(self.bytes.len());
        let first = other.run_at(u32_of(from));
        for run in other.runs.iter().skip(first) {
            if run.start as usize >= to && run.start as usize > from {
                break;
            }
            let skipped = u32_of(from).saturating_sub(run.start);
            let start = base + run.start.saturating_sub(u32_of(from));
            let pos = match run.fixed {
                LINEAR => run.pos + skipped,
                _ => run.pos,
            };
            let run = Run { start, pos, ..*run };
            let follows = self.runs.last().is_some_and(|r| {
                r.fixed == LINEAR
                    && run.fixed == LINEAR
                    && r.unit == run.unit
                    && r.pos + (start - r.start) == pos
            });
            if !follows {
                self.runs.push(run);
            }
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a byte that belongs to the preceding text: a newline.
    pub(crate) fn push_end(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// A part as a text of its own, without blanks at its ends.
    pub(crate) fn trimmed(&self, from: usize, to: usize) -> Self {
        let part = self.bytes.get(from..to).unwrap_or_default();
        let left = part.len() - part.trim_ascii_start_vt().len();
        let kept = part.trim_ascii_start_vt().trim_ascii_end_vt().len();
        let mut text = Self::default();
        text.push_part(self, from + left, from + left + kept);
        text
    }

    fn run_at(&self, at: u32) -> usize {
        self.runs.partition_point(|r| r.start <= at).saturating_sub(1)
    }

    /// The origin of the bytes from `from` to `to`.
    pub(crate) fn span(&self, from: usize, to: usize) -> Span {
        let (from, to) = (u32_of(from), u32_of(to));
        let Some(run) = self.runs.get(self.run_at(from)) else {
            return Span::NONE;
        };
        match run.fixed {
            LINEAR => {
                let limit =
                    self.runs.get(self.run_at(from) + 1).map_or(u32::MAX, |next| next.start);
                Span {
                    unit: run.unit,
                    start: run.pos + from.saturating_sub(run.start),
                    len: to.min(limit).saturating_sub(from),
                }
            }
            len => Span { unit: run.unit, start: run.pos, len },
        }
    }

    /// The unit of the byte at `at`.
    pub(crate) fn unit_at(&self, at: usize) -> u32 {
        self.runs.get(self.run_at(u32_of(at))).map_or(u32::MAX, |r| r.unit)
    }
}

/// The blanks of the language: space, tab, line feed, vertical tab, form feed, carriage return.
pub(crate) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Trimming with the blanks of the language, which are ASCII white space and the vertical tab.
pub(crate) trait Trim {
    fn trim_ascii_start_vt(&self) -> &[u8];
    fn trim_ascii_end_vt(&self) -> &[u8];
}

impl Trim for [u8] {
    fn trim_ascii_start_vt(&self) -> &[u8] {
        let mut rest = self;
        while let [first, tail @ ..] = rest {
            if !is_blank(*first) {
                break;
            }
            rest = tail;
        }
        rest
    }

    fn trim_ascii_end_vt(&self) -> &[u8] {
        let mut rest = self;
        while let [head @ .., last] = rest {
            if !is_blank(*last) {
                break;
            }
            rest = head;
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(unit: u32, start: u32, len: u32) -> Span {
        Span { unit, start, len }
    }

    #[test]
    fn text_remembers_where_it_came_from() {
        let mut line = Text::default();
        line.push_linear(b"priority ", 1, 100);
        line.push_fixed(b"150", 2, span(1, 109, 4));
        line.push_linear(b" # x", 1, 113);
        assert_eq!(line.span(0, 8), span(1, 100, 8));
        assert_eq!(line.span(9, 12), span(2, 109, 4));
        assert_eq!(line.span(10, 11), span(2, 109, 4));
        assert_eq!(line.span(13, 14), span(1, 114, 1));
        let part = line.trimmed(8, 13);
        assert_eq!(part.bytes, b"150");
        assert_eq!(part.span(0, 3), span(2, 109, 4));
        let mut joined = Text::default();
        joined.push_part(&line, 0, 4);
        joined.push_part(&line, 4, 16);
        assert_eq!(joined.bytes, line.bytes);
        assert_eq!(joined.runs, line.runs);
    }

    #[test]
    fn runs_of_lines_are_one() {
        let mut text = Text::default();
        text.push_linear(b"a\n", 0, 0);
        text.push_linear(b"b\n", 0, 2);
        text.push_linear(b"c\n", 0, 9);
        assert_eq!(text.runs.len(), 2);
        assert_eq!(text.span(4, 5), span(0, 9, 1));
    }
}
