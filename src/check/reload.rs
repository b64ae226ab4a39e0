//! From one configuration to the next.
//!
//! Services are matched by what the kernel finds them by, servers by address and port, checks by what they
//! try. What matches keeps its state, its counters in the kernel and the phase of its checks; what is equal is
//! not even looked at. What is new is added before what is gone is removed.

use std::sync::Arc;

use super::notify::{self, say};
use super::probe::Kind;
use super::schedule::Beginning;
use super::service::{Checkers, Dirty, Server, Service, Sorry, Standing, Why};
use super::start::Origin;
use super::{Action, Cx, Engine, number};
use crate::model::{self, Lvs, RealServer};
use crate::plan::ipvs::DestinationKey;

impl Engine {
    pub(super) fn change(&mut self, cx: &mut Cx<'_>, new: Arc<Lvs>) {
        let old = core::mem::replace(&mut self.config, Arc::clone(&new));
        self.weigh_checks();
        let before = core::mem::take(&mut self.order);
        let mut touched = Vec::new();
        let mut begun = Vec::new();
        let mut kept = vec![false; self.services.capacity()];
        for (position, model) in new.services.iter().enumerate() {
            let position = number(position);
            match self.by_key.get(&model.key).copied() {
                Some(slot) if self.service(slot).is_some_and(is_sound) => {
                    if let Some(kept) = kept.get_mut(slot as usize) {
                        *kept = true;
                    }
                    self.order.push(slot);
                    self.current = Some(slot);
                    let Some(service) = self.service_mut(slot) else { continue };
                    let was = service.position.replace(position);
                    let was = was.and_then(|was| old.services.get(was as usize));
                    if let Some(was) = was.filter(|was| *was != model) {
                        self.update(cx, slot, was, model, &mut begun);
                        touched.push(slot);
                    }
                }
                found => {
                    if let Some(slot) = found {
                        if let Some(kept) = kept.get_mut(slot as usize) {
                            *kept = true;
                        }
                        self.forget(cx, slot);
                    }
                    let slot = self.create(cx, position, model, Origin::Reload);
                    if found.is_some()
                        && let Some(service) = self.service_mut(slot)
                    {
                        // Operations on it may be under way whose answers find nobody.
                        service.stale = true;
                    }
                    begun.extend(self.checks_of(slot));
                    touched.push(slot);
                }
            }
        }
        for slot in before {
            if kept.get(slot as usize) == Some(&false) {
                self.current = Some(slot);
                self.leave(cx, slot, &old);
                touched.push(slot);
            }
        }
        self.own(cx);
        self.settle_all(cx, &touched);
        self.say_beginning(&begun);
    }

    /// Gives up a service that was about to leave the kernel, or on which a step failed, to begin anew.
    fn forget(&mut self, cx: &mut Cx<'_>, slot: u32) {
        for checker in self.checks_of(slot) {
            self.remove_checker(cx, checker);
        }
        if let Some(service) = self.services.try_remove(slot as usize) {
            self.retries.clear(slot);
            self.by_key.remove(&service.key);
            self.leaving.remove(&service.key);
            if service.flight.is_some() {
                self.in_flight = self.in_flight.saturating_sub(1);
            }
        }
    }

    fn checks_of(&self, slot: u32) -> Vec<u32> {
        let servers = self.service(slot).map(|service| service.servers.as_slice());
        servers.unwrap_or_default().iter().flat_map(|s| s.checkers.as_slice()).copied().collect()
    }

    /// A service that changed.
    fn update(
        &mut self,
        cx: &mut Cx<'_>,
        slot: u32,
        old: &model::Service,
        new: &model::Service,
        begun: &mut Vec<u32>,
    ) {
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let mut before: Vec<Option<Server>> =
            core::mem::take(&mut service.servers).into_iter().map(Some).collect();
        let partners: Vec<Option<u32>> =
            new.servers.iter().map(|real| service.find(old, &DestinationKey::of(real))).collect();
        service.index(new);
        service.refused = None;
        service.sorry_refused = None;
        service.fresh = true;
        service.dirty = Dirty::All;
        service.rising.clear();
        let mut servers = Vec::with_capacity(new.servers.len());
        let mut risen = Vec::new();
        for (position, (real, partner)) in new.servers.iter().zip(partners).enumerate() {
            let position = number(position);
            let was = partner.and_then(|partner| old.servers.get(partner as usize));
            let kept = partner.and_then(|partner| before.get_mut(partner as usize)?.take());
            let server = match (was, kept) {
                (Some(was), Some(mut server)) => {
                    self.update_checkers(cx, (slot, position), &mut server, was, real, begun);
                    server.refused = None;
                    if was.weight != real.weight {
                        let activity =
                            if server.standing == Standing::Up { "active" } else { "inactive" };
                        let (name, key) = (real.display(&new.key), new.key);
                        say!(
                            info,
                            key,
                            "Changing weight from {} to {} for {activity} service {name} of VS {key}",
                            was.weight,
                            real.weight
                        );
                    }
                    server
                }
                _ => {
                    let mut server =
                        self.new_server(cx, slot, position, real, Origin::Reload, None);
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
            let (name, key) = (real.display(&new.key), new.key);
            say!(info, key, "service {name} no longer exist");
            self.dismiss(cx, old, real, &server);
        }
        if let Some(service) = self.service_mut(slot) {
            service.weight = weight(&servers, new);
            service.rising = (0u32..)
                .zip(&servers)
                .filter(|(_, server)| matches!(server.standing, Standing::Rising(_)))
                .map(|(position, _)| position)
                .collect();
            service.servers = servers;
            change_sorry(service, old, new);
        }
        // The check that had failed is gone.
        for position in risen {
            self.rise(cx, slot, position);
        }
    }

    /// Matches the checks of a server that stays.
    fn update_checkers(
        &mut self,
        cx: &mut Cx<'_>,
        (slot, position): (u32, u32),
        server: &mut Server,
        old: &RealServer,
        new: &RealServer,
        begun: &mut Vec<u32>,
    ) {
        let config_of =
            |slot: u32| old.checkers.get(self.checkers.get(slot as usize)?.position as usize);
        let slots = server.checkers.as_slice().iter().copied();
        let mut before: Vec<Option<(u32, &model::Checker)>> =
            slots.map(|slot| Some((slot, config_of(slot)?))).collect();
        let down = server.standing == Standing::Down;
        let mut slots = Vec::with_capacity(new.checkers.len());
        for (at, checker) in new.checkers.iter().enumerate() {
            if Kind::of(&checker.kind).is_none() {
                continue;
            }
            let at = number(at);
            let partner = before
                .iter_mut()
                .find(|was| was.is_some_and(|(_, was)| was.kind == checker.kind))
                .and_then(Option::take);
            if let Some((kept, was)) = partner {
                self.keep_checker(cx, kept, (position, at), was, checker);
                slots.push(kept);
            } else {
                // A server that is out stays out until the new check has spoken too.
                let beginning = Beginning { up: !down, decisive: down, early: down };
                let added = self.add_checker(cx, (slot, position, at), checker, beginning);
                begun.push(added);
                slots.push(added);
            }
        }
        for (gone, _) in before.into_iter().flatten() {
            self.remove_checker(cx, gone);
        }
        let failed = slots
            .iter()
            .filter(|slot| self.checkers.get(**slot as usize).is_some_and(|checker| !checker.up))
            .count();
        server.failed = number(failed);
        server.checkers = Checkers::from(slots);
    }

    /// A server is not in the configuration any more.
    fn dismiss(
        &mut self,
        cx: &mut Cx<'_>,
        model: &model::Service,
        real: &RealServer,
        server: &Server,
    ) {
        for checker in server.checkers.as_slice() {
            self.remove_checker(cx, *checker);
        }
        if server.standing == Standing::Down {
            return;
        }
        let (name, key) = (real.display(&model.key), model.key);
        say!(info, key, "Removing service {name} from VS {key}");
        if server.standing == Standing::Up {
            let body = real.smtp_alert.then(|| "=> Removing <=".to_owned());
            let notice = notify::of_server(&key, real, false, true, body, false);
            cx.out.extend(notice.map(Action::Notify));
        }
    }

    /// A service is not in the configuration any more.
    fn leave(&mut self, cx: &mut Cx<'_>, slot: u32, old: &Lvs) {
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let key = service.key;
        let model = service.position.take().and_then(|was| old.services.get(was as usize));
        let servers = core::mem::take(&mut service.servers);
        let was_up = service.up;
        service.leaving = true;
        service.quarantined = false;
        service.dirty = Dirty::All;
        service.rising.clear();
        service.by_key = Box::default();
        service.refused = None;
        service.sorry_refused = None;
        self.leaving.insert(key);
        say!(info, key, "Removing Virtual Server {key}");
        let Some(model) = model else {
            return;
        };
        for (real, server) in model.servers.iter().zip(&servers) {
            self.dismiss(cx, model, real, server);
        }
        if was_up {
            let notice = notify::of_service(model, false, "=> Removing <=".into(), false);
            cx.out.extend(notice.map(Action::Notify));
        }
        self.changed = true;
    }

    fn rise(&mut self, cx: &mut Cx<'_>, slot: u32, position: u32) {
        // Settled with the rest of the reload: the additions of all services come first.
        let bulk = core::mem::replace(&mut self.bulk, true);
        self.bring_up(cx, slot, position, Why::Other);
        self.bulk = bulk;
    }
}

/// Whether a service goes on from where it is.
const fn is_sound(service: &Service) -> bool {
    !service.leaving && !service.quarantined
}

fn weight(servers: &[Server], model: &model::Service) -> u64 {
    servers
        .iter()
        .zip(&model.servers)
        .filter(|(server, _)| server.standing == Standing::Up)
        .map(|(_, real)| u64::from(real.weight))
        .sum()
}

/// Follows a change of the sorry server. One that serves is replaced at once; its entry goes when the new one
/// is there.
fn change_sorry(service: &mut Service, old: &model::Service, new: &model::Service) {
    let key = new.key;
    let name = |sorry| notify::sorry_name(&key, sorry);
    let (Some(was), true) = (&old.sorry_server, service.sorry.serves()) else {
        return;
    };
    match &new.sorry_server {
        Some(now) if DestinationKey::of_sorry(now) == DestinationKey::of_sorry(was) => {}
        Some(now) => {
            say!(info, key, "Adding sorry server {} to VS {key}", name(now));
            say!(info, key, "Removing sorry server {} from VS {key}", name(was));
        }
        None => {
            service.sorry = Sorry::Out;
            say!(info, key, "Removing sorry server {} from VS {key}", name(was));
            say!(info, key, "Adding alive servers to the pool for VS {key}");
        }
    }
}
