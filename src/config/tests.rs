mod braces;
mod messages;

use super::*;
use crate::base::Family;
use crate::model::Weight;
use crate::model::checker::CheckerKind;
use crate::model::vrrp::{InitialState, Version};

/// Loads one text on a machine where every interface exists.
fn load_text(text: &str) -> Loaded {
    let host = StaticHost::default().with_all_interfaces();
    let files = MemoryFiles::single("/etc/k.conf", text.as_bytes());
    load(&files, &host, &Options::new("/etc/k.conf", &host))
}

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.diagnostics.iter().map(|d| d.code.id).collect()
}

/// A complete instance with more lines in it.
fn instance(lines: &str) -> String {
    format!(
        "vrrp_instance A {{\n interface eth0\n virtual_router_id 7\n virtual_ipaddress {{\n  192.0.2.1/24\n }}\n{lines}\n}}\n"
    )
}

#[test]
fn an_instance_lands_in_the_model() {
    let loaded = load_text(&instance(" state MASTER\n priority 150\n advert_int 2"));
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    let instance = &loaded.model.vrrp.instances[0];
    assert_eq!(instance.name.as_str(), "A");
    assert_eq!(instance.vrid.get(), 7);
    assert_eq!(instance.priority.get(), 150);
    assert_eq!(instance.state, InitialState::Master);
    assert_eq!(instance.version, Version::V2);
    assert_eq!(instance.family, Family::V4);
    assert_eq!(instance.advert_int.as_secs(), 2);
    assert_eq!(instance.addresses[0].prefix.to_string(), "192.0.2.1/24");
}

#[test]
fn globals_count_wherever_they_stand() {
    let text = instance("") + "global_defs {\n vrrp_version 3\n vrrp_garp_master_repeat 2\n}\n";
    let loaded = load_text(&text);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    assert_eq!(loaded.model.vrrp.instances[0].version, Version::V3);
    assert_eq!(loaded.model.vrrp.instances[0].garp.repeat, 2);
}

#[test]
fn a_group_may_come_before_its_members() {
    let mut text = String::from("vrrp_sync_group G {\n group {\n A B\n }\n}\n");
    text.push_str(&instance(" priority 120\n track_interface {\n  eth1 weight 5\n }"));
    text.push_str(
        "vrrp_instance B {\n interface eth1\n virtual_router_id 8\n virtual_ipaddress {\n 192.0.2.9\n }\n}\n",
    );
    let loaded = load_text(&text);
    assert_eq!(codes(&loaded), ["W0414"]);
    assert_eq!(loaded.model.vrrp.groups[0].members.len(), 2);
    let tracked = &loaded.model.vrrp.instances[0].track_interfaces[0];
    assert_eq!(tracked.weight, Weight::FAULT);
}

#[test]
fn what_is_unknown_is_named_with_line_and_column() {
    let loaded = load_text("global_defs {\n   routr_id x\n}\n");
    let diagnostic = loaded.diagnostics.iter().next().unwrap();
    assert_eq!(loaded.diagnostics.location(diagnostic), Some(("/etc/k.conf", 2, 4)));
    assert_eq!(diagnostic.replacement.as_deref(), Some("router_id"));
    assert_eq!(
        loaded.diagnostics.log_line(diagnostic),
        "(/etc/k.conf: Line 2) Unknown keyword 'routr_id', did you mean 'router_id'? (column 4) [E0101]"
    );
}

#[test]
fn a_name_of_two_words_leaves_the_block_out() {
    for keyword in ["vrrp_instance", "vrrp_sync_group", "track_group"] {
        let loaded = load_text(&format!("{keyword} a b {{\n nosuch {{\n }}\n}}\n"));
        let errors: Vec<_> = codes(&loaded).into_iter().filter(|c| *c != "W0702").collect();
        assert_eq!(errors, ["E0300"], "{keyword}");
        assert_eq!(loaded.diagnostics.status(), 5);
    }
    let loaded = load_text(&instance("").replacen(" A ", " \"a b\" ", 1));
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    assert_eq!(loaded.model.vrrp.instances[0].name.as_str(), "a b");
}

/// The page would otherwise count as good although nobody looked for what it must contain.
#[test]
fn a_pattern_that_cannot_be_used_stays_and_is_an_error() {
    for pattern in ["(?=x)", "(", "(?<!a)b"] {
        let text = format!(
            "virtual_server 10.0.0.1 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 10.0.0.2 80 {{\n  \
             HTTP_GET {{\n   url {{\n    path /\n    regex \"{pattern}\"\n   }}\n  }}\n }}\n}}\n"
        );
        let loaded = load_text(&text);
        assert_eq!(codes(&loaded), ["E0300", "W0416"], "{pattern}: {:?}", said(&loaded));
        assert!(
            said(&loaded)[1].contains("the server stays out of service"),
            "{:?}",
            said(&loaded)
        );
        let server = &loaded.model.lvs.services[0].servers[0];
        assert!(matches!(server.checkers[0].kind, CheckerKind::Unusable(_)), "{pattern}");
    }
}

fn said(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.log_lines().map(|(_, line)| line).collect()
}

fn helps(loaded: &Loaded) -> String {
    loaded.diagnostics.iter().flat_map(|d| d.help.clone()).collect::<Vec<_>>().join(" / ")
}

#[test]
fn a_missing_brace_names_the_block_that_is_open() {
    let text = instance("").replacen("\n}\n", "\n", 1)
        + &instance("").replace(" A ", " B ")
        + "track_group x {\n a\n}\n";
    let loaded = load_text(&text);
    let said = said(&loaded);
    let missing: Vec<_> =
        said.iter().filter(|s| s.contains("missing '}'") || s.contains("Missing '}'")).collect();
    assert_eq!(missing.len(), 1, "{said:?}");
    assert!(
        missing[0].contains(
            "before 'vrrp_instance': block 'vrrp_instance' is still open, opened at line 1"
        ),
        "{missing:?}"
    );
    assert!(!said.iter().any(|s| s.contains("Unknown keyword")), "{said:?}");
}

#[test]
fn a_misspelt_block_is_one_error() {
    // Whatever follows from it is not reported: neither what is set twice then nor what is missing.
    let service = "virtual_server 192.0.2.1 80 {\n lb_algo rr\n lb_kind NAT\n weight 1\n real_sever 192.0.2.2 80 {\n weight 2\n TCP_CHECK {\n connect_timeout 3\n }\n }\n}\n";
    let unclosed = instance("").replacen("\n}\n", "\n", 1) + &instance("").replace(" A ", " B ");
    let group = "vrrp_sync_group G {\n grup {\n A\n B\n }\n}\n";
    for (text, expected) in [
        (instance(" virtual_ipadress {\n 192.0.2.9\n }\n priority 3\n priority 4"), "E0101"),
        (instance("").replace("virtual_ipaddress", "virtual_ipadress"), "E0101"),
        (service.to_owned(), "E0101"),
        (group.to_owned(), "E0101"),
        (unclosed, "E0105"),
        (instance("").replace("id 7", "id ${VRID}"), "E0207"),
        (instance("").replace("192.0.2.1/24", "192.0.2.${N}/24"), "E0207"),
    ] {
        for lints in [false, true] {
            let host = StaticHost::default().with_all_interfaces();
            let files = MemoryFiles::single("/etc/k.conf", text.as_bytes());
            let options = Options { lints, ..Options::new("/etc/k.conf", &host) };
            let loaded = load(&files, &host, &options);
            assert_eq!(codes(&loaded), [expected], "{text}: {:?}", said(&loaded));
            // A reload still compares what is lost.
            let lost = loaded.diagnostics.mistakes().iter().any(|m| m.starts_with("E0405"));
            let loses = text == service || text == group || text.contains("${VRID}");
            assert_eq!(lost, loses, "{text}");
        }
    }
    let block = " virtual_ipadress {\n 192.0.2.9\n 192.0.2.10\n 192.0.2.11\n }\n nopreempt\n garp_master_delay 3";
    let loaded = load_text(&instance(block));
    let said = said(&loaded);
    let of_words = |s: &&String| s.contains("nknown keyword") || s.contains("nexpected");
    assert_eq!(said.iter().filter(of_words).count(), 1, "{said:?}");
    // Text after all its braces is checked again.
    let loaded = load_text(&(instance(block) + "nosuch\n"));
    assert!(self::said(&loaded).iter().any(|s| s.contains("'nosuch'")));
    let top = instance("").replace("vrrp_instance", "vrrp_instanc");
    assert_eq!(codes(&load_text(&top)), ["E0101"]);
}

#[test]
fn an_undefined_name_is_reported_within_text_that_is_not_read_as_it_was_meant() {
    let block = " virtual_ipadress {\n ${W}\n 192.0.2.${W}/24 dev ${V}\n }\n";
    for (text, expected) in [
        (instance(block), vec!["E0101", "E0207", "E0207"]),
        (
            instance("").replace("vrrp_instance", "vrrp_instanc").replace("id 7", "id ${W}"),
            vec!["E0101", "E0207"],
        ),
        // Each in its own block, and a second one in a block.
        (
            instance("").replace("id 7", "id ${W}")
                + &instance("")
                    .replace(" A ", " B ")
                    .replace("id 7", "id ${W}")
                    .replace("192.0.2.1/24", "${V}"),
            vec!["E0207", "E0207", "E0207"],
        ),
    ] {
        let loaded = load_text(&text);
        assert_eq!(codes(&loaded), expected, "{text}: {:?}", said(&loaded));
    }
    let loaded = load_text(&instance(block));
    let names: Vec<_> =
        said(&loaded).into_iter().filter(|s| s.contains("is not defined")).collect();
    assert!(names[0].contains("'W'") && names[1].contains("'V'"), "{names:?}");
}

#[test]
fn causes_come_before_what_follows_from_them() {
    let text = instance("").replace("virtual_router_id 7", "virtual_router_id 256");
    assert!(text.contains("256"));
    let said = said(&load_text(&text));
    let at = |what: &str| said.iter().position(|s| s.contains(what));
    let (cause, end) = (at("256").unwrap(), at("is left out").unwrap());
    assert!(cause < end, "{said:?}");
}

#[test]
fn every_block_that_is_left_out_has_its_cause_first() {
    let service = |lines: &str| {
        format!("virtual_server 192.0.2.1 80 {{\n lb_algo rr\n lb_kind NAT\n{lines}\n}}\n")
    };
    let others = instance("") + &instance("").replace(" A ", " B ").replace("id 7", "id 8");
    for (text, cause, consequence) in [
        (instance("").replace("id 7", "id 256"), "256", "(A) the virtual router id"),
        (format!("vrrp_sync_group G {{\n A B\n}}\n{others}"), "'A'", "ync group G has no"),
        (
            format!("vrrp_sync_group G {{\n group {{\n X\n Y\n }}\n}}\n{others}"),
            "router Y",
            "ync group G has no",
        ),
        (service(" real_server x 80 {\n }"), "'x'", "has no usable real server"),
        (service(" real_server 10.0.0.1 99999 {\n }"), "99999", "has no usable real server"),
        (service(" sorry_server x 80"), "'x'", "has no real servers"),
        (service(" real_server fd00::1 80 {\n }"), "fd00::1 is not", "has no usable real server"),
        ("vrrp_script s {\n scirpt /bin/true\n}\n".into(), "scirpt", "vrrp_script s has no"),
        ("virtual_server_group g {\n x 80\n}\n".into(), "'x", "group g has no entries"),
        ("vrrp_track_process p {\n proces x\n}\n".into(), "'proces'", "process p has no"),
        ("track_file f {\n flie /x\n}\n".into(), "'flie'", "track_file f has no"),
        ("bfd_instance b {\n neighbor_ip x\n}\n".into(), "x", "b has no neighbor"),
        (
            service(" real_server 192.0.2.2 80 {\n MISC_CHECK {\n misc_pth /x\n }\n }"),
            "misc_pth",
            "has no misc_path",
        ),
        (service(" real_server 192.0.2.2 80 {\n HTTP_GET {\n urll\n }\n }"), "urll", "has no url"),
        (
            service(" real_server 192.0.2.2 80 {\n HTTP_GET {\n url {\n pth /\n }\n }\n }"),
            "'pth'",
            "has no path",
        ),
    ] {
        let said = said(&load_text(&text));
        let at = |what: &str| said.iter().position(|s| s.contains(what));
        let (first, last) = (at(cause), at(consequence));
        assert!(first.is_some() && first < last, "{cause}, {consequence}: {said:?}");
    }
    // The remedy is at the cause.
    let loaded = load_text(&format!("vrrp_sync_group G {{\n A\n B\n}}\n{others}"));
    for d in loaded.diagnostics.iter() {
        let remedy = d.help.iter().any(|help| help.contains("'group { }'"));
        assert_eq!(remedy, d.code.id == "E0101", "{}", d.message);
    }
}

#[test]
fn a_comment_instead_of_a_value_is_explained() {
    for (line, help) in [
        (
            "authentication {\n auth_type PASS\n auth_pass #x\n }",
            "'#' begins a comment: put the password between double quotes",
        ),
        ("interface !x", "'!' begins a comment: put the value between double quotes"),
        ("interface # x", ""),
    ] {
        let loaded = load_text(&instance(&format!(" {line}")));
        let missing = loaded.diagnostics.iter().find(|d| d.code.id == "E0107").unwrap();
        assert_eq!(missing.help.join(" / "), help);
    }
}

#[test]
fn keywords_in_the_log_are_as_users_write_them() {
    for (text, start) in [
        ("vrrp_script s {\n}\n".to_owned(), ") vrrp_script s has no"),
        (
            instance(" authentication {\n auth_type PASS\n auth_pass 123456789\n }"),
            ") auth_pass is cut",
        ),
        ("frob\n".to_owned(), ") Unknown keyword 'frob'"),
    ] {
        let said = said(&load_text(&text));
        assert!(said.iter().any(|line| line.contains(start)), "{said:?}");
    }
    // What replaces a deprecated word is told once.
    let loaded = load_text("global_defs {\n lvs_process_name x\n}\n");
    let d = loaded.diagnostics.iter().find(|d| *d.code == codes::DEPRECATED).unwrap();
    let word = d.replacement.as_deref().unwrap();
    let text = loaded.diagnostics.render(d, Style::Plain, Head::Title);
    for shown in [loaded.diagnostics.log_line(d), text] {
        assert_eq!(shown.matches(&format!("'{word}'")).count(), 1, "{shown}");
        assert!(!shown.contains("did you mean"), "{shown}");
    }
}

#[test]
fn names_that_are_not_defined_are_named() {
    let host = StaticHost::default();
    let text = instance("").replace("interface eth0", "interface $IF");
    let files = MemoryFiles::single("/etc/k.conf", text.as_bytes());
    let loaded = load(&files, &host, &Options::new("/etc/k.conf", &host));
    assert!(helps(&loaded).contains("'IF' is not defined before this line"), "{:?}", said(&loaded));
    // Not where it was replaced, whatever is wrong with the result.
    let lines = "$V= \\\n priorty 3 \\\n nosuch \n\n$P=x\n";
    let loaded = load_text(&(lines.to_owned() + &instance(" $V\n priority $P")));
    assert_eq!(codes(&loaded), ["E0101", "E0101", "E0301"], "{:?}", said(&loaded));
    assert_eq!(helps(&loaded), "");
    let text = format!("$N=9\n{}", instance("").replace("192.0.2.1/24", "192.0.2.$N/24"));
    let loaded = load_text(&text);
    assert!(helps(&loaded).contains("write ${N}"), "{:?}", said(&loaded));
}

#[test]
fn characters_that_cannot_be_seen_are_named() {
    for (text, code, name) in [
        (format!("\u{feff}{}", instance("")), "W0116", "byte order mark"),
        (format!("\n\u{feff}{}", instance("")), "E0101", "byte order mark"),
        (format!("\u{a0}{}", instance("")), "E0101", "no-break space"),
        (instance("").replace("vrrp_instance ", "vrrp_instance\u{a0}"), "E0101", "no-break space"),
        (instance(" \u{a0}authentication {\n auth_type PASS\n }"), "E0101", "no-break space"),
        (instance(" priority\u{a0}120"), "E0101", "no-break space"),
        (instance(" priority 120\u{a0}"), "E0301", "no-break space"),
    ] {
        let loaded = load_text(&text);
        assert_eq!(codes(&loaded), [code], "{text}: {:?}", said(&loaded));
        let all = said(&loaded).join("") + &helps(&loaded);
        assert_eq!(all.matches(name).count(), 1, "{text}: {all}");
    }
}

#[test]
fn secrets_are_masked_wherever_a_line_is_shown() {
    for line in [
        "authentication {\n auth_type PASS\n auth_pass s3cr3t-of-mine\n }",
        "authentication {\n auth_pas s3cr3t-of-mine\n }",
        "authentication { auth_type NONE auth_pass s3cr3t-of-mine }",
        "auth_pass s3cr3t-of-mine",
        "auth_hmac {\n key s3cr3t-of-mine\n }",
        "auth_hmac {\n kye 2 s3cr3t-of-mine\n }",
        "auth_hmac {\n keys s3cr3t-of-mine\n }",
        "auth_hmac {\n key 1 \n s3cr3t-of-mine\n }",
        "auth_hmac { kye 2 s3cr3t-of-mine }",
        "authentication {\n auth_pass=s3cr3t-of-mine\n }",
        "authentication {\n auth_type PASS\n auth_pass $PW\n }",
        "authentication {\n auth_pass x$PW\n",
        "virtual_ipaddress {\n 192.0.2.7 auth_pass s3cr3t-of-mine\n }",
        "virtual_ipaddress {\n 192.0.2.7 auth_pass $PW\n }",
        "auth_hmac {\n kye $PW\n }\n $PW\n",
    ] {
        // A use without blank is marked at the definition.
        let loaded =
            load_text(&("$PW=s3cr3t-of-mine\n".to_owned() + &instance(&format!(" {line}"))));
        assert!(!loaded.diagnostics.is_empty(), "{line}");
        let shown = loaded.diagnostics.text(Style::Plain) + &loaded.diagnostics.json();
        assert!(!shown.contains("s3cr3t"), "{shown}");
        let log = said(&loaded).join("\n");
        assert!(!log.contains("s3cr3t"), "{log}");
    }
}

#[test]
fn every_character_survives_quoting() {
    // A double quote cannot be written; the end of a line ends a word.
    for c in ('\u{1}'..='\u{24f}').filter(|c| !matches!(c, '"' | '\n' | '\r')) {
        for word in [
            format!("{c}"),
            format!("{c}a"),
            format!("a{c}"),
            format!("a{c}b"),
            format!("{c}{c}"),
            format!("a{c} {c}"),
        ]
        .map(String::into_bytes)
        {
            let mut text = b"global_defs {\n router_id ".to_vec();
            let mut quoted = Vec::new();
            document::quote(&word, &mut quoted);
            // Readers since 2.4 treat an apostrophe as a quote.
            let bare = quoted.first() != Some(&b'"');
            assert!(!(bare && word.contains(&b'\'')), "{word:?}");
            text.extend(&quoted);
            text.extend(b"\n}\n");
            let files = MemoryFiles::single("/etc/k.conf", &text);
            let host = StaticHost::default();
            let options = Options { document: true, ..Options::new("/etc/k.conf", &host) };
            let loaded = load(&files, &host, &options);
            let again = loaded.document.to_conf();
            let line = [b"router_id ".as_slice(), &quoted].concat();
            assert!(
                again.windows(line.len()).any(|w| w == line),
                "{:?} of {:?}",
                String::from_utf8_lossy(&again),
                word
            );
        }
    }
}

#[test]
fn every_character_survives_in_a_command() {
    for c in '\u{1}'..='\u{24f}' {
        for word in [
            format!("{c}"),
            format!("{c}a"),
            format!("a{c}b"),
            format!("{c}{c}1"),
            format!("a {c}"),
        ] {
            let words =
                [b"/bin/x".as_slice().into(), word.as_bytes().into(), b"z".as_slice().into()];
            let written = document::script_text(&words);
            let line = [b"notify_master ".as_slice(), &written[1..]].concat();
            let text = [b"vrrp_instance A {\n ".as_slice(), &line, b"\n}\n"].concat();
            let files = MemoryFiles::single("/etc/k.conf", &text);
            let host = StaticHost::default();
            let options = Options { document: true, ..Options::new("/etc/k.conf", &host) };
            let again = load(&files, &host, &options).document.to_conf();
            assert!(
                again.windows(line.len()).any(|w| w == line),
                "{:?} of {word:?}",
                String::from_utf8_lossy(&again)
            );
        }
    }
}
