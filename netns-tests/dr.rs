//! The dr and fwmark scenarios: direct routing by address and by firewall mark, real requests, a crash of the director.

use crate::lab::frame::Frame;
use crate::lab::service::{Server, fetch};
use crate::lab::timeline::{Event, What};
use crate::lab::{LIMIT, Lab, Res, ipvs, need};
use crate::scenario::{DR, FWMARK, LAN, Servers};
use crate::{cases, check};

cases![Ipvs:
    answers_go_directly_to_the_client,
    a_crashed_director_adopts_what_it_finds,
    a_mark_keeps_a_client_on_one_server,
];

const VIP: &str = "10.0.0.1";
const PAGE: &str = "http://10.0.0.1/";

/// The table of the dr scenario.
const TABLE: [&str; 3] = [
    "-A -t 10.0.0.1:80 -s rr -p 7200",
    "-a -t 10.0.0.1:80 -r 10.0.0.71:80 -g -w 1",
    "-a -t 10.0.0.1:80 -r 10.0.0.72:80 -g -w 1",
];

/// The table of the fwmark scenario.
const MARKED: [&str; 3] = [
    "-A -f 123 -s rr -p 7200",
    "-a -f 123 -r 10.0.0.71:0 -g -w 1",
    "-a -f 123 -r 10.0.0.72:0 -g -w 1",
];

fn answers_go_directly_to_the_client(lab: &mut Lab) -> Res {
    let net = Servers::new(lab)?;
    let _webs = net.serve(80)?;
    net.start(&lab.subject, DR)?;
    lab.always().address(&net.svr1, VIP, true)?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    ipvs::becomes(&net.svr2, &TABLE)?;
    let shown = ipvs::shown(&net.svr1)?;
    check!(shown.contains("-> 10.0.0.71:80                 Route   1"), "{shown}");

    let server = fetch(&net.client, PAGE)?;
    check!(server.as_deref().is_some_and(|name| name.starts_with("websvr")), "{server:?}");
    let answer = |event: &Event| match &event.what {
        What::Frame(Frame::Tcp(tcp)) if tcp.answer && tcp.source.to_string() == VIP => {
            Some(event.node.to_string())
        }
        _ => None,
    };
    // The page may arrive before its frames are read.
    lab.always().wait("an answer of the virtual address", answer)?;
    let answers = lab.always().all(answer);
    check!(answers == [server.unwrap_or_default()], "SYN,ACK of {VIP} came from {answers:?}");
    Ok(())
}

fn a_crashed_director_adopts_what_it_finds(lab: &mut Lab) -> Res {
    let net = Servers::new(lab)?;
    let _webs = net.serve(80)?;
    let [primary, _backup] = net.start(&lab.subject, DR)?;
    lab.always().address(&net.svr1, VIP, true)?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    // If svr2 was master for a moment, the client may ask it once more.
    let before = lab.timeline().poll(LIMIT, "pages through svr1", || {
        check!(fetch(&net.client, PAGE)?.is_some(), "no answer through {VIP}");
        let counters = ipvs::counters(&net.svr1)?;
        Ok(counters.values().any(|count| *count > (0, 0)).then_some(counters))
    })?;

    lab.note("svr1 crashes; its address stays on it");
    let mark = lab.mark();
    primary.crash()?;
    lab.after(mark).address(&net.svr2, VIP, true)?;
    check!(net.svr1.has(LAN, "10.0.0.1/24")?, "{}", net.svr1.addresses(LAN)?);
    lab.timeline().poll(LIMIT, "a page through svr2", || fetch(&net.client, PAGE))?;

    lab.note("svr1 is started again");
    ipvs::watch(&net.svr1)?;
    let mark = lab.mark();
    lab.subject.start(&net.svr1)?;
    let later = lab.after(mark);
    later.address(&net.svr2, VIP, false)?;
    later.some_adverts(&net.svr1, 2)?;
    let shown = net.svr1.addresses(LAN)?;
    check!(shown.matches("10.0.0.1/24").count() == 1, "{shown}");
    check!(ipvs::table(&net.svr1)? == TABLE, "{}", ipvs::shown(&net.svr1)?);
    lab.timeline().poll(LIMIT, "a page through svr1", || fetch(&net.client, PAGE))?;

    lab.subject.ours_only("it adds the services again and logs that they exist")?;
    let commands = later.ipvs(&net.svr1);
    check!(commands.is_empty(), "changes of a table that was right: {commands:?}");
    let after = ipvs::counters(&net.svr1)?;
    let kept = before.iter().all(|(name, count)| after.get(name).is_some_and(|now| now >= count));
    check!(kept, "counters before {before:?}, after {after:?}");
    Ok(())
}

fn a_mark_keeps_a_client_on_one_server(lab: &mut Lab) -> Res {
    let net = Servers::new(lab)?;
    let _webs = (net.serve(80)?, net.serve(443)?);
    // The kernel of the guest only supports the older form.
    let iptables = need::program("iptables-legacy", "iptables")
        .or_else(|_| need::program("iptables", "iptables"))?;
    for director in [&net.svr1, &net.svr2] {
        let mut words = vec![iptables.to_string_lossy().into_owned()];
        let rule = "-t mangle -A PREROUTING -d 10.0.0.1/32 -p tcp -m multiport --dports 80,443 \
                    -j MARK --set-mark 123";
        words.extend(rule.split_whitespace().map(str::to_owned));
        director.must(words)?;
    }
    net.start(&lab.subject, FWMARK)?;
    lab.always().address(&net.svr1, VIP, true)?;
    ipvs::becomes(&net.svr1, &MARKED)?;
    ipvs::becomes(&net.svr2, &MARKED)?;
    let shown = ipvs::shown(&net.svr1)?;
    check!(shown.contains("FWM  123 rr persistent 7200"), "{shown}");

    // Each of two clients stays with one server on both ports; the two take turns.
    let mut servers = Vec::new();
    for client in [&net.client, &net.second] {
        let server = fetch(client, PAGE)?;
        check!(server.is_some(), "no answer through {VIP}");
        for url in ["http://10.0.0.1:443/", PAGE, "http://10.0.0.1:443/"] {
            let other = fetch(client, url)?;
            check!(other == server, "{server:?} answered first, then {other:?} on {url}");
        }
        servers.push(server);
    }
    check!(servers[0] != servers[1], "both clients got {:?}", servers[0]);
    Ok(())
}

impl Servers {
    /// Both web servers on this port.
    fn serve(&self, port: u16) -> Res<[Server; 2]> {
        let address = format!("0.0.0.0:{port}");
        let [first, second] = &self.webs;
        Ok([Server::web(first, &address)?, Server::web(second, &address)?])
    }
}
