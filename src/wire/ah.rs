//! The IP authentication header (RFC 2402) in front of VRRP version 2, as required by RFC 2338 10: transport mode,
//! HMAC-MD5-96 (RFC 2403).

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use super::ip;

/// Protocol number of the header.
pub const PROTOCOL: u8 = 51;
/// Length of the header with an ICV of 96 bits, in octets.
pub const HEADER: usize = 24;
/// Length of the header before the ICV, in octets.
const FIXED: usize = 12;
/// Length of the ICV (integrity check value), in octets.
const ICV: usize = 12;
/// Length of the header in words of 32 bits, minus two.
const WORDS: u8 = 4;

/// The content of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ah {
    /// Protocol of what follows.
    pub next: u8,
    /// Security parameters index: keepalived's is the source address.
    pub spi: u32,
    pub sequence: u32,
}

/// Splits the header from the payload of an IPv4 packet; none if it is truncated or of another form.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<(Ah, &[u8])> {
    let (header, rest) = payload.split_first_chunk::<HEADER>()?;
    let [next, WORDS, _, _, s0, s1, s2, s3, n0, n1, n2, n3, ..] = *header else { return None };
    let (spi, sequence) =
        (u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([n0, n1, n2, n3]));
    Some((Ah { next, spi, sequence }, rest))
}

/// The header with zeros for the ICV, which [`seal`] fills in.
#[must_use]
pub fn encode(spi: u32, sequence: u32) -> [u8; HEADER] {
    let ([a, b, c, d], [e, f, g, h]) = (spi.to_be_bytes(), sequence.to_be_bytes());
    let mut header = [0; HEADER];
    let fixed = [ip::VRRP, WORDS, 0, 0, a, b, c, d, e, f, g, h];
    header.iter_mut().zip(fixed).for_each(|(to, from)| *to = from);
    header
}

/// Fills in the ICV of a packet that begins with its IPv4 header. `unicast`: the TTL may change on the way and is not
/// covered.
pub fn seal(packet: &mut [u8], key: &[u8; 8], unicast: bool) {
    let Some(icv) = icv(packet, key, unicast) else { return };
    if let Some(field) = packet.get_mut(ip::HEADER + FIXED..ip::HEADER + HEADER) {
        field.copy_from_slice(&icv);
    }
}

/// Whether the ICV of a packet is correct. All octets are compared, so that the time taken reveals nothing about the
/// key.
#[must_use]
pub fn verify(packet: &[u8], key: &[u8; 8], unicast: bool) -> bool {
    let field = packet.get(ip::HEADER + FIXED..ip::HEADER + HEADER);
    field.zip(icv(packet, key, unicast)).is_some_and(|(theirs, ours)| {
        theirs.iter().zip(ours).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    })
}

/// None for a header with options, which adverts do not have, and for truncated packets.
fn icv(packet: &[u8], key: &[u8; 8], unicast: bool) -> Option<[u8; ICV]> {
    let (header, rest) = packet.split_first_chunk::<{ ip::HEADER }>()?;
    let (fixed, rest) = rest.split_first_chunk::<FIXED>()?;
    let (_, content) = rest.split_first_chunk::<ICV>()?;
    let [0x45, _, l0, l1, i0, i1, _, _, ttl, protocol, _, _, addresses @ ..] = *header else {
        return None;
    };
    // The fields that routers may change count as zero (RFC 2402 3.3.3.1): type of service, flags and offset, checksum,
    // and the TTL.
    let ttl = if unicast { 0 } else { ttl };
    let header = [0x45, 0, l0, l1, i0, i1, 0, 0, ttl, protocol, 0, 0];
    let mut mac = Hmac::<Md5>::new_from_slice(key).ok()?;
    for part in [&header[..], &addresses, fixed, &[0; ICV], content] {
        mac.update(part);
    }
    let tag = mac.finalize().into_bytes();
    tag.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::hex;

    /// Captured from keepalived 2.4.3 with the password `secret12`. Type of service and checksum are not covered.
    const SEEN: &str = "45c0004000010000ff33d0ac0a090002e0000012700400000a09000200000001680ea7c839d90c16e63c93a0\
                        2133640102016e5d0a0900640000000000000000";

    #[test]
    fn a_seen_packet_is_verified_and_made_again() {
        let seen = hex(SEEN);
        assert!(verify(&seen, b"secret12", false));
        assert!(!verify(&seen, b"secret13", false));
        assert!(!verify(&seen, b"secret12", true));
        let (header, rest) = decode(&seen[ip::HEADER..]).unwrap();
        assert_eq!((header.next, header.spi, header.sequence), (112, 0x0a09_0002, 1));
        assert_eq!(rest[0], 0x21);
        let mut made = seen.clone();
        made[ip::HEADER..ip::HEADER + HEADER].copy_from_slice(&encode(0x0a09_0002, 1));
        assert_ne!(made, seen);
        seal(&mut made, b"secret12", false);
        assert_eq!(made, seen);
    }

    #[test]
    fn every_octet_that_is_covered_counts() {
        let seen = hex(SEEN);
        for at in 0..seen.len() {
            let mut changed = seen.clone();
            changed[at] ^= 1;
            let free = [1, 6, 7, 10, 11].contains(&at);
            assert_eq!(verify(&changed, b"secret12", false), free, "octet {at}");
        }
        for length in 0..seen.len() {
            assert!(!verify(&seen[..length], b"secret12", false), "{length}");
        }
    }
}
