//! Which addresses this host has, for virtual servers with `ha_suspend`.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::io;

use crate::base::IfIndex;
use crate::kernel::monitor::{Change, Monitor};
use crate::kernel::netlink::Requests;
use crate::model::Lvs;
use crate::plan::ChangeKind;

/// Events of the kernel about addresses, while a virtual server needs them.
#[derive(Default)]
pub(super) struct Presence {
    source: Option<Source>,
    /// The addresses of the virtual servers.
    wanted: BTreeSet<IpAddr>,
    /// Those that this host has, by interface.
    found: BTreeSet<(IfIndex, IpAddr)>,
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
    pub fn take(
        &mut self,
        config: &Lvs,
        (octets, force): (Option<u32>, bool),
    ) -> Option<BTreeSet<IpAddr>> {
        let services = config.services.iter().filter(|service| service.is_suspendable());
        self.wanted = services.flat_map(|service| service.addresses()).collect();
        if self.wanted.is_empty() {
            *self = Self::default();
            return None;
        }
        if self.source.is_none() {
            match Source::open() {
                Ok(source) => self.source = Some(source),
                Err(e) => self.lost(&e),
            }
        }
        if let Some(source) = &self.source {
            source.monitor.resize(octets, force);
        }
        self.read();
        self.known()
    }

    /// Waits until something changes, and returns what this host has then. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<BTreeSet<IpAddr>> {
        let Some(Source { monitor, changes, .. }) = &mut self.source else {
            return core::future::pending().await;
        };
        if let Err(e) = monitor.next(changes).await {
            self.lost(&e);
            return None;
        }
        for change in core::mem::take(changes) {
            match change {
                Change::Object(change) => {
                    let Some((interface, prefix)) = change.sight.as_address() else { continue };
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
        self.known()
    }

    /// Reads all addresses.
    fn read(&mut self) {
        let Some(Source { monitor, requests, .. }) = &mut self.source else {
            return;
        };
        match monitor.snapshot(requests) {
            Ok(taken) => {
                let objects = taken.snapshot.map(|snapshot| snapshot.objects).unwrap_or_default();
                let all = objects.iter().filter_map(|sight| sight.as_address());
                let all = all.map(|(interface, prefix)| (interface, prefix.address));
                self.found = all.filter(|(_, address)| self.wanted.contains(address)).collect();
            }
            Err(e) => self.lost(&e),
        }
    }

    fn known(&self) -> Option<BTreeSet<IpAddr>> {
        self.source.as_ref()?;
        Some(self.found.iter().map(|(_, address)| *address).collect())
    }

    fn lost(&mut self, error: &dyn core::fmt::Display) {
        tracing::error!(
            "cannot learn which addresses this machine has, ha_suspend has no effect: {error}"
        );
        self.source = None;
    }
}
