//! From one state to another: what an instance does on the way, and who else follows.

use super::event::InstanceId;
use super::health::Health;
use super::instance::{Machine, say};
use super::{Action, Cx, Engine, Timer};
use crate::base::Instant;
use crate::model::vrrp::{InitialState, Preempt, Priority};
use crate::status::vrrp::State;

impl Engine {
    /// An advert of a master is due.
    pub(super) fn advert_due(&mut self, cx: &mut Cx<'_>, id: InstanceId, due: Instant) {
        let Some(instance) = self.instance_mut(id).filter(|i| i.is_master()) else { return };
        //= rfc9568 6.4.3: If the Adver_Timer fires, then send an ADVERTISEMENT
        // The next one is counted from when this one was due, so that lateness does not add up; a
        // process that was stalled for longer sends one, not all it missed.
        let interval = instance.config.advert_int;
        let next = due + interval;
        let next = if next > cx.now { next } else { cx.now + interval };
        instance.machine = Machine::Master { next_advert: next };
        let priority = instance.priority;
        self.set_timer(Timer::Protocol, id.0, Some(next));
        self.send_advert(cx, id, priority);
    }

    /// The timer of a backup ran out: it heard no master for long enough.
    pub(super) fn silence(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let silent_until = self.silent_until;
        let Some(instance) = self.instance_mut(id) else { return };
        if !matches!(instance.machine, Machine::Backup { .. }) {
            return;
        }
        if cx.now < silent_until {
            let again = silent_until + instance.master_down();
            self.wait_until(id, again);
            return;
        }
        say!(debug, *instance, "Receive advertisement timeout");
        instance.wishes_master = true;
        if !self.others_agree(id) {
            // Another member still hears its master. If that goes silent too, it is the one to decide.
            let again = self.instance(id).map_or(cx.now, |i| cx.now + i.master_down());
            self.wait_until(id, again);
            return;
        }
        self.all_become_master(cx, id);
    }

    /// An instance and the members of its group become master, the one that decided first.
    fn all_become_master(&mut self, cx: &mut Cx<'_>, first: InstanceId) {
        self.become_master(cx, first);
        for id in self.fellows(first) {
            if self.instance(id).is_some_and(|i| !i.is_master()) {
                self.become_master(cx, id);
            }
        }
        self.group_entered(cx, first, State::Master);
    }

    fn become_master(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let next_advert = cx.now + instance.config.advert_int;
        instance.machine = Machine::Master { next_advert };
        instance.since = cx.now;
        instance.holds_leftovers = false;
        instance.master = None;
        instance.master_interval = instance.config.advert_int;
        instance.preempt_at = None;
        instance.disagreement = None;
        instance.counters.became_master += 1;
        let priority = instance.priority;
        //= rfc9568 6.4.2: If the Active_Down_Timer fires, then send an ADVERTISEMENT
        // Before anything else: every other backup is about to run out of patience as well.
        self.set_timer(Timer::Protocol, id.0, Some(next_advert));
        self.send_advert(cx, id, priority);
        let Some(instance) = self.instance_mut(id) else { return };
        say!(info, *instance, "Entering MASTER STATE");
        if !instance.entries.is_empty() {
            say!(info, *instance, "setting VIPs.");
        }
        let entries = instance.entries.clone();
        self.settle(cx, &entries);
        self.announce_master(cx, id);
        self.announce_state_later(cx, id);
        cx.out.push(Action::Report);
    }

    /// A master heard a better one: the whole group follows.
    pub(super) fn yield_to_better(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        if self.instance(id).is_some_and(super::Instance::is_master) {
            self.become_backup(cx, id, "");
        }
        for other in self.fellows(id) {
            if self.instance(other).is_some_and(super::Instance::is_master) {
                self.become_backup(cx, other, "");
            }
        }
        self.group_entered(cx, id, State::Backup);
    }

    /// Enters BACKUP and waits for the master's silence.
    pub(super) fn become_backup(&mut self, cx: &mut Cx<'_>, id: InstanceId, remark: &str) {
        self.leave_master(cx, id);
        let silent_until = self.silent_until;
        let Some(instance) = self.instance_mut(id) else { return };
        if instance.machine == Machine::Fault {
            instance.master_interval = instance.config.advert_int;
        }
        //= rfc9568 6.4.1: set the Active_Down_Timer to Active_Down_Interval
        // departs: whose addresses are there already listens for one interval only. A living master is heard
        // in that time, and if there is none, this router was it until its daemon ended: back in time, it
        // goes on before any backup has run out of patience.
        let patience = if instance.holds_leftovers {
            instance.master_interval + instance.skew()
        } else {
            instance.master_down()
        };
        let master_down = silent_until.max(cx.now) + patience;
        instance.machine = Machine::Backup { master_down };
        instance.since = cx.now;
        instance.wishes_master = false;
        instance.preempt_at = None;
        instance.disagreement = None;
        say!(info, *instance, "Entering BACKUP STATE{remark}");
        self.set_timer(Timer::Protocol, id.0, Some(master_down));
        self.announce_state_later(cx, id);
        cx.out.push(Action::Report);
    }

    fn become_fault(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        if instance.is_master() {
            // Leaving without a word would cost the others the whole wait for our silence.
            self.send_advert(cx, id, 0);
        }
        self.leave_master(cx, id);
        let Some(instance) = self.instance_mut(id) else { return };
        instance.machine = Machine::Fault;
        instance.since = cx.now;
        instance.holds_leftovers = false;
        instance.wishes_master = false;
        instance.master = None;
        instance.preempt_at = None;
        say!(info, *instance, "Entering FAULT STATE");
        let entries = instance.entries.clone();
        self.set_timer(Timer::Protocol, id.0, None);
        self.settle(cx, &entries);
        self.announce_state_later(cx, id);
        cx.out.push(Action::Report);
    }

    /// What leaving MASTER undoes. The state itself is the caller's to set.
    fn leave_master(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        if !instance.is_master() {
            return;
        }
        instance.counters.released_master += 1;
        if !instance.entries.is_empty() {
            say!(debug, *instance, "removing VIPs.");
        }
        // From here on it does not want its addresses any more.
        instance.machine = Machine::Init;
        let entries = instance.entries.clone();
        self.announce_nothing(id);
        self.settle(cx, &entries);
    }

    /// Compares the state of an instance and its group with what they are able to, and changes it if that
    /// does not fit.
    pub(super) fn reconsider(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        if !self.running() {
            return;
        }
        self.update_priority(cx, id);
        let members = self.fellows(id);
        match self.health_of_all(&members) {
            Health::Unfit => {
                // The member that has the fault goes first.
                let mut order = members;
                order.sort_by_key(|member| self.health(*member) != Health::Unfit);
                let mut any = false;
                for member in order {
                    if self.instance(member).is_some_and(|i| i.machine != Machine::Fault) {
                        self.log_faults(member);
                        self.become_fault(cx, member);
                        any = true;
                    }
                }
                if any {
                    self.group_entered(cx, id, State::Fault);
                }
            }
            // An instance that runs goes on while a new script has not spoken yet; one that does not, waits.
            Health::Unknown => {}
            Health::Fit => {
                let waiting = |m: &Machine| matches!(m, Machine::Init | Machine::Fault);
                if !self.instance(id).is_some_and(|i| waiting(&i.machine)) {
                    return;
                }
                self.bring_in(cx, &members);
            }
        }
    }

    /// Lets instances take part that did not before: members of one group, or one alone.
    fn bring_in(&mut self, cx: &mut Cx<'_>, members: &[InstanceId]) {
        let all = |test: &dyn Fn(&super::Instance) -> bool| {
            members.iter().all(|id| self.instance(*id).is_some_and(test))
        };
        // The owner of the addresses does not wait (RFC 9568 6.4.1), nor does a master whose process was
        // only replaced; in a group this must hold for all.
        let starts = all(&|i| matches!(i.machine, Machine::Init));
        let owner = all(&|i| {
            i.config.priority == Priority::OWNER && i.config.state == InitialState::Master
        });
        let was_master = all(&|i| self.was_master_until(i, cx.now));
        let Some(first) = members.first().copied() else { return };
        if starts && (owner && cx.now >= self.silent_until || was_master) {
            self.all_become_master(cx, first);
            return;
        }
        for id in members {
            let Some(instance) = self.instance(*id) else { continue };
            match instance.machine {
                Machine::Init => self.become_backup(cx, *id, " (init)"),
                Machine::Fault => self.become_backup(cx, *id, ""),
                Machine::Backup { .. } | Machine::Master { .. } => {}
            }
        }
        self.group_entered(cx, first, State::Backup);
    }

    /// Whether the last process of this role left an instance as master so recently that no backup can have
    /// taken over: its last advert was sent at most an interval before its last sign of life, and backups wait for
    /// three.
    fn was_master_until(&self, instance: &super::Instance, now: Instant) -> bool {
        instance.was_master && now.since(self.resume.at) < instance.config.advert_int * 2
    }

    /// Waits anew for the silence of the master.
    pub(super) fn wait_until(&mut self, id: InstanceId, master_down: Instant) {
        if let Some(instance) = self.instance_mut(id)
            && matches!(instance.machine, Machine::Backup { .. })
        {
            instance.machine = Machine::Backup { master_down };
            self.set_timer(Timer::Protocol, id.0, Some(master_down));
        }
    }

    /// Starts or stops tolerating a master of lower priority (`preempt_delay`).
    pub(super) fn consider_preemption(&mut self, cx: &Cx<'_>, id: InstanceId, heard: u8) {
        let Some(instance) = self.instance_mut(id) else { return };
        let Preempt::After(delay) = instance.config.preempt else { return };
        if delay.is_zero() || heard == 0 {
            return;
        }
        if heard >= instance.priority {
            if instance.preempt_at.take().is_some() {
                say!(debug, *instance, "stop preempt delay");
            }
        } else if instance.preempt_at.is_none() {
            instance.preempt_at = Some(cx.now + delay);
            say!(debug, *instance, "start preempt delay ({:.6})", delay.as_secs_f64());
        }
    }
}
