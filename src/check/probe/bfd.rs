//! `BFD_CHECK`: the state of a BFD session takes a server down or brings it back.
//!
//! There are no attempts: the process that runs the session reports its changes.

use super::{Failure, Verdict};

/// The verdict for a session that is up or down.
pub(in crate::check) fn verdict(session: &str, up: bool) -> Verdict {
    if up {
        Verdict::SUCCESS
    } else {
        Verdict::Failure(Failure::Answer(format!("BFD session {session} is down").into()))
    }
}

pub(super) fn mail_body(session: &str, last: Option<&Verdict>) -> String {
    let result = match last {
        Some(Verdict::Success(_)) => "succeeded",
        _ => "failed",
    };
    format!("=> BFD CHECK {session} {result} on service <=")
}

pub(super) fn success_line(session: &str, server: &str) -> String {
    format!("BFD check of [{session}] RS({server}) is UP")
}

pub(super) fn failure_line(session: &str, server: &str) -> String {
    format!("BFD check of [{session}] RS({server}) is DOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_session_decides_and_is_mailed() {
        let (up, down) = (verdict("B", true), verdict("B", false));
        assert_eq!(up.to_string(), "success");
        assert_eq!(down.to_string(), "BFD session B is down");
        assert_eq!(mail_body("B", Some(&up)), "=> BFD CHECK B succeeded on service <=");
        assert_eq!(mail_body("B", Some(&down)), "=> BFD CHECK B failed on service <=");
    }
}
