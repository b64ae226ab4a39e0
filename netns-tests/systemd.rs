//! The unit under a real systemd: start, reload with a good and a bad file, stop, and the journal entries.

use std::collections::BTreeMap;
use std::path::Path;

use crate::lab::daemon::{CONF, Make};
use crate::lab::node::Node;
use crate::lab::{LIMIT, Lab, Res, fail};
use crate::scenario::{FAILOVER, LAN, steady, within};
use crate::{cases, check};

cases![Systemd:
    the_unit_starts_reloads_and_stops,
    a_start_that_fails_says_why_in_the_journal_and_the_status,
    the_journal_keeps_the_instance_and_its_state,
    a_unit_whose_process_dies_is_started_again,
    what_scripts_mount_is_there_for_the_host,
    the_unit_is_sound,
];

const VIP: &str = "10.0.0.100";

/// The unit as it is installed, on a machine with the interface of the failover scenario.
struct Installed {
    host: Node,
    name: &'static str,
}

impl Installed {
    fn new(lab: &mut Lab) -> Res<Self> {
        lab.segment("lan")?;
        let host = lab.outside()?;
        host.ip("link del enp0s8\n").or_else(|_| host.ip("link show lo\n"))?;
        lab.plug(&host, "lan", LAN, &["10.0.0.71/24"])?;
        host.write(CONF, FAILOVER[0], 0o644)?;
        let name =
            match lab.subject.make {
                Make::Keepalived => {
                    // The guest masks the unit that would start by itself.
                    host.must(["rm", "-f", "/etc/systemd/system/keepalived.service"])?;
                    host.write("/etc/default/keepalived", "DAEMON_ARGS=\"-D\"\n", 0o644)?;
                    "keepalived.service"
                }
                Make::EverVip => {
                    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/evervip.service");
                    host.must(["install", "-m", "755"].map(Into::into).into_iter().chain([
                        lab.subject.path.clone().into_os_string(),
                        "/usr/sbin/evervipd".into(),
                    ]))?;
                    let command = env!("CARGO_BIN_EXE_evervip");
                    host.must(["install", "-m", "755", command, "/usr/sbin/evervip"])?;
                    host.must(["install", "-m", "644"].map(Into::into).into_iter().chain([
                        unit.into_os_string(),
                        "/etc/systemd/system/evervip.service".into(),
                    ]))?;
                    "evervip.service"
                }
            };
        host.must(["systemctl", "daemon-reload"])?;
        Ok(Self { host, name })
    }

    fn systemctl(&self, word: &str) -> Res<bool> {
        Ok(self.host.output(["systemctl", word, self.name])?.status.success())
    }

    fn show(&self, property: &str) -> Res<String> {
        let option = format!("--property={property}");
        let text = self.host.must(["systemctl", "show", "--value", &option, self.name])?;
        Ok(text.trim().to_owned())
    }

    /// Waits until the journal of the unit has an entry whose message contains the text; returns its fields.
    fn journal(&self, lab: &Lab, text: &str) -> Res<BTreeMap<String, String>> {
        let words = ["journalctl", "--unit", self.name, "--output", "json", "--no-pager"];
        lab.timeline().poll(LIMIT, &format!("`{text}` in the journal"), || {
            let found = self.host.must(words)?.lines().find_map(|line| {
                let entry: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).ok()?;
                let message = entry.get("MESSAGE")?.as_str()?;
                message.contains(text).then(|| entry.clone())
            });
            Ok(found.map(|entry| {
                entry
                    .into_iter()
                    .map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned()))
                    .collect()
            }))
        })
    }

    /// The content of the journal, for the report of a failure.
    fn story(&self) -> String {
        let output = self.host.output(["journalctl", "--no-pager", "--unit", self.name]);
        output.map_or_else(|_| String::new(), |output| output.stdout)
    }
}

fn the_unit_starts_reloads_and_stops(lab: &mut Lab) -> Res {
    let unit = Installed::new(lab)?;
    let result = life(lab, &unit);
    lab.note(unit.story());
    result
}

fn life(lab: &Lab, unit: &Installed) -> Res {
    check!(unit.systemctl("start")?, "the unit does not start");
    check!(unit.show("ActiveState")? == "active", "{}", unit.show("ActiveState")?);
    let host = &unit.host;
    lab.always().address(host, VIP, true)?;
    lab.always().some_garps(host, VIP.parse()?, 10)?;
    let main = unit.show("MainPID")?;

    lab.note("a good file");
    host.write(CONF, &within(FAILOVER[0], "virtual_ipaddress {", "10.0.0.101/24"), 0o644)?;
    let mark = lab.mark();
    check!(unit.systemctl("reload")?, "the unit does not reload");
    lab.after(mark).address(host, "10.0.0.101", true)?;
    steady(lab, mark, host, 3)?;
    check!(unit.show("MainPID")? == main, "another process");
    check!(unit.show("ActiveState")? == "active", "{}", unit.show("ActiveState")?);

    if lab.subject.make == Make::EverVip {
        lab.note("a bad file");
        host.write(CONF, &FAILOVER[0].replace("interface", "intreface"), 0o644)?;
        let mark = lab.mark();
        check!(!unit.systemctl("reload")?, "a refused reload did not fail");
        let printed = unit.journal(lab, "evervip: reload refused")?;
        check!(printed.get("MESSAGE").is_some_and(|m| m.contains("intreface")), "{printed:?}");
        unit.journal(lab, "intreface")?;
        steady(lab, mark, host, 3)?;
        check!(lab.after(mark).kernel(host).is_empty(), "{:?}", lab.after(mark).kernel(host));
        let state = || Ok((unit.show("ActiveState")? == "active").then_some(()));
        lab.timeline().poll(LIMIT, "the unit is active again", state)?;
        check!(unit.show("MainPID")? == main, "another process");
        let status = unit.show("StatusText")?;
        check!(!status.is_empty(), "no status text");
        host.write(CONF, FAILOVER[0], 0o644)?;
        let mark = lab.mark();
        check!(unit.systemctl("reload")?, "the unit does not reload after a bad file");
        lab.after(mark).address(host, "10.0.0.101", false)?;
    }

    let mark = lab.mark();
    check!(unit.systemctl("stop")?, "the unit does not stop");
    lab.after(mark).advert(host, |advert| advert.priority() == 0)?;
    check!(!host.has(LAN, "10.0.0.100/24")?, "{}", host.addresses(LAN)?);
    check!(unit.show("Result")? == "success", "{}", unit.show("Result")?);
    check!(unit.show("ActiveState")? == "inactive", "{}", unit.show("ActiveState")?);
    Ok(())
}

fn a_start_that_fails_says_why_in_the_journal_and_the_status(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its messages differ")?;
    let unit = Installed::new(lab)?;
    let text = FAILOVER[0].replace("virtual_router_id", "virtual_ruter_id");
    unit.host.write(CONF, &text, 0o644)?;
    check!(!unit.systemctl("start")?, "it starts with nothing usable");
    // The cause, and what follows from it.
    unit.journal(lab, "virtual_ruter_id")?;
    unit.journal(lab, "nothing of the configuration can be used")?;
    let state = || Ok((unit.show("ActiveState")? == "failed").then_some(()));
    lab.timeline().poll(LIMIT, "the unit has failed", state)?;
    check!(unit.show("ExecMainStatus")? == "2", "{}", unit.show("ExecMainStatus")?);
    let status = unit.show("StatusText")?;
    check!(status.contains("nothing of the configuration can be used"), "{status:?}");

    lab.note("with a file that can be used it starts");
    unit.host.write(CONF, FAILOVER[0], 0o644)?;
    check!(unit.systemctl("start")?, "the unit does not start");
    lab.always().address(&unit.host, VIP, true)?;
    check!(unit.systemctl("stop")?, "the unit does not stop");
    Ok(())
}

fn the_journal_keeps_the_instance_and_its_state(lab: &mut Lab) -> Res {
    let unit = Installed::new(lab)?;
    check!(unit.systemctl("start")?, "the unit does not start: {}", unit.story());
    let entry = unit.journal(lab, "(VRRP1) Entering MASTER STATE")?;
    unit.systemctl("stop")?;
    lab.subject.ours_only("it logs plain text only")?;
    let field = |name: &str| entry.get(name).map(String::as_str);
    check!(field("INSTANCE") == Some("VRRP1"), "{entry:#?}");
    check!(field("VRID") == Some("41"), "{entry:#?}");
    check!(field("STATE") == Some("MASTER"), "{entry:#?}");
    check!(field("PRIORITY").is_some(), "{entry:#?}");
    check!(field("SYSLOG_IDENTIFIER").is_some(), "{entry:#?}");
    Ok(())
}

fn a_unit_whose_process_dies_is_started_again(lab: &mut Lab) -> Res {
    lab.subject.ours_only("its unit does not configure a restart")?;
    let unit = Installed::new(lab)?;
    check!(unit.systemctl("start")?, "the unit does not start: {}", unit.story());
    lab.always().address(&unit.host, VIP, true)?;
    let main = unit.show("MainPID")?;
    unit.host.must(["kill", "-KILL", &main])?;
    let other = || {
        let now = unit.show("MainPID")?;
        Ok((now != main && now != "0" && unit.show("ActiveState")? == "active").then_some(()))
    };
    lab.timeline().poll(LIMIT, "the unit runs again", other)?;
    // Whether or not the old processes could still remove the address: it is held and advertised again.
    lab.after(lab.mark()).some_adverts(&unit.host, 2)?;
    lab.timeline().poll(LIMIT, "the address is there", || {
        Ok(unit.host.has(LAN, "10.0.0.100/24")?.then_some(()))
    })?;
    unit.systemctl("stop")?;
    Ok(())
}

fn the_unit_is_sound(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it has its own unit")?;
    let unit = Installed::new(lab)?;
    let output = unit.host.output(["systemd-analyze", "verify", "--man=no", unit.name])?;
    check!(output.status.success() && output.stderr.is_empty(), "{}", output.stderr);
    let options = ["systemd-analyze", "security", "--no-pager", unit.name];
    let text = unit.host.must(options)?;
    lab.note(&text);
    let line = text.lines().last().unwrap_or_default();
    // Reported, not asserted: users' scripts run inside, and roles confine themselves.
    let level: Option<f64> = line.split_whitespace().find_map(|word| word.parse().ok());
    level.ok_or_else(|| fail(format!("no exposure level in `{line}`")))?;
    Ok(())
}

fn what_scripts_mount_is_there_for_the_host(lab: &mut Lab) -> Res {
    let unit = Installed::new(lab)?;
    let script = "#!/bin/sh\nmkdir -p /run/share\nmount -t tmpfs share /run/share\n\
        ip netns add inner\necho done >/run/share/file\n";
    unit.host.write("/usr/local/bin/on_master", script, 0o755)?;
    let lines = "notify_master /usr/local/bin/on_master";
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", lines);
    unit.host.write(CONF, &text, 0o644)?;
    check!(unit.systemctl("start")?, "the unit does not start: {}", unit.story());
    let seen = lab.timeline().poll(LIMIT, "the file on what the script mounted", || {
        let mounts = unit.host.must(["cat", "/proc/self/mounts"])?;
        let read = unit.host.read("/run/share/file").is_ok();
        Ok((read && mounts.contains(" /run/share ")).then_some(()))
    });
    let inside = unit.host.output(["ip", "netns", "exec", "inner", "ip", "link", "show", "lo"]);
    unit.systemctl("stop")?;
    let _ = unit.host.output(["umount", "/run/share"]);
    let _ = unit.host.output(["ip", "netns", "del", "inner"]);
    seen?;
    let inside = inside?;
    check!(inside.status.success(), "the namespace does not exist: {}", inside.stderr);
    Ok(())
}
