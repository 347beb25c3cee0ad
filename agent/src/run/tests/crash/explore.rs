//! Walks through what the power can leave behind: at every call of a story, and again at every call of the recovery.

use std::{cell::RefCell, collections::HashSet, fmt};

use super::{
    super::*,
    drive::{Left, Till},
    invariants::{self, Broken, Scene},
    office::Office,
    plan::Plan,
};

/// How a medium fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    pub(super) kind: crate::fs::sim::Broken,
    pub(super) lasting: bool,
}

/// How many of all states are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Mixes of what is kept at each call, beside all and nothing.
    pub(super) mixes: u64,
    /// The recovery is cut short from every so many-th state.
    pub(super) stride: usize,
    /// Mixes at each call of the recovery.
    pub(super) again: u64,
}

/// A moment before a call: what is on its way to the medium, and what the server knows.
struct Moment {
    fs: SimFs,
    office: Office,
}

/// What a cut left behind.
struct State {
    fs: SimFs,
    office: Office,
    floor: u64,
    root: usize,
    /// The medium failed on the way here.
    faulty: bool,
    how: Rc<How>,
}

/// How a state came to be.
struct How {
    before: Option<Rc<How>>,
    last: String,
    keeps: Keeps,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = &self.before {
            write!(f, "{before}; then cut ")?;
        }
        write!(f, "after {}, {:?} kept", self.last, self.keeps)
    }
}

/// What was looked at.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Different media, by fingerprint.
    pub(super) media: HashSet<u64>,
    /// Different media together with what the server knew.
    pub(super) states: HashSet<(u64, u64)>,
    pub(super) driven_to_the_end: u64,
    /// Codes of failures that tills reported.
    pub(super) codes: HashSet<String>,
}

/// Explores one story.
pub(super) struct Explorer {
    plan: Rc<Plan>,
    runtime: tokio::runtime::Runtime,
    seed: u64,
    pub(super) counts: Counts,
    /// What agents found after their start, and all went well from there.
    fine: HashSet<(u64, u64, bool)>,
    ended: HashSet<u64>,
}

impl Explorer {
    pub(super) fn new(plan: Plan, seed: u64) -> Self {
        let runtime = runtime();
        let (counts, fine, ended) = (Counts::default(), HashSet::new(), HashSet::new());
        Self { plan: Rc::new(plan), runtime, seed, counts, fine, ended }
    }

    /// Runs the story, cuts it everywhere, and cuts recoveries.
    pub(super) fn explore(&mut self, start: &SimFs, budget: Budget) -> Result<(), String> {
        let first = self.first(start.clone(), "nothing".to_owned());
        let (moments, _) = self.examine(&first, true)?;
        for (n, state) in self.cuts(&moments, &first, budget.mixes).into_iter().enumerate() {
            let (moments, _) = self.examine(&state, n % budget.stride == 0)?;
            for state in self.cuts(&moments, &state, budget.again) {
                self.examine(&state, false)?;
            }
        }
        Ok(())
    }

    /// Lets the medium fail at every `step`th call of the story, once or from then on, and cuts the power at every call of
    /// what follows, with `mixes`. Says how often something failed.
    pub(super) fn fail(&mut self, start: &SimFs, failing: Failing, step: usize, mixes: u64) -> Result<u32, String> {
        let mut failed = 0;
        for at in (1..).step_by(step) {
            let fs = start.clone();
            fs.break_at(at, failing.kind, failing.lasting);
            let state = self.first(fs, format!("{failing:?} at {at}"));
            let (moments, met) = self.examine(&state, true)?;
            if !met {
                break;
            }
            failed += 1;
            for state in self.cuts(&moments, &state, mixes) {
                self.examine(&state, false)?;
            }
        }
        Ok(failed)
    }

    fn first(&self, fs: SimFs, last: String) -> State {
        let (office, floor) = (Office::of(&self.plan), self.plan.floor_before());
        let how = Rc::new(How { before: None, last, keeps: Keeps::Everything });
        State { fs, office, floor, root: 0, faulty: false, how }
    }

    /// The states that a cut at any of these moments can leave, without those that were seen.
    fn cuts(&mut self, moments: &[Moment], from: &State, mixes: u64) -> Vec<State> {
        let mut states = Vec::new();
        let (floor, root) = invariants::in_force(&from.fs, &from.office);
        let (floor, root) = (floor.max(from.floor), root.max(from.root));
        for moment in moments {
            let settled = moment.fs.is_settled();
            let all = if settled { 0 } else { 1 + mixes };
            for n in 0..=all {
                self.seed = self.seed.wrapping_add(1);
                let keeps = match n {
                    0 => Keeps::Nothing,
                    1 => Keeps::Everything,
                    _ => Keeps::Some(self.seed),
                };
                let fs = moment.fs.reboot(keeps);
                let medium = fs.fingerprint(invariants::varies);
                self.counts.media.insert(medium);
                if !self.counts.states.insert((medium, moment.office.knowledge())) {
                    continue;
                }
                let how = How { before: Some(Rc::clone(&from.how)), last: moment.fs.last(), keeps };
                let faulty = from.faulty || moment.fs.has_failed();
                // Whoever was away is back when the till is.
                let mut office = moment.office.clone();
                office.away = false;
                states.push(State { fs, office, floor, root, faulty, how: Rc::new(how) });
            }
        }
        states
    }

    /// Looks at a state, runs the till on it until all is over, and looks again. With `record` every moment on the way is
    /// kept. Says whether the medium failed on the way.
    fn examine(&mut self, state: &State, record: bool) -> Result<(Vec<Moment>, bool), String> {
        let moments = Rc::new(RefCell::new(Vec::new()));
        let met = self.recover(state, record, &moments);
        let met = met.map_err(|broken| format!("{}: {broken}\n{} (seed {})", self.plan.name, state.how, self.seed))?;
        Ok((moments.take(), met))
    }

    fn recover(&mut self, state: &State, record: bool, moments: &Rc<RefCell<Vec<Moment>>>) -> Result<bool, Broken> {
        // Looking must not meet what the agent is to meet.
        let well = state.fs.clone();
        well.mend();
        let scene = self.scene(state, &well, &state.office);
        invariants::at_power_back(&scene)?;
        invariants::i6_work_is_bounded(&scene)?;
        let till = Till::new(state.fs.clone(), state.office.clone());
        if record {
            let (moments, office) = (Rc::clone(moments), Rc::clone(&till.office));
            till.fs.watch(Some(Rc::new(move |fs| {
                moments.borrow_mut().push(Moment { fs, office: office.borrow().clone() });
            })));
        }
        let (mut found, fine) = (Vec::new(), &self.fine);
        let mut left = till.drive(&self.runtime, &mut |till| {
            let knowledge = till.office.borrow().knowledge();
            let key = (till.fs.fingerprint(invariants::varies), knowledge, state.faulty);
            found.push(key);
            !record && fine.contains(&key)
        })?;
        till.fs.watch(None);
        let met = till.fs.mend();
        if met {
            // Whatever it came to: the till is safe, and goes on when the medium is well again.
            let office = till.office.borrow().clone();
            invariants::at_power_back(&self.scene(state, &till.fs, &office))?;
            left = till.drive(&self.runtime, &mut |_| false)?;
        }
        match left {
            Left::Known => {}
            Left::Done => self.end(&till, state, state.faulty || met)?,
            other => return Err(Broken::new("I5", format!("the agent does not go on: {other:?}"))),
        }
        if !met {
            self.fine.extend(found);
        }
        Ok(met)
    }

    fn scene<'a>(&'a self, state: &State, fs: &'a SimFs, office: &'a Office) -> Scene<'a> {
        Scene { fs, plan: &self.plan, office, floor: state.floor, root: state.root, faulty: state.faulty }
    }

    fn end(&mut self, till: &Till, state: &State, faulty: bool) -> Result<(), Broken> {
        self.counts.driven_to_the_end += 1;
        let office = till.office.borrow().clone();
        self.counts.codes.extend(office.codes.iter().cloned());
        invariants::in_the_end(&Scene { faulty, ..self.scene(state, &till.fs, &office) })?;
        if self.ended.insert(till.fs.fingerprint(invariants::varies)) {
            let again = Till::new(till.fs.clone(), office);
            again.start_once()?;
            invariants::i8_another_start_changes_nothing(&till.fs, &again.fs)?;
        }
        Ok(())
    }
}
