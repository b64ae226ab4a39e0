//! Collects the log lines of a step. The integration tests of the check engine include this file as well.

use core::fmt::Write as _;
use std::cell::RefCell;

/// A line of the log.
#[derive(Debug)]
pub struct Line {
    pub text: String,
    pub level: tracing::Level,
    /// The part of the program, or the group of lines, that it belongs to.
    pub target: &'static str,
}

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// The result of a step and the lines that it logged.
pub fn during<T>(step: impl FnOnce() -> T) -> (T, Vec<Line>) {
    let result = tracing::subscriber::with_default(Listener, step);
    (result, LINES.with_borrow_mut(std::mem::take))
}

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(
                &mut self,
                field: &tracing::field::Field,
                value: &dyn core::fmt::Debug,
            ) {
                if field.name() == "message" {
                    write!(self.0, "{value:?}").unwrap();
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        LINES.with_borrow_mut(|lines| lines.push(Line { text: message.0, level, target }));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
