//! The Internet checksum (RFC 1071).

use core::net::IpAddr;

/// A sum of 16-bit words in one's complement arithmetic, not yet folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// An empty sum.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds `octets` as big-endian words, an odd last one padded with zero.
    #[must_use]
    pub fn octets(mut self, octets: &[u8]) -> Self {
        let mut words = octets.chunks_exact(2);
        for word in &mut words {
            if let [high, low] = *word {
                self.0 += u64::from(u16::from_be_bytes([high, low]));
            }
        }
        if let [last] = *words.remainder() {
            self.0 += u64::from(last) << 8;
        }
        self
    }

    /// Adds the pseudo header of `length` octets of protocol `protocol` from `source` to `destination`
    /// (RFC 793 3.1 for IPv4, RFC 8200 8.1 for IPv6).
    #[must_use]
    pub fn pseudo_header(
        self,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        length: u32,
    ) -> Self {
        let mut sum = self;
        for address in [source, destination] {
            sum = match address {
                IpAddr::V4(a) => sum.octets(&a.octets()),
                IpAddr::V6(a) => sum.octets(&a.octets()),
            };
        }
        sum.octets(&length.to_be_bytes()).octets(&[0, protocol])
    }

    /// The checksum: the complement of the folded sum. Zero when a correct checksum was part of the sum.
    #[must_use]
    pub const fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        #[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits above")]
        let folded = sum as u16;
        !folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::new().octets(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
        assert_eq!(sum.octets(&sum.finish().to_be_bytes()).finish(), 0);
        assert_eq!(Sum::new().octets(&[1]).finish(), Sum::new().octets(&[1, 0]).finish());
    }
}
