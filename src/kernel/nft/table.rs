//! The parts of one of our tables: the same for the same settings, so that an existing one can be compared.
//!
//! Names, order and matches are those of keepalived, so that other rules of a host can still refer to them.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::message::{
    self, Attributes, CHAIN_NAME, EXPRESSIONS, From, NAME, NEW_CHAIN, NEW_RULE, NEW_SET, NEW_TABLE,
    Register, Rule, TABLE,
};
use crate::base::Family;
use crate::kernel::netlink::Packed;
use crate::plan::filter::FilterTable;

pub(super) const VIPS: &str = "vips";
pub(super) const BY_INDEX: &str = "vips_link_local";
pub(super) const BY_NAME: &str = "vips_link_local_name";
pub(super) const VMAC_MAP: &str = "vmac_map";
pub(super) const VMAC_SET: &str = "vmac_set";

/// Hooks of packets for this host and of those from it (`NF_INET_LOCAL_IN`, `NF_INET_LOCAL_OUT`).
const INPUT: u32 = 1;
const OUTPUT: u32 = 3;

/// Types of the elements of sets, as the command `nft` numbers them to show them; two together are 6 bits apart.
const IPV4_ADDRESS: u32 = 7;
const IPV6_ADDRESS: u32 = 8;
const INDEX: u32 = 20;
const IF_NAME: u32 = 41;
const BITS: u32 = 6;
/// `NFT_SET_MAP`
const MAP: u32 = 8;
/// `NFTA_SET_USERDATA`: for the command `nft`, that the keys and the values of a map are in the order of this host.
const USER_DATA: u16 = 13;
const HOST_ORDER_OF_KEYS: [u8; 6] = [0, 4, 1, 0, 0, 0];
const HOST_ORDER_OF_VALUES: [u8; 6] = [1, 4, 1, 0, 0, 0];

/// Protocols and messages that are matched (RFC 4861, RFC 2710, RFC 3810).
const IGMP: u8 = 2;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ROUTER_SOLICITATION: u8 = 133;
const REPORT_V1: u8 = 131;
const REPORT_V2: u8 = 143;

/// One part of a table.
pub(super) struct Part {
    /// The message that creates it.
    pub message: u16,
    flags: u16,
    /// Its attributes that the kernel reports.
    pub told: Attributes,
    /// Its attributes that the kernel does not report.
    silent: Attributes,
}

impl Part {
    pub(super) fn request(&self, family: Family) -> Packed {
        let mut all = self.told.clone();
        all.0.extend(&self.silent.0);
        message::request(self.message, self.flags, message::protocol(family), &all)
    }
}

/// Builds the parts of a table.
struct Maker<'a> {
    table: &'a FilterTable,
    parts: Vec<Part>,
    sets: u32,
}

/// The parts of a table, in the order in which they are created.
pub(super) fn parts(table: &FilterTable) -> Vec<Part> {
    let mut maker = Maker { table, parts: Vec::new(), sets: 0 };
    maker.add(NEW_TABLE, NLM_F_CREATE, Attributes::default().text(TABLE, &table.settings.table));
    maker.sets();
    maker.chains();
    match table.family {
        Family::V4 => maker.rules_v4(),
        Family::V6 => maker.rules_v6(),
    }
    maker.parts
}

impl Maker<'_> {
    fn add(&mut self, message: u16, flags: u16, told: Attributes) {
        self.parts.push(Part { message, flags, told, silent: Attributes::default() });
    }

    fn head(&self) -> Attributes {
        Attributes::default().text(TABLE, &self.table.settings.table)
    }

    /// A set, or a map to an interface.
    fn set(&mut self, name: &str, of: (u32, u32), is_map: bool) {
        self.sets += 1;
        let mut told = self.head().text(NAME, name).number(4, of.0).number(5, of.1);
        if is_map {
            told = told.number(3, MAP).number(6, INDEX).number(7, 4);
        }
        if of.0 == IF_NAME {
            let values: &[_] = if is_map { &HOST_ORDER_OF_VALUES } else { &[] };
            told = told.put(USER_DATA, &[&HOST_ORDER_OF_KEYS, values].concat());
        }
        // It needs a number within its transaction.
        let silent = Attributes::default().number(10, self.sets);
        self.parts.push(Part { message: NEW_SET, flags: NLM_F_CREATE, told, silent });
    }

    fn sets(&mut self) {
        let of_vmacs = self.table.vmacs;
        match self.table.family {
            Family::V4 => self.set(VIPS, (IPV4_ADDRESS, 4), false),
            Family::V6 => {
                self.set(VIPS, (IPV6_ADDRESS, 16), false);
                if self.table.settings.by_index {
                    self.set(BY_INDEX, (IPV6_ADDRESS << BITS | INDEX, 20), false);
                } else {
                    self.set(BY_NAME, (IPV6_ADDRESS << BITS | IF_NAME, 32), false);
                }
                if of_vmacs {
                    self.set(VMAC_SET, (IF_NAME, 16), false);
                }
            }
        }
        if of_vmacs {
            self.set(VMAC_MAP, (IF_NAME, 16), true);
        }
    }

    fn chain(&mut self, name: &str, hook: Option<u32>) {
        let mut told = self.head().text(CHAIN_NAME, name);
        if let Some(hook) = hook {
            let priority = self.table.settings.priority.to_be_bytes();
            let hook = Attributes::default().number(1, hook).put(2, &priority);
            // The policy is to accept.
            told = told.nest(4, &hook).number(5, 1).text(7, "filter");
        }
        self.add(NEW_CHAIN, NLM_F_CREATE, told);
    }

    fn chains(&mut self) {
        let out = self.has_output();
        if self.table.family == Family::V6 {
            self.chain("in_link_local", None);
            if self.table.settings.output {
                self.chain("out_link_local", None);
            }
        }
        self.chain("in", Some(INPUT));
        if out {
            self.chain("out", Some(OUTPUT));
        }
    }

    const fn has_output(&self) -> bool {
        self.table.settings.output || self.table.vmacs
    }

    fn rule(&mut self, chain: &str, expressions: &Attributes) {
        let told = self.head().text(NAME, chain).nest(EXPRESSIONS, expressions);
        self.add(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, told);
    }

    fn count(&self, rule: Rule) -> Rule {
        rule.counter(self.table.settings.counters)
    }

    fn drop(&mut self, chain: &str, rule: Rule) {
        let rule = self.count(rule).drops();
        self.rule(chain, &rule);
    }

    fn rules_v4(&mut self) {
        const SOURCE: From = From::Network(12, 4);
        const DESTINATION: From = From::Network(16, 4);
        self.drop("in", Rule::default().load(DESTINATION, 1).within(VIPS));
        if self.table.vmacs {
            let igmp = Rule::default().load(From::Network(9, 1), 1).equals(&[IGMP]);
            self.report_by_parent(igmp.load(DESTINATION, 1));
        }
        if self.table.settings.output {
            self.drop("out", Rule::default().load(SOURCE, 1).within(VIPS));
        }
    }

    fn rules_v6(&mut self) {
        const SOURCE: From = From::Network(8, 16);
        const DESTINATION: From = From::Network(24, 16);
        let (by_index, output) = (self.table.settings.by_index, self.table.settings.output);
        self.local(
            "in_link_local",
            DESTINATION,
            if by_index { From::InIndex } else { From::InName },
        );
        if output {
            let interface = if by_index { From::OutIndex } else { From::OutName };
            self.local("out_link_local", SOURCE, interface);
        }
        self.discovery("in");
        self.goes_if_local("in", DESTINATION, "in_link_local");
        self.drop("in", Rule::default().load(DESTINATION, 1).within(VIPS));
        if self.table.vmacs {
            for report in [REPORT_V1, REPORT_V2] {
                self.report_by_parent(icmp(report).load(DESTINATION, 1));
            }
            let solicitation = icmp(ROUTER_SOLICITATION);
            self.drop("out", solicitation.load(From::OutName, 1).within(VMAC_SET));
        }
        if output {
            self.discovery("out");
            self.goes_if_local("out", SOURCE, "out_link_local");
            self.drop("out", Rule::default().load(SOURCE, 1).within(VIPS));
        }
    }

    /// Packets to the address in register 1 that would leave by an interface with a virtual MAC leave by its parent
    /// instead.
    fn report_by_parent(&mut self, rule: Rule) {
        self.drop("out", rule.load(From::OutName, 2).mapped(VMAC_MAP, 2).duplicate());
    }

    /// Link-local addresses are specific to an interface.
    fn local(&mut self, chain: &str, address: From, interface: From) {
        const SECOND: Register = 2;
        let set = if self.table.settings.by_index { BY_INDEX } else { BY_NAME };
        self.drop(chain, Rule::default().load(address, 1).load(interface, SECOND).within(set));
    }

    /// Neighbour discovery is accepted: a router that accepts no packets must be found nevertheless (RFC 9568 6.4.3).
    fn discovery(&mut self, chain: &str) {
        for message in [SOLICITATION, ADVERTISEMENT] {
            let rule = self.count(icmp(message)).accepts();
            self.rule(chain, &rule);
        }
    }

    /// fe80::/10 is handled by a chain of its own.
    fn goes_if_local(&mut self, chain: &str, address: From, to: &str) {
        let octets = |first, second| {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&[first, second]);
            octets
        };
        let rule = Rule::default().load(address, 1).mask(&octets(0xff, 0xc0));
        let rule = self.count(rule.equals(&octets(0xfe, 0x80))).goes_to(to);
        self.rule(chain, &rule);
    }
}

/// Matches an ICMPv6 message.
fn icmp(message: u8) -> Rule {
    let rule = Rule::default().load(From::Protocol, 1).equals(&[ICMPV6]);
    rule.load(From::Transport(0, 1), 1).equals(&[message])
}
