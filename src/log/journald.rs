//! The journal's own protocol: fields instead of a line.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Settings;
use super::record::Record;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The socket of the journal.
pub(super) struct Journal {
    path: PathBuf,
    identity: String,
    facility: u8,
    socket: UnixDatagram,
    buffer: Vec<u8>,
    dropped: u64,
}

impl Journal {
    /// The journal of this machine, if it has one.
    pub fn find(settings: &Settings) -> Option<Self> {
        Self::at(SOCKET.as_ref(), settings)
    }

    pub fn at(path: &Path, settings: &Settings) -> Option<Self> {
        if !path.exists() {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self {
            path: path.into(),
            identity: settings.identity.clone(),
            facility: settings.facility.number(),
            socket,
            buffer: Vec::new(),
            dropped: 0,
        })
    }

    pub fn write(&mut self, record: &Record) {
        if self.dropped > 0 {
            let text =
                format!("{} lines were dropped: the journal did not take them", self.dropped);
            if self.send(&Record::plain(tracing::Level::WARN, text)) {
                self.dropped = 0;
            }
        }
        if !self.send(record) {
            self.dropped += 1;
        }
    }

    /// Sent by path each time, so that a restarted journal is found.
    fn send(&mut self, record: &Record) -> bool {
        self.buffer.clear();
        encode(record, &self.identity, self.facility, &mut self.buffer);
        self.socket.send_to(&self.buffer, &self.path).is_ok()
    }
}

/// Appends a record in the journal's format.
pub(super) fn encode(record: &Record, identity: &str, facility: u8, buffer: &mut Vec<u8>) {
    field(buffer, "MESSAGE", &record.text);
    field(buffer, "PRIORITY", &record.severity().to_string());
    field(buffer, "SYSLOG_IDENTIFIER", identity);
    field(buffer, "SYSLOG_FACILITY", &facility.to_string());
    if let Some(instance) = &record.instance {
        field(buffer, "INSTANCE", instance);
    }
    if let Some(vrid) = record.vrid {
        field(buffer, "VRID", &vrid.to_string());
    }
    if let Some(state) = &record.state {
        field(buffer, "STATE", state);
    }
    if let Some(service) = &record.service {
        field(buffer, "SERVICE", service);
    }
}

/// Appends one field: as a line, or with its length if the value contains newlines.
fn field(buffer: &mut Vec<u8>, name: &str, value: &str) {
    buffer.extend(name.as_bytes());
    if value.contains('\n') {
        buffer.push(b'\n');
        buffer.extend((value.len() as u64).to_le_bytes());
    } else {
        buffer.push(b'=');
    }
    buffer.extend(value.as_bytes());
    buffer.push(b'\n');
}
