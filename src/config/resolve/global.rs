//! `global_defs` and the keywords outside blocks.

use core::time::Duration;

use crate::config::block::root::Root;
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::Diagnostic;
use crate::model::{Global, Mail};

pub(super) fn finish(root: &Root, cx: &mut Cx<'_>) {
    let host = cx.host.host_name();
    let own = cx.host.own_account();
    let login = cx.host.user_name(own.uid).unwrap_or_else(|| "root".into());
    if let Some(zero) =
        cx.draft.global().smtp_connect_timeout.0.as_ref().filter(|t| t.value.0 == 0).map(|t| t.span)
    {
        let message = "smtp_connect_timeout must be greater than 0, 1 is used";
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(zero));
    }
    let global = cx.draft.global();
    let to: Vec<Box<str>> =
        global.notification_email.items.iter().map(|a| a.value.0.clone()).collect();
    let mail = match global.smtp_server.value() {
        Some(server) if !to.is_empty() => Some(Mail {
            server: server.host.clone(),
            port: server.port,
            helo: global
                .smtp_helo_name
                .value()
                .map_or_else(|| host.clone().into(), |n| n.0.clone()),
            timeout: global.smtp_connect_timeout.value().map_or(Duration::from_secs(30), |t| {
                Duration::from_secs(u64::from(t.u32().max(1)))
            }),
            from: global
                .notification_email_from
                .value()
                .map_or_else(|| format!("{login}@{host}").into(), |s| s.0.clone()),
            to,
        }),
        _ => None,
    };
    let model = Global {
        router_id: global.router_id.value().map_or_else(|| host.into(), |r| r.0.clone()),
        mail,
        child_wait: root.child_wait_time.value().map(|t| Duration::from_secs(u64::from(t.u32()))),
        vrrp_rt_priority: global.vrrp_rt_priority.value().map(|p| p.0),
        vrrp_nice: global.vrrp_priority.value().and_then(|p| i8::try_from(p.0).ok()),
        vrrp_no_swap: global.vrrp_no_swap.is_set(),
        settings: Box::default(),
    };
    let boot = global.vrrp_delay_after_boot.value().map(|d| d.duration());
    let delay = global.vrrp_startup_delay.value().map(|d| d.duration());
    let log_unknown = global.log_unknown_vrids.is_set();
    let flush = global.lvs_flush.is_set();
    let flush_on_stop = global.lvs_flush_on_stop.is_set();
    let no_mails = global.no_checker_emails.value().is_some_and(|b| b.0);
    let init = global.rs_init_notifies.value().is_some_and(|b| b.0);
    let after_boot = boot.map_or(Duration::ZERO, |boot| {
        boot.saturating_sub(cx.host.uptime().unwrap_or(Duration::ZERO))
    });
    let draft = &mut cx.draft.model;
    draft.global = model;
    draft.vrrp.startup_delay = delay.unwrap_or(Duration::ZERO).max(after_boot);
    draft.vrrp.log_unknown_vrids = log_unknown;
    draft.lvs.flush = flush;
    draft.lvs.flush_on_stop = flush_on_stop;
    draft.lvs.no_checker_emails = no_mails;
    draft.lvs.init_notifies = init;
}
