//! `keepalived.json`: instances with their settings, state and statistics, in keepalived's names and order of fields.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

use super::{Vrrp, number, route, wanted, words};
use crate::base::{Name, WallTime};
use crate::model::tracker::{ArgumentMatch, TrackProcess, Tracked};
use crate::model::vrrp::{Authentication, Preempt};
use crate::model::{self, Instance};
use crate::status::vrrp::{self as view, State, TrackerKind};

/// An instance.
#[derive(Serialize)]
struct Entry<'a> {
    data: Data<'a>,
    stats: Stats<'a>,
}

/// Its settings and its state.
#[derive(Serialize)]
struct Data<'a> {
    iname: &'a Name,
    dont_track_primary: u8,
    skip_check_adv_addr: u8,
    strict_mode: u8,
    vmac_ifname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifp_ifname: Option<&'a str>,
    master_priority: u8,
    last_transition: Box<RawValue>,
    garp_delay: Box<RawValue>,
    garp_refresh: u64,
    garp_rep: u32,
    garp_refresh_rep: u32,
    garp_lower_prio_delay: u64,
    garp_lower_prio_rep: u32,
    lower_prio_no_advert: u8,
    higher_prio_send_advert: u8,
    vrid: u8,
    base_priority: u8,
    effective_priority: u8,
    vipset: bool,
    promote_secondaries: bool,
    adver_int: Box<RawValue>,
    master_adver_int: Box<RawValue>,
    accept: u8,
    nopreempt: bool,
    preempt_delay: u64,
    state: u8,
    wantstate: u8,
    version: u8,
    smtp_alert: bool,
    notify_deleted: bool,
    #[serde(flatten)]
    scripts: Scripts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vroutes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vrules: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    track_ifp: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    track_script: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    track_process: Vec<&'a Name>,
    auth_type: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_data: Option<&'static str>,
}

/// The programs that it runs.
#[derive(Serialize)]
struct Scripts {
    #[serde(skip_serializing_if = "Option::is_none")]
    script_backup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_master: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_fault: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_deleted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script_master_rx_lower_pri: Option<String>,
}

/// Its statistics.
struct Stats<'a>(&'a super::Cleared, &'a view::Instance);

impl Serialize for Stats<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, count) in self.0.of(self.1) {
            map.serialize_entry(name, &count)?;
        }
        map.end()
    }
}

/// `json_version 2`
#[derive(Serialize)]
struct Second<'a> {
    vrrp: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    track_process: Vec<Process<'a>>,
}

/// A tracked process.
#[derive(Serialize)]
struct Process<'a> {
    process: &'a Name,
    #[serde(skip_serializing_if = "String::is_empty")]
    parameters: String,
    param_match: &'static str,
    min_processes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_processes: Option<u32>,
    current_processes: i64,
    have_quorum: bool,
    weight: i16,
    terminate_delay: Box<RawValue>,
    fork_delay: Box<RawValue>,
    fork_delay_timer_running: bool,
    terminate_delay_timer_running: bool,
    full_command: bool,
}

impl Vrrp<'_> {
    /// `keepalived.json` in this version of its form, 1 or 2; none if there is no instance.
    #[must_use]
    pub fn json(&self, version: u8) -> Option<Vec<u8>> {
        let scripts: BTreeMap<&str, String> = (self.config.scripts.iter())
            .map(|script| (script.name.as_str(), words::command(&script.command)))
            .collect();
        let entries: Vec<Entry<'_>> =
            self.instances().map(|(config, view)| self.entry(config, view, &scripts)).collect();
        if entries.is_empty() {
            return None;
        }
        let mut text = Vec::new();
        let mut out = serde_json::Serializer::with_formatter(&mut text, Slashes);
        if version == 2 {
            Second { vrrp: entries, track_process: self.processes() }.serialize(&mut out).ok()?;
        } else {
            entries.serialize(&mut out).ok()?;
        }
        text.push(b'\n');
        Some(text)
    }

    fn entry<'a>(
        &'a self,
        config: &'a Instance,
        view: &'a view::Instance,
        scripts: &BTreeMap<&str, String>,
    ) -> Entry<'a> {
        let extras = config.extras.as_deref();
        let own = config.own_link().map(|link| link.name.as_str());
        let notify = &config.notify;
        let program =
            |command: &Option<model::notify::Command>| command.as_ref().map(words::command);
        let addresses = |list: &[model::Address]| {
            list.iter().map(|a| words::virtual_address(a, config, view)).collect()
        };
        let auth_type = match (&config.authentication, config.ah_key()) {
            (_, Some(_)) => 2,
            (Authentication::Pass(_), None) => 1,
            (Authentication::None, None) => 0,
        };
        let interface = || own.unwrap_or(config.interface.as_str());
        let data = Data {
            iname: &config.name,
            dont_track_primary: config.dont_track_primary.into(),
            skip_check_adv_addr: config.skip_check_adv_addr.into(),
            strict_mode: extras.is_some_and(|e| e.strict).into(),
            vmac_ifname: own.unwrap_or_default(),
            ifp_ifname: (!extras.is_some_and(|e| e.without_interface)).then(interface),
            master_priority: view.master_priority.unwrap_or(0),
            last_transition: raw(micros(self.time(view.since))),
            garp_delay: raw(words::seconds(config.garp.delay)),
            garp_refresh: config.garp.refresh.as_secs(),
            garp_rep: config.garp.repeat,
            garp_refresh_rep: config.garp.refresh_repeat,
            garp_lower_prio_delay: config.garp.lower_prio_delay.as_secs(),
            garp_lower_prio_rep: config.garp.lower_prio_repeat,
            lower_prio_no_advert: config.lower_prio_no_advert.into(),
            higher_prio_send_advert: config.higher_prio_send_advert.into(),
            vrid: config.vrid.get(),
            base_priority: config.priority.get(),
            effective_priority: view.effective_priority,
            vipset: view.state == State::Master,
            promote_secondaries: extras.is_some_and(|e| e.promote_secondaries),
            adver_int: raw(words::seconds(config.advert_int)),
            master_adver_int: raw(words::seconds(view.master_interval)),
            accept: (!config.is_closed()).into(),
            nopreempt: config.preempt == Preempt::Never,
            preempt_delay: match config.preempt {
                Preempt::After(delay) => delay.as_secs(),
                Preempt::Never => 0,
            },
            state: number(view.state),
            wantstate: number(wanted(config, view.state)),
            version: config.version.number(),
            smtp_alert: config.smtp_alert,
            notify_deleted: config.notify_deleted,
            scripts: Scripts {
                script_backup: program(&notify.backup),
                script_master: program(&notify.master),
                script_fault: program(&notify.fault),
                script_stop: program(&notify.stop),
                script_deleted: program(&notify.deleted),
                script: program(&notify.any),
                script_master_rx_lower_pri: program(&notify.master_rx_lower_pri),
            },
            vips: addresses(&config.addresses),
            evips: addresses(&config.excluded),
            vroutes: extras.iter().flat_map(|e| e.routes.iter().map(route::route)).collect(),
            vrules: extras.iter().flat_map(|e| e.rules.iter().map(route::rule)).collect(),
            track_ifp: config.track_interfaces.iter().map(|t| t.interface.as_str()).collect(),
            track_script: (config.track_scripts.iter())
                .filter_map(|t| scripts.get(t.script.as_str()).cloned())
                .collect(),
            track_process: extras
                .iter()
                .flat_map(|e| e.track_processes.iter().map(|t| &t.name))
                .collect(),
            auth_type,
            auth_data: (auth_type != 0).then_some("********"),
        };
        Entry { data, stats: Stats(self.cleared, view) }
    }

    fn processes(&self) -> Vec<Process<'_>> {
        self.config.track_processes.iter().map(|process| self.process(process)).collect()
    }

    fn process<'a>(&'a self, config: &'a TrackProcess) -> Process<'a> {
        let tracker = (self.view.trackers.iter())
            .find(|t| t.kind == TrackerKind::Process && t.name == config.name);
        let words: Vec<_> =
            config.words.iter().skip(1).map(|word| String::from_utf8_lossy(word)).collect();
        Process {
            process: &config.name,
            parameters: words.join(" "),
            param_match: match config.arguments {
                None => "none",
                Some(ArgumentMatch::Exact) => "exact",
                Some(ArgumentMatch::Partial) => "partial",
                Some(ArgumentMatch::Initial) => "initial",
            },
            min_processes: config.quorum,
            max_processes: config.quorum_max,
            current_processes: tracker.and_then(|t| t.value).unwrap_or(0),
            have_quorum: tracker.and_then(|t| t.good).unwrap_or(false),
            weight: self.weight_of(&config.name),
            terminate_delay: raw(words::seconds(config.terminate_delay)),
            fork_delay: raw(words::seconds(config.fork_delay)),
            fork_delay_timer_running: false,
            terminate_delay_timer_running: false,
            full_command: config.full_command,
        }
    }
}

impl Vrrp<'_> {
    /// The weight of a tracked process: each instance that tracks it may have another one, so this is that of the first.
    fn weight_of(&self, name: &Name) -> i16 {
        let extras = self.config.instances.iter().filter_map(|i| i.extras.as_deref());
        let mut users = extras.flat_map(|extras| &extras.track_processes);
        let weight = |t: &Tracked| if t.reverse { -t.weight } else { t.weight };
        users.find(|t| t.name == *name).map_or(0, weight)
    }
}

/// Seconds since 1970 with microseconds.
fn micros(time: WallTime) -> String {
    format!("{}.{:06}", time.secs, time.nanos / 1_000)
}

/// A number in this spelling.
fn raw(text: String) -> Box<RawValue> {
    // Digits with a point are always JSON.
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Compact, with a backslash before each slash.
struct Slashes;

impl Formatter for Slashes {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for (i, part) in fragment.split('/').enumerate() {
            if i > 0 {
                writer.write_all(b"\\/")?;
            }
            writer.write_all(part.as_bytes())?;
        }
        Ok(())
    }
}
