//! Octets that are consumed one by one.

/// The rest of the input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next octet; none at the end.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next octet, 0 at the end.
    pub fn octet(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u8) -> u8 {
        self.octet() % bound.max(1)
    }
}
