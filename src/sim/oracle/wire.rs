//! Adverts: their content and period, the first and the last one of a master, answers, and takeovers at the exact
//! time.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::hear::{Flaw, content, sequence, without_trailer};
use super::{Wire, instance_on, routers_of};
use crate::base::{Family, IfIndex, Instant};
use crate::model::Instance;
use crate::model::extras::Unicast;
use crate::model::vrrp::Version;
use crate::sim::World;
use crate::sim::world::NodeId;
use crate::status::vrrp::State;
use crate::vrrp::Rx;
use crate::wire::{ah, hmac, ip, vrrp};

/// This many answers are sent at once, the following ones with this pause between them.
const ANSWERS: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// The observed state of one router on the wire, and the resulting expectations.
#[derive(Clone, Debug, Default)]
pub(super) struct Router {
    pub sending: Option<Sending>,
    /// When it takes over if it receives nothing more.
    pub due: Option<Due>,
    /// Until when it follows a master of lower priority.
    pub preempt_at: Option<Instant>,
    /// The interval of its master (version 3).
    pub learned: Option<Duration>,
    /// Adverts received during `vrrp_startup_delay` may or may not have begun its preemption delay.
    pub vague: bool,
    /// It sent a farewell, or it or its group heard a better router: it leaves MASTER.
    pub leaving: bool,
    /// Something was heard while its host had not been told of a change: it may leave MASTER.
    pub unsure: bool,
    pub priority: Option<u8>,
    /// Consecutive adverts with a different number of addresses from one router: sender, time of the last one, number.
    pub streak: Option<(IpAddr, Instant, u32)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    /// When the last advert was sent; none if some could not be sent.
    pub last: Option<Instant>,
    /// The last adverts, regular or not, the oldest first.
    pub recent: [Option<Instant>; ANSWERS],
    /// Since when the next advert is waited for: the last advert, or when the process could run again.
    pub since: Instant,
    /// The longest effective interval since then.
    pub longest: Duration,
    /// The next advert may be early.
    pub excused: bool,
    /// The link that sent the last one.
    pub link: IfIndex,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    /// Not before this,
    pub from: Instant,
    /// nor after this.
    pub at: Instant,
    /// It must be at that time, not just not earlier.
    pub exact: bool,
}

impl Router {
    pub const fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    pub const fn is_leaving(&self) -> bool {
        self.sending.is_some() && self.leaving
    }

    /// Some adverts could not be sent.
    pub fn forgive(&mut self, now: Instant) {
        if let Some(sending) = &mut self.sending {
            (sending.last, sending.since) = (None, now);
        }
    }

    /// The process was not run for a while: a takeover may come late.
    pub fn held_up(&mut self, now: Instant) {
        self.forgive(now);
        if let Some(due) = &mut self.due {
            due.exact = false;
        }
    }

    /// Permits a delay of everything that was due until now.
    pub fn held_up_until(&mut self, now: Instant) {
        if let Some(due) = self.due.as_mut().filter(|due| due.at <= now) {
            due.exact = false;
        }
    }

    pub fn reloaded(&mut self, interval: Option<Duration>) {
        if let (Some(sending), Some(interval)) = (&mut self.sending, interval) {
            sending.longest = sending.longest.max(interval);
            sending.excused = true;
        }
        self.due = None;
    }

    pub fn wait(&mut self, at: Instant, exact: bool) {
        self.wait_between(at, at, exact);
    }

    pub fn wait_between(&mut self, from: Instant, at: Instant, exact: bool) {
        self.due = (!self.vague).then_some(Due { from, at, exact });
    }
}

/// (256 - Priority) / 256 of the interval: a second in version 2, the master's interval in version 3. RFC 3768 6.1,
/// RFC 9568 6.1.
pub(super) fn skew(instance: &Instance, priority: u8, interval: Duration) -> Duration {
    let unit = if instance.version == Version::V2 { Duration::from_secs(1) } else { interval };
    let microseconds = unit.as_micros() * (256 - u128::from(priority)) / 256;
    Duration::from_micros(u64::try_from(microseconds).unwrap_or(u64::MAX))
}

/// Master_Down_Interval of the same sections.
pub(super) fn patience(instance: &Instance, priority: u8, interval: Duration) -> Duration {
    interval * u32::from(instance.down_timer_adverts) + skew(instance, priority, interval)
}

/// Whether an advert to this address represents all copies of an instance: that to its first peer.
fn is_first(unicast: &Unicast, destination: IpAddr) -> bool {
    unicast.peers.first().is_some_and(|peer| peer.address == destination)
}

impl World {
    /// A daemon sends an advert.
    pub(in crate::sim) fn judge_advert(
        &mut self,
        id: NodeId,
        link: IfIndex,
        source: IpAddr,
        destination: IpAddr,
        octets: &[u8],
    ) {
        let family = Family::of(&source);
        let (header, payload) = match family {
            Family::V4 => match ip::decode(octets) {
                Ok((header, payload)) => (Some(header), payload),
                Err(_) => return self.violated_by(id, "sends no IP packet"),
            },
            Family::V6 => (None, octets),
        };
        let (ah, payload) = match header.filter(|header| header.protocol == ah::PROTOCOL) {
            None => (None, payload),
            Some(_) => match ah::decode(payload) {
                Some((ah, payload)) => (Some(ah), payload),
                None => return self.violated_by(id, "sends a wrong authentication header"),
            },
        };
        let whole = payload;
        let vrid = payload.get(1).copied().unwrap_or_default();
        let Some(node) = self.node(id) else { return };
        let Some(segment) = node.kernel.segment_of(link).cloned() else { return };
        let wire = (segment, family, vrid);
        let rx = Rx { interface: link, source, destination, hop_limit: 255 };
        let config = self.config_of_advert(node, id, (&wire, &rx), whole);
        let instance = instance_on(node, &config, &wire);
        // For a router that a reload has moved it is not known whether it had a trailer.
        let bare = payload.len().checked_sub(hmac::TRAILER).and_then(|n| payload.get(..n));
        let payload = match instance {
            Some(instance) => without_trailer(instance, payload),
            None if vrrp::decode(payload, family).is_err() => bare.unwrap_or(payload),
            None => payload,
        };
        let Ok(advert) = vrrp::decode(payload, family) else {
            return self.violated_by(id, "sends no advert");
        };
        let farewell = advert.priority == 0;
        let ttl = instance.map(|i| i.unicast().and_then(|unicast| unicast.ttl).unwrap_or(255));
        if header.is_some_and(|h| {
            instance.is_some_and(|i| i.ah_key().is_some() != ah.is_some())
                || h.source != source
                || ttl.is_some_and(|ttl| h.ttl != ttl)
        }) {
            self.violated_by(id, "sends a wrong IP header");
        }
        // The copies for all peers count as one advert.
        let unicast = instance.and_then(Instance::unicast);
        let is_copy = unicast.is_some_and(|u| !is_first(u, destination));
        match (instance, ah) {
            (Some(instance), Some(ah)) => {
                let which = (is_copy, farewell);
                self.judge_ah(id, (&wire, instance), source, (ah, octets), which);
            }
            (None, Some(_)) => self.oracle.loosen_ah(id),
            (_, None) => {}
        }
        *self.oracle.step.copies.entry((wire.clone(), destination)).or_default() += 1;
        if !is_copy {
            self.oracle.step.sent.push((wire.clone(), farewell));
        }
        match instance {
            Some(_) if is_copy => {}
            Some(instance) => self.oracle.count(id, &instance.name, |c| {
                c.adverts_sent += 1;
                c.priority_zero_sent += u64::from(farewell);
            }),
            None => self.oracle.count_anew(id),
        }
        let plain = match (advert.version, instance) {
            (2, _) => true,
            (_, Some(instance)) => instance.v3_checksum_as_v2 && family == Family::V4,
            (_, None) => return,
        };
        let covered = if family == Family::V6 { whole } else { payload };
        if !vrrp::checksum_holds(covered, (!plain).then_some((source, destination))) {
            self.violated_by(id, "sends a wrong checksum");
        }
        if farewell {
            // A router that becomes another one in a reload may continue at once: no interval separates the two.
            let now = self.now();
            if let Some(router) = self.oracle.routers.get_mut(&(id, wire)) {
                router.forgive(now);
            }
            return;
        }
        let Some(instance) = instance else {
            // The daemon cannot know what the kernel has not reported yet.
            if self.node(id).is_some_and(|n| n.events == 0) {
                self.violated_by(id, &format!("sends adverts for the unknown VRID {}", wire.2));
            }
            return;
        };
        let listed = advert.addresses().eq(instance.addresses.iter().map(|a| a.prefix.address));
        let flaw = content(instance, &rx, whole, (None, None)).filter(|flaw| *flaw != Flaw::Owner);
        if !listed || flaw.is_some() {
            self.violated_by(id, &format!("sends wrong adverts of {}", instance.name));
        }
        if advert.interval != instance.advert_int {
            self.violated_by(id, &format!("{} names a wrong interval", instance.name));
        }
        let own = self.own_priority(id, instance);
        // The priority may change in a step after its adverts: a script whose answer is lost has failed.
        let router = self.oracle.routers.get(&(id, wire.clone()));
        let before = router.filter(|r| self.oracle.step.timer && r.is_sending());
        let before = before.and_then(|router| router.priority);
        if own.is_some_and(|now| now != advert.priority && before != Some(advert.priority)) {
            self.violated_by(id, &format!("{} names a wrong priority", instance.name));
        }
        let quiet = self.node(id).is_some_and(|n| n.events == 0);
        let own = self.node(id).is_some_and(|n| {
            let mut own = n.kernel.home_of(&wire.0).chain(n.taken.iter().copied());
            own.any(|prefix| prefix.address == source)
        });
        if quiet && !own && instance.source != Some(source) {
            self.violated_by(id, &format!("{} sends from {source}", instance.name));
        }
        let goes = match instance.unicast() {
            Some(unicast) => unicast.peers.iter().any(|peer| peer.address == destination),
            None => destination == instance.destination,
        };
        if !goes {
            self.violated_by(id, &format!("{} sends adverts to {destination}", instance.name));
        }
        if let Some(hmac) = instance.hmac().filter(|_| !is_copy) {
            let Some((key, sequence)) = sequence(whole) else { return };
            let before = self.oracle.sequences.insert((id, wire.clone(), source), sequence);
            if key != hmac.active || before.is_some_and(|before| before >= sequence) {
                self.violated_by(id, &format!("{} repeats a sequence", instance.name));
            }
        }
        if !is_copy {
            self.judge_period(id, link, &wire, instance);
        }
    }

    /// A daemon sends an advert on a link that cannot send: from the moment in which it is told, only farewells.
    pub(in crate::sim) fn judge_unsent(
        &mut self,
        id: NodeId,
        link: IfIndex,
        source: IpAddr,
        octets: &[u8],
    ) {
        let Some((.., payload)) = super::hear::payload(Family::of(&source), octets) else { return };
        let Some(node) = self.node(id) else { return };
        let dead = node.kernel.link_at(link).is_none_or(|link| !link.up);
        let config = &node.config;
        let excused = node.events > 0
            || !config.interface_delays.is_empty()
            || config.instances.iter().any(|i| i.dont_track_primary);
        if dead && !excused && payload.get(2) != Some(&0) {
            self.violated_by(id, "sends adverts on a link that is down");
        }
    }

    /// An advert that is not a farewell: the first one of a master, or a later one.
    fn judge_period(&mut self, id: NodeId, link: IfIndex, wire: &Wire, instance: &Instance) {
        let (now, interval) = (self.now(), instance.advert_int);
        let router = self.oracle.routers.entry((id, wire.clone())).or_default();
        let mut recent = router.sending.map_or([None; ANSWERS], |sending| sending.recent);
        recent.rotate_left(1);
        recent[ANSWERS - 1] = Some(now);
        let fresh = Sending {
            last: Some(now),
            recent,
            since: now,
            longest: interval,
            excused: false,
            link,
        };
        let Some(before) = router.sending.replace(fresh) else {
            self.judge_takeover(id, wire, instance);
            self.expect_announcements(id, instance);
            return;
        };
        let Some(last) = before.last else {
            // It was late, and the next one keeps the original phase.
            if let Some(sending) = &mut router.sending {
                sending.excused = true;
            }
            return;
        };
        let gap = now.since(last);
        if gap > before.longest {
            let text = format!("{} missed an advert: the last one was at {last}", instance.name);
            self.violated_by(id, &text);
        }
        if gap < interval && !before.excused {
            let text = format!("{} sends too often: the last advert was at {last}", instance.name);
            self.violated_by(id, &text);
        }
    }

    /// After a step of an engine: a router that left MASTER sent a farewell, one that heard a better master yielded,
    /// and one that had to answer did.
    ///
    /// `since`: the start of the job, if it took several slices.
    pub(super) fn judge_step(&mut self, id: NodeId, since: Instant) {
        let now = self.now();
        let step = core::mem::take(&mut self.oracle.step);
        let reloads = self.oracle.old_config(id).is_some();
        let Some(node) = self.node(id) else { return };
        let Some(engine) = &node.engine else { return };
        if engine.failures() > 0 {
            self.violated_by(id, "a step panicked");
            return;
        }
        let config = Arc::clone(&node.config);
        let states: Vec<(Wire, &Instance, State, u8)> = routers_of(node, &config)
            .filter_map(|(wire, i)| {
                Some((wire, i, engine.state(&i.name)?, self.judged_priority(id, i)?))
            })
            .collect();
        let sent = |wire: &Wire, zero: bool| step.sent.iter().any(|(w, z)| w == wire && *z == zero);
        // Whether the last advert of a router is a farewell.
        let farewell =
            |wire: &Wire| step.sent.iter().rev().find(|(w, _)| w == wire).map(|(_, z)| *z);
        let yields = self.fellows(id, &step.yields);
        let mut found = Vec::new();
        let busy = node.events > 0;
        let open = busy || self.oracle.unfinished.contains(&id);
        let up = |sending: &Sending| node.kernel.link_at(sending.link).map(|link| link.up);
        // None for a link that is gone: the master may go on where it was made again.
        let up: BTreeMap<Wire, Option<bool>> = (self.oracle.routers.iter())
            .filter(|((node, _), _)| *node == id)
            .filter_map(|((_, wire), router)| Some((wire.clone(), up(router.sending.as_ref()?))))
            .collect();
        for (wire, instance, ..) in &states {
            let to = |address: IpAddr| step.copies.get(&(wire.clone(), address)).copied();
            let mut peers = instance.unicast().into_iter().flat_map(|unicast| &unicast.peers);
            let first = peers.next().and_then(|first| to(first.address));
            if !peers.all(|peer| to(peer.address) == first) {
                found.push(format!("{} does not send each peer the same", instance.name));
            }
        }
        if step.refused && !step.sent.is_empty() {
            found.push("answers a packet that must be refused".to_owned());
        }
        if step.ran && !busy {
            self.check_scripts(id, &mut found);
        }
        for ((_, wire), router) in
            self.oracle.routers.iter_mut().filter(|((node, _), _)| *node == id)
        {
            let master = states.iter().any(|(w, _, s, _)| w == wire && *s == State::Master);
            if router.sending.is_none() {
                if sent(wire, true) && !sent(wire, false) {
                    found.push(format!("VRID {} says farewell but was no master", wire.2));
                }
                continue;
            }
            if step.yields.contains(wire) && master {
                found.push(format!("VRID {} stays master beside a better one", wire.2));
            }
            if step.last.contains(wire) && !sent(wire, false) {
                found.push(format!("VRID {} does not send one more advert", wire.2));
            }
            if step.answers.as_ref() == Some(wire) && !sent(wire, false) {
                // A router that keeps sending is answered by adverts a tenth of a second apart. A regular advert
                // between reception and answer is an answer too, and may be sent that much earlier.
                let soon = |at: &Option<Instant>, pauses| {
                    at.is_some_and(|at| now.since(at) <= PAUSE * pauses)
                };
                match &mut router.sending {
                    Some(sending) if soon(&sending.last, 1) && soon(&sending.recent[0], 4) => {
                        sending.excused = true;
                        sending.longest = sending.longest.min(PAUSE);
                    }
                    _ => found.push(format!("VRID {} does not answer", wire.2)),
                }
            }
            // A reload that turns it into a different router on the same wire ends one and begins the other.
            if sent(wire, true) && (master && !busy || farewell(wire) == Some(false)) && !reloads {
                found.push(format!("VRID {} says farewell and stays", wire.2));
            }
            match farewell(wire) {
                Some(true) => router.leaving = true,
                Some(false) => router.leaving = false,
                None => {}
            }
            router.leaving |= yields.contains(wire);
            router.unsure |= step.vague;
            // Whether it is master will show when its host has been told everything.
            if open {
                continue;
            }
            let up = up.get(wire).copied().flatten();
            let can_send = up.is_none_or(|up| up);
            let unsure = core::mem::take(&mut router.unsure) || up.is_none();
            let ended = core::mem::take(&mut router.leaving) || !can_send || unsure && !master;
            if !ended && !master {
                found.push(format!("VRID {} leaves without a farewell", wire.2));
            }
            if !can_send && master {
                found.push(format!("VRID {} stays master without a link", wire.2));
            }
            if ended || !master {
                router.sending = None;
            }
        }
        for (wire, instance, state, _) in &states {
            let link = self.node(id).and_then(|node| node.link_named(&instance.interface));
            let sends = self.is_sending(id, instance);
            if *state == State::Master && !sends && !open && link.is_some_and(|link| link.up) {
                found.push(format!("VRID {} is master and sends nothing", wire.2));
            }
        }
        let known = |wire: &Wire| states.iter().any(|(w, ..)| w == wire);
        let linkless = self.follow_without_link(id);
        if !busy {
            let stays = |wire: &Wire| known(wire) || linkless.contains(wire);
            self.oracle.states.retain(|(node, wire), _| *node != id || stays(wire));
            self.oracle.routers.retain(|(node, wire), _| *node != id || known(wire));
        }
        for (wire, instance, state, priority) in states {
            self.follow(id, wire, instance, (state, priority), since);
        }
        for text in found {
            self.violated_by(id, &text);
        }
    }

    /// Notes a change of state or priority of a router.
    fn follow(
        &mut self,
        id: NodeId,
        wire: Wire,
        instance: &Instance,
        (state, priority): (State, u8),
        since: Instant,
    ) {
        let now = self.now();
        let starting = self.is_starting(id);
        if self.oracle.states.get(&(id, wire.clone())).is_none_or(|(before, _)| *before != state) {
            self.oracle.touched(id);
        }
        let leftovers = self.node(id).is_some_and(|node| {
            let mut all = instance.addresses.iter().chain(&instance.excluded);
            all.any(|a| node.leftovers.iter().any(|(_, prefix)| *prefix == a.prefix))
        });
        let key = (id, wire);
        let before = self.oracle.states.get(&key).map(|(state, _)| *state);
        let router = self.oracle.routers.entry(key.clone()).or_default();
        if router.priority.replace(priority).is_some_and(|p| p != priority) {
            // The master-down time changes with it; the next received advert restarts the timer.
            router.due = None;
        }
        if before == Some(state) {
            return;
        }
        router.streak = None;
        let name = &instance.name;
        self.oracle.owed.left(id, name);
        self.oracle.count(id, name, |c| {
            c.became_master += u64::from(state == State::Master);
            c.released_master += u64::from(before == Some(State::Master));
        });
        let Some(router) = self.oracle.routers.get_mut(&key) else { return };
        self.oracle.states.insert(key, (state, now));
        router.preempt_at = None;
        router.vague = false;
        if before != Some(State::Master) || state != State::Backup {
            router.learned = None;
        }
        router.due = None;
        if matches!(state, State::Master | State::Fault)
            && let Some(node) = self.nodes.get_mut(id.0)
        {
            let ours = |prefix| {
                instance.addresses.iter().chain(&instance.excluded).any(|a| a.prefix == prefix)
            };
            node.leftovers.retain(|(_, prefix)| !ours(*prefix));
        }
        if state == State::Backup && !starting {
            let interval = router.learned.unwrap_or(instance.advert_int);
            let (wait, exact) = if leftovers {
                (interval + skew(instance, priority, interval), false)
            } else {
                (patience(instance, priority, interval), true)
            };
            router.wait_between(since + wait, now + wait, exact);
        }
    }

    /// The wires of the routers on these and of the other members of their groups.
    fn fellows(&self, id: NodeId, wires: &BTreeSet<Wire>) -> BTreeSet<Wire> {
        let Some(node) = self.node(id) else { return BTreeSet::new() };
        let instances = wires.iter().filter_map(|wire| instance_on(node, &node.config, wire));
        let groups: Vec<_> = instances.map(|i| self.group_of(id, &i.name)).collect();
        let is_fellow = |i: &Instance| groups.iter().any(|group| group.contains(&i.name));
        let members = routers_of(node, &node.config).filter(|(_, i)| is_fellow(i));
        members.map(|(wire, _)| wire).chain(wires.iter().cloned()).collect()
    }
}
