//! Lines for notify FIFOs.

use super::*;
use crate::model::extras::InstanceExtras;

/// The lines that are to be written.
fn lines(host: &Host) -> Vec<String> {
    host.notices().iter().filter(|n| n.to_fifo).map(|n| n.line.to_string()).collect()
}

fn config(priority: u8) -> Vrrp {
    let mut config = failover(priority);
    let instance = &mut config.instances[0];
    instance.notify = Default::default();
    instance.notify.fifo = true;
    sample::track(instance, "check", 20);
    config.scripts.push(sample::script("check", 1, 1));
    config
}

#[test]
fn a_change_of_the_priority_is_a_line_if_asked_for() {
    for asked in [false, true] {
        let mut config = config(100);
        let extras = InstanceExtras { notify_priority_changes: asked, ..Default::default() };
        config.instances[0].extras = Some(Box::new(extras));
        let mut host = Host::new(config);
        host.end_run(RunEnd::Exit(0));
        let mut want = vec!["INSTANCE \"VRRP1\" BACKUP_PRIORITY 120"];
        want.retain(|_| asked);
        assert!(
            lines(&host).iter().filter(|l| l.contains("PRIORITY")).eq(want),
            "{:?}",
            lines(&host)
        );
        host.pass(5 * SECOND);
        assert_eq!(host.state(), State::Master);
        let before = lines(&host).len();
        host.end_run(RunEnd::Exit(1));
        let mut want = vec!["INSTANCE \"VRRP1\" MASTER_PRIORITY 100"];
        want.retain(|_| asked);
        assert_eq!(lines(&host)[before..], want);
    }
}

#[test]
fn lines_need_no_program_and_no_mail() {
    let mut host = Host::new(config(200));
    host.end_run(RunEnd::Exit(0));
    host.pass(10 * SECOND);
    host.hear(PEER, 50);
    host.event(Event::Stop { keep_addresses: false });
    let words: Vec<String> = lines(&host)
        .iter()
        .map(|line| line.split(' ').nth(2).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(words, ["BACKUP", "MASTER", "MASTER_RX_LOWER_PRI", "STOP"]);
}

#[test]
fn states_are_written_again_after_a_reload_if_asked_for() {
    let mut config = config(200);
    let mut host = Host::new(config.clone());
    host.end_run(RunEnd::Exit(0));
    host.pass(10 * SECOND);
    for asked in [false, true] {
        config.fifo_states_on_reload = asked;
        host.look();
        host.event(Event::Reload(config.clone().into()));
        let mut want = vec!["INSTANCE \"VRRP1\" MASTER 220"];
        want.retain(|_| asked);
        assert_eq!(lines(&host), want);
        assert!(host.notices().iter().all(|n| n.commands.is_empty() && n.mail.is_none()));
    }
}

#[test]
fn the_state_of_a_group_is_written_again_after_that_of_its_members() {
    let mut config = sample::nat(200);
    config.fifo_states_on_reload = true;
    for instance in &mut config.instances {
        instance.notify.fifo = true;
    }
    let name = config.groups[0].name.clone();
    for fifo in [true, false] {
        config.groups[0].notify.fifo = fifo;
        let mut host = Host::new(config.clone());
        host.pass(10 * SECOND);
        host.look();
        host.event(Event::Reload(config.clone().into()));
        let members = config.instances.iter();
        let mut want: Vec<String> =
            members.map(|i| format!("INSTANCE \"{}\" MASTER 200", i.name)).collect();
        want.extend(fifo.then(|| format!("GROUP \"{name}\" MASTER 0")));
        assert_eq!(lines(&host), want);
    }
}
