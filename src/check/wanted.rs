//! The wanted kernel entries of a service, and the operations that lead there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::{Index, ServerPosition, ServiceSlot};
use super::service::{Dirty, Front, Service, Standing};
use super::weight::{Factors, Purpose, effective};
use super::{Engine, Phase};
use crate::model::{self, ServiceKey};
use crate::plan::ipvs::{
    Destination, DestinationKey, Entry, Op, Settings, Table, destination_op, service_op,
};

impl Engine {
    /// The operations that give the kernel the wanted state: additions, then removals.
    pub(super) fn difference(&mut self, slot: ServiceSlot) -> Vec<Op> {
        let config = Arc::clone(&self.config);
        let model = self.config_of(&config, slot);
        let Some(service) = self.services.get_mut(slot) else {
            return Vec::new();
        };
        let mut dirty = core::mem::replace(&mut service.dirty, Dirty::Servers(Vec::new()));
        if let Dirty::Servers(positions) = &mut dirty {
            positions.sort_unstable();
            positions.dedup();
        }
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let at_once = stopping && config.flush_services_only;
        let mut ops = Vec::new();
        let mut again = false;
        for front in &service.fronts {
            let have = self.known.services.get(&front.key);
            let Some(model) = model.filter(|_| !service.leaving && !front.leaving) else {
                match have {
                    // The kernel removes its servers with it.
                    Some(_) if !front.is_blocked() && at_once => {
                        ops.push(Op::DeleteService { service: front.key });
                    }
                    Some(entry) if !front.is_blocked() => {
                        ops.extend(removal(front.key, entry, model));
                    }
                    _ => {}
                }
                continue;
            };
            match &dirty {
                // Without the service itself there is nothing to add servers to.
                _ if have.is_none() && front.is_blocked() => again = true,
                Dirty::Servers(positions) if have.is_some() => {
                    ops.extend(changes(service, model, front, have, positions.iter().copied()));
                }
                _ => ops.extend(everything(service, model, front, have)),
            }
        }
        if again {
            service.dirty = Dirty::All;
        }
        // Stable: equal elements keep their order.
        ops.sort_by_key(|op| matches!(op, Op::DeleteDestination { .. } | Op::DeleteService { .. }));
        ops
    }
}

/// The wanted state of an entry; none if it should not exist. An entry that servers share exists while one of them is
/// good, with the weight of the first good one.
fn wanted(
    service: &Service,
    model: &model::Service,
    front: &ServiceKey,
    key: &DestinationKey,
) -> Option<Destination> {
    let sorry = model.sorry_server.as_ref().filter(|s| DestinationKey::sorry_at(s, front) == *key);
    if let Some(sorry) = sorry.filter(|_| service.sorry.serves()) {
        return Some(Destination::of_sorry(sorry, 1));
    }
    let mut found = None;
    for position in service.sharing(model, front, key) {
        let real = model.servers.get(position.index())?;
        let server = service.servers.get(position.index())?;
        let weight =
            effective(Factors::of(real, server), Purpose::Entry { open: service.is_open() });
        let entry = weight.map(|weight| Destination::of(real, weight));
        if service.is_open() && server.standing != Standing::Down {
            return entry;
        }
        found = found.or(entry);
    }
    found.or_else(|| {
        sorry.filter(|sorry| sorry.inhibit).map(|sorry| Destination::of_sorry(sorry, 0))
    })
}

/// Whether the kernel has a server as wanted in at least one front: others may refuse it.
pub(super) fn is_taken(
    known: &Table,
    service: &Service,
    model: &model::Service,
    position: ServerPosition,
) -> bool {
    let Some(real) = model.servers.get(position.index()) else {
        return false;
    };
    service.fronts.iter().filter(|front| !front.leaving).any(|front| {
        let key = DestinationKey::at(real, &front.key);
        let want = wanted(service, model, &front.key, &key);
        known.destination(&front.key, &key) == want.as_ref()
    })
}

/// Whether the configuration names an entry.
pub(super) fn is_named(
    service: &Service,
    model: &model::Service,
    front: &ServiceKey,
    key: &DestinationKey,
) -> bool {
    let sorry = model.sorry_server.as_ref();
    sorry.is_some_and(|sorry| DestinationKey::sorry_at(sorry, front) == *key)
        || service.sharing(model, front, key).next().is_some()
}

/// The operation that makes one entry as wanted, unless the kernel refuses exactly that.
fn entry_op(
    service: &Service,
    model: &model::Service,
    front: &Front,
    have: Option<&Entry>,
    key: DestinationKey,
) -> Option<Op> {
    let want = wanted(service, model, &front.key, &key);
    if front.refusals.get(&key).is_some_and(|refusal| refusal.blocks && refusal.wanted == want) {
        return None;
    }
    let have = have.and_then(|entry| entry.destinations.get(&key));
    destination_op(front.key, key, have, want.as_ref())
}

/// The operations that make the entries of these servers as wanted.
fn changes(
    service: &Service,
    model: &model::Service,
    front: &Front,
    have: Option<&Entry>,
    positions: impl Iterator<Item = ServerPosition>,
) -> Vec<Op> {
    let mut seen = BTreeSet::new();
    positions
        .filter_map(|position| model.servers.get(position.index()))
        .map(|real| DestinationKey::at(real, &front.key))
        // Two operations on one entry in one list would contradict each other.
        .filter(|key| !service.twins || seen.insert(*key))
        .filter_map(|key| entry_op(service, model, front, have, key))
        .collect()
}

/// The operations that make a front as wanted, compared as a whole.
fn everything(
    service: &Service,
    model: &model::Service,
    front: &Front,
    have: Option<&Entry>,
) -> Vec<Op> {
    let mut ops = Vec::new();
    if !front.is_blocked() {
        let settings = Settings::at(model, &front.key);
        ops.extend(service_op(front.key, have.map(|entry| &entry.settings), Some(&settings)));
    }
    let positions = ServerPosition::first(service.servers.len());
    ops.extend(changes(service, model, front, have, positions));
    if let Some(sorry) = &model.sorry_server {
        let key = DestinationKey::sorry_at(sorry, &front.key);
        // One that is also a real server was handled above.
        if service.sharing(model, &front.key, &key).next().is_none() {
            ops.extend(entry_op(service, model, front, have, key));
        }
    }
    if let Some(entry) = have.filter(|_| !front.is_blocked()) {
        let strays = entry.destinations.iter().map(|(key, _)| key);
        let strays = strays.filter(|key| !is_named(service, model, &front.key, key));
        ops.extend(
            strays.map(|destination| Op::DeleteDestination { service: front.key, destination }),
        );
    }
    ops
}

/// Everything of a front: the sorry server, the servers in the order of the configuration, the service.
fn removal(key: ServiceKey, entry: &Entry, model: Option<&model::Service>) -> Vec<Op> {
    let mut left = entry.destinations.clone();
    let sorry = model.and_then(|m| m.sorry_server.as_ref());
    let sorry = sorry.map(|sorry| DestinationKey::sorry_at(sorry, &key));
    let servers = model.into_iter().flat_map(|m| &m.servers);
    let servers = servers.map(|server| DestinationKey::at(server, &key));
    let named: Vec<_> = sorry.into_iter().chain(servers).filter(|key| left.remove(key)).collect();
    named
        .into_iter()
        .chain(left.iter().map(|(key, _)| key))
        .map(|destination| Op::DeleteDestination { service: key, destination })
        .chain([Op::DeleteService { service: key }])
        .collect()
}
