//! Rise and fall: how many consecutive results change a condition.

/// The thresholds of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Consecutive successes that make it good again, at least 1.
    pub rise: u32,
    /// Consecutive failures that make it bad, at least 1.
    pub fall: u32,
}

/// Whether a tracked object is good.
///
/// The first result alone decides, regardless of `rise` and `fall`: at start it should not take several runs to learn
/// that a service is down, or up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// No result yet.
    #[default]
    Unknown,
    /// Good, with this many consecutive failures since.
    Good {
        /// Below `fall`.
        failures: u32,
    },
    /// Bad, with this many consecutive successes since.
    Bad {
        /// Below `rise`.
        successes: u32,
    },
}

impl Condition {
    /// Good or bad; none before the first result.
    #[must_use]
    pub const fn good(self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::Good { .. } => Some(true),
            Self::Bad { .. } => Some(false),
        }
    }

    /// The condition after one more result.
    #[must_use]
    pub const fn after(self, success: bool, rule: Rule) -> Self {
        match (self, success) {
            (Self::Unknown | Self::Good { .. }, true) => Self::Good { failures: 0 },
            (Self::Unknown | Self::Bad { .. }, false) => Self::Bad { successes: 0 },
            (Self::Good { failures }, false) => {
                if failures + 1 >= rule.fall {
                    Self::Bad { successes: 0 }
                } else {
                    Self::Good { failures: failures + 1 }
                }
            }
            (Self::Bad { successes }, true) => {
                if successes + 1 >= rule.rise {
                    Self::Good { failures: 0 }
                } else {
                    Self::Bad { successes: successes + 1 }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(results: &str, rule: Rule) -> String {
        let mut condition = Condition::Unknown;
        results
            .chars()
            .map(|c| {
                condition = condition.after(c == '+', rule);
                if condition.good() == Some(true) { 'G' } else { 'B' }
            })
            .collect()
    }

    #[test]
    fn the_first_result_decides_and_then_rise_and_fall_count() {
        let rule = Rule { rise: 2, fall: 3 };
        assert_eq!(run("+--+---", rule), "GGGGGGB");
        assert_eq!(run("-+-++", rule), "BBBBG");
        assert_eq!(run("-+", Rule { rise: 1, fall: 1 }), "BG");
        assert_eq!(Condition::default().good(), None);
    }
}
