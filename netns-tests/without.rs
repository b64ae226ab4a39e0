//! A machine without IPVS whose configuration has virtual servers: it must not become master and lose the traffic.

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

/// The primary has a virtual server that it cannot serve.
fn begin(lab: &mut Lab, more: &str) -> Res<(Pair, [Daemon; 2])> {
    lab.subject.ours_only("it exits if IPVS does not work")?;
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
    let line = "entering FAULT state (IPVS does not work or refuses a virtual server)";
    all.log(&pair.svr1, line)?;
    all.address(&pair.svr2, VIP, true)?;
    all.some_adverts(&pair.svr2, 4)?;
    check!(all.adverts(&pair.svr1).is_empty(), "the node without IPVS sent adverts");
    let status = pair.svr1.status(&[])?;
    for line in ["fault: IPVS does not work or refuses a virtual server", "IPVS is not available"] {
        check!(status.contains(line), "{status}");
    }
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

/// With a kernel that has IPVS, but not everything that the configuration needs.
pub mod guest {
    use nix::sys::signal::Signal;

    use super::VIP;
    use crate::lab::daemon::CONF;
    use crate::lab::{Lab, Res, Stop, ipvs};
    use crate::scenario::{FAILOVER, LAN, Pair, within};
    use crate::{cases, check};

    cases![Ipvs: one_refused_virtual_server_keeps_a_node_from_becoming_master];

    /// A scheduler that the kernel of the guest does not have.
    const MISSING: &str = "twos";
    const FAULT: &str = "entering FAULT state (IPVS does not work or refuses a virtual server)";

    /// A virtual server with this port, and a scheduler that the kernel may not have.
    fn server(port: u16, scheduler: &str) -> String {
        format!(
            "virtual_server 10.0.0.100 {port} {{\nlvs_sched {scheduler}\nlvs_method NAT\nprotocol TCP\n\
             real_server 10.0.0.10 {port} {{\n}}\n}}\n"
        )
    }

    fn one_refused_virtual_server_keeps_a_node_from_becoming_master(lab: &mut Lab) -> Res {
        lab.subject.ours_only("a refused virtual server does not affect its instances")?;
        let pair = Pair::new(lab)?;
        let asked = ["ipvsadm", "-A", "-t", "10.99.0.1:80", "-s", MISSING];
        if pair.client.output(asked)?.status.success() {
            return Err(Stop::Skip(format!("this kernel has the scheduler {MISSING}")));
        }
        let with = |servers: &[String]| format!("{}\n{}", FAILOVER[0], servers.concat());
        let refused = with(&[server(80, "rr"), server(81, MISSING)]);
        let [daemon, _backup] = pair.start(&lab.subject, [&refused, FAILOVER[1]])?;
        let all = lab.always();
        all.log(&pair.svr1, FAULT)?;
        all.address(&pair.svr2, VIP, true)?;
        check!(all.adverts(&pair.svr1).is_empty(), "the node that cannot serve sent adverts");
        // The other virtual servers are served nevertheless.
        let one = ["-A -t 10.0.0.100:80 -s rr", "-a -t 10.0.0.100:80 -r 10.0.0.10:80 -m -w 1"];
        ipvs::becomes(&pair.svr1, &one)?;

        lab.note("the file is corrected");
        let mark = lab.mark();
        let good = with(&[server(80, "rr"), server(81, "wlc")]);
        pair.svr1.write(CONF, &good, 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
        lab.after(mark).address(&pair.svr1, VIP, true)?;

        lab.note("a failed addition of a reload does not affect others");
        let mark = lab.mark();
        let worse = with(&[server(80, "rr"), server(81, "wlc"), server(82, MISSING)]);
        pair.svr1.write(CONF, &worse, 0o644)?;
        daemon.signal(Signal::SIGHUP)?;
        let later = lab.after(mark);
        later.log(&pair.svr1, "error: Scheduler or persistence engine not found")?;
        later.some_adverts(&pair.svr1, 5)?;
        check!(later.logs(&pair.svr1, "FAULT").is_empty(), "it gave up");
        check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "{}", pair.svr1.addresses(LAN)?);
        check!(daemon.stop()?, "the exit status is not zero");

        lab.note("the configuration makes it take part");
        let told = within(&refused, "global_defs {", "vrrp_without_ipvs on");
        pair.svr1.write(CONF, &told, 0o644)?;
        let mark = lab.mark();
        lab.subject.start(&pair.svr1)?;
        lab.after(mark).address(&pair.svr1, VIP, true)?;
        check!(lab.after(mark).logs(&pair.svr1, "FAULT").is_empty(), "it was in FAULT");
        Ok(())
    }
}
