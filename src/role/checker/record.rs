//! The record of virtual servers that this daemon put into the kernel's table: a file beside the pid file of the
//! role, one a line, such as `tcp 10.0.0.1:80`, `fwmark 123` or `fwmark6 123`.
//!
//! After a crash the kernel still holds them. What the next process finds in this file and not in its
//! configuration any more it removes; everything else in the table belongs to others. The file is written before
//! an entry is made, and it lies where a reboot, which empties the table, removes it too.

use core::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::base::Family;
use crate::model::ServiceKey;
use crate::model::service::Protocol;

/// The file.
#[derive(Debug)]
pub(super) struct Record {
    /// None if there is no place for it.
    path: Option<PathBuf>,
    /// It could not be written, and that was said.
    failed: bool,
}

impl Record {
    pub fn at(path: Option<PathBuf>) -> Self {
        Self { path, failed: false }
    }

    /// What stands in it. Lines that make no sense are left out: a service that is not known to be ours stays.
    pub fn read(&self) -> Vec<ServiceKey> {
        let Some(path) = &self.path else {
            return Vec::new();
        };
        match std::fs::read_to_string(path) {
            Ok(text) => services(&text),
            Err(e) => {
                if e.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {e}", path.display());
                }
                Vec::new()
            }
        }
    }

    /// Replaces what stands in it; without services there is no file.
    pub fn write(&mut self, services: &[ServiceKey]) {
        let Some(path) = &self.path else {
            return;
        };
        let result = if services.is_empty() {
            std::fs::remove_file(path).or_else(|e| match e.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(e),
            })
        } else {
            replace(path, &text(services))
        };
        match result {
            Ok(()) => self.failed = false,
            Err(e) => {
                if !core::mem::replace(&mut self.failed, true) {
                    tracing::warn!(
                        "cannot write {}: {e}; virtual servers that leave the configuration while \
                         the daemon does not run will have to be removed by hand",
                        path.display()
                    );
                }
            }
        }
    }
}

/// Writes a file so that it is there as a whole or not at all.
fn replace(path: &PathBuf, text: &str) -> io::Result<()> {
    let mut name = path.clone().into_os_string();
    name.push(".new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&name)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(&name, path)
}

/// What stands in the file for these services.
pub fn text(services: &[ServiceKey]) -> String {
    let mut text = String::from("# virtual servers that evervipd put into the kernel\n");
    for service in services {
        // Writing to a string does not fail.
        let _ = match service {
            ServiceKey::Address { protocol, endpoint } => {
                writeln!(text, "{} {endpoint}", protocol.word())
            }
            ServiceKey::Mark { mark, family: Family::V4 } => writeln!(text, "fwmark {mark}"),
            ServiceKey::Mark { mark, family: Family::V6 } => writeln!(text, "fwmark6 {mark}"),
        };
    }
    text
}

/// The services that a text of the file names.
pub fn services(text: &str) -> Vec<ServiceKey> {
    text.lines().filter_map(service).collect()
}

fn service(line: &str) -> Option<ServiceKey> {
    let (word, rest) = line.split_once(' ')?;
    let mark = |family| rest.parse().ok().map(|mark| ServiceKey::Mark { mark, family });
    match word {
        "fwmark" => mark(Family::V4),
        "fwmark6" => mark(Family::V6),
        _ => {
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .into_iter()
                .find(|protocol| protocol.word() == word)?;
            Some(ServiceKey::Address { protocol, endpoint: rest.parse().ok()? })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Vec<ServiceKey> {
        let address = |protocol, endpoint: &str| ServiceKey::Address {
            protocol,
            endpoint: endpoint.parse().unwrap(),
        };
        vec![
            address(Protocol::Tcp, "10.0.0.1:80"),
            address(Protocol::Udp, "[fd00::1]:53"),
            address(Protocol::Sctp, "10.0.0.1:0"),
            ServiceKey::Mark { mark: u32::MAX, family: Family::V4 },
            ServiceKey::Mark { mark: 123, family: Family::V6 },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkers.services");
        let mut record = Record::at(Some(path.clone()));
        assert_eq!(record.read(), []);
        record.write(&[]);
        record.write(&services());
        assert_eq!(record.read(), services());
        record.write(&services()[..1]);
        assert_eq!(record.read(), services()[..1]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        record.write(&[]);
        assert!(!path.exists());
    }

    #[test]
    fn what_makes_no_sense_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "# x\n\ntcp\ntcp 1\nicmp 10.0.0.1:80\nfwmark x\nudp 10.0.0.2:53\n")
            .unwrap();
        let record = Record::at(Some(path.clone()));
        assert_eq!(
            record.read(),
            [ServiceKey::Address {
                protocol: Protocol::Udp,
                endpoint: "10.0.0.2:53".parse().unwrap()
            }]
        );
        std::fs::write(&path, [0xff, 0xfe, b'\n']).unwrap();
        assert_eq!(record.read(), []);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::at(Some(folder.path().join("nosuch/file")));
        record.write(&services());
        record.write(&services());
        assert_eq!(record.read(), []);
        Record::at(None).write(&services());
        assert_eq!(Record::at(None).read(), []);
    }
}
