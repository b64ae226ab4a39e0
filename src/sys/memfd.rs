//! Memory that is passed between processes and cannot be changed.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;

/// The operations that are sealed.
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Creates sealed memory with these contents.
///
/// # Errors
/// If the process has no descriptor or the machine no memory left.
pub fn seal(name: &CStr, contents: &[u8]) -> io::Result<OwnedFd> {
    seal_with(name, |file| file.write_all(contents))
}

/// The same with contents written by `fill`, so that they are not in memory twice.
///
/// # Errors
/// As [`seal`], and those of `fill`.
pub fn seal_with(
    name: &CStr,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    fill(&mut file)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file.into())
}

/// The contents of memory created by [`seal`].
///
/// # Errors
/// `InvalidData` if it is not sealed or longer than `limit` octets.
pub fn read(fd: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let seals = fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS)?;
    if !SealFlag::from_bits_truncate(seals).contains(SEALS) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let length = usize::try_from(fstat(fd.as_fd())?.st_size).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut contents = vec![0; length];
    // The position is shared with the other holders of the descriptor: read without it.
    File::from(fd).read_exact_at(&mut contents, 0)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_arrive_and_cannot_change() {
        let fd = seal(c"test", b"abc").unwrap();
        let mut other = File::from(fd.try_clone().unwrap());
        assert!(other.write_all(b"x").is_err());
        assert!(other.set_len(1).is_err());
        assert_eq!(read(fd, 3).unwrap(), b"abc");
    }

    #[test]
    fn what_is_not_sealed_is_refused() {
        let fd =
            memfd_create(c"test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(read(fd, 10).is_err());
        assert!(read(File::open("/etc/passwd").unwrap().into(), 1 << 20).is_err());
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(read(seal(c"test", &[0; 11]).unwrap(), 10).is_err());
    }
}
