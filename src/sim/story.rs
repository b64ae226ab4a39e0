//! What a story can do to the world: start and kill daemons, pull cables, lose frames, refuse calls.

use core::time::Duration;
use std::sync::Arc;

use super::kernel::Kernel;
use super::world::{JOIN_TIME, NodeId, What, World};
use crate::base::{Family, Instant};
use crate::model::Vrrp;
use crate::plan::Change;
use crate::status::vrrp::Summary;
use crate::vrrp::{Engine, Event, RunEnd, Rx};

impl World {
    /// Starts the daemon of a host.
    pub fn start(&mut self, id: NodeId) {
        self.boot(id, false);
        self.start_director(id, false);
    }

    /// Kills the daemon of a host, all its processes: nothing is undone.
    pub fn crash(&mut self, id: NodeId) {
        self.crash_director(id);
        self.crash_role(id);
    }

    fn crash_role(&mut self, id: NodeId) {
        self.note(id, "crashes");
        self.trouble(id);
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.engine = None;
            node.stalled_until = None;
            node.inbox.clear();
            node.in_flight = 0;
        }
        self.oracle.forget(id);
    }

    /// Kills the VRRP role of a host and lets its supervisor start it again.
    pub fn replace_role(&mut self, id: NodeId) {
        self.crash_role(id);
        self.boot(id, true);
    }

    fn boot(&mut self, id: NodeId, resume: bool) {
        self.note(id, if resume { "is started again by its supervisor" } else { "starts" });
        self.trouble(id);
        let now = self.now();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        node.incarnation += 1;
        node.engine = Some(Engine::new(now));
        node.wake = None;
        node.finished = false;
        node.runner_alive = true;
        let (config, snapshot) = (Arc::clone(&node.config), node.kernel.snapshot());
        // The last sign of life came up to half a second ago.
        let at = Instant::from_nanos(now.as_nanos().saturating_sub(500_000_000));
        let summary = Summary { at, ..node.summary.clone() };
        if resume {
            self.handle(id, Event::Resume(summary));
        }
        self.handle(id, Event::Reload(config));
        self.handle(id, Event::Kernel(snapshot));
    }

    /// Stops the daemon of a host in good order.
    pub fn stop(&mut self, id: NodeId) {
        self.note(id, "is stopped");
        self.trouble(id);
        self.handle(id, Event::Stop { keep_addresses: false });
        self.stop_director(id);
    }

    /// Gives a host a new configuration while it runs.
    pub fn reload(&mut self, id: NodeId, config: Vrrp) {
        self.note(id, "reloads");
        self.trouble(id);
        let config = Arc::new(config);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let old = core::mem::replace(&mut node.config, Arc::clone(&config));
        if node.engine.is_some() {
            self.oracle.begin_reload(id, self.now(), &old, &config);
            self.handle(id, Event::Reload(config));
            self.oracle.end_reload();
        }
    }

    /// Stops the process of a host for a while: it is not run, but its kernel goes on.
    pub fn stall(&mut self, id: NodeId, time: Duration) {
        self.note(id, &format!("stalls for {time:?}"));
        self.disturb();
        let until = self.now() + time;
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.stalled_until = Some(until);
            self.push(until, 0, What::Awake { node: id });
        }
    }

    /// Pulls or plugs the cable of an interface.
    pub fn cable(&mut self, id: NodeId, interface: &str, plugged: bool) {
        self.note(id, &format!("{interface} {}", if plugged { "up" } else { "down" }));
        self.trouble(id);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let Some(link) = node.kernel.links.iter_mut().find(|l| l.name.as_str() == interface) else {
            return;
        };
        link.up = plugged;
        let index = link.index;
        node.events += 1;
        if !plugged {
            node.kernel.went_down(index);
            self.tell_events(id);
        }
        self.push(self.now() + JOIN_TIME, 1, What::Link { node: id, index });
    }

    /// Another program removes an address of a host.
    pub fn remove_address(&mut self, id: NodeId, address: &str) {
        self.note(id, &format!("somebody removes {address}"));
        self.disturb();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let found =
            node.kernel.addresses.iter().position(|(_, prefix)| prefix.to_string() == address);
        let Some(position) = found else { return };
        let Some((link, prefix)) = node.kernel.addresses.get(position).copied() else { return };
        node.kernel.delete_address(link, prefix, false);
        for change in node.kernel.take_events() {
            self.foreign_event(id, Change { own: false, ..change });
        }
    }

    /// Another program removes the routes of a host that bear our mark.
    pub fn remove_routes(&mut self, id: NodeId) {
        self.note(id, "somebody removes the routes");
        self.disturb();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        for change in node.kernel.flush_routes() {
            self.foreign_event(id, change);
        }
    }

    fn foreign_event(&mut self, id: NodeId, change: Change) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.events += 1;
        }
        self.push(self.now() + JOIN_TIME, 1, What::Object { node: id, change });
    }

    /// Changes how a script of a host ends from now on.
    pub fn script(&mut self, id: NodeId, name: &str, end: RunEnd) {
        self.note(id, &format!("script {name} now ends with {end:?}"));
        self.trouble(id);
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.scripts.insert(format!("/{name}").into_bytes().into(), end);
        }
    }

    /// Kills the runner of a host, or starts it again.
    pub fn runner(&mut self, id: NodeId, alive: bool) {
        self.note(id, if alive { "has a runner again" } else { "loses its runner" });
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.runner_alive = alive;
        }
        if alive {
            self.handle(id, Event::RunnerReady);
        }
    }

    /// Changes a segment.
    pub fn segment(&mut self, name: &str, change: impl FnOnce(&mut super::net::Segment)) {
        self.all_troubled();
        if let Ok(name) = name.parse() {
            let segment = self.net.segment(&name);
            change(segment);
            let text = format!("sees {name} change: {segment:?}");
            self.note(NodeId(0), &text);
        }
    }

    /// Makes the network perfect, as it was in the beginning.
    pub fn mend_network(&mut self) {
        self.all_troubled();
        self.net.mend();
    }

    /// Changes how the kernel of a host answers.
    pub fn kernel(&mut self, id: NodeId, change: impl FnOnce(&mut Kernel)) {
        self.trouble(id);
        if let Some(node) = self.nodes.get_mut(id.0) {
            change(&mut node.kernel);
        }
    }

    /// Hands a packet to every daemon on a segment, as if somebody had sent it.
    pub fn inject(&mut self, interface: &str, source: std::net::IpAddr, octets: &[u8]) {
        let octets: Arc<[u8]> = octets.into();
        for id in self.nodes() {
            let Some(node) = self.nodes.get(id.0) else { continue };
            let Some(link) = node.kernel.links.iter().find(|l| l.name.as_str() == interface) else {
                continue;
            };
            let destination = match Family::of(&source) {
                Family::V4 => crate::base::net::VRRP_GROUP_V4.into(),
                Family::V6 => crate::base::net::VRRP_GROUP_V6.into(),
            };
            let rx = Rx { interface: link.index, source, destination, hop_limit: 255 };
            let what = What::Packet { node: id, rx, octets: Arc::clone(&octets) };
            self.push(self.now(), 0, what);
        }
    }
}
