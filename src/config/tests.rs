use super::*;
use crate::base::Family;
use crate::model::Weight;
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
        "(/etc/k.conf: Line 2) Unknown keyword 'routr_id' [E0101]"
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
