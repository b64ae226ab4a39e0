//! The failover scenario: two nodes, one virtual address, a client on the same LAN.

use std::net::Ipv4Addr;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, Role, signal_to};
use crate::lab::frame::Mac;
use crate::lab::service::{Server, fetch};
use crate::lab::{Lab, Res, late};
use crate::scenario::{FAILOVER, LAN, Pair, each_second, soon};
use crate::{cases, check};

cases![Here:
    the_primary_takes_the_address,
    the_backup_takes_over_from_a_dead_primary_and_gives_back,
    a_clean_stop_hands_over_at_once,
    a_daemon_that_ends_with_its_process_undoes_what_that_left,
];

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const VIP_TEXT: &str = "10.0.0.100";

/// The master-down interval of the backup of this scenario in milliseconds: 3 x 1 s and a skew of (256 - 100) / 256 s.
const BACKUP_DOWN: f64 = 3_609.375;

fn the_primary_takes_the_address(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    pair.start(&lab.subject, FAILOVER)?;
    let all = lab.always();
    all.log(&pair.svr1, "(VRRP1) Entering BACKUP STATE")?;
    all.log(&pair.svr2, "(VRRP1) Entering BACKUP STATE")?;
    let (first, advert) = all.advert(&pair.svr1, |_| true)?;
    let added = all.address(&pair.svr1, VIP_TEXT, true)?;
    all.log(&pair.svr1, "(VRRP1) Entering MASTER STATE")?;
    all.log(&pair.svr1, "gratuitous ARPs on enp0s8 for 10.0.0.100")?;
    all.log(&pair.svr1, "setting VIPs")?;

    check!(advert.ttl == 255, "TTL {}", advert.ttl);
    check!(advert.tos == 0xc0, "type of service {:#x}", advert.tos);
    check!(advert.target == Ipv4Addr::new(224, 0, 0, 18), "to {}", advert.target);
    check!(advert.to == Mac([1, 0, 0x5e, 0, 0, 0x12]), "to {:?}", advert.to);
    check!(advert.source == Ipv4Addr::new(10, 0, 0, 71), "from {}", advert.source);
    check!(advert.sum() == 0, "checksum off by {:#x}", advert.sum());
    // Version 2, VRID 41, priority 200, one address, PASS, 1 s, checksum, the address, the password.
    let mut wanted = vec![0x21, 41, 200, 1, 1, 1, 0, 0, 10, 0, 0, 100];
    wanted.extend(b"1066\0\0\0\0");
    let mut payload = advert.payload.clone();
    payload.get_mut(6..8).into_iter().for_each(|sum| sum.fill(0));
    check!(payload == wanted, "payload {:02x?}", advert.payload);
    check!(added >= first, "the address came {} ms before the advert", first.millis_since(added));

    // Five announcements at once and five more five seconds later.
    let garps = all.some_garps(&pair.svr1, VIP, 10)?;
    let (sent, garp) = &garps[0];
    check!(garp.sender_mac == advert.from && garp.from == advert.from, "from {:?}", garp.from);
    check!(garp.target_mac == Mac::BROADCAST, "target {:?}", garp.target_mac);
    check!(garp.length == 42, "length {}", garp.length);
    check!(*sent >= first, "announced before the first advert");
    let (fifth, sixth) = (garps[4].0, garps[5].0);
    soon(*sent, fifth, 500.0)?;
    // The delay runs from the change of state, not from when the kernel had the address.
    let pause = sixth.millis_since(first);
    check!(pause > 4_990.0, "the second set came after {pause} ms only");
    soon(*sent, sixth, 6_000.0)?;
    // Adverts continue once a second, and no other router sends any.
    let adverts = all.some_adverts(&pair.svr1, 8)?;
    each_second(&adverts)?;
    check!(all.garps(&pair.svr1, VIP).len() == 10, "more than ten announcements");
    check!(all.adverts(&pair.svr2).is_empty(), "the backup sent adverts");

    let shown = pair.svr1.addresses(LAN)?;
    check!(shown.contains("inet 10.0.0.100/24 scope global secondary enp0s8"), "{shown}");
    check!(!pair.svr2.has(LAN, "10.0.0.100/24")?, "the backup has the address, too");
    let _webs = [Server::web(&pair.svr1, "0.0.0.0:80")?, Server::web(&pair.svr2, "0.0.0.0:80")?];
    let answer = fetch(&pair.client, "http://10.0.0.100/")?;
    check!(answer.as_deref() == Some("svr1"), "{answer:?} answers");
    Ok(())
}

fn the_backup_takes_over_from_a_dead_primary_and_gives_back(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    primary.crash()?;
    let later = lab.after(mark);
    later.address(&pair.svr2, VIP_TEXT, true)?;
    let last = lab.always().adverts(&pair.svr1).last().map(|(at, _)| *at);
    let (first, _) = later.advert(&pair.svr2, |_| true)?;
    let last = last.unwrap_or(first);
    let silence = first.millis_since(last);
    check!(silence > BACKUP_DOWN - 1.0, "took over after {silence} ms only");
    soon(last, first, BACKUP_DOWN + 1_000.0)?;
    let (_, garp) = &later.some_garps(&pair.svr2, VIP, 5)?[0];
    check!(pair.svr2.has(LAN, "10.0.0.100/24")?, "{}", pair.svr2.addresses(LAN)?);

    // The address left by the dead process still exists; the restarted one wins it back in an election.
    lab.note("the primary comes back");
    let mark = lab.mark();
    lab.subject.start(&pair.svr1)?;
    let later = lab.after(mark);
    later.log(&pair.svr1, "(VRRP1) Entering MASTER STATE")?;
    later.log(&pair.svr2, "(VRRP1) Entering BACKUP STATE")?;
    later.address(&pair.svr2, VIP_TEXT, false)?;
    let (_, mine) = &later.some_garps(&pair.svr1, VIP, 5)?[0];
    check!(mine.from != garp.from, "the announcements come from one machine");
    let again = lab.after(lab.mark());
    again.some_adverts(&pair.svr1, 3)?;
    check!(again.adverts(&pair.svr2).is_empty(), "two masters");
    let shown = pair.svr1.addresses(LAN)?;
    check!(shown.matches("10.0.0.100/24").count() == 1, "{shown}");
    Ok(())
}

fn a_clean_stop_hands_over_at_once(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let [primary, _backup] = pair.start(&lab.subject, FAILOVER)?;
    lab.always().some_adverts(&pair.svr1, 2)?;
    let mark = lab.mark();
    primary.signal(Signal::SIGTERM)?;
    let later = lab.after(mark);
    let (farewell, advert) = later.advert(&pair.svr1, |advert| advert.priority() == 0)?;
    check!(advert.sum() == 0, "checksum off by {:#x}", advert.sum());
    let (first, _) = later.advert(&pair.svr2, |_| true)?;
    // After the skew of the backup, 156 / 256 s, not after three intervals.
    let gap = first.millis_since(farewell);
    check!(gap > 608.0, "the backup took over after {gap} ms only");
    soon(farewell, first, 1_500.0)?;
    check!(primary.ended(mark)?, "the exit status is not zero");
    check!(!pair.svr1.has(LAN, "10.0.0.100/24")?, "the address stayed behind");
    check!(primary.processes().is_empty(), "processes stayed behind");
    let after: Vec<_> =
        later.adverts(&pair.svr1).into_iter().filter(|(at, _)| *at > farewell).collect();
    check!(after.is_empty(), "after the farewell: {after:?}");
    later.address(&pair.svr1, VIP_TEXT, false)?;
    later.address(&pair.svr2, VIP_TEXT, true)?;
    check!(pair.svr2.has(LAN, "10.0.0.100/24")?, "{}", pair.svr2.addresses(LAN)?);
    Ok(())
}

fn a_daemon_that_ends_with_its_process_undoes_what_that_left(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its addresses stay")?;
    let pair = Pair::new(lab)?;
    pair.svr2.write(CONF, FAILOVER[1], 0o644)?;
    pair.svr1.write(CONF, FAILOVER[0], 0o644)?;
    lab.subject.start(&pair.svr2)?;
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let mark = lab.mark();
        let options = ["-D", "--dont-respawn", "-f", CONF];
        let daemon = lab.subject.start_with(&pair.svr1, &options)?;
        lab.after(mark).some_garps(&pair.svr1, VIP, 10)?;
        let mark = lab.mark();
        signal_to(daemon.role(Role::Vrrp)?, signal)?;
        let later = lab.after(mark);
        check!(daemon.ended(mark)?, "the exit status is not zero");
        later.log(&pair.svr1, "not started again (--dont-respawn)")?;
        later.advert(&pair.svr1, |advert| advert.priority() == 0)?;
        let removed = later.address(&pair.svr1, VIP_TEXT, false)?;
        let added = later.address(&pair.svr2, VIP_TEXT, true)?;
        let both = removed.millis_since(added);
        let most = late::bound(0.0, added, removed);
        check!(both <= most, "{signal}: both had the address for {both} ms");
        let files = pair.svr1.must(["find", "/run", "-name", "*.pid"])?;
        check!(files.is_empty(), "pid files stayed behind: {files}");
    }
    Ok(())
}
