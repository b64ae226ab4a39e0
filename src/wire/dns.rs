//! One question to a name server and the header of its answer (RFC 1035 4.1).

/// Octets of the header.
const HEADER: usize = 12;
/// RD flag: recursion desired.
const DESIRED: u8 = 0x01;
/// QR flag: the message is an answer.
const ANSWER: u8 = 0x80;
/// Mask of the kind of query (OPCODE): 0 is a standard query.
const OPCODE: u8 = 0x78;
const CODE: u8 = 0x0f;
/// Most octets of a label.
const LABEL: usize = 63;
/// Most octets of a whole name.
const NAME: usize = 255;

/// The header of a message, and the octets after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The ID, which an answer copies from the question.
    pub id: u16,
    /// An answer to a standard query.
    pub answers: bool,
    /// RCODE: 0 is success.
    pub code: u8,
    /// Number of questions that it repeats.
    pub questions: u16,
    /// The octets after the header: the repeated questions and the records.
    pub body: &'a [u8],
}

/// A question for records of type `kind` (class IN) of `name`: labels separated by dots, empty for the root. None if
/// the name is invalid.
#[must_use]
pub fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(HEADER + name.len() + 6);
    octets.extend_from_slice(&id.to_be_bytes());
    octets.extend_from_slice(&[DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    if !name.is_empty() {
        for label in name.split('.') {
            if label.is_empty() || label.len() > LABEL {
                return None;
            }
            octets.push(u8::try_from(label.len()).ok()?);
            octets.extend_from_slice(label.as_bytes());
        }
    }
    octets.push(0);
    if octets.len() > HEADER + NAME {
        return None;
    }
    octets.extend_from_slice(&kind.to_be_bytes());
    octets.extend_from_slice(&[0, 1]);
    Some(octets)
}

/// Decodes a header; none if it is incomplete.
#[must_use]
pub fn message(octets: &[u8]) -> Option<Message<'_>> {
    let (&[i0, i1, high, low, q0, q1, ..], body) = octets.split_first_chunk::<HEADER>()?;
    Some(Message {
        id: u16::from_be_bytes([i0, i1]),
        answers: high & (ANSWER | OPCODE) == ANSWER,
        code: low & CODE,
        questions: u16::from_be_bytes([q0, q1]),
        body,
    })
}

/// Whether a message repeats this question. Some servers omit the question from an error answer; at most the case of
/// its letters changes.
#[must_use]
pub fn concerns(message: &Message<'_>, question: &[u8]) -> bool {
    let asked = question.get(HEADER..).unwrap_or_default();
    message.questions == 0
        || message
            .body
            .get(..asked.len())
            .is_some_and(|repeated| repeated.eq_ignore_ascii_case(asked))
}

#[cfg(test)]
mod tests {
    use super::super::testing::hex;
    use super::*;

    #[test]
    fn questions_on_the_wire() {
        let root = question(0x1234, "", 6).unwrap();
        assert_eq!(root, hex("1234 0100 0001 0000 0000 0000 00 0006 0001"));
        let name = question(1, "a.example", 28).unwrap();
        assert_eq!(name, hex("0001 0100 0001 0000 0000 0000 0161 076578616d706c65 00 001c 0001"));
        let label = "x".repeat(63);
        assert!(question(1, &label, 1).is_some());
        assert_eq!(question(1, &format!("{label}x"), 1), None);
        let longest = [label.as_str(), &label, &label, &"x".repeat(61)].join(".");
        assert!(question(1, &longest, 1).is_some());
        assert_eq!(question(1, &format!("{longest}x"), 1), None);
        assert_eq!(question(1, "a..b", 1), None);
        assert_eq!(question(1, ".", 1), None);
    }

    #[test]
    fn headers_and_what_they_are_about() {
        assert_eq!(message(&hex("1234 8180 0001 0000 0000 00")), None);
        let asked = question(0x1234, "a.example", 1).unwrap();
        let answer = hex("1234 8183 0001 0000 0000 0000 0141 074578616d706c65 00 0001 0001 c00c");
        let read = message(&answer).unwrap();
        assert_eq!((read.id, read.answers, read.code, read.questions), (0x1234, true, 3, 1));
        assert!(concerns(&read, &asked));
        assert!(!concerns(&read, &question(1, "b.example", 1).unwrap()));
        assert!(!concerns(&read, &question(1, "a.example", 2).unwrap()));
        assert!(!message(&asked).unwrap().answers);
        // NOTIFY, the notification of a changed zone (opcode 4).
        assert!(!message(&hex("1234 a000 0000 0000 0000 0000")).unwrap().answers);
        assert!(concerns(&message(&hex("1234 8001 0000 0000 0000 0000")).unwrap(), &asked));
    }
}
