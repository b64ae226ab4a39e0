//! The record of virtual servers that this daemon added to the kernel's table: a file beside the pid file of the role,
//! one per line, such as `tcp 10.0.0.1:80`, `fwmark 123` or `fwmark6 123`.
//!
//! After a crash the kernel still has them. The next process removes those that are in this file but no longer in its
//! configuration; everything else in the table is foreign. The file is written before an entry is added, and is in a
//! directory that a reboot, which empties the table, clears as well.
//!
//! The process has the file open and cannot create another: so a new list is appended to the last one, which counts
//! until the new one is complete. If there is room for it before the last one, it is written there, and the rest is
//! truncated.

use core::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;

use crate::base::Family;
use crate::model::ServiceKey;
use crate::model::service::Protocol;

/// The first line of a list.
const BEGIN: &str = "# virtual servers that evervipd put into the kernel\n";
/// The last line of a list.
const END: &str = "# end\n";

/// The file of owned services.
#[derive(Debug)]
pub(super) struct Record {
    /// None if it could not be opened.
    file: Option<File>,
    /// Offsets of the begin and end of the last list.
    last: (u64, u64),
    /// The list that could not be written, which was logged.
    unwritten: Option<Box<[ServiceKey]>>,
}

impl Record {
    pub const fn of(file: Option<File>) -> Self {
        Self { file, last: (0, 0), unwritten: None }
    }

    /// Its content. Invalid lines are ignored: a service that is not known to be ours stays.
    pub fn read(&mut self) -> Vec<ServiceKey> {
        let Some(file) = &mut self.file else {
            return Vec::new();
        };
        let mut octets = Vec::new();
        if let Err(e) = file.rewind().and_then(|()| file.read_to_end(&mut octets)) {
            tracing::warn!("cannot read the record of virtual servers: {e}");
        }
        let text = String::from_utf8_lossy(&octets);
        // An incomplete list is written again, at the end.
        self.last = (0, octets.len() as u64);
        services(&text)
    }

    /// Tries again to write a list that could not be written: the engine only reports it again when it changes.
    pub fn retry(&mut self) {
        if let Some(services) = self.unwritten.clone() {
            self.write(&services);
        }
    }

    /// Replaces its content; without services it becomes empty.
    pub fn write(&mut self, services: &[ServiceKey]) {
        let Some(file) = &self.file else {
            return;
        };
        let result = if services.is_empty() {
            file.set_len(0).map(|()| (0, 0))
        } else {
            replace(file, &text(services), self.last)
        };
        match result {
            Ok(last) => {
                self.last = last;
                self.unwritten = None;
            }
            Err(e) => {
                if self.unwritten.replace(services.into()).is_none() {
                    tracing::warn!(
                        "cannot write the record of virtual servers: {e}; those that leave the \
                         configuration while the daemon does not run must be removed manually"
                    );
                }
            }
        }
    }
}

/// Writes a list so that it counts as a whole or not at all. Returns its offsets.
fn replace(file: &File, text: &str, (begin, end): (u64, u64)) -> io::Result<(u64, u64)> {
    let length = text.len() as u64;
    let at = if length <= begin { 0 } else { end };
    if at > 0 {
        // The part of a list that a full disk cut off.
        file.set_len(at)?;
    }
    file.write_all_at(text.as_bytes(), at)?;
    if at == 0 {
        file.set_len(length)?;
    }
    Ok((at, at + length))
}

/// The text of the file for these services.
pub fn text(services: &[ServiceKey]) -> String {
    let mut text = String::from(BEGIN);
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
    text.push_str(END);
    text
}

/// The services in a text of the file: the last complete list.
pub fn services(text: &str) -> Vec<ServiceKey> {
    let Some(end) = text.rfind(END) else {
        return Vec::new();
    };
    let text = text.get(..end).unwrap_or_default();
    let begin = text.rfind(BEGIN).unwrap_or(0);
    text.get(begin..).unwrap_or_default().lines().filter_map(service).collect()
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

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    fn read(file: &File) -> Vec<ServiceKey> {
        Record::of(Some(file.try_clone().unwrap())).read()
    }

    #[test]
    fn what_is_written_is_read() {
        let file = file();
        let mut record = Record::of(Some(file.try_clone().unwrap()));
        assert_eq!(record.read(), []);
        record.write(&[]);
        for round in 0..100 {
            record.write(&services());
            assert_eq!(read(&file), services());
            record.write(&services()[..1 + round % 4]);
            assert_eq!(read(&file), services()[..1 + round % 4]);
        }
        let longest = text(&services()).len() as u64;
        assert!(file.metadata().unwrap().len() <= 3 * longest, "the file grows");
        record.write(&[]);
        assert_eq!(file.metadata().unwrap().len(), 0);
        record.write(&services());
        // The next process continues with it.
        let mut next = Record::of(Some(file.try_clone().unwrap()));
        assert_eq!(next.read(), services());
        next.write(&services()[1..]);
        assert_eq!(read(&file), services()[1..]);
    }

    #[test]
    fn a_list_that_was_cut_off_does_not_count() {
        let file = file();
        let mut record = Record::of(Some(file.try_clone().unwrap()));
        let (old, new) = (&services()[..2], services());
        record.write(old);
        let whole = file.metadata().unwrap().len();
        // Interrupted at any point while it is appended.
        for length in 0..text(&new).len() {
            file.set_len(whole).unwrap();
            file.write_all_at(&text(&new).as_bytes()[..length], whole).unwrap();
            assert_eq!(read(&file), old, "{length}");
        }
        // Written before the last one, without the truncation.
        record.write(&new);
        let (begin, _) = record.last;
        assert!(begin > 0);
        let short = text(&services()[..1]);
        for length in 0..=short.len() {
            file.write_all_at(&short.as_bytes()[..length], 0).unwrap();
            assert_eq!(read(&file), new, "{length}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_nobodys() {
        let file = file();
        let nonsense = "# x\n\ntcp\ntcp 1\nicmp 10.0.0.1:80\nfwmark x\nudp 10.0.0.2:53\n# end\n";
        file.write_all_at(nonsense.as_bytes(), 0).unwrap();
        assert_eq!(
            read(&file),
            [ServiceKey::Address {
                protocol: Protocol::Udp,
                endpoint: "10.0.0.2:53".parse().unwrap()
            }]
        );
        file.set_len(0).unwrap();
        file.write_all_at(&[0xff, 0xfe, b'\n'], 0).unwrap();
        assert_eq!(read(&file), []);
    }

    #[test]
    fn without_a_place_there_is_no_trouble() {
        let mut record = Record::of(None);
        record.write(&services());
        assert_eq!(record.read(), []);
        // A file that cannot be written.
        let mut record = Record::of(Some(File::open("/dev/null").unwrap()));
        record.write(&services());
        record.write(&services());
        assert_eq!(record.read(), []);
    }

    #[test]
    fn what_could_not_be_written_is_tried_again() {
        let file = file();
        let mut record = Record::of(Some(File::open("/dev/null").unwrap()));
        record.write(&services());
        // Now it can be written.
        record.file = Some(file.try_clone().unwrap());
        record.retry();
        assert_eq!(read(&file), services());
        file.set_len(0).unwrap();
        record.retry();
        assert_eq!(read(&file), [], "once");
    }
}
