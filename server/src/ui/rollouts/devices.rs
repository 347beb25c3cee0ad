//! `/rollouts/{rollout}/devices` and `/rollouts/{rollout}/sites`: where each device and each site stands.

use std::collections::BTreeMap;

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
    admin::Page,
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
    attempt: String,
    code: String,
    text: String,
    at: Option<When>,
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

/// The state of those that the rollout still waits for; they have no assignment.
const UNREACHED: (&str, &str) = ("unreached", "not reached yet");

/// `GET /rollouts/{rollout}/devices`: those that have been offered the release, or those that have not yet.
pub(crate) async fn list(
    desk: Desk<View>,
    app: Data<App>,
    rollout: Path<String>,
    asked: Query<Asked>,
) -> ApiResult<HttpResponse> {
    let Asked { state, after } = asked.into_inner();
    let reference = rollout.into_inner();
    let (name, found) = if state == UNREACHED.0 {
        waited_for(&desk, &app, reference, after.as_deref()).await?
    } else {
        offered(&desk, &app, reference, &state, after.as_deref()).await?
    };
    let here = format!("{}/devices", path(&name));
    let states = AssignmentState::ALL.into_iter().map(|state| (state.as_str(), badge(state).word));
    let page = Devices {
        frame: Frame::new(&desk, Section::Rollouts, format!("Devices of {name}")).live(),
        rows: found.items,
        pager: Pager::new(&here, &[("state", &state)], after.as_deref(), found.next.as_deref()),
        path: path(&name),
        name,
        form: Form::with([("state", state)]),
        states: [("", "All that were reached"), UNREACHED].into_iter().chain(states).collect(),
    };
    frame::show(&page)
}

async fn offered(
    desk: &Desk<View>,
    app: &App,
    reference: String,
    state: &str,
    after: Option<&str>,
) -> ApiResult<(String, Page<Device>)> {
    let from = params::parse_some("after", after)?.unwrap_or(AssignmentId::from_uuid(Uuid::nil()));
    let wanted = AssignmentState::ALL.into_iter().find(|known| known.as_str() == state);
    let actor = desk.actor.clone();
    let (record, found) = app
        .db
        .read(move |conn| {
            let record = rollouts::resolve_for(conn, &actor, &reference)?;
            let found = db::assignments::list(conn, record.id, wanted, from, ROWS + 1)?;
            Ok::<_, Error>((record, found))
        })
        .await?;
    let now = app.clock.now();
    let found = page::page(found, ROWS + 1, |(one, _)| one.assignment.id.to_string());
    let row = |(one, device): (db::assignments::Record, String)| {
        let phase = record.phases.get(one.assignment.phase).map(|phase| phase.name.clone());
        let (code, text) = one.failure.map(|failure| (failure.code, failure.text)).unwrap_or_default();
        Device {
            path: format!("/devices/{}", segment(&device)),
            name: device,
            phase: phase.unwrap_or_default(),
            badge: badge(one.assignment.state),
            attempt: one.assignment.attempt.to_string(),
            code,
            text,
            at: Some(When::new(one.updated_at, now)),
        }
    };
    let items = found.items.into_iter().map(row).collect();
    Ok((record.spec.name.to_string(), Page { items, next: found.next }))
}

async fn waited_for(
    desk: &Desk<View>,
    app: &App,
    reference: String,
    after: Option<&str>,
) -> ApiResult<(String, Page<Device>)> {
    let from = params::parse_some("after", after)?.unwrap_or(-1);
    let (record, found) = rollouts::unreached::list(app, desk.actor.clone(), reference, from, ROWS + 1).await?;
    let found = page::page(found, ROWS + 1, |one| one.device.number.to_string());
    let row = |one: db::devices::Record| Device {
        path: format!("/devices/{}", segment(one.device.name.as_str())),
        name: one.device.name.to_string(),
        phase: String::new(),
        badge: Badge::new(UNREACHED.1, "dull"),
        attempt: String::new(),
        code: String::new(),
        text: String::new(),
        at: None,
    };
    Ok((record.spec.name.to_string(), Page { items: found.items.into_iter().map(row).collect(), next: found.next }))
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
    let catalog = app.catalog();
    let (name, found, unreached) = app
        .db
        .read(move |conn| {
            let record = rollouts::resolve_for(conn, &actor, &reference)?;
            let found = db::standings::by_site(conn, record.id, from.as_ref(), ROWS + 1)?;
            let sites: Vec<SiteId> = found.iter().map(|one| one.site.clone()).collect();
            let unreached = match rollouts::unreached::at_work(&catalog.catalog, &record) {
                Some(rollout) => rollouts::unreached::at_sites(conn, rollout, &sites)?,
                None => BTreeMap::new(),
            };
            Ok::<_, Error>((record.spec.name.to_string(), found, unreached))
        })
        .await?;
    let found = page::page(found, ROWS + 1, |one| one.site.to_string());
    let rows = found.items.into_iter().map(|one| {
        let sum = |which: fn(AssignmentState) -> bool| {
            one.states.iter().filter(|(state, _)| which(*state)).map(|(_, n)| *n).sum::<u32>()
        };
        let waits = unreached.get(&one.site).copied().unwrap_or(0);
        let bar = super::Bar {
            wanted: waits + one.states.iter().map(|(_, n)| n).sum::<u32>(),
            succeeded: sum(|state| state == AssignmentState::Succeeded),
            failed: sum(is_failure),
            busy: sum(|state| !state.is_final()),
        };
        let states = one.states.iter().map(|(state, n)| format!("{n} {}", badge(*state).word));
        let waiting = (waits > 0).then(|| format!("{waits} {}", UNREACHED.1));
        let words: Vec<String> = states.chain(waiting).collect();
        Site {
            path: list_of(Field::Site, Value::Text(one.site.to_string())),
            id: one.site.to_string(),
            bar,
            words: if words.is_empty() { "no device of it".to_owned() } else { words.join(", ") },
        }
    });
    // People with a part of the fleet learn nothing of the other sites.
    let rows = rows.filter(|row| desk.sees.is_everything() || row.bar.wanted > 0);
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
