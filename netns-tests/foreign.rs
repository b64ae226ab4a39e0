//! Changes by other programs: removed addresses, interfaces that go down, disappear and return.

use crate::lab::daemon::CONF;
use crate::lab::{LIMIT, Lab, Res};
use crate::scenario::{FAILOVER, LAN, Pair, within};
use crate::{cases, check};

cases![Here:
    an_address_removed_by_somebody_else_is_put_back,
    removing_the_first_address_of_the_interface_loses_nothing,
    an_interface_that_goes_down_hands_over_and_takes_back,
    an_interface_that_comes_later_is_used,
    an_address_put_on_a_backup_by_somebody_else_is_left_alone,
];

const VIP: &str = "10.0.0.100";

fn an_address_removed_by_somebody_else_is_put_back(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    for _ in 0..3 {
        let mark = lab.mark();
        pair.svr1.ip("addr del 10.0.0.100/24 dev enp0s8\n")?;
        let later = lab.after(mark);
        later.address(&pair.svr1, VIP, false)?;
        // It existed before, so this is its return.
        later.address(&pair.svr1, VIP, true)?;
        // It is announced again: all earlier announcements were waited for.
        later.some_garps(&pair.svr1, VIP.parse()?, 5)?;
        later.some_adverts(&pair.svr1, 2)?;
    }
    check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "{}", pair.svr1.addresses(LAN)?);
    Ok(())
}

fn removing_the_first_address_of_the_interface_loses_nothing(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let primary = within(FAILOVER[0], "vrrp_instance VRRP1 {", "mcast_src_ip 10.0.0.71");
    // The kernel removes the other addresses of a subnet with its first one.
    let lines = ["del 10.0.0.71/24", "add 10.0.0.99/24", "add 10.0.0.71/24"];
    pair.svr1.ip(&lines.map(|line| format!("addr {line} dev enp0s8\n")).concat())?;
    pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 5)?;
    let mark = lab.mark();
    pair.svr1.ip("addr del 10.0.0.99/24 dev enp0s8\naddr add 10.0.0.71/24 dev enp0s8\n")?;
    let later = lab.after(mark);
    later.address(&pair.svr1, VIP, false)?;
    lab.timeline().poll(LIMIT, "the address is back", || {
        Ok(pair.svr1.has(LAN, "10.0.0.100/24")?.then_some(()))
    })?;
    Ok(())
}

fn an_interface_that_goes_down_hands_over_and_takes_back(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    pair.svr1.ip("link set enp0s8 down\n")?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "(VRRP1) Entering FAULT STATE")?;
    later.address(&pair.svr2, VIP, true)?;
    let mark = lab.mark();
    pair.svr1.ip("link set enp0s8 up\n")?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "(VRRP1) Entering MASTER STATE")?;
    later.address(&pair.svr2, VIP, false)?;
    later.some_garps(&pair.svr1, VIP.parse()?, 5)?;
    let shown = pair.svr1.addresses(LAN)?;
    check!(shown.matches("10.0.0.100/24").count() == 1, "{shown}");
    Ok(())
}

fn an_interface_that_comes_later_is_used(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it exits if an interface does not exist at the start")?;
    lab.segment("lan")?;
    let node = lab.node("svr1")?;
    node.write(CONF, FAILOVER[0], 0o644)?;
    lab.subject.start(&node)?;
    lab.always().log(&node, "enp0s8")?;
    for round in 0..2 {
        let mark = lab.mark();
        lab.plug(&node, "lan", LAN, &["10.0.0.71/24"])?;
        let later = lab.after(mark);
        later.address(&node, VIP, true)?;
        later.some_garps(&node, VIP.parse()?, 5)?;
        if round == 0 {
            node.ip("link del enp0s8\n")?;
            later.log(&node, "(VRRP1) Entering FAULT STATE")?;
        }
    }
    Ok(())
}

fn an_address_put_on_a_backup_by_somebody_else_is_left_alone(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 1)?;
    let mark = lab.mark();
    pair.svr2.ip("addr add 10.0.0.200/24 dev enp0s8\n")?;
    lab.after(mark).some_adverts(&pair.svr1, 3)?;
    check!(pair.svr2.has(LAN, "10.0.0.200/24")?, "{}", pair.svr2.addresses(LAN)?);
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    Ok(())
}
