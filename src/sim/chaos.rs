//! A story made from a seed: a cluster, and what goes wrong in it.
//!
//! Each round does some harm, lets time pass, mends everything and lets time pass again, long enough for the
//! oracle to look at a settled cluster. The oracle looks after every step, also in between.

use core::net::SocketAddr;
use core::time::Duration;

use super::director::Answer;
use super::world::{NodeId, World};
use crate::base::rng::Rng;
use crate::model::sample::{self, failover, nat};
use crate::model::vrrp::{InitialState, Preempt, Priority, Version, Vrid};
use crate::model::{Instance, ServiceKey, Vrrp};
use crate::plan::ipvs::{Destination, DestinationKey, Destinations, Entry, Settings, Table};
use crate::vrrp::RunEnd;

/// The interfaces of each host.
const INTERFACES: [&str; 2] = ["enp0s8", "enp0s9"];
/// The address of the first host on the first of them.
const OWN_ADDRESS: &str = "10.0.2.71/24";
/// The tracking script of some clusters.
const SCRIPT: &str = "chk_haproxy";

/// Harm after which the engine is known to do wrong. Chaos leaves it out until that is mended.
const KNOWN_FAULTS: &[Harm] = &[];

/// What goes wrong beyond crashes, stalls, cables and the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// The addresses of the host itself are removed.
    NoSource,
    /// A link gets another name while it is up.
    Rename,
    /// A link is removed and made again with another number.
    Recreate,
    /// Some virtual addresses are there when a daemon starts.
    Leftovers,
    /// A reload changes the interface of an instance.
    MoveInterface,
    /// A reload changes the virtual router id.
    MoveVrid,
    /// A reload changes the version.
    MoveVersion,
    /// A reload waits for a process that is stalled.
    ReloadStalled,
    /// A process that is stalled while a reload waits for it is replaced.
    Wedge,
    /// Groups cannot be joined for a while in which a daemon starts.
    RefusedJoins,
    /// The runner is replaced, and what it was running is lost.
    ReplacedRunner,
    /// A virtual address is removed again and again.
    Tug,
    /// The virtual address is the address of a host, which has priority 255. Not something that goes wrong: such a
    /// cluster.
    OwnAddress,
}

const HARMS: [Harm; 12] = [
    Harm::NoSource,
    Harm::Rename,
    Harm::Recreate,
    Harm::Leftovers,
    Harm::MoveInterface,
    Harm::MoveVrid,
    Harm::MoveVersion,
    Harm::ReloadStalled,
    Harm::Wedge,
    Harm::RefusedJoins,
    Harm::ReplacedRunner,
    Harm::Tug,
];

/// Plays the story of `seed` with this many rounds and returns the world at its end.
#[must_use]
pub fn play(seed: u64, rounds: u32) -> World {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut world = World::new(seed);
    let kind = rng.below(if KNOWN_FAULTS.contains(&Harm::OwnAddress) { 11 } else { 12 });
    let hosts = 2 + rng.below(2);
    let startup_delay =
        if rng.chance(15) { Duration::from_secs(1 + rng.below(8)) } else { Duration::ZERO };
    let promote = rng.chance(70);
    for host in 0..hosts {
        let mut config = configuration(kind, host);
        config.startup_delay = startup_delay;
        let id = world.add(&INTERFACES, config);
        world.kernel(id, |kernel| kernel.promote = promote);
        if matches!(kind, 2 | 5 | 8) {
            world.balance(id, sample::balanced());
            world.add_foreign_service(id, &foreign());
        }
        world.start(id);
    }
    world.run(Duration::from_secs(30));
    for _ in 0..rounds {
        for _ in 0..=rng.below(2) {
            harm(&mut world, &mut rng);
            let longest = if rng.chance(20) { 40_000 } else { 6_000 };
            let pause = rng.below(longest);
            world.run(Duration::from_millis(pause));
        }
        mend(&mut world);
        world.run(Duration::from_secs(60));
        if !world.violations().is_empty() {
            break;
        }
    }
    world
}

/// The configuration of host number `host` in a cluster of this kind; the first host is the best.
fn configuration(kind: u64, host: u64) -> Vrrp {
    let priority = u8::try_from(200 - 50 * host).unwrap_or(1);
    match kind {
        0 | 8 => failover(priority),
        // Equal priorities: the address decides.
        1 => failover(100),
        2 | 3 => nat(priority),
        4 => {
            let mut config = failover(priority);
            for instance in &mut config.instances {
                instance.version = Version::V3;
                instance.authentication = crate::model::vrrp::Authentication::None;
                instance.advert_int = Duration::from_millis(100);
                instance.garp.interval = Duration::from_millis(2);
            }
            config
        }
        5 => {
            let mut config = nat(priority);
            config.scripts.push(sample::script(SCRIPT, 2, 2));
            for instance in &mut config.instances {
                sample::track(instance, SCRIPT, 0);
            }
            config
        }
        6 => {
            let mut config = failover(priority);
            let vips = ["10.0.2.100/24", "10.0.2.101/24", "10.0.2.102/32"];
            config.instances.clear();
            let mut instance = sample::instance("VRRP1", "enp0s8", 41, priority, &vips);
            instance.excluded = vec![sample::address("10.0.3.7/32", &interface("enp0s9"))];
            instance.preempt = Preempt::Never;
            config.scripts.push(sample::script(SCRIPT, 1, 2));
            sample::track(&mut instance, SCRIPT, -60);
            config.instances.push(instance);
            let other = sample::instance("VRRP2", "enp0s8", 42, 250 - priority, &["10.0.2.110/24"]);
            config.instances.push(other);
            config
        }
        // An owner beside routers that are none.
        9 => {
            let mut config = failover(if host == 0 { 255 } else { priority });
            for instance in config.instances.iter_mut().filter(|i| i.priority == Priority::OWNER) {
                instance.state = InitialState::Master;
            }
            config
        }
        // The first host owns the address.
        11 => {
            let mut config = failover(if host == 0 { 255 } else { priority });
            for instance in &mut config.instances {
                let address = sample::address(OWN_ADDRESS, &instance.interface.clone());
                instance.addresses = vec![address];
                if host == 0 {
                    instance.state = InitialState::Master;
                }
            }
            config
        }
        // Each its own interval: the master's counts.
        10 => {
            let mut config = failover(priority);
            for instance in &mut config.instances {
                instance.version = Version::V3;
                instance.authentication = crate::model::vrrp::Authentication::None;
                instance.advert_int = Duration::from_millis(200 * (1 + host));
            }
            config
        }
        _ => {
            let vips = ["fe80::100/64", "2001:db8::100/64"];
            let mut instance = sample::instance("VRRP6", "enp0s8", 61, priority, &vips);
            instance.preempt = Preempt::After(Duration::from_secs(2));
            Vrrp { instances: vec![instance], ..Vrrp::default() }
        }
    }
}

fn interface(name: &str) -> crate::base::IfName {
    sample::instance("", name, 1, 1, &[]).interface
}

fn harm(world: &mut World, rng: &mut Rng) {
    let hosts = world.nodes().count() as u64;
    let id = NodeId(usize::try_from(rng.below(hosts)).unwrap_or(0));
    let other = NodeId((id.0 + 1) % usize::try_from(hosts).unwrap_or(1));
    let link = if rng.chance(50) { INTERFACES[0] } else { INTERFACES[1] };
    match rng.below(28) {
        0 => world.crash(id),
        1 => world.stop(id),
        2 => {
            world.crash(id);
            let pause = rng.below(5_000);
            world.run(Duration::from_millis(pause));
            world.start(id);
        }
        3 => world.replace_role(id),
        4 => world.cable(id, link, false),
        5 => {
            // A cable that is plugged and pulled again and again.
            for _ in 0..rng.below(6) {
                world.cable(id, link, false);
                let down = rng.below(300);
                world.run(Duration::from_millis(down));
                world.cable(id, link, true);
                let up = rng.below(300);
                world.run(Duration::from_millis(up));
            }
        }
        6 => {
            let loss = 10 + rng.below(60);
            world.segment(link, |s| s.loss = loss);
        }
        7 => {
            let (duplication, jitter) = (rng.below(80), rng.below(300));
            world.segment(link, |s| {
                s.duplication = duplication;
                s.jitter = Duration::from_millis(jitter);
            });
        }
        8 => world.segment(link, |s| s.cut(id, other, true)),
        9 => {
            for name in INTERFACES {
                world.segment(name, |s| s.cut(id, other, true));
            }
        }
        10 | 11 => {
            let time = rng.below(12_000);
            world.stall(id, Duration::from_millis(time));
        }
        12 => {
            let refusals = 20 + rng.below(70);
            world.kernel(id, |kernel| kernel.refusals = refusals);
            world.kernel(id, |kernel| kernel.latency = Duration::from_millis(20));
        }
        13 => {
            for config in world.config(id).instances {
                for address in config.addresses.iter().take(1) {
                    world.remove_address(id, &address.prefix.to_string());
                }
            }
        }
        14 => {
            let status = i32::from(rng.chance(70));
            world.script(id, SCRIPT, RunEnd::Exit(status));
        }
        15 => world.runner(id, false),
        16 | 17 => {
            let answer = if rng.chance(50) { Answer::Refuses } else { Answer::Silent };
            world.server(some_server(rng), answer);
        }
        18 => world.replace_checker(id),
        19 => {
            let percent = 20 + rng.below(70);
            world.refuse_services(id, percent);
        }
        20 | 21 => reload(world, rng, id),
        _ => {
            let one = rng.below(HARMS.len() as u64);
            let harm = HARMS.get(usize::try_from(one).unwrap_or(0)).copied();
            if let Some(harm) = harm.filter(|harm| !KNOWN_FAULTS.contains(harm)) {
                do_harm(world, rng, id, link, harm);
            }
        }
    }
}

fn do_harm(world: &mut World, rng: &mut Rng, id: NodeId, link: &str, harm: Harm) {
    let pause = Duration::from_millis(rng.below(9_000));
    match harm {
        Harm::NoSource => {
            world.remove_home(id, link);
            world.run(pause);
            if rng.chance(50) {
                world.restore_home(id);
            }
        }
        Harm::Rename => {
            // Some swap their names.
            let other = INTERFACES.into_iter().find(|name| *name != link && rng.chance(40));
            world.rename_link(id, link, "other0");
            if let Some(other) = other {
                world.rename_link(id, other, link);
                world.rename_link(id, link, other);
            }
            world.run(pause);
            if let Some(other) = other {
                world.rename_link(id, link, "other0");
                world.rename_link(id, other, other);
            }
            world.rename_link(id, link, link);
        }
        Harm::Recreate => {
            world.remove_link(id, link);
            world.run(pause);
            world.make_link(id, link);
            let late = rng.below(3_000);
            world.run(Duration::from_millis(late));
            world.restore_home(id);
        }
        Harm::Leftovers => {
            world.crash(id);
            let instances = world.config(id).instances;
            let addresses = instances.iter().flat_map(|i| i.addresses.iter().chain(&i.excluded));
            for address in addresses {
                if rng.chance(50) {
                    world.add_address(id, address.interface.as_str(), address.prefix);
                }
            }
            world.run(pause);
            world.start(id);
        }
        Harm::MoveInterface | Harm::MoveVrid | Harm::MoveVersion => {
            let old = world.config(id);
            let mut new = old.clone();
            for instance in &mut new.instances {
                move_router(instance, harm);
            }
            world.reload(id, new);
            world.run(pause);
            world.reload(id, old);
        }
        Harm::ReloadStalled => {
            let time = rng.below(4_000);
            world.stall(id, Duration::from_millis(time));
            reload(world, rng, id);
        }
        Harm::Wedge => {
            let old = world.config(id);
            let mut new = old.clone();
            new.instances.reverse();
            world.stall(id, Duration::from_secs(20));
            let early = rng.below(500);
            world.run(Duration::from_millis(early));
            world.reload(id, new);
            let noticed = 200 + rng.below(2_000);
            world.run(Duration::from_millis(noticed));
            world.replace_role(id);
            world.run(pause);
            world.reload(id, old);
        }
        Harm::RefusedJoins => {
            world.kernel(id, |kernel| kernel.refuses_joins = true);
            if rng.chance(50) {
                world.crash(id);
                world.start(id);
            } else {
                world.remove_link(id, link);
                world.make_link(id, link);
                world.restore_home(id);
            }
            world.run(pause);
            world.kernel(id, |kernel| kernel.refuses_joins = false);
        }
        Harm::ReplacedRunner => {
            world.runner(id, false);
            let gone = rng.below(2_000);
            world.run(Duration::from_millis(gone));
            world.runner(id, true);
        }
        Harm::Tug => {
            let instances = world.config(id).instances;
            let address = instances.iter().flat_map(|i| i.addresses.first()).next();
            let times = 1 + rng.below(24);
            let pause = Duration::from_millis(1 + rng.below(300));
            for _ in 0..times {
                if let Some(address) = address {
                    world.remove_address(id, &address.prefix.to_string());
                }
                world.run(pause);
            }
        }
        Harm::OwnAddress => {}
    }
}

/// Changes what identifies a router on the wire.
fn move_router(instance: &mut Instance, harm: Harm) {
    match harm {
        Harm::MoveInterface => {
            let there = instance.interface.as_str() == INTERFACES[0];
            let to = interface(if there { INTERFACES[1] } else { INTERFACES[0] });
            for address in instance.addresses.iter_mut().chain(&mut instance.excluded) {
                address.interface = to.clone();
            }
            instance.interface = to;
        }
        Harm::MoveVrid => {
            instance.vrid = Vrid::new(instance.vrid.get() ^ 0x40).unwrap_or(instance.vrid);
        }
        _ if instance.family == crate::base::Family::V4 => {
            instance.version = match instance.version {
                Version::V2 => Version::V3,
                Version::V3 => Version::V2,
            };
            instance.authentication = crate::model::vrrp::Authentication::None;
            instance.advert_int = Duration::from_secs(1);
        }
        _ => {}
    }
}

/// Reloads a host with a configuration that differs a little from the one it has, then goes back to that.
fn reload(world: &mut World, rng: &mut Rng, id: NodeId) {
    let old = world.config(id);
    let mut new = old.clone();
    match rng.below(7) {
        0 => {}
        1 => {
            for (n, instance) in (0u8..).zip(&mut new.instances) {
                let text = format!("10.0.9.{}/32", n + 1);
                let address = sample::address(&text, &instance.interface.clone());
                instance.excluded.push(address);
            }
        }
        2 => {
            for instance in &mut new.instances {
                let priority = u8::try_from(1 + rng.below(254)).unwrap_or(1);
                instance.priority = Priority::new(priority).unwrap_or(Priority::OWNER);
            }
        }
        3 => {
            for instance in &mut new.instances {
                instance.name = format!("renamed {}", instance.name).into();
            }
            for group in &mut new.groups {
                for member in &mut group.members {
                    *member = format!("renamed {member}").into();
                }
            }
        }
        4 => new.instances.reverse(),
        5 => {
            for instance in &mut new.instances {
                instance.advert_int *= 2;
            }
        }
        _ => {
            if new.groups.is_empty() {
                let extra =
                    sample::instance("extra", "enp0s9", 77, 90, &["10.0.3.77/24", "10.0.3.78/32"]);
                new.instances.push(extra);
            }
        }
    }
    let balanced = world.balanced(id);
    if !balanced.services.is_empty() {
        let mut other = balanced.clone();
        for service in &mut other.services {
            match rng.below(3) {
                0 => service.servers.push(sample::real_server([10, 0, 0, 73].into(), 80)),
                1 => service.scheduler = "wlc".into(),
                _ => service.servers.iter_mut().for_each(|s| s.weight += 1),
            }
        }
        world.rebalance(id, other);
    }
    world.reload(id, new);
    let pause = rng.below(20_000);
    world.run(Duration::from_millis(pause));
    world.reload(id, old);
    if !balanced.services.is_empty() {
        world.rebalance(id, balanced);
    }
}

fn some_server(rng: &mut Rng) -> SocketAddr {
    let last = if rng.chance(50) { 71 } else { 72 };
    SocketAddr::from(([10, 0, 0, last], 80))
}

/// A service that another program made.
fn foreign() -> Table {
    let key = ServiceKey::Mark { mark: 99, family: crate::base::Family::V4 };
    let server = sample::real_server([10, 9, 9, 9].into(), 0);
    let service = sample::service(key, vec![server.clone()]);
    let mut destinations = Destinations::default();
    destinations.insert(DestinationKey::of(&server), Destination::of(&server, 7));
    let entry = Entry { settings: Settings::of(&service), destinations };
    Table { services: [(key, entry)].into() }
}

/// Makes everything right again.
fn mend(world: &mut World) {
    world.mend_network();
    for last in [71, 72] {
        world.server(SocketAddr::from(([10, 0, 0, last], 80)), Answer::Accepts);
    }
    for id in world.nodes() {
        world.kernel(id, |kernel| {
            kernel.refusals = 0;
            kernel.refuses_joins = false;
            kernel.latency = Duration::from_micros(20);
        });
        for link in INTERFACES {
            world.make_link(id, link);
            world.rename_link(id, link, link);
            world.cable(id, link, true);
        }
        world.restore_home(id);
        world.script(id, SCRIPT, RunEnd::Exit(0));
        world.runner(id, true);
        world.refuse_services(id, 0);
        if world.engine(id).is_none() {
            world.start(id);
        }
    }
}
