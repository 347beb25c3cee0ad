//! Runs a till until all is over or the power is cut: the agent itself, on a simulated filesystem and over a connection
//! in memory. What the loop of a running agent waits for comes at once.

use std::cell::{Cell, RefCell};

use callboard_proto::state::AgentState;
use tokio::sync::Notify;

use super::{super::*, invariants::Broken, office::Office};
use crate::testing::server::{Handler, line};

/// Conversations and pieces of work of one agent, before it counts as one that runs in circles.
const MAX_STEPS: u32 = 150;
/// Starts of one story without a power cut: an activation at shutdown takes two, work that hangs one for each time.
const MAX_STARTS: u32 = 6;

/// Why an agent does not run any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing is left to do.
    Done,
    /// It was found in a state from which everything was seen to go well before.
    Known,
    /// The power was cut.
    CutOff,
    /// Something lasting keeps it from going on.
    Stuck,
    /// The process ended, the machine stays as it is.
    Ended,
}

/// A till and its server.
pub(super) struct Till {
    pub(super) fs: SimFs,
    pub(super) office: Rc<RefCell<Office>>,
    trouble: Cell<Option<Trouble>>,
    /// The machine is told to go down.
    down: Rc<Notify>,
}

/// What befalls the work of one state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) state: AgentState,
    pub(super) kind: Kind,
    /// How often it comes to that.
    pub(super) times: u8,
}

/// What happens to work instead of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It fails.
    Error,
    /// The process is killed, by a person or by the watchdog of a work that hangs. The machine stays up.
    Killed,
}

/// Asked with the till after each start, whether the rest is known.
pub(super) type Known<'a> = &'a mut dyn FnMut(&Till) -> bool;

impl Till {
    pub(super) fn new(fs: SimFs, office: Office) -> Self {
        Self { fs, office: Rc::new(RefCell::new(office)), trouble: Cell::new(None), down: Rc::default() }
    }

    /// The same with trouble ahead.
    pub(super) fn troubled(self, trouble: Trouble) -> Self {
        self.trouble.set(Some(trouble));
        self
    }

    /// Starts an agent, and again after each shutdown.
    pub(super) fn drive(&self, runtime: &tokio::runtime::Runtime, known: Known<'_>) -> Result<Left, Broken> {
        for _ in 0..MAX_STARTS {
            let local = tokio::task::LocalSet::new();
            match local.block_on(runtime, self.drive_once(&mut *known))? {
                Left::Ended => {}
                left => return Ok(left),
            }
        }
        Err(Broken::new("I6", "it is started again and again"))
    }

    fn start(&self) -> Result<Runner, StartError> {
        let plan = Rc::clone(&self.office.borrow().plan);
        let own = Identity::load(&self.fs, &state_dir())?;
        let mut agent = start::open(plan.settings(), Rc::new(SimFs::shared(&self.fs)), own, testing::process())?;
        agent.outside = hooks::machine(&self.fs, plan.health, Rc::clone(&self.down));
        if plan.reboots {
            // Each start is one of the machine.
            self.office.borrow_mut().boots += 1;
            agent.boot_id = format!("boot {}", self.office.borrow().boots);
        }
        let office = Rc::clone(&self.office);
        let handler: Rc<RefCell<Handler>> = Rc::new(RefCell::new(move |asked: &_| office.borrow_mut().answer(asked)));
        agent.client().talk_over(line(handler));
        let mut runner = Runner::new(Rc::new(agent), false);
        runner.apply(Event::Started);
        Ok(runner)
    }

    /// Starts an agent and lets it do nothing.
    pub(super) fn start_once(&self) -> Result<(), Broken> {
        let started = self.start().map(|_runner| ());
        started.map_err(|error| Broken::new("I5", format!("the agent does not start: {error}")))
    }

    async fn drive_once(&self, known: Known<'_>) -> Result<Left, Broken> {
        let mut runner = match self.start() {
            Ok(runner) => runner,
            Err(_) if self.fs.is_off() => return Ok(Left::CutOff),
            // The next start finds the medium as it was.
            Err(_) if self.fs.has_failed() => return Ok(Left::Stuck),
            Err(error) => return Err(Broken::new("I5", format!("the agent does not start: {error}"))),
        };
        if !self.fs.is_off() && known(self) {
            return Ok(Left::Known);
        }
        let asked = self.office.borrow().check_ins;
        for _ in 0..MAX_STEPS {
            if self.fs.is_off() {
                return Ok(Left::CutOff);
            }
            if runner.retry.is_some() {
                runner.retry = Some(Duration::ZERO);
                runner.retry_journal();
                if runner.retry.is_some() && self.fs.has_failed() {
                    return Ok(Left::Stuck);
                }
            } else if runner.check_in_now || runner.report_now {
                talk(&mut runner).await;
            } else if let Some(kind) = self.trouble(&runner) {
                match kind {
                    Kind::Error => {
                        runner.work = None;
                        runner.apply(Event::Failed(machine::transient(Code::Internal, "it broke")));
                    }
                    Kind::Killed => return Ok(Left::Ended),
                }
            } else if self.is_to_be_called_off(&runner) {
                runner.check_in_now = true;
            } else if let Some(work) = runner.work.take() {
                tokio::select! {
                    biased;
                    event = work => runner.apply(event),
                    () = self.down.notified() => return Ok(Left::Ended),
                }
            } else if let Some(left) = self.occasion(&mut runner).await {
                if let Some(left) = left {
                    return Ok(left);
                }
            } else if self.office.borrow().check_ins > asked && self.is_over(&runner) {
                return Ok(Left::Done);
            } else {
                // Time passes.
                runner.check_in_now = true;
            }
        }
        let state = runner.agent.state();
        // A lasting fault may be met over and over.
        if self.fs.has_failed() { Ok(Left::Stuck) } else { Err(Broken::new("I6", format!("no end: {state:?}"))) }
    }

    /// What befalls the work at hand.
    fn trouble(&self, runner: &Runner) -> Option<Kind> {
        let trouble = self.trouble.get().filter(|trouble| trouble.times > 0 && runner.work.is_some())?;
        let now = runner.agent.state().wire() == trouble.state;
        now.then(|| {
            self.trouble.set(Some(Trouble { times: trouble.times - 1, ..trouble }));
            trouble.kind
        })
    }

    /// Whether the server has a reason to call the order off in the middle of it, of which the device does not know yet.
    fn is_to_be_called_off(&self, runner: &Runner) -> bool {
        let office = self.office.borrow();
        office.plan.cancel_at == Some(runner.agent.state().wire()) && !office.called_off && !office.is_satisfied()
    }

    fn is_over(&self, runner: &Runner) -> bool {
        let agent = &runner.agent;
        // The next key has become the key.
        let renewed = agent.identity.borrow().renew_at() > testing::NOW
            && matches!(agent.fs.stat(&agent.state_dir.next_key()), Ok(None));
        let told = agent.outbox.borrow().batch().is_none();
        match agent.state().task() {
            None => told && renewed && self.office.borrow().is_satisfied(),
            Some(task) => told && matches!(task.phase, Phase::Inconsistent { .. }),
        }
    }

    /// The occasion on which a release is activated without asking, if it is time for one. The inner value says that the
    /// agent ended with it.
    async fn occasion(&self, runner: &mut Runner) -> Option<Option<Left>> {
        let state = runner.agent.state();
        let task = state.task()?;
        let (Phase::Staged { .. } | Phase::Waiting { tree: Some(_) }) = task.phase else { return None };
        match task.right.as_ref()?.on {
            ActivateOn::Now => {
                self.office.borrow_mut().away = true;
                runner.check_in_now = true;
                talk(runner).await;
                self.office.borrow_mut().away = false;
                Some(None)
            }
            ActivateOn::Boot => {
                let (now, on) = (runner.agent.clock.trusted_now(), ActivateOn::Boot);
                runner.apply(Event::Alone(Occasion { on, now, boot: "another one".to_owned() }));
                Some(None)
            }
            ActivateOn::Shutdown => {
                runner.switch_at_shutdown().await;
                Some(Some(if self.fs.is_off() { Left::CutOff } else { Left::Ended }))
            }
        }
    }
}

/// What is due is said at once.
async fn talk(runner: &mut Runner) {
    let agent = Rc::clone(&runner.agent);
    let talking =
        if std::mem::take(&mut runner.check_in_now) { talk::begin(agent, 0) } else { talk::report_only(agent) };
    runner.report_now = false;
    let talk = talking.await;
    runner.talked(talk);
}
