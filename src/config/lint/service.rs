//! Lints of virtual servers.

use core::net::IpAddr;

use indexmap::{IndexMap, IndexSet};

use super::{Kept, Server, Service};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::value::service::ServerName;
use crate::model::service::Protocol;

/// Real servers that stand in two services as if they were two machines.
pub(super) fn servers(kept: &Kept, cx: &mut Cx<'_>) {
    let mut seen: IndexMap<(IpAddr, u16, Protocol), (&Service, &Server)> = IndexMap::new();
    for service in &kept.services {
        for server in &service.servers {
            let key = (server.endpoint.address, server.endpoint.port, service.protocol);
            // Port 0 is the port of the service: another one in each of them.
            if server.endpoint.port == 0 {
                continue;
            }
            let Some((other, first)) = seen.get(&key) else {
                seen.insert(key, (service, server));
                continue;
            };
            if core::ptr::eq(*other, service) {
                continue;
            }
            let (ServerName::Group(here), ServerName::Group(there)) = (&service.name, &other.name)
            else {
                continue;
            };
            if here == there {
                continue;
            }
            let (address, port) = (server.endpoint.address, server.endpoint.port);
            let message = format!("real server {address} port {port} is in two groups");
            let mut new = Diagnostic::advice(&codes::TWO_GROUPS, message)
                .at(server.span)
                .label(format!("in group {here}"))
                .related(first.span, format!("in group {there}"))
                .note("each group checks and weighs it by itself: one may use it while the other does not");
            if server.forward != first.forward {
                new = new.note("and they forward to it by different methods");
            }
            cx.report(new);
        }
    }
}

/// Virtual servers on addresses that no instance brings.
pub(super) fn addresses(kept: &Kept, cx: &mut Cx<'_>) {
    let vrrp = &cx.draft.model.vrrp;
    if kept.instances.is_empty() {
        return;
    }
    let mut held: IndexSet<IpAddr> = IndexSet::new();
    for block in &kept.instances {
        let lines = block.virtual_ipaddress.items.iter();
        held.extend(
            lines
                .chain(&block.virtual_ipaddress_excluded.items)
                .map(|line| line.value.prefix.address),
        );
    }
    held.extend(vrrp.static_addresses.iter().map(|a| a.prefix.address));
    for name in cx.host.interfaces() {
        let known = cx.interface(&name);
        held.extend(known.iter().flat_map(|i| i.addresses.iter().map(|p| p.address)));
    }
    for service in &kept.services {
        let ServerName::Address(endpoint) = &service.name else {
            continue;
        };
        let address = endpoint.ip();
        if held.contains(&address) {
            continue;
        }
        let message = format!("no vrrp_instance holds {address} of this virtual server");
        cx.report(
            Diagnostic::advice(&codes::NOBODY_HOLDS, message)
                .at(service.span)
                .note("packets for it reach this machine only if something else brings the address here")
                .help(format!("add {address} to a 'virtual_ipaddress' block")),
        );
    }
}
