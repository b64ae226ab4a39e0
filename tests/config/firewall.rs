//! Strict mode and dropped packets, from the configuration to the model.

use core::time::Duration;

use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};
use evervip::model::vrrp::{Authentication, InitialState, Preempt, Version};
use evervip::model::{FilterSettings, Instance};

fn read(global: &str, lines: &str, addresses: &str) -> Loaded {
    let text = format!(
        "global_defs {{\n{global}\n}}\nvrrp_instance V {{\n interface eth0\n virtual_router_id 5\n{lines}\n \
         virtual_ipaddress {{\n{addresses}\n }}\n}}\n"
    );
    let host = StaticHost::default().with_all_interfaces();
    let files = MemoryFiles::single("a.conf", text.as_bytes());
    load(&files, &host, &Options::new("a.conf", &host))
}

fn instance(global: &str, lines: &str) -> Instance {
    let loaded = read(global, lines, "10.0.0.9/24");
    loaded.model.vrrp.instances.first().cloned().expect("an instance")
}

fn strict(lines: &str) -> Instance {
    instance(" vrrp_strict", lines)
}

#[test]
fn who_accepts_packets_for_the_addresses() {
    for (global, lines, closed) in [
        ("", "", false),
        ("", " accept", false),
        ("", " no_accept", true),
        ("", " no_accept\n accept", false),
        ("", " accept\n no_accept", true),
        ("", " no_accept\n priority 255\n state MASTER", false),
        (" vrrp_strict", "", true),
        (" vrrp_strict", " accept", true),
        (" vrrp_strict", " accept\n version 3", false),
        (" vrrp_strict", " no_accept\n version 3", true),
        (" vrrp_strict", " strict_mode off", false),
        (" vrrp_strict", " priority 255\n state MASTER", false),
        ("", " strict_mode", true),
    ] {
        assert_eq!(instance(global, lines).is_closed(), closed, "{global:?} {lines:?}");
    }
}

#[test]
fn strict_mode_forces_what_the_rfcs_say() {
    let loose = |lines: &str| instance("", lines);
    // Each compared with the result without strict mode, so that the mode makes the difference.
    let state = " state MASTER\n priority 100";
    assert_eq!(loose(state).state, InitialState::Master);
    assert_eq!(strict(state).state, InitialState::Backup);
    assert_eq!(strict(" state BACKUP\n priority 255").state, InitialState::Master);
    let pass = " authentication {\n auth_type PASS\n auth_pass 1234\n }";
    assert!(matches!(loose(pass).authentication, Authentication::Pass(_)));
    assert!(matches!(strict(pass).authentication, Authentication::None));
    let ah = pass.replace("PASS", "AH");
    assert!(loose(&ah).ah_key().is_some() && strict(&ah).ah_key().is_none());
    let delay = " preempt_delay 7";
    assert_eq!(loose(delay).preempt, Preempt::After(Duration::from_secs(7)));
    assert_eq!(strict(delay).preempt, Preempt::After(Duration::ZERO));
    let down = " down_timer_adverts 5";
    assert_eq!((loose(down).down_timer_adverts, strict(down).down_timer_adverts), (5, 3));
    let garp = " garp_lower_prio_repeat 4\n garp_lower_prio_delay 6";
    assert_eq!(loose(garp).garp.lower_prio_repeat, 4);
    let forced = strict(garp).garp;
    assert_eq!((forced.lower_prio_repeat, forced.lower_prio_delay), (0, Duration::ZERO));
    let adverts = " lower_prio_no_advert off\n higher_prio_send_advert";
    let of = |i: &Instance| (i.lower_prio_no_advert, i.higher_prio_send_advert);
    assert_eq!(of(&loose(adverts)), (false, true));
    assert_eq!(of(&strict(adverts)), (true, false));
    let owner = " priority 255\n state MASTER";
    assert!(!loose(owner).owner_ignore_adverts && strict(owner).owner_ignore_adverts);
    assert!(strict(" unicast_peer {\n 10.0.0.3\n }").unicast().is_some());
}

#[test]
fn strict_mode_and_versions_and_addresses() {
    let v6 = |global: &str| {
        let loaded = read(global, " version 2", "fe80::9/64");
        loaded.model.vrrp.instances[0].version
    };
    assert_eq!((v6(""), v6(" vrrp_strict")), (Version::V2, Version::V3));
    let none = |global: &str| {
        let loaded = read(global, " no_virtual_ipaddress", "");
        loaded.model.vrrp.instances.len()
    };
    assert_eq!((none(""), none(" vrrp_strict")), (1, 0));
    let said = |lines: &str| -> Vec<String> {
        let loaded = read(" vrrp_strict", lines, "10.0.0.9/24");
        loaded.diagnostics.iter().map(|d| d.message.clone()).collect()
    };
    let peers = said(" unicast_peer {\n 10.0.0.3\n }");
    assert!(peers.iter().any(|m| m.contains("does not provide for unicast")), "{peers:?}");
    assert!(said("").iter().all(|m| !m.contains("unicast")));
}

#[test]
fn tables_are_made_as_the_keywords_say() {
    let of = |global: &str| read(global, " no_accept", "10.0.0.9/24").model.vrrp.filters;
    let default = FilterSettings::default();
    assert_eq!(of(""), default);
    assert_eq!(of(" nftables"), default);
    assert_eq!(of(" nftables mine"), FilterSettings { table: "mine".into(), ..default.clone() });
    assert_eq!(of(" nftables_priority -7"), FilterSettings { priority: -7, ..default.clone() });
    assert_eq!(of(" nftables_ifindex"), FilterSettings { by_index: true, ..default.clone() });
    assert_eq!(of(" nftables_counters"), FilterSettings { counters: true, ..default.clone() });
    // The settings of iptables are implemented by our table: with one chain only incoming packets
    // are dropped.
    assert_eq!(of(" vrrp_iptables"), default);
    assert_eq!(of(" vrrp_iptables IN OUT\n vrrp_ipsets a b c"), default);
    assert_eq!(of(" vrrp_iptables IN"), FilterSettings { output: false, ..default.clone() });
    assert_eq!(of(" vrrp_iptables IN\n nftables"), default);
}
