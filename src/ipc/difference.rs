//! The part of `checker` as the difference to the part before, so that a small change of a large configuration is
//! decoded and compared as a small one. What the roles do with a part is theirs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CheckerPart;
use crate::model::{Global, Lvs, Service, Shared};

/// A part without the services that an earlier one contains as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    global: Global,
    /// Everything but the services.
    lvs: Lvs,
    pieces: Vec<Piece>,
}

/// Consecutive services of the new part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Piece {
    /// Those of the earlier part from a position on.
    Same { from: u32, count: u32 },
    /// Another one.
    New(Shared<Service>),
}

impl Difference {
    /// The difference from the services of the earlier part. Only what both share in memory counts as the same.
    #[must_use]
    pub fn between(old: &[Shared<Service>], new: &CheckerPart) -> Self {
        let CheckerPart { global, lvs } = new;
        let places: BTreeMap<usize, u32> =
            old.iter().zip(0..).map(|(service, place)| (service.number(), place)).collect();
        let mut pieces: Vec<Piece> = Vec::new();
        for service in &lvs.services {
            let piece = match (places.get(&service.number()).copied(), pieces.last_mut()) {
                (Some(place), Some(Piece::Same { from, count })) if *from + *count == place => {
                    *count += 1;
                    continue;
                }
                (Some(place), _) => Piece::Same { from: place, count: 1 },
                (None, _) => Piece::New(service.clone()),
            };
            pieces.push(piece);
        }
        let lvs = Lvs { services: Vec::new(), tls: lvs.tls.clone(), ..*lvs };
        Self { global: global.clone(), lvs, pieces }
    }

    /// The new part, given the services of the earlier one; none if they do not fit. No service stands in a part twice, so
    /// a few octets cannot stand for any number of them.
    #[must_use]
    pub fn apply(self, old: &[Shared<Service>]) -> Option<CheckerPart> {
        let Self { global, mut lvs, pieces } = self;
        let mut left = old.len();
        for piece in pieces {
            match piece {
                Piece::Same { from, count } => {
                    let (from, count) = (usize::try_from(from).ok()?, usize::try_from(count).ok()?);
                    let to = from.checked_add(count)?;
                    left = left.checked_sub(count)?;
                    lvs.services.extend_from_slice(old.get(from..to)?);
                }
                Piece::New(service) => lvs.services.push(service),
            }
        }
        Some(CheckerPart { global, lvs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::frame;
    use crate::model::sample;

    /// Services with these weights.
    fn part(weights: &[u32]) -> CheckerPart {
        let of = |weight: &u32| {
            let mut service = sample::balanced().services.remove(0);
            service.servers.iter_mut().for_each(|server| server.weight = *weight);
            service
        };
        let services = weights.iter().map(of).collect();
        CheckerPart {
            lvs: Lvs { services, flush: true, ..Lvs::default() },
            ..CheckerPart::default()
        }
    }

    /// The new part as it arrives, and the number of octets.
    fn pass(old: &CheckerPart, new: &CheckerPart) -> (CheckerPart, usize) {
        let octets = postcard::to_allocvec(&Difference::between(&old.lvs.services, new)).unwrap();
        let difference: Difference = frame::open(&octets).unwrap();
        (difference.apply(&old.lvs.services).unwrap(), octets.len())
    }

    #[test]
    fn only_what_changed_is_sent_and_the_rest_stays_shared() {
        let old = part(&[1; 100]);
        let mut new = old.clone();
        let (same, least) = pass(&old, &new);
        assert_eq!(same, old);
        new.lvs.services.swap(10, 20);
        new.lvs.services[50].quorum = 7;
        new.lvs.services.remove(70);
        new.lvs.services.insert(30, part(&[9]).lvs.services.remove(0));
        new.lvs.flush_on_stop = true;
        let (arrived, octets) = pass(&old, &new);
        assert_eq!(arrived, new);
        let shared = arrived
            .lvs
            .services
            .iter()
            .filter(|new| old.lvs.services.iter().any(|old| old.is(new)));
        assert_eq!(shared.count(), 98);
        let whole = postcard::to_allocvec(&new).unwrap().len();
        assert!(octets - least < whole / 20, "{octets} of {whole}");
    }

    #[test]
    fn equal_services_that_are_not_shared_are_sent() {
        let (old, new) = (part(&[1, 2]), part(&[1, 2]));
        let difference = Difference::between(&old.lvs.services, &new);
        assert!(difference.pieces.iter().all(|piece| matches!(piece, Piece::New(_))));
    }

    #[test]
    fn a_difference_to_another_part_is_refused() {
        let (old, new) = (part(&[1; 5]), part(&[1; 5]));
        let difference = Difference::between(&old.lvs.services, &old);
        assert_eq!(difference.clone().apply(&old.lvs.services[..4]), None);
        let other = Piece::Same { from: u32::MAX, count: u32::MAX };
        let difference = Difference { pieces: vec![other], ..difference };
        assert_eq!(difference.clone().apply(&new.lvs.services), None);
        // A few octets for many services.
        let again = || Piece::Same { from: 0, count: 5 };
        let difference = Difference { pieces: vec![again(), again()], ..difference };
        assert_eq!(difference.apply(&old.lvs.services), None);
    }
}
