//! Who was heard: what the view of the other routers shows.

use super::*;
use crate::model::extras::{Unicast, UnicastPeer};
use crate::model::tracker::{TrackFile, Tracked};
use crate::status::TrackReport;
use crate::status::peer::{Checksum, InstancePeers, Proven, REFUSALS};
use crate::vrrp::accept::{Proof, Refusal};

const STRANGER: [u8; 4] = [10, 0, 2, 99];

impl Host {
    fn peers(&self) -> InstancePeers {
        let (view, next) = self.engine.part_of_peers(self.now, Position::default(), 64);
        assert_eq!(next, None);
        view.instances.into_iter().next().unwrap()
    }
}

/// Sources of the peers.
fn sources(peers: &InstancePeers) -> Vec<IpAddr> {
    peers.peers.iter().map(|peer| peer.source).collect()
}

#[test]
fn the_master_and_a_stranger_are_shown_with_what_they_sent() {
    let mut host = Host::backup();
    host.pass(300 * MS);
    host.receive(STRANGER, &advert(STRANGER, |c| c.auth = None));
    host.receive(STRANGER, &advert(STRANGER, |c| c.version = 3));
    host.receive(STRANGER, &advert(STRANGER, |c| c.version = 3));
    let peers = host.peers();
    assert_eq!(sources(&peers), [PEER, STRANGER].map(IpAddr::from));
    assert_eq!((peers.master, peers.state), (Some(PEER.into()), State::Backup));
    let [master, stranger] = peers.peers.as_slice() else { panic!("{peers:?}") };
    let said = master.last.unwrap();
    assert_eq!((master.version, master.adverts, master.refused.len()), (Some(2), 1, 0));
    assert_eq!((said.priority, said.interval, said.at), (200, SECOND, host.now - 300 * MS));
    assert_eq!((said.checksum, said.authentication), (Checksum::Plain, Proven::Pass));
    assert_eq!((stranger.version, stranger.adverts, stranger.last), (Some(3), 0, None));
    let named = |(kind, count): &(u8, u32)| (REFUSALS[usize::from(*kind)].0, *count);
    let refused: Vec<_> = stranger.refused.iter().map(named).collect();
    assert_eq!(refused, [("bad_version", 2), ("auth_mismatch", 1)]);
    assert_eq!(stranger.last_refused, Some((host.now, 2)));
}

#[test]
fn who_is_valid_but_for_the_number_of_addresses_is_shown_with_its_priority() {
    let mut host = Host::master();
    let two = [IpAddr::from([10, 0, 2, 100]), IpAddr::from([10, 0, 2, 101])];
    host.receive(PEER, &advert_of(PEER, &two, |c| c.priority = 150));
    let peers = host.peers();
    assert_eq!(peers.peers[0].last.unwrap().priority, 150);
    assert_eq!((peers.peers[0].adverts, peers.peers[0].refused.as_slice()), (0, &[(11, 1)][..]));
}

/// An instance in FAULT takes no decision, but its operator wants to know who is master.
#[test]
fn in_fault_it_is_noted_who_was_heard_and_nothing_else() {
    let mut config = failover(100);
    let (name, path) = (Name::from("f"), b"/run/f".to_vec().into());
    config.track_files.push(TrackFile { name, path, weight: 1, reverse: false, init: None });
    let extras = config.instances[0].extras.get_or_insert_default();
    extras.track_files.push(Tracked { name: "f".into(), weight: 0, reverse: false });
    let mut host = Host::new(config);
    host.event(Event::Report(TrackReport::file("f".into(), 1)));
    assert_eq!(host.state(), State::Fault);
    let before = host.counters();
    host.look();
    host.hear(PEER, 200);
    host.receive(STRANGER, &advert(STRANGER, |c| c.auth = None));
    assert_eq!((host.counters(), host.look().len()), (before, 0));
    assert_eq!(sources(&host.peers()), [PEER, STRANGER].map(IpAddr::from));
}

#[test]
fn configured_peers_are_shown_first_and_before_they_are_heard() {
    let mut config = failover(100);
    let peer =
        |last: u8| UnicastPeer { address: [10, 0, 2, last].into(), min_ttl: 0, max_ttl: 255 };
    let unicast = Unicast { peers: vec![peer(73), peer(74)], ..Unicast::default() };
    config.instances[0].extras.get_or_insert_default().unicast = Some(unicast);
    let mut host = Host::new(config);
    let hear = |host: &mut Host, last: u8| {
        let from = [10, 0, 2, last];
        let mut packet = advert(from, |_| {});
        packet[16..20].copy_from_slice(&[10, 0, 2, 71]);
        let (source, destination) = (from.into(), IpAddr::from([10, 0, 2, 71]));
        let rx = Rx { interface: ETH, source, destination, hop_limit: 0 };
        host.event(Event::Advert { rx, packet: &packet });
    };
    hear(&mut host, 99);
    hear(&mut host, 74);
    let peers = host.peers();
    let shown: Vec<_> =
        peers.peers.iter().map(|p| (p.source, p.configured, p.last.is_some())).collect();
    let source = |last: u8| IpAddr::from([10, 0, 2, last]);
    assert_eq!(
        shown,
        [(source(73), true, false), (source(74), true, true), (source(99), false, true)]
    );
}

#[test]
fn a_part_of_the_view_is_bounded_by_what_was_heard() {
    let instance = |n: u8| sample::instance(&format!("V{n}"), "enp0s8", n, 100, &["10.0.2.100/24"]);
    let mut host =
        Host::new(Vrrp { instances: (1..=9).map(instance).collect(), ..Vrrp::default() });
    for vrid in 1..=9 {
        for last in 100..110 {
            let from = [10, 0, 2, last];
            host.receive(from, &advert(from, |c| (c.vrid, c.auth) = (vrid, None)));
        }
    }
    let (mut begin, mut sizes, mut all) = (Some(Position::default()), Vec::new(), 0);
    while let Some(at) = begin {
        let (view, next) = host.engine.part_of_peers(host.now, at, 4);
        sizes.push(view.instances.len());
        all += view.instances.iter().map(|i| i.peers.len()).sum::<usize>();
        begin = next;
    }
    assert_eq!((sizes, all), (vec![2, 2, 2, 2, 1], 90));
}

#[test]
fn the_counter_of_each_refusal_has_the_name_in_the_list() {
    let heard = |host: &Host| serde_json::to_value(host.counters()).unwrap();
    let mut host = Host::master();
    host.receive(PEER, &advert(PEER, |c| c.interval = 2 * SECOND));
    let kind = Refusal::Interval { ours: 1, received: 2 }.kind();
    assert_eq!(heard(&host)[REFUSALS[kind].0], 1);
    let refusals = [
        Refusal::Destination(PEER.into()),
        Refusal::Ttl(1),
        Refusal::Version { expected: 2, received: 3 },
        Refusal::Type(2),
        Refusal::Length { expected: 1, received: 2 },
        Refusal::Checksum,
        Refusal::AuthType(9),
        Refusal::NoAh,
        Refusal::AuthFailure,
        Refusal::Interval { ours: 1, received: 2 },
        Refusal::Owner(Proof::None),
        Refusal::NotPeer(PEER.into()),
        Refusal::NoTrailer,
        Refusal::Malformed,
        Refusal::UnknownKey(1),
        Refusal::BadHmac,
        Refusal::Stale { ahead: 1, window: 1 },
        Refusal::Replay,
    ];
    for refusal in refusals {
        let mut counters = Counters::default();
        refusal.count(&mut counters);
        let name = REFUSALS[refusal.kind()].0;
        assert_eq!(serde_json::to_value(counters).unwrap()[name], 1, "{refusal}");
    }
}
