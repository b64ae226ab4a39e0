//! The config role: reads the configuration, reports its problems, and passes each role its part.
//!
//! A process that read a large configuration stays as long as the supervisor keeps its channel: it reads the next one
//! with the results for blocks that did not change.

use core::time::Duration;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;

use serde::Serialize;

use super::Start;
use super::load::{LONGEST_VERDICT, MOST_REMARKS};
use crate::cli::exit::Exit;
use crate::config::{self, Diagnostic, Diagnostics, Earlier, Loaded, Options, Severity};
use crate::ipc::{
    Catalogue, CheckerPart, Difference, FromConfig, LoadReport, LoadRequest, Needs, Remark,
    RunnerPart, VrrpPart, frame,
};
use crate::log;
use crate::model::vrrp::Instance;
use crate::model::{Model, NotifyCommands, Service, Shared, Vrrp};
use crate::status::vrrp::TrackerKind;
use crate::sys::host::Machine;
use crate::sys::memfd;
use crate::sys::sched;
use crate::vrrp::auth;

/// How long after an answer unused memory is returned: the roles need the processor first.
const QUIET: Duration = Duration::from_secs(1);
/// Longest time of one wait for the supervisor's request.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs the role.
pub(super) fn run(start: Start) -> Exit {
    let (mut earlier, mut last, mut has_read) = (Earlier::default(), None, false);
    while let Some(request) = request(&start, &earlier, has_read) {
        has_read = true;
        if request.ahead {
            earlier = load(&request, start.user, earlier).1;
            continue;
        }
        match serve(&start, &request, earlier, last) {
            Ok((next, read)) => (earlier, last) = (next, Some(read)),
            Err(e) => {
                tracing::error!("cannot hand over the configuration: {e}");
                return Exit::Internal;
            }
        }
    }
    Exit::Ok
}

/// The virtual servers of a configuration, and the number of the request for it.
type Read = (u32, Vec<Shared<Service>>);

/// Answers a request, given what was read for the last one. Returns the same for the next one.
fn serve(
    start: &Start,
    request: &LoadRequest,
    earlier: Earlier,
    last: Option<Read>,
) -> io::Result<(Earlier, Read)> {
    let (loaded, next) = load(request, start.user, earlier);
    let mut remarks: Vec<Remark> = loaded
        .diagnostics
        .log_lines()
        .map(|(severity, text)| Remark { is_error: severity == Severity::Error, text })
        .collect();
    let mut length = 0;
    let short = remarks.iter().take(MOST_REMARKS).take_while(|remark| {
        length += remark.text.len() + 8;
        length < LONGEST_VERDICT / 2
    });
    let rest = remarks.split_off(short.count());
    tell(&loaded, &rest, request.dump);
    if let Some(file) = &start.file {
        record(&loaded.diagnostics, file);
    }
    let (report, parts, services) = answer(loaded, request, last)?;
    frame::encode(&FromConfig::Loaded(Box::new(report), remarks), parts)
        .and_then(|message| frame::send(&start.control, &message))
        .map_err(io::Error::other)?;
    Ok((next, (request.number, services)))
}

/// Waits for the request to read a configuration; none if the supervisor no longer needs this process.
fn request(start: &Start, earlier: &Earlier, has_read: bool) -> Option<LoadRequest> {
    let mut buffer = vec![0; frame::BUFFER];
    if has_read && !start.control.wait(QUIET).ok()? {
        let taken = sched::taken_memory();
        sched::trim();
        if !earlier.is_empty() {
            // About what the next read takes for the text and what it notes about the blocks.
            sched::populate(taken / 4);
        }
    }
    while !start.control.wait(PATIENCE).ok()? {}
    Some(frame::receive(&start.control, &mut buffer).ok()??.0)
}

fn load(request: &LoadRequest, daemon: (u32, u32), earlier: Earlier) -> (Loaded, Earlier) {
    if earlier.is_empty() {
        // Reserves the memory that the previous read took, because this one will need about as much.
        sched::prefault(request.memory);
    }
    // This process runs as a different user than the daemon and its programs.
    let machine = Machine::new().of_user(daemon);
    let mut options = Options::new(request.path.to_vec(), &machine);
    if let Some(id) = &request.id {
        options.config_id = id.as_bytes().to_vec();
    }
    options.all_checks = request.all_checks;
    options.document = request.dump;
    config::load_again(&machine, &machine, &options, earlier)
}

/// Logs what this process logs itself: the remarks beyond the supervisor's limit, and the dump.
fn tell(loaded: &Loaded, rest: &[Remark], dump: bool) {
    let mut count = 0_u32;
    // The queue of the log is bounded, and this process can wait.
    let mut pause = || {
        count += 1;
        if count.is_multiple_of(1000) {
            log::flush(Duration::from_secs(1));
        }
    };
    for Remark { is_error, text } in rest {
        if *is_error {
            tracing::error!("{text}");
        } else {
            tracing::warn!("{text}");
        }
        pause();
    }
    if dump {
        for line in String::from_utf8_lossy(&loaded.document.without_secrets()).lines() {
            tracing::info!("{line}");
            pause();
        }
    }
}

/// Writes the messages of a configuration test into the file of `reload_check_config`.
fn record(diagnostics: &Diagnostics, mut file: &File) {
    let text: String = diagnostics.log_lines().map(|(_, line)| line + "\n").collect();
    if let Err(e) = file.set_len(0).and_then(|()| file.write_all(text.as_bytes())) {
        tracing::warn!("reload_check_config: {e}");
    }
}

/// The verdict, sealed memory with the parts of `vrrp`, `checker` and `runner` and the difference to the last one of
/// `checker`, and the virtual servers.
fn answer(
    loaded: Loaded,
    request: &LoadRequest,
    last: Option<Read>,
) -> io::Result<(LoadReport, Vec<OwnedFd>, Vec<Shared<Service>>)> {
    let diagnostics = &loaded.diagnostics;
    let first = diagnostics.iter().rev().max_by_key(|d| (d.stops(), d.severity));
    let refusing = refusing(diagnostics, request);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut report = LoadReport {
        usable: !loaded.unusable(),
        errors: count(refusing.len()),
        first_error: refusing.first().map(|d| diagnostics.log_line(d)),
        mistakes: diagnostics.mistake_numbers(),
        asked: count(loaded.instances_asked),
        services_asked: count(loaded.services_asked),
        instances: count(loaded.model.vrrp.instances.len()),
        senders: count(loaded.model.vrrp.instances.iter().map(senders).sum()),
        tracked: count(tracked(&loaded.model.vrrp)),
        advert_interval: loaded.model.vrrp.shortest_interval(),
        exit_status: diagnostics.status(),
        first: first.map(|d| diagnostics.log_line(d)),
        global: loaded.model.global.clone(),
        needs: needs(&loaded.model),
        memory: 0,
        number: request.number,
        base: last.as_ref().map(|(number, _)| *number),
    };
    let Model { global, vrrp, lvs } = loaded.model;
    let runner = RunnerPart {
        global: global.clone(),
        vrrp: Catalogue::of_vrrp(&vrrp),
        checker: Catalogue::of_checker(&lvs),
        files: vrrp.track_files.clone(),
        processes: vrrp.track_processes.clone(),
    };
    let vrrp = VrrpPart { global: global.clone(), vrrp };
    let checker = CheckerPart { global, lvs };
    let mut parts = vec![
        seal(c"evervip-vrrp", &vrrp)?,
        seal(c"evervip-checker", &checker)?,
        seal(c"evervip-runner", &runner)?,
    ];
    if let Some((_, services)) = &last {
        parts.push(seal(c"evervip-change", &Difference::between(services, &checker))?);
    }
    report.memory = sched::taken_memory();
    Ok((report, parts, checker.lvs.services))
}

/// The errors that the running configuration does not have; with `reload_check_config`, everything that a configuration
/// test reports.
fn refusing<'a>(diagnostics: &'a Diagnostics, request: &'a LoadRequest) -> Vec<&'a Diagnostic> {
    if request.check.is_some() {
        return diagnostics.counted().collect();
    }
    match &request.known {
        Some(known) => diagnostics.new_errors(known).collect(),
        None => Vec::new(),
    }
}

/// Largest number of senders whose sequence numbers an instance remembers.
fn senders(instance: &Instance) -> usize {
    let peers = instance.unicast().map_or(auth::SENDERS, |unicast| unicast.peers.len());
    if instance.hmac().is_some() { peers } else { 0 }
}

/// What tracked objects take in a summary of `vrrp`, in octets.
fn tracked(vrrp: &Vrrp) -> usize {
    /// Everything but the name.
    const EACH: usize = 24;
    let scripts = vrrp.scripts.iter().map(|script| &script.name);
    let files = vrrp.track_files.iter().map(|file| &file.name);
    let processes = vrrp.track_processes.iter().map(|process| &process.name);
    let sessions = vrrp.bfds.iter().map(|session| &session.name);
    let all = scripts.chain(files).chain(processes).chain(sessions);
    all.map(|name| name.as_str().len() + EACH).sum()
}

fn seal<T: Serialize>(name: &CStr, part: &T) -> io::Result<OwnedFd> {
    memfd::seal_with(name, |file| {
        let mut buffered = BufWriter::with_capacity(64 << 10, file);
        postcard::to_io(part, &mut buffered).map_err(io::Error::other)?;
        buffered.flush()
    })
}

/// Which roles a configuration needs.
fn needs(model: &Model) -> Needs {
    let mail = model.global.mail.is_some();
    let vrrp = &model.vrrp;
    let tells = |commands: &NotifyCommands, alert: bool| {
        *commands != NotifyCommands::default() || (alert && mail)
    };
    let services = &model.lvs.services;
    let tracks = |kind| match kind {
        TrackerKind::Script => !vrrp.scripts.is_empty(),
        TrackerKind::File => !vrrp.track_files.is_empty(),
        TrackerKind::Process => !vrrp.track_processes.is_empty(),
        // They run in `vrrp` itself.
        TrackerKind::Bfd => false,
    };
    Needs {
        vrrp: !vrrp.instances.is_empty()
            || !vrrp.bfds.is_empty()
            || !vrrp.static_addresses.is_empty()
            || !vrrp.static_routes.is_empty()
            || !vrrp.static_rules.is_empty()
            || vrrp.sync_daemon.is_some(),
        checker: !services.is_empty(),
        vrrp_runner: TrackerKind::all().any(tracks)
            || vrrp.instances.iter().any(|i| tells(&i.notify, i.smtp_alert))
            || vrrp.groups.iter().any(|g| tells(&g.notify, g.smtp_alert)),
        checker_runner: services.iter().any(|s| {
            s.notify_fifo
                || s.quorum_up.is_some()
                || s.quorum_down.is_some()
                || (s.smtp_alert && mail)
                || s.servers.iter().any(|r| {
                    r.notify_up.is_some()
                        || r.notify_down.is_some()
                        || (r.smtp_alert && mail)
                        || r.checkers.iter().any(|c| c.kind.needs_runner())
                })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MemoryFiles, StaticHost};

    fn of(text: &str) -> Needs {
        let files = MemoryFiles::single("/k.conf", text.as_bytes());
        let host = StaticHost::default().with_all_interfaces();
        needs(&config::load(&files, &host, &Options::new("/k.conf", &host)).model)
    }

    const INSTANCE: &str = "interface eth0\nvirtual_router_id 1\npriority 100\n\
        virtual_ipaddress {\n10.0.0.1\n}\n";
    const MAIL: &str = "global_defs {\nnotification_email {\na@b.c\n}\nsmtp_server 10.0.0.9\n}\n";

    #[test]
    fn old_mistakes_are_known_however_many_there_are() {
        let addresses: String =
            (0..9000).map(|n| format!("10.0.{}.{}x\n", n / 250, n % 250)).collect();
        let text = format!(
            "vrrp_instance A {{\n{INSTANCE}virtual_ipaddress_excluded {{\n{addresses}}}\n}}\n"
        );
        let loaded = |text: &str| {
            let files = MemoryFiles::single("/k.conf", text.as_bytes());
            let host = StaticHost::default().with_all_interfaces();
            config::load(&files, &host, &Options::new("/k.conf", &host))
        };
        let mut request = LoadRequest {
            path: b"/k.conf"[..].into(),
            id: None,
            all_checks: false,
            dump: false,
            ahead: false,
            number: 0,
            memory: 0,
            known: None,
            check: None,
        };
        let (report, ..) = answer(loaded(&text), &request, None).unwrap();
        // The verdict of the running configuration, as it is sent, and half of the limit left for the messages.
        let sent = postcard::to_allocvec(&report).unwrap();
        assert!(sent.len() < LONGEST_VERDICT / 2, "{}", sent.len());
        // And one interface, which may be missing the next time.
        assert_eq!(report.mistakes.len(), 9001);
        request.known = Some(report.mistakes);
        assert_eq!(answer(loaded(&text), &request, None).unwrap().0.errors, 0);
        let more = text.replace("10.0.0.7x", "10.0.0.7x\n10.77.0.7x");
        assert_eq!(answer(loaded(&more), &request, None).unwrap().0.errors, 1);
    }

    #[test]
    fn only_what_is_needed_is_started() {
        assert_eq!(of(""), Needs::default());
        let vrrp = Needs { vrrp: true, ..Needs::default() };
        assert_eq!(of(&format!("vrrp_instance A {{\n{INSTANCE}}}\n")), vrrp);
        // A mail server alone is no reason; a recipient is.
        assert_eq!(of(&format!("{MAIL}vrrp_instance A {{\n{INSTANCE}}}\n")), vrrp);
        let runner = Needs { vrrp_runner: true, ..vrrp };
        let alert = format!("vrrp_instance A {{\n{INSTANCE}smtp_alert\n}}\n");
        assert_eq!(of(&alert), vrrp);
        assert_eq!(of(&format!("{MAIL}{alert}")), runner);
        let notify = format!("vrrp_instance A {{\n{INSTANCE}notify /usr/bin/true\n}}\n");
        assert_eq!(of(&notify), runner);
        let service = "virtual_server 10.0.0.1 80 {\nlb_algo rr\nreal_server 10.0.0.2 80 {\n";
        let checker = Needs { checker: true, ..Needs::default() };
        assert_eq!(of(&format!("{service}TCP_CHECK {{\n}}\n}}\n}}\n")), checker);
        let up = format!("{service}notify_up /usr/bin/true\nTCP_CHECK {{\n}}\n}}\n}}\n");
        assert_eq!(of(&up), Needs { checker_runner: true, ..checker });
    }
}
