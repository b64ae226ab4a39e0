//! A story derived from a seed: a cluster and its failures.
//!
//! Each round causes failures, lets time pass, repairs everything and lets time pass again, long enough for the oracle
//! to see a settled cluster. The oracle checks every step.

mod cluster;
mod harm;

use core::net::SocketAddr;
use core::time::Duration;

use self::cluster::{Traits, configuration, foreign};
use self::harm::{HARMS, Harm, do_harm};
use super::director::Answer;
use super::forge::REFUSED;
use super::world::{NodeId, World};
use crate::base::Family;
use crate::base::rng::Rng;
use crate::model::sample;
use crate::vrrp::RunEnd;

/// The interfaces of each host.
const INTERFACES: [&str; 2] = ["enp0s8", "enp0s9"];
/// The address of the first host on the first of them.
const OWN_ADDRESS: &str = "10.0.2.71/24";
/// The tracking script of some clusters.
const SCRIPT: &str = "chk_haproxy";

/// The tracked file of some clusters.
const FILE: &str = "load";

/// Failures that the engine is known to handle wrongly. Chaos leaves them out until that is fixed.
const KNOWN_FAULTS: &[Harm] = &[];

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
    let traits = Traits::draw(&mut rng, &mut Rng::new(seed ^ 0x6a59));
    let mut slices = Rng::new(seed ^ 0x0051_1ce5);
    for host in 0..hosts {
        let mut config = configuration(kind, host);
        traits.apply(&mut config);
        traits.apply_ah(&mut config);
        traits.apply_hmac(&mut config, host);
        // If the virtual address is that of a host, no other host could receive from its peers.
        if kind != 11 {
            traits.apply_unicast(&mut config, host, hosts);
        }
        config.startup_delay = startup_delay;
        let id = world.add(&INTERFACES, config);
        world.kernel(id, |kernel| kernel.promote = promote);
        // Some process large jobs in small slices, so that many other events fall between the slices.
        if slices.chance(40)
            && let Some(effort) = one_of(&mut slices, &[1, 1, 1, 2, 5, 20])
        {
            let time = Duration::from_micros(5 + slices.below(96));
            world.slow(id, *effort, time);
        }
        if matches!(kind, 2 | 5 | 8) {
            world.balance(id, sample::balanced());
            world.add_foreign_service(id, &foreign());
        }
        world.file(id, FILE, 0);
        world.start(id);
    }
    world.run(Duration::from_secs(30));
    for harms in schedule(seed, rounds) {
        for one in harms {
            harm(&mut world, &mut rng, one);
            let longest = if rng.chance(20) { 40_000 } else { 6_000 };
            let pause = rng.below(longest);
            world.run(Duration::from_millis(pause));
        }
        mend(&mut world);
        world.run(Duration::from_secs(45));
        noise(&mut world, &mut rng);
        world.run(Duration::from_secs(15));
        if !world.violations().is_empty() {
            break;
        }
    }
    world
}

/// A stranger sends packets that must be refused without consequences.
fn noise(world: &mut World, rng: &mut Rng) {
    for _ in 0..rng.below(12) {
        let hosts = world.nodes().count() as u64;
        let id = NodeId(usize::try_from(rng.below(hosts)).unwrap_or(0));
        let instances = world.config(id).instances;
        if let (Some(instance), Some(flaw), Some(priority)) =
            (one_of(rng, &instances), one_of(rng, &REFUSED), one_of(rng, &[0, 1, 254, 255]))
            && flaw.is_possible(instance)
        {
            // Some pretend to be a router of the cluster.
            let host = u8::try_from(1 + rng.below(hosts)).unwrap_or(1);
            let own = if instance.family == Family::V4 { host + 70 } else { host };
            let last = if rng.chance(30) { own } else { 250 };
            world.forge(id, instance, last, *priority, *flaw);
        }
        let pause = rng.below(700);
        world.run(Duration::from_millis(pause));
    }
}

fn one_of<'a, T>(rng: &mut Rng, all: &'a [T]) -> Option<&'a T> {
    all.get(usize::try_from(rng.below(all.len() as u64)).unwrap_or(0))
}

/// The failures of each round of a story. They depend on nothing else.
fn schedule(seed: u64, rounds: u32) -> Vec<Vec<Harm>> {
    let mut rng = Rng::new(seed ^ 0x4a12_3000);
    let all: u64 = HARMS.iter().map(|(_, share)| share).sum();
    let mut draw = || {
        let mut at = rng.below(all);
        let found = HARMS.iter().find(|(_, share)| {
            let here = at < *share;
            at = at.saturating_sub(*share);
            here
        });
        found.map(|(harm, _)| *harm)
    };
    (0..rounds).map(|n| (0..=u64::from(n) % 2).filter_map(|_| draw()).collect()).collect()
}

fn harm(world: &mut World, rng: &mut Rng, harm: Harm) {
    let hosts = world.nodes().count() as u64;
    let id = NodeId(usize::try_from(rng.below(hosts)).unwrap_or(0));
    let link = if rng.chance(50) { INTERFACES[0] } else { INTERFACES[1] };
    if !KNOWN_FAULTS.contains(&harm) {
        do_harm(world, rng, id, link, harm);
    }
}

/// Repairs everything.
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
        world.file(id, FILE, 0);
        world.runner(id, true);
        world.refuse_services(id, 0);
        if world.engine(id).is_none() {
            world.start(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The rounds and the seeds of every test run.
    #[test]
    fn every_harm_is_played() {
        let mut played: BTreeMap<Harm, usize> = BTreeMap::new();
        for seed in 0..200 {
            for harm in schedule(seed, 6).into_iter().flatten() {
                *played.entry(harm).or_default() += 1;
            }
        }
        for (harm, _) in HARMS {
            let times = played.get(&harm).copied().unwrap_or_default();
            assert!(times > 5 && !KNOWN_FAULTS.contains(&harm), "{harm:?}: {times} times");
        }
    }
}
