//! The elements of the sets of our tables, and the filter that each represents.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLM_F_CREATE;

use super::message::{self, Attributes, ITEM, NAME, TABLE, VALUE};
use super::table::{BY_INDEX, BY_NAME, VIPS, VMAC_MAP, VMAC_SET};
use crate::base::{Family, IfIndex, IfName};
use crate::kernel::netlink::{Packed, attributes, text};
use crate::plan::filter::{Element, Filter, FilterTable, FilterTableId};
use crate::plan::{Identity, Sight};

/// `NFTA_SET_ELEM_LIST_ELEMENTS`
const ELEMENTS: u16 = 3;
/// `NFTA_SET_ELEM_KEY` and `NFTA_SET_ELEM_DATA`.
const KEY: u16 = 1;
const DATA: u16 = 2;
/// Length of an interface name in a packet filter, in octets.
const NAME_LENGTH: usize = 16;

/// One element of a set.
struct Member {
    set: &'static str,
    key: Vec<u8>,
    /// In a map: the value.
    data: Option<Vec<u8>>,
}

/// The requests that add a filter to the sets of its table, or remove it.
pub(super) fn requests(filter: &Filter<IfIndex>, delete: bool) -> Vec<Packed> {
    let (message, flags) = match delete {
        true => (message::DELETE_ELEMENTS, 0),
        false => (message::NEW_ELEMENTS, NLM_F_CREATE),
    };
    let request = |member: Member| {
        let of = |octets: &[u8]| Attributes::default().put(VALUE, octets);
        let mut one = Attributes::default().nest(KEY, &of(&member.key));
        if let Some(data) = member.data {
            one = one.nest(DATA, &of(&data));
        }
        let head = Attributes::default().text(TABLE, &filter.table.name).text(NAME, member.set);
        let all = head.nest(ELEMENTS, &Attributes::default().nest(ITEM, &one));
        message::request(message, flags, message::protocol(filter.table.family), &all)
    };
    members(filter).into_iter().map(request).collect()
}

fn members(filter: &Filter<IfIndex>) -> Vec<Member> {
    let one = |set, key| vec![Member { set, key, data: None }];
    let number = |link: IfIndex| link.0.to_ne_bytes().to_vec();
    match &filter.element {
        Element::Address(address) => one(VIPS, octets(*address)),
        Element::OnLink(address, link) => one(BY_INDEX, [octets(*address), number(*link)].concat()),
        Element::OnNamed(address, name) => {
            let mut key = octets(*address);
            key.extend(padded(name));
            one(BY_NAME, key)
        }
        Element::Vmac { vmac, parent } => {
            let mut all =
                vec![Member { set: VMAC_MAP, key: padded(vmac), data: Some(number(*parent)) }];
            if filter.table.family == Family::V6 {
                all.push(Member { set: VMAC_SET, key: padded(vmac), data: None });
            }
            all
        }
    }
}

/// An interface name as packet filters compare it.
fn padded(name: &IfName) -> Vec<u8> {
    let mut octets = name.as_str().as_bytes().to_vec();
    octets.resize(NAME_LENGTH, 0);
    octets
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The sets of a table whose elements are filters.
pub(super) fn sets(table: &FilterTable) -> Vec<&'static str> {
    let mut sets = vec![VIPS];
    if table.family == Family::V6 {
        sets.push(if table.settings.by_index { BY_INDEX } else { BY_NAME });
    }
    if table.vmacs {
        sets.push(VMAC_MAP);
    }
    sets
}

/// The filters that elements of a set represent; none if one of them is not understood.
pub(super) fn sights(table: &FilterTableId, set: &str, message: &[u8]) -> Option<Vec<Sight>> {
    let lists = attributes(message).filter(|(kind, _)| *kind == ELEMENTS);
    let all = lists.flat_map(|(_, list)| attributes(list)).filter(|(kind, _)| *kind == ITEM);
    all.map(|(_, item)| {
        let value = |kind| {
            let (_, outer) = attributes(item).find(|(k, _)| *k == kind)?;
            attributes(outer).find(|(k, _)| *k == VALUE).map(|(_, value)| value)
        };
        let element = element(set, value(KEY)?, value(DATA))?;
        let links = match &element {
            Element::Address(_) | Element::OnNamed(..) => Vec::new(),
            Element::OnLink(_, link) => vec![*link],
            Element::Vmac { parent, .. } => vec![*parent],
        };
        let filter = Filter { table: table.clone(), element };
        Some(Sight { identity: Identity::Filter(Box::new(filter)), links, attributes: None })
    })
    .collect()
}

fn element(set: &str, key: &[u8], data: Option<&[u8]>) -> Option<Element<IfIndex>> {
    let number = |octets: &[u8]| octets.try_into().ok().map(|n| IfIndex(u32::from_ne_bytes(n)));
    match (set, key.len()) {
        (VIPS, 4) => {
            let octets: [u8; 4] = key.try_into().ok()?;
            Some(Element::Address(IpAddr::V4(Ipv4Addr::from(octets))))
        }
        (VIPS, 16) => address(key).map(Element::Address),
        (BY_INDEX, 20) => Some(Element::OnLink(address(key)?, number(key.get(16..)?)?)),
        (BY_NAME, 32) => {
            let name: IfName = text(key.get(16..)?).parse().ok()?;
            Some(Element::OnNamed(address(key)?, name))
        }
        (VMAC_MAP, NAME_LENGTH) => {
            Some(Element::Vmac { vmac: text(key).parse().ok()?, parent: number(data?)? })
        }
        _ => None,
    }
}

/// The IPv6 address at the beginning of a key.
fn address(key: &[u8]) -> Option<IpAddr> {
    let octets = key.first_chunk::<16>()?;
    Some(IpAddr::V6(Ipv6Addr::from(*octets)))
}
