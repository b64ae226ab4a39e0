//! Virtual routes from the file to the kernel's tables: the same as keepalived's for the same file, restored when
//! another program removes them, removed at a stop, and not affected by foreign routes.

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Daemon, Program, Role, signal_to};
use crate::lab::kernel::{self, routes};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res, Stop};
use crate::scenario::LAN;
use crate::{cases, check};

cases![Here:
    routes_are_those_of_keepalived,
    routes_over_ipv6_are_those_of_keepalived,
    routes_with_tunnels_are_those_of_keepalived,
    each_way_of_a_route_has_its_own_tunnel,
    routes_stay_when_the_first_address_of_their_subnet_goes,
    routes_stay_where_the_kernel_promotes_secondary_addresses,
    a_route_that_goes_with_the_addresses_comes_back,
    a_route_without_an_interface_that_others_remove_comes_back,
    many_routes_of_others_do_not_wake_the_daemon,
];

/// Each with the prefix by which it is found, and its table.
const ROUTES: &[(&str, &str)] = &[
    ("10.1.0.0/24 via 10.0.0.1 dev enp0s8", "10.1.0.0/24"),
    ("10.1.1.0/24 via 10.0.0.1", "10.1.1.0/24"),
    ("to 10.1.2.0/24 dev enp0s8 scope link", "10.1.2.0/24"),
    ("10.1.3.0/24 via 10.0.0.1 dev enp0s8 src 10.0.0.100 metric 20 mtu 1400", "10.1.3.0/24"),
    ("10.1.4.0/24 via 10.0.0.1 mtu lock 1300 advmss 1200 hoplimit 33 window 5000", "10.1.4.0/24"),
    ("blackhole 10.1.5.0/24", "blackhole 10.1.5.0/24"),
    ("unreachable 10.1.6.0/24", "unreachable 10.1.6.0/24"),
    ("prohibit 10.1.7.0/24 table 200", "prohibit 10.1.7.0/24 table 200"),
    ("throw 10.1.8.0/24 table 201", "throw 10.1.8.0/24 table 201"),
    ("10.1.9.0/24 dev enp0s8 table 1000 scope link", "10.1.9.0/24 table 1000"),
    ("default via 10.0.0.1", "default"),
    ("0.0.0.0/0 via 10.0.0.1 table 102", "default table 102"),
    ("10.1.10.0/24 via 192.0.2.1 dev enp0s8 onlink", "10.1.10.0/24"),
    (
        "10.1.11.0/24 nexthop via 10.0.0.1 dev enp0s8 weight 2 nexthop via 10.0.0.2 dev enp0s8 weight 3",
        "10.1.11.0/24",
    ),
    ("10.1.12.0/24 via 10.0.0.1 tos 4", "10.1.12.0/24 tos 4"),
    ("10.1.13.0/24 via 10.0.0.1 rto_min 300ms reordering 5", "10.1.13.0/24"),
    (
        "10.1.14.0/24 via 10.0.0.1 initcwnd 20 initrwnd 30 quickack 1 congctl reno features ecn",
        "10.1.14.0/24",
    ),
    ("local 10.1.15.1/32 dev lo scope host table 103", "local 10.1.15.1 table 103"),
    ("10.1.16.1 via 10.0.0.1 protocol static", "10.1.16.1"),
    ("10.1.18.0/24 nexthop via 10.0.0.1 nexthop via 192.0.2.9 dev enp0s8 onlink", "10.1.18.0/24"),
    ("10.1.19.0/24 via 10.0.0.1 metric 5", "10.1.19.0/24 metric 5"),
    ("10.1.19.0/24 via 10.0.0.2 metric 6", "10.1.19.0/24 metric 6"),
    ("10.1.20.0/24 via 10.0.0.1 dev enp0s8 no_track", "10.1.20.0/24"),
];

const ROUTES_V6: &[(&str, &str)] = &[
    ("2001:db8:1::/48 via fe80::1 dev enp0s8", "2001:db8:1::/48"),
    ("2001:db8:2::/48 via fe80::1 dev enp0s8 metric 50 mtu 1400", "2001:db8:2::/48"),
    ("2001:db8:3::/48 dev enp0s8", "2001:db8:3::/48"),
    (
        "2001:db8:4::/48 nexthop via fe80::1 dev enp0s8 weight 2 nexthop via fe80::2 dev enp0s8",
        "2001:db8:4::/48",
    ),
    ("blackhole 2001:db8:5::/48 dev lo", "blackhole 2001:db8:5::/48"),
    ("unreachable 2001:db8:6::/48 dev lo table 210", "unreachable 2001:db8:6::/48 table 210"),
    ("2001:db8:7::/48 via fe80::1 dev enp0s8 pref high", "2001:db8:7::/48"),
    ("2001:db8:8::/48 via fe80::1 dev enp0s8 src 2001:db8::71", "2001:db8:8::/48"),
    ("2001:db8:9::/48 via 2001:db8::1", "2001:db8:9::/48"),
    (
        "2001:db8:a::/48 from 2001:db8:99::/64 via fe80::1 dev enp0s8",
        "2001:db8:a::/48 from 2001:db8:99::/64",
    ),
    ("2001:db8:b::/48 via fe80::1 dev enp0s8 expires 600", "2001:db8:b::/48"),
    ("default via fe80::1 dev enp0s8 table 211 metric 7", "default table 211"),
    ("2001:db8:c::5 via fe80::1 dev enp0s8 hoplimit 9 advmss 1220", "2001:db8:c::5"),
    ("2001:db8:d::/48 via 2001:db8:ff::1 dev enp0s8 onlink", "2001:db8:d::/48"),
];

const TUNNELS: &[(&str, &str)] = &[
    ("10.1.30.0/24 encap ip id 5 dst 192.0.2.1 tos 4 ttl 9 dev enp0s8 scope link", "10.1.30.0/24"),
    (
        "10.1.31.0/24 encap ip id 6 dst 192.0.2.1 src 192.0.2.2 via 10.0.0.1 dev enp0s8",
        "10.1.31.0/24",
    ),
    (
        "10.1.32.0/24 encap ip6 id 7 dst 2001:db8::1 hoplimit 9 via 10.0.0.1 dev enp0s8",
        "10.1.32.0/24",
    ),
];

fn routes_are_those_of_keepalived(lab: &mut Lab) -> Res {
    compare(lab, ROUTES)
}

fn routes_over_ipv6_are_those_of_keepalived(lab: &mut Lab) -> Res {
    compare(lab, ROUTES_V6)
}

fn routes_with_tunnels_are_those_of_keepalived(lab: &mut Lab) -> Res {
    needs(lab, "10.9.9.0/24 encap ip id 5 dst 192.0.2.1 dev lo", "tunnels of routes (LWTUNNEL)")?;
    compare(lab, TUNNELS)
}

fn each_way_of_a_route_has_its_own_tunnel(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it ignores the encapsulation of nexthops")?;
    needs(lab, "10.9.9.0/24 encap ip id 5 dst 192.0.2.1 dev lo", "tunnels of routes (LWTUNNEL)")?;
    let ways = "nexthop via 10.0.0.1 dev enp0s8 encap ip id 8 dst 192.0.2.3 \
                nexthop via 10.0.0.2 dev enp0s8 encap ip6 id 9 dst 2001:db8::1 weight 2";
    // It doubles these times as well.
    let times = "10.1.34.0/24 via 10.0.0.1 rtt 100ms rttvar 50ms";
    let text = configuration(&format!("  10.1.33.0/24 {ways}\n  {times}\n"));
    let (node, daemon, before) = begin(lab, "our", &lab.subject.clone(), &text)?;
    let shown = "nexthop encap ip id 8 src 0.0.0.0 dst 192.0.2.3 ttl 0 tos 0 via 10.0.0.1 dev enp0s8 weight 1 \
                 nexthop encap ip6 id 9 src :: dst 2001:db8::1 hoplimit 0 tc 0 via 10.0.0.2 dev enp0s8 weight 2";
    let mut wanted = before.clone();
    let route = "via 10.0.0.1 dev enp0s8 table main proto keepalived scope global";
    wanted.push(format!("unicast 10.1.34.0/24 {route} rtt 100ms rttvar 50ms"));
    wanted.push(format!("unicast 10.1.33.0/24 table main proto keepalived scope global {shown}"));
    wanted.sort();
    same(lab, &node, &wanted)?;
    check!(daemon.stop()?, "the exit status is not zero");
    same(lab, &node, &before)
}

/// The kernel removes routes with the last address of their network, and sends no event about them.
fn a_route_that_goes_with_the_addresses_comes_back(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it leaves them away until a reload")?;
    let node = machine(lab, "our")?;
    let fixed = "static_routes {\n 10.1.40.0/24 via 10.0.0.1 dev enp0s8\n}\n";
    let text = fixed.to_owned() + &configuration("  10.1.41.0/24 via 10.0.0.1 dev enp0s8\n");
    node.write(CONF, &text, 0o644)?;
    let daemon = lab.subject.start(&node)?;
    let all = |what: &str| {
        lab.timeline().poll(LIMIT, what, || {
            let shown = node.must(["ip", "route"])?;
            let there = ["10.1.40.0/24", "10.1.41.0/24"].iter().all(|r| shown.contains(*r));
            Ok(there.then_some(()))
        })
    };
    all("the routes")?;
    // The instance loses its source address, and becomes master again with the new one.
    node.ip("addr flush dev enp0s8\naddr add 10.0.0.71/24 dev enp0s8\n")?;
    let left = node.must(["ip", "route"])?;
    check!(!left.contains("10.1.40.0/24"), "the kernel keeps it: {left}");
    all("the routes again")?;
    check!(daemon.stop()?, "the exit status is not zero");
    Ok(())
}

/// The kernel chose its interface, which does not make it another route.
fn a_route_without_an_interface_that_others_remove_comes_back(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it leaves it away")?;
    let text = configuration("  10.1.42.0/24 via 10.0.0.1\n  blackhole 10.1.43.0/24\n");
    let subject = lab.subject.clone();
    let (node, daemon, before) = begin(lab, "our", &subject, &text)?;
    let both = ["10.1.42.0/24", "blackhole 10.1.43.0/24"];
    let wanted = lab.timeline().poll(LIMIT, "both routes are there", || {
        let shown = routes(&node)?;
        let has = |route: &&str| shown.iter().any(|line| line.contains(*route));
        Ok(both.iter().all(has).then_some(shown))
    })?;
    for route in both {
        node.ip(&format!("route del {route}\n"))?;
        same(lab, &node, &wanted)?;
    }
    check!(daemon.stop()?, "the exit status is not zero");
    same(lab, &node, &before)
}

/// Skips the test if the kernel does not support such a route.
fn needs(lab: &mut Lab, route: &str, what: &str) -> Res {
    let node = lab.node("probe")?;
    node.ip(&format!("link set lo up\nroute add {route}\n"))
        .map_err(|_| Stop::Skip(format!("the kernel has no {what}")))
}

/// A machine in a segment of its own, with addresses of both families.
pub fn machine(lab: &mut Lab, name: &str) -> Res<Node> {
    lab.segment(name)?;
    let node = lab.node(name)?;
    lab.plug(&node, name, LAN, &["10.0.0.71/24"])?;
    node.sysctl("net.ipv6.conf.enp0s8.addr_gen_mode", "1")?;
    node.sysctl("net.ipv6.conf.enp0s8.disable_ipv6", "0")?;
    node.ip("addr add fe80::71/64 dev enp0s8 nodad\naddr add 2001:db8::71/64 dev enp0s8 nodad\n\
         link set lo up\n")?;
    Ok(node)
}

fn configuration(routes: &str) -> String {
    format!(
        "vrrp_instance VRRP1 {{\n interface enp0s8\n state MASTER\n priority 200\n \
         virtual_router_id 41\n advert_int 0.2\n version 3\n virtual_ipaddress {{\n  10.0.0.100/24\n }}\n \
         virtual_routes {{\n{routes} }}\n}}\n"
    )
}

/// Starts a program on a machine of its own and waits until it is master; yields the routes from before as well.
fn begin(
    lab: &mut Lab,
    name: &str,
    program: &Program,
    text: &str,
) -> Res<(Node, Daemon, Vec<String>)> {
    let node = machine(lab, name)?;
    let before = routes(&node)?;
    let daemon = kernel::begin(lab, &node, program, text)?;
    Ok((node, daemon, before))
}

/// Runs keepalived and the program under test with these routes: the tables become the same; a route that is removed
/// comes back; nothing is left after a stop.
fn compare(lab: &mut Lab, cases: &[(&str, &str)]) -> Res {
    let keepalived = Program::keepalived()?;
    let lines: String = cases.iter().map(|(line, _)| format!("  {line}\n")).collect();
    let text = configuration(&lines);
    let subject = lab.subject.clone();
    let (theirs, their, _) = begin(lab, "ka", &keepalived, &text)?;
    let (ours, our, before) = begin(lab, "our", &subject, &text)?;
    let mut wanted = Vec::new();
    let waited = lab.timeline().poll(LIMIT, "keepalived has added its routes", || {
        wanted = routes(&theirs)?;
        Ok((wanted.len() >= before.len() + cases.len()).then_some(()))
    });
    waited.map_err(|stop| match stop {
        Stop::Fail(text) => crate::lab::fail(format!("{text}: {wanted:#?}")),
        skip @ Stop::Skip(_) => skip,
    })?;
    same(lab, &ours, &wanted)?;
    their.stop()?;

    lab.note("another program removes those that are tracked: they name an interface");
    let family = if cases.iter().any(|(_, name)| name.contains("::")) { "-6" } else { "-4" };
    let is_tracked = |line: &str| {
        let (own, _) = line.split_once(" nexthop ").unwrap_or((line, ""));
        own.contains(" dev ") && !own.contains("no_track")
    };
    let tracked: Vec<_> = cases.iter().filter(|(line, _)| is_tracked(line)).collect();
    check!(!tracked.is_empty(), "none is tracked");
    for (_, name) in tracked {
        ours.must(["ip", family, "route", "del"].into_iter().chain(name.split(' ')))?;
    }
    same(lab, &ours, &wanted)?;

    lab.note("it stops");
    check!(our.stop()?, "the exit status is not zero");
    same(lab, &ours, &before)
}

/// Waits until the node has these routes.
fn same(lab: &Lab, node: &Node, wanted: &[String]) -> Res {
    kernel::same(lab, &format!("the routes of {}", node.name), wanted, || routes(node))
}

fn routes_stay_when_the_first_address_of_their_subnet_goes(lab: &mut Lab) -> Res {
    dropped(lab, "0")
}

fn routes_stay_where_the_kernel_promotes_secondary_addresses(lab: &mut Lab) -> Res {
    dropped(lab, "1")
}

/// A reload drops the first of two virtual addresses of a subnet; the other is the source of a route.
fn dropped(lab: &mut Lab, promote: &str) -> Res {
    lab.subject.ours_only("it loses the route and the address for a moment")?;
    let route = "  10.1.0.0/24 via 10.2.0.254 dev enp0s8 src 10.2.0.2\n";
    let all = configuration(route).replace("10.0.0.100/24", "10.2.0.1/24\n  10.2.0.2/24");
    let node = machine(lab, "our")?;
    for interface in ["all", LAN] {
        node.sysctl(&format!("net.ipv4.conf.{interface}.promote_secondaries"), promote)?;
    }
    node.write(CONF, &all, 0o644)?;
    let before = routes(&node)?;
    let daemon = lab.subject.start(&node)?;
    let has_route =
        || Ok(routes(&node)?.iter().any(|line| line.contains("10.1.0.0/24")).then_some(()));
    lab.timeline().poll(LIMIT, "the route is there", has_route)?;
    node.write(CONF, &all.replace("10.2.0.1/24\n", ""), 0o644)?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    let later = lab.after(mark);
    later.address(&node, "10.2.0.1", false)?;
    later.some_adverts(&node, 10)?;
    let touched = later.kernel(&node).into_iter().filter(|text| text.contains("10.2.0.2"));
    // A promoted secondary address is reported as new.
    let lost: Vec<String> = touched.filter(|text| text.ends_with("deleted")).collect();
    check!(lost.is_empty(), "{lost:?}");
    let shown = node.must(["ip", "route", "show", "10.1.0.0/24"])?;
    check!(shown.contains("via 10.2.0.254 dev enp0s8 proto keepalived src 10.2.0.2"), "{shown}");
    let value = node.read(format!("/proc/sys/net/ipv4/conf/{LAN}/promote_secondaries"))?;
    check!(value.trim() == promote, "promote_secondaries is {value}");
    check!(daemon.stop()?, "the exit status is not zero");
    same(lab, &node, &before)
}

/// A host with a routing daemon may have a million routes: none of them concerns this daemon.
fn many_routes_of_others_do_not_wake_the_daemon(lab: &mut Lab) -> Res {
    const COUNT: usize = 2_000;
    lab.subject.ours_only("its processes have other names")?;
    let text = configuration("  10.1.0.0/24 via 10.0.0.1 dev enp0s8\n");
    let (node, daemon, _) = begin(lab, "our", &lab.subject.clone(), &text)?;
    lab.timeline().poll(LIMIT, "the route is there", || {
        Ok(routes(&node)?.iter().any(|line| line.contains("10.1.0.0/24")).then_some(()))
    })?;
    // A stopped process does not read: everything that would wake it stays in its queues.
    let process = daemon.role(Role::Vrrp)?;
    daemon.signal(Signal::SIGSTOP)?;
    signal_to(process, Signal::SIGSTOP)?;
    let before = waiting(&node, process)?;
    let add =
        |n| format!("route add 10.{}.{}.0/24 via 10.0.0.2 proto bird\n", 128 + n / 256, n % 256);
    node.ip(&(0..COUNT).map(add).collect::<String>())?;
    let after = waiting(&node, process)?;
    lab.note(format!("{COUNT} routes: {before} octets waited before, {after} after"));
    check!(after < before + COUNT, "{} octets wait for {COUNT} routes", after - before);
    // The test of the test: routes with the mark do wait there.
    node.ip(&(0..50)
        .map(|n| format!("route add 10.99.{n}.0/24 via 10.0.0.2 proto 18\n"))
        .collect::<String>())?;
    let marked = waiting(&node, process)?;
    check!(marked > after + 50, "{after} octets, {marked} after routes with the mark");
    Ok(())
}

/// Octets that wait in the netlink sockets of a process.
fn waiting(node: &Node, process: u32) -> Res<usize> {
    let mut own = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fd"))? {
        let target = std::fs::read_link(entry?.path())?.to_string_lossy().into_owned();
        own.extend(
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .map(str::to_owned),
        );
    }
    let text = node.must(["cat", "/proc/net/netlink"])?;
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours =
        lines.filter(|words| words.last().is_some_and(|inode| own.iter().any(|own| own == inode)));
    Ok(ours.filter_map(|words| words.get(4)?.parse::<usize>().ok()).sum())
}

/// In the guest, whose kernel has features that the machine's may lack.
pub mod guest {
    use super::{compare, needs};
    use crate::cases;
    use crate::lab::{Lab, Res};

    cases![Ipvs: routes_with_labels_are_those_of_keepalived];

    const LABELS: &[(&str, &str)] = &[
        ("10.1.40.0/24 encap mpls 100/200 via 10.0.0.1 dev enp0s8", "10.1.40.0/24"),
        ("10.1.41.0/24 encap mpls 300 via 10.0.0.1 dev enp0s8", "10.1.41.0/24"),
    ];

    fn routes_with_labels_are_those_of_keepalived(lab: &mut Lab) -> Res {
        let route = "10.9.9.0/24 encap mpls 100 via 127.0.0.1 dev lo";
        needs(lab, route, "labels of routes (MPLS_IPTUNNEL)")?;
        compare(lab, LABELS)
    }
}
