//! Random stories: servers die and return, configurations change, the kernel refuses and delays, other programs meddle,
//! the process crashes. At the end the kernel must contain exactly what the configuration and the servers require. The
//! seed of a story that fails is printed; it replays exactly.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use evervip::base::Name;
use evervip::base::rng::Rng;
use evervip::check::{Event, Limits};
use evervip::model::service::Forward;
use evervip::model::{Lvs, RealServer, Service, Shared};
use evervip::plan::ipvs::{Destination, DestinationKey, Destinations, Entry, Op, Settings, Table};

use super::bench::{Answer, Bench, key, lvs, real, service, sorry, tcp};

const STORIES: u64 = 200;
const FOREIGN: u8 = 99;

fn some_server(rng: &mut Rng, n: u8) -> RealServer {
    let mut server = real(n);
    server.weight = [0, 1, 1, 2, 5][rng.below(5) as usize];
    server.inhibit_on_failure = rng.chance(30);
    server.forward = if rng.chance(80) { Forward::Nat } else { Forward::Dr };
    for check in &mut server.checkers {
        check.alpha = rng.chance(30);
        check.retry = rng.below(3) as u32;
        check.delay_loop = Duration::from_secs(1 + rng.below(20));
        check.warmup = check.delay_loop;
    }
    if rng.chance(20) {
        server.checkers.push(tcp(n + 100));
    }
    if rng.chance(10) {
        server.checkers.clear();
    }
    server
}

fn some_service(rng: &mut Rng, n: u8) -> Service {
    let first = 10 * n;
    let servers: Vec<_> = (first..first + 5).filter(|_| rng.chance(70)).collect();
    let mut service = service(n, servers.into_iter().map(|n| some_server(rng, n)).collect());
    service.scheduler = Name::from(["rr", "wlc"][rng.below(2) as usize]);
    let sum: u32 = service.servers.iter().map(|server| server.weight).sum();
    service.quorum = (1 + rng.below(4) as u32).min(sum);
    service.hysteresis = rng.below(2) as u32;
    service.hysteresis = service.hysteresis.min(service.quorum.saturating_sub(1));
    if rng.chance(50) {
        // Now and then one of the servers.
        service.sorry_server = sorry(first + if rng.chance(80) { 9 } else { 0 });
        service.sorry_server.as_mut().unwrap().inhibit = rng.chance(40);
    }
    if rng.chance(30) {
        service.servers.reverse();
    }
    service
}

fn some_config(rng: &mut Rng, old: &Lvs) -> Lvs {
    let mut services: Vec<Shared<Service>> = Vec::new();
    for n in 1..5 {
        let kept = old.services.iter().find(|service| service.key == key(n));
        match (kept, rng.below(10)) {
            (Some(kept), 0..4) => services.push(kept.clone()),
            (Some(kept), 4..=8) => {
                let mut changed = kept.clone();
                let other = some_service(rng, n);
                match rng.below(4) {
                    0 => changed.servers = other.servers,
                    1 => changed.sorry_server = other.sorry_server,
                    2 => changed.scheduler = other.scheduler,
                    _ => changed.servers.iter_mut().for_each(|s| s.weight += 1),
                }
                services.push(changed);
            }
            (_, 9) => {}
            _ => services.push(some_service(rng, n).into()),
        }
    }
    if rng.chance(30) {
        services.reverse();
    }
    lvs(services)
}

/// The expected kernel entries of a service at the end, or two possibilities because of the hysteresis.
fn wanted(service: &Service, answers: &BTreeMap<std::net::SocketAddr, Answer>) -> Vec<Entry> {
    let is_good = |server: &RealServer| {
        server.checkers.iter().all(|check| {
            let evervip::model::CheckerKind::Tcp(to) = &check.kind else { return true };
            answers.get(&to.to).copied().unwrap_or(Answer::Good) == Answer::Good
        })
    };
    let weight: u32 =
        service.servers.iter().filter(|server| is_good(server)).map(|server| server.weight).sum();
    let mut states = BTreeSet::new();
    states.insert(weight > 0 && weight >= service.quorum + service.hysteresis);
    states.insert(weight > 0 && weight >= service.quorum - service.hysteresis);
    let entry = |up: bool| {
        let alone = !up && service.sorry_server.is_some();
        let mut destinations = Destinations::default();
        for server in &service.servers {
            let weight = if is_good(server) && !alone {
                Some(server.weight)
            } else {
                server.inhibit_on_failure.then_some(0)
            };
            if let Some(weight) = weight {
                destinations.insert(DestinationKey::of(server), Destination::of(server, weight));
            }
        }
        if let Some(sorry) = &service.sorry_server {
            let key = DestinationKey::of_sorry(sorry);
            if alone {
                destinations.insert(key, Destination::of_sorry(sorry, 1));
            } else if sorry.inhibit && destinations.get(&key).is_none() {
                destinations.insert(key, Destination::of_sorry(sorry, 0));
            }
        }
        Entry { settings: Settings::of(service), destinations }
    };
    states.into_iter().map(entry).collect()
}

fn some_answer(rng: &mut Rng, bench: &mut Bench, definite: bool) {
    let n = 10 + rng.below(40) as u8 + if rng.chance(10) { 100 } else { 0 };
    let answer = match rng.below(if definite { 3 } else { 4 }) {
        0 => Answer::Good,
        1 => Answer::Refuses,
        2 => Answer::Silent,
        _ => Answer::Untried,
    };
    bench.answer(&format!("10.0.0.{n}:80"), answer);
}

/// Another program changes something of ours.
fn meddle(rng: &mut Rng, kernel: &mut Table) {
    let Some(service) = kernel.services.keys().nth(rng.below(4) as usize).copied() else { return };
    if service == key(FOREIGN) {
        return;
    }
    let entry = &kernel.services[&service];
    let server = entry.destinations.iter().nth(rng.below(3) as usize).map(|(key, _)| key);
    let op = match (rng.below(3), server) {
        (0, Some(destination)) => Op::DeleteDestination { service, destination },
        (1, _) => Op::DeleteService { service },
        _ => return,
    };
    kernel.apply(&op);
}

fn story(seed: u64) {
    let mut rng = Rng::new(seed);
    let limits = Limits {
        probes: 1 + rng.below(50) as usize,
        writes: 1 + rng.below(6) as usize,
        ..Limits::default()
    };
    let mut bench = Bench::with(seed, limits);
    let foreign = Entry {
        settings: Settings::of(&service(FOREIGN, vec![])),
        destinations: [(super::bench::destination(1), Destination::of(&real(1), 7))]
            .into_iter()
            .collect(),
    };
    bench.kernel.services.insert(key(FOREIGN), foreign.clone());
    // The operations that the kernel refuses now: kinds of operations on servers, by number.
    let refusals: Rc<RefCell<BTreeSet<(u8, u8)>>> = Rc::default();
    let active = Rc::clone(&refusals);
    bench.refuse = Box::new(move |op| {
        let kind = match op {
            Op::AddService { .. } => 0,
            Op::SetService { .. } | Op::SetDestination { .. } => 1,
            Op::AddDestination { .. } => 2,
            _ => 3,
        };
        let number = match op.destination().map(|d| d.address) {
            Some(std::net::IpAddr::V4(address)) => address.octets()[3] % 4,
            _ => 0,
        };
        active.borrow().contains(&(kind, number)).then_some(22)
    });
    let meddles = rng.chance(30);
    let refuses = rng.chance(50);
    let (mut meddled, mut troubled) = (false, false);
    let mut config = some_config(&mut rng, &Lvs::default());
    bench.reload(&config);
    for _ in 0..rng.below(60) {
        match rng.below(20) {
            0..7 => some_answer(&mut rng, &mut bench, false),
            7..12 => bench.run(Duration::from_millis(rng.below(20_000))),
            12 | 13 => {
                config = some_config(&mut rng, &config);
                bench.reload(&config);
            }
            14 if refuses => {
                troubled = true;
                let refusal = (rng.below(4) as u8, rng.below(4) as u8);
                refusals.borrow_mut().insert(refusal);
            }
            15 => refusals.borrow_mut().clear(),
            16 => bench.hold = true,
            17 => bench.release(),
            18 if rng.chance(30) => {
                // Requests that were sent to the kernel are still carried out.
                bench.release();
                let summary = bench.crash(rng.next_u64());
                if rng.chance(50) {
                    bench.event(Event::Resume(summary));
                }
                bench.reload(&config);
            }
            19 if rng.chance(20) => {
                bench.now = bench.now + Duration::from_secs(rng.below(100));
                bench.event(Event::Timer);
            }
            _ if meddles => {
                meddle(&mut rng, &mut bench.kernel);
                meddled = true;
            }
            _ => {}
        }
        check_now(&bench, meddled || troubled, &foreign, seed);
        bench.forget();
    }
    // The end: the kernel refuses nothing, and the state of every server is known.
    refusals.borrow_mut().clear();
    bench.release();
    for n in 10..=255u8 {
        let address = format!("10.0.0.{n}:80");
        if bench.answers.get(&address.parse().unwrap()) == Some(&Answer::Untried) {
            bench.answer(&address, Answer::Refuses);
        }
    }
    bench.run(Duration::from_secs(400));
    if meddled {
        // Services without changes were not compared. A restart compares everything.
        let summary = bench.crash(1);
        bench.event(Event::Resume(summary));
        bench.reload(&config);
        bench.run(Duration::from_secs(400));
    }
    for service in &config.services {
        let wanted = wanted(service, &bench.answers);
        let found = &bench.kernel.services[&service.key];
        assert!(
            wanted.contains(found),
            "seed {seed}: {}\nfound {found:#?}\nwanted one of {wanted:#?}\n{:#?}",
            service.key,
            bench.engine.view(bench.now)
        );
    }
    let keys = config.services.iter().map(|service| service.key);
    let ours: BTreeSet<_> = keys.chain([key(FOREIGN)]).collect();
    let there: BTreeSet<_> = bench.kernel.services.keys().copied().collect();
    assert_eq!(there, ours, "seed {seed}: services");
    // After that, the engine writes nothing more.
    bench.forget();
    bench.run(Duration::from_secs(300));
    let rest = bench.took();
    assert_eq!(rest, Vec::<String>::new(), "seed {seed}: it does not come to rest");
    bench.stop(false);
    assert!(bench.done, "seed {seed}: it does not stop");
    assert_eq!(bench.kernel.services.len(), 1, "seed {seed}: something is left");
    assert_eq!(bench.kernel.services[&key(FOREIGN)], foreign, "seed {seed}");
}

/// Invariants at any time.
fn check_now(bench: &Bench, troubled: bool, foreign: &Entry, seed: u64) {
    assert_eq!(bench.kernel.services.get(&key(FOREIGN)), Some(foreign), "seed {seed}");
    for service in bench.kernel.services.keys().filter(|service| **service != key(FOREIGN)) {
        assert!(bench.owned.contains(service), "seed {seed}: {service} is not recorded");
    }
    if troubled || bench.hold {
        return;
    }
    for line in &bench.trace {
        assert!(!line.contains("->"), "seed {seed}: {line}");
    }
    for service in &bench.engine.view(bench.now).services {
        let entry = &bench.kernel.services[&service.key];
        for server in service.servers.iter().filter(|server| server.up && !service.sorry) {
            let destination = DestinationKey { address: server.address, port: server.port };
            let found = entry.destinations.get(&destination).map(|d| d.weight);
            assert_eq!(found, Some(server.weight), "seed {seed}: {service:#?}");
        }
        let counted: u32 =
            service.servers.iter().filter(|server| server.up).map(|server| server.weight).sum();
        assert_eq!(u64::from(counted), service.weight, "seed {seed}");
    }
}

#[test]
fn stories_end_well() {
    for seed in 0..STORIES {
        story(seed);
    }
}
