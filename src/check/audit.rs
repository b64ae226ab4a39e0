//! Detects and reverts changes that other programs make to the table.
//!
//! `ipvsadm -C`, a server deleted by hand, another scheduler: the kernel sends no events about changes of this table.
//! So all our services are read periodically, after each reload, and whenever an answer shows that the table differs
//! from the known state; only differences are corrected. The table is read in parts, so that a server that fails
//! meanwhile is removed without delay.
//!
//! Reading takes one request per service. If there are many, a list of all is read first, which costs a thirtieth, and
//! then only the services for which it differs. The list does not contain everything (`plan::listing`), so all services
//! are read from time to time.
//!
//! The table is read and written in the order of the requests. So when a part arrives, all earlier answers about it
//! have arrived, and it must be equal to the known state.

use core::time::Duration;
use std::sync::Arc;

use super::notify::say;
use super::probe::Errno;
use super::service::Dirty;
use super::{Action, Engine, Moment, Phase};
use crate::base::Instant;
use crate::model::ServiceKey;
use crate::plan::ipvs::{Entry, Table};
use crate::plan::listing::Listing;

/// Number of services per part.
const PART: usize = 64;
/// Time from an answer that reveals a foreign change to the next full comparison. Not at once: the other program may
/// make more changes, and a fight with it must not keep the machine busy.
const SOON: Duration = Duration::from_secs(1);
/// Number of consecutive regular comparisons that may use a list.
const LISTS: u32 = 9;
/// Largest number of services to list. A list is read in one piece and writes wait for it, so it must not take longer
/// than they may wait.
const LONGEST_LIST: usize = 10_000;

/// One comparison of the whole table.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// When the next comparison begins.
    due: Option<Instant>,
    /// A list of all services was requested.
    listing: bool,
    /// Services for which the list differs, in reverse order; none: every service is read.
    suspects: Option<Vec<ServiceKey>>,
    /// Comparisons by a list since all services were read.
    lists: u32,
    /// The part that was requested.
    asked: Option<Arc<[ServiceKey]>>,
    /// The last key of the requested parts.
    last: Option<ServiceKey>,
    /// Another comparison must follow this one.
    again: bool,
}

impl Audit {
    /// When the next comparison begins; none while one is under way.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_under_way())
    }

    const fn is_under_way(&self) -> bool {
        self.listing || self.asked.is_some()
    }

    /// Whether this answers the requested part.
    pub fn is_answer(&self, keys: &[ServiceKey]) -> bool {
        self.asked.as_ref().is_some_and(|asked| core::ptr::eq(&raw const **asked, &raw const *keys))
    }
}

impl Engine {
    /// Schedules the next regular comparison.
    pub(super) fn audit_later(&mut self, moment: &Moment<'_>) {
        self.audit.due = self.config.audit_interval.map(|interval| moment.now + interval);
    }

    /// Schedules a full comparison soon.
    pub(super) fn audit_soon(&mut self, moment: &Moment<'_>) {
        if self.config.audit_interval.is_none() {
            return;
        }
        if self.audit.is_under_way() {
            self.audit.again = true;
        } else {
            let soon = moment.now + SOON;
            self.audit.due = Some(self.audit.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// A regular comparison is due.
    pub(super) fn audit_due(&mut self, moment: &mut Moment<'_>) {
        if self.audit.lists >= LISTS {
            self.audit.lists = 0;
            self.audit_begin_with(moment, false);
        } else {
            self.audit.lists += 1;
            self.audit_begin(moment);
        }
    }

    /// Begins a comparison of the whole table.
    pub(super) fn audit_begin(&mut self, moment: &mut Moment<'_>) {
        let services = self.by_front.len();
        self.audit_begin_with(moment, services > self.limits.read && services <= LONGEST_LIST);
    }

    fn audit_begin_with(&mut self, moment: &mut Moment<'_>, by_list: bool) {
        if !matches!(self.phase, Phase::Running) || self.config.audit_interval.is_none() {
            self.audit.due = None;
        } else if self.audit.is_under_way() {
            self.audit.again = true;
        } else if by_list {
            self.audit.listing = true;
            moment.out.push(Action::List);
        } else {
            self.audit_all(moment);
        }
    }

    fn audit_all(&mut self, moment: &mut Moment<'_>) {
        self.audit.suspects = None;
        self.audit.last = None;
        self.audit_next(moment);
    }

    /// The list arrived.
    pub(super) fn listed(&mut self, moment: &mut Moment<'_>, result: Result<Listing, i32>) {
        if !core::mem::take(&mut self.audit.listing) {
            return;
        }
        match result {
            Ok(listing) => {
                let keys = self.by_front.keys().rev();
                let known = &self.known.services;
                let suspects = keys.filter(|key| !listing.shows(key, known.get(key)));
                self.audit.suspects = Some(suspects.copied().collect());
                self.audit_next(moment);
            }
            // Reading them shows whether the table is there at all.
            Err(errno) => {
                tracing::debug!("cannot list the IPVS table: {}", Errno(errno));
                self.audit_all(moment);
            }
        }
    }

    fn audit_next(&mut self, moment: &mut Moment<'_>) {
        use core::ops::Bound;
        let part: Arc<[ServiceKey]> = match &mut self.audit.suspects {
            Some(suspects) => suspects.drain(suspects.len().saturating_sub(PART)..).rev().collect(),
            None => {
                let from = self.audit.last.map_or(Bound::Unbounded, Bound::Excluded);
                let part = self.by_front.range((from, Bound::Unbounded)).map(|(key, _)| *key);
                part.take(PART).collect()
            }
        };
        self.audit.last = part.last().copied();
        if part.is_empty() {
            self.audit.asked = None;
            self.audit_later(moment);
            if core::mem::take(&mut self.audit.again) {
                self.audit_soon(moment);
            }
            return;
        }
        self.audit.asked = Some(Arc::clone(&part));
        moment.out.push(Action::Read { services: part });
    }

    /// A part arrived.
    pub(super) fn audited(
        &mut self,
        moment: &mut Moment<'_>,
        keys: &[ServiceKey],
        result: Result<Table, i32>,
    ) {
        self.audit.asked = None;
        match result {
            Ok(mut table) => {
                for key in keys {
                    let found = table.take(key, self.known.services.get(key));
                    self.compare(moment, *key, found);
                }
                self.audit_next(moment);
            }
            Err(errno) => {
                tracing::error!("cannot read the IPVS table: {}", Errno(errno));
                self.audit_later(moment);
            }
        }
    }

    fn compare(&mut self, moment: &mut Moment<'_>, key: ServiceKey, found: Option<Entry>) {
        let Some(slot) = self.by_front.get(&key).copied() else {
            return;
        };
        if self.known.services.get(&key) == found.as_ref() {
            return;
        }
        // It is read individually.
        let Some(service) = self.services.get_mut(slot).filter(|s| !s.stale) else {
            return;
        };
        if service.quarantined {
            return;
        }
        let (id, what) = (&service.id, what(self.known.services.get(&key), found.as_ref()));
        say!(warn, id, "another program {what} of VS {id} ({key}): correcting it");
        service.dirty = Dirty::All;
        self.counters.restored += 1;
        match found {
            Some(entry) => self.known.services.insert(key, entry),
            None => self.known.services.remove(&key),
        };
        self.enter(slot);
        self.settle(moment, slot);
    }
}

/// Describes what another program did.
fn what(known: Option<&Entry>, found: Option<&Entry>) -> &'static str {
    match (known, found) {
        (Some(_), None) => "removed the entry",
        (None, _) => "made an entry",
        (Some(known), Some(found)) if known.settings != found.settings => "changed the settings",
        _ => "changed the servers",
    }
}
