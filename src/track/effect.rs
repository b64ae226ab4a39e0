//! The effect of a row's state on a user, and the sum over all rows of a user.

use super::table::State;
use crate::model::Weight;

/// The product of a file's content and its weight at and below which a user is in FAULT.
const FAULT: i64 = -254;
/// The largest amount that one row adds to a priority.
const MOST: i64 = 253;

/// The effect of one row on one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// It keeps the user in FAULT.
    pub fault: bool,
    /// It may, but its state is not known yet.
    pub unknown: bool,
    /// What it adds to the priority, -254 to 254.
    pub priority: i16,
}

impl Effect {
    /// The effect of a row in `state` on a user that refers to it with `weight`.
    #[must_use]
    pub fn of(state: State, weight: Weight) -> Self {
        match (state, weight) {
            (State::Awaited, _) | (State::Unknown, Weight::Fault { .. }) => {
                Self { unknown: true, ..Self::default() }
            }
            (State::Unknown, Weight::Priority { .. }) => Self::default(),
            (State::Good | State::Bad, _) => {
                let good = state == State::Good;
                Self {
                    fault: weight.faults(good),
                    unknown: false,
                    priority: weight.contribution(good),
                }
            }
            (State::Value(value), Weight::Fault { reverse }) => {
                Self { fault: (value == 0) == reverse, ..Self::default() }
            }
            (State::Value(value), Weight::Priority { weight, reverse }) => {
                let product = i64::from(value) * i64::from(weight);
                let product = if reverse { -product } else { product };
                if product <= FAULT {
                    return Self { fault: true, ..Self::default() };
                }
                let priority = i16::try_from(product.min(MOST)).unwrap_or_default();
                Self { priority, ..Self::default() }
            }
        }
    }
}

/// The combined effect of all rows of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Number of rows that keep it in FAULT.
    pub faults: u32,
    /// Number of rows that may, but are not known yet.
    pub unknown: u32,
    /// The sum that they add to the priority.
    pub priority: i32,
}

impl Standing {
    /// Adds the effect of one more row.
    pub fn add(&mut self, effect: Effect) {
        self.faults += u32::from(effect.fault);
        self.unknown += u32::from(effect.unknown);
        self.priority += i32::from(effect.priority);
    }

    /// Replaces the effect of a row.
    pub fn replace(&mut self, before: Effect, after: Effect) {
        self.faults = self.faults.saturating_sub(u32::from(before.fault));
        self.unknown = self.unknown.saturating_sub(u32::from(before.unknown));
        self.priority -= i32::from(before.priority);
        self.add(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(state: State, weight: i16, reverse: bool) -> (bool, bool, i16) {
        let e = Effect::of(state, Weight::new(weight, reverse));
        (e.fault, e.unknown, e.priority)
    }

    #[test]
    fn without_a_weight_a_row_decides_about_fault() {
        use State::{Bad, Good, Unknown, Value};
        for (state, plain, reverse) in [
            (Unknown, (false, true, 0), (false, true, 0)),
            (Good, (false, false, 0), (true, false, 0)),
            (Bad, (true, false, 0), (false, false, 0)),
            (Value(0), (false, false, 0), (true, false, 0)),
            (Value(-3), (true, false, 0), (false, false, 0)),
        ] {
            assert_eq!((effect(state, 0, false), effect(state, 0, true)), (plain, reverse));
        }
    }

    #[test]
    fn with_a_weight_a_row_moves_the_priority() {
        use State::{Bad, Good, Unknown, Value};
        let moves = |state, weight, reverse| match effect(state, weight, reverse) {
            (false, false, priority) => Some(priority),
            _ => None,
        };
        assert_eq!(moves(Unknown, 20, false), Some(0));
        assert_eq!((moves(Good, 20, false), moves(Bad, 20, false)), (Some(20), Some(0)));
        assert_eq!((moves(Good, -20, true), moves(Bad, -20, true)), (Some(0), Some(20)));
        // A value is multiplied by the weight; a large negative product means FAULT.
        assert_eq!((moves(Value(3), 2, false), moves(Value(3), 2, true)), (Some(6), Some(-6)));
        assert_eq!((moves(Value(i32::MAX), 253, false)), Some(253));
        assert_eq!(
            (moves(Value(-127), 2, false), moves(Value(-126), 2, false)),
            (None, Some(-252))
        );
        assert_eq!((moves(Value(254), 1, true), moves(Value(254), 1, false)), (None, Some(253)));
    }

    #[test]
    fn what_is_awaited_is_waited_for_with_any_weight() {
        assert_eq!(effect(State::Awaited, 0, false), (false, true, 0));
        assert_eq!(effect(State::Awaited, 20, true), (false, true, 0));
    }

    #[test]
    fn the_sum_is_that_of_its_parts() {
        let effects: Vec<Effect> = [(State::Bad, 0), (State::Unknown, 0), (State::Bad, -7)]
            .map(|(state, weight)| Effect::of(state, Weight::new(weight, false)))
            .into();
        let mut sum = Standing::default();
        effects.iter().for_each(|e| sum.add(*e));
        assert_eq!(sum, Standing { faults: 1, unknown: 1, priority: -7 });
        for effect in effects {
            sum.replace(effect, Effect::default());
        }
        assert_eq!(sum, Standing::default());
    }
}
