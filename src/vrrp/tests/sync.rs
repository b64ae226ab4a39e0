//! `lvs_sync_daemon`: the IPVS sync daemons that run in each state.

use super::*;
use crate::model::SyncSettings;

const MASTER: &str = "IPVS sync daemon (master) on enp0s9";
const BACKUP: &str = "IPVS sync daemon (backup) on enp0s9";

/// An instance and daemons, which follow its state or run independently.
fn config(priority: u8, tied: bool) -> Vrrp {
    let mut config = failover(priority);
    let name = config.instances[0].name.clone();
    let mut settings = SyncSettings::following(name, "enp0s9".parse().unwrap());
    if !tied {
        settings.instance = None;
    }
    config.sync_daemon = Some(settings);
    config
}

/// The operations on daemons.
fn daemons(host: &mut Host) -> Vec<String> {
    let all = host.ops().into_iter().filter(|op| op.contains("daemon")).collect();
    host.look();
    all
}

#[test]
fn the_daemon_follows_the_state() {
    let mut host = Host::new(config(100, true));
    assert_eq!(daemons(&mut host), [format!("+{BACKUP}")]);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    let change = [format!("+{MASTER}"), format!("-{BACKUP}")];
    assert_eq!(sorted(daemons(&mut host)), change);
    host.hear(PEER, 200);
    assert_eq!(host.state(), State::Backup);
    assert_eq!(sorted(daemons(&mut host)), [format!("+{BACKUP}"), format!("-{MASTER}")]);
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(daemons(&mut host), [format!("-{BACKUP}")]);
}

#[test]
fn a_master_that_stops_stops_its_daemon() {
    let mut host = Host::new(config(200, true));
    host.pass(10 * SECOND);
    daemons(&mut host);
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(daemons(&mut host), [format!("-{MASTER}")]);
}

#[test]
fn without_an_instance_both_run_in_every_state() {
    let mut host = Host::new(config(100, false));
    assert_eq!(sorted(daemons(&mut host)), [format!("+{BACKUP}"), format!("+{MASTER}")]);
    host.pass(10 * SECOND);
    host.hear(PEER, 200);
    assert_eq!(daemons(&mut host), [""; 0]);
    host.event(Event::Stop { keep_addresses: false });
    assert_eq!(sorted(daemons(&mut host)), [format!("-{BACKUP}"), format!("-{MASTER}")]);
}

#[test]
fn a_reload_changes_what_is_different() {
    let mut host = Host::new(config(100, true));
    daemons(&mut host);
    let mut other = config(100, true);
    host.event(Event::Reload(Arc::new(other.clone())));
    assert_eq!(daemons(&mut host), [""; 0]);
    if let Some(settings) = &mut other.sync_daemon {
        settings.ttl = Some(9);
    }
    host.event(Event::Reload(Arc::new(other.clone())));
    assert_eq!(daemons(&mut host), [format!("={BACKUP}")]);
    other.sync_daemon = None;
    host.event(Event::Reload(Arc::new(other)));
    assert_eq!(daemons(&mut host), [format!("-{BACKUP}")]);
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}
