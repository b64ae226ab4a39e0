//! The decisions of the protocol: what an advert or a silence means in each state.
//!
//! Values in, a decision out; carrying it out is the engine's. RFC 9568 6.4 (and RFC 3768 6.4, where version
//! 2 differs in nothing but timers).

use core::net::IpAddr;

/// A valid advert as an instance in BACKUP sees it.
#[derive(Clone, Copy, Debug)]
pub struct BackupView {
    /// Priority of the advert.
    pub heard: u8,
    /// Our priority.
    pub ours: u8,
    /// `nopreempt`, or a preemption delay that is not over yet.
    pub tolerant: bool,
}

/// What an instance in BACKUP does about an advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupDecision {
    /// The master leaves: take over after the skew time.
    TakeOverSoon,
    /// The sender is our master: wait anew for its silence.
    Follow,
    /// We are better: let the timer run out.
    Discard,
}

/// Decides about an advert in BACKUP.
#[must_use]
pub const fn in_backup(view: BackupView) -> BackupDecision {
    //= rfc9568 6.4.2: If the Priority in the ADVERTISEMENT is zero, then set the Active_Down_Timer to Skew_Time
    if view.heard == 0 {
        return BackupDecision::TakeOverSoon;
    }
    //= rfc9568 6.4.2: If Preempt_Mode is False, or if the Priority is greater than or equal to the local
    //= Priority, then [...] reset the Active_Down_Timer to Active_Down_Interval
    if view.tolerant || view.heard >= view.ours {
        BackupDecision::Follow
    } else {
        //= rfc9568 6.4.2: Else (Preempt_Mode was True or the Priority was less) discard the ADVERTISEMENT
        BackupDecision::Discard
    }
}

/// A valid advert as an instance in MASTER sees it.
#[derive(Clone, Copy, Debug)]
pub struct MasterView {
    /// Priority of the advert.
    pub heard: u8,
    /// Who sent it.
    pub sender: IpAddr,
    /// Our priority.
    pub ours: u8,
    /// The source address of our adverts.
    pub address: IpAddr,
}

/// What an instance in MASTER does about an advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterDecision {
    /// Another master leaves: say at once that we are here.
    Assert,
    /// The sender is better: to BACKUP.
    Yield,
    /// We are better: stay, say so, and correct the caches of the segment.
    Reassert,
    /// It looks as if we had sent it ourselves: stay.
    Echo,
}

/// Decides about an advert in MASTER.
#[must_use]
pub fn in_master(view: MasterView) -> MasterDecision {
    //= rfc9568 6.4.3: If the Priority is zero, then send an ADVERTISEMENT
    if view.heard == 0 {
        return MasterDecision::Assert;
    }
    //= rfc9568 6.4.3: If the Priority is greater than the local Priority, or if it is equal and the primary
    //= IPvX address of the sender is greater than the local primary IPvX address [...] transition to Backup
    match (view.heard, view.sender).cmp(&(view.ours, view.address)) {
        core::cmp::Ordering::Greater => MasterDecision::Yield,
        core::cmp::Ordering::Equal => MasterDecision::Echo,
        //= rfc9568 6.4.3: Else [...] send an ADVERTISEMENT immediately to assert the Active state
        core::cmp::Ordering::Less => MasterDecision::Reassert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backup() {
        use BackupDecision::{Discard, Follow, TakeOverSoon};
        for (heard, ours, tolerant, want) in [
            (0, 100, false, TakeOverSoon),
            (0, 100, true, TakeOverSoon),
            (99, 100, false, Discard),
            (99, 100, true, Follow),
            (100, 100, false, Follow),
            (101, 100, false, Follow),
            (255, 254, false, Follow),
        ] {
            let view = BackupView { heard, ours, tolerant };
            assert_eq!(in_backup(view), want, "{view:?}");
        }
    }

    #[test]
    fn master() {
        use MasterDecision::{Assert, Echo, Reassert, Yield};
        for (heard, last, want) in [
            (0, 99, Assert),
            (99, 99, Reassert),
            (100, 1, Reassert),
            (100, 2, Echo),
            (100, 3, Yield),
            (101, 1, Yield),
            (255, 1, Yield),
        ] {
            let (sender, address) = ([10, 0, 0, last].into(), [10, 0, 0, 2].into());
            assert_eq!(
                in_master(MasterView { heard, sender, ours: 100, address }),
                want,
                "{heard} {last}"
            );
        }
    }
}
