//! Random numbers of a configuration: `${_RANDOM}`.

use crate::base::rng::Rng;

/// Numbers for one load.
pub(super) struct Random(Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// A number for the words after `_RANDOM`; none if they are malformed.
    pub(super) fn number(&mut self, words: &[&str]) -> Option<u32> {
        const MAX: u32 = 32767;
        let bound = |word: &&str| word.parse::<u32>().ok();
        let (low, high) = match words {
            [] => (0, MAX),
            [low] => (bound(low)?, MAX),
            [low, high] => (bound(low)?, bound(high)?),
            _ => return None,
        };
        let width = u64::from(high.checked_sub(low)?) + 1;
        u32::try_from(u64::from(low) + self.0.below(width)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_bounds() {
        let mut random = Random::new(3);
        for _ in 0..100 {
            assert!(random.number(&[]).unwrap() <= 32767);
            assert!((200..=32767).contains(&random.number(&["200"]).unwrap()));
            assert_eq!(random.number(&["101", "101"]), Some(101));
        }
        assert_eq!(random.number(&["2", "1"]), None);
        assert_eq!(random.number(&["a"]), None);
        assert_eq!(random.number(&["1", "2", "3"]), None);
    }
}
