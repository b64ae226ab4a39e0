//! Adverts by unicast and authenticated adverts: with Debian's keepalived in both roles, identical packets, and nothing
//! sent to a group.

use std::net::IpAddr;

use nix::sys::signal::Signal;

use crate::interop::{both_ways, same_packets, without_authentication};
use crate::lab::daemon::{CONF, Program};
use crate::lab::frame::Frame;
use crate::lab::timeline::What;
use crate::lab::{Lab, Res};
use crate::scenario::{FAILOVER, Pair, steady, within};
use crate::{cases, check};

cases![Here:
    it_takes_over_from_keepalived_and_gives_back_by_unicast,
    keepalived_takes_over_from_it_and_gives_back_by_unicast,
    version_three_by_unicast_is_understood_both_ways,
    ipv6_by_unicast_is_understood_both_ways,
    the_packets_by_unicast_are_the_same,
    no_router_but_the_peers_is_sent_anything,
    a_source_that_comes_later_is_waited_for,
    a_reload_from_multicast_to_unicast_keeps_one_master,
    authentication_headers_are_understood_both_ways,
    authentication_headers_by_unicast_are_understood_both_ways,
    the_packets_with_authentication_headers_are_the_same,
    trailers_elect_over_both_families_and_keys_can_be_changed,
];

const VIP: &str = "10.0.0.100";

/// The failover example by unicast; each router is the peer of the other.
fn pair() -> [String; 2] {
    let of = |text: &str, own: &str, peer: &str| {
        let lines = format!("unicast_src_ip {own}\n unicast_peer {{\n {peer}\n }}\n");
        within(text, "vrrp_instance VRRP1 {", &lines)
    };
    [of(FAILOVER[0], "10.0.0.71", "10.0.0.72"), of(FAILOVER[1], "10.0.0.72", "10.0.0.71")]
}

fn three(texts: &[String; 2]) -> [String; 2] {
    texts.each_ref().map(|text| {
        without_authentication(&text.replace("advert_int 1", "advert_int 0.3\n version 3"))
    })
}

fn it_takes_over_from_keepalived_and_gives_back_by_unicast(lab: &mut Lab) -> Res {
    let (keepalived, subject, texts) = (Program::keepalived()?, lab.subject.clone(), pair());
    both_ways(lab, &keepalived, &subject, [&texts[0], &texts[1]])
}

fn keepalived_takes_over_from_it_and_gives_back_by_unicast(lab: &mut Lab) -> Res {
    let (keepalived, subject, texts) = (Program::keepalived()?, lab.subject.clone(), pair());
    both_ways(lab, &subject, &keepalived, [&texts[0], &texts[1]])
}

fn version_three_by_unicast_is_understood_both_ways(lab: &mut Lab) -> Res {
    let (keepalived, subject, texts) =
        (Program::keepalived()?, lab.subject.clone(), three(&pair()));
    both_ways(lab, &keepalived, &subject, [&texts[0], &texts[1]])
}

fn ipv6_by_unicast_is_understood_both_ways(lab: &mut Lab) -> Res {
    let keepalived = Program::keepalived()?;
    let pair = Pair::new(lab)?;
    let nodes = [(&pair.svr1, "2001:db8::71"), (&pair.svr2, "2001:db8::72")];
    for (text, (node, own)) in three(&self::pair()).iter().zip(nodes) {
        let text = text
            .replace("10.0.0.100/24", "2001:db8::100/64")
            .replace("10.0.0.71", "2001:db8::71")
            .replace("10.0.0.72", "2001:db8::72");
        node.sysctl("net.ipv6.conf.enp0s8.disable_ipv6", "0")?;
        node.ip(&format!("addr add {own}/64 dev enp0s8 nodad\n"))?;
        node.write(CONF, &text, 0o644)?;
    }
    let subject = lab.subject.clone();
    let primary = keepalived.start(&pair.svr1)?;
    let backup = subject.start(&pair.svr2)?;
    let vip = "2001:db8::100";
    lab.always().address(&pair.svr1, vip, true)?;
    lab.always().some_adverts(&pair.svr1, 3)?;
    check!(lab.always().adverts(&pair.svr2).is_empty(), "the backup sent adverts");
    let mark = lab.mark();
    primary.crash()?;
    lab.after(mark).address(&pair.svr2, vip, true)?;
    let mark = lab.mark();
    keepalived.start(&pair.svr1)?;
    lab.after(mark).address(&pair.svr2, vip, false)?;
    lab.after(mark).address(&pair.svr1, vip, true)?;
    backup.stop()?;
    Ok(())
}

fn the_packets_by_unicast_are_the_same(lab: &mut Lab) -> Res {
    let lines =
        "unicast_src_ip 10.0.0.71\n unicast_peer {\n 10.0.0.72\n 10.0.0.73 min_ttl 60\n }\n";
    let two = within(FAILOVER[0], "vrrp_instance VRRP1 {", lines);
    let three = without_authentication(&two).replace("advert_int 1", "version 3\n advert_int 0.5");
    same_packets(
        lab,
        &[
            &two,
            &within(&two, "vrrp_instance VRRP1 {", "unicast_ttl 17"),
            &three,
            &within(&three, "vrrp_instance VRRP1 {", "old_unicast_checksum"),
        ],
    )
}

fn no_router_but_the_peers_is_sent_anything(lab: &mut Lab) -> Res {
    let (pair, texts) = (Pair::new(lab)?, pair());
    let mark = lab.mark();
    pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    steady(lab, lab.mark(), &pair.svr1, 4)?;
    let to: Vec<IpAddr> = lab.after(mark).all(|event| match &event.what {
        What::Frame(Frame::Advert(advert)) => Some(advert.target),
        // A membership report of the group.
        What::Frame(Frame::Igmp { source, .. }) => Some((*source).into()),
        _ => None,
    });
    let peer: IpAddr = "10.0.0.72".parse()?;
    check!(to.len() >= 4 && to.iter().all(|address| *address == peer), "adverts went to {to:?}");
    Ok(())
}

fn a_source_that_comes_later_is_waited_for(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let texts = self::pair().map(|text| text.replace("10.0.0.71", "10.0.0.75"));
    let mark = lab.mark();
    pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    lab.after(mark).log(&pair.svr1, "(source address 10.0.0.75 not configured)")?;
    lab.after(mark).address(&pair.svr2, VIP, true)?;
    let mark = lab.mark();
    pair.svr1.ip("addr add 10.0.0.75/32 dev lo\n")?;
    for node in [&pair.svr2, &pair.client] {
        node.ip("route add 10.0.0.75/32 via 10.0.0.71\n")?;
    }
    lab.after(mark).address(&pair.svr1, VIP, true)?;
    lab.after(mark).address(&pair.svr2, VIP, false)?;
    // It is removed from the living master: the other router receives a farewell.
    let mark = lab.mark();
    pair.svr1.ip("addr del 10.0.0.75/32 dev lo\n")?;
    lab.after(mark).advert(&pair.svr1, |advert| advert.priority() == 0)?;
    lab.after(mark).address(&pair.svr2, VIP, true)?;
    Ok(())
}

fn a_reload_from_multicast_to_unicast_keeps_one_master(lab: &mut Lab) -> Res {
    let (pair, texts) = (Pair::new(lab)?, pair());
    let [primary, backup] = pair.start(&lab.subject.clone(), FAILOVER)?;
    lab.always().address(&pair.svr1, VIP, true)?;
    let mark = lab.mark();
    for (node, daemon, text) in
        [(&pair.svr2, &backup, &texts[1]), (&pair.svr1, &primary, &texts[0])]
    {
        node.write(CONF, text, 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
    }
    // The farewell is sent to the old destination; the first new advert to the new one.
    let group: IpAddr = "224.0.0.18".parse()?;
    lab.after(mark).advert(&pair.svr1, |a| a.priority() == 0 && a.target == group)?;
    let peer: IpAddr = "10.0.0.72".parse()?;
    lab.after(mark).advert(&pair.svr1, |a| a.priority() == 200 && a.target == peer)?;
    steady(lab, lab.mark(), &pair.svr1, 3)
}

fn with_ah(text: &str) -> String {
    text.replace("auth_type PASS", "auth_type AH")
}

fn authentication_headers_are_understood_both_ways(lab: &mut Lab) -> Res {
    let (keepalived, subject, texts) =
        (Program::keepalived()?, lab.subject.clone(), FAILOVER.map(with_ah));
    both_ways(lab, &keepalived, &subject, [&texts[0], &texts[1]])
}

fn authentication_headers_by_unicast_are_understood_both_ways(lab: &mut Lab) -> Res {
    let (keepalived, subject) = (Program::keepalived()?, lab.subject.clone());
    let texts = pair().map(|text| with_ah(&text));
    both_ways(lab, &subject, &keepalived, [&texts[0], &texts[1]])
}

fn the_packets_with_authentication_headers_are_the_same(lab: &mut Lab) -> Res {
    let plain = with_ah(FAILOVER[0]);
    let lines = "unicast_src_ip 10.0.0.71\n unicast_peer {\n 10.0.0.72\n }\n unicast_ttl 40";
    same_packets(lab, &[&plain, &within(&plain, "vrrp_instance VRRP1 {", lines)])
}

fn trailers_elect_over_both_families_and_keys_can_be_changed(lab: &mut Lab) -> Res {
    let pair = Pair::new(lab)?;
    let (old, new) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let of = |text: &str, active: u8, keys: &[(u8, &str)]| {
        let keys: String = keys.iter().map(|(id, key)| format!("key {id} {key}\n")).collect();
        let hmac = format!("auth_hmac {{\n {keys} active_key {active}\n }}");
        let four = without_authentication(text)
            .replace("advert_int 1", &format!("advert_int 0.5\n version 3\n {hmac}"));
        let six = four.replace("VRRP1", "VRRP6").replace("10.0.0.100/24", "fe80::100/64");
        format!("{four}\n{six}")
    };
    for (node, own) in [(&pair.svr1, "fe80::71"), (&pair.svr2, "fe80::72")] {
        node.sysctl("net.ipv6.conf.enp0s8.disable_ipv6", "0")?;
        node.ip(&format!("addr add {own}/64 dev enp0s8 nodad\n"))?;
    }
    let one = [(1, old)];
    let texts = FAILOVER.map(|text| of(text, 1, &one));
    let [primary, backup] = pair.start(&lab.subject.clone(), [&texts[0], &texts[1]])?;
    let vips = [VIP, "fe80::100"];
    for vip in vips {
        lab.always().address(&pair.svr1, vip, true)?;
    }
    steady(lab, lab.mark(), &pair.svr1, 10)?;
    check!(lab.always().adverts(&pair.svr2).is_empty(), "the backup sent adverts");

    lab.note("the key is changed: first all know both, then each sends the new one");
    let both = [(1, old), (2, new)];
    for active in [1, 2] {
        for (node, daemon, text) in
            [(&pair.svr2, &backup, FAILOVER[1]), (&pair.svr1, &primary, FAILOVER[0])]
        {
            let mark = lab.mark();
            node.write(CONF, &of(text, active, &both), 0o644)?;
            daemon.signal(Signal::SIGHUP)?;
            lab.after(mark).log(node, "Reload complete")?;
        }
        steady(lab, lab.mark(), &pair.svr1, 8)?;
    }
    let (_, last) = lab.after(lab.mark()).advert(&pair.svr1, |_| true)?;
    let key = last.payload.get(last.payload.len() - 27);
    check!(key == Some(&2), "the trailer names key {key:?}");
    check!(lab.always().adverts(&pair.svr2).is_empty(), "the backup sent adverts");

    lab.note("the primary sends adverts that the backup does not accept");
    let mark = lab.mark();
    pair.svr1.write(CONF, &of(FAILOVER[0], 2, &[(2, old)]), 0o644)?;
    primary.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&pair.svr2, "invalid authentication HMAC")?;
    for vip in vips {
        lab.after(mark).address(&pair.svr2, vip, true)?;
    }
    Ok(())
}
