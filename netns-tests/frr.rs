//! One segment shared with FRR's vrrpd, an implementation independent of keepalived: each takes over from the other in
//! both roles, in both versions and over both families.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::daemon::{CONF, signal_to};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res, need};
use crate::scenario::{LAN, Pair};
use crate::{cases, check};

cases![Here:
    it_gives_way_to_frr_with_version_2,
    frr_gives_way_to_it_with_version_2,
    it_gives_way_to_frr_with_version_3,
    frr_gives_way_to_it_with_version_3,
    it_gives_way_to_frr_over_ipv6,
    frr_gives_way_to_it_over_ipv6,
];

const FRR: &str = "/usr/lib/frr";

/// Settings that both must share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    V2,
    V3,
    Ipv6,
}

impl Form {
    const fn addresses(self) -> &'static [&'static str] {
        match self {
            Self::V2 | Self::V3 => &["10.0.0.100", "10.0.0.101"],
            Self::Ipv6 => &["fe80::100", "2001:db8::100"],
        }
    }

    /// The address that shows a takeover.
    const fn address(self) -> &'static str {
        self.addresses()[1]
    }

    fn configuration(self, priority: u8) -> String {
        let (version, interval) = if self == Self::V2 { (2, "1") } else { (3, "0.3") };
        format!(
            "vrrp_instance VRRP1 {{\n interface {LAN}\n version {version}\n virtual_router_id 41\n \
             priority {priority}\n advert_int {interval}\n virtual_ipaddress {{\n {}\n }}\n}}\n",
            self.addresses().join("\n ")
        )
    }

    /// The interface that vrrpd requires, and its configuration.
    fn frr(self, priority: u8) -> (String, String) {
        let (name, mac, word) = match self {
            Self::V2 | Self::V3 => ("vrrp4", "00:00:5e:00:01:29", "ip"),
            Self::Ipv6 => ("vrrp6", "00:00:5e:00:02:29", "ipv6"),
        };
        let mut links = format!(
            "link add {name} link {LAN} type macvlan mode bridge\n\
             link set {name} address {mac}\nlink set {name} up\n"
        );
        let (version, interval) = if self == Self::V2 { (2, 1000) } else { (3, 300) };
        let mut text = format!(
            "interface {LAN}\n vrrp 41 version {version}\n vrrp 41 priority {priority}\n \
             vrrp 41 advertisement-interval {interval}\n"
        );
        for address in self.addresses() {
            let (prefix, more) = if self == Self::Ipv6 { (64, " nodad") } else { (24, "") };
            links.push_str(&format!("addr add {address}/{prefix} dev {name}{more}\n"));
            text.push_str(&format!(" vrrp 41 {word} {address}\n"));
        }
        (links, text)
    }
}

/// FRR's vrrpd on a node; zebra, which reports interfaces to it, continues when it ends.
struct Vrrpd<'a> {
    node: &'a Node,
}

impl<'a> Vrrpd<'a> {
    fn prepare(lab: &Lab, node: &'a Node, (links, text): &(String, String)) -> Res<Self> {
        if !Path::new(FRR).join("vrrpd").is_file() {
            return Err(need::missing("vrrpd", "frr"));
        }
        node.ip(links)?;
        // It also writes below /var/tmp.
        node.must(["mount", "-t", "tmpfs", "tmpfs", "/var/tmp"])?;
        node.must(["install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/etc/frr"])?;
        node.write("/etc/frr/vrrpd.conf", text, 0o644)?;
        node.write("/etc/frr/zebra.conf", "", 0o644)?;
        start(node, "zebra")?;
        lab.timeline().poll(LIMIT, "zebra listens", || {
            Ok(node.output(["test", "-S", "/run/frr/zserv.api"])?.status.success().then_some(()))
        })?;
        Ok(Self { node })
    }

    fn start(&self) -> Res<u32> {
        start(self.node, "vrrpd")
    }
}

fn start(node: &Node, name: &str) -> Res<u32> {
    let mut command = Command::new(Path::new(FRR).join(name));
    let files = [("-f", "/etc/frr", "conf"), ("-i", "/run/frr", "pid")];
    for (option, folder, ending) in files {
        command.args([option, &format!("{folder}/{name}.{ending}")]);
    }
    command.args(["--vty_socket", "/run/frr", "--log", "stdout"]);
    command.args(["-z", "/run/frr/zserv.api"]);
    node.spawn(command, name)
}

/// Addresses of the family on both machines that adverts can be sent from.
fn pair(lab: &mut Lab, form: Form) -> Res<Pair> {
    let pair = Pair::new(lab)?;
    if form == Form::Ipv6 {
        for (node, last) in [(&pair.svr1, 71), (&pair.svr2, 72)] {
            node.sysctl(&format!("net.ipv6.conf.{LAN}.addr_gen_mode"), "1")?;
            for name in ["default", "all", LAN] {
                node.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), "0")?;
            }
            node.ip(&format!("addr add fe80::{last}/64 dev {LAN} nodad\n"))?;
        }
    }
    Ok(pair)
}

/// FRR is the better router: ours takes over when it dies, and yields when it returns.
fn frr_leads(lab: &mut Lab, form: Form) -> Res {
    let pair = pair(lab, form)?;
    let frr = Vrrpd::prepare(lab, &pair.svr1, &form.frr(200))?;
    let first = frr.start()?;
    lab.always().some_adverts(&pair.svr1, 3)?;
    pair.svr2.write(CONF, &form.configuration(100), 0o644)?;
    let daemon = lab.subject.start(&pair.svr2)?;
    lab.always().log(&pair.svr2, "(VRRP1) Entering BACKUP STATE")?;
    let mark = lab.mark();
    lab.after(mark).some_adverts(&pair.svr1, 8)?;
    check!(lab.always().adverts(&pair.svr2).is_empty(), "the backup sent adverts");

    lab.note("FRR dies");
    let mark = lab.mark();
    signal_to(first, Signal::SIGKILL)?;
    lab.after(mark).address(&pair.svr2, form.address(), true)?;

    lab.note("FRR returns");
    let mark = lab.mark();
    let second = frr.start()?;
    lab.after(mark).address(&pair.svr2, form.address(), false)?;
    let mark = lab.mark();
    lab.after(mark).some_adverts(&pair.svr1, 5)?;
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "two masters");

    lab.note("FRR stops");
    let mark = lab.mark();
    signal_to(second, Signal::SIGTERM)?;
    lab.after(mark).advert(&pair.svr1, |advert| advert.priority() == 0)?;
    lab.after(mark).address(&pair.svr2, form.address(), true)?;
    check!(daemon.stop()?, "the exit status is not zero");
    refused_nothing(lab, &pair.svr2)
}

/// Ours is the better router: FRR takes over when it dies, and yields when it returns.
fn ours_leads(lab: &mut Lab, form: Form) -> Res {
    let pair = pair(lab, form)?;
    pair.svr1.write(CONF, &form.configuration(200), 0o644)?;
    let daemon = lab.subject.start(&pair.svr1)?;
    lab.always().address(&pair.svr1, form.address(), true)?;
    let frr = Vrrpd::prepare(lab, &pair.svr2, &form.frr(100))?;
    frr.start()?;
    // A new router listens for as long as a master may be silent.
    lab.after(lab.mark()).some_adverts(&pair.svr1, 8)?;
    check!(lab.always().adverts(&pair.svr2).is_empty(), "FRR sent adverts");

    lab.note("ours dies");
    let mark = lab.mark();
    daemon.crash()?;
    lab.after(mark).some_adverts(&pair.svr2, 2)?;

    lab.note("ours returns");
    let mark = lab.mark();
    let daemon = lab.subject.start(&pair.svr1)?;
    lab.after(mark).log(&pair.svr1, "(VRRP1) Entering MASTER STATE")?;
    let mark = lab.mark();
    lab.after(mark).some_adverts(&pair.svr1, 5)?;
    let adverts = lab.after(mark).adverts(&pair.svr2).len();
    check!(adverts <= 1, "two masters: {adverts} adverts of FRR");

    lab.note("ours stops");
    let mark = lab.mark();
    check!(daemon.stop()?, "the exit status is not zero");
    lab.after(mark).advert(&pair.svr1, |advert| advert.priority() == 0)?;
    lab.after(mark).some_adverts(&pair.svr2, 2)?;
    refused_nothing(lab, &pair.svr1)
}

/// Checks that no packet of the other program was refused.
fn refused_nothing(lab: &Lab, node: &Node) -> Res {
    for word in ["wrong", "checksum", "mismatch", "invalid"] {
        let lines = lab.always().logs(node, word);
        check!(lines.is_empty(), "{lines:?}");
    }
    Ok(())
}

fn it_gives_way_to_frr_with_version_2(lab: &mut Lab) -> Res {
    frr_leads(lab, Form::V2)
}

fn frr_gives_way_to_it_with_version_2(lab: &mut Lab) -> Res {
    ours_leads(lab, Form::V2)
}

fn it_gives_way_to_frr_with_version_3(lab: &mut Lab) -> Res {
    frr_leads(lab, Form::V3)
}

fn frr_gives_way_to_it_with_version_3(lab: &mut Lab) -> Res {
    ours_leads(lab, Form::V3)
}

fn it_gives_way_to_frr_over_ipv6(lab: &mut Lab) -> Res {
    frr_leads(lab, Form::Ipv6)
}

fn frr_gives_way_to_it_over_ipv6(lab: &mut Lab) -> Res {
    ours_leads(lab, Form::Ipv6)
}
