//! Addresses and interfaces.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits of an address: 32 or 128.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// Octets of an address: 4 or 16.
    #[must_use]
    pub const fn octets(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

impl fmt::Display for Family {
    /// `IPv4` or `IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The kernel's index of an interface, 1 or more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IfIndex(pub u32);

impl fmt::Debug for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "if{}", self.0)
    }
}

/// The name of an interface: 1 to 15 octets, no slash, no white space.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(Box<str>);

impl IfName {
    /// `eth0`, keepalived's default interface of addresses.
    #[must_use]
    pub fn eth0() -> Self {
        Self("eth0".into())
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is not a valid interface name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an interface name has 1 to 15 characters, none of them '/' or white space")]
pub struct BadIfName;

impl FromStr for IfName {
    type Err = BadIfName;

    fn from_str(text: &str) -> Result<Self, BadIfName> {
        let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
        // The kernel refuses the same characters (dev_valid_name), including ':', which aliases use.
        if fits
            && !text.bytes().any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace())
        {
            Ok(Self(text.into()))
        } else {
            Err(BadIfName)
        }
    }
}

impl TryFrom<String> for IfName {
    type Error = BadIfName;

    fn try_from(text: String) -> Result<Self, BadIfName> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0.into()
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address with the length of its subnet's prefix, as in `10.0.0.100/24`. The host bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// The address, host bits included.
    pub address: IpAddr,
    /// Bits of the network part, 0 to 32 or 128.
    length: u8,
}

impl Prefix {
    /// `address` with a prefix of `length` bits; none if that is longer than the address.
    #[must_use]
    pub const fn new(address: IpAddr, length: u8) -> Option<Self> {
        if length <= Family::of(&address).bits() { Some(Self { address, length }) } else { None }
    }

    /// The address alone: /32 or /128.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self { address, length: Family::of(&address).bits() }
    }

    /// Bits of the network part.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The family of the address.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(&self.address)
    }

    /// The subnet itself: the host bits are zero.
    #[must_use]
    pub fn network(&self) -> Self {
        let length = u32::from(self.length);
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, length: self.length }
    }

    /// Whether `other` is in this subnet.
    #[must_use]
    pub fn contains(&self, other: &IpAddr) -> bool {
        Family::of(other) == self.family()
            && Self { address: *other, length: self.length }.network() == self.network()
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Destination of VRRP adverts: 224.0.0.18 (RFC 5798 5.1.1.2).
pub const VRRP_GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Destination of VRRP adverts: ff02::12 (RFC 5798 5.1.2.2).
pub const VRRP_GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["lo", "enp0s8", "eth0.100", "a23456789012345"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "a234567890123456"] {
            assert_eq!(bad.parse::<IfName>(), Err(BadIfName), "{bad}");
        }
    }

    #[test]
    fn subnets() {
        let net = Prefix::new("10.0.0.100".parse().unwrap(), 24).unwrap();
        assert!(net.contains(&"10.0.0.1".parse().unwrap()));
        assert!(!net.contains(&"10.0.1.1".parse().unwrap()));
        assert!(!net.contains(&"fe80::1".parse().unwrap()));
        let all = Prefix::new("::".parse().unwrap(), 0).unwrap();
        assert!(all.contains(&"fe80::1".parse().unwrap()));
        assert_eq!(Prefix::new("10.0.0.1".parse().unwrap(), 33), None);
        assert_eq!(net.to_string(), "10.0.0.100/24");
    }
}
