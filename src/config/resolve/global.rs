//! `global_defs` and the keywords outside blocks.

use core::time::Duration;

use super::command::{Purpose, account, command};
use super::{Load, firewall};
use crate::base::Name;
use crate::config::block::root::Root;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::slot::One;
use crate::config::value::global::{BufferPolicy, Cpus, OnlyPath};
use crate::config::value::number::{Exact, Int, U32};
use crate::config::value::script::{Fifo, Script};
use crate::config::value::text::Cut;
use crate::model::SyncSettings;
use crate::model::global::{Dbus, NetlinkBuffers, ProcessSettings, Settings, Snmp, TimedCommand};
use crate::model::vrrp::ReceiveBuffers;
use crate::model::{Global, Mail, global};

pub(super) fn finish(root: &Root, cx: &mut Load<'_>) {
    let host = cx.host.host_name();
    let own = cx.host.own_account();
    let login = cx.host.user_name(own.uid).unwrap_or_else(|| "root".into());
    if let Some(zero) =
        cx.draft.global().smtp_connect_timeout.0.as_ref().filter(|t| t.value.0 == 0).map(|t| t.span)
    {
        let message = "smtp_connect_timeout must be greater than 0, 1 is used";
        cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(zero));
    }
    let settings = settings(root, cx);
    lvs(cx);
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
            timeout: Duration::from_secs(u64::from(global.smtp_connect_timeout().u32().max(1))),
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
        child_wait: Some(Duration::from_secs(u64::from(root.child_wait_time().u32()))),
        notify_max_delay: Duration::from_secs(u64::from(global.notify_max_delay().u32())),
        vrrp_rt_priority: global.vrrp_rt_priority.value().map(|p| p.0),
        vrrp_nice: global.vrrp_priority.value().and_then(|p| i8::try_from(p.0).ok()),
        vrrp_no_swap: global.vrrp_no_swap.is_set(),
        settings: Box::new(settings),
    };
    let boot = global.vrrp_delay_after_boot.value().map(|d| d.duration());
    let delay = global.vrrp_startup_delay.value().map(|d| d.duration());
    let log_unknown = global.log_unknown_vrids.is_set();
    let flush = global.lvs_flush.is_set();
    let audit = global.lvs_audit_interval().u32();
    let close_by_reset = global.checker_close_by_reset().0;
    let flush_on_stop = global.lvs_flush_on_stop.is_set();
    let no_mails = global.no_checker_emails().0;
    let init = global.rs_init_notifies().0;
    let no_mail_for_faults = global.no_email_faults.is_set();
    let disable_local_igmp = global.disable_local_igmp.is_set();
    let filters = firewall::filters(cx);
    let global = cx.draft.global();
    let fifo_states_on_reload = global.fifo_write_vrrp_states_on_reload.is_set();
    let multiplier = global.vrrp_rx_bufs_multiplier().u32();
    let receive_buffers = match global.vrrp_rx_bufs_policy.value() {
        None => ReceiveBuffers::Kernel,
        Some(BufferPolicy::Mtu) => ReceiveBuffers::Mtu(multiplier),
        Some(BufferPolicy::Advert) => ReceiveBuffers::Advert(multiplier),
        Some(BufferPolicy::Bytes(bytes)) => ReceiveBuffers::Bytes(*bytes),
    };
    let allow_interface_changes =
        global.dynamic_interfaces.value().is_some_and(|d| d.allow_changes);
    let flush_services_only = global.lvs_flush_on_stop.value().is_some_and(|f| f.services_only);
    let after_boot = boot.map_or(Duration::ZERO, |boot| {
        boot.saturating_sub(cx.host.uptime().unwrap_or(Duration::ZERO))
    });
    let draft = &mut cx.draft.model;
    draft.global = model;
    draft.vrrp.startup_delay = delay.unwrap_or(Duration::ZERO).max(after_boot);
    draft.vrrp.log_unknown_vrids = log_unknown;
    draft.lvs.flush = flush;
    draft.lvs.audit_interval = (audit > 0).then(|| Duration::from_secs(u64::from(audit)));
    draft.lvs.close_by_reset = close_by_reset;
    draft.lvs.flush_on_stop = flush_on_stop;
    draft.lvs.no_checker_emails = no_mails;
    draft.lvs.init_notifies = init;
    draft.lvs.flush_services_only = flush_services_only;
    draft.vrrp.no_mail_for_faults = no_mail_for_faults;
    draft.vrrp.filters = filters;
    draft.vrrp.disable_local_igmp = disable_local_igmp;
    draft.vrrp.fifo_states_on_reload = fifo_states_on_reload;
    draft.vrrp.receive_buffers = receive_buffers;
    draft.vrrp.allow_interface_changes = allow_interface_changes;
}

/// The settings that only concern processes, interfaces and files of the daemon.
fn settings(root: &Root, cx: &mut Load<'_>) -> Settings {
    let startup = cx.draft.global().startup_script.value().cloned();
    let shutdown = cx.draft.global().shutdown_script.value().cloned();
    let global = cx.draft.global();
    let startup_time = global.startup_script_timeout().u32();
    let shutdown_time = global.shutdown_script_timeout().u32();
    let timed = |script: Option<Script>, what: &str, seconds: u32, cx: &mut Load<'_>| {
        let command = command(&script?, None, Purpose::Check, what, cx)?;
        Some(TimedCommand { command, timeout: Duration::from_secs(u64::from(seconds)) })
    };
    let startup = timed(startup, "startup_script", startup_time, cx);
    let shutdown = timed(shutdown, "shutdown_script", shutdown_time, cx);
    let [fifo, vrrp_fifo, lvs_fifo] = fifos(cx);
    let name = |n: &One<Cut<15>>| n.value().map(|n| n.0.clone());
    let path = |p: &One<OnlyPath>| p.value().map(|p| p.0.clone());
    let nice = |n: &One<Int<-20, 19>>| n.value().and_then(|n| i8::try_from(n.0).ok());
    let cpus = |c: &One<Cpus>| c.value().map_or_else(Vec::new, |c| c.0.clone());
    let global = cx.draft.global();
    let optional = |p: &One<crate::config::value::global::OptionalPath>, default: &[u8]| {
        p.value().map(|p| p.0.clone().unwrap_or_else(|| default.into()))
    };
    Settings {
        instance: root.instance.value().map(|n| n.0.clone()),
        namespace: root.net_namespace.value().map(|n| n.0.clone()),
        ipvs_namespace: root
            .net_namespace_ipvs
            .value()
            .map(|n| Name::from(n.0.clone().unwrap_or_default())),
        use_pid_directory: root.use_pid_dir.is_set(),
        process_names: global.process_names.is_set(),
        process_name: name(&global.process_name),
        vrrp: ProcessSettings {
            name: name(&global.vrrp_process_name),
            cpus: cpus(&global.vrrp_cpu_affinity),
            rt_limit: Some(global.vrrp_rlimit_rttime().u32().max(2)),
            ..ProcessSettings::default()
        },
        checker: ProcessSettings {
            name: name(&global.checker_process_name),
            nice: nice(&global.checker_priority),
            rt_priority: global.checker_rt_priority.value().map(|p| p.0),
            no_swap: global.checker_no_swap.is_set(),
            cpus: cpus(&global.checker_cpu_affinity),
            rt_limit: Some(global.checker_rlimit_rttime().u32().max(2)),
        },
        bfd: ProcessSettings {
            name: name(&global.bfd_process_name),
            nice: nice(&global.bfd_priority),
            rt_priority: global.bfd_rt_priority.value().map(|p| p.0),
            no_swap: global.bfd_no_swap.is_set(),
            cpus: cpus(&global.bfd_cpu_affinity),
            rt_limit: Some(global.bfd_rlimit_rttime().u32().max(2)),
        },
        max_auto_priority: global.max_auto_priority().0,
        min_auto_priority_delay: Duration::from_micros(u64::from(
            global.min_auto_priority_delay().u32(),
        )),
        startup,
        shutdown,
        fifo,
        vrrp_fifo,
        lvs_fifo,
        firewall: firewall::settings(cx),
        snmp: snmp(cx),
        dbus: dbus(cx),
        buffers: buffers(cx),
        umask: cx.draft.global().umask.value().map(|m| m.0),
        reload_check: optional(&cx.draft.global().reload_check_config, b"/dev/null"),
        reload_time_file: cx.draft.global().reload_time_file.value().map(|p| p.0.clone()),
        reload_repeat: cx.draft.global().reload_repeat.is_set(),
        reload_file: optional(&cx.draft.global().reload_file, b""),
        save_directory: cx.draft.global().config_save_dir.value().map(|p| p.0.clone()),
        temporary_directory: cx.draft.global().tmp_config_directory.value().map(|p| p.0.clone()),
        dump_with_instance: cx.draft.global().data_use_instance().0,
        state_file: path(&cx.draft.global().state_dump_file),
        json_version: cx.draft.global().json_version().0,
    }
}

/// Called when the FIFOs for instances, groups and services are known.
pub(super) fn tell_fifos(cx: &mut Load<'_>) {
    let model = &mut cx.draft.model;
    let settings = &model.global.settings;
    let all = settings.fifo.is_some();
    let (of_vrrp, of_lvs) = (settings.vrrp_fifo.is_some(), settings.lvs_fifo.is_some());
    let instances = model.vrrp.instances.iter_mut().map(|instance| &mut instance.notify);
    for notify in instances.chain(model.vrrp.groups.iter_mut().map(|group| &mut group.notify)) {
        notify.fifo = all || of_vrrp;
    }
    let fifo = all || of_lvs;
    for service in model.lvs.services.iter_mut().filter(|service| service.notify_fifo != fifo) {
        service.notify_fifo = fifo;
    }
}

/// `notify_fifo`, `vrrp_notify_fifo` and `lvs_notify_fifo`, each with its script.
fn fifos(cx: &mut Load<'_>) -> [Option<global::Fifo>; 3] {
    let global = cx.draft.global();
    let given = [
        (
            global.notify_fifo.value().cloned(),
            global.notify_fifo_script.value().cloned(),
            "notify_fifo_script",
        ),
        (
            global.vrrp_notify_fifo.value().cloned(),
            global.vrrp_notify_fifo_script.value().cloned(),
            "vrrp_notify_fifo_script",
        ),
        (
            global.lvs_notify_fifo.value().cloned(),
            global.lvs_notify_fifo_script.value().cloned(),
            "lvs_notify_fifo_script",
        ),
    ];
    let [all, vrrp, lvs] =
        given.map(|(fifo, script, what): (Option<Fifo>, Option<Script>, &str)| {
            let fifo = fifo?;
            let account = match &fifo.account {
                Some(wanted) => Some(account(wanted, cx)?),
                None => None,
            };
            let script = script.and_then(|s| command(&s, None, Purpose::Notify, what, cx));
            Some(global::Fifo { path: fifo.path, account, script })
        });
    let same = |a: &Option<global::Fifo>, b: &Option<global::Fifo>| {
        a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a.path == b.path)
    };
    // All lines are already written there.
    let [vrrp, lvs] = [vrrp, lvs].map(|own| if same(&all, &own) { None } else { own });
    // One pipe has one reader.
    let read = same(&vrrp, &lvs) && vrrp.as_ref().is_some_and(|fifo| fifo.script.is_some());
    let lvs = lvs.map(|fifo| global::Fifo { script: fifo.script.filter(|_| !read), ..fifo });
    [all, vrrp, lvs]
}

fn snmp(cx: &mut Load<'_>) -> Snmp {
    let global = cx.draft.global();
    let both = global.enable_snmp_rfc.is_set();
    Snmp {
        socket: global.snmp_socket.value().map(|s| s.0.clone()),
        traps: global.enable_traps.is_set(),
        vrrp: global.enable_snmp_vrrp.is_set(),
        rfc_v2: both || global.enable_snmp_rfcv2.is_set(),
        rfc_v3: both || global.enable_snmp_rfcv3.is_set(),
        checker: global.enable_snmp_checker.is_set(),
        services: global.snmp_vs_stats_update_interval.value().map(|t| t.duration()),
        servers: global.snmp_rs_stats_update_interval.value().map(|t| t.duration()),
    }
}

fn dbus(cx: &mut Load<'_>) -> Option<Dbus> {
    let global = cx.draft.global();
    let dbus = Dbus {
        service: global.dbus_service_name.value().map(|n| n.0.clone()),
        no_interface: global.dbus_no_interface_name.value().map(|n| n.0.clone()),
    };
    (global.enable_dbus.is_set() || dbus != Dbus::default()).then_some(dbus)
}

fn buffers(cx: &mut Load<'_>) -> NetlinkBuffers {
    let global = cx.draft.global();
    let size = |n: &One<Exact<0, U32>>| n.value().map(|n| n.u32()).filter(|n| *n > 0);
    NetlinkBuffers {
        vrrp_requests: size(&global.vrrp_netlink_cmd_rcv_bufs),
        vrrp_requests_force: global.vrrp_netlink_cmd_rcv_bufs_force().0,
        vrrp_monitor: size(&global.vrrp_netlink_monitor_rcv_bufs),
        vrrp_monitor_force: global.vrrp_netlink_monitor_rcv_bufs_force().0,
        lvs_requests: size(&global.lvs_netlink_cmd_rcv_bufs),
        lvs_requests_force: global.lvs_netlink_cmd_rcv_bufs_force().0,
        lvs_monitor: size(&global.lvs_netlink_monitor_rcv_bufs),
        lvs_monitor_force: global.lvs_netlink_monitor_rcv_bufs_force().0,
        process_monitor: size(&global.process_monitor_rcv_bufs),
        process_monitor_force: global.process_monitor_rcv_bufs_force().0,
    }
}

/// `lvs_timeouts` and `lvs_sync_daemon`.
fn lvs(cx: &mut Load<'_>) {
    let global = cx.draft.global();
    let timeouts = global.lvs_timeouts.value().map(|t| t.0).unwrap_or_default();
    let at = global.lvs_sync_daemon.span();
    let mut sync = global.lvs_sync_daemon.value().map(|s| s.0.clone());
    let instance = sync.as_ref().and_then(|s| s.instance.clone());
    if let Some(name) = instance.filter(|i| !cx.draft.instances.contains_key(i)) {
        let message = format!(
            "lvs_sync_daemon: vrrp_instance {name} does not exist, the setting is left out"
        );
        cx.report(Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(at));
        sync = None;
    }
    cx.draft.model.lvs.timeouts = timeouts;
    // The first one counts.
    for instance in &mut cx.draft.model.vrrp.instances {
        let old = instance.extras.as_deref_mut().and_then(|e| e.sync_daemon_interface.take());
        let name = &instance.name;
        sync = sync.or_else(|| Some(SyncSettings::following(name.clone(), old?)));
    }
    cx.draft.model.vrrp.sync_daemon = sync;
}
