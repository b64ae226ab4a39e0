use core::time::Duration;

use super::*;
use crate::sys::clock;
use crate::sys::poll::{Epoll, Ready, Timer};
use crate::sys::testing::{in_namespace, ip};

const GROUP4: IpAddr = IpAddr::V4(crate::base::net::VRRP_GROUP_V4);
const GROUP6: IpAddr = IpAddr::V6(crate::base::net::VRRP_GROUP_V6);

/// Two connected interfaces in this namespace.
fn cable() -> (IfIndex, IfIndex) {
    ip("link add veth0 type veth peer name veth1");
    for name in ["veth0", "veth1"] {
        let of = |what| format!("/proc/sys/net/ipv4/conf/{name}/{what}");
        // Packets of veth0 arrive on veth1 with a source address of this host.
        std::fs::write(of("accept_local"), "1").unwrap();
        std::fs::write(of("rp_filter"), "0").unwrap();
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
        ip(&format!("link set {name} up"));
    }
    ip("address add 10.0.0.1/24 dev veth0");
    ip("address add 10.0.0.2/24 dev veth1");
    ip("address add fe80::1/64 dev veth0 nodad");
    let index = |name| IfIndex(nix::net::if_::if_nametoindex(name).unwrap());
    (index("veth0"), index("veth1"))
}

/// The next packets, or none within `limit`.
fn wait(receiver: &Receiver, limit: Duration) -> Vec<(From, Vec<u8>)> {
    let epoll = Epoll::new().unwrap();
    let mut timer = Timer::new().unwrap();
    timer.set(Some(clock::now() + limit)).unwrap();
    epoll.add(receiver, 1).unwrap();
    epoll.add(&timer, 2).unwrap();
    epoll.wait(&mut Ready::new()).unwrap();
    let mut batch = Batch::new();
    receiver.receive(&mut batch).unwrap();
    batch.packets().map(|(from, packet)| (from, packet.to_vec())).collect()
}

/// An IPv4 packet with this content.
fn packet4(ttl: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, ttl, 112, 0, 0, 10, 0, 0, 1, 224, 0, 0, 18];
    packet.extend(content);
    packet
}

const LONG: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn ipv4_packets_arrive_with_their_header_and_origin() {
    in_namespace("sys::raw::tests::ipv4_packets_arrive_with_their_header_and_origin", || {
        let (a, b) = cable();
        let receiver = Receiver::open(Family::V4, false).unwrap();
        let sender = Sender::open(Family::V4).unwrap();
        let source = "10.0.0.1".parse().unwrap();
        let send = || sender.send(a, source, GROUP4, 255, &packet4(255, b"hello")).unwrap();
        // Not a member yet.
        send();
        assert!(wait(&receiver, SHORT).is_empty());
        receiver.join(GROUP4, b).unwrap();
        let before = clock::wall();
        send();
        let got = wait(&receiver, LONG);
        let [(from, packet)] = got.as_slice() else { panic!("{got:?}") };
        let at = from.at;
        assert!(before <= at.unwrap() && at.unwrap() <= clock::wall(), "{before:?} {at:?}");
        let want = From { interface: b, source, destination: GROUP4, hop_limit: 0, at };
        assert_eq!(*from, want);
        assert_eq!((packet[8], packet[9], &packet[20..]), (255, 112, &b"hello"[..]));
        // The kernel filled in the length.
        assert_eq!(packet[2..4], [0, 25]);
        receiver.leave(GROUP4, b).unwrap();
        send();
        assert!(wait(&receiver, SHORT).is_empty());
    });
}

#[test]
fn a_member_on_one_interface_does_not_hear_another() {
    in_namespace("sys::raw::tests::a_member_on_one_interface_does_not_hear_another", || {
        let (a, b) = cable();
        let (one, other) = (
            Receiver::open(Family::V4, false).unwrap(),
            Receiver::open(Family::V4, false).unwrap(),
        );
        one.join(GROUP4, a).unwrap();
        other.join(GROUP4, b).unwrap();
        let sender = Sender::open(Family::V4).unwrap();
        let source = "10.0.0.1".parse().unwrap();
        sender.send(a, source, GROUP4, 255, &packet4(255, b"x")).unwrap();
        assert_eq!(wait(&other, LONG).len(), 1);
        // Neither the other's membership nor multicast loopback delivers it here.
        assert!(wait(&one, SHORT).is_empty());
    });
}

#[test]
fn ipv6_packets_arrive_with_origin_and_hop_limit() {
    in_namespace("sys::raw::tests::ipv6_packets_arrive_with_origin_and_hop_limit", || {
        let (a, b) = cable();
        let receiver = Receiver::open(Family::V6, false).unwrap();
        receiver.join(GROUP6, b).unwrap();
        let sender = Sender::open(Family::V6).unwrap();
        let source = "fe80::1".parse().unwrap();
        sender.send(a, source, GROUP6, 255, &[0x31, 41, 100, 0, 0, 100, 0, 0]).unwrap();
        let got = wait(&receiver, LONG);
        let [(from, packet)] = got.as_slice() else { panic!("{got:?}") };
        assert!(from.at.is_some());
        let at = from.at;
        let want = From { interface: b, source, destination: GROUP6, hop_limit: 255, at };
        assert_eq!(*from, want);
        assert_eq!(packet[..6], [0x31, 41, 100, 0, 0, 100]);
        assert_ne!(packet[6..8], [0, 0], "the kernel filled in the checksum");
    });
}

#[test]
fn what_is_too_long_is_cut() {
    in_namespace("sys::raw::tests::what_is_too_long_is_cut", || {
        let (a, b) = cable();
        let receiver = Receiver::open(Family::V4, false).unwrap();
        receiver.join(GROUP4, b).unwrap();
        let sender = Sender::open(Family::V4).unwrap();
        ip("link set veth0 mtu 9000");
        ip("link set veth1 mtu 9000");
        sender
            .send(a, "10.0.0.1".parse().unwrap(), GROUP4, 255, &packet4(255, &[7; 8000]))
            .unwrap();
        let got = wait(&receiver, LONG);
        assert_eq!(got[0].1.len(), LONGEST as usize);
    });
}

#[test]
fn many_packets_come_in_batches_and_in_order() {
    in_namespace("sys::raw::tests::many_packets_come_in_batches_and_in_order", || {
        let (a, b) = cable();
        let receiver = Receiver::open(Family::V4, false).unwrap();
        receiver.join(GROUP4, b).unwrap();
        let sender = Sender::open(Family::V4).unwrap();
        for n in 0..200_u8 {
            sender.send(a, "10.0.0.1".parse().unwrap(), GROUP4, 255, &packet4(255, &[n])).unwrap();
        }
        let mut got = Vec::new();
        while got.len() < 200 {
            let more = wait(&receiver, LONG);
            assert!((1..=BATCH as usize).contains(&more.len()));
            got.extend(more.into_iter().map(|(_, packet)| packet[20]));
        }
        assert_eq!(got, (0..200).collect::<Vec<u8>>());
    });
}

#[test]
fn errors_of_sending_are_told() {
    in_namespace("sys::raw::tests::errors_of_sending_are_told", || {
        let (a, _) = cable();
        let sender = Sender::open(Family::V4).unwrap();
        let source: IpAddr = "10.0.0.1".parse().unwrap();
        ip("link set veth0 down");
        let error = sender.send(a, source, GROUP4, 255, &packet4(255, b"x")).unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENETUNREACH)),
            "{error}"
        );
        let gone = IfIndex(4711);
        let error = sender.send(gone, source, GROUP4, 255, &packet4(255, b"x")).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV)), "{error}");
        let error = sender.send(a, source, GROUP6, 255, b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
    });
}

#[test]
fn frames_leave_as_they_are() {
    in_namespace("sys::raw::tests::frames_leave_as_they_are", || {
        use crate::sys::packet::FrameSocket;
        let (a, b) = cable();
        // A gratuitous ARP request; a receiver that accepts it has the sender in its neighbour
        // table.
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([2, 0, 0, 0, 0, 9, 10, 0, 0, 77]);
        frame.extend([0xff; 6]);
        frame.extend([10, 0, 0, 77]);
        std::fs::write("/proc/sys/net/ipv4/conf/veth1/arp_accept", "1").unwrap();
        FrameSocket::open().unwrap().send(a, &frame).unwrap();
        let end = clock::now() + LONG;
        while !ip("neigh show dev veth1").contains("10.0.0.77 lladdr 02:00:00:00:00:09") {
            assert!(clock::now() < end, "the gratuitous ARP arrives");
            std::thread::yield_now();
        }
        assert!(FrameSocket::open().unwrap().send(b, b"short").is_err());
    });
}

#[test]
fn one_socket_of_several_hears_what_is_sent_to_this_host_alone() {
    in_namespace(
        "sys::raw::tests::one_socket_of_several_hears_what_is_sent_to_this_host_alone",
        || {
            let (a, b) = cable();
            ip("link set lo up");
            for (family, group, own, source) in [
                (Family::V4, GROUP4, "10.0.0.2", "10.0.0.1"),
                (Family::V6, GROUP6, "fe80::1", "fe80::1"),
            ] {
                let first = Receiver::open(family, true).unwrap();
                let second = Receiver::open(family, false).unwrap();
                first.join(group, b).unwrap();
                second.join(group, b).unwrap();
                let sender = Sender::open(family).unwrap();
                let (own, source): (IpAddr, IpAddr) =
                    (own.parse().unwrap(), source.parse().unwrap());
                let packet = |to: IpAddr| match to {
                    IpAddr::V4(to) => {
                        let mut packet = packet4(17, b"x");
                        packet[16..20].copy_from_slice(&to.octets());
                        packet
                    }
                    IpAddr::V6(_) => vec![0x31, 41, 100, 0, 0, 100, 0, 0],
                };
                sender.send(a, source, own, 17, &packet(own)).unwrap();
                let got = wait(&first, LONG);
                let [(from, octets)] = got.as_slice() else { panic!("{family}: {got:?}") };
                let hops = if family == Family::V4 { octets[8] } else { from.hop_limit };
                assert_eq!((from.source, from.destination, hops), (source, own, 17));
                assert!(wait(&second, SHORT).is_empty(), "{family}");
                // Both are members of the group.
                sender.send(a, source, group, 255, &packet(group)).unwrap();
                assert_eq!((wait(&first, LONG).len(), wait(&second, LONG).len()), (1, 1));
            }
        },
    );
}
