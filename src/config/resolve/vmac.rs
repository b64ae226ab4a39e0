//! Interfaces that are created for an instance or for single addresses: their names, their hardware addresses, and the
//! addresses on them.

use core::time::Duration;

use indexmap::{IndexMap, IndexSet};

use super::Load;
use super::settled::{Settled, ignored, source_is_set, wrong_family};
use crate::base::{Family, IfName, Mac, Prefix};
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::Span;
use crate::config::value::router::{UseIpvlan, UseVmac, VmacAddress};
use crate::model::link::virtual_mac;
use crate::model::vrrp::Vrid;
use crate::model::{Address, Lifetime, LinkKind, VirtualLink};

/// The longest name of an interface.
const LONGEST: usize = 15;

/// Interfaces to create for the instances read so far.
#[derive(Debug, Default)]
pub(crate) struct Made {
    names: IndexSet<IfName>,
    /// Those with their own hardware address, by that address and the parent: the kernel allows it only once there.
    vmacs: IndexMap<(IfName, Mac, Family), VirtualLink>,
}

/// The interfaces created for an instance.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub own: Option<VirtualLink>,
    pub for_addresses: Vec<VirtualLink>,
    /// Addresses that are always on the instance's own interface.
    pub addresses: Vec<Address>,
    /// Adverts are sent by the parent.
    pub xmit_base: bool,
}

/// Creates interfaces, and moves the addresses that belong on them there.
pub(super) fn links<'a>(
    block: &VrrpInstance,
    settled: Settled,
    parent: &IfName,
    addresses: impl Iterator<Item = &'a mut Address>,
    cx: &mut Load<'_>,
) -> Links {
    let mut new = Links::default();
    if let Some(wanted) = block.use_vmac.value() {
        new.own = vmac(block, wanted.clone(), settled, parent, cx);
    }
    if let Some(wanted) = block.use_ipvlan.value() {
        if new.own.is_some() {
            let at = block.use_ipvlan.span();
            ignored(block, "use_ipvlan cannot be combined with use_vmac", at, cx);
        } else {
            ipvlan(block, wanted.clone(), settled, parent, &mut new, cx);
        }
    }
    new.xmit_base = xmit_base(block, settled, new.own.is_some(), cx);
    let each = address_switches(block, parent, new.own.is_some(), cx);
    for address in addresses {
        let family = address.prefix.family();
        match &mut new.own {
            Some(own) if address.interface == own.name => own.carries_v6 |= family == Family::V6,
            // Addresses of an ipvlan stay on its parent: it has the same hardware address.
            Some(own)
                if matches!(own.kind, LinkKind::Macvlan { .. })
                    && address.interface == own.parent
                    && family == own.family =>
            {
                address.interface = own.name.clone();
            }
            _ if block.use_vmac_addr.is_set()
                || each.contains(&(address.prefix, address.interface.clone())) =>
            {
                let parent = address.interface.clone();
                let at = block.use_vmac_addr.span();
                if let Some(link) = for_address(block, &parent, family, settled.vrid, at, cx) {
                    address.interface = link.name.clone();
                    if !new.for_addresses.contains(&link) {
                        new.for_addresses.push(link);
                    }
                }
            }
            _ => {}
        }
    }
    new
}

/// The created interface's own address, which is only a source for adverts.
fn local(prefix: Prefix, link: &VirtualLink) -> Address {
    let mut address = Address::new(prefix, link.name.clone());
    address.preferred = Lifetime::For(Duration::ZERO);
    address
}

fn vmac(
    block: &VrrpInstance,
    wanted: UseVmac,
    settled: Settled,
    parent: &IfName,
    cx: &mut Load<'_>,
) -> Option<VirtualLink> {
    let UseVmac { name, address, notify, group } = wanted;
    let at = block.use_vmac.span();
    let name = name.filter(|name| is_free(block, name, at, cx));
    let mut address = address.map(|a: VmacAddress| a.complete(settled.vrid.get()));
    if settled.strict && address.is_some() {
        ignored(block, "strict mode does not allow another VMAC address", at, cx);
        address = None;
    }
    let family = settled.family;
    let mac = address.unwrap_or_else(|| virtual_mac(family, settled.vrid));
    if let Some(shared) = shared(block, parent, mac, family, at, cx) {
        return Some(shared);
    }
    let prefix = cx.draft.global().vmac_prefix().0;
    let name = name.or_else(|| generated(&prefix, family, settled.vrid, cx))?;
    let kind = LinkKind::Macvlan { mac };
    let new = VirtualLink { kind, group, notify, ..link(name, parent, kind, family) };
    Some(register(new, cx))
}

fn ipvlan(
    block: &VrrpInstance,
    wanted: UseIpvlan,
    settled: Settled,
    parent: &IfName,
    new: &mut Links,
    cx: &mut Load<'_>,
) {
    let UseIpvlan { name, address, mode, group } = wanted;
    let at = block.use_ipvlan.span();
    let family = settled.family;
    let address = match address {
        Some(other) if other.family() != family => {
            wrong_family(block, "ipvlan address", &other.address, family, at, cx);
            None
        }
        address => address,
    };
    if address.is_none() && family == Family::V4 && !source_is_set(block) {
        let message = format!("({}) an IPv4 ipvlan needs an address", block.header.0);
        cx.report(Diagnostic::warning(&codes::INCOMPLETE, message).at(at));
    }
    let name = name.filter(|name| is_free(block, name, at, cx));
    let prefix = cx.draft.global().vmac_prefix().0;
    let Some(name) = name.or_else(|| generated(&prefix, family, settled.vrid, cx)) else {
        return;
    };
    let kind = LinkKind::Ipvlan { mode: mode.unwrap_or_default() };
    let own = register(VirtualLink { group, ..link(name, parent, kind, family) }, cx);
    new.addresses.extend(address.map(|prefix| match family {
        Family::V4 => Address::new(prefix, own.name.clone()),
        Family::V6 => local(prefix, &own),
    }));
    new.own = Some(own);
}

fn link(name: IfName, parent: &IfName, kind: LinkKind, family: Family) -> VirtualLink {
    let (parent, carries_v6) = (parent.clone(), family == Family::V6);
    VirtualLink { name, parent, kind, group: None, notify: false, family, carries_v6 }
}

fn register(link: VirtualLink, cx: &mut Load<'_>) -> VirtualLink {
    let made = &mut cx.draft.made;
    made.names.insert(link.name.clone());
    if let LinkKind::Macvlan { mac } = link.kind {
        made.vmacs.insert((link.parent.clone(), mac, link.family), link.clone());
    }
    link
}

/// An interface for addresses of this family on `parent`.
fn for_address(
    block: &VrrpInstance,
    parent: &IfName,
    family: Family,
    vrid: Vrid,
    at: Span,
    cx: &mut Load<'_>,
) -> Option<VirtualLink> {
    let mac = virtual_mac(family, vrid);
    if let Some(shared) = shared(block, parent, mac, family, at, cx) {
        return Some(shared);
    }
    let global = cx.draft.global();
    let prefix = match global.vmac_addr_prefix.value() {
        Some(prefix) => prefix.0.clone(),
        None => global.vmac_prefix().0,
    };
    let name = generated(&prefix, family, vrid, cx)?;
    Some(register(link(name, parent, LinkKind::Macvlan { mac }, family), cx))
}

/// The interface with this address that already exists on the parent: for another address of this instance, or for
/// another instance, which is reported.
fn shared(
    block: &VrrpInstance,
    parent: &IfName,
    mac: Mac,
    family: Family,
    at: Span,
    cx: &mut Load<'_>,
) -> Option<VirtualLink> {
    let found = cx.draft.made.vmacs.get(&(parent.clone(), mac, family))?.clone();
    let mut all = cx.draft.model.vrrp.instances.iter();
    let other = all.find(|instance| instance.links().any(|link| link.name == found.name));
    if let Some(other) = other.map(|i| i.name.clone()) {
        let message = format!(
            "({}) {} of {other} has the same virtual MAC, which only one router can have at a time",
            block.header.0, found.name
        );
        let new = Diagnostic::warning(&codes::CONFLICT, message).at(at);
        cx.report(
            new.help(
                "put the two instances into one vrrp_sync_group, or change a virtual_router_id",
            ),
        );
    }
    Some(found)
}

/// Whether no other instance has a name. If an interface of the machine has it, the daemon waits for the name.
fn is_free(block: &VrrpInstance, name: &IfName, at: Span, cx: &mut Load<'_>) -> bool {
    let instance = &block.header.0;
    if cx.draft.made.names.contains(name) {
        let message =
            format!("({instance}) interface name {name} is used by another instance, ignored");
        cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(at));
        return false;
    }
    true
}

/// `PREFIX.VRID`; if that is taken `PREFIX6.VRID` for IPv6, then 1, 2, 3 and so on behind the prefix.
fn generated(prefix: &str, family: Family, vrid: Vrid, cx: &mut Load<'_>) -> Option<IfName> {
    let six = (family == Family::V6).then_some(6);
    let numbers = six.into_iter().chain((1..=255).filter(|n| Some(*n) != six)).map(Some);
    // Independent of the machine's interfaces: the name is the same after each start, and the daemon waits until it is
    // free.
    for number in core::iter::once(None).chain(numbers) {
        let end = match number {
            Some(number) => format!("{number}.{vrid}"),
            None => format!(".{vrid}"),
        };
        let prefix: String = prefix.chars().take(LONGEST.saturating_sub(end.len())).collect();
        let Ok(name) = format!("{prefix}{end}").parse::<IfName>() else { return None };
        if !cx.draft.made.names.contains(&name) {
            return Some(name);
        }
    }
    None
}

fn xmit_base(block: &VrrpInstance, settled: Settled, any: bool, cx: &mut Load<'_>) -> bool {
    // Unicast adverts cannot be sent from a VMAC.
    let forced = block.use_vmac.is_set() && !settled.multicast;
    if block.vmac_xmit_base.is_set() {
        let at = block.vmac_xmit_base.span();
        if !any {
            ignored(block, "vmac_xmit_base is only for a VMAC or ipvlan", at, cx);
        } else if settled.strict {
            ignored(block, "strict mode does not allow vmac_xmit_base", at, cx);
        } else {
            return true;
        }
    }
    forced
}

/// Addresses with `use_vmac` of their own.
fn address_switches(
    block: &VrrpInstance,
    parent: &IfName,
    own: bool,
    cx: &mut Load<'_>,
) -> IndexSet<(Prefix, IfName)> {
    let mut each = IndexSet::new();
    let entries = block.virtual_ipaddress.items.iter();
    for entry in entries.chain(&block.virtual_ipaddress_excluded.items) {
        if !entry.value.use_vmac {
            continue;
        }
        if own || block.use_vmac_addr.is_set() {
            ignored(
                block,
                "use_vmac of an address beside use_vmac of the instance",
                entry.span,
                cx,
            );
        } else {
            let on = entry.value.interface.as_ref().unwrap_or(parent);
            each.insert((entry.value.prefix, on.clone()));
        }
    }
    each
}
