//! The one page: rollouts with their progress, and devices. It refreshes itself; nothing can be changed here. Texts that
//! people or devices chose are escaped by the template for HTML, and here for the eye.

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use callboard_policy::rollout::RolloutState;
use callboard_proto::{
    admin::{Device, Rollout},
    ids::RolloutId,
};
use uuid::Uuid;

use crate::{
    app::{self, App, Error, Reach},
    db::{self, DbConn, QueryError, rollouts::Record},
    http::{auth::View, problem::ApiResult},
    ui::{
        desk::Desk,
        frame::{self, Frame, Section},
    },
};

/// Rows of each table: what fits a screen and a glance.
const ROWS: i64 = 200;
/// Rollouts: those that run, and what was before them.
const ROLLOUTS: i64 = 20;
/// Failures of one rollout: enough to see whether they are alike.
const FAILURES: i64 = 10;
type QueryResult<T> = Result<T, QueryError>;
/// An assignment and the name of its device.
type Failed = (db::assignments::Record, String);

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    devices: Vec<DeviceRow>,
    rollouts: Vec<RolloutRow>,
    counts: Vec<(String, u64)>,
    /// Kinds of attacks of which many devices tell, and how many.
    alarms: Vec<(String, u64)>,
    now: String,
    more: bool,
}

struct DeviceRow {
    name: String,
    site: String,
    status: &'static str,
    last_seen: String,
    installed: String,
    labels: String,
    /// What it refused, if nobody has taken note of it.
    attacks: String,
}

struct RolloutRow {
    name: String,
    release: String,
    state: String,
    reason: String,
    phases: Vec<PhaseRow>,
    failures: Vec<FailureRow>,
    more_failures: bool,
}

/// A device on which it came to nothing.
struct FailureRow {
    device: String,
    state: String,
    at: String,
    why: String,
}

struct PhaseRow {
    name: String,
    succeeded: u32,
    failed: u32,
    busy: u32,
    wanted: u32,
    gate: String,
}

/// `GET /`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    let mut records = app::devices::list(&app, desk.sees.selector(), -1, ROWS + 1).await?;
    let rows = usize::try_from(ROWS).unwrap_or(0);
    let more = records.len() > rows;
    records.truncate(rows);
    let rollouts = {
        let sees = desk.sees.clone();
        app.db.read(move |conn| rollouts(conn, &sees)).await?
    };
    let overview = app::overview::overview(&app, desk.sees.clone()).await?;
    let alarms = overview.attack_alarms.into_iter();
    let page = Overview {
        alarms: alarms.map(|kind| (kind.clone(), overview.attacks.get(&kind).copied().unwrap_or(0))).collect(),
        frame: Frame::new(&desk, Section::Overview, "Overview").live(),
        devices: records.into_iter().map(|record| device_row(app::devices::show(&app, record))).collect(),
        rollouts: rollouts
            .into_iter()
            .map(|(record, failures)| rollout_row(app::rollouts::show(&app, record), failures))
            .collect(),
        counts: overview.devices.into_iter().collect(),
        now: app.clock.now().to_string(),
        more,
    };
    frame::show(&page)
}

/// Running rollouts, then paused ones, then the newest of the others; each with its last failures.
fn rollouts(conn: &mut DbConn, sees: &Reach) -> Result<Vec<(Record, Vec<Failed>)>, Error> {
    let newest = RolloutId::from_uuid(Uuid::max());
    let mut found = Vec::new();
    for state in [RolloutState::Running, RolloutState::Paused] {
        found.extend(db::rollouts::list(conn, Some(state), newest, ROLLOUTS)?);
    }
    let others = db::rollouts::list(conn, None, newest, ROLLOUTS)?;
    found.extend(others.into_iter().filter(|rollout| !rollout.state.is_active()));
    let mut seen = Vec::new();
    for record in found {
        if app::rollouts::is_within(conn, sees, &record)? {
            seen.push(record);
        }
    }
    seen.truncate(usize::try_from(ROLLOUTS).unwrap_or(0));
    let failures = |record: Record| Ok((db::assignments::failures(conn, record.id, FAILURES + 1)?, record));
    let found: QueryResult<Vec<_>> = seen.into_iter().map(failures).collect();
    Ok(found?.into_iter().map(|(failures, record)| (record, failures)).collect())
}

fn device_row(device: Device) -> DeviceRow {
    use callboard_proto::admin::DeviceStatus as S;
    let installed: Vec<String> =
        device.installed.iter().map(|one| format!("{} {}", one.product, one.version)).collect();
    let labels: Vec<String> = device.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let new = device.attacks.iter().filter(|one| one.total > one.acknowledged);
    let attacks: Vec<String> = new.map(|one| format!("{} {}", one.kind, one.total - one.acknowledged)).collect();
    DeviceRow {
        name: device.name.to_string(),
        site: device.site.map(|site| site.to_string()).unwrap_or_default(),
        status: match (device.decommissioned, device.hold.is_some(), device.status) {
            (true, ..) => "decommissioned",
            (_, true, _) => "held",
            (_, _, S::Unknown) => "unknown",
            (_, _, S::Online) => "online",
            (_, _, S::Offline) => "offline",
            (_, _, S::Abandoned) => "abandoned",
        },
        last_seen: device.last_seen.map_or_else(|| "never".to_owned(), |seen| seen.to_string()),
        installed: installed.join(", "),
        labels: labels.join(", "),
        attacks: attacks.join(", "),
    }
}

fn failure_row((record, device): Failed) -> FailureRow {
    let why = record.failure.map(|failure| match failure.text.is_empty() {
        true => failure.code,
        false => format!("{}: {}", failure.code, failure.text),
    });
    FailureRow {
        device,
        state: record.assignment.state.as_str().replace('_', " "),
        at: record.updated_at.to_string(),
        why: why.unwrap_or_default(),
    }
}

fn rollout_row(rollout: Rollout, mut failures: Vec<Failed>) -> RolloutRow {
    let rows = usize::try_from(FAILURES).unwrap_or(0);
    let more_failures = failures.len() > rows;
    failures.truncate(rows);
    let phase = |phase: callboard_proto::admin::PhaseProgress| {
        let c = phase.counts;
        PhaseRow {
            name: phase.name,
            succeeded: c.succeeded,
            failed: c.unsuccessful(),
            busy: c.open(),
            wanted: c.wanted(),
            gate: phase.gate.map(|gate| gate.text).unwrap_or_default(),
        }
    };
    RolloutRow {
        name: rollout.spec.name.to_string(),
        release: rollout.spec.release,
        state: format!("{:?}", rollout.state).to_lowercase(),
        reason: rollout.state_reason.unwrap_or_default(),
        phases: rollout.phases.into_iter().map(phase).collect(),
        failures: failures.into_iter().map(failure_row).collect(),
        more_failures,
    }
}
