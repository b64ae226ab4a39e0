//! The kernel of a simulated host: links, addresses, and calls that fail.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::base::rng::Rng;
use crate::base::{IfIndex, IfName, Mac, Prefix};
use crate::plan::{Op, Outcome};
use crate::vrrp::{Link, Snapshot};

/// EBUSY: what calls that fail now and then answer.
pub const BUSY: i32 = 16;
/// EINVAL: what calls that never work answer.
pub const INVALID: i32 = 22;

/// Links and addresses of one host.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The links.
    pub links: Vec<Link>,
    /// The addresses in the order they were added.
    pub addresses: Vec<(IfIndex, Prefix)>,
    /// Percentage of address changes that are refused.
    pub refusals: u64,
    /// Addresses that are always refused.
    pub impossible: BTreeSet<Prefix>,
    /// How long one address change takes.
    pub latency: Duration,
}

impl Kernel {
    /// A host with a link for each name, numbered from 2, each with its own address.
    #[must_use]
    pub fn new(host: u8, names: &[IfName]) -> Self {
        let mut kernel = Self { latency: Duration::from_micros(20), ..Self::default() };
        for (index, name) in (2u32..).zip(names) {
            let last = u8::try_from(index).unwrap_or(u8::MAX);
            kernel.links.push(Link {
                index: IfIndex(index),
                name: name.clone(),
                up: true,
                arp: true,
                mac: Mac([2, 0, 0, 0, last, host]),
                mtu: 1500,
            });
            for address in [
                std::net::IpAddr::from([10, 0, last, host.saturating_add(70)]),
                std::net::IpAddr::from([0xfe80, 0, 0, 0, 0, 0, u16::from(last), u16::from(host)]),
            ] {
                let length = if address.is_ipv4() { 24 } else { 64 };
                if let Some(prefix) = Prefix::new(address, length) {
                    kernel.addresses.push((IfIndex(index), prefix));
                }
            }
        }
        kernel
    }

    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &IfName) -> Option<&Link> {
        self.links.iter().find(|link| link.name == *name)
    }

    /// The link of this number.
    #[must_use]
    pub fn link_at(&self, index: IfIndex) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// Everything at once, as a dump.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { links: self.links.clone(), addresses: self.addresses.clone() }
    }

    /// Whether an address is on a link.
    #[must_use]
    pub fn has(&self, link: IfIndex, prefix: Prefix) -> bool {
        self.addresses.contains(&(link, prefix))
    }

    /// Carries out a change.
    pub fn apply(&mut self, op: &Op, rng: &mut Rng) -> Outcome {
        let (Op::AddAddress { interface, address } | Op::DeleteAddress { interface, address }) = op;
        let (link, prefix) = (*interface, address.prefix);
        if self.link_at(link).is_none() {
            return Outcome::Refused(19);
        }
        if rng.chance(self.refusals) {
            return Outcome::Refused(BUSY);
        }
        let there = self.has(link, prefix);
        match op {
            Op::AddAddress { .. } if self.impossible.contains(&prefix) => Outcome::Refused(INVALID),
            Op::AddAddress { .. } if there => Outcome::Already,
            Op::AddAddress { .. } => {
                self.addresses.push((link, prefix));
                Outcome::Done
            }
            Op::DeleteAddress { .. } if !there => Outcome::Already,
            Op::DeleteAddress { .. } => {
                self.addresses.retain(|a| *a != (link, prefix));
                Outcome::Done
            }
        }
    }
}
