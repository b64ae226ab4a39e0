//! The thread that writes.

use core::sync::atomic::Ordering;
use std::io;
use std::sync::Arc;

use tracing::Level;

use super::file::{Console, LogFile};
use super::journald::Journal;
use super::record::Record;
use super::ring::{Output, Shared};
use super::syslog::Syslog;
use super::{Settings, file};
use crate::sys::poll::{Epoll, Ready};
use crate::sys::process;

/// The destinations of records.
pub(super) struct Writer {
    syslog: Option<Syslog>,
    journal: Option<Journal>,
    console: Option<Console>,
    file: Option<LogFile>,
    lost_told: u64,
}

impl Writer {
    pub fn new(settings: &Settings) -> io::Result<Self> {
        // The journal also receives what is sent to syslog: use only one of the two.
        let journal = settings.syslog.then(|| Journal::find(settings)).flatten();
        let syslog = (settings.syslog && journal.is_none()).then(|| Syslog::new(settings));
        Ok(Self {
            syslog,
            journal,
            console: settings.console.then(Console::new),
            file: settings.file.as_deref().map(LogFile::open).transpose()?,
            lost_told: 0,
        })
    }

    /// Writes until the process ends.
    pub fn run(mut self, shared: &Arc<Shared>, mut outputs: [Output; 2]) {
        process::block_signals();
        let Ok(epoll) = Epoll::new() else {
            return;
        };
        if epoll.add(&shared.wake, 0).is_err() {
            return;
        }
        let mut ready = Ready::new();
        let mut batch: Vec<Box<Record>> = Vec::new();
        loop {
            if epoll.wait(&mut ready).is_err() {
                return;
            }
            shared.wake.clear();
            let flushes = shared.take_flushes();
            if shared.reopen.swap(false, Ordering::Relaxed)
                && let Some(file) = &mut self.file
            {
                file.reopen();
            }
            for output in &mut outputs {
                while let Some(record) = output.pop() {
                    batch.push(record);
                }
            }
            batch.sort_by_key(|record| record.time);
            for record in batch.drain(..) {
                self.write(&record);
            }
            self.tell_lost(shared);
            for done in flushes {
                let _ = done.try_send(());
            }
        }
    }

    /// Logs how many records are missing, once for each time the queue was full.
    fn tell_lost(&mut self, shared: &Shared) {
        let total = shared.lost.total.load(Ordering::Relaxed);
        if total != self.lost_told && !shared.lost.told.swap(true, Ordering::Relaxed) {
            let text = format!("{} log records were lost", total - self.lost_told);
            self.lost_told = total;
            self.write(&Record::plain(Level::WARN, text));
        }
    }

    fn write(&mut self, record: &Record) {
        if let Some(journal) = &mut self.journal {
            journal.write(record);
        }
        if let Some(syslog) = &mut self.syslog {
            syslog.write(record);
        }
        if self.file.is_some() || self.console.is_some() {
            let line = file::line(record);
            if let Some(file) = &mut self.file {
                file.write(&line);
            }
            if let Some(console) = &mut self.console {
                console.write(&line);
            }
        }
    }
}
