//! Users and groups of this machine, from its own files: the accounts of daemons are not asked of the network, which
//! may not be there yet.

/// The id of a group.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    field(&std::fs::read_to_string("/etc/group").ok()?, name, 2)
}

/// The user id and the group id of a user.
#[must_use]
pub fn user(name: &str) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    Some((field(&text, name, 2)?, field(&text, name, 3)?))
}

/// A number of the line for `name`.
fn field(text: &str, name: &str, number: usize) -> Option<u32> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_of_a_name() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# x\nevervip:x:990:991::/:/bin/false\nbad:x\n";
        assert_eq!((field(text, "evervip", 2), field(text, "evervip", 3)), (Some(990), Some(991)));
        for none in ["ever", "bad", "", "x"] {
            assert_eq!(field(text, none, 2), None, "{none}");
        }
        assert_eq!(user("root"), Some((0, 0)));
        assert_eq!(group("root"), Some(0));
    }
}
