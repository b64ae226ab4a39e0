//! Gratuitous ARP (RFC 826, RFC 5227 3): telling the segment which interface has an IPv4 address now.

use core::net::Ipv4Addr;

use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet_base::MacAddr;

use crate::base::Mac;

/// Length of a frame in octets: Ethernet header and ARP packet, without padding.
pub const FRAME: usize = 42;
const ETHERNET: usize = 14;

/// A broadcast gratuitous ARP request for `address` at `mac`: sender and target address are both `address`, and the
/// target hardware address is the broadcast address, as in keepalived.
#[must_use]
pub fn gratuitous(mac: Mac, address: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_destination(MacAddr::broadcast());
        ethernet.set_source(MacAddr::from(mac.0));
        ethernet.set_ethertype(EtherTypes::Arp);
    }
    if let Some(mut arp) = frame.get_mut(ETHERNET..).and_then(MutableArpPacket::new) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(MacAddr::from(mac.0));
        arp.set_sender_proto_addr(address);
        arp.set_target_hw_addr(MacAddr::broadcast());
        arp.set_target_proto_addr(address);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_octet_by_octet() {
        let frame = gratuitous(Mac([2, 0, 0, 0, 0, 7]), Ipv4Addr::new(10, 0, 0, 100));
        let mut want = vec![0xff; 6];
        want.extend([2, 0, 0, 0, 0, 7, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        want.extend([2, 0, 0, 0, 0, 7, 10, 0, 0, 100]);
        want.extend([0xff; 6]);
        want.extend([10, 0, 0, 100]);
        assert_eq!(frame.as_slice(), want);
    }
}
