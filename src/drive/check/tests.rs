use std::net::TcpListener;

use super::*;
use crate::base::Name;
use crate::model::checker::{CheckerKind, Connection};
use crate::model::service::{Forward, Protocol};
use crate::model::{Checker, RealServer, Service};
use crate::status::check::Kernel;
use crate::sys::testing;

fn config(server: std::net::SocketAddr) -> Arc<Lvs> {
    let key = ServiceKey::Address {
        protocol: Protocol::Tcp,
        endpoint: "10.255.255.1:80".parse().unwrap(),
    };
    let server = RealServer {
        address: server.ip(),
        port: server.port(),
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
                to: server,
                from: None,
                interface: None,
                timeout: Duration::from_secs(5),
                mark: 0,
            }),
            delay_loop: Duration::from_millis(50),
            retry: 0,
            delay_before_retry: Duration::from_millis(50),
            warmup: Duration::ZERO,
            alpha: false,
            log_all_failures: false,
        }],
        extras: None,
    };
    let service = Service {
        key,
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
        servers: vec![server],
        extras: None,
    };
    Arc::new(Lvs { services: vec![service.into()], ..Lvs::default() })
}

/// A driver whose kernel the test plays.
fn driver() -> (Driver, Receiver<Job>, UnboundedSender<Answer>) {
    let mut driver = Driver::new(1, Limits::default()).unwrap();
    let (jobs, queue) = channel();
    let (sender, answers) = unbounded_channel();
    driver.jobs = jobs;
    driver.answers = answers;
    (driver, queue, sender)
}

/// Answers the driver's requests to the kernel.
fn play(table: &mut Table, queue: &Receiver<Job>, answers: &UnboundedSender<Answer>) {
    while let Ok(job) = queue.try_recv() {
        let batch = match job {
            Job::Read(services) => {
                answers.send(Answer::Table { services, result: Ok(table.clone()) }).unwrap();
                continue;
            }
            Job::List => {
                answers.send(Answer::List(Ok(Listing::of(table)))).unwrap();
                continue;
            }
            Job::Timeouts(_) | Job::Buffer(..) => continue,
            Job::Apply(batch) => batch,
        };
        for (token, ops) in batch {
            let outcomes = ops.iter().map(|op| table.apply(op)).collect();
            answers.send(Answer::Applied(vec![(token, outcomes)])).unwrap();
        }
    }
}

#[test]
fn real_probes_move_a_server_in_the_table() {
    testing::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mut driver, queue, answers) = driver();
        let mut table = Table::default();
        let mut owned = Vec::new();
        driver.reload(config(address));
        let mut listener = Some(listener);
        let servers = |table: &Table| {
            table.services.values().map(|entry| entry.destinations.len()).sum::<usize>()
        };
        let end = std::time::Instant::now() + Duration::from_secs(20);
        let mut seen = Vec::new();
        while seen.len() < 4 {
            assert!(std::time::Instant::now() < end, "{seen:?}, {:?}", driver.view());
            play(&mut table, &queue, &answers);
            let count = servers(&table);
            let succeeded = driver.view().counters.succeeded;
            match seen.as_slice() {
                [] if count == 1 && succeeded > 3 => {
                    seen.push("in");
                    listener = None;
                }
                ["in"] if count == 0 => {
                    seen.push("out");
                    listener = Some(TcpListener::bind(address).unwrap());
                }
                ["in", "out"] if count == 1 => {
                    seen.push("in");
                    driver.stop(false);
                }
                ["in", "out", "in"] if table.services.is_empty() => seen.push("gone"),
                _ => tokio::time::timeout(Duration::from_secs(5), driver.turn())
                    .await
                    .expect("something happens")
                    .unwrap(),
            }
            while let Some(output) = driver.take_output() {
                if let Output::Own(services) = output {
                    owned.push(services.len());
                }
            }
        }
        drop(listener);
        play(&mut table, &queue, &answers);
        while owned.len() < 2 {
            driver.turn().await.unwrap();
            while let Some(output) = driver.take_output() {
                if let Output::Own(services) = output {
                    owned.push(services.len());
                }
            }
        }
        assert_eq!(owned, [1, 0]);
    });
}

#[test]
fn nothing_is_written_before_the_record_of_it_was_taken() {
    testing::run(async {
        let (mut driver, queue, answers) = driver();
        driver.reload(config("127.0.0.1:1".parse().unwrap()));
        play(&mut Table::default(), &queue, &answers);
        driver.turn().await.unwrap();
        assert!(queue.try_recv().is_err(), "the record comes first");
        assert!(matches!(driver.take_output(), Some(Output::Own(_))));
        assert!(queue.try_recv().is_err(), "it is not kept yet");
        assert!(driver.take_output().is_none());
        assert!(matches!(queue.try_recv(), Ok(Job::Apply(..))));
    });
}

#[test]
fn a_writer_that_ended_ends_the_driver() {
    testing::run(async {
        let (mut driver, queue, answers) = driver();
        driver.reload(config("127.0.0.1:1".parse().unwrap()));
        drop((queue, answers));
        assert_eq!(driver.turn().await, Err(WriterLost));
    });
}

/// The thread with this machine's kernel, with or without IPVS.
#[test]
fn the_real_thread_answers() {
    testing::run(async {
        let mut driver = Driver::new(1, Limits::default()).unwrap();
        driver.reload(Arc::new(Lvs::default()));
        let answer = tokio::time::timeout(Duration::from_secs(20), driver.turn()).await;
        answer.expect("an answer").unwrap();
        assert_ne!(driver.view().kernel, Kernel::Unknown);
    });
}

/// A start of thousands of services is answered as fast as it is processed: heartbeats come between.
#[test]
fn other_work_gets_a_turn_between_the_answers_of_the_kernel() {
    testing::run(async {
        let (mut driver, _queue, answers) = driver();
        let outcomes = || {
            let list = (Token(1_000), vec![Outcome::Done; 100]);
            Answer::Applied(vec![list])
        };
        for _ in 0..50 {
            answers.send(outcomes()).unwrap();
        }
        driver.turn().await.unwrap();
        assert!((45..50).contains(&driver.answers.len()), "{} are left", driver.answers.len());
    });
}
