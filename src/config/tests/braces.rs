//! One brace too few in an otherwise valid file is one error that names the block and its line.

use super::{codes, load_text, said};
use crate::config::{Class, Options};

/// Valid, with nearly every kind of block.
const FULL: &str = "\
global_defs {
    router_id full
    vrrp_version 3
    script_user root
    enable_script_security
}

static_routes {
    198.51.100.0/24 via 192.0.2.254 dev eth0
}

static_ipaddress {
    192.0.2.77/24 dev eth0
}

track_file load {
    file /load
    weight 0
}

vrrp_script chk {
    script \"/bin/true\"
    interval 2
}

vrrp_sync_group G {
    group {
        A
        B
    }
    notify_master \"/bin/true\"
}

vrrp_instance A {
    state BACKUP
    interface eth0
    track_interface {
        eth1
    }
    track_script {
        chk
    }
    virtual_router_id 51
    unicast_src_ip 192.0.2.10
    unicast_peer {
        192.0.2.11
    }
    priority 100
    virtual_ipaddress {
        192.0.2.1/24 dev eth0
        192.0.2.2/24 dev eth0
    }
    virtual_routes {
        198.51.101.0/24 via 192.0.2.254 dev eth0
    }
    advert_int 1
    track_file {
        load weight 0
    }
}

vrrp_instance B {
    interface eth1
    virtual_router_id 52
    priority 100
    virtual_ipaddress {
        192.0.2.3/24 dev eth1
    }
}

virtual_server_group web {
    192.0.2.1 80
    192.0.2.2 80
}

virtual_server group web {
    delay_loop 6
    lb_algo rr
    lb_kind DR
    protocol TCP

    real_server 192.0.2.21 80 {
        weight 1
        HTTP_GET {
            url {
                path /a
                status_code 200
            }
            url {
                path /b
            }
            connect_timeout 3
            retry 3
        }
    }
    real_server 192.0.2.22 80 {
        weight 2
        TCP_CHECK {
            connect_timeout 3
        }
        SMTP_CHECK {
            helo_name x
            connect_timeout 3
        }
    }
    real_server 192.0.2.23 80 {
        TCP_CHECK {
            connect_timeout 3
        }
    }
}

virtual_server 192.0.2.3 443 {
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 192.0.2.31 443 {
        MISC_CHECK {
            misc_path \"/bin/true\"
        }
    }
}
";

/// Offset of each `}`, with the keyword and the line of its block, and the offset of its `{`.
fn blocks(text: &str) -> Vec<(usize, usize, String, usize)> {
    let (mut open, mut found) = (Vec::new(), Vec::new());
    for (at, c) in text.char_indices() {
        let before = &text[..at];
        match c {
            '{' => {
                let line = before.rsplit('\n').next().unwrap_or_default();
                let keyword = line.split_whitespace().next().unwrap_or_default().to_owned();
                open.push((at, keyword, before.matches('\n').count() + 1));
            }
            '}' => {
                let (from, keyword, line) = open.pop().unwrap();
                found.push((from, at, keyword, line));
            }
            _ => {}
        }
    }
    found
}

fn without(text: &str, at: usize) -> String {
    format!("{}{}", &text[..at], &text[at + 1..])
}

#[test]
fn the_example_is_valid() {
    assert_eq!(said(&load_text(FULL)), Vec::<String>::new());
    assert!(blocks(FULL).len() > 25);
}

#[test]
fn a_missing_closing_brace_is_one_error_that_names_its_block_and_line() {
    let mut wrong = Vec::new();
    for full in [FULL.to_owned(), FULL.replace("\n\n", "\n")] {
        for (_, close, keyword, line) in blocks(&full) {
            let loaded = load_text(&without(&full, close));
            let said = said(&loaded);
            let good = codes(&loaded) == ["E0105"]
                && said[0].contains(&format!("block '{keyword}' is"))
                && (said[0].contains(&format!("opened at line {line} "))
                    || said[0].contains(&format!("Line {line})")));
            if !good {
                wrong.push(format!("without the brace of {keyword} (line {line}): {said:#?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("\n"));
}

/// Without indentation the block around it is as good.
#[test]
fn without_indentation_it_is_one_error_too() {
    let flat: String = FULL.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
    let mut wrong = Vec::new();
    for (_, close, keyword, line) in blocks(&flat) {
        let loaded = load_text(&without(&flat, close));
        if codes(&loaded) != ["E0105"] {
            wrong.push(format!("without the brace of {keyword} ({line}): {:#?}", said(&loaded)));
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_missing_opening_brace_is_one_error() {
    let mut wrong = Vec::new();
    for (open, _, keyword, line) in blocks(FULL) {
        let loaded = load_text(&without(FULL, open));
        let said = said(&loaded);
        let good = codes(&loaded) == ["E0103"] && said[0].contains(&format!("'{keyword}'"));
        if !good {
            wrong.push(format!("without the brace of {keyword} (line {line}): {said:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {}", wrong.len(), wrong.join("\n"));
}

/// What is known from a block around is only taken for a missing brace if one is missing.
#[test]
fn names_that_are_keywords_are_names() {
    let text = FULL
        .replace("chk", "priority")
        .replace("A\n", "notify\n")
        .replace("vrrp_instance A", "vrrp_instance notify");
    assert_eq!(said(&load_text(&text)), Vec::<String>::new());
}

#[test]
fn misplaced_words_are_errors_of_their_own_if_all_braces_are_there() {
    let text = FULL.replace("path /b", "path /b\nretry 3\ndelay_loop 2");
    assert_eq!(codes(&load_text(&text)), ["E0101", "E0101"]);
}

/// The status of `-t` is that of keepalived, whatever is shown.
#[test]
fn what_is_not_shown_counts() {
    let text = FULL.replacen("    192.0.2.2 80\n}\n", "    192.0.2.2 80\n", 1);
    let loaded = load_text(&text);
    assert_eq!(loaded.diagnostics.status(), 5);
    let fatal = text.replace("delay_loop 6", "delay_loop 6\nweight");
    let loaded = load_text(&fatal);
    assert!(loaded.diagnostics.all().all(|d| d.class <= Class::Problem) || loaded.unusable());
    let host = crate::config::StaticHost::default().with_all_interfaces();
    let files = crate::config::MemoryFiles::single("/etc/k.conf", text.as_bytes());
    let options = Options { consequences: true, ..Options::new("/etc/k.conf", &host) };
    assert!(crate::config::load(&files, &host, &options).diagnostics.len() > 3);
}

#[test]
fn references_to_a_block_whose_name_line_is_wrong_are_not_reported() {
    for (right, wrong) in [
        ("vrrp_instance A {", "vrrp_instanc A {"),
        ("vrrp_instance B {", "vrrp_instanc B {"),
        ("vrrp_script chk {", "vrrp_scrip chk {"),
        ("virtual_server_group web {", "virtual_server_grup web {"),
        ("track_file load {", "track_fil load {"),
    ] {
        let loaded = load_text(&FULL.replace(right, wrong));
        let lints: Vec<_> = codes(&loaded);
        assert_eq!(lints, ["E0101"], "{wrong}: {:#?}", said(&loaded));
        // A reload compares them.
        let hidden = loaded.diagnostics.mistakes().iter().any(|m| m.starts_with("E0404"));
        assert!(hidden, "{wrong}: {:?}", loaded.diagnostics.mistakes());
    }
    // A group that names the instances of unclosed text.
    let text =
        FULL.replacen("        load weight 0\n    }\n}\n", "        load weight 0\n    }\n", 1);
    assert_eq!(codes(&load_text(&text)), ["E0105"], "{:#?}", said(&load_text(&text)));
    // Another name is still wrong.
    let text = FULL.replace("vrrp_instance A {", "vrrp_instanc A {").replace("B\n", "C\n");
    assert_eq!(codes(&load_text(&text)), ["E0404", "E0101"], "{:#?}", said(&load_text(&text)));
}
