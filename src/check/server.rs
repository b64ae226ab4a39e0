//! A server goes up or down.
//!
//! A server is good when all its checks are. It counts (for the quorum and announcements) once the kernel has accepted
//! it; while only the sorry server is in service it counts at once, because it gets its entry only when the quorum is
//! back. A server that turns bad stops counting at once, whatever the kernel answers.

use std::sync::Arc;

use super::id::{Index, ServerPosition, ServiceSlot};
use super::notify::{self, say};
use super::service::{Service, Sorry, Standing, Why};
use super::wanted::is_taken;
use super::{Action, CheckerSlot, Engine, Moment};
use crate::model::{self, Lvs, RealServer};
use crate::plan::ipvs::DestinationKey;

impl Engine {
    /// A check has a result.
    pub(super) fn report(&mut self, moment: &mut Moment<'_>, slot: CheckerSlot, up: bool) {
        let config = Arc::clone(&self.config);
        let Some(place) = self.place(&config, slot) else {
            return;
        };
        let Some(checker) = self.checkers.get_mut(slot) else {
            return;
        };
        let first = !core::mem::replace(&mut checker.has_run, true);
        let changed = core::mem::replace(&mut checker.up, up) != up;
        let (service, position) = (checker.service, checker.server);
        let body = || place.kind.mail_body(checker.last.as_ref());
        let pool = self.services.get_mut(service);
        let server = pool.and_then(|pool| pool.servers.get_mut(position.index()));
        let Some(server) = server else {
            return;
        };
        if !changed {
            let (standing, body) = (server.standing, body());
            // It began as down and is down: this was not announced yet.
            if first && !up && standing == Standing::Down {
                self.announce_server(moment, service, position, false, None);
            }
            if first
                && up
                && !config.no_checker_emails
                && place.kind.mails_first_success()
                && let Some(body) = body
            {
                self.mail_check(moment, service, position, body);
            }
            return;
        }
        server.failed = if up { server.failed.saturating_sub(1) } else { server.failed + 1 };
        match (up, server.failed) {
            (true, 0) => self.bring_up(moment, service, position, Why::Check(slot)),
            (false, 1) => self.take_down(moment, service, position, slot),
            _ if !config.no_checker_emails => {
                if let Some(body) = body() {
                    self.mail_check(moment, service, position, body);
                }
            }
            _ => {}
        }
    }

    /// A server is good from now on.
    pub(super) fn bring_up(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
        why: Why,
    ) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let alone = service.sorry == Sorry::In;
        let Some(server) = service.servers.get_mut(position.index()) else {
            return;
        };
        if server.standing != Standing::Down {
            return;
        }
        server.standing = Standing::Rising(why);
        let at_once = alone && !is_refused(service, model, position);
        let (id, name) = (model.id(), real.display(&model.key));
        if real.inhibit_on_failure {
            say!(info, id, "Enabling service {name} of VS {id}");
        } else {
            say!(info, id, "Adding service {name} to VS {id}");
        }
        service.touch(position);
        if at_once {
            self.promote(moment, slot, position, why);
        } else {
            service.rising.push(position);
        }
        self.settle(moment, slot);
    }

    /// The kernel has accepted a server, or does not need it yet.
    pub(super) fn promote(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
        why: Why,
    ) {
        let config = Arc::clone(&self.config);
        let Some((model, _)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        // While only the sorry server is in service, it may have been tried with weight 0.
        service.touch(position);
        let Some(server) = service.servers.get_mut(position.index()) else {
            return;
        };
        server.standing = Standing::Up;
        server.since = moment.now;
        let announced = server.announced;
        service.count(model, position);
        match why {
            Why::Start if !config.init_notifies && announced != Some(false) => {
                if let Some(server) = service.servers.get_mut(position.index()) {
                    server.announced = Some(true);
                }
            }
            Why::Start | Why::Other => self.announce_server(moment, slot, position, true, None),
            Why::Check(checker) => {
                let body = self.mail_body(&config, checker);
                self.announce_server(moment, slot, position, true, body);
            }
        }
    }

    /// A server is bad from now on, because of this check.
    pub(super) fn take_down(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
        checker: CheckerSlot,
    ) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        if !self.lay_down(moment, slot, position, model, Standing::Down) {
            return;
        }
        let (id, name) = (model.id(), real.display(&model.key));
        if real.inhibit_on_failure {
            say!(info, id, "Disabling service {name} of VS {id}");
        } else {
            say!(info, id, "Removing service {name} from VS {id}");
        }
        let body = self.mail_body(&config, checker);
        self.announce_server(moment, slot, position, false, body);
        self.settle(moment, slot);
    }

    /// The kernel does not have a server that counted: it counts again when the kernel accepts it.
    pub(super) fn knock_out(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
    ) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(service) = self.service(slot) else {
            return;
        };
        let server = service.servers.get(position.index());
        if server.is_none_or(|server| server.standing != Standing::Up)
            || is_taken(&self.known, service, model, position)
        {
            return;
        }
        self.lay_down(moment, slot, position, model, Standing::Rising(Why::Other));
        if let Some(service) = self.service_mut(slot) {
            service.rising.push(position);
        }
        let (id, name) = (model.id(), real.display(&model.key));
        say!(warn, id, "service {name} of VS {id} does not count: the kernel refuses it");
        let body = Some("=> IPVS refused the service <=".into());
        self.announce_server(moment, slot, position, false, body);
    }

    /// Ends the standing of a server; false if it was down.
    fn lay_down(
        &mut self,
        moment: &Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
        model: &model::Service,
        standing: Standing,
    ) -> bool {
        let Some(service) = self.service_mut(slot) else {
            return false;
        };
        service.touch(position);
        let Some(server) = service.servers.get_mut(position.index()) else {
            return false;
        };
        let before = core::mem::replace(&mut server.standing, standing);
        if before != Standing::Down {
            server.since = moment.now;
        }
        service.count(model, position);
        before != Standing::Down
    }

    /// Announces a server: programs once for each change, a mail if there is a body for one.
    pub(super) fn announce_server(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
        up: bool,
        body: Option<String>,
    ) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(server) =
            self.service_mut(slot).and_then(|service| service.servers.get_mut(position.index()))
        else {
            return;
        };
        let changed = server.announced.replace(up) != Some(up);
        let body = body.filter(|_| real.smtp_alert);
        let notice = notify::of_server(model, real, up, changed, body, false);
        moment.out.extend(notice.map(Action::Notify));
        self.changed |= changed;
    }

    /// The text of a mail about the last attempt of a check.
    fn mail_body(&self, config: &Lvs, checker: CheckerSlot) -> Option<String> {
        let last = self.checkers.get(checker)?.last.as_ref();
        self.place(config, checker)?.kind.mail_body(last)
    }

    /// The result of a check changed, but not the state of its server.
    fn mail_check(
        &mut self,
        moment: &mut Moment<'_>,
        slot: ServiceSlot,
        position: ServerPosition,
        body: String,
    ) {
        let Some((model, real)) = self.real(&self.config, slot, position) else {
            return;
        };
        let server = self.service(slot).and_then(|s| s.servers.get(position.index()));
        if let Some(server) = server.filter(|_| real.smtp_alert) {
            let up = server.standing == Standing::Up;
            let notice = notify::of_server(model, real, up, false, Some(body), false);
            moment.out.extend(notice.map(Action::Notify));
        }
    }

    pub(super) fn real<'c>(
        &self,
        config: &'c Lvs,
        slot: ServiceSlot,
        position: ServerPosition,
    ) -> Option<(&'c model::Service, &'c RealServer)> {
        let model = self.config_of(config, slot)?;
        Some((model, model.servers.get(position.index())?))
    }
}

/// Whether the kernel refuses a server in every front.
fn is_refused(service: &Service, model: &model::Service, position: ServerPosition) -> bool {
    let Some(real) = model.servers.get(position.index()) else {
        return false;
    };
    service.fronts.iter().filter(|front| !front.leaving).all(|front| {
        front.is_blocked() || front.refusals.contains_key(&DestinationKey::at(real, &front.key))
    })
}
