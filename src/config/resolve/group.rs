//! `vrrp_sync_group`: members, and the effects of membership.

use indexmap::IndexSet;

use super::Load;
use super::announce::script;
use super::track::{Kind, tracked};
use super::tracker;
use crate::base::Name;
use crate::config::block::group::SyncGroup;
use crate::config::codes;
use crate::config::diagnostic::Diagnostic;
use crate::config::schema::Block;
use crate::config::secret::mark;
use crate::config::span::{Span, Spanned};
use crate::config::value::text::ObjectName;
use crate::model::extras::InstanceExtras;
use crate::model::notify::NotifyCommands;
use crate::model::vrrp::InitialState;
use crate::model::{self, Instance, Weight};

/// A group whose members may come later.
#[derive(Debug)]
pub(crate) struct GroupDraft {
    pub span: Span,
    end: Span,
    members: Vec<Spanned<ObjectName>>,
    /// Trackers of members keep their weights.
    weights: bool,
    /// `notify_priority_changes` of members that do not set it.
    priority_changes: Option<bool>,
    group: model::SyncGroup,
}

/// Whether to keep a block; a second one with its name is reported.
pub(super) fn wants(block: &SyncGroup, cx: &mut Load<'_>) -> bool {
    let name = &block.header.0;
    let Some(first) = cx.draft.groups.get(name).map(|g| g.span) else {
        return true;
    };
    cx.report(
        Diagnostic::error(
            &codes::DUPLICATE_NAME,
            format!("vrrp_sync_group {name} is already defined, this block is left out"),
        )
        .at(block.span)
        .related(first, "this one is used"),
    );
    false
}

pub(super) fn resolve(block: SyncGroup, cx: &mut Load<'_>) {
    let name = block.header.0.clone();
    let group = model::SyncGroup {
        name: name.clone(),
        members: Vec::new(),
        track_files: tracked(Kind::File, &block.track_file.items, &name, cx),
        track_processes: tracked(Kind::Process, &block.track_process.items, &name, cx),
        track_bfds: tracked(Kind::Bfd, &block.track_bfd.items, &name, cx),
        track_interfaces: tracker::interfaces(&block.track_interface.items, None, &name, cx),
        track_scripts: tracker::scripts(&block.track_script.items, &name, cx),
        notify: NotifyCommands {
            master: script(&block.notify_master, "notify_master", &name, cx),
            backup: script(&block.notify_backup, "notify_backup", &name, cx),
            fault: script(&block.notify_fault, "notify_fault", &name, cx),
            stop: script(&block.notify_stop, "notify_stop", &name, cx),
            any: script(&block.notify, "notify", &name, cx),
            deleted: None,
            master_rx_lower_pri: None,
            // Set together with those of the instances.
            fifo: false,
        },
        smtp_alert: match block.smtp_alert.value() {
            Some(own) => own.0,
            None => cx.draft.global().mail_vrrp(),
        },
    };
    let draft = GroupDraft {
        span: block.span,
        end: block.end,
        weights: block.sync_group_tracking_weight.is_set() || block.global_tracking.is_set(),
        priority_changes: block.notify_priority_changes.value().map(|b| b.0),
        members: block.group.items,
        group,
    };
    cx.draft.groups.insert(name, draft);
}

/// Finds the members of all groups.
pub(super) fn finish(cx: &mut Load<'_>) {
    let drafts = core::mem::take(&mut cx.draft.groups);
    for (name, mut draft) in drafts {
        let mut members: IndexSet<Name> = IndexSet::new();
        for member in &draft.members {
            let wanted = &member.value.0;
            let problem = match cx.draft.instances.get_mut(wanted) {
                None => Some(format!(
                    "virtual router {wanted} specified in sync group {name} does not exist, ignored"
                )),
                Some(notes) => match &notes.group {
                    Some(other) if *other != name => Some(format!(
                        "virtual router {wanted} cannot be in more than one sync group, {name} is ignored"
                    )),
                    Some(_) => None,
                    None => {
                        notes.group = Some(name.clone());
                        if notes.index.is_some() {
                            members.insert(wanted.clone());
                        }
                        None
                    }
                },
            };
            if let Some(message) = problem {
                cx.report(Diagnostic::error(&codes::UNKNOWN_REFERENCE, message).at(member.span));
            }
        }
        // A member that is in text that is not read as it was meant.
        let follows = draft.members.iter().map(|member| &member.value.0).any(|member| {
            cx.lost_names.contains(member.as_str().as_bytes())
                || !members.contains(member)
                    && cx.draft.instances.get(member).is_some_and(|notes| cx.is_lost(notes.span))
        });
        match members.len() {
            0 => {
                let message = format!("sync group {name} has no virtual routers, it is left out");
                let mut new =
                    Diagnostic::error(&codes::INCOMPLETE, message).at(draft.span).after(draft.end);
                if draft.members.is_empty() && !misplaced_members(&draft, cx) {
                    new = new.help(LIST);
                }
                new.hidden |= follows;
                cx.report(new);
                continue;
            }
            1 => {
                let message = format!(
                    "sync group {name} has only 1 virtual router, so nothing is synchronised"
                );
                let mut new = Diagnostic::warning(&codes::INCOMPLETE, message).at(draft.span);
                new.hidden |= follows;
                cx.report(new);
            }
            _ => {}
        }
        draft.group.members = members.into_iter().collect();
        join(&mut draft, cx);
        cx.draft.model.vrrp.groups.push(draft.group);
    }
}

/// The remedy for members outside of `group`.
const LIST: &str = "list the instances of a sync group in 'group { }'";

/// Explains names of instances that are outside of `group`, and returns whether there are some.
fn misplaced_members(draft: &GroupDraft, cx: &mut Load<'_>) -> bool {
    let table = SyncGroup::table().name;
    let (instances, reports) = (&cx.draft.instances, &mut cx.cx.reports);
    let mut found = false;
    for report in reports.iter_mut().filter(|r| *r.code == codes::UNKNOWN_KEYWORD) {
        let (unit, from, to) = (draft.span.unit, draft.span.start, draft.end.start);
        let inside = report.span.unit == unit && (from..to).contains(&report.span.start);
        let message = mark::plain(&report.message);
        let word = message.split('\'').nth(1).unwrap_or_default();
        if inside && report.subject.block == table && instances.keys().any(|n| n.as_str() == word) {
            report.help = vec![LIST.to_owned()];
            found = true;
        }
    }
    found
}

/// Removes settings of the members that conflict with the group.
fn join(draft: &mut GroupDraft, cx: &mut Load<'_>) {
    let indices: Vec<usize> =
        draft.group.members.iter().filter_map(|m| cx.draft.instances.get(m)?.index).collect();
    let mut all_master = true;
    let mut any_owner = false;
    let mut reports = Vec::new();
    for &index in &indices {
        let Some(instance) = cx.draft.model.vrrp.instances.get_mut(index) else {
            continue;
        };
        let owner = instance.priority.is_owner();
        any_owner |= owner;
        all_master &= owner && instance.state == InitialState::Master;
        if !draft.weights {
            without_weights(instance, &mut reports);
        }
    }
    for &index in &indices {
        let Some(instance) = cx.draft.model.vrrp.instances.get_mut(index) else {
            continue;
        };
        if !all_master {
            instance.state = InitialState::Backup;
        }
        let says = cx.draft.instances.get(&instance.name).is_some_and(|n| n.says_priority_changes);
        if let Some(on) = draft.priority_changes.filter(|_| !says) {
            instance.extras.get_or_insert_default().notify_priority_changes = on;
            instance.extras.take_if(|e| **e == InstanceExtras::default());
        }
    }
    if any_owner {
        for tracked in &mut draft.group.track_interfaces {
            tracked.weight = Weight::FAULT;
        }
        for tracked in &mut draft.group.track_scripts {
            tracked.weight = Weight::FAULT;
        }
        let group = &mut draft.group;
        for tracked in group.track_files.iter_mut().chain(&mut group.track_bfds) {
            tracked.weight = 0;
        }
    }
    for (name, message) in reports {
        let at = cx.draft.instances.get(&name).map_or(Span::NONE, |n| n.span);
        cx.report(
            Diagnostic::warning(&codes::NO_EFFECT_HERE, message)
                .at(at)
                .help("write 'weight 0', or 'sync_group_tracking_weight' in the group"),
        );
    }
}

/// A member changes its state with its group: trackers that would change its own priority do not
/// count.
fn without_weights(instance: &mut Instance, reports: &mut Vec<(Name, String)>) {
    let name = &instance.name;
    for tracked in &mut instance.track_interfaces {
        if matches!(tracked.weight, Weight::Priority { .. }) {
            reports.push((
                name.clone(),
                format!(
                    "({name}) ignoring weight of tracked interface {} due to sync group",
                    tracked.interface
                ),
            ));
            tracked.weight = Weight::FAULT;
        }
    }
    instance.track_scripts.retain(|tracked| {
        let weighted = matches!(tracked.weight, Weight::Priority { .. });
        if weighted {
            reports.push((
                name.clone(),
                format!(
                    "({name}) ignoring tracked script {} with a weight due to sync group",
                    tracked.script
                ),
            ));
        }
        !weighted
    });
    let Some(extras) = &mut instance.extras else {
        return;
    };
    let mut ignored = |what: &str, object: &Name| {
        reports.push((
            name.clone(),
            format!("({name}) ignoring weight from tracked {what} {object} due to sync group"),
        ));
    };
    extras.track_files.retain_mut(|tracked| match tracked.weight {
        0 => true,
        // The default weight of a file counts as none here.
        1 => {
            ignored("file", &tracked.name);
            tracked.weight = 0;
            true
        }
        _ => {
            ignored("file", &tracked.name);
            false
        }
    });
    extras.track_bfds.retain(|tracked| {
        if tracked.weight != 0 {
            ignored("bfd", &tracked.name);
        }
        tracked.weight == 0
    });
}

/// Takes instances out of the model and out of their groups.
pub(super) fn forget(names: &IndexSet<Name>, cx: &mut Load<'_>) {
    if names.is_empty() {
        return;
    }
    let vrrp = &mut cx.draft.model.vrrp;
    vrrp.instances.retain(|i| !names.contains(&i.name));
    for group in &mut vrrp.groups {
        group.members.retain(|m| !names.contains(m));
    }
    vrrp.groups.retain(|g| !g.members.is_empty());
    let places: indexmap::IndexMap<Name, usize> =
        vrrp.instances.iter().enumerate().map(|(i, instance)| (instance.name.clone(), i)).collect();
    for (name, notes) in &mut cx.draft.instances {
        notes.index = places.get(name).copied();
    }
}
