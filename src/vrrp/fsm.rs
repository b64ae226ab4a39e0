//! The transition table: the effect of each input in each state.
//!
//! Pure values in, a decision out; the engine carries it out. RFC 9568 6.4; RFC 5798 6.4 says the same with the names
//! Master for Active and Initialize for our INIT, and so does RFC 3768 6.4 for version 2, which differs in nothing but
//! timers. FAULT is keepalived's: Initialize with a reason.

use core::cmp::Ordering;
use core::net::IpAddr;

use crate::status::vrrp::State;

/// What happened, as far as the protocol is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing prevents the instance and its group from taking part: the Startup event of the RFCs.
    Fit,
    /// A fault prevents the instance or its group from taking part.
    Unfit,
    /// The timer of the state ran out: Adver_Timer in MASTER, Active_Down_Timer in BACKUP.
    Timer {
        /// Every other member of the group is master or ready to become master.
        agreed: bool,
    },
    /// A valid advert was heard.
    Advert {
        /// How its sender compares with us.
        rank: Rank,
        /// Preempt_Mode is false: `nopreempt`, or a preemption delay that is not over yet.
        tolerant: bool,
    },
    /// The group becomes master, or an instance may start as master.
    Rise,
    /// The group yields to a better master.
    Yield,
    /// The Shutdown event of the RFCs: the daemon ends, or a reload removes or moves the instance.
    Shutdown,
}

/// How the sender of an advert compares with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Priority 0: a farewell.
    Leaving,
    /// Lower priority.
    Lower,
    /// Equal priority, lower address.
    EqualBelow,
    /// Equal priority, same address.
    EqualSelf,
    /// Equal priority, higher address.
    EqualAbove,
    /// Higher priority.
    Higher,
}

impl Rank {
    /// Compares the priority and the source address of an advert with ours. Without an address of our own,
    /// which only a backup can be, the addresses are not compared.
    #[must_use]
    pub fn of(heard: (u8, IpAddr), ours: (u8, Option<IpAddr>)) -> Self {
        if heard.0 == 0 {
            return Self::Leaving;
        }
        let address = ours.1.map_or(Ordering::Greater, |ours| heard.1.cmp(&ours));
        match heard.0.cmp(&ours.0).then(address) {
            Ordering::Less if heard.0 == ours.0 => Self::EqualBelow,
            Ordering::Less => Self::Lower,
            Ordering::Equal => Self::EqualSelf,
            Ordering::Greater if heard.0 == ours.0 => Self::EqualAbove,
            Ordering::Greater => Self::Higher,
        }
    }
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Stay,
    /// Change the state.
    Enter(State),
    /// BACKUP: restart the master-down timer.
    Wait,
    /// BACKUP: the sender is our master; learn from it and restart the master-down timer.
    Follow,
    /// BACKUP: take over after Skew_Time.
    TakeOverSoon,
    /// BACKUP: we are better, let the timer expire.
    Discard,
    /// MASTER: the next advert is due.
    Advertise,
    /// MASTER: send an advert at once.
    Assert,
    /// MASTER: send an advert at once, and correct the ARP caches of the segment.
    Reassert,
    /// MASTER: it looks like our own advert.
    Echo,
}

/// The transition table.
#[must_use]
pub const fn step(state: State, input: Input) -> Step {
    use Rank::{EqualAbove, EqualBelow, EqualSelf, Higher, Leaving, Lower};
    match (state, input) {
        // ---- taking part ----
        //= rfc9568 6.4.1: If a Startup event is received [...] transition to the {Backup} state
        //= rfc3768 6.4.1: If a Startup event is received [...] Transition to the {Backup} state
        // The owner (6.4.1: If the Priority = 255 [...] transition to the {Active} state) gets Rise instead.
        (State::Init | State::Fault, Input::Fit) => Step::Enter(State::Backup),
        (State::Backup | State::Master, Input::Fit) => Step::Stay,
        // departs: the RFCs have no faults; an instance that cannot serve leaves as at a shutdown.
        (State::Init | State::Backup | State::Master, Input::Unfit) => Step::Enter(State::Fault),
        (State::Fault, Input::Unfit) => Step::Stay,
        //= rfc9568 6.4.2, 6.4.3: If a Shutdown event is received [...] transition to the {Initialize} state
        (_, Input::Shutdown) => Step::Enter(State::Init),

        // ---- timers ----
        //= rfc9568 6.4.3: If the Adver_Timer fires, then [...] Send an ADVERTISEMENT, reset the Adver_Timer
        //= rfc3768 6.4.3: If the Adver_Timer fires [...] Send an ADVERTISEMENT
        (State::Master, Input::Timer { .. }) => Step::Advertise,
        //= rfc9568 6.4.2: If the Active_Down_Timer fires, then [...] transition to the {Active} state
        //= rfc5798 6.4.2: If the Master_Down_Timer fires, then [...] Transition to the {Master} state
        (State::Backup, Input::Timer { agreed: true }) => Step::Enter(State::Master),
        // departs: a member of a group becomes master only if no other member hears a master.
        (State::Backup, Input::Timer { agreed: false }) => Step::Wait,
        (State::Init | State::Fault, Input::Timer { .. }) => Step::Stay,

        // ---- adverts ----
        //= rfc9568 6.4.1: nothing is done about an ADVERTISEMENT in {Initialize}
        (State::Init | State::Fault, Input::Advert { .. }) => Step::Stay,
        //= rfc9568 6.4.2: If the Priority in the ADVERTISEMENT is zero, then set the Active_Down_Timer to Skew_Time
        (State::Backup, Input::Advert { rank: Leaving, .. }) => Step::TakeOverSoon,
        //= rfc9568 6.4.2: Else (Preempt_Mode was True or the Priority was less) discard the ADVERTISEMENT
        (State::Backup, Input::Advert { rank: Lower, tolerant: false }) => Step::Discard,
        //= rfc9568 6.4.2: If Preempt_Mode is False, or if the Priority is greater than or equal to the local
        //= Priority, then [...] reset the Active_Down_Timer to Active_Down_Interval
        (State::Backup, Input::Advert { rank: Lower, tolerant: true })
        | (
            State::Backup,
            Input::Advert { rank: EqualBelow | EqualSelf | EqualAbove | Higher, .. },
        ) => Step::Follow,
        //= rfc9568 6.4.3: If the Priority is zero, then send an ADVERTISEMENT
        (State::Master, Input::Advert { rank: Leaving, .. }) => Step::Assert,
        //= rfc9568 6.4.3: If the Priority is greater than the local Priority, or if it is equal and the primary
        //= IPvX address of the sender is greater than the local primary IPvX address [...] transition to Backup
        //= rfc3768 6.4.3: the same; 6.4.3 of rfc5798: the same
        (State::Master, Input::Advert { rank: EqualAbove | Higher, .. }) => {
            Step::Enter(State::Backup)
        }
        (State::Master, Input::Advert { rank: EqualSelf, .. }) => Step::Echo,
        //= rfc9568 6.4.3: Else [...] send an ADVERTISEMENT immediately to assert the Active state
        // departs: rfc3768 6.4.3 and rfc5798 6.4.3 discard it in silence.
        (State::Master, Input::Advert { rank: Lower | EqualBelow, .. }) => Step::Reassert,

        // ---- the group ----
        (State::Init | State::Backup | State::Fault, Input::Rise) => Step::Enter(State::Master),
        (State::Master, Input::Rise) => Step::Stay,
        (State::Master, Input::Yield) => Step::Enter(State::Backup),
        (State::Init | State::Backup | State::Fault, Input::Yield) => Step::Stay,
    }
}

/// Whether an advert of priority 0 is sent for this change of state, so that others need not wait for the master-down
/// timer.
#[must_use]
pub const fn says_farewell(from: State, to: State) -> bool {
    //= rfc9568 6.4.3: If a Shutdown event is received, then [...] Send an ADVERTISEMENT with Priority = 0
    // An instance that goes to BACKUP has heard a better master, or follows a member of its group that has.
    matches!((from, to), (State::Master, State::Init | State::Fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every input, by walking from one to the next.
    fn every_input() -> Vec<Input> {
        use Rank::*;
        let ranks = |rank: Rank| match rank {
            Leaving => Some(Lower),
            Lower => Some(EqualBelow),
            EqualBelow => Some(EqualSelf),
            EqualSelf => Some(EqualAbove),
            EqualAbove => Some(Higher),
            Higher => None,
        };
        let following = |input: &Input| match *input {
            Input::Fit => Some(Input::Unfit),
            Input::Unfit => Some(Input::Timer { agreed: true }),
            Input::Timer { agreed: true } => Some(Input::Timer { agreed: false }),
            Input::Timer { agreed: false } => Some(Input::Rise),
            Input::Rise => Some(Input::Yield),
            Input::Yield => Some(Input::Shutdown),
            Input::Shutdown => Some(Input::Advert { rank: Leaving, tolerant: false }),
            Input::Advert { rank, tolerant: false } => Some(Input::Advert { rank, tolerant: true }),
            Input::Advert { rank, tolerant: true } => {
                ranks(rank).map(|rank| Input::Advert { rank, tolerant: false })
            }
        };
        core::iter::successors(Some(Input::Fit), following).collect()
    }

    /// Every state with every input.
    #[test]
    fn the_whole_table() {
        use Rank::*;
        use State::*;
        use Step::*;
        assert_eq!(every_input().len(), 7 + 2 * 6);
        for input in every_input() {
            // Init, Backup, Master, Fault
            let steps = match input {
                Input::Fit => [Enter(Backup), Stay, Stay, Enter(Backup)],
                Input::Unfit => [Enter(Fault), Enter(Fault), Enter(Fault), Stay],
                Input::Timer { agreed: true } => [Stay, Enter(Master), Advertise, Stay],
                Input::Timer { agreed: false } => [Stay, Wait, Advertise, Stay],
                Input::Rise => [Enter(Master), Enter(Master), Stay, Enter(Master)],
                Input::Yield => [Stay, Stay, Enter(Backup), Stay],
                Input::Shutdown => [Enter(Init); 4],
                Input::Advert { rank: Lower, tolerant: false } => [Stay, Discard, Reassert, Stay],
                Input::Advert { rank: Lower, tolerant: true } => [Stay, Follow, Reassert, Stay],
                Input::Advert { rank: Leaving, .. } => [Stay, TakeOverSoon, Assert, Stay],
                Input::Advert { rank: EqualBelow, .. } => [Stay, Follow, Reassert, Stay],
                Input::Advert { rank: EqualSelf, .. } => [Stay, Follow, Echo, Stay],
                Input::Advert { rank: EqualAbove | Higher, .. } => {
                    [Stay, Follow, Enter(Backup), Stay]
                }
            };
            for (state, want) in [Init, Backup, Master, Fault].into_iter().zip(steps) {
                assert_eq!(step(state, input), want, "{input:?} in {state}");
            }
        }
    }

    #[test]
    fn senders_are_compared_by_priority_then_address() {
        for (heard, last, want) in [
            (0, 99, Rank::Leaving),
            (99, 99, Rank::Lower),
            (100, 1, Rank::EqualBelow),
            (100, 2, Rank::EqualSelf),
            (100, 3, Rank::EqualAbove),
            (101, 1, Rank::Higher),
            (255, 1, Rank::Higher),
        ] {
            let (sender, own): (IpAddr, IpAddr) = ([10, 0, 0, last].into(), [10, 0, 0, 2].into());
            assert_eq!(Rank::of((heard, sender), (100, Some(own))), want, "{heard} {last}");
        }
        let sender = [10, 0, 0, 1].into();
        assert_eq!(Rank::of((100, sender), (100, None)), Rank::EqualAbove);
        assert_eq!(Rank::of((99, sender), (100, None)), Rank::Lower);
    }

    #[test]
    fn only_a_master_that_ends_says_farewell() {
        use State::*;
        for from in [Init, Backup, Master, Fault] {
            for to in [Init, Backup, Master, Fault] {
                let want = from == Master && matches!(to, Init | Fault);
                assert_eq!(says_farewell(from, to), want, "{from} to {to}");
            }
        }
    }
}
