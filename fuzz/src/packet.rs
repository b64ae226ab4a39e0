//! Packets: the decoders, acceptance by an instance, and its engine with events in any order.

use std::net::IpAddr;
use std::time::Duration;

use evervip::base::net::{VRRP_GROUP_V4, VRRP_GROUP_V6};
use evervip::base::{Family, IfIndex, Secret, WallTime};
use evervip::model::sample;
use evervip::model::vrrp::{Authentication, Instance, Priority, Version};
use evervip::vrrp::auth::Sequences;
use evervip::vrrp::{Rx, accept};
use evervip::wire::{ip, vrrp};

use super::input::Input;

const PASSWORD: [u8; 8] = *b"1066\0\0\0\0";

/// Six octets that select the parameters, then a packet as received from the socket.
pub fn advert(data: &[u8]) {
    let mut input = Input(data);
    let (kind, hop_limit) = (input.octet(), input.octet());
    let ours = instance(kind, input.octet());
    let addresses: Vec<IpAddr> = ours.addresses.iter().map(|a| a.prefix.address).collect();
    let source = match ours.family {
        Family::V4 => IpAddr::from([10, 0, 2, input.octet()]),
        Family::V6 => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(input.octet())]),
    };
    let rx = Rx { interface: IfIndex(2), source, destination: ours.destination, hop_limit };
    if let Ok(packet) = accept::unwrap(&rx, input.0) {
        if accept::check(&judge(&ours, &addresses, &Sequences::default()), &packet).is_ok() {
            assert_eq!((packet.ttl, packet.destination), (255, ours.destination));
            assert_eq!(packet.payload[0], ours.version.number() << 4 | 1);
            assert_eq!(usize::from(packet.payload[3]), addresses.len());
        }
        again(packet.payload, ours.family);
    }
    again(input.0, Family::V4);
    again(input.0, Family::V6);
    corrupt(&ours, &addresses, &rx, input);
}

/// Encoding a decoded packet and decoding it again gives the same value.
fn again(payload: &[u8], family: Family) {
    let Ok(advert) = vrrp::decode(payload, family) else { return };
    let addresses: Vec<IpAddr> = advert.addresses().collect();
    assert_eq!(addresses.len(), advert.count());
    let mut octets = Vec::new();
    vrrp::encode(
        &vrrp::Content {
            version: advert.version,
            vrid: advert.vrid,
            priority: advert.priority,
            interval: advert.interval,
            auth: advert.auth,
            addresses: &addresses,
            family,
            pseudo: None,
        },
        &mut octets,
    );
    assert!(vrrp::checksum_holds(&octets, None));
    assert_eq!(octets.len(), payload.len());
    assert_eq!(vrrp::decode(&octets, family), Ok(advert));
}

/// A valid advert is accepted; with one changed octet in its VRRP part it never is.
fn corrupt(ours: &Instance, addresses: &[IpAddr], rx: &Rx, mut input: Input<'_>) {
    let pseudo = match ours.family {
        Family::V4 if ours.version == Version::V2 || ours.v3_checksum_as_v2 => None,
        _ => Some((rx.source, rx.destination)),
    };
    let mut payload = Vec::new();
    let auth = match ours.authentication {
        Authentication::Pass(_) => Some(vrrp::Auth { kind: 1, data: PASSWORD }),
        Authentication::None => None,
    };
    vrrp::encode(
        &vrrp::Content {
            version: ours.version.number(),
            vrid: ours.vrid.get(),
            priority: input.octet(),
            interval: ours.advert_int,
            auth,
            addresses,
            family: ours.family,
            pseudo,
        },
        &mut payload,
    );
    let accepted = |payload: &[u8]| {
        let (source, destination) = (rx.source, rx.destination);
        let packet = accept::Packet { source, destination, ttl: 255, ah: None, payload };
        accept::check(&judge(ours, addresses, &Sequences::default()), &packet).is_ok()
    };
    assert!(accepted(&payload) || ours.owner_ignore_adverts, "{ours:?}");
    let (at, change) = (usize::from(input.octet()) % payload.len(), input.octet());
    payload[at] ^= change;
    // Replacing all zeros by all ones keeps the sum if the other octet of the word is equal to it.
    let word = payload.get(at & !1..(at & !1) + 2).unwrap_or_default();
    if change != 0 && !word.iter().all(|o| *o == 0 || *o == 0xff) {
        assert!(!accepted(&payload), "octet {at} changed by {change:#x}");
    }
    payload.truncate(at);
    assert!(!accepted(&payload), "cut at {at}");
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (rx.source, rx.destination) {
        let length = u16::try_from(payload.len()).unwrap_or(0);
        let mut packet = ip::encode(7, length, from, to, 255, 112).to_vec();
        packet.extend(&payload);
        assert_eq!(ip::decode(&packet).map(|(_, rest)| rest), Ok(payload.as_slice()));
    }
}

fn judge<'a>(
    ours: &'a Instance,
    addresses: &'a [IpAddr],
    sequences: &'a Sequences,
) -> accept::Judge<'a> {
    let (destination, now) = (ours.destination, WallTime::default());
    accept::Judge { ours, addresses, destination, sequences, now }
}

/// Configurations of all kinds.
fn instance(kind: u8, count: u8) -> Instance {
    let six = kind & 1 != 0;
    let vip = if six { "fe80::100/64" } else { "10.0.2.100/24" };
    let mut ours = sample::instance("VI", "enp0s8", 41, 100, &[vip]);
    let first = ours.addresses[0].clone();
    ours.addresses = vec![first; 1 + usize::from(count % 4)];
    if six || kind & 2 != 0 {
        ours.version = Version::V3;
        ours.authentication = Authentication::None;
        ours.advert_int = Duration::from_millis(10 * (1 + u64::from(kind)));
        ours.v3_checksum_as_v2 = !six && kind & 4 != 0;
    } else if kind & 4 != 0 {
        ours.authentication = Authentication::Pass(Secret::new(PASSWORD));
    }
    if kind & 8 != 0 {
        ours.priority = Priority::OWNER;
        ours.owner_ignore_adverts = kind & 16 != 0;
    }
    ours.destination = if six { IpAddr::V6(VRRP_GROUP_V6) } else { IpAddr::V4(VRRP_GROUP_V4) };
    ours
}

/// Packets, timers, reloads, answers of the kernel and of scripts in any order.
pub fn events(data: &[u8]) {
    // Each event may start a new configuration: the number is limited.
    let data = data.get(..4000).unwrap_or(data);
    assert_eq!(evervip::sim::fuzz::vrrp_events(data), 0, "a step panicked");
}
