//! Messages between processes, answers of the kernel, and log records.

use std::collections::BTreeMap;

use evervip::base::{Family, IfIndex};
use evervip::ipc::message::{
    CheckerPart, FromConfig, FromRole, FromRunner, LoadRequest, RunnerPart, ToRole, ToRunner,
    VrrpPart,
};
use evervip::ipc::{Difference, frame};
use evervip::kernel::ipvs::message::{self, Body};
use evervip::kernel::{monitor, netlink};
use evervip::model::sample;
use evervip::plan::ipvs::Op;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One octet that selects the kind of message, then a packet.
pub fn ipc(data: &[u8]) {
    let Some((kind, packet)) = data.split_first() else { return };
    match kind % 10 {
        0 => pass::<ToRole>(packet),
        1 => pass::<FromRole>(packet),
        2 => pass::<ToRunner>(packet),
        3 => pass::<FromRunner>(packet),
        4 => pass::<LoadRequest>(packet),
        5 => pass::<FromConfig>(packet),
        6 => pass::<VrrpPart>(packet),
        7 => pass::<CheckerPart>(packet),
        8 => pass::<RunnerPart>(packet),
        _ => difference(packet),
    }
}

/// One octet for the number of services of the earlier part, then the difference to it. Whatever numbers it names, it is
/// refused or gives a part that is as large as it says; and the difference to that part gives it again.
fn difference(data: &[u8]) {
    let Some((count, octets)) = data.split_first() else { return };
    let old: Vec<_> = (0..count % 8).map(|_| sample::balanced().services.swap_remove(0)).collect();
    let Ok(difference) = frame::open::<Difference>(octets) else { return };
    let Some(part) = difference.apply(&old) else { return };
    assert!(part.lvs.services.len() <= old.len() + octets.len());
    let again = Difference::between(&old, &part).apply(&old);
    assert_eq!(again.as_ref(), Some(&part));
}

/// A decoded value survives encoding and decoding.
fn pass<T: Serialize + DeserializeOwned + std::fmt::Debug>(packet: &[u8]) {
    let Ok((value, _)) = frame::decode::<T>(packet, Vec::new()) else { return };
    let octets = postcard::to_extend(&value, vec![0]).expect("what was decoded can be encoded");
    let (other, _) = frame::decode::<T>(&octets, Vec::new()).expect("and decoded again");
    assert_eq!(format!("{value:?}"), format!("{other:?}"));
}

/// Datagrams of the kernel about links and addresses, each after its length in two octets.
pub fn rtnetlink(data: &[u8]) {
    let (mut links, mut changes) = (BTreeMap::new(), Vec::new());
    for datagram in datagrams(data) {
        let mut total = 0;
        for message in netlink::messages(datagram) {
            total += message.body.len() + 16;
            for (_, value) in netlink::attributes(message.body) {
                assert!(netlink::text(value).len() <= 3 * value.len());
            }
            if let Some(error) = netlink::refusal(&message) {
                assert!(error.errno() != 0, "{error}");
            }
        }
        assert!(total <= datagram.len() + 3, "messages that overlap");
        monitor::decode(datagram, 4711, &mut links, &mut changes);
        assert!(changes.len() <= data.len() / 16 + 1);
        let known = |index: &IfIndex| links[index].index == *index;
        assert!(links.keys().all(known), "a link under another's number");
    }
}

fn datagrams(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (datagram, rest) = rest.split_at(length);
        data = rest;
        Some(datagram)
    })
}

/// Answers of the kernel about its table of virtual servers.
pub fn ipvs(datagram: &[u8]) {
    let mut count = 0;
    for reply in message::replies(datagram) {
        count += 1;
        assert!(count <= datagram.len() / 16 + 1, "messages without end");
        let Ok(reply) = reply else { continue };
        let (Body::Payload(payload) | Body::Interrupted(payload)) = reply.body else { continue };
        let _ = message::family(payload);
        if let Ok((service, settings)) = message::decode_service(payload) {
            let op = Op::AddService { service, settings: settings.clone() };
            let octets = encoded(&op);
            let again = message::decode_service(body(&octets));
            assert_eq!(again, Ok((service, settings)), "encoded and decoded again");
        }
        for family in [Family::V4, Family::V6] {
            if let Ok((destination, settings)) = message::decode_destination(payload, family) {
                let service = evervip::model::ServiceKey::Mark { mark: 1, family };
                let op = Op::AddDestination { service, destination, settings };
                let octets = encoded(&op);
                let again = message::decode_destination(body(&octets), family);
                assert_eq!(again, Ok((destination, settings)), "encoded and decoded again");
            }
        }
    }
}

fn encoded(op: &Op) -> Vec<u8> {
    let mut buffer = Vec::new();
    message::encode(&mut buffer, 30, 1, op, true);
    buffer
}

/// The payload of the only message.
fn body(buffer: &[u8]) -> &[u8] {
    match message::replies(buffer).next() {
        Some(Ok(reply)) => match reply.body {
            Body::Payload(payload) => payload,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A text, the name of an instance and a state, with NUL between them, as a record of the log.
pub fn log(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    let (text, instance, state) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    let forms = evervip::log::fuzz::forms(text, instance, state);
    for line in [forms.syslog.as_str(), forms.line.trim_end_matches('\n')] {
        let bad = line.chars().find(|c| c.is_control() && *c != '\t');
        assert_eq!(bad, None, "{line:?}");
    }
    assert_eq!(forms.line.matches('\n').count(), 1);
    let fields = fields(&forms.journal);
    let mut names = vec!["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY"];
    if let Some(instance) = instance {
        names.extend(["INSTANCE", "VRID"]);
        assert_eq!(fields[4].1, instance.as_bytes());
    }
    if let Some(state) = state {
        names.push("STATE");
        assert_eq!(fields[fields.len() - 1].1, state.as_bytes());
    }
    let found: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, names, "no text makes a field");
}

/// The fields of the journal's format.
fn fields(mut octets: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    while !octets.is_empty() {
        let end = octets.iter().position(|o| matches!(o, b'=' | b'\n')).expect("a name");
        let name = String::from_utf8(octets[..end].to_vec()).expect("a name");
        let (value, rest) = if octets[end] == b'=' {
            let rest = &octets[end + 1..];
            let length = rest.iter().position(|o| *o == b'\n').expect("an end");
            (&rest[..length], &rest[length + 1..])
        } else {
            let (length, rest) = octets[end + 1..].split_first_chunk::<8>().expect("a length");
            let length = u64::from_le_bytes(*length) as usize;
            assert_eq!(rest[length], b'\n');
            (&rest[..length], &rest[length + 1..])
        };
        fields.push((name, value.to_vec()));
        octets = rest;
    }
    fields
}
