//! The text of the files for made-up states.

use core::time::Duration;

use super::*;
use crate::base::{IfName, Name, Prefix};
use crate::model::extras::InstanceExtras;
use crate::model::tracker::{Tracked, TrackedInterface, TrackedScript};
use crate::model::vrrp::{Authentication, Preempt};
use crate::model::{Weight, sample};
use crate::status::vrrp::{Counters, State};

/// The view of an instance that has entered this state four seconds ago.
fn seen(config: &Instance, state: State) -> view::Instance {
    view::Instance {
        name: config.name.clone(),
        interface: config.interface.clone(),
        vrid: config.vrid,
        state,
        since: Instant::from_nanos(6_000_000_000),
        priority: config.priority.get(),
        effective_priority: config.priority.get(),
        master: None,
        master_priority: None,
        master_interval: config.advert_int,
        faults: Vec::new(),
        objects_wanted: config.addresses.len(),
        objects_present: 0,
        objects_missing: Vec::new(),
        addresses_held: Vec::new(),
        counters: Counters::default(),
    }
}

/// Ten seconds after the start of the clock.
fn view(instances: Vec<view::Instance>) -> view::Vrrp {
    view::Vrrp {
        schema: 1,
        at: Instant::from_nanos(10_000_000_000),
        instances,
        groups: Vec::new(),
        trackers: Vec::new(),
        unknown_vrid: 0,
        malformed: 0,
    }
}

const WALL: WallTime = WallTime { secs: 1_795_792_115, nanos: 601_735_999 };

fn shown_prefix() -> Prefix {
    Prefix::new("10.0.0.1".parse().unwrap(), 24).unwrap()
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

#[test]
fn an_instance_as_json() {
    let mut one = sample::instance("VI \"1\"", "eth0", 51, 100, &["10.0.0.1/24", "10.0.0.2/32"]);
    one.notify.any = None;
    one.notify.master = Some(model::Command {
        words: ["/bin/a", "b c", "it's"].map(|w| w.as_bytes().into()).into(),
        through_shell: false,
        user: None,
    });
    one.track_interfaces =
        vec![TrackedInterface { interface: name("eth1"), weight: Weight::FAULT }];
    one.track_scripts = vec![TrackedScript { script: Name::from("probe"), weight: Weight::FAULT }];
    one.advert_int = Duration::from_millis(500);
    one.preempt = Preempt::After(Duration::from_millis(7_500));
    one.extras = Some(Box::new(InstanceExtras {
        track_processes: vec![Tracked { name: Name::from("nginx"), weight: 5, reverse: true }],
        ..InstanceExtras::default()
    }));
    let mut shown = seen(&one, State::Master);
    shown.addresses_held = vec![shown_prefix()];
    shown.counters.adverts_sent = 7;
    let config = model::Vrrp {
        instances: vec![one],
        scripts: vec![sample::script("probe", 1, 1)],
        ..model::Vrrp::default()
    };
    let (view, cleared) = (view(vec![shown]), Cleared::default());
    let all = Vrrp { config: &config, view: &view, cleared: &cleared, wall: WALL };
    let text = String::from_utf8(all.json(1).unwrap()).unwrap();
    let wanted = concat!(
        r#"[{"data":{"iname":"VI \"1\"","dont_track_primary":0,"skip_check_adv_addr":0,"strict_mode":0,"#,
        r#""vmac_ifname":"","ifp_ifname":"eth0","master_priority":0,"last_transition":1795792111.601735,"#,
        r#""garp_delay":5,"garp_refresh":0,"garp_rep":5,"garp_refresh_rep":1,"garp_lower_prio_delay":5,"#,
        r#""garp_lower_prio_rep":5,"lower_prio_no_advert":0,"higher_prio_send_advert":0,"vrid":51,"#,
        r#""base_priority":100,"effective_priority":100,"vipset":true,"promote_secondaries":false,"#,
        r#""adver_int":0.5,"master_adver_int":0.5,"accept":1,"nopreempt":false,"preempt_delay":7,"#,
        r#""state":2,"wantstate":2,"version":2,"smtp_alert":true,"notify_deleted":false,"#,
        r#""script_master":"'\/bin\/a' 'b c' 'it's'","#,
        r#""vips":["10.0.0.1\/24 dev eth0 scope global set","10.0.0.2 dev eth0 scope global"],"#,
        r#""track_ifp":["eth1"],"track_script":["'\/probe'"],"track_process":["nginx"],"#,
        r#""auth_type":1,"auth_data":"********"},"#,
        r#""stats":{"advert_rcvd":0,"advert_sent":7,"become_master":0,"release_master":0,"#,
        r#""packet_len_err":0,"advert_interval_err":0,"ip_ttl_err":0,"invalid_type_rcvd":0,"#,
        r#""addr_list_err":0,"invalid_authtype":0,"authtype_mismatch":0,"auth_failure":0,"#,
        r#""auth_ext_missing":0,"auth_ext_malformed":0,"auth_ext_unknown_key":0,"auth_ext_invalid_hmac":0,"#,
        r#""auth_ext_stale":0,"auth_ext_replay":0,"pri_zero_rcvd":0,"pri_zero_sent":0}}]"#,
        "\n"
    );
    assert_eq!(text, wanted);
}

#[test]
fn states_are_numbers_and_the_wanted_one_is_told_before_the_start() {
    let [owner, other] =
        [255, 100].map(|priority| sample::instance("V", "eth0", 1, priority, &["10.0.0.1/24"]));
    for (config, state, numbers) in [
        (&owner, State::Init, (0, 2)),
        (&other, State::Init, (0, 1)),
        (&other, State::Backup, (1, 1)),
        (&other, State::Master, (2, 2)),
        (&owner, State::Fault, (3, 3)),
    ] {
        let view = view(vec![seen(config, state)]);
        let config = model::Vrrp { instances: vec![config.clone()], ..model::Vrrp::default() };
        let cleared = Cleared::default();
        let all = Vrrp { config: &config, view: &view, cleared: &cleared, wall: WALL };
        let json: serde_json::Value = serde_json::from_slice(&all.json(1).unwrap()).unwrap();
        let data = &json[0]["data"];
        assert_eq!((data["state"].as_u64(), data["wantstate"].as_u64()), {
            let (state, wanted) = numbers;
            (Some(state), Some(wanted))
        });
    }
}

#[test]
fn the_second_version_is_an_object_with_tracked_processes() {
    let mut one = sample::instance("V", "eth0", 1, 100, &["10.0.0.1/24"]);
    one.authentication = Authentication::None;
    let tracked = Tracked { name: Name::from("web"), weight: 5, reverse: true };
    one.extras.get_or_insert_default().track_processes = vec![tracked];
    let mut view = view(vec![seen(&one, State::Backup)]);
    view.trackers = vec![view::Tracker {
        kind: view::TrackerKind::Process,
        name: Name::from("web"),
        good: Some(true),
        value: Some(3),
    }];
    let process = model::tracker::TrackProcess {
        name: Name::from("web"),
        words: ["nginx", "-g", "x"].map(|w| w.as_bytes().into()).into(),
        arguments: Some(model::tracker::ArgumentMatch::Partial),
        full_command: false,
        quorum: 2,
        quorum_max: None,
        terminate_delay: Duration::from_millis(1_500),
        fork_delay: Duration::ZERO,
    };
    let config = model::Vrrp {
        instances: vec![one],
        track_processes: vec![process],
        ..model::Vrrp::default()
    };
    let cleared = Cleared::default();
    let all = Vrrp { config: &config, view: &view, cleared: &cleared, wall: WALL };
    let text = String::from_utf8(all.json(2).unwrap()).unwrap();
    assert!(text.starts_with(r#"{"vrrp":[{"data":{"iname":"V","#), "{text}");
    assert!(text.contains(r#""auth_type":0},"stats""#), "{text}");
    let end = r#"}}],"track_process":[{"process":"web","parameters":"-g x","param_match":"partial","min_processes":2,"current_processes":3,"have_quorum":true,"weight":-5,"terminate_delay":1.5,"fork_delay":0,"fork_delay_timer_running":false,"terminate_delay_timer_running":false,"full_command":false}]}"#;
    assert!(text.trim_end().ends_with(end), "{text}");
}

#[test]
fn without_instances_there_is_no_json() {
    let (config, view, cleared) = (model::Vrrp::default(), view(Vec::new()), Cleared::default());
    let all = Vrrp { config: &config, view: &view, cleared: &cleared, wall: WALL };
    assert_eq!(all.json(1), None);
    assert_eq!(all.json(2), None);
}

#[test]
fn statistics_are_lines_under_headings() {
    let mut instances = Vec::new();
    let mut views = Vec::new();
    for (n, name) in ["V1", "V2"].into_iter().enumerate() {
        let one = sample::instance(name, "eth0", 1, 100, &["10.0.0.1/24"]);
        let mut shown = seen(&one, State::Backup);
        shown.counters.adverts_received = 10 + n as u64;
        shown.counters.bad_ttl = 3;
        shown.counters.bad_interval = 4;
        shown.counters.bad_address_count = 1;
        shown.counters.address_list_mismatch = 1;
        shown.counters.priority_zero_sent = 5;
        instances.push(one);
        views.push(shown);
    }
    // The order is that of the configuration.
    views.reverse();
    let (config, view) = (model::Vrrp { instances, ..model::Vrrp::default() }, view(views));
    let mut cleared = Cleared::default();
    let all = Vrrp { config: &config, view: &view, cleared: &cleared, wall: WALL };
    let block = |name, received| {
        format!(
            "VRRP Instance: {name}
  Advertisements:
    Received: {received}
    Sent: 0
  Became master: 0
  Released master: 0
  Packet Errors:
    Length: 0
    TTL: 3
    Invalid Type: 0
    Advertisement Interval: 4
    Address List: 2
  Authentication Errors:
    Invalid Type: 0
    Type Mismatch: 0
    Failure: 0
  Authentication Extension Errors:
    Missing: 0
    Malformed: 0
    Unknown Key: 0
    Invalid HMAC: 0
    Stale: 0
    Replay: 0
  Priority Zero:
    Received: 0
    Sent: 5
"
        )
    };
    assert_eq!(all.stats(), block("V1", 10) + &block("V2", 11));
    // After they were set to zero they count from there. Those of a new instance of the same name begin anew.
    cleared.clear(&view);
    let mut later = view.clone();
    later.instances[0].counters.adverts_received = 13;
    later.instances[1].counters = Counters { adverts_received: 1, ..Counters::default() };
    let all = Vrrp { config: &config, view: &later, cleared: &cleared, wall: WALL };
    let text = all.stats();
    let received: Vec<&str> = text.lines().filter(|l| l.contains("    Received")).collect();
    assert_eq!(
        received,
        ["    Received: 1", "    Received: 0", "    Received: 2", "    Received: 0"]
    );
    assert!(!text.contains("TTL: 3"), "{text}");
}

#[test]
fn what_was_set_to_zero_follows_its_instance_over_a_reload() {
    let [first, second] = [("V1", 1), ("V2", 2)].map(|(name, vrid)| {
        let mut one = sample::instance(name, "eth0", 1, 100, &["10.0.0.1/24"]);
        one.vrid = serde_json::from_value(vrid.into()).unwrap();
        one
    });
    let of = |instances: &[&Instance]| model::Vrrp {
        instances: instances.iter().map(|i| (*i).clone()).collect(),
        ..model::Vrrp::default()
    };
    let ten = |config: &model::Vrrp| {
        let count = |one: &Instance| {
            let mut shown = seen(one, State::Backup);
            shown.counters.adverts_received = 10;
            shown
        };
        view(config.instances.iter().map(count).collect())
    };
    let received = |config: &model::Vrrp, cleared: &Cleared| -> Vec<String> {
        let text = Vrrp { config, view: &ten(config), cleared, wall: WALL }.stats();
        // The first line of that name is that of adverts, the second one of priority 0.
        let lines = text.lines().filter(|line| line.contains("    Received")).step_by(2);
        lines.map(|line| line.trim().to_owned()).collect()
    };
    let config = of(&[&first, &second]);
    let mut cleared = Cleared::default();
    assert_eq!(received(&config, &cleared), ["Received: 10", "Received: 10"]);
    cleared.clear(&ten(&config));
    assert_eq!(received(&config, &cleared), ["Received: 0", "Received: 0"]);
    // They swap their names.
    let (mut one, mut other) = (first.clone(), second.clone());
    core::mem::swap(&mut one.name, &mut other.name);
    let swapped = of(&[&one, &other]);
    cleared.carry(&config, &swapped);
    assert_eq!(received(&swapped, &cleared), ["Received: 0", "Received: 0"]);
    // One is removed, and returns as a new one.
    let fewer = of(&[&other]);
    cleared.carry(&swapped, &fewer);
    cleared.carry(&fewer, &swapped);
    assert_eq!(received(&swapped, &cleared), ["Received: 10", "Received: 0"]);
}
