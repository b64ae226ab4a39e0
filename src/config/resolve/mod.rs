//! From typed blocks to the model: defaults, inheritance, names, and what spans several blocks.
//!
//! A top-level block is resolved when it ends and thrown away; what only the end of the text can tell (members of
//! groups, ids used twice, scripts that nobody uses) waits in the [`Draft`].

pub(crate) mod address;
mod announce;
mod check;
pub(crate) mod command;
mod extras;
mod global;
mod group;
mod instance;
mod route;
mod script;
mod service;
mod track;
mod tracker;

use std::rc::Rc;

use indexmap::{IndexMap, IndexSet};

use self::command::Verdict;
use super::block::global::GlobalDefs;
use super::block::root::Root;
use super::codes;
use super::context::Cx;
use super::diagnostic::{Class, Diagnostic};
use super::lint::{self, Kept};
use super::schema::Block;
use super::span::Span;
use crate::base::{IfName, Name};
use crate::model::{Model, User};

/// What was understood so far.
#[derive(Debug)]
pub(crate) struct Draft {
    pub model: Model,
    /// `global_defs`. In a second reading the result of the first.
    global: GlobalDefs,
    /// Where `global_defs` of a second reading goes.
    scratch: Option<GlobalDefs>,
    /// Where the last `global_defs` stands.
    pub global_at: Span,
    /// A block looked at `global_defs`.
    used: bool,
    /// `global_defs` came after a block that had looked at it.
    late: bool,
    pub bad_script_user: bool,
    pub default_user: Option<Option<User>>,
    /// The first script that will run.
    pub scripts_run: Option<Span>,
    /// The first script that others than root could change.
    pub insecure: Option<(Span, String, String)>,
    pub verdicts: IndexMap<(Vec<u8>, u32, u32), Rc<Verdict>>,
    pub scripts: IndexMap<Name, script::ScriptDraft>,
    pub instances: IndexMap<Name, instance::Notes>,
    pub groups: IndexMap<Name, group::GroupDraft>,
    pub services: Vec<service::Notes>,
    /// Names of VMAC interfaces.
    pub vmac_names: IndexSet<IfName>,
    /// Scripts that this machine cannot run.
    pub lost_scripts: IndexSet<Name>,
    /// Files, processes and BFD sessions that can be tracked.
    pub objects: IndexMap<(track::Kind, Name), track::Object>,
    /// Where BFD instances stand, also those that were left out.
    pub bfds: IndexMap<Name, Span>,
    pub track_groups: IndexMap<Name, track::TrackGroupDraft>,
    /// Preferences given to rules without one, by family.
    pub next_preference: [u32; 2],
    /// Groups of services.
    pub service_groups: Vec<service::Group>,
    /// Services by group.
    pub group_services: Vec<service::GroupUse>,
    /// References to trackers that were not defined before: kind, name, place.
    pub unresolved: Vec<(track::Kind, Name, Span, Name)>,
    /// What the lints look at.
    pub kept: Kept,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            model: Model::default(),
            global: GlobalDefs::new((), Span::NONE),
            scratch: None,
            global_at: Span::NONE,
            used: false,
            late: false,
            bad_script_user: false,
            default_user: None,
            scripts_run: None,
            insecure: None,
            verdicts: IndexMap::new(),
            scripts: IndexMap::new(),
            instances: IndexMap::new(),
            groups: IndexMap::new(),
            services: Vec::new(),
            vmac_names: IndexSet::new(),
            lost_scripts: IndexSet::new(),
            objects: IndexMap::new(),
            bfds: IndexMap::new(),
            track_groups: IndexMap::new(),
            next_preference: [16384; 2],
            service_groups: Vec::new(),
            group_services: Vec::new(),
            unresolved: Vec::new(),
            kept: Kept::default(),
        }
    }
}

impl Draft {
    /// A draft for a second reading, in which `global_defs` is known from the start.
    pub(crate) fn second(first: Self) -> Self {
        Self {
            global: first.global,
            scratch: Some(GlobalDefs::new((), Span::NONE)),
            ..Self::default()
        }
    }

    /// Whether the text has to be read again, because `global_defs` stands after what depends on it.
    pub(crate) fn needs_second(&self) -> bool {
        self.late && self.scratch.is_none()
    }

    /// `global_defs` as far as it is known.
    pub(crate) fn global(&mut self) -> &GlobalDefs {
        self.used = true;
        &self.global
    }

    /// Puts `global_defs` in front of a document.
    pub(crate) fn describe(&self, document: &mut super::document::Document) {
        let Some(keyword) =
            super::block::root_table().keywords.iter().find(|k| k.name == "global_defs")
        else {
            return;
        };
        let nodes = self.global.nodes();
        if !nodes.is_empty() {
            document.nodes.insert(0, super::document::Node::block(keyword, Vec::new(), nodes));
        }
    }

    /// The block that `global_defs` statements are to fill.
    pub(crate) fn take_global(&mut self) -> GlobalDefs {
        self.late |= self.used;
        let empty = GlobalDefs::new((), Span::NONE);
        match &mut self.scratch {
            Some(scratch) => core::mem::replace(scratch, empty),
            None => core::mem::replace(&mut self.global, empty),
        }
    }

    pub(crate) fn put_global(&mut self, block: GlobalDefs) {
        match &mut self.scratch {
            Some(scratch) => *scratch = block,
            None => self.global = block,
        }
        self.used = false;
    }
}

/// Resolves what only the whole text can tell.
pub(crate) fn finish(root: Root, cx: &mut Cx<'_>) {
    cx.position.settle("", Span::NONE);
    if cx.options.document {
        cx.document.nodes.splice(0..0, root.nodes());
    }
    global::finish(&root, cx);
    address::statics(&root, cx);
    route::statics(&root, cx);
    track::finish(cx);
    group::finish(cx);
    script::finish(cx);
    instance::finish(cx);
    service::finish(cx);
    let without = cx.draft.global().vrrp_without_ipvs.value().is_some_and(|b| b.0);
    cx.draft.model.vrrp.needs_ipvs = !without && !cx.draft.model.lvs.services.is_empty();
    tracker::unresolved(cx);
    security(cx);
    if cx.options.lints {
        lint::run(cx);
    }
}

/// Says once that scripts run without script security, or that one of them is insecure.
fn security(cx: &mut Cx<'_>) {
    let Some(at) = cx.draft.scripts_run else {
        return;
    };
    if cx.draft.global().enable_script_security.is_set() {
        return;
    }
    let mut new = Diagnostic::environment(
        &codes::SECURITY_OFF,
        "scripts are run, but enable_script_security is not set",
    )
    .at(at)
    .label("for instance this one")
    .class(Class::Security)
    .help("add 'enable_script_security' and 'script_user USER' to global_defs");
    if let Some((_, reason, mend)) = cx.draft.insecure.take() {
        new = new.note(format!("there are insecure scripts: {reason}")).help(mend);
    }
    cx.report(new);
}
