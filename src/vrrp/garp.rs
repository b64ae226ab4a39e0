//! Gratuitous ARP and unsolicited neighbour adverts: which frames go out when.
//!
//! A new master announces each address as the kernel confirms it, `garp_master_repeat` frames one after the
//! other, and all of them again after `garp_master_delay`, then every `garp_master_refresh`. Frames on one
//! interface keep `garp_interval` between them. Leaving MASTER forgets what was still to be sent.

use std::collections::VecDeque;

use super::action::Action;
use super::event::InstanceId;
use super::instance::say;
use super::{Cx, Engine, Timer};
use crate::base::{Family, Instant};
use crate::plan::ObjectId;

/// Addresses named in the log for each set; the rest is counted.
const LOGGED: usize = 8;

/// What an instance still has to announce.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcing {
    /// The second set after becoming master.
    second_at: Option<Instant>,
    /// The next refresh.
    refresh_at: Option<Instant>,
    /// The second set after an advert of lower priority.
    lower_at: Option<Instant>,
    /// Frames waiting for their turn on an interface: entry and number.
    queue: VecDeque<(ObjectId, u32)>,
    /// When the head of the queue may go.
    queue_at: Option<Instant>,
}

impl Announcing {
    fn next(&self) -> Option<Instant> {
        [self.second_at, self.refresh_at, self.lower_at, self.queue_at].into_iter().flatten().min()
    }
}

impl Engine {
    /// Becoming master: addresses that are on their interfaces already are announced now, the others when
    /// they are confirmed; the later sets are scheduled.
    pub(super) fn announce_master(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let garp = instance.config.garp;
        instance.announcing = Announcing::default();
        let announcing = &mut instance.announcing;
        if !garp.delay.is_zero() {
            announcing.second_at = Some(cx.now + garp.delay);
        }
        if !garp.refresh.is_zero() {
            announcing.refresh_at = Some(cx.now + garp.refresh);
        }
        let present: Vec<ObjectId> = instance
            .entries
            .clone()
            .into_iter()
            .filter(|e| self.objects.is_present(*e) && self.objects.address(*e).is_some())
            .collect();
        self.log_set(id, &present);
        self.announce(cx, id, &present, garp.repeat);
    }

    /// An address of a master is confirmed.
    pub(super) fn announce_confirmed(&mut self, cx: &mut Cx<'_>, id: InstanceId, entry: ObjectId) {
        let Some(instance) = self.instance(id) else { return };
        let repeat = instance.config.garp.repeat;
        let position = instance.entries.iter().take(LOGGED).position(|e| *e == entry);
        if position.is_some() {
            self.log_set(id, &[entry]);
        }
        self.announce(cx, id, &[entry], repeat);
    }

    /// A master heard an advert of lower priority: caches may have been turned to the other router.
    pub(super) fn announce_after_lower(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let garp = instance.config.garp;
        if garp.lower_prio_repeat == 0 {
            return;
        }
        if !garp.lower_prio_delay.is_zero() {
            instance.announcing.lower_at = Some(cx.now + garp.lower_prio_delay);
        }
        let entries = instance.entries.clone();
        self.announce(cx, id, &entries, garp.lower_prio_repeat);
    }

    /// Some set is due.
    pub(super) fn announce_due(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        if !instance.is_master() {
            instance.announcing = Announcing::default();
            return;
        }
        let garp = instance.config.garp;
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= cx.now).is_some();
        let announcing = &mut instance.announcing;
        let mut frames = 0;
        if due(&mut announcing.second_at) {
            frames = frames.max(garp.repeat);
        }
        if due(&mut announcing.lower_at) {
            frames = frames.max(garp.lower_prio_repeat);
        }
        if due(&mut announcing.refresh_at) {
            frames = frames.max(garp.refresh_repeat);
            if !garp.refresh.is_zero() {
                announcing.refresh_at = Some(cx.now + garp.refresh);
            }
        }
        let queue_due = due(&mut announcing.queue_at);
        if frames > 0 {
            let entries = instance.entries.clone();
            say!(debug, *instance, "announcing {} addresses again", entries.len());
            self.announce(cx, id, &entries, frames);
        }
        if queue_due {
            self.drain_queue(cx, id);
        }
        self.arm_announcing(id);
    }

    /// Forgets what was still to be announced.
    pub(super) fn announce_nothing(&mut self, id: InstanceId) {
        if let Some(instance) = self.instance_mut(id) {
            instance.announcing = Announcing::default();
        }
        self.timers.clear(Timer::Announce(id));
    }

    /// Sends or queues `count` frames for each entry that is on its interface.
    fn announce(&mut self, cx: &mut Cx<'_>, id: InstanceId, entries: &[ObjectId], count: u32) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !instance.is_master() {
            return;
        }
        let garp = instance.config.garp;
        for entry in entries {
            if !self.objects.is_present(*entry) {
                continue;
            }
            let Some((link, address)) = self.objects.address(*entry) else { continue };
            let Some(state) = self.links.get(&link).filter(|l| l.up && l.arp) else { continue };
            let spacing = match Family::of(&address) {
                Family::V4 => garp.interval,
                Family::V6 => garp.na_interval,
            };
            if spacing.is_zero() {
                cx.out.push(Action::SendGarp { interface: link, mac: state.mac, address, count });
            } else {
                let queue = &mut instance.announcing.queue;
                match queue.iter_mut().find(|(e, _)| e == entry) {
                    Some((_, waiting)) => *waiting = (*waiting).max(count),
                    None => enqueue(queue, *entry, count),
                }
            }
        }
        if instance.announcing.queue_at.is_none() && !instance.announcing.queue.is_empty() {
            self.drain_queue(cx, id);
        }
        self.arm_announcing(id);
    }

    /// Sends the frames whose interface is free and says when the next one may go. Each address in turn, so
    /// that all are announced once before any is announced twice.
    fn drain_queue(&mut self, cx: &mut Cx<'_>, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let garp = instance.config.garp;
        let mut next: Option<Instant> = None;
        let mut later = |at: Instant| next = Some(next.map_or(at, |n| n.min(at)));
        let (mut waiting, mut again) = (VecDeque::new(), Vec::new());
        for (entry, count) in core::mem::take(&mut instance.announcing.queue) {
            let Some((link, address)) = self.objects.address(entry) else { continue };
            let family = Family::of(&address);
            let free = self.spacing.entry((link, family)).or_insert(Instant::ZERO);
            if *free > cx.now {
                later(*free);
                waiting.push_back((entry, count));
                continue;
            }
            let Some(state) = self.links.get(&link).filter(|l| l.up && l.arp) else { continue };
            cx.out.push(Action::SendGarp { interface: link, mac: state.mac, address, count: 1 });
            *free = cx.now
                + match family {
                    Family::V4 => garp.interval,
                    Family::V6 => garp.na_interval,
                };
            if count > 1 {
                later(*free);
                again.push((entry, count - 1));
            }
        }
        for (entry, count) in again {
            enqueue(&mut waiting, entry, count);
        }
        instance.announcing.queue = waiting;
        instance.announcing.queue_at = next;
    }

    fn arm_announcing(&mut self, id: InstanceId) {
        let next = self.instance(id).and_then(|i| i.announcing.next());
        self.set_timer(Timer::Announce(id), next);
    }

    /// One line an address, as users grep for; a long list is cut.
    fn log_set(&self, id: InstanceId, entries: &[ObjectId]) {
        let Some(instance) = self.instance(id) else { return };
        for entry in entries.iter().take(LOGGED).filter_map(|e| self.objects.entry(*e)) {
            let Some(address) = entry.object.address() else { continue };
            let (prefix, interface) = (address.prefix, &address.interface);
            match prefix.family() {
                Family::V4 => say!(
                    info,
                    *instance,
                    "Sending gratuitous ARPs on {interface} for {}",
                    prefix.address
                ),
                Family::V6 => say!(
                    info,
                    *instance,
                    "Sending Unsolicited Neighbour Adverts on {interface} for {}",
                    prefix.address
                ),
            }
        }
        if entries.len() > LOGGED {
            say!(info, *instance, "and for {} other addresses", entries.len() - LOGGED);
        }
    }
}

/// Queues frames of an address before those of which fewer are left, so that each address in turn is announced.
fn enqueue(queue: &mut VecDeque<(ObjectId, u32)>, entry: ObjectId, count: u32) {
    let place = queue.iter().position(|(_, left)| *left < count).unwrap_or(queue.len());
    queue.insert(place, (entry, count));
}
