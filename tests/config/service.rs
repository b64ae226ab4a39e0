//! Virtual servers: what a block means for the kernel's table.

use std::time::Duration;

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};
use evervip::model::Service;
use evervip::model::checker::{Checker, CheckerKind};

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
    (loaded.model.lvs.services.remove(0), codes)
}

#[test]
fn a_granularity_is_a_mask_in_the_order_it_is_read() {
    for (text, mask) in [
        ("255.255.255.0", 0xffff_ff00),
        ("255.0.255.0", 0xff00_ff00),
        ("0.0.0.0", 0),
        // One number is an address, as inet_aton reads it.
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

/// The pace of a check, in seconds, as `delay_loop retry delay_before_retry warmup connect_timeout alpha`.
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
    // The warm-up is the check's own period unless something says otherwise.
    assert_eq!(first("", "", "delay_loop 5"), "5 1 1 5 5 false");
    // What stands after the servers counts as well.
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

/// What this version does not carry out is named, each with its line.
#[test]
fn what_has_no_effect_yet_is_named() {
    let checks =
        ["HTTP_GET", "SSL_GET", "SMTP_CHECK", "DNS_CHECK", "PING_CHECK", "UDP_CHECK", "FILE_CHECK"];
    for check in checks {
        let text = format!(
            "virtual_server 10.0.0.1 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n \
             real_server 10.0.0.71 80 {{\n{check} {{\nurl {{\npath /\n}}\n}}\n}}\n}}\n"
        );
        let loaded = loaded(&text);
        let lines: Vec<String> = loaded.diagnostics.log_lines().map(|(_, line)| line).collect();
        let named = format!("Line 6) '{check}': parsed, but not in effect in this version");
        assert!(lines.iter().any(|line| line.contains(&named)), "{check}: {lines:#?}");
    }
    for line in ["ha_suspend", "snmp_name x"] {
        let (_, codes) = service(line);
        assert_eq!(codes, ["W0702"], "{line}");
    }
    let group = "virtual_server_group G {\n 10.0.0.1 80\n}\nvirtual_server group G {\n lvs_sched rr\n lvs_method NAT\n \
                 protocol TCP\n real_server 10.0.0.71 80 {\n }\n}\n";
    let loaded = loaded(group);
    assert!(loaded.model.lvs.services.is_empty());
    assert!(loaded.diagnostics.iter().any(|d| d.code.id == "W0702"));
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
}
