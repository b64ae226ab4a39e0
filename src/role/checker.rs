//! The checker role: health checks and the kernel's table of virtual servers.
//!
//! The engine and its probes run on this thread, netlink on one of its own (`drive::check`). Without IPVS in the kernel
//! the role waits for it and reports that: virtual routers are in FAULT meanwhile, unless configured otherwise.
//! (keepalived exits in this case.)

mod presence;
pub(super) mod record;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};

use super::control::{Control, LONGEST_PART, Order, Prepared};
use super::peers::{Peers, Said};
use super::standing::Standing;
use crate::check::Limits;
use crate::cli::exit::Exit;
use crate::drive::check::{Driver, Output};
use crate::ipc::{
    Ask, Asked, Catalogue, CheckerPart, Difference, FromRole, FromRunner, Memory, RoleName, ToRole,
    ToRunner, Told, frame,
};
use crate::model::Lvs;
use crate::sys::{clock, memfd, process, sched};
use presence::Presence;
use record::Record;

/// Number of concurrent attempts: this many servers may be silent without delaying the others.
const PROBES: u64 = 16_384;
/// Descriptors for everything else.
const OTHERS: u64 = 64;

/// Runs the role.
pub(super) async fn run(mut control: Control) -> Exit {
    let seed = clock::now().as_nanos() ^ u64::from(process::own_pid().unsigned_abs()) << 40;
    match Driver::new(seed, limits()) {
        Ok(driver) => Role::new(driver, &mut control).serve(control).await,
        Err(e) => {
            tracing::error!("cannot start: {e}");
            Exit::Internal
        }
    }
}

struct Role {
    driver: Driver,
    record: Record,
    /// Services recorded by an earlier process, until the engine gets them.
    owned: bool,
    peers: Peers,
    /// The decoded configuration.
    prepared: Prepared<CheckerPart>,
    /// The configuration in force, with its number.
    applied: Option<(u32, Arc<Lvs>)>,
    /// The supervisor does not have the newest summary.
    report_due: bool,
    /// Whether the kernel's table can be written, as last reported to the supervisor.
    ipvs: Option<bool>,
    stopped: bool,
    standing: Standing,
    presence: Presence,
}

impl Role {
    fn new(driver: Driver, control: &mut Control) -> Self {
        Self {
            driver,
            record: Record::of(control.take_file()),
            owned: false,
            peers: Peers::default(),
            prepared: Prepared::default(),
            applied: None,
            report_due: false,
            ipvs: None,
            stopped: false,
            standing: Standing::new(RoleName::Checker),
            presence: Presence::default(),
        }
    }

    async fn serve(mut self, mut control: Control) -> Exit {
        while !self.stopped {
            if self.report_due || self.peers.have_notices() {
                control.tick_soon();
            }
            tokio::select! {
                biased;
                // The supervisor first: heartbeats must not wait for a burst of results.
                order = control.next() => self.order(&mut control, order),
                said = self.peers.next() => self.said(said),
                addresses = self.presence.next() => self.driver.present(addresses),
                turn = self.driver.turn() => if let Err(e) = turn {
                    tracing::error!("{e}");
                    return Exit::Internal;
                },
            }
            self.outputs();
            if self.peers.has_lost_runner() {
                control.disconnected(RoleName::Runner);
            }
            self.tell_ipvs(&mut control);
        }
        self.peers.leave().await;
        control.done().await;
        Exit::Ok
    }

    /// Reports whether virtual servers can be served, when that changes: virtual routers are in FAULT while they
    /// cannot.
    fn tell_ipvs(&mut self, control: &mut Control) {
        let Some(works) = self.driver.serves() else {
            return;
        };
        if self.ipvs.replace(works) != Some(works) {
            control.tell(&FromRole::Ipvs { works });
        }
    }

    fn order(&mut self, control: &mut Control, order: Order) {
        let Order::Do(message, fd) = order else {
            return self.tick(control);
        };
        match message {
            ToRole::Change { generation, base } => self.change(generation, base, fd),
            // It is known as a change.
            ToRole::Prepare { generation } if self.prepared.get_mut(generation).is_some() => {
                control.tell(&FromRole::Ready { generation });
            }
            // Decoding a large configuration takes long. With real-time priority it would delay the adverts of this
            // machine.
            ToRole::Prepare { generation } => {
                let prepared = &mut self.prepared;
                self.driver.class.calmly(|| prepared.decode(control, generation, fd));
            }
            ToRole::Apply { generation } => {
                if let Some(part) = self.prepared.take(generation) {
                    if !core::mem::replace(&mut self.owned, true) {
                        self.driver.owned(self.record.read());
                    }
                    self.record.retry();
                    self.standing.take(&part.global);
                    self.driver.class.set(self.standing.real_time(&part.global));
                    let buffers = &part.global.settings.buffers;
                    self.driver.resize(buffers.lvs_requests, buffers.lvs_requests_force);
                    let monitor = (buffers.lvs_monitor, buffers.lvs_monitor_force);
                    self.driver.present(self.presence.take(&part.lvs, monitor));
                    let lvs = Arc::new(part.lvs);
                    self.applied = Some((generation, Arc::clone(&lvs)));
                    // The kernel's table is read first; the changes to make in it follow in `outputs`.
                    self.driver.reload(Arc::clone(&lvs));
                    self.peers.configure(generation, Catalogue::of_checker(&lvs));
                    control.tell(&FromRole::Applied { generation });
                }
            }
            ToRole::Abandon { .. } => self.prepared.abandon(),
            ToRole::Connect(role) => match self.peers.connect(role, fd) {
                Ok(true) => {
                    // The runs that the previous runner did not finish.
                    let open: Vec<u64> = self.driver.programs().collect();
                    open.into_iter().for_each(|run| self.run_program(run));
                }
                Ok(false) => {}
                Err(e) => control.unconnected(role, &e),
            },
            ToRole::Resume(Memory::Checker(octets)) => match frame::open(&octets) {
                Ok(summary) => self.driver.resume(summary),
                Err(e) => {
                    tracing::warn!("cannot read what the previous process had announced: {e}")
                }
            },
            ToRole::Observed(reports) => self.driver.reports(reports),
            ToRole::Stop { keep } => self.driver.stop(keep),
            ToRole::Dump(Asked::Stats | Asked::StatsClear) => self.count(),
            ToRole::Dump(Asked::Data | Asked::Json) => {}
            ToRole::Resume(Memory::Vrrp(_)) | ToRole::Ipvs { .. } | ToRole::Answer(_) => {
                control.unexpected(&message);
            }
        }
    }

    /// Decodes the difference to the configuration in force. If that is impossible, the whole one follows.
    fn change(&mut self, generation: u32, base: u32, difference: Option<OwnedFd>) {
        let Some((_, lvs)) = self.applied.as_ref().filter(|(applied, _)| *applied == base) else {
            return;
        };
        let octets = difference.and_then(|fd| memfd::read(fd, LONGEST_PART).ok());
        let decoded = octets.and_then(|octets| frame::open::<Difference>(&octets).ok());
        if let Some(part) = decoded.and_then(|difference| difference.apply(&lvs.services)) {
            self.prepared.put(generation, part);
        }
    }

    fn tick(&mut self, control: &mut Control) {
        self.peers.send_notices();
        if self.report_due {
            let summary = self.driver.summary();
            self.report_due = !control.offer(&FromRole::Remember(Memory::of_checker(&summary)));
        }
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Runner(FromRunner::Ran { run, end }) => self.driver.ran(run, end),
            Said::Asked(id, Ask::State) => {
                let told = Told::Checker(Box::new(self.driver.view()));
                self.peers.answer(id, told);
            }
            Said::Runner(FromRunner::Reports(reports)) => self.driver.reports(reports),
            // Notices are the business of `Peers`.
            Said::Runner(FromRunner::Began { .. } | FromRunner::Delivered { .. })
            | Said::Asked(..)
            | Said::Nothing => {}
        }
    }

    /// Logs the counters.
    fn count(&self) {
        let view = self.driver.view();
        let c = &view.counters;
        tracing::debug!(
            "statistics: checks {}, good {}, failed {}, not tried {}, repeated {}; changes of the \
             IPVS table {}, refused {}, corrected {}",
            c.attempts,
            c.succeeded,
            c.failed,
            c.untried,
            c.repeated,
            c.operations,
            c.refused,
            c.restored
        );
    }

    fn outputs(&mut self) {
        let mut told = false;
        while let Some(output) = self.driver.take_output() {
            match output {
                Output::Own(services) => self.record.write(&services),
                Output::Run(run) => self.run_program(run),
                Output::EndRun(run) => self.peers.ask_runner(&ToRunner::End { run }),
                Output::Notify(notice) => {
                    self.peers.notify(*notice);
                    told = true;
                }
                // With the next tick: many changes result in one report.
                Output::Report => self.report_due = true,
                Output::Stopped => self.stopped = true,
            }
        }
        if told {
            self.peers.send_notices();
        }
    }

    /// Makes the runner run the program of a check. Without a runner it waits for the next one.
    fn run_program(&mut self, run: u64) {
        if let Some(check) = self.driver.program(run) {
            self.peers.run(run, &check.command, check.timeout);
        }
    }
}

/// As many concurrent attempts as there are descriptors for.
fn limits() -> Limits {
    sched::descriptors(PROBES + OTHERS);
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let probes = descriptors.saturating_sub(OTHERS).clamp(16, PROBES);
    Limits { probes: usize::try_from(probes).unwrap_or(16), ..Limits::default() }
}
