//! What is announced to scripts, FIFOs and mail recipients, in keepalived's words.

use core::time::Duration;

use super::group::Group;
use super::instance::Instance;
use crate::base::Name;
use crate::model::{Command, NotifyCommands};
use crate::status::notice::{group_subject, instance_subject, lower_priority_subject};
use crate::status::vrrp::State;
use crate::status::{MailText, Notice};

/// How long scripts may take when the daemon stops.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// What is announced: a state, or the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    State(State),
    Stop,
    Deleted,
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::State(state) => state.word(),
            Self::Stop => "STOP",
            Self::Deleted => "DELETED",
        }
    }

    const fn specific(self, commands: &NotifyCommands) -> Option<&Command> {
        match self {
            Self::State(State::Master) => commands.master.as_ref(),
            Self::State(State::Backup) => commands.backup.as_ref(),
            Self::State(State::Fault) => commands.fault.as_ref(),
            Self::State(State::Init) => None,
            Self::Stop => commands.stop.as_ref(),
            Self::Deleted => commands.deleted.as_ref(),
        }
    }
}

/// The notice of an instance, if anybody wants to hear of it.
pub(super) fn of_instance(instance: &mut Instance, word: Word) -> Option<Notice> {
    let name = instance.config.name.clone();
    let mail = mail(instance.config.smtp_alert, &mut instance.mailed, word, || MailText {
        subject: format!("VRRP Instance {name} - {}", subject(word)),
        body: match word {
            Word::State(State::Master) => "=> VRRP Instance is now owning VRRP VIPs <=",
            Word::State(_) => "=> VRRP Instance is no longer owning VRRP VIPs <=",
            Word::Stop => "=> VRRP Instance stopping <=",
            Word::Deleted => "=> VRRP Deleted at reload <=",
        }
        .into(),
        urgent: true,
    });
    let priority = instance.effective_priority.to_string();
    notice("INSTANCE", &name, word, &priority, &instance.config.notify, mail)
}

/// The notice of a group, if anybody wants to hear of it.
pub(super) fn of_group(group: &mut Group, word: Word) -> Option<Notice> {
    let name = group.config.name.clone();
    let mail = mail(group.config.smtp_alert, &mut group.mailed, word, || MailText {
        subject: format!("VRRP Group {name} - {}", subject(word)),
        body: match word {
            Word::Stop => "=> All VRRP group instances are now stopping <=".into(),
            _ => format!("=> All VRRP group instances are now in {} state <=", word.text()),
        },
        urgent: true,
    });
    notice("GROUP", &name, word, "0", &group.config.notify, mail)
}

/// The script that runs for each advert of lower priority heard as master.
pub(super) fn of_lower_priority(instance: &Instance) -> Option<Notice> {
    let command = instance.config.notify.master_rx_lower_pri.clone()?;
    let name = &instance.config.name;
    Some(Notice {
        subject: lower_priority_subject(name),
        state: Name::from("MASTER_RX_LOWER_PRI"),
        commands: vec![command],
        limit: None,
        fifo: fifo(
            "INSTANCE",
            name,
            "MASTER_RX_LOWER_PRI",
            &instance.effective_priority.to_string(),
        ),
        mail: None,
    })
}

fn subject(word: Word) -> String {
    match word {
        Word::State(state) => format!("Entering {state} state"),
        Word::Stop => "Stopping".into(),
        Word::Deleted => "Deleted".into(),
    }
}

/// A mail for each state that differs from the last one mailed.
fn mail(
    wanted: bool,
    mailed: &mut Option<State>,
    word: Word,
    text: impl FnOnce() -> MailText,
) -> Option<MailText> {
    if let Word::State(state) = word
        && mailed.replace(state) == Some(state)
    {
        return None;
    }
    wanted.then(text)
}

fn notice(
    kind: &str,
    name: &Name,
    word: Word,
    priority: &str,
    commands: &NotifyCommands,
    mail: Option<MailText>,
) -> Option<Notice> {
    let generic = commands.any.clone().map(|mut command| {
        let arguments = [kind, name, word.text(), priority];
        command.words.extend(arguments.iter().map(|a| a.as_bytes().into()));
        command
    });
    let commands: Vec<Command> =
        word.specific(commands).cloned().into_iter().chain(generic).collect();
    if commands.is_empty() && mail.is_none() {
        return None;
    }
    Some(Notice {
        subject: if kind == "GROUP" { group_subject(name) } else { instance_subject(name) },
        state: Name::from(word.text()),
        commands,
        limit: (word == Word::Stop).then_some(STOP_LIMIT),
        fifo: fifo(kind, name, word.text(), priority),
        mail,
    })
}

fn fifo(kind: &str, name: &Name, state: &str, priority: &str) -> Box<str> {
    format!("{kind} \"{name}\" {state} {priority}").into()
}
