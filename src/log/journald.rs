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

    /// Sent by path each time, so that a journal that was started again is found.
    fn send(&mut self, record: &Record) -> bool {
        let b = &mut self.buffer;
        b.clear();
        field(b, "MESSAGE", &record.text);
        field(b, "PRIORITY", &record.severity().to_string());
        field(b, "SYSLOG_IDENTIFIER", &self.identity);
        field(b, "SYSLOG_FACILITY", &self.facility.to_string());
        if let Some(instance) = &record.instance {
            field(b, "INSTANCE", instance);
        }
        if let Some(vrid) = record.vrid {
            field(b, "VRID", &vrid.to_string());
        }
        if let Some(state) = &record.state {
            field(b, "STATE", state);
        }
        if let Some(service) = &record.service {
            field(b, "SERVICE", service);
        }
        self.socket.send_to(b, &self.path).is_ok()
    }
}

/// Appends one field: a line, or with its length if the value holds line ends.
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
