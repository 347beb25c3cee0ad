//! Before the products start: no product is to start from a switch that is half done, and a version that stops the machine
//! every time is to be tried so often and no oftener.
//!
//! What takes hooks, the server or a service is left to the agent.

use super::{Event, Phase, Process, Rc, Runner, Settings, StartError, start};
use crate::{
    agent::Agent,
    install::{InstallError, switch},
    layout::ProductDir,
    machine::Task,
};

/// Repairs the links and counts the trial that begins with this start of the machine. The second time in the same boot it
/// counts nothing.
pub(crate) fn recover(settings: Settings, process: Process) -> Result<(), StartError> {
    // Links of products at which no switch is under way are repaired by this.
    recover_with(start::agent(settings, process)?);
    Ok(())
}

pub(super) fn recover_with(agent: Agent) {
    let boot = agent.boot_id.clone();
    let agent = Rc::new(agent);
    if agent.record().recovered.as_ref() != Some(&boot) {
        let mut runner = Runner::new(Rc::clone(&agent), true);
        runner.apply(Event::Recovered { boot: boot.clone() });
        // Work that the state asks for is the agent's.
        runner.work = None;
        agent.update_coarsely(|record| record.recovered = Some(boot));
    }
    let state = agent.state();
    let Some(task) = state.task() else { return };
    let Some((settings, dirs)) = agent.product(&task.order.product) else { return };
    if settings.program().is_some() {
        // Its slots are the boot loader's business until the agent runs.
        return;
    }
    if let Err(error) = repair(&agent, task, &dirs) {
        tracing::error!(%error, "the link of a product could not be repaired; the agent tries again");
    }
}

fn repair(agent: &Agent, task: &Task, dirs: &ProductDir) -> Result<(), InstallError> {
    let (fs, dir) = (&*agent.fs, &task.order.dir);
    match &task.phase {
        // The agent switches again, and counts.
        Phase::Switching { previous, .. } => switch::revert(fs, dirs, dir, previous),
        Phase::Trial { previous, .. } => switch::flip(fs, dirs, dir, previous),
        // Its data are to be brought back before the previous version runs.
        Phase::RollingBack { .. } if task.course.backup_at.is_some() => Ok(()),
        Phase::RollingBack { previous, .. } => switch::revert(fs, dirs, dir, previous),
        _ => Ok(()),
    }
}

/// Writes down what a person has decided for a device that is inconsistent. `Err` inside says why there is nothing to
/// decide.
pub(crate) fn resolve(settings: Settings, process: Process, keep: bool) -> Result<Result<(), String>, StartError> {
    let agent = Rc::new(start::agent(settings, process)?);
    let before = agent.state();
    let mut runner = Runner::new(Rc::clone(&agent), true);
    runner.apply(Event::Resolved { keep });
    runner.work = None;
    Ok(match before.task().map(|task| &task.phase) {
        _ if agent.state() != before => Ok(()),
        Some(Phase::Inconsistent { stuck: Some(_), .. }) => {
            Err("the new version cannot be kept: going back was begun. --go-back tries that again".to_owned())
        }
        Some(Phase::Inconsistent { .. }) => {
            Err("an earlier agent has not written down between which versions this device stands".to_owned())
        }
        _ => Err(format!("the device is not inconsistent, but {:?}: there is nothing to decide", before.wire())),
    })
}
