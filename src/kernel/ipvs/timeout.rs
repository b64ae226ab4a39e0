//! The timeouts of idle IPVS connections.

use neli::consts::nl::NlmF;

use super::attribute::Value;
use super::message::{self, Command, DecodeError};
use super::{Connection, Error, Ipvs};
use crate::model::service::Timeouts;

/// Attributes of a command, in seconds.
mod config {
    pub const TIMEOUT_TCP: u16 = 4;
    pub const TIMEOUT_TCP_FIN: u16 = 5;
    pub const TIMEOUT_UDP: u16 = 6;
}

impl Ipvs {
    /// The kernel's timeouts.
    ///
    /// # Errors
    /// When the kernel has no IPVS, or does not answer.
    pub fn timeouts(&mut self) -> Result<Timeouts, Error> {
        self.connect().and_then(|connection| {
            let sequence = connection.begin();
            let (family, command) = (connection.family, Command::GetConfig as u8);
            let flags = NlmF::REQUEST | NlmF::ACK;
            message::message(&mut connection.out, family, flags, sequence, command, |_| {});
            connection.send()?;
            let mut found = None;
            connection.answers(sequence, |payload| {
                found = Some(decode_timeouts(payload)?);
                Ok(())
            })?;
            found.ok_or(Error::Silent)
        })
    }

    /// Sets the kernel's timeouts; 0 leaves one unchanged.
    ///
    /// # Errors
    /// When the kernel has no IPVS, refuses them, or does not answer.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<(), Error> {
        self.connect().and_then(|connection: &mut Connection| {
            connection.request(Command::SetConfig, |w| {
                w.u32(config::TIMEOUT_TCP, timeouts.tcp);
                w.u32(config::TIMEOUT_TCP_FIN, timeouts.tcp_fin);
                w.u32(config::TIMEOUT_UDP, timeouts.udp);
            })
        })
    }
}

/// Decodes the kernel's timeouts.
///
/// # Errors
/// When the message is incomplete.
#[doc(hidden)]
pub fn decode_timeouts(payload: &[u8]) -> Result<Timeouts, DecodeError> {
    let all = message::attributes(payload)?;
    let seconds =
        |kind, name| all.find(kind).and_then(Value::u32).ok_or(DecodeError::Missing(name));
    Ok(Timeouts {
        tcp: seconds(config::TIMEOUT_TCP, "TIMEOUT_TCP")?,
        tcp_fin: seconds(config::TIMEOUT_TCP_FIN, "TIMEOUT_TCP_FIN")?,
        udp: seconds(config::TIMEOUT_UDP, "TIMEOUT_UDP")?,
    })
}

/// The configured timeouts, and the original ones of the kernel.
#[derive(Debug, Default)]
pub struct Keeper {
    wanted: Timeouts,
    before: Option<Timeouts>,
    /// They have not been written to the kernel yet.
    due: bool,
}

impl Keeper {
    /// Sets the configured timeouts; 0: the kernel's original value.
    pub fn want(&mut self, timeouts: Timeouts) {
        self.due |= self.wanted != timeouts;
        self.wanted = timeouts;
    }

    /// Writes timeouts that are not in the kernel yet. After a failure the next call tries again.
    pub fn tell(&mut self, ipvs: &mut Ipvs) {
        if !self.due {
            return;
        }
        match self.change(ipvs) {
            Ok(()) => self.due = false,
            Err(Error::Unavailable(_)) => {}
            Err(e) => {
                self.due = false;
                tracing::error!("cannot set the timeouts of IPVS: {e}");
            }
        }
    }

    fn change(&mut self, ipvs: &mut Ipvs) -> Result<(), Error> {
        let before = match self.before {
            Some(before) => before,
            None => *self.before.insert(ipvs.timeouts()?),
        };
        ipvs.set_timeouts(merged(self.wanted, before))
    }
}

/// The configured timeouts, and the original ones where none is configured.
fn merged(wanted: Timeouts, before: Timeouts) -> Timeouts {
    let one = |wanted, before| if wanted == 0 { before } else { wanted };
    Timeouts {
        tcp: one(wanted.tcp, before.tcp),
        tcp_fin: one(wanted.tcp_fin, before.tcp_fin),
        udp: one(wanted.udp, before.udp),
    }
}

#[cfg(test)]
mod tests {
    use super::super::attribute::Writer;
    use super::*;

    #[test]
    fn what_is_not_wanted_stays_as_it_was() {
        let before = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
        let wanted = Timeouts { tcp: 0, tcp_fin: 60, udp: 0 };
        assert_eq!(merged(wanted, before), Timeouts { tcp_fin: 60, ..before });
        assert_eq!(merged(Timeouts::default(), before), before);
    }

    #[test]
    fn answers_are_read_or_refused() {
        let mut payload = vec![0; 4];
        let mut w = Writer::new(&mut payload);
        w.u32(config::TIMEOUT_TCP, 900).u32(config::TIMEOUT_TCP_FIN, 120);
        assert_eq!(decode_timeouts(&payload), Err(DecodeError::Missing("TIMEOUT_UDP")));
        Writer::new(&mut payload).u32(config::TIMEOUT_UDP, 300);
        let all = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
        assert_eq!(decode_timeouts(&payload), Ok(all));
    }
}
