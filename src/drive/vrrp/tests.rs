use core::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::hear::HELD_UP;
use super::*;
use crate::base::Family;
use crate::base::Mac;
use crate::kernel::monitor::Monitor;
use crate::kernel::netlink::Requests;
use crate::kernel::object;
use crate::model::vrrp::Version;
use crate::model::{self, sample};
use crate::plan::{Op, Token, Verb};
use crate::status::{self, Ask};
use crate::sys::raw::{Batch, Receiver, Sender};
use crate::sys::testing::{in_namespace, ip, run};

const GROUP: IpAddr = IpAddr::V4(crate::base::net::VRRP_GROUP_V4);

/// One instance on veth0, advertising every second with priority 100; one missed advert is enough.
fn config() -> model::Vrrp {
    let mut instance = sample::instance("VI", "veth0", 41, 100, &["10.0.0.100/24"]);
    instance.down_timer_adverts = 1;
    instance.authentication = model::vrrp::Authentication::None;
    model::Vrrp { instances: vec![instance], ..model::Vrrp::default() }
}

/// A cable in this namespace: the driver at veth0, the test at veth1.
struct Bench {
    requests: Requests,
    monitor: Monitor,
    /// Receives what veth0 sends.
    ear: Receiver,
    mouth: Sender,
    far: IfIndex,
}

impl Bench {
    fn new() -> Self {
        ip("link add veth0 address 02:00:00:00:00:01 type veth peer name veth1");
        for name in ["veth0", "veth1"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/accept_local"), "1").unwrap();
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0").unwrap();
            ip(&format!("link set {name} up"));
        }
        ip("address add 10.0.0.71/24 dev veth0");
        ip("address add 10.0.0.72/24 dev veth1");
        let far = IfIndex(nix::net::if_::if_nametoindex("veth1").unwrap());
        let requests = Requests::open().unwrap();
        let monitor = Monitor::open(requests.port()).unwrap();
        let ear = Receiver::open(Family::V4, false).unwrap();
        ear.join(GROUP, far).unwrap();
        Self { requests, monitor, ear, mouth: Sender::open(Family::V4).unwrap(), far }
    }

    fn snapshot(&mut self) -> Input {
        let view = self.monitor.snapshot(&mut self.requests).unwrap();
        Input::Engine(Event::Kernel(view.snapshot.unwrap()))
    }

    /// An advert of a master with this priority.
    fn advertise(&self, priority: u8) {
        let mut vrrp = vec![0x21, 41, priority, 1, 0, 1, 0, 0, 10, 0, 0, 100];
        vrrp.extend([0; 8]);
        let sum = wire::checksum::Sum::new().octets(&vrrp).finish().to_be_bytes();
        vrrp[6..8].copy_from_slice(&sum);
        let mut packet = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, 255, 112, 0, 0, 10, 0, 0, 72];
        packet.extend([224, 0, 0, 18]);
        packet.extend(vrrp);
        self.mouth.send(self.far, "10.0.0.72".parse().unwrap(), GROUP, 255, &packet).unwrap();
    }

    /// The same `count` times, and waits until all of them are in the queues of their receivers.
    fn advertise_all(&self, priority: u8, count: usize) {
        for _ in 0..count {
            let before = queued();
            self.advertise(priority);
            until(|| (queued() > before).then_some(()));
        }
    }

    /// Priorities of the adverts that were sent meanwhile.
    fn heard(&self) -> Vec<u8> {
        let mut batch = Batch::new();
        self.ear.receive(&mut batch).unwrap();
        batch.packets().map(|(_, packet)| packet[22]).collect()
    }
}

fn reload(config: model::Vrrp) -> Input {
    Input::Reload { config: Arc::new(config), scheduling: Scheduling::default() }
}

/// The kernel's answer to the only operation of a request.
fn done(token: Token) -> Input {
    Input::Engine(Event::Applied { token, item: 0, outcome: Outcome::Done })
}

/// Octets in the queues of all raw sockets of this namespace.
fn queued() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/raw").unwrap();
    let queue = |line: &str| {
        let (_, received) = line.split_whitespace().nth(4)?.split_once(':')?;
        u64::from_str_radix(received, 16).ok()
    };
    table.lines().skip(1).filter_map(queue).sum()
}

fn until<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let end = clock::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(clock::now() < end, "it happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn hooks(beat: impl FnMut() + Send + 'static) -> Hooks {
    Hooks { beat: Box::new(beat), rest: Box::new(|| {}) }
}

fn start() -> (JoinHandle<io::Result<()>>, Handle) {
    let (driver, handle) = Driver::new(hooks(|| {})).unwrap();
    (std::thread::spawn(move || driver.run()), handle)
}

#[test]
fn from_silence_to_master_to_the_end() {
    in_namespace("drive::vrrp::tests::from_silence_to_master_to_the_end", || {
        run(async {
            let mut bench = Bench::new();
            let (thread, mut handle) = start();
            handle.send(bench.snapshot()).unwrap();
            handle.send(reload(config())).unwrap();
            // No other router: it becomes master and requests its address.
            let (token, ops) = until(|| match handle.receive()? {
                Output::Apply { token, ops } => Some((token, ops)),
                _ => None,
            });
            assert_eq!(until(|| bench.heard().first().copied()), 100);
            // The address is announced once the kernel has it, and only then.
            let mut arp = ArpEar::open();
            assert_eq!(object::carry_out(&mut bench.requests, &ops), [Outcome::Done]);
            handle.send(done(token)).unwrap();
            let want =
                wire::arp::gratuitous(Mac([2, 0, 0, 0, 0, 1]), "10.0.0.100".parse().unwrap());
            assert_eq!(until(|| arp.take()), want);
            // The stop: priority 0, and the removal of the address is requested.
            handle.send(Input::Engine(Event::Stop { keep_addresses: false })).unwrap();
            let token = until(|| match handle.receive()? {
                Output::Apply { token, ops } => {
                    assert!(matches!(ops.as_slice(), [Op { verb: Verb::Delete { .. }, .. }]));
                    Some(token)
                }
                _ => None,
            });
            until(|| bench.heard().contains(&0).then_some(()));
            handle.send(done(token)).unwrap();
            until(|| matches!(handle.receive()?, Output::Stopped).then_some(()));
            drop(handle);
            thread.join().unwrap().unwrap();
        });
    });
}

/// Receives ARP frames.
struct ArpEar(socket2::Socket);

impl ArpEar {
    /// On all interfaces; outgoing frames are not received.
    fn open() -> Self {
        let arp = i32::from(0x0806_u16.to_be());
        let kind = socket2::Type::RAW.nonblocking();
        Self(socket2::Socket::new(socket2::Domain::PACKET, kind, Some(arp.into())).unwrap())
    }

    fn take(&mut self) -> Option<[u8; 42]> {
        let mut buffer = [0; 42];
        io::Read::read_exact(&mut self.0, &mut buffer).ok().map(|()| buffer)
    }
}

#[test]
fn packets_and_messages_wait_while_a_configuration_is_taken() {
    in_namespace(
        "drive::vrrp::tests::packets_and_messages_wait_while_a_configuration_is_taken",
        || {
            run(async {
                let mut bench = Bench::new();
                let (mut driver, mut handle) = Driver::new(hooks(|| {})).unwrap();
                handle.send(bench.snapshot()).unwrap();
                handle.send(reload(config())).unwrap();
                driver.turn().unwrap();
                until(|| matches!(handle.receive()?, Output::Reloaded).then_some(()));
                while handle.receive().is_some() {}
                // The smallest possible slices, with a packet and a message in the middle of them.
                driver.engine.set_effort(1);
                handle.send(reload(config())).unwrap();
                driver.turn().unwrap();
                bench.advertise_all(200, 1);
                handle.send(Input::Look { request: 7, ask: Ask::State }).unwrap();
                let mut turns = 0;
                while driver.engine.is_occupied() {
                    let said = handle.receive();
                    assert!(said.is_none(), "said before the end: {said:?}");
                    assert!(queued() > 0, "the packet waits");
                    driver.turn().unwrap();
                    turns += 1;
                }
                assert!(turns > 20, "{turns}");
                assert!(matches!(handle.receive(), Some(Output::Reloaded)));
                let part = until(|| {
                    driver.turn().unwrap();
                    match handle.receive()? {
                        Output::Part(part) => Some(part),
                        _ => None,
                    }
                });
                assert_eq!(part.request, 7);
                until(|| {
                    driver.turn().unwrap();
                    let view = driver.engine.view(clock::now());
                    (view.instances[0].counters.adverts_received == 1).then_some(())
                });
            });
        },
    );
}

#[test]
fn what_was_missed_during_a_stall_is_heard_before_anybody_is_taken_for_silent() {
    in_namespace(
        "drive::vrrp::tests::what_was_missed_during_a_stall_is_heard_before_anybody_is_taken_for_silent",
        || {
            run(async {
                let mut bench = Bench::new();
                let (mut driver, mut handle) = Driver::new(hooks(|| {})).unwrap();
                handle.send(bench.snapshot()).unwrap();
                handle.send(reload(config())).unwrap();
                driver.turn().unwrap();
                assert_eq!(driver.engine.state("VI"), Some(status::vrrp::State::Backup));
                // The thread does not run for a long time. Its master continues, and there is a flood.
                let stalled = clock::now();
                bench.advertise(200);
                for _ in 0..500 {
                    bench.advertise(50);
                }
                bench.advertise(200);
                while clock::now() < stalled + Duration::from_millis(2500) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert!(driver.engine.deadline().unwrap() < clock::now());
                driver.turn().unwrap();
                assert_eq!(driver.engine.state("VI"), Some(status::vrrp::State::Backup));
                assert!(driver.engine.deadline().unwrap() > clock::now());
            });
        },
    );
}

/// A master of which only adverts are due.
fn master(bench: &mut Bench, beat: impl FnMut() + Send + 'static) -> (Driver, Handle) {
    let (mut driver, mut handle) = Driver::new(hooks(beat)).unwrap();
    handle.send(bench.snapshot()).unwrap();
    let mut config = config();
    config.instances[0].lower_prio_no_advert = true;
    config.instances[0].garp.delay = Duration::ZERO;
    handle.send(reload(config)).unwrap();
    until(|| {
        driver.turn().unwrap();
        let master = driver.engine.state("VI") == Some(status::vrrp::State::Master);
        (master && driver.engine.other_deadline().is_none()).then_some(())
    });
    let _ = bench.heard();
    (driver, handle)
}

#[test]
fn an_overdue_advert_waits_for_what_was_received_but_not_for_long() {
    in_namespace(
        "drive::vrrp::tests::an_overdue_advert_waits_for_what_was_received_but_not_for_long",
        || {
            run(async {
                for (slow, sent) in [(false, vec![]), (true, vec![100])] {
                    let mut bench = Bench::new();
                    let sleeps = Arc::new(AtomicBool::new(false));
                    let asleep = Arc::clone(&sleeps);
                    let (mut driver, _handle) = master(&mut bench, move || {
                        if asleep.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(40));
                        }
                    });
                    // The last one is of a router that has taken over.
                    (0..240).for_each(|_| bench.advertise(50));
                    bench.advertise(200);
                    until(|| {
                        let due = driver.engine.advert_deadline()?;
                        (clock::now().since(due) > 2 * HELD_UP).then_some(())
                    });
                    // Between two batches.
                    driver.beat = Duration::from_millis(1);
                    sleeps.store(slow, Ordering::Relaxed);
                    driver.turn().unwrap();
                    assert_eq!((slow, bench.heard()), (slow, sent));
                    drop(driver);
                    ip("link del veth0");
                }
            });
        },
    );
}

#[test]
fn under_a_flood_packets_come_in_batches_and_adverts_leave_between() {
    in_namespace(
        "drive::vrrp::tests::under_a_flood_packets_come_in_batches_and_adverts_leave_between",
        || {
            run(async {
                let mut bench = Bench::new();
                let (mut driver, _handle) = master(&mut bench, || {});
                // A queue holds some 270 packets without the privilege to enlarge it.
                (0..250).for_each(|_| bench.advertise(50));
                let received = |driver: &Driver| {
                    driver.engine.view(clock::now()).instances[0].counters.adverts_received
                };
                let before = received(&driver);
                driver.turn().unwrap();
                assert!((1..=64).contains(&(received(&driver) - before)));
                // An advert falls due while most of it is still to be read.
                until(|| (driver.engine.advert_deadline()? <= clock::now()).then_some(()));
                let before = received(&driver);
                driver.turn().unwrap();
                assert!(received(&driver) - before <= 64);
                assert_eq!(bench.heard(), [100]);
            });
        },
    );
}

#[test]
fn what_comes_in_after_a_timer_fell_due_is_not_waited_for() {
    in_namespace(
        "drive::vrrp::tests::what_comes_in_after_a_timer_fell_due_is_not_waited_for",
        || {
            run(async {
                let mut bench = Bench::new();
                let (mut driver, mut handle) = Driver::new(hooks(|| {})).unwrap();
                handle.send(bench.snapshot()).unwrap();
                handle.send(reload(config())).unwrap();
                driver.turn().unwrap();
                let received = |driver: &Driver| {
                    driver.engine.view(clock::now()).instances[0].counters.adverts_received
                };
                // The kernel begins to stamp packets a moment after the request.
                until(|| {
                    bench.advertise(50);
                    let horizon = driver.clocks.horizon();
                    std::thread::sleep(Duration::from_millis(1));
                    let (count, beyond) = driver.receive(0, Some(horizon));
                    (count > 0 && !beyond).then_some(())
                });
                let before = received(&driver);
                let received = |driver: &Driver| received(driver) - before;
                bench.advertise_all(50, 100);
                let horizon = driver.clocks.horizon();
                bench.advertise_all(50, 100);
                driver.hear(horizon, false);
                // All packets that had arrived, and the rest of the batch with the first later one.
                assert!((100..132).contains(&received(&driver)), "{}", received(&driver));
                let horizon = driver.clocks.horizon();
                driver.hear(horizon, false);
                assert_eq!(received(&driver), 200);
            });
        },
    );
}

#[test]
fn a_view_comes_in_parts() {
    in_namespace("drive::vrrp::tests::a_view_comes_in_parts", || {
        let (mut driver, mut handle) = Driver::new(hooks(|| {})).unwrap();
        let mut config = config();
        config.instances = (1..=200)
            .map(|n| sample::instance(&format!("V{n}"), "veth0", n, 100, &["10.0.0.100/24"]))
            .collect();
        handle.send(reload(config)).unwrap();
        handle.send(Input::Look { request: 42, ask: Ask::State }).unwrap();
        let (mut views, mut parts) = (look::Views::default(), 0);
        let (request, view) = until(|| {
            driver.turn().unwrap();
            while let Some(output) = handle.receive() {
                if let Output::Part(part) = output {
                    parts += 1;
                    if let Some(whole) = views.join(*part) {
                        return Some(whole);
                    }
                }
            }
            None
        });
        let look::Seen::State(view) = view else { panic!("{view:?}") };
        assert_eq!((request, view.instances.len(), parts), (42, 200, 4));
    });
}

#[test]
fn the_summary_comes_in_parts_and_anew_when_something_changed_meanwhile() {
    in_namespace(
        "drive::vrrp::tests::the_summary_comes_in_parts_and_anew_when_something_changed_meanwhile",
        || {
            let (mut driver, mut handle) = Driver::new(hooks(|| {})).unwrap();
            let mut config = config();
            config.instances = (1..=200)
                .map(|n| sample::instance(&format!("V{n}"), "veth0", n, 100, &["10.0.0.100/24"]))
                .collect();
            handle.send(reload(config.clone())).unwrap();
            let mut summaries = look::Summaries::default();
            let mut sizes = Vec::new();
            let mut next = |driver: &mut Driver, handle: &mut Handle, size: &mut Vec<usize>| {
                until(|| {
                    driver.turn().unwrap();
                    let mut parts = 0;
                    while let Some(output) = handle.receive() {
                        if let Output::Summary(part) = output {
                            (parts, _) = (parts + 1, size.push(part.summary.instances.len()));
                            let whole = summaries.join(part);
                            assert_eq!(parts, 1, "more than a part in a turn");
                            return Some(whole);
                        }
                    }
                    None
                })
            };
            driver.turn().unwrap();
            driver.telling.ask();
            // During the first one the configuration changes: it begins again.
            assert_eq!(next(&mut driver, &mut handle, &mut sizes), None);
            config.instances.truncate(150);
            handle.send(reload(config)).unwrap();
            let whole = until(|| next(&mut driver, &mut handle, &mut sizes));
            assert_eq!(whole.instances.len(), 150);
            assert_eq!(sizes.last(), Some(&(150 - 2 * 64)));
            assert!(sizes.iter().all(|size| *size <= 64), "{sizes:?}");
        },
    );
}

#[test]
fn a_real_time_thread_that_never_waits_takes_a_breath() {
    in_namespace("drive::vrrp::tests::a_real_time_thread_that_never_waits_takes_a_breath", || {
        let (mut driver, _handle) = Driver::new(hooks(|| {})).unwrap();
        let turn = |driver: &mut Driver, busy: Duration| {
            driver.busy_since = clock::now() - busy;
            let since = driver.busy_since;
            driver.breathe();
            driver.busy_since > since
        };
        let most = Duration::from_millis(50);
        assert!(!turn(&mut driver, 2 * most), "only one of real-time priority need do so");
        driver.class = Class::of_priority(50);
        assert_eq!(driver.class.stretch(), Some(most));
        assert!(!turn(&mut driver, most / 2));
        let begin = clock::now();
        assert!(turn(&mut driver, most + BREATH));
        assert!(clock::now().since(begin) >= BREATH);
    });
}

#[test]
fn the_steady_state_sends_without_the_other_thread() {
    in_namespace("drive::vrrp::tests::the_steady_state_sends_without_the_other_thread", || {
        run(async {
            let mut bench = Bench::new();
            let (thread, mut handle) = start();
            handle.send(bench.snapshot()).unwrap();
            let mut config = config();
            config.instances[0].version = Version::V3;
            config.instances[0].advert_int = Duration::from_millis(10);
            handle.send(reload(config)).unwrap();
            // Its messages are neither read nor answered; adverts continue.
            let mut count = 0;
            until(|| {
                count += bench.heard().len();
                (count > 100).then_some(())
            });
            drop(handle);
            thread.join().unwrap().unwrap();
        });
    });
}

#[test]
fn signs_of_life_come_from_a_thread_that_takes_turns() {
    use core::sync::atomic::AtomicU32;
    let beats = Arc::new(AtomicU32::new(0));
    in_namespace("drive::vrrp::tests::signs_of_life_come_from_a_thread_that_takes_turns", || {
        let counted = Arc::clone(&beats);
        let (mut driver, handle) = Driver::new(hooks(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }))
        .unwrap();
        let begin = clock::now();
        while beats.load(Ordering::Relaxed) < 3 {
            driver.turn().unwrap();
        }
        // The first at once, the others half a second apart, without anything to do.
        assert!(clock::now() >= begin + 2 * BEAT);
        drop(handle);
    });
}

#[test]
fn more_memberships_than_a_socket_may_have() {
    in_namespace("drive::vrrp::tests::more_memberships_than_a_socket_may_have", || {
        let epoll = Epoll::new().unwrap();
        let mut sockets = Sockets::open().unwrap();
        let mut links = Vec::new();
        for n in 0..30 {
            ip(&format!("link add v{n} type veth peer name w{n}"));
            links.push(IfIndex(nix::net::if_::if_nametoindex(format!("v{n}").as_str()).unwrap()));
        }
        for link in &links {
            sockets.join(&epoll, GROUP, *link).unwrap();
        }
        assert_eq!(sockets.receivers.len(), 2);
        let members = |s: &Sockets| s.receivers.iter().map(|r| r.members.len()).sum::<usize>();
        assert_eq!(members(&sockets), 30);
        // Joining again has the same effect, also if the interface was recreated.
        sockets.join(&epoll, GROUP, links[0]).unwrap();
        assert_eq!(members(&sockets), 30);
        sockets.forget(links[0]);
        sockets.leave(GROUP, links[1]);
        assert_eq!(members(&sockets), 28);
        assert!(sockets.join(&epoll, GROUP, IfIndex(4711)).is_err());
    });
}

#[test]
fn queues_of_adverts_are_as_long_as_asked_for() {
    in_namespace("drive::vrrp::tests::queues_of_adverts_are_as_long_as_asked_for", || {
        let (mut driver, _handle) = Driver::new(hooks(|| {})).unwrap();
        let group = "224.0.0.18".parse().unwrap();
        driver.sockets.join(&driver.epoll, group, IfIndex(1)).unwrap();
        let length = |driver: &Driver| {
            let first = driver.sockets.receivers.first().and_then(|one| one.socket.as_ref());
            first.map(Receiver::queue).unwrap()
        };
        let usual = length(&driver);
        driver.sockets.resize(1);
        assert_eq!(length(&driver), usual);
        driver.sockets.resize(20 << 20);
        let longer = length(&driver);
        // Only a process that may exceed the system's limits gets the full size.
        assert!(longer == 2 * (20 << 20) || longer == usual, "{longer} {usual}");
        driver.sockets.resize(0);
        assert_eq!(length(&driver), usual);
    });
}
