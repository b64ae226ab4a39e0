//! Exit statuses, by keepalived's numbers.

/// Why the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// A normal stop.
    Ok = 0,
    /// A wrong option, another running daemon, or a missing necessity.
    Fatal = 1,
    /// An unusable configuration.
    Config = 2,
    /// A missing permission.
    Permission = 4,
    /// No configuration file.
    NoConfig = 6,
    /// A defect.
    Internal = 70,
}

impl Exit {
    /// Whether a role that ends with this status would end the same way again.
    #[must_use]
    pub const fn is_permanent(status: i32) -> bool {
        matches!(status, 1 | 2 | 4)
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit as Self
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(u8::from(exit))
    }
}
