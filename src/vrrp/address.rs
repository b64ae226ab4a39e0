//! Which addresses are wanted on which interface, which are there, and what the kernel is asked to change.
//!
//! One entry for each address and interface, whoever wants it: an address that two instances name, or that
//! moves from one to the other in a reload, is one entry and no operation. At most one operation of an entry
//! is under way; when it is answered, the entry is compared again with what is wanted by then, so a flapping
//! link piles nothing up.

use core::time::Duration;
use std::collections::BTreeMap;

use slab::Slab;

use super::event::InstanceId;
use crate::base::limit::Limit;
use crate::base::{Family, IfIndex, IfName, Instant, Prefix};
use crate::model::Address;
use crate::plan::{Op, Outcome, Token};

/// First pause after a refusal; doubled each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between two attempts.
const RETRY_LAST: Duration = Duration::from_secs(10);
/// How many addresses are put back at once when somebody keeps removing them, and how many later.
const RESTORE_BURST: u32 = 5;
const RESTORE_PERIOD: Duration = Duration::from_secs(2);

/// All addresses of the host, and all that are wanted.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Slab<Entry>,
    /// The entries by what identifies them.
    by_key: BTreeMap<(IfName, Prefix), u32>,
    /// Entries whose interface exists.
    by_link: BTreeMap<(IfIndex, Prefix), u32>,
    /// Every address the kernel has, with its place in the kernel's order.
    seen: BTreeMap<(IfIndex, Prefix), u64>,
    order: BTreeMap<(IfIndex, u64), Prefix>,
    next_place: u64,
    applies: BTreeMap<Token, Vec<u32>>,
    next_token: u64,
}

/// An address that is or was wanted.
#[derive(Debug)]
pub(super) struct Entry {
    pub address: Address,
    pub link: Option<IfIndex>,
    /// Instances that name it.
    pub owners: Vec<InstanceId>,
    /// A static address: wanted as long as the daemon runs.
    pub fixed: bool,
    pub in_flight: Option<Kind>,
    /// Removals that the kernel still has to tell of.
    expected_removals: u32,
    pub refused: Option<Refused>,
    restores: Limit,
    /// It is on the interface with attributes that a reload changed.
    outdated: bool,
}

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Add,
    Delete,
}

/// The kernel did not do what was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub errno: i32,
    pub attempts: u32,
    pub retry_at: Instant,
}

/// How an answered operation left its entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub entry: u32,
    pub kind: Kind,
}

impl Table {
    pub fn entry(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    /// Makes `address` wanted by an instance, or fixed; the attributes of the last call count.
    pub fn claim(
        &mut self,
        address: &Address,
        owner: Option<InstanceId>,
        link: Option<IfIndex>,
    ) -> u32 {
        let key = (address.interface.clone(), address.prefix);
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => {
                let id = self.entries.insert(Entry {
                    address: address.clone(),
                    link: None,
                    owners: Vec::new(),
                    fixed: false,
                    in_flight: None,
                    expected_removals: 0,
                    refused: None,
                    restores: Limit::new(RESTORE_BURST, RESTORE_PERIOD),
                    outdated: false,
                });
                let id = u32::try_from(id).unwrap_or(u32::MAX);
                self.by_key.insert(key, id);
                id
            }
        };
        if let Some(entry) = self.entries.get_mut(id as usize) {
            if entry.address != *address {
                let same = Address { no_track: address.no_track, ..entry.address.clone() };
                entry.outdated |= same != *address;
                entry.address = address.clone();
            }
            match owner {
                Some(owner) if !entry.owners.contains(&owner) => entry.owners.push(owner),
                Some(_) => {}
                None => entry.fixed = true,
            }
        }
        self.set_link(id, link);
        id
    }

    /// Forgets who wants what, before a new configuration claims anew.
    pub fn release_all(&mut self) {
        for (_, entry) in &mut self.entries {
            entry.owners.clear();
            entry.fixed = false;
        }
    }

    /// The ids of all entries.
    pub fn ids(&self) -> Vec<u32> {
        self.entries.iter().filter_map(|(id, _)| u32::try_from(id).ok()).collect()
    }

    /// Entries whose interface has this name.
    pub fn on_interface(&self, name: &IfName) -> Vec<u32> {
        // The least prefix there is.
        let low = Prefix::host(core::net::Ipv4Addr::UNSPECIFIED.into());
        let low = Prefix::new(low.address, 0).unwrap_or(low);
        self.by_key
            .range((name.clone(), low)..)
            .take_while(|((interface, _), _)| interface == name)
            .map(|(_, id)| *id)
            .collect()
    }

    /// Binds an entry to an interface number, or to none.
    pub fn set_link(&mut self, id: u32, link: Option<IfIndex>) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        if entry.link == link {
            return;
        }
        if let Some(old) = entry.link {
            self.by_link.remove(&(old, entry.address.prefix));
        }
        entry.link = link;
        entry.refused = None;
        entry.expected_removals = 0;
        if let Some(link) = link {
            self.by_link.insert((link, entry.address.prefix), id);
        }
    }

    /// Whether the address of an entry is on its interface.
    pub fn is_present(&self, id: u32) -> bool {
        self.entry(id).is_some_and(|entry| {
            entry.link.is_some_and(|link| self.seen.contains_key(&(link, entry.address.prefix)))
        })
    }

    /// The first address of `family` on `link` that is not a virtual one.
    pub fn source(&self, link: IfIndex, family: Family) -> Option<core::net::IpAddr> {
        self.order
            .range((link, 0)..=(link, u64::MAX))
            .map(|(_, prefix)| prefix)
            .find(|prefix| {
                prefix.family() == family
                    && !self.by_link.contains_key(&(link, **prefix))
                    && match prefix.address {
                        std::net::IpAddr::V4(_) => true,
                        // Adverts over IPv6 come from a link-local address (RFC 9568 5.1.2.1).
                        std::net::IpAddr::V6(a) => a.is_unicast_link_local(),
                    }
            })
            .map(|prefix| prefix.address)
    }

    /// Notes that the kernel has an address.
    pub fn saw(&mut self, link: IfIndex, prefix: Prefix) {
        let place = self.next_place;
        if let std::collections::btree_map::Entry::Vacant(slot) = self.seen.entry((link, prefix)) {
            slot.insert(place);
            self.order.insert((link, place), prefix);
            self.next_place += 1;
        }
    }

    /// Notes that the kernel does not have an address any more.
    pub fn lost(&mut self, link: IfIndex, prefix: Prefix) -> bool {
        match self.seen.remove(&(link, prefix)) {
            Some(place) => {
                self.order.remove(&(link, place));
                true
            }
            None => false,
        }
    }

    /// Forgets the addresses of an interface that is gone.
    pub fn forget_link(&mut self, link: IfIndex) {
        let gone: Vec<u64> =
            self.order.range((link, 0)..=(link, u64::MAX)).map(|((_, place), _)| *place).collect();
        for place in gone {
            if let Some(prefix) = self.order.remove(&(link, place)) {
                self.seen.remove(&(link, prefix));
            }
        }
    }

    /// Forgets everything the kernel told.
    pub fn forget_all(&mut self) {
        self.seen.clear();
        self.order.clear();
        for (_, entry) in &mut self.entries {
            entry.expected_removals = 0;
        }
    }

    /// The entry of an address that was removed, if that was not asked for.
    pub fn unexpected_removal(&mut self, link: IfIndex, prefix: Prefix, own: bool) -> Option<u32> {
        let id = *self.by_link.get(&(link, prefix))?;
        let entry = self.entries.get_mut(id as usize)?;
        if own && entry.expected_removals > 0 {
            entry.expected_removals -= 1;
            return None;
        }
        Some(id)
    }

    /// The entry of an address on an interface, if it is a virtual or static one.
    pub fn at(&self, link: IfIndex, prefix: Prefix) -> Option<u32> {
        self.by_link.get(&(link, prefix)).copied()
    }

    /// Whether an address that somebody removes may be put back at once.
    pub fn may_restore(&mut self, id: u32, now: Instant) -> bool {
        self.entries.get_mut(id as usize).is_some_and(|entry| entry.restores.take(now))
    }

    /// Puts off the next attempt for an entry.
    pub fn put_off(&mut self, id: u32, errno: i32, now: Instant) -> Option<Instant> {
        let entry = self.entries.get_mut(id as usize)?;
        let attempts = entry.refused.map_or(1, |r| r.attempts.saturating_add(1));
        let pause = RETRY_FIRST * 2u32.saturating_pow(attempts.min(16) - 1);
        let retry_at = now + pause.min(RETRY_LAST);
        entry.refused = Some(Refused { errno, attempts, retry_at });
        Some(retry_at)
    }

    /// What has to be asked of the kernel for an entry, if it is wanted or not; nothing while an operation of
    /// it is under way, its interface is missing or a retry is not due.
    pub fn next_op(&mut self, id: u32, wanted: bool, now: Instant) -> Option<Op> {
        let present = self.is_present(id);
        let entry = self.entries.get_mut(id as usize)?;
        let interface = entry.link?;
        entry.outdated &= present;
        if wanted == present && !entry.outdated {
            entry.refused = None;
            return None;
        }
        if entry.in_flight.is_some() || entry.refused.is_some_and(|r| now < r.retry_at) {
            return None;
        }
        let address = entry.address.clone();
        Some(if !present {
            entry.in_flight = Some(Kind::Add);
            Op::AddAddress { interface, address }
        } else {
            entry.in_flight = Some(Kind::Delete);
            entry.expected_removals += 1;
            Op::DeleteAddress { interface, address }
        })
    }

    /// A token for operations of these entries.
    pub fn begin(&mut self, entries: Vec<u32>) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.applies.insert(token, entries);
        token
    }

    /// Takes the kernel's answer to one operation.
    pub fn answered(&mut self, token: Token, item: u32, outcome: Outcome) -> Option<Answer> {
        let items = self.applies.get_mut(&token)?;
        let slot = items.get_mut(item as usize)?;
        let id = core::mem::replace(slot, u32::MAX);
        if items.iter().all(|id| *id == u32::MAX) {
            self.applies.remove(&token);
        }
        let entry = self.entries.get_mut(id as usize)?;
        let kind = entry.in_flight.take()?;
        let (link, prefix) = (entry.link, entry.address.prefix);
        match (kind, outcome) {
            (_, Outcome::Done) => entry.refused = None,
            (Kind::Add, Outcome::Already) => entry.refused = None,
            (Kind::Delete, Outcome::Already) => {
                entry.refused = None;
                entry.expected_removals = entry.expected_removals.saturating_sub(1);
            }
            (Kind::Add, Outcome::Refused(_)) => {
                return Some(Answer { entry: id, kind });
            }
            (Kind::Delete, Outcome::Refused(_)) => {
                entry.expected_removals = entry.expected_removals.saturating_sub(1);
                return Some(Answer { entry: id, kind });
            }
        }
        if let Some(link) = link {
            match kind {
                Kind::Add => self.saw(link, prefix),
                Kind::Delete => {
                    self.lost(link, prefix);
                }
            }
        }
        Some(Answer { entry: id, kind })
    }

    /// Drops an entry that nobody wants and that is nowhere.
    pub fn collect(&mut self, id: u32) {
        let unused = self.entry(id).is_some_and(|e| {
            e.owners.is_empty() && !e.fixed && e.in_flight.is_none() && e.expected_removals == 0
        });
        if unused && !self.is_present(id) {
            self.set_link(id, None);
            if let Some(entry) = self.entries.try_remove(id as usize) {
                self.by_key.remove(&(entry.address.interface, entry.address.prefix));
            }
        }
    }

    /// Whether operations are under way.
    pub fn is_busy(&self) -> bool {
        !self.applies.is_empty()
    }
}
