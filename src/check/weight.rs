//! The share of the traffic that a server gets.
//!
//! Only [`effective`] decides this. It starts with the configured weight and adds the results of the server's checks;
//! anything else that changes a weight (a drain, a slow start) belongs here too, so that the kernel's table, the quorum
//! and the views can never differ.

use std::sync::Arc;

use super::notify::say;
use super::probe::Share;
use super::service::{Server, Standing};
use super::{Engine, Moment};
use crate::model::RealServer;

/// The largest weight of IPVS.
const LARGEST: i64 = i32::MAX as i64;

/// The weight of a server while it is in service.
pub(super) fn effective(real: &RealServer, server: &Server) -> u32 {
    let weight = i64::from(real.weight).saturating_add(server.dynamic).clamp(0, LARGEST);
    u32::try_from(weight).unwrap_or(0)
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
    pub(super) fn share(&mut self, moment: &mut Moment<'_>, slot: u32, share: Share) {
        let Some(checker) = self.checkers.get_mut(slot as usize) else {
            return;
        };
        if core::mem::replace(&mut checker.share, share) == share {
            return;
        }
        let (service, position) = (checker.service, checker.server);
        self.weigh(moment, service, position);
        self.settle(moment, service);
    }

    /// Adds up the shares from the checks of a server.
    pub(super) fn weigh(&mut self, _cx: &Moment<'_>, slot: u32, position: u32) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(service) = self.services.get_mut(slot as usize) else {
            return;
        };
        let Some(server) = service.servers.get_mut(position as usize) else {
            return;
        };
        let shares = server.checkers.as_slice().iter();
        let shares = shares.filter_map(|checker| self.checkers.get(*checker as usize));
        let before = effective(real, server);
        server.dynamic = shares.map(|checker| contribution(checker.share, real)).sum();
        let now = effective(real, server);
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
