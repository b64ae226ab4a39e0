//! What a message blames, and what it suggests.

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};

fn read_on(host: &StaticHost, text: &str) -> Loaded {
    let mut options = Options::new("k.conf", host);
    options.lints = true;
    load(&MemoryFiles::single("k.conf", text.as_bytes()), host, &options)
}

fn read(text: &str) -> Loaded {
    read_on(&StaticHost::default().with_all_interfaces(), text)
}

/// Each problem with its line, its message, its notes and its help.
fn told(loaded: &Loaded) -> Vec<String> {
    let all = &loaded.diagnostics;
    let tell = |d: &evervip::config::Diagnostic| {
        let line = all.location(d).map_or(0, |at| at.1);
        let replacement = d.replacement.as_deref().unwrap_or_default();
        format!(
            "{line} {} {} | {} | {} | {} | {replacement}",
            d.code.id,
            d.message,
            d.label,
            d.notes.join(" "),
            d.help.join(" ")
        )
    };
    all.iter().map(tell).collect()
}

#[track_caller]
fn says(loaded: &Loaded, parts: &[&str]) {
    let all = told(loaded);
    assert!(all.iter().any(|d| parts.iter().all(|p| d.contains(p))), "{parts:?}: {all:#?}");
}

#[track_caller]
fn lacks(loaded: &Loaded, part: &str) {
    let all = told(loaded);
    assert!(!all.iter().any(|d| d.contains(part)), "{part}: {all:#?}");
}

fn instance(lines: &str) -> String {
    format!(
        "vrrp_instance V {{\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {{\n  192.0.2.1/24\n }}\n{lines}\n}}\n"
    )
}

#[test]
fn several_tracked_objects_in_a_line_leave_the_line_out() {
    let loaded = read(&instance(" track_interface {\n  eth0 eth1\n }"));
    says(
        &loaded,
        &[
            "8 E",
            "'eth1' is not an option of tracked 'eth0', the line is ignored",
            "a line of its own",
        ],
    );
    assert_eq!(loaded.model.vrrp.instances.first().map(|i| i.track_interfaces.len()), Some(0));
}

#[test]
fn arguments_that_are_taken_for_an_account_need_quotes() {
    let loaded = read(
        "vrrp_script s {\n script killall -0 haproxy\n}\nvrrp_instance V {\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {\n  192.0.2.1/24\n }\n track_script {\n  s\n }\n}\n",
    );
    says(&loaded, &["2 ", "user '-0' does not exist", "is left out", "between double quotes"]);
    let loaded = read(&instance(" notify /bin/echo a b"));
    says(&loaded, &["user 'a' does not exist", "is left out", "between double quotes"]);
    // Nothing is missing there.
    let loaded = read(&instance(" notify \"/bin/echo x\" nobody-here"));
    says(&loaded, &["user 'nobody-here' does not exist", "is left out"]);
    lacks(&loaded, "between double quotes");
}

#[test]
fn a_missing_value_is_that_of_its_option() {
    let loaded = read(&instance(" virtual_routes {\n  via\n }"));
    says(&loaded, &["8 E0107 'via' needs a value | expected an address |"]);
    let loaded = read(&instance(" virtual_rules {\n  from 192.0.2.0/24 to\n }"));
    says(&loaded, &["8 E0107 'to' needs a value | expected an address |"]);
    let loaded = read(&instance(" virtual_rules {\n  from 192.0.2.0/24 table\n }"));
    says(&loaded, &["8 E0107 'table' needs a value | expected its value after it |"]);
}

#[test]
fn marks_that_are_no_part_of_the_language_are_named() {
    let host = StaticHost::default();
    let interface = |word: &str| {
        read_on(&host, &instance("").replace("interface eth0", &format!("interface {word}")))
    };
    says(&interface("eth0;"), &["eth0; ", "a statement ends with its line", "| eth0"]);
    says(&interface("= eth0"), &["interface = ", "without '='"]);
    lacks(&interface("eth0"), "a statement ends with its line");
    let line = |line: &str| read(&instance(line));
    says(&line("virtual_router_id: 51"), &["written without ':'", "| virtual_router_id"]);
    says(&line("prio 100"), &["did you mean 'priority'?", "| priority"]);
    // Several keywords begin with it.
    lacks(&line("virtual_ 1"), "did you mean");
}

#[test]
fn a_missing_opening_brace_is_one_error() {
    let service = |address: u32, lines: &str| {
        format!(
            "virtual_server 10.0.0.{address} 80 {{\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n real_server 10.0.0.20 80 {{\n{lines}\n }}\n}}\n"
        )
    };
    let text = service(10, "  weight 5\n  PING_CHECK\n  TCP_CHECK {\n   connect_port 4\n  }")
        + &service(11, "  wieght 5");
    let loaded = read(&text);
    says(&loaded, &["8 E0103 "]);
    lacks(&loaded, "E0105");
    // What follows is read as it was meant.
    says(&loaded, &["18 ", "unknown keyword 'wieght'"]);
    assert_eq!(
        told(&loaded).iter().filter(|d| d.contains(" E0")).count(),
        2,
        "{:#?}",
        told(&loaded)
    );
    assert_eq!(loaded.model.lvs.services.len(), 2);
}

#[test]
fn an_address_that_is_left_out_gets_no_advice() {
    let prefix = evervip::base::Prefix::new("192.0.2.9".parse().unwrap(), 24).unwrap();
    let own = evervip::base::Prefix::new("2001:db8::9".parse().unwrap(), 64).unwrap();
    let host = StaticHost::default().with_interface("eth0", &[prefix, own]);
    let text = instance(" virtual_ipaddress {\n  2001:db8::9\n  2001:db8:7::7\n }");
    let loaded = read_on(&host, &text);
    says(&loaded, &["E0307", "2001:db8::9"]);
    lacks(&loaded, "L0804");
    lacks(&loaded, "L0822");
}

#[test]
fn no_word_of_use_vmac_that_keepalived_2_2_takes_for_a_name_is_written() {
    let written = |lines: &str| {
        let host = StaticHost::default().with_all_interfaces();
        let mut options = Options::new("k.conf", &host);
        options.document = true;
        let text = instance(lines);
        let loaded = load(&MemoryFiles::single("k.conf", text.as_bytes()), &host, &options);
        String::from_utf8(loaded.document.to_conf()).unwrap()
    };
    for (lines, form) in [
        (" use_vmac name vip", "use_vmac vip\n"),
        (" use_vmac vip 02:00:00:00:00:01", "use_vmac vip 02:00:00:00:00:01\n"),
        (" use_vmac name group", "use_vmac name group\n"),
        (" use_vmac name name", "use_vmac name name\n"),
        (" use_ipvlan name ipv", "use_ipvlan ipv\n"),
        (" use_ipvlan name bridge", "use_ipvlan name bridge\n"),
    ] {
        let text = written(lines);
        assert!(text.contains(form), "{lines}: {text}");
    }
}
