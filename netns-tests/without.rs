//! A machine without IPVS whose configuration has virtual servers: it must not become master and swallow the traffic.

use std::path::Path;

use crate::lab::daemon::Daemon;
use crate::lab::{Lab, Res, Stop};
use crate::scenario::{FAILOVER, LAN, Pair};
use crate::{cases, check};

cases![Here:
    without_ipvs_the_other_node_becomes_master,
    without_ipvs_a_node_takes_part_when_told_so,
];

const VIP: &str = "10.0.0.100";

/// The primary has a virtual server, and nothing that could serve it.
fn begin(lab: &mut Lab, more: &str) -> Res<(Pair, [Daemon; 2])> {
    lab.subject.ours_only("it ends where IPVS does not work")?;
    let pair = Pair::new(lab)?;
    let server = "virtual_server 10.0.0.100 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n\
        real_server 10.0.0.10 80 {\n}\n}\n";
    let primary = format!("{}\n{more}{server}", FAILOVER[0]);
    let daemons = pair.start(&lab.subject, [&primary, FAILOVER[1]])?;
    let works = pair.svr1.run(|| Path::new("/proc/net/ip_vs").exists())?;
    if works {
        return Err(Stop::Skip("this kernel has IPVS".to_owned()));
    }
    Ok((pair, daemons))
}

fn without_ipvs_the_other_node_becomes_master(lab: &mut Lab) -> Res {
    let (pair, _daemons) = begin(lab, "")?;
    let all = lab.always();
    all.log(&pair.svr1, "no virtual server is in service until")?;
    let line = "entering FAULT state (IPVS does not work, virtual servers cannot be served)";
    all.log(&pair.svr1, line)?;
    all.address(&pair.svr2, VIP, true)?;
    all.some_adverts(&pair.svr2, 4)?;
    check!(all.adverts(&pair.svr1).is_empty(), "the node without IPVS sent adverts");
    check!(!pair.svr1.has(LAN, "10.0.0.100/24")?, "the node without IPVS has the address");
    Ok(())
}

fn without_ipvs_a_node_takes_part_when_told_so(lab: &mut Lab) -> Res {
    let (pair, _daemons) = begin(lab, "global_defs {\nvrrp_without_ipvs on\n}\n")?;
    lab.always().log(&pair.svr1, "no virtual server is in service until")?;
    lab.always().address(&pair.svr1, VIP, true)?;
    check!(lab.always().logs(&pair.svr1, "FAULT").is_empty(), "it was in FAULT");
    Ok(())
}
