//! Whether a received packet is a valid advert for an instance, and if not, why.
//!
//! The order of the checks is that of RFC 9568 7.1 and RFC 3768 7.1; the first that fails decides which counter is
//! incremented. The VRID is not checked here: it has already selected the instance.

use core::net::IpAddr;
use core::time::Duration;

use super::auth::{self, Sequences};
use super::event::Rx;
use crate::base::{Family, WallTime};
use crate::model::extras::{Hmac, HmacMode, OldChecksum, Unicast};
use crate::model::vrrp::{Authentication, Instance, Priority, Version};
use crate::status::peer::Checksum;
use crate::status::vrrp::Counters;
use crate::wire::ah::{self, Ah};
use crate::wire::hmac::{self, Trailer};
use crate::wire::{ip, vrrp};

/// Authentication type 2: the IP authentication header.
pub(super) const AH: u8 = 2;

/// A valid advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub source: IpAddr,
    /// Its priority, 0 to 255.
    pub priority: u8,
    pub interval: Duration,
    /// Whether it advertises every address that we have.
    pub same_addresses: bool,
    pub checksum: Checksum,
    /// What shows that it is genuine and new.
    pub proof: Proof,
}

/// An authenticated sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The advert carries none.
    None,
    /// From the IP authentication header.
    Ah(u32),
    /// From the authentication trailer.
    Trailer {
        sequence: u64,
        /// How far the sender's clock is ahead of ours, in seconds.
        ahead: i32,
    },
}

/// Why a packet is not taken for an advert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong destination address: another group, or unicast where multicast is expected.
    #[error("wrong destination address {0}")]
    Destination(IpAddr),
    /// By unicast from a router that is not a peer, with `check_unicast_src`.
    #[error("unicast source address {0} not a unicast peer")]
    NotPeer(IpAddr),
    /// By unicast with a TTL that is not between `min_ttl` and `max_ttl` of the peer.
    #[error("TTL/HL {received} not in range [{min}, {max}]")]
    TtlRange { received: u8, min: u8, max: u8 },
    /// The TTL is not 255: the packet was forwarded by a router, or is forged.
    #[error("invalid TTL/HL: received {0} and expect 255")]
    Ttl(u8),
    /// A different version of the protocol.
    #[error("wrong VRRP version: received {received} and expect {expected}")]
    Version {
        /// The configured one.
        expected: u8,
        received: u8,
    },
    /// Not an advertisement.
    #[error("invalid packet type: {0} and expect 1")]
    Type(u8),
    /// Too short or too long.
    #[error("invalid length: {received} octets and expect {expected}")]
    Length {
        /// The length that follows from the header.
        expected: usize,
        /// The length of the packet.
        received: usize,
    },
    /// The checksum is wrong.
    #[error("invalid checksum")]
    Checksum,
    /// The checksum has the old form, and `old_unicast_checksum never` is set.
    #[error("invalid checksum: the old unicast form, which `old_unicast_checksum never` refuses")]
    OldChecksum,
    /// An authentication type that does not exist.
    #[error("invalid auth type: {0}")]
    AuthType(u8),
    /// The authentication type differs from the configured one.
    #[error("received a {received} auth, expecting {expected}")]
    AuthMismatch {
        /// The configured one.
        expected: u8,
        received: u8,
    },
    /// The password is wrong.
    #[error("received an invalid passwd")]
    AuthFailure,
    /// An IP authentication header, although none is configured.
    #[error("received AH header but auth type not AH")]
    UnexpectedAh,
    /// No IP authentication header.
    #[error("no AH header but auth type is AH")]
    NoAh,
    /// The integrity check value of the IP authentication header is wrong.
    #[error("IPSEC-AH : invalid IPSEC HMAC-MD5 value. Due to fields mutation or bad password !")]
    BadIcv,
    /// The security parameters index is not the source address.
    #[error("IPSEC-AH : invalid SPI {0:#010x}")]
    Spi(u32),
    /// An AH advert that was heard before, or an older one.
    #[error(
        "IPSEC-AH : sequence number {received} already processed. Packet dropped. Local({ours})"
    )]
    AhReplay {
        /// The last valid number.
        ours: u32,
        received: u32,
    },
    /// No authentication trailer, although `mode enforce` requires one.
    #[error("missing authentication trailer")]
    NoTrailer,
    /// The authentication trailer has an unknown form.
    #[error("malformed authentication trailer")]
    Malformed,
    /// The authentication trailer names a key that we do not have.
    #[error("unknown authentication key id {0}")]
    UnknownKey(u8),
    /// The HMAC of the authentication trailer is wrong.
    #[error("invalid authentication HMAC")]
    BadHmac,
    /// The clocks differ by more than `time_window`.
    #[error("stale authentication trailer, clock skew {ahead} sec exceeds window {window} sec")]
    Stale {
        /// How far the sender's clock is ahead of ours, in seconds.
        ahead: i32,
        /// Largest difference allowed, in seconds.
        window: u64,
    },
    /// An advert that was heard before, or an older one.
    #[error("replayed authentication trailer")]
    Replay,
    /// The interval differs from the configured one, which version 2 does not allow.
    #[error("advertisement interval mismatch: mine={ours} sec, received={received} sec")]
    Interval {
        /// Configured interval in seconds.
        ours: u64,
        /// Interval of the packet in seconds.
        received: u64,
    },
    /// We own the addresses and are configured to ignore other masters. The AH number of such a packet is noted all the
    /// same: other routers refuse adverts that repeat it.
    #[error("we are address owner")]
    Owner(Proof),
    /// Valid except for a different number of addresses. RFC 3768 7.1 drops it; see `Engine` for how a router is
    /// treated that keeps sending such adverts.
    #[error("expected {ours} VIPs but received {received}")]
    AddressCount {
        /// Number of addresses we advertise.
        ours: usize,
        /// Number of addresses it advertises.
        received: usize,
        /// Its other contents.
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
            Self::UnexpectedAh | Self::NoAh => &mut counters.auth_mismatch,
            Self::AuthFailure | Self::BadIcv | Self::Spi(_) | Self::AhReplay { .. } => {
                &mut counters.auth_failure
            }
            Self::NoTrailer => &mut counters.auth_missing,
            Self::Malformed => &mut counters.auth_malformed,
            Self::UnknownKey(_) => &mut counters.auth_unknown_key,
            Self::BadHmac => &mut counters.auth_invalid_hmac,
            Self::Stale { .. } => &mut counters.auth_stale,
            Self::Replay => &mut counters.auth_replay,
            Self::Interval { .. } => &mut counters.bad_interval,
            Self::Owner(_) => &mut counters.ignored_as_owner,
            Self::AddressCount { .. } => &mut counters.bad_address_count,
        };
        *counter += 1;
    }

    /// A distinct number for each kind, from 0.
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
            Self::AuthMismatch { .. } | Self::UnexpectedAh | Self::NoAh => 7,
            Self::AuthFailure | Self::BadIcv | Self::Spi(_) | Self::AhReplay { .. } => 8,
            Self::Interval { .. } => 9,
            Self::Owner(_) => 10,
            Self::AddressCount { .. } => 11,
            Self::NotPeer(_) => 12,
            Self::NoTrailer => 13,
            Self::Malformed => 14,
            Self::UnknownKey(_) => 15,
            Self::BadHmac => 16,
            Self::Stale { .. } => 17,
            Self::Replay => 18,
        }
    }
}

/// A packet without its IP header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// Its IP authentication header, and the packet from the IP header on.
    pub ah: Option<(Ah, &'a [u8])>,
    /// The packet from the VRRP header on.
    pub payload: &'a [u8],
}

/// Strips the IP header.
///
/// # Errors
/// If the IP header is invalid or the packet is not VRRP.
pub fn unwrap<'a>(rx: &Rx, packet: &'a [u8]) -> Result<Packet<'a>, Refusal> {
    match Family::of(&rx.source) {
        Family::V6 => Ok(Packet {
            source: rx.source,
            destination: rx.destination,
            ttl: rx.hop_limit,
            ah: None,
            payload: packet,
        }),
        Family::V4 => {
            let short = Refusal::Length { expected: ip::HEADER, received: packet.len() };
            let (header, payload) = ip::decode(packet).map_err(|_| short)?;
            if header.fragment {
                return Err(short);
            }
            let (ah, payload) = match header.protocol {
                ip::VRRP => (None, payload),
                ah::PROTOCOL => {
                    let (ah, rest) = ah::decode(payload).ok_or(short)?;
                    if ah.next != ip::VRRP {
                        return Err(short);
                    }
                    let whole = packet.get(..usize::from(header.total_length)).unwrap_or(packet);
                    (Some((ah, whole)), rest)
                }
                _ => return Err(short),
            };
            Ok(Packet {
                source: header.source.into(),
                destination: header.destination.into(),
                ttl: header.ttl,
                ah,
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

/// What a packet is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// Its configuration.
    pub ours: &'a Instance,
    /// The addresses it advertises.
    pub addresses: &'a [IpAddr],
    /// The address it receives adverts on.
    pub destination: IpAddr,
    /// Its sequence numbers.
    pub sequences: &'a Sequences,
    /// The time of day.
    pub now: WallTime,
}

/// Checks a packet.
///
/// # Errors
/// The first reason not to accept it.
pub fn check(judge: &Judge<'_>, packet: &Packet<'_>) -> Result<Heard, Refusal> {
    let Judge { ours, addresses, .. } = *judge;
    if packet.destination != judge.destination {
        return Err(Refusal::Destination(packet.destination));
    }
    match (ours.ah_key(), packet.ah) {
        (Some(_), None) => return Err(Refusal::NoAh),
        (None, Some(_)) => return Err(Refusal::UnexpectedAh),
        _ => {}
    }
    match ours.unicast() {
        Some(unicast) => check_peer(unicast, packet)?,
        //= rfc9568 7.1: MUST verify that the IPv4 TTL / IPv6 Hop Limit is 255
        None if packet.ttl != 255 => return Err(Refusal::Ttl(packet.ttl)),
        None => {}
    }
    let expected = ours.version.number();
    let (pdu, trailer) = match ours.hmac() {
        Some(_) => split(packet.payload, ours.family),
        None => (packet.payload, None),
    };
    let advert = vrrp::decode(pdu, ours.family).map_err(|error| match error {
        vrrp::Error::Short(received) => Refusal::Length { expected: vrrp::HEADER, received },
        vrrp::Error::Version(received) => Refusal::Version { expected, received },
        vrrp::Error::Type(kind) => Refusal::Type(kind),
        // A packet of another version has another length; it is reported as that, not as damaged.
        vrrp::Error::Length { .. } if version(packet.payload) != Some(expected) => {
            Refusal::Version { expected, received: version(packet.payload).unwrap_or_default() }
        }
        vrrp::Error::Length { expected, received } => Refusal::Length { expected, received },
    })?;
    //= rfc9568 7.1: MUST verify the VRRP version
    if advert.version != expected {
        return Err(Refusal::Version { expected, received: advert.version });
    }
    let mut proof = match ours.hmac() {
        Some(hmac) => check_trailer(judge, hmac, packet.source, pdu, trailer.as_ref())?,
        None => Proof::None,
    };
    //= rfc9568 7.1: MUST verify the VRRP checksum
    // With v3_checksum_as_v2 both forms occur. Over IPv6 the kernel computes the checksum and does not know the
    // trailer.
    let covered = if ours.family == Family::V6 { packet.payload } else { pdu };
    let plain = vrrp::checksum_holds(covered, None);
    let pseudo = || vrrp::checksum_holds(covered, Some((packet.source, packet.destination)));
    let right = match (ours.version, ours.family) {
        (Version::V2, Family::V4) => plain,
        (Version::V3, Family::V4) if ours.v3_checksum_as_v2 => plain || pseudo(),
        (Version::V3, Family::V4) | (_, Family::V6) => pseudo(),
    };
    let checksum = match ours.family {
        _ if !right => Checksum::OldUnicast,
        Family::V4 if plain => Checksum::Plain,
        _ => Checksum::Pseudo,
    };
    let old_checksum = !right && has_old_checksum(ours, packet.source, covered);
    if old_checksum && ours.unicast().is_some_and(|u| u.old_checksum == OldChecksum::Never) {
        return Err(Refusal::OldChecksum);
    }
    if !right && !old_checksum {
        return Err(Refusal::Checksum);
    }
    if let Some(auth) = &advert.auth {
        let kind = ours.ah_key().map(|_| AH);
        authenticate(&ours.authentication, kind, auth)?;
    }
    if let (Some(key), Some((ah, whole))) = (ours.ah_key(), packet.ah) {
        proof = check_ah(judge, key, packet.source, ah, whole)?;
    }
    //= rfc3768 7.1: MUST verify that the Adver Interval in the packet is the same as the locally configured
    if ours.version == Version::V2 && advert.interval != ours.advert_int {
        let (ours, received) = (ours.advert_int.as_secs(), advert.interval.as_secs());
        return Err(Refusal::Interval { ours, received });
    }
    if ours.owner_ignore_adverts && ours.priority == Priority::OWNER {
        return Err(Refusal::Owner(proof));
    }
    let heard = Heard {
        source: packet.source,
        priority: advert.priority,
        interval: advert.interval,
        same_addresses: addresses.iter().copied().eq(advert.addresses())
            || addresses.iter().all(|a| advert.addresses().any(|b| *a == b)),
        checksum,
        proof,
    };
    //= rfc3768 7.1: if the packet was not generated by the address owner, the receiver MUST drop the packet
    // departs: the owner's too, since an attacker can send priority 255.
    if advert.count() != addresses.len() {
        let (ours, received) = (addresses.len(), advert.count());
        return Err(Refusal::AddressCount { ours, received, heard });
    }
    Ok(heard)
}

/// Whether the source and the TTL of a unicast packet are permitted.
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

/// Whether the checksum of a unicast version 3 advert covers the multicast group instead of our address, as in
/// keepalived before 2.0.
fn has_old_checksum(ours: &Instance, source: IpAddr, pdu: &[u8]) -> bool {
    ours.unicast().is_some()
        && (ours.version, ours.family) == (Version::V3, Family::V4)
        && vrrp::checksum_holds(pdu, Some((source, ours.destination)))
}

/// An advert and the trailer behind it, if it has one.
fn split(payload: &[u8], family: Family) -> (&[u8], Option<Trailer>) {
    match vrrp::decode(payload, family) {
        Err(vrrp::Error::Length { expected, received }) if received == expected + hmac::TRAILER => {
            Trailer::split(payload).map_or((payload, None), |(pdu, trailer)| (pdu, Some(trailer)))
        }
        _ => (payload, None),
    }
}

/// Whether the trailer shows that an advert is genuine and new.
fn check_trailer(
    judge: &Judge<'_>,
    hmac: &Hmac,
    source: IpAddr,
    pdu: &[u8],
    trailer: Option<&Trailer>,
) -> Result<Proof, Refusal> {
    let Some(trailer) = trailer else {
        let enforce = hmac.mode == HmacMode::Enforce;
        return if enforce { Err(Refusal::NoTrailer) } else { Ok(Proof::None) };
    };
    let is_peer = |unicast: &Unicast| unicast.peers.iter().any(|peer| peer.address == source);
    if !judge.ours.unicast().is_none_or(is_peer) {
        return Err(Refusal::NotPeer(source));
    }
    if !trailer.is_known() {
        return Err(Refusal::Malformed);
    }
    let sequence = trailer.sequence();
    #[allow(clippy::cast_possible_truncation, reason = "the trailer has the low 32 bits")]
    let now = judge.now.secs as u32;
    let apart = |sequence: u64| auth::seconds(sequence).wrapping_sub(now).cast_signed();
    let window = hmac.window.as_secs();
    let outside = |ahead: i32| u64::from(ahead.unsigned_abs()) > window;
    let ahead = apart(sequence);
    if !hmac.monotonic && outside(ahead) {
        return Err(Refusal::Stale { ahead, window });
    }
    let key = hmac.keys.iter().find(|key| key.id == trailer.key());
    let key = key.ok_or_else(|| Refusal::UnknownKey(trailer.key()))?;
    if !trailer.verify(key.key.reveal(), source, pdu) {
        return Err(Refusal::BadHmac);
    }
    // Sequences heard before the clock was set do not count.
    let last = judge.sequences.last(source).filter(|last| hmac.monotonic || !outside(apart(*last)));
    if last.is_some_and(|last| !auth::is_newer(sequence, last)) {
        return Err(Refusal::Replay);
    }
    Ok(Proof::Trailer { sequence, ahead })
}

/// Whether the IP authentication header shows that an advert is genuine and new.
fn check_ah(
    judge: &Judge<'_>,
    key: &[u8; 8],
    source: IpAddr,
    ah: Ah,
    whole: &[u8],
) -> Result<Proof, Refusal> {
    if !ah::verify(whole, key, judge.ours.unicast().is_some()) {
        return Err(Refusal::BadIcv);
    }
    if !matches!(source, IpAddr::V4(source) if source.to_bits() == ah.spi) {
        return Err(Refusal::Spi(ah.spi));
    }
    let (ours, received) = (judge.sequences.ah(), ah.sequence);
    if judge.sequences.is_old_ah(received) {
        return Err(Refusal::AhReplay { ours, received });
    }
    Ok(Proof::Ah(received))
}

/// The version of a packet.
#[must_use]
pub fn version(payload: &[u8]) -> Option<u8> {
    payload.first().map(|octet| octet >> 4)
}

//= rfc2338 10: authentication of version 2
fn authenticate(
    ours: &Authentication,
    kind: Option<u8>,
    theirs: &vrrp::Auth,
) -> Result<(), Refusal> {
    if theirs.kind > 2 {
        return Err(Refusal::AuthType(theirs.kind));
    }
    let expected = kind.unwrap_or(match ours {
        Authentication::None => 0,
        Authentication::Pass(_) => 1,
    });
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
