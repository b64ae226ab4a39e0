//! Routes and rules, virtual and static, and the other lists outside blocks.

use core::time::Duration;

use super::Load;
use super::track::follow;
use crate::base::{Family, IfName};
use crate::config::block::root::Root;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::Spanned;
use crate::config::value::route::RouteEntry;
use crate::config::value::rule::RuleEntry;
use crate::model::extras::{InterfaceDelay, Linkbeat};
use crate::model::route::{Route, Rule};

/// Routes of an instance.
pub(super) fn routes(entries: &[Spanned<RouteEntry>]) -> Vec<Route> {
    entries.iter().map(|e| e.value.route.clone()).collect()
}

/// The interfaces of a route that is tracked. Those of several nexthops are not, as in keepalived.
pub(super) fn tracked(route: &Route) -> impl Iterator<Item = &IfName> {
    let ways = route.nexthops.iter().filter_map(|hop| hop.interface.as_ref());
    let is_tracked = !route.no_track && route.interface.is_some();
    route.interface.iter().chain(ways).filter(move |_| is_tracked)
}

/// The interfaces of a rule that is tracked.
pub(super) fn tracked_by_rule(rule: &Rule) -> impl Iterator<Item = &IfName> {
    rule.input.iter().chain(&rule.output).filter(|_| !rule.no_track)
}

/// Rules; those without a preference are assigned one.
pub(super) fn rules(entries: &[Spanned<RuleEntry>], cx: &mut Load<'_>) -> Vec<Rule> {
    let mut list = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut rule = entry.value.rule.clone();
        if !entry.value.has_preference {
            let [v4, v6] = &mut cx.draft.next_preference;
            let next = match rule.family {
                Family::V4 => v4,
                Family::V6 => v6,
            };
            rule.preference = *next;
            *next = next.saturating_sub(1);
            let message = format!(
                "the rule has no preference, {} is used: set 'preference'",
                rule.preference
            );
            cx.report(Diagnostic::warning(&codes::DEFAULTED, message).at(entry.span));
        }
        list.push(rule);
    }
    list
}

/// `static_routes`, `static_rules`, `linkbeat_interfaces`, `interface_up_down_delays`.
pub(super) fn statics(root: &Root, cx: &mut Load<'_>) {
    for entry in &root.static_ipaddress.items {
        let value = &entry.value;
        let default = cx.default_interface();
        let interface = value.interface.as_ref().or(default.as_ref());
        follow(value.track_group.as_ref(), interface, entry.span, cx);
    }
    for entry in &root.static_routes.items {
        let value = &entry.value;
        follow(value.track_group.as_ref(), value.route.interface.as_ref(), entry.span, cx);
    }
    for entry in &root.static_rules.items {
        let value = &entry.value;
        follow(value.track_group.as_ref(), value.rule.input.as_ref(), entry.span, cx);
    }
    let rules = rules(&root.static_rules.items, cx);
    let vrrp = &mut cx.draft.model.vrrp;
    vrrp.static_routes = routes(&root.static_routes.items);
    vrrp.static_rules = rules;
    vrrp.linkbeat_polling = root.linkbeat_use_polling.is_set();
    vrrp.linkbeat = root
        .linkbeat_interfaces
        .items
        .iter()
        .map(|e| Linkbeat { interface: e.value.interface.clone(), method: e.value.method })
        .collect();
    vrrp.interface_delays = root
        .interface_up_down_delays
        .items
        .iter()
        .map(|e| InterfaceDelay {
            interface: e.value.interface.clone(),
            down: Duration::from_micros(e.value.down),
            up: Duration::from_micros(e.value.up),
        })
        .collect();
}
