//! Configurations to start from, for tests and the simulator.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::link::virtual_mac;
use super::route::{Route, RouteMode, Rule, RuleAction};
use super::service::Protocol;
use super::vrrp::{Authentication, Garp, InitialState, Instance, Preempt, Priority, Version, Vrid};
use super::{
    Address, Checker, CheckerKind, Command, Connection, Forward, LinkKind, Lvs, NotifyCommands,
    RealServer, Script, Service, ServiceKey, SyncGroup, TrackedScript, VirtualLink, Vrrp, Weight,
};
use crate::base::{Family, IfName, Name, Prefix, Secret};

/// Gives an instance `use_vmac`, with the name derived from its router id.
///
/// # Panics
/// Never: the name is one of an interface.
#[allow(clippy::expect_used, reason = "a short name")]
pub fn vmac(instance: &mut Instance) {
    let (family, vrid) = (instance.family, instance.vrid);
    let link = VirtualLink {
        name: format!("vrrp.{vrid}").parse().expect("the name of an interface"),
        parent: instance.interface.clone(),
        kind: LinkKind::Macvlan { mac: virtual_mac(family, vrid) },
        group: None,
        notify: false,
        family,
        carries_v6: family == Family::V6,
    };
    for address in &mut instance.addresses {
        if address.interface == instance.interface {
            address.interface = link.name.clone();
        }
    }
    instance.extras.get_or_insert_default().own_link = Some(link);
}

/// An instance as created by a `vrrp_instance` with only these settings.
///
/// # Panics
/// If an argument is out of range: this is for tests.
#[must_use]
#[allow(clippy::expect_used, reason = "arguments are literals of tests")]
pub fn instance(name: &str, interface: &str, vrid: u8, priority: u8, vips: &[&str]) -> Instance {
    let interface: IfName = interface.parse().expect("an interface name");
    let addresses: Vec<Address> = vips.iter().map(|vip| address(vip, &interface)).collect();
    let family = addresses.first().map_or(Family::V4, |a| a.prefix.family());
    let notify = NotifyCommands { any: Some(command("/notify")), ..NotifyCommands::default() };
    Instance {
        name: Name::from(name),
        interface,
        vrid: Vrid::new(vrid).expect("a VRID"),
        family,
        version: if family == Family::V4 { Version::V2 } else { Version::V3 },
        state: InitialState::Backup,
        priority: Priority::new(priority).expect("a priority"),
        advert_int: Duration::from_secs(1),
        down_timer_adverts: 3,
        authentication: match family {
            Family::V4 => Authentication::Pass(Secret::new(*b"1066\0\0\0\0")),
            Family::V6 => Authentication::None,
        },
        source: None,
        destination: match family {
            Family::V4 => IpAddr::V4(crate::base::net::VRRP_GROUP_V4),
            Family::V6 => IpAddr::V6(crate::base::net::VRRP_GROUP_V6),
        },
        addresses,
        excluded: Vec::new(),
        preempt: Preempt::After(Duration::ZERO),
        dont_track_primary: false,
        track_interfaces: Vec::new(),
        track_scripts: Vec::new(),
        garp: Garp::default(),
        lower_prio_no_advert: false,
        higher_prio_send_advert: false,
        skip_check_adv_addr: false,
        owner_ignore_adverts: false,
        v3_checksum_as_v2: false,
        notify,
        notify_deleted: false,
        smtp_alert: true,
        extras: None,
    }
}

/// An address with its prefix length on an interface.
///
/// # Panics
/// If the text is not an address with a prefix length.
#[must_use]
#[allow(clippy::expect_used, reason = "arguments are literals of tests")]
pub fn address(text: &str, interface: &IfName) -> Address {
    let (address, length) = text.split_once('/').expect("ADDRESS/LENGTH");
    let prefix =
        Prefix::new(address.parse().expect("an address"), length.parse().expect("a prefix length"));
    Address::new(prefix.expect("a prefix that fits"), interface.clone())
}

/// A program without arguments.
#[must_use]
pub fn command(path: &str) -> Command {
    Command { words: vec![path.as_bytes().into()], through_shell: false, user: None }
}

/// A tracking script that runs every second.
#[must_use]
pub fn script(name: &str, rise: u32, fall: u32) -> Script {
    Script {
        name: Name::from(name),
        command: command(&format!("/{name}")),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise,
        fall,
        init_fail: false,
    }
}

/// Makes an instance track a script.
pub fn track(instance: &mut Instance, script: &str, weight: i16) {
    instance
        .track_scripts
        .push(TrackedScript { script: Name::from(script), weight: Weight::new(weight, false) });
}

/// A sync group of these members.
#[must_use]
pub fn group(name: &str, members: &[&str]) -> SyncGroup {
    SyncGroup {
        name: Name::from(name),
        members: members.iter().map(|m| Name::from(*m)).collect(),
        notify: NotifyCommands { any: Some(command("/notify")), ..NotifyCommands::default() },
        ..SyncGroup::default()
    }
}

/// The `failover` scenario: one instance on one segment.
#[must_use]
pub fn failover(priority: u8) -> Vrrp {
    Vrrp {
        instances: vec![instance("VRRP1", "enp0s8", 41, priority, &["10.0.2.100/24"])],
        ..Vrrp::default()
    }
}

/// The VRRP part of the `nat` scenario: two instances on two segments in one group.
#[must_use]
pub fn nat(priority: u8) -> Vrrp {
    Vrrp {
        instances: vec![
            instance("external", "enp0s8", 91, priority, &["10.0.2.1/24"]),
            instance("internal", "enp0s9", 92, priority, &["10.0.3.100/24"]),
        ],
        groups: vec![group("VRRP1", &["external", "internal"])],
        ..Vrrp::default()
    }
}

/// The virtual server of the `nat` scenario: two real servers, each with a `TCP_CHECK` every ten seconds.
#[must_use]
pub fn balanced() -> Lvs {
    let endpoint = SocketAddr::from(([192, 168, 1, 1], 80));
    let key = ServiceKey::Address { protocol: Protocol::Tcp, endpoint };
    let servers = [71, 72].map(|last| real_server([10, 0, 0, last].into(), 80)).into();
    Lvs { services: vec![service(key, servers).into()], ..Lvs::default() }
}

/// A service with these servers, as created by a `virtual_server` with only a scheduler.
#[must_use]
pub fn service(key: ServiceKey, servers: Vec<RealServer>) -> Service {
    Service {
        key,
        scheduler: Name::from("rr"),
        flags: 0,
        persistence: None,
        quorum: 1,
        hysteresis: 0,
        quorum_up: None,
        quorum_down: None,
        sorry_server: None,
        omega: false,
        smtp_alert: false,
        notify_fifo: false,
        servers,
        extras: None,
    }
}

/// A server behind NAT with a `TCP_CHECK` every ten seconds and one retry.
#[must_use]
pub fn real_server(address: IpAddr, port: u16) -> RealServer {
    let connection = Connection {
        to: SocketAddr::new(address, port),
        from: None,
        interface: None,
        timeout: Duration::from_secs(5),
        mark: 0,
    };
    RealServer {
        address,
        port,
        forward: Forward::Nat,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        inhibit_on_failure: false,
        notify_up: Some(command("/up")),
        notify_down: Some(command("/down")),
        smtp_alert: true,
        checkers: vec![Checker {
            kind: CheckerKind::Tcp(connection),
            delay_loop: Duration::from_secs(10),
            retry: 1,
            delay_before_retry: Duration::from_secs(1),
            warmup: Duration::from_secs(10),
            alpha: false,
            log_all_failures: false,
        }],
        extras: None,
    }
}

/// A route of the main table as created by `virtual_routes`.
#[must_use]
pub fn route(destination: Prefix, gateway: Option<IpAddr>, interface: Option<IfName>) -> Route {
    Route {
        family: destination.family(),
        kind: 1,
        destination,
        from: None,
        source: None,
        gateway,
        interface,
        table: 254,
        tos: 0,
        scope: 0,
        protocol: 18,
        metric: None,
        onlink: false,
        encap: None,
        expires: None,
        metrics: Vec::new(),
        congestion: None,
        realms: None,
        preference: None,
        ttl_propagate: None,
        mode: RouteMode::default(),
        nexthops: Vec::new(),
        vrf: None,
        no_track: false,
    }
}

/// A rule with this preference that makes all packets of a family use a table.
#[must_use]
pub fn rule(family: Family, preference: u32, table: u32) -> Rule {
    Rule {
        family,
        preference,
        invert: false,
        from: None,
        to: None,
        input: None,
        output: None,
        tos: None,
        mark: None,
        tunnel: None,
        users: None,
        ip_protocol: None,
        source_ports: None,
        destination_ports: None,
        action: RuleAction::Table {
            table,
            realms: None,
            suppress_length: None,
            suppress_group: None,
        },
        protocol: 18,
        no_track: false,
    }
}

/// Where a check of the first web server connects to, on this port, with the usual settings.
#[must_use]
pub fn connection(port: u16) -> Connection {
    Connection {
        to: ([10, 0, 0, 71], port).into(),
        from: None,
        interface: None,
        timeout: Duration::from_secs(5),
        mark: 0,
    }
}
