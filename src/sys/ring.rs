//! A bounded queue between two threads that never wait for each other or for a lock.
//!
//! The queues of the standard library may spin until the other side has finished its step. A real-time thread that
//! spins while it keeps the other side from running would wait forever.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// Creates a queue for `capacity` values, at least one.
#[must_use]
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let slots = (0..capacity.max(1)).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared { slots, head: AtomicUsize::new(0), tail: AtomicUsize::new(0) });
    (Producer { shared: Arc::clone(&shared), tail: 0 }, Consumer { shared, head: 0 })
}

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Total number of values taken (wrapping). Only written by the consumer.
    head: AtomicUsize,
    /// Total number of values added (wrapping). Only written by the producer.
    tail: AtomicUsize,
}

// SAFETY: values pass from one thread to the other, hence `T: Send`. A slot between head and tail belongs to the
// consumer, any other to the producer; the counters are published with release and read with acquire.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, count: usize) -> Option<*mut MaybeUninit<T>> {
        self.slots.get(count.checked_rem(self.slots.len())?).map(UnsafeCell::get)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (*self.head.get_mut(), *self.tail.get_mut());
        while head != tail {
            if let Some(slot) = self.slot(head) {
                // SAFETY: no other user is left; slots between head and tail hold values.
                unsafe { (*slot).assume_init_drop() };
            }
            head = head.wrapping_add(1);
        }
    }
}

/// The sending end.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
}

impl<T: Send> Producer<T> {
    /// Adds `value`; returns it if the queue is full.
    ///
    /// # Errors
    /// The value itself.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        let head = self.shared.head.load(Ordering::Acquire);
        let full = self.tail.wrapping_sub(head) >= self.shared.slots.len();
        match self.shared.slot(self.tail).filter(|_| !full) {
            Some(slot) => {
                // SAFETY: the slot is not between head and tail, so it is this end's and holds no value.
                unsafe { (*slot).write(value) };
                self.tail = self.tail.wrapping_add(1);
                self.shared.tail.store(self.tail, Ordering::Release);
                Ok(())
            }
            None => Err(value),
        }
    }

    /// Minimum number of values that there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        let head = self.shared.head.load(Ordering::Acquire);
        self.shared.slots.len().saturating_sub(self.tail.wrapping_sub(head))
    }
}

/// The receiving end.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest value.
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.shared.tail.load(Ordering::Acquire) {
            return None;
        }
        let slot = self.shared.slot(self.head)?;
        // SAFETY: the slot is between head and tail, so it is this end's and holds a value, which is taken once:
        // the head moves on.
        let value = unsafe { (*slot).assume_init_read() };
        self.head = self.head.wrapping_add(1);
        self.shared.head.store(self.head, Ordering::Release);
        Some(value)
    }

    /// Whether the other end is gone and the queue is empty.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
            && self.head == self.shared.tail.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_a_full_queue_gives_back() {
        let (mut p, mut c) = ring(2);
        assert_eq!(c.pop(), None);
        assert_eq!(p.room(), 2);
        assert_eq!((p.push(1), p.push(2), p.push(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(p.room(), 0);
        assert_eq!(c.pop(), Some(1));
        assert_eq!(p.push(3), Ok(()));
        assert_eq!((c.pop(), c.pop(), c.pop()), (Some(2), Some(3), None));
    }

    #[test]
    fn everything_passes_between_threads() {
        let (mut p, mut c) = ring(7);
        let producer = std::thread::spawn(move || {
            for n in 0..100_000_u32 {
                let mut value = Box::new(n);
                while let Err(back) = p.push(value) {
                    value = back;
                    std::thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 100_000 {
            match c.pop() {
                Some(n) => {
                    assert_eq!(*n, expected);
                    expected += 1;
                }
                None => std::thread::yield_now(),
            }
        }
        producer.join().unwrap();
        assert!(c.is_closed());
    }

    #[test]
    fn what_is_left_is_dropped_once() {
        let value = Arc::new(());
        let (mut p, mut c) = ring(4);
        for _ in 0..4 {
            p.push(Arc::clone(&value)).unwrap();
        }
        drop(c.pop());
        drop((p, c));
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
