//! `MISC_CHECK`: a user's program determines whether the server is good.
//!
//! The runner runs and terminates it. This file evaluates its end: status 0 is good, anything else is bad. With
//! `misc_dynamic` status 1 is bad, 0 is good, and 2 to 255 are good with the weight 0 to 253.
//!
//! departs: a program that cannot be run gives no result about the server; in keepalived it counts as success.

use core::time::Duration;

use super::{Failure, Share, Step, Subject, Tries, Verdict};
use crate::model::checker::MiscCheck;
use crate::status::RunEnd;

/// From a program's time limit until the runner must have terminated it and answered: SIGTERM, 2 s, SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(6);
/// ETIMEDOUT.
const TIMED_OUT: i32 = 110;
/// The verdict if the runner does not answer long after the program's time limit: a fault of this host, not of the
/// server.
pub(super) const UNANSWERED: Verdict = Verdict::Untried { step: Step::Program, errno: TIMED_OUT };

/// Evaluates the end of one run.
#[derive(Clone, Copy, Debug)]
pub struct Misc {
    /// `misc_dynamic`
    pub dynamic: bool,
}

impl Misc {
    /// Processes the end of the program; the verdict is immediate.
    #[must_use]
    pub fn step(self, end: RunEnd) -> Verdict {
        match end {
            RunEnd::Exit(0) => Verdict::Success(Share::Configured),
            RunEnd::Exit(status @ 2..=255) if self.dynamic => {
                Verdict::Success(Share::Instead(status.unsigned_abs() - 2))
            }
            RunEnd::Exit(status) => Verdict::Failure(Failure::Exited(status)),
            RunEnd::Signal(signal) => Verdict::Failure(Failure::Killed(signal)),
            RunEnd::TimedOut => Verdict::Failure(Failure::Timeout),
            RunEnd::NotStarted(errno) => Verdict::Untried { step: Step::Program, errno },
        }
    }
}

/// The account and the time limit may change without restarting the check.
pub(super) fn matches(a: &MiscCheck, b: &MiscCheck) -> bool {
    a.command.words == b.command.words && a.dynamic == b.dynamic
}

fn line(check: &MiscCheck, subject: &Subject, end: &str) -> String {
    let Subject { server, service } = subject;
    let program = check.command.words.first().map(|word| String::from_utf8_lossy(word));
    let program = program.unwrap_or_default();
    format!("Misc check for [{server} VS {service}] by [{program}] {end}.")
}

pub(super) fn success_line(check: &MiscCheck, subject: &Subject) -> String {
    line(check, subject, "succeeded")
}

pub(super) fn failure_line(
    check: &MiscCheck,
    subject: &Subject,
    failure: &Failure,
    tries: Tries,
) -> String {
    let word = if *failure == Failure::Timeout { "timed out" } else { "failed" };
    let Tries { so_far, all, again } = tries;
    let plural = |n: u32| if n == 1 { "retry" } else { "retries" };
    let detail = match (so_far, all) {
        (_, 0) => " with retry disabled".to_owned(),
        (0, _) if again => format!(", will do {all} {}", plural(all)),
        (n, _) if again => format!(" on retry {n}/{all}"),
        (0, _) => String::new(),
        (n, _) => format!(" after {n} {}", plural(n)),
    };
    let why = match failure {
        Failure::Timeout => String::new(),
        other => format!(" ({other})"),
    };
    line(check, subject, &format!("{word}{detail}{why}"))
}

pub(super) const fn mail_body(last: Option<&Verdict>) -> &'static str {
    match last {
        Some(Verdict::Success(_)) => "=> MISC CHECK succeeded on service <=",
        Some(Verdict::Failure(Failure::Timeout)) => "=> MISC CHECK timed out on service <=",
        _ => "=> MISC CHECK failed on service <=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides() {
        let plain = |end| Misc { dynamic: false }.step(end);
        let dynamic = |end| Misc { dynamic: true }.step(end);
        for step in [plain, dynamic] {
            assert_eq!(step(RunEnd::Exit(0)), Verdict::Success(Share::Configured));
            assert_eq!(step(RunEnd::Exit(1)), Verdict::Failure(Failure::Exited(1)));
            assert_eq!(step(RunEnd::Signal(9)), Verdict::Failure(Failure::Killed(9)));
            assert_eq!(step(RunEnd::TimedOut), Verdict::Failure(Failure::Timeout));
            let lost = Verdict::Untried { step: Step::Program, errno: 2 };
            assert_eq!(step(RunEnd::NotStarted(2)), lost);
        }
        assert_eq!(plain(RunEnd::Exit(2)), Verdict::Failure(Failure::Exited(2)));
        assert_eq!(dynamic(RunEnd::Exit(2)), Verdict::Success(Share::Instead(0)));
        assert_eq!(dynamic(RunEnd::Exit(255)), Verdict::Success(Share::Instead(253)));
        assert_eq!(dynamic(RunEnd::Exit(256)), Verdict::Failure(Failure::Exited(256)));
    }

    #[test]
    fn mails_tell_a_program_that_failed_from_one_that_did_not_end() {
        let body = |verdict: Option<Verdict>| mail_body(verdict.as_ref());
        assert_eq!(body(Some(Verdict::SUCCESS)), "=> MISC CHECK succeeded on service <=");
        let failed = |failure| body(Some(Verdict::Failure(failure)));
        assert_eq!(failed(Failure::Timeout), "=> MISC CHECK timed out on service <=");
        assert_eq!(failed(Failure::Connection(111)), "=> MISC CHECK failed on service <=");
    }
}
