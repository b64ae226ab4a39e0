//! Lints of virtual servers.

use core::net::IpAddr;

use indexmap::map::Entry;
use indexmap::{IndexMap, IndexSet};

use super::{Group, Kept, Server};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::resolve::Load;
use crate::model::service::Protocol;

/// Real servers that stand in two groups as if they were two machines.
pub(super) fn servers(kept: &Kept, cx: &mut Load<'_>) {
    let mut seen: IndexMap<(IpAddr, u16, Protocol), (&Group, &Server)> = IndexMap::new();
    for group in &kept.groups {
        // Port 0 means the port of the service, which differs between them.
        for server in group.servers.iter().filter(|s| s.endpoint.port != 0) {
            let (address, port) = (server.endpoint.address, server.endpoint.port);
            let (other, first) = match seen.entry((address, port, group.protocol)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(free) => *free.insert((group, server)),
            };
            if other.name == group.name {
                continue;
            }
            let message = format!("real server {address} port {port} is in two groups");
            let mut new = Diagnostic::advice(&codes::TWO_GROUPS, message)
                .at(server.span)
                .label(format!("in group {}", group.name))
                .related(first.span, format!("in group {}", other.name))
                .note("each group checks and weights it separately: one may use it while the other does not");
            if server.forward != first.forward {
                new = new.note("and they forward to it by different methods");
            }
            cx.report(new);
        }
    }
}

/// Virtual servers on addresses that no instance adds.
pub(super) fn addresses(kept: &Kept, cx: &mut Load<'_>) {
    if !kept.any {
        return;
    }
    let mut elsewhere: IndexSet<IpAddr> =
        cx.draft.model.vrrp.static_addresses.iter().map(|a| a.prefix.address).collect();
    for name in cx.host.interfaces() {
        let known = cx.interface(&name);
        elsewhere.extend(known.iter().flat_map(|i| i.addresses.iter().map(|p| p.address)));
    }
    for (address, span) in &kept.addresses {
        if kept.held.contains(address) || elsewhere.contains(address) {
            continue;
        }
        let message = format!("no vrrp_instance holds {address} of this virtual server");
        cx.report(
            Diagnostic::advice(&codes::NOBODY_HOLDS, message)
                .at(*span)
                .note("packets for it reach this machine only if something else brings the address here")
                .help(format!("add {address} to a 'virtual_ipaddress' block")),
        );
    }
}
