//! `/rollouts`: the list. One rollout, and how one is made, changed and steered, stand below.

pub(crate) mod act;
pub(crate) mod devices;
pub(crate) mod edit;
mod fields;
pub(crate) mod new;
pub(crate) mod one;
mod picture;
pub(crate) mod preview;

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use callboard_policy::rollout::RolloutState;
use callboard_proto::{
    admin::{self, Counts, PhaseProgress, Policy, Rollout},
    ids::RolloutId,
};
use uuid::Uuid;

use super::{
    desk::Desk,
    form::Form,
    frame::{self, Frame, Section, segment},
    parts::{Asked, Badge, Pager, ROWS, When},
};
use crate::{
    app::{App, part::Place, rollouts},
    http::{auth::View, params, problem::ApiResult},
};
use callboard_proto::admin::Permission;

#[derive(Template)]
#[template(path = "rollouts.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    pager: Pager,
    form: Form,
    states: Vec<(&'static str, &'static str)>,
    may_make: bool,
}

/// A rollout in a list.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) release: String,
    pub(super) policy: &'static str,
    pub(super) badge: Badge,
    pub(super) reason: String,
    pub(super) bar: Bar,
    pub(super) phase: String,
    pub(super) since: When,
    pub(super) by: String,
}

/// How far devices are, as parts of a bar.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ui) struct Bar {
    pub(in crate::ui) wanted: u32,
    pub(in crate::ui) succeeded: u32,
    pub(in crate::ui) failed: u32,
    pub(in crate::ui) busy: u32,
}

impl Bar {
    pub(in crate::ui) fn of(counts: &Counts) -> Self {
        Self {
            wanted: counts.wanted(),
            succeeded: counts.succeeded,
            failed: counts.unsuccessful(),
            busy: counts.open(),
        }
    }

    pub(super) fn all(phases: &[PhaseProgress]) -> Self {
        phases.iter().map(|phase| Self::of(&phase.counts)).fold(Self::default(), |a, b| Self {
            wanted: a.wanted + b.wanted,
            succeeded: a.succeeded + b.succeeded,
            failed: a.failed + b.failed,
            busy: a.busy + b.busy,
        })
    }

    /// The width of the picture, which must not be none.
    pub(in crate::ui) fn width(&self) -> u32 {
        self.wanted.max(1)
    }
}

/// The states that a list can be limited to.
pub(super) const STATES: [(&str, &str); 6] = [
    ("", "All"),
    ("draft", "Drafts"),
    ("running", "Running"),
    ("paused", "Paused"),
    ("completed", "Completed"),
    ("cancelled", "Cancelled"),
];

/// `GET /rollouts`.
pub(crate) async fn list(desk: Desk<View>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    let Asked { state, after } = asked.into_inner();
    let from = params::parse_some("after", after.as_deref())?.unwrap_or(RolloutId::from_uuid(Uuid::max()));
    let wanted = RolloutState::ALL.into_iter().find(|known| known.as_str() == state);
    let part = rollouts::list::list(&app, desk.sees.clone(), wanted, Place { from, rows: ROWS + 1 }).await?;
    let next = part.next.map(|id| id.to_string());
    let rows = part.items.into_iter().map(|record| row(&app, &rollouts::show(&app, record))).collect();
    let page = Page {
        frame: Frame::new(&desk, Section::Rollouts, "Rollouts").live(),
        rows,
        pager: Pager::new("/rollouts", &[("state", &state)], after.as_deref(), next.as_deref()),
        form: Form::with([("state", state)]),
        states: STATES.to_vec(),
        may_make: desk.may_do(Permission::Operate),
    };
    frame::show(&page)
}

fn row(app: &App, rollout: &Rollout) -> Row {
    let now = app.clock.now();
    let open = rollout.phases.iter().rposition(|phase| phase.opened_at.is_some());
    let phase = open.filter(|_| rollout.phases.len() > 1).map(|at| {
        let name = rollout.phases.get(at).map(|phase| phase.name.as_str()).unwrap_or_default();
        format!("{name} ({} of {})", at + 1, rollout.phases.len())
    });
    Row {
        name: rollout.spec.name.to_string(),
        path: path(rollout.spec.name.as_str()),
        release: rollout.spec.release.clone(),
        policy: policy(rollout.spec.policy),
        badge: badge(rollout.state),
        reason: rollout.state_reason.clone().unwrap_or_default(),
        bar: Bar::all(&rollout.phases),
        phase: phase.unwrap_or_default(),
        since: When::new(rollout.started_at.unwrap_or(rollout.created_at), now),
        by: rollout.created_by.clone(),
    }
}

/// Where a rollout is shown.
pub(super) fn path(name: &str) -> String {
    format!("/rollouts/{}", segment(name))
}

pub(in crate::ui) const fn badge(state: admin::RolloutState) -> Badge {
    match state {
        admin::RolloutState::Draft => Badge::new("draft", "dull"),
        admin::RolloutState::Running => Badge::new("running", "busy"),
        admin::RolloutState::Paused => Badge::new("paused", "warn"),
        admin::RolloutState::Completed => Badge::new("completed", "good"),
        admin::RolloutState::Cancelled => Badge::new("cancelled", "dull"),
    }
}

pub(super) const fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Immediate => "immediate",
        Policy::Scheduled => "scheduled",
        Policy::Progressive => "progressive",
        Policy::OnConnect => "on connect",
    }
}

/// Whether somebody may run rollouts here; for buttons.
fn operates<P>(desk: &Desk<P>) -> bool {
    desk.may_do(Permission::Operate)
}
