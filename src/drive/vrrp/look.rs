//! Views and summaries of the engine, taken in parts so that no turn of the real-time thread is long, and joined on the
//! other side.

use std::collections::{BTreeMap, VecDeque};

use crate::base::Instant;
use crate::status::Ask;
use crate::status::cause::Histories;
use crate::status::peer::Peers;
use crate::status::vrrp::{Summary, Vrrp};
use crate::vrrp::{Engine, Position};

/// Largest number of objects in a part; fewer if they have many addresses and routes.
const PART: usize = 64;
/// Requests that may wait. Further ones are not answered.
const WAITING: usize = 16;

/// A part of the summary that the supervisor stores.
#[derive(Debug)]
pub struct SummaryPart {
    /// The summary begins here; an earlier beginning is discarded.
    pub first: bool,
    /// It is complete.
    pub last: bool,
    /// Some of its objects.
    pub summary: Summary,
}

/// The summary that is being sent, on the real-time thread.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The last summary is out of date.
    due: bool,
    /// Where its next part begins, while one is under way.
    shown: Option<Position>,
}

impl Telling {
    /// Something changed. A summary under way is completed, and then another one is sent.
    pub const fn ask(&mut self) {
        self.due = true;
    }

    pub const fn is_idle(&self) -> bool {
        !self.due && self.shown.is_none()
    }

    /// The instances may have changed.
    pub fn restart(&mut self) {
        self.due |= self.shown.take().is_some();
    }

    /// The next part.
    pub fn part(&mut self, engine: &Engine, now: Instant) -> Option<SummaryPart> {
        let begin = match self.shown {
            Some(shown) => shown,
            None if core::mem::take(&mut self.due) => Position::default(),
            None => return None,
        };
        let (summary, next) = engine.summary_part(now, begin, PART);
        self.shown = next;
        let first = begin == Position::default();
        Some(SummaryPart { first, last: next.is_none(), summary })
    }
}

/// Joins the parts of summaries, on the other side.
#[derive(Debug, Default)]
pub struct Summaries(Summary);

impl Summaries {
    /// Adds a part; returns the summary if it is complete. Its time is that of its first part.
    pub fn join(&mut self, part: SummaryPart) -> Option<Summary> {
        self.0 = match part.first {
            true => part.summary,
            false => core::mem::take(&mut self.0).joined(part.summary),
        };
        part.last.then(|| core::mem::take(&mut self.0))
    }
}

/// What an answer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The answer to [`Ask::State`].
    State(Vrrp),
    /// The answer to [`Ask::Peers`].
    Peers(Peers),
    /// The answer to [`Ask::Causes`].
    Causes(Histories),
}

impl Seen {
    /// Joins this part with the next one, which answers the same request.
    fn joined(self, next: Self) -> Self {
        match (self, next) {
            (Self::State(begun), Self::State(next)) => Self::State(begun.joined(next)),
            (Self::Peers(begun), Self::Peers(next)) => Self::Peers(begun.joined(next)),
            (Self::Causes(begun), Self::Causes(next)) => Self::Causes(begun.joined(next)),
            (_, next) => next,
        }
    }
}

/// A part of the answer to a request.
#[derive(Debug)]
pub struct Part {
    pub request: u64,
    /// The answer begins here; an earlier beginning is discarded, because of a new configuration.
    pub first: bool,
    /// The answer is complete.
    pub last: bool,
    /// Some of the objects; the counters of the engine at this moment.
    pub view: Seen,
}

/// Requests that are being answered, on the real-time thread.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Requests, and where the next part of each begins.
    waiting: VecDeque<(u64, Ask, Position)>,
}

impl Looks {
    pub fn ask(&mut self, request: u64, ask: Ask) {
        if self.waiting.len() < WAITING {
            self.waiting.push_back((request, ask, Position::default()));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The objects may have changed: every answer begins again.
    pub fn restart(&mut self) {
        for (.., next) in &mut self.waiting {
            *next = Position::default();
        }
    }

    /// The next part of the oldest request.
    pub fn part(&mut self, engine: &Engine, now: Instant) -> Option<Part> {
        let (request, ask, begin) = *self.waiting.front()?;
        let (view, next) = match ask {
            Ask::State => {
                let (view, next) = engine.part_of_view(now, begin, PART);
                (Seen::State(view), next)
            }
            Ask::Peers => {
                let (view, next) = engine.part_of_peers(now, begin, PART);
                (Seen::Peers(view), next)
            }
            Ask::Causes => {
                let (view, next) = engine.part_of_histories(now, begin, PART);
                (Seen::Causes(view), next)
            }
        };
        match (next, self.waiting.front_mut()) {
            (Some(next), Some((.., begin))) => *begin = next,
            _ => drop(self.waiting.pop_front()),
        }
        let first = begin == Position::default();
        Some(Part { request, first, last: next.is_none(), view })
    }
}

/// Incomplete answers, on the side of the other thread.
#[derive(Debug, Default)]
pub struct Views {
    begun: BTreeMap<u64, Seen>,
}

impl Views {
    /// Adds a part; with the last one, returns the request and the complete answer.
    pub fn join(&mut self, part: Part) -> Option<(u64, Seen)> {
        let Part { request, first, last, view } = part;
        let whole = match self.begun.remove(&request).filter(|_| !first) {
            Some(begun) => begun.joined(view),
            None => view,
        };
        if last {
            return Some((request, whole));
        }
        self.begun.insert(request, whole);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{self, sample};
    use crate::vrrp::{Actions, Event};

    fn engine(count: u8) -> Engine {
        let now = Instant::ZERO;
        let instances = (1..=count)
            .map(|n| sample::instance(&format!("V{n}"), "eth0", n, 100, &["10.0.0.1/24"]))
            .collect();
        let config = model::Vrrp { instances, ..model::Vrrp::default() };
        let mut engine = Engine::new(now);
        engine.handle(now, Event::Reload(Arc::new(config)), &mut Actions::new());
        engine.handle(now, Event::Kernel(crate::vrrp::Snapshot::default()), &mut Actions::new());
        engine
    }

    #[test]
    fn parts_are_small_and_together_the_whole() {
        let engine = engine(200);
        let (mut looks, mut views) = (Looks::default(), Views::default());
        looks.ask(7, Ask::State);
        looks.ask(8, Ask::Peers);
        looks.ask(9, Ask::State);
        looks.ask(10, Ask::Causes);
        let mut answers = Vec::new();
        while let Some(part) = looks.part(&engine, Instant::ZERO) {
            let length = match &part.view {
                Seen::State(view) => view.instances.len(),
                Seen::Peers(view) => view.instances.len(),
                Seen::Causes(view) => view.instances.len(),
            };
            assert!(length <= PART);
            answers.extend(views.join(part));
        }
        let whole = engine.view(Instant::ZERO);
        assert_eq!(whole.instances.len(), 200);
        let [first, (8, Seen::Peers(peers)), third, (10, Seen::Causes(causes))] =
            answers.as_slice()
        else {
            panic!("{answers:?}");
        };
        assert_eq!([first, third], [&(7, Seen::State(whole.clone())), &(9, Seen::State(whole))]);
        assert_eq!((peers.instances.len(), causes.instances.len()), (200, 200));
    }

    #[test]
    fn an_answer_that_begins_anew_holds_nothing_twice() {
        let engine = engine(100);
        let (mut looks, mut views) = (Looks::default(), Views::default());
        looks.ask(1, Ask::State);
        let part = looks.part(&engine, Instant::ZERO).unwrap();
        assert!(part.first && !part.last);
        assert_eq!(views.join(part), None);
        looks.restart();
        let mut answer = None;
        while let Some(part) = looks.part(&engine, Instant::ZERO) {
            answer = views.join(part);
        }
        let Some((1, Seen::State(view))) = answer else { panic!("{answer:?}") };
        assert_eq!(view.instances.len(), 100);
    }

    #[test]
    fn requests_do_not_pile_up() {
        let engine = engine(1);
        let mut looks = Looks::default();
        (0..1000).for_each(|n| looks.ask(n, Ask::State));
        let mut answers = 0;
        while looks.part(&engine, Instant::ZERO).is_some() {
            answers += 1;
        }
        assert_eq!(answers, WAITING);
    }
}
