//! What is received for which instance: multicast groups, or our own address for unicast; and the kernel's answers.

use core::net::IpAddr;

use super::consequence::What;
use super::event::InstanceId;
use super::registry::Key;
use super::{Action, Engine, Moment, Timer};
use crate::base::IfIndex;
use crate::plan::Outcome;

/// Time between two attempts to join a multicast group.
const JOIN_AGAIN: core::time::Duration = core::time::Duration::from_secs(1);

/// A multicast group on an interface, or an address of this host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    /// Instances that need it.
    users: u32,
    /// Without IGMP or MLD reports, see `Action::Overhear`.
    silent: bool,
    /// Error number of the last attempt to join; none if it succeeded or is not answered yet.
    pub refused: Option<i32>,
}

impl Engine {
    /// Makes an instance receive what its current state requires; the new membership is joined before the old one is
    /// left.
    pub(super) fn listen(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let wanted = instance.hears();
        let before = core::mem::replace(&mut instance.listening, wanted);
        let wanted_above = instance.overhears();
        let before_above = core::mem::replace(&mut instance.overhearing, wanted_above);
        if instance.config.ah_key().is_some() && !core::mem::replace(&mut self.hears_ah, true) {
            moment.out.push(Action::HearAh);
        }
        for (wanted, before, silent) in
            [(wanted, before, false), (wanted_above, before_above, true)]
        {
            if before == wanted {
                continue;
            }
            if let Some(key) = wanted {
                self.instances.listen(key, id);
                self.join(moment, key.0, key.2, silent);
            }
            if let Some(key) = before {
                self.deafen(moment, id, &key);
            }
        }
    }

    /// Ends the membership of an instance.
    pub(super) fn stop_listening(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        for key in [instance.listening.take(), instance.overhearing.take()].into_iter().flatten() {
            self.deafen(moment, id, &key);
        }
    }

    fn deafen(&mut self, moment: &mut Moment<'_>, id: InstanceId, key: &Key) {
        self.instances.unlisten(key, id);
        self.leave(moment, key.0, key.2);
    }

    fn join(&mut self, moment: &mut Moment<'_>, interface: IfIndex, group: IpAddr, silent: bool) {
        let membership = self.memberships.entry((interface, group)).or_insert(Membership {
            users: 0,
            silent,
            refused: None,
        });
        membership.users += 1;
        if membership.users == 1 {
            moment.out.push(action(interface, group, silent));
        }
    }

    fn leave(&mut self, moment: &mut Moment<'_>, interface: IfIndex, group: IpAddr) {
        if let Some(membership) = self.memberships.get_mut(&(interface, group)) {
            membership.users = membership.users.saturating_sub(1);
            if membership.users == 0 {
                self.memberships.remove(&(interface, group));
                moment.out.push(Action::Leave { interface, group });
            }
        }
    }

    pub(super) fn joined(
        &mut self,
        moment: &mut Moment<'_>,
        interface: IfIndex,
        group: IpAddr,
        outcome: Outcome,
    ) {
        let Some(membership) = self.memberships.get_mut(&(interface, group)) else { return };
        let refused = match outcome {
            Outcome::Done | Outcome::Already => None,
            Outcome::Refused(errno) => Some(errno),
        };
        let changed = membership.refused != refused;
        membership.refused = refused;
        if refused.is_some() {
            self.timers.set(Timer::Join, moment.now + JOIN_AGAIN);
        }
        if changed {
            self.each(What::RefreshOn(interface), self.on_link(interface));
            self.then_act();
            self.work(moment);
        }
    }

    pub(super) fn join_again(&mut self, moment: &mut Moment<'_>) {
        let refused = self.memberships.iter().filter(|(_, m)| m.refused.is_some());
        let again = refused.map(|((interface, group), m)| action(*interface, *group, m.silent));
        moment.out.extend(again);
    }
}

const fn action(interface: IfIndex, group: IpAddr, silent: bool) -> Action {
    if silent { Action::Overhear { interface, group } } else { Action::Join { interface, group } }
}
