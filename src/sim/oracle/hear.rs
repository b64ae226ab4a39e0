//! Received adverts: which must be refused and why, and the effects of accepted ones.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::wire::{Due, patience, skew};
use super::{Wire, instance_on};
use crate::base::{Family, Instant};
use crate::model::Instance;
use crate::model::extras::Unicast;
use crate::model::vrrp::{Authentication, Preempt, Priority, Version};
use crate::sim::World;
use crate::sim::world::NodeId;
use crate::status::vrrp::{Counters, State};
use crate::vrrp::Rx;
use crate::vrrp::auth::SENDERS;
use crate::wire::ah::{self, Ah};
use crate::wire::{hmac, ip, vrrp};

/// After this many consecutive adverts that are valid except for the number of addresses, their sender counts as a
/// better router.
const STREAK: u32 = 10;

/// Why a packet must be refused (RFC 9568 7.1, RFC 3768 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Its destination is not that of adverts.
    Destination,
    /// Its TTL is not 255, or not allowed for its unicast peer.
    Ttl,
    /// Unicast from a router that is not a peer, if that is checked.
    NotPeer,
    Version,
    /// It is not an advertisement.
    Kind,
    Length,
    Checksum,
    /// The authentication type does not exist.
    AuthType,
    /// The authentication type differs from ours.
    AuthMismatch,
    Password,
    /// A required authentication trailer is missing.
    NoTrailer,
    /// The trailer has an unknown form.
    Malformed,
    /// Its time stamp is too far in the past or future.
    Stale,
    UnknownKey,
    BadHmac,
    Replay,
    /// The interval differs from ours, in version 2.
    Interval,
    /// We own the addresses and are configured to ignore others.
    Owner,
    /// A different number of addresses.
    Count,
}

/// The part of a packet after the IP header, if it is VRRP, and its authentication header.
pub(super) fn payload(source: Family, octets: &[u8]) -> Option<(u8, Option<Ah>, &[u8])> {
    match source {
        Family::V6 => Some((0, None, octets)),
        Family::V4 => {
            let (header, payload) =
                ip::decode(octets).ok().filter(|(header, _)| !header.fragment)?;
            let (ah, payload) = match header.protocol {
                ip::VRRP => (None, payload),
                ah::PROTOCOL => {
                    let (ah, payload) = ah::decode(payload)?;
                    (Some(ah), payload)
                }
                _ => return None,
            };
            Some((header.ttl, ah, payload))
        }
    }
}

/// What is wrong with a packet for the virtual router of an instance; none if it must be accepted. `own`: the source of
/// its adverts, to which those of its unicast peers go. `last`: the last sequence of the sender.
fn flaw(
    instance: &Instance,
    own: Option<IpAddr>,
    rx: &Rx,
    octets: &[u8],
    last: Option<Last>,
) -> Option<Flaw> {
    let family = Family::of(&rx.source);
    let Some((ttl, ah, payload)) = payload(family, octets) else { return Some(Flaw::Length) };
    let ttl = if family == Family::V4 { ttl } else { rx.hop_limit };
    let unicast = instance.unicast();
    let destination = if unicast.is_some() { own } else { Some(instance.destination) };
    if Some(rx.destination) != destination {
        return Some(Flaw::Destination);
    }
    if ah.is_some() != instance.ah_key().is_some() {
        return Some(Flaw::AuthMismatch);
    }
    let header = ah.map(|ah| (ah, octets));
    let last_ah = last.map(|last| last.ah);
    let forged = header.and_then(|header| super::ah::flaw(instance, rx.source, header, last_ah));
    match unicast {
        None if ttl != 255 => return Some(Flaw::Ttl),
        Some(unicast) if unicast.check_source => {
            match unicast.peers.iter().find(|peer| peer.address == rx.source) {
                None => return Some(Flaw::NotPeer),
                Some(peer) if ttl < peer.min_ttl || ttl > peer.max_ttl => return Some(Flaw::Ttl),
                Some(_) => {}
            }
        }
        _ => {}
    }
    content(instance, rx, payload, (last, forged))
}

/// The same for the part after the IP header, regardless of its origin. `forged`: the flaw of its authentication
/// header.
pub(super) fn content(
    instance: &Instance,
    rx: &Rx,
    payload: &[u8],
    (last, forged): (Option<Last>, Option<Flaw>),
) -> Option<Flaw> {
    let family = Family::of(&rx.source);
    let &[kind, _, _, count, third, fourth, _, _, ref rest @ ..] = payload else {
        return Some(Flaw::Length);
    };
    if kind >> 4 != instance.version.number() {
        return Some(Flaw::Version);
    }
    if kind & 0x0f != 1 {
        return Some(Flaw::Kind);
    }
    let size = if family == Family::V4 { 4 } else { 16 };
    let second = instance.version == Version::V2 && family == Family::V4;
    let list = usize::from(count) * size;
    let length = list + if second { 8 } else { 0 };
    let trailer = instance.hmac().filter(|_| rest.len() == length + hmac::TRAILER);
    if rest.len() != length && trailer.is_none() {
        return Some(Flaw::Length);
    }
    let Some((whole, rest)) = payload.get(..8 + length).zip(rest.get(..length)) else {
        return Some(Flaw::Length);
    };
    if instance.hmac().is_some()
        && let Some(flaw) = trailer_flaw(instance, rx, payload, trailer.is_some(), last)
    {
        return Some(flaw);
    }
    // Over IPv6 the kernel computes the checksum and does not know the trailer.
    let payload = if family == Family::V4 { whole } else { payload };
    let covered = vrrp::checksum_holds(payload, Some((rx.source, rx.destination)));
    let bare = vrrp::checksum_holds(payload, None);
    let holds = match (instance.version, family) {
        (Version::V2, Family::V4) => bare,
        (Version::V3, Family::V4) => covered || instance.v3_checksum_as_v2 && bare,
        (_, Family::V6) => covered,
    };
    if !holds {
        return Some(Flaw::Checksum);
    }
    if second {
        if third > 2 {
            return Some(Flaw::AuthType);
        }
        let right = match &instance.authentication {
            Authentication::None if instance.ah_key().is_some() => (third == 2).then_some(true),
            Authentication::None => (third == 0).then_some(true),
            Authentication::Pass(word) => {
                (third == 1).then(|| rest.ends_with(word.reveal().as_slice()))
            }
        };
        match right {
            None => return Some(Flaw::AuthMismatch),
            Some(false) => return Some(Flaw::Password),
            Some(true) => {}
        }
        if forged.is_some() {
            return forged;
        }
        if u64::from(fourth) != instance.advert_int.as_secs() {
            return Some(Flaw::Interval);
        }
    }
    if instance.owner_ignore_adverts && instance.priority == Priority::OWNER {
        return Some(Flaw::Owner);
    }
    (usize::from(count) != instance.addresses.len()).then_some(Flaw::Count)
}

/// What a receiver knows about the sequences of a sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    /// The last accepted one.
    sequence: Option<u64>,
    /// The seconds of its clock.
    seconds: u64,
    /// The last number of an authentication header.
    ah: super::ah::Last,
}

/// A packet without the trailer that those for an instance have.
pub(super) fn without_trailer<'a>(instance: &Instance, payload: &'a [u8]) -> &'a [u8] {
    let length = payload.len().saturating_sub(hmac::TRAILER);
    let advert = instance.hmac().and_then(|_| payload.get(..length));
    advert.filter(|advert| vrrp::decode(advert, instance.family).is_ok()).unwrap_or(payload)
}

/// The difference of two times given by their low 32 bits.
fn apart(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b) & u64::from(u32::MAX);
    difference.min((1 << 32) - difference)
}

/// What is wrong with the authentication trailer of a packet.
fn trailer_flaw(
    instance: &Instance,
    rx: &Rx,
    payload: &[u8],
    there: bool,
    last: Option<Last>,
) -> Option<Flaw> {
    let hmac = instance.hmac()?;
    let Some((advert, trailer)) = hmac::Trailer::split(payload).filter(|_| there) else {
        return Some(Flaw::NoTrailer);
    };
    let is_peer = |u: &Unicast| u.peers.iter().any(|peer| peer.address == rx.source);
    // Sequences of senders that are not peers are not remembered.
    if last.is_some() && !instance.unicast().is_none_or(is_peer) {
        return Some(Flaw::NotPeer);
    }
    if !trailer.is_known() {
        return Some(Flaw::Malformed);
    }
    let window = hmac.window.as_secs();
    let sequence = trailer.sequence();
    if last.is_some_and(|last| apart(sequence >> 32, last.seconds) > window) {
        return Some(Flaw::Stale);
    }
    let Some(key) = hmac.keys.iter().find(|key| key.id == trailer.key()) else {
        return Some(Flaw::UnknownKey);
    };
    if !trailer.verify(key.key.reveal(), rx.source, advert) {
        return Some(Flaw::BadHmac);
    }
    let recent =
        |last: Last| last.sequence.filter(|known| apart(known >> 32, last.seconds) <= window);
    (last.and_then(recent).is_some_and(|known| sequence <= known)).then_some(Flaw::Replay)
}

/// The sequence of a packet's trailer.
pub(super) fn sequence(payload: &[u8]) -> Option<(u8, u64)> {
    hmac::Trailer::split(payload).map(|(_, trailer)| (trailer.key(), trailer.sequence()))
}

/// Counts a packet that must be refused.
fn count_flaw(c: &mut Counters, flaw: Flaw) {
    *match flaw {
        Flaw::Destination => &mut c.bad_destination,
        Flaw::Ttl => &mut c.bad_ttl,
        Flaw::NotPeer => &mut c.not_a_peer,
        Flaw::Version => &mut c.bad_version,
        Flaw::Kind => &mut c.bad_type,
        Flaw::Length => &mut c.bad_length,
        Flaw::Checksum => &mut c.bad_checksum,
        Flaw::AuthType => &mut c.bad_auth_type,
        Flaw::AuthMismatch => &mut c.auth_mismatch,
        Flaw::Password => &mut c.auth_failure,
        Flaw::NoTrailer => &mut c.auth_missing,
        Flaw::Malformed => &mut c.auth_malformed,
        Flaw::Stale => &mut c.auth_stale,
        Flaw::UnknownKey => &mut c.auth_unknown_key,
        Flaw::BadHmac => &mut c.auth_invalid_hmac,
        Flaw::Replay => &mut c.auth_replay,
        Flaw::Interval => &mut c.bad_interval,
        Flaw::Owner => &mut c.ignored_as_owner,
        Flaw::Count => &mut c.bad_address_count,
    } += 1;
}

impl World {
    /// A packet is about to be delivered to a daemon.
    pub(in crate::sim) fn judge_delivery(&mut self, id: NodeId, rx: &Rx, octets: &[u8]) {
        let family = Family::of(&rx.source);
        let Some((_, ah, payload)) = payload(family, octets) else {
            return self.oracle.count_host(id, |host| host.malformed += 1);
        };
        let Some(node) = self.node(id) else { return };
        if node.engine.is_none() {
            return;
        }
        let busy = node.events > 0;
        let config = Arc::clone(&node.config);
        let segment = node.kernel.segment_of(rx.interface).cloned();
        let wire = segment.map(|s| (s, family, payload.get(1).copied().unwrap_or_default()));
        let instance = wire.as_ref().and_then(|wire| instance_on(node, &config, wire));
        if busy {
            // Also from a deleted link: a daemon that was stalled does not know about the deletion.
            self.oracle.count_anew(id);
        } else if instance.is_none() {
            return self.oracle.count_host(id, |host| host.unknown += 1);
        }
        let (Some(instance), Some(wire)) = (instance, wire) else { return };
        let Some(state) = self.judged_state(id, &wire, instance) else { return };
        let own = self.judged_source(id, instance);
        let place = (id, wire.clone());
        let heard = self.oracle.heard.get(&place).into_iter().flatten();
        let known = heard.clone().find(|(sender, _)| *sender == rx.source).map(|(_, last)| *last);
        // Counted from when it was reported, which is when the process started.
        let seconds = crate::sim::time_of_day(self.now()).secs;
        let last = Last { sequence: known, seconds, ah: self.last_ah(id, &wire) };
        let flaw = flaw(instance, own, rx, octets, Some(last));
        let hears = match state {
            State::Backup | State::Master => true,
            State::Init => self.node(id).is_some_and(|node| !node.leftovers.is_empty()),
            State::Fault => false,
        };
        if hears
            && flaw.is_none_or(|flaw| matches!(flaw, Flaw::Count | Flaw::Owner))
            && let Some(ah) = ah
        {
            // Leftovers of an earlier process determine whether it accepts the packet, so both are permitted.
            match state {
                State::Init => self.oracle.loosen_ah(id),
                _ => self.took_ah(id, &wire, ah.sequence),
            }
        }
        if hears
            && flaw.is_none_or(|flaw| flaw == Flaw::Count)
            && instance.hmac().is_some()
            && let Some((_, sequence)) = sequence(payload)
        {
            let most = instance.unicast().map_or(SENDERS, |unicast| unicast.peers.len());
            let heard = self.oracle.heard.entry(place).or_default();
            heard.retain(|(sender, _)| *sender != rx.source);
            if heard.len() >= most && !heard.is_empty() {
                heard.remove(0);
            }
            heard.push((rx.source, sequence));
        }
        match state {
            // Addresses that existed before may make it wait as a backup.
            State::Init => self.oracle.count_anew(id),
            State::Fault => {}
            State::Backup | State::Master => {
                self.oracle.count(id, &instance.name, |c| match flaw {
                    Some(flaw) => count_flaw(c, flaw),
                    None => c.adverts_received += 1,
                });
            }
        }
        self.oracle.step.refused = !busy && flaw.is_some_and(|flaw| flaw != Flaw::Count);
        let payload = without_trailer(instance, payload);
        let Ok(advert) = vrrp::decode(payload, family) else { return };
        let taken = flaw.is_none() && matches!(state, State::Backup | State::Master);
        if taken {
            let ours: BTreeSet<_> = instance.addresses.iter().map(|a| a.prefix.address).collect();
            let same = advert.addresses().collect::<BTreeSet<_>>() == ours;
            if !same && instance.skip_check_adv_addr {
                // Compared only when the sender changes.
                self.oracle.count_anew(id);
            }
            self.oracle.count(id, &instance.name, |c| {
                c.priority_zero_received += u64::from(advert.priority == 0);
                c.address_list_mismatch += u64::from(!same);
            });
        }
        if self.oracle.routers.contains_key(&(id, wire.clone())) {
            self.follow_advert(id, rx, &wire, instance, (state, flaw), &advert);
        }
    }

    /// The effect of a packet for a router that the oracle follows.
    fn follow_advert(
        &mut self,
        id: NodeId,
        rx: &Rx,
        wire: &Wire,
        instance: &Instance,
        (state, flaw): (State, Option<Flaw>),
        advert: &vrrp::Advert<'_>,
    ) {
        let now = self.now();
        // A process that continues as master does so at once.
        let silent = self.is_starting(id) && state != State::Master;
        let Some(node) = self.node(id) else { return };
        let Some(ours) = self.judged_priority(id, instance) else { return };
        let ranks = self.judged_source(id, instance).map(|source| (ours, source));
        let (has_leftovers, busy) = (!node.leftovers.is_empty(), node.events > 0);
        let worse = advert.priority != 0 && Some((advert.priority, rx.source)) < ranks;
        if state == State::Master && flaw.is_none() && worse {
            self.went_past_ah(id, wire);
        }
        let splits = state == State::Backup && self.has_masters_beside(id, instance);
        let Some(router) = self.oracle.routers.get_mut(&(id, wire.clone())) else { return };
        if busy {
            // The daemon's knowledge of its links is outdated.
            router.due = None;
            router.streak = None;
            if let Some(sending) = &mut router.sending {
                sending.excused = true;
            }
            (self.oracle.step.better, self.oracle.step.vague) = (true, true);
            self.oracle.muddle(id, now);
            self.oracle.owed.heard_lower(id, &instance.name, None);
            return;
        }
        if silent {
            router.vague |= instance.preempt != Preempt::After(Duration::ZERO);
            router.due = None;
            return;
        }
        let (heard, sender) = (advert.priority, rx.source);
        match flaw {
            Some(Flaw::Count) => return self.disagrees(id, wire, instance, state, (heard, rx)),
            Some(_) => return,
            None => {}
        }
        let learned = if instance.version == Version::V3 && !advert.interval.is_zero() {
            advert.interval
        } else {
            instance.advert_int
        };
        if heard != 0 && Some((heard, sender)) > ranks {
            self.oracle.better.insert((id, wire.clone()));
        }
        match state {
            State::Backup => {
                let interval = router.learned.unwrap_or(instance.advert_int);
                if let Preempt::After(delay) = instance.preempt
                    && !delay.is_zero()
                    && heard != 0
                {
                    if heard >= ours {
                        router.preempt_at = None;
                    } else {
                        router.preempt_at = router.preempt_at.or(Some(now + delay));
                    }
                }
                let tolerant = is_tolerant(instance, router.preempt_at, now);
                if heard == 0 {
                    // Never later than before, if that is known.
                    let soon = now + skew(instance, ours, interval);
                    let due = router.due.unwrap_or(Due { from: now, at: soon, exact: true });
                    let (from, at) = (due.from.min(soon), due.at.min(soon));
                    router.due = Some(Due { from, at, ..due });
                } else if tolerant || heard >= ours {
                    router.learned = Some(learned);
                    router.streak = None;
                    router.wait(now + patience(instance, ours, learned), true);
                    self.oracle.step.better = true;
                    // A member that joined a group of masters has a master of its own: the whole group follows.
                    if splits {
                        self.oracle.step.yields.insert(wire.clone());
                    }
                    if has_leftovers && let Some(node) = self.nodes.get_mut(id.0) {
                        let ours: BTreeSet<_> = instance
                            .addresses
                            .iter()
                            .chain(&instance.excluded)
                            .map(|a| a.prefix)
                            .collect();
                        node.leftovers.retain(|(_, prefix)| !ours.contains(prefix));
                    }
                }
            }
            State::Master => {
                if heard == 0 {
                    if let Some(sending) = &mut router.sending {
                        sending.excused = true;
                    }
                    self.oracle.step.answers = Some(wire.clone());
                } else if Some((heard, sender)) > ranks {
                    router.learned = Some(learned);
                    if let Some(sending) = &mut router.sending {
                        sending.excused |= instance.higher_prio_send_advert;
                    }
                    self.oracle.step.better = true;
                    self.oracle.step.yields.insert(wire.clone());
                    if instance.higher_prio_send_advert {
                        self.oracle.step.last.insert(wire.clone());
                    }
                } else if Some((heard, sender)) < ranks {
                    if let Some(sending) = &mut router.sending {
                        sending.excused = true;
                    }
                    self.expect_corrections(id, instance);
                    self.oracle.owed.heard_lower(id, &instance.name, Some(now));
                    if !instance.lower_prio_no_advert {
                        self.oracle.step.answers = Some(wire.clone());
                    }
                }
            }
            State::Init | State::Fault => {}
        }
    }

    /// Whether other members of the group of an instance are masters.
    fn has_masters_beside(&self, id: NodeId, instance: &Instance) -> bool {
        let Some(node) = self.node(id) else { return false };
        let group = self.group_of(id, &instance.name);
        let mut fellows = node.config.instances.iter().filter(|i| group.contains(&i.name));
        group.len() > 1 && fellows.any(|fellow| self.is_sending(id, fellow))
    }

    /// An advert that is valid except for the number of addresses: a backup does not consider its sender dead, and a
    /// master yields to a better one that keeps sending them.
    fn disagrees(
        &mut self,
        id: NodeId,
        wire: &Wire,
        instance: &Instance,
        state: State,
        (heard, rx): (u8, &Rx),
    ) {
        let (now, interval) = (self.now(), instance.advert_int);
        let Some(ours) = self.judged_priority(id, instance) else { return };
        let ranks = self.judged_source(id, instance).map(|source| (ours, source));
        let Some(router) = self.oracle.routers.get_mut(&(id, wire.clone())) else { return };
        let count = match router.streak {
            Some((who, last, _)) if who == rx.source && now.since(last) < interval / 2 => return,
            Some((who, last, count)) if who == rx.source && now.since(last) < interval * 2 => {
                count + 1
            }
            _ => 1,
        };
        router.streak = Some((rx.source, now, count));
        match state {
            State::Backup if heard >= ours || is_tolerant(instance, router.preempt_at, now) => {
                let learned = router.learned.unwrap_or(interval);
                router.wait(now + patience(instance, ours, learned), true);
            }
            State::Master if count >= STREAK && heard != 0 && Some((heard, rx.source)) > ranks => {
                if let Some(sending) = &mut router.sending {
                    sending.excused |= instance.higher_prio_send_advert;
                }
                self.oracle.step.better = true;
                self.oracle.step.yields.insert(wire.clone());
                if instance.higher_prio_send_advert {
                    self.oracle.step.last.insert(wire.clone());
                }
            }
            _ => {}
        }
    }
}

/// Whether a backup follows a master of lower priority.
fn is_tolerant(instance: &Instance, preempt_at: Option<Instant>, now: Instant) -> bool {
    match instance.preempt {
        Preempt::Never => true,
        Preempt::After(_) => preempt_at.is_some_and(|at| now < at),
    }
}
