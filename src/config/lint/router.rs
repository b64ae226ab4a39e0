//! Lints of one node's virtual routers.

use super::Kept;
use crate::base::{Family, Name};
use crate::config::block::vrrp::{AuthType, StateWord, VrrpInstance};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::resolve::Load;
use crate::config::span::Span;
use crate::config::value::tracker::TrackEntry;

/// The priority of a router without a configured one.
const DEFAULT_PRIORITY: i16 = 100;
/// The range of priorities that trackers can cause.
const PRIORITIES: core::ops::RangeInclusive<i16> = 1..=254;

/// A tracked object that changes the priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weighted {
    pub what: String,
    pub weight: i16,
    pub reverse: bool,
    pub span: Span,
}

impl Weighted {
    /// What it adds while the object is good, or has failed.
    fn adds(&self, good: bool) -> i16 {
        let signed = if self.reverse { -self.weight } else { self.weight };
        if (self.weight > 0) == good { signed } else { 0 }
    }

    /// By how much a failure lowers the priority.
    pub(super) fn fall(&self) -> i16 {
        self.adds(true) - self.adds(false)
    }
}

/// The priority as it is written, or its default.
pub(super) fn priority(block: &VrrpInstance) -> i16 {
    let wants_master = block.state.0.as_ref().is_some_and(|s| s.value == StateWord::Master);
    let default = if wants_master { 255 } else { DEFAULT_PRIORITY };
    block.priority.value().map_or(default, |p| i16::from(p.u8()))
}

/// The priority while everything that is tracked is good.
pub(super) fn best(priority: i16, weights: &[Weighted]) -> i16 {
    let sum: i32 = weights.iter().map(|w| i32::from(w.adds(true))).sum();
    let bounds = (i32::from(*PRIORITIES.start()), i32::from(*PRIORITIES.end()));
    let best = (i32::from(priority) + sum).clamp(bounds.0, bounds.1);
    i16::try_from(best).unwrap_or(priority)
}

/// The trackers that change the priority of an instance.
pub(super) fn weights(block: &VrrpInstance, cx: &Load<'_>) -> Vec<Weighted> {
    let mut list: Vec<Weighted> = Vec::new();
    for line in &block.track_interface.items {
        let entry = &line.value;
        list.push(Weighted {
            what: format!("interface {}", entry.interface),
            weight: entry.weight,
            reverse: entry.reverse,
            span: line.span,
        });
    }
    for line in &block.track_script.items {
        let own = cx.draft.scripts.get(&line.value.name).map(|s| (s.weight, s.reverse));
        let (weight, reverse) = settle(&line.value, own.unwrap_or_default());
        let what = format!("script {}", line.value.name);
        list.push(Weighted { what, weight, reverse, span: line.span });
    }
    let mut named = |kind: &str, name: &Name, settled: (i16, bool), span: Span| {
        let what = format!("{kind} {name}");
        list.push(Weighted { what, weight: settled.0, reverse: settled.1, span });
    };
    for line in &block.track_process.items {
        named("process", &line.value.name, settle(&line.value, (0, false)), line.span);
    }
    for line in &block.track_bfd.items {
        named("BFD session", &line.value.name, settle(&line.value, (0, false)), line.span);
    }
    list.retain(|w| w.weight != 0);
    list
}

/// The weight of a line, which takes precedence over that of the object.
fn settle<const MAX: i64>(entry: &TrackEntry<MAX>, own: (i16, bool)) -> (i16, bool) {
    match entry.weight {
        Some((weight, reverse)) => (weight, reverse.unwrap_or(false)),
        None => own,
    }
}

/// All lints of one instance.
pub(super) fn instance(block: &VrrpInstance, cx: &mut Load<'_>) {
    if cx.options.peer.is_none() {
        weak_weights(block, cx);
    }
    strict(block, cx);
    open_unicast(block, cx);
    owner(block, cx);
    password(block, cx);
}

/// Without the other router's file: a preferred master that fails must at least fall below the default priority.
fn weak_weights(block: &VrrpInstance, cx: &mut Load<'_>) {
    let wants_master = block.state.0.as_ref().is_some_and(|s| s.value == StateWord::Master);
    let written = priority(block);
    if !wants_master || written == 255 {
        return;
    }
    let weights = weights(block, cx);
    let best = best(written, &weights);
    for weight in &weights {
        let left = best - weight.fall();
        if weight.fall() > 0 && left > DEFAULT_PRIORITY {
            let message = format!(
                "({}) when {} fails, the priority only falls from {best} to {left}",
                block.header.0, weight.what
            );
            cx.report(
                Diagnostic::advice(&codes::WEAK_WEIGHT, message)
                    .at(weight.span)
                    .related(block.priority.span(), "the priority")
                    .note(format!(
                        "another router takes over only with a priority above {left}; the default of {DEFAULT_PRIORITY} is too low"
                    ))
                    .help("compare with the other router's file: evervip check --peer FILE"),
            );
        }
    }
}

/// Strict mode: only the owner of an address answers on it.
fn strict(block: &VrrpInstance, cx: &mut Load<'_>) {
    let global = cx.draft.global();
    let from_global = global.vrrp_strict().0;
    let at = match (block.strict_mode.value(), from_global) {
        (Some(own), _) if own.0 => block.strict_mode.span(),
        (None, true) => global.vrrp_strict.span(),
        _ => return,
    };
    // In version 2 strict mode overrides accept; in version 3 accept is the remedy.
    let version = block.version.0.as_ref().map(|v| v.value.u8());
    let version = version.or(global.vrrp_version.value().map(|v| v.u8()));
    let v6 = block.virtual_ipaddress.items.iter().any(|e| e.value.prefix.family() == Family::V6);
    let third = v6 || version == Some(3);
    if priority(block) == 255 || (third && block.accept.is_set()) {
        return;
    }
    let mut new = Diagnostic::advice(
        &codes::STRICT_DROPS,
        format!(
            "({}) strict mode: packets to the virtual addresses are dropped unless the priority is 255",
            block.header.0
        ),
    )
    .at(at)
    .related(block.span, "this instance")
    .note("a router that does not own the addresses must not answer on them (RFC 5798 6.4.3), not even to ping");
    new = if third {
        new.help("add 'accept' to the instance, or remove strict mode")
    } else {
        new.help("remove strict mode; in version 2 these packets cannot be accepted")
    };
    cx.report(new);
}

/// Unicast adverts that any host that reaches the address can forge.
fn open_unicast(block: &VrrpInstance, cx: &mut Load<'_>) {
    let Some(peer) = block.unicast_peer.items.first() else {
        return;
    };
    let old = block.authentication.0.as_ref().is_some_and(|a| {
        matches!(a.auth_type.value(), Some(AuthType::Pass | AuthType::Ah)) && a.auth_pass.is_set()
    });
    if old || block.auth_hmac.0.is_some() {
        return;
    }
    let message = format!("({}) unicast adverts without authentication", block.header.0);
    cx.report(
        Diagnostic::advice(&codes::OPEN_UNICAST, message)
            .at(peer.span)
            .note("unlike multicast adverts, they can come from other networks: any host that can send to this router can take its addresses")
            .help("add an 'auth_hmac' or 'authentication' block, or let the firewall accept protocol 112 only from the peers"),
    );
}

/// A password that a comment ends.
fn password(block: &VrrpInstance, cx: &mut Load<'_>) {
    let Some(given) = &block.authentication.0 else {
        return;
    };
    let at = given.auth_pass.span();
    let mark = cx.sources.place(at).and_then(|place| place.text.get(place.end).copied());
    let Some(mark) = mark.filter(|mark| matches!(mark, b'#' | b'!')).map(char::from) else {
        return;
    };
    let message = format!("({}) '{mark}' ends auth_pass: it begins a comment", block.header.0);
    cx.report(
        Diagnostic::advice(&codes::PASSWORD_COMMENT, message)
            .at(at)
            .label(format!("the password is only the part before '{mark}'"))
            .help("put the password between double quotes"),
    );
}

/// Priority 255 is for the router whose own addresses they are.
fn owner(block: &VrrpInstance, cx: &mut Load<'_>) {
    let given = block.priority.value().is_some();
    if priority(block) != 255 || given {
        return;
    }
    let at = block.state.0.as_ref().map_or(block.span, |s| s.span);
    let message = format!(
        "({}) state MASTER without a priority makes this router the address owner",
        block.header.0
    );
    cx.report(
        Diagnostic::advice(&codes::OWNER_BY_DEFAULT, message)
            .at(at)
            .note("the priority is then 255, and the weights of tracked objects do not change it")
            .help("set a priority from 1 to 254"),
    );
}

/// Scripts that nothing tracks.
pub(super) fn scripts(cx: &mut Load<'_>) {
    let unused: Vec<_> = cx
        .draft
        .scripts
        .iter()
        .filter(|(_, script)| !script.used && !script.named)
        .map(|(name, script)| (name.clone(), script.span))
        .collect();
    for (name, span) in unused {
        cx.report(
            Diagnostic::advice(
                &codes::UNUSED_SCRIPT,
                format!("vrrp_script {name} is never tracked, so it never runs"),
            )
            .at(span)
            .help("list it in a 'track_script' block, or remove it"),
        );
    }
}

/// Mails without a recipient or server.
pub(super) fn mails(kept: &Kept, cx: &mut Load<'_>) {
    let Some((name, span)) = &kept.mails else {
        return;
    };
    let global = cx.draft.global();
    if !global.notification_email.items.is_empty() {
        return;
    }
    let message = format!("({name}) smtp_alert is set, but there is no address to send mail to");
    cx.report(
        Diagnostic::advice(&codes::MAIL_NOWHERE, message)
            .at(*span)
            .help("add a 'notification_email' block to global_defs"),
    );
}
