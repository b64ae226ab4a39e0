use proptest::prelude::*;

use super::*;

fn address(family: Family) -> impl Strategy<Value = IpAddr> {
    any::<u128>().prop_map(move |bits| match family {
        Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    })
}

fn family_of() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let by_address = (protocol, family_of().prop_flat_map(address), any::<u16>()).prop_map(
        |(protocol, address, port)| ServiceKey::Address {
            protocol,
            endpoint: SocketAddr::new(address, port),
        },
    );
    let by_mark =
        (1u32.., family_of()).prop_map(|(mark, family)| ServiceKey::Mark { mark, family });
    prop_oneof![by_address, by_mark]
}

fn settings() -> impl Strategy<Value = Settings> {
    let engine = prop::option::of("[a-z]{1,15}".prop_map(Name::from));
    ("[a-z]{1,15}", any::<u32>(), any::<u32>(), any::<u32>(), engine).prop_map(
        |(scheduler, flags, timeout, netmask, engine)| Settings {
            scheduler: Name::from(scheduler),
            flags,
            timeout,
            netmask,
            engine,
        },
    )
}

fn forward() -> impl Strategy<Value = Forward> {
    let checksum = || {
        prop_oneof![
            Just(TunnelChecksum::None),
            Just(TunnelChecksum::Checksum),
            Just(TunnelChecksum::Remote)
        ]
    };
    prop_oneof![
        Just(Forward::Nat),
        Just(Forward::Dr),
        Just(Forward::Tun(Tunnel::Ipip)),
        (any::<u16>(), checksum())
            .prop_map(|(port, checksum)| Forward::Tun(Tunnel::Gue { port, checksum })),
        checksum().prop_map(|checksum| Forward::Tun(Tunnel::Gre { checksum })),
    ]
}

fn destination() -> impl Strategy<Value = (DestinationKey, Destination)> {
    let limits = (any::<u32>(), any::<u32>(), any::<u32>());
    (family_of().prop_flat_map(address), any::<u16>(), forward(), limits).prop_map(
        |(address, port, forward, (weight, upper_threshold, lower_threshold))| {
            let key = DestinationKey { address, port };
            (key, Destination { forward, weight, upper_threshold, lower_threshold })
        },
    )
}

/// The payload of the only message in a buffer; requests and lists have the same form.
fn payload(buffer: &[u8]) -> &[u8] {
    let mut all = replies(buffer);
    let first = all.next().unwrap().unwrap();
    assert!(all.next().is_none());
    match first.body {
        Body::Payload(payload) => payload,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_service_comes_back_as_it_was_sent(service in key(), settings in settings()) {
        let mut buffer = Vec::new();
        let op = Op::AddService { service, settings: settings.clone() };
        encode(&mut buffer, 30, 7, &op, true);
        let (found, read) = decode_service(payload(&buffer)).unwrap();
        prop_assert_eq!(found, service);
        prop_assert_eq!(read, settings.normalised(service.family()));
    }

    #[test]
    fn a_server_comes_back_as_it_was_sent(service in key(), (destination, settings) in destination()) {
        let mut buffer = Vec::new();
        encode(&mut buffer, 30, 7, &Op::AddDestination { service, destination, settings }, true);
        let read = decode_destination(payload(&buffer), Family::V4).unwrap();
        prop_assert_eq!(read, (destination, settings));
    }

    /// Kernels before 2.6.37 report "local" in place of any forwarding method of a server on this machine.
    #[test]
    fn a_server_on_this_machine_is_told_apart(service in key(), (destination, settings) in destination()) {
        let mut buffer = Vec::new();
        encode(&mut buffer, 30, 7, &Op::AddDestination { service, destination, settings }, true);
        prop_assert!(!is_local(payload(&buffer)));
        let way = match settings.forward {
            Forward::Nat => MASQUERADE,
            Forward::Dr => DIRECT,
            Forward::Tun(_) => TUNNEL,
        };
        // The attribute: its length of 8, its kind, its value.
        let attribute = |way: u32| {
            [&8_u16.to_ne_bytes()[..], &dest::FWD_METHOD.to_ne_bytes(), &way.to_ne_bytes()].concat()
        };
        let at = buffer.windows(8).position(|w| w == attribute(way)).unwrap();
        buffer[at..at + 8].copy_from_slice(&attribute(LOCAL_NODE));
        prop_assert!(is_local(payload(&buffer)));
        let read = decode_destination(payload(&buffer), Family::V4).unwrap();
        prop_assert_eq!(read, (destination, Destination { forward: Forward::Dr, ..settings }));
    }

    /// Whatever the octets: an answer or an error, never a panic, and always an end.
    #[test]
    fn any_octets_are_taken_apart(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        take_apart(&octets);
    }

    /// The same, with octets that begin like a message.
    #[test]
    fn damaged_messages_are_taken_apart(
        service in key(),
        (destination, settings) in destination(),
        cut in 0usize..200,
        damage in prop::collection::vec((0usize..200, any::<u8>()), 0..6),
    ) {
        let mut buffer = Vec::new();
        encode(&mut buffer, 30, 7, &Op::AddDestination { service, destination, settings }, true);
        encode(&mut buffer, 30, 8, &Op::DeleteService { service }, true);
        for (at, octet) in damage {
            if let Some(place) = buffer.get_mut(at) {
                *place = octet;
            }
        }
        buffer.truncate(buffer.len().saturating_sub(cut));
        take_apart(&buffer);
    }
}

fn take_apart(octets: &[u8]) {
    let mut count = 0;
    for reply in replies(octets).flatten() {
        count += 1;
        if let Body::Payload(payload) | Body::Interrupted(payload) = reply.body {
            let _ =
                (family(payload), decode_service(payload), decode_destination(payload, Family::V6));
        }
    }
    assert!(count <= octets.len() / HEADER);
}

/// Written down octet by octet from `linux/netlink.h` and `linux/ip_vs.h`.
#[test]
fn a_request_on_the_wire() {
    let service =
        ServiceKey::Address { protocol: Protocol::Tcp, endpoint: "10.0.0.1:80".parse().unwrap() };
    let destination = DestinationKey { address: "10.0.0.71".parse().unwrap(), port: 8080 };
    let settings =
        Destination { forward: Forward::Dr, weight: 5, upper_threshold: 6, lower_threshold: 7 };
    let mut buffer = Vec::new();
    encode(&mut buffer, 0x1e, 0x0708, &Op::AddDestination { service, destination, settings }, true);
    let mut want = Vec::new();
    want.extend(140u32.to_ne_bytes()); // length
    want.extend(0x1eu16.to_ne_bytes()); // family
    want.extend(5u16.to_ne_bytes()); // REQUEST, ACK
    want.extend(0x0708u32.to_ne_bytes());
    want.extend(0u32.to_ne_bytes());
    want.extend([5, 1, 0, 0]); // NEW_DEST, version 1
    let attribute = |want: &mut Vec<u8>, length: u16, kind: u16, value: &[u8]| {
        want.extend(length.to_ne_bytes());
        want.extend(kind.to_ne_bytes());
        want.extend(value);
    };
    attribute(&mut want, 48, 0x8001, &[]);
    attribute(&mut want, 6, 1, &[2u16.to_ne_bytes(), [0, 0]].concat());
    attribute(&mut want, 6, 2, &[6u16.to_ne_bytes(), [0, 0]].concat());
    attribute(&mut want, 20, 3, &[10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    attribute(&mut want, 6, 4, &[0, 80, 0, 0]);
    attribute(&mut want, 72, 0x8002, &[]);
    attribute(&mut want, 6, 11, &[2u16.to_ne_bytes(), [0, 0]].concat());
    attribute(&mut want, 20, 1, &[10, 0, 0, 71, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    attribute(&mut want, 6, 2, &[0x1f, 0x90, 0, 0]);
    attribute(&mut want, 8, 3, &3u32.to_ne_bytes());
    attribute(&mut want, 8, 4, &5u32.to_ne_bytes());
    attribute(&mut want, 8, 5, &6u32.to_ne_bytes());
    attribute(&mut want, 8, 6, &7u32.to_ne_bytes());
    assert_eq!(buffer, want);
}

#[test]
fn masks_travel_in_network_order_and_prefix_lengths_do_not() {
    let netmask = |family, netmask| {
        let service = ServiceKey::Mark { mark: 1, family };
        let settings =
            Settings { scheduler: Name::from("rr"), flags: 1, timeout: 9, netmask, engine: None };
        let mut buffer = Vec::new();
        encode(&mut buffer, 30, 7, &Op::SetService { service, settings }, false);
        let all = attributes(payload(&buffer)).unwrap().find(command::SERVICE).unwrap().nested();
        all.find(service::NETMASK).unwrap().0.to_vec()
    };
    assert_eq!(netmask(Family::V4, 0xffff_ff00), [255, 255, 255, 0]);
    assert_eq!(netmask(Family::V6, 64), 64u32.to_ne_bytes());
}

#[test]
fn answers_of_the_kernel() {
    let status = |kind: u16, flags: u16, code: i32| {
        let mut octets = Vec::new();
        octets.extend(36u32.to_ne_bytes());
        octets.extend(kind.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend(9u32.to_ne_bytes());
        octets.extend([0; 4]);
        octets.extend(code.to_ne_bytes());
        octets.extend([0; 16]);
        octets
    };
    let bodies = |octets: &[u8]| -> Vec<String> {
        replies(octets).map(|reply| format!("{:?}", reply.unwrap().body)).collect()
    };
    let two = [status(2, 0, -17), status(2, 0, 0)].concat();
    assert_eq!(bodies(&two), ["Status(Some(17))", "Status(None)"]);
    assert_eq!(bodies(&status(3, 2, 0)), ["End(None)"]);
    assert_eq!(bodies(&status(3, 2, -16)), ["End(Some(16))"]);
    assert_eq!(bodies(&status(1, 0, 0)), ["Nothing"]);
    assert!(matches!(
        replies(&status(30, 0x10, 0)).next(),
        Some(Ok(Reply { sequence: 9, body: Body::Interrupted(_) }))
    ));
    for length in 1..36 {
        assert!(replies(&two[..length]).any(|reply| reply.is_err()), "{length}");
    }
}
