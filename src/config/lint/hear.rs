//! Whether routers accept each other's adverts, as far as their configurations decide it. The checks mirror those of
//! `vrrp::accept` on received packets; what a refusal means for the addresses is left to `peer`.

use core::net::IpAddr;

use crate::config::block::vrrp::VrrpInstance;
use crate::config::codes::{self, Code};
use crate::config::span::Span;
use crate::model::Instance;
use crate::model::extras::{Hmac, HmacMode, OldChecksum, Unicast};
use crate::model::vrrp::{Authentication, Version};

/// A difference between two instances that back each other up.
pub(super) struct Difference {
    pub code: &'static Code,
    /// Where it is in this router's file, if the keyword is there.
    pub at: Span,
    /// What differs, with the name of the other file.
    pub text: String,
    /// Because of it this router refuses the other one's adverts, or does not receive them.
    pub here: bool,
    /// Because of it the other router refuses those of this one, or does not receive them.
    pub there: bool,
}

/// What makes `own` or `other` refuse the adverts of the other one, in the order in which received packets are
/// checked.
pub(super) fn differences(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    file: &str,
) -> Vec<Difference> {
    let mut all = Vec::new();
    all.extend(id(block, own, other, file));
    destination(block, own, other, file, &mut all);
    let same_version = own.version == other.version;
    if !same_version {
        all.push(Difference {
            code: &codes::PEER_VERSION,
            at: block.version.0.as_ref().map_or(Span::NONE, |v| v.span),
            text: format!(
                "version {} here, {} in {file}",
                own.version.number(),
                other.version.number()
            ),
            here: true,
            there: true,
        });
    }
    all.extend(authentication(block, own, other, file));
    // Each version has its own checksum and treats intervals in its own way.
    if same_version {
        checksum(block, own, other, file, &mut all);
        all.extend(interval(block, own, other, file));
    }
    all
}

fn id(block: &VrrpInstance, own: &Instance, other: &Instance, file: &str) -> Option<Difference> {
    let text = if own.name == other.name {
        format!("virtual_router_id {} here, {} in {file}", own.vrid, other.vrid)
    } else {
        format!("virtual_router_id {} here, {} for {} in {file}", own.vrid, other.vrid, other.name)
    };
    (own.vrid != other.vrid).then(|| Difference {
        code: &codes::PEER_VRID,
        at: block.virtual_router_id.span(),
        text,
        here: true,
        there: true,
    })
}

/// Adverts only reach routers that expect them at their destination.
fn destination(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    file: &str,
    all: &mut Vec<Difference>,
) {
    let code = &codes::PEER_DESTINATION;
    let mut both = |at, text| all.push(Difference { code, at, text, here: true, there: true });
    if own.family != other.family {
        let text = format!("adverts by {} here, by {} in {file}", own.family, other.family);
        return both(Span::NONE, text);
    }
    let peers = block.unicast_peer.at;
    let (ours, theirs) = match (own.unicast(), other.unicast()) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (Some(_), None) => return both(peers, format!("unicast here, multicast in {file}")),
        (None, Some(_)) => {
            return both(Span::NONE, format!("multicast here, unicast in {file}"));
        }
        (None, None) => {
            if own.destination != other.destination {
                let text = format!(
                    "adverts go to {} here, to {} in {file}",
                    own.destination, other.destination
                );
                both(block.mcast_dst_ip.span(), text);
            }
            return;
        }
    };
    // Without a configured source, its address is only known on the machine.
    if let Some(source) = other.source.filter(|source| !lists(ours, *source)) {
        all.push(Difference {
            code,
            at: peers,
            text: format!("unicast_peer does not list {source}, the unicast_src_ip in {file}"),
            here: ours.check_source,
            there: true,
        });
    }
    if let Some(source) = own.source.filter(|source| !lists(theirs, *source)) {
        all.push(Difference {
            code,
            at: block.unicast_src_ip.span(),
            text: format!("{source} is not listed in unicast_peer of {file}"),
            here: true,
            there: theirs.check_source,
        });
    }
    if let Some((ttl, min)) = low_ttl(ours, theirs, other.source) {
        all.push(Difference {
            code,
            at: peers,
            text: format!("min_ttl {min} here, but unicast_ttl {ttl} in {file}"),
            here: true,
            there: false,
        });
    }
    if let Some((ttl, min)) = low_ttl(theirs, ours, own.source) {
        all.push(Difference {
            code,
            at: block.unicast_ttl.span(),
            text: format!("unicast_ttl {ttl} here, but min_ttl {min} in {file}"),
            here: false,
            there: true,
        });
    }
}

fn lists(unicast: &Unicast, address: IpAddr) -> bool {
    unicast.peers.iter().any(|peer| peer.address == address)
}

/// The TTL with which adverts are sent and the lowest one that `receiver` accepts, if that is more.
fn low_ttl(receiver: &Unicast, sender: &Unicast, source: Option<IpAddr>) -> Option<(u8, u8)> {
    let ttl = sender.ttl.unwrap_or(255);
    let peer = receiver.peers.iter().find(|peer| Some(peer.address) == source)?;
    (receiver.check_source && ttl < peer.min_ttl).then_some((ttl, peer.min_ttl))
}

fn authentication(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    file: &str,
) -> Option<Difference> {
    let legacy = own.authentication != other.authentication || own.ah_key() != other.ah_key();
    // The authentication of version 2 does not exist in version 3.
    let legacy = legacy && own.version == other.version;
    let sent = |instance: &Instance| -> Option<Hmac> {
        instance.hmac().filter(|hmac| hmac.mode != HmacMode::ReceiveOnly).cloned()
    };
    let here = legacy || refuses_hmac(own.hmac(), sent(other).as_ref());
    let there = legacy || refuses_hmac(other.hmac(), sent(own).as_ref());
    if !here && !there {
        return None;
    }
    let (ours, theirs) = (kind(own), kind(other));
    let text = match (own.hmac(), other.hmac()) {
        (Some(ours), Some(theirs)) => different_keys(ours, theirs, file),
        _ if ours == theirs => format!("auth_pass is not the same as in {file}"),
        _ => format!("authentication: {ours} here, {theirs} in {file}"),
    };
    let of = |block: Option<Span>| block.filter(|span| span.is_some());
    let hmac = of(block.auth_hmac.0.as_ref().map(|b| b.span));
    let old = of(block.authentication.0.as_ref().map(|b| b.span));
    let at = hmac.or(old).unwrap_or(Span::NONE);
    Some(Difference { code: &codes::PEER_AUTH, at, text, here, there })
}

/// Whether adverts with the active key of `sent`, or without a trailer, are refused.
fn refuses_hmac(receiver: Option<&Hmac>, sent: Option<&Hmac>) -> bool {
    match (receiver, sent) {
        (None, None) => false,
        (None, Some(_)) => true,
        (Some(receiver), None) => receiver.mode == HmacMode::Enforce,
        (Some(receiver), Some(sent)) => {
            let active = sent.keys.iter().find(|key| key.id == sent.active);
            active.is_none_or(|key| !receiver.keys.contains(key))
        }
    }
}

fn kind(instance: &Instance) -> &'static str {
    match (instance.hmac(), instance.ah_key(), instance.authentication) {
        (Some(_), ..) => "auth_hmac",
        (None, Some(_), _) => "auth_type AH",
        (None, None, Authentication::Pass(_)) => "auth_type PASS",
        (None, None, Authentication::None) => "none",
    }
}

fn different_keys(ours: &Hmac, theirs: &Hmac, file: &str) -> String {
    let of = |hmac: &Hmac, id: u8| hmac.keys.iter().find(|key| key.id == id).cloned();
    let active = [ours, theirs].map(|hmac| hmac.active);
    let differs =
        |id: &u8| matches!((of(ours, *id), of(theirs, *id)), (Some(a), Some(b)) if a != b);
    if let Some(id) = active.into_iter().find(differs) {
        format!("auth_hmac: key {id} is not the same as in {file}")
    } else if of(theirs, ours.active).is_none() && ours.mode != HmacMode::ReceiveOnly {
        format!("auth_hmac: key {} is active here, but not defined in {file}", ours.active)
    } else if of(ours, theirs.active).is_none() && theirs.mode != HmacMode::ReceiveOnly {
        format!("auth_hmac: key {} is active in {file}, but not defined here", theirs.active)
    } else {
        let [here, there] = [ours, theirs].map(|hmac| match hmac.mode {
            HmacMode::Enforce => "enforce",
            HmacMode::Permissive => "permissive",
            HmacMode::ReceiveOnly => "receive-only",
        });
        format!("auth_hmac: mode {here} here, {there} in {file}")
    }
}

/// Forms of the version 3 checksum that one of the two does not know.
fn checksum(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    file: &str,
    all: &mut Vec<Difference>,
) {
    let code = &codes::PEER_CHECKSUM;
    if own.version != Version::V3 || !own.destination.is_ipv4() || !other.destination.is_ipv4() {
        return;
    }
    // The short form is accepted only by those who send it; the full one by all.
    if own.v3_checksum_as_v2 != other.v3_checksum_as_v2 {
        let here = other.v3_checksum_as_v2;
        let text = if here {
            format!("v3_checksum_as_v2 is set only in {file}")
        } else {
            format!("v3_checksum_as_v2 is set here, but not in {file}")
        };
        let at = block.v3_checksum_as_v2.span();
        all.push(Difference { code, at, text, here, there: !here });
    }
    if let (Some(ours), Some(theirs)) = (own.unicast(), other.unicast()) {
        let refuses = |receiver: &Unicast, sender: &Unicast| {
            (receiver.old_checksum, sender.old_checksum)
                == (OldChecksum::Never, OldChecksum::Always)
        };
        let (here, there) = (refuses(ours, theirs), refuses(theirs, ours));
        if here || there {
            let text = if here {
                format!("old_unicast_checksum never here, but old_unicast_checksum in {file}")
            } else {
                format!("old_unicast_checksum here, but old_unicast_checksum never in {file}")
            };
            all.push(Difference { code, at: block.old_unicast_checksum.span(), text, here, there });
        }
    }
}

fn interval(
    block: &VrrpInstance,
    own: &Instance,
    other: &Instance,
    file: &str,
) -> Option<Difference> {
    let [here, there] = [own, other].map(|i| i.advert_int.as_secs_f64());
    let refused = own.version == Version::V2;
    (own.advert_int != other.advert_int).then(|| Difference {
        code: &codes::PEER_ADVERT_INT,
        at: block.advert_int.span(),
        text: format!("advert_int {here} here, {there} in {file}"),
        here: refused,
        there: refused,
    })
}
