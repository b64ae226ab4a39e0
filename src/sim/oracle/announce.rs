//! Gratuitous frames for virtual addresses: how many, when and from where.

use core::net::IpAddr;
use core::time::Duration;

use super::host::all;
use super::wire_of;
use crate::base::{Family, IfIndex, Instant, Mac, Prefix};
use crate::model::{Address, Instance};
use crate::sim::World;
use crate::sim::world::{Node, NodeId};
use crate::status::vrrp::State;

/// A new master has announced its addresses after this time, and no later set is sent before. The same holds for the sets
/// after an advert of lower priority: corrections are at least a tenth of a second apart.
const ANNOUNCE: Duration = Duration::from_secs(1);
/// Hosts that work in slices are late by less than this.
const SLICES: Duration = Duration::from_millis(200);

/// The announcements of an address since its router became master.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcement {
    since: Instant,
    frames: u32,
    /// Nothing happened that changes the expected number of frames.
    clean: bool,
    /// Nothing but adverts of lower priority did; their number.
    limited: bool,
    lower: u32,
    /// The last of them, until something else happened.
    heard: Option<Lower>,
    /// The last frame, or event that may have changed when the next one is due.
    last: Instant,
}

/// An advert of lower priority that a master heard.
#[derive(Clone, Copy, Debug)]
struct Lower {
    at: Instant,
    /// Frames of the set at once, and of that after the delay.
    first: u32,
    second: u32,
    delay: Duration,
}

impl Announcement {
    const fn new(since: Instant) -> Self {
        Self { since, frames: 0, clean: true, limited: true, lower: 0, heard: None, last: since }
    }

    pub const fn muddle(&mut self, now: Instant) {
        self.clean = false;
        self.limited = false;
        self.heard = None;
        self.last = now;
    }

    /// Its router heard a lower priority; `there`: the address exists.
    fn heard_lower(&mut self, at: Instant, delay: Duration, there: bool) {
        self.clean = false;
        self.lower += 1;
        self.heard = there.then_some(Lower { at, first: 0, second: 0, delay });
    }

    fn sent(&mut self, now: Instant, count: u32) {
        self.frames += count;
        self.last = now;
        if let Some(heard) = &mut self.heard {
            let age = now.since(heard.at);
            if age < ANNOUNCE {
                heard.first += count;
            }
            if age >= heard.delay && age < heard.delay + ANNOUNCE {
                heard.second += count;
            }
        }
    }
}

/// The number of frames on a further interface after this time as master, and whether one of them may be missing.
fn extra(instance: &Instance, age: Duration) -> (u32, bool) {
    let Some(extra) = instance.garp_extra() else { return (0, false) };
    let (period, age) = (extra.period.as_nanos().max(1), age.saturating_sub(instance.garp.delay));
    let count = u32::try_from(age.as_nanos() / period).unwrap_or(u32::MAX);
    (count, count > 0 && age.as_nanos() % period < SLICES.as_nanos())
}

impl World {
    /// A router becomes master: its addresses must be announced.
    pub(super) fn expect_announcements(&mut self, id: NodeId, instance: &Instance) {
        let since = self.now();
        for key in self.announced_by(id, instance) {
            self.oracle.announcements.insert(key, Announcement::new(since));
        }
    }

    fn announced_by(&self, id: NodeId, instance: &Instance) -> Vec<(NodeId, IfIndex, IpAddr)> {
        let Some(node) = self.node(id) else { return Vec::new() };
        let key = |address: &Address| {
            let link = node.link_named(&address.interface)?;
            Some((id, link.index, address.prefix.address))
        };
        all(instance).filter_map(key).collect()
    }

    /// A master heard an advert of lower priority: all masters of its group announce their addresses.
    pub(super) fn expect_corrections(&mut self, id: NodeId, instance: &Instance) {
        let now = self.now();
        let group = self.group_of(id, &instance.name);
        let Some(node) = self.node(id) else { return };
        let settled = node.in_flight == 0 && node.events == 0;
        let mut keys = Vec::new();
        for member in node.config.instances.iter().filter(|i| group.contains(&i.name)) {
            let garp = member.garp;
            let sends = self.is_sending(id, member) && garp.lower_prio_repeat > 0;
            for key in self.announced_by(id, member).into_iter().filter(|_| sends) {
                let there = settled
                    && node.kernel.link_at(key.1).is_some_and(|link| link.up)
                    && node.kernel.addresses.iter().any(|(l, p)| (*l, p.address) == (key.1, key.2));
                keys.push((key, garp.lower_prio_delay, there));
            }
        }
        for (key, delay, there) in keys {
            if let Some(a) = self.oracle.announcements.get_mut(&key) {
                a.heard_lower(now, delay, there);
            }
        }
    }

    /// A daemon announces an address: it must exist, and no other router may be entitled to it.
    pub(in crate::sim) fn judge_announcement(
        &mut self,
        id: NodeId,
        link: IfIndex,
        mac: Mac,
        address: IpAddr,
        count: u32,
    ) {
        let now = self.now();
        if let Some(a) = self.oracle.announcements.get_mut(&(id, link, address)) {
            a.sent(now, count);
        }
        let Some(node) = self.node(id) else { return };
        if node.events > 0 {
            return;
        }
        let there = node.kernel.addresses.iter().any(|(l, p)| *l == link && p.address == address);
        let master = node
            .config
            .instances
            .iter()
            .any(|i| all(i).any(|a| a.prefix.address == address) && self.is_sending(id, i));
        // With unicast, peers are informed of the source of adverts when the router comes back.
        let returns = node.config.instances.iter().any(|i| {
            let state = wire_of(node, i).and_then(|wire| self.oracle.states.get(&(id, wire)));
            i.unicast().is_some()
                && count == 1
                && state.is_some_and(|(state, _)| *state == State::Fault)
                && node.link_named(&i.interface).is_some_and(|on| on.index == link)
                && node.kernel.addresses.iter().any(|(on, prefix)| {
                    prefix.address == address && node.kernel.is_home_on(*on, *prefix)
                })
        });
        let beside = self.is_beside(id, node, address);
        let right = node.kernel.link_at(link).is_some_and(|l| l.mac == mac && l.up);
        if !there {
            self.violated_by(id, &format!("announces {address}, which does not exist"));
        } else if !master && !returns {
            self.violated_by(id, &format!("announces {address} without being master"));
        } else if beside {
            self.violated_by(id, &format!("announces {address} beside a better master"));
        } else if !right || count == 0 {
            self.violated_by(id, &format!("announces {address} from a wrong link"));
        }
    }

    /// Whether a virtual address belongs to another router: all its masters here heard a better one, and have not taken
    /// over since.
    pub(super) fn is_beside(&self, id: NodeId, node: &Node, address: IpAddr) -> bool {
        let has =
            |i: &&Instance| all(i).any(|a| a.prefix.address == address) && self.is_sending(id, i);
        let wires = node.config.instances.iter().filter(has).filter_map(|i| wire_of(node, i));
        let mut beaten = wires.map(|wire| self.oracle.better.contains(&(id, wire))).peekable();
        beaten.peek().is_some() && beaten.all(|beaten| beaten)
    }

    /// A master announces its addresses: each in the set at once, and in the one after the delay; the same after an advert
    /// of lower priority; and one of each further interface at regular intervals.
    pub(super) fn check_announcements(&self, id: NodeId, node: &Node, found: &mut Vec<String>) {
        for instance in &node.config.instances {
            let Some(wire) = wire_of(node, instance) else { continue };
            if !self.oracle.routers.get(&(id, wire)).is_some_and(super::wire::Router::is_sending) {
                continue;
            }
            let mut further: Vec<(IfIndex, Instant, Prefix)> = Vec::new();
            for address in all(instance) {
                let Some(link) = node.link_named(&address.interface) else { continue };
                let key = (id, link.index, address.prefix.address);
                let Some(seen) = self.oracle.announcements.get(&key) else { continue };
                // Each router that has it announces it, when it becomes master: their frames look alike.
                let others =
                    node.config.instances.iter().filter(|other| other.name != instance.name);
                if others.flat_map(all).any(|other| *other == *address) {
                    continue;
                }
                let age = self.now().since(seen.since);
                let there = link.up && node.kernel.has(link.index, address.prefix);
                if age < ANNOUNCE || !there || node.in_flight > 0 {
                    continue;
                }
                let text = address.prefix;
                if seen.frames == 0 {
                    found.push(format!("{text} was not announced"));
                }
                self.check_lower(seen, instance, text, found);
                // One address of each further interface is announced at intervals.
                let is_further = instance.garp_extra().is_some_and(|extra| extra.all)
                    && address.interface != instance.interface;
                let known = further.iter_mut().find(|(on, ..)| *on == link.index);
                let mut more = (0, false);
                match known {
                    Some((_, last, _)) => *last = (*last).max(seen.last),
                    None if is_further => {
                        further.push((link.index, seen.last, text));
                        more = extra(instance, age);
                    }
                    None => {}
                }
                check_number(seen, instance, (text, age), more, found);
            }
            let Some(extra) = instance.garp_extra() else { continue };
            let longest = instance.garp.delay + extra.period + ANNOUNCE;
            for (_, last, text) in further {
                if self.now().since(last) > longest {
                    found.push(format!("{text} is not announced again on its interface"));
                }
            }
        }
    }

    /// The sets after an advert of lower priority.
    fn check_lower(
        &self,
        seen: &Announcement,
        instance: &Instance,
        text: Prefix,
        found: &mut Vec<String>,
    ) {
        let Some(heard) = seen.heard else { return };
        let (age, wanted) = (self.now().since(heard.at), instance.garp.lower_prio_repeat);
        if age >= ANNOUNCE && heard.first < wanted {
            let frames = heard.first;
            found.push(format!("{text} was announced {frames} times after a lower priority"));
        }
        let second = !heard.delay.is_zero() && age >= heard.delay + ANNOUNCE;
        if second && heard.second < wanted {
            let frames = heard.second;
            found.push(format!("{text} was announced {frames} times long after a lower priority"));
        }
    }
}

/// The number of frames, as far as it is known.
fn check_number(
    seen: &Announcement,
    instance: &Instance,
    (text, age): (Prefix, Duration),
    (extra, one_less): (u32, bool),
    found: &mut Vec<String>,
) {
    let garp = instance.garp;
    let spacing = match text.family() {
        Family::V4 => garp.interval,
        Family::V6 => garp.na_interval,
    };
    let sets = 1 + u32::from(!garp.delay.is_zero());
    let lower = garp.lower_prio_repeat * (1 + u32::from(!garp.lower_prio_delay.is_zero()));
    let most = garp.repeat * sets + seen.lower * lower + extra;
    if !garp.refresh.is_zero() {
        return;
    }
    if seen.limited && seen.frames > most {
        found.push(format!("{text} was announced {} times, more than {most}", seen.frames));
    }
    let second = garp.delay + spacing * garp.repeat * 16;
    let wanted = if garp.delay.is_zero() || age < garp.delay {
        garp.repeat
    } else if age > second {
        garp.repeat * 2
    } else {
        return;
    };
    let (wanted, least) = (wanted + extra, wanted + extra - u32::from(one_less));
    if seen.clean && !(least..=wanted).contains(&seen.frames) {
        found.push(format!("{text} was announced {} times, not {wanted}", seen.frames));
    }
}
