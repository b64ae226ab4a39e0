//! What several parts of an instance need: the settings that are resolved first, and how its problems are reported.

use core::net::IpAddr;

use indexmap::IndexSet;

use super::Load;
use crate::base::{Family, IfName};
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::Span;
use crate::model::vrrp::{Preempt, Priority, Version, Vrid};
use crate::model::{TrackedInterface, Weight};

/// The settings of the instance that are already resolved.
#[derive(Clone, Copy)]
pub(super) struct Settled {
    pub family: Family,
    pub version: Version,
    pub vrid: Vrid,
    pub priority: Priority,
    pub strict: bool,
    pub preempt: Preempt,
    pub multicast: bool,
}

pub(super) fn source_is_set(block: &VrrpInstance) -> bool {
    block.mcast_src_ip.is_set() || block.unicast_src_ip.is_set()
}

/// Reports that a setting is ignored.
pub(super) fn ignored(block: &VrrpInstance, what: &str, at: Span, cx: &mut Load<'_>) {
    let message = format!("({}) {what}, ignored", block.header.0);
    cx.report(Diagnostic::warning(&codes::NO_EFFECT_HERE, message).at(at));
}

/// Reports an address whose family differs from that of the instance.
pub(super) fn wrong_family(
    block: &VrrpInstance,
    what: &str,
    address: &IpAddr,
    family: Family,
    at: Span,
    cx: &mut Load<'_>,
) {
    let name = &block.header.0;
    let message =
        format!("({name}) {what} {address} is not an {family} address like the instance, ignored");
    cx.report(Diagnostic::error(&codes::FAMILY, message).at(at));
}

/// Without one of these interfaces the instance cannot take part.
pub(super) fn follow<'a>(
    tracked: &mut Vec<TrackedInterface>,
    own: &IfName,
    interfaces: impl Iterator<Item = &'a IfName>,
) {
    let mut seen: IndexSet<IfName> = tracked.iter().map(|t| t.interface.clone()).collect();
    for interface in interfaces.filter(|name| *name != own) {
        if seen.insert(interface.clone()) {
            tracked.push(TrackedInterface { interface: interface.clone(), weight: Weight::FAULT });
        }
    }
}
