//! The properties of each role.

use core::time::Duration;

use caps::Capability;

use crate::ipc::RoleName;
use crate::sys::landlock::Reach;
use crate::sys::seccomp::Calls;

/// Longest delay of work that is combined, such as passing on the result of many changes.
pub const TICK: Duration = Duration::from_millis(500);
/// Time from one heartbeat of a role to the next, except for the VRRP process.
pub const BEAT: Duration = Duration::from_secs(4);

/// The needs and the restart policy of a role.
pub struct Row {
    /// Its name for `ps`, at most 15 octets.
    pub title: &'static core::ffi::CStr,
    /// The suffix of the daemon's name in the log, if any.
    pub log: &'static str,
    pub keep: &'static [Capability],
    /// Those of them that it cannot work without.
    pub needs: &'static [Capability],
    /// Its other restrictions: it becomes the user `evervip`, if that exists and the daemon is root, cannot gain
    /// privileges, and is limited to these. None for the process that executes users' programs.
    pub confined: Option<Confined>,
    /// Longest time between heartbeats before it is killed; for the VRRP process see [`patience`].
    pub patience: Duration,
    /// Whether its heartbeats continue until its process ends, so that silence while it stops is noticed.
    pub beats_to_the_end: bool,
    /// The delay before a restart.
    pub delays: Delays,
    /// Memory that it keeps for the next configuration, in octets; 0: as little as possible.
    pub keeps_memory: u32,
}

/// The restrictions of a confined role.
#[derive(Clone, Copy, Debug)]
pub struct Confined {
    /// System calls.
    pub calls: Calls,
    /// Files and ports it can reach.
    pub reach: Reach,
}

/// Files that the C library reads: time zones, names of hosts and users, its own modules.
const LIBRARY: &[&str] = &[
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
    // Targets of symbolic links in /etc.
    "/run/NetworkManager",
    "/run/nscd",
    "/run/resolvconf",
    "/run/systemd/resolve",
];

/// Sockets of the log.
const LOCAL: &[libc::c_int] = &[libc::AF_UNIX];
/// The same, and those needed to look up the addresses of names and interfaces.
const NAMES: &[libc::c_int] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// The same, and packet sockets.
const LINKS: &[libc::c_int] =
    &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// The restart policy of a role. A role that ran for a minute is restarted at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delays {
    /// At once, five times in a row; then after 0.1 s, 0.2 s and so on up to 5 s. Every moment counts, but a
    /// process that ends as soon as it starts must not keep the machine busy. Each second that one runs makes up for
    /// one end.
    AtOnce,
    /// After 0, 1, 2, 4, 8, 16, 32, 60, 60 … seconds, as keepalived.
    Backoff,
}

impl Delays {
    /// The consecutive ends that count, after a process that ran this long.
    #[must_use]
    pub fn forgiven(self, failures: u32, ran: Duration) -> u32 {
        match self {
            Self::AtOnce => {
                failures.saturating_sub(u32::try_from(ran.as_secs()).unwrap_or(u32::MAX))
            }
            Self::Backoff => failures,
        }
    }

    /// The delay after `failures` consecutive ends.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        match (self, failures) {
            (_, 0 | 1) => Duration::ZERO,
            (Self::AtOnce, 2..=5) => Duration::ZERO,
            (Self::AtOnce, n) => (Duration::from_millis(100) * 2_u32.saturating_pow(n - 6))
                .min(Duration::from_secs(5)),
            (Self::Backoff, n) => {
                Duration::from_secs(2_u64.saturating_pow(n - 2)).min(Duration::from_secs(60))
            }
        }
    }
}

/// How long a role may take until its first heartbeat: it has to be loaded and to read its settings.
pub const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// Longest time between heartbeats of the other roles.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest time after which a silent VRRP process is killed, whatever its interval: a busy machine can delay a
/// healthy one.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest such time.
const LONGEST: Duration = Duration::from_secs(2);
/// Heartbeats of the VRRP process in that time. Its adverts wake it about as often, so a heartbeat usually needs no
/// wake-up of its own.
const BEATS: u32 = 2;

/// Time from one heartbeat of the VRRP process to the next, given its shortest interval between adverts.
#[must_use]
pub fn beat(advert_interval: Option<Duration>) -> Duration {
    advert_interval.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST) / BEATS
}

/// The silence after which the VRRP process is killed, given its shortest interval between adverts.
///
/// Other routers take over three intervals and a skew after the last advert, which may be an interval old when the
/// process hangs. So a hang is detected within an interval and a quarter, which leaves nearly another interval for
/// the replacement to send an advert.
#[must_use]
pub fn patience(advert_interval: Option<Duration>) -> Duration {
    advert_interval.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST) * 5 / 4
}

/// Silence of a stopping role that [`Row::beats_to_the_end`] after which it is killed, if it neither works nor lacks a
/// processor. Others take over a skew after its last advert, which is most of an interval, so the addresses must be
/// gone by then; starting a process that removes them takes time as well.
pub const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// The row of a role.
#[must_use]
pub const fn row(role: RoleName) -> Row {
    use Capability as C;
    match role {
        RoleName::Config => Row {
            title: c"evervipd-config",
            log: "",
            // The configuration may belong to another user.
            keep: &[C::CAP_DAC_READ_SEARCH],
            needs: &[],
            confined: Some(Confined {
                // INET, INET6: names of hosts. NETLINK: the addresses of this machine.
                calls: Calls { families: NAMES, listens: false, writes: false, schedules: false },
                reach: Reach { reads: &["/"], writes: &[], tcp: true },
            }),
            patience: Duration::MAX,
            beats_to_the_end: false,
            delays: Delays::Backoff,
            // It ends soon.
            keeps_memory: u32::MAX,
        },
        RoleName::Vrrp => Row {
            title: c"evervipd-vrrp",
            log: "vrrp",
            // SYS_NICE, IPC_LOCK: a reload can ask for real-time priority and locked memory.
            keep: &[C::CAP_NET_ADMIN, C::CAP_NET_RAW, C::CAP_SYS_NICE, C::CAP_IPC_LOCK],
            needs: &[C::CAP_NET_ADMIN, C::CAP_NET_RAW],
            confined: Some(Confined {
                calls: Calls { families: LINKS, listens: false, writes: true, schedules: true },
                // `disable_ipv6` of the interfaces that it creates, and `disable_local_igmp`, can only be set in this way.
                reach: Reach {
                    reads: LIBRARY,
                    writes: &[
                        "/proc/sys/net/ipv6/conf",
                        "/proc/sys/net/ipv4/igmp_link_local_mcast_reports",
                    ],
                    tcp: false,
                },
            }),
            patience: LONGEST,
            beats_to_the_end: true,
            delays: Delays::AtOnce,
            keeps_memory: 0,
        },
        RoleName::Runner => Row {
            title: c"evervipd-runner",
            log: "runner",
            // DAC_OVERRIDE: tracked files may belong to others. Whether a program may be executed is checked as the
            // user that runs it.
            // NET_ADMIN: needed for process events. SYS_PTRACE: /proc shows other users' processes also where it is mounted
            // with `hidepid`.
            keep: &[
                C::CAP_SETUID,
                C::CAP_SETGID,
                C::CAP_KILL,
                C::CAP_DAC_OVERRIDE,
                C::CAP_NET_ADMIN,
                C::CAP_SYS_PTRACE,
            ],
            // Whether they are needed depends on the users that run the programs.
            needs: &[],
            // A program that runs as root, or a setuid program, must be able to do its work.
            confined: None,
            patience: PATIENCE,
            beats_to_the_end: false,
            delays: Delays::AtOnce,
            keeps_memory: 0,
        },
        RoleName::Checker => Row {
            title: c"evervipd-check",
            log: "healthcheckers",
            // SYS_RESOURCE: more descriptors than the default limit, one for each probe under way.
            // SYS_NICE, IPC_LOCK: a reload can ask for real-time priority and locked memory.
            keep: &[
                C::CAP_NET_ADMIN,
                C::CAP_NET_RAW,
                C::CAP_SYS_NICE,
                C::CAP_SYS_RESOURCE,
                C::CAP_IPC_LOCK,
            ],
            needs: &[C::CAP_NET_ADMIN],
            confined: Some(Confined {
                calls: Calls { families: LINKS, listens: false, writes: false, schedules: true },
                reach: Reach { reads: LIBRARY, writes: &[], tcp: true },
            }),
            patience: PATIENCE,
            beats_to_the_end: false,
            // The servers are not checked meanwhile.
            delays: Delays::AtOnce,
            // A reload reuses the memory of the previous configuration.
            keeps_memory: 16 << 20,
        },
        RoleName::Api => Row {
            title: c"evervipd-api",
            log: "api",
            keep: &[],
            needs: &[],
            confined: Some(Confined {
                calls: Calls { families: LOCAL, listens: true, writes: false, schedules: false },
                reach: Reach { reads: LIBRARY, writes: &[], tcp: false },
            }),
            patience: PATIENCE,
            beats_to_the_end: false,
            delays: Delays::Backoff,
            keeps_memory: 0,
        },
    }
}

pub const ALL: [RoleName; 5] =
    [RoleName::Config, RoleName::Vrrp, RoleName::Checker, RoleName::Runner, RoleName::Api];

/// The capabilities that the daemon needs.
#[must_use]
pub fn needed() -> Vec<Capability> {
    let mut all: Vec<Capability> = ALL.iter().flat_map(|role| row(*role).needs).copied().collect();
    all.sort_by_key(|one| one.index());
    all.dedup();
    all
}

/// The rows as in docs/operations.md.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "| process | user | capabilities | sockets | reads | writes | seccomp, Landlock |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for role in ALL {
        let Row { title, keep, confined, .. } = row(role);
        let names: Vec<String> =
            keep.iter().map(|c| c.to_string().trim_start_matches("CAP_").to_owned()).collect();
        let keep = if names.is_empty() { "none".into() } else { names.join(", ") };
        let title = title.to_string_lossy();
        page += &match confined {
            Some(Confined { calls, reach }) => {
                let families: Vec<&str> = calls.families.iter().map(|f| family(*f)).collect();
                let reads =
                    if reach.reads == ["/"] { "all files" } else { "what the C library reads" };
                let families = families.join(", ");
                let writes: Vec<String> = reach.writes.iter().map(|w| format!("`{w}`")).collect();
                let writes = if writes.is_empty() { "nothing".into() } else { writes.join(", ") };
                format!(
                    "| `{title}` | `evervip` | {keep} | {families} | {reads} | {writes} | yes |\n"
                )
            }
            None => format!("| `{title}` | root | {keep} | any | any | any | no |\n"),
        };
    }
    page
}

fn family(number: libc::c_int) -> &'static str {
    match number {
        libc::AF_UNIX => "UNIX",
        libc::AF_INET => "INET",
        libc::AF_INET6 => "INET6",
        libc::AF_NETLINK => "NETLINK",
        libc::AF_PACKET => "PACKET",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_the_table() {
        let text = include_str!("../../docs/operations.md");
        assert!(text.contains(&page()), "docs/operations.md is to hold this:\n{}", page());
    }

    #[test]
    fn delays_grow_as_documented() {
        let seconds = |n| Delays::Backoff.after(n).as_secs();
        let got: Vec<u64> = (1..=10).map(seconds).collect();
        assert_eq!(got, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let millis = |n| Delays::AtOnce.after(n).as_millis();
        let got: Vec<u128> = (1..=13).map(millis).collect();
        assert_eq!(got, [0, 0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(Delays::AtOnce.after(u32::MAX).as_secs(), 5);
        // One that is ended from outside every second is always restarted at once, one that cannot run is not.
        let (mut killed, mut broken) = (0, 0);
        for _ in 0..100 {
            killed = Delays::AtOnce.forgiven(killed, Duration::from_millis(1_050)) + 1;
            broken = Delays::AtOnce.forgiven(broken, Duration::from_millis(900)) + 1;
            assert!(Delays::AtOnce.after(killed).is_zero());
        }
        assert_eq!(Delays::AtOnce.after(broken).as_secs(), 5);
        assert_eq!(Delays::Backoff.forgiven(7, Duration::from_secs(50)), 7);
        assert_eq!(Delays::Backoff.after(u32::MAX).as_secs(), 60);
    }

    #[test]
    fn a_wedge_is_found_within_an_interval_and_a_quarter() {
        for (interval, beats, silence) in
            [(10, 250, 625), (500, 250, 625), (1_000, 500, 1_250), (40_950, 1_000, 2_500)]
        {
            let of = Some(Duration::from_millis(interval));
            assert_eq!(beat(of).as_millis(), beats, "{interval} ms");
            assert_eq!(patience(of).as_millis(), silence, "{interval} ms");
        }
        assert_eq!(patience(None).as_millis(), 2_500);
    }

    #[test]
    fn servers_are_not_left_unchecked_for_long_nor_scripts_not_run() {
        for role in [RoleName::Checker, RoleName::Runner] {
            let delays = row(role).delays;
            assert!((1..=5).all(|failures| delays.after(failures) < Duration::from_secs(1)));
            assert!((6..100).all(|failures| delays.after(failures) <= Duration::from_secs(5)));
        }
    }

    #[test]
    fn titles_fit() {
        for role in ALL {
            assert!(row(role).title.to_bytes().len() <= 15);
        }
    }
}
