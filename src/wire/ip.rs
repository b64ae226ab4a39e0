//! The IPv4 header (RFC 791), as far as VRRP needs it.

use core::net::Ipv4Addr;

use super::checksum::Sum;

/// Length of a header without options, in octets.
pub const HEADER: usize = 20;
/// Protocol number of VRRP.
pub const VRRP: u8 = 112;

/// The content of an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Length of the whole packet in octets.
    pub total_length: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Whether this is one of several fragments.
    pub fragment: bool,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

/// Why octets are not an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer octets than the header gives.
    #[error("shorter than its header says")]
    Short,
    /// The version is not 4.
    #[error("not IPv4")]
    Version,
}

/// Splits a packet into its header and its payload. Octets behind the total length are ignored: an Ethernet frame may
/// be padded.
///
/// # Errors
/// If the packet is truncated or not IPv4.
pub fn decode(packet: &[u8]) -> Result<(Ipv4, &[u8]), Error> {
    let Some((&header, _)) = packet.split_first_chunk::<HEADER>() else {
        return Err(Error::Short);
    };
    let [first, _, l0, l1, _, _, f0, f1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        header;
    if first >> 4 != 4 {
        return Err(Error::Version);
    }
    let header_length = usize::from(first & 0x0f) * 4;
    let total_length = u16::from_be_bytes([l0, l1]);
    if header_length < HEADER {
        return Err(Error::Short);
    }
    let payload = packet.get(header_length..usize::from(total_length)).ok_or(Error::Short)?;
    let flags = u16::from_be_bytes([f0, f1]);
    Ok((
        Ipv4 {
            total_length,
            ttl,
            protocol,
            // More fragments follow, or this is not the first one.
            fragment: flags & 0x3fff != 0,
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
        },
        payload,
    ))
}

/// The header of an advert: TOS 0xc0 (network control), don't fragment.
///
/// `length` is that of the payload in octets; the checksum is filled in.
#[must_use]
pub fn encode(
    id: u16,
    length: u16,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ttl: u8,
    protocol: u8,
) -> [u8; HEADER] {
    #[allow(clippy::cast_possible_truncation, reason = "20")]
    let total = length.saturating_add(HEADER as u16).to_be_bytes();
    let (id, s, d) = (id.to_be_bytes(), source.octets(), destination.octets());
    let mut header = [
        0x45, 0xc0, total[0], total[1], id[0], id[1], 0x40, 0, ttl, protocol, 0, 0, s[0], s[1],
        s[2], s[3], d[0], d[1], d[2], d[3],
    ];
    let checksum = Sum::new().octets(&header).finish().to_be_bytes();
    (header[10], header[11]) = (checksum[0], checksum[1]);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let (s, d) = (Ipv4Addr::new(10, 0, 0, 71), Ipv4Addr::new(224, 0, 0, 18));
        let mut packet = encode(7, 4, s, d, 255, VRRP).to_vec();
        assert_eq!(Sum::new().octets(&packet).finish(), 0);
        packet.extend([1, 2, 3, 4, 0, 0]);
        let (header, payload) = decode(&packet).unwrap();
        assert_eq!((header.total_length, header.ttl, header.protocol), (24, 255, 112));
        assert_eq!((header.source, header.destination, header.fragment), (s, d, false));
        assert_eq!(payload, [1, 2, 3, 4]);
        assert_eq!(decode(&packet[..23]), Err(Error::Short));
        assert_eq!(decode(&packet[..19]), Err(Error::Short));
        packet[0] = 0x65;
        assert_eq!(decode(&packet), Err(Error::Version));
        packet[0] = 0x44;
        assert_eq!(decode(&packet), Err(Error::Short));
    }
}
