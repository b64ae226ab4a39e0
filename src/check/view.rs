//! Views of the engine for readers, and the summary for the next process of the role.

use core::net::SocketAddr;

use super::id::Index;
use super::probe::Kind;
use super::service::{Server, Service, Standing};
use super::start::TIMED_OUT;
use super::weight::shown;
use super::{Engine, Phase, Timer};
use crate::base::Instant;
use crate::model::{self, RealServer, ServiceKey};
use crate::plan::ipvs::DestinationKey;
use crate::status::check::{self, Check, Kernel, ServiceSummary, Summary};

impl Engine {
    /// The state to store so that a restarted role announces nothing twice.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let services = self.order.iter().filter_map(|slot| self.service(*slot));
        let services = services.filter_map(|service| {
            let model = self.config.services.get(service.position?.index())?;
            let pairs = model.servers.iter().zip(&service.servers);
            let down: Vec<SocketAddr> = pairs
                .filter(|(_, server)| server.announced == Some(false))
                .map(|(real, _)| (real.address, real.port).into())
                .collect();
            (service.announced.is_some() || !down.is_empty()).then_some(ServiceSummary {
                id: service.id.clone(),
                announced: service.announced,
                down,
            })
        });
        Summary { services: services.collect() }
    }

    /// Whether the kernel's table can be written.
    #[must_use]
    pub const fn kernel(&self) -> Kernel {
        if self.silence.is_silent() {
            return Kernel::Unavailable(TIMED_OUT);
        }
        match self.phase {
            Phase::Idle | Phase::Reading { .. } | Phase::Flushing { .. } => Kernel::Unknown,
            Phase::Waiting { errno } => Kernel::Unavailable(errno),
            Phase::Running | Phase::Stopping { .. } | Phase::Stopped => Kernel::Ready,
        }
    }

    /// Whether the virtual servers of the configuration can be served: none while that is unknown. One that the kernel
    /// refuses to create is enough for false, unless a reload added it while others were served.
    #[must_use]
    pub fn serves(&self) -> Option<bool> {
        match self.kernel() {
            Kernel::Unknown => None,
            Kernel::Unavailable(_) => Some(false),
            Kernel::Ready if self.beginning => None,
            Kernel::Ready => Some(!self.unserved.iter().any(|key| self.is_missing(key))),
        }
    }

    fn is_missing(&self, key: &ServiceKey) -> bool {
        let service = self.by_front.get(key).and_then(|slot| self.service(*slot));
        let front = service.filter(|service| !service.leaving).and_then(|s| s.front(key));
        front.is_some_and(|front| !front.leaving) && !self.known.services.contains_key(key)
    }

    /// A full view.
    #[must_use]
    pub fn view(&self, now: Instant) -> Check {
        let services = self
            .order
            .iter()
            .filter_map(|slot| self.service(*slot))
            .filter_map(|service| {
                let model = self.config.services.get(service.position?.index())?;
                Some(self.service_view(service, model))
            })
            .collect();
        Check {
            schema: 1,
            at: now,
            kernel: self.kernel(),
            services,
            probes_running: self.running,
            probes_waiting: self.checkers.values().filter(|checker| checker.waiting).count(),
            counters: self.counters,
        }
    }

    fn service_view(&self, service: &Service, model: &model::Service) -> check::Service {
        let pairs = model.servers.iter().zip(&service.servers);
        check::Service {
            id: service.id.clone(),
            key: model.key,
            up: service.up,
            since: service.since,
            weight: service.weight,
            quorum: model.quorum,
            hysteresis: model.hysteresis,
            sorry: service.sorry.wanted(),
            refused: service.fronts.iter().find_map(|f| f.refused).map(|refusal| refusal.errno),
            quarantined: service.quarantined,
            suspended: self.is_suspended(model),
            servers: pairs
                .map(|(real, server)| self.server_view(service, model, real, server))
                .collect(),
        }
    }

    fn server_view(
        &self,
        service: &Service,
        model: &model::Service,
        real: &RealServer,
        server: &Server,
    ) -> check::Server {
        let entry = self.known.destination(&model.key, &DestinationKey::at(real, &model.key));
        let refusal = service
            .fronts
            .iter()
            .find_map(|front| front.refusals.get(&DestinationKey::at(real, &front.key)));
        let checks = server
            .checkers
            .as_slice()
            .iter()
            .filter_map(|slot| {
                let checker = self.checkers.get(*slot)?;
                let config = real.checkers.get(checker.position.index())?;
                Some(check::Checker {
                    kind: Kind::of(&config.kind).keyword().into(),
                    up: checker.up,
                    has_run: checker.has_run,
                    failed_attempts: checker.tries,
                    last: checker.last.as_ref().map(ToString::to_string).unwrap_or_default(),
                    due: self.timers.get(Timer::Check(*slot)),
                })
            })
            .collect();
        check::Server {
            address: real.address,
            port: real.port,
            weight: shown(real, server),
            up: server.standing == Standing::Up,
            since: server.since,
            in_kernel: entry.map(|entry| entry.weight),
            refused: refusal.map(|refusal| refusal.errno),
            checks,
        }
    }
}
