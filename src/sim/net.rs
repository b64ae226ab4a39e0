//! The network between the hosts: one segment for each interface name.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::world::NodeId;
use crate::base::IfName;
use crate::base::rng::Rng;

/// The properties of a segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Percentage of frames lost, decided for each receiver.
    pub loss: u64,
    /// Percentage of frames that arrive twice.
    pub duplication: u64,
    /// Minimum delay.
    pub delay: Duration,
    /// Largest additional random delay: frames can overtake one another.
    pub jitter: Duration,
    /// Pairs of hosts that do not receive each other's frames, smaller number first.
    cuts: BTreeSet<(NodeId, NodeId)>,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            loss: 0,
            duplication: 0,
            delay: Duration::from_micros(50),
            jitter: Duration::ZERO,
            cuts: BTreeSet::new(),
        }
    }
}

/// All segments.
#[derive(Clone, Debug, Default)]
pub struct Net {
    segments: BTreeMap<IfName, Segment>,
}

impl Net {
    /// The segment that interfaces of this name are plugged into.
    pub fn segment(&mut self, name: &IfName) -> &mut Segment {
        self.segments.entry(name.clone()).or_default()
    }

    /// Whether a frame from one host can reach the other, were it not lost.
    #[must_use]
    pub fn connected(&self, name: &IfName, a: NodeId, b: NodeId) -> bool {
        self.segments.get(name).is_none_or(|s| !s.cuts.contains(&(a.min(b), a.max(b))))
    }

    /// Whether all segments carry every frame once, in order, between all hosts. Adverts 0.1 s apart that overtake one
    /// another by 0.3 s leave gaps longer than a backup waits, the more so where sequences refuse those overtaken.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        let perfect = |s: &Segment| {
            s.loss == 0 && s.duplication == 0 && s.jitter.is_zero() && s.cuts.is_empty()
        };
        self.segments.values().all(perfect)
    }

    /// Makes every segment perfect again.
    pub fn mend(&mut self) {
        for segment in self.segments.values_mut() {
            *segment = Segment::default();
        }
    }

    /// The times after which copies of a frame arrive at one receiver: none, one or two.
    pub fn deliveries(
        &mut self,
        name: &IfName,
        from: NodeId,
        to: NodeId,
        rng: &mut Rng,
    ) -> Vec<Duration> {
        if !self.connected(name, from, to) {
            return Vec::new();
        }
        let segment = self.segment(name);
        if rng.chance(segment.loss) {
            return Vec::new();
        }
        let copies = if rng.chance(segment.duplication) { 2 } else { 1 };
        let jitter = u64::try_from(segment.jitter.as_nanos()).unwrap_or(u64::MAX);
        (0..copies)
            .map(|_| {
                segment.delay + Duration::from_nanos(rng.below(jitter.saturating_add(1).max(1)))
            })
            .collect()
    }
}

impl Segment {
    /// Cuts or mends the path between two hosts.
    pub fn cut(&mut self, a: NodeId, b: NodeId, cut: bool) {
        let pair = (a.min(b), a.max(b));
        if cut {
            self.cuts.insert(pair);
        } else {
            self.cuts.remove(&pair);
        }
    }
}
