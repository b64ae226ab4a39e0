//! The sample configurations that come with the program.

use std::fs;
use std::path::Path;

use evervip::base::Family;
use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};
use evervip::model::service::{Forward, ServiceKey};
use evervip::model::vrrp::InitialState;

fn example(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/examples").join(name);
    let text = fs::read(&path).unwrap();
    let host = StaticHost::default().with_all_interfaces();
    load(&MemoryFiles::single(name, &text), &host, &Options::new(name, &host))
}

#[test]
fn all_examples_load_without_an_error() {
    for scenario in ["failover", "nat", "dr", "fwmark", "haproxy"] {
        for side in ["primary", "backup"] {
            let name = format!("{scenario}-{side}.conf");
            let loaded = example(&name);
            let errors: Vec<_> = loaded.diagnostics.log_lines().collect();
            assert_eq!(loaded.diagnostics.errors(), 0, "{name}: {errors:?}");
            let instance = &loaded.model.vrrp.instances[0];
            let (priority, state) = match side {
                "primary" => (200, InitialState::Master),
                _ => (100, InitialState::Backup),
            };
            assert_eq!(instance.priority.get(), priority, "{name}");
            assert_eq!(instance.family, Family::V4);
            if scenario != "nat" {
                assert_eq!(instance.state, state, "{name}");
            }
            let mail = loaded.model.global.mail.as_ref().unwrap();
            assert_eq!(&*mail.server, "localhost");
        }
    }
}

#[test]
fn the_nat_example_has_a_group_and_a_service() {
    let model = example("nat-primary.conf").model;
    let members: Vec<&str> = model.vrrp.groups[0].members.iter().map(|m| m.as_str()).collect();
    assert_eq!(members, ["external", "internal"]);
    let service = &model.lvs.services[0];
    assert_eq!(service.key.to_string(), "[192.168.1.1]:tcp:80");
    assert_eq!(service.scheduler.as_str(), "rr");
    assert_eq!(service.persistence.as_ref().unwrap().timeout, 7200);
    assert_eq!(service.servers.len(), 2);
    assert_eq!(service.servers[0].forward, Forward::Nat);
    assert_eq!(service.servers[0].checkers.len(), 1);
}

#[test]
fn the_mark_example_has_servers_without_ports() {
    let model = example("fwmark-primary.conf").model;
    let service = &model.lvs.services[0];
    assert_eq!(service.key, ServiceKey::Mark { mark: 123, family: Family::V4 });
    assert_eq!(service.servers[0].port, 0);
}
