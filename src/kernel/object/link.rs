//! Interfaces that the daemon creates, and settings of interfaces: the messages that create, change and remove them,
//! and the kernel's events about them.
//!
//! An interface is always read before it is written: one of the same name may be foreign. Settings of IPv4 and the
//! generation of IPv6 addresses are set by netlink; only `disable_ipv6` requires a file.

use std::io::Write as _;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, IpVlanFlags, IpVlanMode, LinkAttribute,
    LinkMessage, MacVlanMode,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{attributes, number};
use crate::base::{IfIndex, IfName, Mac};
use crate::kernel::netlink::{Message, Packed, RequestError, Requests, text};
use crate::model::link::IpvlanMode;
use crate::model::{LinkKind, VirtualLink};
use crate::plan::link::FoundKind;
use crate::plan::link::{alias, parse_alias};
use crate::plan::{
    Attributes, ChangeKind, Identity, LinkAttributes, LinkObject, LinkSettings, Op, Outcome,
    Setting, SettingObject, Settings, Sight, Verb, VrfRole,
};

/// Message types.
pub(in crate::kernel) const NEW: u16 = 16;
pub(in crate::kernel) const DELETE: u16 = 17;
pub(in crate::kernel) const GET: u16 = 18;
pub(super) const SET: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
/// `RTEXT_FILTER_SKIP_STATS`
const SKIP_STATS: u32 = 8;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_VRF_TABLE: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IFF_UP: u32 = 0x1;

/// `IPV4_DEVCONF_…`; settings are numbered from 1.
const RP_FILTER: u16 = 8;
const ARP_FILTER: u16 = 13;
const ARP_ANNOUNCE: u16 = 18;
const ARP_IGNORE: u16 = 19;
pub(super) const PROMOTE_SECONDARIES: u16 = 20;
const ACCEPT_LOCAL: u16 = 23;

const MACVLAN_MODE_PRIVATE: u32 = 1;
const IPVLAN_MODE_L2: u16 = 0;

const fn number_of(setting: Setting) -> u16 {
    match setting {
        Setting::ArpIgnore => ARP_IGNORE,
        Setting::ArpFilter => ARP_FILTER,
        Setting::ArpAnnounce => ARP_ANNOUNCE,
        Setting::PromoteSecondaries => PROMOTE_SECONDARIES,
    }
}

/// An interface as the kernel reports it.
#[derive(Debug, Default)]
struct Told<'a> {
    index: u32,
    flags: u32,
    name: Option<IfName>,
    mac: Mac,
    parent: Option<u32>,
    /// The parent is in another namespace.
    abroad: bool,
    group: u32,
    alias: Box<str>,
    master: Option<u32>,
    kind: &'a [u8],
    data: &'a [u8],
    port_kind: &'a [u8],
    settings: LinkSettings,
}

impl<'a> Told<'a> {
    fn of(message: &Message<'a>) -> Option<Self> {
        let [family, _, _, _, a, b, c, d, ..] = *message.body else { return None };
        if i32::from(family) != libc::AF_UNSPEC {
            return None;
        }
        let index = u32::from_ne_bytes([a, b, c, d]);
        let flags = number(message.body.get(8..12)?)?;
        let mut told = Self { index, flags, ..Self::default() };
        let body = message.body.get(16..)?;
        for (kind, value) in attributes(body) {
            match kind {
                IFLA_IFNAME => told.name = text(value).parse().ok(),
                IFLA_ADDRESS => told.mac = value.try_into().map(Mac).unwrap_or_default(),
                IFLA_LINK => told.parent = number(value),
                IFLA_LINK_NETNSID => told.abroad = true,
                IFLA_IFALIAS => told.alias = text(value).into(),
                IFLA_GROUP => told.group = number(value).unwrap_or(0),
                IFLA_MASTER => told.master = number(value),
                IFLA_LINKINFO => {
                    for (kind, value) in attributes(value) {
                        match kind {
                            IFLA_INFO_KIND => told.kind = plain(value),
                            IFLA_INFO_DATA => told.data = value,
                            IFLA_INFO_SLAVE_KIND => told.port_kind = plain(value),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        told.settings = LinkSettings {
            arp_ignore: devconf_of(body, ARP_IGNORE),
            accept_local: devconf_of(body, ACCEPT_LOCAL),
            rp_filter: devconf_of(body, RP_FILTER),
            promote_secondaries: devconf_of(body, PROMOTE_SECONDARIES),
            address_generation: of_family(body, libc::AF_INET6)
                .and_then(|all| find(all, IFLA_INET6_ADDR_GEN_MODE))
                .and_then(|value| value.first().copied()),
        };
        Some(told)
    }

    fn attributes(&self) -> Option<LinkAttributes> {
        let kind = match self.kind {
            b"macvlan" => {
                let mode = find(self.data, 1).and_then(number);
                FoundKind::Macvlan { mac: self.mac, private: mode == Some(MACVLAN_MODE_PRIVATE) }
            }
            b"ipvlan" => FoundKind::Ipvlan { mode: ipvlan_mode(self.data) },
            _ => return None,
        };
        let up = self.flags & IFF_UP != 0;
        let (group, settings) = (self.group, self.settings);
        let (mark, originals) = parse_alias(&self.alias);
        let (name, index, alias) = (self.name.clone()?, Some(IfIndex(self.index)), mark.into());
        let vrf = self.vrf();
        Some(LinkAttributes { name, index, kind, group, up, settings, vrf, alias, originals })
    }

    /// The VRF that it is in.
    fn vrf(&self) -> Option<IfIndex> {
        self.master.filter(|_| self.port_kind == b"vrf").map(IfIndex)
    }

    /// Whether it is such an interface, whatever its attributes.
    fn is_such(&self, wanted: &VirtualLink, parent: IfIndex) -> bool {
        self.kind == wanted.kind.word().as_bytes() && self.parent == Some(parent.0) && !self.abroad
    }
}

/// Without the zero octet at its end.
fn plain(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\0").unwrap_or(value)
}

fn find(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).find(|(other, _)| *other == kind).map(|(_, value)| value)
}

/// The attributes of an interface for one address family.
fn of_family(body: &[u8], family: i32) -> Option<&[u8]> {
    find(find(body, IFLA_AF_SPEC)?, u16::try_from(family).ok()?)
}

/// A setting of IPv4 among the attributes of an interface.
pub(super) fn devconf_of(body: &[u8], setting: u16) -> Option<u32> {
    let values = find(of_family(body, libc::AF_INET)?, IFLA_INET_CONF)?;
    let position = 4 * usize::from(setting.checked_sub(1)?);
    values.get(position..position + 4).and_then(number)
}

fn ipvlan_mode(data: &[u8]) -> Option<IpvlanMode> {
    let pair = |kind| find(data, kind).and_then(|v| v.try_into().ok()).map(u16::from_ne_bytes);
    if pair(1) != Some(IPVLAN_MODE_L2) {
        return None;
    }
    Some(match pair(2).unwrap_or(0) & 3 {
        1 => IpvlanMode::Private,
        2 => IpvlanMode::Vepa,
        _ => IpvlanMode::Bridge,
    })
}

/// The settings of an interface that the daemon may change temporarily.
pub(in crate::kernel) fn settings(body: &[u8]) -> Settings {
    Settings(Setting::ALL.map(|setting| devconf_of(body, number_of(setting))))
}

/// The part of an interface in a VRF, from its attributes.
pub(in crate::kernel) fn vrf(body: &[u8]) -> Option<VrfRole> {
    let (mut table, mut port, mut controller) = (None, false, None);
    for (kind, value) in attributes(body) {
        match kind {
            IFLA_MASTER => controller = number(value),
            IFLA_LINKINFO => {
                let own = find(value, IFLA_INFO_KIND).map(plain);
                port = find(value, IFLA_INFO_SLAVE_KIND).map(plain) == Some(b"vrf");
                table = find(value, IFLA_INFO_DATA)
                    .filter(|_| own == Some(b"vrf"))
                    .and_then(|data| number(find(data, IFLA_VRF_TABLE)?));
            }
            _ => {}
        }
    }
    let of = controller.filter(|_| port).map(|of| VrfRole::Port { of: IfIndex(of) });
    table.map(|table| VrfRole::Device { table }).or(of)
}

/// The interface of a message, if it is on another one.
pub(super) fn sight(message: &Message<'_>) -> Option<(Sight, ChangeKind)> {
    let told = Told::of(message)?;
    let parent = IfIndex(told.parent.filter(|_| !told.abroad)?);
    let attributes = told.attributes()?;
    let kind = if message.kind == NEW { ChangeKind::Present } else { ChangeKind::Gone };
    let sight = Sight {
        identity: Identity::Link(parent, told.name?),
        links: vec![parent],
        attributes: Some(Box::new(Attributes::Link(attributes))),
    };
    Some((sight, kind))
}

/// The attribute that sets IPv4 settings.
fn inet(settings: &[(u16, u32)]) -> LinkAttribute {
    let all: Vec<u8> =
        settings.iter().flat_map(|(kind, value)| nest(*kind, &value.to_ne_bytes())).collect();
    spec(libc::AF_INET, &nest(IFLA_INET_CONF, &all))
}

fn spec(family: i32, content: &[u8]) -> LinkAttribute {
    let content = nest(u16::try_from(family).unwrap_or_default(), content);
    LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC, content))
}

/// An attribute, padded to the alignment of the next one.
fn nest(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 4).unwrap_or(0);
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(content);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// The message that sets these IPv4 settings of an interface.
pub(super) fn devconf(interface: IfIndex, settings: &[(u16, u32)]) -> LinkMessage {
    indexed(interface.0).append_extra_attribute(inet(settings)).build()
}

/// A message about the interface of this number.
fn indexed(index: u32) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index)
}

/// A request for an interface without its counters, which take as long as everything else.
fn brief(builder: LinkMessageBuilder<LinkUnspec>) -> LinkMessage {
    let mask = DefaultNla::new(IFLA_EXT_MASK, SKIP_STATS.to_ne_bytes().to_vec());
    builder.append_extra_attribute(LinkAttribute::Other(mask)).build()
}

/// A message with the kind and the hardware address of an interface, for a new one or an existing one: the builder for
/// macvlans alone requires a name and knows no address.
fn of_kind(kind: LinkKind) -> LinkMessageBuilder<LinkUnspec> {
    let (name, data, mac) = match kind {
        LinkKind::Macvlan { mac } => {
            let private = vec![InfoMacVlan::Mode(MacVlanMode::Private)];
            (InfoKind::MacVlan, InfoData::MacVlan(private), Some(mac))
        }
        LinkKind::Ipvlan { mode } => {
            let flags = match mode {
                IpvlanMode::Bridge => 0,
                IpvlanMode::Private => 1,
                IpvlanMode::Vepa => 2,
            };
            let flags = InfoIpVlan::Flags(IpVlanFlags::from_bits_retain(flags));
            let data = InfoData::IpVlan(vec![InfoIpVlan::Mode(IpVlanMode::L2), flags]);
            (InfoKind::IpVlan, data, None)
        }
    };
    let message = LinkMessageBuilder::new_with_info_kind(name).set_info_data(data);
    match mac {
        Some(mac) => message.address(mac.0.to_vec()),
        None => message,
    }
}

/// Carries out an operation on an interface that the daemon creates.
pub(super) fn carry_out(op: &Op, object: &LinkObject, requests: &mut Requests) -> Outcome {
    match try_to(op, object, requests) {
        Ok(outcome) => outcome,
        Err(e) => {
            tracing::debug!("{op}: {e}");
            Outcome::Refused(e.errno())
        }
    }
}

fn try_to(op: &Op, object: &LinkObject, requests: &mut Requests) -> Result<Outcome, RequestError> {
    let link = &object.link;
    let refused = |errno| Ok(Outcome::Refused(errno));
    let Some(parent) = op.number(&link.parent) else { return refused(libc::ENODEV) };
    let mut there = None;
    // Another program may have renamed it.
    let which = target(link, op.number(&link.name).map(|own| own.0));
    let answer = requests.get(GET, &brief(which), |message| {
        there = Told::of(message).and_then(|told| {
            let fits = told.attributes().is_some_and(|a| a.fits(object));
            Some(There {
                index: told.index,
                such: told.is_such(link, parent),
                fits,
                vrf: told.vrf(),
                name: told.name?,
            })
        });
    });
    match answer {
        Err(e) if e.errno() != libc::ENODEV => return Err(e),
        _ => {}
    }
    if let Verb::Delete { .. } = op.verb {
        let Some(There { index, such: true, .. }) = there else { return Ok(Outcome::Already) };
        return Ok(match one(requests, &Packed::new(DELETE, 0, &indexed(index).build())) {
            Err(e) if e.errno() == libc::ENODEV => Outcome::Already,
            Err(e) => return Err(e),
            Ok(()) => Outcome::Done,
        });
    }
    match there {
        Some(There { such: false, .. }) => return refused(libc::EEXIST),
        Some(There { index, name, fits, vrf, .. }) => {
            let renamed = name != link.name;
            let (_, wanted) = origin(requests, parent)?;
            let moves = vrf != wanted;
            if !renamed && fits && !moves {
                return Ok(Outcome::Already);
            }
            let result = if renamed { rename(requests, index, &link.name) } else { Ok(()) };
            // Renaming may have taken it down.
            let now = if renamed && result.is_err() { &name } else { &link.name };
            set(requests, object, Some(index), now)?;
            if moves {
                let to = wanted.map_or(0, |vrf| vrf.0);
                one(requests, &Packed::new(SET, 0, &indexed(index).controller(to).build()))?;
            }
            result?;
        }
        None => make(requests, object, parent)?,
    }
    Ok(Outcome::Done)
}

/// What exists where an interface is wanted.
struct There {
    index: u32,
    /// It is such an interface, whatever its attributes.
    such: bool,
    /// It has the wanted attributes, but for the name.
    fits: bool,
    /// The VRF that it is in.
    vrf: Option<IfIndex>,
    name: IfName,
}

/// Renames an interface. Before Linux 6.2, the kernel only renames those that are down.
fn rename(requests: &mut Requests, index: u32, name: &IfName) -> Result<(), RequestError> {
    let renamed = Packed::new(SET, 0, &indexed(index).name(name.to_string()).build());
    match one(requests, &renamed) {
        Err(e) if e.errno() == libc::EBUSY => {
            one(requests, &Packed::new(SET, 0, &indexed(index).down().build()))?;
            one(requests, &renamed)
        }
        result => result,
    }
}

fn one(requests: &mut Requests, request: &Packed) -> Result<(), RequestError> {
    requests.change(core::slice::from_ref(request)).into_iter().next().unwrap_or(Ok(()))
}

/// The link group and the VRF of a parent, which the interfaces on it share.
fn origin(
    requests: &mut Requests,
    parent: IfIndex,
) -> Result<(u32, Option<IfIndex>), RequestError> {
    let mut found = (0, None);
    requests.get(GET, &brief(indexed(parent.0)), |message| {
        if let Some(told) = Told::of(message) {
            found = (told.group, told.vrf());
        }
    })?;
    Ok(found)
}

/// Creates an interface, completely or not at all.
fn make(requests: &mut Requests, object: &LinkObject, parent: IfIndex) -> Result<(), RequestError> {
    let link = &object.link;
    let (group, vrf) = origin(requests, parent)?;
    let mut message = of_kind(link.kind)
        .name(link.name.to_string())
        .link(parent.0)
        .link_group(link.group.unwrap_or(group));
    if let Some(vrf) = vrf {
        message = message.controller(vrf.0);
    }
    // Alone: if this is refused, the interface of this name is of another program.
    one(requests, &Packed::new(NEW, NLM_F_CREATE | NLM_F_EXCL, &message.build()))?;
    set(requests, object, None, &link.name).inspect_err(|_| {
        // An incomplete one would answer when it must not.
        let _ = one(requests, &Packed::new(DELETE, 0, &target(link, None).build()));
    })?;
    if link.notify {
        let _ = one(requests, &Packed::new(SET, 0, &indexed(parent.0).link_group(group).build()));
    }
    Ok(())
}

/// A message about an interface by its number or, if that is not known, its name.
fn target(link: &VirtualLink, index: Option<u32>) -> LinkMessageBuilder<LinkUnspec> {
    match index {
        Some(index) => indexed(index),
        None => LinkUnspec::new_with_name(&link.name.to_string()),
    }
}

/// Gives an interface its settings and its mark, and brings it up.
fn set(
    requests: &mut Requests,
    object: &LinkObject,
    index: Option<u32>,
    name: &IfName,
) -> Result<(), RequestError> {
    let LinkObject { link, mark, .. } = object;
    let LinkSettings { arp_ignore, accept_local, rp_filter, promote_secondaries, .. } =
        LinkSettings::of(link);
    let all = [
        (ARP_IGNORE, arp_ignore),
        (ACCEPT_LOCAL, accept_local),
        (RP_FILTER, rp_filter),
        (PROMOTE_SECONDARIES, promote_secondaries),
    ];
    let all: Vec<(u16, u32)> = all.iter().filter_map(|(k, v)| Some((*k, (*v)?))).collect();
    let of_v4 = (!all.is_empty()).then(|| inet(&all));
    // Refused if the kernel has no IPv6, which has the same effect.
    let mode = LinkSettings::of(link).address_generation;
    let of_v6 = mode.map(|mode| spec(libc::AF_INET6, &nest(IFLA_INET6_ADDR_GEN_MODE, &[mode])));
    let has_v4 = of_v4.is_some();
    let packed: Vec<Packed> = of_v4
        .into_iter()
        .chain(of_v6)
        .map(|attribute| {
            let message = target(link, index).append_extra_attribute(attribute).build();
            Packed::new(SET, 0, &message)
        })
        .collect();
    let mut results = requests.change(&packed).into_iter();
    if has_v4 {
        results.next().unwrap_or(Ok(()))?;
    }
    if results.next().is_some_and(|result| result.is_ok()) {
        switch_v6(link, name);
    }
    let mut up = match index {
        Some(index) => of_kind(link.kind).index(index),
        None => of_kind(link.kind).name(link.name.to_string()),
    }
    .up();
    if let Some(group) = link.group {
        up = up.link_group(group);
    }
    if !mark.is_empty() {
        let named = DefaultNla::new(IFLA_IFALIAS, alias(object).into_bytes());
        up = up.append_extra_attribute(LinkAttribute::Other(named));
    }
    one(requests, &Packed::new(NEW, 0, &up.build()))
}

/// Disables IPv6 on an interface that generates no addresses and should have none: it would only report its
/// memberships, from the virtual MAC.
fn switch_v6(link: &VirtualLink, name: &IfName) {
    let value = if link.carries_v6 { "0" } else { "1" };
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    let file = std::fs::File::options().write(true).open(path);
    if let Err(e) = file.and_then(|mut file| file.write_all(value.as_bytes())) {
        tracing::debug!("cannot write disable_ipv6 of {name}: {e}");
    }
}

/// Carries out an operation on a setting.
pub(super) fn change_setting(op: &Op, object: &SettingObject, requests: &mut Requests) -> Outcome {
    let Some(interface) = op.number(&object.interface) else {
        return Outcome::Refused(libc::ENODEV);
    };
    let delete = matches!(op.verb, Verb::Delete { .. });
    let value = if delete { object.before } else { Some(object.value) };
    // The original value is unknown.
    let Some(value) = value else { return Outcome::Already };
    let number = number_of(object.setting);
    let mut found = None;
    let answer = requests.get(GET, &brief(indexed(interface.0)), |message| {
        found = devconf_of(message.body.get(16..).unwrap_or_default(), number);
    });
    match answer {
        Err(e) if e.errno() == libc::ENODEV && delete => return Outcome::Already,
        Err(e) => return Outcome::Refused(e.errno()),
        Ok(_) if found == Some(value) => return Outcome::Already,
        // Another program has set it meanwhile: its value stays.
        Ok(_) if delete && found != Some(object.value) => return Outcome::Already,
        Ok(_) => {}
    }
    match one(requests, &Packed::new(SET, 0, &devconf(interface, &[(number, value)]))) {
        Ok(()) => Outcome::Done,
        Err(e) => Outcome::Refused(e.errno()),
    }
}
