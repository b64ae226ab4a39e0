//! One line of the log.

use core::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::base::WallTime;
use crate::sys::clock;

/// An event, ready to be written.
#[derive(Debug)]
pub(super) struct Record {
    pub time: WallTime,
    pub level: Level,
    pub text: String,
    pub instance: Option<String>,
    pub vrid: Option<u64>,
    pub state: Option<String>,
    pub service: Option<String>,
}

impl Record {
    pub fn new(event: &Event<'_>) -> Self {
        let mut record = Self::plain(*event.metadata().level(), String::new());
        event.record(&mut record);
        record.cleaned()
    }

    /// Replaces newlines, which would look like several events, and other control characters by blanks.
    pub fn cleaned(mut self) -> Self {
        if self.text.contains(|c: char| c.is_control() && c != '\t') {
            self.text = self.text.replace(|c: char| c.is_control() && c != '\t', " ");
        }
        self
    }

    pub fn plain(level: Level, text: String) -> Self {
        Self {
            time: clock::wall(),
            level,
            text,
            instance: None,
            vrid: None,
            state: None,
            service: None,
        }
    }

    /// The severity in syslog. Details have the same severity as other lines: they are only logged on request, and most
    /// syslog daemons drop lower severities.
    pub fn severity(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO | Level::DEBUG => 6,
            Level::TRACE => 7,
        }
    }

    fn other(&mut self, field: &Field, value: &dyn core::fmt::Debug) {
        let _ = write!(self.text, " {}={value:?}", field.name());
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn core::fmt::Debug) {
        match field.name() {
            // The message comes before other fields, whatever the order of recording.
            "message" => {
                let rest = core::mem::take(&mut self.text);
                let _ = write!(self.text, "{value:?}{rest}");
            }
            "instance" => self.instance = Some(format!("{value:?}")),
            "state" => self.state = Some(format!("{value:?}")),
            "service" => self.service = Some(format!("{value:?}")),
            _ => self.other(field, value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "vrid" => self.vrid = Some(value),
            _ => self.other(field, &value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "instance" => self.instance = Some(value.into()),
            "state" => self.state = Some(value.into()),
            "service" => self.service = Some(value.into()),
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.other(field, &value),
        }
    }
}
