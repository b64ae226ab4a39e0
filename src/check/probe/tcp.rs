//! `TCP_CHECK`: a connection can be made; nothing is sent on it.

use super::{Failure, In, Share, Verdict, unconnected};

/// The evaluation of one attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Tcp {
    /// Processes the result of the connection; the verdict is immediate.
    #[must_use]
    pub fn step(self, input: In) -> Verdict {
        match input {
            In::Connected => Verdict::Success(Share::Configured),
            In::Failed { step, errno } => unconnected(step, errno),
        }
    }
}

pub(super) fn success_line(server: &str) -> String {
    format!("TCP connection to {server} success.")
}

pub(super) fn failure_line(server: &str, retries: Option<u32>) -> String {
    match retries {
        None => format!("TCP_CHECK on service {server} failed."),
        Some(n) => format!("TCP_CHECK on service {server} failed after {n} retries."),
    }
}

pub(super) fn attempt_line(server: &str, failure: &Failure) -> String {
    let how = if *failure == Failure::Timeout { "timeout" } else { "failed" };
    format!("TCP connection to {server} {how}.")
}

pub(super) const fn mail_body(last: Option<&Verdict>) -> &'static str {
    match last {
        Some(Verdict::Success(_)) => "=> TCP CHECK succeed on service <=",
        _ => "=> TCP CHECK failed on service <=",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    #[test]
    fn a_connection_is_success_a_refusal_is_failure() {
        assert_eq!(Tcp.step(In::Connected), Verdict::Success(Share::Configured));
        assert_eq!(
            Tcp.step(In::Failed { step: Step::Connect, errno: 111 }),
            Verdict::Failure(Failure::Connection(111))
        );
    }
}
