//! A test bench for the check engine: a virtual clock, a kernel's table, servers that answer or do not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use evervip::base::{Instant, Name};
use evervip::check::probe::http::Fault;
use evervip::check::probe::{Closing, Failure, ProbeId, Request, Step, Verdict};
use evervip::check::{Action, Actions, Engine, Event, Limits};
use evervip::model::checker::{Checker, CheckerKind, Connection};
use evervip::model::service::{Forward, Protocol, SorryServer};
use evervip::model::{Command, Lvs, RealServer, Service, ServiceKey, Shared};
use evervip::plan::Outcome;
use evervip::plan::ipvs::{Destination, DestinationKey, Op, Table};
use evervip::plan::listing::Listing;
use evervip::status::Notice;
use evervip::status::check::Summary;

use super::lines;

/// Which operations are refused, with which error number.
pub type Refuse = Box<dyn Fn(&Op) -> Option<i32>>;

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Good,
    Refuses,
    Silent,
    /// The probe cannot be made.
    Untried,
}

pub struct Bench {
    pub engine: Engine,
    pub now: Instant,
    pub kernel: Table,
    /// No IPVS: reading the table gives this error.
    pub broken: Option<i32>,
    /// Servers of which the kernel tells that they are on this machine, and not how they are reached.
    pub local: Vec<DestinationKey>,
    /// The kernel gives no list of services.
    pub no_list: bool,
    /// Operations that the kernel refuses.
    pub refuse: Refuse,
    pub answers: BTreeMap<SocketAddr, Answer>,
    /// Paths of pages that are answered with status 503.
    pub bad_pages: BTreeSet<String>,
    /// All actions, one line each: operations, notices, attempts, with times before them if requested.
    pub trace: Vec<String>,
    pub log: Log,
    pub open: BTreeMap<ProbeId, Request>,
    pub owned: Vec<ServiceKey>,
    pub most_open: usize,
    /// How to close the connections of attempts that are not answered at once.
    pub closings: Vec<Closing>,
    pub done: bool,
    /// Attempts are written into the trace.
    pub trace_probes: bool,
    /// Answers of the kernel that are held back.
    pub hold: bool,
    /// Answers to operations are held back.
    pub hold_writes: bool,
    pub held: Vec<Action>,
    tokens: BTreeSet<u64>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(1, Limits::default())
    }

    pub fn with(seed: u64, limits: Limits) -> Self {
        Self {
            engine: Engine::new(seed, limits),
            now: Instant::from_nanos(1_000_000_000_000),
            kernel: Table::default(),
            broken: None,
            local: Vec::new(),
            no_list: false,
            refuse: Box::new(|_| None),
            answers: BTreeMap::new(),
            bad_pages: BTreeSet::new(),
            trace: Vec::new(),
            log: Log::default(),
            open: BTreeMap::new(),
            owned: Vec::new(),
            most_open: 0,
            closings: Vec::new(),
            done: false,
            trace_probes: false,
            hold: false,
            hold_writes: false,
            held: Vec::new(),
            tokens: BTreeSet::new(),
        }
    }

    /// A bench that runs `lvs` and has passed all first checks.
    pub fn settled(lvs: &Lvs) -> Self {
        let mut bench = Self::new();
        bench.reload(lvs);
        bench.run(Duration::from_secs(120));
        bench.forget();
        bench
    }

    pub fn answer(&mut self, server: &str, answer: Answer) {
        self.answers.insert(server.parse().unwrap(), answer);
    }

    pub fn reload(&mut self, lvs: &Lvs) {
        self.event(Event::Reload(Arc::new(lvs.clone())));
    }

    pub fn stop(&mut self, keep_entries: bool) {
        self.event(Event::Stop { keep_entries });
    }

    /// A process that ended unexpectedly, and the next one. Returns the summary stored by the supervisor.
    pub fn crash(&mut self, seed: u64) -> Summary {
        let summary = self.engine.summary();
        self.engine = Engine::new(seed, Limits::default());
        self.open.clear();
        self.held.clear();
        self.tokens.clear();
        self.event(Event::Owned(self.owned.clone()));
        self.forget();
        summary
    }

    pub fn event(&mut self, event: Event) {
        self.events(vec![event]);
    }

    /// Events and their consequences: the kernel answers in order.
    fn events(&mut self, mut events: Vec<Event>) {
        while !events.is_empty() {
            let mut actions = Actions::new();
            for event in events.drain(..) {
                let (engine, now) = (&mut self.engine, self.now);
                self.log.during(|| engine.handle(now, event, &mut actions));
            }
            for action in actions.drain() {
                self.act(action, &mut events);
            }
        }
    }

    /// What the kernel tells of these services.
    fn read(&self, services: &[ServiceKey]) -> Table {
        let there = |key: &ServiceKey| Some((*key, self.kernel.services.get(key)?.clone()));
        let mut table =
            Table { services: services.iter().filter_map(there).collect(), ..Table::default() };
        for local in &self.local {
            for (key, entry) in &mut table.services {
                let Some(found) = entry.destinations.get(local).copied() else { continue };
                let told = Destination { forward: Forward::Dr, ..found };
                entry.destinations.insert(*local, told);
                table.local.insert((*key, *local));
            }
        }
        table
    }

    /// Releases the held answers of the kernel.
    pub fn release(&mut self) {
        (self.hold, self.hold_writes) = (false, false);
        let mut events = Vec::new();
        for action in std::mem::take(&mut self.held) {
            self.act(action, &mut events);
        }
        self.events(events);
    }

    /// Lets time pass, timers fire on time.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.engine.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.event(Event::Timer);
        }
        self.now = end;
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// The trace since the last call.
    pub fn took(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    pub fn forget(&mut self) {
        self.took();
        self.log.take();
    }

    pub fn expect(&mut self, lines: &[&str]) {
        let took = self.took();
        assert_eq!(took, lines, "\n{}", took.join("\n"));
    }

    /// The kernel's entry of the only service, as `71*1 72*0`.
    pub fn pool(&self) -> String {
        let entry = self.kernel.services.values().next().expect("the service is in the kernel");
        let mut text = String::new();
        for (key, destination) in entry.destinations.iter() {
            let IpAddr::V4(address) = key.address else { panic!("an IPv6 server") };
            write!(text, " {}*{}", address.octets()[3], destination.weight).unwrap();
        }
        text.trim_start().into()
    }

    /// Ends an attempt that is under way.
    pub fn end_probe(&mut self, server: &str, verdict: Verdict) {
        let server: SocketAddr = server.parse().unwrap();
        let probe = self
            .open
            .iter()
            .find(|(_, request)| target(request) == server)
            .map(|(probe, _)| *probe)
            .expect("an attempt is under way");
        self.open.remove(&probe);
        self.event(Event::Probed { probe, verdict });
    }

    fn act(&mut self, action: Action, events: &mut Vec<Event>) {
        match action {
            Action::Read { .. } | Action::List | Action::Apply { .. } if self.hold => {
                self.held.push(action)
            }
            Action::Apply { .. } if self.hold_writes => self.held.push(action),
            Action::Read { services } => {
                self.trace.push("read".into());
                let result = match self.broken {
                    Some(errno) => Err(errno),
                    None => Ok(self.read(&services)),
                };
                events.push(Event::Table { services, result });
            }
            Action::List => {
                self.trace.push("list".into());
                let result = if self.no_list { Err(2) } else { Ok(Listing::of(&self.kernel)) };
                events.push(Event::Listed(result));
            }
            Action::Own(services) => self.owned = services.to_vec(),
            Action::Apply { token, ops } => {
                assert!(self.tokens.insert(token.0) || token.0 == 0, "a token used twice");
                assert!(!ops.is_empty(), "an empty list of operations");
                for (item, op) in ops.iter().enumerate() {
                    if let Some(key) = op.service() {
                        assert!(self.owned.contains(&key), "{key} was not recorded before");
                    }
                    let outcome = match (self.refuse)(op) {
                        Some(errno) => Outcome::Refused(errno),
                        None => self.kernel.apply(op),
                    };
                    self.trace.push(match outcome {
                        Outcome::Done => words(op),
                        other => format!("{} -> {other:?}", words(op)),
                    });
                    let item = u32::try_from(item).unwrap();
                    events.push(Event::Applied { token, item, outcome });
                }
            }
            Action::StartProbe { probe, request, closing } => {
                let server = target(&request);
                if self.trace_probes {
                    self.trace.push(match &request {
                        Request::Http(page) => format!("try {server} {}", page.url.path),
                        _ => format!("try {server}"),
                    });
                }
                let errno = 111;
                let verdict = match self.answers.get(&server).copied().unwrap_or(Answer::Good) {
                    Answer::Good => Some(match &request {
                        Request::Http(page) if self.bad_pages.contains(&*page.url.path) => {
                            let (path, fault) = (page.url.path.clone(), Fault::Status(503));
                            Verdict::Failure(Failure::Page { path, fault })
                        }
                        _ => Verdict::SUCCESS,
                    }),
                    Answer::Refuses => Some(Verdict::Failure(Failure::Connection(errno))),
                    Answer::Untried => Some(Verdict::Untried { step: Step::Source, errno: 99 }),
                    Answer::Silent => None,
                };
                match verdict {
                    Some(verdict) => events.push(Event::Probed { probe, verdict }),
                    None => {
                        self.closings.push(closing);
                        assert!(self.open.insert(probe, request).is_none(), "used twice");
                    }
                }
                self.most_open = self.most_open.max(self.open.len());
            }
            Action::CancelProbe { probe } => {
                assert!(self.open.remove(&probe).is_some(), "{probe:?} is not under way");
                if self.trace_probes {
                    self.trace.push("cancel".into());
                }
            }
            Action::Notify(notice) => self.trace.push(notice_words(&notice)),
            Action::Report => {}
            Action::Done => {
                self.trace.push("done".into());
                self.done = true;
            }
        }
    }
}

/// The target of a check.
fn target(request: &Request) -> SocketAddr {
    match request {
        // Programs are distinguished by their timeout: 71 s is that of 10.0.0.71:80.
        Request::Misc(check) => SocketAddr::new(at(check.timeout.as_secs() as u8), 80),
        other => other.connection().expect("it connects").to,
    }
}

fn short(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { endpoint, .. } => endpoint.to_string(),
        ServiceKey::Mark { mark, .. } => format!("fwm{mark}"),
    }
}

fn words(op: &Op) -> String {
    let how = |d: &Destination| {
        let forward = match d.forward {
            Forward::Nat => "",
            Forward::Dr => " dr",
            Forward::Tun(_) => " tun",
        };
        let limit = match d.upper_threshold {
            0 => String::new(),
            limit => format!(" limit {limit}"),
        };
        format!("*{}{forward}{limit}", d.weight)
    };
    match op {
        Op::Flush => "flush".into(),
        Op::AddService { service, settings } => {
            format!("+service {} {}", short(service), settings.scheduler)
        }
        Op::SetService { service, settings } => {
            format!("=service {} {}", short(service), settings.scheduler)
        }
        Op::DeleteService { service } => format!("-service {}", short(service)),
        Op::AddDestination { destination, settings, .. } => {
            format!("+{destination}{}", how(settings))
        }
        Op::SetDestination { destination, settings, .. } => {
            format!("={destination}{}", how(settings))
        }
        Op::DeleteDestination { destination, .. } => format!("-{destination}"),
    }
}

/// `RS [10.0.0.71]:tcp:80 [10.0.0.1]:tcp:80 DOWN | /bin/down | mail: SUBJECT / BODY`
fn notice_words(notice: &Notice) -> String {
    let mut text = notice.line.to_string();
    for command in &notice.commands {
        write!(text, " | {}", command.display()).unwrap();
    }
    if let Some(mail) = &notice.mail {
        write!(text, " | mail: {} / {}", mail.subject, mail.body).unwrap();
    }
    text
}

// ---- configurations ----

pub fn at(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))
}

pub fn key(n: u8) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, endpoint: SocketAddr::new(at(n), 80) }
}

pub fn destination(n: u8) -> DestinationKey {
    DestinationKey { address: at(n), port: 80 }
}

pub fn command(path: &str) -> Option<Command> {
    Some(Command { words: vec![path.as_bytes().into()], through_shell: false, user: None })
}

/// A check with keepalived's defaults, tried every 10 s.
pub fn tcp(n: u8) -> Checker {
    Checker {
        kind: CheckerKind::Tcp(Connection {
            to: SocketAddr::new(at(n), 80),
            from: None,
            interface: None,
            timeout: Duration::from_secs(5),
            mark: 0,
        }),
        delay_loop: Duration::from_secs(10),
        retry: 1,
        delay_before_retry: Duration::from_secs(1),
        warmup: Duration::from_secs(10),
        alpha: false,
        log_all_failures: false,
    }
}

/// 10.0.0.`n` port 80 by NAT with one check.
pub fn real(n: u8) -> RealServer {
    RealServer {
        address: at(n),
        port: 80,
        forward: Forward::Nat,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        inhibit_on_failure: false,
        notify_up: None,
        notify_down: None,
        smtp_alert: false,
        checkers: vec![tcp(n)],
        extras: None,
    }
}

/// 10.0.0.`n` port 80 with these servers.
pub fn service(n: u8, servers: Vec<RealServer>) -> Service {
    Service {
        key: key(n),
        scheduler: Name::from("rr"),
        flags: 0,
        persistence: None,
        quorum: 1,
        hysteresis: 0,
        quorum_up: None,
        quorum_down: None,
        sorry_server: None,
        omega: false,
        smtp_alert: false,
        notify_fifo: false,
        servers,
        extras: None,
    }
}

pub fn sorry(n: u8) -> Option<SorryServer> {
    Some(SorryServer { address: at(n), port: 80, forward: Forward::Nat, inhibit: false })
}

pub fn lvs(services: Vec<impl Into<Shared<Service>>>) -> Lvs {
    Lvs { services: services.into_iter().map(Into::into).collect(), ..Lvs::default() }
}

/// One service 10.0.0.1:80 with the servers .71 and .72.
pub fn pair() -> Lvs {
    lvs(vec![service(1, vec![real(71), real(72)])])
}

/// The pair, changed.
pub fn pair_with(change: impl FnOnce(&mut Service)) -> Lvs {
    let mut lvs = pair();
    change(&mut lvs.services[0]);
    lvs
}

// ---- log lines ----

/// The log lines of the engine.
#[derive(Default)]
pub struct Log {
    lines: Vec<String>,
}

impl Log {
    fn during(&mut self, step: impl FnOnce()) {
        let ((), lines) = lines::during(step);
        self.lines.extend(lines.into_iter().map(|line| line.text));
    }

    /// Lines since the last call.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    pub fn expect(&mut self, lines: &[&str]) {
        let took = self.take();
        assert_eq!(took, lines, "\n{}", took.join("\n"));
    }
}
