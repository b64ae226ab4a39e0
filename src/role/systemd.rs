//! Messages to the service manager.

use core::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

/// Shortest time between heartbeats.
const SHORTEST: Duration = Duration::from_millis(100);

/// The service manager, if this process has one.
pub struct Manager {
    /// Time from one heartbeat to the next, and when the next one is due.
    every: Option<(Duration, Instant)>,
}

impl Manager {
    /// Finds out whether a service manager expects messages (`NOTIFY_SOCKET`) and heartbeats (`WATCHDOG_USEC`).
    #[must_use]
    pub fn find() -> Self {
        // Two heartbeats within its timeout.
        let every =
            sd_notify::watchdog_enabled().map(|limit| ((limit / 2).max(SHORTEST), Instant::now()));
        Self { every }
    }

    /// When the next heartbeat is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.every.map(|(_, due)| due)
    }

    /// The daemon runs with the configuration it has now.
    pub fn ready(&self, status: &str) {
        let pid = std::process::id();
        let status = one_line(status);
        tell(&[NotifyState::Ready, NotifyState::MainPid(pid), NotifyState::Status(&status)]);
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

    /// The end takes longer: the daemon is given this much time from now on, whatever the unit says.
    pub fn stopping_for(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        tell(&[NotifyState::ExtendTimeoutUsec(micros)]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        tell(&[NotifyState::Status(&one_line(status))]);
    }

    /// The start failed, or the daemon ends because of an error.
    pub fn errno(&self, errno: u32) {
        tell(&[NotifyState::Errno(errno)]);
    }

    /// Sends a heartbeat; to be called when it is due.
    pub fn look(&mut self) {
        if let Some((every, due)) = &mut self.every {
            tell(&[NotifyState::Watchdog]);
            *due = Instant::now() + *every;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a service manager this does nothing.
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("cannot notify the service manager: {e}");
    }
}

/// A text as one line without control characters, at most 400 of it: a line break would begin another message to the
/// service manager, such as `MAINPID=1`.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_become_another_message() {
        assert_eq!(one_line("no\nMAINPID=1\r\x1b[31m"), "no MAINPID=1  [31m");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 400);
        assert_eq!(one_line("größer"), "größer");
    }
}
