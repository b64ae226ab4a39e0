//! BFD control packets (RFC 5880 4.1), without authentication, which keepalived does not use.

use core::time::Duration;

/// Octets of a packet without authentication.
pub const LENGTH: usize = 24;
/// Least octets of a packet with authentication.
const WITH_AUTHENTICATION: u8 = 26;

/// The state of a session in packets (RFC 5880 4.1). The order is that of the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Held down administratively.
    AdminDown,
    /// No packets are received, or the remote system is not ready.
    #[default]
    Down,
    /// Packets are received, but the remote system does not confirm that it receives ours.
    Init,
    /// Both systems receive each other's packets.
    Up,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::AdminDown, Self::Down, Self::Init, Self::Up];

    /// Its name in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::AdminDown => "AdminDown",
            Self::Down => "Down",
            Self::Init => "Init",
            Self::Up => "Up",
        }
    }
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.word())
    }
}

/// Why a session is not up: the diagnostic code (RFC 5880 4.1, `Diag`), 0 to 31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// No diagnostic.
    pub const NONE: Self = Self(0);
    /// The detection time expired.
    pub const EXPIRED: Self = Self(1);
    /// The neighbor signaled that the session is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// Administratively down.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);

    /// A description in words.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self.0 {
            0 => "No Diagnostic",
            1 => "Control Detection Time Expired",
            2 => "Echo Function Failed",
            3 => "Neighbor Signaled Session Down",
            4 => "Forwarding Plane Reset",
            5 => "Path Down",
            6 => "Concatenated Path Down",
            7 => "Administratively Down",
            8 => "Reverse Concatenated Path Down",
            _ => "Reserved",
        }
    }
}

impl core::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.word())
    }
}

/// A control packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    pub diagnostic: Diagnostic,
    pub state: State,
    /// Poll: the sender requests an answer at once (P).
    pub poll: bool,
    /// Final: this packet answers a poll (F).
    pub r#final: bool,
    /// The sender's BFD continues to work when its control plane fails (C).
    pub independent: bool,
    /// Demand mode: the sender requests no periodic packets (D).
    pub demand: bool,
    /// Detection multiplier: lost packets that end the session, 1 to 255.
    pub multiplier: u8,
    /// The sender's discriminator of the session; not 0.
    pub own: u32,
    /// The receiver's discriminator of the session; 0 if the sender does not know it.
    pub yours: u32,
    /// The shortest interval at which the sender would like to send, in microseconds.
    pub min_tx: u32,
    /// The shortest interval at which it can receive, in microseconds; 0: no periodic packets are to be sent.
    pub min_rx: u32,
    /// The same for echo packets; 0: none.
    pub min_echo_rx: u32,
}

/// What is wrong with a packet (RFC 5880 6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Malformed {
    #[error("it is too short")]
    Short,
    #[error("it is of another version")]
    Version,
    #[error("its length is not what it says")]
    Length,
    #[error("its multiplier is 0")]
    Multiplier,
    #[error("it is for many")]
    Multipoint,
    #[error("its sender has no discriminator")]
    Discriminator,
    #[error("it asks and answers at once")]
    PollAndFinal,
    #[error("it is authenticated")]
    Authenticated,
}

/// Flags in the second octet, below the state.
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// Decodes a packet; octets beyond the length in its header are ignored.
///
/// # Errors
/// The first rule that it breaks.
pub fn decode(octets: &[u8]) -> Result<Packet, Malformed> {
    let (fixed, _) = octets.split_first_chunk::<LENGTH>().ok_or(Malformed::Short)?;
    let [first, second, multiplier, length, words @ ..] = *fixed;
    // The checks of RFC 5880 6.8.6, in the same order.
    if first >> 5 != 1 {
        return Err(Malformed::Version);
    }
    let bit = |bit: u8| second & bit != 0;
    let least = if bit(AUTHENTICATION) { WITH_AUTHENTICATION } else { 24 };
    if length < least || usize::from(length) > octets.len() {
        return Err(Malformed::Length);
    }
    if multiplier == 0 {
        return Err(Malformed::Multiplier);
    }
    if bit(MULTIPOINT) {
        return Err(Malformed::Multipoint);
    }
    let mut words = words.chunks_exact(4).map(|word| match *word {
        [a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        _ => 0,
    });
    let mut word = || words.next().unwrap_or(0);
    let (own, yours, min_tx, min_rx, min_echo_rx) = (word(), word(), word(), word(), word());
    if own == 0 {
        return Err(Malformed::Discriminator);
    }
    // RFC 5880 6.5: Poll and Final must not both be set.
    if bit(POLL) && bit(FINAL) {
        return Err(Malformed::PollAndFinal);
    }
    if bit(AUTHENTICATION) {
        return Err(Malformed::Authenticated);
    }
    let state = match second >> 6 {
        0 => State::AdminDown,
        1 => State::Down,
        2 => State::Init,
        _ => State::Up,
    };
    Ok(Packet {
        diagnostic: Diagnostic(first & 0x1f),
        state,
        poll: bit(POLL),
        r#final: bit(FINAL),
        independent: bit(INDEPENDENT),
        demand: bit(DEMAND),
        multiplier,
        own,
        yours,
        min_tx,
        min_rx,
        min_echo_rx,
    })
}

impl Packet {
    /// Encodes the packet.
    #[must_use]
    pub fn encode(&self) -> [u8; LENGTH] {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let second = (self.state as u8) << 6
            | bit(self.poll, POLL)
            | bit(self.r#final, FINAL)
            | bit(self.independent, INDEPENDENT)
            | bit(self.demand, DEMAND);
        let mut octets = [0; LENGTH];
        let head = [1 << 5 | self.diagnostic.0 & 0x1f, second, self.multiplier, 24];
        let words = [self.own, self.yours, self.min_tx, self.min_rx, self.min_echo_rx];
        let all = head.into_iter().chain(words.into_iter().flat_map(u32::to_be_bytes));
        octets.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        octets
    }
}

/// An interval in microseconds, as in packets.
#[must_use]
pub fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::hex;

    /// State Up with the Final bit; captured from FRR's bfdd 8.4.4 as it starts.
    const UP: &str = "20d00318 00000001 7fa5e1c0 000493e0 000493e0 0000c350";
    const STARTING: &str = "20400318 6a1dbac7 00000000 000f4240 000f4240 0000c350";

    #[test]
    fn packets_are_read_and_written() {
        let up = decode(&hex(UP)).unwrap();
        let expected = Packet {
            state: State::Up,
            r#final: true,
            multiplier: 3,
            own: 1,
            yours: 0x7fa5_e1c0,
            min_tx: 300_000,
            min_rx: 300_000,
            min_echo_rx: 50_000,
            ..Packet::default()
        };
        assert_eq!(up, expected);
        let starting = decode(&hex(STARTING)).unwrap();
        assert_eq!((starting.state, starting.yours), (State::Down, 0));
        assert_eq!((starting.min_tx, starting.min_echo_rx), (1_000_000, 50_000));
        for text in [UP, STARTING] {
            assert_eq!(decode(&hex(text)).unwrap().encode().as_slice(), hex(text));
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let with = |at: usize, octet: u8| {
            let mut octets = hex(UP);
            octets[at] = octet;
            decode(&octets)
        };
        for (at, octet, expected) in [
            (0, 0x00, Malformed::Version),
            (0, 0x40, Malformed::Version),
            (3, 23, Malformed::Length),
            (3, 25, Malformed::Length),
            (2, 0, Malformed::Multiplier),
            (1, 0xd1, Malformed::Multipoint),
            (7, 0, Malformed::Discriminator),
            (1, 0xf0, Malformed::PollAndFinal),
            // The authentication bit in a packet too short for authentication.
            (1, 0xc4, Malformed::Length),
        ] {
            assert_eq!(with(at, octet), Err(expected), "{at} {octet:x}");
        }
        let mut longer = hex(UP);
        longer.extend([0; 10]);
        assert!(decode(&longer).is_ok());
        (longer[1], longer[3]) = (0xc4, 28);
        assert_eq!(decode(&longer), Err(Malformed::Authenticated));
        for length in 0..LENGTH {
            assert_eq!(decode(&hex(UP)[..length]), Err(Malformed::Short));
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_read_and_what_is_read_is_written_the_same(
            octets in proptest::collection::vec(any::<u8>(), 0..40),
            shaped in any::<[u8; 24]>(),
        ) {
            let _ = decode(&octets);
            let mut shaped = shaped;
            (shaped[0], shaped[3]) = (1 << 5 | shaped[0] & 0x1f, 24);
            if let Ok(packet) = decode(&shaped) {
                prop_assert_eq!(packet.encode(), shaped);
            }
        }
    }

    #[test]
    fn intervals_are_told_in_microseconds() {
        assert_eq!(micros(Duration::from_millis(10)), 10_000);
        assert_eq!(micros(Duration::from_secs(86_400)), u32::MAX);
    }
}
