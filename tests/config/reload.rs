//! What refuses a reload: an error that the running configuration does not have, identified by its meaning and not by
//! its line.
//!
//! `tests/data/reload/NAME.before.conf` and `.after.conf` are reloads of real configurations that must go through.

use std::fs;
use std::path::Path;

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, Stops, load};

fn read(text: &str) -> Loaded {
    let files = MemoryFiles::single("/k.conf", text.as_bytes());
    let host = StaticHost::default().with_all_interfaces();
    load(&files, &host, &Options::new("/k.conf", &host))
}

/// The new errors of a reload, as log lines.
fn refused(before: &str, after: &str) -> Vec<String> {
    let known = read(before).diagnostics.mistake_numbers();
    let after = read(after);
    after.diagnostics.new_errors(&known).map(|d| after.diagnostics.log_line(d)).collect()
}

#[track_caller]
fn accepted(before: &str, after: &str) {
    assert!(!read(after).diagnostics.is_empty(), "nothing is wrong with it");
    assert_eq!(refused(before, after), Vec::<String>::new());
}

#[track_caller]
fn refused_for(before: &str, after: &str, what: &str) {
    let found = refused(before, after);
    assert!(matches!(found.as_slice(), [one] if one.contains(what)), "{what}: {found:?}");
}

fn instance(name: &str, vrid: u8, more: &str) -> String {
    format!(
        "vrrp_instance {name} {{\n interface eth0\n virtual_router_id {vrid}\n{more}\n virtual_ipaddress {{\n  10.0.{vrid}.1/24\n }}\n}}\n"
    )
}

fn service(port: u16, more: &str) -> String {
    format!(
        "virtual_server 10.0.0.1 {port} {{\n lb_algo rr\n lb_kind NAT\n protocol TCP\n real_server 10.1.0.1 80 {{\n  TCP_CHECK {{\n{more}\n  }}\n }}\n}}\n"
    )
}

#[test]
fn real_configurations_with_small_mistakes_can_be_reloaded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reload");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(name) = name.strip_suffix(".before.conf") else { continue };
        let after = fs::read_to_string(folder.join(format!("{name}.after.conf"))).unwrap();
        let before = fs::read_to_string(&path).unwrap();
        assert!(!read(&before).diagnostics.is_empty(), "{name}: nothing is wrong with it");
        assert_eq!(refused(&before, &after), Vec::<String>::new(), "{name}");
        count += 1;
    }
    assert!(count >= 3);
}

/// What cannot be read at the moment is lost with the reload; what does not exist or is not meant to be read is not.
#[test]
fn an_include_that_cannot_be_read_now_refuses_and_one_that_could_not_be_read_before_does_not() {
    let main = |include: &str| format!("{}include {include}\n", instance("A", 1, ""));
    let read = |main: &str, failing: Option<&str>| {
        let mut files = MemoryFiles::single("/k.conf", main.as_bytes())
            .with("/d/a/b.conf", instance("B", 2, "").as_bytes())
            .with("/d/c/d.conf", instance("C", 3, "").as_bytes());
        if let Some(path) = failing {
            files = files.failing(path, "Resource temporarily unavailable (os error 11)");
        }
        let host = StaticHost::default().with_all_interfaces();
        load(&files, &host, &Options::new("/k.conf", &host))
    };
    let new_errors = |before: &Loaded, after: &Loaded| -> Vec<String> {
        let known = before.diagnostics.mistake_numbers();
        after.diagnostics.new_errors(&known).map(|d| after.diagnostics.log_line(d)).collect()
    };
    for (include, failing) in [
        ("/d/a/b.conf", "/d/a/b.conf"),
        ("/d/a/*.conf", "/d/a"),
        ("/d/*/*.conf", "/d/a"),
        ("/d/*/*.conf", "/d/c/d.conf"),
        ("/d/{a,c}/*.conf", "/d/c"),
    ] {
        let text = main(include);
        let (good, bad) = (read(&text, None), read(&text, Some(failing)));
        assert_eq!(new_errors(&good, &good), Vec::<String>::new(), "{include}");
        let found = new_errors(&good, &bad);
        assert!(
            matches!(found.as_slice(), [one] if one.contains("E0202")
                && one.contains("temporarily unavailable")),
            "{include}: {found:?}"
        );
        // A start goes on without it, and so does a reload after that.
        assert!(
            !bad.unusable() && bad.model.vrrp.instances.len() < good.model.vrrp.instances.len()
        );
        assert_eq!(new_errors(&bad, &bad), Vec::<String>::new(), "{include}");
        // The configuration test ends as keepalived's does.
        assert_eq!(bad.diagnostics.status(), 0, "{include}");
    }
    let without = read(&main("/d/none.conf"), None);
    assert_eq!(new_errors(&read(&main("/d/a/b.conf"), None), &without), Vec::<String>::new());
}

#[test]
fn an_ignored_word_is_known_by_code_block_and_keyword() {
    // On another line, in another block of the same kind, and more often.
    let before = service(80, "nb_get_retry 3");
    let after = format!("{}\n\n{before}{}", service(443, "nb_get_retry 5"), service(81, ""));
    accepted(&before, &after);
    // The same word in another kind of block is new, as is another word in the same.
    let other = format!("{before}{}", instance("A", 1, "nb_get_retry 3"));
    refused_for(&before, &other, "nb_get_retry");
    refused_for(&before, &service(80, "nb_get_retry 3\nnb_sock_retry 3"), "nb_sock_retry");
    // A value out of range, whatever the value.
    let range =
        |n: u32| format!("global_defs {{\n vrrp_garp_interval {n}\n}}\n{}", instance("A", 1, ""));
    accepted(&range(0), &range(5000));
    refused_for(&range(1), &range(0), "E0302");
    refused_for(&instance("A", 1, ""), &instance("A", 1, "priorty 100"), "priorty");
    // A different kind of mistake with the same keyword.
    let state = |word: &str| instance("A", 1, &format!("advert_int {word}"));
    refused_for(&state("0"), &state("often"), "often");
}

#[test]
fn an_ignored_option_is_known_by_itself_whatever_its_line() {
    let list = |vrid: u8, list: &str, line: &str| {
        instance("A", vrid, &format!("{list} {{\n  {line}\n }}"))
    };
    for (keyword, object, another) in [
        ("virtual_ipaddress_excluded", "10.0.0.1/24", "10.0.0.2/25"),
        ("virtual_rules", "from 10.0.0.1 table 5", "from 10.0.0.2 table 6"),
        ("track_interface", "eth1", "eth2"),
        ("unicast_peer", "10.0.0.1", "10.0.0.2"),
    ] {
        let before = list(1, keyword, &format!("{object} bogus"));
        accepted(&before, &list(2, keyword, &format!("{another} bogus")));
        refused_for(&before, &list(1, keyword, &format!("{object} false")), "false");
        let clean = list(1, keyword, object);
        assert!(refused(&clean, &before).iter().any(|line| line.contains("bogus")), "{keyword}");
    }
}

#[test]
fn what_is_left_out_is_known_by_its_identity() {
    let with =
        |lines: &str| instance("A", 1, &format!("virtual_ipaddress_excluded {{\n{lines}\n}}"));
    accepted(&with("10.0.0.300"), &with("10.0.0.7\n 10.0.0.300"));
    refused_for(&with("10.0.0.300"), &with("10.0.0.300\n10.0.0.301"), "10.0.0.301");
    // The same wrong address in another instance is a new loss.
    let second = instance("B", 2, "virtual_ipaddress_excluded {\n10.0.0.300\n}");
    refused_for(&with("10.0.0.300"), &format!("{}{second}", with("10.0.0.300")), "10.0.0.300");
    // Whole instances, servers and groups.
    let lost = |name: &str| format!("vrrp_instance {name} {{\n interface eth0\n}}\n");
    let (a, b) = (instance("A", 1, ""), lost("B"));
    accepted(&format!("{a}{b}"), &format!("{b}\n{a}"));
    refused_for(&format!("{a}{b}"), &format!("{a}{b}{}", lost("C")), "(C)");
    let twice = |name: &str| instance(name, 1, "");
    accepted(&format!("{a}{}", twice("B")), &format!("\n{a}{}", twice("B")));
    refused_for(&format!("{a}{}", twice("B")), &format!("{a}{}{}", twice("B"), twice("C")), "C");
    let group = |name: &str| format!("vrrp_sync_group {name} {{\n group {{\n  nobody\n }}\n}}\n");
    accepted(&format!("{a}{}", group("G")), &format!("{}{a}", group("G")));
    let found = refused(&format!("{a}{}", group("G")), &format!("{a}{}{}", group("G"), group("H")));
    assert!(!found.is_empty() && found.iter().all(|line| line.contains('H')), "{found:?}");
    let server = |line: &str| {
        format!(
            "virtual_server 10.0.0.1 80 {{\n lb_algo rr\n real_server 10.1.0.1 80 {{\n }}\n {line} {{\n }}\n}}\n"
        )
    };
    accepted(&server("real_server 10.1.0.400 80"), &server(" real_server 10.1.0.400  80"));
    refused_for(
        &server("real_server 10.1.0.400 80"),
        &server("real_server 10.1.0.401 80"),
        "10.1.0.401",
    );
}

#[test]
fn references_and_structure() {
    let track = |script: &str| instance("A", 1, &format!("track_script {{\n {script}\n}}"));
    accepted(&track("gone"), &format!("\n{}", track("gone")));
    refused_for(&track("gone"), &track("other"), "other");
    let repeated = |name: &str| format!("~SEQ({name}, 1, 2, 3, 4, 5)\n{}", instance("A", 1, ""));
    accepted(&repeated("N"), &format!("\n{}", repeated("N")));
    refused_for(&instance("A", 1, ""), &repeated("N"), "E0205");
    // A truncated file.
    let whole = instance("A", 1, "");
    refused_for(&whole, whole.trim_end().strip_suffix('}').unwrap(), "E0105");
}

#[test]
fn two_readings_agree_on_every_example() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/diagnostics");
    let mut errors = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "conf") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        errors += read(&text).diagnostics.errors();
        assert_eq!(refused(&text, &text), Vec::<String>::new(), "{}", path.display());
        // The line does not matter either. A byte order mark is one at the beginning only.
        if text.starts_with('\u{feff}') {
            continue;
        }
        let moved = format!("# a comment\n\n{text}");
        assert_eq!(refused(&text, &moved), Vec::<String>::new(), "{}, moved", path.display());
    }
    assert!(errors > 40, "{errors}");
}

#[test]
fn the_letter_of_a_code_says_what_it_stops() {
    for code in evervip::config::codes::ALL {
        let loaded = super::diagnostics::run(code);
        for d in loaded.diagnostics.iter() {
            let (id, line) = (d.id(), loaded.diagnostics.log_line(d));
            let wanted = match d.stops() {
                Stops::Start => "F",
                Stops::Reload => "E",
                Stops::Nothing => "WLN",
            };
            assert!(wanted.contains(&id[..1]), "{line}");
            assert!(line.ends_with(&format!("[{id}]")), "{line}");
            assert_eq!(evervip::config::codes::find(&id), Some(d.code));
        }
    }
    // The same kind of problem stops different things: nothing, a reload, the start.
    let of = |text: &str| read(text).diagnostics.iter().map(|d| d.id()).collect::<Vec<_>>();
    let group = |members: &str| {
        format!("{}vrrp_sync_group G {{\n group {{\n{members}\n }}\n}}\n", instance("A", 1, ""))
    };
    assert_eq!(of(&group("A")), ["W0405"]);
    assert!(of(&group("B")).contains(&"E0405".to_owned()));
    assert_eq!(of("global_defs {\n vrrp_garp_interval\n router_id\n}\n"), ["F0107", "E0107"]);
}

#[test]
fn a_sync_group_without_its_list_is_told_how_to_write_it() {
    let text = format!("vrrp_sync_group G {{\n A\n}}\n{}", instance("A", 1, ""));
    let loaded = read(&text);
    assert!(
        loaded.diagnostics.iter().any(|d| d.help.iter().any(|h| h.contains("group {"))),
        "{text}"
    );
}

#[test]
fn a_reload_does_not_bring_an_interface_that_is_missing() {
    let host = |names: &[&str]| {
        names.iter().fold(StaticHost::default(), |host, name| host.with_interface(name, &[]))
    };
    let read = |text: &str, names: &[&str]| {
        let files = MemoryFiles::single("/k.conf", text.as_bytes());
        let host = host(names);
        load(&files, &host, &Options::new("/k.conf", &host))
    };
    let refused = |before: &str, then: &[&str], after: &str, now: &[&str]| {
        let known = read(before, then).diagnostics.mistake_numbers();
        let after = read(after, now).diagnostics;
        after.new_errors(&known).map(|d| after.log_line(d)).collect::<Vec<_>>()
    };
    let right = instance("A", 1, "");
    let wrong = right.replace("eth0", "eth00");
    let found = refused(&right, &["eth0"], &wrong, &["eth0"]);
    assert!(
        matches!(found.as_slice(), [one] if one.contains("eth00") && one.contains("does not exist")),
        "{found:?}"
    );
    // It was missing before, or has gone since, or another instance is to use it.
    assert_eq!(refused(&wrong, &["eth0"], &wrong, &["eth0"]), Vec::<String>::new());
    assert_eq!(refused(&right, &["eth0"], &right, &[]), Vec::<String>::new());
    let two = format!("{right}{}", instance("B", 2, ""));
    assert_eq!(refused(&right, &["eth0"], &two, &[]).len(), 1);
    // The user says that interfaces come later.
    let dynamic = format!("global_defs {{\n dynamic_interfaces\n}}\n{wrong}");
    assert_eq!(refused(&right, &["eth0"], &dynamic, &["eth0"]), Vec::<String>::new());
}
