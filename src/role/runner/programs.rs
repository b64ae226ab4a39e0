//! The programs that may be run: those of the current, the next and the previous configuration. Other processes only
//! refer to them by number; commands are never taken from messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::Name;
use crate::ipc::{Catalogue, Chosen, RoleName};
use crate::model::Command;

/// Programs of a configuration, by the role that may request them.
#[derive(Debug, Default)]
struct Of {
    vrrp: Catalogue,
    checker: Catalogue,
}

/// All that may be run.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// By number of the configuration, the newest last.
    known: Vec<(u32, Of)>,
    /// Programs under way whose status matters.
    running: BTreeMap<(RoleName, u32, u32), Arc<()>>,
    /// Number of refused requests.
    refused: u64,
}

impl Programs {
    /// Whether there is any configuration.
    pub const fn are_known(&self) -> bool {
        !self.known.is_empty()
    }

    /// A configuration was decoded.
    pub fn prepare(&mut self, generation: u32, vrrp: Catalogue, checker: Catalogue) {
        self.known.push((generation, Of { vrrp, checker }));
    }

    /// It is in force. The previous one still counts: the removal of its objects is announced.
    pub fn apply(&mut self, generation: u32) {
        if let Some(at) = self.known.iter().position(|(number, _)| *number == generation) {
            self.known.drain(..at.saturating_sub(1));
        }
        self.running.retain(|_, slots| Arc::strong_count(slots) > 1);
    }

    /// It does not come into force.
    pub fn abandon(&mut self, generation: u32) {
        self.known.retain(|(number, _)| *number != generation);
    }

    fn catalogue(&self, role: RoleName, generation: u32) -> Option<&Catalogue> {
        let (_, of) = self.known.iter().find(|(number, _)| *number == generation)?;
        match role {
            RoleName::Vrrp => Some(&of.vrrp),
            RoleName::Checker => Some(&of.checker),
            RoleName::Config | RoleName::Runner | RoleName::Api => None,
        }
    }

    /// A program whose status matters, and a permit to hold while it runs: a role needs one for each use of the program
    /// in the configuration, and one more while the previous run is being terminated.
    pub fn run(
        &mut self,
        role: RoleName,
        generation: u32,
        program: u32,
    ) -> Option<(Command, Arc<()>)> {
        let chosen = Chosen { entry: program, change: None };
        let found = self.catalogue(role, generation).and_then(|catalogue| {
            let entry = catalogue.entry(program).filter(|entry| entry.subject.is_empty())?;
            Some((catalogue.command(chosen)?, entry.uses as usize))
        });
        let Some((command, uses)) = found else {
            self.refuse(role, "a program that is not in the configuration");
            return None;
        };
        let slots = self.running.entry((role, generation, program)).or_default();
        if Arc::strong_count(slots) > 2 * uses {
            self.refuse(role, "more concurrent runs of a program than configured");
            return None;
        }
        Some((command, Arc::clone(slots)))
    }

    /// The subject of a notice, and its programs.
    pub fn notice(
        &mut self,
        role: RoleName,
        generation: u32,
        about: u32,
        programs: &[Chosen],
    ) -> Option<(Name, Vec<Command>)> {
        let found = self.catalogue(role, generation).and_then(|catalogue| {
            let subject = &catalogue.entry(about)?.subject;
            let commands: Option<Vec<Command>> = programs
                .iter()
                .map(|chosen| {
                    let entry = catalogue.entry(chosen.entry)?;
                    (entry.subject == *subject).then(|| catalogue.command(*chosen))?
                })
                .collect();
            // At most two per notice: one for the state and one for all changes.
            let commands = commands.filter(|commands| commands.len() <= 2)?;
            (!subject.is_empty()).then(|| (subject.clone(), commands))
        });
        if found.is_none() {
            self.refuse(role, "programs that are not in the configuration");
        }
        found
    }

    fn refuse(&mut self, role: RoleName, what: &str) {
        self.refused += 1;
        // A role that sends such requests may send very many.
        if self.refused.is_power_of_two() {
            tracing::error!("{role} asked for {what}, refused ({} so far)", self.refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::{Announced, Change};
    use crate::model::sample;

    fn vrrp() -> Catalogue {
        let mut vrrp = sample::failover(100);
        vrrp.scripts = vec![sample::script("check", 1, 1)];
        Catalogue::of_vrrp(&vrrp)
    }

    fn programs() -> Programs {
        let mut programs = Programs::default();
        assert!(!programs.are_known());
        programs.prepare(1, vrrp(), Catalogue::default());
        programs.apply(1);
        programs
    }

    /// Numbers of a program whose status matters, and of a notify program.
    fn places() -> (u32, u32) {
        let catalogue = vrrp();
        let place = |told: bool| {
            (0..).find(|n| catalogue.entry(*n).unwrap().tells.is_some() == told).unwrap()
        };
        (place(false), place(true))
    }

    const CHANGE: Option<Change> = Some(Change { state: Announced::Master, priority: 100 });

    #[test]
    fn only_what_is_configured_runs() {
        let mut programs = programs();
        let (check, any) = places();
        let vrrp = RoleName::Vrrp;
        assert!(programs.run(vrrp, 1, check).is_some());
        // No program of another kind, role or configuration, and none that does not exist.
        assert!(programs.run(vrrp, 1, any).is_none());
        assert!(programs.run(RoleName::Checker, 1, check).is_none());
        assert!(programs.run(vrrp, 2, check).is_none());
        assert!(programs.run(vrrp, 1, u32::MAX).is_none());
        let told = Chosen { entry: any, change: CHANGE };
        let (subject, commands) = programs.notice(vrrp, 1, any, &[told]).unwrap();
        assert!(!subject.is_empty());
        assert!(commands[0].display().ends_with("MASTER 100"), "{}", commands[0].display());
        assert!(programs.notice(vrrp, 1, any, &[Chosen { entry: any, change: None }]).is_none());
        assert!(programs.notice(vrrp, 1, check, &[]).is_none());
        assert!(programs.notice(vrrp, 1, any, &[Chosen { entry: check, change: None }]).is_none());
        assert!(programs.notice(vrrp, 1, any, &[told; 3]).is_none());
    }

    #[test]
    fn no_more_of_it_than_the_configuration_has() {
        let mut programs = programs();
        let (check, _) = places();
        let uses = vrrp().entry(check).unwrap().uses as usize;
        let mut held: Vec<Arc<()>> = Vec::new();
        while let Some((_, slot)) = programs.run(RoleName::Vrrp, 1, check) {
            held.push(slot);
            assert!(held.len() <= 2 * uses);
        }
        assert_eq!(held.len(), 2 * uses);
        held.pop();
        assert!(programs.run(RoleName::Vrrp, 1, check).is_some());
    }

    #[test]
    fn the_configuration_before_still_counts() {
        let mut programs = programs();
        let (check, _) = places();
        programs.prepare(2, vrrp(), Catalogue::default());
        // Other processes may apply it earlier than this one.
        assert!(programs.run(RoleName::Vrrp, 2, check).is_some());
        programs.abandon(2);
        assert!(programs.run(RoleName::Vrrp, 2, check).is_none());
        for generation in [3, 4] {
            programs.prepare(generation, vrrp(), Catalogue::default());
            programs.apply(generation);
        }
        for (generation, counts) in [(1, false), (3, true), (4, true)] {
            let found = programs.run(RoleName::Vrrp, generation, check).is_some();
            assert_eq!(found, counts, "{generation}");
        }
    }
}
