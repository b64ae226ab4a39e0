//! Attacks of a patient opponent: adverts recorded and sent again, and signals to any process at any moment.

use std::env;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::hostile::Random;
use crate::interop::without_authentication;
use crate::lab::daemon::{CONF, Daemon, Role, lives, signal_to};
use crate::lab::inject::{Injector, again};
use crate::lab::node::Node;
use crate::lab::service::mail;
use crate::lab::timeline::{Mark, Wall};
use crate::lab::{LIMIT, Lab, Res, fail, late};
use crate::scenario::{FAILOVER, LAN, Pair, replaced, steady, within};
use crate::{cases, check};

cases![Here:
    replayed_adverts_with_a_password_move_nothing_while_the_master_lives,
    replayed_adverts_of_version_3_move_nothing_while_the_master_lives,
    replayed_adverts_with_authentication_headers_move_nothing,
    replays_after_all_numbers_began_anew_are_got_over,
    a_role_that_ends_after_it_was_ready_gets_the_new_configuration_too,
    a_role_whose_restart_was_due_stays_when_a_reload_is_refused,
    a_stopped_process_of_a_killed_daemon_is_in_nobodys_way,
    processes_are_killed_at_any_moment_of_a_reload,
    processes_are_killed_at_any_moment_of_a_start_and_a_stop,
];

const VIP: &str = "10.0.0.100";
const SCRIPT: &str = "/usr/local/bin/on_state_change";

fn with_ah(text: &str) -> String {
    text.replace("auth_type PASS", "auth_type AH")
}

/// The failover scenario with a machine that sends recorded adverts again.
struct Replay {
    pair: Pair,
    texts: [String; 2],
    daemons: [Daemon; 2],
    injector: Injector,
}

impl Replay {
    fn new(lab: &mut Lab, change: impl Fn(&str) -> String) -> Res<Self> {
        let pair = Pair::new(lab)?;
        let attacker: Node = lab.node("attacker")?;
        lab.plug(&attacker, "lan", LAN, &["10.0.0.66/24"])?;
        let injector = Injector::new(&attacker, LAN)?;
        let texts = FAILOVER.map(change);
        let daemons = pair.start(&lab.subject, [&texts[0], &texts[1]])?;
        lab.always().address(&pair.svr1, VIP, true)?;
        lab.always().some_adverts(&pair.svr1, 3)?;
        Ok(Self { pair, texts, daemons, injector })
    }

    /// All adverts of both so far.
    fn recorded(&self, lab: &Lab) -> Vec<Vec<u8>> {
        let both = [&self.pair.svr1, &self.pair.svr2];
        let all = both.into_iter().flat_map(|node| lab.always().adverts(node));
        all.filter_map(|(_, advert)| again(&advert)).collect()
    }

    /// Sends these after each of some adverts of the master; nothing may follow.
    fn survives(&self, lab: &Lab, frames: &[Vec<u8>], master: &Node, backup: &Node) -> Res {
        let mark = lab.mark();
        let later = lab.after(mark);
        for round in 1..=3 {
            self.injector.send(frames.to_vec())?;
            later.some_adverts(master, round)?;
        }
        // A backup that had counted one would have taken over by then.
        steady(lab, mark, master, 8)?;
        let moved = later.kernel(master);
        check!(moved.is_empty(), "{moved:?}");
        check!(later.adverts(backup).is_empty(), "{} sent adverts", backup.name);
        Ok(())
    }
}

fn replayed_adverts_with_a_password_move_nothing_while_the_master_lives(lab: &mut Lab) -> Res {
    unprotected(lab, str::to_owned)
}

fn replayed_adverts_of_version_3_move_nothing_while_the_master_lives(lab: &mut Lab) -> Res {
    unprotected(lab, |text| {
        without_authentication(text).replace("advert_int 1", "advert_int 1\n version 3")
    })
}

fn unprotected(lab: &mut Lab, change: impl Fn(&str) -> String) -> Res {
    let replay = Replay::new(lab, change)?;
    let [svr1, svr2] = [&replay.pair.svr1, &replay.pair.svr2];
    replay.survives(lab, &replay.recorded(lab), svr1, svr2)?;
    let vrrp = replay.daemons[0].role(Role::Vrrp)?;
    signal_to(vrrp, Signal::SIGKILL)?;
    replaced(lab, &replay.daemons[0], Role::Vrrp, vrrp)?;
    lab.after(lab.mark()).some_adverts(svr1, 1)?;
    replay.survives(lab, &replay.recorded(lab), svr1, svr2)?;
    // Nothing protects these: a farewell sent again starts an election, which the better router wins.
    replay.daemons[0].stop()?;
    lab.always().address(svr2, VIP, true)?;
    let mark = lab.mark();
    lab.subject.start(svr1)?;
    lab.after(mark).address(svr1, VIP, true)?;
    lab.after(mark).address(svr2, VIP, false)?;
    let mark = lab.mark();
    replay.injector.send(replay.recorded(lab))?;
    lab.after(mark).some_adverts(svr1, 5)?;
    settled(lab, [svr1, svr2])?;
    lab.after(lab.mark()).some_adverts(svr1, 5)?;
    settled(lab, [svr1, svr2])
}

fn replayed_adverts_with_authentication_headers_move_nothing(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it takes some of them for new")?;
    let replay = Replay::new(lab, with_ah)?;
    let [svr1, svr2] = [&replay.pair.svr1, &replay.pair.svr2];
    replay.survives(lab, &replay.recorded(lab), svr1, svr2)?;
    // So it is after the process was replaced.
    for daemon in &replay.daemons {
        let vrrp = daemon.role(Role::Vrrp)?;
        signal_to(vrrp, Signal::SIGKILL)?;
        replaced(lab, daemon, Role::Vrrp, vrrp)?;
        lab.after(lab.mark()).some_adverts(svr1, 1)?;
        replay.survives(lab, &replay.recorded(lab), svr1, svr2)?;
    }
    // The master has left; its adverts do not bring it back.
    let mark = lab.mark();
    replay.daemons[0].stop()?;
    lab.after(mark).address(svr2, VIP, true)?;
    lab.after(mark).some_adverts(svr2, 2)?;
    replay.survives(lab, &replay.recorded(lab), svr2, svr1)?;
    // It returns and continues the numbers of the other one.
    let mark = lab.mark();
    lab.subject.start(svr1)?;
    lab.after(mark).address(svr1, VIP, true)?;
    lab.after(mark).address(svr2, VIP, false)?;
    lab.after(mark).some_adverts(svr1, 2)?;
    replay.survives(lab, &replay.recorded(lab), svr1, svr2)
}

/// No router remembers the numbers of before: what was recorded then may count, but for one election only.
fn replays_after_all_numbers_began_anew_are_got_over(lab: &mut Lab) -> Res {
    let mut replay = Replay::new(lab, with_ah)?;
    let [svr1, svr2] = [replay.pair.svr1.clone(), replay.pair.svr2.clone()];
    lab.always().some_adverts(&svr1, 12)?;
    let recorded = replay.recorded(lab);
    for daemon in &replay.daemons {
        daemon.stop()?;
    }
    let mark = lab.mark();
    replay.daemons = replay.pair.start(&lab.subject, [&replay.texts[0], &replay.texts[1]])?;
    lab.after(mark).address(&svr1, VIP, true)?;
    let mark = lab.mark();
    replay.injector.send(recorded.clone())?;
    lab.after(mark).some_adverts(&svr1, 8)?;
    settled(lab, [&svr1, &svr2])?;
    // The same adverts are old now.
    replay.survives(lab, &recorded, &svr1, &svr2)
}

/// Waits until exactly one of these machines has the address and the other one does not send.
fn settled(lab: &Lab, [master, backup]: [&Node; 2]) -> Res {
    lab.timeline().poll(LIMIT, "one of them has the address", || {
        let has = [master.has(LAN, "10.0.0.100/24")?, backup.has(LAN, "10.0.0.100/24")?];
        Ok((has == [true, false]).then_some(()))
    })
}

/// The failover example; the primary has a notify script and logs all details.
fn notified(lab: &mut Lab, more: &str) -> Res<(Pair, [Daemon; 2], String)> {
    lab.subject.ours_only("it does not replace its processes")?;
    let pair = Pair::new(lab)?;
    let lines = format!("notify \"{SCRIPT}\"\n {more}");
    let text = within(FAILOVER[0], "vrrp_instance VRRP1 {", &lines);
    pair.svr1.write(SCRIPT, "#!/bin/sh\necho \"$@\" >>/run/told\n", 0o755)?;
    pair.svr1.write(CONF, &text, 0o644)?;
    pair.svr2.write(CONF, FAILOVER[1], 0o644)?;
    let options = ["-D", "-D", "-f", CONF];
    let primary = lab.subject.start_with(&pair.svr1, &options)?;
    let backup = lab.subject.start(&pair.svr2)?;
    lab.always().some_garps(&pair.svr1, VIP.parse()?, 10)?;
    Ok((pair, [primary, backup], text))
}

/// The runner is held up, so the reload is still being prepared when the VRRP process, which has decoded it, is killed.
fn a_role_that_ends_after_it_was_ready_gets_the_new_configuration_too(lab: &mut Lab) -> Res {
    let (pair, [daemon, _backup], text) = notified(lab, "")?;
    let (vrrp, runner) = (daemon.role(Role::Vrrp)?, daemon.role(Role::Runner)?);
    pair.svr1.write(
        CONF,
        &text.replace(" 10.0.0.100/24", " 10.0.0.100/24\n 10.0.0.101/24"),
        0o644,
    )?;
    let mark = lab.mark();
    signal_to(runner, Signal::SIGSTOP)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&pair.svr1, "vrrp is ready for the new configuration")?;
    signal_to(vrrp, Signal::SIGKILL)?;
    replaced(lab, &daemon, Role::Vrrp, vrrp)?;
    signal_to(runner, Signal::SIGCONT)?;
    lab.after(mark).log(&pair.svr1, "Reload complete")?;
    lab.after(mark).address(&pair.svr1, "10.0.0.101", true)?;
    let refused = lab.after(mark).logs(&pair.svr1, "refused");
    check!(refused.is_empty(), "{refused:?}");
    let late = lab.after(mark).logs(&pair.svr1, "still waiting for");
    check!(late.is_empty(), "{late:?}");
    check!(lab.after(mark).adverts(&pair.svr2).is_empty(), "the backup took over");
    steady(lab, lab.mark(), &pair.svr1, 3)
}

/// The runner waits for its restart when a reload begins, which starts it at once, and is refused then.
fn a_role_whose_restart_was_due_stays_when_a_reload_is_refused(lab: &mut Lab) -> Res {
    let (pair, [daemon, _backup], _) = notified(lab, "")?;
    // The first times it is restarted at once, after the eleventh time 3.2 s later.
    for _ in 0..10 {
        let runner = daemon.role(Role::Runner)?;
        signal_to(runner, Signal::SIGKILL)?;
        replaced(lab, &daemon, Role::Runner, runner)?;
    }
    let (vrrp, runner) = (daemon.role(Role::Vrrp)?, daemon.role(Role::Runner)?);
    let mark = lab.mark();
    signal_to(runner, Signal::SIGKILL)?;
    lab.after(mark).log(&pair.svr1, "runner process")?;
    signal_to(vrrp, Signal::SIGSTOP)?;
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&pair.svr1, "Starting runner process")?;
    // As if the new configuration had crashed it; a killed one would take that with its next process.
    signal_to(vrrp, Signal::SIGABRT)?;
    signal_to(vrrp, Signal::SIGCONT)?;
    lab.after(mark).log(&pair.svr1, "reload refused, the running configuration stays in force")?;
    replaced(lab, &daemon, Role::Vrrp, vrrp)?;
    pair.cables[0].cut()?;
    lab.timeline().poll(LIMIT, "the script is told of the fault", || {
        let told = pair.svr1.read("/run/told").unwrap_or_default();
        Ok(told.contains("INSTANCE VRRP1 FAULT 200").then_some(()))
    })
}

/// Nothing but SIGKILL ends a stopped process. Its daemon is dead, so the next one has to do that.
fn a_stopped_process_of_a_killed_daemon_is_in_nobodys_way(lab: &mut Lab) -> Res {
    let (pair, [daemon, _backup], _) = notified(lab, "")?;
    let all = [Role::Vrrp, Role::Api].map(|role| daemon.role(role));
    let mark = lab.mark();
    for pid in all {
        signal_to(pid?, Signal::SIGSTOP)?;
    }
    daemon.signal(Signal::SIGKILL)?;
    daemon.ended(mark)?;
    // Nobody speaks for the address any more.
    lab.after(mark).address(&pair.svr2, VIP, true)?;
    let mark = lab.mark();
    let daemon = lab.subject.start(&pair.svr1)?;
    lab.after(mark).some_adverts(&pair.svr1, 3)?;
    settled(lab, [&pair.svr1, &pair.svr2])?;
    complete(lab, &daemon)?;
    let socket = lab.after(mark).logs(&pair.svr1, "no control socket");
    check!(socket.is_empty(), "{socket:?}");
    check!(daemon.stop()?, "the exit status is not zero");
    nothing_left(lab, &pair.svr1)
}

/// How often the loops below attack; `EVERVIP_ATTACKS` sets more.
fn rounds(usual: usize) -> usize {
    env::var("EVERVIP_ATTACKS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// A random sequence that each run can repeat: `EVERVIP_SEED`.
fn random(lab: &Lab) -> Random {
    let seed = env::var("EVERVIP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    lab.note(format!("EVERVIP_SEED={seed}"));
    Random::new(seed)
}

/// The process of the control socket is not one of them: it comes back later and later, up to a minute.
const TARGETS: [Role; 3] = [Role::Vrrp, Role::Runner, Role::Config];
/// What happens to a process: it is killed, or stopped and continued.
const HARM: [Signal; 2] = [Signal::SIGKILL, Signal::SIGSTOP];

/// Reloads, with a process killed or stopped at a random moment of it, sometimes two: the reload is answered, no
/// process is missing or left over, and the address stays where it is.
fn processes_are_killed_at_any_moment_of_a_reload(lab: &mut Lab) -> Res {
    let more = "smtp_alert\n track_script {\n busy\n }";
    let (pair, [daemon, _backup], text) = notified(lab, more)?;
    mail(&pair.svr1)?;
    let script = "vrrp_script busy {\n script \"/bin/sleep 0.3\"\n interval 1\n user root\n}\n";
    let text = format!("{script}{text}");
    let mut random = random(lab);
    let other = text.replace(" 10.0.0.100/24", " 10.0.0.100/24\n 10.0.0.101/24");
    let begun = lab.mark();
    let open = descriptors(daemon.pid)?;
    for round in 0..rounds(8) {
        let new = [&text, &other][round % 2];
        pair.svr1.write(CONF, new, 0o644)?;
        let mark = lab.mark();
        daemon.signal(Signal::SIGHUP)?;
        let mut stopped = Vec::new();
        for _ in 0..=random.below(2) {
            sleep(Duration::from_micros(random.below(120_000) as u64));
            let (role, signal) = (TARGETS[random.below(TARGETS.len())], HARM[random.below(2)]);
            // A wedged VRRP process is replaced: that is another test. Here it goes on after a moment.
            if let Some(pid) = daemon.find(role) {
                lab.note(format!("round {round}: {signal} to {role:?} {pid}"));
                signal_to(pid, signal)?;
                if signal == Signal::SIGSTOP {
                    stopped.push(pid);
                }
            }
        }
        sleep(Duration::from_micros(random.below(300_000) as u64));
        for pid in stopped {
            signal_to(pid, Signal::SIGCONT)?;
        }
        answered(lab, mark, &pair.svr1)?;
        complete(lab, &daemon)?;
        check!(pair.svr1.has(LAN, "10.0.0.100/24")?, "round {round}: the address is gone");
    }
    // The last one is undisturbed: everything still works.
    pair.svr1.write(CONF, &other, 0o644)?;
    let mark = lab.mark();
    daemon.signal(Signal::SIGHUP)?;
    lab.after(mark).log(&pair.svr1, "Reload complete")?;
    lab.timeline().poll(LIMIT, "the second address", || {
        Ok(pair.svr1.has(LAN, "10.0.0.101/24")?.then_some(()))
    })?;
    never_both(lab, begun, &pair)?;
    lab.timeline().poll(LIMIT, "no descriptor is left over", || {
        // The process that waits for the next reload, if there is one, takes two.
        Ok((descriptors(daemon.pid)? <= open + 2).then_some(()))
    })?;
    check!(daemon.stop()?, "the exit status is not zero");
    nothing_left(lab, &pair.svr1)
}

/// The reload after the mark is applied or refused, and the log says so.
fn answered(lab: &Lab, mark: Mark, node: &Node) -> Res {
    lab.timeline().poll(LIMIT * 3, "the reload is answered", || {
        let later = lab.after(mark);
        let done =
            later.logs(node, "Reload complete").len() + later.logs(node, "reload refused").len();
        Ok((done > 0).then_some(()))
    })
}

/// All processes that the configuration needs run, each once, and no other but one that waits for the next reload.
fn complete(lab: &Lab, daemon: &Daemon) -> Res {
    let waited = lab.timeline().poll(LIMIT, "all processes run", || {
        let run =
            [Role::Vrrp, Role::Runner, Role::Api].iter().all(|role| daemon.find(*role).is_some());
        let reader = usize::from(daemon.find(Role::Config).is_some());
        // Programs of the runner come and go.
        let children = children(daemon.pid);
        Ok((run && children.len() == 3 + reader).then_some(()))
    });
    waited.map_err(|stop| {
        let title = |pid| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let shown: Vec<_> = children(daemon.pid).into_iter().map(title).collect();
        fail(format!("{stop:?}: {shown:?}"))
    })
}

/// The children of a process, zombies included.
fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn descriptors(pid: u32) -> Res<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Since the mark the two were masters at the same time for no longer than an election takes, and not both silent.
fn never_both(lab: &Lab, mark: Mark, pair: &Pair) -> Res {
    let mut all: Vec<(Wall, usize)> = Vec::new();
    for (number, node) in [&pair.svr1, &pair.svr2].into_iter().enumerate() {
        let sent = lab.after(mark).adverts(node).into_iter();
        all.extend(sent.filter(|(_, advert)| advert.priority() > 0).map(|(at, _)| (at, number)));
    }
    all.sort();
    for two in all.windows(2) {
        let gap = two[1].0.millis_since(two[0].0);
        // Master_Down_Interval of the backup, and one interval of a replaced process.
        let most = late::bound(5_000.0, two[0].0, two[1].0);
        check!(gap < most, "nobody was master for {gap} ms, at most {most}");
    }
    // Alternating adverts are those of two masters: four intervals of it are more than an election.
    let mut both: Option<Wall> = None;
    for two in all.windows(2) {
        if two[0].1 == two[1].1 {
            both = None;
            continue;
        }
        let since = *both.get_or_insert(two[0].0);
        let took = two[1].0.millis_since(since);
        let most = late::bound(4_000.0, since, two[1].0);
        check!(took < most, "two masters for {took} ms, at most {most}");
    }
    Ok(())
}

/// A stopped daemon leaves no process, no address and no file.
fn nothing_left(lab: &Lab, node: &Node) -> Res {
    check!(!node.has(LAN, "10.0.0.100/24")?, "{}", node.addresses(LAN)?);
    let files = node.must(["find", "/run", "-name", "*.pid"])?;
    check!(files.is_empty(), "pid files stayed behind: {files}");
    lab.timeline().poll(LIMIT, "no process is left", || {
        let alive = node.must(["ps", "-e", "-o", "args="])?;
        Ok((!alive.contains("evervipd")).then_some(()))
    })
}

/// Starts and stops, with a process killed or stopped at a random moment of each, the supervisor as well.
fn processes_are_killed_at_any_moment_of_a_start_and_a_stop(lab: &mut Lab) -> Res {
    lab.subject.ours_only("it does not replace its processes")?;
    let pair = Pair::new(lab)?;
    let script = "vrrp_script busy {\n script \"/bin/sleep 0.3\"\n interval 1\n user root\n}\n";
    let lines = format!("notify \"{SCRIPT}\"\n track_script {{\n busy\n }}");
    let text = format!("{script}{}", within(FAILOVER[0], "vrrp_instance VRRP1 {", &lines));
    pair.svr1.write(SCRIPT, "#!/bin/sh\necho \"$@\" >>/run/told\n", 0o755)?;
    pair.svr1.write(CONF, &text, 0o644)?;
    pair.svr2.write(CONF, FAILOVER[1], 0o644)?;
    lab.subject.start(&pair.svr2)?;
    lab.always().address(&pair.svr2, VIP, true)?;
    let begun = lab.mark();
    let mut random = random(lab);
    for round in 0..rounds(4) {
        let mut daemon = lab.subject.start(&pair.svr1)?;
        sleep(Duration::from_micros(random.below(400_000) as u64));
        let stopped = harm(lab, &daemon, &mut random, round)?;
        if !lives(daemon.pid) {
            // The supervisor itself: whoever starts it again finds everything as it should be.
            let mark = lab.mark();
            daemon = lab.subject.start(&pair.svr1)?;
            lab.after(mark).address(&pair.svr1, VIP, true).or_else(|stop| {
                pair.svr1.has(LAN, "10.0.0.100/24")?.then_some(Wall::now()).ok_or(stop)
            })?;
        }
        if let Some(pid) = stopped {
            sleep(Duration::from_micros(random.below(300_000) as u64));
            signal_to(pid, Signal::SIGCONT)?;
        }
        lab.timeline().poll(LIMIT * 2, "the primary is master", || {
            let has =
                pair.svr1.has(LAN, "10.0.0.100/24")? && !pair.svr2.has(LAN, "10.0.0.100/24")?;
            Ok(has.then_some(()))
        })?;
        complete(lab, &daemon)?;
        let end = lab.mark();
        daemon.signal(Signal::SIGTERM)?;
        sleep(Duration::from_micros(random.below(100_000) as u64));
        let roles = [Role::Vrrp, Role::Runner, Role::Api];
        let (role, signal) = (roles[random.below(3)], HARM[random.below(2)]);
        if let Some(pid) = daemon.find(role) {
            lab.note(format!("round {round}, stop: {signal} to {role:?} {pid}"));
            signal_to(pid, signal)?;
        }
        daemon.ended(end).map_err(|_| fail(format!("round {round}: the stop does not end")))?;
        nothing_left(lab, &pair.svr1)?;
        lab.timeline().poll(LIMIT, "the backup is master", || {
            Ok(pair.svr2.has(LAN, "10.0.0.100/24")?.then_some(()))
        })?;
    }
    never_both(lab, begun, &pair)
}

/// Kills or stops a random process of the daemon; returns the one to continue.
fn harm(lab: &Lab, daemon: &Daemon, random: &mut Random, round: usize) -> Res<Option<u32>> {
    let mut all = daemon.processes();
    if all.is_empty() {
        return Ok(None);
    }
    let pid = all.swap_remove(random.below(all.len()));
    let signal = HARM[random.below(2)];
    let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    lab.note(format!("round {round}, start: {signal} to {pid} {}", title.replace('\0', " ")));
    let mark = lab.mark();
    signal_to(pid, signal)?;
    if signal == Signal::SIGKILL && pid == daemon.pid {
        daemon.ended(mark)?;
    }
    Ok((signal == Signal::SIGSTOP).then_some(pid))
}
