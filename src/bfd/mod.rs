//! Bidirectional forwarding detection (RFC 5880, 5881, 5883): sessions with configured neighbors in asynchronous
//! mode, without authentication and echo.
//!
//! [`Engine`] takes events and returns actions; it has no socket, clock or thread. `fsm` has the state machine,
//! `session` the variables and timers of one session, `event` the events and actions. This file selects the session
//! of a packet and decides what to report.
#![forbid(unsafe_code)]

mod event;
mod fsm;
mod session;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

pub use event::{Action, Event, Report, Rx, SessionId};

use crate::base::limit::Limit;
use crate::base::rng::Rng;
use crate::base::{Instant, Name};
use crate::model::extras::Bfd;
use crate::status::PEER;
use crate::wire::bfd::{self, Malformed, Packet, State};
use session::Session;

/// Log lines about discarded packets: so many at once, and then one in this time.
const BURST: u32 = 5;
const PERIOD: Duration = Duration::from_secs(60);

/// Why a packet is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("there is no such session")]
    Unknown,
    #[error("it does not name the session, and is not {} or {}", State::Down, State::AdminDown)]
    Nameless,
    #[error("it came too far")]
    Ttl,
}

/// All sessions.
pub struct Engine {
    sessions: BTreeMap<SessionId, Session>,
    /// Sessions by local discriminator.
    by_number: BTreeMap<u32, SessionId>,
    /// Local discriminators by neighbor and port.
    by_neighbor: BTreeMap<(IpAddr, bool), Vec<SessionId>>,
    last: u32,
    rng: Rng,
    /// Until this time, sessions that have not come up yet are not reported as down.
    patient_until: Option<Instant>,
    /// Number of packets that were ignored.
    ignored: u64,
    /// Log lines about them, and how many had none since the last line.
    lines: Limit,
    unsaid: u64,
}

impl Engine {
    /// An engine without sessions. `patience`: how long sessions that have not come up yet are not reported as down.
    /// It serves a process that replaces another one, whose sessions may have been up.
    #[must_use]
    pub fn new(seed: u64, now: Instant, patience: Duration) -> Self {
        Self {
            sessions: BTreeMap::new(),
            by_number: BTreeMap::new(),
            by_neighbor: BTreeMap::new(),
            last: 0,
            rng: Rng::new(seed),
            patient_until: (!patience.is_zero()).then(|| now + patience),
            ignored: 0,
            lines: Limit::new(BURST, PERIOD),
            unsaid: 0,
        }
    }

    /// Processes an event; actions are appended to `out`.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::Packet { rx, octets } => {
                if let Err(why) = self.packet(now, &rx, octets, out) {
                    self.ignore(now, &rx, why);
                }
            }
            Event::Timer => self.timer(now, out),
            Event::Sent { session, works } => self.sent(session, works),
            Event::Reload(sessions) => self.reload(now, sessions, out),
            Event::Stop => self.reload(now, Vec::new(), out),
        }
    }

    /// Counts a packet that is discarded. Any host can send such packets, at any rate: only some of them are logged.
    fn ignore(&mut self, now: Instant, rx: &Rx, why: Refusal) {
        self.ignored += 1;
        if !self.lines.take(now) {
            self.unsaid += 1;
            return;
        }
        let before = match core::mem::take(&mut self.unsaid) {
            0 => String::new(),
            more => format!(" ({more} more before it)"),
        };
        tracing::debug!(target: PEER, "BFD packet from {} ignored: {why}{before}", rx.source);
    }

    /// Number of packets that belong to no session or are not valid.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// When [`Event::Timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let times = self.sessions.values().flat_map(|s| [s.next(), s.expires()]);
        times.chain([self.patient_until]).flatten().min()
    }

    /// Sessions and their states, in order of creation.
    pub fn states(&self) -> impl Iterator<Item = (&Name, State)> {
        self.sessions.values().map(|s| (&s.config.name, s.state))
    }

    fn packet(
        &mut self,
        now: Instant,
        rx: &Rx,
        octets: &[u8],
        out: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let packet = bfd::decode(octets)?;
        let id = self.find(rx, &packet)?;
        let session = self.sessions.get_mut(&id).ok_or(Refusal::Unknown)?;
        //= rfc5881 5: received with a TTL or hop limit of 255, or less where that is configured
        if rx.ttl < session.config.least_ttl {
            return Err(Refusal::Ttl);
        }
        let heard = session.heard(now, &packet);
        if heard.answer {
            //= rfc5880 6.8.7: MUST transmit a packet with the Poll bit clear and the Final bit set
            out.push(send(id, session, true));
        }
        if let Some(before) = heard.before {
            self.changed(now, id, before, out);
        }
        self.go_on(now, id, out);
        Ok(())
    }

    /// Selects the session of a packet.
    fn find(&self, rx: &Rx, packet: &Packet) -> Result<SessionId, Refusal> {
        let candidates = self.by_neighbor.get(&(rx.source, rx.multihop)).map_or(&[][..], |ids| ids);
        if packet.yours != 0 {
            //= rfc5880 6.8.6: it MUST be used to select the session
            let id = self.by_number.get(&packet.yours).ok_or(Refusal::Unknown)?;
            return candidates.iter().find(|one| *one == id).copied().ok_or(Refusal::Unknown);
        }
        //= rfc5880 6.8.6: zero only in the states Down and AdminDown
        if !matches!(packet.state, State::Down | State::AdminDown) {
            return Err(Refusal::Nameless);
        }
        // A session with this local address has precedence over one without a local address.
        let own = |id: &&SessionId| {
            let source = self.sessions.get(id).and_then(|s| s.config.source);
            source == Some(rx.destination)
        };
        let any =
            |id: &&SessionId| self.sessions.get(id).is_some_and(|s| s.config.source.is_none());
        let id = candidates.iter().find(own).or_else(|| candidates.iter().find(any));
        id.copied().ok_or(Refusal::Unknown)
    }

    fn timer(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.patient_until.is_some_and(|until| until <= now) {
            self.patient_until = None;
        }
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            if due(session.expires()) {
                let (silence, detection) = (session.silence(now), session.detection());
                if let Some(before) = session.expired() {
                    let overdue = silence.saturating_sub(detection);
                    tracing::info!(
                        "({}) Expired after {} ms ({} usec overdue)",
                        session.config.name,
                        silence.as_millis(),
                        overdue.as_micros()
                    );
                    self.changed(now, id, before, out);
                }
            }
            self.go_on(now, id, out);
        }
    }

    /// Processes a change of a session's state.
    fn changed(&mut self, now: Instant, id: SessionId, before: State, out: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let name = &session.config.name;
        match session.state {
            State::Down => tracing::info!(
                "({name}) Entering Down state (Local diagnostic - {}, Remote diagnostic - {})",
                session.diagnostic,
                session.remote.diagnostic
            ),
            state => tracing::info!("({name}) Entering {state} state"),
        }
        if session.is_polling() && before != State::Up {
            tracing::debug!("({name}) Starting poll sequence");
        }
        //= rfc5880 6.8.7: to more rapidly communicate a change in state
        if !(session.config.passive && session.remote.number == 0) {
            out.push(send(id, session, false));
            session.was_sent(now);
        }
    }

    /// Sends the due packet of a session, and reports its changes.
    fn go_on(&mut self, now: Instant, id: SessionId, out: &mut Vec<Action>) {
        let patient = self.patient_until.is_some();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.detect_anew();
        session.schedule(now, &mut self.rng);
        if session.next().is_some_and(|at| at <= now) {
            out.push(send(id, session, false));
            session.was_sent(now);
            session.schedule(now, &mut self.rng);
        }
        let up = session.is_up();
        if session.told != Some(up) && (up || session.told.is_some() || !patient) {
            session.told = Some(up);
            let Bfd { name, for_vrrp, for_checker, .. } = &session.config;
            let (name, for_vrrp, for_checker) = (name.clone(), *for_vrrp, *for_checker);
            out.push(Action::Tell(Report { name, up, for_vrrp, for_checker }));
        }
    }

    fn sent(&mut self, id: SessionId, works: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if core::mem::replace(&mut session.unsent, !works) == works {
            let (name, neighbor) = (&session.config.name, session.config.neighbor);
            if works {
                tracing::info!("({name}) packets to {neighbor} can be sent again");
            } else {
                tracing::warn!("({name}) packets to {neighbor} cannot be sent");
            }
        }
    }

    fn reload(&mut self, now: Instant, wanted: Vec<Bfd>, out: &mut Vec<Action>) {
        let key = |c: &Bfd| (c.neighbor, c.source, c.multihop);
        let mut before: BTreeMap<_, SessionId> =
            self.sessions.iter().map(|(id, s)| (key(&s.config), *id)).collect();
        for config in wanted {
            let id = match before.remove(&key(&config)) {
                Some(id) => {
                    self.keep(now, id, config, out);
                    id
                }
                None => self.add(config, out),
            };
            self.go_on(now, id, out);
        }
        for id in before.into_values() {
            self.remove(id, out);
        }
    }

    /// Keeps a session, possibly with new settings.
    fn keep(&mut self, now: Instant, id: SessionId, config: Bfd, out: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|s| s.config != config) else {
            return;
        };
        if session.config.name != config.name {
            session.told = None;
        }
        let audience = |c: &Bfd| (c.for_vrrp, c.for_checker);
        if audience(&session.config) != audience(&config) {
            session.told = None;
        }
        if session.reconfigure(config) {
            if session.is_polling() {
                tracing::debug!("({}) Starting poll sequence", session.config.name);
            }
            out.push(send(id, session, false));
            session.was_sent(now);
        }
    }

    fn add(&mut self, config: Bfd, out: &mut Vec<Action>) -> SessionId {
        self.last += 1;
        let id = SessionId(self.last);
        //= rfc5880 6.8.1: unique across all sessions, nonzero, random
        let number = loop {
            let number = u32::try_from(self.rng.next_u64() >> 32).unwrap_or(0);
            if number != 0 && !self.by_number.contains_key(&number) {
                break number;
            }
        };
        self.by_number.insert(number, id);
        self.by_neighbor.entry((config.neighbor, config.multihop)).or_default().push(id);
        let Bfd { neighbor: to, source: from, multihop, .. } = config;
        out.push(Action::Open { session: id, to, from, multihop });
        self.sessions.insert(id, Session::new(config, number));
        id
    }

    fn remove(&mut self, id: SessionId, out: &mut Vec<Action>) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        self.by_number.remove(&session.own);
        let key = (session.config.neighbor, session.config.multihop);
        if let Some(ids) = self.by_neighbor.get_mut(&key) {
            ids.retain(|one| *one != id);
            if ids.is_empty() {
                self.by_neighbor.remove(&key);
            }
        }
        if session.remote.number != 0 {
            // This spares the neighbor the detection time, and shows it that this is not a failure.
            session.disable();
            out.push(send(id, &session, false));
        }
        out.push(Action::Close { session: id });
    }
}

fn send(id: SessionId, session: &Session, answer: bool) -> Action {
    let packet = session.packet(answer).encode();
    Action::Send { session: id, ttl: session.config.ttl, packet }
}
