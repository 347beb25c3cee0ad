//! The rollout that takes another one's release back.

use callboard_proto::{digest::Digest, ids::RolloutName};

use super::{Membership, Plan, Policy, Unit, spec};
use crate::selector::Selector;

/// Longest part of a rollout's name that the name of the one that takes it back begins with.
const KEPT: usize = 48;

/// The name of the rollout that takes `name` back; the `n`th, if there are others of that name. `None` if there is none.
pub fn undo_name(name: &RolloutName, n: usize) -> Option<RolloutName> {
    let kept = name.as_str().get(..KEPT).unwrap_or(name.as_str());
    let text = if n > 1 { format!("{kept}-rollback-{n}") } else { format!("{kept}-rollback") };
    text.parse().ok()
}

impl Plan {
    /// What brings `target` to the devices that got this plan's release. It begins at once and has no phases and no end;
    /// how devices are to be treated stays as it is: windows, trading hours, limits, priority, attempts.
    pub fn undone_by(&self, name: RolloutName, target: Digest) -> Self {
        Self {
            name,
            release: target,
            // Whom it is for is written down when it is made.
            selector: Selector::all(),
            audience: Membership::Frozen,
            policy: Policy::Immediate,
            phases: vec![spec::everyone()],
            unit: Unit::Device,
            halt: Vec::new(),
            allow_downgrade: true,
            deadline: None,
            ends_at: None,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixture::{release, spec},
        rollout::Spec,
    };

    #[test]
    fn names_of_rollouts_that_take_back_are_names() {
        let name = |text: &str, n| undo_name(&text.parse().expect("a name"), n).map(|name| name.to_string());
        assert_eq!(name("spring", 1).as_deref(), Some("spring-rollback"));
        assert_eq!(name("spring", 2).as_deref(), Some("spring-rollback-2"));
        let long = name(&"x".repeat(64), 99).expect("a name");
        assert_eq!(long, format!("{}-rollback-99", "x".repeat(48)));
    }

    #[test]
    fn it_is_a_plan_that_could_have_been_asked_for() {
        let (name, target) = (|| "back".parse().expect("a name"), release("2.1.0", 21).digest);
        let undo = spec().plan().expect("a plan").undone_by(name(), target);
        let asked =
            Spec { name: name(), release: target, audience: Membership::Frozen, allow_downgrade: true, ..spec() };
        assert_eq!(format!("{undo:?}"), format!("{:?}", asked.plan().expect("a plan")));
    }
}
