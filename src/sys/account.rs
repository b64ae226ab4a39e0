//! Users and groups of this machine, from its own files: accounts of daemons are not looked up over the network, which
//! may not be available yet.

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

/// Whether this process's user namespace maps both ids, and permits processes to change their groups.
#[must_use]
pub fn is_mapped(uid: u32, gid: u32) -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}"));
    let has = |name: &str, id: u32| read(name).is_ok_and(|map| within(&map, id));
    let groups = read("setgroups").map_or(true, |may| may.trim() != "deny");
    has("uid_map", uid) && has("gid_map", gid) && groups
}

/// Whether an id is within one of the ranges (first id inside, first id outside, length).
fn within(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        id.checked_sub(first).is_some_and(|above| above < count)
    })
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
    fn a_namespace_with_one_user_has_no_other() {
        let all = "         0          0 4294967295\n";
        assert!(within(all, 0) && within(all, 990));
        let one = "         0       1000          1\n";
        assert!(within(one, 0) && !within(one, 1) && !within(one, 1000));
        let two = "0 1000 1\n1 100000 65536\n";
        assert!(within(two, 65536) && !within(two, 65537));
        for bad in ["", "x", "0 0", "0 0 x"] {
            assert!(!within(bad, 0), "{bad}");
        }
    }

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
