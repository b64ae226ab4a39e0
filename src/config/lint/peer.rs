//! Comparison of this router's file with that of the router it shares addresses with.

use core::net::IpAddr;
use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::Kept;
use super::hear::differences;
use super::router::{best, priority, weights};
use crate::base::{Name, Prefix};
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes::{self, Code};
use crate::config::diagnostic::Diagnostic;
use crate::config::resolve::Load;
use crate::config::span::Span;
use crate::model::vrrp::{Preempt, Vrrp};
use crate::model::{Instance, Weight};

/// Compares instance by instance; those that a router has for the same addresses belong together.
pub(super) fn compare(kept: &Kept, cx: &mut Load<'_>) {
    let Some(peer) = cx.options.peer.clone() else {
        return;
    };
    let ours: IndexMap<Name, Instance> =
        cx.draft.model.vrrp.instances.iter().map(|i| (i.name.clone(), i.clone())).collect();
    for block in &kept.instances {
        let Some(own) = ours.get(&block.header.0) else {
            continue;
        };
        let counterpart = counterpart(own, &peer.vrrp);
        match counterpart {
            Some(other) => pair(block, own, other, &peer.file, cx),
            None => {
                let message = format!(
                    "({}) {} has no instance of this name, virtual router id or address",
                    own.name, peer.file
                );
                let new = Diagnostic::advice(&codes::PEER_MISSING, message).at(block.span);
                cx.report(new.label("no router takes over from this instance"));
            }
        }
        let known = counterpart.map(addresses_of).unwrap_or_default();
        for other in peer.vrrp.instances.iter().filter(|i| counterpart != Some(i)) {
            elsewhere(block, own, other, &known, &peer.file, cx);
        }
    }
}

/// The instance of the other router that is the same virtual router: that of the same id if they have an address in
/// common, else that of the same name, else that of the same id, else one with a common address.
fn counterpart<'a>(own: &Instance, peer: &'a Vrrp) -> Option<&'a Instance> {
    let same_id = |i: &&Instance| (i.vrid, i.family) == (own.vrid, own.family);
    let shares = |i: &&Instance| common(own, i).next().is_some();
    let first = |wanted: &dyn Fn(&&Instance) -> bool| peer.instances.iter().find(wanted);
    first(&|i| same_id(i) && shares(i))
        .or_else(|| first(&|i| i.name == own.name))
        .or_else(|| first(&same_id))
        .or_else(|| first(&shares))
}

fn addresses_of(instance: &Instance) -> BTreeSet<IpAddr> {
    instance.addresses.iter().chain(&instance.excluded).map(|a| a.prefix.address).collect()
}

/// Addresses that both have. A link-local one may be on several links.
fn common(own: &Instance, other: &Instance) -> impl Iterator<Item = IpAddr> {
    let theirs = addresses_of(other);
    let local = |a: &IpAddr| matches!(a, IpAddr::V6(a) if a.is_unicast_link_local());
    addresses_of(own).into_iter().filter(move |a| !local(a) && theirs.contains(a))
}

/// An address that the other router has in an instance that is no counterpart of this one: their masters are elected
/// independently.
fn elsewhere(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    known: &BTreeSet<IpAddr>,
    file: &str,
    cx: &mut Load<'_>,
) {
    let all: Vec<String> =
        common(own, other).filter(|a| !known.contains(a)).map(|a| a.to_string()).collect();
    let differs = differences(block, own, other, file).iter().any(|d| d.here && d.there);
    if all.is_empty() || !differs {
        return;
    }
    let message = format!(
        "({}) {} {} in {} of {file}, virtual_router_id {}",
        own.name,
        all.join(", "),
        if all.len() == 1 { "is also" } else { "are also" },
        other.name,
        other.vrid
    );
    let new = Diagnostic::advice(&codes::PEER_VRID, message)
        .at(block.virtual_router_id.span())
        .note("the two instances elect their masters independently: both become master");
    cx.report(new.split_brain());
}

fn pair(block: &VrrpInstance, own: &Instance, other: &Instance, file: &str, cx: &mut Load<'_>) {
    // Two masters without a common address do not compete.
    let shared = !addresses_of(own).is_disjoint(&addresses_of(other));
    let mut say = |code: &'static Code, at: Span, text: String, note: &str, certain: bool| {
        let at = if at.is_some() { at } else { block.span };
        let message = format!("({}) {text}", own.name);
        let new = Diagnostic::advice(code, message).at(at).note(note.to_owned());
        cx.report(if certain && shared { new.split_brain() } else { new });
    };
    let differences = differences(block, own, other, file);
    let here = differences.iter().any(|d| d.here);
    let there = differences.iter().any(|d| d.there);
    // A router that does not hear the other one becomes master. One that does hear it joins it if it is better.
    let certain = match (here, there) {
        (true, true) => true,
        (true, false) => displaces(other, own),
        (false, true) => displaces(own, other),
        (false, false) => false,
    };
    for new in differences {
        let note = match (new.here, new.there) {
            (true, true) => "each drops the other's adverts: both become master",
            (true, false) => {
                "this router does not accept the other's adverts and becomes master beside it"
            }
            (false, true) => {
                "the other router does not accept this one's adverts and becomes master beside it"
            }
            (false, false) => {
                "a backup uses the interval of its master, so the takeover time depends on who is master"
            }
        };
        say(new.code, new.at, new.text, note, certain && (new.here || new.there));
    }
    addresses(block, own, other, file, &mut say);
    if own.priority == other.priority {
        let text = format!("priority {} here and in {file}", own.priority.get());
        if own.priority.is_owner() {
            let note = "priority 255 is for the one router that owns the addresses: both become master at every start";
            say(&codes::PEER_PRIORITY, block.priority.span(), text, note, true);
        } else {
            let note = "the router whose interface has the higher address becomes master";
            say(&codes::PEER_PRIORITY, block.priority.span(), text, note, false);
        }
    }
    weak(block, other, file, cx);
}

/// Whether `instance` takes over from a master like `other` whose adverts it accepts, whatever is tracked.
fn displaces(instance: &Instance, other: &Instance) -> bool {
    let moves = |weight: Weight| matches!(weight, Weight::Priority { .. });
    let weighted = |i: &Instance| {
        i.track_scripts.iter().any(|t| moves(t.weight))
            || i.track_interfaces.iter().any(|t| moves(t.weight))
            || i.extras.as_ref().is_some_and(|e| {
                !(e.track_files.is_empty()
                    && e.track_processes.is_empty()
                    && e.track_bfds.is_empty())
            })
    };
    instance.priority > other.priority
        && instance.preempt != Preempt::Never
        && (instance.priority.is_owner() || !weighted(instance))
        && !weighted(other)
}

/// Adverts contain the addresses: routers with different ones do not agree on the master.
fn addresses(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    file: &str,
    say: &mut impl FnMut(&'static Code, Span, String, &str, bool),
) {
    let set = |i: &Instance| -> BTreeSet<Prefix> {
        i.addresses.iter().chain(&i.excluded).map(|a| a.prefix).collect()
    };
    let (mine, theirs) = (set(own), set(other));
    let only = |from: &BTreeSet<Prefix>, without: &BTreeSet<Prefix>, place: &str| {
        let shown: Vec<String> = from.difference(without).map(ToString::to_string).collect();
        (!shown.is_empty()).then(|| format!("{} only {place}", shown.join(", ")))
    };
    let parts = [only(&mine, &theirs, "here"), only(&theirs, &mine, &format!("in {file}"))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let at = block.virtual_ipaddress.at;
    let advertised = (own.addresses.len(), other.addresses.len());
    if advertised.0 != advertised.1 {
        let text = format!(
            "virtual_ipaddress has {} addresses here, {} in {file}{}",
            advertised.0,
            advertised.1,
            if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
        );
        let note = "adverts with another number of addresses are refused: after a takeover both can be master for ten advert intervals, with routers other than EverVIP for longer";
        say(&codes::PEER_ADDRESSES, at, text, note, false);
    } else if !parts.is_empty() {
        let text = format!("different addresses: {}", parts.join(", "));
        let note = "an address that only one of them has is unreachable while the other is master";
        say(&codes::PEER_ADDRESSES, at, text, note, false);
    }
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
