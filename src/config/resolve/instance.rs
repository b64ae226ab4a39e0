//! `vrrp_instance`: family, version, defaults and what excludes what.

use core::net::IpAddr;
use core::time::Duration;

use indexmap::{IndexMap, IndexSet};

use super::address::addresses;
use super::command::{Purpose, command};
use super::tracker;
use crate::base::{Family, IfName, Name, Secret};
use crate::config::block::root::TopLevel;
use crate::config::block::vrrp::{AuthType, StateWord, VrrpInstance};
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::config::slot::First;
use crate::config::span::{Span, Spanned};
use crate::config::value::entry::AddressEntry;
use crate::config::value::script::Script;
use crate::model::notify::NotifyCommands;
use crate::model::vrrp::{Authentication, Garp, InitialState, Preempt, Priority, Version, Vrid};
use crate::model::{Address, Command, Instance, TrackedInterface, Weight};

/// What the end of the text has to know about an instance.
#[derive(Debug)]
pub(crate) struct Notes {
    /// Where the block stands.
    pub span: Span,
    /// Place in the model; none if the instance was left out.
    pub index: Option<usize>,
    /// Where the virtual router id stands.
    vrid: Span,
    /// What the instance would like to be, also below priority 255.
    pub wants_master: bool,
    /// The group it belongs to.
    pub group: Option<Name>,
    /// This version cannot carry it out.
    pub parked: bool,
}

impl TopLevel for VrrpInstance {
    fn open(&self, cx: &mut Cx<'_>) -> bool {
        let name = &self.header.0;
        let Some(first) = cx.draft.instances.get(name).map(|n| n.span) else {
            return true;
        };
        cx.report(
            Diagnostic::error(
                &codes::DUPLICATE_NAME,
                format!("vrrp instance {name} already defined, this block is left out"),
            )
            .at(self.span)
            .related(first, "this one counts"),
        );
        false
    }

    fn close(self, cx: &mut Cx<'_>) {
        let name = self.header.0.clone();
        let mut notes = Notes {
            span: self.span,
            index: None,
            vrid: self.virtual_router_id.span(),
            wants_master: false,
            group: None,
            parked: false,
        };
        if let Some(instance) = resolve(&self, &mut notes, cx) {
            notes.index = Some(cx.draft.model.vrrp.instances.len());
            cx.draft.model.vrrp.instances.push(instance);
        }
        cx.draft.instances.insert(name, notes);
    }
}

/// Reports that a block cannot be used.
fn incomplete(block: &VrrpInstance, what: &str, cx: &mut Cx<'_>) {
    let name = &block.header.0;
    cx.report(
        Diagnostic::error(&codes::INCOMPLETE, format!("({name}) {what}, the instance is left out"))
            .at(block.span),
    );
}

fn resolve(block: &VrrpInstance, notes: &mut Notes, cx: &mut Cx<'_>) -> Option<Instance> {
    let name = &block.header.0;
    let family = family(block, cx);
    let version = version(block, family, cx);
    let Some(vrid) = block.virtual_router_id.value().and_then(|v| Vrid::new(v.u8())) else {
        incomplete(block, "the virtual router id must be set", cx);
        return None;
    };
    let Some(interface) = block.interface.value().map(|i| i.0.clone()) else {
        incomplete(block, "no interface is set", cx);
        return None;
    };
    let exists = cx.check_interface(
        Some(&interface),
        block.interface.span(),
        &format!("for vrrp_instance {name}"),
    );
    let known = exists.then(|| cx.interface(&interface)).flatten();

    // Priority and state.
    let wants = block.state.0.as_ref().map(|s| s.value);
    let number = block
        .priority
        .value()
        .map_or(if wants == Some(StateWord::Master) { 255 } else { 100 }, |p| p.u8());
    let priority = Priority::new(number).unwrap_or(Priority::OWNER);
    let wants_master = wants.map_or(priority.is_owner(), |w| w == StateWord::Master);
    notes.wants_master = wants_master;
    let state = if wants_master { InitialState::Master } else { InitialState::Backup };

    let authentication = authentication(block, version, cx)?;
    let advert_int = advert_int(block, version, cx);
    let preempt = preempt(block, priority, wants_master, cx);

    // Addresses.
    let mut seen = IndexSet::new();
    let (mine, other): (Vec<&Spanned<AddressEntry>>, Vec<_>) =
        block.virtual_ipaddress.items.iter().partition(|e| e.value.prefix.family() == family);
    let mut list;
    if other.is_empty() {
        list = addresses(&block.virtual_ipaddress.items, &interface, &mut seen, cx);
    } else {
        for entry in other {
            let message = format!(
                "({name}) address {} is not an {family} address like the instance, ignored",
                entry.value.prefix
            );
            cx.report(Diagnostic::error(&codes::FAMILY, message).at(entry.span));
        }
        let mine: Vec<Spanned<AddressEntry>> = mine.into_iter().cloned().collect();
        list = addresses(&mine, &interface, &mut seen, cx);
    }
    let mut excluded =
        addresses(&block.virtual_ipaddress_excluded.items, &interface, &mut seen, cx);
    if list.is_empty() && !block.no_virtual_ipaddress.is_set() {
        if version == Version::V3 {
            incomplete(block, "no VIP specified, at least one is required", cx);
            return None;
        }
        let message = format!("({name}) no VIP specified, at least one is sensible");
        cx.report(Diagnostic::warning(&codes::INCOMPLETE, message).at(block.span));
    }
    fit(
        block,
        family,
        version,
        known.as_ref().map_or(1500, |i| i.mtu),
        &mut list,
        &mut excluded,
        cx,
    );

    let mut track_interfaces =
        tracker::interfaces(&block.track_interface.items, Some(&interface), name, cx);
    follow_addresses(&mut track_interfaces, &interface, list.iter().chain(&excluded));
    let track_scripts = tracker::scripts(&block.track_script.items, name, cx);
    let notify = notify(block, cx);
    let garp = garp(block, cx);
    let source = source(block, family, cx);
    let global = cx.draft.global();
    let owner_ignores = block
        .owner_ignore_adverts
        .value()
        .or(global.vrrp_owner_ignore_adverts.value())
        .is_some_and(|b| b.0);
    let choose = |own: Option<&crate::config::value::number::Bool>,
                  global: Option<&crate::config::value::number::Bool>| {
        own.or(global).is_some_and(|b| b.0)
    };
    let instance = Instance {
        name: name.clone(),
        interface,
        vrid,
        family,
        version,
        state,
        priority,
        advert_int,
        down_timer_adverts: block
            .down_timer_adverts
            .value()
            .or(global.vrrp_down_timer_adverts.value())
            .map_or(3, |n| n.u8()),
        authentication,
        source,
        destination: block
            .mcast_dst_ip
            .value()
            .map(|m| m.0)
            .filter(|m| Family::of(m) == family)
            .unwrap_or_else(|| global.group(family)),
        addresses: list,
        excluded,
        preempt,
        dont_track_primary: block.dont_track_primary.is_set(),
        track_interfaces,
        track_scripts,
        garp,
        lower_prio_no_advert: choose(
            block.lower_prio_no_advert.value(),
            global.vrrp_lower_prio_no_advert.value(),
        ),
        higher_prio_send_advert: choose(
            block.higher_prio_send_advert.value(),
            global.vrrp_higher_prio_send_advert.value(),
        ),
        skip_check_adv_addr: choose(
            block.skip_check_adv_addr.value(),
            global.vrrp_skip_check_adv_addr.value(),
        ),
        owner_ignore_adverts: priority.is_owner() && owner_ignores,
        v3_checksum_as_v2: block
            .v3_checksum_as_v2
            .value()
            .map_or(global.v3_checksum_as_v2.is_set(), |b| b.0),
        notify,
        notify_deleted: block.notify_deleted.is_set(),
        extras: None,
        smtp_alert: block.smtp_alert.value().map_or_else(|| global.mail_vrrp(), |b| b.0),
    };
    Some(instance)
}

/// The family is that of whatever tells one first.
fn family(block: &VrrpInstance, cx: &Cx<'_>) -> Family {
    let first = block.virtual_ipaddress.items.first();
    let told = [
        block.native_ipv6.is_set().then(|| (block.native_ipv6.span(), Family::V6)),
        first.map(|e| (e.span, e.value.prefix.family())),
        block.mcast_src_ip.value().map(|ip| (block.mcast_src_ip.span(), Family::of(&ip.0))),
        block.mcast_dst_ip.value().map(|ip| (block.mcast_dst_ip.span(), Family::of(&ip.0))),
    ];
    told.into_iter()
        .flatten()
        .min_by_key(|(span, _)| cx.sources.order(*span))
        .map_or(Family::V4, |(_, family)| family)
}

fn version(block: &VrrpInstance, family: Family, cx: &mut Cx<'_>) -> Version {
    let own = block.version.value().map(|v| v.u8());
    let number = match family {
        Family::V6 => own.unwrap_or(3),
        Family::V4 => {
            let default = cx.draft.global().vrrp_version.value().map_or(2, |v| v.u8());
            own.unwrap_or(default)
        }
    };
    if number == 2 { Version::V2 } else { Version::V3 }
}

/// None if this version cannot carry out the authentication.
fn authentication(
    block: &VrrpInstance,
    version: Version,
    cx: &mut Cx<'_>,
) -> Option<Authentication> {
    let name = &block.header.0;
    let Some(given) = &block.authentication.0 else {
        return Some(Authentication::None);
    };
    let Some(kind) = given.auth_type.value() else {
        return Some(Authentication::None);
    };
    let ignored = |message: String, cx: &mut Cx<'_>| {
        cx.report(Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(given.auth_type.span()));
        Some(Authentication::None)
    };
    if version == Version::V3 {
        let message = format!("({name}) VRRP version 3 does not support authentication, ignored");
        return ignored(message, cx);
    }
    let password = given.auth_pass.value().filter(|p| !p.0.is_empty());
    let Some(password) = password else {
        let message = format!("({name}) authentication without a password, ignored");
        return ignored(message, cx);
    };
    match kind {
        AuthType::Pass => {
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().zip(password.0.iter()) {
                *to = *from;
            }
            Some(Authentication::Pass(Secret::new(bytes)))
        }
        AuthType::Ah => {
            let message =
                format!("({name}) authentication type AH is not possible in this version");
            cx.report(
                Diagnostic::error(&codes::LEFT_OUT, message)
                    .class(crate::config::diagnostic::Class::Quiet)
                    .at(given.auth_type.span())
                    .label("the instance is left out"),
            );
            None
        }
    }
}

/// Version 2 takes whole seconds, version 3 multiples of 10 ms up to 40.95 s.
fn advert_int(block: &VrrpInstance, version: Version, cx: &mut Cx<'_>) -> Duration {
    let name = &block.header.0;
    let Some(given) = block.advert_int.value() else {
        return Duration::from_secs(1);
    };
    let micros = given.0;
    let fitting = match version {
        Version::V2 => micros.saturating_add(500_000) / 1_000_000 * 1_000_000,
        Version::V3 => (micros.saturating_add(5_000) / 10_000 * 10_000).min(40_950_000),
    }
    .max(match version {
        Version::V2 => 1_000_000,
        Version::V3 => 10_000,
    });
    if fitting != micros {
        let used = crate::config::value::number::show_micros(fitting);
        let message = match version {
            Version::V2 => {
                format!("({name}) advert_int of version 2 must be whole seconds, {used} is used")
            }
            Version::V3 => {
                format!(
                    "({name}) advert_int of version 3 must be a multiple of 0.01 up to 40.95, {used} is used"
                )
            }
        };
        let new = Diagnostic::warning(&codes::ADJUSTED, message).at(block.advert_int.span());
        cx.report(new.replacement(used));
    }
    Duration::from_micros(fitting)
}

fn preempt(
    block: &VrrpInstance,
    priority: Priority,
    wants_master: bool,
    cx: &mut Cx<'_>,
) -> Preempt {
    let name = &block.header.0;
    let cleared = |what: &str, why: &str, at: Span, cx: &mut Cx<'_>| {
        let message = format!("({name}) {what} does not work with {why}, ignored");
        cx.report(Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(at));
    };
    let mut never = block.nopreempt.is_set();
    if never && priority.is_owner() {
        cleared("nopreempt", "priority 255", block.nopreempt.span(), cx);
        never = false;
    } else if never && wants_master {
        cleared("nopreempt", "initial state MASTER", block.nopreempt.span(), cx);
        never = false;
    }
    let delay = block.preempt_delay.value().map_or(0, |d| d.0);
    let at = block.preempt_delay.span();
    if delay > 0 && wants_master {
        cleared("preempt_delay", "initial state MASTER", at, cx);
    } else if delay > 0 && never {
        cleared("preempt_delay", "nopreempt", at, cx);
    } else if !never {
        return Preempt::After(Duration::from_micros(delay));
    }
    if never { Preempt::Never } else { Preempt::After(Duration::ZERO) }
}

/// Moves addresses that do not fit into an advert to the excluded ones.
fn fit(
    block: &VrrpInstance,
    family: Family,
    version: Version,
    mtu: u32,
    list: &mut Vec<Address>,
    excluded: &mut Vec<Address>,
    cx: &mut Cx<'_>,
) {
    let header = match (family, version) {
        (Family::V4, Version::V2) => 20 + 8 + 8,
        (Family::V4, Version::V3) => 20 + 8,
        (Family::V6, _) => 40 + 8,
    };
    let room = (mtu as usize).saturating_sub(14 + header) / family.octets();
    let most = room.clamp(1, 255);
    if list.len() <= most {
        return;
    }
    let name = &block.header.0;
    let message = format!(
        "({name}) {} addresses do not fit into an advert, which has room for {most}; the rest is excluded from it",
        list.len()
    );
    let at = block.virtual_ipaddress.items.get(most).map_or(block.span, |e| e.span);
    cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at).label("from here on"));
    let mut moved = list.split_off(most);
    moved.append(excluded);
    *excluded = moved;
}

/// Interfaces of addresses are tracked, unless the address says no_track.
pub(super) fn follow_addresses<'a>(
    tracked: &mut Vec<TrackedInterface>,
    own: &IfName,
    addresses: impl Iterator<Item = &'a Address>,
) {
    let mut seen: IndexSet<IfName> = tracked.iter().map(|t| t.interface.clone()).collect();
    for address in addresses.filter(|a| !a.no_track && a.interface != *own) {
        if seen.insert(address.interface.clone()) {
            tracked.push(TrackedInterface {
                interface: address.interface.clone(),
                weight: Weight::FAULT,
            });
        }
    }
}

/// A notification, ready to run.
pub(super) fn script(
    slot: &First<Script>,
    keyword: &str,
    owner: &str,
    cx: &mut Cx<'_>,
) -> Option<Command> {
    let script = slot.value()?;
    command(script, None, Purpose::Notify, &format!("{keyword} of {owner}"), cx)
}

fn notify(block: &VrrpInstance, cx: &mut Cx<'_>) -> NotifyCommands {
    let owner = &block.header.0;
    let deleted = block.notify_deleted.value().and_then(|s| s.0.as_ref());
    let deleted = deleted
        .and_then(|s| command(s, None, Purpose::Notify, &format!("notify_deleted of {owner}"), cx));
    NotifyCommands {
        master: script(&block.notify_master, "notify_master", owner, cx),
        backup: script(&block.notify_backup, "notify_backup", owner, cx),
        fault: script(&block.notify_fault, "notify_fault", owner, cx),
        stop: script(&block.notify_stop, "notify_stop", owner, cx),
        deleted,
        any: script(&block.notify, "notify", owner, cx),
        master_rx_lower_pri: script(
            &block.notify_master_rx_lower_pri,
            "notify_master_rx_lower_pri",
            owner,
            cx,
        ),
    }
}

fn source(block: &VrrpInstance, family: Family, cx: &mut Cx<'_>) -> Option<IpAddr> {
    let address = block.mcast_src_ip.value()?.0;
    if Family::of(&address) == family {
        return Some(address);
    }
    let name = &block.header.0;
    let message = format!("({name}) source address {address} is not an {family} address, ignored");
    cx.report(Diagnostic::error(&codes::FAMILY, message).at(block.mcast_src_ip.span()));
    None
}

fn garp(block: &VrrpInstance, cx: &mut Cx<'_>) -> Garp {
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    // A repeat of 0 is reported and counts as 1.
    let mut zero: Vec<(&str, Span)> = Vec::new();
    let global = cx.draft.global();
    let least = global.vrrp_min_garp.value().is_some_and(|b| b.0);
    let mut repeat = |own: Option<(u32, Span)>, name: &'static str, other: u32| match own {
        Some((0, at)) => {
            zero.push((name, at));
            1
        }
        Some((n, _)) => n,
        None => other,
    };
    macro_rules! own {
        ($slot:expr) => {
            $slot.value().map(|n| (n.u32(), $slot.span()))
        };
    }
    let first = |n: Option<u32>, default: u32, minimal: u32| match n {
        Some(n) => n,
        None if least => minimal,
        None => default,
    };
    let delay = first(global.vrrp_garp_master_delay.value().map(|n| n.u32()), 5, 0);
    let times = first(global.vrrp_garp_master_repeat.value().map(|n| n.u32().max(1)), 5, 1);
    let refresh = first(global.vrrp_garp_master_refresh.value().map(|n| n.u32()), 0, 0);
    let refresh_repeat =
        first(global.vrrp_garp_master_refresh_repeat.value().map(|n| n.u32().max(1)), 1, 1);
    let lower_delay = global.vrrp_garp_lower_prio_delay.value().map_or(delay, |n| n.u32());
    let lower_repeat = global.vrrp_garp_lower_prio_repeat.value().map_or(times, |n| n.u32());
    let garp = Garp {
        repeat: repeat(own!(block.garp_master_repeat), "garp_master_repeat", times),
        delay: seconds(block.garp_master_delay.value().map_or(delay, |n| n.u32())),
        refresh: seconds(block.garp_master_refresh.value().map_or(refresh, |n| n.u32())),
        refresh_repeat: repeat(
            own!(block.garp_master_refresh_repeat),
            "garp_master_refresh_repeat",
            refresh_repeat,
        ),
        lower_prio_repeat: block.garp_lower_prio_repeat.value().map_or(lower_repeat, |n| n.u32()),
        lower_prio_delay: seconds(
            block.garp_lower_prio_delay.value().map_or(lower_delay, |n| n.u32()),
        ),
        interval: global.vrrp_garp_interval.value().map_or(Duration::ZERO, |t| t.duration()),
        na_interval: global.vrrp_gna_interval.value().map_or(Duration::ZERO, |t| t.duration()),
    };
    let name = &block.header.0;
    for (keyword, at) in zero {
        let message = format!("({name}) {keyword} must be greater than 0, 1 is used");
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at).replacement("1"));
    }
    garp
}

/// Ids that are used twice, and what membership in a group does.
pub(super) fn finish(cx: &mut Cx<'_>) {
    let mut seen: IndexMap<(Family, Vrid, IfName, IpAddr), Name> = IndexMap::new();
    let mut doubled = IndexSet::new();
    for instance in &cx.draft.model.vrrp.instances {
        let key =
            (instance.family, instance.vrid, instance.interface.clone(), instance.destination);
        if let Some(first) = seen.get(&key) {
            doubled.insert((instance.name.clone(), first.clone()));
        } else {
            seen.insert(key, instance.name.clone());
        }
    }
    for (name, first) in &doubled {
        let (Some(notes), Some(other)) =
            (cx.draft.instances.get(name), cx.draft.instances.get(first))
        else {
            continue;
        };
        let instance = cx.draft.model.vrrp.instances.iter().find(|i| i.name == *name);
        let Some(instance) = instance else {
            continue;
        };
        let message = format!(
            "{first} and {name} both use VRID {} with {} on interface {}, {name} is left out",
            instance.vrid, instance.family, instance.interface
        );
        let new = Diagnostic::error(&codes::DUPLICATE_VRID, message)
            .at(notes.vrid)
            .related(other.vrid, "used here");
        cx.report(new);
    }
    let gone: IndexSet<Name> = doubled.into_iter().map(|(name, _)| name).collect();
    super::group::forget(&gone, cx);
}
