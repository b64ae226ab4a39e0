//! Why instances are in their states: the report of `evervip why` as JSON, and as text 80 columns wide. Pure. Its schema,
//! `docs/why.schema.json`, is generated from these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCHEMA;
use super::layout::{ago, line, wrapped};
use super::report::{Answer, Clocks, Parts, State, answer, schema_of};
use super::text::{self, NotFound};
use crate::status::cause::{self, Fault, Ours, Tracked};

/// Why the instances are in their states. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this form; it increases when a field is removed or changes its meaning.
    pub schema: u32,
    /// When the report was made.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Virtual routers; null if the configuration has none.
    pub vrrp: Option<Answer<Histories>>,
}

/// The last changes of state since the process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Histories {
    /// The instances, in the order of the configuration.
    pub instances: Vec<Instance>,
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// When it entered the state.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Its priority now.
    pub priority: Priority,
    /// The master that it follows; null if it is the master itself or hears none.
    pub master: Option<Router>,
    /// The change to its present state and at most five before it, the newest one first.
    pub changes: Vec<Change>,
}

/// Another router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Router {
    /// Source address of its adverts.
    pub address: String,
    /// The priority in the last one.
    pub priority: u8,
}

/// A priority of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Priority {
    /// The one in effect.
    pub effective: u8,
    /// The configured one.
    pub configured: u8,
    /// What makes the difference: at most four trackers.
    pub by: Vec<Tracker>,
}

/// A tracked object, and its state at that time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tracker {
    /// `interface`, `script`, `file`, `process`, `bfd` or `virtual_servers`.
    pub kind: String,
    /// Its name; empty for virtual servers.
    pub name: String,
    /// Whether it is good; null before its first result, and of a file.
    pub good: Option<bool>,
    /// The number in a file; null for all others.
    pub value: Option<i64>,
    /// What it adds to the priority; null where it decides whether the instance takes part.
    pub effect: Option<i16>,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// When it happened.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// The state before it.
    pub from: State,
    /// The state after it.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

/// Why a state changed. Fields that do not belong to its kind are null or empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// `started`, `stopped`, `resumed`, `owner`, `added`, `moved`, `advert`, `disagreement`, `silence`, `farewell`,
    /// `lower_priority`, `held_up`, `fault`, `recovered` or `group`.
    pub kind: String,
    /// The cause in words.
    pub text: String,
    /// The router whose advert, or silence, is the cause.
    pub router: Option<Router>,
    /// Our priority at that time, where it was compared.
    pub ours: Option<Priority>,
    /// How long nothing was heard, or the process was held up, in milliseconds.
    pub millis: Option<u64>,
    /// Faults of the instance itself, in words.
    pub faults: Vec<String>,
    /// Tracked objects that are the cause.
    pub trackers: Vec<Tracker>,
    /// The member of its sync group that it follows.
    pub member: Option<String>,
    /// Why that member changed its state.
    pub of_member: Option<Box<Cause>>,
}

/// Builds the report.
#[must_use]
pub fn report(parts: &Parts, clocks: Clocks) -> Report {
    let vrrp = answer(&parts.causes, "vrrp", parts.wants("vrrp"), |view| Histories {
        instances: view.instances.iter().map(|i| instance(i, clocks)).collect(),
    });
    Report { schema: SCHEMA, at: clocks.wall.to_string(), vrrp }
}

fn instance(view: &cause::InstanceHistory, clocks: Clocks) -> Instance {
    let change = |change: &cause::Change| Change {
        at: clocks.time(change.at),
        from: change.from.into(),
        to: change.to.into(),
        cause: of_cause(&change.cause),
    };
    Instance {
        name: view.name.to_string(),
        state: view.state.into(),
        since: clocks.time(view.since),
        priority: priority(&view.ours),
        master: view.master.map(router),
        changes: view.changes.iter().map(change).collect(),
    }
}

fn router((address, priority): (core::net::IpAddr, u8)) -> Router {
    Router { address: address.to_string(), priority }
}

fn priority(ours: &Ours) -> Priority {
    let Ours { effective, configured, ref by } = *ours;
    let by = by.iter().map(|(tracked, effect)| tracker(tracked, Some(*effect))).collect();
    Priority { effective, configured, by }
}

fn tracker(tracked: &Tracked, effect: Option<i16>) -> Tracker {
    Tracker {
        kind: tracked.kind.word().into(),
        name: tracked.name.to_string(),
        good: tracked.good,
        value: tracked.value.map(Into::into),
        effect,
    }
}

fn of_cause(view: &cause::Cause) -> Cause {
    use cause::Cause as C;
    let mut cause = Cause {
        kind: view.word().into(),
        text: view.to_string(),
        router: None,
        ours: None,
        millis: None,
        faults: Vec::new(),
        trackers: Vec::new(),
        member: None,
        of_member: None,
    };
    let fault = |fault: &Fault| match fault {
        Fault::Own(text) => cause.faults.push(text.clone()),
        Fault::Tracked(tracked) => cause.trackers.push(tracker(tracked, None)),
    };
    match view {
        C::Faults(faults) => faults.iter().for_each(fault),
        C::Recovered(ended) => ended.iter().for_each(fault),
        C::Advert { from, priority: theirs, ours }
        | C::Disagreement { from, priority: theirs, ours }
        | C::Lower { from, priority: theirs, ours } => {
            cause.router = Some(router((*from, *theirs)));
            cause.ours = Some(priority(ours));
        }
        C::Silence { of, time } => {
            cause.router = of.map(router);
            cause.millis = u64::try_from(time.as_millis()).ok();
        }
        C::HeldUp { time } => cause.millis = u64::try_from(time.as_millis()).ok(),
        C::Farewell { from } => cause.router = Some(router((*from, 0))),
        C::Group { member, cause: of_member } => {
            cause.member = Some(member.to_string());
            cause.of_member = Some(Box::new(of_cause(of_member)));
        }
        C::Started | C::Stopped | C::Resumed | C::Owner | C::Added | C::Moved => {}
    }
    cause
}

/// Reduces a report to the instance with this name.
///
/// # Errors
/// If there is none, although the process answered.
pub fn select(mut report: Report, name: &str) -> Result<Report, NotFound> {
    if let Some(Answer::Known(histories)) = &mut report.vrrp {
        text::only(&mut histories.instances, name, |i| &i.name)?;
    }
    Ok(report)
}

/// The text of a report.
#[must_use]
pub fn screen(report: &Report) -> String {
    text::of_routers(report.vrrp.as_ref(), |histories| {
        let mut text = String::new();
        for (n, instance) in histories.instances.iter().enumerate() {
            if n > 0 {
                text.push('\n');
            }
            of_instance(&mut text, instance, &report.at);
        }
        text
    })
}

fn of_instance(text: &mut String, instance: &Instance, now: &str) {
    let Instance { name, since, priority: Priority { effective, configured, by }, .. } = instance;
    let state = text::state(instance.state);
    let mut head = format!("{name}: {state} for {}, priority {effective}", ago(since, now));
    if effective != configured {
        head.push_str(&format!(" (configured {configured}"));
        for Tracker { kind, name, effect, .. } in by {
            head.push_str(&format!(", {kind} {name}: {:+}", effect.unwrap_or_default()));
        }
        head.push(')');
    }
    if let Some(Router { address, priority }) = &instance.master {
        head.push_str(&format!(", follows {address} of priority {priority}"));
    }
    wrapped(text, "", &head);
    if instance.changes.is_empty() {
        line(text, "  its state has not changed since its process started");
    }
    for change in &instance.changes {
        let (from, to) = (text::state(change.from), text::state(change.to));
        line(text, &format!("  {}  {from} -> {to}", change.at));
        wrapped(text, "    ", &change.cause.text);
    }
}

/// The JSON Schema of the report.
#[must_use]
pub fn schema() -> String {
    schema_of::<Report>("Why the instances of evervipd are in their states")
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::api::report::Part;
    use crate::base::{Instant, WallTime};
    use crate::status::cause::{Cause as C, Kind};
    use crate::status::vrrp;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn sample() -> Report {
        use vrrp::State::{Backup, Fault as Failed, Init, Master};
        let change = |seconds, from, to, cause| cause::Change { at: at(seconds), from, to, cause };
        let (kind, name) = (Kind::Script, "probe".into());
        let script = Tracked { kind, name, good: Some(false), value: None };
        let ours = Ours { effective: 80, configured: 100, by: vec![(script.clone(), -20)] };
        let from = [10, 0, 0, 71].into();
        let faults =
            C::Faults(vec![Fault::Own("interface eth0 down".into()), Fault::Tracked(script)]);
        let (member, of_member) = ("VI_2".into(), Box::new(faults));
        let silence = C::Silence { of: Some((from, 200)), time: Duration::from_millis(3609) };
        let changes = vec![
            change(98, Failed, Backup, C::Recovered(None)),
            change(97, Backup, Failed, C::Group { member, cause: of_member }),
            change(96, Master, Backup, C::Advert { from, priority: 90, ours: ours.clone() }),
            change(95, Backup, Master, silence),
            change(90, Init, Backup, C::Started),
        ];
        let history = cause::InstanceHistory {
            name: "VRRP1".into(),
            state: Backup,
            since: at(98),
            ours,
            master: Some((from, 200)),
            changes,
        };
        let waiting = cause::InstanceHistory {
            name: "V2".into(),
            state: Init,
            since: at(90),
            ours: Ours { effective: 100, configured: 100, by: Vec::new() },
            master: None,
            changes: Vec::new(),
        };
        let view = cause::Histories { at: at(100), instances: vec![history, waiting] };
        let parts = Parts { causes: Part::Known(Box::new(view)), ..Parts::default() };
        let wall = WallTime { secs: 1_000_000_000, nanos: 0 };
        report(&parts, Clocks { now: at(100), wall })
    }

    const SCREEN: &str = "\
VRRP1: BACKUP for 2s, priority 80 (configured 100, script probe: -20), follows
  10.0.0.71 of priority 200
  2001-09-09T01:46:38.000Z  FAULT -> BACKUP
    it can take part again
  2001-09-09T01:46:37.000Z  BACKUP -> FAULT
    it follows VI_2 of its group: interface eth0 down; script probe is bad
  2001-09-09T01:46:36.000Z  MASTER -> BACKUP
    an advert of 10.0.0.71: priority 90, ours is 80 (configured 100, script
      probe is bad: -20)
  2001-09-09T01:46:35.000Z  BACKUP -> MASTER
    no advert of 10.0.0.71 (priority 200) for 3.609 s
  2001-09-09T01:46:30.000Z  INIT -> BACKUP
    the process started

V2: INIT for 10s, priority 100
  its state has not changed since its process started
";

    #[test]
    fn the_screen_tells_the_causes() {
        assert_eq!(screen(&sample()), SCREEN);
        let json = serde_json::to_value(sample()).unwrap();
        let changes = &json["vrrp"]["instances"][0]["changes"];
        assert_eq!(changes[3]["cause"]["kind"], "silence");
        assert_eq!(changes[3]["cause"]["millis"], 3609);
        assert_eq!(changes[3]["cause"]["router"]["priority"], 200);
        assert_eq!(changes[2]["cause"]["ours"]["by"][0]["effect"], -20);
        assert_eq!(changes[1]["cause"]["member"], "VI_2");
        assert_eq!(changes[1]["cause"]["of_member"]["trackers"][0]["name"], "probe");
        assert_eq!(changes[1]["cause"]["of_member"]["faults"][0], "interface eth0 down");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), sample());
    }

    #[test]
    fn one_is_found_by_its_name() {
        assert!(screen(&select(sample(), "V2").unwrap()).starts_with("V2: INIT"));
        let none = select(sample(), "VRRP").unwrap_err().to_string();
        assert_eq!(none, "no instance 'VRRP', did you mean 'VRRP1'?");
    }
}
