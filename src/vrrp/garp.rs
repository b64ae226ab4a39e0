//! Gratuitous ARP and unsolicited neighbour adverts: which frames go out when.
//!
//! A new master announces each address as the kernel confirms it, with `garp_master_repeat` frames in a row, all
//! addresses again after `garp_master_delay`, and then every `garp_master_refresh`. Frames on one interface, or on
//! those of a `garp_group`, are at least `garp_interval` apart. Leaving MASTER discards what is still to be sent.
//!
//! A step sends at most [`SLICE`] frames, all instances together; the others follow in the next steps, after the
//! adverts that are due by then. A set of all addresses is represented by a position in their list, so that requesting
//! one costs the same for one address and for thousands.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::action::Action;
use super::event::InstanceId;
use super::instance::say;
use super::{Engine, Moment, Timer};
use crate::base::{Family, IfIndex, IfName, Instant};
use crate::model::vrrp::Garp;
use crate::plan::ObjectId;

/// Addresses of a set that are logged one by one; the others are counted.
const LOGGED: usize = 8;
/// Largest number of frames that one step of the engine sends.
pub(super) const SLICE: u32 = 64;
/// Largest number of addresses of sets that one step examines, all instances together; most of them may have nothing to
/// announce.
pub(super) const VISITS: u32 = 256;
/// Pieces of a job (see `job::EFFORT`) that announcements of one instance cost.
const ANNOUNCEMENT: usize = 2;
/// Time until the next step.
const NEXT: Duration = Duration::from_nanos(1);

/// Where a minimum time between frames of a family applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spaced {
    /// On one interface (`vrrp_garp_interval`, `vrrp_gna_interval`).
    Interface(IfIndex, Family),
    /// On all interfaces of the `garp_group` at this position.
    Group(usize, Family),
}

/// The announcements that an instance still has to send.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcing {
    /// When the second set after becoming master is due.
    second_at: Option<Instant>,
    /// When the next refresh is due.
    refresh_at: Option<Instant>,
    /// When the second set after an advert of lower priority is due.
    lower_at: Option<Instant>,
    /// The next frames on further interfaces (`garp_extra_if`).
    extra_at: Option<Instant>,
    /// The set that is being announced.
    set: Option<Set>,
    /// Frames for each address of the set that follows; 0: none follows.
    again: u32,
    /// Frames waiting for their turn, by interface.
    lanes: BTreeMap<(IfIndex, Family), Lane>,
    /// When the set or one of the lanes continues.
    queue_at: Option<Instant>,
}

impl Announcing {
    fn next(&self) -> Option<Instant> {
        let all = [self.second_at, self.refresh_at, self.lower_at, self.extra_at, self.queue_at];
        all.into_iter().flatten().min()
    }

    /// Requests a set. One that has not begun covers this request too.
    fn ask(&mut self, frames: u32) {
        match &mut self.set {
            Some(set) if set.next == 0 => set.frames = set.frames.max(frames),
            Some(_) => self.again = self.again.max(frames),
            None => self.set = (frames > 0).then_some(Set { next: 0, frames }),
        }
    }
}

/// All addresses of an instance, announced in order.
#[derive(Clone, Copy, Debug)]
struct Set {
    /// Position of the next address.
    next: usize,
    /// Frames for each address.
    frames: u32,
}

/// Frames that wait on an interface. Addresses with the most frames left go first, so that each address is announced
/// once before any is announced twice.
#[derive(Clone, Debug, Default)]
struct Lane {
    left: BTreeMap<ObjectId, u32>,
    /// By frames left. An entry whose number has changed meanwhile is skipped.
    order: BTreeMap<u32, VecDeque<ObjectId>>,
}

impl Lane {
    fn push(&mut self, entry: ObjectId, frames: u32) {
        let left = self.left.entry(entry).or_default();
        if frames > *left {
            *left = frames;
            self.order.entry(frames).or_default().push_back(entry);
        }
    }

    fn pop(&mut self) -> Option<(ObjectId, u32)> {
        loop {
            let mut most = self.order.last_entry()?;
            let frames = *most.key();
            let entry = most.get_mut().pop_front();
            if most.get().is_empty() {
                most.remove();
            }
            if let Some(entry) = entry
                && self.left.get(&entry) == Some(&frames)
            {
                self.left.remove(&entry);
                return Some((entry, frames));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

impl Engine {
    /// Announces our own address to the peers that send adverts to it, when an instance comes back.
    pub(super) fn announce_source(&self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance(id).filter(|i| i.config.unicast().is_some()) else {
            return;
        };
        let Some((interface, address)) = instance.link.zip(instance.source) else { return };
        // The owner's source may be a virtual address, which another master may hold at the moment.
        if instance.advertised.contains(&address) {
            return;
        }
        if let Some(link) = self.links.get(&interface).filter(|link| link.arp) {
            moment.out.push(Action::SendGarp { interface, mac: link.mac, address, count: 1 });
        }
    }

    /// Becoming master: addresses that are on their interfaces already are announced now, the others when
    /// they are confirmed; the later sets are scheduled.
    pub(super) fn announce_master(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let garp = instance.config.garp;
        instance.announcing = Announcing::default();
        let announcing = &mut instance.announcing;
        if !garp.delay.is_zero() {
            announcing.second_at = Some(moment.now + garp.delay);
        }
        if !garp.refresh.is_zero() {
            announcing.refresh_at = Some(moment.now + garp.refresh);
        }
        let extra = instance.config.garp_extra();
        announcing.extra_at = extra.map(|extra| moment.now + garp.delay + extra.period);
        announcing.ask(garp.repeat);
        if let Some(instance) = self.instance(id) {
            self.log_set(id, instance.entries.iter().filter(|e| self.target(**e).is_some()));
        }
        self.announce(moment, id);
    }

    /// An address of a master is confirmed.
    pub(super) fn announce_confirmed(
        &mut self,
        moment: &mut Moment<'_>,
        id: InstanceId,
        entry: ObjectId,
    ) {
        let Some(instance) = self.instance(id).filter(|i| i.is_master()) else { return };
        let repeat = instance.config.garp.repeat;
        if instance.entries.iter().take(LOGGED).any(|e| *e == entry) {
            self.log_set(id, [entry].iter());
        }
        if let Some((link, address)) = self.target(entry)
            && let Some(instance) = self.instance_mut(id)
        {
            let lane = (link, Family::of(&address));
            instance.announcing.lanes.entry(lane).or_default().push(entry, repeat);
        }
        self.announce(moment, id);
    }

    /// A master heard an advert of lower priority: ARP caches may point to the other router.
    pub(super) fn announce_after_lower(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id).filter(|i| i.is_master()) else { return };
        let garp = instance.config.garp;
        if garp.lower_prio_repeat == 0 {
            return;
        }
        if !garp.lower_prio_delay.is_zero() {
            instance.announcing.lower_at = Some(moment.now + garp.lower_prio_delay);
        }
        instance.announcing.ask(garp.lower_prio_repeat);
        self.announce(moment, id);
    }

    /// A set or the next slice is due.
    pub(super) fn announce_due(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let garp = instance.config.garp;
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= moment.now).is_some();
        let extra = instance.config.garp_extra();
        let announcing = &mut instance.announcing;
        let extra_due = due(&mut announcing.extra_at);
        if extra_due {
            announcing.extra_at = extra.map(|extra| moment.now + extra.period);
        }
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
                announcing.refresh_at = Some(moment.now + garp.refresh);
            }
        }
        if frames > 0 {
            announcing.ask(frames);
            let count = self.addresses_of(id);
            if let Some(instance) = self.instance(id) {
                let plural = if count == 1 { "" } else { "es" };
                say!(debug, *instance, "announcing {count} address{plural} again");
            }
        }
        if extra_due {
            self.announce_extra(id);
        }
        self.announce(moment, id);
    }

    /// Requests a frame on each further interface of an instance. No advert is sent there, so without these frames
    /// switches would forget the location of its hardware address.
    fn announce_extra(&mut self, id: InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        let config = &instance.config;
        let (Some(extras), Some(extra)) = (config.extras.as_deref(), config.garp_extra()) else {
            return;
        };
        let own = config.own_link().map(|link| &link.name);
        let is_further = |name: &IfName| {
            let made = extras.address_links.iter().any(|link| link.name == *name);
            let silent = own == Some(name) && extras.vmac_xmit_base;
            let other = own != Some(name) && *name != config.interface;
            made || silent || (extra.all && other)
        };
        let mut found: Vec<(IfIndex, Family, ObjectId)> = Vec::new();
        for entry in &instance.entries {
            let Some((link, address)) = self.target(*entry) else { continue };
            let named = self.objects.entry(*entry).and_then(|e| e.object.address());
            if !found.iter().any(|(known, ..)| *known == link)
                && named.is_some_and(|address| is_further(&address.interface))
            {
                found.push((link, Family::of(&address), *entry));
            }
        }
        let Some(instance) = self.instance_mut(id) else { return };
        for (link, family, entry) in found {
            instance.announcing.lanes.entry((link, family)).or_default().push(entry, 1);
        }
    }

    /// The configuration of a master has changed intervals: periodic announcements are scheduled anew.
    pub(super) fn announce_otherwise(&mut self, now: Instant, id: InstanceId) {
        let Some(instance) = self.instance_mut(id).filter(|i| i.is_master()) else { return };
        let (garp, extra) = (instance.config.garp, instance.config.garp_extra());
        let announcing = &mut instance.announcing;
        announcing.refresh_at = (!garp.refresh.is_zero()).then(|| now + garp.refresh);
        announcing.extra_at = extra.map(|extra| now + extra.period);
        self.arm_announcing(id);
    }

    /// How many virtual addresses an instance has; routes are not announced.
    pub(super) fn addresses_of(&self, id: InstanceId) -> usize {
        let Some(instance) = self.instance(id) else { return 0 };
        instance.entries.iter().filter(|entry| self.objects.address(**entry).is_some()).count()
    }

    /// Discards what was still to be announced.
    pub(super) fn announce_nothing(&mut self, id: InstanceId) {
        if let Some(instance) = self.instance_mut(id) {
            instance.announcing = Announcing::default();
        }
        self.arm_announcing(id);
    }

    /// Sends what is allowed in this step and sets when to continue.
    fn announce(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        self.spend(ANNOUNCEMENT);
        let Some(instance) = self.instance_mut(id) else { return };
        if !instance.is_master() {
            self.announce_nothing(id);
            return;
        }
        let garp = instance.config.garp;
        let mut announcing = core::mem::take(&mut instance.announcing);
        let mut complete = false;
        loop {
            let next = self.send_lanes(moment, &mut announcing, &garp);
            let stop = self.frames == 0 || self.visits == 0 || complete;
            let Some(set) = announcing.set.as_mut() else {
                announcing.queue_at = next;
                break;
            };
            if stop {
                announcing.queue_at = Some(moment.now + NEXT);
                break;
            }
            let frames = set.frames;
            let entry = self.instance(id).and_then(|i| i.entries.get(set.next).copied());
            match entry {
                Some(entry) => {
                    set.next += 1;
                    self.visits = self.visits.saturating_sub(1);
                    if let Some((link, address)) = self.target(entry) {
                        let lane = (link, Family::of(&address));
                        announcing.lanes.entry(lane).or_default().push(entry, frames);
                    }
                }
                None => {
                    announcing.set = None;
                    let again = core::mem::take(&mut announcing.again);
                    announcing.ask(again);
                    // Not in this step: without addresses the loop would not end.
                    complete = true;
                }
            }
        }
        if let Some(instance) = self.instance_mut(id) {
            instance.announcing = announcing;
        }
        self.arm_announcing(id);
    }

    /// Sends the frames whose interface is free; returns when the next ones may be sent.
    fn send_lanes(
        &mut self,
        moment: &mut Moment<'_>,
        announcing: &mut Announcing,
        garp: &Garp,
    ) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        announcing.lanes.retain(|key, lane| {
            let at = self.send_lane(moment, *key, lane, garp);
            next = next.into_iter().chain(at).min();
            !lane.is_empty()
        });
        next
    }

    /// The same for one interface.
    fn send_lane(
        &mut self,
        moment: &mut Moment<'_>,
        key: (IfIndex, Family),
        lane: &mut Lane,
        garp: &Garp,
    ) -> Option<Instant> {
        let (shared, spacing) = self.spacing_of(key, garp);
        while !lane.is_empty() {
            let free = self.last_frames.get(&shared).map(|at| *at + spacing);
            let free = free.filter(|at| *at > moment.now);
            if let (Some(at), false) = (free, spacing.is_zero()) {
                return Some(at);
            }
            if self.frames == 0 {
                return Some(moment.now + NEXT);
            }
            let Some((entry, left)) = lane.pop() else { break };
            // It may have gone, or changed its interface, since it was queued.
            let Some((link, address)) = self.target(entry).filter(|(link, _)| *link == key.0)
            else {
                continue;
            };
            let Some(mac) = self.links.get(&link).map(|l| l.mac) else { continue };
            let count = if spacing.is_zero() { left } else { 1 };
            if count > self.frames && self.frames < SLICE {
                // Frames of one address stay together.
                lane.push(entry, left);
                self.frames = 0;
                continue;
            }
            let count = count.min(SLICE);
            self.frames = self.frames.saturating_sub(count);
            moment.out.push(Action::SendGarp { interface: link, mac, address, count });
            if !spacing.is_zero() {
                self.last_frames.insert(shared, moment.now);
            }
            if left > count {
                lane.push(entry, left - count);
            }
        }
        None
    }

    /// The scope in which an interface keeps a minimum time between frames of a family, and that time: its
    /// `garp_group`, if that sets one for the family, else the interface alone.
    fn spacing_of(&self, (link, family): (IfIndex, Family), garp: &Garp) -> (Spaced, Duration) {
        let groups = self.config.garp_groups.iter().enumerate();
        let mut groups = groups.filter_map(|(n, group)| match family {
            Family::V4 => Some((n, group, group.garp?)),
            Family::V6 => Some((n, group, group.na?)),
        });
        let own = groups.find(|(_, group, _)| {
            group.interfaces.iter().any(|name| self.link_names.get(name) == Some(&link))
        });
        match (own, family) {
            (Some((n, _, interval)), _) => (Spaced::Group(n, family), interval),
            (None, Family::V4) => (Spaced::Interface(link, family), garp.interval),
            (None, Family::V6) => (Spaced::Interface(link, family), garp.na_interval),
        }
    }

    /// Where an address is announced: nowhere while it does not exist, or on a link without address resolution.
    fn target(&self, entry: ObjectId) -> Option<(IfIndex, IpAddr)> {
        if !self.objects.is_present(entry) {
            return None;
        }
        let (link, address) = self.objects.address(entry)?;
        self.links.get(&link).filter(|l| l.up && l.arp)?;
        Some((link, address))
    }

    fn arm_announcing(&mut self, id: InstanceId) {
        let next = self.instance(id).and_then(|i| i.announcing.next());
        self.set_timer(Timer::Announce(id), next);
    }

    /// One line per address, as users grep for; a long list is truncated.
    fn log_set<'a>(&self, id: InstanceId, mut entries: impl Iterator<Item = &'a ObjectId>) {
        let Some(instance) = self.instance(id) else { return };
        for entry in entries.by_ref().take(LOGGED).filter_map(|e| self.objects.entry(*e)) {
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
        let others = entries.count();
        if others > 0 {
            say!(info, *instance, "and for {others} other addresses");
        }
    }
}
