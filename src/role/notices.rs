//! Notices on their way to the runner: in order for each subject, bounded, and sent again to a runner that was
//! started anew as long as it has not said that they are done with.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use crate::base::Name;
use crate::ipc::{Deliver, FromRunner, Peer, SendError, ToRunner};
use crate::status::Notice;

/// Notices of one subject that may wait. What is older than the newest ones of a subject that changes faster than
/// its programs run interests nobody.
const WAITING: usize = 64;
/// Notices of one subject that the runner may have at a time.
const SENT: usize = 8;
/// The subject of mails. They have no order among each other that would hold anything up.
const MAILS: &str = "mail";
/// Mails that may wait.
const MAILS_WAITING: usize = 256;

/// The queue of one role.
#[derive(Debug, Default)]
pub struct Notices {
    next: u64,
    subjects: BTreeMap<Name, Subject>,
    /// Whose a number is.
    ids: BTreeMap<u64, Name>,
    lost: u64,
}

#[derive(Debug, Default)]
struct Subject {
    sent: VecDeque<Entry>,
    waiting: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    deliver: Deliver,
    /// Programs of it that were started by the runner that has it now, or had it.
    begun: usize,
    /// The last of these.
    process: Option<OwnedFd>,
}

impl Notices {
    /// Adds a notice.
    pub fn push(&mut self, notice: Notice) {
        let Notice { subject, state, commands, limit, mail, .. } = notice;
        if !commands.is_empty() {
            let deliver = Deliver::Programs { subject: subject.clone(), state, commands, limit };
            self.add(subject, deliver, WAITING);
        }
        if let Some(mail) = mail {
            self.add(Name::from(MAILS), Deliver::Mail(mail), MAILS_WAITING);
        }
    }

    fn add(&mut self, subject: Name, deliver: Deliver, most: usize) {
        self.next += 1;
        let id = self.next;
        self.ids.insert(id, subject.clone());
        let queue = self.subjects.entry(subject).or_default();
        queue.waiting.push_back(Entry { id, deliver, begun: 0, process: None });
        if queue.waiting.len() > most
            && let Some(oldest) = queue.waiting.pop_front()
        {
            self.ids.remove(&oldest.id);
            self.lost += 1;
            if let Deliver::Programs { subject, state, .. } = oldest.deliver {
                tracing::warn!("notice of {subject} ({state}) dropped: too many newer ones wait");
            }
        }
    }

    /// Sends what the runner may have now.
    ///
    /// # Errors
    /// `Gone` when the runner is gone.
    pub fn send(&mut self, peer: &mut Peer<ToRunner, FromRunner>) -> Result<(), SendError> {
        for queue in self.subjects.values_mut() {
            while queue.sent.len() < SENT
                && let Some(entry) = queue.waiting.pop_front()
            {
                let message = ToRunner::Notice { id: entry.id, deliver: entry.deliver.clone() };
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
        Ok(())
    }

    /// The runner has started a program of one.
    pub fn began(&mut self, id: u64, command: u32, process: Option<OwnedFd>) {
        let queue = self.ids.get(&id).and_then(|subject| self.subjects.get_mut(subject));
        if let Some(entry) = queue.and_then(|q| q.sent.iter_mut().find(|sent| sent.id == id)) {
            entry.begun = entry.begun.max(command as usize + 1);
            entry.process = process;
        }
    }

    /// The runner is done with one.
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

    /// There is a new runner: what the last one had not done comes first. Programs that it had started run once, and
    /// nothing of their subject beside them.
    pub fn begin_anew(&mut self) {
        for queue in self.subjects.values_mut() {
            while let Some(mut last) = queue.sent.pop_back() {
                if let Deliver::Programs { commands, .. } = &mut last.deliver {
                    commands.drain(..last.begun.min(commands.len()));
                }
                last.begun = 0;
                queue.waiting.push_front(last);
            }
        }
    }

    /// Whether the runner is done with everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Command;
    use crate::status::MailText;
    use crate::sys::channel::Channel;
    use crate::sys::testing;

    fn notice(subject: &str, state: &str) -> Notice {
        let words = vec![b"/bin/true".as_slice().into()];
        Notice {
            subject: Name::from(subject),
            state: Name::from(state),
            commands: vec![Command { words, through_shell: false, user: None }],
            limit: None,
            fifo: "".into(),
            mail: None,
        }
    }

    type Ends = (Peer<ToRunner, FromRunner>, Peer<FromRunner, ToRunner>);

    fn pair() -> Ends {
        let (a, b) = Channel::pair().unwrap();
        (Peer::new(a).unwrap(), Peer::new(b).unwrap())
    }

    /// What came: number and state.
    async fn take(peer: &mut Peer<FromRunner, ToRunner>, count: usize) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        for _ in 0..count {
            match peer.next().await {
                Some((ToRunner::Notice { id, deliver: Deliver::Programs { state, .. } }, _)) => {
                    all.push((id, state.to_string()));
                }
                other => panic!("{other:?}"),
            }
        }
        all
    }

    fn states(list: &[(u64, String)]) -> Vec<&str> {
        list.iter().map(|(_, s)| s.as_str()).collect()
    }

    #[test]
    fn a_new_runner_gets_what_the_last_one_had_not_done_in_order() {
        testing::run(async {
            let mut notices = Notices::default();
            let (mut near, mut far) = pair();
            for state in ["1", "2", "3"] {
                notices.push(notice("instance A", state));
            }
            notices.send(&mut near).unwrap();
            let got = take(&mut far, 3).await;
            assert_eq!(states(&got), ["1", "2", "3"]);
            notices.delivered(got[0].0);
            drop(far);
            notices.push(notice("instance A", "4"));
            let (mut near, mut far) = pair();
            notices.begin_anew();
            notices.send(&mut near).unwrap();
            let got = take(&mut far, 3).await;
            assert_eq!(states(&got), ["2", "3", "4"]);
            for (id, _) in got {
                notices.delivered(id);
            }
            assert!(notices.is_empty());
            // Numbers that mean nothing change nothing.
            notices.delivered(4711);
        });
    }

    #[test]
    fn a_new_runner_gets_the_programs_that_the_last_one_had_not_started() {
        testing::run(async {
            let mut notices = Notices::default();
            let (mut near, mut far) = pair();
            let mut both = notice("instance A", "MASTER");
            let generic =
                Command { words: vec![b"/bin/any".as_slice().into()], ..both.commands[0].clone() };
            both.commands.push(generic.clone());
            notices.push(both);
            notices.push(notice("instance A", "BACKUP"));
            notices.send(&mut near).unwrap();
            let got = take(&mut far, 2).await;
            let null = || Some(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
            // The first program of the first notice runs; then both of them.
            for (begun, left) in [(0, vec![generic]), (0, vec![])] {
                notices.began(got[0].0, begun, null());
                let (mut near, mut far) = pair();
                notices.begin_anew();
                notices.send(&mut near).unwrap();
                let (first, fds) = far.next().await.unwrap();
                let ToRunner::Notice { deliver: Deliver::Programs { commands, .. }, .. } = first
                else {
                    panic!("{first:?}");
                };
                assert_eq!((commands, fds.len()), (left, 1));
                // The other one is untouched.
                let (second, fds) = far.next().await.unwrap();
                let ToRunner::Notice { deliver: Deliver::Programs { commands, .. }, .. } = second
                else {
                    panic!("{second:?}");
                };
                assert_eq!((commands.len(), fds.len()), (1, 0));
            }
            for (id, _) in got {
                notices.delivered(id);
            }
            assert!(notices.is_empty());
        });
    }

    #[test]
    fn the_newest_survive_when_too_many_wait() {
        testing::run(async {
            let mut notices = Notices::default();
            let (mut near, mut far) = pair();
            for n in 0..500 {
                notices.push(notice("instance A", &n.to_string()));
                notices.send(&mut near).unwrap();
            }
            // Others are not concerned.
            notices.push(notice("instance B", "b"));
            notices.send(&mut near).unwrap();
            let mut all = take(&mut far, SENT + 1).await;
            assert_eq!(all.pop().unwrap().1, "b");
            while let Some((id, _)) = all.first().cloned() {
                notices.delivered(id);
                all.remove(0);
                let before = notices.ids.len();
                notices.send(&mut near).unwrap();
                if before > all.len() + 1 {
                    all.extend(take(&mut far, 1).await);
                    if all.last().unwrap().1 == "499" {
                        break;
                    }
                }
            }
            assert_eq!(all.last().unwrap().1, "499");
            assert_eq!(notices.lost, 500 - (SENT + WAITING) as u64);
        });
    }

    #[test]
    fn mails_do_not_wait_for_programs() {
        testing::run(async {
            let mut notices = Notices::default();
            let (mut near, mut far) = pair();
            for n in 0..20 {
                let mut one = notice("instance A", &n.to_string());
                one.mail = Some(MailText { subject: n.to_string(), body: String::new() });
                notices.push(one);
            }
            notices.send(&mut near).unwrap();
            let mut mails = 0;
            for _ in 0..2 * SENT {
                if let Some((ToRunner::Notice { deliver: Deliver::Mail(_), .. }, _)) =
                    far.next().await
                {
                    mails += 1;
                }
            }
            assert_eq!(mails, SENT);
        });
    }
}
