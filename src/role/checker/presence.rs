//! Which addresses this host has, for virtual servers with `ha_suspend`.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeSet;
use std::io;

use tokio::time::Instant;

use crate::base::IfIndex;
use crate::kernel::monitor::{Change, Monitor, SnapshotResult};
use crate::kernel::netlink::Requests;
use crate::model::Lvs;
use crate::plan::ChangeKind;
use crate::role::control::at;

/// When an attempt to read all addresses is repeated.
const LATER: Duration = Duration::from_secs(1);

/// Events of the kernel about addresses, while a virtual server needs them.
#[derive(Default)]
pub(super) struct Presence {
    source: Option<Source>,
    /// The addresses of the virtual servers.
    wanted: BTreeSet<IpAddr>,
    /// Those that this host has, by interface, as last known.
    found: BTreeSet<(IfIndex, IpAddr)>,
    /// They were read at least once.
    is_read: bool,
    /// When all of them must be read again.
    again: Option<Instant>,
    /// The queue for events that the configuration requests, in octets, and whether it may exceed the system's limit.
    buffer: (Option<u32>, bool),
}

struct Source {
    monitor: Monitor,
    requests: Requests,
    /// Not yet processed.
    changes: Vec<Change>,
}

impl Source {
    fn open() -> io::Result<Self> {
        let requests = Requests::open()?;
        let monitor = Monitor::open(0)?;
        Ok(Self { monitor, requests, changes: Vec::new() })
    }
}

impl Presence {
    /// Takes over a configuration; returns what this host has of its addresses, or none if that cannot be determined.
    pub fn take(&mut self, config: &Lvs, buffer: (Option<u32>, bool)) -> Option<BTreeSet<IpAddr>> {
        let services = config.services.iter().filter(|service| service.is_suspendable());
        self.wanted = services.flat_map(|service| service.addresses()).collect();
        if self.wanted.is_empty() {
            *self = Self::default();
            return None;
        }
        self.buffer = buffer;
        self.read();
        self.known()
    }

    /// Waits until something changes, and returns what this host has then. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<BTreeSet<IpAddr>> {
        let Self { source, again, .. } = self;
        let heard = tokio::select! {
            biased;
            heard = hear(source) => heard,
            () = at(*again) => {
                self.read();
                return self.known();
            }
        };
        match heard {
            Ok(changes) => changes.into_iter().for_each(|change| self.changed(change)),
            Err(e) => {
                self.source = None;
                self.is_late(&e);
            }
        }
        self.known()
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Object(change) => {
                let Some((interface, prefix)) = change.sight.as_address() else { return };
                let place = (interface, prefix.address);
                if matches!(change.kind, ChangeKind::Gone) {
                    self.found.remove(&place);
                } else if self.wanted.contains(&prefix.address) {
                    self.found.insert(place);
                }
            }
            Change::LinkGone(interface) => self.found.retain(|(of, _)| *of != interface),
            Change::Link(_) => {}
            Change::Lost => self.read(),
        }
    }

    /// Reads all addresses.
    fn read(&mut self) {
        if self.source.is_none() {
            match Source::open() {
                Ok(source) => self.source = Some(source),
                Err(e) => return self.is_late(&e),
            }
        }
        let Some(Source { monitor, requests, .. }) = &mut self.source else {
            return;
        };
        monitor.resize(self.buffer.0, self.buffer.1);
        let answer = monitor.snapshot(requests);
        self.answered(answer);
    }

    /// The kernel has answered, or not. Whatever is not known any more stays as it was last known: with `ha_suspend` an
    /// address that seems to be missing stops all checks of a virtual server.
    fn answered<E: core::fmt::Display>(&mut self, answer: Result<SnapshotResult, E>) {
        match answer {
            Ok(SnapshotResult { snapshot, again }) => {
                self.again = again.then(|| Instant::now() + LATER);
                if let Some(snapshot) = snapshot {
                    self.is_read = true;
                    let all = snapshot.objects.iter().filter_map(|sight| sight.as_address());
                    let all = all.map(|(interface, prefix)| (interface, prefix.address));
                    self.found = all.filter(|(_, address)| self.wanted.contains(address)).collect();
                }
            }
            Err(e) => self.is_late(&e),
        }
    }

    fn known(&self) -> Option<BTreeSet<IpAddr>> {
        self.is_read.then(|| self.found.iter().map(|(_, address)| *address).collect())
    }

    /// The addresses cannot be read now.
    fn is_late(&mut self, error: &dyn core::fmt::Display) {
        // Once for each time that it fails, not for each attempt.
        if self.again.is_none() {
            let meanwhile =
                if self.is_read { "the last known ones count" } else { "ha_suspend has no effect" };
            tracing::error!(
                "cannot learn which addresses this machine has, trying again; meanwhile {meanwhile}: {error}"
            );
        }
        self.again = Some(Instant::now() + LATER);
    }
}

/// The next events; none come without a source.
async fn hear(source: &mut Option<Source>) -> io::Result<Vec<Change>> {
    let Some(Source { monitor, changes, .. }) = source else {
        return core::future::pending().await;
    };
    monitor.next(changes).await?;
    Ok(core::mem::take(changes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prefix;
    use crate::model::service::{Protocol, ServiceExtras};
    use crate::model::{ServiceKey, sample};
    use crate::plan::{Sight, Snapshot};
    use crate::sys::testing::{in_namespace, ip, run};

    const VIP: &str = "192.0.2.100";
    const LIMIT: Duration = Duration::from_secs(30);

    fn has(addresses: &[&str]) -> Option<BTreeSet<IpAddr>> {
        Some(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn snapshot(addresses: &[&str]) -> Snapshot {
        let sight = |address: &&str| {
            Sight::address(IfIndex(2), Prefix::new(address.parse().unwrap(), 32).unwrap())
        };
        Snapshot { objects: addresses.iter().map(sight).collect(), ..Snapshot::default() }
    }

    #[test]
    fn an_answer_that_says_nothing_changes_nothing() {
        let wanted = [VIP, "192.0.2.101"].map(|address| address.parse().unwrap());
        let mut presence = Presence { wanted: wanted.into(), ..Presence::default() };
        // Before the first answer nothing is known.
        presence.answered(Err("no answer"));
        assert_eq!((presence.known(), presence.again.is_some()), (None, true));
        let mut look = |snapshot, again| {
            presence.answered(Ok::<_, &str>(SnapshotResult { snapshot, again }));
            (presence.known(), presence.again.is_some())
        };
        let first = snapshot(&["192.0.2.100", "192.0.2.7"]);
        assert_eq!(look(Some(first), false), (has(&[VIP]), false));
        assert_eq!(look(None, true), (has(&[VIP]), true));
        assert_eq!(look(Some(snapshot(&["192.0.2.101"])), true), (has(&["192.0.2.101"]), true));
        assert_eq!(look(Some(snapshot(&[])), false), (has(&[]), false));
        assert_eq!(look(Some(snapshot(&["192.0.2.100"])), false), (has(&[VIP]), false));
        presence.answered(Err("no answer"));
        assert_eq!((presence.known(), presence.again.is_some()), (has(&[VIP]), true));
    }

    #[test]
    fn what_could_not_be_read_is_read_later() {
        in_namespace(
            "role::checker::presence::tests::what_could_not_be_read_is_read_later",
            || {
                run(async {
                    let endpoint = format!("{VIP}:80").parse().unwrap();
                    let key = ServiceKey::Address { endpoint, protocol: Protocol::Tcp };
                    let mut service = sample::service(key, Vec::new());
                    let extras = ServiceExtras { ha_suspend: true, ..ServiceExtras::default() };
                    service.extras = Some(Box::new(extras));
                    let config = Lvs { services: vec![service.into()], ..Lvs::default() };
                    let mut presence = Presence::default();
                    assert_eq!(presence.take(&config, (None, false)), has(&[]));
                    // The socket fails, and an address is added before there is another one.
                    presence.source = None;
                    presence.is_late(&"the socket failed");
                    ip("address add 192.0.2.100/32 dev lo");
                    assert_eq!(presence.known(), has(&[]));
                    let next = tokio::time::timeout(LIMIT, presence.next()).await;
                    assert_eq!(next.unwrap(), has(&[VIP]));
                    assert!(presence.source.is_some() && presence.again.is_none());
                    ip("address delete 192.0.2.100/32 dev lo");
                    let next = tokio::time::timeout(LIMIT, presence.next()).await;
                    assert_eq!(next.unwrap(), has(&[]));
                });
            },
        );
    }
}
