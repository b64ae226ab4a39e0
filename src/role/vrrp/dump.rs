//! keepalived's dump files of this process. The supervisor writes them: this process may create no files.

use std::sync::Arc;

use crate::dump::{self, Cleared};
use crate::ipc::{Asked, DumpFile, FromRole};
use crate::model::{self, Global};
use crate::role::control::Control;
use crate::status::vrrp::Vrrp;
use crate::sys::{clock, memfd};

/// What the files need besides a view.
#[derive(Default)]
pub(super) struct Dumps {
    config: Arc<model::Vrrp>,
    json_version: u8,
    cleared: Cleared,
}

impl Dumps {
    /// A configuration comes into force.
    pub fn have(&mut self, global: &Global, config: Arc<model::Vrrp>) {
        self.json_version = global.settings.json_version;
        self.cleared.carry(&self.config, &config);
        self.config = config;
    }

    /// Passes the files that are asked for to the supervisor.
    pub fn write(&mut self, control: &mut Control, what: Asked, view: &Vrrp) {
        let wall = clock::wall().before(clock::now().since(view.at));
        let all = dump::Vrrp { config: &self.config, view, cleared: &self.cleared, wall };
        match what {
            Asked::Json => {
                if let Some(text) = all.json(self.json_version) {
                    send(control, DumpFile::Json, &text);
                }
            }
            Asked::Stats | Asked::StatsClear => {
                send(control, DumpFile::Stats, all.stats().as_bytes());
                count(view);
            }
            Asked::Data => {}
        }
        if what == Asked::StatsClear {
            self.cleared.clear(view);
        }
    }
}

fn send(control: &mut Control, file: DumpFile, text: &[u8]) {
    match memfd::seal(c"dump", text) {
        Ok(memory) => control.send(&FromRole::Dump(file), memory),
        Err(e) => tracing::warn!("cannot pass on a file of {} octets: {e}", text.len()),
    }
}

/// Logs the counters: a line for each instance, and one for packets that belong to none.
fn count(view: &Vrrp) {
    for i in &view.instances {
        let c = &i.counters;
        let dropped: Vec<String> = c
            .dropped()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let dropped = if dropped.is_empty() { "none".into() } else { dropped.join(", ") };
        tracing::debug!(
            instance = %i.name,
            "({}) statistics: adverts received {}, sent {}, not sent {}; became master {}, \
             released master {}; dropped: {dropped}",
            i.name,
            c.adverts_received,
            c.adverts_sent,
            c.adverts_unsent,
            c.became_master,
            c.released_master
        );
    }
    tracing::debug!(
        "statistics: packets for unknown VRIDs {}, malformed packets {}",
        view.unknown_vrid,
        view.malformed
    );
}
