//! Snapshots of the whole kernel: what they consist of, and when the next one is due.

use super::Role;
use crate::kernel::monitor::SnapshotResult;
use crate::plan::{Sight, Snapshot};
use crate::vrrp::Event;

/// Error numbers of a kernel that will not answer differently in a moment: it lacks the feature, or forbids it.
const LASTING: [i32; 9] = [
    libc::EPROTONOSUPPORT,
    libc::EOPNOTSUPP,
    libc::EAFNOSUPPORT,
    libc::ENOPROTOOPT,
    libc::EINVAL,
    libc::ENOENT,
    libc::EPERM,
    libc::EACCES,
    libc::EBADMSG,
];

impl Role {
    /// Takes a snapshot and passes it to the engine.
    pub(super) fn snapshot(&mut self) {
        match self.monitor.snapshot(&mut self.requests) {
            Ok(SnapshotResult { snapshot, again }) => {
                self.snapshot_later = again;
                if let Some(mut snapshot) = snapshot {
                    let filters = self.filters.list().map_err(|e| {
                        tracing::debug!("cannot read packet filters: {e}");
                        e.errno()
                    });
                    let daemons = if self.watch_daemons {
                        self.writer.ipvs.daemons().map_err(|e| {
                            tracing::debug!("cannot read daemons of IPVS: {e}");
                            e.errno()
                        })
                    } else {
                        Ok(Vec::new())
                    };
                    self.snapshot_later |= add(&mut snapshot, filters, daemons);
                    self.event(Event::Kernel(snapshot));
                }
            }
            Err(e) => {
                tracing::warn!("cannot read links, addresses and routes: {e}");
                self.snapshot_later = true;
            }
        }
    }
}

/// Adds packet filters and sync daemons, or the error number of the attempt to read them. What could not be read does not
/// count as missing. True if the next attempt may succeed.
fn add(
    snapshot: &mut Snapshot,
    filters: Result<Vec<Sight>, i32>,
    daemons: Result<Vec<Sight>, i32>,
) -> bool {
    snapshot.unread.filters = filters.is_err();
    snapshot.unread.daemons = daemons.is_err();
    let mut again = false;
    for part in [filters, daemons] {
        match part {
            Ok(found) => snapshot.objects.extend(found),
            Err(errno) => again |= !LASTING.contains(&errno),
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Family, IfIndex, Prefix};
    use crate::plan::filter::FilterTableId;
    use crate::plan::{Identity, Unread};

    #[test]
    fn what_cannot_be_read_is_not_missing_and_is_read_again_if_that_may_help() {
        let address = Sight::address(IfIndex(2), Prefix::host([10, 0, 0, 1].into()));
        let id = FilterTableId { family: Family::V4, name: "keepalived".into() };
        let table =
            Sight { identity: Identity::FilterTable(id), links: Vec::new(), attributes: None };
        let look = |filters, daemons| {
            let mut snapshot = Snapshot { objects: vec![address.clone()], ..Snapshot::default() };
            let again = add(&mut snapshot, filters, daemons);
            (snapshot.objects.len(), snapshot.unread, again)
        };
        let found = || Ok(vec![table.clone()]);
        let unread = |filters, daemons| Unread { filters, daemons };
        assert_eq!(look(found(), Ok(vec![])), (2, unread(false, false), false));
        assert_eq!(look(Err(libc::ETIMEDOUT), Ok(vec![])), (1, unread(true, false), true));
        assert_eq!(look(found(), Err(libc::ENOBUFS)), (2, unread(false, true), true));
        // A kernel without nftables has no tables, now and later.
        assert_eq!(look(Err(libc::EINVAL), Ok(vec![])), (1, unread(true, false), false));
        assert_eq!(look(Err(libc::EINVAL), Err(libc::EAGAIN)), (1, unread(true, true), true));
    }
}
