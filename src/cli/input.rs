//! What commands read as a whole: files and standard input, with a limit.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use crate::config::{Files, Limits, ReadError, too_large};
use crate::sys::host::Machine;

/// The argument that stands for standard input.
pub(super) const STANDARD_INPUT: &str = "-";

/// Reads a file, or standard input for `-`, as far as a configuration file may be long.
///
/// # Errors
/// Missing, unreadable, special and too large files, as a text for the user.
pub(super) fn read(name: &OsStr) -> Result<Vec<u8>, lexopt::Error> {
    let limit = Limits::default().file;
    if name == STANDARD_INPUT {
        return up_to(limit, io::stdin()).map_err(|e| format!("standard input {e}").into());
    }
    file(name, limit).map_err(|e| format!("file '{}' {e}", name.display()).into())
}

fn file(name: &OsStr, limit: usize) -> Result<Vec<u8>, String> {
    let machine = Machine::new();
    match machine.status(name.as_bytes()) {
        Ok(None) => return Err("does not exist".to_owned()),
        Ok(Some(_)) => {}
        Err(reason) => return Err(ReadError::Unreadable(reason).to_string()),
    }
    machine.read(name.as_bytes(), limit).map_err(|e| e.to_string())
}

/// Everything that a stream yields.
///
/// # Errors
/// If it cannot be read or yields more than `limit` octets. No more than that are kept in memory.
pub(super) fn up_to(limit: usize, stream: impl Read) -> Result<Vec<u8>, ReadError> {
    let mut text = Vec::new();
    let read = stream.take((limit as u64).saturating_add(1)).read_to_end(&mut text);
    read.map_err(|e| ReadError::Unreadable(e.to_string()))?;
    if text.len() > limit { Err(too_large(limit)) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_read() {
        assert_eq!(up_to(4, &b"1234"[..]).unwrap(), b"1234");
        assert_eq!(up_to(4, &b"12345"[..]), Err(too_large(4)));
        // A stream without an end.
        assert_eq!(up_to(1000, io::repeat(b'x')), Err(too_large(1000)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(file(path.as_os_str(), 5).unwrap(), b"12345");
        assert_eq!(file(path.as_os_str(), 4).unwrap_err(), too_large(4).to_string());
    }
}
