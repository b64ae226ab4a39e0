//! Whether a received packet is a valid advert for an instance, and if not, why.
//!
//! The order of the checks is that of RFC 9568 7.1 and RFC 3768 7.1; the first that fails decides which
//! counter rises. The VRID was looked at before: it says which instance is asked.

use core::net::IpAddr;
use core::time::Duration;

use super::event::Rx;
use crate::base::Family;
use crate::model::extras::{OldChecksum, Unicast};
use crate::model::vrrp::{Authentication, Instance, Priority, Version};
use crate::status::vrrp::Counters;
use crate::wire::{ip, vrrp};

/// A valid advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who sent it.
    pub source: IpAddr,
    /// Its priority, 0 to 255.
    pub priority: u8,
    /// Its interval.
    pub interval: Duration,
    /// Whether it advertises every address that we have.
    pub same_addresses: bool,
    /// Whether its checksum has the old form that some routers give version 3 adverts by unicast.
    pub old_checksum: bool,
}

/// Why a packet is not taken for an advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong destination address: another group, or unicast where multicast is expected.
    #[error("it was sent to {0}")]
    Destination(IpAddr),
    /// By unicast from a router that is not a peer, with `check_unicast_src`.
    #[error("unicast source address {0} not a unicast peer")]
    NotPeer(IpAddr),
    /// By unicast with a TTL that is not between `min_ttl` and `max_ttl` of the peer.
    #[error("TTL/HL {received} not in range [{min}, {max}]")]
    TtlRange {
        /// The packet's.
        received: u8,
        /// Lowest.
        min: u8,
        /// Highest.
        max: u8,
    },
    /// It came through a router, or somebody pretends.
    #[error("invalid TTL/HL: received {0} and expect 255")]
    Ttl(u8),
    /// Another version of the protocol.
    #[error("wrong VRRP version: received {received} and expect {expected}")]
    Version {
        /// Ours.
        expected: u8,
        /// The packet's.
        received: u8,
    },
    /// Not an advertisement.
    #[error("invalid packet type: {0} and expect 1")]
    Type(u8),
    /// Too short or too long.
    #[error("invalid length: {received} octets and expect {expected}")]
    Length {
        /// What the header asks for.
        expected: usize,
        /// What came.
        received: usize,
    },
    /// The checksum is wrong.
    #[error("invalid checksum")]
    Checksum,
    /// The checksum has the old form, which `old_unicast_checksum never` refuses.
    #[error("invalid checksum: the old unicast form, which `old_unicast_checksum never` refuses")]
    OldChecksum,
    /// An authentication type that does not exist.
    #[error("invalid auth type: {0}")]
    AuthType(u8),
    /// Another authentication type than ours.
    #[error("received a {received} auth, expecting {expected}")]
    AuthMismatch {
        /// Ours.
        expected: u8,
        /// The packet's.
        received: u8,
    },
    /// The password is wrong.
    #[error("received an invalid passwd")]
    AuthFailure,
    /// Another interval than ours, which version 2 does not allow.
    #[error("advertisement interval mismatch: mine={ours} sec, received={received} sec")]
    Interval {
        /// Ours in seconds.
        ours: u64,
        /// The packet's in seconds.
        received: u64,
    },
    /// We own the addresses and are told not to listen.
    #[error("we are address owner")]
    Owner,
    /// Valid otherwise, but with another number of addresses. RFC 3768 7.1 drops it; see `Engine` for what a
    /// router that goes on sending such adverts is taken for.
    #[error("expected {ours} VIPs but received {received}")]
    AddressCount {
        /// How many we advertise.
        ours: usize,
        /// How many it advertises.
        received: usize,
        /// The rest of it.
        heard: Heard,
    },
}

impl Refusal {
    /// Counts the refusal.
    pub const fn count(&self, counters: &mut Counters) {
        let counter = match self {
            Self::Destination(_) => &mut counters.bad_destination,
            Self::NotPeer(_) => &mut counters.not_a_peer,
            Self::Ttl(_) | Self::TtlRange { .. } => &mut counters.bad_ttl,
            Self::Version { .. } => &mut counters.bad_version,
            Self::Type(_) => &mut counters.bad_type,
            Self::Length { .. } => &mut counters.bad_length,
            Self::Checksum | Self::OldChecksum => &mut counters.bad_checksum,
            Self::AuthType(_) => &mut counters.bad_auth_type,
            Self::AuthMismatch { .. } => &mut counters.auth_mismatch,
            Self::AuthFailure => &mut counters.auth_failure,
            Self::Interval { .. } => &mut counters.bad_interval,
            Self::Owner => &mut counters.ignored_as_owner,
            Self::AddressCount { .. } => &mut counters.bad_address_count,
        };
        *counter += 1;
    }

    /// A number of its own for each kind, from 0 on.
    #[must_use]
    pub const fn kind(&self) -> usize {
        match self {
            Self::Destination(_) => 0,
            Self::Ttl(_) | Self::TtlRange { .. } => 1,
            Self::Version { .. } => 2,
            Self::Type(_) => 3,
            Self::Length { .. } => 4,
            Self::Checksum | Self::OldChecksum => 5,
            Self::AuthType(_) => 6,
            Self::AuthMismatch { .. } => 7,
            Self::AuthFailure => 8,
            Self::Interval { .. } => 9,
            Self::Owner => 10,
            Self::AddressCount { .. } => 11,
            Self::NotPeer(_) => 12,
        }
    }
}

/// A packet with its IP layer taken off.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// From the VRRP header on.
    pub payload: &'a [u8],
}

/// Takes the IP layer off.
///
/// # Errors
/// When the IP header is not one, or the packet is not VRRP.
pub fn unwrap<'a>(rx: &Rx, packet: &'a [u8]) -> Result<Packet<'a>, Refusal> {
    match Family::of(&rx.source) {
        Family::V6 => Ok(Packet {
            source: rx.source,
            destination: rx.destination,
            ttl: rx.hop_limit,
            payload: packet,
        }),
        Family::V4 => {
            let short = Refusal::Length { expected: ip::HEADER, received: packet.len() };
            let (header, payload) = ip::decode(packet).map_err(|_| short)?;
            if header.protocol != ip::VRRP || header.fragment {
                return Err(short);
            }
            Ok(Packet {
                source: header.source.into(),
                destination: header.destination.into(),
                ttl: header.ttl,
                payload,
            })
        }
    }
}

/// The virtual router id of a packet.
#[must_use]
pub fn vrid(payload: &[u8]) -> Option<u8> {
    payload.get(1).copied()
}

/// Judges a packet for the instance configured by `ours`, whose advertised addresses are `addresses` and which
/// listens to `destination`.
///
/// # Errors
/// The first reason not to accept it.
pub fn check(
    ours: &Instance,
    addresses: &[IpAddr],
    destination: IpAddr,
    packet: &Packet<'_>,
) -> Result<Heard, Refusal> {
    if packet.destination != destination {
        return Err(Refusal::Destination(packet.destination));
    }
    match ours.unicast() {
        Some(unicast) => check_peer(unicast, packet)?,
        //= rfc9568 7.1: MUST verify that the IPv4 TTL / IPv6 Hop Limit is 255
        None if packet.ttl != 255 => return Err(Refusal::Ttl(packet.ttl)),
        None => {}
    }
    let expected = ours.version.number();
    let advert = vrrp::decode(packet.payload, ours.family).map_err(|error| match error {
        vrrp::Error::Short(received) => Refusal::Length { expected: vrrp::HEADER, received },
        vrrp::Error::Version(received) => Refusal::Version { expected, received },
        vrrp::Error::Type(kind) => Refusal::Type(kind),
        // The length that another version has is no sign of a damaged packet.
        vrrp::Error::Length { .. } if version(packet.payload) != Some(expected) => {
            Refusal::Version { expected, received: version(packet.payload).unwrap_or_default() }
        }
        vrrp::Error::Length { expected, received } => Refusal::Length { expected, received },
    })?;
    //= rfc9568 7.1: MUST verify the VRRP version
    if advert.version != expected {
        return Err(Refusal::Version { expected, received: advert.version });
    }
    //= rfc9568 7.1: MUST verify the VRRP checksum
    // With v3_checksum_as_v2 senders of both kinds are about.
    let plain = vrrp::checksum_holds(packet.payload, None);
    let pseudo = || vrrp::checksum_holds(packet.payload, Some((packet.source, packet.destination)));
    let right = match (ours.version, ours.family) {
        (Version::V2, Family::V4) => plain,
        (Version::V3, Family::V4) if ours.v3_checksum_as_v2 => plain || pseudo(),
        (Version::V3, Family::V4) | (_, Family::V6) => pseudo(),
    };
    let old_checksum = !right && has_old_checksum(ours, packet);
    if old_checksum && ours.unicast().is_some_and(|u| u.old_checksum == OldChecksum::Never) {
        return Err(Refusal::OldChecksum);
    }
    if !right && !old_checksum {
        return Err(Refusal::Checksum);
    }
    if let Some(auth) = &advert.auth {
        authenticate(&ours.authentication, auth)?;
    }
    //= rfc3768 7.1: MUST verify that the Adver Interval in the packet is the same as the locally configured
    if ours.version == Version::V2 && advert.interval != ours.advert_int {
        let (ours, received) = (ours.advert_int.as_secs(), advert.interval.as_secs());
        return Err(Refusal::Interval { ours, received });
    }
    if ours.owner_ignore_adverts && ours.priority == Priority::OWNER {
        return Err(Refusal::Owner);
    }
    let heard = Heard {
        source: packet.source,
        priority: advert.priority,
        interval: advert.interval,
        same_addresses: addresses.iter().copied().eq(advert.addresses())
            || addresses.iter().all(|a| advert.addresses().any(|b| *a == b)),
        old_checksum,
    };
    //= rfc3768 7.1: if the packet was not generated by the address owner, the receiver MUST drop the packet
    // departs: the owner's too, since whoever wants to take the addresses can say 255.
    if advert.count() != addresses.len() {
        let (ours, received) = (addresses.len(), advert.count());
        return Err(Refusal::AddressCount { ours, received, heard });
    }
    Ok(heard)
}

/// Whether a packet that came by unicast is from where such packets may come from.
fn check_peer(ours: &Unicast, packet: &Packet<'_>) -> Result<(), Refusal> {
    if !ours.check_source {
        return Ok(());
    }
    let peer = ours.peers.iter().find(|peer| peer.address == packet.source);
    let peer = peer.ok_or(Refusal::NotPeer(packet.source))?;
    let (received, min, max) = (packet.ttl, peer.min_ttl, peer.max_ttl);
    if (min..=max).contains(&received) {
        Ok(())
    } else {
        Err(Refusal::TtlRange { received, min, max })
    }
}

/// Whether the checksum of a version 3 advert that came by unicast covers the multicast group in place of our
/// address, as that of keepalived before 2.0 does.
fn has_old_checksum(ours: &Instance, packet: &Packet<'_>) -> bool {
    ours.unicast().is_some()
        && (ours.version, ours.family) == (Version::V3, Family::V4)
        && vrrp::checksum_holds(packet.payload, Some((packet.source, ours.destination)))
}

fn version(payload: &[u8]) -> Option<u8> {
    payload.first().map(|octet| octet >> 4)
}

//= rfc2338 10: authentication of version 2
fn authenticate(ours: &Authentication, theirs: &vrrp::Auth) -> Result<(), Refusal> {
    if theirs.kind > 2 {
        return Err(Refusal::AuthType(theirs.kind));
    }
    let expected = match ours {
        Authentication::None => 0,
        Authentication::Pass(_) => 1,
    };
    if theirs.kind != expected {
        return Err(Refusal::AuthMismatch { expected, received: theirs.kind });
    }
    match ours {
        // All octets are compared, so that the time taken tells nothing about the password.
        Authentication::Pass(password)
            if password.reveal().iter().zip(theirs.data).fold(0, |d, (a, b)| d | (a ^ b)) != 0 =>
        {
            Err(Refusal::AuthFailure)
        }
        _ => Ok(()),
    }
}
