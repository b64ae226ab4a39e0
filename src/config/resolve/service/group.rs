//! `virtual_server_group`: its entries, and the services on it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use indexmap::IndexSet;

use super::{Notes, ONE_PACKET};
use crate::base::{Family, Name};
use crate::config::block::service::VirtualServerGroup;
use crate::config::codes;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::resolve::Load;
use crate::config::span::Span;
use crate::model::service::{GroupEntry, Persistence, Protocol, ServiceGroup};
use crate::model::{Forward, Service, ServiceKey};

/// A `virtual_server_group`.
#[derive(Debug)]
pub(crate) struct Group {
    name: Name,
    entries: Vec<GroupEntry>,
    /// Number of services that use it.
    uses: u32,
}

/// A service whose group may come later.
#[derive(Debug)]
pub(crate) struct GroupUse {
    pub(super) group: Name,
    pub(super) service: Service,
    pub(super) protocol: Option<Protocol>,
    /// The only family possible with its servers.
    pub(super) family: Option<Family>,
    pub(super) span: Span,
    /// Its position among the other services.
    pub(super) place: usize,
}

/// Largest number of kernel services of a group.
const LARGEST_GROUP: u128 = 65_536;

pub(in crate::config::resolve) fn close(block: VirtualServerGroup, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let refuse = |message: String, cx: &mut Load<'_>| {
        cx.report(
            Diagnostic::error(&codes::INCOMPLETE, message)
                .at(block.end)
                .related(block.span, "it begins here"),
        );
    };
    if block.entries.is_empty() {
        refuse(format!("virtual server group {name} has no entries, it is left out"), cx);
        return;
    }
    let entries: Vec<GroupEntry> = block.entries.iter().map(|e| e.value.0).collect();
    let size = entries.iter().map(size).fold(0, u128::saturating_add);
    if size > LARGEST_GROUP {
        let message = format!(
            "virtual server group {name} has more than {LARGEST_GROUP} addresses, it is left out"
        );
        refuse(message, cx);
        return;
    }
    let has = |wanted: Family| {
        entries.iter().any(|e| match e {
            GroupEntry::Addresses { first, .. } => Family::of(first) == wanted,
            GroupEntry::Mark { family, .. } => *family == Some(wanted),
        })
    };
    let open = entries.iter().any(|e| matches!(e, GroupEntry::Mark { family: None, .. }));
    if has(Family::V4) && has(Family::V6) && open {
        let message = format!(
            "virtual server group {name} mixes IPv4, IPv6 and marks without a family, it is left out"
        );
        refuse(message, cx);
        return;
    }
    // In keepalived two groups with one name exist side by side; references find the first one.
    let groups = &mut cx.draft.service_groups;
    if !groups.iter().any(|g| g.name == name) {
        groups.push(Group { name, entries, uses: 0 });
    }
}

/// The number of kernel services of an entry.
fn size(entry: &GroupEntry) -> u128 {
    match entry {
        GroupEntry::Mark { .. } => 1,
        GroupEntry::Addresses { first, last, .. } => {
            number(last).saturating_sub(number(first)).saturating_add(1)
        }
    }
}

fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The kernel services of the entries of a group: addresses, then marks, each once.
fn keys(entries: &[GroupEntry], protocol: Protocol, own: Family) -> IndexSet<ServiceKey> {
    let mut keys = IndexSet::new();
    for entry in entries {
        let GroupEntry::Addresses { first, last, port } = entry else {
            continue;
        };
        for bits in number(first)..=number(last) {
            let address = match first {
                IpAddr::V4(_) => u32::try_from(bits).map(|b| Ipv4Addr::from_bits(b).into()),
                IpAddr::V6(_) => Ok(Ipv6Addr::from_bits(bits).into()),
            };
            if let Ok(address) = address {
                let endpoint = SocketAddr::new(address, *port);
                keys.insert(ServiceKey::Address { protocol, endpoint });
            }
        }
    }
    for entry in entries {
        if let GroupEntry::Mark { mark, family } = entry {
            keys.insert(ServiceKey::Mark { mark: *mark, family: family.unwrap_or(own) });
        }
    }
    keys
}

/// Inserts services by group among the others, each with the entries of its group.
pub(super) fn finish_groups(cx: &mut Load<'_>) {
    let waiting = core::mem::take(&mut cx.draft.group_services);
    if waiting.is_empty() {
        return;
    }
    let mut groups = core::mem::take(&mut cx.draft.service_groups);
    let services = core::mem::take(&mut cx.draft.model.lvs.services);
    let notes = core::mem::take(&mut cx.draft.services);
    let mut single = services.into_iter().zip(notes);
    let mut taken = 0;
    let mut ordered = Vec::with_capacity(single.len() + waiting.len());
    for waiting in waiting {
        let ahead = waiting.place.saturating_sub(taken);
        ordered.extend(single.by_ref().take(ahead));
        taken += ahead;
        let span = waiting.span;
        let service = finish_group(waiting, &mut groups, cx);
        ordered.extend(service.map(|service| (service.into(), Notes { span })));
    }
    ordered.extend(single);
    (cx.draft.model.lvs.services, cx.draft.services) = ordered.into_iter().unzip();
}

/// A service by group, if it can be one.
fn finish_group(mut waiting: GroupUse, groups: &mut [Group], cx: &mut Load<'_>) -> Option<Service> {
    let quiet = |code, message: String, cx: &mut Load<'_>| {
        cx.report(Diagnostic::error(code, message).at(waiting.span).class(Class::Quiet));
    };
    let Some(group) = groups.iter_mut().find(|group| group.name == waiting.group) else {
        let message = format!(
            "virtual server group {} not found, the virtual server is left out",
            waiting.group
        );
        quiet(&codes::UNKNOWN_REFERENCE, message, cx);
        return None;
    };
    let name = group.name.clone();
    let families: IndexSet<Family> = group
        .entries
        .iter()
        .filter_map(|e| match e {
            GroupEntry::Addresses { first, .. } => Some(Family::of(first)),
            GroupEntry::Mark { family, .. } => *family,
        })
        .collect();
    if waiting.family.is_some_and(|f| families.iter().any(|other| *other != f)) {
        let message = if families.len() > 1 {
            format!(
                "virtual server group {name} has both families, which needs TUN for every server and no ip_family; \
                 the service is left out"
            )
        } else {
            format!(
                "virtual server group {name} is of a different family, the virtual server is left out"
            )
        };
        quiet(&codes::FAMILY, message, cx);
        return None;
    }
    let protocol = waiting.protocol.unwrap_or(Protocol::Udp);
    let own = waiting.service.key.family();
    let keys = keys(&group.entries, protocol, own);
    waiting.service.key = *keys.first()?;
    group_ports(&waiting, group, cx);
    let warn = |code, message: String, cx: &mut Load<'_>| {
        cx.report(Diagnostic::warning(code, message).at(waiting.span));
    };
    let addresses = group.entries.iter().any(|e| matches!(e, GroupEntry::Addresses { .. }));
    if addresses && waiting.protocol.is_none() {
        let message = format!("virtual server [{name}]: no protocol set, UDP is used");
        warn(&codes::DEFAULTED, message, cx);
    }
    if addresses && protocol != Protocol::Udp && waiting.service.flags & ONE_PACKET != 0 {
        let message =
            format!("virtual server [{name}]: one packet scheduling requires UDP, ignored");
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(waiting.span));
        waiting.service.flags &= !ONE_PACKET;
    }
    let everything =
        group.entries.iter().any(|e| matches!(e, GroupEntry::Addresses { port: 0, .. }));
    if everything && waiting.service.persistence.is_none() {
        let message = format!(
            "virtual server [{name}]: a service for all ports needs persistence, a timeout of 360 is used"
        );
        warn(&codes::DEFAULTED, message, cx);
        let granularity = match waiting.service.key.family() {
            Family::V4 => u32::MAX,
            Family::V6 => 128,
        };
        waiting.service.persistence = Some(Persistence { timeout: 360, granularity, engine: None });
    }
    if !addresses && waiting.protocol.is_some() {
        let message = format!("virtual server [{name}]: protocol is not used for firewall marks");
        warn(&codes::NO_EFFECT_HERE, message, cx);
    }
    let index = group.uses;
    group.uses += 1;
    let marks = keys.iter().any(|key| key.address().is_none());
    let keys = keys.into_iter().collect();
    let entries = group.entries.clone();
    let extras = waiting.service.extras.get_or_insert_default();
    if marks && core::mem::take(&mut extras.ha_suspend) {
        super::unsuspendable(&format!("[{name}]"), waiting.span, cx);
    }
    extras.group = Some(ServiceGroup { name, index, entries, keys });
    Some(waiting.service)
}

/// With DR and TUN the port of an entry is used, and a mark has none: other ports of servers are only reported.
fn group_ports(waiting: &GroupUse, group: &Group, cx: &mut Load<'_>) {
    let name = &group.name;
    for server in waiting.service.servers.iter().filter(|s| s.port != 0) {
        let rewritten = server.forward == Forward::Nat;
        let other = group
            .entries
            .iter()
            .any(|e| matches!(e, GroupEntry::Addresses { port, .. } if *port != server.port));
        if other && !rewritten {
            let message = format!(
                "virtual server [{name}]: port {} of real server {} is not used: with DR and TUN it is the port of the service",
                server.port, server.address
            );
            cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(waiting.span));
        }
        if !rewritten && group.entries.iter().any(|e| matches!(e, GroupEntry::Mark { .. })) {
            let message = format!(
                "virtual server [{name}]: port {} of real server {} is not used: a firewall-mark service keeps the client's port",
                server.port, server.address
            );
            cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(waiting.span));
        }
    }
}
