//! A server goes up or down.
//!
//! A server is good when all its checks are. It counts (for the quorum, and in what is announced) once the
//! kernel has taken it; while the sorry server stands alone it counts at once, because it gets its entry only
//! when the quorum is back. A server that turns bad stops counting at once, whatever the kernel answers.

use std::sync::Arc;

use super::notify::{self, say};
use super::service::{Sorry, Standing, Why};
use super::{Action, Cx, Engine};
use crate::model::{self, Lvs, RealServer};

impl Engine {
    /// A check has a result.
    pub(super) fn report(&mut self, cx: &mut Cx<'_>, slot: u32, up: bool) {
        let config = Arc::clone(&self.config);
        let Some(place) = self.place(&config, slot) else {
            return;
        };
        let Some(checker) = self.checkers.get_mut(slot as usize) else {
            return;
        };
        let first = !core::mem::replace(&mut checker.has_run, true);
        let changed = core::mem::replace(&mut checker.up, up) != up;
        let (service, position) = (checker.service, checker.server);
        let Some(server) = self
            .services
            .get_mut(service as usize)
            .and_then(|service| service.servers.get_mut(position as usize))
        else {
            return;
        };
        if !changed {
            // What began as down and is: nobody was told yet.
            if first && !up && server.standing == Standing::Down {
                self.announce_server(cx, service, position, false, None);
            }
            return;
        }
        server.failed = if up { server.failed.saturating_sub(1) } else { server.failed + 1 };
        match (up, server.failed) {
            (true, 0) => self.bring_up(cx, service, position, Why::Check(slot)),
            (false, 1) => self.take_down(cx, service, position, slot),
            _ if !config.no_checker_emails => {
                let body = place.kind.mail_body(up);
                self.mail_check(cx, service, position, body);
            }
            _ => {}
        }
    }

    /// A server is good from now on.
    pub(super) fn bring_up(&mut self, cx: &mut Cx<'_>, slot: u32, position: u32, why: Why) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        let alone = service.sorry == Sorry::In;
        let Some(server) = service.servers.get_mut(position as usize) else {
            return;
        };
        if server.standing != Standing::Down {
            return;
        }
        server.standing = Standing::Rising(why);
        let at_once = alone && server.refused.is_none();
        let (key, name) = (model.key, real.display(&model.key));
        if real.inhibit_on_failure {
            say!(info, key, "Enabling service {name} of VS {key}");
        } else {
            say!(info, key, "Adding service {name} to VS {key}");
        }
        service.touch(position);
        if at_once {
            self.promote(cx, slot, position, why);
        } else {
            service.rising.push(position);
        }
        self.settle(cx, slot);
    }

    /// The kernel has taken a server, or need not know of it yet.
    pub(super) fn promote(&mut self, cx: &mut Cx<'_>, slot: u32, position: u32, why: Why) {
        let config = Arc::clone(&self.config);
        let Some((_, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(service) = self.service_mut(slot) else {
            return;
        };
        service.weight += u64::from(real.weight);
        // While the sorry server stands alone it may have been tried with weight 0.
        service.touch(position);
        let Some(server) = service.servers.get_mut(position as usize) else {
            return;
        };
        server.standing = Standing::Up;
        server.since = cx.now;
        match why {
            Why::Start if !config.init_notifies && server.announced != Some(false) => {
                server.announced = Some(true);
            }
            Why::Start | Why::Other => self.announce_server(cx, slot, position, true, None),
            Why::Check(checker) => {
                let body = self.place(&config, checker).map(|place| place.kind.mail_body(true));
                self.announce_server(cx, slot, position, true, body);
            }
        }
    }

    /// A server is bad from now on, because of this check.
    pub(super) fn take_down(&mut self, cx: &mut Cx<'_>, slot: u32, position: u32, checker: u32) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        if !self.lay_down(cx, slot, position, real, Standing::Down) {
            return;
        }
        let (key, name) = (model.key, real.display(&model.key));
        if real.inhibit_on_failure {
            say!(info, key, "Disabling service {name} of VS {key}");
        } else {
            say!(info, key, "Removing service {name} from VS {key}");
        }
        let body = self.place(&config, checker).map(|place| place.kind.mail_body(false));
        self.announce_server(cx, slot, position, false, body);
        self.settle(cx, slot);
    }

    /// The kernel does not hold a server that counted: it counts again when the kernel takes it.
    pub(super) fn knock_out(&mut self, cx: &mut Cx<'_>, slot: u32, position: u32) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        if self
            .service(slot)
            .and_then(|service| service.servers.get(position as usize))
            .is_none_or(|server| server.standing != Standing::Up)
        {
            return;
        }
        self.lay_down(cx, slot, position, real, Standing::Rising(Why::Other));
        if let Some(service) = self.service_mut(slot) {
            service.rising.push(position);
        }
        let (key, name) = (model.key, real.display(&model.key));
        say!(warn, key, "service {name} of VS {key} does not count: the kernel refuses it");
        let body = Some("=> IPVS refused the service <=".into());
        self.announce_server(cx, slot, position, false, body);
    }

    /// Ends the standing of a server; false if it was down.
    fn lay_down(
        &mut self,
        cx: &Cx<'_>,
        slot: u32,
        position: u32,
        real: &RealServer,
        standing: Standing,
    ) -> bool {
        let Some(service) = self.service_mut(slot) else {
            return false;
        };
        service.touch(position);
        let Some(server) = service.servers.get_mut(position as usize) else {
            return false;
        };
        let before = core::mem::replace(&mut server.standing, standing);
        if before != Standing::Down {
            server.since = cx.now;
        }
        if before == Standing::Up {
            service.weight = service.weight.saturating_sub(u64::from(real.weight));
        }
        before != Standing::Down
    }

    /// Tells of a server, programs once for each change, a mail if there is a body for one.
    pub(super) fn announce_server(
        &mut self,
        cx: &mut Cx<'_>,
        slot: u32,
        position: u32,
        up: bool,
        body: Option<String>,
    ) {
        let config = Arc::clone(&self.config);
        let Some((model, real)) = self.real(&config, slot, position) else {
            return;
        };
        let Some(server) =
            self.service_mut(slot).and_then(|service| service.servers.get_mut(position as usize))
        else {
            return;
        };
        let changed = server.announced.replace(up) != Some(up);
        let body = body.filter(|_| real.smtp_alert);
        let notice = notify::of_server(&model.key, real, up, changed, body, false);
        cx.out.extend(notice.map(Action::Notify));
        self.changed |= changed;
    }

    /// A check changed its mind and its server stays what it is.
    fn mail_check(&mut self, cx: &mut Cx<'_>, slot: u32, position: u32, body: String) {
        let Some((model, real)) = self.real(&self.config, slot, position) else {
            return;
        };
        let server = self.service(slot).and_then(|s| s.servers.get(position as usize));
        if let Some(server) = server.filter(|_| real.smtp_alert) {
            let up = server.standing == Standing::Up;
            let notice = notify::of_server(&model.key, real, up, false, Some(body), false);
            cx.out.extend(notice.map(Action::Notify));
        }
    }

    fn real<'c>(
        &self,
        config: &'c Lvs,
        slot: u32,
        position: u32,
    ) -> Option<(&'c model::Service, &'c RealServer)> {
        let model = self.config_of(config, slot)?;
        Some((model, model.servers.get(position as usize)?))
    }
}
