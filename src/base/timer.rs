//! One queue of deadlines for a whole engine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::time::Instant;

/// Deadlines by dense key: a binary heap whose entries are corrected when they come up.
///
/// A deadline that moves later, the usual case (each received advert moves one), is only overwritten in a table; the
/// stale heap entry is pushed back to its new place when it reaches the top. A deadline that moves earlier costs one
/// push. So a key has at most one additional heap entry for every time it moved earlier.
#[derive(Clone, Debug, Default)]
pub struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Wanted deadline and the earliest heap entry of each key.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    due: Option<Instant>,
    /// The earliest entry of this key in the heap, if any.
    queued: Option<Instant>,
}

impl TimerQueue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the deadline of `key`, replacing the one it had. Keys index a table: keep them small.
    pub fn set(&mut self, key: u32, due: Instant) {
        let index = key as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.due = Some(due);
        if slot.queued.is_none_or(|at| at > due) {
            slot.queued = Some(due);
            self.heap.push(Reverse((due, key)));
        }
    }

    /// Removes the deadline of `key`.
    pub fn clear(&mut self, key: u32) {
        if let Some(slot) = self.slots.get_mut(key as usize) {
            slot.due = None;
        }
    }

    /// The deadline of `key`, if it has one.
    #[must_use]
    pub fn get(&self, key: u32) -> Option<Instant> {
        self.slots.get(key as usize).and_then(|slot| slot.due)
    }

    /// The earliest deadline of all.
    pub fn earliest(&mut self) -> Option<Instant> {
        self.settle();
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the key with the earliest deadline at or before `now`, equal deadlines by key.
    pub fn pop(&mut self, now: Instant) -> Option<(u32, Instant)> {
        self.settle();
        let Reverse((at, key)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        if let Some(slot) = self.slots.get_mut(key as usize) {
            *slot = Slot::default();
        }
        Some((key, at))
    }

    /// Brings the top of the heap into agreement with the table.
    fn settle(&mut self) {
        while let Some(Reverse((at, key))) = self.heap.peek().copied() {
            let Some(slot) = self.slots.get_mut(key as usize) else {
                break;
            };
            if slot.queued == Some(at) {
                match slot.due {
                    Some(due) if due == at => return,
                    Some(due) => {
                        // The deadline moved later meanwhile.
                        slot.queued = Some(due);
                        self.heap.pop();
                        self.heap.push(Reverse((due, key)));
                        continue;
                    }
                    None => slot.queued = None,
                }
            }
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(n: u64) -> Instant {
        Instant::from_nanos(n)
    }

    #[test]
    fn later_and_earlier_moves_are_honoured() {
        let mut q = TimerQueue::new();
        q.set(0, at(10));
        q.set(1, at(20));
        q.set(0, at(30));
        assert_eq!(q.earliest(), Some(at(20)));
        q.set(0, at(5));
        assert_eq!(q.pop(at(5)), Some((0, at(5))));
        assert_eq!(q.pop(at(19)), None);
        q.clear(1);
        assert_eq!(q.earliest(), None);
    }

    proptest! {
        /// Behaves as a map from key to deadline would.
        #[test]
        fn agrees_with_a_map(ops in prop::collection::vec((0u8..4, 0u32..6, 0u64..50), 1..200)) {
            let mut q = TimerQueue::new();
            let mut map: BTreeMap<u32, Instant> = BTreeMap::new();
            for (op, key, t) in ops {
                match op {
                    0 | 1 => { q.set(key, at(t)); map.insert(key, at(t)); }
                    2 => { q.clear(key); map.remove(&key); }
                    _ => {
                        let want = map.iter().map(|(k, t)| (*t, *k)).min().filter(|(d, _)| *d <= at(t));
                        prop_assert_eq!(q.pop(at(t)), want.map(|(d, k)| (k, d)));
                        if let Some((_, k)) = want { map.remove(&k); }
                    }
                }
                prop_assert_eq!(q.earliest(), map.values().min().copied());
                for k in 0..6 { prop_assert_eq!(q.get(k), map.get(&k).copied()); }
            }
        }
    }
}
