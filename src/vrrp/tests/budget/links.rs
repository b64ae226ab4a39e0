//! Links with thousands of addresses and routes, which appear, disappear, change their number or their name.

use super::*;
use crate::model::extras::InstanceExtras;
use crate::plan::Identity;
use crate::plan::route::{Hop, RouteIdentity, Slot};

const EACH_KIND: usize = 3000;

/// One instance with an address on the first link, and thousands of addresses and routes on the other one.
fn loaded(priority: u8) -> Vrrp {
    let mut config = failover(priority);
    let other = "enp0s9".parse().unwrap();
    let number = |n: usize| (n / 250, 1 + n % 250);
    let address = |n| {
        let (high, low) = number(n);
        sample::address(&format!("10.1.{high}.{low}/16"), &other)
    };
    let route = |n| {
        let (high, low) = number(n);
        let destination = prefix(&format!("10.2.{high}.{low}/32"));
        sample::route(destination, None, Some(other.clone()))
    };
    let routes = (0..EACH_KIND).map(route).collect();
    config.instances[0].excluded = (0..EACH_KIND).map(address).collect();
    config.instances[0].extras =
        Some(Box::new(InstanceExtras { routes, ..InstanceExtras::default() }));
    config
}

fn other(index: u32, name: &str, up: bool) -> Link {
    link(IfIndex(index), name, up)
}

impl Host {
    /// Operations that one event causes, in slices.
    fn orders(&mut self, event: Event<'_>) -> (usize, usize) {
        let cost = self.cost(event);
        cost.assert_small(3);
        let added = cost.order.iter().filter(|adds| **adds).count();
        (added, cost.order.len() - added)
    }
}

#[test]
fn a_link_with_thousands_of_objects_goes_and_comes_in_slices() {
    let mut host = Host::new(loaded(200));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    let all = 2 * EACH_KIND;
    assert_eq!(host.orders(Event::LinkGone(OTHER)), (0, 0), "the kernel has removed everything");
    assert_eq!(host.orders(Event::Link(other(7, "enp0s9", true))), (all, 0));
    // It is recreated before its end is reported.
    assert_eq!(host.orders(Event::Link(other(8, "enp0s9", true))), (all, 0));
    // The kernel removes routes with the link, without a word.
    assert_eq!(host.orders(Event::Link(other(8, "enp0s9", false))).1, 0);
    assert_eq!(host.orders(Event::Link(other(8, "enp0s9", true))), (EACH_KIND, 0));
}

#[test]
fn links_with_thousands_of_objects_swap_their_names_in_slices() {
    let mut host = Host::new(loaded(200));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    // The old name stays with the link and its objects as long as it exists.
    assert_eq!(host.orders(Event::Link(other(OTHER.0, "lan", true))), (0, 0));
    assert_eq!(host.orders(Event::Link(other(9, "enp0s9", true))), (0, 0));
    assert_eq!(host.orders(Event::LinkGone(OTHER)), (2 * EACH_KIND, 0));
    assert_eq!(host.engine.view(host.now).instances[0].objects_present, 2 * EACH_KIND + 1);
}

#[test]
fn a_backup_forgets_routes_on_a_link_that_changes_in_slices() {
    // They were left behind by an earlier process and are kept until the link changes.
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(failover(100))));
    let mut kernel = host.kernel();
    let config = loaded(100);
    let extras = config.instances[0].extras.as_ref().unwrap();
    kernel.objects.extend(extras.routes.iter().map(|route| {
        let slot = Slot::new(route.destination, None, route.table, route.tos, 0);
        let route = RouteIdentity { slot, vrf: None, path: vec![Hop::Link(OTHER)] };
        Sight { identity: Identity::Route(Box::new(route)), links: vec![OTHER], attributes: None }
    }));
    host.cost(Event::Kernel(kernel)).assert_small(1);
    assert_eq!(host.orders(Event::Link(other(OTHER.0, "enp0s9", false))), (0, 0));
}
