//! One mistake is one message, and the message says what to write.

use super::{Loaded, codes, helps, instance, load_text, said};
use crate::config::{Head, MemoryFiles, Options, StaticHost, Style, load};

/// Also with advice.
fn advised(text: &str) -> Loaded {
    let host = StaticHost::default().with_all_interfaces();
    let files = MemoryFiles::single("/etc/k.conf", text.as_bytes());
    load(&files, &host, &Options { lints: true, ..Options::new("/etc/k.conf", &host) })
}

fn corrections(loaded: &Loaded) -> Vec<String> {
    loaded.diagnostics.iter().filter_map(|d| d.replacement.clone()).collect()
}

#[test]
fn a_command_with_an_open_quote_is_one_error() {
    let script = "vrrp_script chk {\n script \"/bin/true\n}\n".to_owned();
    let loaded = load_text(&(script + &instance(" track_script {\n  chk\n }")));
    assert_eq!(codes(&loaded), ["E0314"], "{:?}", said(&loaded));
    // A reload compares what is lost.
    assert!(loaded.diagnostics.mistakes().iter().any(|m| m.starts_with("E0404")));
    // Elsewhere the quote is that of a word.
    let loaded = load_text("global_defs {\n router_id \"x\n}\n");
    assert_eq!(codes(&loaded), ["E0106"]);
    // A block without the keyword says so.
    assert_eq!(codes(&load_text("vrrp_script chk {\n}\n")), ["E0405"]);
}

#[test]
fn a_misspelt_option_takes_its_value_along() {
    let text = instance("").replace("192.0.2.1/24", "192.0.2.1/24 dve eth0 lable eth0:1 scop link");
    let loaded = load_text(&text);
    assert_eq!(codes(&loaded), ["E0312"; 3], "{:?}", said(&loaded));
    assert_eq!(corrections(&loaded), ["dev", "label", "scope"]);
    // What is an option itself is none of its values.
    let text = instance("").replace("192.0.2.1/24", "192.0.2.1/24 lable no_track");
    let loaded = load_text(&text);
    assert!(loaded.model.vrrp.instances[0].addresses[0].no_track);
}

#[test]
fn a_file_in_another_encoding_is_one_error_that_says_how_to_convert_it() {
    let text = instance("");
    let wide = |unit: fn(u16) -> [u8; 2], mark: [u8; 2]| -> Vec<u8> {
        mark.into_iter().chain(text.encode_utf16().flat_map(unit)).collect()
    };
    for (file, remedy) in [
        (wide(u16::to_le_bytes, [0xff, 0xfe]), "iconv -f UTF-16 -t UTF-8 /etc/k.conf"),
        (wide(u16::to_be_bytes, [0xfe, 0xff]), "iconv -f UTF-16 -t UTF-8 /etc/k.conf"),
        (text.replace('\n', "\r").into_bytes(), "tr '\\r' '\\n' < /etc/k.conf"),
    ] {
        let host = StaticHost::default();
        let files = MemoryFiles::single("/etc/k.conf", &file);
        let loaded = load(&files, &host, &Options::new("/etc/k.conf", &host));
        assert_eq!(codes(&loaded), ["E0117"], "{:?}", said(&loaded));
        assert!(helps(&loaded).contains(remedy), "{}", helps(&loaded));
        assert_eq!(loaded.diagnostics.status(), 5);
    }
    // Other line ends are those of lines.
    let host = StaticHost::default().with_all_interfaces();
    let files = MemoryFiles::single("/etc/k.conf", text.replace('\n', "\r\n").as_bytes());
    let loaded = load(&files, &host, &Options::new("/etc/k.conf", &host));
    assert_eq!(codes(&loaded), Vec::<&str>::new());
}

#[test]
fn characters_that_look_like_others_are_named_with_what_to_write() {
    let with = |from: &str, to: &str| instance("").replace(from, to);
    for (text, what) in [
        (
            with("priority", "x")
                + "global_defs {\n router_id \u{201c}a b\u{201d}\n frob \u{201c}\n}\n",
            "",
        ),
        (with("id 7", "id \u{201c}7\u{201d}"), "a curly quote (U+201C); write \""),
        (with("id 7", "id \u{2018}7\u{2019}"), "a curly apostrophe (U+2018); write '"),
        (with("192.0.2.1/24", "192.0.2.1\u{2013}5"), "an en dash (U+2013); write -"),
        (with("id 7", "id\u{3000}7"), "an ideographic space (U+3000)"),
        (with("vrrp_instance A {", "vrrp_instance A \u{ff5b}"), ""),
    ] {
        let loaded = load_text(&text);
        assert!(helps(&loaded).contains(what), "{what}: {:?} {}", said(&loaded), helps(&loaded));
    }
}

#[test]
fn marks_and_masks_after_an_address_are_corrected() {
    for (address, correction, help) in [
        ("192.0.2.1,", "192.0.2.1", "separated by blanks"),
        ("192.0.2.1;", "192.0.2.1", "separated by blanks"),
        ("192.0.2.1/24,", "24", "separated by blanks"),
        ("fd00::1/64;", "64", "separated by blanks"),
        ("192.0.2.1/255.255.255.0", "24", "a netmask is written as its length"),
        ("192.0.2.1 255.255.255.0", "", "for a netmask write 192.0.2.1/24"),
        ("192.0.2.1 255.0.255.0", "", ""),
    ] {
        let loaded = load_text(&instance("").replace("192.0.2.1/24", address));
        let all = helps(&loaded);
        assert!(all.contains(help), "{address}: {all} {:?}", said(&loaded));
        assert_eq!(corrections(&loaded).concat(), correction, "{address}");
    }
    let loaded = load_text(&instance("").replace("/24", " 255.255.255.0"));
    assert_eq!(codes(&loaded), ["E0312"]);
}

#[test]
fn a_defined_name_followed_by_a_letter_is_explained() {
    for (line, help) in [
        ("id $Nx", "'$Nx' is read as one name: write ${N}x"),
        ("id 5$N0", "'$N0' is read as one name: write ${N}0"),
        ("id $M", "'M' is not defined"),
    ] {
        let loaded = load_text(&format!("$N=7\n{}", instance("").replace("id 7", line)));
        assert!(helps(&loaded).contains(help), "{line}: {} {:?}", helps(&loaded), said(&loaded));
        // What it would have to be is not known.
        assert_eq!(corrections(&loaded), Vec::<String>::new(), "{line}: {:?}", said(&loaded));
    }
}

#[test]
fn what_controls_a_terminal_is_in_no_message() {
    let bad = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    let text =
        instance("").replace("id 7", "id \u{1b}[31m7\u{202e}").replace(" A ", " \u{1b}A\u{9b} ")
            + "nosuch\u{1b}]0;x\u{7}\ninclude /etc/\u{1b}x\n";
    for name in ["/etc/k.conf", "/etc/k\u{1b}[2J\u{202e}.conf"] {
        let host = StaticHost::default();
        let files = MemoryFiles::single(name, text.as_bytes());
        let loaded = load(&files, &host, &Options::new(name, &host));
        assert!(loaded.diagnostics.len() > 2);
        for d in loaded.diagnostics.iter() {
            for head in [Head::Log, Head::Title] {
                let shown = loaded.diagnostics.render(d, Style::Plain, head);
                assert!(!shown.contains(bad), "{shown:?}");
            }
            let line = loaded.diagnostics.log_line(d);
            assert!(!line.contains(bad), "{line:?}");
        }
    }
}

#[test]
fn words_of_other_programs_are_translated() {
    let service = |lines: &str| {
        format!(
            "virtual_server 192.0.2.1 80 {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n{lines}\n real_server 192.0.2.2 80 {{\n TCP_CHECK {{\n }}\n }}\n}}\n"
        )
    };
    for (line, correction) in [
        (" lb_algo roundrobin", "rr"),
        (" lb_algo least_conn", "lc"),
        (" lb_algo Weighted-Round-Robin", "wrr"),
        (" lb_kind masq", "NAT"),
        (" persistence_timeout 5m", "300"),
        (" persistence_timeout 90s", "90"),
    ] {
        let loaded = load_text(&service(line));
        assert_eq!(corrections(&loaded), [correction], "{line}: {:?}", said(&loaded));
    }
    let loaded = load_text(&service(" persistence_timeout 5m"));
    assert!(helps(&loaded).contains("write seconds without a unit"), "{}", helps(&loaded));
}

#[test]
fn two_statements_on_a_line_are_explained() {
    let lines = " authentication {\n auth_type PASS auth_pass x\n auth_pass y\n }";
    let loaded = advised(&instance(lines));
    let help = "one statement a line: write 'auth_pass' on a new line";
    assert!(helps(&loaded).contains(help), "{} {:?}", helps(&loaded), said(&loaded));
    let loaded = advised(&instance(" nopreempt now"));
    assert!(!helps(&loaded).contains("a new line"), "{}", helps(&loaded));
}
