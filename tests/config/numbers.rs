//! Numbers with text after them: each keyword reads them as keepalived's daemon does.

use evervip::base::Prefix;
use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};
use evervip::model::service::GroupEntry;

fn read(text: &str) -> Loaded {
    let host = StaticHost::default().with_all_interfaces();
    load(&MemoryFiles::single("k.conf", text.as_bytes()), &host, &Options::new("k.conf", &host))
}

/// Codes with their lines.
fn told(loaded: &Loaded) -> Vec<(&'static str, u32)> {
    let all = &loaded.diagnostics;
    all.iter().map(|d| (d.code.id, all.location(d).map_or(0, |at| at.1))).collect()
}

fn messages(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().map(|d| d.message.clone()).collect()
}

fn instance(id: &str, lines: &str) -> Loaded {
    read(&format!(
        "vrrp_instance V {{\n interface eth0\n virtual_router_id {id}\n{lines}\n virtual_ipaddress {{\n  192.0.2.1\n }}\n}}\n"
    ))
}

#[test]
fn strict_keywords_ignore_a_number_with_text_after_it() {
    // An instance whose id cannot be used does not exist.
    let loaded = instance("5;", "");
    assert_eq!(loaded.model.vrrp.instances.len(), 0);
    assert!(told(&loaded).contains(&("E0301", 3)), "{:?}", told(&loaded));
    for (text, priority) in [("101abc", 100), ("101", 101)] {
        let loaded = instance("5", &format!(" priority {text}"));
        let instance = loaded.model.vrrp.instances.first().expect("an instance");
        assert_eq!(instance.priority.0.get(), priority, "{text}");
    }
    for line in ["unicast_ttl 7;", "kernel_rx_buf_size 7000;"] {
        assert_eq!(told(&instance("5", line)), [("E0301", 4)], "{line}");
    }
    for line in ["multiplier 4;", "ttl 7;", "max_hops 7;"] {
        let loaded = read(&format!("bfd_instance B {{\n neighbor_ip 192.0.2.2\n {line}\n}}\n"));
        assert!(told(&loaded).contains(&("E0301", 3)), "{line}");
    }
    for line in [
        "vrrp_netlink_cmd_rcv_bufs 700000;",
        "vrrp_netlink_monitor_rcv_bufs 700000;",
        "lvs_netlink_cmd_rcv_bufs 700000;",
        "lvs_netlink_monitor_rcv_bufs 700000;",
        "process_monitor_rcv_bufs 700000;",
        "vrrp_rx_bufs_multiplier 7;",
        "random_seed 7;",
    ] {
        let loaded = read(&format!("global_defs {{\n {line}\n}}\n"));
        assert!(told(&loaded).contains(&("E0301", 2)), "{line}: {:?}", told(&loaded));
    }
}

#[test]
fn lenient_keywords_use_the_number_before_the_text() {
    for line in ["down_timer_adverts 7;", "garp_master_delay 7;", "garp_lower_prio_repeat 7x"] {
        assert_eq!(told(&instance("5", line)), [("W0311", 4)], "{line}");
    }
    let peer = "unicast_peer {\n 192.0.2.7 min_ttl 7; max_ttl 8;\n}";
    assert_eq!(told(&instance("5", peer)), [("W0311", 5), ("W0311", 5)]);
    let loaded = read("global_defs {\n smtp_server 127.0.0.1 26;\n vrrp_cpu_affinity 0;\n}\n");
    assert_eq!(told(&loaded), [("W0311", 2), ("W0311", 3)]);
}

#[test]
fn the_length_of_a_prefix_ends_where_its_digits_end() {
    for (text, length, code) in [
        ("/24;", 24, "W0311"),
        ("/24,", 24, "W0311"),
        ("/24.0", 24, "W0311"),
        ("/24/25", 24, "W0311"),
        ("/33;", 32, "E0302"),
        ("/255.255.255.0", 32, "E0302"),
        // keepalived takes these for 0, which nobody means.
        ("/0x18", 32, "E0302"),
        ("/x", 32, "E0302"),
    ] {
        let lines = format!(
            " virtual_ipaddress {{\n 10.0.0.10{text}\n}}\n virtual_routes {{\n 10.5.0.0{text} via 10.0.0.1\n}}"
        );
        let loaded = instance("5", &lines);
        let instance = loaded.model.vrrp.instances.first().expect("an instance");
        let lengths = (
            instance.addresses.first().map(|a| a.prefix.length()),
            instance.extras.as_ref().and_then(|e| e.routes.first()).map(|r| r.destination.length()),
        );
        assert_eq!(lengths, (Some(length), Some(length)), "{text}");
        let codes = told(&loaded);
        assert!(codes.contains(&(code, 5)) && codes.contains(&(code, 8)), "{text}: {codes:?}");
    }
}

#[test]
fn a_port_ends_where_its_digits_end() {
    let service = |name: &str, server: &str, sorry: &str| {
        read(&format!(
            "virtual_server {name} {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n sorry_server {sorry}\n real_server {server} {{\n }}\n}}\n"
        ))
    };
    let loaded = service("10.0.0.10 80;", "10.0.2.2 81-90", "10.0.2.1 82,");
    assert_eq!(told(&loaded), [("W0311", 1), ("W0311", 5), ("W0311", 6)]);
    let service_of = loaded.model.lvs.services.first().expect("the service");
    assert_eq!(service_of.servers.first().map(|s| s.port), Some(81));
    assert_eq!(service_of.sorry_server.as_ref().map(|s| s.port), Some(82));
    // A port out of range, or none, is none.
    for name in ["10.0.0.10 70000;", "10.0.0.10 0x50", "10.0.0.10 http"] {
        let loaded = service(name, "10.0.2.2 80", "10.0.2.1 80");
        assert_eq!(loaded.model.lvs.services.len(), 0, "{name}");
    }
}

#[test]
fn lines_of_a_group_end_where_their_digits_end() {
    let read = |line: &str| {
        let text = format!(
            "virtual_server_group G {{\n {line}\n}}\nvirtual_server group G {{\n lvs_sched rr\n lvs_method NAT\n \
             protocol TCP\n real_server {} 80 {{\n }}\n}}\n",
            if line.contains("::") { "2001:db8::20" } else { "10.0.2.2" }
        );
        read(&text)
    };
    let entry = |line: &str| {
        let loaded = read(line);
        assert!(told(&loaded).contains(&("W0311", 2)), "{line}: {:?}", messages(&loaded));
        loaded.model.lvs.services.first().and_then(|s| s.group()?.entries.first().copied())
    };
    let range = |first: &str, last: &str, port| {
        let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
        Some(GroupEntry::Addresses { first, last, port })
    };
    assert_eq!(entry("10.0.1.1 80;"), range("10.0.1.1", "10.0.1.1", 80));
    assert_eq!(entry("10.0.1.1 80-90"), range("10.0.1.1", "10.0.1.1", 80));
    assert_eq!(entry("10.0.1.1-5; 80"), range("10.0.1.1", "10.0.1.5", 80));
    assert_eq!(entry("2001:db8::1-f; 80"), range("2001:db8::1", "2001:db8::f", 80));
    assert_eq!(entry("fwmark 8;"), Some(GroupEntry::Mark { mark: 8, family: None }));
    for (line, why) in [
        ("10.0.1.1-300 80", "the end of the range, '300', is too large"),
        ("2001:db8::1-10000 80", "the end of the range, '10000', is too large"),
        ("10.0.1.1-x 80", "the end of the range, 'x', is not an address or a number up to 255"),
        ("10.0.1.1-10.0.1.9; 80", "'10.0.1.9;', is not an address"),
        ("10.0.1.1- 80", "the end of the range is missing"),
        ("10.0.1.9-5 80", "the end is not above the start"),
        ("10.0.1.0/24; 80", "the prefix length must be a number from 1 to 32"),
        ("10.0.1.0/ 80", "the prefix length is missing"),
    ] {
        let loaded = read(line);
        let said = messages(&loaded);
        assert!(said.iter().any(|m| m.contains(why)), "{line}: {said:?}");
        assert_eq!(loaded.model.lvs.services.len(), 0, "{line}");
    }
}

#[test]
fn a_bad_quorum_is_one_and_says_so() {
    for bad in ["0", "x", "-1", "5000000000"] {
        let loaded = read(&format!(
            "virtual_server 10.0.0.10 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n quorum 3\n quorum {bad}\n \
             real_server 10.0.2.2 80 {{\n  weight 5\n }}\n}}\n"
        ));
        assert_eq!(loaded.model.lvs.services.first().map(|s| s.quorum), Some(1), "{bad}");
        let said = messages(&loaded);
        assert!(said.iter().any(|m| m.ends_with(", a quorum of 1 is used")), "{said:?}");
    }
}

#[test]
fn a_written_prefix_is_the_read_one() {
    let loaded = instance("5", " virtual_ipaddress {\n 10.0.0.10/24;\n}");
    let written = String::from_utf8(loaded.document.to_conf()).unwrap();
    let again = Prefix::new("10.0.0.10".parse().unwrap(), 24).unwrap();
    assert!(written.is_empty() || written.contains(&again.to_string()), "{written}");
}
