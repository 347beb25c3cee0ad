//! One device: what it is, what it runs, what happened to it, and why it gets what it gets.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use askama::Template;
use callboard_policy::assignment::is_failure;
use callboard_proto::{
    admin::{Device, Explanation, Permission},
    report::FailureClass,
    state::AgentState,
    time::Timestamp,
};

use super::{Asked, badge, change, labels, path};
use crate::{
    app::{self, App, Error},
    ca, db,
    http::{auth::View, params, problem::ApiResult},
    ui::{
        desk::Desk,
        form::Form,
        frame::{self, Frame, Section},
        parts::{Badge, Pager, When, bytes, span},
    },
};

/// Events on a page of its history.
const EVENTS: i64 = 25;

#[derive(Template)]
#[template(path = "device.html")]
pub(super) struct Page {
    frame: Frame,
    name: String,
    path: String,
    badge: Badge,
    device: Device,
    seen: When,
    why: Why,
    failures: Vec<FailureRow>,
    facts: Vec<(&'static str, String)>,
    certificate: Option<(String, When)>,
    attacks: Vec<String>,
    history: Vec<EventRow>,
    pager: Pager,
    may_operate: bool,
    pub(super) form: Form,
    /// Which form is the one that was refused.
    pub(super) refused: &'static str,
    /// What the labels are by now, if somebody else changed them meanwhile.
    pub(super) theirs: Option<String>,
    holds: [(&'static str, &'static str); 6],
}

/// Why it gets what it gets, in words.
struct Why {
    next: String,
    /// When that comes.
    expected: String,
    agent: &'static str,
    progress: String,
    rollouts: Vec<(String, String, String)>,
}

/// An attempt that failed, or that goes on.
struct FailureRow {
    rollout: String,
    state: String,
    failed: bool,
    attempt: u32,
    at: When,
    code: String,
    class: &'static str,
    log: String,
}

struct EventRow {
    at: When,
    tone: &'static str,
    kind: String,
    rollout: String,
    text: String,
}

/// `GET /devices/{device}`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>, name: Path<String>, asked: Asked) -> ApiResult<HttpResponse> {
    let asked = Form::of(asked.into_inner());
    let page = page(&app, &desk, &name, asked.some("after").as_deref()).await?;
    frame::show(&page)
}

/// The page of a device, with its forms as they are before anybody typed anything.
pub(super) async fn page<P>(app: &App, desk: &Desk<P>, name: &str, after: Option<&str>) -> ApiResult<Page> {
    app::attacks::flush(app).await.ok();
    let now = app.clock.now();
    let before = params::parse_some("after", after)?;
    // It is looked at, whatever the one who looks may change.
    let actor = app::Actor { may: desk.sees.clone(), ..desk.actor.clone() };
    let (by, wanted) = (actor.clone(), name.to_owned());
    let (record, events, failures) = app
        .db
        .read(move |conn| {
            let record = app::devices::resolve_for(conn, &by, &wanted, now)?;
            let id = record.device.id;
            let filter =
                db::events::Filter { device: Some(id), before, limit: EVENTS + 1, ..db::events::Filter::default() };
            let events = db::events::list(conn, filter)?;
            let mut failures = Vec::new();
            for one in db::assignments::unsettled(conn, id)? {
                if let Some(rollout) = db::rollouts::get(conn, one.assignment.rollout)? {
                    failures.push((rollout.spec.name.to_string(), one));
                }
            }
            Ok::<_, Error>((record, events, failures))
        })
        .await?;
    let explained = app::explain::explain(app, actor, record.device.id.to_string()).await?;
    let own_labels = labels::lines(&record.own_labels);
    let certificate = record.spki.map(|spki| {
        let end = record.certificate.as_deref().and_then(|pem| ca::not_after(pem).ok());
        (spki.to_string(), When::some(end, now))
    });
    let device = app::devices::show(app, record);
    let name = device.name.to_string();
    let path = path(&name);
    let more = i64::try_from(events.len()).is_ok_and(|n| n > EVENTS);
    let shown: Vec<db::events::Event> = events.into_iter().take(usize::try_from(EVENTS).unwrap_or(0)).collect();
    let next = shown.last().filter(|_| more).map(|event| event.seq.to_string());
    let new = device.attacks.iter().filter(|one| one.total > one.acknowledged);
    Ok(Page {
        frame: Frame::new(desk, Section::Devices, name.clone()).live(),
        badge: badge(&device),
        seen: When::some(device.last_seen, now),
        why: why(&explained),
        failures: failures.into_iter().map(|(rollout, one)| failure(rollout, one, now)).collect(),
        facts: facts(&device),
        certificate,
        attacks: new.map(|one| format!("{} {}", one.kind, one.total - one.acknowledged)).collect(),
        history: shown.into_iter().map(|event| event_row(event, now)).collect(),
        pager: Pager::new(&path, &[], after, next.as_deref()),
        may_operate: desk.may_do(Permission::Operate) && !device.decommissioned,
        form: Form::with([("labels", own_labels.clone()), ("was", own_labels)]),
        refused: "",
        theirs: None,
        holds: change::HOLDS,
        name,
        path,
        device,
    })
}

fn why(explained: &Explanation) -> Why {
    let now = explained.now;
    let row = |one: &callboard_proto::admin::Considered| {
        let state = one.assignment.map(|state| state.as_str().replace('_', " ")).unwrap_or_default();
        (one.rollout.to_string(), state, without_commands(&one.reason.text))
    };
    let progress = explained.progress.as_ref().map(|progress| {
        let (done, all) = (bytes(progress.bytes_done), bytes(progress.bytes_total));
        format!("{done} of {all} are there, attempt {}", progress.attempt)
    });
    Why {
        next: without_commands(&explained.next.text),
        expected: match explained.expected_at {
            Some(at) if at < now => format!("it should have asked {} ago", span(now.since(at))),
            Some(at) if at == now => "it is expected now".to_owned(),
            Some(at) => format!("it is expected in {}", span(at.since(now))),
            None if explained.last_seen.is_none() => "it has never asked".to_owned(),
            None => "it is not expected any more".to_owned(),
        },
        agent: explained.agent_state.map_or("", at_work),
        progress: progress.unwrap_or_default(),
        rollouts: explained.rollouts.iter().map(row).collect(),
    }
}

/// What its agent is at, in words.
const fn at_work(state: AgentState) -> &'static str {
    match state {
        AgentState::Idle => "its agent has nothing to do",
        AgentState::Accepted => "its agent is about to download",
        AgentState::Downloading => "its agent is downloading",
        AgentState::Staging => "its agent is unpacking what it downloaded",
        AgentState::Staged => "its agent has it unpacked and ready to install",
        AgentState::Waiting => "its agent waits until it may install",
        AgentState::Pre => "its agent prepares the switch",
        AgentState::Switching => "its agent is switching",
        AgentState::Trial => "its agent is trying out what it has installed",
        AgentState::Committing | AgentState::Committed => "its agent has found the update to be good",
        AgentState::RollingBack => "its agent is going back to what ran before",
        AgentState::RolledBack => "its agent has gone back to what ran before",
        AgentState::Cleanup => "its agent is clearing up",
        AgentState::Inconsistent => "its agent could not go back, and leaves everything as it is",
    }
}

/// A reason without what it advises to type: the page has buttons for that.
fn without_commands(text: &str) -> String {
    let parts = text.split("; ").filter(|part| !part.contains("`callboard "));
    parts.collect::<Vec<_>>().join("; ")
}

fn failure(rollout: String, one: db::assignments::Record, now: Timestamp) -> FailureRow {
    let state = one.assignment.state;
    let class = one.failure.as_ref().map_or("", |failure| match failure.class {
        FailureClass::Permanent => "another try does not help by itself",
        _ => "another try may help",
    });
    let (code, log) = one.failure.map(|failure| (failure.code, failure.text)).unwrap_or_default();
    FailureRow {
        rollout,
        state: state.as_str().replace('_', " "),
        failed: is_failure(state),
        attempt: one.assignment.attempt,
        at: When::new(one.updated_at, now),
        code,
        class,
        log,
    }
}

fn facts(device: &Device) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let tz = match (&device.tz, device.tz_mismatch) {
        (Some(tz), true) => format!("{tz}, and its clock is not its site's; windows follow the site's"),
        (tz, _) => text(tz),
    };
    let mut facts = vec![
        ("Site", device.site.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("Description", device.description.clone()),
        ("Hardware", device.hw.clone()),
        ("Architecture", device.arch.clone()),
        ("Serial number", text(&device.serial)),
        ("Agent", device.agent.clone()),
        ("Time zone", tz),
        ("Came by", text(&device.address)),
        ("Id", device.id.to_string()),
        ("Enrolled", device.enrolled_at.map(|at| at.to_string()).unwrap_or_default()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

fn event_row(event: db::events::Event, now: Timestamp) -> EventRow {
    let bad =
        ["failed", "rolled back", "rolled_back", "attack", "decommission", "regress", "timed", "rejected", "refused"];
    let good = ["succeeded", "committed", "enrolled", "accepted", "unheld"];
    // Of a report, its text says what was reported.
    let said = format!("{} {}", event.kind, event.text.split('(').next().unwrap_or_default());
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    EventRow {
        at: When::new(event.at, now),
        tone: if has(&bad) {
            "bad"
        } else if has(&good) {
            "good"
        } else {
            "dull"
        },
        kind: event.kind.replace(['.', '_'], " "),
        rollout: event.rollout.unwrap_or_default(),
        text: event.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_on_the_page_says_nothing_of_commands() {
        let text = "rollout spring: 2.4.0 failed here; `callboard rollout retry spring --device x` tries again";
        assert_eq!(without_commands(text), "rollout spring: 2.4.0 failed here");
        assert_eq!(without_commands("it waits; phase a: 1 of 2"), "it waits; phase a: 1 of 2");
    }
}
