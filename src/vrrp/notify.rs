//! What is announced to scripts, FIFOs and mail recipients, in keepalived's words.

use core::time::Duration;

use super::group::Group;
use super::instance::Instance;
use crate::base::Name;
use crate::model::{Command, NotifyCommands, Vrrp};
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

/// The notice of an instance, if it has a recipient.
pub(super) fn of_instance(instance: &mut Instance, word: Word, settings: &Vrrp) -> Option<Notice> {
    let name = instance.config.name.clone();
    let wanted = instance.config.smtp_alert;
    let mail = mail(wanted, &mut instance.mailed, word, settings, || MailText {
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

/// The notice of a group, if it has a recipient.
pub(super) fn of_group(group: &mut Group, word: Word, settings: &Vrrp) -> Option<Notice> {
    let name = group.config.name.clone();
    let wanted = group.config.smtp_alert;
    let mail = mail(wanted, &mut group.mailed, word, settings, || MailText {
        subject: format!("VRRP Group {name} - {}", subject(word)),
        body: match word {
            Word::Stop => "=> All VRRP group instances are now stopping <=".into(),
            _ => format!("=> All VRRP group instances are now in {} state <=", word.text()),
        },
        urgent: true,
    });
    notice("GROUP", &name, word, "0", &group.config.notify, mail)
}

/// The script and the line for adverts of lower priority heard as master.
pub(super) fn of_lower_priority(instance: &Instance) -> Option<Notice> {
    let notify = &instance.config.notify;
    let command = notify.master_rx_lower_pri.clone();
    if command.is_none() && !notify.fifo {
        return None;
    }
    let name = &instance.config.name;
    Some(Notice {
        subject: lower_priority_subject(name),
        state: Name::from("MASTER_RX_LOWER_PRI"),
        commands: command.into_iter().collect(),
        limit: None,
        line: line_of(instance, "MASTER_RX_LOWER_PRI"),
        to_fifo: notify.fifo,
        mail: None,
    })
}

/// The FIFO line for a change of the effective priority (`notify_priority_changes`).
pub(super) fn of_priority(instance: &Instance) -> Option<Notice> {
    let config = &instance.config;
    let wanted = config.extras.as_ref().is_some_and(|e| e.notify_priority_changes);
    if !wanted || !config.notify.fifo {
        return None;
    }
    let word = if instance.is_master() { "MASTER_PRIORITY" } else { "BACKUP_PRIORITY" };
    Some(only_line(&config.name, word, line_of(instance, word)))
}

/// The FIFO line that repeats an announced state (`fifo_write_vrrp_states_on_reload`).
pub(super) fn of_instance_again(instance: &Instance) -> Option<Notice> {
    let word = instance.announced.filter(|_| instance.config.notify.fifo)?.word();
    Some(only_line(&instance.config.name, word, line_of(instance, word)))
}

/// The same for a group.
pub(super) fn of_group_again(group: &Group) -> Option<Notice> {
    let word = group.announced.filter(|_| group.config.notify.fifo)?.word();
    let name = &group.config.name;
    Some(only_line(name, word, line("GROUP", name, word, "0")))
}

fn only_line(name: &Name, state: &str, line: Box<str>) -> Notice {
    Notice {
        subject: instance_subject(name),
        state: Name::from(state),
        commands: Vec::new(),
        limit: None,
        line,
        to_fifo: true,
        mail: None,
    }
}

fn line_of(instance: &Instance, state: &str) -> Box<str> {
    let priority = instance.effective_priority.to_string();
    line("INSTANCE", &instance.config.name, state, &priority)
}

fn subject(word: Word) -> String {
    match word {
        Word::State(state) => format!("Entering {state} state"),
        Word::Stop => "Stopping".into(),
        Word::Deleted => "Deleted".into(),
    }
}

/// A mail for each state that differs from the last one mailed. With `no_email_faults` FAULT is skipped, so that the
/// state before it is not mailed again afterwards.
fn mail(
    wanted: bool,
    mailed: &mut Option<State>,
    word: Word,
    settings: &Vrrp,
    text: impl FnOnce() -> MailText,
) -> Option<MailText> {
    if settings.no_mail_for_faults && word == Word::State(State::Fault) {
        return None;
    }
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
    configured: &NotifyCommands,
    mail: Option<MailText>,
) -> Option<Notice> {
    let generic = configured.any.clone().map(|mut command| {
        let arguments = [kind, name, word.text(), priority];
        command.words.extend(arguments.iter().map(|a| a.as_bytes().into()));
        command
    });
    let commands: Vec<Command> =
        word.specific(configured).cloned().into_iter().chain(generic).collect();
    let to_fifo = configured.fifo;
    if commands.is_empty() && mail.is_none() && !to_fifo {
        return None;
    }
    Some(Notice {
        subject: if kind == "GROUP" { group_subject(name) } else { instance_subject(name) },
        state: Name::from(word.text()),
        commands,
        limit: (word == Word::Stop).then_some(STOP_LIMIT),
        line: line(kind, name, word.text(), priority),
        to_fifo,
        mail,
    })
}

fn line(kind: &str, name: &Name, state: &str, priority: &str) -> Box<str> {
    format!("{kind} \"{name}\" {state} {priority}").into()
}
