//! The vocabulary against keepalived's: `tests/data/upstream-keywords.txt` holds the keywords of version 2.4.3, with their
//! blocks; `-` stands for outside of blocks.

use std::collections::BTreeSet;

use evervip::config::reference::{Term, vocabulary};
use evervip::config::{Loaded, MemoryFiles, Options, Severity, StaticHost, load};
use evervip::model::Model;
use evervip::model::extras::InstanceExtras;
use evervip::model::global::{NetlinkBuffers, Settings};
use evervip::model::service::Lvs;
use evervip::model::vrrp::Vrrp;

fn upstream() -> BTreeSet<(String, String)> {
    let text = include_str!("../data/upstream-keywords.txt");
    let pair = |line: &str| {
        let (path, name) = line.split_once(' ').unwrap();
        (path.to_owned(), name.to_owned())
    };
    text.lines().map(pair).collect()
}

#[test]
fn every_keyword_is_declared_and_no_other() {
    let theirs = upstream();
    assert!(theirs.len() > 500);
    let all = vocabulary();
    let declared: BTreeSet<(String, String)> =
        all.iter().map(|t| (t.path.clone(), t.name.to_owned())).collect();
    let missing: Vec<_> = theirs.difference(&declared).collect();
    assert!(missing.is_empty(), "not declared: {missing:?}");
    let known: BTreeSet<(String, String)> =
        all.iter().filter(|t| t.upstream).map(|t| (t.path.clone(), t.name.to_owned())).collect();
    let invented: Vec<_> = known.difference(&theirs).collect();
    assert!(invented.is_empty(), "keepalived does not know: {invented:?}");
}

/// A configuration that contains a line of a block.
fn around(kind: &str, line: &str) -> String {
    let head = "track_group T {\n group { V }\n}\nvrrp_script s { script /usr/bin/true\n}\ntrack_file f { file /tmp/f\n}\nvrrp_track_process p { process x\n}\nbfd_instance b { neighbor_ip 10.0.0.3\n source_ip 10.0.0.2\n}\n";
    let instance = |inner: &str| {
        format!(
            "{head}vrrp_instance V {{\n interface eth0\n virtual_router_id 5\n version 3\n{inner}\n virtual_ipaddress {{\n  10.0.0.9\n }}\n}}\n"
        )
    };
    match kind {
        "address" => instance(&format!(" virtual_ipaddress_excluded {{\n  {line}\n }}")),
        "route" => format!("static_routes {{\n {line}\n}}\n{}", instance("")),
        "rule" => format!("static_rules {{\n {line}\n}}\n{}", instance("")),
        "linkbeat_interfaces" | "interface_up_down_delays" | "static_ipaddress" => {
            format!("{kind} {{\n {line}\n}}\n{}", instance(""))
        }
        "virtual_server_group" => {
            format!(
                "virtual_server_group G {{\n {line}\n}}\nvirtual_server group G {{\n lb_algo rr\n lb_kind TUN\n protocol TCP\n real_server 10.1.0.1 80 {{\n }}\n}}\n"
            )
        }
        "global_defs" => format!("global_defs {{\n {line}\n}}\n{}", instance("")),
        "instance" => instance(&format!(" {line}")),
        list => instance(&format!(" {list} {{\n  {line}\n }}")),
    }
}

/// Option words of lines: the block, the line without the word, lines with one. `as` of routes is missing: keepalived
/// does not support it either and reports that.
const OPTIONS: &[(&str, &str, &[&str])] = &[
    (
        "address",
        "10.0.0.8",
        &[
            "10.0.0.8 dev eth1",
            "10.0.0.8 scope link",
            "10.0.0.8/24 broadcast 10.0.0.255",
            "10.0.0.8/24 brd +",
            "10.0.0.8 label eth0:1",
            "10.0.0.8 peer 10.0.0.7",
            "10.0.0.8 no_track",
            "10.0.0.8 preferred_lft 5",
            "10.0.0.8 use_vmac",
            "10.0.0.8 noprefixroute",
            "10.0.0.8 autojoin",
            "10.0.0.0/24",
        ],
    ),
    (
        "address",
        "2001:db8::8",
        &["2001:db8::8 home", "2001:db8::8 -nodad", "2001:db8::8 mngtmpaddr"],
    ),
    (
        "route",
        "10.9.0.0/24 dev eth0",
        &[
            "inet 10.9.0.0/24 dev eth0 metric 3",
            "to 10.9.1.0/24 dev eth0",
            "10.9.0.0/24 dev eth1",
            "10.9.0.0/24 oif eth1",
            "10.9.0.0/24 src 10.0.0.2 dev eth0",
            "10.9.0.0/24 via 10.0.0.1 dev eth0",
            "10.9.0.0/24 gw 10.0.0.1 dev eth0",
            "10.9.0.0/24 tos 4 dev eth0",
            "10.9.0.0/24 dsfield 4 dev eth0",
            "10.9.0.0/24 dev eth0 table 7",
            "10.9.0.0/24 dev eth0 scope host",
            "10.9.0.0/24 dev eth0 metric 7",
            "10.9.0.0/24 dev eth0 priority 7",
            "10.9.0.0/24 dev eth0 preference 7",
            "10.9.0.0/24 dev eth0 onlink",
            "10.9.0.0/24 dev eth0 mtu 1400",
            "10.9.0.0/24 dev eth0 mtu lock 1400",
            "10.9.0.0/24 dev eth0 hoplimit 7",
            "10.9.0.0/24 dev eth0 advmss 1000",
            "10.9.0.0/24 dev eth0 rtt 10",
            "10.9.0.0/24 dev eth0 rttvar 10",
            "10.9.0.0/24 dev eth0 reordering 4",
            "10.9.0.0/24 dev eth0 window 4096",
            "10.9.0.0/24 dev eth0 cwnd 10",
            "10.9.0.0/24 dev eth0 ssthresh 10",
            "10.9.0.0/24 dev eth0 realms 3",
            "10.9.0.0/24 dev eth0 rto_min 10",
            "10.9.0.0/24 dev eth0 initcwnd 10",
            "10.9.0.0/24 dev eth0 initrwnd 10",
            "10.9.0.0/24 dev eth0 features ecn",
            "10.9.0.0/24 dev eth0 quickack 1",
            "10.9.0.0/24 dev eth0 congctl cubic",
            "10.9.0.0/24 dev eth0 ttl-propagate enabled",
            "10.9.0.0/24 dev eth0 fastopen_no_cookie 1",
            "add 10.9.0.0/24 dev eth0",
            "append 10.9.0.0/24 dev eth0",
            "10.9.0.0/24 dev eth0 no_track",
            "10.9.0.0/24 dev eth0 track_group T",
            "blackhole 10.9.0.0/24",
            "10.9.0.0/24 vrf eth2 dev eth0",
            "10.9.0.0/24 encap ip id 5 dst 10.0.0.5 src 10.0.0.6 tos 4 ttl 9 flags 1 dev eth0",
            "10.9.0.0/24 encap ip6 id 5 dst 2001:db8::5 src 2001:db8::6 tc 4 hoplimit 9 flags 1 dev eth0",
            "10.9.0.0/24 encap mpls 100/200 dev eth0",
            "10.9.0.0/24 nexthop via 10.0.0.1 dev eth0 weight 3 onlink realms 3 nexthop via 10.0.0.2 dev eth0",
        ],
    ),
    (
        "route",
        "2001:db8:9::/64 dev eth0",
        &[
            "inet6 2001:db8:9::/64 dev eth0 metric 3",
            "2001:db8:9::/64 from 2001:db8:8::/64 dev eth0",
            "2001:db8:9::/64 dev eth0 expires 100",
            "2001:db8:9::/64 dev eth0 pref high",
            "2001:db8:9::/64 encap ila 1:2:3:4 dev eth0",
        ],
    ),
    (
        "rule",
        "from 10.9.0.0/24 table 7 preference 9",
        &[
            "inet from 10.9.0.0/24 table 7 preference 8",
            "from 10.9.1.0/24 table 7 preference 9",
            "from 10.9.0.0/24 to 10.8.0.0/24 table 7 preference 9",
            "from 10.9.0.0/24 lookup 8 preference 9",
            "not from 10.9.0.0/24 table 7 preference 9",
            "from 10.9.0.0/24 table 7 order 8",
            "from 10.9.0.0/24 table 7 priority 8",
            "from 10.9.0.0/24 tos 4 table 7 preference 9",
            "from 10.9.0.0/24 dsfield 4 table 7 preference 9",
            "from 10.9.0.0/24 fwmark 5/7 table 7 preference 9",
            "from 10.9.0.0/24 realms 5/7 table 7 preference 9",
            "from 10.9.0.0/24 table 7 suppress_prefixlength 5 preference 9",
            "from 10.9.0.0/24 table 7 sup_pl 5 preference 9",
            "from 10.9.0.0/24 table 7 suppress_ifgroup 5 preference 9",
            "from 10.9.0.0/24 table 7 sup_group 5 preference 9",
            "from 10.9.0.0/24 dev eth0 table 7 preference 9",
            "from 10.9.0.0/24 iif eth0 table 7 preference 9",
            "from 10.9.0.0/24 oif eth0 table 7 preference 9",
            "from 10.9.0.0/24 tunnel-id 5 table 7 preference 9",
            "from 10.9.0.0/24 uidrange 5-7 table 7 preference 9",
            "from 10.9.0.0/24 l3mdev preference 9",
            "from 10.9.0.0/24 ipproto tcp table 7 preference 9",
            "from 10.9.0.0/24 sport 5-7 table 7 preference 9",
            "from 10.9.0.0/24 dport 5-7 table 7 preference 9",
            "from 10.9.0.0/24 table 7 preference 9 no_track",
            "from 10.9.0.0/24 preference 9 goto 90",
            "from 10.9.0.0/24 preference 9 type nop",
            "from 10.9.0.0/24 preference 9 blackhole",
            "from 10.9.0.0/24 preference 9 unreachable",
            "from 10.9.0.0/24 preference 9 prohibit",
            "inet6 to 2001:db8::/64 table 7 preference 9",
        ],
    ),
    ("static_ipaddress", "10.0.0.8 dev eth0", &["10.0.0.8 dev eth0 track_group T"]),
    ("route", "10.9.0.0/24 dev eth0 no_track", &["10.9.0.0/24 dev eth0 no_track protocol 7"]),
    ("route", "append 10.9.0.0/24 dev eth0", &["prepend 10.9.0.0/24 dev eth0"]),
    ("rule", "iif eth0 table 7 preference 9", &["iif eth0 table 7 preference 9 track_group T"]),
    (
        "rule",
        "from 10.9.0.0/24 table 7 preference 9 no_track",
        &["from 10.9.0.0/24 table 7 preference 9 no_track protocol 9"],
    ),
    ("linkbeat_interfaces", "eth0", &["eth0 MII", "eth0 ETHTOOL", "eth0 IOCTL"]),
    ("interface_up_down_delays", "eth0 1", &["eth0 1 5"]),
    ("unicast_peer", "10.0.0.3", &["10.0.0.3 min_ttl 5", "10.0.0.3 max_ttl 5", "10.0.0.4"]),
    ("track_interface", "eth1", &["eth1 weight 5", "eth1 weight 5 reverse"]),
    ("track_script", "s", &["s weight 5", "s weight 5 reverse"]),
    ("track_script", "s weight 5 reverse", &["s weight 5 noreverse"]),
    ("track_file", "f", &["f weight 5", "f weight 5 reverse"]),
    ("track_file", "f weight 5 reverse", &["f weight 5 noreverse"]),
    ("track_process", "p", &["p weight 5", "p weight 5 reverse"]),
    ("track_process", "p weight 5 reverse", &["p weight 5 noreverse"]),
    ("track_bfd", "b", &["b weight 5", "b weight 5 reverse"]),
    (
        "virtual_server_group",
        "10.0.0.9 80",
        &[
            "10.0.0.9-12 80",
            "10.0.0.9-10.0.0.12 80",
            "10.0.0.8/30 80",
            "fwmark 5",
            "fwmark 5 inet6",
        ],
    ),
    (
        "global_defs",
        "lvs_sync_daemon eth0",
        &[
            "lvs_sync_daemon eth0 inst V",
            "lvs_sync_daemon eth0 id 5",
            "lvs_sync_daemon eth0 maxlen 500",
            "lvs_sync_daemon eth0 port 500",
            "lvs_sync_daemon eth0 ttl 5",
            "lvs_sync_daemon eth0 group 224.0.0.99",
        ],
    ),
    (
        "global_defs",
        "lvs_timeouts tcp 5",
        &["lvs_timeouts tcpfin 5", "lvs_timeouts udp 5", "lvs_timeouts tcp 6"],
    ),
    ("global_defs", "dynamic_interfaces", &["dynamic_interfaces allow_if_changes"]),
    ("global_defs", "lvs_flush_on_stop", &["lvs_flush_on_stop VS"]),
    (
        "global_defs",
        "vrrp_rx_bufs_policy 500",
        &["vrrp_rx_bufs_policy MTU", "vrrp_rx_bufs_policy ADVERT"],
    ),
    (
        "instance",
        "use_vmac",
        &[
            "use_vmac vm0",
            "use_vmac name vm0",
            "use_vmac vm0 02:00:00:00:00:05",
            "use_vmac netlink_notify_msg",
            "use_vmac group 5",
        ],
    ),
    (
        "instance",
        "use_ipvlan ip0",
        &[
            "use_ipvlan name ip1",
            "use_ipvlan ip0 10.0.0.5/24",
            "use_ipvlan ip0 private",
            "use_ipvlan ip0 vepa",
            "use_ipvlan ip0 group 5",
        ],
    ),
    ("instance", "use_ipvlan ip0 private", &["use_ipvlan ip0 bridge"]),
];

fn read(text: &str) -> Loaded {
    let host = StaticHost::default().with_all_interfaces();
    load(&MemoryFiles::single("a.conf", text.as_bytes()), &host, &Options::new("a.conf", &host))
}

#[test]
fn every_option_word_lands_in_the_model() {
    let mut wrong = Vec::new();
    for (kind, plain, lines) in OPTIONS {
        let base = read(&around(kind, plain));
        for line in *lines {
            let loaded = read(&around(kind, line));
            let errors: Vec<String> = loaded
                .diagnostics
                .log_lines()
                .filter(|(severity, _)| *severity == Severity::Error)
                .map(|(_, text)| text)
                .collect();
            if !errors.is_empty() {
                wrong.push(format!("{kind}: {line}: {errors:?}"));
            } else if loaded.model == base.model {
                wrong.push(format!("{kind}: {line}: dropped"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Values of keywords whose form does not give one: the keyword, or the block and the keyword, and the values.
const SAMPLES: &[(&str, &[&str])] = &[
    ("instance", &["one"]),
    ("net_namespace", &["one"]),
    ("net_namespace_ipvs", &["one"]),
    ("static_ipaddress", &["{\n 10.0.0.7 dev eth0\n}"]),
    ("static_routes", &["{\n 10.9.0.0/24 dev eth0\n}"]),
    ("static_rules", &["{\n from 10.9.0.0/24 table 7\n}"]),
    ("linkbeat_interfaces", &["{\n eth0\n}"]),
    ("interface_up_down_delays", &["{\n eth0 1\n}"]),
    ("router_id", &["other"]),
    ("notification_email_from", &["a@example.com"]),
    ("smtp_server", &["127.0.0.1 26"]),
    ("smtp_helo_name", &["other"]),
    ("notification_email", &["{\n b@example.com\n}"]),
    ("dynamic_interfaces", &["allow_if_changes"]),
    ("default_interface", &["eth5"]),
    ("lvs_flush_on_stop", &["VS", ""]),
    ("lvs_flush_onstop", &["VS", ""]),
    ("vrrp_mcast_group4", &["224.0.0.99"]),
    ("vrrp_mcast_group6", &["ff02::99"]),
    ("script_user", &["nobody"]),
    ("process_name", &["other"]),
    ("vrrp_process_name", &["other"]),
    ("checker_process_name", &["other"]),
    ("lvs_process_name", &["other"]),
    ("bfd_process_name", &["other"]),
    ("startup_script", &["/usr/bin/true"]),
    ("shutdown_script", &["/usr/bin/true"]),
    ("max_auto_priority", &["5"]),
    ("vrrp_cpu_affinity", &["1"]),
    ("checker_cpu_affinity", &["1"]),
    ("bfd_cpu_affinity", &["1"]),
    ("lvs_timeouts", &["tcp 5"]),
    ("lvs_sync_daemon", &["eth0"]),
    ("vrrp_garp_extra_if", &["all 5"]),
    ("vrrp_vmac_garp_intvl", &["all 5"]),
    ("vrrp_iptables", &["IN OUT", "IN"]),
    ("vrrp_ipsets", &["one"]),
    ("nftables", &["one"]),
    ("nftables_ipvs", &["one"]),
    ("notify_fifo", &["/run/a"]),
    ("notify_fifo_script", &["/usr/bin/true"]),
    ("vrrp_notify_fifo", &["/run/a"]),
    ("vrrp_notify_fifo_script", &["/usr/bin/true"]),
    ("lvs_notify_fifo", &["/run/a"]),
    ("lvs_notify_fifo_script", &["/usr/bin/true"]),
    ("snmp_socket", &["udp:127.0.0.1:705"]),
    ("dbus_service_name", &["org.example.One"]),
    ("dbus_no_interface_name", &["one"]),
    ("vrrp_rx_bufs_policy", &["MTU"]),
    ("vmac_prefix", &["vm"]),
    ("vmac_addr_prefix", &["va"]),
    ("umask", &["022"]),
    ("reload_check_config", &["/tmp/a"]),
    ("reload_time_file", &["/tmp/a"]),
    ("reload_file", &["/tmp/a"]),
    ("config_save_dir", &["/tmp"]),
    ("tmp_config_directory", &["/tmp"]),
    ("state_dump_file", &["/tmp/a"]),
    ("stats_dump_file", &["/tmp/a"]),
    ("json_dump_file", &["/tmp/a"]),
    ("password", &["x"]),
    ("ca", &["/etc/a"]),
    ("certificate", &["/etc/a"]),
    ("key", &["/etc/a"]),
    ("garp_group interface", &["eth5"]),
    ("interfaces", &["{\n eth5\n}"]),
    ("track_group group", &["{\n V\n}"]),
    ("vrrp_sync_group group", &["{\n V\n}"]),
    ("script", &["/usr/bin/false"]),
    ("weight", &["5", "5 reverse"]),
    ("user", &["nobody"]),
    ("file", &["/tmp/other"]),
    ("init_file", &["5 overwrite"]),
    ("process", &["other"]),
    ("param_match", &["partial"]),
    ("neighbor_ip", &["10.0.0.4"]),
    ("neighbour_ip", &["10.0.0.4"]),
    ("source_ip", &["10.0.0.5"]),
    ("min_rx", &["50"]),
    ("min_tx", &["50"]),
    ("idle_tx", &["5000"]),
    ("track_interface", &["{\n eth1 weight 5\n}"]),
    ("track_script", &["{\n s weight 5\n}"]),
    ("track_process", &["{\n p weight 5\n}"]),
    ("track_bfd", &["{\n b weight 5\n}"]),
    ("FILE_CHECK track_file", &["g"]),
    ("track_file", &["{\n f weight 5\n}"]),
    ("notify_master", &["/usr/bin/true"]),
    ("notify_backup", &["/usr/bin/true"]),
    ("notify_fault", &["/usr/bin/true"]),
    ("notify_stop", &["/usr/bin/true"]),
    ("notify_deleted", &["/usr/bin/true"]),
    ("notify", &["/usr/bin/true"]),
    ("notify_master_rx_lower_pri", &["/usr/bin/true"]),
    ("interface", &["eth5"]),
    ("mcast_src_ip", &["10.0.0.5"]),
    ("mcast_dst_ip", &["224.0.0.99"]),
    ("virtual_ipaddress", &["{\n 10.0.0.7\n}"]),
    ("virtual_ipaddress_excluded", &["{\n 10.0.0.7\n}"]),
    ("use_vmac", &["vm0"]),
    ("use_ipvlan", &["ip0"]),
    ("vrf", &["eth5"]),
    ("unicast_peer", &["{\n 10.0.0.7\n}"]),
    ("unicast_src_ip", &["10.0.0.5"]),
    ("old_unicast_checksum", &["never", ""]),
    ("virtual_routes", &["{\n 10.9.0.0/24 dev eth0\n}"]),
    ("virtual_rules", &["{\n from 10.9.0.0/24 table 7\n}"]),
    ("timer_expired_backup", &["5", "0", ""]),
    ("thread_timer_expired", &["5", "0", ""]),
    ("garp_extra_if", &["all 5"]),
    ("vmac_garp_intvl", &["all 5"]),
    ("lvs_sync_daemon_interface", &["eth5"]),
    ("auth_pass", &["other"]),
    ("auth_hmac key", &["2 0123456789abcdef0123456789abcdef"]),
    ("lvs_method", &["DR", "TUN"]),
    ("lb_kind", &["DR", "TUN"]),
    ("persistence_timeout", &["77"]),
    ("persistence_granularity", &["255.255.255.0"]),
    ("persistence_engine", &["sip"]),
    ("virtualhost", &["other.example.com"]),
    ("snmp_name", &["other"]),
    ("quorum_up", &["/usr/bin/true"]),
    ("quorum_down", &["/usr/bin/true"]),
    ("sorry_server", &["10.1.0.9 80"]),
    ("sorry_server_lvs_method", &["DR"]),
    ("notify_up", &["/usr/bin/true"]),
    ("notify_down", &["/usr/bin/true"]),
    ("connect_ip", &["10.1.0.7"]),
    ("bindto", &["10.1.0.7"]),
    ("bind_if", &["eth5"]),
    ("sni_name", &["other.example.com"]),
    ("path", &["/other"]),
    ("digest", &["0123456789abcdef0123456789abcdef"]),
    ("status_code", &["204"]),
    ("regex", &["other"]),
    ("regex_options", &["caseless"]),
    ("regex_stack", &["100 200"]),
    ("helo_name", &["other"]),
    ("name", &["b", "other.example.com"]),
    ("payload", &["0102"]),
    ("require_reply", &["0102"]),
    ("misc_path", &["/usr/bin/false"]),
];

/// Handled by the parser itself, or changing how later lines are read: they are not in the model.
const OF_THE_READER: &[&str] = &[
    // Reported as having no effect.
    "hashed",
    "include_check",
    "iproute_usr_dir",
    "iproute_etc_dir",
    // These two change paths and accounts of scripts on a machine with links and groups.
    "use_symlink_paths",
    "set_supplementary_groups",
];

/// Configurations that contain a line in the block of this path. Several if keywords need different contexts.
pub(super) fn inside(path: &str, line: &str) -> Vec<String> {
    let global = |inner: &str| {
        format!(
            "global_defs {{\n smtp_server 127.0.0.1\n notification_email {{\n a@example.com\n }}\n{inner}\n}}\n"
        )
    };
    let objects = "vrrp_script s { script /usr/bin/true\n}\ntrack_file f { file /tmp/f\n}\ntrack_file g { file /tmp/g\n}\nvrrp_track_process p { process x\n}\nbfd_instance b { neighbor_ip 10.0.0.3\n source_ip 10.0.0.2\n}\n";
    let instance = |inner: &str| {
        format!(
            "vrrp_instance V {{\n interface eth0\n virtual_router_id 5\n{inner}\n virtual_ipaddress {{\n  10.0.0.9\n }}\n}}\n"
        )
    };
    let service = |inner: &str, server: &str| {
        format!(
            "virtual_server 10.0.0.9 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n{inner}\n real_server 10.1.0.1 80 {{\n{server}\n }}\n}}\n"
        )
    };
    let script = |inner: &str| {
        format!("vrrp_script t {{\n script /usr/bin/true\n interval 2\n{inner}\n}}\n")
    };
    let whole = |text: String| format!("{}{objects}{text}", global(""));
    let parts: Vec<&str> = path.split('/').collect();
    let check = |kind: &str, inner: &str| {
        let plain = match kind {
            "MISC_CHECK" => " misc_path /usr/bin/true\n",
            "FILE_CHECK" => " track_file f\n",
            "BFD_CHECK" => " name b\n",
            "HTTP_GET" | "SSL_GET" => " url {\n path /a\n status_code 200\n }\n",
            _ => "",
        };
        let given =
            plain.split_whitespace().next().is_some_and(|w| inner.contains(&format!(" {w} ")));
        let plain = if given { "" } else { plain };
        whole(service("", &format!(" {kind} {{\n{plain}{inner}\n }}")))
    };
    match parts.as_slice() {
        ["-"] => vec![whole(instance("") + line)],
        ["global_defs"] => {
            let rest =
                instance(" smtp_alert") + &script("") + &service(" ops\n", " TCP_CHECK {\n }");
            let tracked = instance(" track_script {\n  t\n }\n notify /usr/bin/true")
                .replace("vrrp_instance V", "vrrp_instance W")
                .replace("_id 5", "_id 6")
                .replace("10.0.0.9", "10.0.0.8");
            let v6 = instance("")
                .replace("vrrp_instance V", "vrrp_instance X")
                .replace("10.0.0.9", "fe80::9");
            let owner = instance(" priority 255")
                .replace("vrrp_instance V", "vrrp_instance Y")
                .replace("_id 5", "_id 7")
                .replace("10.0.0.9", "10.0.0.6");
            let unicast = instance(" unicast_peer {\n  10.0.0.3\n }")
                .replace("vrrp_instance V", "vrrp_instance Z")
                .replace("_id 5", "_id 8")
                .replace("10.0.0.9", "10.0.0.5");
            let made = instance(
                " use_vmac\n use_vmac_addr\n virtual_ipaddress_excluded {\n 10.0.1.9 dev eth1\n }",
            )
            .replace("vrrp_instance V", "vrrp_instance U")
            .replace("_id 5", "_id 9")
            .replace("10.0.0.9", "10.0.0.44");
            let fixed = "static_ipaddress {\n 10.0.0.4\n}\n";
            let all = format!("{objects}{rest}{tracked}{v6}{owner}{unicast}{made}{fixed}");
            vec![
                global(line) + &all,
                global(&format!(" vrrp_strict\n{line}")) + &all,
                global(&format!(
                    " nftables\n nftables_ipvs\n startup_script /usr/bin/true\n shutdown_script /usr/bin/true\n notify_fifo /run/x\n vrrp_notify_fifo /run/y\n lvs_notify_fifo /run/z\n vrrp_rx_bufs_policy MTU\n{line}"
                )) + &all,
                global(&format!(" vrrp_version 3\n{line}")) + &all,
            ]
        }
        // A key and its certificate need each other.
        ["SSL"] => ["", "certificate /etc/a\n", "key /etc/a\n"]
            .map(|other| whole(format!("SSL {{\n{other}{line}\n}}\n")))
            .into(),
        ["track_group"] => vec![whole(format!(
            "static_ipaddress {{\n 10.0.0.7 dev eth0 track_group T\n}}\n{}track_group T {{\n{line}\n}}\n",
            instance("")
        ))],
        ["garp_group"] => vec![
            whole(format!(
                "garp_group {{\n garp_interval 0.5\n interfaces {{\n eth0\n }}\n{line}\n}}\n"
            )),
            whole(format!("garp_group {{\n garp_interval 0.5\n interface eth0\n{line}\n}}\n")),
            whole(format!("garp_group {{\n interface eth0\n{line}\n}}\n")),
        ],
        ["vrrp_script"] => vec![whole(script(line) + &instance(" track_script {\n  t\n }"))],
        ["track_file"] => vec![whole(format!(
            "track_file t {{\n{}{line}\n}}\n{}",
            if line.starts_with(" file ") { "" } else { " file /tmp/t\n" },
            instance(" track_file {\n  t\n }")
        ))],
        ["vrrp_track_process"] => vec![
            whole(format!(
                "vrrp_track_process t {{\n{}{line}\n}}\n{}",
                if line.starts_with(" process ") { "" } else { " process x\n" },
                instance(" track_process {\n  t\n }")
            )),
            whole(format!(
                "vrrp_track_process t {{\n process x y\n quorum 3\n{line}\n}}\n{}",
                instance(" track_process {\n  t\n }")
            )),
        ],
        ["bfd_instance"] => vec![
            whole(format!(
                "bfd_instance t {{\n neighbor_ip 10.0.0.6\n source_ip 10.0.0.2\n{line}\n}}\n{}",
                instance(" track_bfd {\n  t\n }")
            )),
            whole(format!(
                "bfd_instance t {{\n neighbor_ip 10.0.0.6\n multihop\n{line}\n}}\n{}",
                instance(" track_bfd {\n  t\n }")
            )),
        ],
        ["vrrp_sync_group"] => {
            let group = if line.trim_start().starts_with("group ") {
                ""
            } else {
                " group {\n  V\n  W\n }\n"
            };
            let second = instance(" track_interface {\n  eth2 weight 5\n }")
                .replace("vrrp_instance V", "vrrp_instance W")
                .replace("_id 5", "_id 6");
            vec![whole(format!(
                "vrrp_sync_group G {{\n{group}{line}\n}}\n{}{second}",
                instance("")
            ))]
        }
        ["vrrp_instance"] => {
            let of = |inner: &str| whole(instance(&format!("{inner}\n{line}")));
            let alone = whole(format!(
                "vrrp_instance V {{\n interface eth0\n virtual_router_id 5\n version 3\n{line}\n}}\n"
            ));
            let v6 = whole(instance(line).replace("10.0.0.9", "fe80::9"));
            vec![
                of(""),
                of(" version 3"),
                of(" strict_mode\n version 3"),
                of(" priority 255\n state MASTER"),
                of(" use_vmac"),
                of(" unicast_peer {\n 10.0.0.4\n }"),
                of(" mcast_src_ip 10.0.0.2"),
                of(" version 3\n unicast_peer {\n 10.0.0.4\n }"),
                of(" smtp_alert"),
                of(" priority 50"),
                of(" no_accept"),
                of(" accept"),
                of(" nopreempt"),
                alone,
                v6,
                whole(format!(
                    "vrrp_instance V {{\n virtual_router_id 5\n unicast_src_ip 10.0.0.2\n unicast_peer {{\n 10.0.0.4\n }}\n{line}\n virtual_ipaddress {{\n 10.0.0.9 dev eth0\n }}\n}}\n"
                )),
            ]
        }
        ["vrrp_instance", "authentication"] => vec![
            whole(instance(&format!(
                " authentication {{\n auth_type PASS\n auth_pass a\n{line}\n }}"
            ))),
            whole(instance(&format!(" authentication {{\n{line}\n }}"))),
        ],
        ["vrrp_instance", "auth_hmac"] => vec![whole(instance(&format!(
            " version 3\n auth_hmac {{\n key 1 0123456789abcdef0123456789abcdee\n key 7 0123456789abcdef0123456789abcdea\n active_key 1\n{line}\n }}"
        )))],
        ["virtual_server"] => vec![
            whole(service(line, " weight 5000\n TCP_CHECK {\n }")),
            whole(service(
                &format!(" persistence_timeout 50\n sorry_server 10.1.0.8 80\n{line}"),
                "",
            )),
            whole(service(&format!(" quorum 100\n{line}"), " weight 5000\n")),
            whole(service(&format!(" lvs_sched sh\n{line}"), "")),
            whole(service(&format!(" lvs_sched mh\n{line}"), "")),
            whole(service(line, " HTTP_GET {\n url {\n path /\n status_code 200\n }\n }")),
            whole(service(line, "").replace("protocol TCP", "protocol UDP")),
            whole(
                service(line, "").replace("10.0.0.9 80", "fwmark 5").replace(" protocol TCP\n", ""),
            ),
        ],
        ["virtual_server", "real_server"] => vec![
            whole(service("", line)),
            whole(service(
                "",
                &format!("{line}\n HTTP_GET {{\n url {{\n path /\n status_code 200\n }}\n }}"),
            )),
            whole(service("", &format!("{line}\n TCP_CHECK {{\n }}"))),
            whole(service(" inhibit_on_failure\n", line)),
            whole(service("", &format!(" uthreshold 100\n{line}"))),
        ],
        [.., "real_server", kind] => vec![
            check(kind, line),
            check(kind, &format!(" retry 5\n{line}")),
            check(kind, &format!(" bindto 10.1.0.7\n{line}")),
            check(kind, &format!(" bindto 10.1.0.7\n{line}")),
            check(kind, &format!(" payload 01\n require_reply 01\n{line}")),
        ],
        [.., "SMTP_CHECK", "host"] => vec![
            check("SMTP_CHECK", &format!(" host {{\n{line}\n }}")),
            check("SMTP_CHECK", &format!(" host {{\n bindto 10.1.0.7\n{line}\n }}")),
        ],
        [.., kind, "url"] => {
            let with = |inner: &str| {
                whole(service("", &format!(" {kind} {{\n url {{\n{inner}{line}\n }}\n }}")))
            };
            vec![
                with(" path /a\n status_code 200\n"),
                with(" path /a\n"),
                with(" path /a\n regex abc\n"),
                with(" path /a\n regex abc\n regex_no_match\n"),
            ]
        }
        other => panic!("no configuration for {other:?}"),
    }
}

/// Keywords that ask for what happens anyway: the daemon waits for interfaces, and sets of addresses are those of
/// nftables (N0704).
const AS_IT_IS: &[&str] = &["dynamic_interfaces", "vrrp_ipsets"];

/// The part of the model that is in effect in this version. A part that becomes effective is removed from this list,
/// and its keywords lose their mark.
fn effective(mut model: Model) -> Model {
    let all = core::mem::take(&mut *model.global.settings);
    *model.global.settings = Settings {
        reload_check: all.reload_check,
        fifo: all.fifo,
        vrrp_fifo: all.vrrp_fifo,
        lvs_fifo: all.lvs_fifo,
        instance: all.instance,
        namespace: all.namespace,
        use_pid_directory: all.use_pid_directory,
        process_names: all.process_names,
        process_name: all.process_name,
        vrrp: all.vrrp,
        checker: all.checker,
        bfd: all.bfd,
        max_auto_priority: all.max_auto_priority,
        min_auto_priority_delay: all.min_auto_priority_delay,
        umask: all.umask,
        json_version: all.json_version,
        buffers: NetlinkBuffers {
            vrrp_requests: all.buffers.vrrp_requests,
            vrrp_requests_force: all.buffers.vrrp_requests_force,
            vrrp_monitor: all.buffers.vrrp_monitor,
            vrrp_monitor_force: all.buffers.vrrp_monitor_force,
            process_monitor: all.buffers.process_monitor,
            process_monitor_force: all.buffers.process_monitor_force,
            lvs_requests: all.buffers.lvs_requests,
            lvs_requests_force: all.buffers.lvs_requests_force,
            lvs_monitor: all.buffers.lvs_monitor,
            lvs_monitor_force: all.buffers.lvs_monitor_force,
        },
        ..Settings::default()
    };
    let vrrp = &mut model.vrrp;
    for instance in vrrp.instances.iter_mut() {
        let effective = instance.extras.take().map(|e| InstanceExtras {
            routes: e.routes,
            own_link: e.own_link,
            vmac_xmit_base: e.vmac_xmit_base,
            address_links: e.address_links,
            link_addresses: e.link_addresses,
            promote_secondaries: e.promote_secondaries,
            rules: e.rules,
            unicast: e.unicast,
            ah_key: e.ah_key,
            hmac: e.hmac,
            track_source: e.track_source,
            track_files: e.track_files,
            track_processes: e.track_processes,
            track_bfds: e.track_bfds,
            accept: e.accept,
            notify_priority_changes: e.notify_priority_changes,
            garp_extra: e.garp_extra,
            timer_expired_backup: e.timer_expired_backup,
            receive_buffer: e.receive_buffer,
            vrf: e.vrf,
            ..InstanceExtras::default()
        });
        instance.extras = effective.filter(|e| *e != InstanceExtras::default()).map(Box::new);
    }
    *vrrp = Vrrp {
        instances: vrrp.instances.split_off(0),
        groups: vrrp.groups.split_off(0),
        scripts: vrrp.scripts.split_off(0),
        static_addresses: vrrp.static_addresses.split_off(0),
        static_routes: vrrp.static_routes.split_off(0),
        static_rules: vrrp.static_rules.split_off(0),
        track_groups: vrrp.track_groups.split_off(0),
        track_files: vrrp.track_files.split_off(0),
        track_processes: vrrp.track_processes.split_off(0),
        bfds: vrrp.bfds.split_off(0),
        interface_delays: vrrp.interface_delays.split_off(0),
        startup_delay: vrrp.startup_delay,
        fifo_states_on_reload: vrrp.fifo_states_on_reload,
        log_unknown_vrids: vrrp.log_unknown_vrids,
        receive_buffers: vrrp.receive_buffers,
        disable_local_igmp: vrrp.disable_local_igmp,
        garp_groups: vrrp.garp_groups.split_off(0),
        no_mail_for_faults: vrrp.no_mail_for_faults,
        needs_ipvs: vrrp.needs_ipvs,
        filters: vrrp.filters.clone(),
        sync_daemon: vrrp.sync_daemon.clone(),
        ..Vrrp::default()
    };
    let lvs = &mut model.lvs;
    for service in &mut lvs.services {
        if let Some(extras) = &mut service.extras {
            extras.snmp_name = None;
        }
        service.extras = service.extras.take().filter(|extras| **extras != Default::default());
        for server in &mut service.servers {
            server.extras = None;
        }
    }
    *lvs = Lvs {
        services: lvs.services.split_off(0),
        flush: lvs.flush,
        flush_on_stop: lvs.flush_on_stop,
        flush_services_only: lvs.flush_services_only,
        no_checker_emails: lvs.no_checker_emails,
        init_notifies: lvs.init_notifies,
        audit_interval: lvs.audit_interval,
        close_by_reset: lvs.close_by_reset,
        timeouts: lvs.timeouts,
        tls: lvs.tls.take(),
    };
    model
}

/// Values of a keyword with different meanings.
pub(super) fn samples(term: &Term) -> Option<Vec<String>> {
    if !term.values.is_empty() {
        return Some(term.values.clone());
    }
    let last = term.path.rsplit('/').next().unwrap();
    let special = SAMPLES.iter().find(|(key, _)| *key == format!("{last} {}", term.name));
    let (_, values) = special.or_else(|| SAMPLES.iter().find(|(key, _)| *key == term.name))?;
    Some(values.iter().map(|v| (*v).to_owned()).collect())
}

#[test]
fn every_keyword_lands_in_the_model() {
    let all = vocabulary();
    let blocks: BTreeSet<String> = all.iter().map(|t| t.path.clone()).collect();
    let host = {
        let mut host = StaticHost::default().with_all_interfaces();
        host.users.push(("nobody".into(), 65534));
        host
    };
    let model = |text: &str| {
        let files = MemoryFiles::single("a.conf", text.as_bytes()).with("/etc/a", b"a");
        load(&files, &host, &Options::new("a.conf", &host)).model
    };
    let mut wrong = Vec::new();
    for term in all.iter().filter(|t| !t.dead && !OF_THE_READER.contains(&t.name)) {
        let own = if term.path == "-" {
            term.name.to_owned()
        } else {
            format!("{}/{}", term.path, term.name)
        };
        // Blocks are covered by their content.
        let block =
            term.values.is_empty() && (blocks.contains(&own) || term.name.ends_with("_CHECK"));
        if block
            || ["vrrp_track_file", "virtual_server_group", "HTTP_GET", "SSL_GET"]
                .contains(&term.name)
        {
            continue;
        }
        let Some(values) = samples(term) else {
            wrong.push(format!("{} {}: no sample", term.path, term.name));
            continue;
        };
        let empty: Vec<_> = inside(&term.path, "").iter().map(|text| model(text)).collect();
        let (mut lands, mut works) = (false, false);
        for value in &values {
            let with = inside(&term.path, &format!(" {} {value}", term.name));
            for (text, empty) in with.iter().zip(&empty) {
                let model = model(text);
                lands |= model != *empty;
                works |= effective(model) != effective(empty.clone());
            }
        }
        if !lands {
            wrong.push(format!("{} {}: dropped, whatever its value", term.path, term.name));
        } else if !works && !term.later && !AS_IT_IS.contains(&term.name) {
            wrong.push(format!("{} {}: not in effect, and not marked so", term.path, term.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
