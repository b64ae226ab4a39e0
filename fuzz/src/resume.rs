//! Summaries of a replaced process, with any content, read by the next one.

use std::sync::Arc;

use evervip::base::Instant;
use evervip::ipc::frame;
use evervip::model::sample;
use evervip::sim::kernel::Kernel;
use evervip::status::{check, vrrp};
use evervip::vrrp::{Actions, Engine, Event};

use super::check::World;

/// One octet that selects the engine, then the encoded summary. It causes no panic, and the result is what the
/// configuration requires.
pub fn resume(data: &[u8]) {
    let Some((kind, octets)) = data.split_first() else { return };
    match kind % 2 {
        0 => routers(octets),
        _ => servers(octets),
    }
}

fn routers(octets: &[u8]) {
    let Ok(summary) = frame::open::<vrrp::Summary>(octets) else { return };
    let mut now = Instant::from_nanos(1_000_000_000_000);
    let mut engine = Engine::new(now);
    let names: Vec<_> = ["enp0s8", "enp0s9"].iter().filter_map(|n| n.parse().ok()).collect();
    let kernel = Kernel::new(1, &names);
    let mut out = Actions::new();
    let config = Arc::new(sample::failover(200));
    let events =
        [Event::Resume(summary), Event::Kernel(kernel.snapshot()), Event::Reload(config.clone())];
    for event in events {
        out.clear();
        engine.handle(now, event, &mut out);
    }
    for _ in 0..200 {
        let Some(due) = engine.deadline() else { break };
        now = now.max(due);
        out.clear();
        engine.handle(now, Event::Timer, &mut out);
        assert!(out.list().len() < 1000, "{} actions for one event", out.list().len());
        let next = engine.deadline();
        assert!(next.is_none_or(|next| next > now), "a deadline that does not move on");
    }
    assert_eq!(engine.failures(), 0, "a step panicked");
    let view = engine.summary(now);
    let found: Vec<_> = view.instances.iter().map(|i| i.name.clone()).collect();
    let wanted: Vec<_> = config.instances.iter().map(|i| i.name.clone()).collect();
    assert_eq!(found, wanted, "the summary is no configuration");
}

fn servers(octets: &[u8]) {
    let Ok(summary) = frame::open::<check::Summary>(octets) else { return };
    let lvs = sample::balanced();
    let (mut fresh, mut resumed) = (World::new(), World::new());
    fresh.run(&lvs);
    resumed.resume(summary);
    resumed.run(&lvs);
    assert_eq!(fresh.kernel, resumed.kernel, "servers that are well are in service");
}
