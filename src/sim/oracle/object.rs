//! Routes, policy rules and packet filters: those of masters exist, no others of ours do, and an address that must be
//! filtered is never present without its filter. No multicast group is joined that no router needs.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use crate::base::{Family, IfIndex, Prefix};
use crate::model::Instance;
use crate::model::route::{Route, Rule};
use crate::model::vrrp::Priority;
use crate::plan::filter::Element;
use crate::plan::route::Hop;
use crate::plan::{Identity, Object, Op, Outcome, Verb};
use crate::sim::World;
use crate::sim::kernel::SimRoute;
use crate::sim::world::{Node, NodeId};

/// How long the order of objects may differ after a refused operation.
const REFUSED: Duration = Duration::from_secs(12);

/// The same after another program has flushed them, or a reload came in between.
const FLUSHED: Duration = Duration::from_secs(1);

fn rules(instance: &Instance) -> &[Rule] {
    instance.extras.as_ref().map_or(&[], |extras| &extras.rules)
}

fn routes(instance: &Instance) -> &[Route] {
    instance.extras.as_ref().map_or(&[], |extras| &extras.routes)
}

/// A route as it is found in a kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    destination: Prefix,
    table: u32,
    link: Option<IfIndex>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
}

impl Path {
    /// The form of a route with one nexthop on a host; none if its link does not exist or is down.
    fn of(node: &Node, route: &Route) -> Option<Self> {
        let link = route.interface.as_ref().map(|name| node.link_named(name).filter(|l| l.up));
        let link = match link {
            Some(link) => Some(link?.index),
            None => None,
        };
        Some(Self {
            destination: route.destination.network(),
            table: route.table,
            link,
            gateway: route.gateway,
            source: route.source,
        })
    }

    fn found(route: &SimRoute) -> Self {
        let gateway = route.identity.path.iter().find_map(|hop| match hop {
            Hop::Gateway(address, _) => Some(*address),
            Hop::Link(_) => None,
        });
        let slot = &route.identity.slot;
        Self {
            destination: slot.destination,
            table: slot.table,
            link: route.links.first().copied(),
            gateway,
            source: route.source,
        }
    }
}

fn addresses(instance: &Instance) -> impl Iterator<Item = IpAddr> {
    instance.addresses.iter().chain(&instance.excluded).map(|a| a.prefix.address)
}

/// `no_accept`: packets to and from the addresses are dropped while the router is master.
fn is_closed(instance: &Instance) -> bool {
    instance.priority != Priority::OWNER
        && instance.extras.as_ref().is_some_and(|extras| extras.accept == Some(false))
}

/// The addresses for which a host drops packets.
fn filtered(node: &Node) -> BTreeSet<IpAddr> {
    let address = |element: &Element<_>| match element {
        Element::Address(address) | Element::OnLink(address, _) | Element::OnNamed(address, _) => {
            Some(*address)
        }
        Element::Vmac { .. } => None,
    };
    node.kernel.filters.elements().filter_map(|filter| address(&filter.element)).collect()
}

/// Number of objects that a router requires besides its addresses.
pub(super) fn others(instance: &Instance, addresses: usize) -> usize {
    routes(instance).len() + rules(instance).len() + if is_closed(instance) { addresses } else { 0 }
}

impl World {
    /// Checks that the rules and filters of masters exist, and no others of ours.
    pub(super) fn check_objects(&self, id: NodeId, node: &Node, found: &mut Vec<String>) {
        let (mut wanted, mut free) = (BTreeSet::new(), BTreeSet::new());
        let (mut led, mut unsure_routes) = (BTreeSet::new(), BTreeSet::new());
        let paths = |routes: &[Route]| -> Vec<Path> {
            routes.iter().filter_map(|route| Path::of(node, route)).collect()
        };
        let (mut closed, mut unsure) = (BTreeSet::new(), BTreeSet::new());
        let mut families: BTreeSet<Family> = BTreeSet::new();
        for instance in &node.config.instances {
            let left =
                || node.leftovers.iter().any(|(_, p)| addresses(instance).any(|a| a == p.address));
            let leaving = self.is_leaving(id, instance);
            if !leaving && self.is_sending(id, instance) {
                wanted.extend(rules(instance));
                led.extend(paths(routes(instance)));
                closed.extend(addresses(instance).filter(|_| is_closed(instance)));
            } else if leaving || left() {
                // It may keep everything found at its start until it knows its state. Of one that leaves some may
                // still be there.
                free.extend(rules(instance));
                unsure_routes.extend(paths(routes(instance)));
                unsure.extend(addresses(instance));
            }
            if is_closed(instance) {
                families.extend(addresses(instance).map(|address| Family::of(&address)));
            }
        }
        wanted.extend(&node.config.static_rules);
        for rule in &wanted {
            if !node.kernel.rules.contains(rule) {
                found.push(format!("rule {} is missing", rule.preference));
            }
        }
        for rule in &node.kernel.rules {
            if !wanted.contains(rule) && !free.contains(rule) {
                found.push(format!("rule {} is not to be there", rule.preference));
            }
        }
        led.extend(paths(&node.config.static_routes));
        let there: BTreeSet<Path> = node.kernel.routes.iter().map(Path::found).collect();
        for path in led.difference(&there) {
            found.push(format!("the route to {} is missing: {path:?}", path.destination));
        }
        for path in there.difference(&led).filter(|path| !unsure_routes.contains(path)) {
            found.push(format!("the route to {} is not to be there: {path:?}", path.destination));
        }
        for (link, group) in node.kernel.memberships() {
            let listens = |i: &Instance| {
                i.unicast().is_none()
                    && i.destination == group
                    && [Some(&i.interface), i.own_link().map(|own| &own.name)]
                        .into_iter()
                        .flatten()
                        .filter_map(|name| node.link_named(name))
                        .any(|on| on.index == link)
            };
            if !node.config.instances.iter().any(listens) {
                found.push(format!("listens to {group} on {link:?} for no router"));
            }
        }
        let filtered = filtered(node);
        for address in closed.difference(&filtered) {
            found.push(format!("packets to {address} are let in"));
        }
        for address in filtered.difference(&closed).filter(|address| !unsure.contains(address)) {
            found.push(format!("packets to {address} are dropped without reason"));
        }
        let tables: BTreeSet<Family> = node.kernel.filters.tables().map(|t| t.family).collect();
        if tables != families {
            found.push(format!("has packet filters for {tables:?}, not {families:?}"));
        }
    }

    /// Checks that a filter is added before its address and removed after it.
    pub(super) fn judge_order(
        &self,
        id: NodeId,
        op: &Op,
        outcome: Outcome,
        found: &mut Vec<String>,
    ) {
        let refused = self.oracle.refused.is_some_and(|at| self.now().since(at) < REFUSED)
            || self.within(&self.oracle.unordered, id, FLUSHED);
        let Some(node) = self.node(id).filter(|node| node.events == 0 && !refused) else { return };
        let closed = |address: IpAddr| {
            let mut all = node.config.instances.iter();
            all.any(|i| {
                is_closed(i) && self.is_sending(id, i) && addresses(i).any(|a| a == address)
            })
        };
        if let Some((_, address)) = op.as_address() {
            let address = address.prefix.address;
            if outcome == Outcome::Done
                && op.verb.adds()
                && closed(address)
                && !filtered(node).contains(&address)
            {
                found.push(format!("adds {address} before its filter"));
            }
        } else if let (Object::Filter(filter), Verb::Delete { .. }) = (op.object.as_ref(), &op.verb)
            && let Element::Address(address) = filter.element
        {
            let there = node.kernel.addresses.iter().any(|(link, prefix)| {
                prefix.address == address && !node.kernel.is_home_on(*link, *prefix)
            });
            let still = node
                .config
                .instances
                .iter()
                .any(|i| is_closed(i) && addresses(i).any(|a| a == address));
            if there && still && !node.taken.iter().any(|prefix| prefix.address == address) {
                found.push(format!("lets packets to {address} in before it is gone"));
            }
        }
    }

    /// Checks whether a daemon that has ended leaves objects whose removal the kernel did not refuse.
    pub(super) fn judge_left_objects(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        let routes =
            node.kernel.routes.iter().map(|r| Identity::Route(Box::new(r.identity.clone())));
        let rules = node.kernel.rules.iter().map(|rule| Identity::Rule(Box::new(rule.clone())));
        let tables = node.kernel.filters.tables().map(|table| Identity::FilterTable(table.id()));
        let left: Vec<_> = routes
            .chain(rules)
            .chain(tables)
            .filter(|identity| !self.oracle.kept_by_kernel.contains(&(id, identity.clone())))
            .collect();
        if !left.is_empty() {
            self.violated_by(id, &format!("leaves objects behind: {left:?}"));
        }
    }
}
