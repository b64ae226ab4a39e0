//! Lints of virtual addresses against the machine and against one another.

use core::net::IpAddr;

use indexmap::{IndexMap, IndexSet};

use super::Kept;
use crate::base::{Family, IfName, Name, Prefix};
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::host::link_local;
use crate::config::resolve::Load;
use crate::config::span::Span;

/// A virtual address.
#[derive(Debug)]
pub(super) struct Held {
    instance: Name,
    interface: Option<IfName>,
    prefix: Prefix,
    span: Span,
}

/// The virtual addresses of an instance.
pub(super) fn held(block: &VrrpInstance) -> impl Iterator<Item = Held> {
    let lines = block.virtual_ipaddress.items.iter();
    lines.chain(&block.virtual_ipaddress_excluded.items).map(|line| Held {
        instance: block.header.0.clone(),
        interface: line.value.interface.clone().or(block.interface.value().map(|i| i.0.clone())),
        prefix: line.value.prefix,
        span: line.span,
    })
}

/// The facts that tell whether the file is for this machine.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// This machine lacks an interface or a source address of the file.
    elsewhere: bool,
    /// Source addresses of this machine, and peers: they should be in its networks.
    known: Vec<IpAddr>,
}

impl Place {
    /// Examines the interfaces and addresses of an instance.
    pub(super) fn look(&mut self, block: &VrrpInstance, cx: &mut Load<'_>) {
        let interface = block.interface.value().map(|i| i.0.clone());
        self.elsewhere |= interface.is_some_and(|name| cx.interface(&name).is_none());
        for source in [block.unicast_src_ip.value(), block.mcast_src_ip.value()] {
            let Some(source) = source.map(|ip| ip.0) else {
                continue;
            };
            let here = cx.host.interfaces().iter().any(|name| {
                let known = cx.interface(name);
                known.is_some_and(|i| i.addresses.iter().any(|p| p.address == source))
            });
            self.elsewhere |= !here;
            self.known.push(source);
        }
        self.known.extend(block.unicast_peer.items.iter().map(|p| p.value.peer.address));
    }
}

/// Addresses that are in no network that this machine is connected to, now or as master. If no address of a file is in
/// a network of this machine, the file is for another one, or its only address is mistyped: a single note reports that.
pub(super) fn outside(kept: &Kept, cx: &mut Load<'_>) {
    if kept.place.elsewhere {
        return;
    }
    let mut here: Vec<Prefix> = Vec::new();
    for name in cx.host.interfaces() {
        here.extend(connected(&name, cx));
    }
    let brought = kept.lines.iter().map(|h| h.prefix);
    let statics = cx.draft.model.vrrp.static_addresses.iter().map(|a| a.prefix);
    let all: Vec<Prefix> = brought.chain(statics).collect();
    let inside = |networks: &[Prefix], address: &IpAddr| {
        networks.iter().any(|p| p.family() == Family::of(address) && p.contains(address))
    };
    let known = kept.place.known.iter().chain(all.iter().map(|p| &p.address));
    let at_home = known.into_iter().any(|address| inside(&here, address));
    let mut networks = here;
    networks.extend(all.iter().filter(|p| !is_single(p)));
    let mut own: IndexMap<IfName, Vec<Prefix>> = IndexMap::new();
    for held in &kept.lines {
        let (prefix, address) = (held.prefix, held.prefix.address);
        let Some(name) = &held.interface else {
            continue;
        };
        if !own.contains_key(name) {
            let found = connected(name, cx);
            own.insert(name.clone(), found);
        }
        let of_family: Vec<&Prefix> =
            own.get(name).into_iter().flatten().filter(|p| p.family() == prefix.family()).collect();
        // Nothing is known about an interface without an address of the family.
        if !is_single(&prefix) || link_local(&address) || of_family.is_empty() {
            continue;
        }
        if inside(&networks, &address) {
            continue;
        }
        let shown: Vec<String> = of_family.iter().map(ToString::to_string).collect();
        let usual = if prefix.family() == Family::V4 { 24 } else { 64 };
        let message = format!("({}) {address} is in no network of this machine", held.instance);
        let new = if at_home {
            Diagnostic::advice(&codes::OUTSIDE, message)
        } else {
            Diagnostic::note_only(&codes::OUTSIDE, message).note(
                "no address of this file is in a network of this machine: is it for another one?",
            )
        };
        let mut new = new
            .at(held.span)
            .label("hosts on the link send no ARP or ND requests for it here")
            .note(format!("{name} has {}", shown.join(", ")))
            .help(format!(
                "check the address, or write the length of its network: {address}/{usual}"
            ));
        new.environment = true;
        cx.report(new);
        if !at_home {
            return;
        }
    }
}

/// Addresses that two instances add independently of each other.
pub(super) fn shared(kept: &Kept, cx: &mut Load<'_>) {
    let mut first: IndexMap<(IpAddr, Option<&IfName>), &Held> = IndexMap::new();
    for held in &kept.lines {
        let notes = |name: &Name| cx.draft.instances.get(name);
        // An instance that is left out adds nothing.
        let counts = notes(&held.instance).is_some_and(|n| n.index.is_some());
        if !counts {
            continue;
        }
        let key = (held.prefix.address, held.interface.as_ref());
        let Some(other) = first.get(&key) else {
            first.insert(key, held);
            continue;
        };
        let group = |name: &Name| notes(name).and_then(|n| n.group.clone());
        let together = group(&held.instance).is_some_and(|own| group(&other.instance) == Some(own));
        // Members of one group change their state together.
        if other.instance == held.instance || together {
            continue;
        }
        let message = format!(
            "{} is a virtual address of both {} and {}",
            held.prefix.address, other.instance, held.instance
        );
        let new = Diagnostic::advice(&codes::TWO_INSTANCES, message)
            .at(held.span)
            .related(other.span, format!("in {}", other.instance))
            .note("the instances choose their masters independently: two routers can have the address at once")
            .help("list the address in one instance, or put both into one sync group");
        cx.report(new);
    }
}

/// Virtual addresses that the interface itself has, although this router does not own them.
pub(super) fn own(block: &VrrpInstance, cx: &mut Load<'_>) {
    if super::router::priority(block) == 255 {
        return;
    }
    for held in held(block) {
        let Some(name) = &held.interface else {
            continue;
        };
        let Some(own) = cx.interface(name).and_then(|i| i.own(held.prefix)) else {
            continue;
        };
        let address = held.prefix.address;
        let message = format!("({}) {address} is {name}'s own address ({own})", held.instance);
        let mut new = Diagnostic::advice(&codes::OWN_ADDRESS, message)
            .at(held.span)
            .note(
                "this router has the address even while another one is master: both answer for it",
            )
            .help("use an address that no interface has, or 'priority 255' if this router owns it");
        new.environment = true;
        cx.report(new);
    }
}

/// The networks of an interface, each once. Single addresses and the loopback interface do not count.
fn connected(name: &IfName, cx: &mut Load<'_>) -> Vec<Prefix> {
    let mut seen = IndexSet::new();
    let mut found = Vec::new();
    for prefix in cx.interface(name).filter(|i| !i.loopback).iter().flat_map(|i| &i.addresses) {
        if !is_single(prefix) && !link_local(&prefix.address) && seen.insert(prefix.network()) {
            found.push(*prefix);
        }
    }
    found
}

fn is_single(prefix: &Prefix) -> bool {
    prefix.length() == prefix.family().bits()
}
