//! Unicast adverts: what is sent to which peer, and which senders an instance accepts.

use super::*;
use crate::model::extras::{InstanceExtras, OldChecksum, Unicast, UnicastPeer};

const OWN: [u8; 4] = [10, 0, 2, 71];
const THIRD: [u8; 4] = [10, 0, 2, 73];
const GROUP: [u8; 4] = [224, 0, 0, 18];

fn peer(address: [u8; 4]) -> UnicastPeer {
    UnicastPeer { address: address.into(), min_ttl: 0, max_ttl: 255 }
}

/// The failover scenario with two peers.
fn config(priority: u8, change: impl FnOnce(&mut model::Instance, &mut Unicast)) -> Vrrp {
    let mut config = failover(priority);
    let mut unicast = Unicast { peers: vec![peer(PEER), peer(THIRD)], ..Unicast::default() };
    change(&mut config.instances[0], &mut unicast);
    let extras = InstanceExtras { unicast: Some(unicast), ..InstanceExtras::default() };
    config.instances[0].extras = Some(Box::new(extras));
    config
}

fn plain(priority: u8) -> Vrrp {
    config(priority, |_, _| ())
}

/// An advert to this address, with this TTL; `pseudo` is what a version 3 checksum covers.
fn to(
    from: [u8; 4],
    destination: [u8; 4],
    ttl: u8,
    change: impl FnOnce(&mut wire::Content<'_>),
) -> Vec<u8> {
    let addresses = [IpAddr::from([10, 0, 2, 100])];
    let mut content = wire::Content {
        version: 2,
        vrid: 41,
        priority: 200,
        interval: SECOND,
        auth: Some(wire::Auth { kind: 1, data: *b"1066\0\0\0\0" }),
        addresses: &addresses,
        family: Family::V4,
        pseudo: None,
    };
    change(&mut content);
    let mut payload = Vec::new();
    wire::encode(&content, &mut payload);
    let length = u16::try_from(payload.len()).unwrap();
    let mut packet = ip::encode(1, length, from.into(), destination.into(), ttl, ip::VRRP).to_vec();
    packet.extend(payload);
    packet
}

impl Host {
    fn receive_at(&mut self, link: IfIndex, packet: &[u8]) {
        let (header, _) = ip::decode(packet).unwrap();
        let (source, destination) = (header.source.into(), header.destination.into());
        let rx = Rx { interface: link, source, destination, hop_limit: 0 };
        self.event(Event::Advert { rx, packet });
    }

    /// Destination, TTL and priority of each advert sent since the last look.
    fn sent(&self) -> Vec<(IpAddr, u8, u8)> {
        let adverts = self.seen.iter().filter_map(|action| match action {
            Action::SendAdvert { destination, hop_limit, .. } => Some((*destination, *hop_limit)),
            _ => None,
        });
        let priorities = self.packets.iter().map(|packet| {
            assert_eq!(packet[8], self.ttl_of(packet));
            packet[ip::HEADER + 2]
        });
        adverts.zip(priorities).map(|((to, ttl), priority)| (to, ttl, priority)).collect()
    }

    /// The TTL that the action with this packet names.
    fn ttl_of(&self, packet: &[u8]) -> u8 {
        let position = self.packets.iter().position(|p| p == packet).unwrap();
        let mut limits = self.seen.iter().filter_map(|action| match action {
            Action::SendAdvert { hop_limit, .. } => Some(*hop_limit),
            _ => None,
        });
        limits.nth(position).unwrap()
    }

    fn listens(&self) -> Vec<(IfIndex, IpAddr)> {
        let joins = self.seen.iter().filter_map(|action| match action {
            Action::Join { interface, group } => Some((*interface, *group)),
            _ => None,
        });
        joins.collect()
    }

    fn fault(&self) -> String {
        self.engine.view(self.now).instances[0].faults.join(", ")
    }
}

#[test]
fn each_peer_is_sent_every_advert_and_nothing_goes_to_a_group() {
    let mut host = Host::new(config(200, |_, unicast| unicast.ttl = Some(17)));
    assert_eq!(host.listens(), [(ETH, OWN.into())]);
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    let expected = [(PEER.into(), 17, 200), (THIRD.into(), 17, 200)];
    assert_eq!(host.sent()[..2], expected);
    // One number for all copies.
    assert_eq!(host.packets[0][4..6], host.packets[1][4..6]);
    let sent = host.counters().adverts_sent;
    host.look();
    host.pass(SECOND);
    assert_eq!(host.sent(), expected);
    assert_eq!(host.counters().adverts_sent, sent + 1);
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    let farewell = [(PEER.into(), 17, 0), (THIRD.into(), 17, 0)];
    assert_eq!(host.sent(), farewell);
}

#[test]
fn what_comes_to_our_address_elects_whatever_its_ttl() {
    let mut host = Host::new(plain(100));
    for _ in 0..50 {
        host.pass(100 * MS);
        host.receive_at(ETH, &to(PEER, OWN, 3, |_| ()));
    }
    assert_eq!(host.state(), State::Backup);
    assert_eq!(host.counters().adverts_received, 50);
    // A router that is no peer counts as well, unless `check_unicast_src` says otherwise.
    host.receive_at(ETH, &to([10, 0, 2, 99], OWN, 3, |_| ()));
    assert_eq!(host.counters().adverts_received, 51);
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
}

#[test]
fn multicast_is_a_wrong_destination_for_unicast_and_the_other_way_round() {
    let mut host = Host::new(plain(100));
    for _ in 0..40 {
        host.pass(100 * MS);
        host.receive_at(ETH, &to(PEER, GROUP, 255, |_| ()));
    }
    assert_eq!((host.counters().bad_destination, host.state()), (40, State::Master));
    let mut host = Host::backup();
    for _ in 0..40 {
        host.pass(100 * MS);
        host.receive_at(ETH, &to(PEER, OWN, 255, |_| ()));
    }
    assert_eq!((host.counters().bad_destination, host.state()), (40, State::Master));
}

#[test]
fn a_source_that_is_checked_must_be_a_peer_with_a_ttl_in_its_range() {
    let mut host = Host::new(config(100, |_, unicast| {
        unicast.check_source = true;
        unicast.peers = vec![UnicastPeer { min_ttl: 60, max_ttl: 64, ..peer(PEER) }, peer(THIRD)];
    }));
    for (from, ttl, good) in [
        (PEER, 60, true),
        (PEER, 64, true),
        (PEER, 59, false),
        (PEER, 65, false),
        (THIRD, 1, true),
        ([10, 0, 2, 99], 64, false),
    ] {
        let before = host.counters();
        host.receive_at(ETH, &to(from, OWN, ttl, |_| ()));
        let after = host.counters();
        let accepted = after.adverts_received - before.adverts_received;
        assert_eq!(accepted, u64::from(good), "{from:?} {ttl}");
    }
    assert_eq!((host.counters().bad_ttl, host.counters().not_a_peer), (2, 1));
}

#[test]
fn a_configured_source_is_waited_for_and_its_loss_is_a_fault() {
    let own = "10.0.2.75";
    let mut host =
        Host::new(config(200, |instance, _| instance.source = Some(own.parse().unwrap())));
    assert_eq!(host.listens(), []);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Fault);
    assert_eq!(host.fault(), "source address 10.0.2.75 not configured");
    host.look();
    // On any link.
    let change = |present| Change::address(OTHER, prefix("10.0.2.75/32"), present, false);
    host.event(Event::Object(change(true)));
    assert_eq!(host.listens(), [(ETH, own.parse().unwrap())]);
    assert_eq!(host.state(), State::Backup);
    // Peers are informed where it is.
    assert_eq!(host.frames(), [(own.parse().unwrap(), 1)]);
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    host.event(Event::Object(change(false)));
    assert_eq!(host.state(), State::Fault);
    assert_eq!(host.sent(), [(PEER.into(), 255, 0), (THIRD.into(), 255, 0)]);
}

#[test]
fn without_peers_it_stays_in_fault_where_it_must() {
    let mut host = Host::new(config(200, |_, unicast| {
        unicast.peers.clear();
        unicast.fault_without_peer = true;
    }));
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.fault()), (State::Fault, "unicast without any peers".into()));
}

#[test]
fn a_peer_is_answered_in_the_form_of_checksum_that_it_uses() {
    fn three(content: &mut wire::Content<'_>, covered: [u8; 4]) {
        (content.version, content.auth, content.priority) = (3, None, 150);
        content.pseudo = Some((PEER.into(), covered.into()));
    }
    let with = |form| {
        config(200, |instance, unicast| {
            (instance.version, instance.authentication) = (Version::V3, Authentication::None);
            unicast.old_checksum = form;
        })
    };
    let covers = |host: &Host, position: usize, destination: [u8; 4]| {
        let payload = &host.packets[position][ip::HEADER..];
        wire::checksum_holds(payload, Some((OWN.into(), destination.into())))
    };
    for form in [OldChecksum::Detect, OldChecksum::Always, OldChecksum::Never] {
        let mut host = Host::new(with(form));
        host.receive_at(ETH, &to(PEER, OWN, 255, |c| three(c, OWN)));
        assert_eq!(host.counters().adverts_received, 1, "{form:?}");
        host.receive_at(ETH, &to(PEER, OWN, 255, |c| three(c, GROUP)));
        let good = u64::from(form != OldChecksum::Never);
        assert_eq!(host.counters().adverts_received, 1 + good, "{form:?}");
        assert_eq!(host.counters().bad_checksum, 1 - good, "{form:?}");
        host.receive_at(ETH, &to(PEER, OWN, 255, |c| three(c, THIRD)));
        assert_eq!(host.counters().bad_checksum, 2 - good, "{form:?}");
        host.pass(4 * SECOND);
        let old = form == OldChecksum::Always;
        assert_eq!(covers(&host, 0, GROUP), form != OldChecksum::Never, "{form:?}");
        assert_eq!(covers(&host, 0, PEER), form == OldChecksum::Never, "{form:?}");
        // Nothing was heard from the other peer yet.
        assert_eq!((covers(&host, 1, GROUP), covers(&host, 1, THIRD)), (old, !old), "{form:?}");
        // A reload that changes the order of the peers preserves it.
        host.event(Event::Reload(Arc::new({
            let mut config = with(form);
            config.instances[0].extras.as_mut().unwrap().unicast.as_mut().unwrap().peers.reverse();
            config
        })));
        host.look();
        host.pass(SECOND);
        assert_eq!(covers(&host, 1, GROUP), form != OldChecksum::Never, "{form:?}");
    }
}

#[test]
fn who_comes_back_announces_its_source_unless_that_is_the_virtual_address() {
    let down = |up: bool| Event::Link(link(ETH, "enp0s8", up));
    let mut host = Host::new(plain(200));
    host.event(down(false));
    host.look();
    host.event(down(true));
    assert_eq!((host.state(), host.frames()), (State::Backup, vec![(OWN.into(), 1)]));
    // The owner of an address of its interface. Another router may serve it meanwhile.
    let mut owner = plain(255);
    let interface = owner.instances[0].interface.clone();
    owner.instances[0].addresses = vec![sample::address("10.0.2.71/24", &interface)];
    let mut host = Host::new(owner);
    host.event(down(false));
    host.look();
    host.event(down(true));
    assert_eq!((host.state(), host.frames()), (State::Backup, vec![]));
}

#[test]
fn from_multicast_to_unicast_is_another_election() {
    let mut host = Host::master();
    host.event(Event::Reload(Arc::new(plain(200))));
    assert_eq!(host.sent(), [(GROUP.into(), 255, 0)]);
    assert_eq!(host.listens(), [(ETH, OWN.into())]);
    assert_eq!(host.state(), State::Backup);
    host.look();
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);
    // An additional peer is not another election: it stays master.
    let more = config(200, |_, unicast| unicast.peers.push(peer([10, 0, 2, 74])));
    host.look();
    host.event(Event::Reload(Arc::new(more)));
    host.pass(SECOND);
    assert_eq!(host.state(), State::Master);
    let destinations: Vec<u8> = host
        .sent()
        .iter()
        .map(|(to, ..)| match to {
            IpAddr::V4(to) => to.octets()[3],
            IpAddr::V6(_) => 0,
        })
        .collect();
    assert_eq!(destinations, [72, 73, 74]);
}

#[test]
fn instances_of_one_id_and_address_are_told_apart_by_their_peers() {
    let mut both = plain(100);
    let mut second = both.instances[0].clone();
    second.name = "VRRP2".into();
    second.addresses = vec![sample::address("10.0.2.101/24", &second.interface)];
    second.extras.as_mut().unwrap().unicast.as_mut().unwrap().peers = vec![peer([10, 0, 2, 74])];
    both.instances.push(second);
    let mut host = Host::new(both.clone());
    let heard = |host: &Host| {
        let view = host.engine.view(host.now);
        view.instances.iter().map(|i| i.counters.adverts_received).collect::<Vec<_>>()
    };
    host.receive_at(ETH, &to([10, 0, 2, 74], OWN, 255, |_| ()));
    host.receive_at(ETH, &to(PEER, OWN, 255, |_| ()));
    host.receive_at(ETH, &to(PEER, OWN, 255, |_| ()));
    assert_eq!(heard(&host), [2, 1]);
    // In the other order, and the first one gone.
    both.instances.reverse();
    host.event(Event::Reload(Arc::new(both.clone())));
    host.receive_at(ETH, &to([10, 0, 2, 74], OWN, 255, |_| ()));
    assert_eq!(heard(&host), [2, 2]);
    both.instances.truncate(1);
    host.event(Event::Reload(Arc::new(both)));
    host.receive_at(ETH, &to([10, 0, 2, 74], OWN, 255, |_| ()));
    assert_eq!(heard(&host), [3]);
}

#[test]
fn two_masters_that_send_the_same_ah_numbers_do_not_both_stay() {
    let mut config = failover(200);
    config.instances[0].authentication = Authentication::None;
    let key = crate::base::Secret::new(*b"secret12");
    let extras = InstanceExtras { ah_key: Some(key), ..InstanceExtras::default() };
    config.instances[0].extras = Some(Box::new(extras));
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    let number = host.engine.summary(host.now).instances[0].ah.last;
    for (theirs, state) in [(number - 1, State::Master), (number, State::Backup)] {
        host.receive(PEER, &with_ah(theirs));
        assert_eq!(host.state(), state);
    }
    assert_eq!((host.counters().auth_failure, host.counters().adverts_received), (1, 1));
}

#[test]
fn an_owner_that_ignores_adverts_goes_on_behind_their_ah_numbers() {
    let mut config = failover(255);
    config.instances[0].state = model::vrrp::InitialState::Master;
    config.instances[0].owner_ignore_adverts = true;
    config.instances[0].authentication = Authentication::None;
    let key = crate::base::Secret::new(*b"secret12");
    let extras = InstanceExtras { ah_key: Some(key), ..InstanceExtras::default() };
    config.instances[0].extras = Some(Box::new(extras));
    let mut host = Host::new(config);
    assert_eq!(host.state(), State::Master);
    host.receive(PEER, &with_ah(700));
    assert_eq!((host.state(), host.counters().ignored_as_owner), (State::Master, 1));
    host.packets.clear();
    host.pass(SECOND);
    let (header, _) = crate::wire::ah::decode(&host.packets[0][ip::HEADER..]).unwrap();
    assert_eq!(header.sequence, 701);
}

/// An advert of priority 250 with this number in its authentication header.
pub(super) fn with_ah(number: u32) -> Vec<u8> {
    let plain = advert(PEER, |content| {
        content.priority = 250;
        content.auth = Some(wire::Auth { kind: 2, data: [0; 8] });
    });
    let pdu = &plain[ip::HEADER..];
    let header = crate::wire::ah::encode(Ipv4Addr::from(PEER).to_bits(), number);
    let length = u16::try_from(header.len() + pdu.len()).unwrap();
    let to = Ipv4Addr::new(224, 0, 0, 18);
    let protocol = crate::wire::ah::PROTOCOL;
    let mut packet = ip::encode(1, length, PEER.into(), to, 255, protocol).to_vec();
    packet.extend(header);
    packet.extend(pdu);
    crate::wire::ah::seal(&mut packet, b"secret12", false);
    packet
}

#[test]
fn authentication_headers_are_heard_and_sent_after_a_reload_asks_for_them() {
    let mut host = Host::master();
    let mut config = failover(200);
    config.instances[0].authentication = Authentication::None;
    let key = crate::base::Secret::new(*b"secret12");
    let extras = InstanceExtras { ah_key: Some(key), ..InstanceExtras::default() };
    config.instances[0].extras = Some(Box::new(extras));
    host.event(Event::Reload(Arc::new(config)));
    let asked = host.seen.iter().filter(|action| matches!(action, Action::HearAh)).count();
    host.look();
    host.pass(SECOND);
    let protocols: Vec<u8> = host.packets.iter().map(|packet| packet[9]).collect();
    assert_eq!((asked, host.state(), protocols), (1, State::Master, vec![51]));
    // Adverts without the trailer are dropped now.
    host.hear(PEER, 255);
    assert_eq!((host.counters().auth_mismatch, host.state()), (1, State::Master));
}
