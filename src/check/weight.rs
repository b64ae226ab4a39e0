//! The share of the traffic that a server gets.
//!
//! Only [`effective`] decides this, for each of its readers: the kernel's table, the quorum, and the views. So they differ
//! only where the table in it says so. Whatever else may determine a weight enters there: a drain as another [`Standing`],
//! a slow start as a factor of [`Factors`] which applies to [`Purpose::Entry`] only, because a server that is still warming
//! up counts for the quorum.

use std::sync::Arc;

use super::id::{Index, ServerPosition, ServiceSlot};
use super::notify::say;
use super::probe::Share;
use super::service::{Server, Standing};
use super::{CheckerSlot, Engine, Moment};
use crate::model::RealServer;

/// The largest weight of IPVS.
const LARGEST: i64 = i32::MAX as i64;

/// Everything about a server that determines its weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    /// `weight`
    pub configured: u32,
    /// The sum that its checks add.
    pub dynamic: i64,
    pub standing: Standing,
    /// `inhibit_on_failure`: while it is down, it stays in the table with weight 0.
    pub inhibit: bool,
}

impl Factors {
    pub const fn of(real: &RealServer, server: &Server) -> Self {
        Self {
            configured: real.weight,
            dynamic: server.dynamic,
            standing: server.standing,
            inhibit: real.inhibit_on_failure,
        }
    }
}

/// What a weight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The entry in the kernel's table.
    Entry {
        /// Servers may get connections: not only the sorry server is in service.
        open: bool,
    },
    /// The sum that is compared with the quorum.
    Quorum,
    /// The weight of a server while it is in service, for people.
    View,
}

/// The weight of a server; none where it does not count or has no entry.
pub(super) fn effective(factors: Factors, purpose: Purpose) -> Option<u32> {
    let weight = i64::from(factors.configured).saturating_add(factors.dynamic).clamp(0, LARGEST);
    let full = u32::try_from(weight).unwrap_or(0);
    match (purpose, factors.standing) {
        (Purpose::View, _)
        | (Purpose::Quorum, Standing::Up)
        | (Purpose::Entry { open: true }, Standing::Up | Standing::Rising(_)) => Some(full),
        // Only a server that the kernel has accepted counts.
        (Purpose::Quorum, Standing::Rising(_) | Standing::Down) => None,
        // The kernel refused it: it must be added successfully before it counts again.
        (Purpose::Entry { open: false }, Standing::Rising(_)) => Some(0),
        (Purpose::Entry { open: false }, Standing::Up)
        | (Purpose::Entry { .. }, Standing::Down) => factors.inhibit.then_some(0),
    }
}

/// The weight of a server while it is in service, as shown to people.
pub(super) fn shown(real: &RealServer, server: &Server) -> u32 {
    effective(Factors::of(real, server), Purpose::View).unwrap_or(0)
}

/// What a check with this result adds to the configured weight.
pub(super) fn contribution(share: Share, real: &RealServer) -> i64 {
    match share {
        Share::Configured => 0,
        Share::Instead(weight) => i64::from(weight) - i64::from(real.weight),
        Share::Added(weight) => i64::from(weight),
    }
}

impl Engine {
    /// A check determined the share of its server.
    pub(super) fn share(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot, share: Share) {
        let Some(checker) = self.checkers.get_mut(slot) else {
            return;
        };
        if core::mem::replace(&mut checker.share, share) == share {
            return;
        }
        let (service, position) = (checker.service, checker.server);
        self.weigh(service, position);
        self.settle(moment, service);
    }

    /// Adds up the shares from the checks of a server.
    fn weigh(&mut self, slot: ServiceSlot, position: ServerPosition) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(service) = self.services.get_mut(slot) else {
            return;
        };
        let Some(server) = service.servers.get_mut(position.index()) else {
            return;
        };
        let shares = server.checkers.as_slice().iter();
        let shares = shares.filter_map(|checker| self.checkers.get(*checker));
        let before = shown(real, server);
        server.dynamic = shares.map(|checker| contribution(checker.share, real)).sum();
        let now = shown(real, server);
        if before == now {
            return;
        }
        let up = server.standing == Standing::Up;
        say_changed(model, real, before, now, up);
        service.count(model, position);
        service.touch(position);
        self.changed = true;
    }
}

/// Logs that the weight of a server changes.
pub(super) fn say_changed(
    model: &crate::model::Service,
    real: &RealServer,
    before: u32,
    now: u32,
    up: bool,
) {
    let activity = if up { "active" } else { "inactive" };
    let (name, id) = (real.display(&model.key), model.id());
    say!(
        info,
        id,
        "Changing weight from {before} to {now} for {activity} service {name} of VS {id}"
    );
}

#[cfg(test)]
mod tests {
    use super::super::service::Why;
    use super::*;

    /// Each reader in each standing: weight 5, to which the checks add 2.
    #[test]
    fn the_whole_table() {
        let (open, closed) = (Purpose::Entry { open: true }, Purpose::Entry { open: false });
        let purposes = [open, closed, Purpose::Quorum, Purpose::View];
        let rising = Standing::Rising(Why::Other);
        let rows = [
            // standing, inhibit: open, closed, quorum, view
            (Standing::Up, false, [Some(7), None, Some(7), Some(7)]),
            (Standing::Up, true, [Some(7), Some(0), Some(7), Some(7)]),
            (rising, false, [Some(7), Some(0), None, Some(7)]),
            (rising, true, [Some(7), Some(0), None, Some(7)]),
            (Standing::Down, false, [None, None, None, Some(7)]),
            (Standing::Down, true, [Some(0), Some(0), None, Some(7)]),
        ];
        for (standing, inhibit, weights) in rows {
            let factors = Factors { configured: 5, dynamic: 2, standing, inhibit };
            for (purpose, want) in purposes.into_iter().zip(weights) {
                let found = effective(factors, purpose);
                assert_eq!(found, want, "{purpose:?} of {standing:?}, inhibit {inhibit}");
            }
        }
    }

    #[test]
    fn the_sum_stays_between_0_and_the_largest_weight() {
        for (configured, dynamic, want) in [
            (1, 0, 1),
            (0, 0, 0),
            (5, -5, 0),
            (5, -6, 0),
            (5, i64::MIN, 0),
            (5, 4, 9),
            (1, i64::MAX, 0x7FFF_FFFF),
            (u32::MAX, 0, 0x7FFF_FFFF),
        ] {
            let factors = Factors { configured, dynamic, standing: Standing::Up, inhibit: false };
            for purpose in [Purpose::Entry { open: true }, Purpose::Quorum, Purpose::View] {
                assert_eq!(effective(factors, purpose), Some(want), "{configured} {dynamic:+}");
            }
        }
    }
}
