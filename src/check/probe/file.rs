//! `FILE_CHECK`: the number in a tracked file takes a server down, or adds to its weight.
//!
//! There are no attempts: another process reads the file and reports its number.

use super::{Failure, Share, Verdict};
use crate::model::checker::FileCheck;

/// The verdict for a number.
pub(in crate::check) fn verdict(check: &FileCheck, value: i32) -> Verdict {
    let down = if check.weight == 0 {
        (value != 0) != check.reverse
    } else {
        let sum = added(check, value);
        if sum != i32::MIN {
            return Verdict::Success(Share::Added(sum));
        }
        true
    };
    if down {
        let text = format!("the number in track_file {} is {value}", check.file);
        Verdict::Failure(Failure::Answer(text.into()))
    } else {
        Verdict::SUCCESS
    }
}

/// The amount that a number adds to the weight; the smallest possible number takes the server down.
fn added(check: &FileCheck, value: i32) -> i32 {
    let product = i64::from(value) * i64::from(check.weight);
    let signed = if check.reverse { -product } else { product };
    let clamped = signed.clamp(i32::MIN.into(), i32::MAX.into());
    i32::try_from(clamped).unwrap_or(i32::MAX)
}

pub(super) fn success_line(check: &FileCheck, server: &str) -> String {
    format!("({server}): tracked file {} leaving FAULT state", check.file)
}

pub(super) fn failure_line(check: &FileCheck, server: &str, failure: &Failure) -> String {
    format!("({server}): tracked file {} now FAULT state ({failure})", check.file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(weight: i32, reverse: bool, value: i32) -> String {
        verdict(&FileCheck { file: "f".into(), weight, reverse }, value).to_string()
    }

    #[test]
    fn without_a_weight_the_number_is_up_or_down() {
        let down = |value| format!("the number in track_file f is {value}");
        for value in [1, -1, i32::MAX, i32::MIN] {
            assert_eq!(says(0, false, value), down(value));
            assert_eq!(says(0, true, value), "success");
        }
        assert_eq!(says(0, false, 0), "success");
        assert_eq!(says(0, true, 0), down(0));
    }

    #[test]
    fn with_a_weight_it_is_added_within_32_bits() {
        assert_eq!(says(20, false, 3), "success, weight +60");
        assert_eq!(says(20, true, 3), "success, weight -60");
        assert_eq!(says(1, false, -5), "success, weight -5");
        assert_eq!(says(1, false, 0), "success, weight +0");
        assert_eq!(says(i32::MAX, false, i32::MAX), "success, weight +2147483647");
        let down = |value| format!("the number in track_file f is {value}");
        assert_eq!(says(1, false, i32::MIN), down(i32::MIN));
        assert_eq!(says(-1, true, i32::MIN), down(i32::MIN));
        assert_eq!(says(i32::MAX, false, i32::MIN), down(i32::MIN));
        // Negating the smallest number would overflow, so the result is limited to the largest one.
        assert_eq!(says(1, true, i32::MIN), "success, weight +2147483647");
    }
}
