//! What the segment, scripts and people are told.

use super::*;

fn vip(last: u8) -> IpAddr {
    [10, 0, 2, last].into()
}

#[test]
fn each_address_is_announced_when_confirmed_and_all_again_later() {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    config.instances[0].excluded.push(sample::address("10.0.2.101/24", &interface));
    let mut host = Host::new(config);
    host.obedient = false;
    host.pass(3_219 * MS);
    assert_eq!(host.frames(), []);
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 1, outcome: Outcome::Done });
    assert_eq!(host.frames(), [(vip(101), 5)]);
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Already });
    assert_eq!(host.frames(), [(vip(101), 5), (vip(100), 5)]);
    host.look();
    host.pass(4_999 * MS);
    assert_eq!(host.frames(), []);
    host.pass(MS);
    assert_eq!(host.frames(), [(vip(100), 5), (vip(101), 5)]);
    host.look();
    host.pass(60 * SECOND);
    assert_eq!(host.frames(), []);
}

#[test]
fn refresh_and_spacing() {
    let mut config = failover(200);
    let interface = config.instances[0].interface.clone();
    config.instances[0].excluded.push(sample::address("10.0.2.101/24", &interface));
    let garp = &mut config.instances[0].garp;
    (garp.repeat, garp.delay, garp.refresh) = (2, Duration::ZERO, 10 * SECOND);
    garp.interval = 10 * MS;
    let mut host = Host::new(config);
    host.pass(3_219 * MS);
    // One frame at a time, each address in turn, ten milliseconds apart.
    assert_eq!(host.frames(), [(vip(100), 1)]);
    host.pass(10 * MS);
    assert_eq!(host.frames(), [(vip(100), 1), (vip(101), 1)]);
    host.pass(20 * MS);
    assert_eq!(host.frames()[2..], [(vip(100), 1), (vip(101), 1)]);
    host.look();
    host.pass(10 * SECOND);
    assert_eq!(host.frames(), [(vip(100), 1), (vip(101), 1)]);
    // Leaving forgets the rest.
    host.look();
    host.hear(PEER, 250);
    host.pass(3 * SECOND);
    assert_eq!(host.frames(), []);
}

#[test]
fn nothing_is_announced_where_addresses_are_not_resolved() {
    let mut host = Host::off();
    host.event(Event::Reload(Arc::new(failover(200))));
    let mut kernel = host.kernel();
    kernel.links[0].arp = false;
    host.event(Event::Kernel(kernel));
    host.pass(10 * SECOND);
    assert_eq!((host.state(), host.frames()), (State::Master, vec![]));
}

#[test]
fn scripts_hear_of_a_state_when_the_kernel_has_confirmed_it() {
    let mut host = Host::new(failover(200));
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" BACKUP 200"]);
    host.look();
    host.obedient = false;
    host.pass(3_219 * MS);
    assert_eq!(host.announced(), Vec::<String>::new());
    let (token, _) = host.apply();
    host.event(Event::Applied { token, item: 0, outcome: Outcome::Done });
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" MASTER 200"]);
    // A kernel that does not answer holds nobody up for more than a second.
    let mut host = Host::new(failover(200));
    host.obedient = false;
    host.pass(3_219 * MS);
    host.look();
    host.pass(999 * MS);
    assert_eq!(host.announced(), Vec::<String>::new());
    host.pass(MS);
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" MASTER 200"]);
}

#[test]
fn what_scripts_and_recipients_get() {
    let mut config = failover(200);
    let notify = &mut config.instances[0].notify;
    notify.master = Some(sample::command("/master"));
    notify.fault = Some(sample::command("/fault"));
    notify.stop = Some(sample::command("/stop"));
    let mut host = Host::new(config);
    host.pass(4 * SECOND);
    let notice = host.notices().pop().unwrap();
    let lines: Vec<String> = notice.commands.iter().map(model::Command::display).collect();
    assert_eq!(lines, ["/master", "/notify INSTANCE VRRP1 MASTER 200"]);
    assert_eq!((notice.subject.as_str(), notice.state.as_str()), ("instance VRRP1", "MASTER"));
    let mail = notice.mail.unwrap();
    assert_eq!(mail.subject, "VRRP Instance VRRP1 - Entering MASTER state");
    assert_eq!(mail.body, "=> VRRP Instance is now owning VRRP VIPs <=");
    assert_eq!(notice.limit, None);
    host.look();
    host.event(Event::Link(link(ETH, "enp0s8", false)));
    let notice = host.notices().pop().unwrap();
    let lines: Vec<String> = notice.commands.iter().map(model::Command::display).collect();
    assert_eq!(lines, ["/fault", "/notify INSTANCE VRRP1 FAULT 200"]);
    host.look();
    host.event(Event::Stop { keep_addresses: false });
    let notice = host.notices().pop().unwrap();
    assert_eq!(notice.limit, Some(SECOND));
    assert_eq!(notice.commands[1].display(), "/notify INSTANCE VRRP1 STOP 200");
    assert_eq!(notice.mail.unwrap().subject, "VRRP Instance VRRP1 - Stopping");
}

#[test]
fn the_script_for_adverts_of_lower_priority() {
    let mut config = failover(200);
    config.instances[0].notify.master_rx_lower_pri = Some(sample::command("/lower"));
    let mut host = Host::new(config);
    host.pass(4 * SECOND);
    host.look();
    host.hear(PEER, 100);
    assert_eq!(host.announced(), ["INSTANCE \"VRRP1\" MASTER_RX_LOWER_PRI 200"]);
    assert_eq!(host.notices()[0].commands[0].display(), "/lower");
}

#[test]
fn a_group_speaks_after_its_members() {
    let mut host = Host::new(sample::nat(200));
    assert_eq!(
        host.announced(),
        [
            "INSTANCE \"external\" BACKUP 200",
            "INSTANCE \"internal\" BACKUP 200",
            "GROUP \"VRRP1\" BACKUP 0"
        ]
    );
    host.look();
    host.pass(4 * SECOND);
    let announced = host.announced();
    assert_eq!(announced.len(), 3);
    assert_eq!(announced[2], "GROUP \"VRRP1\" MASTER 0");
    host.look();
    host.event(Event::Link(link(OTHER, "enp0s9", false)));
    // The member with the fault first.
    assert_eq!(
        host.announced(),
        [
            "INSTANCE \"internal\" FAULT 200",
            "INSTANCE \"external\" FAULT 200",
            "GROUP \"VRRP1\" FAULT 0"
        ]
    );
    // Only the one whose cable is cut cannot say goodbye; it does not try in vain either.
    assert_eq!(host.priorities().iter().filter(|p| **p == 0).count(), 2);
}
