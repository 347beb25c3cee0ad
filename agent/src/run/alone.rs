//! Activating without asking, where the last answer allowed it: when the server cannot be reached, when the machine
//! goes down, when it has come up.

use std::time::Duration;

use callboard_proto::instruction::ActivateOn;

use super::{Event, Phase, Runner, boottime, dice, finished, poll};
use crate::{
    install::service,
    machine::{Occasion, Right},
};

/// The unit is given 60 s to stop; what is not done by then is repeated at the next start.
const SWITCH_WITHIN: Duration = Duration::from_secs(45);
/// After a start with a right for it, the server is asked within this time instead of within minutes.
const ASK_WITHIN: Duration = Duration::from_secs(30);

impl Runner {
    /// Tells the machine of an occasion.
    pub(super) fn alone(&mut self, on: ActivateOn) {
        let occasion = Occasion { on, now: self.agent.clock.trusted_now(), boot: self.agent.boot_id.clone() };
        self.apply(Event::Alone(occasion));
    }

    fn right(&self) -> Option<Right> {
        self.agent.state().task().and_then(|task| task.right.clone())
    }

    /// The first conversation since the start has ended, one way or the other.
    pub(super) fn started(&mut self) {
        if std::mem::take(&mut self.starting) {
            self.alone(ActivateOn::Boot);
        }
    }

    /// Comes to the first check-in sooner if the machine has started with a right for that.
    pub(super) fn ask_soon_after_boot(&mut self) {
        let booted = |right: &Right| right.on == ActivateOn::Boot && right.boot != self.agent.boot_id;
        if self.right().as_ref().is_some_and(booted) {
            self.next = self.next.min(boottime() + poll::opening(ASK_WITHIN * 4, dice::roll()));
        }
    }

    /// Is up when a right begins, to ask and else to use it.
    pub(super) fn wake_for_right(&mut self) {
        let now = self.agent.clock.trusted_now();
        let Some(right) = self.right().filter(|right| right.on == ActivateOn::Now && right.not_before > now) else {
            return;
        };
        let later = poll::opening(right.not_after.since(right.not_before), dice::roll());
        self.next = self.next.min(boottime() + right.not_before.since(now) + later);
    }

    /// The agent is stopped. If the machine goes down and that is the occasion, switches before it does: the trial
    /// begins at the next start.
    pub(super) async fn switch_before_shutdown(&mut self) {
        if self.right().is_some_and(|right| right.on == ActivateOn::Shutdown) && service::machine_stops().await {
            self.switch_at_shutdown().await;
        }
    }

    pub(super) async fn switch_at_shutdown(&mut self) {
        self.work = None;
        self.alone(ActivateOn::Shutdown);
        let deadline = boottime() + SWITCH_WITHIN;
        while self.is_switching() {
            let left = deadline.saturating_sub(boottime());
            match tokio::time::timeout(left, finished(&mut self.work)).await {
                Ok(event @ Event::Flipped { .. }) => {
                    // The trial begins with the next start.
                    self.apply(event);
                    self.apply(Event::GoesDown);
                    self.work = None;
                    return;
                }
                Ok(event) => {
                    self.work = None;
                    self.apply(event);
                }
                Err(_elapsed) => {
                    tracing::warn!("the machine goes down before the switch is done; it is finished at the next start");
                    return;
                }
            }
        }
    }

    fn is_switching(&self) -> bool {
        let state = self.agent.state();
        let switching = state.task().is_some_and(|task| {
            matches!(task.phase, Phase::Pre { .. } | Phase::Preparing { .. } | Phase::Switching { .. })
        });
        switching && self.work.is_some()
    }
}
