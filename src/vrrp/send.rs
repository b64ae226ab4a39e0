//! Adverts sent: when, where to, with which authentication.

use core::net::IpAddr;

use super::event::InstanceId;
use super::instance::{Instance, say};
use super::limit::Reason;
use super::{Action, Actions, Engine, Moment, accept};
use crate::base::{Family, IfIndex, Instant, WallTime};
use crate::model;
use crate::model::extras::{HmacMode, OldChecksum};
use crate::model::vrrp::{Authentication, Version};
use crate::wire::{ah, hmac, ip, vrrp};

impl Engine {
    /// Sends an advert at once; the next one follows a whole interval later.
    pub(super) fn send_advert_now(&mut self, moment: &mut Moment<'_>, id: InstanceId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let (priority, next_advert) =
            (instance.effective_priority, moment.now + instance.config.advert_int);
        self.rearm(id, next_advert);
        self.send_advert(moment, id, priority);
    }

    /// Sends an advert of this priority. One of priority 0, the farewell, uses the parent if the interface that is
    /// created for the instance is gone, or the interface and source of the last advert if these are cleared already.
    pub(super) fn send_advert(&mut self, moment: &mut Moment<'_>, id: InstanceId, priority: u8) {
        let Some(instance) = self.instance(id) else { return };
        let last = instance
            .last_sent_from
            .filter(|(link, _)| priority == 0 && self.links.contains_key(link));
        let parent = instance.link.filter(|_| priority == 0).zip(instance.source);
        let outlet = instance.outlet().zip(instance.source);
        let Some((interface, source)) = outlet.or(parent).or(last) else { return };
        let time = self.time_of_day(moment.now);
        let Some(instance) = self.instance_mut(id) else { return };
        instance.last_sent_from = Some((interface, source));
        // Never 0: the kernel would replace it by a number of its own.
        instance.packet_id = instance.packet_id.checked_add(1).unwrap_or(1);
        let signature = signature(instance, (moment.now, time), priority, source, moment.out);
        match instance.config.unicast() {
            None => {
                let to = To { address: instance.config.destination, hop_limit: 255, old: false };
                push_advert(moment.out, instance, priority, (interface, source), &signature, to);
            }
            Some(unicast) => {
                let hop_limit = unicast.ttl.unwrap_or(255);
                for (peer, known) in unicast.peers.iter().zip(&instance.old_checksums) {
                    let old = match unicast.old_checksum {
                        OldChecksum::Detect => *known,
                        OldChecksum::Always => true,
                        OldChecksum::Never => false,
                    };
                    let to = To { address: peer.address, hop_limit, old };
                    push_advert(
                        moment.out,
                        instance,
                        priority,
                        (interface, source),
                        &signature,
                        to,
                    );
                }
            }
        }
        let Some(instance) = self.instance_mut(id) else { return };
        instance.counters.adverts_sent += 1;
        if priority == 0 {
            instance.counters.priority_zero_sent += 1;
            say!(debug, *instance, "sent 0 priority");
        }
    }

    /// The socket refused an advert.
    pub(super) fn unsent(&mut self, now: Instant, id: InstanceId, destination: IpAddr, errno: i32) {
        let Some(instance) = self.instance_mut(id) else { return };
        instance.counters.adverts_unsent += 1;
        if self.admits(id, Reason::Unsent, now)
            && let Some(instance) = self.instance(id)
        {
            if instance.config.unicast().is_some() {
                say!(warn, *instance, "cannot send advert to {destination}: error {errno}");
            } else {
                say!(warn, *instance, "send advert error {errno}");
            }
        }
    }
}

/// Where one copy of an advert goes.
struct To {
    address: IpAddr,
    hop_limit: u8,
    /// With the old form of the version 3 checksum.
    old: bool,
}

/// Authentication of an advert; the same for all copies.
enum Signature {
    None,
    /// The number of its IP authentication header.
    Ah(u32),
    Trailer([u8; hmac::TRAILER]),
}

fn signature(
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

fn push_advert(
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
