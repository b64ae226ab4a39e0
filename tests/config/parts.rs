//! Keywords that are not in effect yet, by the part of the work that they belong to: `tests/data/rows-by-part.tsv` has
//! a line for each keyword, the blocks around it and its part (`vrrp1`, `vrrp2` for trackers and BFD, `lvs`,
//! `operating`). A keyword that took effect since may stay listed.

use std::collections::{BTreeMap, BTreeSet};

use evervip::config::reference::vocabulary;

/// The part of each word. Of a word that occurs in several parts the first of these counts: virtual routers, trackers.
pub(super) fn parts() -> BTreeMap<&'static str, &'static str> {
    let rows = include_str!("../data/rows-by-part.tsv").lines().skip(1);
    let mut parts: Vec<_> = rows.map(|line| (line.split('\t').nth(2), line)).collect();
    parts.sort_by_key(|(part, _)| {
        ["vrrp1", "vrrp2"].iter().position(|p| Some(*p) == *part).map_or(0, |p| 2 - p)
    });
    parts.iter().filter_map(|(part, line)| Some((line.split('\t').nth(1)?, (*part)?))).collect()
}

#[test]
fn every_keyword_that_is_not_in_effect_belongs_to_a_part() {
    let text = include_str!("../data/rows-by-part.tsv");
    let mut listed = BTreeSet::new();
    for line in text.lines().skip(1) {
        let [block, keyword, part] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        assert!(["vrrp1", "vrrp2", "lvs", "operating"].contains(&part), "{line}");
        assert!(listed.insert((block, keyword)), "twice: {line}");
    }
    let all = vocabulary();
    let rows: BTreeSet<_> = all.iter().map(|term| (&*term.path, term.keyword)).collect();
    let unknown: Vec<_> = listed.difference(&rows).collect();
    assert!(unknown.is_empty(), "listed and no keyword: {unknown:?}");
    let later = all.iter().filter(|term| term.later).map(|term| (&*term.path, term.keyword));
    let missing: Vec<_> = later.filter(|row| !listed.contains(row)).collect();
    assert!(missing.is_empty(), "not in effect and of no part: {missing:?}");
}
