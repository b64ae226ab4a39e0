//! The queues from the logging threads to the writing thread.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::{Lost, Record};
use crate::status::PEER;
use crate::sys::poll::Wake;
use crate::sys::ring::{Consumer, Producer, ring};

/// Capacity of the queues of the real-time thread and of all others, in records.
const WAITING: usize = 4096;
/// Part of it that is closed to details and lines that other routers cause: they never displace changes of state.
const RESERVED: usize = 2048;

pub(super) type Input = Producer<Box<Record>>;
pub(super) type Output = Consumer<Box<Record>>;

thread_local! {
    /// The queue of this thread, if it has one of its own.
    static OWN: RefCell<Option<Input>> = const { RefCell::new(None) };
    /// This thread has put something into its own queue without waking the writer.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Makes `input` the queue of the calling thread.
pub(super) fn own(input: Option<Input>) {
    OWN.with(|own| own.replace(input));
}

/// Whether the calling thread has put something into its own queue since the last call.
pub(super) fn take_quiet() -> bool {
    QUIET.take()
}

/// The state shared by both sides.
pub(super) struct Shared {
    pub wake: Wake,
    pub reopen: AtomicBool,
    pub lost: Lost,
    flushes: Mutex<Vec<SyncSender<()>>>,
    /// For all threads without a queue of their own.
    common: Mutex<Input>,
}

impl Shared {
    pub fn ask_flush(&self, done: SyncSender<()>) {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        self.wake.call();
    }

    /// The threads that wait for everything to be written. Take these before the records.
    pub fn take_flushes(&self) -> Vec<SyncSender<()>> {
        core::mem::take(&mut *self.flushes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Creates the queues: the shared state, the collector of events, the input of the real-time thread, all outputs.
pub(super) fn make(level: LevelFilter) -> io::Result<(Arc<Shared>, Collector, Input, [Output; 2])> {
    let (common, first) = ring(WAITING);
    let (real_time, second) = ring(WAITING);
    let shared = Arc::new(Shared {
        wake: Wake::new()?,
        reopen: AtomicBool::new(false),
        lost: Lost::default(),
        flushes: Mutex::default(),
        common: Mutex::new(common),
    });
    let collector = Collector { shared: Arc::clone(&shared), level };
    Ok((shared, collector, real_time, [first, second]))
}

/// Collects events.
pub(super) struct Collector {
    shared: Arc<Shared>,
    level: LevelFilter,
}

impl Subscriber for Collector {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let record = Box::new(Record::new(event));
        let metadata = event.metadata();
        let minor = metadata.target() == PEER || *metadata.level() > Level::INFO;
        let put =
            |input: &mut Input| (minor && input.room() <= RESERVED) || input.push(record).is_err();
        let (refused, own) = OWN.with(|own| match own.try_borrow_mut() {
            Ok(mut own) => match own.as_mut() {
                Some(input) => (put(input), true),
                None => {
                    let mut common =
                        self.shared.common.lock().unwrap_or_else(PoisonError::into_inner);
                    (put(&mut common), false)
                }
            },
            Err(_) => (true, false),
        });
        if refused {
            self.shared.lost.total.fetch_add(1, Ordering::Relaxed);
            self.shared.lost.told.store(false, Ordering::Relaxed);
        }
        if own {
            // Waking another thread costs more than all of the above: this is done when the thread rests.
            QUIET.set(true);
        } else {
            self.shared.wake.call();
        }
    }

    // Spans are not used: events carry their fields themselves.

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
