//! Comparison of this router's file with that of the router it shares addresses with.

use core::net::IpAddr;
use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::Kept;
use super::router::{best, priority, weights};
use crate::base::{Family, Name, Prefix};
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes::{self, Code};
use crate::config::diagnostic::Diagnostic;
use crate::config::resolve::Load;
use crate::config::span::Span;
use crate::model::vrrp::{Authentication, Vrrp};
use crate::model::{Instance, Weight};

/// Compares instance by instance: those of the same name, else those of the same router id.
pub(super) fn compare(kept: &Kept, cx: &mut Load<'_>) {
    let Some(peer) = &cx.options.peer else {
        return;
    };
    let all = |vrrp: &'_ Vrrp| -> Vec<Instance> { vrrp.instances.clone() };
    let ours: IndexMap<Name, Instance> =
        all(&cx.draft.model.vrrp).into_iter().map(|i| (i.name.clone(), i)).collect();
    let mut by_id: IndexMap<(u8, Family), &Instance> = IndexMap::new();
    let theirs: IndexMap<&Name, &Instance> =
        peer.vrrp.instances.iter().map(|i| (&i.name, i)).collect();
    for other in theirs.values() {
        by_id.entry((other.vrid.get(), other.family)).or_insert(other);
    }
    for block in &kept.instances {
        let Some(own) = ours.get(&block.header.0) else {
            continue;
        };
        let same_id = || by_id.get(&(own.vrid.get(), own.family));
        match theirs.get(&own.name).or_else(same_id) {
            Some(other) => pair(block, own, other, &peer.file, cx),
            None => {
                let message = format!(
                    "({}) {} has no instance of this name or virtual router id",
                    own.name, peer.file
                );
                let new = Diagnostic::advice(&codes::PEER_MISSING, message).at(block.span);
                cx.report(new.label("no router takes over from this instance"));
            }
        }
    }
}

fn pair(block: &VrrpInstance, own: &Instance, other: &Instance, file: &str, cx: &mut Load<'_>) {
    let addresses_of = |i: &Instance| -> BTreeSet<IpAddr> {
        i.addresses.iter().chain(&i.excluded).map(|a| a.prefix.address).collect()
    };
    // Two masters without a common address do not compete.
    let shared = !addresses_of(own).is_disjoint(&addresses_of(other));
    let mut say = |code: &'static Code, at: Span, text: String, note: &str, deaf: bool| {
        let at = if at.is_some() { at } else { block.span };
        let message = format!("({}) {text} in {file}", own.name);
        let new = Diagnostic::advice(code, message).at(at).note(note.to_owned());
        cx.report(if deaf && shared { new.split_brain() } else { new });
    };
    if own.vrid != other.vrid {
        let text = format!("virtual_router_id {} here, {}", own.vrid, other.vrid);
        let note = "neither takes the other's adverts for its own instance: both become master";
        say(&codes::PEER_VRID, block.virtual_router_id.span(), text, note, true);
    }
    if own.version != other.version {
        let text = format!("version {} here, {}", own.version.number(), other.version.number());
        let at = block.version.0.as_ref().map_or(Span::NONE, |v| v.span);
        let note = "each drops the other's adverts: both become master";
        say(&codes::PEER_VERSION, at, text, note, true);
    }
    if own.advert_int != other.advert_int {
        let text = format!(
            "advert_int {} here, {}",
            own.advert_int.as_secs_f64(),
            other.advert_int.as_secs_f64()
        );
        let second = own.version.number() == 2;
        let note = if second {
            "version 2 drops adverts with another interval: both become master"
        } else {
            "a backup uses the interval of its master, so the takeover time depends on who is master"
        };
        say(&codes::PEER_ADVERT_INT, block.advert_int.span(), text, note, second);
    }
    if own.authentication != other.authentication {
        let at = block.authentication.0.as_ref().map_or(Span::NONE, |a| a.span);
        let kind = |a: &Authentication| match a {
            Authentication::None => "none",
            Authentication::Pass(_) => "a password",
        };
        let text = match (&own.authentication, &other.authentication) {
            (Authentication::Pass(_), Authentication::Pass(_)) => {
                "auth_pass is not the same as".to_owned()
            }
            (own, other) => format!("authentication: {} here, {}", kind(own), kind(other)),
        };
        let note = "each drops the other's adverts: both become master";
        say(&codes::PEER_AUTH, at, text, note, true);
    }
    addresses(block, own, other, &mut say);
    if own.priority == other.priority && !own.priority.is_owner() {
        let text = format!("priority {} here and", own.priority.get());
        let note = "the router whose interface has the higher address becomes master";
        say(&codes::PEER_PRIORITY, block.priority.span(), text, note, false);
    }
    weak(block, other, file, cx);
}

/// Adverts contain the addresses: routers with different ones do not agree on the master.
fn addresses(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    say: &mut impl FnMut(&'static Code, Span, String, &str, bool),
) {
    let set = |i: &Instance| -> BTreeSet<Prefix> {
        i.addresses.iter().chain(&i.excluded).map(|a| a.prefix).collect()
    };
    let (mine, theirs) = (set(own), set(other));
    if mine == theirs {
        return;
    }
    let list = |from: &BTreeSet<Prefix>, without: &BTreeSet<Prefix>| {
        let shown: Vec<String> = from.difference(without).map(ToString::to_string).collect();
        if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
    };
    let text = format!(
        "different addresses: only here {}, only there {}",
        list(&mine, &theirs),
        list(&theirs, &mine)
    );
    let note = "an address that only one of them has is unreachable while the other is master";
    say(&codes::PEER_ADDRESSES, block.virtual_ipaddress.at, text, note, false);
}

/// A failure that leaves this router above the other one causes no failover.
fn weak(block: &VrrpInstance, other: &Instance, file: &str, cx: &mut Load<'_>) {
    let written = priority(block);
    if written == 255 {
        return;
    }
    let weights = weights(block, cx);
    let own = best(written, &weights);
    let tracked = other
        .track_scripts
        .iter()
        .map(|t| t.weight)
        .chain(other.track_interfaces.iter().map(|t| t.weight));
    let gain: i16 = tracked
        .map(|w| if matches!(w, Weight::Priority { .. }) { w.contribution(true) } else { 0 })
        .sum();
    let theirs = (i16::from(other.priority.get()) + gain).clamp(1, 255);
    for weight in weights.iter().filter(|w| w.fall() > 0) {
        let left = own - weight.fall();
        if own < theirs || left < theirs {
            continue;
        }
        let message = format!(
            "({}) when {} fails, the priority only falls from {own} to {left}, and {file} has {theirs}",
            block.header.0, weight.what
        );
        let mut new = Diagnostic::advice(&codes::WEAK_WEIGHT, message)
            .at(weight.span)
            .related(block.priority.span(), "the priority")
            .help(format!("give it a weight of more than {}", own - theirs));
        if left == theirs {
            new = new.note("at equal priorities the higher interface address decides");
        } else {
            new = new.note("so the addresses stay on the router that has the failure");
        }
        cx.report(new);
    }
}
