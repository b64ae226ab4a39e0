//! Unsolicited neighbour advertisements (RFC 4861 7.2.6): the IPv6 counterpart of gratuitous ARP.

use core::net::{IpAddr, Ipv6Addr};

use super::checksum::Sum;
use crate::base::Mac;

/// Length of a frame in octets: Ethernet, IPv6, ICMPv6 and the link-layer address option.
pub const FRAME: usize = 86;
const ICMPV6: u8 = 58;
const ICMP_LENGTH: u8 = 32;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// An advertisement for `address` at `mac` to all nodes, from the address itself, hop limit 255, override
/// set, solicited clear, router flag as given.
#[must_use]
pub fn unsolicited(mac: Mac, address: Ipv6Addr, router: bool) -> [u8; FRAME] {
    let mut icmp = Vec::with_capacity(usize::from(ICMP_LENGTH));
    icmp.extend([136, 0, 0, 0, if router { 0xa0 } else { 0x20 }, 0, 0, 0]);
    icmp.extend(address.octets());
    icmp.extend([2, 1]);
    icmp.extend(mac.0);
    let checksum = Sum::new()
        .pseudo_header(IpAddr::V6(address), IpAddr::V6(ALL_NODES), ICMPV6, u32::from(ICMP_LENGTH))
        .octets(&icmp)
        .finish()
        .to_be_bytes();
    if let Some(field) = icmp.get_mut(2..4) {
        field.copy_from_slice(&checksum);
    }
    let mut all = Vec::with_capacity(FRAME);
    all.extend([0x33, 0x33, 0, 0, 0, 1]);
    all.extend(mac.0);
    all.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, ICMP_LENGTH, ICMPV6, 255]);
    all.extend(address.octets());
    all.extend(ALL_NODES.octets());
    all.extend(icmp);
    let mut frame = [0; FRAME];
    for (to, from) in frame.iter_mut().zip(all) {
        *to = from;
    }
    frame
}

#[cfg(test)]
mod tests {
    use pnet::packet::icmpv6::Icmpv6Packet;
    use pnet::packet::icmpv6::ndp::{NdpOptionTypes, NeighborAdvertPacket};
    use pnet::packet::ipv6::Ipv6Packet;
    use pnet::packet::{Packet, icmpv6};

    use super::*;

    #[test]
    fn an_independent_decoder_agrees() {
        let address: Ipv6Addr = "fe80::100".parse().unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let frame = unsolicited(mac, address, true);
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd]);
        let ip = Ipv6Packet::new(&frame[14..]).unwrap();
        assert_eq!((ip.get_source(), ip.get_destination()), (address, ALL_NODES));
        assert_eq!((ip.get_hop_limit(), ip.get_next_header().0), (255, 58));
        let icmp = Icmpv6Packet::new(ip.payload()).unwrap();
        assert_eq!(icmpv6::checksum(&icmp, &address, &ALL_NODES), icmp.get_checksum());
        let advert = NeighborAdvertPacket::new(ip.payload()).unwrap();
        assert_eq!((advert.get_target_addr(), advert.get_flags()), (address, 0xa0));
        let options = advert.get_options();
        assert_eq!(options[0].option_type, NdpOptionTypes::TargetLLAddr);
        assert_eq!(options[0].data, mac.0);
    }
}
