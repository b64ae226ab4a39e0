//! Gratuitous ARP settings and notify scripts of an instance.

use core::time::Duration;

use super::Load;
use super::command::{Purpose, command};
use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::slot::First;
use crate::config::span::Span;
use crate::config::value::script::Script;
use crate::model::Command;
use crate::model::notify::NotifyCommands;
use crate::model::vrrp::Garp;

/// A notification, ready to run.
pub(super) fn script(
    slot: &First<Script>,
    keyword: &str,
    user: &str,
    cx: &mut Load<'_>,
) -> Option<Command> {
    let script = slot.value()?;
    command(script, None, Purpose::Notify, &format!("{keyword} of {user}"), cx)
}

pub(super) fn notify(block: &VrrpInstance, cx: &mut Load<'_>) -> NotifyCommands {
    let user = &block.header.0;
    let deleted = block.notify_deleted.value().and_then(|s| s.0.as_ref());
    let deleted = deleted
        .and_then(|s| command(s, None, Purpose::Notify, &format!("notify_deleted of {user}"), cx));
    NotifyCommands {
        master: script(&block.notify_master, "notify_master", user, cx),
        backup: script(&block.notify_backup, "notify_backup", user, cx),
        fault: script(&block.notify_fault, "notify_fault", user, cx),
        stop: script(&block.notify_stop, "notify_stop", user, cx),
        deleted,
        any: script(&block.notify, "notify", user, cx),
        master_rx_lower_pri: script(
            &block.notify_master_rx_lower_pri,
            "notify_master_rx_lower_pri",
            user,
            cx,
        ),
        // Set together with those of the groups.
        fifo: false,
    }
}

pub(super) fn garp(block: &VrrpInstance, strict: bool, cx: &mut Load<'_>) -> Garp {
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    // A repeat of 0 is reported and counts as 1.
    let mut zero: Vec<(&str, Span)> = Vec::new();
    let global = cx.draft.global();
    let least = global.vrrp_min_garp().0;
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
    // With vrrp_min_garp, settings that still have their default become minimal.
    macro_rules! first {
        ($name:ident, $minimal:expr) => {
            if least && !global.$name.is_set() { $minimal } else { global.$name().u32() }
        };
    }
    let delay = first!(vrrp_garp_master_delay, 0);
    let times = first!(vrrp_garp_master_repeat, 1).max(1);
    let refresh = first!(vrrp_garp_master_refresh, 0);
    let refresh_repeat = first!(vrrp_garp_master_refresh_repeat, 1).max(1);
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
    let mut garp = garp;
    if strict {
        for (given, keyword, at) in [
            (
                garp.lower_prio_repeat > 0 && block.garp_lower_prio_repeat.is_set(),
                "garp_lower_prio_repeat",
                block.garp_lower_prio_repeat.span(),
            ),
            (
                !garp.lower_prio_delay.is_zero() && block.garp_lower_prio_delay.is_set(),
                "garp_lower_prio_delay",
                block.garp_lower_prio_delay.span(),
            ),
        ] {
            if given {
                let message = format!("({name}) strict mode requires {keyword} 0, which is used");
                cx.report(Diagnostic::warning(&codes::CONFLICT, message).at(at));
            }
        }
        garp.lower_prio_repeat = 0;
        garp.lower_prio_delay = Duration::ZERO;
    }
    for (keyword, at) in zero {
        let message = format!("({name}) {keyword} must be greater than 0, 1 is used");
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at).replacement("1"));
    }
    garp
}
