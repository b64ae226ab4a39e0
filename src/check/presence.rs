//! `ha_suspend`: the checks of a virtual server run only while this host has its address. Meanwhile its state and the
//! kernel's entries stay as they are.
//!
//! Which addresses the host has is reported by the driver. While that is unknown nothing is suspended.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::probe::Kind;
use super::{CheckerSlot, Engine, Moment, ServiceSlot, Timer};
use crate::model::{self, Lvs};

/// Checks that go on begin within this time: a host that has just become master needs to know.
const SPREAD: Duration = Duration::from_secs(1);

impl Engine {
    /// The addresses of this host have changed; none: they are not known.
    pub(super) fn present(&mut self, moment: &mut Moment<'_>, addresses: Option<BTreeSet<IpAddr>>) {
        self.addresses = addresses;
        self.suspend_anew(moment);
    }

    /// Suspends the checks of services whose address is missing, and continues those of the others.
    pub(super) fn suspend_anew(&mut self, moment: &mut Moment<'_>) {
        let config = Arc::clone(&self.config);
        let mut suspended = BTreeSet::new();
        for slot in &self.order {
            let service = self.config_of(&config, *slot);
            if service.is_some_and(|service| self.is_suspended(service)) {
                suspended.insert(*slot);
            }
        }
        let before = core::mem::replace(&mut self.suspended, suspended.clone());
        let present: Vec<ServiceSlot> = before.difference(&suspended).copied().collect();
        let missing: Vec<ServiceSlot> = suspended.difference(&before).copied().collect();
        for slot in missing {
            for check in self.attempting(&config, slot) {
                self.drop_attempt(moment, check);
                self.timers.clear(Timer::Check(check));
                if self.checkers.get(check).is_some_and(|checker| checker.has_run) {
                    self.say_check(check, "Suspending");
                }
            }
        }
        for slot in present {
            for check in self.attempting(&config, slot) {
                let spread = u64::try_from(SPREAD.as_nanos()).unwrap_or(u64::MAX);
                let due = moment.now + Duration::from_nanos(self.rng.below(spread));
                if let Some(checker) = self.checkers.get_mut(check) {
                    checker.due = due;
                    self.timers.set(Timer::Check(check), due);
                    self.say_check(check, "Activating");
                }
            }
        }
    }

    /// Whether the checks of a service are suspended: `ha_suspend`, and none of its addresses is on this host.
    pub(super) fn is_suspended(&self, service: &model::Service) -> bool {
        let Some(addresses) = self.addresses.as_ref().filter(|_| service.is_suspendable()) else {
            return false;
        };
        !service.addresses().any(|address| addresses.contains(&address))
    }

    /// The checks of a service that make attempts.
    fn attempting(&self, config: &Lvs, slot: ServiceSlot) -> Vec<CheckerSlot> {
        let all = self.checks_of(slot).into_iter();
        all.filter(|check| self.place(config, *check).is_some_and(|p| !Kind::is_told(p.kind)))
            .collect()
    }
}
