use core::time::Duration;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::base::{Family, IfIndex, IfName};
use crate::model::FilterSettings;
use crate::plan::filter::{Element, Filter, FilterTableId};
use crate::sys::testing::{in_namespace, ip, run};

fn nft(arguments: &str) -> String {
    let output = Command::new("nft").args(arguments.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "nft {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn table(family: Family, settings: FilterSettings) -> FilterTable {
    FilterTable { family, settings, vmacs: true }
}

fn op(verb: Verb, object: Object) -> Op {
    let lo: IfName = "lo".parse().unwrap();
    Op { verb, object: object.into(), links: vec![(lo, IfIndex(1))] }
}

fn add(object: Object) -> Op {
    op(Verb::Add, object)
}

fn delete(object: Object) -> Op {
    op(Verb::Delete { keep_secondaries: false }, object)
}

fn filter(family: Family, element: Element<IfName>) -> Object {
    let table = FilterTableId { family, name: "keepalived".into() };
    Object::Filter(Box::new(Filter { table, element }))
}

/// One of each kind that fits these settings.
fn filters(family: Family, settings: &FilterSettings) -> Vec<Object> {
    let lo: IfName = "lo".parse().unwrap();
    let vmac = Element::Vmac { vmac: "vrrp.7".parse().unwrap(), parent: lo.clone() };
    let global = if family == Family::V4 { "192.0.2.100" } else { "2001:db8::100" };
    let mut all = vec![vmac, Element::Address(global.parse().unwrap())];
    if family == Family::V6 {
        let local = Filter::of_address(settings, "fe80::100".parse().unwrap(), &lo);
        all.push(local.element);
    }
    all.into_iter().map(|element| filter(family, element)).collect()
}

fn seen(filters: &mut Filters) -> Vec<Identity<IfIndex>> {
    let mut all: Vec<_> = filters.list().unwrap().into_iter().map(|sight| sight.identity).collect();
    all.sort();
    all
}

#[test]
fn tables_of_all_settings_are_read_as_they_were_made() {
    in_namespace("kernel::nft::tests::tables_of_all_settings_are_read_as_they_were_made", || {
        for family in [Family::V4, Family::V6] {
            for bits in 0..8 {
                let settings = FilterSettings {
                    by_index: bits & 1 != 0,
                    counters: bits & 2 != 0,
                    output: bits & 4 != 0,
                    priority: 10 - 7 * bits,
                    ..FilterSettings::default()
                };
                let table = table(family, settings.clone());
                let mut all = vec![Object::FilterTable(Box::new(table.clone()))];
                all.extend(filters(family, &settings));
                let ops: Vec<Op> = all.iter().cloned().map(add).collect();
                let mut filters = Filters::default();
                filters.watch(vec![table.clone()]);
                // Twice: it is recreated.
                for _ in 0..2 {
                    assert_eq!(filters.carry_out(&ops), vec![Outcome::Done; ops.len()]);
                }
                let mut wanted: Vec<_> = ops.iter().filter_map(Op::identity).collect();
                wanted.sort();
                assert_eq!(seen(&mut filters), wanted, "{}", nft("list ruleset"));
                // Also for a configuration that does not need it any more: it is still to be
                // removed.
                assert!(!filters.watch(Vec::new()));
                assert_eq!(seen(&mut filters), wanted);
                // Another process recognises it; one with other settings does not.
                let mut other = Filters::default();
                let counters = !settings.counters;
                let unlike = FilterSettings { counters, ..settings };
                other.watch(vec![FilterTable { settings: unlike, ..table }]);
                assert_eq!(seen(&mut other), []);
                let ops: Vec<Op> = all.into_iter().rev().map(delete).collect();
                assert_eq!(filters.carry_out(&ops), vec![Outcome::Done; ops.len()]);
                assert_eq!(nft("list ruleset"), "");
                assert_eq!(filters.carry_out(&ops), vec![Outcome::Already; ops.len()]);
            }
        }
    });
}

#[test]
fn a_table_is_what_nft_makes_of_the_same_words() {
    in_namespace("kernel::nft::tests::a_table_is_what_nft_makes_of_the_same_words", || {
        let mut filters = Filters::default();
        for family in [Family::V4, Family::V6] {
            let table = table(family, FilterSettings::default());
            filters.carry_out(&[add(Object::FilterTable(Box::new(table)))]);
        }
        filters.carry_out(&[
            add(filter(Family::V4, Element::Address([192, 0, 2, 100].into()))),
            add(filter(
                Family::V6,
                Element::OnNamed("fe80::100".parse().unwrap(), "eth7".parse().unwrap()),
            )),
        ]);
        let shown: Vec<String> = nft("list ruleset").lines().map(|l| l.trim().to_owned()).collect();
        for line in [
            "elements = { 192.0.2.100 }",
            "ip daddr @vips drop",
            "ip saddr @vips drop",
            "ip protocol igmp dup to ip daddr device oifname map @vmac_map drop",
            "type filter hook input priority filter - 1; policy accept;",
            "type filter hook output priority filter - 1; policy accept;",
            "type ipv6_addr . ifname",
            "elements = { fe80::100 . \"eth7\" }",
            "icmpv6 type nd-neighbor-solicit accept",
            "icmpv6 type nd-neighbor-advert accept",
            "icmpv6 type nd-router-solicit oifname @vmac_set drop",
            "icmpv6 type mld2-listener-report dup to ip6 daddr device oifname map @vmac_map drop",
            "ip6 daddr fe80::/10 goto in_link_local",
            "ip6 saddr fe80::/10 goto out_link_local",
            "ip6 daddr . iifname @vips_link_local_name drop",
            "ip6 saddr . oifname @vips_link_local_name drop",
            "ip6 daddr @vips drop",
            "ip6 saddr @vips drop",
        ] {
            assert!(shown.iter().any(|l| l == line), "{line}\n{}", shown.join("\n"));
        }
    });
}

#[test]
fn an_interface_whose_parent_has_a_new_index_has_one_element() {
    in_namespace(
        "kernel::nft::tests::an_interface_whose_parent_has_a_new_index_has_one_element",
        || {
            ip("link set lo up");
            let mut filters = Filters::default();
            let table = table(Family::V6, FilterSettings::default());
            let lo: IfName = "lo".parse().unwrap();
            let vmac = Element::Vmac { vmac: "vrrp.7".parse().unwrap(), parent: lo.clone() };
            let made =
                [add(Object::FilterTable(Box::new(table))), add(filter(Family::V6, vmac.clone()))];
            assert_eq!(filters.carry_out(&made), [Outcome::Done; 2]);
            let again = Op { links: vec![(lo, IfIndex(7))], ..add(filter(Family::V6, vmac)) };
            assert_eq!(filters.carry_out(&[again]), [Outcome::Done]);
            let shown = nft("list map ip6 keepalived vmac_map");
            assert!(shown.contains("elements = { \"vrrp.7\" : 7 }"), "{shown}");
        },
    );
}

#[test]
fn whatever_others_do_to_a_table_is_told() {
    in_namespace("kernel::nft::tests::whatever_others_do_to_a_table_is_told", || {
        run(async {
            let table = table(Family::V4, FilterSettings::default());
            let made = add(Object::FilterTable(Box::new(table.clone())));
            let vip = add(filter(Family::V4, Element::Address([192, 0, 2, 100].into())));
            let mut filters = Filters::default();
            assert!(filters.watch(vec![table.clone()]));
            assert!(filters.listen().unwrap());
            let gone = |sight| plan::Change { sight, kind: ChangeKind::Gone, own: false };
            let element = Sight { identity: vip.identity().unwrap(), ..table_sight(&table) };
            for (command, told) in [
                ("delete element ip keepalived vips { 192.0.2.100 }", gone(element.clone())),
                ("flush chain ip keepalived in", gone(table_sight(&table))),
                ("add rule ip keepalived out counter", gone(table_sight(&table))),
                ("delete table ip keepalived", gone(table_sight(&table))),
                ("flush ruleset", gone(table_sight(&table))),
            ] {
                let ops = [made.clone(), vip.clone()];
                assert_eq!(filters.carry_out(&ops), [Outcome::Done; 2]);
                // Changes of other tables are not reported.
                nft("add table ip other");
                nft("add table ip6 keepalived");
                nft("delete table ip6 keepalived");
                nft(command);
                let mut changes = Vec::new();
                while changes.is_empty() {
                    let next = filters.next(&mut changes);
                    tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().unwrap();
                }
                assert_eq!(changes, [Change::Object(told)], "{command}");
            }
            filters.carry_out(&[made]);
            nft("add element ip keepalived vips { 192.0.2.100 }");
            let mut changes = Vec::new();
            filters.next(&mut changes).await.unwrap();
            let kind = ChangeKind::Present;
            assert_eq!(
                changes,
                [Change::Object(plan::Change { sight: element, kind, own: false })]
            );
        });
    });
}

#[test]
fn an_element_of_a_table_that_is_gone_is_refused_alone() {
    in_namespace("kernel::nft::tests::an_element_of_a_table_that_is_gone_is_refused_alone", || {
        ip("link set lo up");
        let mut filters = Filters::default();
        let made = table(Family::V4, FilterSettings::default());
        let vip = filter(Family::V4, Element::Address([192, 0, 2, 100].into()));
        let other = filter(Family::V6, Element::Address("2001:db8::1".parse().unwrap()));
        let ops = [add(Object::FilterTable(Box::new(made))), add(other), add(vip)];
        let refused = Outcome::Refused(libc::ENOENT);
        assert_eq!(filters.carry_out(&ops), [Outcome::Done, refused, Outcome::Done]);
        assert!(nft("list ruleset").contains("192.0.2.100"));
    });
}

proptest! {
    #[test]
    fn no_datagram_panics(octets in prop::collection::vec(any::<u8>(), 0..300), kind in 0..26_u16) {
        let table = table(Family::V4, FilterSettings::default());
        let mut changes = Vec::new();
        decode(&octets, 0, core::slice::from_ref(&table), &mut changes);
        // As a message of nf_tables about the table.
        let mut attributes = Attributes::default().text(TABLE, "keepalived").text(NAME, "vips");
        attributes.0.extend(&octets);
        let mut body = vec![2, 0, 0, 0];
        body.extend(&attributes.0);
        let message =
            Message { kind: message::kind(kind), flags: 0, sequence: 1, port: 7, body: &body };
        change(&message, core::slice::from_ref(&table), &mut changes);
        let _ = is_as_made(&table, &[(kind, octets)]);
    }
}

#[test]
fn a_table_that_changes_during_each_attempt_is_no_table_and_no_lack_of_one() {
    let mut attempts = 0;
    let answer = settled(|_| {
        attempts += 1;
        Ok(false)
    });
    assert_eq!((answer.map_err(|e| e.errno()), attempts), (Err(libc::EAGAIN), ATTEMPTS));
    let mut whole = [false, true].into_iter();
    let answer = settled(|found| {
        assert!(found.is_empty(), "the parts of an earlier attempt");
        found.push(table_sight(&table(Family::V4, FilterSettings::default())));
        Ok(whole.next().unwrap())
    });
    assert_eq!(answer.unwrap().len(), 1);
}
