//! Interfaces of virtual routers whose names change, by another program or by a reload.

use std::net::IpAddr;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Role, signal_to};
use crate::lab::kernel;
use crate::lab::node::Node;
use crate::lab::timeline::What;
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{LAN, Pair, steady};
use crate::vmac::{VIP, index, pair, reach, virtual_mac};
use crate::{cases, check};

cases![Here:
    an_interface_that_is_renamed_is_still_the_same,
    a_reload_gives_the_interface_another_name,
];

/// Waits until the interface of this number has this name.
fn is_called(lab: &Lab, node: &Node, number: &str, name: &str) -> Res {
    lab.timeline().poll(LIMIT, &format!("interface {number} is called {name}"), || {
        Ok(index(node, name).is_ok_and(|found| found == number).then_some(()))
    })
}

fn an_interface_that_is_renamed_is_still_the_same(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it leaves it behind")?;
    let (pair, (texts, vrid)) = (Pair::new(lab)?, pair(""));
    let (name, subject) = (format!("vrrp.{vrid}"), lab.subject.clone());
    let mark = lab.mark();
    let [first, _second] = pair.start(&subject, [&texts[0], &texts[1]])?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;
    let number = index(&pair.svr1, &name)?;
    let mark = lab.mark();
    pair.svr1.ip(&format!("link set {name} name foo\n"))?;
    lab.after(mark).log(&pair.svr1, &format!("interface {name} is called foo now"))?;
    is_called(lab, &pair.svr1, &number, &name)?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;

    lab.note("somebody else has its name: it serves and goes under the other one");
    let old = first.role(Role::Vrrp)?;
    let mark = lab.mark();
    signal_to(old, Signal::SIGSTOP)?;
    pair.svr1
        .ip(&format!("link set {name} name foo\nlink add {name} type veth peer name beside\n"))?;
    signal_to(old, Signal::SIGCONT)?;
    lab.after(mark).log(&pair.svr1, &format!("macvlan {name} on {LAN}: error 17"))?;
    let mark = lab.mark();
    steady(lab, mark, &pair.svr1, 2)?;
    reach(&pair.client, VIP)?;
    check!(index(&pair.svr1, "foo")? == number, "it was recreated");
    check!(first.stop()?, "the exit status is not zero");
    check!(index(&pair.svr1, "foo").is_err(), "it is left behind");

    lab.note("one of another program with the same hardware address is taken over at the start");
    let mac = virtual_mac(vrid);
    pair.svr1.ip(&format!(
        "link del {name}\nlink add foo link {LAN} address {mac:?} type macvlan mode private\n"
    ))?;
    let number = index(&pair.svr1, "foo")?;
    let mark = lab.mark();
    let first = subject.start(&pair.svr1)?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    is_called(lab, &pair.svr1, &number, &name)?;
    check!(first.stop()?, "the exit status is not zero");
    check!(index(&pair.svr1, &name).is_err(), "it is left behind");
    Ok(())
}

fn a_reload_gives_the_interface_another_name(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it loses the addresses")?;
    let (pair, (texts, vrid)) = (Pair::new(lab)?, pair(""));
    let mark = lab.mark();
    let [first, _second] = pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 2)?;
    let own = format!("vrrp.{vrid}");
    let number = index(&pair.svr1, &own)?;
    let begun = lab.mark();
    for (line, name) in [
        ("use_vmac vip0", "vip0"),
        ("use_vmac vip1 02:00:00:00:00:41", "vip1"),
        ("use_vmac", own.as_str()),
    ] {
        lab.note(format!("the reload to {line}"));
        let mark = lab.mark();
        pair.svr1.write(CONF, &texts[0].replacen("use_vmac", line, 1), 0o644)?;
        first.signal(Signal::SIGHUP)?;
        is_called(lab, &pair.svr1, &number, name)?;
        let vip: IpAddr = VIP.parse()?;
        let lost = lab.after(mark).all(|event| match &event.what {
            What::Kernel(change) if event.node == pair.svr1.name => {
                change.address(false).filter(|address| *address == vip)
            }
            _ => None,
        });
        check!(lost.is_empty(), "the address was removed");
        steady(lab, lab.mark(), &pair.svr1, 2)?;
        reach(&pair.client, VIP)?;
    }
    check!(lab.after(begun).adverts(&pair.svr2).is_empty(), "the backup took over");
    check!(first.stop()?, "the exit status is not zero");
    check!(kernel::links(&pair.svr1)?.is_empty(), "an interface is left behind");
    Ok(())
}
