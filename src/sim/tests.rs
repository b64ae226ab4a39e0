//! Stories written by hand, and stories derived from seeds.
#![allow(clippy::print_stdout, reason = "a failing seed is printed")]

use std::time::{Duration, Instant};

use super::chaos;
use super::director::Answer;
use super::world::{NodeId, World};
use crate::model::link::IpvlanMode;
use crate::model::sample::{self, address, balanced, failover, nat};
use crate::model::vrrp::InitialState;
use crate::model::{Instance as Configured, LinkKind, Vrrp};
use crate::status::vrrp::State;

const SECOND: Duration = Duration::from_secs(1);
const A: NodeId = NodeId(0);
const B: NodeId = NodeId(1);

/// Two hosts with the failover scenario, the first of them master.
fn two() -> World {
    let mut world = World::new(1);
    for priority in [200, 100] {
        let id = world.add(&["enp0s8", "enp0s9"], failover(priority));
        world.start(id);
    }
    world.run(10 * SECOND);
    assert_eq!(world.masters("VRRP1"), [A]);
    world
}

fn assert_sound(world: &World) {
    assert!(world.violations().is_empty(), "{:#?}\n{}", world.violations(), world.trace());
}

#[test]
fn the_better_router_becomes_master_and_holds_the_address() {
    let world = two();
    assert!(world.has_address(A, "10.0.2.100/24"));
    assert!(!world.has_address(B, "10.0.2.100/24"));
    assert_sound(&world);
}

#[test]
fn a_backup_takes_over_after_three_intervals_and_the_skew() {
    let mut world = two();
    // The next advert would be due within a second.
    world.crash(A);
    let crashed = world.now();
    assert!(world.run_until(5 * SECOND, |w| w.masters("VRRP1") == [B]));
    let took = world.now().since(crashed);
    assert!(took > Duration::from_millis(2_609) && took < Duration::from_millis(3_610), "{took:?}");
    world.run(30 * SECOND);
    // It comes back and takes the address again.
    world.start(A);
    assert!(world.run_until(5 * SECOND, |w| w.masters("VRRP1") == [A]));
    world.run(30 * SECOND);
    assert!(world.has_address(A, "10.0.2.100/24") && !world.has_address(B, "10.0.2.100/24"));
    assert_sound(&world);
}

#[test]
fn stopping_hands_over_within_the_skew_time() {
    let mut world = two();
    world.stop(A);
    let stopped = world.now();
    assert!(world.run_until(SECOND, |w| w.masters("VRRP1") == [B]));
    let took = world.now().since(stopped);
    assert!(took < Duration::from_millis(610), "{took:?}");
    assert!(!world.has_address(A, "10.0.2.100/24"));
    assert_eq!(world.announced(A).last().unwrap(), "INSTANCE \"VRRP1\" STOP 200");
    assert_sound(&world);
}

#[test]
fn a_cut_cable_moves_both_addresses_of_a_group() {
    for cable in ["enp0s8", "enp0s9"] {
        let mut world = World::new(1);
        for priority in [200, 100] {
            let id = world.add(&["enp0s8", "enp0s9"], nat(priority));
            world.start(id);
        }
        world.run(30 * SECOND);
        for (host, there) in [(A, true), (B, false)] {
            assert_eq!(world.has_address(host, "10.0.2.1/24"), there, "{}", world.trace());
            assert_eq!(world.has_address(host, "10.0.3.100/24"), there);
        }
        world.cable(A, cable, false);
        world.run(5 * SECOND);
        for (host, there) in [(A, false), (B, true)] {
            assert_eq!(world.has_address(host, "10.0.2.1/24"), there, "{cable}");
            assert_eq!(world.has_address(host, "10.0.3.100/24"), there, "{cable}");
        }
        let announced = world.announced(B);
        let last: Vec<&str> = announced.iter().rev().take(3).rev().map(String::as_str).collect();
        // Members first, the group last.
        assert_eq!(last[2], "GROUP \"VRRP1\" MASTER 0");
        assert!(last[..2].contains(&"INSTANCE \"external\" MASTER 100"));
        world.cable(A, cable, true);
        world.run(30 * SECOND);
        assert!(world.has_address(A, "10.0.2.1/24") && world.has_address(A, "10.0.3.100/24"));
        assert_sound(&world);
    }
}

#[test]
fn a_stalled_backup_does_not_take_over_from_a_living_master() {
    let mut world = two();
    world.stall(B, 20 * SECOND);
    world.run(19 * SECOND);
    assert_eq!(world.masters("VRRP1"), [A]);
    world.run(30 * SECOND);
    assert_eq!(world.masters("VRRP1"), [A]);
    assert_eq!(world.announced(B), ["INSTANCE \"VRRP1\" BACKUP 100"]);
    assert_sound(&world);
}

#[test]
fn a_replaced_role_goes_on_as_master() {
    let mut world = two();
    world.replace_role(A);
    // At once, without an election, and no notice is repeated.
    assert_eq!(world.state(A, "VRRP1"), Some(State::Master));
    world.run(30 * SECOND);
    assert_eq!(world.masters("VRRP1"), [A]);
    assert_eq!(world.announced(B), ["INSTANCE \"VRRP1\" BACKUP 100"]);
    assert_eq!(world.announced(A).last().unwrap(), "INSTANCE \"VRRP1\" MASTER 200");
    assert_eq!(world.announced(A).len(), 2);
    assert_sound(&world);
}

#[test]
fn a_crashed_director_adopts_its_address_or_leaves_it_to_the_new_master() {
    // Back before any router noticed: the address stays where it is.
    let mut world = two();
    world.crash(A);
    world.start(A);
    assert!(world.run_until(5 * SECOND, |w| w.masters("VRRP1") == [A]));
    assert!(!world.trace().contains("delete 10.0.2.100/24 if2 Done"));
    // Back after the other took over: the address is removed as soon as that is heard.
    world.run(30 * SECOND);
    world.crash(A);
    world.run(10 * SECOND);
    assert!(world.has_address(A, "10.0.2.100/24") && world.has_address(B, "10.0.2.100/24"));
    world.start(A);
    assert!(world.run_until(Duration::from_millis(1_010), |w| !w.has_address(A, "10.0.2.100/24")));
    assert_eq!(world.masters("VRRP1"), [B]);
    world.run(30 * SECOND);
    assert_eq!(world.masters("VRRP1"), [A]);
    assert_sound(&world);
}

#[test]
fn an_address_that_somebody_removes_is_put_back_at_once() {
    let mut world = two();
    world.run(20 * SECOND);
    world.remove_address(A, "10.0.2.100/24");
    world.run(Duration::from_millis(1));
    assert!(world.has_address(A, "10.0.2.100/24"));
    assert_eq!(world.masters("VRRP1"), [A]);
    assert_sound(&world);
}

#[test]
fn an_address_is_announced_when_its_link_comes_up() {
    let mut world = World::new(1);
    let mut config = failover(200);
    config.instances[0].excluded = vec![address("10.0.3.7/32", &"enp0s9".parse().unwrap())];
    let id = world.add(&["enp0s8", "enp0s9"], config);
    world.cable(id, "enp0s9", false);
    world.start(id);
    world.run(20 * SECOND);
    let announced = |world: &World| world.trace().contains("announces 10.0.3.7 on if3, 5 frames");
    assert!(world.has_address(id, "10.0.3.7/32") && !announced(&world));
    world.cable(id, "enp0s9", true);
    world.run(Duration::from_millis(10));
    assert!(announced(&world), "{}", world.trace());
    assert_sound(&world);
}

#[test]
fn an_owner_takes_part_again_when_its_own_address_is_back() {
    let mut world = World::new(1);
    let mut config = failover(255);
    config.instances[0].state = InitialState::Master;
    config.instances[0].addresses = vec![address("10.0.2.71/24", &"enp0s8".parse().unwrap())];
    let id = world.add(&["enp0s8"], config);
    world.start(id);
    world.run(10 * SECOND);
    assert_eq!(world.masters("VRRP1"), [id]);
    // The interface is created again while the address is being restored on the old one.
    world.remove_link(id, "enp0s8");
    world.make_link(id, "enp0s8");
    world.restore_home(id);
    world.run(10 * SECOND);
    assert_eq!(world.masters("VRRP1"), [id], "{}", world.trace());
    world.remove_address(id, "10.0.2.71/24");
    world.run(10 * SECOND);
    assert_eq!(world.masters("VRRP1"), [id], "{}", world.trace());
    assert_sound(&world);
}

#[test]
fn an_address_that_is_away_is_not_announced() {
    let mut world = World::new(1);
    let mut config = failover(200);
    config.instances[0].garp.interval = Duration::from_millis(2);
    let id = world.add(&["enp0s8"], config);
    world.start(id);
    world.run(20 * SECOND);
    for _ in 0..10 {
        world.remove_address(id, "10.0.2.100/24");
        world.run(Duration::from_millis(3));
    }
    assert_sound(&world);
}

#[test]
fn a_kernel_that_refuses_all_addresses_makes_room_for_another_router() {
    let mut world = two();
    let vip = world.config(A).instances[0].addresses[0].prefix;
    world.crash(B);
    world.kernel(B, |kernel| _ = kernel.impossible.insert(vip));
    world.start(B);
    world.crash(A);
    // It becomes master, cannot add the address, and leaves after a few attempts.
    assert!(world.run_until(5 * SECOND, |w| w.masters("VRRP1") == [B]));
    assert!(world.run_until(10 * SECOND, |w| w.state(B, "VRRP1") == Some(State::Fault)));
    world.start(A);
    world.run(20 * SECOND);
    assert_eq!(world.masters("VRRP1"), [A]);
    world.kernel(B, |kernel| kernel.impossible.clear());
    world.run(60 * SECOND);
    assert_eq!(world.state(B, "VRRP1"), Some(State::Backup));
    assert_sound(&world);
}

#[test]
fn equal_runs_have_equal_traces() {
    for seed in [3, 4, 5] {
        let (a, b) = (chaos::play(seed, 3), chaos::play(seed, 3));
        assert_eq!(a.digest(), b.digest(), "seed {seed}");
        assert_eq!(a.trace(), b.trace());
    }
    assert_ne!(chaos::play(3, 1).digest(), chaos::play(4, 1).digest());
}

/// The number of seeds to play, and the first one: `EVERVIP_SEEDS`, `EVERVIP_SEED`.
#[allow(clippy::disallowed_methods, reason = "a knob of this test")]
pub(super) fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse().ok());
    let count = number("EVERVIP_SEEDS");
    match number("EVERVIP_SEED") {
        Some(seed) => seed..seed + count.unwrap_or(1),
        None => 0..count.unwrap_or(200),
    }
}

#[test]
fn chaos_breaks_nothing() {
    let mut broken = Vec::new();
    let mut simulated = Duration::ZERO;
    for seed in seeds() {
        let world = chaos::play(seed, 6);
        simulated += world.now().since(crate::base::Instant::ZERO);
        if !world.violations().is_empty() {
            println!("seed {seed}: {:#?}", world.violations());
            if broken.is_empty() {
                println!("{}", world.trace());
            }
            broken.push(seed);
        }
    }
    let (hours, count) = (simulated.as_secs() / 3600, seeds().count());
    println!("chaos: {count} seeds, {hours} simulated hours, {} findings", broken.len());
    assert!(
        broken.is_empty(),
        "seeds {broken:?} break an invariant; replay one with EVERVIP_SEED={} cargo test chaos_breaks",
        broken[0]
    );
}

/// An hour of three hosts. The time is printed; it should stay far below a second, but only a bound for any machine is
/// asserted.
#[test]
#[allow(clippy::disallowed_methods, reason = "a measurement")]
fn an_hour_is_over_in_a_moment() {
    let started = Instant::now();
    let mut world = World::new(7);
    for priority in [200, 150, 100] {
        let id = world.add(&["enp0s8"], failover(priority));
        world.start(id);
    }
    world.run(3600 * SECOND);
    println!("an hour of three hosts took {:?}", started.elapsed());
    assert_eq!(world.masters("VRRP1"), [A]);
    assert_sound(&world);
}

#[test]
fn a_dead_server_leaves_the_table_and_returns() {
    let mut world = World::new(1);
    let id = world.add(&["enp0s8", "enp0s9"], nat(200));
    world.balance(id, balanced());
    world.start(id);
    world.run(30 * SECOND);
    let key = balanced().services[0].key;
    let weights = |world: &World| -> Vec<u32> { world.pool(id, &key).into_values().collect() };
    assert_eq!(weights(&world), [1, 1]);
    let dead = "10.0.0.71:80".parse().unwrap();
    world.server(dead, Answer::Silent);
    // At most a round, the wait for an answer, and one retry.
    assert!(world.run_until(22 * SECOND, |w| weights(w) == [1]), "{}", world.trace());
    assert!(
        world.announced(id).contains(&"RS [10.0.0.71]:tcp:80 [192.168.1.1]:tcp:80 DOWN".into())
    );
    world.server(dead, Answer::Accepts);
    assert!(world.run_until(11 * SECOND, |w| weights(w) == [1, 1]));
    world.stop(id);
    world.run(SECOND);
    assert_eq!(weights(&world), Vec::<u32>::new());
    assert_sound(&world);
}

#[test]
fn a_crashed_director_adopts_its_table() {
    let mut world = World::new(1);
    let id = world.add(&["enp0s8", "enp0s9"], nat(200));
    world.balance(id, balanced());
    world.start(id);
    world.run(30 * SECOND);
    // One server died before the crash: it must not return for a moment.
    world.server("10.0.0.71:80".parse().unwrap(), Answer::Refuses);
    world.run(30 * SECOND);
    let changes = |world: &World| world.trace().matches("kernel: ").count();
    let before = changes(&world);
    world.crash(id);
    world.start(id);
    world.run(60 * SECOND);
    // No operation on the table, none on addresses.
    assert_eq!(changes(&world), before, "{}", world.trace());
    assert_eq!(world.pool(id, &balanced().services[0].key).len(), 1);
    world.replace_checker(id);
    world.rebalance(id, balanced());
    world.run(60 * SECOND);
    assert_eq!(changes(&world), before, "{}", world.trace());
    assert_sound(&world);
}

/// The failover scenario with something else that carries it.
fn carried(priority: u8, by: &dyn Fn(&mut Configured)) -> Vrrp {
    let mut config = failover(priority);
    by(&mut config.instances[0]);
    config
}

fn macvlan(instance: &mut Configured, name: &str) {
    sample::vmac(instance);
    let link = instance.extras.as_mut().and_then(|extras| extras.own_link.as_mut()).unwrap();
    link.name = name.parse().unwrap();
    for address in &mut instance.addresses {
        address.interface = link.name.clone();
    }
}

fn ipvlan(instance: &mut Configured, name: &str) {
    macvlan(instance, name);
    let link = instance.extras.as_mut().and_then(|extras| extras.own_link.as_mut()).unwrap();
    link.kind = LinkKind::Ipvlan { mode: IpvlanMode::Bridge };
}

fn plain(_: &mut Configured) {}

fn by_vmac(instance: &mut Configured) {
    macvlan(instance, "vrrp.41");
}

fn by_named_vmac(instance: &mut Configured) {
    macvlan(instance, "vip0");
}

fn by_other_mac(instance: &mut Configured) {
    macvlan(instance, "vip0");
    let link = instance.extras.as_mut().and_then(|extras| extras.own_link.as_mut()).unwrap();
    link.kind = LinkKind::Macvlan { mac: crate::base::Mac([2, 0, 0, 0, 0, 41]) };
}

fn by_vmac_for_arp(instance: &mut Configured) {
    by_vmac(instance);
    instance.extras.as_mut().unwrap().vmac_xmit_base = true;
}

fn by_ipvlan(instance: &mut Configured) {
    ipvlan(instance, "ipv.41");
}

fn by_named_ipvlan(instance: &mut Configured) {
    ipvlan(instance, "vip0");
}

/// A reload that changes what carries a master leaves it master; its address is away for as long as it takes to create
/// an interface, at most.
#[test]
fn a_reload_that_changes_what_carries_a_master_leaves_it_master() {
    type By = fn(&mut Configured);
    let all: [(&str, By); 7] = [
        ("nothing", plain),
        ("use_vmac", by_vmac),
        ("use_vmac vip0", by_named_vmac),
        ("use_vmac vip0 MAC", by_other_mac),
        ("vmac_xmit_base", by_vmac_for_arp),
        ("use_ipvlan", by_ipvlan),
        ("use_ipvlan vip0", by_named_ipvlan),
    ];
    let step = Duration::from_micros(20);
    for (before, from) in all {
        for (after, to) in all {
            let mut world = World::new(1);
            for priority in [200, 100] {
                let id = world.add(&["enp0s8", "enp0s9"], carried(priority, &from));
                world.start(id);
            }
            world.run(20 * SECOND);
            assert_eq!(world.masters("VRRP1"), [A], "{before}: {}", world.trace());
            world.reload(A, carried(200, &to));
            let mut away = Duration::ZERO;
            for _ in 0..5_000 {
                world.run(step);
                if !world.has_address(A, "10.0.2.100/24") {
                    away += step;
                }
                assert_eq!(world.state(A, "VRRP1"), Some(State::Master), "{before} -> {after}");
            }
            println!("{before} -> {after}: {away:?} without the address");
            let kind =
                |word: &str| word.split(' ').next().unwrap().replace("vmac_xmit_base", "use_vmac");
            let keeps = kind(before) == kind(after) || after == "nothing";
            let most = if keeps { Duration::ZERO } else { Duration::from_millis(10) };
            assert!(away <= most, "{before} -> {after}: {away:?}");
            world.run(20 * SECOND);
            assert_eq!(world.masters("VRRP1"), [A], "{before} -> {after}");
            assert_sound(&world);
            world.stop(A);
            assert!(world.run_until(SECOND, |w| w.masters("VRRP1") == [B]), "no farewell");
            world.run(SECOND);
            world.kernel(A, |kernel| assert!(kernel.stacked.is_empty(), "{before} -> {after}"));
        }
    }
}
