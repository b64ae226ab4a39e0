//! The interpreter of actions: carries out an engine's actions on the simulated kernel and network, and reports the
//! kernel's events.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use super::stacked::News;
use super::turn::NET_DOWN;
use super::world::{JOIN_TIME, NodeId, What, World};
use crate::base::{IfIndex, Prefix};
use crate::plan::{Change, ChangeKind, Op, Token};
use crate::vrrp::{Action, Actions, Event, InstanceId, RunEnd, Rx};

/// How long a simulated script runs.
const SCRIPT_TIME: Duration = Duration::from_millis(5);

impl World {
    pub(super) fn interpret(&mut self, id: NodeId, out: &Actions) {
        for action in out.list() {
            if !matches!(
                action,
                Action::SendAdvert { .. } | Action::Report | Action::RunScript { .. }
            ) {
                self.note(id, &summarise(action));
            }
            match action {
                Action::SendAdvert { packet, .. } => {
                    let octets: Arc<[u8]> = out.bytes(packet).into();
                    self.transmit(id, action, &octets);
                }
                Action::SendGarp { interface, mac, address, count } => {
                    self.judge_announcement(id, *interface, *mac, *address, *count);
                }
                Action::Apply { token, ops } => self.ask_kernel(id, *token, ops),
                Action::Join { interface, group } | Action::Overhear { interface, group } => {
                    let Some(incarnation) = self.nodes.get(id.0).map(|n| n.incarnation) else {
                        continue;
                    };
                    let (interface, group) = (*interface, *group);
                    let what = What::Join { node: id, incarnation, interface, group };
                    self.push(self.now + JOIN_TIME, 1, what);
                }
                // Packets of both kinds arrive wherever the group was joined.
                Action::HearAh => {}
                Action::Leave { interface, group } => {
                    self.cancel_join(id, *interface, *group);
                    if let Some(node) = self.nodes.get_mut(id.0) {
                        node.kernel.leave(*interface, *group);
                    }
                }
                Action::RunScript { run, command, .. } => {
                    let Some(path) = command.words.first() else { continue };
                    self.judge_run(id, path, *run);
                    let Some(node) = self.nodes.get(id.0) else { continue };
                    // A process that does not know about a new runner yet sends its request to the old one.
                    if node.runner_heard != node.runner {
                        continue;
                    }
                    let end = node.scripts.get(path).copied().unwrap_or(RunEnd::Exit(0));
                    let (incarnation, path) = (node.incarnation, path.clone());
                    let what = What::Ran { node: id, incarnation, run: *run, path, end };
                    self.push(self.now + SCRIPT_TIME, 1, what);
                }
                // Simulated scripts end by themselves.
                Action::EndScript(_) => {}
                Action::Notify(notice) => {
                    let now = self.now;
                    self.judge_notice(id, &notice.line);
                    if let Some(node) = self.nodes.get_mut(id.0) {
                        node.notices.push((now, notice.clone()));
                    }
                }
                Action::Report => {
                    let now = self.now;
                    if let Some(node) = self.nodes.get_mut(id.0)
                        && let Some(engine) = &node.engine
                    {
                        // Only the completed change is reported.
                        node.report_due = engine.is_occupied();
                        if !node.report_due {
                            node.summary = engine.summary(now);
                        }
                    }
                }
                Action::Done => {
                    if let Some(node) = self.nodes.get_mut(id.0) {
                        node.finished = true;
                    }
                }
            }
        }
    }

    fn ask_kernel(&mut self, id: NodeId, token: Token, ops: &[Op]) {
        self.judge_request(id, ops);
        for (item, op) in (0u32..).zip(ops) {
            let Some(node) = self.nodes.get_mut(id.0) else { return };
            let start = node.kernel_free_at.max(self.now);
            node.kernel_free_at = start + node.kernel.latency;
            node.in_flight += 1;
            let (at, incarnation) = (node.kernel_free_at, node.incarnation);
            let what = What::Operation { node: id, incarnation, token, item, op: op.clone() };
            self.push(at, 1, what);
        }
    }

    fn transmit(&mut self, id: NodeId, advert: &Action, octets: &Arc<[u8]>) {
        let Action::SendAdvert { instance, interface, source, destination, hop_limit, .. } =
            *advert
        else {
            return;
        };
        let link = self.nodes.get(id.0).and_then(|n| n.kernel.link_at(interface));
        let segment = link.filter(|l| l.up).and_then(|l| {
            Some((self.nodes.get(id.0)?.kernel.segment_of(l.index).cloned()?, l.mac))
        });
        let Some((segment, mac)) = segment else {
            self.oracle.forgive_gap(id, self.now);
            self.oracle.count_anew(id);
            self.unsent_ah(id, interface, octets);
            self.judge_unsent(id, interface, source, octets);
            self.handle_unsent(id, instance, destination);
            return;
        };
        self.mix(octets);
        self.judge_advert(id, interface, source, destination, octets);
        for other in self.nodes().filter(|other| *other != id) {
            let deliveries = self.net.deliveries(&segment, id, other, &mut self.rng);
            let Some(node) = self.nodes.get(other.0) else { continue };
            let Some(there) = node.kernel.taker(&segment, mac).filter(|l| l.up) else { continue };
            let rx = Rx { interface: there.index, source, destination, hop_limit };
            for delay in deliveries {
                let octets = Arc::clone(octets);
                let what = What::Packet { node: other, rx, octets };
                self.push(self.now + delay, 0, what);
            }
        }
    }

    /// The refusal of a send is known at once; it is the next event of the engine.
    fn handle_unsent(&mut self, id: NodeId, instance: InstanceId, destination: IpAddr) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if node.is_occupied() {
            node.inbox.push(What::Unsent { node: id, instance, destination });
        } else if let Some(engine) = &mut node.engine {
            let mut out = Actions::new();
            engine.handle(now, Event::Unsent { instance, destination, errno: NET_DOWN }, &mut out);
        }
    }

    /// The kernel reports a change of addresses.
    pub(super) fn tell_address(
        &mut self,
        id: NodeId,
        link: IfIndex,
        prefix: Prefix,
        present: bool,
        own: bool,
    ) {
        if !own {
            self.oracle.muddle(id, self.now);
            if !present {
                self.oracle.tugged(id, link, prefix, self.now);
            }
        }
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if !present {
            node.ours.remove(&(link, prefix));
        }
        node.events += 1;
        let delay = if own { Duration::ZERO } else { JOIN_TIME };
        let change = Change::address(link, prefix, present, own);
        self.push(self.now + delay, 1, What::Object { node: id, change });
    }

    /// The kernel reports changes of routes.
    pub(super) fn tell_routes(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        for change in node.kernel.take_events() {
            if let Some(node) = self.nodes.get_mut(id.0) {
                node.events += 1;
            }
            let delay = if change.own { Duration::ZERO } else { JOIN_TIME };
            self.push(self.now + delay, 1, What::Object { node: id, change });
        }
    }

    /// The kernel reports stacked interfaces.
    pub(super) fn tell_news(&mut self, id: NodeId, own: bool) {
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        for news in node.kernel.take_news() {
            match news {
                News::Link(index) => self.tell_link(id, index),
                News::Gone(index, addresses, change) => {
                    for prefix in addresses {
                        self.tell_address(id, index, prefix, false, own);
                    }
                    if let Some(node) = self.nodes.get_mut(id.0) {
                        node.events += 2;
                    }
                    let at = self.now + JOIN_TIME;
                    self.push(at, 1, What::LinkGone { node: id, index });
                    self.push(at, 1, What::Object { node: id, change });
                }
            }
        }
    }

    /// The kernel reports a link.
    pub(super) fn tell_link(&mut self, id: NodeId, index: IfIndex) {
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        let Some(link) = node.kernel.link_at(index).cloned() else { return };
        node.events += 1;
        let change = node.kernel.link_change(index, false);
        let change = change.map(|change| Change { kind: ChangeKind::Present, ..change });
        node.events += u32::from(change.is_some());
        self.push(self.now + JOIN_TIME, 1, What::Link { node: id, link });
        if let Some(change) = change {
            self.push(self.now + JOIN_TIME, 1, What::Object { node: id, change });
        }
    }
}

fn summarise(action: &Action) -> String {
    match action {
        Action::Apply { ops, .. } => {
            let ops: Vec<String> = ops.iter().map(ToString::to_string).collect();
            format!("asks: {}", ops.join(", "))
        }
        Action::Notify(notice) => format!("announces {}", notice.line),
        Action::SendGarp { interface, address, count, .. } => {
            format!("announces {address} on {interface:?}, {count} frames")
        }
        other => format!("{other:?}"),
    }
}
