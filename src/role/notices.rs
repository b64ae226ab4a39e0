//! Notices on their way to the runner: in order for each subject, bounded, and sent again to a new runner until they
//! are reported as done.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use crate::base::Name;
use crate::ipc::{Announced, Catalogue, Deliver, FromRunner, Index, Peer, SendError, ToRunner};
use crate::model::Command;
use crate::status::{MailText, Notice};

/// Notices of one subject that may wait. If a subject changes faster than its programs run, only the newest notices
/// matter.
const WAITING: usize = 64;
/// Notices of one subject that the runner may have at a time.
const SENT: usize = 8;
/// The subjects of mails, urgent ones and others. The runner puts them in order.
const MAILS: [&str; 2] = ["mail", "urgent mail"];
/// The subject of lines for FIFOs. They come behind the programs of the same change.
const LINES: &str = "lines";
/// FIFO lines that may wait.
const LINES_WAITING: usize = 4096;
/// FIFO lines that the runner may have at a time.
const LINES_SENT: usize = 128;
/// Mails of either kind that may wait.
const MAILS_WAITING: usize = 4096;
/// Mails of either kind that the runner may have at a time: enough for it to detect a flood.
const MAILS_SENT: usize = 128;

/// The queue of one role.
#[derive(Debug, Default)]
pub struct Notices {
    next: u64,
    subjects: BTreeMap<Name, Subject>,
    /// The subject of each number.
    ids: BTreeMap<u64, Name>,
    lost: u64,
    lines_lost: u64,
    mails_lost: u64,
    /// The programs of the current configuration and of the previous one, the newest first: the last notices of an
    /// object that was just removed from the configuration are still delivered.
    configured: VecDeque<(u32, Index)>,
}

#[derive(Debug, Default)]
struct Subject {
    sent: VecDeque<Entry>,
    waiting: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    what: What,
    /// Number of its programs that were started by this runner or an earlier one.
    begun: usize,
    /// The last of these processes.
    process: Option<OwnedFd>,
}

/// The kind of notice.
#[derive(Debug)]
enum What {
    Programs { state: Name, commands: Vec<Command>, limit: Option<Duration> },
    Mail(MailText),
    Line(Box<str>),
}

impl Notices {
    /// The runner knows these programs from now on, under this number.
    pub fn configure(&mut self, generation: u32, catalogue: Catalogue) {
        self.configured.push_front((generation, Index::new(catalogue)));
        self.configured.truncate(2);
    }

    /// The place of a program whose status matters, and the number of the configuration that names it.
    #[must_use]
    pub fn program(&self, command: &Command) -> Option<(u32, u32)> {
        let none = Name::default();
        self.configured.iter().find_map(|(generation, index)| {
            Some((*generation, index.choose(&none, command)?.entry))
        })
    }

    /// Adds a notice.
    pub fn push(&mut self, notice: Notice) {
        let Notice { subject, state, commands, limit, line, to_fifo, mail } = notice;
        if !commands.is_empty() {
            self.add(subject, What::Programs { state, commands, limit }, WAITING);
        }
        if to_fifo && !line.is_empty() {
            self.add(Name::from(LINES), What::Line(line), LINES_WAITING);
        }
        if let Some(mail) = mail {
            let [other, urgent] = MAILS;
            let kind = if mail.urgent { urgent } else { other };
            self.add(Name::from(kind), What::Mail(mail), MAILS_WAITING);
        }
    }

    fn add(&mut self, subject: Name, what: What, most: usize) {
        self.next += 1;
        let id = self.next;
        self.ids.insert(id, subject.clone());
        let queue = self.subjects.entry(subject.clone()).or_default();
        queue.waiting.push_back(Entry { id, what, begun: 0, process: None });
        if queue.waiting.len() > most
            && let Some(oldest) = queue.waiting.pop_front()
        {
            self.ids.remove(&oldest.id);
            self.lost += 1;
            match oldest.what {
                What::Programs { state, .. } => {
                    tracing::warn!(
                        "notification of {subject} ({state}) dropped: too many newer ones are waiting"
                    );
                }
                // One log line for each would be a flood of its own.
                What::Line(_) => {
                    self.lines_lost += 1;
                    if self.lines_lost.is_power_of_two() {
                        tracing::warn!(
                            "lines for notify FIFOs dropped, too many newer ones wait: {} so far",
                            self.lines_lost
                        );
                    }
                }
                What::Mail(_) => {
                    self.mails_lost += 1;
                    if self.mails_lost.is_power_of_two() {
                        tracing::warn!(
                            "SMTP alerts dropped, too many newer ones are waiting: {} so far",
                            self.mails_lost
                        );
                    }
                }
            }
        }
    }

    /// Sends the notices that the runner may have now.
    ///
    /// # Errors
    /// `Gone` if the runner is gone.
    pub fn send(&mut self, peer: &mut Peer<ToRunner, FromRunner>) -> Result<(), SendError> {
        self.pass(peer, false)
    }

    /// The process is about to end: sends everything that the channel accepts.
    ///
    /// # Errors
    /// `Gone` if the runner is gone.
    pub fn send_rest(&mut self, peer: &mut Peer<ToRunner, FromRunner>) -> Result<(), SendError> {
        let result = self.pass(peer, true);
        let left: usize = self.subjects.values().map(|queue| queue.waiting.len()).sum();
        if left > 0 {
            tracing::warn!("{left} notifications and mails dropped because the daemon stops");
        }
        result
    }

    fn pass(&mut self, peer: &mut Peer<ToRunner, FromRunner>, all: bool) -> Result<(), SendError> {
        let [mail, urgent] = MAILS;
        let Self { subjects, ids, configured, .. } = self;
        let mut dropped = false;
        for (subject, queue) in &mut *subjects {
            let most = match subject.as_str() {
                _ if all => usize::MAX,
                name if name == mail || name == urgent => MAILS_SENT,
                LINES => LINES_SENT,
                _ => SENT,
            };
            while queue.sent.len() < most
                && let Some(entry) = queue.waiting.pop_front()
            {
                let Some(deliver) = deliver(configured, subject, &entry.what) else {
                    tracing::warn!(
                        "notification of {subject} dropped: its programs are no longer configured"
                    );
                    ids.remove(&entry.id);
                    dropped = true;
                    continue;
                };
                let message = ToRunner::Notice { id: entry.id, deliver };
                let process = entry.process.as_ref().and_then(|fd| fd.try_clone().ok());
                match peer.post(&message, process.into_iter().collect()) {
                    Ok(()) => queue.sent.push_back(entry),
                    Err(e) => {
                        queue.waiting.push_front(entry);
                        return if matches!(e, SendError::Gone) { Err(e) } else { Ok(()) };
                    }
                }
            }
        }
        if dropped {
            subjects.retain(|_, queue| !queue.sent.is_empty() || !queue.waiting.is_empty());
        }
        Ok(())
    }

    /// The runner has started a program of a notice.
    pub fn began(&mut self, id: u64, command: u32, process: Option<OwnedFd>) {
        let queue = self.ids.get(&id).and_then(|subject| self.subjects.get_mut(subject));
        if let Some(entry) = queue.and_then(|q| q.sent.iter_mut().find(|sent| sent.id == id)) {
            entry.begun = entry.begun.max(command as usize + 1);
            entry.process = process;
        }
    }

    /// The runner has finished a notice.
    pub fn delivered(&mut self, id: u64) {
        let Some(subject) = self.ids.remove(&id) else {
            return;
        };
        if let Some(queue) = self.subjects.get_mut(&subject) {
            queue.sent.retain(|sent| sent.id != id);
            if queue.sent.is_empty() && queue.waiting.is_empty() {
                self.subjects.remove(&subject);
            }
        }
    }

    /// There is a new runner: unfinished notices of the last one come first. Programs that it had started are not run
    /// again, and no other program of their subject runs beside them.
    pub fn begin_anew(&mut self) {
        for queue in self.subjects.values_mut() {
            while let Some(mut last) = queue.sent.pop_back() {
                if let What::Programs { commands, .. } = &mut last.what {
                    commands.drain(..last.begun.min(commands.len()));
                }
                last.begun = 0;
                queue.waiting.push_front(last);
            }
        }
    }

    /// Whether the runner has finished everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }
}

/// The message to the runner; none if it does not know the programs.
fn deliver(configured: &VecDeque<(u32, Index)>, subject: &Name, what: &What) -> Option<Deliver> {
    match what {
        What::Mail(mail) => Some(Deliver::Mail(mail.clone())),
        What::Line(line) => Some(Deliver::Line(line.clone())),
        What::Programs { state, commands, limit } => {
            let state = Announced::from_word(state)?;
            configured.iter().find_map(|(generation, index)| {
                let programs = commands.iter().map(|command| index.choose(subject, command));
                Some(Deliver::Programs {
                    generation: *generation,
                    about: index.about(subject)?,
                    state,
                    programs: programs.collect::<Option<Vec<_>>>()?,
                    limit: *limit,
                })
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Command;
    use crate::status::MailText;
    use crate::sys::channel::Channel;
    use crate::sys::testing;

    fn notice(subject: &str) -> Notice {
        Notice {
            subject: Name::from(subject),
            state: Name::from("MASTER"),
            commands: vec![true_()],
            limit: None,
            line: "".into(),
            to_fifo: false,
            mail: None,
        }
    }

    fn true_() -> Command {
        Command { words: vec![b"/bin/true".as_slice().into()], through_shell: false, user: None }
    }

    fn any() -> Command {
        Command { words: vec![b"/bin/any".as_slice().into()], ..true_() }
    }

    fn catalogue() -> Catalogue {
        let of = |subject| [(subject, true_()), (subject, any())];
        Catalogue::of(&[of("instance A"), of("instance B")].concat())
    }

    fn notices() -> Notices {
        let mut notices = Notices::default();
        notices.configure(1, catalogue());
        notices
    }

    type Ends = (Peer<ToRunner, FromRunner>, Peer<FromRunner, ToRunner>);

    fn pair() -> Ends {
        let (a, b) = Channel::pair().unwrap();
        (Peer::new(a).unwrap(), Peer::new(b).unwrap())
    }

    /// The numbers of the messages that arrived; they count from 1.
    async fn take(peer: &mut Peer<FromRunner, ToRunner>, count: usize) -> Vec<u64> {
        let mut all = Vec::new();
        for _ in 0..count {
            match peer.next().await {
                Some((ToRunner::Notice { id, deliver: Deliver::Programs { .. } }, _)) => {
                    all.push(id)
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[test]
    fn a_new_runner_gets_what_the_last_one_had_not_done_in_order() {
        testing::run(async {
            let mut notices = notices();
            let (mut near, mut far) = pair();
            for _ in 0..3 {
                notices.push(notice("instance A"));
            }
            notices.send(&mut near).unwrap();
            let got = take(&mut far, 3).await;
            assert_eq!(got, [1, 2, 3]);
            notices.delivered(got[0]);
            drop(far);
            notices.push(notice("instance A"));
            let (mut near, mut far) = pair();
            notices.begin_anew();
            notices.send(&mut near).unwrap();
            let got = take(&mut far, 3).await;
            assert_eq!(got, [2, 3, 4]);
            for id in got {
                notices.delivered(id);
            }
            assert!(notices.is_empty());
            // Unknown numbers have no effect.
            notices.delivered(4711);
        });
    }

    #[test]
    fn a_new_runner_gets_the_programs_that_the_last_one_had_not_started() {
        testing::run(async {
            let mut notices = notices();
            let (mut near, mut far) = pair();
            let mut both = notice("instance A");
            both.commands.push(any());
            notices.push(both);
            notices.push(notice("instance A"));
            notices.send(&mut near).unwrap();
            let got = take(&mut far, 2).await;
            let null = || Some(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
            // The first program of the first notice runs; then both of them.
            for (begun, left) in [(0, vec![any()]), (0, vec![])] {
                notices.began(got[0], begun, null());
                let (mut near, mut far) = pair();
                notices.begin_anew();
                notices.send(&mut near).unwrap();
                let (first, fds) = far.next().await.unwrap();
                let ToRunner::Notice { deliver: Deliver::Programs { about, programs, .. }, .. } =
                    first
                else {
                    panic!("{first:?}");
                };
                // The running process is passed on even if there is nothing left to run.
                assert_eq!(catalogue().entry(about).unwrap().subject, "instance A".into());
                let commands: Vec<Command> =
                    programs.iter().map(|chosen| catalogue().command(*chosen).unwrap()).collect();
                assert_eq!((commands, fds.len()), (left, 1));
                // The second notice is unchanged.
                let (second, fds) = far.next().await.unwrap();
                let ToRunner::Notice { deliver: Deliver::Programs { programs, .. }, .. } = second
                else {
                    panic!("{second:?}");
                };
                assert_eq!((programs.len(), fds.len()), (1, 0));
            }
            for id in got {
                notices.delivered(id);
            }
            assert!(notices.is_empty());
        });
    }

    #[test]
    fn the_newest_survive_when_too_many_wait() {
        testing::run(async {
            let mut notices = notices();
            let (mut near, mut far) = pair();
            for _ in 0..500 {
                notices.push(notice("instance A"));
                notices.send(&mut near).unwrap();
            }
            // Other subjects are not affected.
            notices.push(notice("instance B"));
            notices.send(&mut near).unwrap();
            let mut all = take(&mut far, SENT + 1).await;
            assert_eq!(all.pop(), Some(501));
            while let Some(id) = all.first().copied() {
                notices.delivered(id);
                all.remove(0);
                let before = notices.ids.len();
                notices.send(&mut near).unwrap();
                if before > all.len() + 1 {
                    all.extend(take(&mut far, 1).await);
                    if all.last() == Some(&500) {
                        break;
                    }
                }
            }
            assert_eq!(all.last(), Some(&500));
            assert_eq!(notices.lost, 500 - (SENT + WAITING) as u64);
        });
    }

    #[test]
    fn what_has_just_left_the_configuration_is_told_and_what_was_never_in_it_is_not() {
        testing::run(async {
            let mut notices = notices();
            let (mut near, mut far) = pair();
            notices.configure(2, Catalogue::of(&[("instance B", true_())]));
            notices.push(notice("instance A"));
            let mut strange = notice("instance B");
            strange.commands = vec![Command { words: vec![b"/bin/sh".as_slice().into()], ..any() }];
            notices.push(strange);
            notices.push(notice("instance B"));
            notices.send(&mut near).unwrap();
            let mut all = Vec::new();
            for _ in 0..2 {
                if let Some((
                    ToRunner::Notice { id, deliver: Deliver::Programs { generation, .. } },
                    _,
                )) = far.next().await
                {
                    all.push((id, generation));
                    notices.delivered(id);
                }
            }
            assert_eq!(all, [(1, 1), (3, 2)]);
            assert!(notices.is_empty());
            // Two configurations later it is unknown.
            notices.configure(3, Catalogue::default());
            notices.push(notice("instance A"));
            notices.send(&mut near).unwrap();
            assert!(notices.is_empty());
        });
    }

    #[test]
    fn mails_do_not_wait_for_programs() {
        testing::run(async {
            let mut notices = notices();
            let (mut near, mut far) = pair();
            let count = 4 * SENT;
            for n in 0..count {
                let mut one = notice("instance A");
                one.mail = Some(MailText {
                    subject: n.to_string(),
                    body: String::new(),
                    urgent: n % 2 == 0,
                });
                notices.push(one);
            }
            notices.send(&mut near).unwrap();
            let mut mails = 0;
            for _ in 0..SENT + count {
                if let Some((ToRunner::Notice { deliver: Deliver::Mail(_), .. }, _)) =
                    far.next().await
                {
                    mails += 1;
                }
            }
            assert_eq!(mails, count);
        });
    }
}
