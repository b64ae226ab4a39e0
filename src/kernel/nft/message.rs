//! The messages of nf_tables: attributes, expressions of rules, requests.

use netlink_packet_core::Emitable;

use crate::base::Family;
use crate::kernel::netlink::{Packed, attributes};

/// `NFNL_SUBSYS_NFTABLES`, in the upper half of a message's type.
const SUBSYSTEM: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// Length of `struct nfgenmsg` in octets.
pub(super) const HEAD: usize = 4;
/// Flag in the type of a nested attribute.
const NESTED: u16 = 1 << 15;

pub(super) const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
pub(super) const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
pub(super) const NEW_SET: u16 = 9;
pub(super) const GET_SET: u16 = 10;
pub(super) const NEW_ELEMENTS: u16 = 12;
pub(super) const GET_ELEMENTS: u16 = 13;
pub(super) const DELETE_ELEMENTS: u16 = 14;
pub(super) const NEW_GENERATION: u16 = 15;

/// The name of the table in every message, and that of the chain or set if there is one.
pub(super) const TABLE: u16 = 1;
pub(super) const NAME: u16 = 2;
/// `NFTA_CHAIN_NAME`; number 2 is the handle.
pub(super) const CHAIN_NAME: u16 = 3;
/// `NFTA_RULE_EXPRESSIONS`
pub(super) const EXPRESSIONS: u16 = 4;
/// `NFTA_LIST_ELEM`
pub(super) const ITEM: u16 = 1;
/// `NFTA_DATA_VALUE`
pub(super) const VALUE: u16 = 1;

/// The type of a message.
pub(super) const fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// The message of nf_tables of a type.
pub(super) const fn message(kind: u16) -> Option<u16> {
    if kind >> 8 == SUBSYSTEM { Some(kind & 0xff) } else { None }
}

/// The number of a family (`NFPROTO_*`).
pub(super) const fn protocol(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A list of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes(pub Vec<u8>);

impl Attributes {
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        // None is longer than a few hundred octets; the kernel refuses one that does not fit.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn text(self, kind: u16, text: &str) -> Self {
        let mut octets = text.as_bytes().to_vec();
        octets.push(0);
        self.put(kind, &octets)
    }

    pub(super) fn number(self, kind: u16, number: u32) -> Self {
        self.put(kind, &number.to_be_bytes())
    }

    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.put(kind | NESTED, &inner.0)
    }

    /// Whether `others` contains all of these with the same values. The kernel reports more than was set.
    pub(super) fn are_in(&self, others: &[u8]) -> bool {
        covered(&self.0, others)
    }
}

fn covered(wanted: &[u8], found: &[u8]) -> bool {
    // The nth of a type is compared with the nth: lists consist of attributes of one type.
    let mut seen: Vec<u16> = Vec::new();
    let nested = nested_types(wanted);
    attributes(wanted).zip(nested).all(|((kind, value), nested)| {
        let before = seen.iter().filter(|k| **k == kind).count();
        seen.push(kind);
        let other = attributes(found).filter(|(k, _)| *k == kind).nth(before);
        other.is_some_and(|(_, other)| if nested { covered(value, other) } else { value == other })
    })
}

/// For each attribute of a list of ours, whether it is nested.
fn nested_types(mut list: &[u8]) -> impl Iterator<Item = bool> {
    core::iter::from_fn(move || {
        let [a, b, c, d, ..] = *list else { return None };
        let length = usize::from(u16::from_ne_bytes([a, b])).next_multiple_of(4);
        list = list.get(length.max(4)..).unwrap_or_default();
        Some(u16::from_ne_bytes([c, d]) & NESTED != 0)
    })
}

/// A request: header and attributes.
pub(super) fn request(message: u16, flags: u16, family: u8, attributes: &Attributes) -> Packed {
    Packed::new(kind(message), flags, &body(family, 0, attributes))
}

/// The body of a message.
pub(super) fn body(family: u8, resource: u16, attributes: &Attributes) -> Body {
    let mut octets = vec![family, 0];
    octets.extend(resource.to_be_bytes());
    octets.extend(&attributes.0);
    Body(octets)
}

/// Puts requests into a transaction.
pub(super) fn transaction(requests: Vec<Packed>) -> Vec<Packed> {
    let frame = |kind| Packed::new(kind, 0, &body(0, SUBSYSTEM, &Attributes::default()));
    let mut all = Vec::with_capacity(requests.len() + 2);
    all.push(frame(BEGIN));
    all.extend(requests);
    all.push(frame(END));
    all
}

/// Octets that are a message's body.
pub(super) struct Body(Vec<u8>);

impl Emitable for Body {
    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        if let Some(buffer) = buffer.get_mut(..self.0.len()) {
            buffer.copy_from_slice(&self.0);
        }
    }
}

/// A register of 16 octets: 1 to 4. The verdict is register 0.
pub(super) type Register = u32;

const VERDICT: Register = 0;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// `NFT_GOTO`
const GOTO: i32 = -4;

/// What an expression of a rule reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum From {
    /// Octets of the network header: offset and length.
    Network(u32, u32),
    /// Octets of the transport header: offset and length.
    Transport(u32, u32),
    /// Index of the incoming or outgoing interface, and its name.
    InIndex,
    OutIndex,
    InName,
    OutName,
    /// Protocol of the transport header.
    Protocol,
}

/// The expressions of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule(Attributes);

impl Rule {
    fn expression(self, name: &str, data: &Attributes) -> Self {
        let expression = Attributes::default().text(1, name).nest(2, data);
        Self(self.0.nest(ITEM, &expression))
    }

    /// Loads something into a register.
    pub(super) fn load(self, from: From, register: Register) -> Self {
        let payload = |base, offset, length| {
            let data = Attributes::default().number(1, register).number(2, base);
            ("payload", data.number(3, offset).number(4, length))
        };
        let meta = |key| ("meta", Attributes::default().number(1, register).number(2, key));
        let (name, data) = match from {
            From::Network(offset, length) => payload(1, offset, length),
            From::Transport(offset, length) => payload(2, offset, length),
            From::InIndex => meta(4),
            From::OutIndex => meta(5),
            From::InName => meta(6),
            From::OutName => meta(7),
            From::Protocol => meta(16),
        };
        self.expression(name, &data)
    }

    /// Continues if register 1 is equal to this.
    pub(super) fn equals(self, value: &[u8]) -> Self {
        let value = Attributes::default().put(VALUE, value);
        self.expression("cmp", &Attributes::default().number(1, 1).number(2, 0).nest(3, &value))
    }

    /// Keeps these bits of register 1.
    pub(super) fn mask(self, mask: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        let zero = Attributes::default().put(VALUE, &vec![0; mask.len()]);
        let mask = Attributes::default().put(VALUE, mask);
        let data = Attributes::default().number(1, 1).number(2, 1).number(3, length);
        self.expression("bitwise", &data.nest(4, &mask).nest(5, &zero))
    }

    /// Continues if the key that begins in register 1 is in a set.
    pub(super) fn within(self, set: &str) -> Self {
        self.expression("lookup", &Attributes::default().text(1, set).number(2, 1))
    }

    /// Replaces a register by its value in a map; continues if there is one.
    pub(super) fn mapped(self, map: &str, register: Register) -> Self {
        let data = Attributes::default().text(1, map).number(2, register).number(3, register);
        self.expression("lookup", &data)
    }

    /// Sends a copy to the address in register 1 by the interface in register 2.
    pub(super) fn duplicate(self) -> Self {
        self.expression("dup", &Attributes::default().number(1, 1).number(2, 2))
    }

    /// Adds a counter, if configured.
    pub(super) fn counter(self, counts: bool) -> Self {
        if counts { self.expression("counter", &Attributes::default()) } else { self }
    }

    fn verdict(self, verdict: &Attributes) -> Self {
        let data = Attributes::default().nest(2, verdict);
        self.expression("immediate", &Attributes::default().number(1, VERDICT).nest(2, &data))
    }

    pub(super) fn drops(self) -> Attributes {
        self.verdict(&Attributes::default().number(1, DROP)).0
    }

    pub(super) fn accepts(self) -> Attributes {
        self.verdict(&Attributes::default().number(1, ACCEPT)).0
    }

    /// Goes to another chain without returning.
    pub(super) fn goes_to(self, chain: &str) -> Attributes {
        let code = Attributes::default().put(1, &GOTO.to_be_bytes());
        self.verdict(&code.text(2, chain)).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_beyond_what_it_was_told_does_not_matter() {
        let wanted = Rule::default().load(From::Network(16, 4), 1).within("vips").drops();
        assert!(wanted.are_in(&wanted.0));
        // It adds flags to a lookup and numbers to a counter.
        let lookup = Attributes::default().text(1, "vips").number(2, 1).number(5, 0);
        let told = Rule::default().load(From::Network(16, 4), 1).expression("lookup", &lookup);
        assert!(wanted.are_in(&told.drops().0));
        let other = Rule::default().load(From::Network(12, 4), 1).within("vips").drops();
        assert!(!wanted.are_in(&other.0));
        let accepts = Rule::default().load(From::Network(16, 4), 1).within("vips").accepts();
        assert!(!wanted.are_in(&accepts.0));
        let shorter = Rule::default().load(From::Network(16, 4), 1).within("vips");
        assert!(!wanted.are_in(&shorter.0.0));
    }
}
