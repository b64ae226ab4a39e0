//! Changes of state: [`Engine::enter`] is the only way into a state and out of one; the rest of this file decides when
//! it is called.

use super::event::InstanceId;
use super::fsm::{self, Input, Step};
use super::health::Health;
use super::history::Why;
use super::instance::{Instance, Machine, peer, say};
use super::limit::{Corrections, Reason};
use super::{Action, Engine, Moment, Timer, timing};
use crate::base::Instant;
use crate::model::vrrp::Preempt;
use crate::status::cause::{Cause, Change};
use crate::status::vrrp::State;

impl Engine {
    /// Changes the state of an instance, with all that belongs to it: farewell, timers, addresses,
    /// announcements, notices.
    ///
    /// INIT, which is entered when an instance ends, leaves addresses and notices to the caller, which knows whether
    /// something else wants the addresses, and how the end is announced.
    pub(super) fn enter(
        &mut self,
        moment: &mut Moment<'_>,
        id: InstanceId,
        cause: Cause,
        to: State,
    ) {
        let Some(from) = self.instance(id).map(Instance::state) else { return };
        // When another member leads the group, this one's trackers have not been evaluated: adverts and notices need
        // the effective priority.
        self.update_priority(moment, id);
        self.budget = self.budget.saturating_sub(1);
        #[cfg(test)]
        {
            self.entered += 1;
        }
        if fsm::says_farewell(from, to) {
            self.send_advert(moment, id, 0);
        }
        if from == State::Master {
            self.leave_master(id);
        }
        let silent_until = self.silent_until;
        let Some(instance) = self.instance_mut(id) else { return };
        let held = instance.holds_addresses();
        let machine = match to {
            State::Init => Machine::Init,
            State::Backup => {
                if from == State::Fault {
                    instance.master_interval = instance.config.advert_int;
                }
                Machine::Backup { master_down: silent_until.max(moment.now) + patience(instance) }
            }
            State::Master => {
                Machine::Master { next_advert: moment.now + instance.config.advert_int }
            }
            State::Fault => Machine::Fault,
        };
        let deadline = match machine {
            Machine::Backup { master_down: at } | Machine::Master { next_advert: at } => Some(at),
            Machine::Init | Machine::Fault => None,
        };
        instance.set_machine(machine);
        instance.since = moment.now;
        instance.history.add(Change { at: moment.now, from, to, cause });
        instance.preempt_at = None;
        instance.disagreement = None;
        instance.willing = false;
        if to != State::Backup {
            instance.retained = false;
            instance.master = None;
        }
        let priority = instance.effective_priority;
        if to == State::Master {
            instance.master_interval = instance.config.advert_int;
            instance.counters.became_master += 1;
            instance.sequences.renew();
        }
        if to == State::Init {
            // The end of an instance is announced by the caller: no earlier state may follow it.
            instance.unannounced = None;
        }
        let touches = held || instance.holds_addresses();
        self.timers.clear(Timer::Advert(id));
        self.timers.clear(Timer::Silence(id));
        self.timers.clear(Timer::Notice(id));
        if let Some(at) = deadline {
            self.rearm(id, at);
        }
        self.recount(id);
        if to == State::Init {
            return;
        }
        if to == State::Master {
            //= rfc9568 6.4.2: If the Active_Down_Timer fires, then send an ADVERTISEMENT
            // Before anything else: the master-down timers of other backups are about to expire as well.
            self.send_advert(moment, id, priority);
        }
        let Some(instance) = self.instance(id) else { return };
        // keepalived logs the first state with its origin.
        let remark = if (from, to) == (State::Init, State::Backup) { " (init)" } else { "" };
        say!(info, *instance, "Entering {to} STATE{remark}");
        if to == State::Master && !instance.entries.is_empty() {
            say!(info, *instance, "setting VIPs.");
            Self::say_closed(instance, true);
        }
        if touches {
            self.settle_instance(moment, id);
        }
        if (from, to) == (State::Fault, State::Backup) {
            self.announce_source(moment, id);
        }
        if to == State::Master {
            self.announce_master(moment, id);
        }
        self.announce_state_later(moment, id);
        moment.out.push(Action::Report);
    }

    fn leave_master(&mut self, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        instance.counters.released_master += 1;
        instance.corrections = Corrections::default();
        if !instance.entries.is_empty() {
            say!(debug, *instance, "removing VIPs.");
            Self::say_closed(instance, false);
        }
        self.announce_nothing(id);
    }

    /// Whether this process was stalled for so long that another router must be master by now
    /// (`timer_expired_backup`). If so, this master becomes backup without an advert of priority 0, before it sends
    /// or processes anything.
    pub(super) fn leaves_as_stalled(&mut self, moment: &mut Moment<'_>, id: InstanceId) -> bool {
        let Some(instance) = self.instance(id) else { return false };
        let Machine::Master { next_advert } = instance.machine() else { return false };
        let config = &instance.config;
        let Some(others) = config.extras.as_ref().and_then(|e| e.timer_expired_backup) else {
            return false;
        };
        // Three intervals after the last advert, plus the skew of the other router with the highest priority.
        let skew = timing::skew(config.version, others, config.advert_int);
        if moment.now < next_advert + config.advert_int * 2 + skew {
            return false;
        }
        let late = moment.now.since(next_advert);
        say!(
            warn,
            *instance,
            "VRRP thread timer expired {}.{:06} seconds ago: another router must be master by now",
            late.as_secs(),
            late.subsec_micros()
        );
        self.lead(moment, id, Input::Yield, Why::HeldUp(late));
        true
    }

    /// An advert of a master is due.
    pub(super) fn advert_due(&mut self, moment: &mut Moment<'_>, id: InstanceId, due: Instant) {
        if self.leaves_as_stalled(moment, id) {
            return;
        }
        let Some(instance) = self.instance(id) else { return };
        let input = Input::Timer { agreed: true };
        if !matches!(fsm::step(instance.state(), input), Step::Advertise) {
            return;
        }
        // The next one is counted from when this one was due, so that lateness does not add up; a process that
        // was stalled for longer sends one, not all it missed.
        let (interval, priority) = (instance.config.advert_int, instance.effective_priority);
        let next = due + interval;
        self.rearm(id, if next > moment.now { next } else { moment.now + interval });
        if self.may_advertise(id) {
            self.send_advert(moment, id, priority);
        }
    }

    /// Whether the interface of a master can be used. If it cannot, the master leaves its state in one of the next
    /// slices and is silent until then.
    fn may_advertise(&self, id: InstanceId) -> bool {
        let Some(instance) = self.instance(id) else { return false };
        let link = instance.link.and_then(|index| self.links.get(&index));
        link.is_some_and(|link| link.up || instance.config.dont_track_primary)
    }

    /// The master-down timer of a backup expired.
    pub(super) fn silence(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let silent_until = self.silent_until;
        let Some(instance) = self.instance_mut(id) else { return };
        let state = instance.state();
        if state != State::Backup {
            return;
        }
        if moment.now < silent_until {
            let again = silent_until + instance.master_down();
            self.rearm(id, again);
            return;
        }
        say!(debug, *instance, "Receive advertisement timeout");
        instance.willing = true;
        self.recount(id);
        match fsm::step(state, Input::Timer { agreed: self.all_ready(id) }) {
            Step::Enter(_) => self.lead(moment, id, Input::Rise, Why::Timer),
            Step::Wait => {
                // Another member still hears its master. If that one goes silent too, that member decides.
                let again = self.instance(id).map_or(moment.now, |i| moment.now + i.master_down());
                self.rearm(id, again);
            }
            _ => {}
        }
    }

    /// Sets the timer of the current state: the next advert, or master down.
    pub(super) fn rearm(&mut self, id: InstanceId, at: Instant) {
        let Some(instance) = self.instance_mut(id) else { return };
        if instance.set_deadline(at) {
            let master = instance.is_master();
            self.timers.set(if master { Timer::Advert(id) } else { Timer::Silence(id) }, at);
        }
    }

    /// A master heard a better one: the whole group follows.
    pub(super) fn yield_to_better(&mut self, moment: &mut Moment<'_>, id: InstanceId, why: Why) {
        self.lead(moment, id, Input::Yield, why);
    }

    /// Notes that an instance is to be reconsidered.
    pub(super) fn enqueue(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(id)
            && !core::mem::replace(&mut instance.queued, true)
        {
            self.queue.push_back(id);
        }
    }

    /// Continues with what follows from changes, and then with changes of state, by one slice.
    pub(super) fn work(&mut self, moment: &mut Moment<'_>) {
        if self.follow_up(moment) {
            self.go_on_later(moment);
        } else {
            self.act(moment);
        }
    }

    /// Whether changes of state are left for later.
    pub(super) fn is_acting(&self) -> bool {
        !self.walking.is_empty() || !self.queue.is_empty()
    }

    /// Continues with changes of state by one slice.
    pub(super) fn act(&mut self, moment: &mut Moment<'_>) {
        self.walk(moment);
        while self.may_go_on()
            && let Some(id) = self.queue.pop_front()
        {
            self.spend(1);
            if let Some(instance) = self.instances.get_mut(id) {
                instance.queued = false;
                self.reconsider(moment, id);
            }
        }
        if !self.queue.is_empty() {
            self.go_on_later(moment);
        }
    }

    /// Whether this step may do more.
    pub(super) const fn may_go_on(&self) -> bool {
        self.budget > 0 && self.effort > 0 && !self.sliced
    }

    /// Continues with a timer that is due at once: due adverts are sent before it.
    pub(super) fn go_on_later(&mut self, moment: &Moment<'_>) {
        self.sliced = true;
        self.timers.set(Timer::Slice, moment.now);
    }

    /// Compares the state of an instance and its group with their health, and changes it if necessary.
    pub(super) fn reconsider(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        if !self.running() || self.undoing {
            return;
        }
        self.update_priority(moment, id);
        let under_way = self.under_way(id);
        match self.common_health(id) {
            Health::Unfit => {
                if !self.all_in_fault(id) && under_way != Some(Input::Unfit) {
                    self.lead(moment, id, Input::Unfit, Why::Health);
                }
            }
            // A running instance continues while a new script has no result; one that has not started waits.
            Health::Unknown => {}
            Health::Fit => {
                // Another member may have waited for this one.
                if self.any_waits(id) && matches!(under_way, None | Some(Input::Unfit)) {
                    let at_once = self.all_in_init(id) && self.may_start_as_master(moment.now, id);
                    match at_once {
                        true => self.lead(moment, id, Input::Rise, Why::Start),
                        false => self.lead(moment, id, Input::Fit, Why::Health),
                    }
                }
            }
        }
    }

    /// The owner of the addresses does not wait (RFC 9568 6.4.1), nor does a master whose process was only
    /// replaced; in a group this must hold for all.
    fn may_start_as_master(&self, now: Instant, id: InstanceId) -> bool {
        now >= self.silent_until && self.all_own(id) || self.all_were_master(id, now)
    }

    /// Whether an instance was master in the previous process of this role so recently that no backup can have taken
    /// over: its last advert was sent at most an interval before its last sign of life, and backups wait for three.
    pub(super) fn was_master_until(&self, instance: &Instance, now: Instant) -> bool {
        instance.was_master && self.is_recent(instance.config.advert_int, now)
    }

    /// Whether the last sign of life of the previous process is that recent for routers with this advert interval.
    pub(super) fn is_recent(&self, advert_int: core::time::Duration, now: Instant) -> bool {
        now.since(self.resume.at) < advert_int.saturating_mul(2)
    }

    /// Starts or stops tolerating a master of lower priority (`preempt_delay`).
    pub(super) fn consider_preemption(&mut self, moment: &Moment<'_>, id: InstanceId, heard: u8) {
        let Some(instance) = self.instance_mut(id) else { return };
        let Preempt::After(delay) = instance.config.preempt else { return };
        if delay.is_zero() || heard == 0 {
            return;
        }
        let starts = heard < instance.effective_priority;
        if starts == instance.preempt_at.is_some() {
            return;
        }
        instance.preempt_at = starts.then_some(moment.now + delay);
        if self.admits(id, Reason::Preemption, moment.now)
            && let Some(instance) = self.instance(id)
        {
            if starts {
                peer!(debug, *instance, "start preempt delay ({:.6})", delay.as_secs_f64());
            } else {
                peer!(debug, *instance, "stop preempt delay");
            }
        }
    }
}

/// How long a backup waits for an advert before it takes over.
fn patience(instance: &Instance) -> core::time::Duration {
    //= rfc9568 6.4.1: set the Active_Down_Timer to Active_Down_Interval
    // departs: an instance whose addresses exist already listens for one interval only. A living master is heard in
    // that time; if there is none, this router was master until its daemon ended, and continues before the master-down
    // timer of any backup expires.
    if instance.retained {
        instance.master_interval + instance.skew()
    } else {
        instance.master_down()
    }
}
