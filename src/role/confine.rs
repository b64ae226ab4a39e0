//! How a process of the daemon gives up the privileges it does not need, once, before it reads any outside input and
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
    // The processes of the roles are started by root, and so begin with all that is in the bounding set.
    let needed = [Capability::CAP_SETUID, Capability::CAP_SETGID];
    if !needed.into_iter().all(caps::is_bounded) {
        return Err("it has no capability CAP_SETUID or CAP_SETGID to become the user evervip");
    }
    if !account::is_mapped(uid, gid) {
        return Err("this user namespace has no user evervip");
    }
    Ok((uid, gid))
}

/// Remarks to log once the log has started.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    /// Privileges that could not be given up.
    warnings: Vec<String>,
    /// Features that this machine lacks.
    details: Vec<String>,
    /// Missing capabilities that the role needs.
    missing: Vec<Capability>,
}

impl Remarks {
    /// Logs the remarks.
    pub fn tell(&self, role: RoleName) {
        for warning in &self.warnings {
            tracing::warn!("cannot drop privileges: {warning}");
        }
        for detail in &self.details {
            tracing::debug!("{detail}");
        }
        if !self.missing.is_empty() {
            tracing::error!("the {role} process lacks {}", caps::names(&self.missing));
        }
    }
}

/// Gives up the privileges that this role does not need.
///
/// # Errors
/// If it would run as the wrong user, or could gain privileges: then it must not run.
pub(super) fn enter(row: &Row, setup: &Setup) -> io::Result<Remarks> {
    let mut remarks = Remarks::default();
    if row.confined.is_some() {
        // Kernels since 3.5 have it.
        process::no_new_privileges()?;
        // As long as this is permitted.
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
        // Other processes of the same user cannot inspect it. It leaves no core file either.
        process::hide();
    }
    if let Err(e) = seccomp::install(&confined.calls) {
        remarks.details.push(e.to_string());
    }
    Ok(remarks)
}
