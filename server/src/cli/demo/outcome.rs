//! What every device is expected to run and why, and whether that came true.

use std::{collections::BTreeMap, time::Instant};

use callboard_proto::{
    admin::{Assignment, Device, Explanation, Page},
    state::AssignmentState,
};

use super::{
    fleet::PRODUCT,
    software::Software,
    stage::Board,
    till::Till,
    world::{PATIENCE, World},
};
use crate::cli::{
    api::{PageArgs, Path},
    table,
};

/// Why a device runs what it runs, as the server must say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The rollout's assignment ended so.
    Assigned(AssignmentState),
    /// The rollout gave it nothing, by one of these rules.
    Rule(&'static [&'static str]),
    /// The rollout is for it, but it has not checked in since.
    NotHeard,
}

/// What one device is expected to run.
struct Wanted {
    version: String,
    why: Why,
}

/// What is expected of all devices in one rollout.
pub(super) struct Outcome {
    rollout: String,
    wanted: BTreeMap<String, Wanted>,
}

/// One device as it is.
struct Found {
    device: String,
    site: String,
    status: String,
    /// By the registry, which has it from the device.
    reported: String,
    /// On the device's disk.
    on_disk: Option<String>,
    is_on: bool,
    assignment: Option<AssignmentState>,
    rule: String,
    why: String,
}

impl Found {
    /// Never seen, or away and meant by the rollout.
    fn is_silent(&self) -> bool {
        self.status == "unknown" || self.status == "offline" && self.rule == "offered"
    }
}

impl Outcome {
    /// Everything stays as it is, because of `rule`.
    pub(super) fn nothing(world: &World, rollout: &str, rule: &'static [&'static str]) -> Self {
        let factory = |till: &Till| Wanted { version: till.facts.factory(), why: Why::Rule(rule) };
        let wanted = world.tills.iter().map(|till| (till.name().to_string(), factory(till))).collect();
        Self { rollout: rollout.to_owned(), wanted }
    }

    /// But these get the software.
    pub(super) fn but_updated<S: AsRef<str>>(mut self, devices: &[S], software: &Software) -> Self {
        for device in devices {
            let why = Why::Assigned(AssignmentState::Succeeded);
            self.wanted.insert(device.as_ref().to_owned(), Wanted { version: software.version.to_owned(), why });
        }
        self
    }

    /// But these keep what they have for another reason.
    pub(super) fn but<S: AsRef<str>>(mut self, devices: &[S], why: Why) -> Self {
        for device in devices {
            if let Some(wanted) = self.wanted.get_mut(device.as_ref()) {
                wanted.why = why;
            }
        }
        self
    }

    /// All are on this version before.
    pub(super) fn from(mut self, software: &Software) -> Self {
        for wanted in self.wanted.values_mut() {
            software.version.clone_into(&mut wanted.version);
        }
        self
    }

    /// Watches until everything is as expected.
    ///
    /// # Errors
    /// Names the devices that are not as expected when the time is over.
    pub(super) fn reach(&self, world: &mut World) -> anyhow::Result<()> {
        self.watch(world).map(drop)
    }

    /// The same, and the end of a scenario: prints what every device runs and why.
    ///
    /// # Errors
    /// Names the devices that are not as expected when the time is over.
    pub(super) fn conclude(&self, world: &mut World) -> anyhow::Result<()> {
        let found = self.watch(world)?;
        world.board = None;
        world.stage.say(&format!("\n{}", self.table(&found)))
    }

    fn watch(&self, world: &mut World) -> anyhow::Result<Vec<Found>> {
        let until = Instant::now() + PATIENCE;
        let mut whys = BTreeMap::new();
        loop {
            let found = self.look(world, &mut whys)?;
            let wrong = self.faults(&found);
            if let Some(board) = &mut world.board {
                draw(board, &found)?;
                board.count(self.wanted.len().saturating_sub(wrong.len()), self.wanted.len());
            }
            if wrong.is_empty() {
                return Ok(found);
            }
            if Instant::now() >= until {
                world.board = None;
                world.stage.say(&format!("\n{}", self.table(&found)))?;
                anyhow::bail!("after {} seconds {}", PATIENCE.as_secs(), wrong.join("; "));
            }
            world.breathe()?;
        }
    }

    fn look(&self, world: &World, whys: &mut BTreeMap<String, (String, String)>) -> anyhow::Result<Vec<Found>> {
        let api = &world.server()?.api;
        let all = PageArgs { limit: 100, after: None };
        let path = Path::new(["rollouts", &self.rollout, "assignments"]);
        let assignments: Page<Assignment> = api.list(&path, &all)?;
        let mut found = Vec::new();
        for device in world.devices()? {
            let name = device.name.to_string();
            let assignment = assignments.items.iter().find(|one| one.device == device.name);
            let (rule, why) = match assignment {
                Some(one) => (String::new(), in_words(one)),
                None => {
                    // A rollout that has ended is explained no more: what it said before counts.
                    let explanation: Explanation = api.get(&Path::new(["devices", &name, "explain"]))?;
                    let considered = explanation.rollouts.into_iter().find(|one| one.rollout.as_str() == self.rollout);
                    if let Some(one) = considered {
                        // Everybody knows which rollout this is about.
                        let text =
                            one.reason.text.trim_start_matches(&format!("rollout {}: ", self.rollout)).to_owned();
                        whys.insert(name.clone(), (one.reason.code, text));
                    }
                    let after = (explanation.next.code, explanation.next.text);
                    whys.get(&name).cloned().unwrap_or(after)
                }
            };
            let till = world.tills.iter().find(|till| *till.name() == device.name);
            found.push(Found {
                site: table::or_empty(device.site.as_ref()),
                status: table::word(&device.status),
                reported: reported(&device),
                on_disk: till.map(Till::runs).transpose()?,
                is_on: till.is_some_and(Till::is_on),
                assignment: assignment.map(|one| one.state),
                device: name,
                rule,
                why,
            });
        }
        Ok(found)
    }

    fn faults(&self, found: &[Found]) -> Vec<String> {
        let missing = self.wanted.keys().filter(|name| !found.iter().any(|found| found.device == **name));
        let missing = missing.map(|name| format!("{name} is not in the registry"));
        found.iter().filter_map(|found| self.fault(found)).chain(missing).collect()
    }

    fn fault(&self, found: &Found) -> Option<String> {
        let name = &found.device;
        let Some(wanted) = self.wanted.get(name) else {
            return Some(format!("{name} is in the registry, expected no such device"));
        };
        if found.reported != wanted.version {
            return Some(format!("{name} reports {}, expected {}", found.reported, wanted.version));
        }
        if found.on_disk.as_ref() != Some(&wanted.version) {
            let on_disk = found.on_disk.as_deref().unwrap_or("nothing");
            return Some(format!("{name} has {on_disk} on its disk, expected {}", wanted.version));
        }
        let state = found.assignment.map_or("unassigned", AssignmentState::as_str);
        match wanted.why {
            Why::Assigned(wanted) if found.assignment == Some(wanted) => None,
            Why::Assigned(wanted) => Some(format!("{name} is {state}, expected {}", wanted.as_str())),
            Why::Rule(rules) if found.assignment.is_none() && rules.contains(&found.rule.as_str()) => None,
            Why::NotHeard if found.assignment.is_none() && found.is_silent() => None,
            Why::NotHeard => Some(format!("{name} is {} and {state}, expected not to be heard of", found.status)),
            Why::Rule(rules) => Some(format!("{name} is {state} by {:?}, expected {}", found.rule, rules.join(" or "))),
        }
    }

    fn table(&self, found: &[Found]) -> String {
        let rows = found.iter().map(|one| {
            let verdict = if self.fault(one).is_none() { "as expected" } else { "WRONG" };
            // It has said nothing of itself, so nothing can be said of its next check-in.
            let unheard = one.status == "unknown"
                && self.wanted.get(&one.device).is_some_and(|wanted| wanted.why == Why::NotHeard);
            let why = if unheard { "it never checked in".to_owned() } else { one.why.clone() };
            [one.device.clone(), one.site.clone(), one.status.clone(), one.reported.clone(), verdict.to_owned(), why]
        });
        table::list(["DEVICE", "SITE", "STATUS", "RUNS", "CHECK", "WHY"], rows)
    }
}

fn draw(board: &mut Board, found: &[Found]) -> anyhow::Result<()> {
    for one in found {
        let state = match (one.assignment, one.is_on) {
            (Some(state), _) => state.as_str(),
            (None, true) => "",
            (None, false) => "switched off",
        };
        board.show(&one.device, format!("{PRODUCT} {:<8} {state}", one.reported).trim_end())?;
    }
    Ok(())
}

fn reported(device: &Device) -> String {
    let product = device.installed.iter().find(|one| one.product.as_str() == PRODUCT);
    product.map(|one| one.version.to_string()).unwrap_or_default()
}

fn in_words(assignment: &Assignment) -> String {
    let failure = assignment.failure.as_ref().map(|failure| format!(" ({}: {})", failure.code, failure.text.trim()));
    format!("{}{}", assignment.state.as_str().replace('_', " "), failure.unwrap_or_default())
}
