//! Operations of a story on the world: start and kill daemons, pull cables, lose frames, refuse calls.

use core::time::Duration;
use std::sync::Arc;

use super::kernel::Kernel;
use super::world::{JOIN_TIME, NodeId, What, World};
use crate::base::{Family, IfIndex, Instant, Mac, Name, Prefix};
use crate::model::Vrrp;
use crate::model::vrrp::Priority;
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
            // The next process reads the newest configuration.
            let mut others = Vec::new();
            for what in core::mem::take(&mut node.inbox) {
                match what {
                    What::Reload { config, .. } => node.config = config,
                    What::Balance { .. } => others.push(what),
                    What::Link { .. } | What::LinkGone { .. } | What::Object { .. } => {
                        node.events = node.events.saturating_sub(1);
                    }
                    _ => {}
                }
            }
            node.in_flight = 0;
            node.report_due = false;
            node.kernel.leave_all();
            // The checker continues.
            for what in others {
                self.push(self.now(), 1, what);
            }
        }
        self.oracle.forget(id);
    }

    /// Kills the VRRP role of a host and lets its supervisor start it again; nothing if there is none.
    pub fn replace_role(&mut self, id: NodeId) {
        if self.engine(id).is_none() {
            return;
        }
        self.oracle.replaced(id);
        self.crash_role(id);
        self.boot(id, true);
    }

    fn boot(&mut self, id: NodeId, resume: bool) {
        self.note(id, if resume { "is started again by its supervisor" } else { "starts" });
        self.trouble(id);
        let now = self.now();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if !resume {
            // What the summary has of them is known to the next process.
            node.files_told.clear();
            node.former.clear();
            let owned: Vec<Prefix> = node
                .config
                .instances
                .iter()
                .filter(|i| i.priority == Priority::OWNER)
                .flat_map(|i| i.addresses.iter().chain(&i.excluded).map(|a| a.prefix))
                .collect();
            let there = node.kernel.addresses.iter().filter(|(_, prefix)| owned.contains(prefix));
            node.taken = there.map(|(_, prefix)| *prefix).collect();
        }
        node.incarnation += 1;
        let mut engine = Engine::new(now);
        if let Some((effort, _)) = node.effort {
            engine.set_effort(effort);
        }
        node.engine = Some(engine);
        node.wake = None;
        node.finished = false;
        node.runner_alive = true;
        node.runner_heard = node.runner;
        node.started = false;
        node.leftovers = node.kernel.addresses.iter().copied().collect();
        let (config, snapshot) = (Arc::clone(&node.config), node.kernel.snapshot());
        // The last heartbeat was up to half a second ago, or before the process was stalled.
        let at = Instant::from_nanos(now.as_nanos().saturating_sub(500_000_000));
        let at = node.stalled_since.take().map_or(at, |since| since.min(at));
        let summary = Summary { at, ..node.summary.clone() };
        self.oracle.started(id, now, resume, &config);
        let time = super::time_of_day(now);
        self.handle(id, Event::TimeOfDay(time));
        if resume {
            self.resume_ah(id);
            self.handle(id, Event::Resume(summary));
        }
        self.handle(id, Event::Reload(config));
        self.deliver(What::Kernel { node: id, snapshot });
        self.drain(id);
        self.tell_files(id);
    }

    /// Stops the daemon of a host in good order.
    pub fn stop(&mut self, id: NodeId) {
        self.note(id, "is stopped");
        self.trouble(id);
        self.soon(id, What::Stop { node: id });
        self.stop_director(id);
    }

    /// Gives a host a new configuration while it runs.
    pub fn reload(&mut self, id: NodeId, config: Vrrp) {
        self.note(id, "reloads");
        self.trouble(id);
        self.soon(id, What::Reload { node: id, config: Arc::new(config) });
    }

    /// Delivers an event to a process now, or as soon as it continues.
    fn soon(&mut self, id: NodeId, what: What) {
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if node.stalled_until.is_some() {
            node.inbox.push(what);
        } else {
            self.deliver(what);
            self.drain(id);
        }
    }

    /// Sets how much of a job the daemon of a host does in one step, and how long a step takes.
    pub fn slow(&mut self, id: NodeId, effort: usize, time: Duration) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.effort = Some((effort, time));
        }
    }

    /// Suspends the process of a host for a while: its kernel continues. Has no effect without a process: the next one
    /// runs.
    pub fn stall(&mut self, id: NodeId, time: Duration) {
        if self.engine(id).is_none() {
            return;
        }
        self.note(id, &format!("stalls for {time:?}"));
        self.disturb();
        let until = self.now() + time;
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.stalled_since.get_or_insert(until - time);
            node.stalled_until = Some(until);
            self.push(until, 0, What::Awake { node: id });
        }
    }

    /// Pulls or plugs the cable between a host and a segment.
    pub fn cable(&mut self, id: NodeId, interface: &str, plugged: bool) {
        self.note(id, &format!("{interface} {}", if plugged { "up" } else { "down" }));
        self.trouble(id);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let segment = interface.parse().ok();
        let index = segment.and_then(|segment| node.kernel.on_segment(&segment)).map(|l| l.index);
        let Some(index) = index else { return };
        if let Some(link) = node.kernel.links.iter_mut().find(|l| l.index == index) {
            link.up = plugged;
        }
        if plugged {
            node.kernel.follow_parent(index, true);
        } else {
            node.kernel.went_down(index);
            self.tell_routes(id);
        }
        self.tell_link(id, index);
        self.tell_news(id, false);
    }

    /// Another program removes an address of a host, wherever it is.
    pub fn remove_address(&mut self, id: NodeId, address: &str) {
        self.note(id, &format!("another program removes {address}"));
        self.disturb();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let found = node.kernel.addresses.iter().find(|(_, prefix)| prefix.to_string() == address);
        let Some((link, prefix)) = found.copied() else { return };
        let gone = node.kernel.remove(link, prefix);
        for prefix in gone {
            self.tell_address(id, link, prefix, false, false);
        }
    }

    /// Another program removes the routes of a host with our mark.
    pub fn remove_routes(&mut self, id: NodeId) {
        self.note(id, "another program removes the routes");
        self.disturb();
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.kernel.flush_routes();
        }
        self.tell_routes(id);
    }

    /// Another program removes the host's own addresses on a segment.
    pub fn remove_home(&mut self, id: NodeId, segment: &str) {
        self.trouble(id);
        let (Some(node), Ok(segment)) = (self.node(id), segment.parse()) else { return };
        let own: Vec<String> = node.kernel.home_of(&segment).map(|p| p.to_string()).collect();
        for address in own {
            self.remove_address(id, &address);
        }
    }

    /// Gives a host back its own addresses on every link.
    pub fn restore_home(&mut self, id: NodeId) {
        self.trouble(id);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let mut back = Vec::new();
        let links: Vec<IfIndex> = node.kernel.links.iter().map(|link| link.index).collect();
        for link in links {
            let Some(segment) = node.kernel.segment_of(link).cloned() else { continue };
            let home: Vec<Prefix> = node.kernel.home_of(&segment).collect();
            back.extend(home.into_iter().filter(|p| node.kernel.add(link, *p)).map(|p| (link, p)));
        }
        for (link, prefix) in back {
            self.note(id, &format!("gets {prefix} back"));
            self.tell_address(id, link, prefix, true, false);
        }
    }

    /// Another program, or an earlier daemon, adds an address to the link of a segment.
    pub fn add_address(&mut self, id: NodeId, segment: &str, prefix: Prefix) {
        self.note(id, &format!("another program adds {prefix} on {segment}"));
        self.disturb();
        let (Some(node), Ok(segment)) = (self.nodes.get_mut(id.0), segment.parse()) else { return };
        let Some(link) = node.kernel.on_segment(&segment).map(|l| l.index) else { return };
        if node.kernel.add(link, prefix) {
            self.tell_address(id, link, prefix, true, false);
        }
    }

    /// Gives the link of a segment another name while it is up. Does nothing if the name is taken.
    pub fn rename_link(&mut self, id: NodeId, segment: &str, name: &str) {
        self.note(id, &format!("the link on {segment} is called {name}"));
        self.trouble(id);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let (Ok(segment), Ok(name)) = (segment.parse(), name.parse()) else { return };
        let Some(index) = node.kernel.on_segment(&segment).map(|l| l.index) else { return };
        if node.kernel.link(&name).is_some() {
            return;
        }
        if let Some(link) = node.kernel.links.iter_mut().find(|l| l.index == index) {
            let old = core::mem::replace(&mut link.name, name.clone());
            if node.engine.is_some() && !node.former.contains_key(&old) {
                node.former.insert(old, index);
            }
            node.former.retain(|name, index| *name != link.name || *index != link.index);
            self.tell_link(id, index);
        }
    }

    pub fn remove_link(&mut self, id: NodeId, segment: &str) {
        self.note(id, &format!("the link on {segment} is removed"));
        self.trouble(id);
        let (Some(node), Ok(segment)) = (self.nodes.get_mut(id.0), segment.parse()) else { return };
        let Some(index) = node.kernel.on_segment(&segment).map(|l| l.index) else { return };
        let gone = node.kernel.remove_link(index);
        node.former.retain(|_, former| *former != index);
        for prefix in gone {
            self.tell_address(id, index, prefix, false, false);
        }
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.events += 1;
        }
        self.push(self.now() + JOIN_TIME, 1, What::LinkGone { node: id, index });
        self.tell_news(id, false);
    }

    /// Creates the link on a segment again if it is missing: with a new index, no address, and the name of the segment.
    pub fn make_link(&mut self, id: NodeId, segment: &str) {
        let (Some(node), Ok(segment)) = (self.nodes.get_mut(id.0), segment.parse()) else { return };
        if node.kernel.on_segment(&segment).is_some() {
            return;
        }
        let number = node.incarnation.to_be_bytes();
        let mac = Mac([2, 1, number[7], number[6], u8::try_from(id.0).unwrap_or(0), 7]);
        let index = node.kernel.make_link(&segment, mac);
        self.note(id, &format!("the link on {segment} is made again"));
        self.trouble(id);
        self.tell_link(id, index);
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
        self.trouble(id);
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.runner_alive = alive;
            node.runner += u64::from(alive);
        }
        self.oracle.lose_results(id);
        if let Some(runner) = self.node(id).map(|node| node.runner).filter(|_| alive) {
            self.soon(id, What::RunnerReady { node: id, runner });
            self.tell_files(id);
        }
    }

    /// Changes the number in a tracked file of a host.
    pub fn file(&mut self, id: NodeId, name: &str, value: i32) {
        self.note(id, &format!("file {name} says {value}"));
        self.trouble(id);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        node.files.insert(Name::from(name), value);
        self.soon(id, What::File { node: id, name: Name::from(name) });
    }

    /// A new runner, or one with a new process to report to, reads all files.
    fn tell_files(&mut self, id: NodeId) {
        let names: Vec<Name> =
            self.node(id).map(|node| node.files.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            self.push(self.now() + JOIN_TIME, 1, What::File { node: id, name });
        }
    }

    /// Another program removes the packet filters of a host.
    pub fn flush_filters(&mut self, id: NodeId) {
        self.note(id, "somebody flushes the packet filters");
        self.disturb();
        self.oracle.unordered.insert(id, self.now());
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.kernel.filters.flush();
        }
        self.tell_routes(id);
    }

    /// Another program removes the policy rules of a host that have our mark.
    pub fn flush_rules(&mut self, id: NodeId) {
        self.note(id, "somebody flushes the policy rules");
        self.disturb();
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.kernel.flush_rules();
        }
        self.tell_routes(id);
    }

    pub fn segment(&mut self, name: &str, change: impl FnOnce(&mut super::net::Segment)) {
        self.all_troubled();
        if let Ok(name) = name.parse() {
            let segment = self.net.segment(&name);
            change(segment);
            let text = format!("sees {name} change: {segment:?}");
            self.note(NodeId(0), &text);
        }
    }

    /// Makes the network perfect, as in the beginning.
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

    /// Delivers a packet to every daemon on a segment, as if it had been sent there.
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
