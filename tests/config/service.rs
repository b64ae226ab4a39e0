//! Virtual servers: from a block to the kernel's table.

use std::time::Duration;

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};
use evervip::model::checker::{Checker, CheckerKind};
use evervip::model::{Service, Shared};

fn loaded(text: &str) -> Loaded {
    let host = StaticHost::default().with_all_interfaces();
    load(&MemoryFiles::single("k.conf", text.as_bytes()), &host, &Options::new("k.conf", &host))
}

/// The service of a block with these lines, and the codes of what was reported.
fn service(lines: &str) -> (Service, Vec<&'static str>) {
    let text = format!(
        "virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n{lines}\n \
         real_server 10.0.0.71 80 {{\n }}\n}}\n"
    );
    let mut loaded = loaded(&text);
    let codes = loaded.diagnostics.iter().map(|d| d.code.id).collect();
    (loaded.model.lvs.services.remove(0).into_inner(), codes)
}

#[test]
fn a_granularity_is_a_mask_in_the_order_it_is_read() {
    for (text, mask) in [
        ("255.255.255.0", 0xffff_ff00),
        ("255.0.255.0", 0xff00_ff00),
        ("0.0.0.0", 0),
        // A single number is an address, as in inet_aton.
        ("24", 24),
    ] {
        let (service, codes) = service(&format!("persistence_granularity {text}"));
        let persistence = service.persistence.expect("a granularity makes it persistent");
        assert_eq!((persistence.granularity, persistence.timeout), (mask, 360), "{text}");
        assert_eq!(codes, Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn a_sorry_server_that_is_a_server_is_inhibited_as_that_one() {
    let sorry = "sorry_server 10.0.0.71 80\n";
    for (lines, inhibit, wanted) in [
        (String::new(), false, [].as_slice()),
        ("sorry_server_inhibit\n".into(), false, &["W0412"]),
        ("inhibit_on_failure\n".into(), true, &["W0412"]),
        ("sorry_server_inhibit\ninhibit_on_failure\n".into(), true, &[]),
    ] {
        let (service, codes) = service(&format!("{sorry}{lines}"));
        assert_eq!(service.sorry_server.map(|sorry| sorry.inhibit), Some(inhibit), "{lines}");
        assert_eq!(codes, wanted, "{lines}");
    }
}

/// The schedule of a check, in seconds, as `delay_loop retry delay_before_retry warmup connect_timeout alpha`.
fn pace(checker: &Checker) -> String {
    let CheckerKind::Tcp(connection) = &checker.kind else { panic!("{checker:?}") };
    let seconds = |time: Duration| time.as_secs_f64();
    format!(
        "{} {} {} {} {} {}",
        seconds(checker.delay_loop),
        checker.retry,
        seconds(checker.delay_before_retry),
        seconds(checker.warmup),
        seconds(connection.timeout),
        checker.alpha
    )
}

#[test]
fn a_check_takes_its_pace_from_itself_its_server_its_service_in_that_order() {
    let service_lines =
        "delay_loop 7\nretry 4\ndelay_before_retry 2\nwarmup 9\nconnect_timeout 3\nalpha\n";
    let server_lines =
        "delay_loop 6\nretry 3\ndelay_before_retry 1.5\nwarmup 8\nconnect_timeout 2\nalpha no\n";
    let check_lines =
        "delay_loop 5\nretry 2\ndelay_before_retry 0.5\nwarmup 0\nconnect_timeout 1\nalpha\n";
    let first = |service: &str, server: &str, check: &str| {
        let text = format!(
            "virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n{service}\n \
             real_server 10.0.0.71 80 {{\n{server}\nTCP_CHECK {{\n{check}\n}}\n}}\n}}\n"
        );
        let loaded = loaded(&text);
        assert_eq!(loaded.diagnostics.iter().count(), 0, "{text}");
        pace(&loaded.model.lvs.services[0].servers[0].checkers[0])
    };
    assert_eq!(first("", "", ""), "60 1 1 60 5 false");
    assert_eq!(first(service_lines, "", ""), "7 4 2 9 3 true");
    assert_eq!(first(service_lines, server_lines, ""), "6 3 1.5 8 2 false");
    assert_eq!(first(service_lines, server_lines, check_lines), "5 2 0.5 0 1 true");
    // The warm-up is the check's own period unless it is configured.
    assert_eq!(first("", "", "delay_loop 5"), "5 1 1 5 5 false");
    // Settings after the servers count as well.
    let late = "}\n delay_loop 7\n retry 4\n real_server 10.0.0.72 80 {";
    assert_eq!(first("", "", &format!("}}\n{late}\nTCP_CHECK {{")), "7 4 1 7 5 false");
}

#[test]
fn servers_are_mailed_about_unless_it_is_turned_off_and_services_if_it_is_turned_on() {
    for (global, lines, service_mails, server_mails) in [
        ("", "", false, true),
        ("smtp_alert on", "", true, true),
        ("smtp_alert off", "", false, false),
        ("smtp_alert on\nsmtp_alert_checker off", "", false, false),
        ("smtp_alert off\nsmtp_alert_checker", "", true, true),
        ("smtp_alert_checker off", "smtp_alert", true, false),
    ] {
        let text = format!(
            "global_defs {{\n{global}\n}}\nvirtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method NAT\n \
             protocol TCP\n{lines}\n real_server 10.0.0.71 80 {{\n }}\n}}\n"
        );
        let loaded = loaded(&text);
        let service = &loaded.model.lvs.services[0];
        assert_eq!(
            (service.smtp_alert, service.servers[0].smtp_alert),
            (service_mails, server_mails),
            "{global} / {lines}"
        );
    }
}

/// Unsupported settings are reported, each with its line.
#[test]
fn what_has_no_effect_yet_is_named() {
    let (_, codes) = service("snmp_name x");
    assert_eq!(codes, ["W0702"]);
    let group = "virtual_server_group G {\n 10.0.0.1 80\n}\nvirtual_server group G {\n lvs_sched rr\n lvs_method NAT\n \
                 protocol TCP\n real_server 10.0.0.71 80 {\n }\n}\n";
    let loaded = loaded(group);
    assert!(!loaded.diagnostics.iter().any(|d| d.code.id == "W0702"));
}

/// A group, one line per entry, and a service with its lines.
fn group(entries: &[&str], lines: &str) -> (Vec<Service>, Vec<&'static str>) {
    let entries = entries.join("\n ");
    let text = format!(
        "virtual_server_group G {{\n {entries}\n}}\nvirtual_server group G {{\n lvs_sched rr\n {lines}\n}}\n"
    );
    let loaded = loaded(&text);
    let codes = loaded.diagnostics.iter().map(|d| d.code.id).collect();
    (loaded.model.lvs.services.into_iter().map(Shared::into_inner).collect(), codes)
}

#[test]
fn a_group_is_one_service_with_many_keys() {
    const NAT: &str = "lvs_method NAT\nprotocol TCP\nreal_server 10.0.0.71 80 {\n}\n";
    const TUN: &str = "lvs_method TUN\nprotocol TCP\nreal_server 10.0.0.71 80 {\n}\n";
    let shown = |services: &[Service]| -> Vec<String> {
        services.iter().flat_map(|s| s.keys()).map(ToString::to_string).collect()
    };
    let entries = ["fwmark 7", "10.0.0.1-3 80", "10.0.0.3 80", "10.0.1.0/31 443"];
    let (services, codes) = group(&entries, NAT);
    assert_eq!(codes, Vec::<&str>::new());
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].id().to_string(), "[G]:0");
    assert_eq!(
        shown(&services),
        [
            "[10.0.0.1]:tcp:80",
            "[10.0.0.2]:tcp:80",
            "[10.0.0.3]:tcp:80",
            "[10.0.1.0]:tcp:443",
            "[10.0.1.1]:tcp:443",
            "FWM 7",
        ]
    );
    // Both families: every server must be reached through a tunnel.
    let both = ["10.0.0.1 80", "fd00::1 80", "fwmark 7 inet6"];
    let (services, codes) = group(&both, NAT);
    assert_eq!((services.len(), codes), (0, vec!["E0307"]));
    let (services, codes) = group(&both, TUN);
    // The port that a mark does not have.
    assert_eq!(codes, ["W0412"]);
    assert_eq!(shown(&services), ["[10.0.0.1]:tcp:80", "[fd00::1]:tcp:80", "FWM 7"]);
    // More services than allowed.
    let (services, codes) = group(&["10.0.0.0/15 80"], NAT);
    assert_eq!((services.len(), codes), (0, vec!["E0405", "E0404"]));
}

#[test]
fn groups_and_services_keep_their_order_and_share_no_key() {
    let server = "lvs_sched rr\nlvs_method NAT\nreal_server 10.0.0.71 80 {\n}\n";
    let text = format!(
        "virtual_server 10.0.0.9 80 {{\nprotocol TCP\n{server}}}\n\
         virtual_server group G {{\nprotocol TCP\n{server}}}\n\
         virtual_server 10.0.0.2 80 {{\nprotocol TCP\n{server}}}\n\
         virtual_server group G {{\nprotocol UDP\n{server}}}\n\
         virtual_server group G {{\nprotocol TCP\n{server}}}\n\
         virtual_server_group G {{\n 10.0.0.1-2 80\n fwmark 7\n}}\n"
    );
    let loaded = loaded(&text);
    let shown: Vec<String> = loaded
        .model
        .lvs
        .services
        .iter()
        .map(|s| format!("{} {:?}", s.id(), s.keys()).replace("Address ", ""))
        .collect();
    let ids: Vec<String> = loaded.model.lvs.services.iter().map(|s| s.id().to_string()).collect();
    assert_eq!(ids, ["[10.0.0.9]:tcp:80", "[G]:0", "[G]:1"], "{shown:?}");
    let sizes: Vec<usize> = loaded.model.lvs.services.iter().map(|s| s.keys().len()).collect();
    // The mark belongs to the first; the third service by group has nothing left.
    assert_eq!(sizes, [1, 3, 2], "{shown:?}");
}

#[test]
fn servers_that_are_one_for_the_kernel_are_named() {
    let of = |method: &str| {
        let line = format!("lvs_method {method}\nreal_server 10.0.0.71 81 {{\n}}");
        let (service, codes) = service(&line);
        (service.servers.len(), codes.iter().filter(|code| **code == "W0412").count())
    };
    assert_eq!(of("NAT"), (2, 0));
    // The port that DR does not use, and that both have one entry.
    assert_eq!(of("DR"), (2, 2));
}

#[test]
fn a_service_whose_servers_are_all_refused_is_left_out() {
    let text = "virtual_server fd00:9::101 5555 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 10.9.0.12 3511 {\n }\n}\n";
    let files = MemoryFiles::single("a.conf", text.as_bytes());
    let host = StaticHost::default();
    let loaded = load(&files, &host, &Options::new("a.conf", &host));
    assert!(loaded.model.lvs.services.is_empty());
    let said: Vec<_> = loaded.diagnostics.log_lines().map(|(_, line)| line).collect();
    assert!(
        said.iter().any(|line| line.contains("it is left out") && line.ends_with("[E0405]")),
        "{said:?}"
    );
    assert!(!said.iter().any(|line| line.contains("quorum")), "{said:?}");
    // The same by mark and by group.
    let group = "virtual_server_group G {\n fd00:9::101 5555\n}\n";
    for (header, before) in [("fwmark 7", ""), ("group G", group)] {
        let text = text
            .replace("fd00:9::101 5555 {", &format!("{header} {{\n ip_family inet6"))
            .replace("NAT", "DR");
        let loaded = self::loaded(&(before.to_owned() + &text));
        assert!(loaded.model.lvs.services.is_empty(), "{header}");
        let said: Vec<_> = loaded.diagnostics.log_lines().map(|(_, line)| line).collect();
        let lost = |line: &&String| line.contains("it is left out") && line.ends_with("[E0405]");
        assert_eq!(said.iter().filter(lost).count(), 1, "{header}: {said:?}");
    }
}

#[test]
fn what_a_service_by_mark_does_not_use_is_named() {
    let text = "virtual_server fwmark 3 {\n lb_algo rr\n lb_kind DR\n protocol TCP\n sorry_server 10.9.0.12 8443\n real_server 10.9.0.11 443 {\n  TCP_CHECK {\n  }\n }\n}\n";
    let loaded = loaded(text);
    let said: Vec<String> = loaded.diagnostics.log_lines().map(|(_, line)| line).collect();
    for part in [
        "protocol is not used: the firewall mark selects the packets",
        "port 443 of real server 10.9.0.11 is not used: a firewall-mark service keeps the client's port",
        "port 8443 of the sorry server is not used",
    ] {
        assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
    }
    // The server itself is in use.
    assert_eq!(loaded.model.lvs.services[0].servers[0].address.to_string(), "10.9.0.11");
}

/// The last check of a server, and the codes of what was reported.
fn checker(text: &str) -> (Checker, Vec<String>) {
    let text = format!(
        "virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n \
         real_server 10.0.0.71 80 {{\n{text}\n }}\n}}\n"
    );
    let mut loaded = loaded(&text);
    let codes: Vec<String> = loaded.diagnostics.iter().map(|d| d.id()).collect();
    let mut service = loaded.model.lvs.services.remove(0).into_inner();
    (service.servers[0].checkers.pop().unwrap(), codes)
}

/// What a check cannot judge as the configuration asks must not count as good.
#[test]
fn a_check_of_which_a_setting_cannot_be_used_fails() {
    let page = |line: &str| format!("HTTP_GET {{\nurl {{\npath /\n{line}\n}}\n}}");
    let of = |check: &str, line: &str| format!("{check} {{\n{line}\n}}");
    for (text, keyword) in [
        (page("digest 0123"), "digest"),
        (page(&format!("digest {}", "x".repeat(32))), "digest"),
        (page("status_code 2000"), "status_code"),
        (page("status_code 300-200"), "status_code"),
        (page("regex a b"), "regex"),
        (page("regex \"a"), "regex"),
        (page("regex (?=a)"), "regex"),
        (
            page("regex a\nregex_no_match\nregex_min_offset 5\nregex_max_offset 5"),
            "regex_min_offset",
        ),
        (of("DNS_CHECK", "name a..b"), "name"),
        (of("DNS_CHECK", "type X"), "type"),
        (of("TCP_CHECK", "connect_port 99999"), "connect_port"),
        (of("TCP_CHECK", "bindto fe80::1"), "bindto"),
        (of("TCP_CHECK", "connect_ip fe80::1\nbind_if a/b"), "bind_if"),
        (of("FILE_CHECK", "track_file none"), "track_file"),
        (of("BFD_CHECK", "name none"), "name"),
        (of("UDP_CHECK", "payload 1g"), "payload"),
        (of("UDP_CHECK", "require_reply 0g"), "require_reply"),
    ] {
        let (checker, codes) = checker(&text);
        let CheckerKind::Unusable(check) = &checker.kind else { panic!("{text}: {codes:?}") };
        let why = format!("'{keyword}' of the configuration cannot be used");
        assert_eq!(&*check.reason, why, "{text}");
        assert!(text.starts_with(&*check.check), "{text}: {check:?}");
        assert!(checker.alpha, "{text}: its server is in service until the first attempt");
        assert_eq!(codes.iter().filter(|code| *code == "W0416").count(), 1, "{text}: {codes:?}");
        // A reload that adds it is refused.
        assert!(codes.iter().any(|code| code.starts_with('E')), "{text}: {codes:?}");
    }
    for text in [
        page("digest 0123\ndigest 0123456789abcdef0123456789abcdef"),
        // What can be used of it is stricter.
        page("status_code 200 2000"),
        page("status_code 2000\nstatus_code 204"),
        // The schedule does not decide about the server.
        of("TCP_CHECK", "retry x\ndelay_loop 0"),
    ] {
        let (checker, codes) = checker(&text);
        assert!(!matches!(checker.kind, CheckerKind::Unusable(_)), "{text}");
        assert!(!codes.is_empty() && !codes.contains(&"W0416".to_owned()), "{text}: {codes:?}");
    }
}

#[test]
fn a_blank_ends_a_byte_of_hexadecimal_text() {
    for (text, octets) in [
        ("f 3", [0x0f, 3].as_slice()),
        ("0102 3", &[1, 2, 3]),
        ("\"1 2 0a\"", &[1, 2, 10]),
        ("abc", &[0xab, 0x0c]),
    ] {
        let (checker, codes) = checker(&format!("UDP_CHECK {{\npayload {text}\n}}"));
        let CheckerKind::Udp(check) = &checker.kind else { panic!("{text}: {codes:?}") };
        assert_eq!(check.payload.as_deref(), Some(octets), "{text}");
    }
}

/// They are one entry in the kernel, so their weights do not add up.
#[test]
fn servers_with_a_common_entry_count_once_for_the_quorum() {
    let text = |method: &str| {
        format!(
            "virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method {method}\n protocol TCP\n quorum 2\n \
             real_server 10.0.0.71 80 {{\n }}\n real_server 10.0.0.71 8080 {{\n }}\n}}\n"
        )
    };
    for (method, quorum, reported) in [("DR", 1, true), ("NAT", 2, false)] {
        let loaded = loaded(&text(method));
        assert_eq!(loaded.model.lvs.services[0].quorum, quorum, "{method}");
        let adjusted = loaded.diagnostics.log_lines().any(|(_, line)| {
            line.contains("quorum 2 exceeds the total weight of the real servers, 1 is used")
        });
        assert_eq!(adjusted, reported, "{method}");
    }
}

#[test]
fn a_session_for_instances_only_is_none_for_checks() {
    for (words, usable) in [("vrrp", false), ("checker", true), ("", true)] {
        let text = format!(
            "bfd_instance B {{\n neighbor_ip 10.0.0.3\n source_ip 10.0.0.2\n {words}\n}}\n\
             virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n protocol TCP\n real_server 10.0.0.71 80 {{\n  \
             BFD_CHECK {{\n   name B\n  }}\n }}\n}}\n"
        );
        let loaded = loaded(&text);
        let kind = &loaded.model.lvs.services[0].servers[0].checkers[0].kind;
        assert_eq!(matches!(kind, CheckerKind::Bfd(_)), usable, "{words}: {kind:?}");
        let said: Vec<_> = loaded.diagnostics.log_lines().map(|(_, line)| line).collect();
        let told = said.iter().any(|line| line.contains("BFD instance B is for instances only"));
        assert_eq!(told, !usable, "{said:?}");
    }
}

#[test]
fn a_host_of_smtp_check_has_the_settings_around_it() {
    let around = "fwmark 7\nbindto 10.0.0.2\nbind_port 2525\nconnect_port 587\nlog_all_failures\n";
    for (own, port, from, mark) in
        [("", 587, 2525, 7), ("connect_port 25\nbind_port 26\nfwmark 9\n", 25, 26, 9)]
    {
        let text = format!("SMTP_CHECK {{\n{around}host {{\nconnect_ip 10.0.0.8\n{own}}}\n}}");
        let (checker, codes) = checker(&text);
        let CheckerKind::Smtp(check) = &checker.kind else { panic!("{codes:?}") };
        let connection = &check.connection;
        assert_eq!(connection.to, (std::net::Ipv4Addr::new(10, 0, 0, 8), port).into(), "{own}");
        assert_eq!(connection.from.map(|from| from.port), Some(from), "{own}");
        assert_eq!(connection.mark, mark, "{own}");
        assert!(checker.log_all_failures, "{own}");
    }
}

/// The kernel takes it for a service without a mark.
#[test]
fn a_group_has_no_mark_0() {
    let text = "virtual_server_group G {\n fwmark 0\n fwmark 5\n}\nvirtual_server group G {\n lvs_sched rr\n \
                real_server 10.0.0.71 80 {\n }\n}\n";
    let loaded = loaded(text);
    let said: Vec<_> = loaded.diagnostics.log_lines().map(|(_, line)| line).collect();
    assert!(said.iter().any(|line| line.contains("Number '0' outside range [1,")), "{said:?}");
    assert_eq!(loaded.model.lvs.services.len(), 1);
}
