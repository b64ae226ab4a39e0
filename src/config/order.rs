//! The order of problems and their repetitions: by place, each consequence after its causes, each once, and many of the
//! same kind counted instead of shown.
//!
//! What is found when a block is resolved may follow from any problem of its text, and what is found at the end of the
//! text from any error. The problems themselves come from the other modules.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Class, Diagnostic, Kind, Severity};
use super::span::{Sources, Span};

/// How many problems of one kind in one line, or with the same words, are shown.
const SHOWN: usize = 3;

/// File, offset and unit: see [`Sources::order`].
type Place = (u32, u32, u32);

/// Behind all text.
const END: Place = (u32::MAX, u32::MAX, u32::MAX);

/// Sorts by place, causes before their consequences, and drops repetitions.
pub(super) fn sort(list: &mut Vec<Diagnostic>, sources: &Sources) {
    let mut causes = Causes::new(list, sources);
    list.sort_by_cached_key(|d| {
        let own = sources.order(d.span);
        let place = own.max(causes.of(d)).max(d.follows.map_or(own, |at| behind(at, sources)));
        (place, place != own, own, d.span.len, d.code.id)
    });
    let mut seen = BTreeSet::new();
    list.retain(|d| {
        let (file, at, _) = sources.order(d.span);
        seen.insert((d.code.id, file, at, d.message.clone()))
    });
}

/// The place, or the end of the text if there is none.
fn behind(at: Span, sources: &Sources) -> Place {
    if at.is_some() { sources.order(at) } else { END }
}

/// The last problems from which others may follow.
struct Causes<'a> {
    sources: &'a Sources,
    /// By the place of the top-level block in whose text they are.
    blocks: BTreeMap<Place, Place>,
    /// Those found before the text was split into blocks, by their own places and those of the includes around them.
    outside: BTreeMap<(u32, u32), Place>,
    /// The last error that was found before the end of the text, and the last of all.
    last: Option<Place>,
    last_of_all: Option<Place>,
    known: BTreeMap<Place, Option<Place>>,
}

impl<'a> Causes<'a> {
    fn new(list: &[Diagnostic], sources: &'a Sources) -> Self {
        let (blocks, outside, known) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut new = Self { sources, blocks, outside, last: None, last_of_all: None, known };
        let counts = |d: &&Diagnostic| !d.hidden && d.span.is_some();
        for d in list.iter().filter(counts) {
            let (own, subject) = (sources.order(d.span), d.subject);
            let is_error = d.severity == Severity::Error;
            if is_error {
                new.last_of_all = new.last_of_all.max(Some(own));
            }
            if is_error && (subject.kind != Kind::Settled || subject.within.is_some()) {
                new.last = new.last.max(Some(own));
            }
            if subject.kind == Kind::Settled || !(is_error || d.class != Class::Quiet) {
                continue;
            }
            if subject.within.is_some() {
                let last = new.blocks.entry(sources.order(subject.within)).or_insert(own);
                *last = own.max(*last);
                continue;
            }
            let mut at = d.span;
            while at.is_some() {
                let (file, start, _) = sources.order(at);
                let last = new.outside.entry((file, start)).or_insert(own);
                *last = own.max(*last);
                at = sources.unit(at.unit).map_or(Span::NONE, |unit| unit.include);
            }
        }
        new
    }

    /// The last place of a cause, or the beginning of the text.
    fn of(&mut self, consequence: &Diagnostic) -> Place {
        let subject = consequence.subject;
        let cause = if subject.kind != Kind::Settled || consequence.severity == Severity::Note {
            None
        } else if !subject.within.is_some() {
            // A warning may follow from an error of the same stage: a script is never run if its use is misspelt.
            let is_error = consequence.severity == Severity::Error;
            if is_error { self.last } else { self.last_of_all }
        } else if subject.end.is_some() {
            self.of_block(subject.within, subject.end)
        } else {
            None
        };
        cause.unwrap_or_default()
    }

    /// The last problem of the text of a top-level block.
    fn of_block(&mut self, within: Span, end: Span) -> Option<Place> {
        let block = self.sources.order(within);
        if let Some(known) = self.known.get(&block) {
            return *known;
        }
        let (file, start, _) = block;
        // A block without its closing brace goes on to the end of the text.
        let to = if end == within { END } else { behind(end, self.sources) };
        let to = if to.0 == file { (file, to.1) } else { (file, u32::MAX) };
        let outside = self.outside.range((file, start)..=to.max((file, start)));
        let last = outside.map(|(_, place)| *place).max().max(self.blocks.get(&block).copied());
        self.known.insert(block, last);
        last
    }
}

/// Marks what is not shown because three of the same kind are shown from its line or with its words, and counts it
/// in the last of those.
pub(super) fn fold(list: &mut [Diagnostic], sources: &Sources) {
    /// How many are shown, the last of them, how many more there are, and the last of these.
    #[derive(Clone, Copy)]
    struct Group {
        shown: usize,
        last: usize,
        more: usize,
        end: usize,
    }
    fn join(group: &mut Group, at: usize) -> bool {
        let folds = group.shown >= SHOWN;
        if folds {
            (group.more, group.end) = (group.more + 1, at);
        } else {
            (group.shown, group.last) = (group.shown + 1, at);
        }
        folds
    }
    const NEW: Group = Group { shown: 0, last: 0, more: 0, end: 0 };
    let mut lines: BTreeMap<(&str, u32, u32), Group> = BTreeMap::new();
    let mut words: BTreeMap<(&str, String), Group> = BTreeMap::new();
    let mut folded = Vec::new();
    for (at, d) in list.iter().enumerate() {
        let line = sources.line(d.span).map(|(file, line)| (d.code.id, file, line));
        let folds = line.is_some_and(|line| join(lines.entry(line).or_insert(NEW), at))
            || join(words.entry((d.code.id, d.message.clone())).or_insert(NEW), at);
        if folds {
            folded.push(at);
        }
    }
    let lines: Vec<Group> = lines.into_values().filter(|group| group.more > 0).collect();
    let words: Vec<Group> = words.into_values().filter(|group| group.more > 0).collect();
    let place = |group: &Group| Some(sources.place(list.get(group.end)?.span)?.shown());
    let of_line = lines.iter().map(|g| (*g, " in this line".to_owned()));
    let of_words = words.iter().map(|g| {
        let last = place(g).map(|place| format!(", the last at {place}")).unwrap_or_default();
        (*g, last)
    });
    let notes: Vec<(Group, String)> = of_line.chain(of_words).collect();
    for (group, which) in notes {
        if let Some(d) = list.get_mut(group.last) {
            d.more += group.more;
            d.notes.push(match group.more {
                1 => format!("1 more like this is not shown{which}"),
                more => format!("{more} more like this are not shown{which}"),
            });
        }
    }
    for at in folded {
        if let Some(d) = list.get_mut(at) {
            d.folded = true;
        }
    }
}
