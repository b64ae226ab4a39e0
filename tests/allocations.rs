//! No allocation for an advert, sent or received: counted by this program's own allocator.
//!
//! A separate program, because an allocator applies to a whole program.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test")]
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use evervip::base::{Family, IfIndex, Instant, Mac, Prefix, Secret, WallTime};
use evervip::model::extras::{Hmac, HmacKey, HmacMode, SecretBytes, Unicast, UnicastPeer};
use evervip::model::vrrp::{Authentication, Version};
use evervip::model::{self, sample};
use evervip::plan::{Change, Outcome, Sight};
use evervip::status::vrrp::State;
use evervip::vrrp::{Action, Actions, Engine, Event, Link, Rx, Snapshot};
use evervip::wire::{ah, hmac, ip, vrrp};

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
/// Count only allocations of marked threads.
static ONLY_MARKED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static MARKED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    let is_marked = || MARKED.try_with(Cell::get).unwrap_or(false);
    if COUNTS.load(Ordering::Relaxed) && (!ONLY_MARKED.load(Ordering::Relaxed) || is_marked()) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

/// Allocations of this thread during `work`: the thread that runs the tests allocates when it begins to wait.
fn own_allocations(work: impl FnOnce()) -> u64 {
    MARKED.set(true);
    ONLY_MARKED.store(true, Ordering::Relaxed);
    let count = allocations(work);
    ONLY_MARKED.store(false, Ordering::Relaxed);
    count
}

// SAFETY: everything is passed to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller guarantees what the system's allocator requires.
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as guaranteed by the caller.
        unsafe { System.dealloc(memory, layout) }
    }

    // SAFETY: the caller guarantees what the system's allocator requires.
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as guaranteed by the caller.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of all threads during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    COUNT.store(0, Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    work();
    COUNTS.store(false, Ordering::Relaxed);
    COUNT.load(Ordering::Relaxed)
}

const ETH: IfIndex = IfIndex(2);
const SECOND: Duration = Duration::from_secs(1);

fn link(index: IfIndex, name: &str) -> Link {
    Link {
        index,
        name: name.parse().unwrap(),
        up: true,
        arp: true,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        settings: evervip::plan::Settings::default(),
        vrf: None,
    }
}

/// A host whose kernel carries out every request.
struct Host {
    engine: Engine,
    out: Actions,
    now: Instant,
    sent: u64,
}

impl Host {
    fn new(config: model::Vrrp) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let mut host = Self { engine: Engine::new(now), out: Actions::new(), now, sent: 0 };
        let link = link(ETH, "enp0s8");
        let own = Prefix::new([10, 0, 2, 71].into(), 24).unwrap();
        host.event(Event::Reload(Arc::new(config)));
        host.event(Event::Kernel(Snapshot {
            links: vec![link],
            objects: vec![Sight::address(ETH, own)],
            ..Snapshot::default()
        }));
        host
    }

    fn event(&mut self, event: Event<'_>) {
        self.out.clear();
        self.engine.handle(self.now, event, &mut self.out);
        let sends = |action: &&Action| matches!(action, Action::SendAdvert { .. });
        self.sent += self.out.list().iter().filter(sends).count() as u64;
        let asks = |action: &Action| matches!(action, Action::Apply { .. });
        if self.out.list().iter().any(asks) {
            for action in self.out.clone().list() {
                if let Action::Apply { token, ops } = action {
                    for item in 0..u32::try_from(ops.len()).unwrap() {
                        let (token, outcome) = (*token, Outcome::Done);
                        self.event(Event::Applied { token, item, outcome });
                    }
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = at;
            self.event(Event::Timer);
        }
        self.now = end;
    }

    /// Number of valid adverts received.
    fn received(&self) -> u64 {
        self.engine.view(self.now).instances[0].counters.adverts_received
    }

    fn hear(&mut self, packet: &[u8]) {
        let source = IpAddr::from([10, 0, 2, 72]);
        let destination = IpAddr::from([224, 0, 0, 18]);
        let rx = Rx { interface: ETH, source, destination, hop_limit: 0 };
        self.event(Event::Advert { rx, packet });
    }
}

/// An advert of another router with the same configuration except for the priority.
fn advert(vrid: u8, addresses: &[IpAddr], priority: u8, password: [u8; 8]) -> Vec<u8> {
    let content = vrrp::Content {
        version: 2,
        vrid,
        priority,
        interval: SECOND,
        auth: Some(vrrp::Auth { kind: 1, data: password }),
        addresses,
        family: Family::V4,
        pseudo: None,
    };
    let mut payload = Vec::new();
    vrrp::encode(&content, &mut payload);
    let length = u16::try_from(payload.len()).unwrap();
    let (from, to) = ([10, 0, 2, 72].into(), [224, 0, 0, 18].into());
    let mut packet = ip::encode(1, length, from, to, 255, ip::VRRP).to_vec();
    packet.extend(payload);
    packet
}

/// A single test, because every thread is counted.
#[test]
fn an_advert_allocates_nothing() {
    if !shell::is_inside() {
        engine_alone();
        for form in FORMS {
            in_form(&form);
        }
    }
    shell::drivers_on_a_cable();
}

/// One form of adverts.
struct Form {
    name: &'static str,
    /// Makes an instance use it.
    change: fn(&mut model::Instance),
    /// Source, destination and packet of an advert of another router, with this priority and number.
    receive: fn(u8, u32) -> (IpAddr, IpAddr, Vec<u8>),
}

const PEER: [u8; 4] = [10, 0, 2, 72];
const OWN: [u8; 4] = [10, 0, 2, 71];
const GROUP: [u8; 4] = [224, 0, 0, 18];
const KEY: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const TIME: u64 = 1_800_000_000;
const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x72);
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
const UPPER: IfIndex = IfIndex(9);

const FORMS: [Form; 6] = [
    Form {
        name: "AH",
        change: |i| {
            i.authentication = Authentication::None;
            i.extras.get_or_insert_default().ah_key = Some(Secret::new(*b"secret12"));
        },
        receive: |priority, number| {
            let auth = Some(vrrp::Auth { kind: 2, data: [0; 8] });
            let pdu = pdu(2, priority, auth, None);
            let header = ah::encode(Ipv4Addr::from(PEER).to_bits(), number);
            let length = u16::try_from(header.len() + pdu.len()).unwrap();
            let mut packet =
                ip::encode(1, length, PEER.into(), GROUP.into(), 255, ah::PROTOCOL).to_vec();
            packet.extend(header);
            packet.extend(pdu);
            ah::seal(&mut packet, b"secret12", false);
            (PEER.into(), GROUP.into(), packet)
        },
    },
    Form {
        name: "HMAC",
        change: |i| {
            (i.version, i.authentication) = (Version::V3, Authentication::None);
            i.extras.get_or_insert_default().hmac = Some(Hmac {
                keys: vec![HmacKey { id: 1, key: SecretBytes::new(KEY.to_vec()) }],
                active: 1,
                window: 300 * SECOND,
                monotonic: true,
                mode: HmacMode::Enforce,
            });
        },
        receive: |priority, number| {
            let mut pdu = pdu(3, priority, None, Some((PEER.into(), GROUP.into())));
            // Ten a second: its clock goes as ours does.
            let (second, tenth) = (TIME + u64::from(number / 10), u64::from(number % 10));
            let sequence = (second << 32) | (tenth << 28);
            pdu.extend(hmac::sign(1, KEY, sequence, PEER.into(), &pdu));
            (PEER.into(), GROUP.into(), framed(GROUP, &pdu))
        },
    },
    Form {
        name: "unicast",
        change: |i| {
            (i.version, i.authentication) = (Version::V3, Authentication::None);
            let peer = |address: [u8; 4]| UnicastPeer {
                address: address.into(),
                min_ttl: 0,
                max_ttl: 255,
            };
            let peers = vec![peer(PEER), peer([10, 0, 2, 73])];
            let unicast = Unicast { peers, check_source: true, ..Unicast::default() };
            i.extras.get_or_insert_default().unicast = Some(unicast);
        },
        receive: |priority, _| {
            let pdu = pdu(3, priority, None, Some((PEER.into(), OWN.into())));
            (PEER.into(), OWN.into(), framed(OWN, &pdu))
        },
    },
    Form {
        name: "version 3",
        change: |i| (i.version, i.authentication) = (Version::V3, Authentication::None),
        receive: |priority, _| {
            let pdu = pdu(3, priority, None, Some((PEER.into(), GROUP.into())));
            (PEER.into(), GROUP.into(), framed(GROUP, &pdu))
        },
    },
    Form {
        name: "IPv6",
        change: |i| {
            let six = sample::instance("VRRP1", "enp0s8", 41, 1, &["fe80::100/64"]);
            *i = model::Instance { priority: i.priority, ..six };
        },
        receive: |priority, _| {
            let pseudo = Some((LOCAL.into(), GROUP6.into()));
            let content = vrrp::Content {
                version: 3,
                vrid: 41,
                priority,
                interval: SECOND,
                auth: None,
                addresses: &["fe80::100".parse().unwrap()],
                family: Family::V6,
                pseudo,
            };
            let mut pdu = Vec::new();
            vrrp::encode(&content, &mut pdu);
            (LOCAL.into(), GROUP6.into(), pdu)
        },
    },
    Form {
        name: "virtual MAC",
        change: sample::vmac,
        receive: |priority, _| {
            let vip = [IpAddr::from([10, 0, 2, 100])];
            (PEER.into(), GROUP.into(), advert(41, &vip, priority, *b"1066\0\0\0\0"))
        },
    },
];

/// An advert of VRRP1 without an IP header.
fn pdu(
    version: u8,
    priority: u8,
    auth: Option<vrrp::Auth>,
    pseudo: Option<(IpAddr, IpAddr)>,
) -> Vec<u8> {
    let addresses = &[IpAddr::from([10, 0, 2, 100])];
    let (vrid, interval, family) = (41, SECOND, Family::V4);
    let content =
        vrrp::Content { version, vrid, priority, interval, auth, addresses, family, pseudo };
    let mut pdu = Vec::new();
    vrrp::encode(&content, &mut pdu);
    pdu
}

fn framed(to: [u8; 4], pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len()).unwrap();
    let mut packet = ip::encode(1, length, PEER.into(), to.into(), 255, ip::VRRP).to_vec();
    packet.extend(pdu);
    packet
}

/// Ten thousand adverts sent by a master, and as many received by a backup.
fn in_form(form: &Form) {
    const MANY: u32 = 10_000;
    let name = form.name;
    let host = |priority: u8| {
        let mut config = sample::failover(priority);
        (form.change)(&mut config.instances[0]);
        let mut host = Host::new(config);
        host.event(Event::TimeOfDay(WallTime { secs: TIME, nanos: 0 }));
        let own = Prefix::new("fe80::71".parse().unwrap(), 64).unwrap();
        host.event(Event::Object(Change::address(ETH, own, true, false)));
        // The interface of a virtual MAC is created and comes up.
        let mac = Mac([0, 0, 0x5e, 0, 1, 41]);
        if name == "virtual MAC" {
            host.event(Event::Link(Link { mac, ..link(UPPER, "vrrp.41") }));
        }
        host
    };
    let mut master = host(200);
    master.pass(20 * SECOND);
    assert_eq!(master.engine.state("VRRP1"), Some(State::Master), "{name}");
    master.sent = 0;
    let count = own_allocations(|| master.pass(MANY * SECOND));
    assert!(master.sent >= u64::from(MANY), "{name}: {} sent", master.sent);
    assert_eq!(count, 0, "{name}: {} adverts sent", master.sent);
    let mut backup = host(100);
    let packets: Vec<_> = (0..MANY + 100).map(|n| (form.receive)(200, n + 1)).collect();
    let mut packets = packets.iter();
    let mut hear = |many: usize| {
        for (source, destination, packet) in packets.by_ref().take(many) {
            backup.pass(SECOND / 10);
            let (source, destination) = (*source, *destination);
            let rx = Rx { interface: ETH, source, destination, hop_limit: 255 };
            backup.event(Event::Advert { rx, packet });
        }
    };
    hear(100);
    let count = own_allocations(|| hear(MANY as usize));
    assert_eq!(backup.received(), u64::from(MANY) + 100, "{name}: adverts accepted");
    assert_eq!(backup.engine.state("VRRP1"), Some(State::Backup), "{name}");
    assert_eq!(count, 0, "{name}: {MANY} adverts received");
}

fn engine_alone() {
    let vip = [IpAddr::from([10, 0, 2, 100])];
    let (better, lower) =
        (advert(41, &vip, 200, *b"1066\0\0\0\0"), advert(41, &vip, 50, *b"1066\0\0\0\0"));
    let wrong = advert(41, &vip, 250, *b"1067\0\0\0\0");
    let member = advert(42, &[[10, 0, 2, 101].into()], 200, *b"1066\0\0\0\0");
    for group in [false, true] {
        let config = |priority: u8| {
            let mut config = sample::failover(priority);
            if group {
                let mut other = sample::instance("B", "enp0s8", 42, 1, &["10.0.2.101/24"]);
                other.priority = config.instances[0].priority;
                config.instances.push(other);
                config.groups.push(sample::group("G", &["VRRP1", "B"]));
            }
            config
        };
        // A master sends.
        let mut host = Host::new(config(200));
        host.pass(20 * SECOND);
        assert_eq!(host.engine.state("VRRP1"), Some(State::Master));
        host.sent = 0;
        let count = own_allocations(|| host.pass(10_000 * SECOND));
        assert!(host.sent >= 10_000);
        assert_eq!(count, 0, "{} adverts sent", host.sent);
        // A backup receives an advert of its master, one of lower priority, one that is refused and one for another
        // member, ten thousand times each.
        let mut host = Host::new(config(100));
        for packet in [&better, &lower, &wrong, &member] {
            host.hear(packet);
            host.hear(packet);
        }
        let count = own_allocations(|| {
            for _ in 0..10_000 {
                host.pass(SECOND / 10);
                for packet in [&better, &lower, &wrong, &member] {
                    host.hear(packet);
                }
            }
        });
        assert_eq!(host.engine.state("VRRP1"), Some(State::Backup));
        assert_eq!(count, 0, "40,000 adverts received");
    }
}

#[cfg(not(feature = "daemon"))]
mod shell {
    pub fn is_inside() -> bool {
        false
    }

    pub fn drivers_on_a_cable() {}
}

#[cfg(feature = "daemon")]
mod shell {
    use std::process::Command;

    use evervip::drive::vrrp::{
        Driver, Handle, Hooks, Input, Output, Scheduling,
        look::{Seen, Views},
    };
    use evervip::kernel::{monitor::Monitor, netlink::Requests};
    use evervip::status::Ask;

    use super::*;

    /// Set inside the namespace.
    const INSIDE: &str = "EVERVIP_TEST_INSIDE";
    /// Instances on each side.
    const COUNT: u8 = 120;

    fn ip(arguments: &str) {
        let done = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    }

    fn config(link: &str, priority: u8) -> model::Vrrp {
        let instances = (1..=COUNT).map(|n| {
            let address = format!("10.0.1.{n}/24");
            let mut one = sample::instance(&format!("V{n}"), link, n, priority, &[&address]);
            one.version = Version::V3;
            one.authentication = Authentication::None;
            one.advert_int = Duration::from_millis(10);
            one.garp.delay = Duration::ZERO;
            // The other side must not time out because this machine is busy.
            one.down_timer_adverts = 100;
            one
        });
        model::Vrrp { instances: instances.collect(), ..model::Vrrp::default() }
    }

    /// One side: masters on one end of the cable, backups on the other.
    struct Side {
        handle: Handle,
        views: Views,
        request: u64,
    }

    impl Side {
        fn start(link: &str, priority: u8) -> Self {
            let mut requests = Requests::open().unwrap();
            let monitor = &mut Monitor::open(requests.port()).unwrap();
            let hooks = Hooks { beat: Box::new(|| {}), rest: Box::new(|| {}) };
            let (driver, mut handle) = Driver::new(hooks).unwrap();
            std::thread::spawn(move || driver.run());
            let snapshot = monitor.snapshot(&mut requests).unwrap().snapshot.unwrap();
            handle.send(Input::Engine(Event::Kernel(snapshot))).unwrap();
            let config = Arc::new(config(link, priority));
            handle.send(Input::Reload { config, scheduling: Scheduling::default() }).unwrap();
            Self { handle, views: Views::default(), request: 0 }
        }

        /// Answers everything; returns a view when it is complete.
        fn turn(&mut self) -> Option<evervip::status::vrrp::Vrrp> {
            while let Some(output) = self.handle.receive() {
                match output {
                    Output::Apply { token, ops } => {
                        for item in 0..u32::try_from(ops.len()).unwrap() {
                            let outcome = Outcome::Done;
                            let event = Event::Applied { token, item, outcome };
                            let mut answer = Input::Engine(event);
                            while let Err(again) = self.handle.send(answer) {
                                answer = again;
                                std::thread::yield_now();
                            }
                        }
                    }
                    Output::Part(part) => {
                        if let Some((request, Seen::State(view))) = self.views.join(*part)
                            && request == self.request
                        {
                            return Some(view);
                        }
                    }
                    _ => {}
                }
            }
            None
        }

        fn look(&mut self) -> evervip::status::vrrp::Vrrp {
            self.request += 1;
            self.handle.send(Input::Look { request: self.request, ask: Ask::State }).unwrap();
            let end = std::time::Instant::now() + 30 * SECOND;
            loop {
                if let Some(view) = self.turn() {
                    return view;
                }
                assert!(std::time::Instant::now() < end, "an answer");
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        /// The sum of a counter over all instances.
        fn sum(&mut self, of: fn(&evervip::status::vrrp::Counters) -> u64) -> u64 {
            self.look().instances.iter().map(|i| of(&i.counters)).sum()
        }

        fn all(&mut self, state: State) -> bool {
            self.look().instances.iter().all(|i| i.state == state)
        }
    }

    pub fn is_inside() -> bool {
        std::env::var_os(INSIDE).is_some()
    }

    pub fn drivers_on_a_cable() {
        if !is_inside() {
            let done = Command::new("unshare")
                .args(["--user", "--map-root-user", "--net", "--"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "an_advert_allocates_nothing", "--nocapture"])
                .env(INSIDE, "1")
                .status()
                .expect("unshare (package util-linux) runs");
            assert!(done.success());
            return;
        }
        ip("link set lo up");
        ip("link add veth0 type veth peer name veth1");
        for (name, last) in [("veth0", 71), ("veth1", 72)] {
            for (what, value) in [("accept_local", "1"), ("rp_filter", "0")] {
                let path = format!("/proc/sys/net/ipv4/conf/{name}/{what}");
                std::fs::write(path, value).unwrap();
            }
            ip(&format!("link set {name} up"));
            ip(&format!("address add 10.0.0.{last}/24 dev {name}"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut masters, mut backups) = runtime.block_on(async {
            let masters = Side::start("veth0", 200);
            (masters, Side::start("veth1", 100))
        });
        let end = std::time::Instant::now() + 60 * SECOND;
        while !(masters.all(State::Master) && backups.all(State::Backup)) {
            assert!(std::time::Instant::now() < end, "masters and backups");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Until every message has been sent and every buffer has its final size.
        std::thread::sleep(2 * SECOND);
        let changed = |side: &mut Side| side.sum(|c| c.became_master + c.released_master);
        let changes = |one: &mut Side, other: &mut Side| changed(one) + changed(other);
        let (mut total, mut counted) = (0, (0, 0));
        while counted.0 < 10_000 || counted.1 < 10_000 {
            let sent = masters.sum(|c| c.adverts_sent);
            let received = backups.sum(|c| c.adverts_received);
            let before = changes(&mut masters, &mut backups);
            let here = allocations(|| std::thread::sleep(SECOND / 2));
            // On a busy machine a thread may stall for longer than a backup waits: that is no steady state.
            if changes(&mut masters, &mut backups) == before {
                total += here;
                counted.0 += masters.sum(|c| c.adverts_sent) - sent;
                counted.1 += backups.sum(|c| c.adverts_received) - received;
            }
            assert!(std::time::Instant::now() < end, "{counted:?}");
        }
        assert_eq!(total, 0, "{counted:?} adverts sent and received");
    }
}
