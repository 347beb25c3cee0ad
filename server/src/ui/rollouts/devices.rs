//! `/rollouts/{rollout}/devices` and `/rollouts/{rollout}/sites`: where each device and each site stands.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use askama::Template;
use callboard_policy::{
    assignment::is_failure,
    selector::{Field, Value},
};
use callboard_proto::{
    ids::{AssignmentId, SiteId},
    state::AssignmentState,
};
use uuid::Uuid;

use super::path;
use crate::{
    app::{App, Error, rollouts},
    db,
    http::{auth::View, page, params, problem::ApiResult},
    ui::{
        desk::Desk,
        devices::list_of,
        form::Form,
        frame::{self, Frame, Section, segment},
        parts::{Asked, Badge, Pager, ROWS, When},
    },
};

#[derive(Template)]
#[template(path = "rollout_devices.html")]
struct Devices {
    frame: Frame,
    name: String,
    path: String,
    rows: Vec<Device>,
    pager: Pager,
    form: Form,
    states: Vec<(&'static str, &'static str)>,
}

struct Device {
    name: String,
    path: String,
    phase: String,
    badge: Badge,
    attempt: u32,
    code: String,
    text: String,
    at: When,
}

#[derive(Template)]
#[template(path = "rollout_sites.html")]
struct Sites {
    frame: Frame,
    name: String,
    path: String,
    rows: Vec<Site>,
    pager: Pager,
}

struct Site {
    id: String,
    path: String,
    bar: super::Bar,
    words: String,
}

/// How a device in a rollout stands.
pub(in crate::ui) const fn badge(state: AssignmentState) -> Badge {
    use AssignmentState as S;
    match state {
        S::Queued => Badge::new("queued", "dull"),
        S::Downloading => Badge::new("downloading", "busy"),
        S::Staged => Badge::new("staged", "busy"),
        S::Activating => Badge::new("activating", "busy"),
        S::Verifying => Badge::new("verifying", "busy"),
        S::Succeeded => Badge::new("succeeded", "good"),
        S::RolledBack => Badge::new("rolled back", "bad"),
        S::Failed => Badge::new("failed", "bad"),
        S::TimedOut => Badge::new("timed out", "bad"),
        S::Cancelled => Badge::new("cancelled", "dull"),
        S::Expired => Badge::new("expired", "dull"),
    }
}

/// `GET /rollouts/{rollout}/devices`: those that have been offered the release.
pub(crate) async fn list(
    desk: Desk<View>,
    app: Data<App>,
    rollout: Path<String>,
    asked: Query<Asked>,
) -> ApiResult<HttpResponse> {
    let Asked { state, after } = asked.into_inner();
    let from = params::parse_some("after", after.as_deref())?.unwrap_or(AssignmentId::from_uuid(Uuid::nil()));
    let wanted = AssignmentState::ALL.into_iter().find(|known| known.as_str() == state);
    let (actor, reference) = (desk.actor.clone(), rollout.into_inner());
    let (record, found) = app
        .db
        .read(move |conn| {
            let record = rollouts::resolve_for(conn, &actor, &reference)?;
            let found = db::assignments::list(conn, record.id, wanted, from, ROWS + 1)?;
            Ok::<_, Error>((record, found))
        })
        .await?;
    let (name, now) = (record.spec.name.to_string(), app.clock.now());
    let found = page::page(found, ROWS + 1, |(one, _)| one.assignment.id.to_string());
    let rows = found.items.into_iter().map(|(one, device)| {
        let phase = record.phases.get(one.assignment.phase).map(|phase| phase.name.clone());
        let (code, text) = one.failure.map(|failure| (failure.code, failure.text)).unwrap_or_default();
        Device {
            path: format!("/devices/{}", segment(&device)),
            name: device,
            phase: phase.unwrap_or_default(),
            badge: badge(one.assignment.state),
            attempt: one.assignment.attempt,
            code,
            text,
            at: When::new(one.updated_at, now),
        }
    });
    let here = format!("{}/devices", path(&name));
    let states = AssignmentState::ALL.into_iter().map(|state| (state.as_str(), badge(state).word));
    let page = Devices {
        frame: Frame::new(&desk, Section::Rollouts, format!("Devices of {name}")).live(),
        rows: rows.collect(),
        pager: Pager::new(&here, &[("state", &state)], after.as_deref(), found.next.as_deref()),
        path: path(&name),
        name,
        form: Form::with([("state", state)]),
        states: std::iter::once(("", "All")).chain(states).collect(),
    };
    frame::show(&page)
}

/// `GET /rollouts/{rollout}/sites`: sites with how their devices stand.
pub(crate) async fn sites(
    desk: Desk<View>,
    app: Data<App>,
    rollout: Path<String>,
    asked: Query<Asked>,
) -> ApiResult<HttpResponse> {
    let after: Option<SiteId> = params::parse_some("after", asked.after.as_deref())?;
    let (actor, reference, from) = (desk.actor.clone(), rollout.into_inner(), after.clone());
    let (name, found) = app
        .db
        .read(move |conn| {
            let record = rollouts::resolve_for(conn, &actor, &reference)?;
            let found = db::standings::by_site(conn, record.id, from.as_ref(), ROWS + 1)?;
            Ok::<_, Error>((record.spec.name.to_string(), found))
        })
        .await?;
    let found = page::page(found, ROWS + 1, |one| one.site.to_string());
    let rows = found.items.into_iter().map(|one| {
        let sum = |which: fn(AssignmentState) -> bool| {
            one.states.iter().filter(|(state, _)| which(*state)).map(|(_, n)| *n).sum::<u32>()
        };
        let bar = super::Bar {
            wanted: one.states.iter().map(|(_, n)| n).sum(),
            succeeded: sum(|state| state == AssignmentState::Succeeded),
            failed: sum(is_failure),
            busy: sum(|state| !state.is_final()),
        };
        let words: Vec<String> = one.states.iter().map(|(state, n)| format!("{n} {}", badge(*state).word)).collect();
        Site {
            path: list_of(Field::Site, Value::Text(one.site.to_string())),
            id: one.site.to_string(),
            bar,
            words: words.join(", "),
        }
    });
    let here = format!("{}/sites", path(&name));
    let page = Sites {
        frame: Frame::new(&desk, Section::Rollouts, format!("Sites of {name}")).live(),
        rows: rows.collect(),
        pager: Pager::new(&here, &[], after.as_ref().map(|id| id.as_str()), found.next.as_deref()),
        path: path(&name),
        name,
    };
    frame::show(&page)
}
