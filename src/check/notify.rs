//! What is announced to scripts, FIFOs and mail recipients, in keepalived's words.

use core::time::Duration;

use crate::base::Name;
use crate::model::service::SorryServer;
use crate::model::{Command, RealServer, Service, ServiceKey};
use crate::status::notice::{server_subject, service_subject};
use crate::status::{MailText, Notice};

/// How long scripts may take when the daemon stops.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Logs a line of a service with the field that the journal keeps.
macro_rules! say {
    ($level:ident, $service:expr, $($text:tt)+) => {
        tracing::$level!(service = %$service, $($text)+)
    };
}
pub(super) use say;

pub(super) const fn word(up: bool) -> &'static str {
    if up { "UP" } else { "DOWN" }
}

/// As in logs: `[10.0.0.9]:tcp:80`.
pub(super) fn sorry_name(service: &ServiceKey, sorry: &SorryServer) -> String {
    format!("[{}]:{}:{}", sorry.address, service.protocol_word(), sorry.port)
}

/// The notice of a real server: its programs and FIFO line if `changed`, a mail if there is a `body`.
pub(super) fn of_server(
    service: &Service,
    server: &RealServer,
    up: bool,
    changed: bool,
    body: Option<String>,
    stopping: bool,
) -> Option<Notice> {
    let (name, id) = (server.display(&service.key), service.id());
    let to_fifo = changed && service.notify_fifo;
    let command = if up { &server.notify_up } else { &server.notify_down };
    let mail = body.map(|body| MailText {
        subject: format!("Realserver {name} of virtual server {id} - {}", word(up)),
        body,
        urgent: false,
    });
    Some(Notice {
        subject: server_subject(&name, &id),
        line: if changed { format!("RS {name} {id} {}", word(up)) } else { String::new() }.into(),
        ..base(command.as_ref().filter(|_| changed), up, mail, stopping, to_fifo)?
    })
}

/// The notice of a service whose quorum was gained or lost.
pub(super) fn of_service(
    service: &Service,
    up: bool,
    body: String,
    stopping: bool,
) -> Option<Notice> {
    let name = service.id();
    let command = if up { &service.quorum_up } else { &service.quorum_down };
    let mail = service.smtp_alert.then(|| MailText {
        subject: format!("Virtualserver {name} - {}", word(up)),
        body,
        urgent: true,
    });
    Some(Notice {
        subject: service_subject(&name),
        line: format!("VS {name} {}", word(up)).into(),
        ..base(command.as_ref(), up, mail, stopping, service.notify_fifo)?
    })
}

fn base(
    command: Option<&Command>,
    up: bool,
    mail: Option<MailText>,
    stopping: bool,
    to_fifo: bool,
) -> Option<Notice> {
    if command.is_none() && mail.is_none() && !to_fifo {
        return None;
    }
    Some(Notice {
        subject: Name::default(),
        state: Name::from(word(up)),
        commands: command.cloned().into_iter().collect(),
        limit: stopping.then_some(STOP_LIMIT),
        line: Box::default(),
        to_fifo,
        mail,
    })
}
