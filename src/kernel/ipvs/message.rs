//! Messages of the generic netlink family `IPVS`, as values and as octets.
//!
//! Encoding appends requests to a buffer, so that many are sent together; decoding is a pure function of the kernel's
//! octets. Attribute numbers are those of `linux/ip_vs.h`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use neli::consts::genl::{CtrlAttr, CtrlCmd};
use neli::consts::nl::{GenlId, NlmF, Nlmsg};

use super::attribute::{Attributes, Value, Writer, align};
use crate::base::{Family, Name};
use crate::model::ServiceKey;
use crate::model::service::{Forward, Protocol, Tunnel, TunnelChecksum};
use crate::plan::ipvs::{Destination, DestinationKey, Op, Settings};

/// Name of the family.
const FAMILY: &str = "IPVS";
/// Version of the family.
const VERSION: u8 = 1;
/// Length of the header of a message.
const HEADER: usize = 16;
/// Length of the header of generic netlink that follows it.
const GENERIC_HEADER: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Command {
    NewService = 1,
    SetService = 2,
    DelService = 3,
    GetService = 4,
    NewDest = 5,
    SetDest = 6,
    DelDest = 7,
    GetDest = 8,
    NewDaemon = 9,
    DelDaemon = 10,
    GetDaemon = 11,
    SetConfig = 12,
    GetConfig = 13,
    Flush = 17,
}

/// Attributes of a command.
mod command {
    pub const SERVICE: u16 = 1;
    pub const DEST: u16 = 2;
}

/// Attributes of a service.
mod service {
    pub const AF: u16 = 1;
    pub const PROTOCOL: u16 = 2;
    pub const ADDR: u16 = 3;
    pub const PORT: u16 = 4;
    pub const FWMARK: u16 = 5;
    pub const SCHED_NAME: u16 = 6;
    pub const FLAGS: u16 = 7;
    pub const TIMEOUT: u16 = 8;
    pub const NETMASK: u16 = 9;
    pub const PE_NAME: u16 = 11;
}

/// Attributes of a destination.
mod dest {
    pub const ADDR: u16 = 1;
    pub const PORT: u16 = 2;
    pub const FWD_METHOD: u16 = 3;
    pub const WEIGHT: u16 = 4;
    pub const U_THRESH: u16 = 5;
    pub const L_THRESH: u16 = 6;
    pub const ADDR_FAMILY: u16 = 11;
    pub const TUN_TYPE: u16 = 13;
    pub const TUN_PORT: u16 = 14;
    pub const TUN_FLAGS: u16 = 15;
}

/// Numbers of address families.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Forwarding methods.
const MASQUERADE: u32 = 0;
const LOCAL_NODE: u32 = 1;
const TUNNEL: u32 = 2;
const DIRECT: u32 = 3;
/// The bits of the forwarding attribute that give the method.
const WAY: u32 = 7;

/// Why octets are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends too early, or its length is wrong.
    #[error("a message of the kernel is truncated")]
    Short,
    /// A required attribute is missing or invalid.
    #[error("a message of the kernel lacks the attribute {0}")]
    Missing(&'static str),
    /// A service or a server of a kind that this version does not know.
    #[error("an entry of an unknown kind: {0}")]
    Unknown(&'static str),
}

/// Appends the request for the number of the family.
pub(super) fn ask_family(buffer: &mut Vec<u8>, sequence: u32) {
    let flags = NlmF::REQUEST | NlmF::ACK;
    message(buffer, GenlId::Ctrl.into(), flags, sequence, CtrlCmd::Getfamily.into(), |w| {
        w.text(CtrlAttr::FamilyName.into(), FAMILY);
    });
}

/// The number of the family in the answer to that request.
///
/// # Errors
/// If the answer contains none.
pub fn family(payload: &[u8]) -> Result<u16, DecodeError> {
    attributes(payload)?
        .find(CtrlAttr::FamilyId.into())
        .and_then(Value::u16)
        .ok_or(DecodeError::Missing("FAMILY_ID"))
}

/// Appends the request for all services.
pub(super) fn ask_services(buffer: &mut Vec<u8>, family: u16, sequence: u32) {
    let flags = NlmF::REQUEST | NlmF::DUMP;
    message(buffer, family, flags, sequence, Command::GetService as u8, |_| {});
}

/// Appends the request for one service.
pub(super) fn ask_service(buffer: &mut Vec<u8>, family: u16, sequence: u32, key: &ServiceKey) {
    let flags = NlmF::REQUEST | NlmF::ACK;
    message(buffer, family, flags, sequence, Command::GetService as u8, |w| {
        w.nest(command::SERVICE, |w| identify(w, key));
    });
}

/// Appends the request for all servers of a service.
pub(super) fn ask_destinations(buffer: &mut Vec<u8>, family: u16, sequence: u32, key: &ServiceKey) {
    let flags = NlmF::REQUEST | NlmF::DUMP;
    message(buffer, family, flags, sequence, Command::GetDest as u8, |w| {
        w.nest(command::SERVICE, |w| identify(w, key));
    });
}

/// Appends the request for an operation; the last one of a buffer asks for an acknowledgement, the others are only
/// answered if they are refused.
#[doc(hidden)]
pub fn encode(buffer: &mut Vec<u8>, family: u16, sequence: u32, op: &Op, is_last: bool) {
    let flags = if is_last { NlmF::REQUEST | NlmF::ACK } else { NlmF::REQUEST };
    let mut put = |command: Command, fill: &mut dyn FnMut(&mut Writer<'_>)| {
        message(buffer, family, flags, sequence, command as u8, |w| fill(w));
    };
    match op {
        Op::Flush => put(Command::Flush, &mut |_| {}),
        Op::AddService { service, settings } => {
            put(Command::NewService, &mut |w| put_service(w, service, settings));
        }
        Op::SetService { service, settings } => {
            put(Command::SetService, &mut |w| put_service(w, service, settings));
        }
        Op::DeleteService { service } => put(Command::DelService, &mut |w| {
            w.nest(command::SERVICE, |w| identify(w, service));
        }),
        Op::AddDestination { service, destination, settings } => put(Command::NewDest, &mut |w| {
            put_destination(w, service, destination, Some(settings));
        }),
        Op::SetDestination { service, destination, settings } => put(Command::SetDest, &mut |w| {
            put_destination(w, service, destination, Some(settings));
        }),
        Op::DeleteDestination { service, destination } => put(Command::DelDest, &mut |w| {
            put_destination(w, service, destination, None);
        }),
    }
}

pub(super) fn message(
    buffer: &mut Vec<u8>,
    kind: u16,
    flags: NlmF,
    sequence: u32,
    command: u8,
    fill: impl FnOnce(&mut Writer<'_>),
) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.bits().to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&[command, VERSION, 0, 0]);
    fill(&mut Writer::new(buffer));
    let length = u32::try_from(buffer.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = buffer.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_ne_bytes());
    }
}

fn identify(w: &mut Writer<'_>, key: &ServiceKey) {
    w.u16(service::AF, number(key.family()));
    match key {
        ServiceKey::Mark { mark, .. } => {
            w.u32(service::FWMARK, *mark);
        }
        ServiceKey::Address { protocol, endpoint } => {
            w.u16(service::PROTOCOL, protocol.number())
                .octets(service::ADDR, &octets(endpoint.ip()))
                .be16(service::PORT, endpoint.port());
        }
    }
}

fn put_service(w: &mut Writer<'_>, key: &ServiceKey, settings: &Settings) {
    w.nest(command::SERVICE, |w| {
        identify(w, key);
        w.text(service::SCHED_NAME, &settings.scheduler);
        if let Some(engine) = &settings.engine {
            w.text(service::PE_NAME, engine);
        }
        let mut flags = [0; 8];
        let (set, mask) = flags.split_at_mut(4);
        set.copy_from_slice(&settings.flags.to_ne_bytes());
        mask.copy_from_slice(&u32::MAX.to_ne_bytes());
        // A mask is sent in network order, a prefix length in host order.
        let netmask = match key.family() {
            Family::V4 => settings.netmask.to_be(),
            Family::V6 => settings.netmask,
        };
        w.octets(service::FLAGS, &flags)
            .u32(service::TIMEOUT, settings.timeout)
            .u32(service::NETMASK, netmask);
    });
}

fn put_destination(
    w: &mut Writer<'_>,
    key: &ServiceKey,
    destination: &DestinationKey,
    settings: Option<&Destination>,
) {
    w.nest(command::SERVICE, |w| identify(w, key)).nest(command::DEST, |w| {
        w.u16(dest::ADDR_FAMILY, number(Family::of(&destination.address)))
            .octets(dest::ADDR, &octets(destination.address))
            .be16(dest::PORT, destination.port);
        let Some(settings) = settings else {
            return;
        };
        match settings.forward {
            Forward::Nat => w.u32(dest::FWD_METHOD, MASQUERADE),
            Forward::Dr => w.u32(dest::FWD_METHOD, DIRECT),
            Forward::Tun(tunnel) => put_tunnel(w.u32(dest::FWD_METHOD, TUNNEL), tunnel),
        }
        .u32(dest::WEIGHT, settings.weight)
        .u32(dest::U_THRESH, settings.upper_threshold)
        .u32(dest::L_THRESH, settings.lower_threshold);
    });
}

fn put_tunnel<'w, 'b>(w: &'w mut Writer<'b>, tunnel: Tunnel) -> &'w mut Writer<'b> {
    match tunnel {
        Tunnel::Ipip => w.u8(dest::TUN_TYPE, 0),
        Tunnel::Gue { port, checksum } => w
            .u8(dest::TUN_TYPE, 1)
            .be16(dest::TUN_PORT, port)
            .u16(dest::TUN_FLAGS, checksum_flags(checksum)),
        Tunnel::Gre { checksum } => {
            w.u8(dest::TUN_TYPE, 2).u16(dest::TUN_FLAGS, checksum_flags(checksum))
        }
    }
}

const fn checksum_flags(checksum: TunnelChecksum) -> u16 {
    match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Checksum => 1,
        TunnelChecksum::Remote => 2,
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The sequence number of the request.
    pub sequence: u32,
    /// Its content.
    pub body: Body<'a>,
}

/// The content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The request was carried out (none) or refused (error number, positive).
    Status(Option<i32>),
    /// The end of a list; with an error number if it was aborted.
    End(Option<i32>),
    /// An answer; decode it with [`family`], [`decode_service`] or [`decode_destination`].
    Payload(&'a [u8]),
    /// The list changed while it was made: entries may be missing or duplicated.
    Interrupted(&'a [u8]),
    /// Irrelevant.
    Nothing,
}

/// The messages of one datagram.
pub fn replies(datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>, DecodeError>> {
    let mut rest = datagram;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let reply = reply(rest);
        rest = match &reply {
            Ok((_, length)) => rest.get(align(*length)..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(reply.map(|(reply, _)| reply))
    })
}

fn reply(octets: &[u8]) -> Result<(Reply<'_>, usize), DecodeError> {
    let header = octets.get(..HEADER).ok_or(DecodeError::Short)?;
    let field = |at: usize| header.get(at..at + 4).and_then(|o| o.try_into().ok());
    let half = |at: usize| header.get(at..at + 2).and_then(|o| o.try_into().ok());
    let length = field(0).map(u32::from_ne_bytes).ok_or(DecodeError::Short)?;
    let length = usize::try_from(length).map_err(|_| DecodeError::Short)?;
    let kind = half(4).map(u16::from_ne_bytes).ok_or(DecodeError::Short)?;
    let flags = half(6).map(u16::from_ne_bytes).ok_or(DecodeError::Short)?;
    let sequence = field(8).map(u32::from_ne_bytes).ok_or(DecodeError::Short)?;
    let payload = octets.get(HEADER..length).ok_or(DecodeError::Short)?;
    let code = |payload: &[u8]| -> Option<i32> {
        payload.first_chunk().map(|code| i32::from_ne_bytes(*code).saturating_neg())
    };
    let body = match Nlmsg::from(kind) {
        Nlmsg::Error => {
            let errno = code(payload).ok_or(DecodeError::Short)?;
            Body::Status((errno != 0).then_some(errno))
        }
        Nlmsg::Done => Body::End(code(payload).filter(|errno| *errno > 0)),
        Nlmsg::Noop | Nlmsg::Overrun => Body::Nothing,
        _ if flags & NlmF::DUMP_INTR.bits() != 0 => Body::Interrupted(payload),
        _ => Body::Payload(payload),
    };
    Ok((Reply { sequence, body }, length))
}

/// Decodes a service in the answer to a request for services.
///
/// # Errors
/// If it is truncated, or a service that cannot be configured.
pub fn decode_service(payload: &[u8]) -> Result<(ServiceKey, Settings), DecodeError> {
    let all = attributes(payload)?
        .find(command::SERVICE)
        .ok_or(DecodeError::Missing("SERVICE"))?
        .nested();
    let af = all.find(service::AF).and_then(Value::u16);
    let family = match af.ok_or(DecodeError::Missing("AF"))? {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        _ => return Err(DecodeError::Unknown("address family")),
    };
    let key = match all.find(service::FWMARK).and_then(Value::u32) {
        Some(mark) if mark != 0 => ServiceKey::Mark { mark, family },
        _ => {
            let protocol = all.find(service::PROTOCOL).and_then(Value::u16);
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .into_iter()
                .find(|known| Some(known.number()) == protocol)
                .ok_or(DecodeError::Unknown("protocol"))?;
            let address = all.find(service::ADDR).ok_or(DecodeError::Missing("ADDR"))?;
            let port = all.find(service::PORT).and_then(Value::be16);
            let endpoint =
                SocketAddr::new(ip(address, family)?, port.ok_or(DecodeError::Missing("PORT"))?);
            ServiceKey::Address { protocol, endpoint }
        }
    };
    let text = |kind| all.find(kind).and_then(Value::text).filter(|text| !text.is_empty());
    let netmask = all.find(service::NETMASK).and_then(Value::u32).unwrap_or_default();
    let settings = Settings {
        scheduler: Name::from(text(service::SCHED_NAME).unwrap_or_default()),
        flags: all.find(service::FLAGS).and_then(Value::u32).unwrap_or_default(),
        timeout: all.find(service::TIMEOUT).and_then(Value::u32).unwrap_or_default(),
        netmask: match family {
            Family::V4 => u32::from_be(netmask),
            Family::V6 => netmask,
        },
        engine: text(service::PE_NAME).map(Name::from),
    };
    Ok((key, settings.normalised(family)))
}

/// Decodes a server in the answer to a request for the servers of a service. A server without a family has that of the
/// service.
///
/// # Errors
/// If it is truncated, or its forwarding method cannot be configured.
pub fn decode_destination(
    payload: &[u8],
    family: Family,
) -> Result<(DestinationKey, Destination), DecodeError> {
    let all =
        attributes(payload)?.find(command::DEST).ok_or(DecodeError::Missing("DEST"))?.nested();
    // Kernels before 3.18 do not report it: there it is always the service's.
    let family = match all.find(dest::ADDR_FAMILY).and_then(Value::u16) {
        None => family,
        Some(AF_INET) => Family::V4,
        Some(AF_INET6) => Family::V6,
        Some(_) => return Err(DecodeError::Unknown("address family")),
    };
    let address = ip(all.find(dest::ADDR).ok_or(DecodeError::Missing("ADDR"))?, family)?;
    let port = all.find(dest::PORT).and_then(Value::be16).ok_or(DecodeError::Missing("PORT"))?;
    let way = all.find(dest::FWD_METHOD).and_then(Value::u32);
    let forward = match way.ok_or(DecodeError::Missing("FWD_METHOD"))? & WAY {
        MASQUERADE => Forward::Nat,
        DIRECT | LOCAL_NODE => Forward::Dr,
        TUNNEL => Forward::Tun(tunnel(all)?),
        _ => return Err(DecodeError::Unknown("forwarding method")),
    };
    let number = |kind| all.find(kind).and_then(Value::u32);
    let settings = Destination {
        forward,
        weight: number(dest::WEIGHT).ok_or(DecodeError::Missing("WEIGHT"))?,
        upper_threshold: number(dest::U_THRESH).unwrap_or_default(),
        lower_threshold: number(dest::L_THRESH).unwrap_or_default(),
    };
    Ok((DestinationKey { address, port }, settings))
}

/// Whether the kernel reports this server as local, which replaces its forwarding method.
#[must_use]
pub fn is_local(payload: &[u8]) -> bool {
    let server = attributes(payload).ok().and_then(|all| all.find(command::DEST));
    let way = server.and_then(|server| server.nested().find(dest::FWD_METHOD)?.u32());
    way.is_some_and(|way| way & WAY == LOCAL_NODE)
}

fn tunnel(all: Attributes<'_>) -> Result<Tunnel, DecodeError> {
    let flags = all.find(dest::TUN_FLAGS).and_then(Value::u16).unwrap_or_default();
    let checksum = match flags {
        0 => TunnelChecksum::None,
        1 => TunnelChecksum::Checksum,
        2 => TunnelChecksum::Remote,
        _ => return Err(DecodeError::Unknown("tunnel flags")),
    };
    // Kernels before 5.3 have only one kind and do not report it.
    match all.find(dest::TUN_TYPE).and_then(Value::u8).unwrap_or_default() {
        0 => Ok(Tunnel::Ipip),
        1 => {
            let port = all.find(dest::TUN_PORT).and_then(Value::be16).unwrap_or_default();
            Ok(Tunnel::Gue { port, checksum })
        }
        2 => Ok(Tunnel::Gre { checksum }),
        _ => Err(DecodeError::Unknown("tunnel type")),
    }
}

/// The attributes after the header of generic netlink.
pub(super) fn attributes(payload: &[u8]) -> Result<Attributes<'_>, DecodeError> {
    payload.get(GENERIC_HEADER..).map(Attributes).ok_or(DecodeError::Short)
}

const fn number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

/// An address in its wire form: 16 octets, padded with zeros.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn ip(value: Value<'_>, family: Family) -> Result<IpAddr, DecodeError> {
    let short = DecodeError::Missing("ADDR");
    Ok(match family {
        Family::V4 => Ipv4Addr::from(*value.0.first_chunk::<4>().ok_or(short)?).into(),
        Family::V6 => Ipv6Addr::from(*value.0.first_chunk::<16>().ok_or(short)?).into(),
    })
}

#[cfg(test)]
mod tests;
