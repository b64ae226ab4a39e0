//! IPVS sync daemons, which synchronize the connections of several directors; the vrrp role starts and stops them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neli::consts::nl::NlmF;

use super::attribute::{Value, Writer};
use super::message::{self, Command, DecodeError};
use super::{Connection, Error, Ipvs};
use crate::base::IfName;
use crate::plan::sync::{SyncDaemon, SyncRole};
use crate::plan::{Object, Op, Outcome, Sight, Verb};

/// The attribute of a command that contains a daemon.
const DAEMON: u16 = 3;

/// Attributes of a daemon.
mod field {
    pub const STATE: u16 = 1;
    pub const MCAST_IFN: u16 = 2;
    pub const SYNC_ID: u16 = 3;
    pub const SYNC_MAXLEN: u16 = 4;
    pub const MCAST_GROUP: u16 = 5;
    pub const MCAST_GROUP6: u16 = 6;
    pub const MCAST_PORT: u16 = 7;
    pub const MCAST_TTL: u16 = 8;
}

/// The error for a daemon that does not run.
const NONE: i32 = libc::ESRCH;

const fn state(role: SyncRole) -> u32 {
    match role {
        SyncRole::Master => 1,
        SyncRole::Backup => 2,
    }
}

/// Whether this file executes an operation.
#[must_use]
pub fn takes(op: &Op) -> bool {
    matches!(*op.object, Object::SyncDaemon(_))
}

impl Ipvs {
    /// Executes operations on daemons in order. A daemon is stopped before it is started, because a running one may
    /// have been started with other settings.
    pub fn carry_out(&mut self, ops: &[Op]) -> Vec<Outcome> {
        ops.iter()
            .map(|op| match op.object.as_ref() {
                Object::SyncDaemon(daemon) => self.change_daemon(&op.verb, daemon),
                _ => Outcome::Refused(libc::EINVAL),
            })
            .collect()
    }

    fn change_daemon(&mut self, verb: &Verb, daemon: &SyncDaemon) -> Outcome {
        let result = self.connect().and_then(|connection| {
            let stopped = connection.request(Command::DelDaemon, |w| {
                w.nest(DAEMON, |w| {
                    w.u32(field::STATE, state(daemon.role));
                    w.u32(field::SYNC_ID, daemon.id.into());
                });
            });
            match (verb, stopped) {
                (Verb::Delete { .. }, Ok(())) => Ok(Outcome::Done),
                (Verb::Delete { .. }, Err(Error::Refused(NONE))) => Ok(Outcome::Already),
                (_, Ok(()) | Err(Error::Refused(_))) => {
                    connection.request(Command::NewDaemon, |w| put(w, daemon))?;
                    Ok(Outcome::Done)
                }
                (Verb::Delete { .. }, Err(e)) | (_, Err(e)) => Err(e),
            }
        });
        match result {
            Ok(outcome) => outcome,
            Err(Error::Refused(errno)) => Outcome::Refused(errno),
            // Without IPVS no daemon runs that could be stopped.
            Err(Error::Unavailable(_)) if matches!(verb, Verb::Delete { .. }) => Outcome::Already,
            Err(e) => {
                self.connection = None;
                Outcome::Refused(e.errno())
            }
        }
    }

    /// The running daemons; none without IPVS.
    ///
    /// # Errors
    /// When the kernel does not answer, or its answer is malformed.
    pub fn daemons(&mut self) -> Result<Vec<Sight>, Error> {
        let connection = match self.connect() {
            Err(Error::Unavailable(_)) => return Ok(Vec::new()),
            other => other?,
        };
        let mut all = Vec::new();
        let sequence = connection.begin();
        let family = connection.family;
        let flags = NlmF::REQUEST | NlmF::DUMP;
        let command = Command::GetDaemon as u8;
        message::message(&mut connection.out, family, flags, sequence, command, |_| {});
        connection.send()?;
        connection.answers(sequence, |payload| {
            all.push(decode_daemon(payload)?);
            Ok(())
        })?;
        Ok(all.into_iter().map(SyncDaemon::sight).collect())
    }
}

impl Connection {
    /// A single request with an acknowledgement.
    pub(super) fn request(
        &mut self,
        command: Command,
        fill: impl FnOnce(&mut Writer<'_>),
    ) -> Result<(), Error> {
        let sequence = self.begin();
        let flags = NlmF::REQUEST | NlmF::ACK;
        message::message(&mut self.out, self.family, flags, sequence, command as u8, fill);
        self.send()?;
        self.answers(sequence, |_| Ok(())).map(|_| ())
    }
}

fn put(w: &mut Writer<'_>, daemon: &SyncDaemon) {
    w.nest(DAEMON, |w| {
        w.u32(field::STATE, state(daemon.role));
        w.text(field::MCAST_IFN, daemon.interface.as_str());
        w.u32(field::SYNC_ID, daemon.id.into());
        if let Some(length) = daemon.max_length {
            w.u16(field::SYNC_MAXLEN, length);
        }
        if let Some(port) = daemon.port {
            w.u16(field::MCAST_PORT, port);
        }
        if let Some(ttl) = daemon.ttl {
            w.u8(field::MCAST_TTL, ttl);
        }
        match daemon.group {
            Some(IpAddr::V4(group)) => {
                w.octets(field::MCAST_GROUP, &group.octets());
            }
            Some(IpAddr::V6(group)) => {
                w.octets(field::MCAST_GROUP6, &group.octets());
            }
            None => {}
        }
    });
}

/// Decodes the kernel's description of a daemon.
///
/// # Errors
/// When it is incomplete.
#[doc(hidden)]
pub fn decode_daemon(payload: &[u8]) -> Result<SyncDaemon, DecodeError> {
    let all = message::attributes(payload)?;
    let all = all.find(DAEMON).ok_or(DecodeError::Missing("DAEMON"))?.nested();
    let find = |kind| all.find(kind);
    let role = match find(field::STATE).and_then(Value::u32) {
        Some(1) => SyncRole::Master,
        Some(2) => SyncRole::Backup,
        _ => return Err(DecodeError::Missing("STATE")),
    };
    let name = find(field::MCAST_IFN).and_then(Value::text);
    let interface = name.and_then(|name| name.parse::<IfName>().ok());
    let v4 =
        || Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(find(field::MCAST_GROUP)?.0).ok()?)));
    let v6 = || {
        Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(find(field::MCAST_GROUP6)?.0).ok()?)))
    };
    Ok(SyncDaemon {
        role,
        interface: interface.ok_or(DecodeError::Missing("MCAST_IFN"))?,
        id: find(field::SYNC_ID)
            .and_then(Value::u32)
            .and_then(|id| u8::try_from(id).ok())
            .unwrap_or(0),
        max_length: find(field::SYNC_MAXLEN).and_then(Value::u16),
        port: find(field::MCAST_PORT).and_then(Value::u16),
        ttl: find(field::MCAST_TTL).and_then(Value::u8),
        group: v4().or_else(v6),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for group in ["224.0.0.82", "ff02::82"] {
            let daemon = SyncDaemon {
                role: SyncRole::Backup,
                interface: IfName::eth0(),
                id: 51,
                max_length: Some(1200),
                port: Some(4711),
                ttl: Some(3),
                group: Some(group.parse().unwrap()),
            };
            let written = |daemon: &SyncDaemon| {
                // The generic netlink header comes first.
                let mut payload = vec![0; 4];
                put(&mut Writer::new(&mut payload), daemon);
                payload
            };
            let payload = written(&daemon);
            assert_eq!(decode_daemon(&payload).unwrap(), daemon);
            let plain =
                SyncDaemon { max_length: None, port: None, ttl: None, group: None, ..daemon };
            let payload = written(&plain);
            assert_eq!(decode_daemon(&payload).unwrap(), plain);
            for end in 0..payload.len() {
                let _ = decode_daemon(&payload[..end]);
            }
        }
    }
}
