//! Each kernel service belongs to one virtual server.

use core::net::IpAddr;

use indexmap::{IndexMap, IndexSet};

use super::group::finish_groups;
use crate::config::codes;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::resolve::Load;
use crate::config::span::Span;
use crate::model::{Service, ServiceKey, Shared};

/// Services that are defined twice: IPVS has each once, so the servers of the later one join the first. An entry of a
/// group that is already defined belongs to the first, too.
pub(in crate::config::resolve) fn finish(cx: &mut Load<'_>) {
    finish_groups(cx);
    let mut seen: IndexSet<ServiceKey> = IndexSet::with_capacity(cx.draft.services.len());
    let mut all = cx.draft.model.lvs.services.iter().flat_map(|service| service.keys());
    let twice = all.any(|key| !seen.insert(*key));
    if !twice {
        return;
    }
    // The position of the service that has a key.
    let mut holders: IndexMap<ServiceKey, usize> = IndexMap::with_capacity(seen.len());
    let mut merged: Vec<Shared<Service>> = Vec::with_capacity(cx.draft.services.len());
    let services = core::mem::take(&mut cx.draft.model.lvs.services);
    for (i, mut service) in services.into_iter().enumerate() {
        let at = cx.draft.services.get(i).map_or(Span::NONE, |n| n.span);
        let place = merged.len();
        if service.group().is_some() {
            if let Some(service) = without_taken(service, &holders, at, cx) {
                holders.extend(service.keys().iter().map(|key| (*key, place)));
                merged.push(service);
            }
            continue;
        }
        let Some(first) = holders.get(&service.key).and_then(|place| merged.get_mut(*place)) else {
            holders.insert(service.key, place);
            merged.push(service);
            continue;
        };
        if let Some(group) = first.group() {
            let message = format!(
                "virtual server {} is already in group {}, it is left out",
                service.key, group.name
            );
            cx.report(
                Diagnostic::error(&codes::DUPLICATE_NAME, message).at(at).class(Class::Quiet),
            );
            continue;
        }
        let message = format!(
            "virtual server {} is already defined, its real servers are added to the first definition",
            first.key
        );
        let known: IndexSet<(IpAddr, u16)> =
            first.servers.iter().map(|s| (s.address, s.port)).collect();
        service.servers.retain(|s| !known.contains(&(s.address, s.port)));
        first.servers.append(&mut service.servers);
        cx.report(
            Diagnostic::note_only(&codes::DUPLICATE_NAME, message)
                .at(at)
                .note("the settings of the first definition are used"),
        );
    }
    cx.draft.model.lvs.services = merged;
}

/// A service by group without the entries that an earlier service has; none if nothing is left.
fn without_taken(
    mut service: Shared<Service>,
    holders: &IndexMap<ServiceKey, usize>,
    at: Span,
    cx: &mut Load<'_>,
) -> Option<Shared<Service>> {
    let id = service.id();
    let group = service.extras.as_mut()?.group.as_mut()?;
    let first = group.keys.iter().copied().find(|key| holders.contains_key(key));
    let Some(first) = first else {
        return Some(service);
    };
    let before = group.keys.len();
    group.keys.retain(|key| !holders.contains_key(key));
    let (gone, left) = (before - group.keys.len(), group.keys.len());
    let message = format!(
        "virtual server {id}: {first} belongs to an earlier virtual server, {gone} of {before} are left out"
    );
    cx.report(Diagnostic::error(&codes::DUPLICATE_NAME, message).at(at).class(Class::Quiet));
    service.key = *group.keys.first()?;
    (left > 0).then_some(service)
}
