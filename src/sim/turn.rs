//! The events of a host: those of its kernel, those delivered to its process, one step of its engine.

use super::director::Balance;
use super::world::{NodeId, What, World};
use crate::plan::Outcome;
use crate::status::TrackReport;
use crate::vrrp::Event;
use core::time::Duration;
use std::sync::Arc;

/// ENETDOWN
pub(super) const NET_DOWN: i32 = 100;

impl World {
    pub(super) fn happen(&mut self, what: What) {
        let id = what.node();
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if let What::Awake { .. } = what {
            if node.stalled_until.is_some_and(|until| until <= self.now) {
                self.wake_up(id);
            }
            return;
        }
        // The kernel continues while the process is stalled.
        if let What::Operation { incarnation, token, item, op, .. } = what {
            let (outcome, gone) = node.kernel.change(&op, &mut self.rng);
            if let Some((link, _)) = op.as_address() {
                for prefix in &gone {
                    self.tell_address(id, link, *prefix, false, true);
                }
            }
            self.tell_routes(id);
            self.tell_news(id, true);
            self.note(id, &format!("kernel: {op} {outcome:?}"));
            self.judge_change(id, &op, outcome, &gone);
            let answer = What::Answer { node: id, incarnation, token, item, outcome };
            self.push(self.now, 1, answer);
            return;
        }
        if let What::Join { incarnation, interface, group, .. } = what {
            if node.incarnation == incarnation && node.engine.is_some() {
                // Only groups are joined; receiving on an own address is always possible.
                let outcome = if node.kernel.refuses_joins && group.is_multicast() {
                    Outcome::Refused(super::kernel::NO_BUFFERS)
                } else if node.kernel.join(interface, group) {
                    Outcome::Done
                } else {
                    Outcome::Refused(super::kernel::NO_DEVICE)
                };
                let what = What::Joined { node: id, incarnation, interface, group, outcome };
                self.push(self.now, 1, what);
            }
            return;
        }
        if let What::Packet { rx, .. } = &what
            && !node.kernel.receives(rx.interface, rx.destination)
        {
            return;
        }
        if let What::Balance { what: Balance::Operation { incarnation, token, item, op }, .. } =
            what
        {
            self.change_table(id, incarnation, token, item, &op);
            return;
        }
        if node.stalled_until.is_some() {
            node.inbox.push(what);
            return;
        }
        self.deliver(what);
        self.check(id);
        self.drain(id);
    }

    /// Whether the process of a host leaves an event in its queue, because a job that concerns everything is in
    /// progress.
    fn must_wait(&mut self, id: NodeId, what: &What) -> bool {
        let Some(node) = self.nodes.get(id.0).filter(|node| node.is_occupied()) else {
            return false;
        };
        match what {
            What::Timer { .. } | What::Balance { .. } => false,
            // An event that is processed nevertheless first ends the job.
            What::Link { .. }
            | What::LinkGone { .. }
            | What::Object { .. }
            | What::Answer { .. }
            | What::Joined { .. }
            | What::Ran { .. }
                if node.inbox.is_empty() && self.rng.chance(20) =>
            {
                self.oracle.cut_short(id);
                false
            }
            _ => true,
        }
    }

    /// Delivers the queued events.
    pub(super) fn drain(&mut self, id: NodeId) {
        while let Some(node) = self.nodes.get_mut(id.0)
            && node.stalled_until.is_none()
            && !node.is_occupied()
            && !node.inbox.is_empty()
        {
            let what = node.inbox.remove(0);
            self.deliver(what);
            self.check(id);
        }
    }

    fn wake_up(&mut self, id: NodeId) {
        self.note(id, "goes on");
        self.disturb();
        self.oracle.woke(id, self.now);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        node.stalled_until = None;
        node.stalled_since = None;
        // Packets first, then the rest in order: a stalled driver processes what it missed before its timers.
        let (packets, rest): (Vec<What>, Vec<What>) =
            core::mem::take(&mut node.inbox).into_iter().partition(|w| match w {
                What::Packet { .. } => true,
                What::Balance { what, .. } => !matches!(what, Balance::Timer),
                _ => false,
            });
        self.oracle.forgive_gap(id, self.now);
        for what in packets.into_iter().chain(rest) {
            self.deliver(what);
        }
        self.check(id);
        self.drain(id);
    }

    pub(super) fn deliver(&mut self, what: What) {
        let id = what.node();
        let waits = self.must_wait(id, &what);
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if waits {
            return node.inbox.push(what);
        }
        let incarnation = node.incarnation;
        if !matches!(what, What::Packet { .. } | What::Timer { .. } | What::Ran { .. }) {
            self.oracle.touched(id);
        }
        match what {
            What::Balance { what, .. } => self.balance_happens(id, what),
            What::Packet { rx, octets, .. } => {
                self.judge_delivery(id, &rx, &octets);
                self.handle(id, Event::Advert { rx, packet: &octets });
            }
            What::Link { link, .. } => {
                node.events = node.events.saturating_sub(1);
                self.handle(id, Event::Link(link));
            }
            What::LinkGone { index, .. } => {
                node.events = node.events.saturating_sub(1);
                self.handle(id, Event::LinkGone(index));
            }
            What::RunnerReady { runner, .. } => {
                node.runner_heard = runner;
                self.handle(id, Event::RunnerReady);
            }
            What::File { name, .. } if node.runner_alive && node.engine.is_some() => {
                let value = node.files.get(&name).copied().unwrap_or_default();
                node.files_told.insert(name.clone(), value);
                self.oracle.file_told();
                self.handle(id, Event::Report(TrackReport::file(name, value)));
            }
            What::Reload { config, .. } => {
                let old = core::mem::replace(&mut node.config, Arc::clone(&config));
                // Operations that the previous configuration called for are under way.
                if node.in_flight > 0 {
                    self.oracle.unordered.insert(id, self.now);
                }
                if node.engine.is_some() {
                    self.begin_reload(id, &old, &config);
                    self.handle(id, Event::Reload(config));
                }
            }
            What::Kernel { snapshot, .. } => {
                node.started = true;
                self.handle(id, Event::Kernel(snapshot));
            }
            What::Unsent { instance, destination, .. } => {
                self.handle(id, Event::Unsent { instance, destination, errno: NET_DOWN });
            }
            What::Stop { .. } => self.handle(id, Event::Stop { keep_addresses: false }),
            What::Object { change, .. } => {
                node.events = node.events.saturating_sub(1);
                self.handle(id, Event::Object(change));
            }
            What::Answer { incarnation: of, token, item, outcome, .. } if of == incarnation => {
                node.in_flight = node.in_flight.saturating_sub(1);
                self.handle(id, Event::Applied { token, item, outcome });
            }
            What::Joined { incarnation: of, interface, group, outcome, .. }
                if of == incarnation =>
            {
                self.handle(id, Event::Joined { interface, group, outcome });
            }
            What::Ran { incarnation: of, run, path, end, .. }
                if of == incarnation && node.runner_alive && node.engine.is_some() =>
            {
                self.judge_result(id, &path, run, end);
                self.handle(id, Event::Ran { run, end });
            }
            What::Timer { .. } if node.wake == Some(self.now) => {
                node.wake = None;
                self.handle(id, Event::Timer);
            }
            // A timer that came due while the process was stalled.
            What::Timer { .. } if node.wake.is_some_and(|at| at < self.now) => {
                node.wake = None;
                self.handle(id, Event::Timer);
            }
            _ => {}
        }
    }

    /// One step of an engine.
    pub(super) fn handle(&mut self, id: NodeId, event: Event<'_>) {
        let Some(engine) = self.nodes.get_mut(id.0).and_then(|n| n.engine.as_mut()) else { return };
        let mut out = core::mem::take(&mut self.actions);
        out.clear();
        self.oracle.begin_step(matches!(event, Event::Timer));
        engine.handle(self.now, event, &mut out);
        let occupied = engine.is_occupied();
        let goes_on = engine.deadline().is_some_and(|at| at <= self.now);
        self.oracle.put_off_results(id, goes_on);
        self.interpret(id, &out);
        self.actions = out;
        if occupied {
            self.oracle.put_off(id, self.now);
        } else {
            self.judge_end_of_step(id);
        }
        let Some(node) = self.nodes.get_mut(id.0) else { return };
        if let Some(engine) = &node.engine
            && !occupied
            && core::mem::take(&mut node.report_due)
        {
            node.summary = engine.summary(self.now);
        }
        if node.finished {
            node.engine = None;
            node.in_flight = 0;
            node.kernel.leave_all();
            self.judge_end(id);
            self.oracle.forget(id);
            return;
        }
        let slice = self.now + node.effort.map_or(Duration::ZERO, |(_, time)| time);
        let due = node.engine.as_mut().and_then(|engine| match occupied {
            // Adverts are sent when they are due, also during a job.
            true => engine.advert_deadline().into_iter().chain([slice]).min(),
            false => engine.deadline(),
        });
        if due != node.wake {
            node.wake = due;
            if let Some(at) = due {
                self.push(at.max(self.now), 2, What::Timer { node: id });
                if at < self.now
                    && let Some(node) = self.nodes.get_mut(id.0)
                {
                    node.wake = Some(self.now);
                }
            }
        }
    }
}
