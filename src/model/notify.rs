//! Programs that the daemon runs.

use serde::{Deserialize, Serialize};

/// A program with its arguments and the account that runs it.
///
/// Words are octets, because file names have no character set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Path of the program, then its arguments. Never empty.
    pub words: Vec<Box<[u8]>>,
    /// Pass the words to `/bin/sh -c` instead of executing the first one: the command has the form `</path`. A file without
    /// an interpreter line is given to the shell in any case.
    pub through_shell: bool,
    /// The account; none means the account the daemon runs as.
    pub user: Option<User>,
}

impl Command {
    /// The command as one line for messages: words with blanks are quoted, octets that are not UTF-8 replaced.
    #[must_use]
    pub fn display(&self) -> String {
        let mut line = String::new();
        for word in &self.words {
            if !line.is_empty() {
                line.push(' ');
            }
            let text = String::from_utf8_lossy(word);
            if text.is_empty() || text.contains(char::is_whitespace) {
                line.push('\'');
                line.push_str(&text);
                line.push('\'');
            } else {
                line.push_str(&text);
            }
        }
        line
    }
}

/// An account by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, including the primary one if it is to be kept. Usually just the primary group.
    pub groups: Vec<u32>,
}

/// The programs to run when an instance or a group changes its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyCommands {
    /// `notify_master`
    pub master: Option<Command>,
    /// `notify_backup`
    pub backup: Option<Command>,
    /// `notify_fault`
    pub fault: Option<Command>,
    /// `notify_stop`
    pub stop: Option<Command>,
    /// `notify_deleted` with a command.
    pub deleted: Option<Command>,
    /// `notify`: every change, with four arguments added.
    pub any: Option<Command>,
    /// `notify_master_rx_lower_pri`
    pub master_rx_lower_pri: Option<Command>,
    /// `notify_fifo`, `vrrp_notify_fifo`: a line is written for every change.
    pub fifo: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_as_typed() {
        let words = ["/bin/echo", "a b", "", "c"].map(|w| w.as_bytes().into()).into();
        let command = Command { words, through_shell: false, user: None };
        assert_eq!(command.display(), "/bin/echo 'a b' '' c");
    }
}
