//! Behavior after a stall of the process, and the sizes of its queues.

use super::*;
use crate::model::extras::InstanceExtras;
use crate::model::vrrp::ReceiveBuffers;

/// A master of priority 100 that sends each second, with the highest priority of the others.
fn master(others: Option<u8>) -> Host {
    let mut config = failover(100);
    let instance = &mut config.instances[0];
    instance.preempt = Preempt::Never;
    let extras = InstanceExtras { timer_expired_backup: others, ..Default::default() };
    instance.extras = Some(Box::new(extras));
    let mut host = Host::new(config);
    host.pass(10 * SECOND);
    assert_eq!(host.state(), State::Master);
    // The last advert was just sent.
    let next = host.engine.advert_deadline().unwrap();
    host.now = next;
    host.event(Event::Timer);
    host.look();
    host
}

#[test]
fn a_master_that_was_stalled_for_too_long_leaves_without_a_farewell() {
    // Three intervals and the skew of priority 128: half a second.
    let limit = 3_500 * MS;
    let mut host = master(Some(128));
    host.now = host.now + limit;
    host.event(Event::Timer);
    assert_eq!(host.state(), State::Backup);
    assert_eq!(host.priorities(), Vec::<u8>::new());
    assert_eq!(host.ops(), ["-10.0.2.100/24"]);
    // It becomes master again if no other router is.
    host.pass(4 * SECOND);
    assert_eq!(host.state(), State::Master);

    let mut host = master(Some(128));
    host.now = host.now + (limit - MS);
    host.event(Event::Timer);
    assert_eq!((host.state(), host.priorities()), (State::Master, vec![100]));

    let mut host = master(None);
    host.now = host.now + 100 * SECOND;
    host.event(Event::Timer);
    assert_eq!((host.state(), host.priorities()), (State::Master, vec![100]));
}

#[test]
fn whoever_took_over_meanwhile_stays_master() {
    for (others, state) in [(Some(128), State::Backup), (None, State::Master)] {
        let mut host = master(others);
        host.now = host.now + 4 * SECOND;
        // A packet that arrived during the stall is processed first.
        host.hear(PEER, 50);
        host.event(Event::Timer);
        assert_eq!((host.state(), host.priorities().is_empty()), (state, others.is_some()));
    }
}

#[test]
fn queues_are_as_long_as_all_instances_need_together() {
    let size = |policy, own: Option<u32>| {
        let mut config = failover(100);
        config.receive_buffers = policy;
        let mut second = config.instances[0].clone();
        second.name = "VRRP2".into();
        second.vrid = Vrid::new(42).unwrap();
        second.version = Version::V3;
        second.authentication = Authentication::None;
        second.extras =
            Some(Box::new(InstanceExtras { receive_buffer: own, ..Default::default() }));
        config.instances.push(second);
        Host::new(config).engine.receive_buffer()
    };
    assert_eq!(size(ReceiveBuffers::Kernel, None), 0);
    assert_eq!(size(ReceiveBuffers::Kernel, Some(5_000)), 5_000);
    assert_eq!(size(ReceiveBuffers::Bytes(1_000), None), 2_000);
    assert_eq!(size(ReceiveBuffers::Bytes(1_000), Some(5_000)), 6_000);
    assert_eq!(size(ReceiveBuffers::Mtu(3), None), 2 * 3 * 1_500);
    // 20 for IP, 8 for VRRP, 4 for the address, 8 for the password of version 2.
    assert_eq!(size(ReceiveBuffers::Advert(2), None), 2 * (40 + 32));
    assert_eq!(size(ReceiveBuffers::Bytes(u32::MAX), None), 2 * u64::from(u32::MAX));
}

#[test]
fn queues_shrink_with_the_instances() {
    let mut config = failover(100);
    config.receive_buffers = ReceiveBuffers::Bytes(1_000);
    let mut second = config.instances[0].clone();
    second.name = "VRRP2".into();
    second.vrid = Vrid::new(42).unwrap();
    config.instances.push(second);
    let mut host = Host::new(config.clone());
    assert_eq!(host.engine.receive_buffer(), 2_000);
    config.instances.pop();
    host.event(Event::Reload(Arc::new(config)));
    assert_eq!(host.engine.receive_buffer(), 1_000);
}
