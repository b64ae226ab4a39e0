//! `evervip fmt`: configurations in the canonical layout.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::input::{self, STANDARD_INPUT};
use super::print::{self, out};
use crate::config::format;

pub(super) const HELP: &str = "\
Usage: evervip fmt [OPTION]... [FILE]...

Prints configurations in the standard layout: one statement a line, indented by
block, comments kept. The meaning does not change. Without FILE, or for -, reads
standard input.

  -w, --write   rewrite the files; files in the standard layout are not touched
      --check   list the files that are not in the standard layout, and exit
                with status 1 if there are any
  -h, --help    print this text
";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Print,
    Write,
    Check,
}

/// `evervip fmt [OPTION]... [FILE]...`
///
/// # Errors
/// Wrong options, and files that cannot be read or written, as a text for the user.
pub fn run(mut args: lexopt::Parser) -> Result<ExitCode, lexopt::Error> {
    use lexopt::prelude::*;
    let mut files: Vec<OsString> = Vec::new();
    let mut mode = Mode::Print;
    while let Some(arg) = args.next()? {
        match arg {
            Short('w') | Long("write") => mode = Mode::Write,
            Long("check") => mode = Mode::Check,
            Short('h') | Long("help") => {
                out(HELP)?;
                return Ok(ExitCode::SUCCESS);
            }
            Value(name) => files.push(name),
            other => return Err(other.unexpected()),
        }
    }
    if files.is_empty() {
        files.push(STANDARD_INPUT.into());
    }
    let mut differs = false;
    for name in files {
        let path = PathBuf::from(&name);
        if name == STANDARD_INPUT && mode == Mode::Write {
            return Err("--write needs a FILE".into());
        }
        let text = input::read(&name)?;
        let laid_out = format(&text);
        match mode {
            Mode::Print => {
                print::bytes(&laid_out)?;
            }
            Mode::Write if laid_out == text => {}
            Mode::Write => replace(&path, &laid_out)
                .map_err(|e| format!("cannot write file '{}': {e}", path.display()))?,
            Mode::Check if laid_out == text => {}
            Mode::Check => {
                out(&format!("{}\n", path.display()))?;
                differs = true;
            }
        }
    }
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Replaces the content of a file, completely or not at all. Owner and permissions stay; a symbolic link is followed.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let old = fs::metadata(&path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = folder.join(name);
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(text)?;
        // For a user who is not root this works if the file was their own.
        if let Err(e) = std::os::unix::fs::chown(&temporary, Some(old.uid()), Some(old.gid())) {
            let own = fs::metadata(&temporary)?;
            if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                return Err(e);
            }
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    let result = write();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.conf");
        fs::write(&file, "a{b}").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link.conf");
        std::os::unix::fs::symlink("a.conf", &link).unwrap();
        replace(&link, b"a {\n}\n").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"a {\n}\n");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(replace(&folder.path().join("none"), b"").is_err());
    }
}
