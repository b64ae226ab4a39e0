//! Who is asked for what, and who waits for it.
//!
//! Clients that ask at about the same time share one round of questions, so that the processes asked have the same
//! little work however many ask. A round ends when everybody has answered, or one second after it began: whoever has
//! not answered by then is reported as such. Pure: time is an argument.

use core::time::Duration;
use std::collections::VecDeque;

use super::report::{Part, Parts};
use crate::base::Instant;
use crate::ipc::Told;

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(1);
/// Time from the beginning of one round to that of the next.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Who knows something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The supervisor.
    Supervisor,
    /// The role `vrrp`.
    Vrrp,
    /// The role `checker`.
    Checker,
}

impl Party {
    /// Everybody.
    pub const ALL: [Self; 3] = [Self::Supervisor, Self::Vrrp, Self::Checker];

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Vrrp => "vrrp",
            Self::Checker => "checker",
        }
    }
}

/// The rounds that are open, and clients that wait for the next one.
#[derive(Debug)]
pub struct Rounds<C> {
    last_id: u64,
    open: VecDeque<Round<C>>,
    waiting: Vec<C>,
    /// When the next round may begin.
    next: Instant,
}

#[derive(Debug)]
struct Round<C> {
    id: u64,
    until: Instant,
    clients: Vec<C>,
    parts: Parts,
    missing: Vec<Party>,
}

/// A round that has ended: what is known, and who waits for it.
#[derive(Debug)]
pub struct Done<C> {
    /// What is known.
    pub parts: Parts,
    /// Who waits for it.
    pub clients: Vec<C>,
}

impl<C> Default for Rounds<C> {
    fn default() -> Self {
        Self { last_id: 0, open: VecDeque::new(), waiting: Vec::new(), next: Instant::ZERO }
    }
}

impl<C> Rounds<C> {
    /// A client wants to know.
    pub fn join(&mut self, client: C) {
        self.waiting.push(client);
    }

    /// When [`Self::begin`] or [`Self::take_done`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let begin = (!self.waiting.is_empty()).then_some(self.next);
        let end = self.open.front().map(|round| round.until);
        begin.into_iter().chain(end).min()
    }

    /// Begins a round if it is time: the id of the questions that must be asked now. Parties that cannot be asked are
    /// named with [`Self::absent`].
    pub fn begin(&mut self, now: Instant) -> Option<u64> {
        if self.waiting.is_empty() || now < self.next {
            return None;
        }
        self.next = now + PAUSE;
        self.last_id += 1;
        self.open.push_back(Round {
            id: self.last_id,
            until: now + LIMIT,
            clients: core::mem::take(&mut self.waiting),
            parts: Parts::default(),
            missing: Party::ALL.to_vec(),
        });
        Some(self.last_id)
    }

    /// In the round of this id, this party has nothing to tell: it does not run, or, with a reason, cannot be asked.
    pub fn absent(&mut self, id: u64, party: Party, reason: Option<&str>) {
        if let Some(round) = self.open.iter_mut().find(|round| round.id == id) {
            round.absent(party, reason);
        }
    }

    /// The process of a party has ended: it answers no question any more.
    pub fn lost(&mut self, party: Party) {
        for round in &mut self.open {
            round.absent(party, Some(&format!("the {} process ended", party.word())));
        }
    }

    /// An answer has come. Those to rounds that are over are of no interest, and each party speaks for itself only.
    pub fn answer(&mut self, id: u64, party: Party, told: Told) {
        let Some(round) = self.open.iter_mut().find(|round| round.id == id) else {
            return;
        };
        match (party, told) {
            (Party::Supervisor, Told::Daemon(view)) => round.parts.daemon = Part::Known(view),
            (Party::Vrrp, Told::Vrrp(view)) => round.parts.vrrp = Part::Known(view),
            (Party::Checker, Told::Checker(view)) => round.parts.checker = Part::Known(view),
            _ => return,
        }
        round.missing.retain(|missing| *missing != party);
    }

    /// The rounds that have ended by now.
    pub fn take_done(&mut self, now: Instant) -> Vec<Done<C>> {
        let mut done = Vec::new();
        let mut left = VecDeque::new();
        for mut round in self.open.drain(..) {
            if round.until <= now {
                for party in round.missing.clone() {
                    let reason =
                        format!("{} did not answer in {} s", party.word(), LIMIT.as_secs());
                    round.absent(party, Some(&reason));
                }
            }
            if round.missing.is_empty() {
                done.push(Done { parts: round.parts, clients: round.clients });
            } else {
                left.push_back(round);
            }
        }
        self.open = left;
        done
    }
}

impl<C> Round<C> {
    /// Settles a party that has not answered.
    fn absent(&mut self, party: Party, reason: Option<&str>) {
        if self.missing.contains(&party) {
            self.missing.retain(|missing| *missing != party);
            self.parts.absent(party, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::check::{Check, Counters, Kernel};
    use crate::status::vrrp::Vrrp;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn vrrp() -> Told {
        Told::Vrrp(Box::new(Vrrp {
            schema: 1,
            at: at(0),
            instances: Vec::new(),
            groups: Vec::new(),
            trackers: Vec::new(),
            unknown_vrid: 7,
            malformed: 0,
        }))
    }

    fn checker() -> Told {
        Told::Checker(Box::new(Check {
            schema: 1,
            at: at(0),
            kernel: Kernel::Ready,
            services: Vec::new(),
            probes_running: 0,
            probes_waiting: 0,
            counters: Counters::default(),
        }))
    }

    #[test]
    fn clients_that_ask_together_share_a_round() {
        let mut rounds = Rounds::default();
        assert_eq!((rounds.due(), rounds.begin(at(0))), (None, None));
        rounds.join('a');
        rounds.join('b');
        assert_eq!(rounds.due(), Some(at(0)));
        assert_eq!(rounds.begin(at(5)), Some(1));
        assert_eq!(rounds.begin(at(5)), None, "nobody waits");
        // The next one does not begin at once: asking often costs no more.
        rounds.join('c');
        assert_eq!((rounds.due(), rounds.begin(at(54))), (Some(at(55)), None));
        assert_eq!(rounds.begin(at(55)), Some(2));
        // Answers may come in any order and belong to their round alone.
        rounds.answer(2, Party::Vrrp, vrrp());
        rounds.absent(1, Party::Supervisor, Some("no"));
        rounds.answer(1, Party::Checker, checker());
        assert!(rounds.take_done(at(60)).is_empty());
        rounds.answer(1, Party::Vrrp, vrrp());
        let done = rounds.take_done(at(60));
        assert_eq!(done.len(), 1);
        assert_eq!(done[0].clients, ['a', 'b']);
        assert!(matches!(&done[0].parts.daemon, Part::Unknown(why) if why == "no"));
        assert!(matches!(&done[0].parts.vrrp, Part::Known(view) if view.unknown_vrid == 7));
    }

    #[test]
    fn who_does_not_answer_in_time_is_named() {
        let mut rounds = Rounds::default();
        rounds.join(());
        let id = rounds.begin(at(0)).unwrap();
        rounds.absent(id, Party::Checker, None);
        // Nobody speaks for another.
        rounds.answer(id, Party::Vrrp, checker());
        assert_eq!(rounds.due(), Some(at(1000)));
        assert!(rounds.take_done(at(999)).is_empty());
        let done = rounds.take_done(at(1000));
        let parts = &done[0].parts;
        assert!(
            matches!(&parts.daemon, Part::Unknown(w) if w == "supervisor did not answer in 1 s")
        );
        assert!(matches!(&parts.vrrp, Part::Unknown(why) if why == "vrrp did not answer in 1 s"));
        assert!(matches!(&parts.checker, Part::Absent));
        rounds.answer(id, Party::Vrrp, vrrp());
        assert_eq!(rounds.due(), None, "an answer that comes too late is of no interest");
    }

    #[test]
    fn a_process_that_ends_is_not_waited_for() {
        let mut rounds = Rounds::default();
        rounds.join(());
        let id = rounds.begin(at(0)).unwrap();
        rounds.answer(id, Party::Vrrp, vrrp());
        rounds.lost(Party::Vrrp);
        rounds.lost(Party::Checker);
        rounds.lost(Party::Supervisor);
        let done = rounds.take_done(at(1));
        assert!(matches!(&done[0].parts.vrrp, Part::Known(_)), "it had answered");
        assert!(
            matches!(&done[0].parts.checker, Part::Unknown(w) if w == "the checker process ended")
        );
    }
}
