//! Operations on the kernel, one at a time, fairly between those who ask.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::base::{Family, IfIndex, Instant};
use crate::drive::vrrp::Input;
use crate::kernel::netlink::Requests;
use crate::kernel::route;
use crate::plan::{Op, Token};
use crate::sys::clock;

/// How long a turn may take before others get theirs.
const TURN: Duration = Duration::from_millis(1);
/// How long it is remembered whether an interface forwards IPv6.
const FRESH: Duration = Duration::from_secs(5);

/// What is still to be done.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// Each asks for one operation in its turn.
    jobs: VecDeque<Job>,
    /// When it was looked up whether an interface forwards IPv6.
    looked: BTreeMap<IfIndex, Instant>,
}

#[derive(Debug)]
struct Job {
    token: Token,
    ops: Vec<Op>,
    next: u32,
}

impl Writer {
    /// Adds operations that are to be carried out in order.
    pub fn add(&mut self, token: Token, ops: Vec<Op>) {
        self.jobs.push_back(Job { token, ops, next: 0 });
    }

    /// Whether there is something to do.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Carries out operations for a moment and answers each.
    pub fn turn(&mut self, requests: &mut Requests, mut answer: impl FnMut(Input)) {
        let begin = clock::now();
        while let Some(mut job) = self.jobs.pop_front() {
            let Some(op) = job.ops.get(job.next as usize) else {
                continue;
            };
            self.look(op, begin, &mut answer);
            let outcome = route::carry_out(requests, op);
            answer(Input::Applied { token: job.token, item: job.next, outcome });
            job.next += 1;
            if (job.next as usize) < job.ops.len() {
                self.jobs.push_back(job);
            }
            if clock::now().since(begin) >= TURN {
                return;
            }
        }
    }

    /// Neighbour adverts say whether this is a router; the announcement that follows an address needs to know.
    fn look(&mut self, op: &Op, now: Instant, answer: &mut impl FnMut(Input)) {
        let Op::AddAddress { interface, address } = op else {
            return;
        };
        if address.prefix.family() == Family::V4
            || self.looked.get(interface).is_some_and(|at| now.since(*at) < FRESH)
        {
            return;
        }
        self.looked.insert(*interface, now);
        let path = format!("/proc/sys/net/ipv6/conf/{}/forwarding", address.interface);
        let forwards = std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0");
        answer(Input::Router { interface: *interface, forwards });
    }
}
