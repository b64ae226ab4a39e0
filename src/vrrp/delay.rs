//! Changes of links that count only after they have lasted (`interface_up_down_delays`).

use core::time::Duration;

use super::event::Link;
use super::{Engine, Moment, Timer};
use crate::base::{IfIndex, Instant};

impl Engine {
    /// Replaces the state of a link by the effective one: up or down as before until a change has lasted long enough. A
    /// link that was never up comes up at once.
    pub(super) fn delay_change(&mut self, moment: &mut Moment<'_>, link: &mut Link) {
        let index = link.index;
        let Some(counted) = self.links.get(&index).map(|l| l.up) else { return };
        if counted {
            self.were_up.insert(index);
        }
        if link.up == counted {
            if self.held.remove(&index).is_some() {
                tracing::info!("Delay timer for {} cancelled", link.name);
                self.set_delay_timer();
                self.flapped(moment, index);
            }
            return;
        }
        if !self.held.contains_key(&index) {
            let delay = self.delay_of(index, link.up);
            if delay.is_zero() {
                return;
            }
            let what = if link.up { "up" } else { "down" };
            let delay_us = delay.as_micros();
            tracing::info!("{}: Adding flags change to {what} delay by {delay_us}", link.name);
            self.held.insert(index, moment.now + delay);
            self.set_delay_timer();
        }
        link.up = counted;
    }

    /// A link is gone.
    pub(super) fn forget_delay(&mut self, index: IfIndex) {
        self.were_up.remove(&index);
        if self.held.remove(&index).is_some() {
            self.set_delay_timer();
        }
    }

    /// Changes have lasted long enough.
    pub(super) fn delays_over(&mut self, moment: &mut Moment<'_>) {
        let over = |at: &Instant| *at <= moment.now;
        let due: Vec<IfIndex> =
            self.held.iter().filter(|(_, at)| over(at)).map(|(index, _)| *index).collect();
        for index in due {
            self.held.remove(&index);
            if let Some(mut link) = self.links.get(&index).cloned() {
                link.up = !link.up;
                self.link_as_it_counts(moment, link);
            }
        }
        self.set_delay_timer();
    }

    fn set_delay_timer(&mut self) {
        let first = self.held.values().min().copied();
        self.set_timer(Timer::Delays, first);
    }

    /// How long a change must last. A loss must take effect before other routers stop waiting for this one.
    fn delay_of(&self, index: IfIndex, up: bool) -> Duration {
        if self.config.interface_delays.is_empty() {
            return Duration::ZERO;
        }
        let names = self.names_of(index);
        let mut all = self.config.interface_delays.iter();
        let Some(delay) = all.rfind(|delay| names.contains(&delay.interface)) else {
            return Duration::ZERO;
        };
        if up && !self.were_up.contains(&index) {
            return Duration::ZERO;
        }
        let mut longest = if up { delay.up } else { delay.down };
        for instance in self.on_link(index).iter().filter_map(|id| self.instance(*id)) {
            let lost = u32::from(instance.config.down_timer_adverts).saturating_sub(1);
            let interval = instance.config.advert_int.min(instance.master_interval);
            let limit = (interval * lost).saturating_sub(interval / 256);
            if lost == 0 {
                longest = Duration::ZERO;
            } else if !up && longest > limit {
                longest = limit;
            }
        }
        longest
    }

    /// A link was down for less than the delay: what the kernel removed meanwhile is restored.
    fn flapped(&mut self, moment: &mut Moment<'_>, index: IfIndex) {
        for name in self.names_of(index) {
            let again = self.is_up(&name);
            self.then_compare(name, again);
        }
        self.work(moment);
    }
}
