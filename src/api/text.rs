//! The report as text for people, 80 columns wide. Pure.

use super::layout::{Table, ago, line, wrapped};
use super::report::{
    Answer, Checker, Daemon, Instance, Report, Server, Service, State, Tracker, Vrrp,
};
use crate::base::near::nearest;

/// No object has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {among} '{name}'{}", hint.as_ref().map(|h| format!(", did you mean '{h}'?")).unwrap_or_default())]
pub struct NotFound {
    /// What was searched.
    pub among: &'static str,
    pub name: String,
    /// The closest name.
    pub hint: Option<String>,
}

impl NotFound {
    /// None of these has the name.
    pub fn new<'a>(
        among: &'static str,
        name: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self { among, name: name.into(), hint: nearest(name, names.into_iter()).map(Into::into) }
    }
}

/// Reduces a report to the objects with this name.
///
/// # Errors
/// If there is none, although all processes answered.
pub fn select(mut report: Report, name: &str) -> Result<Report, NotFound> {
    let mut names: Vec<String> = Vec::new();
    let mut found = false;
    let mut keep = |one: &str| {
        names.push(one.into());
        found |= one == name;
        one == name
    };
    let mut complete = true;
    match &mut report.vrrp {
        Some(Answer::Known(vrrp)) => {
            vrrp.instances.retain(|i| keep(&i.name));
            vrrp.groups.retain(|g| keep(&g.name));
            vrrp.trackers.retain(|t| keep(&t.name));
        }
        other => complete &= other.is_none(),
    }
    match &mut report.checker {
        Some(Answer::Known(checker)) => checker.services.retain(|s| keep(&s.name)),
        other => complete &= other.is_none(),
    }
    if found || !complete {
        return Ok(report);
    }
    Err(NotFound::new("instance, group or service", name, names.iter().map(String::as_str)))
}

/// Reduces a list of instances to the one with this name.
///
/// # Errors
/// If there is none.
pub fn only<T>(
    instances: &mut Vec<T>,
    name: &str,
    name_of: impl Fn(&T) -> &str,
) -> Result<(), NotFound> {
    let Some(at) = instances.iter().position(|one| name_of(one) == name) else {
        return Err(NotFound::new("instance", name, instances.iter().map(name_of)));
    };
    *instances = vec![instances.swap_remove(at)];
    Ok(())
}

/// The text of a report about virtual routers alone.
pub fn of_routers<T>(answer: Option<&Answer<T>>, known: impl FnOnce(&T) -> String) -> String {
    match answer {
        Some(Answer::Known(routers)) => known(routers),
        Some(Answer::Unknown { unknown }) => format!("virtual routers: unknown: {unknown}\n"),
        None => "the configuration has no virtual routers\n".into(),
    }
}

/// The text of a report.
#[must_use]
pub fn screen(report: &Report) -> String {
    let mut text = String::new();
    match &report.daemon {
        Answer::Known(daemon) => head(&mut text, daemon, &report.at),
        Answer::Unknown { unknown } => line(&mut text, &format!("evervipd: unknown: {unknown}")),
    }
    match &report.vrrp {
        Some(Answer::Known(vrrp)) => routers(&mut text, vrrp, &report.at),
        Some(Answer::Unknown { unknown }) => {
            line(&mut text, &format!("\nvirtual routers: unknown: {unknown}"));
        }
        None => {}
    }
    match &report.checker {
        Some(Answer::Known(checker)) => servers(&mut text, checker, &report.at),
        Some(Answer::Unknown { unknown }) => {
            line(&mut text, &format!("\nvirtual servers: unknown: {unknown}"));
        }
        None => {}
    }
    text
}

fn head(text: &mut String, daemon: &Daemon, now: &str) {
    let up = ago(&daemon.since, now);
    line(text, &format!("evervipd {}, pid {}, up {up}", daemon.version, daemon.pid));
    match &daemon.configuration {
        Some(c) => {
            line(text, &format!("configuration: {}, read {} ago", c.file, ago(&c.read, now)));
            if let Some(first) = &c.first_problem {
                let left_out = match c.left_out {
                    0 => String::new(),
                    1 => "1 mistake, left out: ".into(),
                    n => format!("{n} mistakes, left out; the first: "),
                };
                wrapped(text, "  ", &format!("{left_out}{first}"));
            }
        }
        None => line(text, "configuration: the first one is being read"),
    }
    if daemon.reloading {
        line(text, "  a reload is under way");
    }
    if let Some(reload) = &daemon.last_reload
        && let Some(why) = &reload.refused
    {
        let when = ago(&reload.at, now);
        wrapped(text, "  ", &format!("LAST RELOAD REFUSED {when} ago: {why}"));
    }
    for process in daemon.processes.iter().filter(|p| p.wanted && p.pid.is_none()) {
        line(text, &format!("  the {} process does not run now", process.role));
    }
}

fn routers(text: &mut String, vrrp: &Vrrp, now: &str) {
    if !vrrp.instances.is_empty() {
        let mut table =
            Table::new(["INSTANCE", "INTERFACE", "VRID", "STATE", "FOR", "PRIO", "HELD", "MASTER"]);
        table.right = [false, false, true, false, true, true, true, false];
        for i in &vrrp.instances {
            table.row([
                i.name.clone(),
                i.interface.clone(),
                i.vrid.to_string(),
                state(i.state).into(),
                ago(&i.since, now),
                i.effective_priority.to_string(),
                i.objects_held.to_string(),
                master(i),
            ]);
            if i.effective_priority != i.priority {
                table.note(format!("configured priority {}, changed by trackers", i.priority));
            }
            for fault in &i.faults {
                table.note(format!("fault: {fault}"));
            }
            for missing in &i.objects_missing {
                table.note(format!("{}: {}", missing.object, missing.reason));
            }
        }
        table.print(text);
    }
    if !vrrp.groups.is_empty() {
        let mut table = Table::new(["GROUP", "STATE"]);
        vrrp.groups.iter().for_each(|g| table.row([g.name.clone(), state(g.state).into()]));
        table.print(text);
    }
    if !vrrp.trackers.is_empty() {
        let mut table = Table::new(["TRACKER", "KIND", "RESULT"]);
        for Tracker { kind, name, good, value } in &vrrp.trackers {
            let good = good.map(|good| if good { "good" } else { "BAD" });
            let result = match (good, value) {
                (Some(good), Some(running)) => format!("{good} ({running} running)"),
                (Some(good), None) => good.into(),
                (None, Some(number)) => number.to_string(),
                (None, None) => "unknown".into(),
            };
            table.row([name.clone(), kind.clone(), result]);
        }
        table.print(text);
    }
}

fn servers(text: &mut String, checker: &Checker, now: &str) {
    if let Some(error) = &checker.ipvs_error {
        line(text, &format!("\nIPVS is not available: {error}"));
    }
    for service in &checker.services {
        text.push('\n');
        line(text, &service_line(service, now));
        if let Some(error) = &service.refused {
            wrapped(text, "  ", &format!("refused: {error}"));
        }
        if service.suspended {
            line(text, "  checks are suspended: this machine has none of its addresses");
        }
        if service.servers.is_empty() {
            continue;
        }
        let mut table = Table::new(["  SERVER", "STATE", "FOR", "WEIGHT", "LAST CHECK"]);
        table.right = [false, false, true, true, false];
        table.gap = false;
        for server in &service.servers {
            table.row([
                format!("  {}", server.address),
                up(server.up).into(),
                ago(&server.since, now),
                weight(server),
                last(server),
            ]);
            if let Some(error) = &server.refused {
                table.note(format!("refused: {error}"));
            }
        }
        table.print(text);
    }
}

fn service_line(service: &Service, now: &str) -> String {
    let sorry = if service.sorry { ", sorry server in service" } else { "" };
    format!(
        "{} {} for {}, weight {} of quorum {}{sorry}",
        service.name,
        up(service.up),
        ago(&service.since, now),
        service.weight,
        service.quorum
    )
}

pub(super) const fn state(state: State) -> &'static str {
    match state {
        State::Init => "INIT",
        State::Backup => "BACKUP",
        State::Master => "MASTER",
        State::Fault => "FAULT",
    }
}

const fn up(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

fn master(instance: &Instance) -> String {
    match (&instance.master, instance.state) {
        (_, State::Master) => "this router".into(),
        (Some(master), _) => master.clone(),
        (None, _) => "none heard".into(),
    }
}

/// The weight in the kernel, or the configured one where the kernel has no entry.
fn weight(server: &Server) -> String {
    match server.kernel_weight {
        Some(weight) => weight.to_string(),
        None => format!("({})", server.weight),
    }
}

/// The result of the failed check, else of the first one.
fn last(server: &Server) -> String {
    let check = server.checks.iter().find(|check| !check.up).or_else(|| server.checks.first());
    check.map_or_else(String::new, |check| {
        let result = check.last_result.as_deref().unwrap_or("not yet checked");
        format!("{} {result}", check.kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::layout::WIDTH;
    use crate::api::report::{Check, Configuration, Group, Missing, Process, Reload};

    const NOW: &str = "2026-03-01T00:00:10.500Z";

    #[rustfmt::skip]
    const SCREEN: &str = "\
evervipd 0.1.0, pid 7, up 1h00m
configuration: /etc/keepalived/keepalived.conf, read 9s ago
  2 mistakes, left out; the first: (/etc/k.conf: Line 2) word word word word
    word word word word word word word word word word word word word word word
    word word word word word word word word word word word
  LAST RELOAD REFUSED 0s ago: no?[31m
  the checker process does not run now

INSTANCE                 INTERFACE  VRID  STATE     FOR  PRIO  HELD  MASTER
A                        eth0         51  MASTER  2m05s    80     1  this router
    configured priority 100, changed by trackers
    address 10.0.0.9/24 on eth0: refused 2 times: Permission denied
xxxxxxxxxxxxxxxxxxxxxx~  eth0         51  BACKUP  2m05s    80     1  10.0.0.1
    configured priority 100, changed by trackers
    address 10.0.0.9/24 on eth0: refused 2 times: Permission denied
C                        eth0         51  FAULT   2m05s    80     1  none heard
    configured priority 100, changed by trackers
    fault: eth0 is down
    address 10.0.0.9/24 on eth0: refused 2 times: Permission denied

GROUP  STATE
G      BACKUP

TRACKER  KIND     RESULT
T        script   BAD
new      script   unknown
load     file     -3
web      process  good (4 running)

IPVS is not available: Protocol not available

[10.0.0.1]:tcp:80 UP for 0s, weight 4 of quorum 1, sorry server in service
  checks are suspended: this machine has none of its addresses
  SERVER        STATE    FOR  WEIGHT  LAST CHECK
  10.0.0.71:80  DOWN   1d02h     (3)  TCP_CHECK connection refused
";

    fn instance(name: &str, state: State) -> Instance {
        Instance {
            name: name.into(),
            interface: "eth0".into(),
            vrid: 51,
            state,
            since: "2026-02-28T23:58:05.100Z".into(),
            priority: 100,
            effective_priority: 80,
            master: (state == State::Backup).then(|| "10.0.0.1".into()),
            faults: if state == State::Fault { vec!["eth0 is down".into()] } else { Vec::new() },
            objects_wanted: 2,
            objects_held: 1,
            objects_missing: vec![Missing {
                object: "address 10.0.0.9/24 on eth0".into(),
                reason: "refused 2 times: Permission denied".into(),
            }],
            counters: std::collections::BTreeMap::new(),
        }
    }

    fn sample() -> Report {
        let long = "x".repeat(90);
        let server = Server {
            address: "10.0.0.71:80".into(),
            up: false,
            since: "2026-02-27T22:00:10.500Z".into(),
            weight: 3,
            kernel_weight: None,
            refused: None,
            checks: vec![Check {
                kind: "TCP_CHECK".into(),
                up: false,
                last_result: Some("connection refused".into()),
                failed_attempts: 0,
            }],
        };
        Report {
            schema: 1,
            at: NOW.into(),
            daemon: Answer::Known(Daemon {
                version: "0.1.0".into(),
                pid: 7,
                since: "2026-02-28T23:00:10.000Z".into(),
                configuration: Some(Configuration {
                    file: "/etc/keepalived/keepalived.conf".into(),
                    generation: 1,
                    read: "2026-03-01T00:00:01.000Z".into(),
                    left_out: 2,
                    first_problem: Some(format!("(/etc/k.conf: Line 2) {}", "word ".repeat(30))),
                }),
                reloading: false,
                reloads: 1,
                last_reload: Some(Reload { at: NOW.into(), refused: Some("no\x1b[31m".into()) }),
                processes: vec![Process {
                    role: "checker".into(),
                    wanted: true,
                    pid: None,
                    since: None,
                    starts: 3,
                }],
            }),
            vrrp: Some(Answer::Known(Vrrp {
                instances: vec![
                    instance("A", State::Master),
                    instance(&long, State::Backup),
                    instance("C", State::Fault),
                ],
                groups: vec![Group { name: "G".into(), state: State::Backup }],
                trackers: [
                    ("script", "T", Some(false), None),
                    ("script", "new", None, None),
                    ("file", "load", None, Some(-3)),
                    ("process", "web", Some(true), Some(4)),
                ]
                .map(|(kind, name, good, value)| Tracker {
                    kind: kind.into(),
                    name: name.into(),
                    good,
                    value,
                })
                .into(),
                unknown_vrid: 0,
                malformed: 0,
            })),
            checker: Some(Answer::Known(Checker {
                ipvs: "unavailable".into(),
                ipvs_error: Some("Protocol not available".into()),
                services: vec![Service {
                    name: "[10.0.0.1]:tcp:80".into(),
                    up: true,
                    since: NOW.into(),
                    weight: 4,
                    quorum: 1,
                    sorry: true,
                    suspended: true,
                    refused: None,
                    servers: vec![server],
                }],
                counters: std::collections::BTreeMap::new(),
            })),
        }
    }

    #[test]
    fn the_screen_fits_and_says_what_matters() {
        let screen = screen(&sample());
        for line in screen.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(!screen.contains('\x1b'), "{screen}");
        assert_eq!(screen, SCREEN);
    }

    #[test]
    fn what_is_unknown_is_said() {
        let unknown = || Answer::Unknown { unknown: "vrrp did not answer in 1 s".into() };
        let report = Report { vrrp: Some(unknown()), checker: None, ..sample() };
        assert!(screen(&report).contains("virtual routers: unknown: vrrp did not answer in 1 s\n"));
        // A process that does not answer may have an object of this name.
        assert!(select(report, "Z").is_ok());
    }

    #[test]
    fn one_is_found_by_its_name() {
        let one = select(sample(), "A").unwrap();
        let vrrp = one.vrrp.as_ref().and_then(Answer::known).unwrap();
        assert_eq!((vrrp.instances.len(), vrrp.groups.len()), (1, 0));
        assert_eq!(one.checker.as_ref().and_then(Answer::known).unwrap().services.len(), 0);
        let service = select(sample(), "[10.0.0.1]:tcp:80").unwrap();
        assert_eq!(service.checker.as_ref().and_then(Answer::known).unwrap().services.len(), 1);
        let none = select(sample(), "[10.0.0.1]:tcp:81").unwrap_err();
        assert_eq!(
            none.to_string(),
            "no instance, group or service '[10.0.0.1]:tcp:81', did you mean '[10.0.0.1]:tcp:80'?"
        );
    }
}
