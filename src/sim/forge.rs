//! Packets that a stranger sends on a segment: adverts of an unknown router, and packets that are wrong in one thing.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use super::world::{JOIN_TIME, NodeId, What, World};
use crate::base::{Family, Prefix, WallTime};
use crate::model::Instance;
use crate::model::vrrp::{Authentication, Version};
use crate::vrrp::Rx;
use crate::wire::{ah, hmac, ip, vrrp};

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// It was forwarded by a router.
    Ttl,
    /// Another version.
    Version,
    /// Not an advertisement.
    Kind,
    /// A bit of the checksum.
    Checksum,
    /// Shorter than its header says.
    Short,
    Long,
    /// An authentication type that does not exist (version 2), or an unknown key (HMAC).
    AuthType,
    /// A missing authentication, or an unexpected one (version 2).
    NoAuth,
    /// One octet of the password (version 2), or of the sum of an authentication header.
    Password,
    /// Two octets, changed in the same way (version 2); a trailer of an unknown form (HMAC); an authentication header
    /// of another sender (AH).
    Passwords,
    /// Another interval (version 2).
    Interval,
    /// To the host, not to the group; with unicast, to the group.
    Destination,
    /// An additional address.
    More,
    /// The same number of addresses, one of them different.
    Other,
    /// An unknown VRID.
    Vrid,
    Fragment,
    /// Another protocol.
    Protocol,
}

/// Flaws for which a packet must be refused without any consequence.
pub const REFUSED: [Flaw; 15] = [
    Flaw::Ttl,
    Flaw::Version,
    Flaw::Kind,
    Flaw::Checksum,
    Flaw::Short,
    Flaw::Long,
    Flaw::AuthType,
    Flaw::NoAuth,
    Flaw::Password,
    Flaw::Passwords,
    Flaw::Interval,
    Flaw::Destination,
    Flaw::Vrid,
    Flaw::Fragment,
    Flaw::Protocol,
];

impl Flaw {
    /// Whether packets for an instance can have it.
    #[must_use]
    pub fn is_possible(self, instance: &Instance) -> bool {
        let v4 = instance.family == Family::V4;
        let unchecked = instance.unicast().is_some_and(|unicast| !unicast.check_source);
        let trailer = instance.hmac().is_some();
        match self {
            Self::AuthType | Self::NoAuth | Self::Password | Self::Passwords if trailer => true,
            // With unicast the TTL is not checked unless the sender must be a peer.
            Self::Ttl => !unchecked,
            Self::AuthType | Self::NoAuth | Self::Password | Self::Passwords | Self::Interval => {
                v4 && instance.version == Version::V2
            }
            Self::Version | Self::Fragment | Self::Protocol => v4,
            _ => true,
        }
    }
}

impl World {
    /// A stranger whose address ends with `last` sends a packet for a virtual router of host `id`. All hosts on its
    /// segment receive it.
    pub fn forge(&mut self, id: NodeId, instance: &Instance, last: u8, priority: u8, flaw: Flaw) {
        let Some(node) = self.node(id) else { return };
        let Some(link) = node.link_named(&instance.interface) else { return };
        let Some(segment) = node.kernel.segment_of(link.index).cloned() else { return };
        let of_family = |prefix: &Prefix| prefix.family() == instance.family;
        let own = node.kernel.home_of(&segment).find(of_family).map(|prefix| prefix.address);
        let Some(own) = own else { return };
        let source: IpAddr = match own {
            IpAddr::V4(a) => {
                let [a, b, c, _] = a.octets();
                Ipv4Addr::new(a, b, c, last).into()
            }
            IpAddr::V6(a) => {
                let mut octets = a.octets();
                octets[15] = last;
                Ipv6Addr::from(octets).into()
            }
        };
        self.note(id, &format!("and its segment hear {source}, priority {priority}: {flaw:?}"));
        if !REFUSED.contains(&flaw) {
            self.all_troubled();
        }
        let number = self.next_ah(id, instance);
        let hop_limit = if flaw == Flaw::Ttl { 254 } else { 255 };
        for other in self.nodes() {
            let Some(node) = self.node(other) else { continue };
            let Some(there) = node.kernel.on_segment(&segment).filter(|l| l.up) else { continue };
            // With unicast each host is sent its own copy.
            let to_host = instance.unicast().is_some() != (flaw == Flaw::Destination);
            let theirs = node.kernel.home_of(&segment).find(of_family).map(|p| p.address);
            let destination = if to_host { theirs } else { Some(instance.destination) };
            let Some(destination) = destination else { continue };
            let time = super::time_of_day(self.now());
            let proof = (time, number);
            let octets = packet(instance, (source, destination), priority, flaw, proof).into();
            let rx = Rx { interface: there.index, source, destination, hop_limit };
            let what = What::Packet { node: other, rx, octets };
            self.push(self.now() + JOIN_TIME, 0, what);
        }
    }
}

fn packet(
    instance: &Instance,
    (source, destination): (IpAddr, IpAddr),
    priority: u8,
    flaw: Flaw,
    (time, number): (WallTime, u32),
) -> Vec<u8> {
    let mut addresses: Vec<IpAddr> = instance.addresses.iter().map(|a| a.prefix.address).collect();
    match flaw {
        Flaw::More => addresses.push(source),
        Flaw::Other => {
            addresses.pop();
            addresses.push(source);
        }
        _ => {}
    }
    let other = matches!((flaw, instance.version), (Flaw::Version, Version::V2))
        || flaw != Flaw::Version && instance.version == Version::V3;
    let mut auth = match &instance.authentication {
        Authentication::Pass(word) => Some(vrrp::Auth { kind: 1, data: *word.reveal() }),
        Authentication::None => instance.ah_key().map(|_| vrrp::Auth { kind: 2, data: [0; 8] }),
    };
    match (flaw, &mut auth) {
        _ if instance.hmac().is_some() => {}
        (Flaw::AuthType, _) => auth = Some(vrrp::Auth { kind: 3, data: [0; 8] }),
        (Flaw::NoAuth | Flaw::Password | Flaw::Passwords, _) if instance.ah_key().is_some() => {}
        (Flaw::NoAuth, Some(_)) => auth = None,
        (Flaw::NoAuth | Flaw::Password | Flaw::Passwords, None) => {
            auth = Some(vrrp::Auth { kind: 1, data: *b"1067\0\0\0\0" });
        }
        (Flaw::Password, Some(auth)) => auth.data[3] ^= 1,
        (Flaw::Passwords, Some(auth)) => {
            auth.data[0] ^= 1;
            auth.data[6] ^= 1;
        }
        _ => {}
    }
    let interval = match flaw {
        Flaw::Interval => instance.advert_int + Duration::from_secs(1),
        // In version 3 the master determines the interval.
        Flaw::Other => instance.advert_int * if other { 2 } else { 1 },
        _ => instance.advert_int,
    };
    let plain = !other || instance.v3_checksum_as_v2 && instance.family == Family::V4;
    let vrid = instance.vrid.get();
    let content = vrrp::Content {
        version: if other { 3 } else { 2 },
        vrid: if flaw == Flaw::Vrid { vrid ^ 0x15 } else { vrid },
        priority,
        interval,
        auth,
        addresses: &addresses,
        family: instance.family,
        pseudo: (!plain).then_some((source, destination)),
    };
    let mut payload = Vec::new();
    vrrp::encode(&content, &mut payload);
    if let Some(key) = instance.hmac().and_then(|hmac| hmac.keys.first())
        && flaw != Flaw::NoAuth
    {
        let id = if flaw == Flaw::AuthType { 99 } else { key.id };
        let fraction = (u64::from(time.nanos) << 16) / 1_000_000_000;
        let sequence = (time.secs & u64::from(u32::MAX)) << 32 | fraction << 16;
        let mut trailer = hmac::sign(id, key.key.reveal(), sequence, source, &payload);
        match flaw {
            Flaw::Password => flip(&mut trailer, 20, 4),
            Flaw::Passwords => flip(&mut trailer, 0, 2),
            _ => {}
        }
        payload.extend(trailer);
        if instance.family == Family::V6 {
            vrrp::checksum_again(&mut payload, content.pseudo);
        }
    }
    match flaw {
        Flaw::Kind => flip(&mut payload, 0, 2),
        Flaw::Checksum => flip(&mut payload, 7, 1),
        Flaw::Short => _ = payload.pop(),
        Flaw::Long => payload.push(0),
        _ => {}
    }
    let (IpAddr::V4(from), IpAddr::V4(to)) = (source, destination) else { return payload };
    let key = instance.ah_key().filter(|_| flaw != Flaw::NoAuth);
    if key.is_some() {
        let sender = from.to_bits() + u32::from(flaw == Flaw::Passwords);
        payload.splice(0..0, ah::encode(sender, number));
    }
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let protocol = match key {
        _ if flaw == Flaw::Protocol => 111,
        Some(_) => ah::PROTOCOL,
        None => ip::VRRP,
    };
    let mut packet = ip::encode(1, length, from, to, 255, protocol).to_vec();
    match flaw {
        Flaw::Ttl => flip(&mut packet, 8, 1),
        Flaw::Fragment => flip(&mut packet, 6, 0x20),
        _ => {}
    }
    packet.extend(payload);
    if let Some(key) = key {
        ah::seal(&mut packet, key, instance.unicast().is_some());
        if flaw == Flaw::Password {
            flip(&mut packet, ip::HEADER + 14, 1);
        }
    }
    packet
}

/// Flips some bits of an octet.
fn flip(octets: &mut [u8], at: usize, bits: u8) {
    if let Some(octet) = octets.get_mut(at) {
        *octet ^= bits;
    }
}
