//! What other programs did to the table is found and put back.
//!
//! `ipvsadm -C`, a server deleted by hand, another scheduler: the engine would not hear of it, because the kernel
//! announces no changes of this table. So all our services are looked at now and then, after each reload, and whenever an
//! answer shows that the table is not what we believe; what differs is put right, and only that. Reading goes in
//! parts, so that a server that fails meanwhile leaves the table without delay.
//!
//! Reading takes a question for each service. Where there are many, a list of all is taken first, which costs a
//! thirtieth, and only those are read that it shows otherwise. It does not show everything (`plan::listing`), so now and
//! then all are read nevertheless.
//!
//! The one who reads and writes the table does so in the order in which he is asked. So when a part arrives, all
//! answers have arrived that concern it, and it must be equal to what we believe the kernel holds.

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

/// Services read at once.
const PART: usize = 64;
/// From an answer that shows that the table is not ours alone to the next look at all of it. Not at once: whoever
/// empties the table has more to do, and a fight with another program must not keep the machine busy.
const SOON: Duration = Duration::from_secs(1);
/// So many regular looks in a row may be by a list.
const LISTS: u32 = 9;
/// A list is made in one piece, and writes wait for it: it is not asked for where it takes longer than they may wait.
const LONGEST_LIST: usize = 10_000;

/// One look at the whole table.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// When the next one begins.
    due: Option<Instant>,
    /// A list of all services was asked for.
    listing: bool,
    /// Services that the list shows otherwise than they are known, last first; none: every service is read.
    suspects: Option<Vec<ServiceKey>>,
    /// Looks by a list since all services were read.
    lists: u32,
    /// The part that was asked for.
    asked: Option<Arc<[ServiceKey]>>,
    /// The last key of the parts that were asked for.
    last: Option<ServiceKey>,
    /// Another one is wanted when this one ends.
    again: bool,
}

impl Audit {
    /// When the next one begins; none while one is under way.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_under_way())
    }

    const fn is_under_way(&self) -> bool {
        self.listing || self.asked.is_some()
    }

    /// Whether this answers the part that was asked for.
    pub fn is_answer(&self, keys: &[ServiceKey]) -> bool {
        self.asked.as_ref().is_some_and(|asked| core::ptr::eq(&raw const **asked, &raw const *keys))
    }
}

impl Engine {
    /// Arms the next regular look.
    pub(super) fn audit_later(&mut self, moment: &Moment<'_>) {
        self.audit.due = self.config.audit_interval.map(|interval| moment.now + interval);
    }

    /// Looks at all of the table in a moment.
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

    /// The time has come for a regular look.
    pub(super) fn audit_due(&mut self, moment: &mut Moment<'_>) {
        if self.audit.lists >= LISTS {
            self.audit.lists = 0;
            self.audit_begin_with(moment, false);
        } else {
            self.audit.lists += 1;
            self.audit_begin(moment);
        }
    }

    /// Begins a look at all of the table.
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
                tracing::debug!("no list of the IPVS table: {}", Errno(errno));
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
        // It is read by itself.
        let Some(service) = self.services.get_mut(slot as usize).filter(|s| !s.stale) else {
            return;
        };
        if service.quarantined {
            return;
        }
        let (id, what) = (&service.id, what(self.known.services.get(&key), found.as_ref()));
        say!(warn, id, "another program {what} of VS {id} ({key}): putting it right");
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

/// What another program did.
fn what(known: Option<&Entry>, found: Option<&Entry>) -> &'static str {
    match (known, found) {
        (Some(_), None) => "removed the entry",
        (None, _) => "made an entry",
        (Some(known), Some(found)) if known.settings != found.settings => "changed the settings",
        _ => "changed the servers",
    }
}
