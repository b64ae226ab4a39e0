//! Gain and loss of a service's quorum, and the sorry server.
//!
//! The quorum is only evaluated when the kernel has answered all requests: a server that is being added is neither up
//! nor down, and a reload that replaces one server by another must not appear as a loss in between.

use std::sync::Arc;

use super::id::ServiceSlot;
use super::notify::{self, say};
use super::service::{Dirty, Front, Service, Sorry, Standing};
use super::{Action, Engine, Moment};
use crate::model;
use crate::plan::ipvs::{Destination, DestinationKey, Table};

impl Engine {
    /// Evaluates the quorum; true if the kernel's table must be changed as a result.
    pub(super) fn evaluate(&mut self, moment: &mut Moment<'_>, slot: ServiceSlot) -> bool {
        let config = Arc::clone(&self.config);
        let Some(model) = self.config_of(&config, slot) else {
            return false;
        };
        let Some(service) = self.service_mut(slot) else {
            return false;
        };
        let fresh = core::mem::take(&mut service.fresh);
        let weight = service.weight;
        let rise = u64::from(model.quorum) + u64::from(model.hysteresis);
        let fall = u64::from(model.quorum).saturating_sub(u64::from(model.hysteresis));
        // With all weights 0 there is no quorum: no server would get a connection.
        let up = weight > 0 && weight >= if service.up { fall } else { rise };
        let untold = service.announced != Some(false) || !service.sorry.wanted();
        let begins_down = fresh
            && !up
            && (model.sorry_server.is_some() && untold || service.announced == Some(true));
        let begins_up = fresh && up && service.announced != Some(true);
        if up == service.up && !begins_down && !begins_up {
            return false;
        }
        if service.up != up {
            service.since = moment.now;
        }
        let was_up = core::mem::replace(&mut service.up, up);
        let (id, quorum, dead) = (model.id(), model.quorum, model.hysteresis);
        let (what, sign, edge, relation) = match (up, fresh) {
            (true, true) if was_up => ("Starting with quorum up", '-', fall, "<="),
            (true, _) => ("Gained quorum", '+', rise, "<="),
            (false, false) => ("Lost quorum", '-', fall, ">"),
            (false, true) => ("Starting with quorum down", '-', fall, ">"),
        };
        say!(info, id, "{what} {quorum}{sign}{dead}={edge} {relation} {weight} for VS {id}");
        let turned = if up { self.leave_sorry(slot, model) } else { self.enter_sorry(slot, model) };
        let what = if up && fresh { "Starting with quorum up" } else { what };
        let limit = if up { rise } else { fall };
        self.announce_service(
            moment,
            slot,
            up,
            format!("=> {what} {quorum}+{dead}={limit} <= {weight} <="),
        );
        turned
    }

    /// Announces the quorum of a service, once for each change.
    pub(super) fn announce_service(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        up: bool,
        body: String,
    ) {
        let config = Arc::clone(&self.config);
        let Some(model) = self.config_of(&config, slot) else {
            return;
        };
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        if service.announced.replace(up) == Some(up) {
            return;
        }
        moment.out.extend(notify::of_service(model, up, body, false).map(Action::Notify));
        self.changed = true;
    }

    fn enter_sorry(&mut self, slot: ServiceSlot, model: &model::Service) -> bool {
        let (Some(sorry), Some(service)) = (&model.sorry_server, self.service_mut(slot)) else {
            return false;
        };
        if service.sorry.wanted() {
            return false;
        }
        service.sorry = Sorry::Coming;
        service.dirty = Dirty::All;
        let (id, name) = (model.id(), notify::sorry_name(&model.key, sorry));
        if sorry.inhibit {
            say!(info, id, "Enabling sorry server {name} to VS {id}");
        } else {
            say!(info, id, "Adding sorry server {name} to VS {id}");
        }
        say!(info, id, "Removing alive servers from the pool for VS {id}");
        true
    }

    fn leave_sorry(&mut self, slot: ServiceSlot, model: &model::Service) -> bool {
        let (Some(sorry), Some(service)) = (&model.sorry_server, self.service_mut(slot)) else {
            return false;
        };
        if !service.sorry.wanted() {
            return false;
        }
        service.sorry = Sorry::Leaving;
        service.dirty = Dirty::All;
        let (id, name) = (model.id(), notify::sorry_name(&model.key, sorry));
        if sorry.inhibit {
            say!(info, id, "Disabling sorry server {name} from VS {id}");
        } else {
            say!(info, id, "Removing sorry server {name} from VS {id}");
        }
        say!(info, id, "Adding alive servers to the pool for VS {id}");
        true
    }

    /// Advances the state of the sorry server once the kernel has what the next step requires; true if it advanced.
    pub(super) fn advance_sorry(&mut self, slot: ServiceSlot) -> bool {
        let config = Arc::clone(&self.config);
        let Some(model) = self.config_of(&config, slot) else {
            return false;
        };
        let Some(service) = self.services.get_mut(slot) else {
            return false;
        };
        let next = match service.sorry {
            Sorry::Out => return false,
            Sorry::Coming if is_in(&self.known, model, service) => Sorry::In,
            Sorry::Coming => return false,
            // A reload configured another one, and the kernel refuses it.
            Sorry::In if is_refused(service, model) && !is_in(&self.known, model, service) => {
                Sorry::Coming
            }
            Sorry::In => return false,
            Sorry::Leaving if has_server(&self.known, model, service) => Sorry::Out,
            Sorry::Leaving => return false,
        };
        service.sorry = next;
        service.dirty = Dirty::All;
        true
    }
}

/// Whether the kernel refuses the sorry server in some front.
fn is_refused(service: &Service, model: &model::Service) -> bool {
    model.sorry_server.is_some_and(|sorry| {
        let key = |front: &Front| DestinationKey::sorry_at(&sorry, &front.key);
        service.fronts.iter().any(|front| front.refusals.contains_key(&key(front)))
    })
}

/// Whether the kernel holds the sorry server as one that gets connections, in one front at least.
fn is_in(known: &Table, model: &model::Service, service: &Service) -> bool {
    model.sorry_server.is_some_and(|sorry| {
        let wanted = Destination::of_sorry(&sorry, 1);
        service.fronts.iter().filter(|front| !front.leaving).any(|front| {
            let key = DestinationKey::sorry_at(&sorry, &front.key);
            known.destination(&front.key, &key) == Some(&wanted)
        })
    })
}

/// Whether the kernel holds a server that counts.
fn has_server(known: &Table, model: &model::Service, service: &Service) -> bool {
    let mut up = model.servers.iter().zip(&service.servers);
    up.any(|(real, server)| {
        server.standing == Standing::Up
            && service.fronts.iter().any(|front| {
                let entry = known.destination(&front.key, &DestinationKey::at(real, &front.key));
                entry.is_some_and(|entry| entry.weight > 0)
            })
    })
}
