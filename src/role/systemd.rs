//! What the service manager is told.

use sd_notify::NotifyState;

use super::table::TICK;

/// The service manager, if this process has one.
pub struct Manager {
    /// Looks from one sign of life to the next, and those left.
    every: Option<u32>,
    left: u32,
}

impl Manager {
    /// Finds out whether somebody wants to be told (`NOTIFY_SOCKET`), and whether signs of life are asked for
    /// (`WATCHDOG_USEC`).
    #[must_use]
    pub fn find() -> Self {
        // Half the time it waits.
        let every = sd_notify::watchdog_enabled().map(|limit| {
            let looks = limit.as_millis() / (2 * TICK.as_millis());
            u32::try_from(looks).unwrap_or(u32::MAX).max(1)
        });
        Self { every, left: 0 }
    }

    /// The daemon runs with the configuration it has now.
    pub fn ready(&self, status: &str) {
        let pid = std::process::id();
        tell(&[NotifyState::Ready, NotifyState::MainPid(pid), NotifyState::Status(status)]);
    }

    /// A new configuration is being read.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// The start failed, or the daemon ends because of an error.
    pub fn errno(&self, errno: u32) {
        tell(&[NotifyState::Errno(errno)]);
    }

    /// To be called with each look at the roles: gives a sign of life as often as wanted.
    pub fn look(&mut self) {
        if let Some(every) = self.every {
            if self.left == 0 {
                tell(&[NotifyState::Watchdog]);
                self.left = every;
            }
            self.left -= 1;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager this does nothing.
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("telling the service manager: {e}");
    }
}
