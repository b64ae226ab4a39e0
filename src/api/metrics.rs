//! The report of the state as metrics in OpenMetrics text. Pure. Each metric is declared once, here; docs/metrics.md
//! lists them. The configuration bounds the number of series: labels are names in it, roles, and reasons of a fixed
//! list.

use core::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::report::{Answer, Checker, Daemon, Instance, Report, Server, Service, State, Vrrp};

/// Counters of instances with their own metric. All others count refused packets, by reason.
const INSTANCE_COUNTERS: [(&str, &str); 9] = [
    ("adverts_received", "Valid adverts received"),
    ("adverts_sent", "Adverts sent"),
    ("adverts_unsent", "Adverts that the socket refused"),
    ("became_master", "Times the instance became master"),
    ("released_master", "Times the instance ceased to be master"),
    ("priority_zero_received", "Valid adverts of priority 0 received"),
    ("priority_zero_sent", "Adverts of priority 0 sent"),
    (
        "objects_restored",
        "Addresses, routes and other objects restored after another program removed them",
    ),
    ("address_list_mismatch", "Adverts accepted although their list of addresses differs"),
];

/// Counters of the checker.
const CHECKER_COUNTERS: [(&str, &str); 8] = [
    ("attempts", "Attempts of checks begun"),
    ("succeeded", "Attempts of checks that succeeded"),
    ("failed", "Attempts of checks that failed"),
    ("untried", "Attempts of checks that could not be made"),
    ("repeated", "Attempts of checks repeated because the process itself was late"),
    ("operations", "Operations on the IPVS table that were carried out"),
    ("refused", "Operations on the IPVS table that the kernel refused"),
    ("restored", "Virtual servers restored after another program changed them"),
];

/// Labels of a metric: names and values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels(Vec<(&'static str, Value)>);

impl EncodeLabelSet for Labels {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// A value of a label. The library does not escape it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Value(Box<str>);

impl EncodeLabelValue for Value {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                c => encoder.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    Labels(pairs.into_iter().map(|(name, value)| (name, Value(value.into()))).collect())
}

type Gauges = Family<Labels, Gauge>;
type Counters = Family<Labels, Counter>;

/// The metrics of one report.
struct Metrics(Registry);

impl Metrics {
    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], i64)>,
    ) {
        let family = Gauges::default();
        for (pairs, value) in values {
            let pairs = pairs.each_ref().map(|(name, value)| (*name, value.as_str()));
            family.get_or_create(&labels(pairs)).set(value);
        }
        self.0.register(name, help, family);
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, String); N], u64)>,
    ) {
        let family = Counters::default();
        for (pairs, value) in values {
            let pairs = pairs.each_ref().map(|(name, value)| (*name, value.as_str()));
            family.get_or_create(&labels(pairs)).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn daemon(&mut self, daemon: &Daemon) {
        let version = Info::new(labels([("version", &daemon.version)]));
        self.0.register("build", "Version of the daemon", version);
        let refused = daemon.last_reload.as_ref().is_some_and(|reload| reload.refused.is_some());
        self.gauge("last_reload_refused", "Whether the last reload was refused", refused.into());
        self.counter("reloads", "Reloads that have ended", daemon.reloads.into());
        let of = |value: Option<usize>| value.and_then(|v| i64::try_from(v).ok()).unwrap_or(0);
        let configuration = daemon.configuration.as_ref();
        self.gauge(
            "configuration_generation",
            "Number of the configuration in force, 0 before the first",
            of(configuration.map(|c| c.generation as usize)),
        );
        self.gauge(
            "configuration_errors",
            "Errors of the configuration for which something is left out",
            of(configuration.map(|c| c.left_out)),
        );
        let processes = || daemon.processes.iter().filter(|process| process.wanted);
        self.gauges(
            "process_up",
            "Whether a process that the configuration needs is running",
            processes().map(|p| ([("role", p.role.clone())], p.pid.is_some().into())),
        );
        self.counters(
            "process_starts",
            "Starts of a process",
            processes().map(|p| ([("role", p.role.clone())], p.starts.into())),
        );
    }

    fn vrrp(&mut self, vrrp: &Vrrp) {
        let mut gauge = |name: &str, help: &str, value: fn(&Instance) -> i64| {
            self.gauges(name, help, vrrp.instances.iter().map(|i| (instance(i), value(i))));
        };
        gauge("vrrp_state", STATES, |i| number(i.state));
        gauge("vrrp_priority", "Configured priority", |i| i.priority.into());
        gauge("vrrp_effective_priority", "Priority after all trackers", |i| {
            i.effective_priority.into()
        });
        gauge("vrrp_objects_wanted", "Addresses, routes and other objects of a master", |i| {
            of_count(i.objects_wanted)
        });
        gauge("vrrp_objects_held", "Those of them that are in the kernel", |i| {
            of_count(i.objects_held)
        });
        for (name, help) in INSTANCE_COUNTERS {
            let values = vrrp.instances.iter().map(|i| (instance(i), counter(i, name)));
            self.counters(&format!("vrrp_{name}"), help, values);
        }
        let refused = vrrp.instances.iter().flat_map(|i| {
            let reasons = i.counters.iter().filter(|(name, _)| {
                INSTANCE_COUNTERS.iter().all(|(plain, _)| plain != &name.as_str())
            });
            reasons.map(|(reason, count)| {
                let [name, interface, vrid] = instance(i);
                ([name, interface, vrid, ("reason", reason.clone())], *count)
            })
        });
        self.counters("vrrp_packets_refused", "Packets that were refused, by reason", refused);
        self.counter(
            "vrrp_unknown_vrid",
            "Adverts for a virtual router id that no instance has",
            vrrp.unknown_vrid,
        );
        self.counter(
            "vrrp_malformed",
            "Packets of IP protocol 112 that belong to no instance",
            vrrp.malformed,
        );
        self.gauges(
            "vrrp_group_state",
            STATES,
            vrrp.groups.iter().map(|g| ([("group", g.name.clone())], number(g.state))),
        );
        let known = vrrp.trackers.iter().filter_map(|t| Some((t, t.good?)));
        self.gauges(
            "vrrp_tracker_up",
            "Whether what is tracked is good",
            known.map(|(t, good)| {
                ([("kind", t.kind.clone()), ("name", t.name.clone())], good.into())
            }),
        );
    }

    fn checker(&mut self, checker: &Checker) {
        let ready = checker.ipvs == "ready";
        self.gauge("ipvs_up", "Whether the IPVS table can be used", ready.into());
        let mut service = |name: &str, help: &str, value: fn(&Service) -> i64| {
            let values = checker.services.iter();
            self.gauges(name, help, values.map(|s| ([("service", s.name.clone())], value(s))));
        };
        service("service_up", "Whether the quorum is reached", |s| s.up.into());
        service("service_weight", "Weight of the servers in service", |s| {
            i64::try_from(s.weight).unwrap_or(i64::MAX)
        });
        service("service_quorum", "Weight at which the service is up", |s| s.quorum.into());
        service("service_sorry", "Whether the sorry server is in service", |s| s.sorry.into());
        let mut server = |name: &str, help: &str, value: fn(&Server) -> Option<i64>| {
            let all = checker.services.iter().flat_map(|service| {
                service.servers.iter().filter_map(move |server| {
                    let names =
                        [("service", service.name.clone()), ("server", server.address.clone())];
                    Some((names, value(server)?))
                })
            });
            self.gauges(name, help, all);
        };
        server("server_up", "Whether the real server is in service", |s| Some(s.up.into()));
        server("server_weight", "Weight while it is in service", |s| Some(s.weight.into()));
        server("server_kernel_weight", "Weight in the IPVS table; absent without an entry", |s| {
            s.kernel_weight.map(Into::into)
        });
        server(
            "server_failed_attempts",
            "Failed attempts in a row that have not taken it down",
            |s| Some(s.checks.iter().map(|check| i64::from(check.failed_attempts)).sum()),
        );
        for (name, help) in CHECKER_COUNTERS {
            let value = checker.counters.get(name).copied().unwrap_or(0);
            self.counter(&format!("checker_{name}"), help, value);
        }
    }
}

/// The number of a state, as in keepalived's JSON, which its exporters use.
const STATES: &str = "State: 0 init, 1 backup, 2 master, 3 fault";

const fn number(state: State) -> i64 {
    match state {
        State::Init => 0,
        State::Backup => 1,
        State::Master => 2,
        State::Fault => 3,
    }
}

fn of_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn instance(instance: &Instance) -> [(&'static str, String); 3] {
    [
        ("instance", instance.name.clone()),
        ("interface", instance.interface.clone()),
        ("vrid", instance.vrid.to_string()),
    ]
}

fn counter(instance: &Instance, name: &str) -> u64 {
    instance.counters.get(name).copied().unwrap_or(0)
}

/// The report as OpenMetrics text.
///
/// # Errors
/// Never, in practice: formatting into memory.
pub fn openmetrics(report: &Report) -> Result<String, fmt::Error> {
    fn answered<T>(answer: Option<&Answer<T>>) -> Option<i64> {
        Some(answer?.known().is_some().into())
    }
    let mut metrics = Metrics(Registry::with_prefix("evervip"));
    let answers = [
        ("supervisor", answered(Some(&report.daemon))),
        ("vrrp", answered(report.vrrp.as_ref())),
        ("checker", answered(report.checker.as_ref())),
    ];
    let answers = answers.into_iter().filter_map(|(role, value)| Some((role, value?)));
    metrics.gauges(
        "answered",
        "Whether a process answered in time",
        answers.map(|(role, value)| ([("role", role.to_owned())], value)),
    );
    if let Some(daemon) = report.daemon.known() {
        metrics.daemon(daemon);
    }
    if let Some(vrrp) = report.vrrp.as_ref().and_then(Answer::known) {
        metrics.vrrp(vrrp);
    }
    if let Some(checker) = report.checker.as_ref().and_then(Answer::known) {
        metrics.checker(checker);
    }
    let mut text = String::new();
    text::encode(&mut text, &metrics.0)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;

    /// A report that contains every kind of object; `name` is the name of the instance.
    fn report(name: &str) -> Report {
        let server = serde_json::json!({
            "address": "10.0.0.71:80", "up": false, "since": "", "weight": 3, "kernel_weight": null,
            "refused": null,
            "checks": [{"kind": "TCP_CHECK", "up": false, "last_result": "", "failed_attempts": 2}],
        });
        let value = serde_json::json!({
            "schema": 1, "at": "",
            "daemon": {
                "version": "0.1.0", "pid": 7, "since": "",
                "configuration": {
                    "file": "", "generation": 5, "read": "", "left_out": 2, "first_problem": null,
                },
                "reloading": false, "reloads": 4, "last_reload": {"at": "", "refused": "no"},
                "processes": [
                    {"role": "vrrp", "wanted": true, "pid": 8, "since": null, "starts": 2},
                    {"role": "checker", "wanted": false, "pid": null, "since": null, "starts": 0},
                ],
            },
            "vrrp": {
                "instances": [{
                    "name": name, "interface": "eth0", "vrid": 51, "state": "MASTER", "since": "",
                    "priority": 100, "effective_priority": 80, "master": null, "faults": [],
                    "objects_wanted": 3, "objects_held": 2, "objects_missing": [],
                    "counters": status::vrrp::Counters {
                        adverts_sent: 17, bad_ttl: 6, ..Default::default()
                    },
                }],
                "groups": [{"name": "G", "state": "FAULT"}],
                "trackers": [
                    {"kind": "script", "name": "T", "good": false},
                    {"kind": "script", "name": "U", "good": null},
                ],
                "unknown_vrid": 9, "malformed": 0,
            },
            "checker": {
                "ipvs": "ready", "ipvs_error": null,
                "services": [{
                    "name": "[10.0.0.1]:tcp:80", "up": true, "since": "", "weight": 4, "quorum": 1,
                    "sorry": true, "refused": null, "servers": [server],
                }],
                "counters": status::check::Counters { attempts: 12, ..Default::default() },
            },
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_report_becomes_metrics() {
        let text = openmetrics(&report("VI_1")).unwrap();
        let of = "instance=\"VI_1\",interface=\"eth0\",vrid=\"51\"";
        for line in [
            "evervip_build_info{version=\"0.1.0\"} 1".to_owned(),
            "evervip_answered{role=\"checker\"} 1".to_owned(),
            "evervip_last_reload_refused 1".to_owned(),
            "evervip_reloads_total 4".to_owned(),
            "evervip_configuration_errors 2".to_owned(),
            "evervip_process_up{role=\"vrrp\"} 1".to_owned(),
            format!("evervip_vrrp_state{{{of}}} 2"),
            format!("evervip_vrrp_effective_priority{{{of}}} 80"),
            format!("evervip_vrrp_adverts_sent_total{{{of}}} 17"),
            format!("evervip_vrrp_packets_refused_total{{{of},reason=\"bad_ttl\"}} 6"),
            "evervip_vrrp_group_state{group=\"G\"} 3".to_owned(),
            "evervip_vrrp_tracker_up{kind=\"script\",name=\"T\"} 0".to_owned(),
            "evervip_service_sorry{service=\"[10.0.0.1]:tcp:80\"} 1".to_owned(),
            "evervip_server_failed_attempts{service=\"[10.0.0.1]:tcp:80\",server=\"10.0.0.71:80\"} 2"
                .to_owned(),
            "evervip_checker_attempts_total 12".to_owned(),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        for absent in ["role=\"checker\"} 0", "name=\"U\"", "evervip_server_kernel_weight{"] {
            assert!(!text.contains(absent), "{absent} is in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn each_counter_is_a_metric() {
        let text = openmetrics(&report("VI_1")).unwrap();
        let names = |value: serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        for name in names(serde_json::to_value(status::vrrp::Counters::default()).unwrap()) {
            let (own, reason) =
                (format!("evervip_vrrp_{name}_total{{"), format!("reason=\"{name}\""));
            assert!(text.contains(&own) || text.contains(&reason), "{name}");
        }
        for name in names(serde_json::to_value(status::check::Counters::default()).unwrap()) {
            assert!(text.contains(&format!("evervip_checker_{name}_total ")), "{name}");
        }
    }

    #[test]
    fn names_cannot_break_out_of_their_label() {
        let text = openmetrics(&report("a\"}\\\nb")).unwrap();
        assert!(
            text.contains("evervip_vrrp_state{instance=\"a\\\"}\\\\\\nb\",interface="),
            "{text}"
        );
    }

    #[test]
    fn the_page_lists_all_of_them() {
        let page = include_str!("../../docs/metrics.md");
        let text = openmetrics(&report("VI_1")).unwrap();
        let mut names = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        assert!(names.clone().count() > 40);
        let unlisted = names.find(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let ending = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            !page.contains(&format!("`{name}{ending}`"))
        });
        assert_eq!(unlisted, None);
    }
}
