//! Packet filters: which tables drop packets to and from virtual addresses.

use super::Load;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::model::FilterSettings;
use crate::model::global::{Chains, Firewall};

/// The settings as configured.
pub(super) fn settings(cx: &mut Load<'_>) -> Firewall {
    let global = cx.draft.global();
    let name =
        |n: Option<Option<Box<str>>>, default: &str| n.map(|n| n.unwrap_or_else(|| default.into()));
    let priority = |p: Option<i64>| p.and_then(|p| i32::try_from(p).ok());
    Firewall {
        iptables: global
            .vrrp_iptables
            .value()
            .map(|c| Chains { input: c.0.clone(), output: c.1.clone() }),
        ipsets: global.vrrp_ipsets.value().map(|s| s.0.clone()),
        nftables: name(global.nftables.value().map(|n| n.0.clone()), "keepalived"),
        nftables_priority: i32::try_from(global.nftables_priority().0).ok(),
        nftables_ifindex: global.nftables_ifindex.is_set(),
        nftables_counters: global.nftables_counters.is_set(),
        ipvs_table: name(global.nftables_ipvs.value().map(|n| n.0.clone()), "keepalived_ipvs"),
        ipvs_priority: priority(global.nftables_ipvs_priority.value().map(|p| p.0)),
        ipvs_first_mark: global.nftables_ipvs_start_fwmark.value().map(|n| n.u32()),
    }
}

/// Our tables. They also implement the settings of iptables and its sets, as closely as possible.
pub(super) fn filters(cx: &mut Load<'_>) -> FilterSettings {
    let global = cx.draft.global();
    let mut filters = FilterSettings {
        by_index: global.nftables_ifindex.is_set(),
        counters: global.nftables_counters.is_set(),
        ..FilterSettings::default()
    };
    if let Some(name) = global.nftables.value().and_then(|n| n.0.clone()) {
        filters.table = name.into();
    }
    filters.priority = i32::try_from(global.nftables_priority().0).unwrap_or(filters.priority);
    let (chains, sets) = (global.vrrp_iptables.value().cloned(), global.vrrp_ipsets.span());
    let (chains_at, with_sets) = (global.vrrp_iptables.span(), global.vrrp_ipsets.is_set());
    // If both are given, keepalived does not use iptables either.
    if let Some(chains) = chains {
        filters.output = global.nftables.is_set() || chains.1.is_some();
        let table = &filters.table;
        let what = match chains.1 {
            None if !filters.output => "to",
            _ => "to and from",
        };
        let message = format!(
            "vrrp_iptables is implemented with nftables (table '{table}'), which drops the same packets {what} virtual \
             addresses"
        );
        let new = Diagnostic::note_only(&codes::BY_NFTABLES, message).at(chains_at);
        cx.report(new.note(
            "no rules are added to iptables chains; packets accepted there are still dropped",
        ));
    }
    if with_sets {
        let message = "vrrp_ipsets has no effect: sets of the nftables tables are used instead";
        cx.report(Diagnostic::note_only(&codes::BY_NFTABLES, message).at(sets));
    }
    filters
}
