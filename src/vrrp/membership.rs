//! What is listened to for whom: multicast groups, or our own address when adverts come by unicast; and what the
//! kernel said to that.

use core::net::IpAddr;

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
    /// Error number of the last attempt to join; none if it worked or was not answered yet.
    pub refused: Option<i32>,
}

impl Engine {
    /// Lets an instance hear what is sent to it as it is now, the new before the old is left.
    pub(super) fn listen(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let wanted = instance.hears();
        let before = core::mem::replace(&mut instance.listening, wanted);
        if instance.config.ah_key().is_some() && !core::mem::replace(&mut self.hears_ah, true) {
            moment.out.push(Action::HearAh);
        }
        if before == wanted {
            return;
        }
        if let Some(key) = wanted {
            self.instances.listen(key, id);
            self.join(moment, key.0, key.2);
        }
        if let Some(key) = before {
            self.deafen(moment, id, &key);
        }
    }

    /// Lets an instance hear nothing any more.
    pub(super) fn stop_listening(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        if let Some(key) = self.instances.get_mut(id).and_then(|i| i.listening.take()) {
            self.deafen(moment, id, &key);
        }
    }

    fn deafen(&mut self, moment: &mut Moment<'_>, id: InstanceId, key: &Key) {
        self.instances.unlisten(key, id);
        self.leave(moment, key.0, key.2);
    }

    fn join(&mut self, moment: &mut Moment<'_>, interface: IfIndex, group: IpAddr) {
        let membership = self
            .memberships
            .entry((interface, group))
            .or_insert(Membership { users: 0, refused: None });
        membership.users += 1;
        if membership.users == 1 {
            moment.out.push(Action::Join { interface, group });
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
            let concerned: Vec<InstanceId> = self
                .on_link(interface)
                .into_iter()
                .filter(|id| self.instance(*id).is_some_and(|i| i.link == Some(interface)))
                .collect();
            for id in &concerned {
                self.refresh(*id);
            }
            self.reconsider_all(moment, concerned);
        }
    }

    pub(super) fn join_again(&mut self, moment: &mut Moment<'_>) {
        let refused: Vec<(IfIndex, IpAddr)> =
            self.memberships.iter().filter(|(_, m)| m.refused.is_some()).map(|(k, _)| *k).collect();
        for (interface, group) in refused {
            moment.out.push(Action::Join { interface, group });
        }
    }
}
