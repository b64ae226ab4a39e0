//! Stopping: our entries are removed from the kernel's table, in keepalived's order.

use std::sync::Arc;

use super::audit::Audit;
use super::id::ServiceSlot;
use super::notify::{self, say};
use super::service::{Dirty, Standing};
use super::start::FLUSH;
use super::{Action, CheckerSlot, Engine, Moment, Phase, Timer};
use crate::model::Lvs;
use crate::plan::ipvs::{Op, Table};

/// The body of the mails at the end.
const ENDING: &str = "=> Shutting down <=";

impl Engine {
    pub(super) fn stop(&mut self, moment: &mut Moment<'_>, keep_entries: bool) {
        if matches!(self.phase, Phase::Stopping { .. } | Phase::Stopped) {
            return;
        }
        let running = matches!(self.phase, Phase::Running);
        if matches!(self.phase, Phase::Idle) && self.timers.is_set(Timer::Table) {
            // The table was not read because reports were awaited. They no longer matter.
            self.read_table(moment);
        }
        if matches!(self.phase, Phase::Reading { .. }) && !keep_entries && !self.owned.is_empty() {
            self.leaving_early = true;
            return;
        }
        let checkers: Vec<CheckerSlot> = self.checkers.numbers().collect();
        for slot in checkers {
            self.remove_checker(moment, slot);
        }
        self.waiting.clear();
        self.timers.clear(Timer::Table);
        self.audit = Audit::default();
        if keep_entries || !running {
            self.phase = Phase::Stopped;
            moment.out.push(Action::Done);
            return;
        }
        let config = Arc::clone(&self.config);
        let order = core::mem::take(&mut self.order);
        if config.flush_on_stop {
            self.phase = Phase::Stopping { flushing: true };
            self.say_quorums_down(moment, &order, &config);
            // Until the kernel has agreed.
            let fronts = self.services.values().flat_map(|service| &service.fronts);
            self.owned = fronts.map(|front| front.key).collect();
            self.services.clear();
            self.by_id.clear();
            self.by_front.clear();
            self.leaving.clear();
            moment.out.push(Action::Apply { token: FLUSH, ops: [Op::Flush].into() });
            return;
        }
        self.phase = Phase::Stopping { flushing: false };
        for slot in &order {
            self.say_leaving(moment, *slot, &config);
        }
        self.say_quorums_down(moment, &order, &config);
        // Those that a reload removed from the configuration are being removed already.
        for service in self.services.values_mut() {
            service.leaving = true;
            service.quarantined = false;
            for front in &mut service.fronts {
                front.refused = None;
                front.refusals.clear();
            }
            service.dirty = Dirty::All;
        }
        self.settle_all(moment, &order);
        let rest: Vec<ServiceSlot> = self.services.numbers().collect();
        self.settle_all(moment, &rest);
    }

    /// Stops before anything was begun: services created by an earlier process are removed.
    pub(super) fn leave_unbegun(&mut self, moment: &mut Moment<'_>, table: Table) {
        self.known = table;
        if self.config.flush_on_stop {
            self.phase = Phase::Stopping { flushing: true };
            moment.out.push(Action::Apply { token: FLUSH, ops: [Op::Flush].into() });
            return;
        }
        self.phase = Phase::Stopping { flushing: false };
        let mut slots = Vec::new();
        for key in core::mem::take(&mut self.owned) {
            if self.known.services.contains_key(&key) {
                say!(info, key, "Removing Virtual Server {key}");
                slots.push(self.insert_leaving(moment, key));
            }
        }
        self.settle_all(moment, &slots);
    }

    /// Reports that the last service is removed.
    pub(super) fn finish(&mut self, moment: &mut Moment<'_>) {
        match self.phase {
            Phase::Stopping { flushing: false } if self.services.is_empty() => {
                self.phase = Phase::Stopped;
                // Services that the kernel refused to remove are left to the next process.
                let left = core::mem::take(&mut self.owned);
                moment.out.push(Action::Own(left.into_iter().collect()));
                moment.out.push(Action::Done);
            }
            _ => {}
        }
        if self.in_flight == 0 && self.writes.is_empty() {
            self.beginning = false;
        }
    }

    fn say_leaving(&self, moment: &mut Moment<'_>, slot: ServiceSlot, config: &Lvs) {
        let (Some(service), Some(model)) = (self.service(slot), self.config_of(config, slot))
        else {
            return;
        };
        let id = model.id();
        for (real, server) in model.servers.iter().zip(&service.servers) {
            let name = real.display(&model.key);
            let inhibited = real.inhibit_on_failure && server.standing != Standing::Up;
            let word = if inhibited { "(inhibited) " } else { "" };
            if !config.flush_services_only {
                say!(info, id, "Shutting down {word}service {name} from VS {id}");
            }
            if model.omega && !config.flush_services_only && server.standing == Standing::Up {
                let body = real.smtp_alert.then(|| ENDING.to_owned());
                let notice = notify::of_server(model, real, false, true, body, true);
                moment.out.extend(notice.map(Action::Notify));
            }
        }
    }

    fn say_quorums_down(&self, moment: &mut Moment<'_>, order: &[ServiceSlot], config: &Lvs) {
        for slot in order {
            let model = self.config_of(config, *slot);
            if let Some(model) = model.filter(|model| model.omega) {
                let notice = notify::of_service(model, false, ENDING.into(), true);
                moment.out.extend(notice.map(Action::Notify));
            }
        }
    }
}
