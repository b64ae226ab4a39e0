//! Rounds of queries to the processes, and the clients that wait for them.
//!
//! Clients that ask for the same report at about the same time share one round, so that the load on the processes does not depend on the
//! number of clients. A round ends when all parties have answered, or after one second: parties without an answer are
//! reported as such. Pure: time is an argument.

use core::time::Duration;
use std::collections::VecDeque;

use super::report::{Part, Parts};
use crate::base::Instant;
use crate::ipc::Told;
use crate::status::Ask;

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(1);
/// Time from the beginning of one round to that of the next.
pub const PAUSE: Duration = Duration::from_millis(50);

/// A process that is queried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Supervisor,
    /// The role `vrrp`.
    Vrrp,
    /// The role `checker`.
    Checker,
}

impl Party {
    pub const ALL: [Self; 3] = [Self::Supervisor, Self::Vrrp, Self::Checker];

    /// What it is asked in a round for this report, if anything. The supervisor says which processes there should be.
    #[must_use]
    pub const fn answers(self, ask: Ask) -> Option<Ask> {
        match (self, ask) {
            (Self::Supervisor, _) => Some(Ask::State),
            (Self::Vrrp, ask) => Some(ask),
            (Self::Checker, Ask::State) => Some(ask),
            (Self::Checker, Ask::Peers | Ask::Causes) => None,
        }
    }

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
    waiting: [Waiting<C>; Ask::ALL.len()],
}

/// Clients that wait for a report.
#[derive(Debug)]
struct Waiting<C> {
    ask: Ask,
    clients: Vec<C>,
    /// When the next round for it may begin.
    next: Instant,
}

#[derive(Debug)]
struct Round<C> {
    id: u64,
    ask: Ask,
    until: Instant,
    clients: Vec<C>,
    parts: Parts,
    missing: Vec<Party>,
}

/// A round that has ended: the answers, and the clients that wait for them.
#[derive(Debug)]
pub struct Done<C> {
    /// What they were asked.
    pub ask: Ask,
    /// The answers.
    pub parts: Parts,
    /// The waiting clients.
    pub clients: Vec<C>,
}

impl<C> Default for Rounds<C> {
    fn default() -> Self {
        let waiting = Ask::ALL.map(|ask| Waiting { ask, clients: Vec::new(), next: Instant::ZERO });
        Self { last_id: 0, open: VecDeque::new(), waiting }
    }
}

impl<C> Rounds<C> {
    /// Adds a client that waits for this report.
    pub fn join(&mut self, ask: Ask, client: C) {
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.ask == ask);
        if let Some(waiting) = waiting {
            waiting.clients.push(client);
        }
    }

    /// When [`Self::begin`] or [`Self::take_done`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let waited_for = self.waiting.iter().filter(|waiting| !waiting.clients.is_empty());
        let begin = waited_for.map(|waiting| waiting.next);
        let end = self.open.front().map(|round| round.until);
        begin.chain(end).min()
    }

    /// Begins a round if one is due, and returns its id and its question: it must be sent to the parties now
    /// ([`Party::answers`]). Those that cannot be queried are reported with [`Self::absent`].
    pub fn begin(&mut self, now: Instant) -> Option<(u64, Ask)> {
        let due = |waiting: &&mut Waiting<C>| !waiting.clients.is_empty() && now >= waiting.next;
        let waiting = self.waiting.iter_mut().find(due)?;
        waiting.next = now + PAUSE;
        self.last_id += 1;
        let ask = waiting.ask;
        self.open.push_back(Round {
            id: self.last_id,
            ask,
            until: now + LIMIT,
            clients: core::mem::take(&mut waiting.clients),
            parts: Parts::default(),
            missing: Party::ALL.into_iter().filter(|party| party.answers(ask).is_some()).collect(),
        });
        Some((self.last_id, ask))
    }

    /// In the round with this id, this party does not run or, with a reason, cannot be queried.
    pub fn absent(&mut self, id: u64, party: Party, reason: Option<&str>) {
        if let Some(round) = self.open.iter_mut().find(|round| round.id == id) {
            round.absent(party, reason);
        }
    }

    /// The process of a party has ended: it will not answer.
    pub fn lost(&mut self, party: Party) {
        for round in &mut self.open {
            round.absent(party, Some(&format!("the {} process ended", party.word())));
        }
    }

    /// An answer arrived. Answers to earlier rounds are ignored, and each party only answers for itself.
    pub fn answer(&mut self, id: u64, party: Party, told: Told) {
        let Some(round) = self.open.iter_mut().find(|round| round.id == id) else {
            return;
        };
        match (party, told) {
            (Party::Supervisor, Told::Daemon(view)) => round.parts.daemon = Part::Known(view),
            (Party::Vrrp, Told::Vrrp(view)) => round.parts.vrrp = Part::Known(view),
            (Party::Checker, Told::Checker(view)) => round.parts.checker = Part::Known(view),
            (Party::Vrrp, Told::Peers(view)) => round.parts.peers = Part::Known(view),
            (Party::Vrrp, Told::Causes(view)) => round.parts.causes = Part::Known(view),
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
                let Round { ask, parts, clients, .. } = round;
                done.push(Done { ask, parts, clients });
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
    use crate::status::peer::Peers;
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
        rounds.join(Ask::State, 'a');
        rounds.join(Ask::State, 'b');
        assert_eq!(rounds.due(), Some(at(0)));
        assert_eq!(rounds.begin(at(5)), Some((1, Ask::State)));
        assert_eq!(rounds.begin(at(5)), None, "no client waits");
        // The next one does not begin at once: frequent queries cost no more.
        rounds.join(Ask::State, 'c');
        assert_eq!((rounds.due(), rounds.begin(at(54))), (Some(at(55)), None));
        assert_eq!(rounds.begin(at(55)), Some((2, Ask::State)));
        // Answers may arrive in any order and only belong to their round.
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
        rounds.join(Ask::State, ());
        let (id, _) = rounds.begin(at(0)).unwrap();
        rounds.absent(id, Party::Checker, None);
        // A party's answer does not count for another party.
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
        assert_eq!(rounds.due(), None, "a late answer is ignored");
    }

    #[test]
    fn a_process_that_ends_is_not_waited_for() {
        let mut rounds = Rounds::default();
        rounds.join(Ask::State, ());
        let (id, _) = rounds.begin(at(0)).unwrap();
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

    #[test]
    fn each_report_has_rounds_of_its_own() {
        let mut rounds = Rounds::default();
        rounds.join(Ask::Peers, 'a');
        rounds.join(Ask::State, 'b');
        let begun: Vec<_> = core::iter::from_fn(|| rounds.begin(at(0))).collect();
        assert_eq!(begun, [(1, Ask::State), (2, Ask::Peers)]);
        // The checker is not asked who was heard.
        rounds.absent(2, Party::Supervisor, Some("no"));
        let (instances, unknown_vrid) = (Vec::new(), 8);
        let view = Peers { at: at(0), instances, unknown_vrid, malformed: 0 };
        rounds.answer(2, Party::Vrrp, Told::Peers(Box::new(view)));
        let done = rounds.take_done(at(1));
        assert_eq!(
            done.iter().map(|done| (done.ask, &*done.clients)).collect::<Vec<_>>(),
            [(Ask::Peers, &['a'][..])]
        );
        assert!(matches!(&done[0].parts.peers, Part::Known(view) if view.unknown_vrid == 8));
    }
}
