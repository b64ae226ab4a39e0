//! `lvs_sync_daemon`: while its instance is master, the daemon that sends IPVS connections runs; otherwise the one
//! that receives them. Without an instance both run as long as this process does.

use super::Engine;
use super::event::InstanceId;
use super::object::Claimant;
use crate::model;
use crate::plan::sync::{SyncDaemon, SyncRole};
use crate::plan::{Object, ObjectId};

impl Engine {
    /// Claims the daemons of an instance, for its current state and after its next change of state.
    pub(super) fn claim_daemons(
        &mut self,
        entries: &mut Vec<ObjectId>,
        all: &model::Vrrp,
        config: &model::Instance,
        id: InstanceId,
    ) {
        let tied = all.sync_daemon.as_ref();
        let Some(settings) = tied.filter(|s| s.instance.as_ref() == Some(&config.name)) else {
            return;
        };
        for (role, claimant) in
            [(SyncRole::Master, Claimant::Instance(id)), (SyncRole::Backup, Claimant::Standby(id))]
        {
            let daemon = SyncDaemon::of(settings, role, config.vrid.get());
            let object = Object::SyncDaemon(Box::new(daemon));
            entries.push(self.objects.claim(object, claimant));
        }
    }

    /// Claims the daemons without an instance.
    pub(super) fn claim_daemons_of_host(&mut self, all: &model::Vrrp) {
        let untied = all.sync_daemon.as_ref().filter(|settings| settings.instance.is_none());
        let roles = [SyncRole::Master, SyncRole::Backup].into_iter();
        for daemon in
            untied.into_iter().flat_map(|s| roles.clone().map(|r| SyncDaemon::of(s, r, 0)))
        {
            self.objects.claim(Object::SyncDaemon(Box::new(daemon)), Claimant::Host);
        }
    }
}
