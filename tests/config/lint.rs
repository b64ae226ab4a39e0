//! Lints, each from both sides: a configuration with the problem, and a similar one without it.

use evervip::base::Prefix;
use evervip::config::{Loaded, MemoryFiles, Options, Peer, Severity, StaticHost, load};

fn host() -> StaticHost {
    let own = |text: &str| Prefix::new(text.parse().unwrap(), 24).unwrap();
    StaticHost::default()
        .with_interface("eth0", &[own("10.0.0.2")])
        .with_interface("eth1", &[own("192.168.1.2")])
}

fn read(text: &str, peer: Option<&str>) -> Loaded {
    let host = host();
    let mut options = Options::new("a.conf", &host);
    options.lints = true;
    options.peer = peer.map(|text| {
        let files = MemoryFiles::single("b.conf", text.as_bytes());
        let loaded = load(&files, &host, &Options::new("b.conf", &host));
        Peer { file: "b.conf".into(), vrrp: loaded.model.vrrp }
    });
    load(&MemoryFiles::single("a.conf", text.as_bytes()), &host, &options)
}

/// Line and text of each diagnostic with this code.
fn said(loaded: &Loaded, code: &str) -> Vec<(u32, String)> {
    let of_code = loaded.diagnostics.iter().filter(|d| d.code.id == code);
    of_code
        .map(|d| (loaded.diagnostics.location(d).map_or(0, |l| l.1), d.message.clone()))
        .collect()
}

/// `wrong` gets the code on that line, with these words; `right` does not get it.
fn lint(code: &str, line: u32, words: &str, wrong: &str, right: &str) {
    between(code, line, words, (wrong, None), (right, None));
}

fn between(
    code: &str,
    line: u32,
    words: &str,
    wrong: (&str, Option<&str>),
    right: (&str, Option<&str>),
) {
    let mut loaded = read(wrong.0, wrong.1);
    let found = said(&loaded, code);
    assert_eq!(found.len(), 1, "{code}: {found:?}\n{wrong:?}");
    assert_eq!(found[0].0, line, "{code}: {found:?}");
    assert!(found[0].1.contains(words), "{code}: {found:?}");
    if code.starts_with('L') {
        // Advice changes neither the meaning nor the status.
        let plain = {
            let host = host();
            let files = MemoryFiles::single("a.conf", wrong.0.as_bytes());
            load(&files, &host, &Options::new("a.conf", &host))
        };
        assert_eq!(plain.model, loaded.model);
        assert_eq!(plain.diagnostics.status(), loaded.diagnostics.status());
        assert!(said(&plain, code).is_empty(), "{code} without being asked");
    }
    let severities = loaded.diagnostics.iter().filter(|d| d.code.id == code).map(|d| d.severity);
    assert!(severities.into_iter().all(|s| s == Severity::Warning), "{code}");
    loaded.diagnostics.silence(&[code.to_lowercase()]);
    assert!(said(&loaded, code).is_empty(), "{code} cannot be silenced");
    let loaded = read(right.0, right.1);
    let found = said(&loaded, code);
    assert!(found.is_empty(), "{code}: {found:?}\n{right:?}");
}

/// An instance with further lines from line 6 on.
fn instance(head: &str, lines: &str) -> String {
    format!(
        "{head}\nvrrp_instance V {{\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {{\n  10.0.0.9\n }}\n{lines}\n}}\n"
    )
}

#[test]
fn a_weight_smaller_than_the_gap() {
    let script = "vrrp_script s { script /usr/bin/true\n weight -20 }";
    let of = |priority: u32, line: &str| {
        instance(
            &script.replace('\n', ";").replace(';', " \n"),
            &format!(" state MASTER\n priority {priority}\n track_script {{\n  {line}\n }}"),
        )
    };
    lint("L0801", 12, "falls from 150 to 130", &of(150, "s"), &of(110, "s"));
    lint("L0801", 12, "falls from 150 to 120", &of(150, "s weight -30"), &of(150, "s weight -60"));
    // A backup, and a script whose failure is a fault, get no lint.
    let backup = of(150, "s").replace("state MASTER", "state BACKUP");
    assert!(said(&read(&backup, None), "L0801").is_empty());
    assert!(said(&read(&of(150, "s weight 0"), None), "L0801").is_empty());
}

#[test]
fn a_weight_smaller_than_the_gap_to_the_peer() {
    let of = |priority: u32, weight: i32| {
        instance(
            "",
            &format!(" priority {priority}\n track_interface {{\n  eth1 weight {weight}\n }}"),
        )
    };
    let peer = instance("", " priority 100");
    let words = "only falls from 150 to 130, and b.conf has 100";
    between("L0801", 10, words, (&of(150, -20), Some(&peer)), (&of(150, -60), Some(&peer)));
    let words = "only falls from 120 to 100";
    between("L0801", 10, words, (&of(120, -20), Some(&peer)), (&of(120, -21), Some(&peer)));
    // A positive weight counts while the object is good: 90 + 30 against 100.
    assert!(said(&read(&of(90, 30), Some(&peer)), "L0801").is_empty());
    let words = "only falls from 180 to 150";
    between("L0801", 10, words, (&of(150, 30), Some(&peer)), (&of(90, 30), Some(&peer)));
    // The peer is better: a failure here causes no failover anyway.
    assert!(said(&read(&of(150, -20), Some(&instance("", " priority 200"))), "L0801").is_empty());
}

#[test]
fn nopreempt_with_state_master() {
    let of = |state: &str| instance("", &format!(" state {state}\n priority 150\n nopreempt"));
    lint("W0415", 10, "initial state MASTER", &of("MASTER"), &of("BACKUP"));
}

#[test]
fn strict_mode_drops_traffic() {
    let strict = "global_defs { vrrp_strict\n}";
    let wrong = instance(strict, " priority 150");
    lint("L0802", 1, "are dropped", &wrong, &instance(strict, " priority 255\n state MASTER"));
    lint(
        "L0802",
        8,
        "are dropped",
        &instance("", " strict_mode"),
        &instance("", " strict_mode off"),
    );
    // Version 3 has a remedy, version 2 has none.
    let third = instance("", " version 3\n strict_mode\n accept");
    assert!(said(&read(&third, None), "L0802").is_empty());
    let second = instance("", " version 2\n strict_mode\n accept");
    assert_eq!(said(&read(&second, None), "L0802").len(), 1);
}

#[test]
fn a_password_that_is_cut_off() {
    let of = |password: &str| {
        instance("", &format!(" authentication {{\n auth_type PASS\n auth_pass {password}\n }}"))
    };
    lint("W0315", 10, "after 8 characters", &of("123456789"), &of("12345678"));
}

#[test]
fn unicast_without_authentication() {
    let peers = " unicast_peer {\n  10.0.0.3\n }";
    let keyed = format!("{peers}\n authentication {{\n auth_type PASS\n auth_pass x\n }}");
    lint("L0803", 9, "without authentication", &instance("", peers), &instance("", &keyed));
    assert!(said(&read(&instance("", ""), None), "L0803").is_empty());
}

#[test]
fn an_address_in_no_network_of_its_interface() {
    let of = |line: &str| instance("", &format!(" virtual_ipaddress_excluded {{\n  {line}\n }}"));
    lint("L0804", 9, "10.0.1.9 is in no network", &of("10.0.1.9"), &of("10.0.0.10"));
    lint("L0804", 9, "10.1.0.9", &of("10.1.0.9 dev eth1"), &of("192.168.1.9 dev eth1"));
    // The machine has the network on another interface, or an address of the file adds it.
    assert!(said(&read(&of("192.168.1.9"), None), "L0804").is_empty());
    let brought = of("10.0.1.9").replace("  10.0.0.9\n", "  10.0.0.9\n  10.0.1.1/24\n");
    assert!(said(&read(&brought, None), "L0804").is_empty(), "{brought}");
    let fixed = of("10.0.1.9") + "static_ipaddress {\n 10.0.1.1/24 dev eth1\n}\n";
    assert!(said(&read(&fixed, None), "L0804").is_empty(), "{fixed}");
    // There is no lint for a file of another machine.
    for strange in ["mcast_src_ip 10.0.0.3", "unicast_src_ip 10.0.0.3"] {
        let text = of("10.0.1.9").replace("router_id 5", &format!("router_id 5\n {strange}"));
        assert!(said(&read(&text, None), "L0804").is_empty(), "{text}");
    }
    let here = of("10.0.1.9").replace("router_id 5", "router_id 5\n mcast_src_ip 10.0.0.2");
    let loaded = read(&here, None);
    assert_eq!(said(&loaded, "L0804").len(), 1);
    assert!(loaded.diagnostics.iter().any(|d| d.code.id == "L0804" && d.environment));
    // If nothing of the file is in a network of this machine, it is probably for another one: a single note.
    let foreign = of("10.0.1.9").replace("  10.0.0.9\n", "  10.0.2.9\n");
    let loaded = read(&foreign, None);
    assert_eq!(said(&loaded, "L0804").len(), 1, "{foreign}");
    let mut found = loaded.diagnostics.iter().filter(|d| d.code.id == "L0804");
    assert!(found.all(|d| d.severity == Severity::Note), "{foreign}");
    // A peer on the link shows that the file is for this machine.
    let peers = foreign.replace("router_id 5", "router_id 5\n unicast_peer {\n  10.0.0.3\n }");
    assert_eq!(said(&read(&peers, None), "L0804").len(), 2, "{peers}");
    // Nothing is known about an interface without addresses of the family, or a missing one.
    assert!(said(&read(&of("2001:db8::9"), None), "L0804").is_empty());
    assert!(said(&read(&of("10.0.1.9 dev eth7"), None), "L0804").is_empty());
}

#[test]
fn state_master_without_a_priority() {
    let wrong = instance("", " state MASTER");
    lint("L0805", 8, "the address owner", &wrong, &instance("", " state MASTER\n priority 150"));
}

#[test]
fn a_script_that_nothing_tracks() {
    let script = "vrrp_script s { script /usr/bin/true\n}";
    let used = instance(script, " track_script {\n  s\n }");
    lint("L0806", 1, "vrrp_script s", &instance(script, ""), &used);
}

#[test]
fn mails_to_nobody() {
    let to = "global_defs {\n notification_email { a@example.com\n }\n}";
    lint("L0807", 8, "smtp_alert", &instance("", " smtp_alert"), &instance(to, " smtp_alert"));
}

#[test]
fn a_real_server_in_two_groups() {
    let of = |port: u32| {
        let service = |group: &str, port: u32| {
            format!(
                "virtual_server_group {group} {{\n 10.0.{}.9 80\n}}\nvirtual_server group {group} {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 10.1.0.1 {port} {{ }}\n}}\n",
                group.len()
            )
        };
        service("g", 80) + &service("hh", port)
    };
    lint("L0808", 17, "10.1.0.1 port 80 is in two groups", &of(80), &of(8080));
}

#[test]
fn a_service_whose_address_nobody_holds() {
    let of = |address: &str| {
        let service = format!(
            "virtual_server {address} 80 {{\n lb_algo rr\n lb_kind DR\n protocol TCP\n real_server 10.1.0.1 80 {{ }}\n}}"
        );
        instance(&service, "")
    };
    lint("L0809", 1, "10.0.0.8", &of("10.0.0.8"), &of("10.0.0.9"));
    // The interface has it, or there are no instances at all.
    assert!(said(&read(&of("10.0.0.2"), None), "L0809").is_empty());
    let alone = of("10.0.0.8").split("vrrp_instance").next().unwrap().to_owned();
    assert!(said(&read(&alone, None), "L0809").is_empty());
}

#[test]
fn a_script_that_may_not_run_names_the_obstacle_and_the_remedy() {
    use evervip::config::{FileInfo, FileKind};
    let mut host = host();
    host.users.push(("web".into(), 33));
    let file = |mode, uid| FileInfo { kind: FileKind::Regular, mode, uid, gid: uid };
    let directory = |mode, uid| FileInfo { kind: FileKind::Directory, mode, uid, gid: uid };
    host.files = vec![
        ("/opt".into(), directory(0o755, 0)),
        ("/opt/plain.sh".into(), file(0o644, 0)),
        ("/opt/closed".into(), directory(0o700, 0)),
        ("/opt/closed/run.sh".into(), file(0o755, 0)),
        ("/opt/run.sh".into(), file(0o755, 0)),
        ("/opt/loose.sh".into(), file(0o777, 0)),
    ];
    let said = |path: &str, user: &str, security: &str| -> String {
        let text = instance(
            &format!("global_defs {{ {security}\n}}"),
            &format!(" notify_master {path} {user}"),
        );
        let mut options = Options::new("a.conf", &host);
        options.lints = true;
        let loaded = load(&MemoryFiles::single("a.conf", text.as_bytes()), &host, &options);
        let scripts = loaded.diagnostics.iter().filter(|d| matches!(d.code.id, "W0502" | "W0602"));
        scripts.map(|d| format!("{} {} {}\n", d.code.id, d.message, d.help.join(" "))).collect()
    };
    let plain = said("/opt/plain.sh", "web", "");
    for part in ["W0502", "'/opt/plain.sh'", "user web", "owner root", "mode 0644", "chmod +x"] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    let closed = said("/opt/closed/run.sh", "web", "");
    for part in ["'/opt/closed'", "owner root", "mode 0700", "chmod o+x '/opt/closed'"] {
        assert!(closed.contains(part), "{part}: {closed}");
    }
    let loose = said("/opt/loose.sh", "root", "enable_script_security");
    for part in ["W0602", "'/opt/loose.sh'", "mode 0777", "chmod o-w '/opt/loose.sh'"] {
        assert!(loose.contains(part), "{part}: {loose}");
    }
    assert_eq!(said("/opt/run.sh", "web", "enable_script_security"), "");
}

/// keepalived 2.2.7 counts it for every kind of script; an unknown user of a notification it does not count.
#[test]
fn scripts_without_an_account_count_as_a_problem() {
    use evervip::config::{FileInfo, FileKind};
    let mut host = host();
    let info = |kind| FileInfo { kind, mode: 0o755, uid: 0, gid: 0 };
    host.files =
        vec![("/".into(), info(FileKind::Directory)), ("/run.sh".into(), info(FileKind::Regular))];
    let fifo = "notify_fifo /run/f\n notify_fifo_script /run.sh";
    for (global, lines, status) in [
        ("enable_script_security", " notify_master /run.sh", 5),
        ("enable_script_security", " notify /run.sh", 5),
        (&format!("enable_script_security\n {fifo}"), "", 5),
        ("enable_script_security\n startup_script /run.sh", "", 5),
        ("script_user nobody_here", " notify_master /run.sh", 5),
        ("enable_script_security\n script_user root", " notify_master /run.sh", 0),
        ("enable_script_security\n script_user root", " notify_master /run.sh nobody_here", 0),
        ("enable_script_security", "", 0),
    ] {
        let text = instance(&format!("global_defs {{\n {global}\n}}"), lines);
        let options = Options::new("a.conf", &host);
        let loaded = load(&MemoryFiles::single("a.conf", text.as_bytes()), &host, &options);
        let list: Vec<_> = loaded.diagnostics.iter().map(|d| &d.message).collect();
        assert_eq!(loaded.diagnostics.status(), status, "{text} {list:?}");
    }
}

#[test]
fn an_address_in_two_instances() {
    let second = |lines: &str| {
        format!(
            "vrrp_instance W {{\n interface eth0\n virtual_router_id 6\n virtual_ipaddress {{\n  {lines}\n }}\n}}\n"
        )
    };
    let of = |lines: &str| instance("", "") + &second(lines);
    lint("L0821", 14, "both V and W", &of("10.0.0.9/24"), &of("10.0.0.9 dev eth1"));
    // Members of one group are masters together; an instance that is left out has no addresses.
    let group = "vrrp_sync_group G {\n group {\n  V\n  W\n }\n}\n";
    assert!(said(&read(&(of("10.0.0.9") + group), None), "L0821").is_empty());
    let left_out = of("10.0.0.9").replace(" virtual_router_id 6\n", "\n");
    assert!(said(&read(&left_out, None), "L0821").is_empty());
}

#[test]
fn the_own_address_of_an_interface() {
    let of = |address: &str, lines: &str| instance("", lines).replace("10.0.0.9", address);
    let words = "10.0.0.2 is eth0's own address (10.0.0.2/24)";
    lint("L0822", 6, words, &of("10.0.0.2", ""), &of("10.0.0.3", ""));
    lint("L0822", 6, words, &of("10.0.0.2/24", ""), &of("10.0.0.2 dev eth1", ""));
    // An address added by a master is not the interface's own: `-t` on a running master gives no lint.
    let own = |text: &str, length| Prefix::new(text.parse().unwrap(), length).unwrap();
    let master = StaticHost::default()
        .with_interface("eth0", &[own("10.0.0.2", 24), own("10.0.0.9", 24), own("10.0.0.8", 32)]);
    for address in ["10.0.0.9/24", "10.0.0.8"] {
        for priority in ["", " priority 255"] {
            let text = of(address, priority);
            let options = Options { lints: true, ..Options::new("a.conf", &master) };
            let files = MemoryFiles::single("a.conf", text.as_bytes());
            let loaded = load(&files, &master, &options);
            assert!(said(&loaded, "L0822").is_empty() && said(&loaded, "N0506").is_empty());
        }
    }
    // The owner gets a note, also at a start, where there are no lints.
    let owner = of("10.0.0.2", " priority 255");
    assert!(said(&read(&owner, None), "L0822").is_empty());
    let host = host();
    let files = MemoryFiles::single("a.conf", owner.as_bytes());
    let plain = load(&files, &host, &Options::new("a.conf", &host));
    let found = said(&plain, "N0506");
    assert!(matches!(found.as_slice(), [(6, text)] if text.contains("never removed")), "{found:?}");
    assert_eq!((plain.diagnostics.status(), plain.diagnostics.errors()), (0, 0));
}

#[test]
fn a_setting_that_is_given_twice() {
    let of = |second: &str| instance("", &format!(" priority 150\n {second}"));
    lint("L0823", 9, "'priority' is set twice", &of("priority 100"), &of("priority 150"));
    // Repeatable keywords, and those with an error or warning of their own.
    let script = instance("", " notify /usr/bin/true\n notify /usr/bin/false");
    assert!(said(&read(&script, None), "L0823").is_empty());
}

#[test]
fn a_comment_within_a_password() {
    let of = |password: &str| {
        instance("", &format!(" authentication {{\n auth_type PASS\n auth_pass {password}\n }}"))
    };
    lint("L0824", 10, "'#' ends auth_pass", &of("ab#cd"), &of("\"ab#cd\""));
    lint("L0824", 10, "'!' ends auth_pass", &of("ab!"), &of("ab # a comment"));
    // The text before the mark is a secret nevertheless.
    let loaded = read(&of("s3cr#t"), None);
    let text = loaded.diagnostics.text(evervip::config::Style::Plain) + &loaded.diagnostics.json();
    assert!(!text.contains("s3cr"), "{text}");
}

#[test]
fn examples_have_nothing_doubtful() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/examples");
    let host = StaticHost::default().with_all_interfaces();
    let text = |name: &str| std::fs::read(root.join(name)).unwrap();
    for scenario in ["failover", "nat", "dr", "fwmark", "haproxy"] {
        let (first, second) =
            (format!("{scenario}-primary.conf"), format!("{scenario}-backup.conf"));
        let plain = |name: &str| {
            let files = MemoryFiles::single(name, &text(name));
            load(&files, &host, &Options::new(name, &host)).model.vrrp
        };
        let mut options = Options::new(first.as_str(), &host);
        options.lints = true;
        options.peer = Some(Peer { file: second.clone(), vrrp: plain(&second) });
        let loaded = load(&MemoryFiles::single(&first, &text(&first)), &host, &options);
        let lints: Vec<_> =
            loaded.diagnostics.iter().filter(|d| d.code.id.starts_with('L')).collect();
        assert!(lints.is_empty(), "{first}: {lints:?}");
    }
}

#[test]
fn no_wrong_advice_beside_the_right_one() {
    // A prefix shorter than the address makes the interface part of that network.
    let text = instance("", "").replace("10.0.0.9", "203.0.113.9/29");
    assert!(text.contains("203.0.113.9/29"), "{text}");
    assert!(said(&read(&text, None), "L0804").is_empty());
    // A script that is defined after its use is referenced.
    let script = "vrrp_script s {\n script /usr/bin/true\n}\n";
    let late = format!("{}{script}", instance("", " track_script {\n  s\n }"));
    let loaded = read(&late, None);
    assert_eq!(said(&loaded, "E0410").len(), 1, "{late}");
    assert!(said(&loaded, "L0806").is_empty());
}
