//! Adverts received: whose they are, whether they are valid, and their effect. Sending is left to `send`.

use core::net::IpAddr;

use super::accept::{self, Heard, Judge, Packet, Proof, Refusal};
use super::event::{InstanceId, Rx};
use super::fsm::{self, Input, Rank, Step};
use super::history::Why;
use super::instance::{Disagreement, Instance, Machine, peer, say};
use super::limit::Reason;
use super::{Action, Engine, Moment};
use crate::base::{Family, IfIndex, Instant};
use crate::model::extras::Unicast;
use crate::model::vrrp::Vrid;
use crate::status::PEER;
use crate::status::peer::Checksum;
use crate::status::vrrp::State;

/// Number of consecutive adverts with a different number of addresses after which their sender counts as a real master
/// with a different configuration, not as a source of bad packets.
const DISAGREEMENTS: u32 = 10;

impl Engine {
    /// A packet came in.
    pub(super) fn heard(&mut self, moment: &mut Moment<'_>, rx: &Rx, packet: &[u8]) {
        let Ok(packet) = accept::unwrap(rx, packet) else {
            self.malformed += 1;
            return;
        };
        let vrid = accept::vrid(packet.payload).and_then(Vrid::new);
        let id = vrid.and_then(|vrid| self.addressee(rx.interface, vrid, &packet));
        let Some(id) = id else {
            self.unknown_vrid += 1;
            if self.config.log_unknown_vrids && self.admits_unknown_vrid(moment.now) {
                let vrid = accept::vrid(packet.payload).unwrap_or_default();
                let name = self.links.get(&rx.interface).map_or("?", |l| l.name.as_str());
                tracing::info!(target: PEER, "Unknown VRID({vrid}) received on interface({name}). ignoring...");
            }
            return;
        };
        if !self.running() {
            return;
        }
        self.leaves_as_stalled(moment, id);
        let time = self.time_of_day(moment.now);
        let Some(instance) = self.instance_mut(id) else { return };
        // What they hear is only noted.
        let deaf =
            matches!(instance.machine(), Machine::Init | Machine::Fault) && !instance.retained;
        if deaf && instance.quarantined {
            return;
        }
        let Some((.., destination)) = instance.listening else { return };
        let judge = Judge {
            ours: &instance.config,
            addresses: &instance.advertised,
            destination,
            sequences: &instance.sequences,
            now: time,
        };
        let result = accept::check(&judge, &packet);
        match &result {
            Ok(heard) => instance.note_heard(moment.now, heard),
            Err(refusal) => {
                let version = accept::version(packet.payload);
                instance.note_refused(moment.now, packet.source, version, refusal);
            }
        }
        match result {
            _ if deaf => {}
            Ok(heard) => self.valid(moment, id, heard),
            Err(refusal) => self.refused(moment, id, packet.source, &refusal),
        }
    }

    /// Which instance a packet is for. A packet with a destination that no instance listens to goes to an instance of
    /// its virtual router id, which refuses it with that reason.
    fn addressee(&self, link: IfIndex, vrid: Vrid, packet: &Packet<'_>) -> Option<InstanceId> {
        let of = |id: &InstanceId| self.instance(*id);
        let mut first = None;
        let mut of_peer = None;
        for id in self.instances.addressees(&(link, vrid, packet.destination)) {
            // Unicast instances with different peers may share an address: take the one whose master this is, else the
            // one whose peer it is.
            let Some(instance) = of(&id) else { continue };
            if instance.master.is_some_and(|(source, _)| source == packet.source) {
                return Some(id);
            }
            let is_peer = |u: &Unicast| u.peers.iter().any(|peer| peer.address == packet.source);
            if of_peer.is_none() && instance.config.unicast().is_some_and(is_peer) {
                of_peer = Some(id);
            }
            first = first.or(Some(id));
        }
        let neighbour = || self.instances.neighbour(link, vrid, Family::of(&packet.destination));
        of_peer.or(first).or_else(neighbour)
    }

    fn refused(
        &mut self,
        moment: &mut Moment<'_>,
        id: InstanceId,
        source: IpAddr,
        refusal: &Refusal,
    ) {
        let Some(instance) = self.instance_mut(id) else { return };
        refusal.count(&mut instance.counters);
        if self.admits(id, Reason::Refused(refusal.kind()), moment.now)
            && let Some(instance) = self.instance(id)
        {
            peer!(warn, *instance, "dropped an advert from {source}: {refusal}");
        }
        match refusal {
            Refusal::AddressCount { heard, .. } => {
                self.note_proof(moment, id, *heard);
                self.disagrees(moment, id, *heard);
            }
            Refusal::Owner(Proof::Ah(number)) => self.note_ah(moment, id, *number),
            _ => {}
        }
    }

    /// An advert that is valid except for the number of addresses. It has no part in the election, but while addresses
    /// are being added on one node after the other its sender is the living master: a backup must not consider it
    /// silent, and a master must yield to a better one eventually.
    fn disagrees(&mut self, moment: &mut Moment<'_>, id: InstanceId, heard: Heard) {
        let Some(instance) = self.instance_mut(id) else { return };
        let interval = instance.config.advert_int;
        let streak = match instance.disagreement {
            Some(d) if d.source == heard.source => {
                let gap = moment.now.since(d.last);
                if gap < interval / 2 {
                    return;
                }
                if gap < interval * 2 { d.streak + 1 } else { 1 }
            }
            _ => 1,
        };
        instance.disagreement =
            Some(Disagreement { source: heard.source, last: moment.now, streak });
        let machine = instance.machine();
        let follows =
            heard.priority >= instance.effective_priority || instance.tolerates_lower(moment.now);
        match machine {
            Machine::Backup { .. } if follows => {
                // This member of a group is not willing to take over: there is a master.
                instance.willing = false;
                let master_down = moment.now + instance.master_down();
                self.rearm(id, master_down);
                self.recount(id);
            }
            Machine::Master { .. } if streak >= DISAGREEMENTS => self.give_up(moment, id, heard),
            _ => {}
        }
    }

    /// Two masters that ignore each other's adverts: the lower one yields, so that not both answer.
    fn give_up(&mut self, moment: &mut Moment<'_>, id: InstanceId, heard: Heard) {
        if self.judge(id, heard, false) != Some(Step::Enter(State::Backup)) {
            return;
        }
        if let Some(instance) = self.instance(id) {
            say!(
                warn,
                *instance,
                "{} keeps advertising another number of addresses with priority {}: the \
                 configurations differ. Leaving the addresses to it",
                heard.source,
                heard.priority
            );
        }
        self.send_last(moment, id);
        let why = Why::Disagreement(heard.source, heard.priority);
        self.yield_to_better(moment, id, why);
    }

    /// A master that yields to a better one sends one more advert first, if configured.
    fn send_last(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance(id) else { return };
        if instance.config.higher_prio_send_advert {
            self.send_advert(moment, id, instance.effective_priority);
        }
    }

    /// What the transition table says about an advert.
    fn judge(&self, id: InstanceId, heard: Heard, tolerant: bool) -> Option<Step> {
        let instance = self.instance(id)?;
        let ours = (instance.effective_priority, instance.source);
        let rank = Rank::of((heard.priority, heard.source), ours);
        Some(fsm::step(instance.state(), Input::Advert { rank, tolerant }))
    }

    fn valid(&mut self, moment: &mut Moment<'_>, id: InstanceId, heard: Heard) {
        self.note_proof(moment, id, heard);
        self.note_checksum(moment.now, id, heard);
        let Some(instance) = self.instance_mut(id) else { return };
        instance.counters.adverts_received += 1;
        if heard.priority == 0 {
            instance.counters.priority_zero_received += 1;
        }
        let known = instance.master.is_some_and(|(source, _)| source == heard.source);
        let compare = !(known && instance.config.skip_check_adv_addr);
        if compare && !heard.same_addresses {
            instance.counters.address_list_mismatch += 1;
            if self.admits(id, Reason::OtherAddresses, moment.now)
                && let Some(instance) = self.instance(id)
            {
                peer!(
                    warn,
                    *instance,
                    "the addresses in the adverts of {} differ from ours",
                    heard.source
                );
            }
        }
        let Some(instance) = self.instance_mut(id) else { return };
        if instance.retained && heard.priority != 0 {
            instance.retained = false;
            say!(info, *instance, "{} is master: removing VIPs.", heard.source);
            self.settle_instance(moment, id);
        }
        let Some(state) = self.instance(id).map(Instance::state) else { return };
        let tolerant = state == State::Backup && {
            self.consider_preemption(moment, id, heard.priority);
            self.instance(id).is_some_and(|i| i.tolerates_lower(moment.now))
        };
        let Some(step) = self.judge(id, heard, tolerant) else { return };
        let Some(instance) = self.instance_mut(id) else { return };
        match step {
            Step::TakeOverSoon => {
                // A takeover that was due sooner stays so: a flood of farewells must not postpone it.
                let soon = moment.now + instance.skew();
                if let Machine::Backup { master_down } = instance.machine() {
                    self.rearm(id, master_down.min(soon));
                }
                if self.admits(id, Reason::Farewell, moment.now)
                    && let Some(instance) = self.instance(id)
                {
                    peer!(debug, *instance, "Backup received priority 0 advertisement");
                }
            }
            Step::Follow => self.follow_master(moment, id, heard),
            Step::Discard => {
                if self.admits(id, Reason::Discarded, moment.now)
                    && let Some(instance) = self.instance(id)
                {
                    peer!(
                        info,
                        *instance,
                        "received lower priority ({}) advert from {} - discarding",
                        heard.priority,
                        heard.source
                    );
                }
            }
            Step::Assert => {
                if self.admits(id, Reason::Farewell, moment.now)
                    && let Some(instance) = self.instance(id)
                {
                    peer!(debug, *instance, "Master received priority 0 message");
                }
                self.correct(moment, id, false);
            }
            Step::Echo => {
                if self.admits(id, Reason::Echo, moment.now)
                    && let Some(instance) = self.instance(id)
                {
                    peer!(
                        warn,
                        *instance,
                        "WARNING - equal priority advert received from remote host with our IP \
                         address."
                    );
                }
            }
            Step::Enter(_) => self.give_way(moment, id, heard),
            Step::Reassert => self.reassert(moment, id, heard),
            Step::Stay | Step::Wait | Step::Advertise => {}
        }
    }

    fn note_ah(&mut self, moment: &mut Moment<'_>, id: InstanceId, number: u32) {
        let (now, time) = (moment.now, self.time_of_day(moment.now));
        if self.instance_mut(id).is_some_and(|i| i.sequences.note_ah(number, now, time)) {
            moment.out.push(Action::Report);
        }
    }

    /// Remembers the sequence number, so that a replay is detected.
    fn note_proof(&mut self, moment: &mut Moment<'_>, id: InstanceId, heard: Heard) {
        let now = moment.now;
        let Some(instance) = self.instance_mut(id) else { return };
        match heard.proof {
            Proof::None => {}
            Proof::Ah(number) => self.note_ah(moment, id, number),
            Proof::Trailer { sequence, ahead } => {
                let peers = instance.config.unicast().map(|unicast| unicast.peers.len());
                if instance.sequences.note_stamp((heard.source, sequence), peers, now) {
                    // The next process would accept anything from a sender that was not reported.
                    moment.out.push(Action::Report);
                }
                let Some(instance) = self.instance(id) else { return };
                let window = instance.config.hmac().map_or(u64::MAX, |hmac| hmac.window.as_secs());
                if u64::from(ahead.unsigned_abs()) * 2 > window
                    && self.admits(id, Reason::Clock, now)
                    && let Some(instance) = self.instance(id)
                {
                    peer!(
                        warn,
                        *instance,
                        "the clock of {} differs from ours by {ahead} sec; adverts are refused from \
                         {window} sec on",
                        heard.source
                    );
                }
            }
        }
    }

    /// A peer uses one of two forms of the checksum, and is sent the same form.
    fn note_checksum(&mut self, now: Instant, id: InstanceId, heard: Heard) {
        let Some(instance) = self.instance_mut(id) else { return };
        let Some(unicast) = instance.config.unicast() else { return };
        let position = unicast.peers.iter().position(|peer| peer.address == heard.source);
        let known = position.and_then(|position| instance.old_checksums.get_mut(position));
        let old = heard.checksum == Checksum::OldUnicast;
        let Some(known) = known.filter(|known| **known != old) else { return };
        *known = old;
        let form = if old { "old" } else { "present" };
        if self.admits(id, Reason::Checksum, now)
            && let Some(instance) = self.instance(id)
        {
            peer!(
                warn,
                *instance,
                "{} uses the {form} form of the unicast version 3 checksum; adverts to it use the same form",
                heard.source
            );
        }
    }

    /// The sender is the master of this backup.
    fn follow_master(&mut self, moment: &mut Moment<'_>, id: InstanceId, heard: Heard) {
        let old = self.instance(id).and_then(|i| i.master).map(|(source, _)| source);
        if old != Some(heard.source)
            && self.admits(id, Reason::NewMaster, moment.now)
            && let Some(instance) = self.instance(id)
        {
            match old {
                Some(old) => {
                    peer!(debug, *instance, "master changed from {old} to {}", heard.source);
                }
                None => peer!(debug, *instance, "master set to {}", heard.source),
            }
        }
        let Some(instance) = self.instance_mut(id) else { return };
        instance.master = Some((heard.source, heard.priority));
        instance.willing = false;
        instance.disagreement = None;
        instance.learn_interval(heard.interval);
        let master_down = moment.now + instance.master_down();
        self.rearm(id, master_down);
        self.recount(id);
        // A member that joined a group of masters found a better router: the whole group follows.
        if self.any_master(id) {
            self.yield_to_better(moment, id, Why::Advert(heard.source, heard.priority));
        }
    }

    /// A master heard a better one.
    fn give_way(&mut self, moment: &mut Moment<'_>, id: InstanceId, heard: Heard) {
        let Some(instance) = self.instance_mut(id) else { return };
        let ours = instance.effective_priority;
        if heard.priority > ours {
            say!(
                info,
                *instance,
                "Master received advert from {} with higher priority {}, ours {ours}",
                heard.source,
                heard.priority
            );
        } else {
            say!(
                info,
                *instance,
                "Master received advert from {} with same priority {ours} but higher IP address than \
                 ours",
                heard.source
            );
        }
        self.send_last(moment, id);
        if let Some(instance) = self.instance_mut(id) {
            instance.master = Some((heard.source, heard.priority));
            instance.learn_interval(heard.interval);
        }
        self.yield_to_better(moment, id, Why::Advert(heard.source, heard.priority));
    }

    /// A router of lower priority claims to be master: send it an advert, and correct the ARP caches it may have
    /// changed.
    fn reassert(&mut self, moment: &mut Moment<'_>, id: InstanceId, heard: Heard) {
        // Others heard its AH number and would consider ours a replay.
        if let Proof::Ah(number) = heard.proof {
            self.note_ah(moment, id, number.saturating_add(1));
        }
        if self.admits(id, Reason::Lower, moment.now)
            && let Some(instance) = self.instance(id)
        {
            let (ours, quiet) = (instance.effective_priority, instance.config.lower_prio_no_advert);
            peer!(
                info,
                *instance,
                "Received advert from {} with lower priority {}, ours {ours}{}",
                heard.source,
                heard.priority,
                if quiet { "" } else { ", forcing new election" }
            );
        }
        self.correct(moment, id, true);
    }
}
