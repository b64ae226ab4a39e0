//! Who was heard: the report of `evervip peers` as JSON, and as text 80 columns wide. Pure. Its schema,
//! `docs/peers.schema.json`, is generated from these types.

use core::time::Duration;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SCHEMA;
use super::layout::{Table, ago, line, wrapped};
use super::report::{Answer, Clocks, Parts, State, answer, schema_of};
use super::text::{self, NotFound};
use crate::status::peer::{self, REFUSALS};

/// The routers that the instances have heard. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this form; it increases when a field is removed or changes its meaning.
    pub schema: u32,
    /// When the report was made.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Virtual routers; null if the configuration has none.
    pub vrrp: Option<Answer<Heard>>,
}

/// What the virtual routers have heard since the process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heard {
    /// The instances, in the order of the configuration.
    pub instances: Vec<Instance>,
    /// Adverts received for a VRID that no instance has.
    pub unknown_vrid: u64,
    /// Packets of IP protocol 112 that belong to no instance.
    pub malformed: u64,
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Its virtual router id.
    pub vrid: u8,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Its state.
    pub state: State,
    /// Its version of the protocol: 2 or 3.
    pub version: u8,
    /// Its effective priority.
    pub priority: u8,
    /// Its configured time from one advert to the next, in milliseconds.
    pub interval_ms: u64,
    /// The routers that it has heard, and its configured peers. Backups are silent, so they are not heard.
    pub peers: Vec<Peer>,
    /// Refused packets of further senders, which are not listed.
    pub others_refused: u64,
}

/// A router that was heard, or a configured peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// Source address of its packets.
    pub source: String,
    /// Whether it is in `unicast_peer`.
    pub configured: bool,
    /// Whether it is the master that this instance follows.
    pub master: bool,
    /// Version of the protocol in its last packet, valid or not; null if none was received.
    pub version: Option<u8>,
    /// Number of valid adverts.
    pub adverts: u64,
    /// Its last valid advert; null if there was none.
    pub last: Option<Advert>,
    /// Refused packets by reason: the names of the counters in the status report.
    pub refused: BTreeMap<String, u64>,
    /// The last refused packet; null if there was none.
    pub last_refused: Option<Refused>,
}

/// A valid advert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advert {
    /// When it was received.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// The priority in it; 0 when the sender ceased to be master.
    pub priority: u8,
    /// The time to the next one that it announces, in milliseconds.
    pub interval_ms: u64,
    /// What its checksum covers: `plain`, `pseudo-header` or `old unicast`.
    pub checksum: String,
    /// How it was authenticated: `none`, `PASS`, `AH` or `HMAC`.
    pub authentication: String,
}

/// A refused packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// When it was received.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// Why: a name in `refused`.
    pub reason: String,
}

/// Builds the report.
#[must_use]
pub fn report(parts: &Parts, clocks: Clocks) -> Report {
    let vrrp = answer(&parts.peers, "vrrp", parts.wants("vrrp"), |view| Heard {
        instances: view.instances.iter().map(|i| instance(i, clocks)).collect(),
        unknown_vrid: view.unknown_vrid,
        malformed: view.malformed,
    });
    Report { schema: SCHEMA, at: clocks.wall.to_string(), vrrp }
}

fn instance(view: &peer::InstancePeers, clocks: Clocks) -> Instance {
    let of_peer = |peer: &peer::Peer| Peer {
        source: peer.source.to_string(),
        configured: peer.configured,
        master: view.master == Some(peer.source),
        version: peer.version,
        adverts: peer.adverts,
        last: peer.last.map(|said| Advert {
            at: clocks.time(said.at),
            priority: said.priority,
            interval_ms: millis(said.interval),
            checksum: said.checksum.word().into(),
            authentication: said.authentication.word().into(),
        }),
        refused: peer
            .refused
            .iter()
            .map(|(kind, count)| (reason(*kind).0.into(), u64::from(*count)))
            .collect(),
        last_refused: peer
            .last_refused
            .map(|(at, kind)| Refused { at: clocks.time(at), reason: reason(kind).0.into() }),
    };
    Instance {
        name: view.name.to_string(),
        interface: view.interface.to_string(),
        vrid: view.vrid.get(),
        family: view.family.to_string(),
        state: view.state.into(),
        version: view.version,
        priority: view.priority,
        interval_ms: millis(view.interval),
        peers: view.peers.iter().map(of_peer).collect(),
        others_refused: view.others,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The counter of a reason, and its words.
fn reason(kind: u8) -> (&'static str, &'static str) {
    REFUSALS.get(usize::from(kind)).copied().unwrap_or(("unknown", "unknown"))
}

/// Reduces a report to the instance with this name.
///
/// # Errors
/// If there is none, although the process answered.
pub fn select(mut report: Report, name: &str) -> Result<Report, NotFound> {
    if let Some(Answer::Known(heard)) = &mut report.vrrp {
        text::only(&mut heard.instances, name, |i| &i.name)?;
    }
    Ok(report)
}

/// The text of a report.
#[must_use]
pub fn screen(report: &Report) -> String {
    text::of_routers(report.vrrp.as_ref(), |heard| {
        let mut text = String::new();
        for instance in &heard.instances {
            of_instance(&mut text, instance, &report.at);
        }
        let left_out = [
            (heard.unknown_vrid, "adverts for a VRID that no instance has"),
            (heard.malformed, "packets of protocol 112 that belong to no instance"),
        ];
        for (count, what) in left_out.into_iter().filter(|(count, _)| *count > 0) {
            line(&mut text, &format!("{count} {what}"));
        }
        text
    })
}

fn of_instance(text: &mut String, instance: &Instance, now: &str) {
    let Instance { name, interface, vrid, family, version, priority, .. } = instance;
    let (state, interval) = (text::state(instance.state), seconds(instance.interval_ms));
    wrapped(
        text,
        "",
        &format!(
            "{name} on {interface}, VRID {vrid}, {family}: {state}, priority {priority}, version {version}, \
             interval {interval}"
        ),
    );
    if instance.peers.is_empty() {
        let why = match instance.state {
            State::Master => "no other router is heard: backups are silent",
            _ => "no other router is heard",
        };
        line(text, &format!("  {why}"));
    } else {
        let mut table = Table::new([
            "  SOURCE", "VER", "PRIO", "INTERVAL", "CHECKSUM", "AUTH", "ADVERTS", "LAST",
        ]);
        table.right = [false, true, true, true, false, false, true, true];
        table.whole[0] = true;
        table.gap = false;
        for peer in &instance.peers {
            of_peer(&mut table, peer, now);
        }
        table.print(text);
    }
    if instance.others_refused > 0 {
        line(text, &format!("  refused of further senders: {}", instance.others_refused));
    }
    text.push('\n');
}

fn of_peer(table: &mut Table<8>, peer: &Peer, now: &str) {
    let none = || "-".to_owned();
    let of_last = |value: fn(&Advert) -> String| peer.last.as_ref().map_or_else(none, value);
    table.row([
        format!("  {}", peer.source),
        peer.version.map_or_else(none, |version| version.to_string()),
        of_last(|last| last.priority.to_string()),
        of_last(|last| seconds(last.interval_ms)),
        of_last(|last| last.checksum.trim_end_matches("-header").to_owned()),
        of_last(|last| last.authentication.clone()),
        peer.adverts.to_string(),
        peer.last.as_ref().map_or_else(|| "never".into(), |last| ago(&last.at, now)),
    ]);
    if peer.last.as_ref().is_some_and(|last| last.priority == 0) {
        table.note("ceased to be master".into());
    } else if peer.master {
        table.note("the master that this instance follows".into());
    } else if peer.configured && peer.version.is_none() {
        table.note("configured peer, nothing was received from it: backups are silent".into());
    }
    if let Some(last) = &peer.last_refused {
        let words = |name: &str| -> String {
            let known = REFUSALS.iter().find(|(one, _)| *one == name);
            known.map_or(name, |(_, words)| words).into()
        };
        let counts: Vec<String> =
            peer.refused.iter().map(|(name, count)| format!("{count} {}", words(name))).collect();
        let (counts, when) = (counts.join(", "), ago(&last.at, now));
        table.note(format!("refused: {counts}; the last {when} ago: {}", words(&last.reason)));
    }
}

/// Milliseconds as seconds: `1s`, `0.01s`.
fn seconds(millis: u64) -> String {
    let fraction = format!("{:03}", millis % 1000);
    match fraction.trim_end_matches('0') {
        "" => format!("{}s", millis / 1000),
        fraction => format!("{}.{fraction}s", millis / 1000),
    }
}

/// The JSON Schema of the report.
#[must_use]
pub fn schema() -> String {
    schema_of::<Report>("Routers that evervipd has heard")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::report::Part;
    use crate::base::{Family, Instant, WallTime};
    use crate::status::peer::{Checksum, InstancePeers, Peers, Proven, Said};
    use crate::status::vrrp;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn peer(last: u8) -> peer::Peer {
        peer::Peer {
            source: [10, 0, 2, last].into(),
            configured: false,
            version: Some(2),
            adverts: 0,
            last: None,
            refused: Vec::new(),
            last_refused: None,
        }
    }

    fn instance(name: &str, state: vrrp::State, peers: Vec<peer::Peer>) -> InstancePeers {
        InstancePeers {
            name: name.into(),
            interface: "eth0".parse().unwrap(),
            vrid: serde_json::from_value(41.into()).unwrap(),
            family: Family::V4,
            state,
            version: 2,
            priority: 100,
            interval: Duration::from_secs(1),
            master: Some([10, 0, 2, 72].into()),
            peers,
            others: 7,
        }
    }

    fn sample() -> Report {
        let said = |seconds, priority| Said {
            at: at(seconds),
            priority,
            interval: Duration::from_millis(1010),
            checksum: Checksum::Plain,
            authentication: Proven::Pass,
        };
        let master = peer::Peer { adverts: 812, last: Some(said(99, 200)), ..peer(72) };
        let wrong = peer::Peer {
            version: Some(3),
            refused: vec![(2, 17), (8, 3)],
            last_refused: Some((at(88), 8)),
            ..peer(99)
        };
        let left = peer::Peer { adverts: 1, last: Some(said(40, 0)), ..peer(73) };
        let silent = peer::Peer { configured: true, version: None, ..peer(74) };
        let instances = vec![
            instance("VRRP1", vrrp::State::Backup, vec![silent, master, wrong, left]),
            InstancePeers { others: 0, ..instance("V2", vrrp::State::Master, Vec::new()) },
        ];
        reported(instances)
    }

    fn reported(instances: Vec<InstancePeers>) -> Report {
        let view = Peers { at: at(100), instances, unknown_vrid: 5, malformed: 0 };
        let parts = Parts { peers: Part::Known(Box::new(view)), ..Parts::default() };
        let wall = WallTime { secs: 1_000_000_000, nanos: 0 };
        report(&parts, Clocks { now: at(100), wall })
    }

    const SCREEN: &str = "\
VRRP1 on eth0, VRID 41, IPv4: BACKUP, priority 100, version 2, interval 1s
  SOURCE     VER  PRIO  INTERVAL  CHECKSUM  AUTH  ADVERTS   LAST
  10.0.2.74    -     -         -  -         -           0  never
    configured peer, nothing was received from it: backups are silent
  10.0.2.72    2   200     1.01s  plain     PASS      812     1s
    the master that this instance follows
  10.0.2.99    3     -         -  -         -           0  never
    refused: 3 wrong password, 17 wrong version; the last 12s ago: wrong
      password
  10.0.2.73    2     0     1.01s  plain     PASS        1  1m00s
    ceased to be master
  refused of further senders: 7

V2 on eth0, VRID 41, IPv4: MASTER, priority 100, version 2, interval 1s
  no other router is heard: backups are silent

5 adverts for a VRID that no instance has
";

    #[test]
    fn the_screen_shows_who_was_heard_and_what_was_refused() {
        assert_eq!(screen(&sample()), SCREEN);
        let json = serde_json::to_value(sample()).unwrap();
        let peers = &json["vrrp"]["instances"][0]["peers"];
        assert_eq!(peers[1]["master"], true);
        assert_eq!(peers[1]["last"]["at"], "2001-09-09T01:46:39.000Z");
        assert_eq!(peers[2]["refused"]["bad_version"], 17);
        assert_eq!(peers[2]["last_refused"]["reason"], "auth_failure");
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), sample());
    }

    #[test]
    fn addresses_are_shown_whole() {
        let source: core::net::IpAddr = "fe80:1111:2222:3333:5054:ffff:fe12:3456".parse().unwrap();
        let said = Said {
            at: at(1),
            priority: 200,
            interval: Duration::from_secs(1),
            checksum: Checksum::Pseudo,
            authentication: Proven::No,
        };
        let heard = peer::Peer {
            source,
            version: Some(3),
            adverts: 1_000_000,
            last: Some(said),
            ..peer(0)
        };
        let text = screen(&reported(vec![instance("V6", vrrp::State::Backup, vec![heard])]));
        assert!(text.contains(&source.to_string()), "{text}");
        assert!(text.contains("  pse~  "), "the others give way: {text}");
    }

    #[test]
    fn one_is_found_by_its_name() {
        let one = select(sample(), "V2").unwrap();
        assert_eq!(one.vrrp.as_ref().and_then(Answer::known).unwrap().instances.len(), 1);
        let none = select(sample(), "VRPR1").unwrap_err();
        assert_eq!(none.to_string(), "no instance 'VRPR1', did you mean 'VRRP1'?");
        let unknown = Answer::Unknown { unknown: "no".into() };
        let silent = Report { vrrp: Some(unknown), ..sample() };
        assert!(screen(&select(silent, "V3").unwrap()).contains("unknown: no"));
    }

    #[test]
    fn reasons_are_named_as_the_counters_of_the_status_report() {
        let counters = serde_json::to_value(vrrp::Counters::default()).unwrap();
        for (name, _) in REFUSALS {
            assert!(counters.get(name).is_some(), "{name}");
        }
    }
}
