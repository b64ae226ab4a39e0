use super::*;
use crate::base::Family;
use crate::plan::ipvs::DestinationKey;

#[test]
fn refusals_that_are_no_refusals() {
    let service = ServiceKey::Mark { mark: 1, family: Family::V4 };
    let delete = Op::DeleteService { service };
    let take = Op::DeleteDestination {
        service,
        destination: DestinationKey { address: [10, 0, 0, 1].into(), port: 0 },
    };
    for op in [&delete, &take] {
        assert_eq!(outcome(op, Some(libc::ENOENT)), Outcome::Already);
        assert_eq!(outcome(op, Some(libc::ESRCH)), Outcome::Already);
        assert_eq!(outcome(op, Some(libc::EEXIST)), Outcome::Refused(libc::EEXIST));
        assert_eq!(outcome(op, None), Outcome::Done);
    }
    assert_eq!(outcome(&Op::Flush, Some(libc::EPERM)), Outcome::Refused(libc::EPERM));
}

/// The namespace tests cover a kernel with IPVS; this covers one without.
#[test]
fn without_ipvs_there_is_an_error_number_for_everything() {
    let mut ipvs = Ipvs { asked: true, ..Ipvs::new() };
    let service = ServiceKey::Mark { mark: 0x7fff_fff1, family: Family::V4 };
    let read = ipvs.read(&[service]);
    let applied = ipvs.apply(&[Op::DeleteService { service }, Op::DeleteService { service }]);
    assert_eq!(applied.len(), 2);
    match read {
        // A machine that has it, for a service that it does not.
        Ok(table) => assert!(table.services.is_empty()),
        Err(e) => assert!(e.errno() > 0, "{e}"),
    }
}

/// Plays a kernel that gives these lists, and whether each was made at once.
fn settle(lists: &[(&[u8], bool)]) -> (Vec<u8>, usize) {
    let mut used = 0;
    let found = settled(|found: &mut BTreeMap<u8, ()>| {
        let (list, at_once) = lists[used];
        used += 1;
        found.extend(list.iter().map(|key| (*key, ())));
        Ok(at_once)
    });
    (found.unwrap().into_keys().collect(), used)
}

#[test]
fn a_list_that_changes_while_it_is_made_lacks_nothing() {
    assert_eq!(settle(&[(&[1, 2, 3], true)]), (vec![1, 2, 3], 1));
    // One in parts is true if it is the same twice; an entry that was removed meanwhile is not there.
    assert_eq!(settle(&[(&[1, 3], false), (&[1, 3], false)]), (vec![1, 3], 2));
    assert_eq!(settle(&[(&[1, 2, 3], false), (&[1], false), (&[1], false)]), (vec![1], 3));
    assert_eq!(settle(&[(&[1, 3], false), (&[1, 2], true)]), (vec![1, 2], 2));
    // Another program never stops changing it.
    let torn: [(&[u8], bool); ATTEMPTS] =
        [(&[1, 2], false), (&[2, 3], false), (&[1, 3], false), (&[1], false), (&[3], false)];
    assert_eq!(settle(&torn), (vec![1, 2, 3], ATTEMPTS));
}
