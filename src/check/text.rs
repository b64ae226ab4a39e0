//! Refusals of the kernel in keepalived's words.

use core::fmt;

use super::probe::Errno;
use crate::base::Family;
use crate::model::ServiceKey;
use crate::plan::ipvs::Op;

/// `IPVS cmd IP_VS_SO_SET_ADDDEST(1159) error: Destination already exists(17) (10.0.0.1:tcp:80 -> 10.0.0.71:80)`
pub(super) struct Refused<'a> {
    pub op: &'a Op,
    pub errno: i32,
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, number) = command(self.op);
        let errno = self.errno;
        write!(f, "IPVS cmd IP_VS_SO_SET_{name}({number}) error: ")?;
        match reason(self.op, errno) {
            Some(text) => f.write_str(text)?,
            None => Errno(errno).fmt(f)?,
        }
        write!(f, "({errno})")?;
        let Some(service) = self.op.service() else {
            return Ok(());
        };
        f.write_str(" (")?;
        match service {
            ServiceKey::Address { protocol, endpoint } => {
                write!(f, "{}:{}:{}", endpoint.ip(), protocol.word(), endpoint.port())?;
            }
            ServiceKey::Mark { mark, family: Family::V4 } => write!(f, "Fwm {mark}")?,
            ServiceKey::Mark { mark, family: Family::V6 } => write!(f, "Fwm {mark} inet6")?,
        }
        if let Some(destination) = self.op.destination() {
            write!(f, " -> {}:{}", destination.address, destination.port)?;
        }
        f.write_str(")")
    }
}

/// The name of a command, as in `IP_VS_SO_SET_ADDDEST`.
pub(super) fn name(op: &Op) -> String {
    format!("IP_VS_SO_SET_{}", command(op).0)
}

/// Names and numbers are those of the old socket options, which users know from logs.
const fn command(op: &Op) -> (&'static str, u32) {
    match op {
        Op::AddService { .. } => ("ADD", 1154),
        Op::SetService { .. } => ("EDIT", 1155),
        Op::DeleteService { .. } => ("DEL", 1156),
        Op::Flush => ("FLUSH", 1157),
        Op::AddDestination { .. } => ("ADDDEST", 1159),
        Op::DeleteDestination { .. } => ("DELDEST", 1160),
        Op::SetDestination { .. } => ("EDITDEST", 1161),
    }
}

const fn reason(op: &Op, errno: i32) -> Option<&'static str> {
    Some(match (op, errno) {
        (Op::AddService { .. }, 17) => "Service already exists",
        (Op::AddService { .. } | Op::SetService { .. }, 2) => {
            "Scheduler or persistence engine not found"
        }
        (Op::AddDestination { .. }, 17) => "Destination already exists",
        (Op::SetDestination { .. } | Op::DeleteDestination { .. }, 2) => "No such destination",
        (_, 3) => "No such service",
        (_, 1) => "Permission denied (you must be root)",
        (_, 22) => "Invalid operation.  Possibly wrong module version, address not unicast, ...",
        (_, 92) => "Protocol not available",
        (_, 12) => "Memory allocation problem",
        (_, 95) => "Operation not supported with IPv6",
        (_, 97) => "Operation not supported with specified address family",
        (_, 90) => "Module is wrong version",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Protocol;
    use crate::plan::ipvs::DestinationKey;

    #[test]
    fn refusals_read_as_keepalived_writes_them() {
        let service = ServiceKey::Address {
            protocol: Protocol::Tcp,
            endpoint: "10.0.0.1:80".parse().unwrap(),
        };
        let destination = DestinationKey { address: "10.0.0.71".parse().unwrap(), port: 80 };
        let op = Op::DeleteDestination { service, destination };
        assert_eq!(
            Refused { op: &op, errno: 2 }.to_string(),
            "IPVS cmd IP_VS_SO_SET_DELDEST(1160) error: No such destination(2) \
             (10.0.0.1:tcp:80 -> 10.0.0.71:80)"
        );
        let op = Op::DeleteService { service: ServiceKey::Mark { mark: 7, family: Family::V6 } };
        assert_eq!(
            Refused { op: &op, errno: 28 }.to_string(),
            "IPVS cmd IP_VS_SO_SET_DEL(1156) error: No space left on device(28) (Fwm 7 inet6)"
        );
    }

    #[test]
    fn errors_of_ipvs_have_its_own_words_by_operation() {
        let service = ServiceKey::Mark { mark: 7, family: Family::V4 };
        let destination = DestinationKey { address: "10.0.0.71".parse().unwrap(), port: 80 };
        let delete = Op::DeleteService { service };
        let server = Op::DeleteDestination { service, destination };
        let words = |op: &Op, errno: i32| reason(op, errno).unwrap_or("");
        for (errno, said) in [
            (1, "Permission denied (you must be root)"),
            (3, "No such service"),
            (12, "Memory allocation problem"),
            (22, "Invalid operation.  Possibly wrong module version, address not unicast, ..."),
            (90, "Module is wrong version"),
            (92, "Protocol not available"),
            (95, "Operation not supported with IPv6"),
            (97, "Operation not supported with specified address family"),
            (28, ""),
        ] {
            assert_eq!((words(&delete, errno), words(&server, errno)), (said, said), "{errno}");
        }
        // What exists already or does not depends on the operation.
        assert_eq!((words(&delete, 2), words(&server, 2)), ("", "No such destination"));
        assert_eq!((words(&delete, 17), words(&server, 17)), ("", ""));
        let settings =
            crate::plan::ipvs::Settings::of(&crate::model::sample::service(service, vec![]));
        let add = Op::AddService { service, settings };
        assert_eq!(words(&add, 17), "Service already exists");
        assert_eq!(words(&add, 2), "Scheduler or persistence engine not found");
    }
}
