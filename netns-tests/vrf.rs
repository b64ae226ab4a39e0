//! VRFs: instances in them hear and speak there only, routes are in their tables, and both follow a VRF that vanishes and
//! returns.

use crate::cases;
use crate::lab::Lab;

/// This kernel may lack VRFs.
pub mod guest {
    use nix::sys::signal::Signal;

    use super::{Lab, cases};
    use crate::check;
    use crate::lab::daemon::CONF;
    use crate::lab::node::Node;
    use crate::lab::{LIMIT, Res, kernel};
    use crate::scenario::LAN;
    use crate::vmac::machine;

    cases![Ipvs:
        an_instance_and_routes_of_a_vrf_follow_it,
        a_virtual_mac_is_in_the_vrf_of_its_parent,
    ];

    const ROUTE: &str = "unicast 10.9.0.0/24 via 10.0.0.1 ";

    /// An instance by unicast in the VRF of its name.
    fn of(vrf: &str, dev: &str, vrid: u8) -> String {
        format!(
            "vrrp_instance {vrf} {{\n vrf {vrf}\n state MASTER\n priority 200\n advert_int 0.5\n version 3\n \
             virtual_router_id {vrid}\n unicast_src_ip 10.0.0.71\n unicast_peer {{\n  10.0.0.72\n }}\n \
             virtual_ipaddress {{\n  10.0.0.{vrid}/24 dev {dev}\n }}\n virtual_routes {{\n  \
             10.9.0.0/24 via 10.0.0.1 dev {dev} vrf {vrf}\n }}\n}}\n"
        )
    }

    fn create(node: &Node, vrf: &str, table: u8, dev: &str) -> Res {
        node.ip(&format!(
            "link add {vrf} type vrf table {table}\nlink set {vrf} up\nlink set {dev} master {vrf}\n"
        ))
    }

    /// Waits until the route of each interface is in exactly this table, `main` if it is none, or in no table at all.
    fn routes(lab: &Lab, node: &Node, wanted: &[(&str, &str)]) -> Res {
        let wanted: Vec<String> =
            wanted.iter().map(|(dev, table)| format!("{dev} {table}")).collect();
        lab.timeline().poll(LIMIT, &format!("routes {wanted:?}"), || {
            let found: Vec<String> = kernel::routes(node)?
                .iter()
                .filter_map(|line| line.strip_prefix(ROUTE))
                .map(|line| {
                    let after = |word: &str| {
                        line.split_whitespace().skip_while(|w| *w != word).nth(1).map(str::to_owned)
                    };
                    let dev = after("dev").unwrap_or_default();
                    format!("{dev} {}", after("table").unwrap_or_else(|| "main".into()))
                })
                .collect();
            Ok((found == wanted).then_some(()))
        })
    }

    /// Two instances in two VRFs with the same addresses: each hears and speaks in its own, waits for it, and has its
    /// routes there.
    fn an_instance_and_routes_of_a_vrf_follow_it(lab: &mut Lab) -> Res {
        lab.subject.ours_only("it does not start without the VRF")?;
        let node = machine(lab, "our")?;
        node.ip("addr flush dev enp0s9\naddr add 10.0.0.71/24 dev enp0s9\n")?;
        create(&node, "red", 20, "enp0s9")?;
        let text = of("blue", LAN, 101) + &of("red", "enp0s9", 102);
        node.write(CONF, &text, 0o644)?;
        let mark = lab.mark();
        let daemon = lab.subject.start(&node)?;
        lab.after(mark).log(&node, "(red) Entering MASTER STATE")?;
        lab.after(mark).log(&node, "(blue) entering FAULT state (VRF blue does not exist)")?;
        routes(lab, &node, &[("enp0s9", "20")])?;

        lab.note("the other VRF appears");
        let mark = lab.mark();
        create(&node, "blue", 10, LAN)?;
        lab.after(mark).log(&node, "(blue) Entering MASTER STATE")?;
        routes(lab, &node, &[(LAN, "10"), ("enp0s9", "20")])?;

        lab.note("a router of higher priority in one VRF");
        let mark = lab.mark();
        let peer = lab.node("peer")?;
        lab.plug(&peer, &format!("our-{LAN}"), LAN, &["10.0.0.72/24"])?;
        let other = text.split("vrrp_instance red").next().unwrap_or_default();
        let other = other
            .replace(" vrf blue\n", &format!(" interface {LAN}\n"))
            .replace(" vrf blue\n", "\n")
            .replace(" vrf blue", "")
            .replace("priority 200", "priority 250")
            .replace("10.0.0.71", "10.0.0.7x")
            .replace("10.0.0.72", "10.0.0.71")
            .replace("10.0.0.7x", "10.0.0.72");
        peer.write(CONF, &other, 0o644)?;
        let higher = lab.subject.start(&peer)?;
        lab.after(mark).log(&node, "(blue) Entering BACKUP STATE")?;
        routes(lab, &node, &[("enp0s9", "20")])?;
        check!(higher.stop()?, "the exit status of the peer is not zero");
        lab.after(mark).log(&node, "(blue) Entering MASTER STATE")?;
        routes(lab, &node, &[(LAN, "10"), ("enp0s9", "20")])?;

        lab.note("one VRF vanishes, and returns with another table");
        let mark = lab.mark();
        node.ip("link del blue\n")?;
        // First the kernel reports that its interfaces have left it.
        lab.after(mark)
            .log(&node, "(blue) entering FAULT state (interface enp0s8 is not in VRF blue)")?;
        lab.timeline().poll(LIMIT, "the status names the VRF", || {
            let text = node.status(&["blue"])?;
            Ok(text.contains("VRF blue does not exist").then_some(()))
        })?;
        routes(lab, &node, &[("enp0s9", "20")])?;
        let mark = lab.mark();
        create(&node, "blue", 11, LAN)?;
        lab.after(mark).log(&node, "(blue) Entering MASTER STATE")?;
        routes(lab, &node, &[(LAN, "11"), ("enp0s9", "20")])?;
        let disturbed = lab.always().logs(&node, "(red) Entering");
        check!(disturbed.len() == 2, "the other one was disturbed: {disturbed:?}");

        lab.note("a route by reload, to the table of the other VRF");
        node.write(
            CONF,
            &text.replace(&format!("dev {LAN} vrf blue"), "dev enp0s9 metric 5 vrf red"),
            0o644,
        )?;
        daemon.signal(Signal::SIGHUP)?;
        routes(lab, &node, &[("enp0s9", "20"), ("enp0s9", "20")])?;
        check!(daemon.stop()?, "the exit status is not zero");
        routes(lab, &node, &[])
    }

    /// The interface of `use_vmac` is where its parent is, also when that moves.
    fn a_virtual_mac_is_in_the_vrf_of_its_parent(lab: &mut Lab) -> Res {
        let node = machine(lab, "our")?;
        create(&node, "blue", 10, LAN)?;
        node.ip("link add green type vrf table 30\nlink set green up\n")?;
        let text = crate::vmac::instance(51, "use_vmac", "10.0.0.100/24", "");
        let daemon = kernel::begin(lab, &node, &lab.subject.clone(), &text)?;
        let is_in = |vrf: &str| {
            let what = format!("the interface is in {vrf:?}");
            lab.timeline().poll(LIMIT, &what, || {
                let line = node.must(["ip", "-o", "link", "show", "vrrp.51"])?;
                let found = line.split(" master ").nth(1).and_then(|rest| rest.split(' ').next());
                Ok((found.unwrap_or_default() == vrf).then_some(()))
            })
        };
        is_in("blue")?;
        node.ip(&format!("link set {LAN} master green\n"))?;
        is_in("green")?;
        node.ip("link del green\n")?;
        is_in("")?;
        node.ip(&format!("link set {LAN} master blue\n"))?;
        is_in("blue")?;
        lab.timeline().poll(LIMIT, "it has its address", || {
            Ok(node.has("vrrp.51", "10.0.0.100/24")?.then_some(()))
        })?;
        check!(daemon.stop()?, "the exit status is not zero");
        Ok(())
    }
}
