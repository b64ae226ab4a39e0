//! Rare settings of instances: unicast, HMAC, routes, further trackers.

use core::time::Duration;

use indexmap::IndexSet;

use super::Load;
use super::route::{routes, rules};
use super::settled::{Settled, ignored, source_is_set, wrong_family};
use super::track::{Kind, tracked};
use super::vmac::Links;
use crate::base::{Family, Secret};
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::value::router::{AntiReplay, HmacModeWord};
use crate::model::extras::{GarpExtra, Hmac, HmacKey, HmacMode, InstanceExtras, Unicast};
use crate::model::vrrp::{Preempt, Version};

/// Adverts to single routers; none for multicast.
pub(super) fn unicast(block: &VrrpInstance, family: Family, cx: &mut Load<'_>) -> Option<Unicast> {
    let mut seen = IndexSet::new();
    let mut peers = Vec::with_capacity(block.unicast_peer.items.len());
    let mut limited = false;
    for entry in &block.unicast_peer.items {
        let peer = entry.value.peer;
        if Family::of(&peer.address) != family {
            wrong_family(block, "peer", &peer.address, family, entry.span, cx);
        } else if !seen.insert(peer.address) {
            let message =
                format!("({}) peer {} is already listed, ignored", block.header.0, peer.address);
            cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(entry.span));
        } else {
            limited |= entry.value.limited;
            peers.push(peer);
        }
    }
    let fault = block.unicast_fault_no_peer.is_set();
    if peers.is_empty() {
        if block.unicast_ttl.is_set() {
            ignored(block, "unicast_ttl has no effect without peers", block.unicast_ttl.span(), cx);
        }
        let keyword = [
            block.unicast_peer.at,
            block.unicast_src_ip.span(),
            block.check_unicast_src.span(),
            block.old_unicast_checksum.span(),
        ];
        if let (Some(at), false) = (keyword.into_iter().find(|s| s.is_some()), fault) {
            let message = format!(
                "({}) a unicast keyword without peers is deprecated, multicast is used",
                block.header.0
            );
            cx.report(Diagnostic::warning(&codes::DEPRECATED, message).at(at));
        }
        if !fault {
            return None;
        }
    }
    if block.mcast_dst_ip.is_set() {
        ignored(
            block,
            "mcast_dst_ip cannot be combined with unicast peers",
            block.mcast_dst_ip.span(),
            cx,
        );
    }
    Some(Unicast {
        peers,
        ttl: Some(block.unicast_ttl().u8()),
        check_source: limited
            || block.check_unicast_src.is_set()
            || cx.draft.global().vrrp_check_unicast_src.is_set(),
        fault_without_peer: fault,
        old_checksum: block.old_unicast_checksum.value().map(|o| o.0).unwrap_or_default(),
    })
}

/// `auth_hmac`, if it is complete.
pub(super) fn hmac(block: &VrrpInstance, strict: bool, cx: &mut Load<'_>) -> Option<Hmac> {
    let given = block.auth_hmac.0.as_ref()?;
    let name = &block.header.0;
    let mut ids = IndexSet::new();
    let mut keys = Vec::with_capacity(given.key.0.len());
    for key in &given.key.0 {
        if ids.insert(key.value.id) {
            keys.push(HmacKey { id: key.value.id, key: key.value.octets.clone() });
        } else {
            let message = format!("({name}) key {} is already defined, ignored", key.value.id);
            cx.report(Diagnostic::error(&codes::DUPLICATE_ENTRY, message).at(key.span));
        }
    }
    let active = given.active_key.value().map_or(0, |n| n.u8());
    if !ids.contains(&active) {
        let message =
            format!("({name}) active_key of auth_hmac is not defined, the block is ignored");
        cx.report(
            Diagnostic::error(&codes::INCOMPLETE, message)
                .at(given.end)
                .related(given.span, "it begins here"),
        );
        return None;
    }
    if let Some(old) = block.authentication.0.as_ref().filter(|a| a.auth_type.is_set()) {
        ignored(
            block,
            "authentication cannot be combined with auth_hmac",
            old.auth_type.span(),
            cx,
        );
    }
    let mut mode = match given.mode() {
        HmacModeWord::Enforce => HmacMode::Enforce,
        HmacModeWord::Permissive => HmacMode::Permissive,
        HmacModeWord::ReceiveOnly => HmacMode::ReceiveOnly,
    };
    if strict && mode != HmacMode::Enforce {
        ignored(block, "strict mode requires mode enforce of auth_hmac", given.mode.span(), cx);
        mode = HmacMode::Enforce;
    }
    let window = match given.time_window.value() {
        Some(seconds) => u64::from(seconds.u32()),
        None => {
            let interval = block.advert_int().0 / 1_000_000;
            (interval * 3).clamp(5, 300)
        }
    };
    Some(Hmac {
        keys,
        active,
        window: Duration::from_secs(window),
        monotonic: given.anti_replay() == AntiReplay::Monotonic,
        mode,
    })
}

/// Everything else. None if there is nothing.
pub(super) fn extras(
    block: &VrrpInstance,
    settled: Settled,
    links: Links,
    unicast: Option<Unicast>,
    ah_key: Option<Secret<[u8; 8]>>,
    hmac: Option<Hmac>,
    cx: &mut Load<'_>,
) -> Option<Box<InstanceExtras>> {
    let name = &block.header.0;
    let mut new = InstanceExtras {
        strict: settled.strict,
        accept: accept(block, settled, cx),
        own_link: links.own,
        address_links: links.for_addresses,
        link_addresses: links.addresses,
        vmac_xmit_base: links.xmit_base,
        unicast,
        ah_key,
        hmac,
        without_interface: !block.interface.is_set(),
        track_source: block.track_src_ip.is_set() && source_is_set(block),
        linkbeat_polling: block.linkbeat_use_polling.is_set(),
        routes: routes(&block.virtual_routes.items),
        rules: rules(&block.virtual_rules.items, cx),
        track_files: tracked(Kind::File, &block.track_file.items, name, cx),
        track_processes: tracked(Kind::Process, &block.track_process.items, name, cx),
        track_bfds: tracked(Kind::Bfd, &block.track_bfd.items, name, cx),
        timer_expired_backup: block.timer_expired_backup.value().map(|p| p.0),
        garp_extra: garp_extra(block, cx),
        receive_buffer: block.kernel_rx_buf_size.value().map(|n| n.u32()),
        sync_daemon_interface: block.lvs_sync_daemon_interface.value().map(|i| i.0.clone()),
        notify_priority_changes: match block.notify_priority_changes.value() {
            Some(own) => own.0,
            None => cx.draft.global().vrrp_notify_priority_changes().0,
        },
        ..InstanceExtras::default()
    };
    if new.timer_expired_backup.is_some() && settled.preempt != Preempt::Never {
        let at = block.timer_expired_backup.span();
        ignored(block, "timer_expired_backup needs nopreempt", at, cx);
        new.timer_expired_backup = None;
    }
    if let Some(vrf) = block.vrf.value() {
        if block.interface.is_set() || settled.multicast {
            ignored(
                block,
                "vrf is for unicast instances without an interface",
                block.vrf.span(),
                cx,
            );
        } else {
            new.vrf = Some(vrf.0.clone());
        }
    }
    if block.promote_secondaries.is_set() {
        if new.own_link.is_some() {
            let at = block.promote_secondaries.span();
            ignored(block, "promote_secondaries is always set for VMACs", at, cx);
        } else {
            new.promote_secondaries = true;
        }
    }
    for entry in &block.virtual_routes.items {
        not_static(entry.value.track_group.is_some(), block, entry.span, cx);
    }
    for entry in &block.virtual_rules.items {
        not_static(entry.value.track_group.is_some(), block, entry.span, cx);
    }
    let addresses =
        block.virtual_ipaddress.items.iter().chain(&block.virtual_ipaddress_excluded.items);
    for entry in addresses {
        not_static(entry.value.track_group.is_some(), block, entry.span, cx);
    }
    if settled.priority.is_owner() {
        let lost = |t: &crate::model::tracker::Tracked| t.weight != 0 && t.weight != 1;
        let count = new.track_files.iter().filter(|t| lost(t)).count()
            + new.track_bfds.iter().filter(|t| t.weight != 0).count();
        if count > 0 {
            ignored(
                block,
                "with priority 255 the weights of tracked objects have no effect",
                block.span,
                cx,
            );
        }
        new.track_files.retain(|t| !lost(t));
        for file in &mut new.track_files {
            file.weight = 0;
        }
        new.track_bfds.retain(|t| t.weight == 0);
    }
    (new != InstanceExtras::default()).then(|| Box::new(new))
}

/// Reports errors of further trackers of an instance that is left out.
pub(super) fn trackers(block: &VrrpInstance, cx: &mut Load<'_>) {
    let name = &block.header.0;
    tracked(Kind::File, &block.track_file.items, name, cx);
    tracked(Kind::Process, &block.track_process.items, name, cx);
    tracked(Kind::Bfd, &block.track_bfd.items, name, cx);
}

/// `track_group` is for static items.
fn not_static(given: bool, block: &VrrpInstance, at: crate::config::span::Span, cx: &mut Load<'_>) {
    if given {
        let message =
            format!("({}) 'track_group' is for static items only, ignored", block.header.0);
        cx.report(Diagnostic::error(&codes::OPTION, message).at(at));
    }
}

/// Whether packets to the addresses are accepted; none for the default.
fn accept(block: &VrrpInstance, settled: Settled, cx: &mut Load<'_>) -> Option<bool> {
    let owner = settled.priority.is_owner();
    if block.accept.is_set() && settled.strict && settled.version == Version::V2 && !owner {
        ignored(
            block,
            "accept does not comply with RFC 3768 in strict mode",
            block.accept.span(),
            cx,
        );
        return Some(false);
    }
    if block.no_accept.is_set() {
        return Some(owner);
    }
    if settled.strict && !owner && !block.accept.is_set() {
        return Some(false);
    }
    None
}

fn garp_extra(block: &VrrpInstance, cx: &mut Load<'_>) -> Option<GarpExtra> {
    let own = block.garp_extra_if.value().map(|g| (g.all, g.seconds));
    let global = cx.draft.global().vrrp_garp_extra_if.value().map(|g| (g.all, g.seconds));
    let (all, seconds) = own.or(global).filter(|(_, s)| *s > 0)?;
    Some(GarpExtra { all, period: Duration::from_secs(u64::from(seconds)) })
}
