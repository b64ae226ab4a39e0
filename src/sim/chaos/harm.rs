//! Failures, and how the world suffers them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use super::cluster::interface;
use super::{FILE, INTERFACES, SCRIPT, one_of};
use crate::base::rng::Rng;
use crate::model::vrrp::{Authentication, Priority, Version, Vrid};
use crate::model::{Instance, Vrrp, sample};
use crate::sim::director::Answer;
use crate::sim::forge::Flaw;
use crate::sim::world::{NodeId, World};
use crate::vrrp::RunEnd;

/// A failure of a host, of what it depends on, or of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Harm {
    /// The daemon is killed, and nothing is undone.
    Crash,
    /// The daemon is stopped in good order.
    Stop,
    /// The daemon is killed and started again.
    Restart,
    /// The supervisor replaces the VRRP process.
    Replace,
    /// A cable is pulled.
    Cable,
    /// A cable is plugged and pulled repeatedly.
    Flutter,
    /// Frames are lost.
    Loss,
    /// Frames arrive twice, late, and in another order.
    Jitter,
    /// Two hosts do not hear each other on one segment.
    Cut,
    /// Two hosts do not hear each other at all.
    Partition,
    /// The process is not run for a while.
    Stall,
    /// The kernel is slow and refuses some changes.
    Refusals,
    /// Another program removes virtual addresses.
    Removed,
    /// A script ends differently.
    Script,
    /// The runner is gone.
    NoRunner,
    /// A real server refuses connections or is silent.
    Server,
    /// The supervisor replaces the checker.
    ReplacedChecker,
    /// The kernel refuses changes of services.
    RefusedServices,
    /// Two reloads.
    Reload,
    /// The addresses of the host itself are removed.
    NoSource,
    /// A link gets another name while it is up.
    Rename,
    /// A link is removed and created again with another index.
    Recreate,
    /// Some virtual addresses exist when a daemon starts.
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
    /// The runner is replaced, and its running programs are lost.
    ReplacedRunner,
    /// A virtual address is removed again and again.
    Tug,
    /// A script alternately succeeds and fails.
    Flap,
    /// The number in a tracked file changes twice.
    File,
    /// Packet filters and policy rules are removed by another program.
    Flush,
    /// A stranger sends adverts as if it were a router of the cluster.
    Stranger,
    /// A stranger sends adverts with an additional address.
    Disagreement,
    /// Another program adds virtual addresses while the daemon runs.
    Additions,
    /// Another program removes the routes.
    NoRoutes,
    /// The virtual address is the address of a host, which has priority 255. Not a failure, but a kind of cluster.
    OwnAddress,
}

/// All failures; those that everybody knows are the most frequent ones.
pub(super) const HARMS: [(Harm, u64); 38] = [
    (Harm::Crash, 2),
    (Harm::Stop, 2),
    (Harm::Restart, 2),
    (Harm::Replace, 2),
    (Harm::Cable, 2),
    (Harm::Flutter, 2),
    (Harm::Loss, 2),
    (Harm::Jitter, 2),
    (Harm::Cut, 2),
    (Harm::Partition, 2),
    (Harm::Stall, 4),
    (Harm::Refusals, 2),
    (Harm::Removed, 2),
    (Harm::Script, 2),
    (Harm::NoRunner, 2),
    (Harm::Server, 4),
    (Harm::ReplacedChecker, 2),
    (Harm::RefusedServices, 2),
    (Harm::Reload, 4),
    (Harm::NoSource, 1),
    (Harm::Rename, 1),
    (Harm::Recreate, 1),
    (Harm::Leftovers, 1),
    (Harm::MoveInterface, 1),
    (Harm::MoveVrid, 1),
    (Harm::MoveVersion, 1),
    (Harm::ReloadStalled, 1),
    (Harm::Wedge, 1),
    (Harm::RefusedJoins, 1),
    (Harm::ReplacedRunner, 1),
    (Harm::Tug, 1),
    (Harm::Flap, 1),
    (Harm::File, 1),
    (Harm::Flush, 1),
    (Harm::Stranger, 1),
    (Harm::Disagreement, 1),
    (Harm::Additions, 1),
    (Harm::NoRoutes, 1),
];

pub(super) fn do_harm(world: &mut World, rng: &mut Rng, id: NodeId, link: &str, harm: Harm) {
    let pause = Duration::from_millis(rng.below(9_000));
    match harm {
        Harm::Crash => world.crash(id),
        Harm::Stop => world.stop(id),
        Harm::Restart => {
            world.crash(id);
            let pause = rng.below(5_000);
            world.run(Duration::from_millis(pause));
            world.start(id);
        }
        Harm::Replace => world.replace_role(id),
        Harm::Cable => world.cable(id, link, false),
        Harm::Flutter => {
            for _ in 0..rng.below(6) {
                world.cable(id, link, false);
                // What lasts for no time does not happen.
                let down = 1 + rng.below(299);
                world.run(Duration::from_millis(down));
                world.cable(id, link, true);
                let up = 1 + rng.below(299);
                world.run(Duration::from_millis(up));
            }
        }
        Harm::Loss | Harm::Jitter | Harm::Cut | Harm::Partition => {
            disrupt(world, rng, id, link, harm);
        }
        Harm::Stall => {
            let time = rng.below(12_000);
            world.stall(id, Duration::from_millis(time));
        }
        Harm::Refusals => {
            let refusals = 20 + rng.below(70);
            world.kernel(id, |kernel| kernel.refusals = refusals);
            world.kernel(id, |kernel| kernel.latency = Duration::from_millis(20));
        }
        Harm::Removed => {
            for config in world.config(id).instances {
                for address in config.addresses.iter().take(1) {
                    world.remove_address(id, &address.prefix.to_string());
                }
            }
        }
        Harm::Script => {
            let status = i32::from(rng.chance(70));
            world.script(id, SCRIPT, RunEnd::Exit(status));
        }
        Harm::NoRunner => world.runner(id, false),
        Harm::Server => {
            let answer = if rng.chance(50) { Answer::Refuses } else { Answer::Silent };
            world.server(some_server(rng), answer);
        }
        Harm::ReplacedChecker => world.replace_checker(id),
        Harm::RefusedServices => {
            let percent = 20 + rng.below(70);
            world.refuse_services(id, percent);
        }
        Harm::Reload => reload(world, rng, id),
        Harm::NoSource => {
            world.remove_home(id, link);
            world.run(pause);
            if rng.chance(50) {
                world.restore_home(id);
            }
        }
        Harm::Rename => {
            // Sometimes two links swap their names.
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
        Harm::Flap => {
            for n in 0..2 + rng.below(10) {
                let status = i32::from(n % 2 == 0);
                world.script(id, SCRIPT, RunEnd::Exit(status));
                let pause = 200 + rng.below(3_000);
                world.run(Duration::from_millis(pause));
            }
        }
        Harm::File => {
            for _ in 0..1 + rng.below(4) {
                let values = [-300, -60, -1, 0, 1, 40, 254];
                world.file(id, FILE, one_of(rng, &values).copied().unwrap_or_default());
                let pause = rng.below(4_000);
                world.run(Duration::from_millis(pause));
            }
        }
        Harm::Flush => {
            world.flush_filters(id);
            world.run(pause);
            world.flush_rules(id);
        }
        Harm::Stranger | Harm::Disagreement => stranger(world, rng, id, harm),
        Harm::Additions => {
            let instances = world.config(id).instances;
            // An owner takes what it finds for an address of its interface.
            let others = instances.iter().filter(|i| i.priority != Priority::OWNER);
            for address in others.flat_map(|i| i.addresses.iter().chain(&i.excluded)) {
                if rng.chance(60) {
                    world.add_address(id, address.interface.as_str(), address.prefix);
                }
            }
        }
        Harm::NoRoutes => {
            world.remove_routes(id);
            world.run(pause);
            world.remove_routes(id);
        }
        Harm::OwnAddress => {}
    }
}

/// A segment, or the path from a host to the next one, does not carry every frame.
fn disrupt(world: &mut World, rng: &mut Rng, id: NodeId, link: &str, harm: Harm) {
    let other = NodeId((id.0 + 1) % world.nodes().count().max(1));
    match harm {
        Harm::Loss => {
            let loss = 10 + rng.below(60);
            world.segment(link, |s| s.loss = loss);
        }
        Harm::Jitter => {
            let (duplication, jitter) = (rng.below(80), rng.below(300));
            world.segment(link, |s| {
                s.duplication = duplication;
                s.jitter = Duration::from_millis(jitter);
            });
        }
        Harm::Cut => world.segment(link, |s| s.cut(id, other, true)),
        _ => {
            for name in INTERFACES {
                world.segment(name, |s| s.cut(id, other, true));
            }
        }
    }
}

fn some_server(rng: &mut Rng) -> SocketAddr {
    let last = if rng.chance(50) { 71 } else { 72 };
    SocketAddr::from(([10, 0, 0, last], 80))
}

/// Adverts of an unknown router, about as often as those of a master, or too often.
fn stranger(world: &mut World, rng: &mut Rng, id: NodeId, harm: Harm) {
    let instances = world.config(id).instances;
    let Some(instance) = one_of(rng, &instances) else { return };
    let Some(priority) = one_of(rng, &[0, 1, 120, 150, 254]).copied() else { return };
    let steady = rng.chance(70);
    let percent = if rng.chance(80) { 60 + rng.below(60) } else { 20 + rng.below(200) };
    let interval = u64::try_from(instance.advert_int.as_millis()).unwrap_or(u64::MAX);
    for _ in 0..1 + rng.below(16) {
        let flaw = match harm {
            Harm::Disagreement => Flaw::More,
            _ if rng.chance(20) => Flaw::Other,
            _ => Flaw::None,
        };
        let last = if steady || rng.chance(50) { 250 } else { 60 };
        world.forge(id, instance, last, priority, flaw);
        world.run(Duration::from_millis(interval * percent / 100));
    }
}

/// Changes the identity of a router on the wire.
fn move_router(instance: &mut Instance, harm: Harm) {
    match harm {
        Harm::MoveInterface => {
            let there = instance.interface.as_str() == INTERFACES[0];
            let to = interface(if there { INTERFACES[1] } else { INTERFACES[0] });
            for address in instance.addresses.iter_mut().chain(&mut instance.excluded) {
                address.interface = to.clone();
            }
            let routes = instance.extras.iter_mut().flat_map(|extras| &mut extras.routes);
            routes.for_each(|route| route.interface = Some(to.clone()));
            instance.interface = to;
            let unicast = instance.extras.as_mut().and_then(|extras| extras.unicast.as_mut());
            let peers = unicast.into_iter().flat_map(|unicast| &mut unicast.peers);
            let peers = peers.map(|peer| &mut peer.address);
            for host in peers.chain(&mut instance.source) {
                // The same address on the other segment.
                *host = match *host {
                    IpAddr::V4(address) => Ipv4Addr::from(address.to_bits() ^ 1 << 8).into(),
                    IpAddr::V6(address) => {
                        IpAddr::from(Ipv6Addr::from(address.to_bits() ^ 1 << 16))
                    }
                };
            }
        }
        Harm::MoveVrid => {
            instance.vrid = Vrid::new(instance.vrid.get() ^ 0x40).unwrap_or(instance.vrid);
        }
        _ if instance.family == crate::base::Family::V4 => {
            instance.version = match instance.version {
                Version::V2 => Version::V3,
                Version::V3 => Version::V2,
            };
            instance.authentication = Authentication::None;
            if let Some(extras) = &mut instance.extras {
                extras.ah_key = None;
            }
            instance.advert_int = Duration::from_secs(1);
        }
        _ => {}
    }
}

/// Reloads a host with a slightly different configuration, and later with the original one.
fn reload(world: &mut World, rng: &mut Rng, id: NodeId) {
    let old = world.config(id);
    let mut new = old.clone();
    let first = rng.below(CHANGES);
    change(&mut new, rng, first);
    // Half of them change two things at once.
    let second = rng.below(2 * CHANGES);
    if second < CHANGES && second != first {
        change(&mut new, rng, second);
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

/// Kinds of [`change`].
const CHANGES: u64 = 15;

/// Changes one thing of a configuration.
fn change(new: &mut Vrrp, rng: &mut Rng, kind: u64) {
    match kind {
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
        6 => {
            for script in &mut new.scripts {
                (script.rise, script.fall) = (script.fall, script.rise + 1);
                script.interval *= 2;
            }
        }
        7 => {
            for script in &mut new.scripts {
                script.command.words.push(b"again".as_slice().into());
            }
        }
        8 => new.groups.clear(),
        9 => {
            for instance in &mut new.instances {
                if instance.family == crate::base::Family::V4 {
                    let address = sample::address("10.0.7.7/32", &instance.interface.clone());
                    instance.addresses.push(address);
                }
            }
        }
        10 => {
            for instance in &mut new.instances {
                instance.down_timer_adverts += 1;
                instance.track_interfaces.clear();
                instance.track_scripts.clear();
                if let Some(extras) = &mut instance.extras {
                    extras.track_files.clear();
                }
            }
        }
        11 => {
            // Reloads toggle the packet filters of addresses (`no_accept`).
            for instance in &mut new.instances {
                let extras = instance.extras.get_or_insert_default();
                let closed = extras.accept == Some(false) || instance.priority == Priority::OWNER;
                extras.accept = (!closed).then_some(false);
            }
        }
        12 => {
            for instance in &mut new.instances {
                let rules = &mut instance.extras.get_or_insert_default().rules;
                rules.retain(|rule| rule.preference % 2 == 0);
                let preference = 200 + u32::from(instance.vrid.get());
                rules.push(sample::rule(crate::base::Family::V4, preference, 44));
                let routes = &mut instance.extras.get_or_insert_default().routes;
                routes.retain(|route| route.gateway.is_none());
                routes.iter_mut().for_each(|route| route.table = 77);
            }
            new.static_rules.clear();
            new.static_routes.clear();
        }
        13 => {
            // Members that the next reload adds to their groups.
            for group in &mut new.groups {
                if let Some(last) = group.members.pop() {
                    new.instances.retain(|instance| instance.name != last);
                }
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
}
