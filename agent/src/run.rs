//! The loop: wait, talk to the server, carry out one piece of work, and write down each step before acting on it.

use std::{rc::Rc, time::Duration};

use callboard_proto::{
    instruction::{Action, ActivateOn},
    report,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    agent::Agent,
    budget::{self, Budget},
    check_in::{self, Answer, CheckInError},
    client::ClientError,
    clock::boottime,
    config::Settings,
    dice,
    itself::{self, Itself, Process},
    machine::{self, Effect, Event, Phase},
    orders, outbox, poll,
    status::{self, Seen},
    words::Code,
    work::{self, Running},
};
use talk::{Talk, Talking};

pub(crate) use recover::{recover, resolve};
#[cfg(test)]
pub(crate) use start::open;
pub(crate) use start::{StartError, installed};

mod alone;
mod recover;
mod start;
mod talk;

/// The loop looks up at least this often: to tell systemd that it lives, and to notice time spent in suspend.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A connection is kept for a question that follows within this time.
const KEEP_OPEN: Duration = Duration::from_secs(15);
/// After an answer that could not be held back, the question that can is asked this soon: until then nothing urgent
/// reaches the device. Devices that came back one after the other also ask again so, over the same connections.
const SOON_S: u32 = 10;
/// Before an unwritable journal is tried again.
const JOURNAL_RETRY: Duration = Duration::from_secs(30);
/// Check-ins of one `run --once`; an update needs four.
const MAX_ONCE: u32 = 32;
/// Reasons not to switch are looked at so often while there are any.
const INHIBITORS_EVERY: Duration = Duration::from_secs(5);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Asked to by a signal.
    Stopped,
    /// `--once`: nothing is left to do now.
    Done,
    /// `--once`: the server could not be asked, or something is left that should not be.
    Failed,
    /// The launcher is to start another version.
    HandOver,
}

/// Runs until told to stop, or with `once` until there is nothing to do now.
pub(crate) async fn run(settings: Settings, process: Process, once: bool) -> Result<Ended, StartError> {
    let agent = start::agent(settings, process)?;
    let signals = Signals::new().map_err(StartError::Signals)?;
    let mut runner = Runner::new(Rc::new(agent), once);
    runner.agent.notifier.ready();
    work::say_unusable(&runner.agent.settings);
    work::look_at_slots(&runner.agent).await;
    runner.apply(Event::Started);
    runner.ask_soon_after_boot();
    // On an answer depends whether this version stays.
    runner.check_in_now |= runner.agent.itself.as_ref().is_some_and(Itself::is_on_trial);
    runner.say_started();
    let ended = runner.run(signals).await;
    if ended != Ended::HandOver {
        itself::stops(&runner.agent);
    }
    runner.agent.notifier.stopping();
    Ok(ended)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for either; says whether it was the one of an orderly stop.
    async fn any(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}

struct Runner {
    agent: Rc<Agent>,
    /// In time since boot.
    started_at: Duration,
    once: bool,
    work: Option<Running>,
    talking: Option<Talking>,
    /// When to check in next, in time since boot.
    next: Duration,
    check_in_now: bool,
    /// Check-ins that need not wait for the interval.
    ahead: Budget,
    report_now: bool,
    /// Failed check-ins in a row.
    failures: u32,
    /// When to try again what the journal could not take.
    retry: Option<Duration>,
    check_ins: u32,
    last_talk_failed: bool,
    seen: Seen,
    /// The server was not asked yet since the start.
    starting: bool,
    /// Files on the device put the switch off; when they are gone the server is asked again.
    inhibited: bool,
    /// The last question got its answer, so the server knows what this device knows, and may hold the next one back.
    heard: bool,
}

impl Runner {
    fn new(agent: Rc<Agent>, once: bool) -> Self {
        let (failures, polling) = (agent.record().failures, agent.settings.polling);
        let wait = match failures {
            0 => poll::first(polling, dice::roll()),
            _ => poll::back_off(polling, failures, None, dice::roll()),
        };
        let next = if once { Duration::ZERO } else { boottime() + wait };
        Self {
            agent,
            started_at: boottime(),
            once,
            work: None,
            talking: None,
            next,
            check_in_now: false,
            ahead: budget::CHECK_INS,
            report_now: false,
            failures,
            retry: None,
            check_ins: 0,
            last_talk_failed: false,
            seen: Seen::default(),
            starting: true,
            heard: false,
            inhibited: false,
        }
    }

    /// Whoever reads the log after a start sees that there is nothing to wait for before the first question.
    fn say_started(&self) {
        let agent = &self.agent;
        let products = agent.settings.products.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let first_check_in_s = self.next.saturating_sub(boottime()).as_secs();
        let (version, server) = (agent.program.version, agent.identity.borrow().server_url.clone());
        let state = agent.state().wire();
        tracing::info!(version, %server, %products, ?state, first_check_in_s, "started");
    }

    async fn run(&mut self, mut signals: Signals) -> Ended {
        loop {
            self.agent.notifier.turned(self.work.is_some());
            if self.agent.itself.as_ref().is_some_and(Itself::makes_room) {
                tracing::info!("ends, so that the launcher starts another version of the agent");
                return Ended::HandOver;
            }
            itself::has_run(&self.agent, boottime().saturating_sub(self.started_at));
            self.look_at_inhibitors();
            self.begin_talk();
            if let Some(ended) = self.once.then(|| self.once_ended()).flatten() {
                return ended;
            }
            let wait = self.wait();
            tokio::select! {
                biased;
                orderly = signals.any() => {
                    if orderly {
                        self.switch_before_shutdown().await;
                    }
                    return Ended::Stopped;
                }
                talked = finished(&mut self.talking) => {
                    self.talking = None;
                    self.talked(talked);
                }
                event = finished(&mut self.work) => {
                    self.work = None;
                    self.apply(event);
                }
                () = tokio::time::sleep(wait) => self.retry_journal(),
            }
        }
    }

    fn wait(&self) -> Duration {
        let now = boottime();
        let until = |at: Duration| at.saturating_sub(now);
        let talk = if self.talking.is_some() { LONGEST_WAIT } else { until(self.next) };
        let look = if self.inhibited { INHIBITORS_EVERY } else { LONGEST_WAIT };
        self.retry.map_or(LONGEST_WAIT, until).min(talk).min(look)
    }

    /// The device puts the switch off.
    fn put_off(&mut self) {
        let state = self.agent.state();
        let Some(deferral) = state.task().and_then(|task| task.course.deferral.as_ref()) else { return };
        if deferral.failure.code == Code::HookDeferred.as_str() {
            self.next = self.next.min(boottime() + self.agent.settings.hooks.retry);
        } else {
            self.inhibited = true;
        }
    }

    fn look_at_inhibitors(&mut self) {
        if self.inhibited && self.agent.outside.inhibitors().is_empty() {
            tracing::info!("nothing on the device puts the switch off any more");
            self.inhibited = false;
            self.check_in_now |= self.ahead.take(boottime());
        }
    }

    /// Starts a conversation if one is due and none is going on. What there is to tell does not wait until the server
    /// has something new.
    fn begin_talk(&mut self) {
        if let Some(talking) = &self.talking {
            if !(talking.waits && (self.check_in_now || self.report_now)) {
                return;
            }
            self.talking = None;
            self.heard = false;
        }
        let due = self.check_in_now || boottime() >= self.next;
        if due {
            (self.check_in_now, self.report_now) = (false, false);
            self.check_ins += 1;
            let wait_s = if self.waits() { self.agent.settings.polling.wait_s } else { 0 };
            self.talking = Some(talk::begin(Rc::clone(&self.agent), wait_s));
        } else if self.report_now {
            self.report_now = false;
            self.talking = Some(talk::report_only(Rc::clone(&self.agent)));
        }
    }

    /// Whether `--once` is at its end.
    fn once_ended(&self) -> Option<Ended> {
        if self.check_ins > MAX_ONCE {
            return Some(Ended::Failed);
        }
        let changing = self.agent.state().task().is_some_and(|task| !task.phase.is_before_switch());
        let waiting_for_server = self.last_talk_failed && !(changing && self.work.is_some());
        if self.talking.is_some() || (self.work.is_some() && !waiting_for_server) {
            return None;
        }
        Some(if self.last_talk_failed || self.retry.is_some() { Ended::Failed } else { Ended::Done })
    }

    /// One step of the machine: the new state is durable before its effects begin.
    fn apply(&mut self, event: Event) {
        let before = self.agent.record();
        let (state, effects) = machine::step(&before.state, event);
        let ended = effects.iter().find_map(|effect| match effect {
            Effect::Report { attempt, event, .. } if outbox::is_final(*event) => Some(*attempt),
            _ => None,
        });
        let changed = state != before.state;
        let attempt = |state: &machine::State| state.task().map(|task| task.order.attempt);
        // What went wrong with something else is not the fault of what begins now.
        let begun = attempt(&state).is_some() && attempt(&state) != attempt(&before.state);
        if changed || ended.is_some_and(|ended| before.last_ended != Some(ended)) {
            let error = state.failure().map(|failure| failure.code.clone());
            let aftermath = self.agent.aftermath.borrow_mut().take();
            let over = begun || state.task().is_some_and(|task| task.phase == Phase::Committed);
            let written = self.agent.update(|record| {
                record.last_ended = ended.or(record.last_ended);
                record.last_error = if over { aftermath } else { error.or(record.last_error.take()) };
                record.state = state;
            });
            if let Err(error) = written {
                tracing::error!(%error, "the journal cannot be written; nothing is changed until it can");
                *self.agent.contact_error.borrow_mut() = Some(Code::StorageFailing.as_str().to_owned());
                self.work = None;
                self.retry = Some(boottime() + JOURNAL_RETRY);
                return;
            }
        }
        if changed {
            let state = self.agent.state();
            let phase = |state: &machine::State| state.task().map(|task| task.phase.clone());
            if begun || phase(&state) != phase(&before.state) {
                // Whatever was under way belonged to the phase before.
                self.work = None;
            }
            if begun || state.wire() != before.state.wire() {
                let version = state.task().map(|task| task.order.version.to_string());
                tracing::info!(state = ?state.wire(), release.version = version, "step");
            }
            self.show();
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let agent = &self.agent;
        match effect {
            Effect::Report { attempt, release, event, failure } => {
                let report = talk::report(agent, attempt, release, event, failure);
                if let Err(error) = agent.outbox.borrow_mut().put(&*agent.fs, &agent.state_dir, report) {
                    tracing::error!(%error, "a report could not be made durable; it is kept in memory");
                }
                self.report_now = self.failures == 0;
                if event == report::Event::Deferred {
                    self.put_off();
                }
            }
            Effect::MarkBad => {
                let Some(task) = agent.state().task().cloned() else { return };
                if let Err(failure) = work::mark_bad(agent, &task) {
                    tracing::error!(text = failure.text, "a bad release could not be written down");
                }
            }
            // `--once` has a bound of its own.
            Effect::CheckIn => self.check_in_now = self.once || self.ahead.take(boottime()),
            Effect::Work(next) => {
                let Some(task) = agent.state().task().cloned() else { return };
                agent.notifier.alive();
                self.work = Some(work::start(Rc::clone(agent), task, next));
            }
        }
    }

    fn retry_journal(&mut self) {
        if self.retry.is_some_and(|at| boottime() >= at) {
            self.retry = None;
            self.apply(Event::Started);
        }
    }

    fn talked(&mut self, talk: Talk) {
        self.last_talk_failed = talk.failed();
        if let Some(answer) = talk.answer {
            match answer {
                Ok(answer) => self.answered(&answer, talk.asked, talk.waited),
                Err(error) => self.unanswered(&error, talk.waited),
            }
        }
        if let Err(error) = talk.reported {
            self.report_now = false;
            tracing::warn!(%error, "reports could not be delivered; they are kept");
        }
        self.acknowledge();
        let soon = self.waits() && self.next.saturating_sub(boottime()) <= KEEP_OPEN;
        if self.work.is_none() && !self.check_in_now && !self.report_now && !soon {
            self.agent.client().close();
        }
    }

    /// Ends what waits for nothing but the server's receipt.
    fn acknowledge(&mut self) {
        let state = self.agent.state();
        let Some(task) = state.task() else { return };
        let waits = matches!(task.phase, Phase::Committed | Phase::RolledBack { .. });
        if waits && !self.agent.outbox.borrow().awaits(task.order.attempt) {
            self.apply(Event::Acknowledged);
        }
    }

    /// Whether the next answer may be held back.
    fn waits(&self) -> bool {
        self.heard && self.may_wait()
    }

    /// Whether answers may be held back at all.
    fn may_wait(&self) -> bool {
        !self.once && self.agent.settings.polling.wait_s > 0
    }

    /// `asked` is when the question was sent: the time that it waited counts. `waited` says whether it could be held back;
    /// the server could not know of one that was not that the next one can.
    fn answered(&mut self, answer: &Answer, asked: Duration, waited: bool) {
        let agent = Rc::clone(&self.agent);
        let instruction = &answer.instruction;
        tracing::info!(action = ?instruction.action, reason = %crate::client::plain(&instruction.reason.text, 300),
            "checked in");
        *agent.contact_error.borrow_mut() = None;
        agent.heard_at.set(Some(asked));
        agent.answered.notify_one();
        self.failures = 0;
        self.heard = true;
        if agent.record().failures > 0 {
            agent.update_coarsely(|record| record.failures = 0);
        }
        let soon = if self.may_wait() && !waited { SOON_S } else { u32::MAX };
        let wait = poll::next(agent.settings.polling, instruction.next_checkin_s.min(soon), dice::roll());
        self.seen.checked_in(&agent, instruction);
        if let Some(failure) = &answer.distrust {
            tracing::warn!(code = failure.code, text = failure.text, "what is at hand is dropped");
            self.apply(Event::Distrusted(failure.clone()));
        }
        if instruction.action == Action::Download {
            agent.allow(instruction.max_bytes_per_s);
        }
        let meaning = orders::meaning(&agent, answer);
        let until = meaning.wait_until.map(|at| at.since(agent.clock.trusted_now()));
        self.next = until.map_or(asked + wait, |until| (boottime() + until).min(asked + wait));
        if let Some(event) = meaning.event {
            self.apply(event);
        }
        self.started();
        self.wake_for_right();
        self.show();
    }

    fn unanswered(&mut self, error: &CheckInError, waited: bool) {
        let agent = Rc::clone(&self.agent);
        tracing::warn!(%error, failures = self.failures + 1, "failed to check in");
        *agent.contact_error.borrow_mut() = Some(error.code().to_owned());
        self.seen.failed(error);
        let asked = match error {
            CheckInError::Client(error) => ClientError::retry_after(error),
            _ => None,
        };
        let wait = poll::back_off(agent.settings.polling, self.failures, asked, dice::roll());
        self.next = boottime() + wait;
        self.heard = false;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= 4 && self.failures.is_power_of_two() {
            let failures = self.failures;
            agent.update_coarsely(|record| record.failures = failures);
        }
        if error.is_refusal() {
            self.apply(Event::Withdrawn);
        } else if !waited {
            // A line that breaks while nothing is said does not tell that the server cannot be asked.
            self.alone(ActivateOn::Now);
        }
        self.started();
        self.wake_for_right();
        self.show();
    }

    /// Tells people how things stand.
    fn show(&self) {
        status::write(&self.agent, &self.seen);
        self.agent.notifier.status(&status::line(&self.agent.state(), &self.seen));
    }
}

/// The result of what is in `slot`; never, if that is empty.
async fn finished<F: Future + Unpin>(slot: &mut Option<F>) -> F::Output {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
