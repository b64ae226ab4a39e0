//! Unicast instances, from the words of a configuration to the model.

use evervip::base::Prefix;
use evervip::config::{Loaded, MemoryFiles, Options, StaticHost, load};

/// An instance that names no interface, on a host with these.
fn read(source: &str, interfaces: &[(&str, &str)]) -> Loaded {
    let text = format!(
        "global_defs {{\n default_interface eth7\n}}\nvrrp_instance V {{\n virtual_router_id 5\n \
         unicast_src_ip {source}\n unicast_peer {{\n  10.0.0.3\n }}\n virtual_ipaddress {{\n  \
         192.0.2.1/24\n  192.0.2.2/24 dev eth1\n }}\n}}\n"
    );
    let mut host = StaticHost::default();
    for (name, address) in interfaces {
        let prefix = Prefix::new(address.parse().unwrap(), 24).unwrap();
        host = host.with_interface(name, &[prefix]);
    }
    let files = MemoryFiles::single("a.conf", text.as_bytes());
    load(&files, &host, &Options::new("a.conf", &host))
}

#[test]
fn an_instance_without_an_interface_speaks_where_its_source_address_is() {
    let all = [("eth0", "10.1.0.2"), ("eth1", "10.0.0.2"), ("eth7", "192.0.2.9")];
    for (source, interface, told) in [("10.0.0.2", "eth1", false), ("10.9.0.2", "eth7", true)] {
        let loaded = read(source, &all);
        let instance = loaded.model.vrrp.instances.first().expect("an instance");
        assert_eq!(instance.interface.as_str(), interface);
        // Its addresses are on the default interface, or on the one that they name.
        let on: Vec<&str> = instance.addresses.iter().map(|a| a.interface.as_str()).collect();
        assert_eq!(on, ["eth7", "eth1"]);
        let said = loaded
            .diagnostics
            .iter()
            .any(|d| d.message.contains("no interface has the source address 10.9.0.2"));
        assert_eq!(said, told, "{source}");
    }
}
