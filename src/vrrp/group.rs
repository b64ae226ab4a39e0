//! Sync groups: instances that are master together or not at all.

use super::event::InstanceId;
use super::notify::{self, Word};
use super::{Action, Cx, Engine, Health};
use crate::model;
use crate::status::vrrp::State;

/// A sync group at work.
#[derive(Debug)]
pub(super) struct Group {
    pub config: model::SyncGroup,
    pub members: Vec<InstanceId>,
    pub state: State,
    /// A state that is to be announced after those of the members.
    pub unannounced: Option<State>,
    pub announced: Option<State>,
    pub mailed: Option<State>,
}

impl Group {
    pub const fn new(config: model::SyncGroup, members: Vec<InstanceId>) -> Self {
        Self {
            config,
            members,
            state: State::Init,
            unannounced: None,
            announced: None,
            mailed: None,
        }
    }
}

impl Engine {
    /// The members of the group of an instance, itself included; itself alone if it is in none.
    pub(super) fn fellows(&self, id: InstanceId) -> Vec<InstanceId> {
        self.instance(id)
            .and_then(|i| self.groups.get(i.group?))
            .map_or_else(|| vec![id], |group| group.members.clone())
    }

    /// The worst of what the members can.
    pub(super) fn health_of_all(&self, members: &[InstanceId]) -> Health {
        members.iter().map(|id| self.health(*id)).max().unwrap_or(Health::Fit)
    }

    /// Whether a member whose silence lasted long enough may become master: every other member is master or
    /// would like to be.
    pub(super) fn others_agree(&self, id: InstanceId) -> bool {
        self.fellows(id)
            .into_iter()
            .filter(|other| *other != id)
            .all(|other| self.instance(other).is_some_and(|i| i.is_master() || i.wishes_master))
    }

    /// Notes and logs the state of a group after its members changed theirs.
    pub(super) fn group_entered(&mut self, cx: &mut Cx<'_>, id: InstanceId, state: State) {
        let Some(index) = self.instance(id).and_then(|i| i.group) else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        if group.state == state {
            return;
        }
        group.state = state;
        group.unannounced = Some(state);
        tracing::info!(
            state = state.word(),
            "VRRP_Group({}) Syncing instances to {state} state",
            group.config.name
        );
        self.announce_group(cx, index);
    }

    /// Announces the state of a group once all its members have announced theirs.
    pub(super) fn announce_group(&mut self, cx: &mut Cx<'_>, index: usize) {
        let Some(group) = self.groups.get(index) else { return };
        let waiting = group
            .members
            .iter()
            .any(|id| self.instance(*id).is_some_and(|i| i.unannounced.is_some()));
        if waiting {
            return;
        }
        let Some(group) = self.groups.get_mut(index) else { return };
        let Some(state) = group.unannounced.take() else { return };
        if group.announced.replace(state) == Some(state) {
            return;
        }
        if let Some(notice) = notify::of_group(group, Word::State(state)) {
            cx.out.push(Action::Notify(notice));
        }
    }
}
