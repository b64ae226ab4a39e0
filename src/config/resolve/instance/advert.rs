//! The content of adverts: version, authentication, interval, source, addresses.

use core::net::IpAddr;
use core::time::Duration;

use super::super::Load;
use super::super::settled::{ignored, wrong_family};
use crate::base::{Family, Secret};
use crate::config::block::vrrp::{AuthType, VrrpInstance};
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::span::Span;
use crate::model::Address;
use crate::model::vrrp::{Authentication, Version};

pub(super) fn version(
    block: &VrrpInstance,
    family: Family,
    told: Option<Span>,
    strict: bool,
    cx: &mut Load<'_>,
) -> Version {
    let mut own = block.version.0.as_ref().map(|v| (v.value.u8(), v.span));
    if family == Family::V6 {
        let late = |at: Span| told.is_some_and(|t| cx.sources.order(at) > cx.sources.order(t));
        match own {
            Some((2, at)) if late(at) || strict => {
                let name = &block.header.0;
                let message = format!("({name}) version 2 conflicts with IPv6, version 3 is used");
                cx.report(Diagnostic::error(&codes::CONFLICT, message).at(at));
                own = None;
            }
            _ => {}
        }
    }
    let default = match family {
        Family::V6 => 3,
        Family::V4 => cx.draft.global().vrrp_version().u8(),
    };
    match own.map_or(default, |(number, _)| number) {
        2 => Version::V2,
        _ => Version::V3,
    }
}

/// The authentication of adverts, and the key of AH.
pub(super) fn authentication(
    block: &VrrpInstance,
    version: Version,
    strict: bool,
    cx: &mut Load<'_>,
) -> (Authentication, Option<Secret<[u8; 8]>>) {
    let none = (Authentication::None, None);
    let Some(given) = &block.authentication.0 else {
        return none;
    };
    let Some(kind) = given.auth_type.value() else {
        return none;
    };
    let at = given.auth_type.span();
    if version == Version::V3 {
        ignored(block, "VRRP version 3 does not support authentication", at, cx);
        return none;
    }
    if strict {
        ignored(block, "strict mode does not support authentication", at, cx);
        return none;
    }
    let Some(password) = given.auth_pass.value().filter(|p| !p.0.is_empty()) else {
        ignored(block, "authentication has no password", at, cx);
        return none;
    };
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(password.0.iter()) {
        *to = *from;
    }
    match kind {
        AuthType::Pass => (Authentication::Pass(Secret::new(bytes)), None),
        AuthType::Ah => (Authentication::None, Some(Secret::new(bytes))),
    }
}

/// Version 2 takes whole seconds, version 3 multiples of 10 ms up to 40.95 s.
pub(super) fn advert_int(block: &VrrpInstance, version: Version, cx: &mut Load<'_>) -> Duration {
    let name = &block.header.0;
    let micros = block.advert_int().0;
    let fitting = match version {
        Version::V2 => micros.saturating_add(500_000) / 1_000_000 * 1_000_000,
        Version::V3 => (micros.saturating_add(5_000) / 10_000 * 10_000).min(40_950_000),
    }
    .max(match version {
        Version::V2 => 1_000_000,
        Version::V3 => 10_000,
    });
    if fitting != micros {
        let used = crate::config::value::number::show_micros(fitting);
        let message = match version {
            Version::V2 => {
                format!("({name}) advert_int of version 2 must be whole seconds, {used} is used")
            }
            Version::V3 => {
                format!(
                    "({name}) advert_int of version 3 must be a multiple of 0.01 up to 40.95, {used} is used"
                )
            }
        };
        let new = Diagnostic::warning(&codes::ADJUSTED, message).at(block.advert_int.span());
        cx.report(new.replacement(used));
    }
    Duration::from_micros(fitting)
}

pub(super) fn down_timer_adverts(block: &VrrpInstance, strict: bool, cx: &mut Load<'_>) -> u8 {
    let own = match block.down_timer_adverts.value() {
        Some(own) => own.u8(),
        None => cx.draft.global().vrrp_down_timer_adverts().u8(),
    };
    if strict && own != 3 {
        let message = format!(
            "({}) strict mode requires down_timer_adverts 3, which is used",
            block.header.0
        );
        let at = if block.down_timer_adverts.is_set() {
            block.down_timer_adverts.span()
        } else {
            block.span
        };
        cx.report(Diagnostic::warning(&codes::CONFLICT, message).at(at));
        return 3;
    }
    own
}

/// Moves addresses that do not fit into an advert to the excluded addresses.
pub(super) fn fit(
    block: &VrrpInstance,
    family: Family,
    version: Version,
    mtu: u32,
    list: &mut Vec<Address>,
    excluded: &mut Vec<Address>,
    cx: &mut Load<'_>,
) {
    let header = match (family, version) {
        (Family::V4, Version::V2) => 20 + 8 + 8,
        (Family::V4, Version::V3) => 20 + 8,
        (Family::V6, _) => 40 + 8,
    };
    let room = (mtu as usize).saturating_sub(14 + header) / family.octets();
    let most = room.clamp(1, 255);
    if list.len() <= most {
        return;
    }
    let name = &block.header.0;
    let message = format!(
        "({name}) {} addresses do not fit into an advert, which has room for {most}; the others are not advertised",
        list.len()
    );
    let at = block.virtual_ipaddress.items.get(most).map_or(block.span, |e| e.span);
    cx.report(Diagnostic::warning(&codes::ADJUSTED, message).at(at).label("from here on"));
    let mut moved = list.split_off(most);
    moved.append(excluded);
    *excluded = moved;
}

pub(super) fn source(block: &VrrpInstance, family: Family, cx: &mut Load<'_>) -> Option<IpAddr> {
    // Both keywords set the same thing; the later one counts.
    let (mcast, unicast) = (&block.mcast_src_ip, &block.unicast_src_ip);
    let slot = match (mcast.value(), unicast.value()) {
        (Some(_), Some(_)) if cx.sources.order(mcast.span()) > cx.sources.order(unicast.span()) => {
            mcast
        }
        (Some(_), None) => mcast,
        _ => unicast,
    };
    let address = slot.value()?.0;
    if Family::of(&address) == family {
        return Some(address);
    }
    wrong_family(block, "source", &address, family, slot.span(), cx);
    None
}
