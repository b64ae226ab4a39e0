//! The VRRP role: the real-time thread with the engine, and this auxiliary thread, which does everything that may take
//! time: netlink, other processes, decoding configurations.

mod bfd;
mod dump;
mod host;
mod snapshot;
mod writer;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use super::control::{Control, Order, Prepared};
use super::peers::{Peers, Said};
use super::standing::Standing;
use super::table;
use crate::base::Instant;
use crate::bfd::Report;
use crate::cli::exit::Exit;
use crate::drive::vrrp::look::{Seen, Summaries, Views};
use crate::drive::vrrp::{Driver, Handle, Hooks, Input, Output, Scheduling};
use crate::ipc::{
    Asked, Catalogue, FromRole, FromRunner, Memory, RoleName, ToRole, ToRunner, Told, VrrpPart,
    frame,
};
use crate::kernel::monitor::{Change, Monitor};
use crate::kernel::netlink::Requests;
use crate::kernel::nft::Filters;
use crate::kernel::object::Watch;
use crate::log;
use crate::model;
use crate::plan::ChangeKind;
use crate::status::{Ask, TrackReport};
use crate::sys::aio::Async;
use crate::sys::poll::Wake;
use crate::sys::{clock, process, sched};
use crate::vrrp::{Event, RunId, filter_tables};
use bfd::Bfds;
use dump::Dumps;
use host::HostSettings;
use writer::Writer;

/// Largest number of pending requests for views; the engine's thread has room for twice as many.
const LOOKS: usize = 8;
/// Stack of the real-time thread. All of it may become resident.
const STACK: usize = 256 << 10;
/// How long this thread may be busy before the role counts as hung: a busy kernel delays netlink requests, and adverts
/// continue meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the role.
pub(super) async fn run(mut control: Control) -> Exit {
    match Role::start(&mut control) {
        Ok(role) => role.serve(control).await,
        Err(e) => {
            tracing::error!("cannot start: {e}");
            match e.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => Exit::Permission,
                _ => Exit::Internal,
            }
        }
    }
}

/// What a view is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// For a file.
    Dump(Asked),
    /// An answer to `api`.
    Answer(u64),
}

struct Role {
    handle: Handle,
    /// Inputs that found no room on their way to the engine.
    waiting: VecDeque<Input>,
    requests: Requests,
    monitor: Monitor,
    filters: Filters,
    writer: Writer,
    peers: Peers,
    bfds: Bfds,
    /// The decoded configuration.
    prepared: Prepared<VrrpPart>,
    /// The configuration to apply, until the engine has it.
    applying: Option<u32>,
    /// Configurations that the real-time thread may still use: freeing a large one takes long, so this thread holds the
    /// last reference.
    configs: Vec<Arc<model::Vrrp>>,
    /// The summary for which the supervisor had no room,
    summary: Option<FromRole>,
    /// and the one that is being received.
    summaries: Summaries,
    /// Number of requests for views so far, the purposes of pending ones, and their answers so far.
    asked: u64,
    looks: BTreeMap<u64, Look>,
    views: Views,
    /// When this thread last took a turn.
    alive: Arc<AtomicU64>,
    /// A kernel snapshot must be taken now,
    snapshot_due: bool,
    /// or at the next tick: the last attempt failed, or the tables kept changing.
    snapshot_later: bool,
    /// Some of the configured objects are routes.
    watch_routes: bool,
    /// The engine has undone everything.
    stopped: bool,
    watch_addresses: bool,
    /// The mark of interfaces that this daemon creates.
    mark: Box<str>,
    /// Running IPVS sync daemons may have been started by this role.
    watch_daemons: bool,
    standing: Standing,
    host: HostSettings,
    dumps: Dumps,
    /// The kernel is left as it is at the end of this process.
    keep: bool,
}

impl Role {
    fn start(control: &mut Control) -> io::Result<Self> {
        let requests = Requests::open()?;
        let monitor = Monitor::open(requests.port())?;
        let channel = control.leave_beats()?;
        let alive = Arc::new(AtomicU64::new(clock::now().as_nanos()));
        let other = Arc::clone(&alive);
        let beat = Box::new(move || {
            let last = Instant::from_nanos(other.load(Ordering::Relaxed));
            if clock::now().since(last) < PATIENCE {
                let _ = frame::send_small(&channel, &FromRole::Alive);
            }
        });
        let (driver, handle) = Driver::new(Hooks { beat, rest: Box::new(log::nudge) })?;
        thread::Builder::new()
            .name("vrrp-rt".into())
            .stack_size(STACK)
            .spawn(move || real_time(driver))?;
        Ok(Self {
            handle,
            waiting: VecDeque::new(),
            requests,
            monitor,
            filters: Filters::default(),
            writer: Writer::default(),
            peers: Peers::default(),
            bfds: Bfds::new(control.setup()),
            prepared: Prepared::default(),
            applying: None,
            configs: Vec::new(),
            summary: None,
            summaries: Summaries::default(),
            asked: 0,
            looks: BTreeMap::new(),
            views: Views::default(),
            alive,
            snapshot_due: true,
            snapshot_later: false,
            watch_routes: false,
            stopped: false,
            watch_addresses: control.setup().watch_addresses,
            mark: control.setup().mark.clone(),
            watch_daemons: false,
            standing: Standing::new(RoleName::Vrrp),
            host: HostSettings::default(),
            dumps: Dumps::default(),
            keep: false,
        })
    }

    async fn serve(mut self, mut control: Control) -> Exit {
        let Ok(wake) = WakeRef::new(&self.handle) else {
            return Exit::Internal;
        };
        if control.setup().undo {
            self.event(Event::Undo);
        }
        let (mut changes, mut of_filters) = (Vec::new(), Vec::new());
        while !self.stopped {
            self.alive.store(clock::now().as_nanos(), Ordering::Relaxed);
            if core::mem::take(&mut self.snapshot_due) {
                self.snapshot();
            }
            if self.is_behind() {
                control.tick_soon();
            }
            tokio::select! {
                biased;
                () = wake.called() => {}
                result = self.monitor.next(&mut changes) => if let Err(e) = result {
                    tracing::error!("cannot receive events from the kernel: {e}");
                    return Exit::Internal;
                },
                result = self.filters.next(&mut of_filters) => if let Err(e) = result {
                    tracing::error!("cannot receive changes of packet filters from the kernel: {e}");
                    return Exit::Internal;
                },
                () = writer_turn(self.writer.is_busy()) => self.write(),
                said = self.peers.next() => self.said(said),
                report = self.bfds.next() => self.bfd_changed(&mut control, report),
                order = control.next() => self.order(&mut control, order),
            }
            if self.peers.has_lost_runner() {
                control.disconnected(RoleName::Runner);
            }
            self.changed(&mut changes);
            self.changed(&mut of_filters);
            self.outputs(&mut control);
            // At once: addresses are urgent. Longer work continues between other events.
            if self.writer.is_busy() {
                self.write();
            }
            self.pass_on();
        }
        self.leave(control).await
    }

    /// A BFD session changed.
    fn bfd_changed(&mut self, control: &mut Control, report: Report) {
        if let Some(states) = self.bfds.observed(&report) {
            control.tell(&FromRole::Observed(states));
        }
        if report.for_vrrp {
            self.event(Event::Report(TrackReport::bfd(report.name, report.up)));
        }
    }

    /// The end: everything is undone; the runner still has to be notified.
    async fn leave(mut self, mut control: Control) -> Exit {
        self.outputs(&mut control);
        self.bfds.leave().await;
        if !self.keep {
            self.host.restore();
        }
        self.peers.leave().await;
        control.done().await;
        Exit::Ok
    }

    fn order(&mut self, control: &mut Control, order: Order) {
        let Order::Do(message, fd) = order else {
            return self.tick(control);
        };
        match message {
            ToRole::Prepare { generation } => self.prepared.decode(control, generation, fd),
            ToRole::Apply { generation } => {
                if let Some(mut part) = self.prepared.take(generation) {
                    part.vrrp.mark.clone_from(&self.mark);
                    self.applying = Some(generation);
                    self.resize(&part);
                    self.peers.configure(generation, Catalogue::of_vrrp(&part.vrrp));
                    self.watch(&part);
                    self.watch_filters(&part);
                    self.standing.take(&part.global);
                    self.host.take(&part.vrrp);
                    let scheduling = Scheduling {
                        real_time: self.standing.real_time(&part.global),
                        beat: Some(table::beat(part.vrrp.shortest_interval())),
                    };
                    self.bfds.have(&part.vrrp.bfds, self.standing.bfd(&part.global));
                    let config = Arc::new(part.vrrp);
                    self.dumps.have(&part.global, Arc::clone(&config));
                    self.configs.push(Arc::clone(&config));
                    self.tell(Input::Reload { config, scheduling });
                }
            }
            ToRole::Abandon { .. } => self.prepared.abandon(),
            ToRole::Connect(role) => match self.peers.connect(role, fd) {
                Ok(true) => self.event(Event::RunnerReady),
                Ok(false) => {}
                Err(e) => control.unconnected(role, &e),
            },
            ToRole::Resume(Memory::Vrrp(summary)) => {
                self.host.resume(summary.reports);
                self.event(Event::Resume(summary));
            }
            ToRole::Ipvs { works } => self.event(Event::Ipvs { works }),
            ToRole::Dump(what) => self.look(Ask::State, Look::Dump(what)),
            ToRole::Stop { keep } => {
                self.keep = keep;
                self.event(Event::Stop { keep_addresses: keep });
            }
            ToRole::Resume(Memory::Checker(_))
            | ToRole::Observed(_)
            | ToRole::Change { .. }
            | ToRole::Answer(_) => {
                control.unexpected(&message);
            }
        }
    }

    /// Whether something waits for the next tick.
    fn is_behind(&self) -> bool {
        self.snapshot_later
            || self.summary.is_some()
            || !self.waiting.is_empty()
            || self.peers.have_notices()
    }

    fn tick(&mut self, control: &mut Control) {
        self.snapshot_due |= core::mem::take(&mut self.snapshot_later);
        self.peers.send_notices();
        if let Some(summary) = self.summary.take()
            && !control.offer(&summary)
        {
            self.summary = Some(summary);
        }
    }

    /// Requests a view from the engine. Without room a question of `api` is dropped, which has a deadline; a file is
    /// written once for all requests until then.
    fn look(&mut self, ask: Ask, purpose: Look) {
        let has_room = match purpose {
            Look::Dump(_) => self.looks.values().all(|other| *other != purpose),
            Look::Answer(_) => self.looks.len() < LOOKS,
        };
        if has_room {
            self.asked += 1;
            self.looks.insert(self.asked, purpose);
            self.tell(Input::Look { request: self.asked, ask });
        }
    }

    /// A view of the engine arrived.
    fn seen(&mut self, control: &mut Control, request: u64, view: Seen) {
        match (self.looks.remove(&request), view) {
            (Some(Look::Answer(id)), Seen::State(view)) => {
                self.peers.answer(id, Told::Vrrp(Box::new(view)));
            }
            (Some(Look::Answer(id)), Seen::Peers(view)) => {
                self.peers.answer(id, Told::Peers(Box::new(view)));
            }
            (Some(Look::Answer(id)), Seen::Causes(view)) => {
                self.peers.answer(id, Told::Causes(Box::new(view)));
            }
            (Some(Look::Dump(what)), Seen::State(view)) => self.dumps.write(control, what, &view),
            (Some(Look::Dump(_)), _) | (None, _) => {}
        }
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Runner(FromRunner::Ran { run, end }) => {
                self.event(Event::Ran { run: RunId(run), end });
            }
            Said::Runner(FromRunner::Reports(reports)) => {
                reports.into_iter().for_each(|report| self.event(Event::Report(report)));
            }
            Said::Asked(id, ask) => self.look(ask, Look::Answer(id)),
            // Notices are the business of `Peers`.
            Said::Runner(FromRunner::Began { .. } | FromRunner::Delivered { .. })
            | Said::Nothing => {}
        }
    }

    /// Sets the receive queues of this thread's sockets, if the configuration requests longer ones.
    fn resize(&self, part: &VrrpPart) {
        let buffers = &part.global.settings.buffers;
        self.requests.resize(buffers.vrrp_requests, buffers.vrrp_requests_force);
        self.monitor.resize(buffers.vrrp_monitor, buffers.vrrp_monitor_force);
    }

    /// Subscribes to routes and rules only if some are configured.
    fn watch(&mut self, part: &VrrpPart) {
        let extras = || part.vrrp.instances.iter().filter_map(|i| i.extras.as_deref());
        let watch = Watch {
            routes: !part.vrrp.static_routes.is_empty() || extras().any(|e| !e.routes.is_empty()),
            rules: !part.vrrp.static_rules.is_empty() || extras().any(|e| !e.rules.is_empty()),
        };
        self.watch_routes = watch.routes;
        match self.monitor.watch(watch) {
            Ok(news) => self.snapshot_due |= news,
            Err(e) => tracing::warn!("cannot listen to changes of routes and rules: {e}"),
        }
    }

    /// Tables of an earlier process must be known before the engine decides that there are none.
    fn watch_filters(&mut self, part: &VrrpPart) {
        let mut news = self.filters.watch(filter_tables(&part.vrrp));
        // The same applies to IPVS sync daemons: a previous process may have left them running, so they are searched
        // for from then on.
        if part.vrrp.sync_daemon.is_some() {
            news |= !core::mem::replace(&mut self.watch_daemons, true);
        }
        self.listen_to_filters();
        if news {
            self.snapshot_due = false;
            self.snapshot();
        }
    }

    /// Retried with each write: a missing kernel module may be loaded later.
    fn listen_to_filters(&mut self) {
        match self.filters.listen() {
            Ok(news) => self.snapshot_due |= news,
            Err(e) => tracing::debug!("cannot listen to changes of packet filters: {e}"),
        }
    }

    /// Sends the engine an event.
    fn event(&mut self, event: Event<'static>) {
        self.tell(Input::Engine(event));
    }

    /// Sends an input to the engine's thread.
    fn tell(&mut self, input: Input) {
        self.waiting.push_back(input);
        self.pass_on();
    }

    fn pass_on(&mut self) {
        while let Some(input) = self.waiting.pop_front() {
            if let Err(input) = self.handle.send(input) {
                self.waiting.push_front(input);
                return;
            }
        }
    }

    /// Processes the engine's outputs.
    fn outputs(&mut self, control: &mut Control) {
        while let Some(output) = self.handle.receive() {
            match output {
                Output::Apply { token, ops } => self.writer.add(token, ops),
                Output::Run { run, command, timeout } => {
                    self.peers.run(run.0, &command, timeout);
                }
                Output::EndRun(run) => self.peers.ask_runner(&ToRunner::End { run: run.0 }),
                Output::Notify(notice) => {
                    self.peers.notify(*notice);
                    self.peers.send_notices();
                }
                Output::Summary(part) => {
                    let Some(mut summary) = self.summaries.join(part) else { continue };
                    summary.reports = self.host.reports_before();
                    let message = FromRole::Remember(Memory::Vrrp(summary));
                    if control.offer(&message) {
                        self.summary = None;
                    } else {
                        self.summary = Some(message);
                    }
                }
                Output::Part(part) => {
                    if let Some((request, view)) = self.views.join(*part) {
                        self.seen(control, request, view);
                    }
                }
                Output::Reloaded => {
                    self.configs.retain(|config| Arc::strong_count(config) > 1);
                    if let Some(generation) = self.applying.take() {
                        control.tell(&FromRole::Applied { generation });
                        // The memory used for decoding is not needed any more.
                        sched::trim();
                    }
                }
                Output::Stopped => self.stopped = true,
            }
        }
    }

    fn write(&mut self) {
        let Self { writer, requests, filters, waiting, .. } = self;
        writer.turn(requests, filters, |input| waiting.push_back(input));
        self.listen_to_filters();
        self.pass_on();
    }

    fn changed(&mut self, changes: &mut Vec<Change>) {
        for change in changes.drain(..) {
            let event = match change {
                Change::Link(link) => Event::Link(link),
                Change::LinkGone(index) => Event::LinkGone(index),
                Change::Object(change) => {
                    // With the last address of a network go the routes through it, of which the kernel tells nothing.
                    let gone = change.kind == ChangeKind::Gone && !change.own;
                    self.snapshot_later |=
                        gone && self.watch_routes && change.sight.as_address().is_some();
                    Event::Object(change)
                }
                Change::Lost => {
                    tracing::warn!("messages from the kernel were lost, reading everything again");
                    self.snapshot_due = true;
                    continue;
                }
            };
            if self.watch_addresses
                && let Event::Object(change) = &event
                && let Some((interface, prefix)) = change.sight.as_address()
            {
                let gone = change.kind == ChangeKind::Gone;
                let what = if gone { "removed from" } else { "added to" };
                let name = self.monitor.name(interface);
                tracing::info!("Netlink: address {prefix} {what} {name}");
            }
            self.waiting.push_back(Input::Engine(event));
        }
        self.pass_on();
    }
}

/// Runs the real-time thread. The process is useless without it.
fn real_time(driver: Driver) {
    process::block_signals();
    log::enter_real_time();
    sched::timer_slack(1);
    let end = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| driver.run()));
    if let Ok(Err(e)) = &end {
        tracing::error!("cannot wait for adverts: {e}");
    }
    if !matches!(end, Ok(Ok(()))) {
        log::flush(Duration::from_millis(200));
        std::process::exit(i32::from(u8::from(Exit::Internal)));
    }
}

/// Ready at once when there is something to write, never otherwise.
async fn writer_turn(busy: bool) {
    if busy {
        tokio::task::yield_now().await;
    } else {
        core::future::pending().await
    }
}

/// The wake-up call of the real-time thread.
struct WakeRef(Async<Arc<Wake>>);

impl WakeRef {
    fn new(handle: &Handle) -> io::Result<Self> {
        Async::read_only(handle.wake()).map(Self)
    }

    async fn called(&self) {
        let answer = self
            .0
            .read(|wake| if wake.take() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) })
            .await;
        if answer.is_err() {
            // Only while the runtime shuts down.
            core::future::pending::<()>().await;
        }
    }
}
