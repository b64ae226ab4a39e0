//! Policy rules, and static objects.

use super::*;
use crate::model::extras::InstanceExtras;
use crate::model::route::Rule;
use crate::plan::{ChangeKind, Identity, Sight};

const VIRTUAL: &str = "rule 100 of IPv4 table 200";
const STATIC: &str = "rule 101 of IPv6 table 201";

fn rule(family: Family, preference: u32, table: u32) -> Rule {
    sample::rule(family, preference, table)
}

fn config(priority: u8) -> Vrrp {
    let mut config = failover(priority);
    let rules = vec![rule(Family::V4, 100, 200)];
    config.instances[0].extras = Some(Box::new(InstanceExtras { rules, ..Default::default() }));
    config.static_rules.push(rule(Family::V6, 101, 201));
    config
}

fn gone(rule: &Rule) -> Event<'static> {
    let identity = Identity::Rule(crate::plan::rule::identity(rule));
    let sight = Sight { identity, links: Vec::new(), attributes: None };
    Event::Object(Change { sight, kind: ChangeKind::Gone, own: false })
}

#[test]
fn a_static_rule_is_there_in_every_state_and_a_virtual_one_with_the_master() {
    let mut host = Host::new(config(100));
    assert_eq!(host.ops(), [format!("+{STATIC}")]);
    host.look();
    host.pass(10 * SECOND);
    // After the address: its table's routes must exist.
    assert_eq!(host.ops(), ["+10.0.2.100/24", &format!("+{VIRTUAL}")]);
    host.look();
    host.hear(PEER, 200);
    assert_eq!(host.ops(), [&format!("-{VIRTUAL}"), "-10.0.2.100/24"]);
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(host.ops(), [format!("-{STATIC}")]);
}

#[test]
fn a_rule_that_another_program_removes_is_put_back_unless_it_is_not_tracked() {
    for tracked in [true, false] {
        let mut config = config(200);
        config.static_rules[0].no_track = !tracked;
        let rules = &mut config.instances[0].extras.as_mut().unwrap().rules;
        rules[0].no_track = !tracked;
        let (own, fixed) = (rules[0].clone(), config.static_rules[0].clone());
        let mut host = Host::new(config);
        host.pass(10 * SECOND);
        host.look();
        host.event(gone(&own));
        host.event(gone(&fixed));
        let back = [format!("+{VIRTUAL}"), format!("+{STATIC}")];
        assert_eq!(host.ops(), if tracked { &back[..] } else { &[] });
    }
}

#[test]
fn a_reload_touches_no_rule_that_stays() {
    let mut old = config(200);
    let mut host = Host::new(old.clone());
    host.pass(10 * SECOND);
    host.look();
    // Moved from an instance to the host and back: each is wanted before and after.
    let rules = &mut old.instances[0].extras.as_mut().unwrap().rules;
    core::mem::swap(rules, &mut old.static_rules);
    host.event(Event::Reload(old.clone().into()));
    assert_eq!(host.ops(), Vec::<String>::new());
    old.static_rules[0].preference = 102;
    host.event(Event::Reload(old.into()));
    assert_eq!(host.ops(), ["+rule 102 of IPv4 table 200", &format!("-{VIRTUAL}")]);
}
