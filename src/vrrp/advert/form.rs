//! The octets of an advert that is sent: its content, authentication, and IPv4 header.

use core::net::IpAddr;

use super::super::instance::Instance;
use super::super::{Action, Actions, accept};
use crate::base::{Family, IfIndex, Instant, WallTime};
use crate::model;
use crate::model::extras::HmacMode;
use crate::model::vrrp::{Authentication, Version};
use crate::wire::{ah, hmac, ip, vrrp};

/// Where one copy of an advert goes.
pub(super) struct To {
    pub address: IpAddr,
    pub hop_limit: u8,
    /// With the old form of the version 3 checksum.
    pub old: bool,
}

/// Authentication of an advert; the same for all copies.
pub(super) enum Signature {
    None,
    /// The number of its IP authentication header.
    Ah(u32),
    Trailer([u8; hmac::TRAILER]),
}

pub(super) fn signature(
    instance: &mut Instance,
    (now, time): (Instant, WallTime),
    priority: u8,
    source: IpAddr,
    out: &mut Actions,
) -> Signature {
    if instance.config.ah_key().is_some() {
        let (number, report) = instance.sequences.next_ah(now, time);
        if report {
            out.push(Action::Report);
        }
        return Signature::Ah(number);
    }
    let Some(hmac) = instance.config.hmac().filter(|hmac| hmac.mode != HmacMode::ReceiveOnly)
    else {
        return Signature::None;
    };
    let Some(key) = hmac.keys.iter().find(|key| key.id == hmac.active) else {
        return Signature::None;
    };
    let sequence = instance.sequences.next_stamp(hmac, time);
    let content = content(&instance.config, &instance.advertised, priority, None);
    let mut trailer = [0; hmac::TRAILER];
    out.scratch(|bytes| {
        vrrp::encode(&content, bytes);
        trailer = hmac::sign(key.id, key.key.reveal(), sequence, source, bytes);
    });
    Signature::Trailer(trailer)
}

fn content<'a>(
    config: &model::Instance,
    addresses: &'a [IpAddr],
    priority: u8,
    pseudo: Option<(IpAddr, IpAddr)>,
) -> vrrp::Content<'a> {
    let auth = match &config.authentication {
        Authentication::Pass(password) => Some(vrrp::Auth { kind: 1, data: *password.reveal() }),
        Authentication::None => {
            config.ah_key().map(|_| vrrp::Auth { kind: accept::AH, data: [0; vrrp::AUTH_DATA] })
        }
    };
    vrrp::Content {
        version: config.version.number(),
        vrid: config.vrid.get(),
        priority,
        interval: config.advert_int,
        auth,
        addresses,
        family: config.family,
        pseudo,
    }
}

pub(super) fn push_advert(
    out: &mut Actions,
    instance: &Instance,
    priority: u8,
    (interface, source): (IfIndex, IpAddr),
    signature: &Signature,
    to: To,
) {
    let config = &instance.config;
    let destination = to.address;
    let plain = match (config.version, config.family) {
        (_, Family::V6) => false,
        (Version::V2, Family::V4) => true,
        (Version::V3, Family::V4) => config.v3_checksum_as_v2,
    };
    let covered = if to.old { config.destination } else { destination };
    let pseudo = (!plain).then_some((source, covered));
    let content = content(config, &instance.advertised, priority, pseudo);
    let packet = out.packet(|bytes| {
        let start = bytes.len();
        if let (IpAddr::V4(from), IpAddr::V4(_)) = (source, destination) {
            bytes.extend([0; ip::HEADER]);
            if let Signature::Ah(number) = signature {
                bytes.extend(ah::encode(from.to_bits(), *number));
            }
        }
        let advert = bytes.len();
        vrrp::encode(&content, bytes);
        if let Signature::Trailer(trailer) = signature {
            bytes.extend(trailer);
            // Over IPv6 the kernel's checksum covers it.
            if let (IpAddr::V6(_), Some(whole)) = (source, bytes.get_mut(advert..)) {
                vrrp::checksum_again(whole, pseudo);
            }
        }
        if let (IpAddr::V4(from), IpAddr::V4(destination)) = (source, destination) {
            let length = (bytes.len() - start).saturating_sub(ip::HEADER);
            let length = u16::try_from(length).unwrap_or(u16::MAX);
            let protocol =
                if matches!(signature, Signature::Ah(_)) { ah::PROTOCOL } else { ip::VRRP };
            let id = instance.packet_id;
            let header = ip::encode(id, length, from, destination, to.hop_limit, protocol);
            if let Some(room) = bytes.get_mut(start..start + ip::HEADER) {
                room.copy_from_slice(&header);
            }
            if let (Some(key), Some(whole)) = (config.ah_key(), bytes.get_mut(start..)) {
                ah::seal(whole, key, config.unicast().is_some());
            }
        }
    });
    let (instance, hop_limit) = (instance.id, to.hop_limit);
    out.push(Action::SendAdvert { instance, interface, source, destination, hop_limit, packet });
}
