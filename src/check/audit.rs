//! What other programs did to the table is found and put back.
//!
//! `ipvsadm -C`, a server deleted by hand, another scheduler: the engine would not hear of it, because the kernel
//! announces no changes of this table. So all our services are read now and then, after each reload, and whenever an
//! answer shows that the table is not what we believe; what differs is put right, and only that. Reading goes in
//! parts, so that a server that fails meanwhile leaves the table without delay.
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

/// Services read at once.
const PART: usize = 64;
/// From an answer that shows that the table is not ours alone to the next look at all of it. Not at once: whoever
/// empties the table has more to do, and a fight with another program must not keep the machine busy.
const SOON: Duration = Duration::from_secs(1);

/// One look at the whole table.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// When the next one begins.
    due: Option<Instant>,
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
        self.due.filter(|_| self.asked.is_none())
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
        if self.audit.asked.is_some() {
            self.audit.again = true;
        } else {
            let soon = moment.now + SOON;
            self.audit.due = Some(self.audit.due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// Begins a look at all of the table.
    pub(super) fn audit_begin(&mut self, moment: &mut Moment<'_>) {
        if !matches!(self.phase, Phase::Running) || self.config.audit_interval.is_none() {
            self.audit.due = None;
        } else if self.audit.asked.is_some() {
            self.audit.again = true;
        } else {
            self.audit.last = None;
            self.audit_next(moment);
        }
    }

    fn audit_next(&mut self, moment: &mut Moment<'_>) {
        use core::ops::Bound;
        let from = self.audit.last.map_or(Bound::Unbounded, Bound::Excluded);
        let part = self.by_front.range((from, Bound::Unbounded)).map(|(key, _)| *key);
        let part: Arc<[ServiceKey]> = part.take(PART).collect();
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
                    self.compare(moment, *key, table.services.remove(key));
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
