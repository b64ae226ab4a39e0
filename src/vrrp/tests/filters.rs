//! Packet filters of instances that accept no packets for their addresses.

use super::*;
use crate::model::extras::InstanceExtras;
use crate::model::{FilterSettings, SyncSettings};
use crate::plan::filter::{Element, Filter, FilterTableId};
use crate::plan::{ChangeKind, Identity};
use crate::status::vrrp::{Missing, MissingObject};

const TABLE: &str = "nftables table ip keepalived";
const FILTER: &str = "filter of 10.0.2.100";
const VIP: &str = "10.0.2.100/24";
const NOT_SUPPORTED: i32 = 95;

fn accepting(mut config: Vrrp, accept: Option<bool>) -> Vrrp {
    let extras = InstanceExtras { accept, ..InstanceExtras::default() };
    config.instances[0].extras = Some(Box::new(extras));
    config
}

/// The failover scenario with `no_accept`.
fn closed(priority: u8) -> Vrrp {
    accepting(failover(priority), Some(false))
}

fn master() -> Host {
    let mut host = Host::new(closed(200));
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host
}

fn plus(text: &str) -> String {
    format!("+{text}")
}

fn minus(text: &str) -> String {
    format!("-{text}")
}

fn id() -> FilterTableId {
    FilterTableId { family: Family::V4, name: "keepalived".into() }
}

fn table_sight() -> Sight {
    Sight { identity: Identity::FilterTable(id()), links: vec![], attributes: None }
}

fn filter_sight(address: [u8; 4]) -> Sight {
    let filter = Filter { table: id(), element: Element::Address(address.into()) };
    Sight { identity: Identity::Filter(Box::new(filter)), links: vec![], attributes: None }
}

fn event(sight: Sight, kind: ChangeKind) -> Event<'static> {
    Event::Object(Change { sight, kind, own: false })
}

fn reload(host: &mut Host, new: Vrrp) -> Vec<String> {
    host.look();
    host.event(Event::Reload(Arc::new(new)));
    host.ops()
}

fn missing(host: &mut Host) -> Vec<MissingObject> {
    host.engine.view(host.now).instances[0].objects_missing.clone()
}

/// The operations of each request.
fn requests(host: &Host) -> Vec<Vec<String>> {
    let all = host.seen.iter().filter_map(|action| match action {
        Action::Apply { ops, .. } => Some(ops.iter().map(ToString::to_string).collect()),
        _ => None,
    });
    all.collect()
}

#[test]
fn filters_come_before_the_addresses_and_go_after_them() {
    let mut host = Host::new(closed(200));
    // The table exists before any instance is master.
    assert_eq!(host.ops(), [plus(TABLE)]);
    host.look();
    host.pass(10 * SECOND);
    assert_eq!(host.ops(), [plus(FILTER), plus(VIP)]);
    host.look();
    host.hear(PEER, 250);
    assert_eq!(host.state(), State::Backup);
    assert_eq!(host.ops(), [minus(VIP), minus(FILTER)]);
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(host.ops(), [minus(TABLE)]);
}

#[test]
fn a_filter_stays_until_an_address_that_was_being_added_has_gone() {
    for outcome in [Outcome::Done, Outcome::Refused(16)] {
        let mut host = Host::new(closed(200));
        host.obedient = false;
        host.pass(4 * SECOND);
        let (token, ops) = host.apply();
        assert_eq!(host.ops(), [plus(TABLE), plus(FILTER), plus(VIP)]);
        assert_eq!(ops.len(), 2);
        host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
        host.look();
        host.hear(PEER, 250);
        assert_eq!((host.state(), host.ops()), (State::Backup, vec![]));
        host.event(Event::Applied { token, item: 1, outcome });
        let both = [minus(VIP), minus(FILTER)];
        let there = if outcome == Outcome::Done { 0 } else { 1 };
        assert_eq!(host.ops(), both[there..]);
    }
}

#[test]
fn a_stop_of_a_master_leaves_nothing_and_lets_nothing_in() {
    let mut host = master();
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(host.ops(), [minus(VIP), minus(FILTER), minus(TABLE)]);
    let mut host = master();
    host.look();
    host.event(Event::Stop { keep_addresses: true });
    assert_eq!(host.ops(), Vec::<String>::new());
}

#[test]
fn who_accepts_or_owns_the_addresses_has_no_filters() {
    for accept in [None, Some(true)] {
        let mut host = Host::new(accepting(failover(200), accept));
        host.pass(10 * SECOND);
        assert_eq!(host.ops(), [plus(VIP)], "{accept:?}");
    }
}

#[test]
fn a_flushed_ruleset_is_put_back_as_a_whole() {
    let mut host = master();
    host.look();
    host.event(event(table_sight(), ChangeKind::Gone));
    let whole = vec![vec![format!("add {TABLE}"), format!("add {FILTER}")]];
    assert_eq!(requests(&host), whole);
    assert_eq!(host.counters().objects_restored, 1);
    host.look();
    host.event(event(filter_sight([10, 0, 2, 100]), ChangeKind::Gone));
    assert_eq!(host.ops(), [plus(FILTER)]);
    assert_eq!(host.counters().objects_restored, 2);
    // What another program adds disappears with the table it was added to.
    host.look();
    host.event(event(filter_sight([10, 0, 2, 7]), ChangeKind::Present));
    assert_eq!(requests(&host), whole);
    // No endless fight with another program.
    for _ in 0..6 {
        host.event(event(table_sight(), ChangeKind::Gone));
    }
    host.look();
    host.event(event(table_sight(), ChangeKind::Gone));
    assert_eq!(host.ops(), Vec::<String>::new());
    host.pass(SECOND);
    assert_eq!(requests(&host), whole);
}

#[test]
fn an_element_that_was_under_way_when_the_table_was_made_anew_is_put_back() {
    let mut host = Host::new(closed(200));
    host.obedient = false;
    host.look();
    host.pass(10 * SECOND);
    let (first, _) = host.apply();
    host.event(event(table_sight(), ChangeKind::Gone));
    let (second, ops) = host.apply();
    assert_eq!(ops.len(), 1, "{ops:?}");
    let applied = |token, item| Event::Applied { token, item, outcome: Outcome::Done };
    host.event(applied(first, 0));
    host.event(applied(first, 1));
    host.look();
    host.event(applied(second, 0));
    assert_eq!(host.ops(), [plus(FILTER)]);
}

#[test]
fn a_reload_opens_and_closes_without_touching_addresses() {
    let mut host = master();
    assert_eq!(reload(&mut host, closed(200)), Vec::<String>::new());
    let open = reload(&mut host, accepting(failover(200), Some(true)));
    assert_eq!(open, [minus(FILTER), minus(TABLE)]);
    assert_eq!(reload(&mut host, closed(200)), [plus(TABLE), plus(FILTER)]);
    // Other settings recreate the table with its content; another name creates another table.
    let mut other = closed(200);
    other.filters = FilterSettings { counters: true, ..FilterSettings::default() };
    reload(&mut host, other.clone());
    assert_eq!(requests(&host), [[format!("add {TABLE}"), format!("add {FILTER}")]]);
    other.filters.table = "mine".into();
    let mine = "nftables table ip mine";
    let ops = reload(&mut host, other);
    assert_eq!(ops, [plus(mine), plus(FILTER), minus(FILTER), minus(TABLE)]);
}

#[test]
fn without_nftables_the_instance_works_and_says_so() {
    let mut host = Host::off();
    host.obedient = false;
    host.event(Event::Reload(Arc::new(closed(200))));
    host.event(Event::Kernel(host.kernel()));
    let refused = Outcome::Refused(NOT_SUPPORTED);
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: refused });
    // Each attempt is refused.
    for _ in 0..40 {
        host.look();
        host.pass(SECOND / 4);
        for action in host.look() {
            if let Action::Apply { token, ops } = action {
                for (item, op) in (0..).zip(&ops) {
                    let outcome = match op.object.address() {
                        Some(_) => Outcome::Done,
                        None => refused,
                    };
                    host.event(Event::Applied { token, item, outcome });
                }
            }
        }
    }
    assert_eq!(host.state(), State::Master);
    let reason = Missing::NoTable { table: TABLE.into(), errno: NOT_SUPPORTED };
    assert_eq!(missing(&mut host), [MissingObject { object: FILTER.into(), reason }]);
    let view = &host.engine.view(host.now).instances[0];
    assert_eq!((view.objects_wanted, view.objects_present), (2, 1));
    // Once, and with the consequence.
    let mut lines = host.logged();
    lines.retain(|line| line.starts_with("cannot add"));
    let consequence = "meanwhile packets to virtual addresses are let in";
    assert_eq!(lines, [format!("cannot add {TABLE}: error 95, trying again; {consequence}")]);
    // The module is loaded: the waiting filters are added now.
    host.obedient = true;
    host.look();
    host.pass(10 * SECOND);
    assert_eq!(host.ops(), [plus(TABLE), plus(FILTER)]);
    assert_eq!(missing(&mut host), []);
}

#[test]
fn a_new_process_keeps_what_is_right_and_nothing_else() {
    let start = |filters: Vec<Sight>| {
        let mut host = Host::off();
        let mut kernel = host.kernel();
        kernel.objects.push(Sight::address(ETH, prefix(VIP)));
        kernel.objects.extend(filters);
        host.event(Event::Kernel(kernel));
        host.event(Event::Reload(Arc::new(closed(200))));
        host.pass(10 * SECOND);
        assert_eq!(host.state(), State::Master);
        host
    };
    let right = vec![table_sight(), filter_sight([10, 0, 2, 100])];
    assert_eq!(start(right.clone()).ops(), Vec::<String>::new());
    let stray = [right, vec![filter_sight([10, 0, 2, 7])]].concat();
    let host = start(stray);
    assert!(host.ops().starts_with(&[plus(TABLE)]), "{:?}", host.ops());
    assert!(host.ops().ends_with(&[plus(FILTER)]), "{:?}", host.ops());
}

#[test]
fn link_local_addresses_are_closed_on_their_interface() {
    for (by_index, same) in [(false, true), (true, false)] {
        let config = Vrrp {
            instances: vec![sample::instance("V6", "enp0s8", 9, 200, &["fe80::100/64"])],
            filters: FilterSettings { by_index, ..FilterSettings::default() },
            ..Vrrp::default()
        };
        let mut host = Host::off();
        let mut kernel = host.kernel();
        kernel.objects.push(Sight::address(ETH, prefix("fe80::71/64")));
        host.event(Event::Reload(Arc::new(accepting(config, Some(false)))));
        host.event(Event::Kernel(kernel));
        host.pass(10 * SECOND);
        let filter = "filter of fe80::100 on enp0s8";
        let table = "nftables table ip6 keepalived";
        assert_eq!(host.ops(), [plus(table), plus(filter), plus("fe80::100/64")]);
        host.look();
        // The interface comes back with another index: the filter matches its name, so it is closed
        // already.
        host.event(Event::LinkGone(ETH));
        let again = IfIndex(7);
        host.event(Event::Link(link(again, "enp0s8", true)));
        host.event(Event::Object(Change::address(again, prefix("fe80::71/64"), true, false)));
        host.pass(10 * SECOND);
        assert_eq!(host.state(), State::Master);
        let ops = host.ops();
        let removed = ops.contains(&minus(filter));
        assert_eq!(removed, same, "{ops:?}");
        assert_eq!(ops.last(), Some(&plus("fe80::100/64")), "{ops:?}");
        assert!(ops.contains(&plus(filter)), "{ops:?}");
    }
}

#[test]
fn filters_and_daemons_that_could_not_be_read_are_not_missing() {
    use crate::plan::Unread;
    let mut config = closed(200);
    config.sync_daemon =
        Some(SyncSettings::following(config.instances[0].name.clone(), "enp0s9".parse().unwrap()));
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    host.look();
    let mut there = host.kernel();
    there.objects.push(Sight::address(ETH, prefix(VIP)));
    let mut look = |unread| {
        host.event(Event::Kernel(Snapshot { unread, ..there.clone() }));
        let mut ops = host.ops();
        host.look();
        ops.sort();
        ops
    };
    let unread = Unread { filters: true, daemons: true };
    assert_eq!(look(unread), [""; 0]);
    // They are still known after that.
    assert_eq!(look(unread), [""; 0]);
    let daemon = plus("IPVS sync daemon (master) on enp0s9");
    assert_eq!(look(Unread { daemons: false, ..unread }), [daemon]);
    assert_eq!(look(Unread { filters: false, ..unread }), [plus(FILTER), plus(TABLE)]);
}

#[test]
fn an_address_that_is_wanted_again_waits_for_its_filter_that_is_being_removed() {
    let mut host = master();
    let token = host.leave_and_return();
    assert_eq!(host.ops(), [minus(VIP), minus(FILTER)]);
    host.look();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
    assert_eq!(host.ops(), [""; 0]);
    host.event(Event::Applied { token, item: 1, outcome: Outcome::Done });
    assert_eq!(host.ops(), [plus(FILTER), plus(VIP)]);
}
