//! The nat scenario: two instances in one group, masqueraded services, real requests through them.

use crate::lab::service::{Server, fetch};
use crate::lab::{Lab, Res, ipvs};
use crate::scenario::{Directors, NAT, without};
use crate::{cases, check};

cases![Ipvs:
    a_dead_server_leaves_the_table_and_returns,
    a_cut_cable_moves_both_addresses,
];

const OUTER: &str = "192.168.1.1";
const INNER: &str = "10.0.0.100";
const PAGE: &str = "http://192.168.1.1/";

/// The table of the scenario as `ipvsadm --save` prints it.
const TABLE: [&str; 3] = [
    "-A -t 192.168.1.1:80 -s rr -p 7200",
    "-a -t 192.168.1.1:80 -r 10.0.0.71:80 -m -w 1",
    "-a -t 192.168.1.1:80 -r 10.0.0.72:80 -m -w 1",
];

fn a_dead_server_leaves_the_table_and_returns(lab: &mut Lab) -> Res {
    let net = Directors::new(lab)?;
    let _second = Server::web(&net.webs[1], "10.0.0.72:80")?;
    let first = Server::web(&net.webs[0], "10.0.0.71:80")?;
    let [primary, backup] = net.start(&lab.subject, NAT)?;
    let all = lab.always();
    all.address(&net.svr1, OUTER, true)?;
    all.address(&net.svr1, INNER, true)?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    ipvs::becomes(&net.svr2, &TABLE)?;
    let shown = ipvs::shown(&net.svr1)?;
    check!(shown.contains("TCP  192.168.1.1:80 rr persistent 7200"), "{shown}");
    check!(shown.contains("-> 10.0.0.71:80                 Masq    1"), "{shown}");

    // Persistence: one client, one server.
    let server = fetch(&net.client, PAGE)?;
    check!(server.is_some(), "no answer through {OUTER}");
    for _ in 0..3 {
        check!(fetch(&net.client, PAGE)? == server, "another server than {server:?}");
    }

    lab.note("the first web server ends");
    drop(first);
    ipvs::becomes(&net.svr1, &[TABLE[0], TABLE[2]])?;
    ipvs::becomes(&net.svr2, &[TABLE[0], TABLE[2]])?;
    lab.always()
        .log(&net.svr1, "Removing service [10.0.0.71]:tcp:80 from VS [192.168.1.1]:tcp:80")?;
    check!(fetch(&net.client, PAGE)?.as_deref() == Some("websvr2"), "the dead server is asked");

    lab.note("the first web server returns");
    let _first = Server::web(&net.webs[0], "10.0.0.71:80")?;
    ipvs::becomes(&net.svr1, &TABLE)?;
    lab.always().log(&net.svr1, "Adding service [10.0.0.71]:tcp:80 to VS [192.168.1.1]:tcp:80")?;

    check!(primary.stop()?, "the exit status is not zero");
    check!(ipvs::table(&net.svr1)?.is_empty(), "{}", ipvs::shown(&net.svr1)?);
    check!(backup.stop()?, "the exit status is not zero");
    check!(ipvs::table(&net.svr2)?.is_empty(), "{}", ipvs::shown(&net.svr2)?);
    Ok(())
}

fn a_cut_cable_moves_both_addresses(lab: &mut Lab) -> Res {
    let net = Directors::new(lab)?;
    let _webs =
        [Server::web(&net.webs[0], "10.0.0.71:80")?, Server::web(&net.webs[1], "10.0.0.72:80")?];
    let configurations = NAT.map(|text| without(text, "persistence_timeout"));
    net.start(&lab.subject, [&configurations[0], &configurations[1]])?;
    let all = lab.always();
    all.address(&net.svr1, OUTER, true)?;
    all.address(&net.svr1, INNER, true)?;

    // Without persistence the servers take turns.
    let answers: Vec<_> = (0..4)
        .map(|_| fetch(&net.client, PAGE))
        .collect::<Res<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    check!(answers.len() == 4 && answers[0] != answers[1], "{answers:?}");
    check!(answers[0] == answers[2] && answers[1] == answers[3], "{answers:?}");

    for (cable, name) in net.cables.iter().zip(["outer", "inner"]) {
        lab.note(format!("the {name} cable of svr1 is cut"));
        let mark = lab.mark();
        cable.cut()?;
        let later = lab.after(mark);
        for address in [OUTER, INNER] {
            later.address(&net.svr1, address, false)?;
            later.address(&net.svr2, address, true)?;
        }
        lab.timeline()
            .poll(crate::lab::LIMIT, "a page through svr2", || fetch(&net.client, PAGE))?;
        lab.note(format!("the {name} cable of svr1 is mended"));
        let mark = lab.mark();
        cable.mend()?;
        let later = lab.after(mark);
        for address in [OUTER, INNER] {
            later.address(&net.svr2, address, false)?;
            later.address(&net.svr1, address, true)?;
        }
        lab.timeline()
            .poll(crate::lab::LIMIT, "a page through svr1", || fetch(&net.client, PAGE))?;
    }
    Ok(())
}
