//! The check engine: any order of events, and a small world to run it in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use evervip::base::Instant;
use evervip::check::probe::{Failure, ProbeId, Step, Verdict, unconnected};
use evervip::check::{Action, Actions, CheckerSlot, Engine, Event, Limits};
use evervip::model::{Lvs, ServiceKey, sample};
use evervip::plan::ipvs::{Op, Table};
use evervip::plan::listing::Listing;
use evervip::plan::{Outcome, Token};
use evervip::status::check::Summary;

use super::input::Input;

/// More actions than any event of such a small configuration can cause.
const MOST: usize = 1000;

/// Each event of some octets: kind, time and outcome.
pub fn events(data: &[u8]) {
    let mut input = Input(data.get(..4000).unwrap_or(data));
    let mut now = Instant::from_nanos(1_000_000_000);
    let limits = Limits {
        probes: 1 + usize::from(input.below(4)),
        writes: 1 + usize::from(input.below(4)),
        read: 1,
    };
    let mut engine = Engine::new(u64::from(input.octet()), limits);
    let mut asked: Vec<(Token, u32)> = Vec::new();
    let mut reads: Vec<Arc<[ServiceKey]>> = Vec::new();
    let mut lists = 0;
    let (mut probes, mut under_way) = (Vec::new(), BTreeSet::new());
    let mut kernel = Table::default();
    let mut out = Actions::new();
    while let Some(kind) = input.next() {
        now = now + Duration::from_millis(u64::from(input.octet()) * 40);
        let number = input.octet();
        let outcome = match number % 3 {
            0 => Outcome::Done,
            1 => Outcome::Already,
            _ => Outcome::Refused(i32::from(number)),
        };
        let event = match kind % 12 {
            0..=3 => Event::Timer,
            4 => Event::Reload(Arc::new(configuration(number, input.octet()))),
            5 => match reads.pop() {
                Some(services) => Event::Table {
                    services,
                    result: match number % 4 {
                        0 => Err(i32::from(number)),
                        _ => Ok(kernel.clone()),
                    },
                },
                None if lists > 0 => {
                    lists -= 1;
                    Event::Listed(if number % 4 == 0 {
                        Err(i32::from(number))
                    } else {
                        Ok(Listing::of(&kernel))
                    })
                }
                None => Event::Timer,
            },
            6 | 7 => match asked.pop() {
                Some((token, item)) => Event::Applied { token, item, outcome },
                None => Event::Applied { token: Token(u64::from(number)), item: 0, outcome },
            },
            8 | 9 => {
                let probe = probes
                    .pop()
                    .unwrap_or(ProbeId { checker: CheckerSlot(u32::from(number)), serial: 0 });
                under_way.remove(&probe);
                Event::Probed { probe, verdict: verdict(number) }
            }
            10 => Event::Owned(kernel.services.keys().copied().collect()),
            _ if number == 255 => Event::Stop { keep_entries: kind >= 128 },
            _ => Event::Resume(engine.summary()),
        };
        let was_timer = matches!(event, Event::Timer);
        engine.handle(now, event, &mut out);
        let actions: Vec<Action> = out.drain().collect();
        assert!(actions.len() < MOST, "{} actions for one event", actions.len());
        let late = engine.deadline().filter(|due| was_timer && *due <= now);
        assert_eq!(late, None, "a deadline that does not move on");
        for action in &actions {
            match action {
                Action::Apply { token, ops } => {
                    for (item, op) in (0..).zip(ops.iter()) {
                        if item % 2 == 0 {
                            kernel.apply(op);
                        }
                        asked.push((*token, item));
                    }
                }
                Action::Read { services } => reads.push(Arc::clone(services)),
                Action::List => lists += 1,
                Action::StartProbe { probe, .. } => {
                    assert!(under_way.insert(*probe), "{probe:?} is used twice");
                    probes.push(*probe);
                }
                Action::CancelProbe { probe } => {
                    assert!(under_way.remove(probe), "{probe:?} is not under way");
                    probes.retain(|p| p != probe);
                }
                _ => {}
            }
        }
        assert!(under_way.len() <= limits.probes, "more attempts than allowed");
        let view = engine.view(now);
        assert!(!view.services.iter().any(|service| service.quarantined), "a step panicked");
    }
}

fn verdict(number: u8) -> Verdict {
    match number % 5 {
        0 | 1 => Verdict::SUCCESS,
        2 => Verdict::Failure(Failure::Timeout),
        3 => unconnected(Step::Connect, i32::from(number)),
        _ => unconnected(Step::Source, i32::from(number)),
    }
}

/// One of a few configurations with something of everything.
fn configuration(number: u8, more: u8) -> Lvs {
    let mut lvs = sample::balanced();
    let mut service = lvs.services.remove(0).into_inner();
    service.quorum = 1 + u32::from(number & 1);
    service.hysteresis = u32::from(number & 1);
    service.omega = number & 2 != 0;
    for (n, server) in service.servers.iter_mut().enumerate() {
        server.weight = u32::from(more >> n & 3);
        server.inhibit_on_failure = number & 4 != 0;
        for check in &mut server.checkers {
            check.alpha = number & 8 != 0;
            check.retry = u32::from(more & 3);
            check.delay_loop = Duration::from_millis(u64::from(more & 31) * 100 + 1);
        }
        if more & 128 != 0 {
            server.checkers.clear();
        }
    }
    if number & 16 != 0 {
        service.servers.reverse();
    }
    if number & 32 != 0 {
        service.servers.pop();
    }
    let mut other = service.clone();
    let family = evervip::base::Family::V4;
    other.key = ServiceKey::Mark { mark: 1 + u32::from(number & 1), family };
    lvs.services = match number >> 6 {
        0 => vec![service.into()],
        1 => vec![service.into(), other.into()],
        2 => vec![other.into(), service.into()],
        _ => Vec::new(),
    };
    lvs.flush = more & 64 != 0;
    lvs
}

/// An engine, its kernel, and servers that are all good.
pub struct World {
    engine: Engine,
    now: Instant,
    /// The kernel's table.
    pub kernel: Table,
    /// Operations since it was last emptied.
    pub ops: Vec<Op>,
}

impl World {
    /// An engine without a configuration.
    pub fn new() -> Self {
        Self {
            engine: Engine::new(1, Limits::default()),
            now: Instant::from_nanos(1_000_000_000),
            kernel: Table::default(),
            ops: Vec::new(),
        }
    }

    /// Resumes from the summary of an earlier process.
    pub fn resume(&mut self, summary: Summary) {
        self.event(Event::Resume(summary));
    }

    /// Applies a configuration and lets some time pass.
    pub fn run(&mut self, lvs: &Lvs) {
        self.event(Event::Reload(Arc::new(lvs.clone())));
        for _ in 0..300 {
            let Some(due) = self.engine.deadline() else { break };
            self.now = self.now.max(due);
            self.event(Event::Timer);
        }
    }

    fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while !events.is_empty() {
            let mut actions = Actions::new();
            for event in events.drain(..) {
                self.engine.handle(self.now, event, &mut actions);
            }
            for action in actions.drain() {
                match action {
                    Action::Read { services } => {
                        let there =
                            |key: &ServiceKey| Some((*key, self.kernel.services.get(key)?.clone()));
                        let found = services.iter().filter_map(there).collect();
                        let table = Table { services: found, ..Table::default() };
                        events.push(Event::Table { services, result: Ok(table) });
                    }
                    Action::List => events.push(Event::Listed(Ok(Listing::of(&self.kernel)))),
                    Action::Apply { token, ops } => {
                        for (item, op) in (0..).zip(ops.iter()) {
                            let outcome = self.kernel.apply(op);
                            events.push(Event::Applied { token, item, outcome });
                        }
                        self.ops.extend(ops.iter().cloned());
                    }
                    Action::StartProbe { probe, .. } => {
                        events.push(Event::Probed { probe, verdict: Verdict::SUCCESS });
                    }
                    _ => {}
                }
            }
        }
    }
}
