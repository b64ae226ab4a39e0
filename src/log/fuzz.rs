//! One record in all its forms, for fuzzers.

use tracing::Level;

use super::record::Record;
use super::{Facility, file, journald, syslog};

/// A record in the form of each destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forms {
    pub journal: Vec<u8>,
    /// For a syslog daemon.
    pub syslog: String,
    /// For standard error and for a file.
    pub line: String,
}

/// Writes a record of `text`, with a name of an instance and a state if they are given.
#[must_use]
pub fn forms(text: &str, instance: Option<&str>, state: Option<&str>) -> Forms {
    let record = Record {
        instance: instance.map(Into::into),
        state: state.map(Into::into),
        vrid: instance.map(|name| name.len() as u64),
        ..Record::plain(Level::WARN, text.into()).cleaned()
    };
    let mut journal = Vec::new();
    journald::encode(&record, "evervip", Facility::DAEMON.number(), &mut journal);
    Forms {
        journal,
        syslog: syslog::line(&record, "evervip", Facility::DAEMON),
        line: file::line(&record),
    }
}
