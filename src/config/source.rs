//! Files: the file system interface of the language, and the patterns of `include`.

use std::collections::BTreeMap;
use std::fmt;

use super::host::FileKind;

/// Where configuration files come from. Paths are octets.
pub trait Files {
    /// The kind of file at a path, following links, and its permission bits; none if it does not exist.
    ///
    /// # Errors
    /// The operating system's reason why that cannot be found out.
    fn status(&self, path: &[u8]) -> Result<Option<(FileKind, u32)>, String>;
    /// The whole file.
    ///
    /// # Errors
    /// Files of more than `limit` bytes and special files of the kernel are refused before they are read.
    fn read(&self, path: &[u8], limit: usize) -> Result<Vec<u8>, ReadError>;
    /// Names of the entries of a directory, in any order; none if it does not exist.
    ///
    /// # Errors
    /// The operating system's reason why some or all of them are unknown.
    fn list(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, String>;
    /// The directory in which relative names start, absolute.
    fn current_directory(&self) -> Vec<u8>;
}

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// It is a device, a pipe or made up by the kernel.
    Special,
    /// It cannot be read now, for a reason in the operating system's words, or is too large.
    Unreadable(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Special => f.write_str("is not a regular file"),
            Self::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
        }
    }
}

/// Files in memory: for tests and fuzzing. A name that ends in a slash is a directory; parents exist by themselves.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles {
    files: BTreeMap<Vec<u8>, (u32, Vec<u8>)>,
    /// Paths at which every operation fails.
    failing: BTreeMap<Vec<u8>, String>,
}

impl MemoryFiles {
    /// One file.
    #[must_use]
    pub fn single(name: &str, text: &[u8]) -> Self {
        Self::default().with(name, text)
    }

    /// The same files and one more.
    #[must_use]
    pub fn with(self, name: &str, text: &[u8]) -> Self {
        self.with_mode(name, 0o644, text)
    }

    /// The same files and one with other permissions.
    #[must_use]
    pub fn with_mode(mut self, name: &str, mode: u32, text: &[u8]) -> Self {
        self.files.insert(absolute(b"/", name.as_bytes()), (mode, text.to_vec()));
        self
    }

    /// The same files, but this one, or the list of this directory, cannot be read for this reason.
    #[must_use]
    pub fn failing(mut self, name: &str, reason: &str) -> Self {
        self.failing.insert(absolute(b"/", name.as_bytes()), reason.to_owned());
        self
    }

    fn fails(&self, path: &[u8]) -> Result<(), String> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        self.failing.get(path).map_or(Ok(()), |reason| Err(reason.clone()))
    }
}

impl Files for MemoryFiles {
    fn status(&self, path: &[u8]) -> Result<Option<(FileKind, u32)>, String> {
        let path = absolute(b"/", path);
        if let Some((mode, _)) = self.files.get(&path) {
            return Ok(Some((FileKind::Regular, *mode)));
        }
        let mut prefix = path;
        if prefix.last() != Some(&b'/') {
            prefix.push(b'/');
        }
        let below = self.files.range(prefix.clone()..).next();
        let is_there = below.is_some_and(|(path, _)| path.starts_with(&prefix));
        Ok(is_there.then_some((FileKind::Directory, 0o755)))
    }

    fn read(&self, path: &[u8], limit: usize) -> Result<Vec<u8>, ReadError> {
        let path = absolute(b"/", path);
        self.fails(&path).map_err(ReadError::Unreadable)?;
        match self.files.get(&path) {
            Some((_, text)) if text.len() > limit => Err(too_large(limit)),
            Some((_, text)) => Ok(text.clone()),
            None => Err(ReadError::Unreadable("No such file or directory".into())),
        }
    }

    fn list(&self, directory: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut prefix = absolute(b"/", directory);
        self.fails(&prefix)?;
        if prefix.last() != Some(&b'/') {
            prefix.push(b'/');
        }
        let mut names: Vec<Vec<u8>> = Vec::new();
        for path in self.files.keys() {
            if let Some(rest) = path.strip_prefix(prefix.as_slice()) {
                let name = rest.split(|&b| b == b'/').next().unwrap_or_default();
                if !name.is_empty() && names.last().is_none_or(|n| n != name) {
                    names.push(name.to_vec());
                }
            }
        }
        Ok(names)
    }

    fn current_directory(&self) -> Vec<u8> {
        b"/".to_vec()
    }
}

/// Why a file beyond the limit is refused.
#[must_use]
pub fn too_large(limit: usize) -> ReadError {
    ReadError::Unreadable(format!("larger than {limit} bytes"))
}

/// `path`, starting in `directory` when it is relative, without `.` and empty parts.
pub(crate) fn absolute(directory: &[u8], path: &[u8]) -> Vec<u8> {
    let mut whole = if path.first() == Some(&b'/') { Vec::new() } else { directory.to_vec() };
    let trailing = path.last() == Some(&b'/');
    for part in path.split(|&b| b == b'/') {
        if part.is_empty() || part == b"." {
            continue;
        }
        if whole.last() != Some(&b'/') {
            whole.push(b'/');
        }
        whole.extend_from_slice(part);
    }
    if whole.is_empty() || (trailing && whole.last() != Some(&b'/')) {
        whole.push(b'/');
    }
    whole
}

/// The part of a path up to and including its last slash; none for a bare name.
pub(crate) fn directory_of(path: &[u8]) -> Option<&[u8]> {
    let slash = memchr::memrchr(b'/', path)?;
    path.get(..=slash)
}

/// The alternatives of a pattern with `{a,b}`, in order. Without braces the pattern itself.
pub(crate) fn alternatives(pattern: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_vec()];
    while let Some(next) = open.pop() {
        if done.len() + open.len() >= limit {
            break;
        }
        match split_braces(&next) {
            None => done.push(next),
            Some((before, choices, after)) => {
                for choice in choices.into_iter().rev() {
                    open.push([before, choice, after].concat());
                }
            }
        }
    }
    done
}

type Split<'a> = (&'a [u8], Vec<&'a [u8]>, &'a [u8]);

/// The first outermost brace group of a pattern.
fn split_braces(pattern: &[u8]) -> Option<Split<'_>> {
    let open = pattern.iter().position(|&b| b == b'{')?;
    let mut depth = 0_u32;
    let mut start = open + 1;
    let mut choices = Vec::new();
    for (at, &b) in pattern.iter().enumerate().skip(open) {
        match b {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    choices.push(pattern.get(start..at)?);
                    return Some((pattern.get(..open)?, choices, pattern.get(at + 1..)?));
                }
            }
            b',' if depth == 1 => {
                choices.push(pattern.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

/// Whether a pattern holds `*`, `?` or `[`.
pub(crate) fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'['))
}

/// What a pattern matches.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Names, sorted. Relative patterns give relative names.
    pub names: Vec<Vec<u8>>,
    /// A file or directory that could not be examined, so there may be more names, and the reason.
    pub unknown: Option<(Vec<u8>, String)>,
}

impl Found {
    /// Notes a failure; returns what was found without it.
    fn known<T: Default>(&mut self, path: &[u8], result: Result<T, String>) -> T {
        result.unwrap_or_else(|reason| {
            self.unknown.get_or_insert_with(|| (path.to_vec(), reason));
            T::default()
        })
    }
}

/// Names that match a pattern without braces. Wildcards do not match a slash or a dot at the start of a name.
pub(crate) fn matches(files: &dyn Files, directory: &[u8], pattern: &[u8]) -> Found {
    let mut found = Found::default();
    if !has_wildcard(pattern) {
        let status = files.status(&absolute(directory, pattern));
        if found.known(pattern, status).is_some() {
            found.names.push(pattern.to_vec());
        }
        return found;
    }
    let rooted = pattern.first() == Some(&b'/');
    let mut bases: Vec<Vec<u8>> = vec![if rooted { b"/".to_vec() } else { Vec::new() }];
    for part in pattern.split(|&b| b == b'/').filter(|p| !p.is_empty()) {
        let mut next = Vec::new();
        for base in &bases {
            let join = |name: &[u8]| {
                let mut path = base.clone();
                if !path.is_empty() && path.last() != Some(&b'/') {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                path
            };
            if has_wildcard(part) {
                let names = files.list(&absolute(directory, base));
                for name in found.known(base, names) {
                    if (name.first() != Some(&b'.') || part.first() == Some(&b'.'))
                        && glob(part, &name)
                    {
                        next.push(join(&name));
                    }
                }
            } else {
                let path = join(part);
                let status = files.status(&absolute(directory, &path));
                if found.known(&path, status).is_some() {
                    next.push(path);
                }
            }
        }
        bases = next;
    }
    bases.sort();
    found.names = bases;
    found
}

/// Whether `name` matches the pattern of one path component. Linear in the product of both lengths at worst.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() || p < pattern.len() {
        let step = match (pattern.get(p), name.get(n)) {
            (Some(b'*'), _) => {
                retry = Some((p, n + 1));
                p += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => Some(p + 1),
            (Some(b'['), Some(&byte)) => class(pattern, p, byte),
            (Some(b'\\'), Some(byte)) if p + 1 < pattern.len() => {
                (pattern.get(p + 1) == Some(byte)).then_some(p + 2)
            }
            (Some(a), Some(b)) => (a == b).then_some(p + 1),
            _ => None,
        };
        match (step, retry) {
            (Some(after), _) => {
                p = after;
                n += 1;
            }
            (None, Some((star, from))) if from <= name.len() => {
                p = star;
                n = from;
            }
            _ => return false,
        }
    }
    true
}

/// Matches one byte against `[...]` at `at`: returns where the pattern continues, or none. An unclosed bracket is
/// literal.
fn class(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    let mut i = at + 1;
    let negated = matches!(pattern.get(i), Some(b'!' | b'^'));
    if negated {
        i += 1;
    }
    let first = i;
    let mut hit = false;
    loop {
        match pattern.get(i) {
            None => return (byte == b'[').then_some(at + 1),
            Some(b']') if i > first => break,
            Some(&low) => {
                let high = match (pattern.get(i + 1), pattern.get(i + 2)) {
                    (Some(b'-'), Some(&high)) if high != b']' => {
                        i += 2;
                        high
                    }
                    _ => low,
                };
                hit |= (low..=high).contains(&byte);
                i += 1;
            }
        }
    }
    (hit != negated).then_some(i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[", "[", true),
            ("*.conf", "x.conf", true),
            ("*.conf", ".conf", true),
            ("", "", true),
            ("", "a", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn braces_expand_in_order() {
        let list = |p: &str| {
            alternatives(p.as_bytes(), 100)
                .into_iter()
                .map(|a| String::from_utf8(a).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(list("a{b,c{d,e}}f"), ["abf", "acdf", "acef"]);
        assert_eq!(list("a{b"), ["a{b"]);
        assert_eq!(list("{,x}"), ["", "x"]);
    }

    #[test]
    fn wildcards_match_sorted_names() {
        let files = MemoryFiles::default()
            .with("/etc/k/20-b.inc", b"")
            .with("/etc/k/10-a.inc", b"")
            .with("/etc/k/.hidden.inc", b"")
            .with("/etc/k/sub/x.inc", b"");
        let names = |p: &str| {
            matches(&files, b"/etc/", p.as_bytes())
                .names
                .into_iter()
                .map(|a| String::from_utf8(a).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("k/*.inc"), ["k/10-a.inc", "k/20-b.inc"]);
        assert_eq!(names("/etc/*/sub/*.inc"), ["/etc/k/sub/x.inc"]);
        assert_eq!(names("k/none"), Vec::<String>::new());
        assert_eq!(names("k"), ["k"]);
    }
}
