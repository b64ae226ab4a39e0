//! VRRP advertisements: version 2 (RFC 3768 5) and version 3 (RFC 9568 5).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Type  | Virtual Rtr ID|   Priority    |  Addr Count   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   v2: Auth Type, Adver Int    |           Checksum            |
//! |   v3: 0000, Max Advertise Int |                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                     addresses, 4 or 16 octets each            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            v2 over IPv4: 8 octets of authentication data      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use super::checksum::Sum;
use super::ip;
use crate::base::Family;

/// Length of the header before the addresses, in octets.
pub const HEADER: usize = 8;
/// Length of the authentication data behind the addresses in version 2 over IPv4, in octets.
pub const AUTH_DATA: usize = 8;
/// The only type.
const ADVERTISEMENT: u8 = 1;

/// A decoded advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert<'a> {
    /// 2 or 3.
    pub version: u8,
    /// Virtual router id. 0 is not allowed but can be received.
    pub vrid: u8,
    /// Priority; 0 means that the sender stops being master.
    pub priority: u8,
    /// Time between adverts of this sender: whole seconds in version 2, hundredths in version 3.
    pub interval: Duration,
    /// Authentication; only in version 2 over IPv4.
    pub auth: Option<Auth>,
    addresses: &'a [u8],
    family: Family,
}

/// Authentication fields of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth {
    /// 0 none, 1 simple password, 2 IP authentication header.
    pub kind: u8,
    /// The data behind the addresses.
    pub data: [u8; AUTH_DATA],
}

/// Why octets are not an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than a header.
    #[error("{0} octets are too short for an advert")]
    Short(usize),
    /// Neither version 2 nor version 3.
    #[error("version {0}")]
    Version(u8),
    /// Not an advertisement.
    #[error("packet type {0}")]
    Type(u8),
    /// Longer or shorter than the number of addresses requires.
    #[error("length {received} where {expected} is expected")]
    Length {
        /// The length required by version and number of addresses.
        expected: usize,
        /// The received length.
        received: usize,
    },
}

/// Decodes the payload of an IP packet. The checksum is not checked: see [`checksum_holds`].
///
/// # Errors
/// If version, type or length are not those of an advertisement, checked in this order.
pub fn decode(payload: &[u8], family: Family) -> Result<Advert<'_>, Error> {
    let Some((&header, rest)) = payload.split_first_chunk::<HEADER>() else {
        return Err(Error::Short(payload.len()));
    };
    let [kind, vrid, priority, count, a, b, _, _] = header;
    let version = kind >> 4;
    if !matches!(version, 2 | 3) {
        return Err(Error::Version(version));
    }
    if kind & 0x0f != ADVERTISEMENT {
        return Err(Error::Type(kind & 0x0f));
    }
    let list = usize::from(count) * family.octets();
    let trailer = if has_auth(version, family) { AUTH_DATA } else { 0 };
    if rest.len() != list + trailer {
        return Err(Error::Length { expected: HEADER + list + trailer, received: payload.len() });
    }
    let (addresses, data) = rest.split_at(list);
    Ok(Advert {
        version,
        vrid,
        priority,
        interval: if version == 2 {
            Duration::from_secs(u64::from(b))
        } else {
            Duration::from_millis(10 * u64::from(u16::from_be_bytes([a & 0x0f, b])))
        },
        auth: data.first_chunk().map(|&data| Auth { kind: a, data }),
        addresses,
        family,
    })
}

/// Whether the checksum of an advertisement is correct. `pseudo` is source and destination if the pseudo header is
/// included: version 3, and IPv6 always (RFC 9568 5.2.8).
#[must_use]
pub fn checksum_holds(payload: &[u8], pseudo: Option<(IpAddr, IpAddr)>) -> bool {
    checksum(payload, pseudo) == 0
}

fn checksum(payload: &[u8], pseudo: Option<(IpAddr, IpAddr)>) -> u16 {
    let sum = match pseudo {
        Some((source, destination)) => {
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            Sum::new().pseudo_header(source, destination, ip::VRRP, length)
        }
        None => Sum::new(),
    };
    sum.octets(payload).finish()
}

const fn has_auth(version: u8, family: Family) -> bool {
    version == 2 && matches!(family, Family::V4)
}

impl<'a> Advert<'a> {
    /// Number of addresses.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.addresses.len() / self.family.octets()
    }

    /// The addresses in the order sent.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let family = self.family;
        self.addresses.chunks_exact(family.octets()).filter_map(move |octets| match family {
            Family::V4 => <[u8; 4]>::try_from(octets).ok().map(|o| Ipv4Addr::from(o).into()),
            Family::V6 => <[u8; 16]>::try_from(octets).ok().map(|o| Ipv6Addr::from(o).into()),
        })
    }
}

/// The content of an advertisement to encode.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// 2 or 3.
    pub version: u8,
    pub vrid: u8,
    /// Priority, 0 to 255.
    pub priority: u8,
    /// Time between adverts: up to 255 s in version 2, up to 40.95 s in version 3; larger values are clamped.
    pub interval: Duration,
    /// Authentication; only used in version 2 over IPv4, where none means type 0 with zeros.
    pub auth: Option<Auth>,
    /// At most 255 addresses, all of `family`; others are ignored.
    pub addresses: &'a [IpAddr],
    /// Family of the addresses and of the packet.
    pub family: Family,
    /// Source and destination, if the checksum covers them.
    pub pseudo: Option<(IpAddr, IpAddr)>,
}

/// Encodes an advertisement and appends it to `out`.
pub fn encode(content: &Content<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let addresses = || {
        content
            .addresses
            .iter()
            .filter(|a| Family::of(a) == content.family)
            .take(usize::from(u8::MAX))
    };
    let count = u8::try_from(addresses().count()).unwrap_or(u8::MAX);
    let auth = content.auth.unwrap_or(Auth { kind: 0, data: [0; AUTH_DATA] });
    let [a, b] = if content.version == 2 {
        let seconds = u8::try_from(content.interval.as_secs()).unwrap_or(u8::MAX);
        [if has_auth(2, content.family) { auth.kind } else { 0 }, seconds]
    } else {
        let hundredths = u16::try_from(content.interval.as_millis() / 10).unwrap_or(u16::MAX);
        hundredths.min(0x0fff).to_be_bytes()
    };
    out.extend([
        content.version << 4 | ADVERTISEMENT,
        content.vrid,
        content.priority,
        count,
        a,
        b,
        0,
        0,
    ]);
    for address in addresses() {
        match address {
            IpAddr::V4(a) => out.extend(a.octets()),
            IpAddr::V6(a) => out.extend(a.octets()),
        }
    }
    if has_auth(content.version, content.family) {
        out.extend(auth.data);
    }
    let sum = checksum(out.get(start..).unwrap_or_default(), content.pseudo).to_be_bytes();
    if let Some(field) = out.get_mut(start + 6..start + 8) {
        field.copy_from_slice(&sum);
    }
}

/// Recomputes the checksum of an advertisement, for example over IPv6 after appending something that it covers.
pub fn checksum_again(payload: &mut [u8], pseudo: Option<(IpAddr, IpAddr)>) {
    let fill = |payload: &mut [u8], sum: [u8; 2]| {
        if let Some(field) = payload.get_mut(6..HEADER) {
            field.copy_from_slice(&sum);
        }
    };
    fill(payload, [0, 0]);
    let sum = checksum(payload, pseudo).to_be_bytes();
    fill(payload, sum);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::hex;

    fn encoded(content: &Content<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(content, &mut out);
        out
    }

    /// Packets captured from keepalived 2.4.3.
    #[test]
    fn known_packets() {
        let addresses = [IpAddr::from([192, 0, 2, 100])];
        let pseudo = (IpAddr::from([198, 51, 100, 10]), IpAddr::from([224, 0, 0, 18]));
        let v2 = Content {
            version: 2,
            vrid: 51,
            priority: 100,
            interval: Duration::from_secs(1),
            auth: None,
            addresses: &addresses,
            family: Family::V4,
            pseudo: None,
        };
        let pass = Auth { kind: 1, data: *b"1111\0\0\0\0" };
        let v3 = Content { version: 3, pseudo: Some(pseudo), ..v2 };
        assert_eq!(encoded(&v2), hex("213364010001b865c00002640000000000000000"));
        assert_eq!(
            encoded(&Content { auth: Some(pass), ..v2 }),
            hex("2133640101015503c00002643131313100000000")
        );
        assert_eq!(encoded(&v3), hex("3133640100649d35c0000264"));
        assert_eq!(encoded(&Content { pseudo: None, ..v3 }), hex("313364010064a802c0000264"));
        assert!(checksum_holds(&encoded(&v3), Some(pseudo)));
        assert!(!checksum_holds(&encoded(&v3), None));
    }

    #[test]
    fn what_is_refused() {
        let good = hex("3133640100649d35c0000264");
        assert!(decode(&good, Family::V4).is_ok());
        assert_eq!(decode(&good[..7], Family::V4), Err(Error::Short(7)));
        assert_eq!(
            decode(&good[..11], Family::V4),
            Err(Error::Length { expected: 12, received: 11 })
        );
        let changed = |at: usize, to: u8| {
            let mut packet = good.clone();
            packet[at] = to;
            decode(&packet, Family::V4).map(|_| ())
        };
        assert_eq!(changed(0, 0x41), Err(Error::Version(4)));
        assert_eq!(changed(0, 0x32), Err(Error::Type(2)));
        assert_eq!(changed(3, 2), Err(Error::Length { expected: 16, received: 12 }));
        // Version 2 has 8 octets more.
        assert_eq!(changed(0, 0x21), Err(Error::Length { expected: 20, received: 12 }));
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(octets in prop::collection::vec(any::<u8>(), 0..80), six: bool) {
            let family = if six { Family::V6 } else { Family::V4 };
            if let Ok(advert) = decode(&octets, family) {
                prop_assert_eq!(advert.addresses().count(), advert.count());
            }
        }

        #[test]
        fn decoding_undoes_encoding(
            three: bool, six: bool, vrid: u8, priority: u8, interval in 1u64..200,
            kind in 0u8..3, data: [u8; 8], list in prop::collection::vec(any::<[u8; 16]>(), 0..20),
        ) {
            let family = if six { Family::V6 } else { Family::V4 };
            let addresses: Vec<IpAddr> = list.iter().map(|o| if six {
                IpAddr::from(*o)
            } else {
                IpAddr::from([o[0], o[1], o[2], o[3]])
            }).collect();
            let version = if three { 3 } else { 2 };
            let content = Content {
                version, vrid, priority, interval: Duration::from_secs(interval.min(40)),
                auth: Some(Auth { kind, data }), addresses: &addresses, family, pseudo: None,
            };
            let packet = encoded(&content);
            prop_assert!(checksum_holds(&packet, None));
            let advert = decode(&packet, family).unwrap();
            prop_assert_eq!((advert.version, advert.vrid, advert.priority), (version, vrid, priority));
            prop_assert_eq!(advert.interval, content.interval);
            prop_assert_eq!(advert.addresses().collect::<Vec<_>>(), addresses);
            prop_assert_eq!(advert.auth, (version == 2 && !six).then_some(Auth { kind, data }));
        }
    }
}
