//! `global_defs`.

use core::net::IpAddr;

use crate::base::IfName;
use crate::base::net::{VRRP_GROUP_V4, VRRP_GROUP_V6};
use crate::config::checks::Checks;
use crate::config::codes;
use crate::config::context::Cx;
use crate::config::diagnostic::{Class, Diagnostic};
use crate::config::schema::{Args, Next, Shape, Value, Words, block};
use crate::config::slot::{First, List, One};
use crate::config::value::address::{MailServer, Multicast4, Multicast6};
use crate::config::value::global::{
    AbsolutePath, AutoPriority, BufferPolicy, Chains, Cpus, JsonVersion, LvsTimeouts, OnlyPath,
    OptionalName, OptionalPath, Sets, Signed, Sync, Umask,
};
use crate::config::value::number::{Bool, Exact, Flag, Int, Seconds, TIMER_MAX, Time, U32};
use crate::config::value::router::ExtraGarp;
use crate::config::value::script::{Account, Fifo, Script};
use crate::config::value::text::{Cut, Interface, Path, Text};
use crate::config::words::Statement;

/// `dynamic_interfaces [allow_if_changes]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DynamicInterfaces {
    pub allow_changes: bool,
}

/// `lvs_flush_on_stop [VS]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlushOnStop {
    pub services_only: bool,
}

/// `notification_email_from`: one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sender(pub Box<str>);

/// `include_check`: a change of the checks of later includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IncludeCheck(pub Checks);

/// A priority of a process, clamped to its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RealTime(pub u8);

block! {
    /// Settings of the daemon as a whole and defaults for its objects. Several blocks add up. Their position does not
    /// matter.
    pub struct GlobalDefs(()) = "global_defs" {
        /// Names this router in mails.
        router_id: One<Text> = "router_id", lenient, otherwise("the host name");
        /// Sender of mails.
        notification_email_from: One<Sender> = "notification_email_from", lenient, otherwise("user@host");
        /// Mail server, a host name or an address, and its port. Without it no mail is sent.
        smtp_server: One<MailServer> = "smtp_server";
        /// Name sent in HELO.
        smtp_helo_name: One<Text> = "smtp_helo_name", quiet, otherwise("the host name");
        /// Seconds after which a connection to the mail server counts as failed.
        smtp_connect_timeout: One<Int<0, 4294>> = "smtp_connect_timeout", default(Int(30));
        /// Receivers of mails. Without any no mail is sent.
        notification_email: List<Text> = "notification_email";
        /// Default of `smtp_alert` everywhere.
        smtp_alert: One<Bool> = "smtp_alert";
        /// Default of `smtp_alert` in instances and sync groups.
        smtp_alert_vrrp: One<Bool> = "smtp_alert_vrrp", otherwise("smtp_alert");
        /// Default of `smtp_alert` in virtual and real servers.
        smtp_alert_checker: One<Bool> = "smtp_alert_checker", otherwise("smtp_alert");
        /// Send no mail when a single check changes without changing the state of its server.
        no_checker_emails: One<Bool> = "no_checker_emails", default(Bool(false));
        /// Log each failed check of a server that is up.
        checker_log_all_failures: One<Bool> = "checker_log_all_failures", default(Bool(false));
        /// Run `notify_up` also for servers put in service at start.
        rs_init_notifies: One<Bool> = "rs_init_notifies", default(Bool(false));
        /// Interfaces need not exist when the daemon starts. Here they never need to; the setting only makes the warning a
        /// note. `allow_if_changes` allows an interface to come back with another type.
        dynamic_interfaces: One<DynamicInterfaces> = "dynamic_interfaces";
        /// Interface of static addresses that name none.
        default_interface: One<Interface> = "default_interface", lenient, default(Interface(IfName::eth0()));
        /// Empty the IPVS table at start instead of adopting its entries.
        lvs_flush: One<Flag> = "lvs_flush";
        /// Empty the IPVS table at stop; with VS remove only the services of the configuration.
        lvs_flush_on_stop: One<FlushOnStop> = "lvs_flush_on_stop" | "lvs_flush_onstop" (old silent);
        /// Seconds between comparisons of the IPVS table with the configuration, which revert what other programs changed
        /// in its services. 0 for never. Not a keyword of keepalived.
        lvs_audit_interval: One<Int<0, 86400>> = "lvs_audit_interval", newer, default(Int(60));
        /// Close the connections of checks with a reset, so that none stays in TIME_WAIT. Servers may log this as an error.
        /// Not a keyword of keepalived.
        checker_close_by_reset: One<Bool> = "checker_close_by_reset", newer, default(Bool(false));
        /// Let instances take part even if virtual servers of the configuration cannot be served because IPVS does not
        /// work or refuses one. Without it the instances are in FAULT meanwhile. Not a keyword of keepalived.
        vrrp_without_ipvs: One<Bool> = "vrrp_without_ipvs", newer, default(Bool(false));
        /// Seconds by which a running notify script may delay the next one of the same instance, group or server. Then it
        /// gets SIGTERM, and SIGKILL one second later. Not a keyword of keepalived.
        notify_max_delay: One<Int<0, 3600>> = "notify_max_delay", newer, default(Int(5));
        /// Destination of IPv4 adverts.
        vrrp_mcast_group4: One<Multicast4> = "vrrp_mcast_group4", default(Multicast4(VRRP_GROUP_V4));
        /// Destination of IPv6 adverts.
        vrrp_mcast_group6: One<Multicast6> = "vrrp_mcast_group6", default(Multicast6(VRRP_GROUP_V6));
        /// Default of `garp_master_delay`.
        vrrp_garp_master_delay: One<Int<0, 4294>> = "vrrp_garp_master_delay", default(Int(5));
        /// Default of `garp_master_repeat`.
        vrrp_garp_master_repeat: One<Int<0, U32>> = "vrrp_garp_master_repeat", default(Int(5));
        /// Default of `garp_master_refresh`.
        vrrp_garp_master_refresh: One<Int<0, U32>> = "vrrp_garp_master_refresh", default(Int(0));
        /// Default of `garp_master_refresh_repeat`.
        vrrp_garp_master_refresh_repeat: One<Int<0, U32>> = "vrrp_garp_master_refresh_repeat", default(Int(1));
        /// Default of `garp_lower_prio_delay`.
        vrrp_garp_lower_prio_delay: One<Int<0, 4294>> = "vrrp_garp_lower_prio_delay",
            otherwise("vrrp_garp_master_delay");
        /// Default of `garp_lower_prio_repeat`.
        vrrp_garp_lower_prio_repeat: One<Int<0, 2_147_483_647>> = "vrrp_garp_lower_prio_repeat",
            otherwise("vrrp_garp_master_repeat");
        /// Default of `down_timer_adverts`.
        vrrp_down_timer_adverts: One<Int<1, 100>> = "vrrp_down_timer_adverts", default(Int(3));
        /// Minimum time between two gratuitous ARPs on one interface.
        vrrp_garp_interval: One<Seconds<1, TIMER_MAX>> = "vrrp_garp_interval", otherwise("no minimum");
        /// Minimum time between two unsolicited neighbour advertisements on one interface.
        vrrp_gna_interval: One<Seconds<1, TIMER_MAX>> = "vrrp_gna_interval", otherwise("no minimum");
        /// Send as few gratuitous ARPs as possible: settings that are not given become repeat 1, delay 0, refresh 0,
        /// refresh repeat 1.
        vrrp_min_garp: One<Bool> = "vrrp_min_garp", default(Bool(false));
        /// Default of `lower_prio_no_advert`.
        vrrp_lower_prio_no_advert: One<Bool> = "vrrp_lower_prio_no_advert", default(Bool(false));
        /// Default of `higher_prio_send_advert`.
        vrrp_higher_prio_send_advert: One<Bool> = "vrrp_higher_prio_send_advert", default(Bool(false));
        /// Default of `owner_ignore_adverts` for priority 255.
        vrrp_owner_ignore_adverts: One<Bool> = "vrrp_owner_ignore_adverts", default(Bool(false));
        /// Default of `skip_check_adv_addr`.
        vrrp_skip_check_adv_addr: One<Bool> = "vrrp_skip_check_adv_addr", default(Bool(false));
        /// Default of `v3_checksum_as_v2`. Any word after it is ignored, also `false`.
        v3_checksum_as_v2: One<Flag> = "v3_checksum_as_v2";
        /// Version of IPv4 instances that have none of their own.
        vrrp_version: One<Int<2, 3>> = "vrrp_version", default(Int(2));
        /// Default of `strict_mode`.
        vrrp_strict: One<Bool> = "vrrp_strict", default(Bool(false));
        /// Time after the start during which no instance becomes master; adverts are received. A change takes effect at the next start.
        vrrp_startup_delay: One<Seconds<1_000, 4_294_000_000>> = "vrrp_startup_delay", otherwise("no delay");
        /// As `vrrp_startup_delay`, counted from the boot of the machine. A change takes effect at the next start.
        vrrp_delay_after_boot: One<Seconds<1_000, 4_294_000_000>> = "vrrp_delay_after_boot", otherwise("no delay");
        /// Log adverts with a virtual router id that no instance has.
        log_unknown_vrids: One<Flag> = "log_unknown_vrids";
        /// Nice value of the VRRP process.
        vrrp_priority: One<Int<-20, 19>> = "vrrp_priority", lenient, otherwise("that of the daemon");
        /// Real-time priority of the VRRP process.
        vrrp_rt_priority: One<RealTime> = "vrrp_rt_priority", lenient, otherwise("not real time");
        /// Lock the memory of the VRRP process.
        vrrp_no_swap: One<Flag> = "vrrp_no_swap";
        /// Default account of scripts.
        script_user: One<Account> = "script_user", lenient,
            otherwise("keepalived_script if there is such a user, else the daemon's") => account_exists;
        /// Do not run a script as root if a user other than root can change it.
        enable_script_security: One<Flag> = "enable_script_security";
        /// Run scripts under the path as written, without resolving symbolic links.
        use_symlink_paths: One<Bool> = "use_symlink_paths", default(Bool(false));
        /// Give scripts the supplementary groups of their user.
        set_supplementary_groups: One<Bool> = "set_supplementary_groups", newer, default(Bool(false));
        /// Which problems of the includes that follow are errors: read, match, wildcard_match, brace_match; all four if no
        /// word is given. `+word` adds, `-word` removes.
        include_check: One<IncludeCheck> = "include_check" => include_check;
        /// Name the processes keepalived_vrrp, keepalived_lvs and keepalived_bfd.
        process_names: One<Flag> = "process_names";
        /// Name of the supervisor.
        process_name: One<Cut<15>> = "process_name", otherwise("the program's");
        /// Name of the VRRP process.
        vrrp_process_name: One<Cut<15>> = "vrrp_process_name", otherwise("process_name");
        /// Name of the checker process.
        checker_process_name: One<Cut<15>> = "checker_process_name" | "lvs_process_name" (old silent),
            otherwise("process_name");
        /// Name of the BFD thread.
        bfd_process_name: One<Cut<15>> = "bfd_process_name", otherwise("process_name");
        /// Runs before anything is set up.
        startup_script: First<Script> = "startup_script", lenient, later;
        /// Time limit of `startup_script` in seconds.
        startup_script_timeout: One<Int<1, 1000>> = "startup_script_timeout", lenient, later, default(Int(10));
        /// Runs after everything has ended.
        shutdown_script: First<Script> = "shutdown_script", lenient, later;
        /// Time limit of `shutdown_script` in seconds.
        shutdown_script_timeout: One<Int<1, 1000>> = "shutdown_script_timeout", lenient, later, default(Int(10));
        /// Highest real-time priority that processes may give themselves when their timers run late; -1 for none, as 0.
        max_auto_priority: One<AutoPriority> = "max_auto_priority", default(AutoPriority(0));
        /// Microseconds by which a timer must be late before `max_auto_priority` applies.
        min_auto_priority_delay: One<Int<1, 10_000_000>> = "min_auto_priority_delay", lenient,
            default(Int(1_000_000));
        /// Processors of the VRRP process.
        vrrp_cpu_affinity: One<Cpus> = "vrrp_cpu_affinity", lenient, otherwise("all");
        /// Microseconds of processor time that the real-time VRRP process may use without blocking.
        vrrp_rlimit_rttime: One<Int<1, U32>> = "vrrp_rlimit_rttime" | "vrrp_rlimit_rtime" (old silent),
            default(Int(500_000));
        /// Nice value of the checker process.
        checker_priority: One<Int<-20, 19>> = "checker_priority", lenient, otherwise("that of the daemon");
        /// Lock the memory of the checker process.
        checker_no_swap: One<Flag> = "checker_no_swap";
        /// Real-time priority of the checker process.
        checker_rt_priority: One<RealTime> = "checker_rt_priority", lenient, otherwise("not real time");
        /// Processors of the checker process.
        checker_cpu_affinity: One<Cpus> = "checker_cpu_affinity", lenient, otherwise("all");
        /// As `vrrp_rlimit_rttime`, for the checker process.
        checker_rlimit_rttime: One<Int<1, U32>> = "checker_rlimit_rttime" | "checker_rlimit_rtime" (old silent),
            default(Int(500_000));
        /// Nice value of the BFD thread.
        bfd_priority: One<Int<-20, 19>> = "bfd_priority", lenient, otherwise("that of the daemon");
        /// Lock the memory of the BFD thread.
        bfd_no_swap: One<Flag> = "bfd_no_swap";
        /// Real-time priority of the BFD thread.
        bfd_rt_priority: One<RealTime> = "bfd_rt_priority", lenient, otherwise("not real time");
        /// Processors of the BFD thread.
        bfd_cpu_affinity: One<Cpus> = "bfd_cpu_affinity", lenient, otherwise("all");
        /// As `vrrp_rlimit_rttime`, for the BFD thread.
        bfd_rlimit_rttime: One<Int<1, U32>> = "bfd_rlimit_rttime" | "bfd_rlimit_rtime" (old silent),
            default(Int(500_000));
        /// Send no mail for transitions to FAULT.
        no_email_faults: One<Flag> = "no_email_faults";
        /// Disable IGMP reports of link-local groups on parents of VMACs.
        disable_local_igmp: One<Flag> = "disable_local_igmp";
        /// Timeouts of IPVS connections.
        lvs_timeouts: One<LvsTimeouts> = "lvs_timeouts", otherwise("the kernel's");
        /// Synchronise connections with other directors.
        lvs_sync_daemon: First<Sync> = "lvs_sync_daemon", lenient;
        /// Default of `garp_extra_if`.
        vrrp_garp_extra_if: One<ExtraGarp<1>> = "vrrp_garp_extra_if" | "vrrp_vmac_garp_intvl" (old),
            otherwise("none");
        /// Drop packets to virtual addresses, and from them if a chain for these is named. Done by nftables, not in these chains.
        vrrp_iptables: First<Chains> = "vrrp_iptables", deprecated("use 'nftables'");
        /// Names of the sets used with iptables. The sets of the nftables tables take their place.
        vrrp_ipsets: One<Sets> = "vrrp_ipsets", otherwise("keepalived and names derived from it");
        /// Drop packets by nftables, in the tables of this name.
        nftables: First<OptionalName<30>> = "nftables", otherwise("keepalived if given without a value");
        /// Priority of its chains.
        nftables_priority: One<Signed> = "nftables_priority", default(Exact(-1));
        /// Match interfaces by number.
        nftables_ifindex: One<Flag> = "nftables_ifindex";
        /// Count the packets that the rules match.
        nftables_counters: One<Flag> = "nftables_counters";
        /// Use one firewall mark for each group of addresses, set in this table.
        nftables_ipvs: First<OptionalName<254>> = "nftables_ipvs", later, otherwise("keepalived_ipvs if given without a value");
        /// Priority of its chain.
        nftables_ipvs_priority: One<Signed> = "nftables_ipvs_priority", later, default(Exact(-1));
        /// The first mark.
        nftables_ipvs_start_fwmark: One<Exact<1, U32>> = "nftables_ipvs_start_fwmark", later, default(Exact(1000));
        /// Default of `check_unicast_src`.
        vrrp_check_unicast_src: One<Flag> = "vrrp_check_unicast_src";
        /// Pipe that receives a line for each change.
        notify_fifo: First<Fifo> = "notify_fifo", lenient;
        /// Program that reads `notify_fifo`; the path of the pipe is its last argument.
        notify_fifo_script: First<Script> = "notify_fifo_script", lenient;
        /// Pipe for changes of instances and groups.
        vrrp_notify_fifo: First<Fifo> = "vrrp_notify_fifo", lenient;
        /// Program that reads `vrrp_notify_fifo`.
        vrrp_notify_fifo_script: First<Script> = "vrrp_notify_fifo_script", lenient;
        /// Pipe for changes of servers and services.
        lvs_notify_fifo: First<Fifo> = "lvs_notify_fifo", lenient;
        /// Program that reads `lvs_notify_fifo`.
        lvs_notify_fifo_script: First<Script> = "lvs_notify_fifo_script", lenient;
        /// Default of `notify_priority_changes`.
        vrrp_notify_priority_changes: One<Bool> = "vrrp_notify_priority_changes", default(Bool(false));
        /// Write the states to the pipes after a reload, changed or not.
        fifo_write_vrrp_states_on_reload: One<Flag> = "fifo_write_vrrp_states_on_reload";
        /// Socket of the SNMP master agent.
        snmp_socket: First<Text> = "snmp_socket", lenient, later, default(Text("unix:/var/agentx/master".into()));
        /// Send SNMP traps.
        enable_traps: One<Flag> = "enable_traps", later;
        /// Serve the VRRP MIB of keepalived.
        enable_snmp_vrrp: One<Flag> = "enable_snmp_vrrp" | "enable_snmp_keepalived" (old silent), later;
        /// Serve both VRRP MIBs of the RFCs.
        enable_snmp_rfc: One<Flag> = "enable_snmp_rfc", later;
        /// Serve the MIB of RFC 2787.
        enable_snmp_rfcv2: One<Flag> = "enable_snmp_rfcv2", later;
        /// Serve the MIB of RFC 6527.
        enable_snmp_rfcv3: One<Flag> = "enable_snmp_rfcv3", later;
        /// Serve the part of the MIB with virtual and real servers.
        enable_snmp_checker: One<Flag> = "enable_snmp_checker", later;
        /// Seconds for which counters of services are kept.
        snmp_vs_stats_update_interval: One<Seconds<1_000, 30_000_000>> = "snmp_vs_stats_update_interval", later,
            default(Time::seconds(5));
        /// Seconds for which counters of servers are kept.
        snmp_rs_stats_update_interval: One<Seconds<1_000, 30_000_000>> = "snmp_rs_stats_update_interval", later,
            otherwise("snmp_vs_stats_update_interval");
        /// Serve D-Bus.
        enable_dbus: One<Flag> = "enable_dbus", later;
        /// Name on the bus.
        dbus_service_name: One<Text> = "dbus_service_name", lenient, later, default(Text("org.keepalived.Vrrp1".into()));
        /// Interface name for instances without an interface.
        dbus_no_interface_name: One<Text> = "dbus_no_interface_name", lenient, later, otherwise("none");
        /// Receive buffer in bytes of the VRRP process's requests to the kernel.
        vrrp_netlink_cmd_rcv_bufs: One<Exact<0, U32>> = "vrrp_netlink_cmd_rcv_bufs", lenient, otherwise("104 KiB, also the least");
        /// Exceed the system's limit if necessary.
        vrrp_netlink_cmd_rcv_bufs_force: One<Bool> = "vrrp_netlink_cmd_rcv_bufs_force", default(Bool(false));
        /// Receive buffer in bytes of the VRRP process's kernel monitor.
        vrrp_netlink_monitor_rcv_bufs: One<Exact<0, U32>> = "vrrp_netlink_monitor_rcv_bufs", lenient,
            otherwise("8 MiB, also the least");
        /// Exceed the system's limit if necessary.
        vrrp_netlink_monitor_rcv_bufs_force: One<Bool> = "vrrp_netlink_monitor_rcv_bufs_force", default(Bool(false));
        /// Receive buffer in bytes of the checker process's requests to the kernel.
        lvs_netlink_cmd_rcv_bufs: One<Exact<0, U32>> = "lvs_netlink_cmd_rcv_bufs", lenient, otherwise("1 MiB, also the least");
        /// Exceed the system's limit if necessary.
        lvs_netlink_cmd_rcv_bufs_force: One<Bool> = "lvs_netlink_cmd_rcv_bufs_force", default(Bool(false));
        /// Receive buffer in bytes of the checker process's kernel monitor.
        lvs_netlink_monitor_rcv_bufs: One<Exact<0, U32>> = "lvs_netlink_monitor_rcv_bufs", lenient,
            otherwise("8 MiB, also the least");
        /// Exceed the system's limit if necessary.
        lvs_netlink_monitor_rcv_bufs_force: One<Bool> = "lvs_netlink_monitor_rcv_bufs_force", default(Bool(false));
        /// Receive buffer in bytes of process events. It grows when some are lost.
        process_monitor_rcv_bufs: One<Exact<0, U32>> = "process_monitor_rcv_bufs", lenient,
            otherwise("as large as is usually enough, beyond the system's limit");
        /// Exceed the system's limit if necessary.
        process_monitor_rcv_bufs_force: One<Bool> = "process_monitor_rcv_bufs_force", default(Bool(false));
        /// Size of the receive buffers for adverts: a multiple of the interface's MTU, a multiple of the size of the own
        /// advert, or a number of bytes.
        vrrp_rx_bufs_policy: One<BufferPolicy> = "vrrp_rx_bufs_policy", lenient, otherwise("4 MiB, also the least");
        /// Multiple for `vrrp_rx_bufs_policy`.
        vrrp_rx_bufs_multiplier: One<Exact<1, U32>> = "vrrp_rx_bufs_multiplier", default(Exact(3));
        /// Prefix of the names of VMAC interfaces.
        vmac_prefix: First<Text> = "vmac_prefix", default(Text("vrrp".into()));
        /// Prefix of the names of VMAC interfaces for addresses on other interfaces.
        vmac_addr_prefix: First<Text> = "vmac_addr_prefix", otherwise("vmac_prefix");
        /// File mode mask for files that the daemon creates.
        umask: One<Umask> = "umask", otherwise("that of --umask, or else 0177");
        /// Without effect, as in keepalived.
        random_seed: One<Exact<0, U32>> = "random_seed", dead;
        /// Refuse a reload for everything that a configuration test reports, including warnings and mistakes of the running
        /// configuration; the file receives the result of the test. Without it only a new error refuses a reload.
        reload_check_config: One<OptionalPath> = "reload_check_config", otherwise("/dev/null if given without a value");
        /// File whose first line is the time of the next reload.
        reload_time_file: One<AbsolutePath> = "reload_time_file", lenient, later;
        /// Keep `reload_time_file` after the reload.
        reload_repeat: One<Flag> = "reload_repeat", later;
        /// File that exists while a configuration is read.
        reload_file: One<OptionalPath> = "reload_file", later, otherwise("keepalived.reload beside the pid file");
        /// Directory for copies of the configuration.
        config_save_dir: One<Path> = "config_save_dir", later;
        /// Directory for the copy of the configuration that keepalived's processes read; not needed here.
        tmp_config_directory: First<OnlyPath> = "tmp_config_directory", lenient, dead, otherwise("memory");
        /// Put the names of instance and namespace into names of dump files.
        data_use_instance: One<Bool> = "data_use_instance", later, default(Bool(false));
        /// Form of `keepalived.json`: 1 for a list of instances, 2 for an object with instances and tracked processes.
        json_version: One<JsonVersion> = "json_version", lenient, default(JsonVersion(1));
        /// Directory of the distribution's tables of route names.
        iproute_usr_dir: One<OnlyPath> = "iproute_usr_dir", lenient, otherwise("/usr/lib/iproute2, then /usr/share/iproute2");
        /// Directory of this machine's tables of route names.
        iproute_etc_dir: One<OnlyPath> = "iproute_etc_dir", lenient, default(OnlyPath(b"/etc/iproute2".as_slice().into()));
        /// File of the dump on SIGUSR1.
        state_dump_file: One<OnlyPath> = "state_dump_file", lenient, later, default(OnlyPath(b"/tmp/keepalived.data".as_slice().into()));
        /// Without effect, as in keepalived: SIGUSR2 makes `keepalived.stats` in the directory for temporary files.
        stats_dump_file: One<OnlyPath> = "stats_dump_file", lenient, dead;
        /// Without effect, as in keepalived: the signal JSON makes `keepalived.json` in the directory for temporary files.
        json_dump_file: One<OnlyPath> = "json_dump_file", lenient, dead;
    }
}

fn include_check(block: &mut GlobalDefs, _statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next {
    if let Some(IncludeCheck(checks)) = block.include_check.value() {
        cx.include_checks = *checks;
    }
    Next::Done
}

fn account_exists(block: &mut GlobalDefs, _statement: &Statement<'_>, cx: &mut Cx<'_>) -> Next {
    let Some(account) = block.script_user.value().cloned() else {
        return Next::Done;
    };
    if account.find(Class::Problem, cx).is_none() {
        cx.given.bad_script_user = true;
        block.script_user.clear();
    }
    Next::Done
}

impl Value for Sender {
    fn shape() -> Shape {
        Shape::Text("a mail address")
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        if let Some(extra) = args.next() {
            args.finish();
            cx.report(
                Diagnostic::error(&codes::OPTION, "words after the mail address are ignored")
                    .at(extra.span())
                    .help("enclose the whole address in double quotes if it contains blanks"),
            );
        }
        Some(Self(super::super::value::text::text_of(&word, cx)))
    }

    fn words(&self, out: &mut Words) {
        out.push(self.0.as_bytes());
    }
}

impl Value for DynamicInterfaces {
    fn shape() -> Shape {
        Shape::Words("nothing, or 'allow_if_changes'".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        const WORDS: &[&str] = &["allow_if_changes"];
        let mut allow_changes = false;
        if let Some(word) = args.next() {
            allow_changes = word.bytes == b"allow_if_changes";
            if !allow_changes {
                super::super::value::text::report_choice(&word, WORDS, cx);
            }
        }
        Some(Self { allow_changes })
    }

    fn words(&self, out: &mut Words) {
        if self.allow_changes {
            out.push("allow_if_changes");
        }
    }
}

impl Value for FlushOnStop {
    fn shape() -> Shape {
        Shape::Words("nothing, or 'VS'".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        const WORDS: &[&str] = &["VS"];
        match args.next() {
            None => Some(Self { services_only: false }),
            Some(word) if word.bytes == b"VS" => Some(Self { services_only: true }),
            Some(word) => {
                super::super::value::text::report_choice(&word, WORDS, cx);
                None
            }
        }
    }

    fn words(&self, out: &mut Words) {
        if self.services_only {
            out.push("VS");
        }
    }
}

impl Value for RealTime {
    fn shape() -> Shape {
        Shape::Integer { min: 1, max: 99 }
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        let word = args.need(cx)?;
        let number = super::super::value::number::integer(&word, i64::MIN + 1, i64::MAX, true, cx)?;
        let clamped = number.clamp(1, 99);
        if clamped != number {
            let message =
                format!("real-time priority {number} is outside 1 to 99, {clamped} is used");
            cx.report(
                Diagnostic::warning(&codes::ADJUSTED, message)
                    .at(word.span())
                    .replacement(clamped.to_string()),
            );
        }
        u8::try_from(clamped).ok().map(Self)
    }

    fn words(&self, out: &mut Words) {
        out.show(self.0);
    }
}

impl Value for IncludeCheck {
    fn shape() -> Shape {
        Shape::Words("nothing, or some of read, match, wildcard_match, brace_match, each optionally after + (to add) or - (to remove)".into())
    }

    fn read(args: &mut Args<'_>, cx: &mut Cx<'_>) -> Option<Self> {
        const WORDS: &[&str] = &["read", "match", "wildcard_match", "brace_match"];
        if args.peek().is_none() {
            return Some(Self(Checks::ALL));
        }
        let mut checks = cx.include_checks;
        let mut first = true;
        while let Some(word) = args.next() {
            let (on, name) = match word.bytes.split_first() {
                Some((b'+', rest)) => (true, rest),
                Some((b'-', rest)) => (false, rest),
                _ => {
                    if first {
                        checks = Checks::default();
                    }
                    (true, word.bytes)
                }
            };
            first = false;
            match name {
                b"read" => checks.read = on,
                b"match" => checks.matched = on,
                b"wildcard_match" => checks.wildcard = on,
                b"brace_match" => checks.braces = on,
                _ => {
                    super::super::value::text::report_choice(&word, WORDS, cx);
                    continue;
                }
            }
            // Any check implies that files can be read.
            checks.read |= checks.matched || checks.wildcard || checks.braces;
        }
        Some(Self(checks))
    }

    fn words(&self, out: &mut Words) {
        for (name, on) in [
            ("read", self.0.read),
            ("match", self.0.matched),
            ("wildcard_match", self.0.wildcard),
            ("brace_match", self.0.braces),
        ] {
            if on {
                out.push(name);
            }
        }
        if self.0 == Checks::default() {
            out.push("-read");
        }
    }
}

impl GlobalDefs {
    /// `smtp_alert` of instances and groups that do not set it.
    pub(crate) fn mail_vrrp(&self) -> bool {
        let own = self.smtp_alert_vrrp.value().or(self.smtp_alert.value());
        own.is_some_and(|b| b.0)
    }

    /// `smtp_alert` of virtual and real servers that do not set it; none if there is no default.
    pub(crate) fn mail_checker(&self) -> Option<bool> {
        let own = self.smtp_alert_checker.value().or(self.smtp_alert.value());
        own.map(|b| b.0)
    }

    /// Destination of adverts of a family.
    pub(crate) fn group(&self, family: crate::base::Family) -> IpAddr {
        match family {
            crate::base::Family::V4 => self.vrrp_mcast_group4().0.into(),
            crate::base::Family::V6 => self.vrrp_mcast_group6().0.into(),
        }
    }
}
