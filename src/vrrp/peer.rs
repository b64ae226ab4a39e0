//! Who was heard: the senders of packets for an instance, valid or refused. Bounded; a known sender allocates nothing.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::accept::{Heard, Proof, Refusal};
use super::instance::Instance;
use super::{Engine, Position};
use crate::base::Instant;
use crate::model::vrrp::Authentication;
use crate::status::peer::{self, InstancePeers, Proven, REFUSALS, Said};

/// Number of senders that an instance remembers, in addition to its configured peers. Whoever can send to the segment can
/// send from any number of addresses.
const ROOM: usize = 16;
/// Senders that a part of a view shows at most, for each object that it may show; an instance is never divided.
const SHOWN: usize = 4;

/// The senders that an instance has heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Senders {
    list: Vec<Sender>,
    /// Refused packets of senders for which there was no room.
    others: u64,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub source: IpAddr,
    version: Option<u8>,
    adverts: u64,
    /// Its last valid advert.
    pub last: Option<Said>,
    /// Refused packets, by `Refusal::kind`.
    refused: [u32; REFUSALS.len()],
    last_refused: Option<(Instant, u8)>,
}

impl Sender {
    fn new(source: IpAddr) -> Self {
        let refused = [0; REFUSALS.len()];
        Self { source, version: None, adverts: 0, last: None, refused, last_refused: None }
    }
}

impl Senders {
    /// Notes a valid advert.
    pub fn heard(&mut self, source: IpAddr, version: Option<u8>, said: Said, most: usize) {
        let at = match self.position(source) {
            Some(at) => Some(at),
            None => self.make_room(most, true).then(|| self.add(source)),
        };
        if let Some(sender) = at.and_then(|at| self.list.get_mut(at)) {
            sender.adverts += 1;
            (sender.version, sender.last) = (version, Some(said));
        }
    }

    /// Notes a refused packet; `said` if it is valid but for the number of addresses.
    pub fn refused(
        &mut self,
        source: IpAddr,
        version: Option<u8>,
        kind: usize,
        said: Option<Said>,
        (now, most): (Instant, usize),
    ) {
        let at = match self.position(source) {
            Some(at) => Some(at),
            None => self.make_room(most, false).then(|| self.add(source)),
        };
        let Some(sender) = at.and_then(|at| self.list.get_mut(at)) else {
            self.others = self.others.saturating_add(1);
            return;
        };
        if let Some(count) = sender.refused.get_mut(kind) {
            *count = count.saturating_add(1);
        }
        sender.version = version;
        sender.last_refused = u8::try_from(kind).ok().map(|kind| (now, kind));
        sender.last = said.or(sender.last);
    }

    /// The sender whose last valid advert is the newest.
    pub fn latest(&self) -> Option<(IpAddr, Said)> {
        let valid = self.list.iter().filter_map(|sender| Some((sender.source, sender.last?)));
        valid.max_by_key(|(_, said)| said.at)
    }

    /// The last valid advert of a sender.
    pub fn last_of(&self, source: IpAddr) -> Option<Said> {
        self.list.get(self.position(source)?)?.last
    }

    /// Forgets all of them: the instance takes part in another election.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn position(&self, source: IpAddr) -> Option<usize> {
        self.list.iter().position(|sender| sender.source == source)
    }

    fn add(&mut self, source: IpAddr) -> usize {
        self.list.push(Sender::new(source));
        self.list.len() - 1
    }

    /// Makes room for another sender: one of which no packet was valid goes first, else, for a valid one, the sender that
    /// was silent longest. So packets that are refused displace no router.
    fn make_room(&mut self, most: usize, valid: bool) -> bool {
        if self.list.len() < most {
            return true;
        }
        let last = |sender: &Sender| {
            let refused = sender.last_refused.map_or(Instant::ZERO, |(at, _)| at);
            sender.last.map_or((false, refused), |said| (true, said.at))
        };
        let oldest = (self.list.iter().enumerate()).min_by_key(|(_, sender)| last(sender));
        let Some((at, sender)) = oldest else { return false };
        if sender.last.is_some() && !valid {
            return false;
        }
        let refused = sender.refused.iter().map(|count| u64::from(*count)).sum::<u64>();
        self.others = self.others.saturating_add(refused);
        self.list.remove(at);
        true
    }
}

impl Instance {
    /// Notes the sender of a valid advert.
    pub fn note_heard(&mut self, now: Instant, heard: &Heard) {
        let (version, said) = (Some(self.config.version.number()), self.said(now, heard));
        let most = self.most_senders();
        self.senders.heard(heard.source, version, said, most);
    }

    /// Notes the sender of a refused packet.
    pub fn note_refused(
        &mut self,
        now: Instant,
        source: IpAddr,
        version: Option<u8>,
        refusal: &Refusal,
    ) {
        let said = match refusal {
            Refusal::AddressCount { heard, .. } => Some(self.said(now, heard)),
            _ => None,
        };
        let most = self.most_senders();
        self.senders.refused(source, version, refusal.kind(), said, (now, most));
    }

    fn most_senders(&self) -> usize {
        ROOM + self.config.unicast().map_or(0, |unicast| unicast.peers.len())
    }

    fn said(&self, at: Instant, heard: &Heard) -> Said {
        let authentication = match (heard.proof, &self.config.authentication) {
            (Proof::Ah(_), _) => Proven::Ah,
            (Proof::Trailer { .. }, _) => Proven::Hmac,
            (Proof::None, Authentication::Pass(_)) => Proven::Pass,
            (Proof::None, Authentication::None) => Proven::No,
        };
        let Heard { priority, interval, checksum, .. } = *heard;
        Said { at, priority, interval, checksum, authentication }
    }

    /// View of the routers that it has heard.
    fn peers(&self) -> InstancePeers {
        let configured = || self.config.unicast().into_iter().flat_map(|u| &u.peers);
        let order: BTreeMap<IpAddr, usize> =
            configured().map(|peer| peer.address).zip(0..).collect();
        let heard: BTreeSet<IpAddr> = self.senders.list.iter().map(|s| s.source).collect();
        let silent = configured().filter(|peer| !heard.contains(&peer.address));
        let of_config = silent.map(|peer| Sender::new(peer.address));
        let mut peers: Vec<peer::Peer> = (self.senders.list.iter().cloned().chain(of_config))
            .map(|sender| {
                let counts = (0..).zip(sender.refused).filter(|(_, count)| *count > 0);
                peer::Peer {
                    source: sender.source,
                    configured: order.contains_key(&sender.source),
                    version: sender.version,
                    adverts: sender.adverts,
                    last: sender.last,
                    refused: counts.collect(),
                    last_refused: sender.last_refused,
                }
            })
            .collect();
        peers.sort_by_key(|peer| order.get(&peer.source).copied().unwrap_or(usize::MAX));
        InstancePeers {
            name: self.config.name.clone(),
            interface: self.config.interface.clone(),
            vrid: self.config.vrid,
            family: self.config.family,
            state: self.state(),
            version: self.config.version.number(),
            priority: self.effective_priority,
            interval: self.config.advert_int,
            master: self.master.map(|(source, _)| source),
            peers,
            others: self.senders.others,
        }
    }
}

impl Engine {
    /// A part of the view of the routers that were heard: at most `count` instances from `begin` on, fewer if they have
    /// heard many; and where the next part begins, if there are more. [`peer::Peers::joined`] puts parts together.
    #[must_use]
    pub fn part_of_peers(
        &self,
        now: Instant,
        begin: Position,
        count: usize,
    ) -> (peer::Peers, Option<Position>) {
        let (unknown_vrid, malformed) = (self.unknown_vrid, self.malformed);
        let mut view = peer::Peers { at: now, instances: Vec::new(), unknown_vrid, malformed };
        let (mut shown, mut left) = (0, count.saturating_mul(SHOWN));
        for config in self.config.instances.iter().skip(begin.object()).take(count) {
            if left == 0 {
                break;
            }
            shown += 1;
            if let Some(instance) =
                self.instances.named(&config.name).and_then(|id| self.instance(id))
            {
                let one = instance.peers();
                self.instances.view(one.peers.len());
                left = left.saturating_sub(one.peers.len());
                view.instances.push(one);
            }
        }
        (view, begin.after(shown, self.config.instances.len()))
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::status::peer::Checksum;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn said(seconds: u64) -> Said {
        let (checksum, authentication) = (Checksum::Plain, Proven::No);
        let interval = Duration::from_secs(1);
        Said { at: at(seconds), priority: 100, interval, checksum, authentication }
    }

    fn known(senders: &Senders) -> Vec<IpAddr> {
        senders.list.iter().map(|sender| sender.source).collect()
    }

    #[test]
    fn refused_packets_displace_no_router() {
        let mut senders = Senders::default();
        senders.heard(address(1), Some(2), said(1), 3);
        for last in 10..20 {
            senders.refused(address(last), Some(3), 2, None, (at(u64::from(last)), 3));
        }
        assert_eq!(known(&senders), [1, 18, 19].map(address));
        assert_eq!(senders.others, 8);
        // Routers displace those, and then the one that was silent longest.
        for (last, second) in [(2, 21), (3, 22), (1, 23), (4, 24)] {
            senders.heard(address(last), Some(2), said(second), 3);
        }
        assert_eq!(known(&senders), [1, 3, 4].map(address));
        senders.refused(address(9), None, 0, None, (at(30), 3));
        assert_eq!((known(&senders), senders.others), ([1, 3, 4].map(address).into(), 11));
    }

    #[test]
    fn each_reason_has_a_number_of_its_own() {
        let mut senders = Senders::default();
        for kind in [5, 5, 18, 99] {
            senders.refused(address(1), Some(2), kind, None, (at(1), 3));
        }
        let counts = senders.list[0].refused;
        assert_eq!((counts[5], counts[18], counts.iter().sum::<u32>()), (2, 1, 3));
    }
}
