//! `vrrp_instance`: family, version, defaults and conflicting settings.

mod advert;
mod owner;

use core::time::Duration;

use indexmap::{IndexMap, IndexSet};

use self::advert::{advert_int, authentication, down_timer_adverts, fit, source, version};
use self::owner::{owned, owner_without_weights};
use super::Load;
use super::address::addresses;
use super::announce::{garp, notify};
use super::settled::{Settled, follow, ignored, wrong_family};
use super::{extras, tracker, vmac};
use crate::base::{Family, IfName, Name};
use crate::config::block::vrrp::{AuthType, StateWord, VrrpInstance};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::{Span, Spanned};
use crate::config::value::entry::AddressEntry;
use crate::config::value::number::Bool;
use crate::model::extras::UnicastPeer;
use crate::model::vrrp::{Authentication, InitialState, Preempt, Priority, Version, Vrid};
use crate::model::{Address, Instance, TrackedInterface};

/// Facts about an instance that are needed at the end of the text.
#[derive(Debug)]
pub(crate) struct Notes {
    /// The place of the block.
    pub span: Span,
    /// Position in the model; none if the instance was left out.
    pub index: Option<usize>,
    /// The place of the virtual router id.
    vrid: Span,
    /// The group it belongs to.
    pub group: Option<Name>,
    /// This version does not support it.
    /// It has `notify_priority_changes` of its own.
    pub says_priority_changes: bool,
}

/// Whether to keep a block; a second one with its name is reported.
pub(super) fn wants(block: &VrrpInstance, cx: &mut Load<'_>) -> bool {
    let name = &block.header.0;
    let Some(first) = cx.draft.instances.get(name).map(|n| n.span) else {
        return true;
    };
    cx.report(
        Diagnostic::error(
            &codes::DUPLICATE_NAME,
            format!("vrrp_instance {name} is already defined, this block is left out"),
        )
        .at(block.span)
        .related(first, "this one is used"),
    );
    false
}

pub(super) fn close(block: &VrrpInstance, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let mut notes = Notes {
        span: block.span,
        index: None,
        vrid: block.virtual_router_id.span(),
        group: None,
        says_priority_changes: block.notify_priority_changes.is_set(),
    };
    if let Some(instance) = resolve(block, cx) {
        notes.index = Some(cx.draft.model.vrrp.instances.len());
        cx.draft.model.vrrp.instances.push(instance);
    }
    cx.draft.instances.insert(name, notes);
}

/// Reports that a block cannot be used, and its other errors.
fn incomplete(block: &VrrpInstance, what: &str, cx: &mut Load<'_>) {
    tracker::interfaces(&block.track_interface.items, None, &block.header.0, cx);
    tracker::scripts(&block.track_script.items, &block.header.0, cx);
    extras::trackers(block, cx);
    let name = &block.header.0;
    cx.report(
        Diagnostic::error(&codes::INCOMPLETE, format!("({name}) {what}, the instance is left out"))
            .at(block.span)
            .after(block.end),
    );
}

fn resolve(block: &VrrpInstance, cx: &mut Load<'_>) -> Option<Instance> {
    let name = &block.header.0;
    let global = cx.draft.global();
    let strict = block.strict_mode.value().map_or_else(|| global.vrrp_strict().0, |b| b.0);
    let (family, told) = family(block, cx);
    let version = version(block, family, told, strict, cx);
    let Some(vrid) = block.virtual_router_id.value().and_then(|v| Vrid::new(v.u8())) else {
        incomplete(block, "the virtual router id must be set", cx);
        return None;
    };
    let unicast = extras::unicast(block, family, cx);
    let (interface, known) = interface(block, unicast.is_some(), cx)?;
    if strict && known.as_ref().is_some_and(|i| i.multicast) {
        strict_unicast(block, cx);
    }
    let (priority, state) = priority(block, strict, cx);
    let wants_master = state == InitialState::Master;
    let (authentication, ah_key) = authentication(block, version, strict, cx);
    let advert_int = advert_int(block, version, cx);
    let hmac = extras::hmac(block, strict, cx);
    let (authentication, ah_key) =
        if hmac.is_some() { (Authentication::None, None) } else { (authentication, ah_key) };
    let preempt = preempt(block, priority, wants_master, strict, cx);

    let mut seen = IndexSet::new();
    // Where the addresses of an instance are that names no interface has nothing to do with its peers.
    let of_addresses = match block.interface.value() {
        Some(_) => interface.clone(),
        None => cx.default_interface().unwrap_or_else(|| interface.clone()),
    };
    let mut list = virtual_addresses(block, family, &of_addresses, &mut seen, cx);
    let mut excluded =
        addresses(&block.virtual_ipaddress_excluded.items, &of_addresses, &mut seen, cx);
    if list.is_empty() && (strict || !block.no_virtual_ipaddress.is_set()) {
        if version == Version::V3 || strict {
            incomplete(block, "no VIP specified, at least one is required", cx);
            return None;
        }
        let message = format!("({name}) no virtual_ipaddress: nothing moves at a takeover");
        cx.report(Diagnostic::warning(&codes::INCOMPLETE, message).at(block.span));
    }
    let trailer = match (&ah_key, &hmac) {
        (_, Some(_)) => 28,
        (Some(_), None) => 24,
        _ => 0,
    };
    let room = known.as_ref().map_or(1500, |i| i.mtu).saturating_sub(trailer);
    fit(block, family, version, room, &mut list, &mut excluded, cx);

    let mut track_interfaces =
        tracker::interfaces(&block.track_interface.items, Some(&interface), name, cx);
    follow_addresses(&mut track_interfaces, &interface, list.iter().chain(&excluded));
    let routes = block.virtual_routes.items.iter().map(|e| &e.value.route);
    follow(&mut track_interfaces, &interface, routes.flat_map(super::route::tracked));
    let rules = block.virtual_rules.items.iter().map(|e| &e.value.rule);
    follow(&mut track_interfaces, &interface, rules.flat_map(super::route::tracked_by_rule));
    let track_scripts = tracker::scripts(&block.track_script.items, name, cx);
    let notify = notify(block, cx);
    let garp = garp(block, strict, cx);
    let mut source = source(block, family, cx);
    let settled =
        Settled { family, version, vrid, priority, strict, preempt, multicast: unicast.is_none() };
    let all = list.iter_mut().chain(&mut excluded);
    let links = vmac::links(block, settled, &interface, all, cx);
    let first = links.addresses.first().map(|address| address.prefix.address);
    source = source.or(first.filter(|_| block.use_ipvlan.is_set()));
    let rest = extras::extras(block, settled, links, unicast, ah_key, hmac, cx);
    let down_timer_adverts = down_timer_adverts(block, strict, cx);
    let lower = switch(
        block,
        "lower_prio_no_advert",
        block.lower_prio_no_advert.0.as_ref(),
        strict.then_some(true),
        cx,
    );
    let higher = switch(
        block,
        "higher_prio_send_advert",
        block.higher_prio_send_advert.0.as_ref(),
        strict.then_some(false),
        cx,
    );
    let global = cx.draft.global();
    let owner_ignores = match block.owner_ignore_adverts.value() {
        Some(own) => own.0,
        None => strict || global.vrrp_owner_ignore_adverts().0,
    };
    let mut instance = Instance {
        name: name.clone(),
        interface,
        vrid,
        family,
        version,
        state,
        priority,
        advert_int,
        down_timer_adverts,
        authentication,
        source,
        destination: block
            .mcast_dst_ip
            .value()
            .map(|m| m.0)
            .filter(|m| Family::of(m) == family && settled.multicast)
            .unwrap_or_else(|| global.group(family)),
        addresses: list,
        excluded,
        preempt,
        dont_track_primary: block.dont_track_primary.is_set(),
        track_interfaces,
        track_scripts,
        garp,
        lower_prio_no_advert: lower.unwrap_or_else(|| global.vrrp_lower_prio_no_advert().0),
        higher_prio_send_advert: higher.unwrap_or_else(|| global.vrrp_higher_prio_send_advert().0),
        // Any value switches it on for keepalived, false too; that is a defect and not followed.
        skip_check_adv_addr: block
            .skip_check_adv_addr
            .value()
            .map_or_else(|| global.vrrp_skip_check_adv_addr().0, |b| b.0),
        owner_ignore_adverts: priority.is_owner() && owner_ignores,
        v3_checksum_as_v2: block
            .v3_checksum_as_v2
            .value()
            .map_or(global.v3_checksum_as_v2.is_set(), |b| b.0),
        notify,
        notify_deleted: block.notify_deleted.is_set(),
        extras: rest,
        smtp_alert: block.smtp_alert.value().map_or_else(|| global.mail_vrrp(), |b| b.0),
    };
    if priority.is_owner() {
        owner_without_weights(block, &mut instance, cx);
        owned(block, &instance, cx);
    } else if block.owner_ignore_adverts.value().is_some_and(|b| b.0) {
        ignored(
            block,
            "owner_ignore_adverts is for priority 255 only",
            block.owner_ignore_adverts.span(),
            cx,
        );
    }
    Some(instance)
}

/// The interface, and what is known about it. None if there is none, which is reported.
fn interface(
    block: &VrrpInstance,
    unicast: bool,
    cx: &mut Load<'_>,
) -> Option<(IfName, Option<crate::config::host::Interface>)> {
    let name = &block.header.0;
    let Some(interface) = block.interface.value().map(|i| i.0.clone()) else {
        if unicast && block.unicast_src_ip.is_set() {
            return of_source(block, cx).map(|interface| (interface, None));
        }
        incomplete(block, "no interface is set", cx);
        return None;
    };
    let at = block.interface.span();
    let exists = cx.check_interface(Some(&interface), at, &format!("for vrrp_instance {name}"));
    let known = exists.then(|| cx.interface(&interface)).flatten();
    if let Some(found) = &known {
        if !found.multicast && !unicast {
            let message = format!("({name}) interface {interface} does not support multicast");
            cx.report(Diagnostic::environment(&codes::NO_INTERFACE, message).at(at));
        }
        if !found.ethernet && (block.use_vmac.is_set() || block.use_ipvlan.is_set()) {
            let message = format!("({name}) interface {interface} is not an Ethernet interface");
            let new = Diagnostic::environment(&codes::NO_INTERFACE, message).at(at);
            cx.report(new.note("a VMAC or ipvlan interface cannot be created on it"));
        }
    }
    Some((interface, known))
}

/// The interface of a unicast instance that names none: the one that has its source address, else the default one.
fn of_source(block: &VrrpInstance, cx: &mut Load<'_>) -> Option<IfName> {
    let source = block.unicast_src_ip.value()?.0;
    let vrf = block.vrf.value().map(|vrf| &vrf.0);
    let all = cx.host.interfaces().into_iter();
    let holders = all.filter_map(|name| Some((cx.host.interface(&name)?, name)));
    let mut holders: Vec<_> = holders
        .filter(|(found, _)| found.addresses.iter().any(|prefix| prefix.address == source))
        .collect();
    // Two VRFs may have the same addresses.
    holders.sort_by_key(|(found, _)| vrf.is_some() && found.controller.as_ref() != vrf);
    if let Some((_, found)) = holders.into_iter().next() {
        return Some(found);
    }
    let default = cx.default_interface()?;
    let message = format!("({}) no interface has the source address {source}", block.header.0);
    let new =
        Diagnostic::environment(&codes::NO_INTERFACE, message).at(block.unicast_src_ip.span());
    cx.report(new.note(format!("{default} is used until a reload finds one that has it")));
    Some(default)
}

/// Unicast adverts are not in the RFCs.
fn strict_unicast(block: &VrrpInstance, cx: &mut Load<'_>) {
    if let Some(peer) = block.unicast_peer.items.first() {
        let message = format!(
            "({}) strict mode does not provide for unicast where there is multicast; the peers are used",
            block.header.0
        );
        let new = Diagnostic::warning(&codes::CONFLICT, message).at(peer.span);
        cx.report(new.note("keepalived 2.4 does not start with this"));
    }
}

/// Priority and initial state, each of which gives the default of the other.
fn priority(block: &VrrpInstance, strict: bool, cx: &mut Load<'_>) -> (Priority, InitialState) {
    let wants = block.state.0.as_ref().map(|s| s.value);
    let default = if wants == Some(StateWord::Master) { 255 } else { 100 };
    let number = block.priority.value().map_or(default, |p| p.u8());
    let priority = Priority::new(number).unwrap_or(Priority::OWNER);
    let mut master = wants.map_or(priority.is_owner(), |w| w == StateWord::Master);
    if strict && master != priority.is_owner() {
        let at = block.state.0.as_ref().map_or(block.span, |s| s.span);
        let message = format!(
            "({}) in strict mode state MASTER requires priority 255 and the reverse; the priority is used",
            block.header.0
        );
        cx.report(Diagnostic::warning(&codes::CONFLICT, message).at(at));
        master = priority.is_owner();
    }
    let ah =
        block.authentication.0.as_ref().is_some_and(|a| a.auth_type.value() == Some(&AuthType::Ah));
    if ah && master && !priority.is_owner() {
        let at = block.state.0.as_ref().map_or(block.span, |s| s.span);
        ignored(block, "initial state MASTER is incompatible with AH authentication", at, cx);
        master = false;
    }
    (priority, if master { InitialState::Master } else { InitialState::Backup })
}

/// A switch whose value strict mode forces.
fn switch(
    block: &VrrpInstance,
    what: &str,
    own: Option<&Spanned<Bool>>,
    forced: Option<bool>,
    cx: &mut Load<'_>,
) -> Option<bool> {
    if let (Some(own), Some(forced)) = (own, forced)
        && own.value.0 != forced
    {
        let word = if forced { "on" } else { "off" };
        let message =
            format!("({}) strict mode requires {what} {word}, which is used", block.header.0);
        cx.report(Diagnostic::warning(&codes::CONFLICT, message).at(own.span));
    }
    forced.or(own.map(|b| b.value.0))
}

/// The family of the first setting that determines one, with its place.
fn family(block: &VrrpInstance, cx: &mut Load<'_>) -> (Family, Option<Span>) {
    let vip = block.virtual_ipaddress.items.first();
    let peer = block.unicast_peer.items.first();
    let of = |ip: Option<&crate::config::value::address::Ip>, at: Span| {
        ip.map(|ip| (at, Family::of(&ip.0)))
    };
    let ipvlan = block.use_ipvlan.value().and_then(|i| i.address);
    let told = [
        vip.map(|e| (e.span, e.value.prefix.family())),
        peer.map(|p| (p.span, Family::of(&p.value.peer.address))),
        of(block.mcast_src_ip.value(), block.mcast_src_ip.span()),
        of(block.unicast_src_ip.value(), block.unicast_src_ip.span()),
        block.mcast_dst_ip.value().map(|ip| (block.mcast_dst_ip.span(), Family::of(&ip.0))),
        ipvlan.map(|p| (block.use_ipvlan.span(), p.family())),
        block.native_ipv6.is_set().then(|| (block.native_ipv6.span(), Family::V6)),
    ];
    let first = told.into_iter().flatten().min_by_key(|(span, _)| cx.sources.order(*span));
    let (family, at) = match first {
        Some((at, family)) => (family, Some(at)),
        None => (Family::V4, None),
    };
    if family == Family::V4 && block.native_ipv6.is_set() {
        let message = format!(
            "({}) native_ipv6 cannot be combined with IPv4 addresses, ignored",
            block.header.0
        );
        cx.report(Diagnostic::error(&codes::CONFLICT, message).at(block.native_ipv6.span()));
    }
    if let Some(group) = block.mcast_dst_ip.value().filter(|g| Family::of(&g.0) != family) {
        wrong_family(block, "destination", &group.0, family, block.mcast_dst_ip.span(), cx);
    }
    (family, at)
}

fn preempt(
    block: &VrrpInstance,
    priority: Priority,
    wants_master: bool,
    strict: bool,
    cx: &mut Load<'_>,
) -> Preempt {
    let name = &block.header.0;
    let cleared = |what: &str, why: &str, at: Span, cx: &mut Load<'_>| {
        let message = format!("({name}) {what} does not work with {why}, ignored");
        cx.report(Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(at));
    };
    let mut never = block.nopreempt.is_set();
    if never && priority.is_owner() {
        cleared("nopreempt", "priority 255", block.nopreempt.span(), cx);
        never = false;
    } else if never && wants_master {
        let message =
            format!("({name}) nopreempt does not work with initial state MASTER, ignored");
        cx.report(
            Diagnostic::warning(&codes::NOPREEMPT_MASTER, message)
                .at(block.nopreempt.span())
                .related(block.state.0.as_ref().map_or(Span::NONE, |s| s.span), "the state")
                .help("write 'state BACKUP': the router with the higher priority still becomes master at start"),
        );
        never = false;
    }
    let delay = block.preempt_delay().0;
    let at = block.preempt_delay.span();
    if delay > 0 && wants_master {
        cleared("preempt_delay", "initial state MASTER", at, cx);
    } else if delay > 0 && strict {
        cleared("preempt_delay", "strict mode", at, cx);
    } else if delay > 0 && never {
        cleared("preempt_delay", "nopreempt", at, cx);
    } else if !never {
        return Preempt::After(Duration::from_micros(delay));
    }
    if never { Preempt::Never } else { Preempt::After(Duration::ZERO) }
}

/// `virtual_ipaddress`, without addresses of another family.
fn virtual_addresses(
    block: &VrrpInstance,
    family: Family,
    interface: &IfName,
    seen: &mut IndexSet<(crate::base::Prefix, IfName)>,
    cx: &mut Load<'_>,
) -> Vec<Address> {
    let items = &block.virtual_ipaddress.items;
    if items.iter().all(|e| e.value.prefix.family() == family) {
        return addresses(items, interface, seen, cx);
    }
    let mut mine: Vec<Spanned<AddressEntry>> = Vec::with_capacity(items.len());
    for entry in items {
        if entry.value.prefix.family() == family {
            mine.push(entry.clone());
        } else {
            wrong_family(block, "address", &entry.value.prefix.address, family, entry.span, cx);
        }
    }
    addresses(&mine, interface, seen, cx)
}

/// Interfaces of addresses are tracked, unless the address has no_track.
pub(super) fn follow_addresses<'a>(
    tracked: &mut Vec<TrackedInterface>,
    own: &IfName,
    addresses: impl Iterator<Item = &'a Address>,
) {
    follow(tracked, own, addresses.filter(|a| !a.no_track).map(|a| &a.interface));
}

/// Whether two instances of one id, family and interface would accept the same adverts.
fn hear_the_same(one: &Instance, other: &Instance) -> bool {
    match (one.unicast(), other.unicast()) {
        (None, None) => one.destination == other.destination,
        (Some(a), Some(b)) => {
            let is_common = |peer: &UnicastPeer| b.peers.iter().any(|p| p.address == peer.address);
            one.source == other.source && a.peers.iter().any(is_common)
        }
        _ => false,
    }
}

/// Ids that are used twice, and the effects of group membership.
pub(super) fn finish(cx: &mut Load<'_>) {
    let mut seen: IndexMap<(Family, Vrid, IfName), Vec<&Instance>> = IndexMap::new();
    let mut doubled: IndexMap<Name, (&Instance, Name)> = IndexMap::new();
    for instance in &cx.draft.model.vrrp.instances {
        let key = (instance.family, instance.vrid, instance.interface.clone());
        let others = seen.entry(key).or_default();
        match others.iter().find(|other| hear_the_same(other, instance)) {
            Some(first) => {
                doubled.entry(instance.name.clone()).or_insert((instance, first.name.clone()));
            }
            None => others.push(instance),
        }
    }
    let mut new = Vec::new();
    for (name, (instance, first)) in &doubled {
        let (Some(notes), Some(other)) =
            (cx.draft.instances.get(name), cx.draft.instances.get(first))
        else {
            continue;
        };
        let message = format!(
            "{first} and {name} both use VRID {} with {} on interface {}, {name} is left out",
            instance.vrid, instance.family, instance.interface
        );
        new.push(
            Diagnostic::error(&codes::DUPLICATE_VRID, message)
                .at(notes.vrid)
                .related(other.vrid, "used here"),
        );
    }
    let gone: IndexSet<Name> = doubled.into_keys().collect();
    for new in new {
        cx.report(new);
    }
    super::group::forget(&gone, cx);
}
