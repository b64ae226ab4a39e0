//! The authentication trailer behind an advert, keepalived's `auth_hmac`: HMAC-SHA256-128 over the source address and
//! the advert.
//!
//! | octets | content |
//! |---|---|
//! | 0 | type 1 |
//! | 1 | id of the key, 1 to 255 |
//! | 2, 3 | zero |
//! | 4 to 11 | sequence: seconds since 1970 (low 32 bits), fraction of a second in 1/65536, counter |
//! | 12 to 27 | tag |

use core::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Length of the trailer in octets.
pub const TRAILER: usize = 28;
/// Length of the trailer before the tag, in octets.
const FIXED: usize = 12;
/// Length of the tag in octets.
const TAG: usize = 16;
/// The position of the checksum in the advert, which counts as zero.
const CHECKSUM: core::ops::Range<usize> = 6..8;

/// A trailer as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    fixed: [u8; FIXED],
    tag: [u8; TAG],
}

impl Trailer {
    /// Splits a payload into the part before the trailer and the trailer; none if it is too short.
    #[must_use]
    pub fn split(payload: &[u8]) -> Option<(&[u8], Self)> {
        let (advert, octets) = payload.split_last_chunk::<TRAILER>()?;
        let (fixed, tag) = octets.split_first_chunk::<FIXED>()?;
        Some((advert, Self { fixed: *fixed, tag: *tag.first_chunk()? }))
    }

    /// Whether it has the known form.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        matches!(self.fixed, [1, _, 0, 0, ..])
    }

    /// The id of its key.
    #[must_use]
    pub const fn key(&self) -> u8 {
        let [_, key, ..] = self.fixed;
        key
    }

    /// Its sequence, the seconds in the upper half.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.fixed;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Whether the tag is that of `advert` from `source`. All octets are compared, so that the time taken reveals
    /// nothing.
    #[must_use]
    pub fn verify(&self, key: &[u8], source: IpAddr, advert: &[u8]) -> bool {
        let ours = tag(key, source, advert, &self.fixed);
        self.tag.iter().zip(ours).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// The trailer of `advert` (from the VRRP header on) when sent from `source`.
#[must_use]
pub fn sign(id: u8, key: &[u8], sequence: u64, source: IpAddr, advert: &[u8]) -> [u8; TRAILER] {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    let fixed = [1, id, 0, 0, a, b, c, d, e, f, g, h];
    let mut trailer = [0; TRAILER];
    let (head, tail) = trailer.split_at_mut(FIXED);
    head.copy_from_slice(&fixed);
    tail.copy_from_slice(&tag(key, source, advert, &fixed));
    trailer
}

fn tag(key: &[u8], source: IpAddr, advert: &[u8], fixed: &[u8; FIXED]) -> [u8; TAG] {
    let mut tag = [0; TAG];
    let (Some([kind, vrid, ..]), Ok(mut mac)) =
        (advert.first_chunk::<2>(), Hmac::<Sha256>::new_from_slice(key))
    else {
        return tag;
    };
    let (family, address) = match source {
        IpAddr::V4(source) => (4, u128::from(source.to_bits()) << 96),
        IpAddr::V6(source) => (6, source.to_bits()),
    };
    mac.update(&[family, kind >> 4, *vrid, 0]);
    mac.update(&address.to_be_bytes());
    mac.update(advert.get(..CHECKSUM.start).unwrap_or_default());
    mac.update(&[0; 2]);
    mac.update(advert.get(CHECKSUM.end..).unwrap_or_default());
    mac.update(fixed);
    mac.update(&[0; TAG]);
    let whole = mac.finalize().into_bytes();
    tag.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::hex;

    /// Advert, source and trailer as computed by keepalived 2.4.3, with the key 00..1f of id 1.
    const KNOWN: [(&str, &str, &str); 2] = [
        (
            "3133c80100644402c0000264",
            "198.51.100.10",
            "0101000068000000800000001b84bc4e8e43892dc6d98448f8ee2265",
        ),
        (
            "3133c8010064a2e9fe800000000000000000000000000100",
            "fe80::10",
            "010100006800000080000000c8c56146ebfd66ee10ec4d8186461b78",
        ),
    ];

    #[test]
    fn known_trailers() {
        let key: Vec<u8> = (0..32).collect();
        for (advert, source, trailer) in KNOWN {
            let (advert, source) = (hex(advert), source.parse().unwrap());
            let made = sign(1, &key, 0x6800_0000_8000_0000, source, &advert);
            assert_eq!(made.to_vec(), hex(trailer));
            let payload = [advert.clone(), made.to_vec()].concat();
            let (before, read) = Trailer::split(&payload).unwrap();
            assert_eq!(before, advert);
            assert_eq!(
                (read.is_known(), read.key(), read.sequence()),
                (true, 1, 0x6800_0000_8000_0000)
            );
            assert!(read.verify(&key, source, &advert));
            assert!(!read.verify(&key[1..], source, &advert));
            assert!(!read.verify(&key, "10.0.0.1".parse().unwrap(), &advert));
        }
    }

    #[test]
    fn every_octet_but_the_checksum_counts() {
        let key: Vec<u8> = (0..32).collect();
        let (advert, source, trailer) = KNOWN[0];
        let (payload, source) = ([hex(advert), hex(trailer)].concat(), source.parse().unwrap());
        for at in 0..payload.len() {
            let mut changed = payload.clone();
            changed[at] ^= 1;
            let (advert, read) = Trailer::split(&changed).unwrap();
            assert_eq!(read.verify(&key, source, advert), CHECKSUM.contains(&at), "octet {at}");
        }
    }
}
