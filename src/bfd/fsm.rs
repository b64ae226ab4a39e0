//! The transition table (RFC 5880 6.2 and 6.8.6): the next state for each state and input.

use crate::wire::bfd::{Diagnostic, State};

/// An input of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A packet of the remote system, with the state in it.
    Heard(State),
    /// No packet was received for a detection time.
    Expired,
    /// The session is ended locally.
    Disabled,
}

/// The next state and the diagnostic, if the state changes.
pub(super) const fn step(state: State, input: Input) -> (State, Option<Diagnostic>) {
    use Input::{Disabled, Expired, Heard};
    use State::{AdminDown, Down, Init, Up};
    match (state, input) {
        //= rfc5880 6.8.6: if bfd.SessionState is AdminDown, discard the packet
        (AdminDown, _) => (AdminDown, None),
        //= rfc5880 6.8.16: set bfd.SessionState to AdminDown
        (_, Disabled) => (AdminDown, Some(Diagnostic::ADMINISTRATIVELY_DOWN)),
        //= rfc5880 6.8.4: in the Init or Up state, the session has gone down
        (Init | Up, Expired) => (Down, Some(Diagnostic::EXPIRED)),
        (Down, Expired) => (Down, None),
        //= rfc5880 6.8.6: if received state is AdminDown and bfd.SessionState is not Down
        (Init | Up, Heard(AdminDown)) => (Down, Some(Diagnostic::NEIGHBOR_DOWN)),
        (Down, Heard(AdminDown)) => (Down, None),
        //= rfc5880 6.8.6: if bfd.SessionState is Down
        (Down, Heard(Down)) => (Init, Some(Diagnostic::NONE)),
        (Down, Heard(Init)) => (Up, Some(Diagnostic::NONE)),
        (Down, Heard(Up)) => (Down, None),
        //= rfc5880 6.8.6: else if bfd.SessionState is Init
        (Init, Heard(Down)) => (Init, None),
        (Init, Heard(Init | Up)) => (Up, Some(Diagnostic::NONE)),
        //= rfc5880 6.8.6: else (bfd.SessionState is Up)
        (Up, Heard(Down)) => (Down, Some(Diagnostic::NEIGHBOR_DOWN)),
        (Up, Heard(Init | Up)) => (Up, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure of RFC 5880 6.2 and the rules of 6.8.6, a row for each state. Columns: a packet with the state
    /// AdminDown, Down, Init or Up, the end of the detection time, the local end of the session.
    #[test]
    fn the_table_is_that_of_the_rfc() {
        use State::{AdminDown, Down, Init, Up};
        let inputs = State::ALL.map(Input::Heard).into_iter();
        let inputs: Vec<Input> = inputs.chain([Input::Expired, Input::Disabled]).collect();
        for (state, expected) in [
            (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown, AdminDown, AdminDown]),
            (Down, [Down, Init, Up, Down, Down, AdminDown]),
            (Init, [Down, Init, Up, Up, Down, AdminDown]),
            (Up, [Down, Down, Up, Up, Down, AdminDown]),
        ] {
            let got: Vec<State> = inputs.iter().map(|input| step(state, *input).0).collect();
            assert_eq!(got, expected, "{state}");
        }
        // There is a diagnostic exactly when the state changes.
        for state in State::ALL {
            for input in &inputs {
                let (next, why) = step(state, *input);
                assert_eq!(why.is_some(), next != state, "{state} {input:?}");
            }
        }
        assert_eq!(step(Up, Input::Expired).1, Some(Diagnostic::EXPIRED));
        assert_eq!(step(Up, Input::Heard(AdminDown)).1, Some(Diagnostic::NEIGHBOR_DOWN));
        assert_eq!(step(Up, Input::Heard(Down)).1, Some(Diagnostic::NEIGHBOR_DOWN));
    }
}
