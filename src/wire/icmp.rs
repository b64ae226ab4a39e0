//! Echo requests and replies (RFC 792, RFC 4443 4.1 and 4.2).

use super::checksum::Sum;
use crate::base::Family;

/// Octets of the header before the data.
const HEADER: usize = 8;

/// An echo reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Identifier, as in the request.
    pub id: u16,
    /// Sequence number, as in the request.
    pub sequence: u16,
    /// The data of the request.
    pub data: &'a [u8],
}

/// Encodes an echo request. The kernel sets the checksum of ICMPv6, which covers the addresses.
#[must_use]
pub fn request(family: Family, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let kind = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let message = |checksum: [u8; 2]| {
        let mut octets = vec![kind, 0];
        octets.extend_from_slice(&checksum);
        octets.extend_from_slice(&id.to_be_bytes());
        octets.extend_from_slice(&sequence.to_be_bytes());
        octets.extend_from_slice(data);
        octets
    };
    let octets = message([0, 0]);
    match family {
        Family::V4 => message(Sum::new().octets(&octets).finish().to_be_bytes()),
        Family::V6 => octets,
    }
}

/// Decodes an echo reply; none if it is anything else. The kernel has verified the checksum.
#[must_use]
pub fn reply(family: Family, message: &[u8]) -> Option<Reply<'_>> {
    let (&[kind, code, _, _, id0, id1, sequence0, sequence1], data) =
        message.split_first_chunk::<HEADER>()?;
    let wanted = match family {
        Family::V4 => 0,
        Family::V6 => 129,
    };
    (kind == wanted && code == 0).then_some(Reply {
        id: u16::from_be_bytes([id0, id1]),
        sequence: u16::from_be_bytes([sequence0, sequence1]),
        data,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;

    #[test]
    fn a_request_on_the_wire() {
        let request = request(Family::V4, 0x1234, 1, b"evervip!");
        assert_eq!(request, hex("0800 3457 1234 0001 6576657276697021"));
        assert_eq!(Sum::new().octets(&request).finish(), 0);
    }

    #[test]
    fn replies_are_told_from_everything_else() {
        let message = hex("0000 0000 1234 0001 6576");
        let wanted = Reply { id: 0x1234, sequence: 1, data: b"ev" };
        assert_eq!(reply(Family::V4, &message), Some(wanted));
        assert_eq!(reply(Family::V6, &message), None);
        let message = hex("8100 0000 1234 0001 6576");
        assert_eq!(reply(Family::V6, &message), Some(wanted));
        for other in ["", "0000", "0800 0000 1234 0001", "0001 0000 1234 0001", "0300000000000000"]
        {
            assert_eq!(reply(Family::V4, &hex(other)), None, "{other}");
        }
    }
}
