//! Operations on the kernel, in batches of limited duration, distributed fairly among the requests.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::base::{Family, IfIndex, Instant};
use crate::drive::vrrp::Input;
use crate::kernel::ipvs::{self, Ipvs};
use crate::kernel::netlink::Requests;
use crate::kernel::nft::{self, Filters};
use crate::kernel::object;
use crate::plan::{Op, Outcome, Token};
use crate::sys::clock;
use crate::vrrp::Event;

/// How long a turn may take before other work continues.
const TURN: Duration = Duration::from_millis(1);
/// Size of the first batch, and of the largest one, in operations.
const FIRST: usize = 8;
const MOST: usize = 128;
/// How long it is remembered whether an interface forwards IPv6.
const FRESH: Duration = Duration::from_secs(5);

/// The pending operations.
pub(super) struct Writer {
    /// Each job contributes one operation in turn.
    jobs: VecDeque<Job>,
    /// Number of operations that take about one turn: adding an address takes from 10 us to 1 ms.
    size: usize,
    /// When it was looked up whether an interface forwards IPv6.
    looked: BTreeMap<IfIndex, Instant>,
    /// The netlink family that starts and stops IPVS sync daemons.
    pub ipvs: Ipvs,
}

#[derive(Debug)]
struct Job {
    token: Token,
    ops: std::vec::IntoIter<Op>,
    next: u32,
}

/// Carries out operations in order; consecutive ones for the same socket are sent together.
fn carry_out(
    requests: &mut Requests,
    filters: &mut Filters,
    ipvs: &mut Ipvs,
    ops: &[Op],
) -> Vec<Outcome> {
    let socket = |op: &Op| (nft::takes(op), ipvs::daemon::takes(op));
    let runs = ops.chunk_by(|a, b| socket(a) == socket(b));
    runs.flat_map(|run| match run.first().map(socket) {
        Some((true, _)) => filters.carry_out(run),
        Some((_, true)) => ipvs.carry_out(run),
        _ => object::carry_out(requests, run),
    })
    .collect()
}

/// The size of the next batch if `count` operations took `time`.
fn size_for(count: usize, time: Duration) -> usize {
    let one = time.as_nanos() / u128::try_from(count.max(1)).unwrap_or(1);
    let size = TURN.as_nanos() / one.max(1);
    usize::try_from(size).unwrap_or(MOST).clamp(1, MOST)
}

impl Default for Writer {
    fn default() -> Self {
        Self { jobs: VecDeque::new(), size: FIRST, looked: BTreeMap::new(), ipvs: Ipvs::new() }
    }
}

impl Writer {
    /// Adds operations that are to be carried out in order.
    pub fn add(&mut self, token: Token, ops: Vec<Op>) {
        self.jobs.push_back(Job { token, ops: ops.into_iter(), next: 0 });
    }

    /// Whether there is something to do.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Carries out one batch of operations and answers each.
    pub fn turn(
        &mut self,
        requests: &mut Requests,
        filters: &mut Filters,
        mut answer: impl FnMut(Input),
    ) {
        let begin = clock::now();
        loop {
            let (places, ops) = self.take(self.size);
            if ops.is_empty() {
                return;
            }
            for op in &ops {
                self.look(op, begin, &mut answer);
            }
            let before = clock::now();
            let outcomes = carry_out(requests, filters, &mut self.ipvs, &ops);
            for ((token, item), outcome) in places.into_iter().zip(outcomes) {
                answer(Input::Engine(Event::Applied { token, item, outcome }));
            }
            let now = clock::now();
            self.size = size_for(ops.len(), now.since(before));
            if now.since(begin) >= TURN {
                return;
            }
        }
    }

    /// Takes up to `size` operations, one of each job in turn. Those of one job stay in order.
    fn take(&mut self, size: usize) -> (Vec<(Token, u32)>, Vec<Op>) {
        let (mut places, mut ops) = (Vec::new(), Vec::new());
        while ops.len() < size
            && let Some(mut job) = self.jobs.pop_front()
        {
            if let Some(op) = job.ops.next() {
                ops.push(op);
                places.push((job.token, job.next));
                job.next += 1;
                self.jobs.push_back(job);
            }
        }
        (places, ops)
    }

    /// Neighbour adverts contain whether this is a router, which the announcement after an address needs.
    fn look(&mut self, op: &Op, now: Instant, answer: &mut impl FnMut(Input)) {
        let Some((interface, address)) = op.as_address().filter(|_| op.verb.adds()) else {
            return;
        };
        if address.prefix.family() == Family::V4
            || self.looked.get(&interface).is_some_and(|at| now.since(*at) < FRESH)
        {
            return;
        }
        self.looked.insert(interface, now);
        let path = format!("/proc/sys/net/ipv6/conf/{}/forwarding", address.interface);
        let forwards = std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0");
        answer(Input::Router { interface, forwards });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_leave_at_a_time_as_take_a_turn() {
        let us = Duration::from_micros;
        assert_eq!(size_for(8, us(8 * 10)), 100);
        assert_eq!(size_for(8, us(8 * 130)), 7);
        // At least one operation per batch however slow the kernel is; a limited number however fast, so that answers
        // are not delayed.
        assert_eq!(size_for(8, us(8 * 5_000)), 1);
        assert_eq!(size_for(128, us(1)), MOST);
    }
}
