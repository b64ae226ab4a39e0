use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::Name;
use crate::model::checker::{CheckerKind, Connection};
use crate::model::service::{Forward, Protocol};
use crate::model::{Checker, RealServer};
use crate::plan::Outcome;
use crate::plan::ipvs::Op;

fn key(n: u8) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, endpoint: ([10, 0, 0, n], 80).into() }
}

fn config() -> Arc<Lvs> {
    let server = |n| RealServer {
        address: [10, 0, 1, n].into(),
        port: 80,
        forward: Forward::Nat,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        inhibit_on_failure: false,
        notify_up: None,
        notify_down: None,
        smtp_alert: false,
        checkers: vec![Checker {
            kind: CheckerKind::Tcp(Connection {
                to: ([10, 0, 1, n], 80).into(),
                from: None,
                interface: None,
                timeout: Duration::from_secs(1),
                mark: 0,
            }),
            delay_loop: Duration::from_secs(2),
            retry: 0,
            delay_before_retry: Duration::from_secs(1),
            warmup: Duration::ZERO,
            alpha: false,
            log_all_failures: false,
        }],
        extras: None,
    };
    let service = |n| model::Service {
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
        servers: vec![server(n)],
        extras: None,
    };
    Arc::new(Lvs { services: vec![service(1).into(), service(2).into()], ..Lvs::default() })
}

/// The engine with a kernel that accepts everything and servers that refuse every connection.
struct Bench {
    engine: Engine,
    kernel: Table,
    now: Instant,
    done: bool,
}

impl Bench {
    fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut out = Actions::new();
            self.engine.handle(self.now, event, &mut out);
            for action in out.drain() {
                match action {
                    Action::Read { services } => {
                        events.push(Event::Table { services, result: Ok(self.kernel.clone()) });
                    }
                    Action::Apply { token, ops } => {
                        for (item, op) in ops.iter().enumerate() {
                            let (item, outcome) = (number(item), self.kernel.apply(op));
                            assert_eq!(outcome, Outcome::Done, "{op:?}");
                            events.insert(0, Event::Applied { token, item, outcome });
                        }
                    }
                    Action::StartProbe { probe, .. } => {
                        let verdict = probe::unconnected(probe::Step::Connect, 111);
                        events.push(Event::Probed { probe, verdict });
                    }
                    Action::Done => self.done = true,
                    _ => {}
                }
            }
        }
    }

    fn seconds(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.engine.deadline().filter(|due| *due <= end) {
            self.now = due;
            self.event(Event::Timer);
        }
        self.now = end;
    }

    fn servers(&self, n: u8) -> usize {
        self.kernel.services[&key(n)].destinations.len()
    }
}

#[test]
fn a_step_that_fails_ends_one_service_and_no_other() {
    let mut bench = Bench {
        engine: Engine::new(1, Limits::default()),
        kernel: Table::default(),
        now: Instant::ZERO,
        done: false,
    };
    bench.event(Event::Reload(config()));
    assert_eq!((bench.servers(1), bench.servers(2)), (1, 1));
    bench.engine.panic_in = Some(key(1));
    bench.seconds(10);
    assert_eq!((bench.servers(1), bench.servers(2)), (1, 0), "the first stays as it was");
    let view = bench.engine.view(bench.now);
    assert!(view.services[0].quarantined && !view.services[1].quarantined);
    assert_eq!(view.probes_running, 0);
    // A reload creates it again, and it finds its state in the kernel.
    bench.event(Event::Reload(config()));
    bench.seconds(10);
    assert!(!bench.engine.view(bench.now).services[0].quarantined);
    assert_eq!((bench.servers(1), bench.servers(2)), (0, 0));
    bench.engine.panic_in = Some(key(2));
    bench.seconds(10);
    bench.event(Event::Stop { keep_entries: false });
    assert!(bench.done, "a service in quarantine does not keep the process from leaving");
    assert_eq!(bench.kernel.services.len(), 0);
}

/// A service that the kernel refuses to remove at a stop stays recorded, for the next process to remove.
#[test]
fn a_refused_removal_at_a_stop_stays_on_record() {
    let at = Instant::from_nanos(1_000_000_000);
    for flush in [false, true] {
        let mut engine = Engine::new(1, Limits::default());
        let mut out = Actions::new();
        let mut lvs = Lvs::clone(&config());
        lvs.flush_on_stop = flush;
        engine.handle(at, Event::Reload(Arc::new(lvs)), &mut out);
        let services: Arc<[ServiceKey]> = [key(1), key(2)].into();
        engine.handle(at, Event::Table { services, result: Ok(Table::default()) }, &mut out);
        let mut recorded = None;
        let mut stopped = false;
        loop {
            let actions: Vec<Action> = out.drain().collect();
            if actions.is_empty() && core::mem::replace(&mut stopped, true) {
                break;
            } else if actions.is_empty() {
                engine.handle(at, Event::Stop { keep_entries: false }, &mut out);
            }
            for action in actions {
                match action {
                    Action::Own(services) => recorded = Some(services),
                    Action::Apply { token, ops } => {
                        for (item, op) in (0u32..).zip(ops.iter()) {
                            let kept = Op::DeleteService { service: key(2) };
                            let outcome = if *op == kept || *op == Op::Flush {
                                Outcome::Refused(16)
                            } else {
                                Outcome::Done
                            };
                            engine.handle(at, Event::Applied { token, item, outcome }, &mut out);
                        }
                    }
                    _ => {}
                }
            }
        }
        let left: &[ServiceKey] = if flush { &[key(1), key(2)] } else { &[key(2)] };
        assert_eq!(recorded.as_deref(), Some(left), "flush {flush}");
    }
}

/// The list of our services is written to a file: it is reported again when it changes, not for a changed weight.
#[test]
fn the_list_of_ours_is_told_when_it_changes() {
    let at = Instant::from_nanos(1_000_000_000);
    let mut engine = Engine::new(1, Limits::default());
    let mut kernel = Table::default();
    let mut told = Vec::new();
    let mut step = |event: Event| {
        let mut events = vec![event];
        let mut lists = Vec::new();
        while let Some(event) = events.pop() {
            let mut out = Actions::new();
            engine.handle(at, event, &mut out);
            for action in out.drain() {
                match action {
                    Action::Own(services) => lists.push(services.len()),
                    Action::Read { services } => {
                        events.push(Event::Table { services, result: Ok(kernel.clone()) });
                    }
                    Action::Apply { token, ops } => {
                        for (item, op) in (0u32..).zip(ops.iter()) {
                            let outcome = kernel.apply(op);
                            events.insert(0, Event::Applied { token, item, outcome });
                        }
                    }
                    _ => {}
                }
            }
        }
        told.push(lists);
    };
    let both = Lvs::clone(&config());
    let (mut heavier, mut one) = (both.clone(), both.clone());
    heavier.services[1].servers[0].weight = 7;
    one.services.pop();
    for lvs in [&both, &both, &heavier, &one, &one, &one, &both] {
        step(Event::Reload(Arc::new(lvs.clone())));
    }
    // With the services about to be removed, and without them after that.
    let wanted: [&[usize]; 7] = [&[2], &[], &[], &[2, 1], &[], &[], &[2]];
    assert_eq!(told, wanted);
}

/// Two owners of a service of the kernel would undo each other's operations. The configuration language prevents them;
/// whatever else gives the engine a configuration, the first one gets the servers of both.
#[test]
fn a_key_with_two_owners_becomes_one_service() {
    let mut bench = Bench {
        engine: Engine::new(1, Limits::default()),
        kernel: Table::default(),
        now: Instant::ZERO,
        done: false,
    };
    let mut twice = Lvs::clone(&config());
    twice.services[1].key = key(1);
    twice.services[1].scheduler = "wlc".into();
    for reload in [false, true] {
        if reload {
            bench.event(Event::Reload(config()));
            assert_eq!((bench.servers(1), bench.servers(2)), (1, 1));
        }
        bench.event(Event::Reload(Arc::new(twice.clone())));
        assert_eq!(bench.kernel.services.len(), 1, "reload {reload}");
        assert_eq!(bench.servers(1), 2, "the servers of both, reload {reload}");
        assert_eq!(&*bench.kernel.services[&key(1)].settings.scheduler, "rr", "those of the first");
        let view = bench.engine.view(bench.now);
        assert_eq!(view.services.len(), 1);
        assert_eq!(view.services[0].weight, 2);
    }
    bench.event(Event::Stop { keep_entries: false });
    assert!(bench.done);
    assert_eq!(bench.kernel.services.len(), 0);
}
