//! How a process of the daemon gives up what it does not need, once, before it takes in anything from outside and
//! before it has a second thread.

use std::io;

use ::caps::Capability;

use super::Setup;
use super::socket::ACCOUNT;
use super::table::Row;
use crate::ipc::RoleName;
use crate::sys::{account, caps, landlock, process, seccomp};

/// The user and group of roles, or why they keep those of the supervisor.
///
/// # Errors
/// The reason, for the log.
pub fn separate_user() -> Result<(u32, u32), &'static str> {
    if !process::is_root() {
        return Err("this daemon was not started by root");
    }
    let Some((uid, gid)) = account::user(ACCOUNT) else {
        return Err("there is no user evervip");
    };
    if !account::is_mapped(uid, gid) {
        return Err("this user namespace has no user evervip");
    }
    Ok((uid, gid))
}

/// What is to be said of it, when the log has started.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// What could not be given up.
    warnings: Vec<String>,
    /// What this machine does not have.
    details: Vec<String>,
    /// Capabilities without which the role cannot do its work.
    missing: Vec<Capability>,
}

impl Remarks {
    /// Logs it.
    pub fn tell(&self, role: RoleName) {
        for warning in &self.warnings {
            tracing::warn!("cannot give up privileges: {warning}");
        }
        for detail in &self.details {
            tracing::debug!("{detail}");
        }
        if !self.missing.is_empty() {
            tracing::error!("the {role} process lacks {}", caps::names(&self.missing));
        }
    }
}

/// Gives up what this role does not need.
///
/// # Errors
/// When it would run as another user than it is to, or could gain privileges: it must not run then.
pub(super) fn enter(row: &Row, setup: &Setup) -> io::Result<Remarks> {
    let mut remarks = Remarks::default();
    if row.confined.is_some() {
        // Kernels since 3.5 have it.
        process::no_new_privileges()?;
        // While that is allowed.
        if let Err(e) = caps::bound(row.keep) {
            remarks.warnings.push(e.to_string());
        }
        if let Some((uid, gid)) = setup.user {
            process::become_user(uid, gid)?;
        }
    }
    if let Err(e) = caps::reduce(row.keep) {
        remarks.warnings.push(e.to_string());
    }
    remarks.missing = caps::missing(row.needs);
    let Some(confined) = &row.confined else {
        return Ok(remarks);
    };
    match landlock::confine(&confined.reach) {
        Ok(true) => {}
        Ok(false) => remarks.details.push("this kernel has no Landlock".into()),
        Err(e) => remarks.warnings.push(format!("Landlock: {e}")),
    }
    if !setup.core_files {
        // Others of the same user cannot look into it. It leaves no core file either.
        process::hide();
    }
    if let Err(e) = seccomp::install(&confined.calls) {
        remarks.details.push(e.to_string());
    }
    Ok(remarks)
}
