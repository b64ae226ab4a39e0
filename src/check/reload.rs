//! From one configuration to the next.
//!
//! Services are matched by the kernel's key, those of a group by the group's name and their position in it; servers by
//! address and port, checks by their request. A kernel service may move from one to another, for example when an entry
//! of a group becomes a service of its own: this alone does not touch it.
//!
//! Matching objects keep their state, their counters in the kernel and the phase of their checks; equal ones are not
//! even visited. Additions come before removals.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::{CheckerPosition, Index, ServerPosition, ServicePosition, ServiceSlot};
use super::notify::{self, say};
use super::probe::Kind;
use super::schedule::Beginning;
use super::service::{Checkers, Dirty, Front, Server, Service, Sorry, Standing, Why};
use super::start::Origin;
use super::weight::{contribution, say_changed, shown};
use super::{Action, CheckerSlot, Engine, Moment, Timer, number};
use crate::model::{self, Lvs, RealServer, ServiceId, ServiceKey};
use crate::plan::ipvs::DestinationKey;

impl Engine {
    pub(super) fn change(&mut self, moment: &mut Moment<'_>, new: Arc<Lvs>) {
        let old = core::mem::replace(&mut self.config, Arc::clone(&new));
        self.weigh_checks();
        let before = core::mem::take(&mut self.order);
        let mut touched = Vec::new();
        let mut begun = Vec::new();
        let mut kept = vec![false; self.services.bound()];
        for (position, model) in new.services.iter().enumerate() {
            let position = ServicePosition::of(position);
            match self.by_id.get(&model.id()).copied() {
                Some(slot) if self.service(slot).is_some_and(is_sound) => {
                    if let Some(kept) = kept.get_mut(slot.index()) {
                        *kept = true;
                    }
                    self.order.push(slot);
                    self.current = Some(slot);
                    let Some(service) = self.service_mut(slot) else { continue };
                    let was = service.position.replace(position);
                    let was = was.and_then(|was| old.services.get(was.index()));
                    if let Some(was) = was.filter(|was| **was != *model) {
                        if was.keys() != model.keys() {
                            self.update_fronts(slot, was, model);
                        }
                        self.update(moment, slot, was, model, &mut begun);
                        touched.push(slot);
                    }
                }
                found => {
                    let mut lost = Vec::new();
                    if let Some(slot) = found {
                        if let Some(kept) = kept.get_mut(slot.index()) {
                            *kept = true;
                        }
                        lost = self.forget(moment, slot);
                    }
                    let moved = self.vacate(model.keys());
                    let slot = self.create(moment, position, model, Origin::Reload);
                    if (found.is_some() || moved)
                        && let Some(service) = self.service_mut(slot)
                    {
                        // Operations on it may be under way whose answers will not find it.
                        service.stale = true;
                    }
                    begun.extend(self.checks_of(slot));
                    touched.push(slot);
                    // Entries of a group whose removal had not been carried out, and which it no longer has.
                    lost.retain(|key| !self.by_front.contains_key(key));
                    for key in lost {
                        touched.push(self.insert_leaving(moment, key));
                    }
                }
            }
        }
        for slot in before {
            if kept.get(slot.index()) == Some(&false) {
                self.current = Some(slot);
                self.leave(moment, slot, &old);
                touched.push(slot);
            }
        }
        self.own(moment, Some(&old));
        self.settle_all(moment, &touched);
        self.say_beginning(&begun);
        self.suspend_anew(moment);
        self.audit_begin(moment);
    }

    /// Takes kernel services away from the services that have them; true if there were any.
    fn vacate(&mut self, keys: &[ServiceKey]) -> bool {
        let mut moved = false;
        for key in keys {
            let Some(service) =
                self.by_front.remove(key).and_then(|slot| self.services.get_mut(slot))
            else {
                continue;
            };
            service.fronts.retain(|front| front.key != *key);
            // A pending answer is no longer complete.
            service.stale |= core::mem::take(&mut service.reading);
            self.leaving.remove(key);
            moved = true;
        }
        moved
    }

    /// Adapts a service to the new entries of its group.
    fn update_fronts(&mut self, slot: ServiceSlot, old: &model::Service, new: &model::Service) {
        let id = new.id();
        let protocol = new.key.protocol_word();
        if let (Some(was), Some(now)) = (old.group(), new.group()) {
            for entry in was.entries.iter().filter(|entry| !now.entries.contains(entry)) {
                let (entry, name) = (entry.display(protocol), &now.name);
                say!(info, id, "VS [{entry}] in group {name} no longer exists");
            }
            for entry in now.entries.iter().filter(|entry| !was.entries.contains(entry)) {
                let (entry, name) = (entry.display(protocol), &now.name);
                say!(info, id, "VS [{entry}] added into group {name}");
            }
        }
        let wanted: BTreeSet<ServiceKey> = new.keys().iter().copied().collect();
        let Some(service) = self.services.get_mut(slot) else {
            return;
        };
        for front in &mut service.fronts {
            let leaving = !wanted.contains(&front.key);
            match (front.leaving, leaving) {
                (false, true) => self.leaving.insert(front.key),
                (true, false) => self.leaving.remove(&front.key),
                _ => false,
            };
            front.leaving = leaving;
        }
        let have: BTreeSet<ServiceKey> = service.fronts.iter().map(|front| front.key).collect();
        let added: Vec<ServiceKey> = wanted.difference(&have).copied().collect();
        let moved = self.vacate(&added);
        for key in &added {
            self.by_front.insert(*key, slot);
        }
        if let Some(service) = self.service_mut(slot) {
            service.fronts.extend(added.into_iter().map(Front::new));
            service.fronts.sort_by_key(|front| front.key);
            service.stale |= moved;
        }
    }

    /// Drops a service that was about to be removed, or whose step failed, so that it can be created again. Returns its
    /// keys in the kernel.
    fn forget(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot) -> Vec<ServiceKey> {
        for checker in self.checks_of(slot) {
            self.remove_checker(moment, checker);
        }
        let mut keys = Vec::new();
        if let Some(service) = self.services.remove(slot) {
            keys.extend(service.fronts.iter().map(|front| front.key));
            self.timers.clear(Timer::Retry(slot));
            self.by_id.remove(&service.id);
            for front in &service.fronts {
                self.by_front.remove(&front.key);
                self.leaving.remove(&front.key);
            }
            if service.flight.is_some() {
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
        keys
    }

    pub(super) fn checks_of(&self, slot: ServiceSlot) -> Vec<CheckerSlot> {
        let servers = self.service(slot).map(|service| service.servers.as_slice());
        servers.unwrap_or_default().iter().flat_map(|s| s.checkers.as_slice()).copied().collect()
    }

    /// A service that changed.
    fn update(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        old: &model::Service,
        new: &model::Service,
        begun: &mut Vec<CheckerSlot>,
    ) {
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let mut before: Vec<Option<Server>> =
            core::mem::take(&mut service.servers).into_iter().map(Some).collect();
        let partners = partners(service, old, new);
        service.index(new);
        for front in &mut service.fronts {
            front.refused = None;
            front.refusals.clear();
        }
        service.fresh = true;
        service.dirty = Dirty::All;
        service.rising.clear();
        let mut servers = Vec::with_capacity(new.servers.len());
        let mut risen = Vec::new();
        for (position, (real, partner)) in new.servers.iter().zip(partners).enumerate() {
            let position = ServerPosition::of(position);
            let was = partner.and_then(|partner| old.servers.get(partner.index()));
            let kept = partner.and_then(|partner| before.get_mut(partner.index())?.take());
            let server = match (was, kept) {
                (Some(was), Some(mut server)) => {
                    let before = shown(was, &server);
                    self.update_checkers(moment, (slot, position), &mut server, was, real, begun);
                    let shares = server.checkers.as_slice().iter();
                    let shares = shares.filter_map(|slot| self.checkers.get(*slot));
                    server.dynamic = shares.map(|c| contribution(c.share, real)).sum();
                    let now = shown(real, &server);
                    if before != now {
                        say_changed(new, real, before, now, server.standing == Standing::Up);
                    }
                    server
                }
                _ => {
                    let mut server =
                        self.new_server(moment, slot, position, real, Origin::Reload, None);
                    begun.extend(server.checkers.as_slice());
                    if server.failed == 0 {
                        server.standing = Standing::Rising(Why::Start);
                    }
                    server
                }
            };
            if server.standing == Standing::Down && server.failed == 0 {
                risen.push(position);
            }
            servers.push(server);
        }
        let gone = old.servers.iter().zip(before);
        for (real, server) in gone.filter_map(|(real, server)| Some((real, server?))) {
            let (name, id) = (real.display(&new.key), new.id());
            say!(info, id, "service {name} no longer exist");
            self.dismiss(moment, old, real, &server);
        }
        if let Some(service) = self.service_mut(slot) {
            service.rising = ServerPosition::first(servers.len())
                .zip(&servers)
                .filter(|(_, server)| matches!(server.standing, Standing::Rising(_)))
                .map(|(position, _)| position)
                .collect();
            service.servers = servers;
            service.recount(new);
            change_sorry(service, old, new);
        }
        // The check that had failed is gone.
        for position in risen {
            self.rise(moment, slot, position);
        }
    }

    /// Matches the checks of a server that stays.
    fn update_checkers(
        &mut self,
        moment: &mut Moment<'_>,
        (slot, position): (ServiceSlot, ServerPosition),
        server: &mut Server,
        old: &RealServer,
        new: &RealServer,
        begun: &mut Vec<CheckerSlot>,
    ) {
        let config_of =
            |slot: CheckerSlot| old.checkers.get(self.checkers.get(slot)?.position.index());
        let slots = server.checkers.as_slice().iter().copied();
        let mut before: Vec<Option<(CheckerSlot, &model::Checker)>> =
            slots.map(|slot| Some((slot, config_of(slot)?))).collect();
        let down = server.standing == Standing::Down;
        let mut slots = Vec::with_capacity(new.checkers.len());
        for (at, checker) in new.checkers.iter().enumerate() {
            let kind = Kind::of(&checker.kind);
            let at = CheckerPosition::of(at);
            let same = |was: &model::Checker| Kind::of(&was.kind).matches(kind);
            let partner = before
                .iter_mut()
                .find(|was| was.is_some_and(|(_, was)| same(was)))
                .and_then(Option::take);
            if let Some((kept, was)) = partner {
                self.keep_checker(moment, kept, (position, at), was, checker);
                slots.push(kept);
            } else {
                // A server that is down stays down until the new check has a result, too.
                let beginning = Beginning { up: !down, decisive: down, early: down };
                let added = self.add_checker(moment, (slot, position, at), checker, beginning);
                begun.push(added);
                slots.push(added);
            }
        }
        for (gone, _) in before.into_iter().flatten() {
            self.remove_checker(moment, gone);
        }
        let failed = slots
            .iter()
            .filter(|slot| self.checkers.get(**slot).is_some_and(|checker| !checker.up))
            .count();
        server.failed = number(failed);
        server.checkers = Checkers::from(slots);
    }

    /// A server is no longer configured.
    fn dismiss(
        &mut self,
        moment: &mut Moment<'_>,
        model: &model::Service,
        real: &RealServer,
        server: &Server,
    ) {
        for checker in server.checkers.as_slice() {
            self.remove_checker(moment, *checker);
        }
        if server.standing == Standing::Down {
            return;
        }
        let (name, id) = (real.display(&model.key), model.id());
        say!(info, id, "Removing service {name} from VS {id}");
        if server.standing == Standing::Up {
            let body = real.smtp_alert.then(|| "=> Removing <=".to_owned());
            let notice = notify::of_server(model, real, false, true, body, false);
            moment.out.extend(notice.map(Action::Notify));
        }
    }

    /// A service is no longer configured.
    fn leave(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot, old: &Lvs) {
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let id = service.id.clone();
        let model = service.position.take().and_then(|was| old.services.get(was.index()));
        let servers = core::mem::take(&mut service.servers);
        let was_up = service.up;
        service.leaving = true;
        service.quarantined = false;
        service.dirty = Dirty::All;
        service.rising.clear();
        service.by_address = Box::default();
        for front in &mut service.fronts {
            front.refused = None;
            front.refusals.clear();
        }
        let keys: Vec<ServiceKey> = service.fronts.iter().map(|front| front.key).collect();
        self.leaving.extend(keys);
        match &id {
            ServiceId::Single(key) => say!(info, id, "Removing Virtual Server {key}"),
            ServiceId::Group { name, .. } => {
                say!(info, id, "Removing Virtual Server Group [{name}]");
            }
        }
        let Some(model) = model else {
            return;
        };
        for (real, server) in model.servers.iter().zip(&servers) {
            self.dismiss(moment, model, real, server);
        }
        if was_up {
            let notice = notify::of_service(model, false, "=> Removing <=".into(), false);
            moment.out.extend(notice.map(Action::Notify));
        }
        self.changed = true;
    }

    fn rise(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot, position: ServerPosition) {
        // Settled with the rest of the reload: the additions of all services come first.
        let bulk = core::mem::replace(&mut self.bulk, true);
        self.bring_up(moment, slot, position, Why::Other);
        self.bulk = bulk;
    }
}

/// Whether a service can continue with its state.
const fn is_sound(service: &Service) -> bool {
    !service.leaving && !service.quarantined
}

/// The old server that each new server continues. Servers with the same kernel key are distinguished by all their
/// settings, else by their order.
fn partners(
    service: &Service,
    old: &model::Service,
    new: &model::Service,
) -> Vec<Option<ServerPosition>> {
    let mut taken = BTreeSet::new();
    let of = |position: &ServerPosition| old.servers.get(position.index());
    let partner = |real: &RealServer| {
        let alike = service.at_address(old, real.address).iter().copied();
        let alike = alike.filter(|p| of(p).is_some_and(|was| was.port == real.port));
        if !service.twins {
            return alike.into_iter().next();
        }
        let free: Vec<ServerPosition> = alike.filter(|p| !taken.contains(p)).collect();
        let equal = free.iter().find(|p| of(p) == Some(real));
        let found = equal.or(free.first()).copied();
        taken.extend(found);
        found
    };
    new.servers.iter().map(partner).collect()
}

/// Follows a change of the sorry server. One that is in service is replaced at once; its entry is removed when the new
/// one is in place.
fn change_sorry(service: &mut Service, old: &model::Service, new: &model::Service) {
    let id = new.id();
    let name = |sorry| notify::sorry_name(&new.key, sorry);
    let (Some(was), true) = (&old.sorry_server, service.sorry.serves()) else {
        return;
    };
    match &new.sorry_server {
        Some(now) if DestinationKey::of_sorry(now) == DestinationKey::of_sorry(was) => {}
        Some(now) => {
            say!(info, id, "Adding sorry server {} to VS {id}", name(now));
            say!(info, id, "Removing sorry server {} from VS {id}", name(was));
        }
        None => {
            service.sorry = Sorry::Out;
            say!(info, id, "Removing sorry server {} from VS {id}", name(was));
            say!(info, id, "Adding alive servers to the pool for VS {id}");
        }
    }
}
