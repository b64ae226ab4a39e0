//! `evervip check --peer`: what is found in the files of two routers, and whether both would hold an address. The verdict
//! is compared with what the engines do on two simulated hosts.

use core::time::Duration;

use evervip::config::{Loaded, MemoryFiles, Options, Peer, StaticHost, Style, load};
use evervip::model::Vrrp;
use evervip::sim::World;

const VIP: &str = "10.0.0.9/32";
const KEY: &str = "0123456789abcdef0123456789abcdee";
const OTHER_KEY: &str = "0123456789abcdef0123456789abcdea";

fn host() -> StaticHost {
    StaticHost::default().with_all_interfaces()
}

fn model(text: &str) -> Vrrp {
    let host = host();
    load(&MemoryFiles::single("b.conf", text.as_bytes()), &host, &Options::new("b.conf", &host))
        .model
        .vrrp
}

fn compare(own: &str, other: &str) -> Loaded {
    let host = host();
    let mut options = Options::new("a.conf", &host);
    options.lints = true;
    options.peer = Some(Peer { file: "b.conf".into(), vrrp: model(other) });
    load(&MemoryFiles::single("a.conf", own.as_bytes()), &host, &options)
}

/// The codes of the comparison with their texts.
fn said(loaded: &Loaded) -> Vec<String> {
    let all = loaded.diagnostics.iter().filter(|d| d.code.id.starts_with("L081"));
    all.map(|d| format!("{} {}", d.code.id, d.message)).collect()
}

/// An instance; the lines replace or follow those of the same keyword.
fn router(priority: u8, lines: &str) -> String {
    format!(
        "vrrp_instance V {{\n interface eth0\n virtual_router_id 5\n priority {priority}\n virtual_ipaddress {{\n  10.0.0.9\n }}\n{lines}\n}}\n"
    )
}

/// Whether both hosts hold the address: at some time in the first second, and after a minute.
fn both_hold(own: &str, other: &str) -> (bool, bool) {
    let mut world = World::new(1);
    let nodes = [own, other].map(|text| world.add(&["eth0"], model(text)));
    nodes.iter().for_each(|node| world.start(*node));
    let both = |world: &World| nodes.iter().all(|node| world.has_address(*node, VIP));
    let at_once = world.run_until(Duration::from_secs(1), both);
    world.run(Duration::from_secs(60));
    (at_once, both(&world))
}

fn auth(kind: &str, pass: &str) -> String {
    format!(" authentication {{\n auth_type {kind}\n auth_pass {pass}\n }}")
}

fn hmac(keys: &[(u8, &str)], active: u8, mode: &str) -> String {
    let keys: String = keys.iter().map(|(id, key)| format!(" key {id} {key}\n")).collect();
    format!(" auth_hmac {{\n{keys} active_key {active}\n mode {mode}\n }}")
}

fn unicast(own: &str, peer: &str, more: &str) -> String {
    format!(" unicast_src_ip {own}\n unicast_peer {{\n  {peer}\n }}\n {more}")
}

#[test]
fn what_makes_both_routers_master_is_found() {
    let (a, b) = ("10.0.2.71", "10.0.2.72");
    let third = |lines: &str| format!(" version 3\n{lines}");
    let pass = auth("PASS", "a");
    let enforce = hmac(&[(1, KEY)], 1, "enforce");
    let permissive = hmac(&[(1, KEY)], 1, "permissive");
    let receive = hmac(&[(1, KEY)], 1, "receive-only");
    let both = hmac(&[(1, KEY), (2, OTHER_KEY)], 2, "enforce");
    // Lines here (priority 150), lines there (priority 100), what is said, and whether both would be master.
    let rows: &[(&str, &str, &[&str], bool)] = &[
        ("", "", &[], false),
        ("", " virtual_router_id 6", &["L0811 (V) virtual_router_id 5 here, 6 in b.conf"], true),
        ("", " advert_int 2", &["L0812 (V) advert_int 1 here, 2 in b.conf"], true),
        (&third(""), &third(" advert_int 2"), &["L0812 (V) advert_int 1 here, 2 in b.conf"], false),
        ("", &third(""), &["L0813 (V) version 2 here, 3 in b.conf"], true),
        // Version 3 has no authentication: only the version counts.
        (&pass, &third(&pass), &["L0813 (V) version 2 here, 3 in b.conf"], true),
        (&pass, &pass, &[], false),
        (&pass, &auth("PASS", "b"), &["L0814 (V) auth_pass is not the same as in b.conf"], true),
        (&pass, "", &["L0814 (V) authentication: auth_type PASS here, none in b.conf"], true),
        (
            &auth("AH", "a"),
            &pass,
            &["L0814 (V) authentication: auth_type AH here, auth_type PASS in b.conf"],
            true,
        ),
        (&auth("AH", "a"), &auth("AH", "a"), &[], false),
        (
            &auth("AH", "a"),
            &auth("AH", "b"),
            &["L0814 (V) auth_pass is not the same as in b.conf"],
            true,
        ),
        (&enforce, &enforce, &[], false),
        (&enforce, "", &["L0814 (V) authentication: auth_hmac here, none in b.conf"], true),
        ("", &enforce, &["L0814 (V) authentication: none here, auth_hmac in b.conf"], true),
        (
            &enforce,
            &hmac(&[(1, OTHER_KEY)], 1, "enforce"),
            &["L0814 (V) auth_hmac: key 1 is not the same as in b.conf"],
            true,
        ),
        // A new key is introduced on one router after the other. Until the old one knows it, its adverts are heard
        // by the better router only.
        (
            &enforce,
            &both,
            &["L0814 (V) auth_hmac: key 2 is active in b.conf, but not defined here"],
            false,
        ),
        (
            &both,
            &enforce,
            &["L0814 (V) auth_hmac: key 2 is active here, but not defined in b.conf"],
            true,
        ),
        // auth_hmac takes the place of the older authentication.
        (&format!("{}\n{enforce}", auth("AH", "a")), &enforce, &[], false),
        (&receive, "", &[], false),
        ("", &receive, &[], false),
        (&receive, &permissive, &[], false),
        (&permissive, &enforce, &[], false),
        (
            &enforce,
            &receive,
            &["L0814 (V) auth_hmac: mode enforce here, receive-only in b.conf"],
            false,
        ),
        (
            &receive,
            &enforce,
            &["L0814 (V) auth_hmac: mode receive-only here, enforce in b.conf"],
            true,
        ),
        (&permissive, "", &["L0814 (V) authentication: auth_hmac here, none in b.conf"], true),
        (
            "",
            " mcast_dst_ip 224.0.0.20",
            &["L0818 (V) adverts go to 224.0.0.18 here, to 224.0.0.20 in b.conf"],
            true,
        ),
        (&unicast(a, b, ""), "", &["L0818 (V) unicast here, multicast in b.conf"], true),
        ("", &unicast(b, a, ""), &["L0818 (V) multicast here, unicast in b.conf"], true),
        (&unicast(a, b, ""), &unicast(b, a, ""), &[], false),
        (
            &unicast(a, "10.0.2.99", ""),
            &unicast(b, a, ""),
            &["L0818 (V) unicast_peer does not list 10.0.2.72, the unicast_src_ip in b.conf"],
            true,
        ),
        (
            &unicast(a, b, ""),
            &unicast(b, "10.0.2.99", ""),
            &["L0818 (V) 10.0.2.71 is not listed in unicast_peer of b.conf"],
            false,
        ),
        (
            &unicast(a, b, ""),
            &unicast(b, "10.0.2.99", "check_unicast_src"),
            &["L0818 (V) 10.0.2.71 is not listed in unicast_peer of b.conf"],
            true,
        ),
        (
            &unicast(a, b, "unicast_ttl 64"),
            &unicast(b, &format!("{a} min_ttl 255"), "check_unicast_src"),
            &["L0818 (V) unicast_ttl 64 here, but min_ttl 255 in b.conf"],
            true,
        ),
        (
            &third(" v3_checksum_as_v2"),
            &third(""),
            &["L0819 (V) v3_checksum_as_v2 is set here, but not in b.conf"],
            true,
        ),
        (
            &third(""),
            &third(" v3_checksum_as_v2"),
            &["L0819 (V) v3_checksum_as_v2 is set only in b.conf"],
            false,
        ),
        (
            &third(&unicast(a, b, "old_unicast_checksum")),
            &third(&unicast(b, a, "old_unicast_checksum never")),
            &["L0819 (V) old_unicast_checksum here, but old_unicast_checksum never in b.conf"],
            true,
        ),
        // The worse master of the two yields in the end.
        (
            "",
            " virtual_ipaddress {\n  10.0.0.10\n }",
            &[
                "L0815 (V) virtual_ipaddress has 1 addresses here, 2 in b.conf: 10.0.0.10/32 only in b.conf",
            ],
            false,
        ),
        (
            " nopreempt",
            " virtual_ipaddress_excluded {\n  10.0.0.10\n }",
            &["L0815 (V) different addresses: 10.0.0.10/32 only in b.conf"],
            false,
        ),
    ];
    for (here, there, expected, certain) in rows {
        let (own, other) = (router(150, here), router(100, there));
        let loaded = compare(&own, &other);
        assert_eq!(said(&loaded), *expected, "{own}{other}");
        assert_eq!(loaded.diagnostics.split_brain(), *certain, "{own}{other}");
        assert_eq!(both_hold(&own, &other).1, *certain, "{own}{other}");
    }
}

#[test]
fn two_owners_of_the_same_addresses() {
    // `state MASTER` without a priority is the usual way to get there.
    let owner = router(255, "").replace(" priority 255\n", " state MASTER\n");
    for other in [&owner, &router(255, "")] {
        let loaded = compare(&owner, other);
        assert_eq!(said(&loaded), ["L0816 (V) priority 255 here and in b.conf"], "{other}");
        assert!(loaded.diagnostics.split_brain());
        assert!(both_hold(&owner, other).0);
    }
    // One owner, and equal priorities of routers that wait for each other, are no split brain.
    assert!(said(&compare(&owner, &router(100, ""))).is_empty());
    let equal = compare(&router(100, ""), &router(100, ""));
    assert_eq!(said(&equal), ["L0816 (V) priority 100 here and in b.conf"]);
    assert!(!equal.diagnostics.split_brain());
    assert_eq!(both_hold(&router(100, ""), &router(100, "")), (false, false));
}

#[test]
fn instances_belong_together_by_their_addresses() {
    let own = router(150, "");
    let peer = router(100, "");
    let named =
        |text: &str, name: &str| text.replace("vrrp_instance V", &format!("vrrp_instance {name}"));
    let id = |text: &str, id: &str| text.replace("router_id 5", &format!("router_id {id}"));
    let at = |text: &str, address: &str| text.replace("10.0.0.9", address);
    let expect = |other: &str, words: &[&str], certain: bool| {
        let loaded = compare(&own, other);
        assert_eq!(said(&loaded), words, "{other}");
        assert_eq!(loaded.diagnostics.split_brain(), certain, "{other}");
        assert_eq!(both_hold(&own, other).1, certain, "{other}");
    };
    // Another name with the same id is the same instance.
    expect(&named(&peer, "W"), &[], false);
    expect(
        &id(&named(&peer, "W"), "6"),
        &["L0811 (V) virtual_router_id 5 here, 6 for W in b.conf"],
        true,
    );
    expect(
        &at(&id(&named(&peer, "W"), "6"), "10.0.0.8"),
        &["L0817 (V) b.conf has no instance of this name, virtual router id or address"],
        false,
    );
    // Two masters without a common address do not compete.
    expect(
        &at(&id(&peer, "6"), "10.0.0.8"),
        &[
            "L0811 (V) virtual_router_id 5 here, 6 in b.conf",
            "L0815 (V) different addresses: 10.0.0.9/32 only here, 10.0.0.8/32 only in b.conf",
        ],
        false,
    );
    expect(
        &at(&peer, "10.0.0.8"),
        &["L0815 (V) different addresses: 10.0.0.9/32 only here, 10.0.0.8/32 only in b.conf"],
        false,
    );
    // The address is in another instance there.
    let swapped = at(&peer, "10.0.0.8") + &id(&named(&peer, "W"), "6");
    expect(
        &swapped,
        &[
            "L0811 (V) 10.0.0.9 is also in W of b.conf, virtual_router_id 6",
            "L0815 (V) different addresses: 10.0.0.9/32 only here, 10.0.0.8/32 only in b.conf",
        ],
        true,
    );
    // A link-local address may be on several links.
    let local = |text: &str, address: &str| {
        at(text, &format!("fe80::1\n  {address}")).replace("eth0", "eth0\n version 3")
    };
    let both = local(&peer, "2001:db8::1") + &local(&id(&named(&peer, "W"), "6"), "2001:db8::2");
    assert!(said(&compare(&local(&own, "2001:db8::1"), &both)).is_empty());
}

#[test]
fn places_are_those_of_the_keywords() {
    let own = router(150, &format!(" advert_int 1\n version 2\n{}", auth("PASS", "a")));
    let line = |code: &str, other: &str| {
        let loaded = compare(&own, other);
        let found = loaded.diagnostics.iter().find(|d| d.code.id == code);
        loaded.diagnostics.location(found.unwrap()).unwrap().1
    };
    let peer = own.replace("priority 150", "priority 100");
    assert_eq!(line("L0811", &peer.replace("router_id 5", "router_id 6")), 3);
    assert_eq!(line("L0812", &peer.replace("advert_int 1", "advert_int 2")), 8);
    assert_eq!(line("L0813", &peer.replace("version 2", "version 3")), 9);
    assert_eq!(line("L0814", &peer.replace("auth_pass a", "auth_pass b")), 10);
    assert_eq!(line("L0815", &peer.replace("10.0.0.9", "10.0.0.8")), 5);
    assert_eq!(line("L0816", &own), 4);
    assert_eq!(line("L0818", &peer.replace("priority", "mcast_dst_ip 224.0.0.20\n priority")), 1);
    let text =
        compare(&own, &peer.replace("version 2", "version 3")).diagnostics.text(Style::Plain);
    assert!(text.contains("each drops the other's adverts: both become master"), "{text}");
}
