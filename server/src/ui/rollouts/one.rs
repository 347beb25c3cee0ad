//! `/rollouts/{rollout}`: its phases as a track with their gates, how fast it goes, what failed and why, and what somebody
//! may do about it, with the numbers that say what that means.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use askama::Template;
use callboard_policy::forecast::{Hour, LOOK_BACK};
use callboard_proto::{
    admin::{self, Approval, Counts, Permission, PhaseProgress, Rollout, RolloutState},
    ids::DeviceId,
    report::Failure,
    time::Timestamp,
};
use uuid::Uuid;

use super::{
    Bar, badge, path,
    picture::{self, Picture},
    policy,
};
use crate::{
    app::{Actor, App, Error, fleet, rollouts, trust::PublishedRoot},
    db::{self, DbConn, rollouts::Record, selector::Context},
    http::{auth::View, problem::ApiResult},
    rollout_file::to_toml,
    ui::{
        desk::Desk,
        form::Form,
        frame::{self, Frame, Section},
        parts::{Badge, When, count, link, span},
    },
};

/// Failures that are looked at for their reasons, the newest.
const FAILURES: i64 = 500;
/// Devices named of each reason.
const NAMED: usize = 5;
/// Devices that are counted for the word of warning beside a release.
const MOST_COUNTED: i64 = 1000;
/// Releases that a rollout can be taken back to in the form; older ones by the file of another rollout.
const TARGETS: i64 = 30;

#[derive(Template)]
#[template(path = "rollout.html")]
pub(super) struct Page {
    frame: Frame,
    name: String,
    path: String,
    badge: Badge,
    reason: String,
    facts: Vec<(&'static str, String, String)>,
    file: String,
    times: Vec<(&'static str, When)>,
    warnings: Vec<String>,
    numbers: Vec<(&'static str, u32, String)>,
    track: Vec<Step>,
    picture: Option<Picture>,
    forecast: String,
    failures: Vec<Group>,
    more_failures: bool,
    acts: Acts,
    form: Form,
}

/// A phase on the track.
struct Step {
    name: String,
    /// `done`, `open` or `ahead`.
    stands: &'static str,
    badge: Badge,
    bar: Bar,
    wanted: String,
    /// What the next phase asks of this one.
    gate: String,
    /// What it waits for.
    waits: String,
    /// How long it soaks.
    soak: String,
    approved: String,
    opened: Option<When>,
}

/// Failures of one reason.
struct Group {
    code: String,
    class: &'static str,
    n: usize,
    /// What the newest said.
    text: String,
    devices: Vec<(String, String)>,
    more: usize,
}

/// What somebody may do now, each with what it means in numbers; empty where it makes no sense.
#[derive(Default)]
struct Acts {
    start: bool,
    edit: bool,
    pause: String,
    resume: String,
    cancel: String,
    rollback: String,
    targets: Vec<(String, String)>,
    countersign: String,
    approve: String,
    skip_soak: String,
    open_phase: String,
    next_phase: String,
}

impl Acts {
    /// Whether there is anything to do.
    fn any(&self) -> bool {
        let texts = [&self.pause, &self.resume, &self.cancel, &self.rollback, &self.countersign, &self.approve];
        let more = [&self.skip_soak, &self.open_phase];
        self.start || self.edit || texts.into_iter().chain(more).any(|text| !text.is_empty())
    }
}

/// `GET /rollouts/{rollout}`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>, path: Path<String>) -> ApiResult<HttpResponse> {
    frame::show(&page(&app, &desk, path.into_inner(), Form::default()).await?)
}

/// The page, with what is wrong with a form that was sent from it.
pub(super) async fn page<P>(app: &App, desk: &Desk<P>, reference: String, form: Form) -> ApiResult<Page> {
    let (now, root, actor) = (app.clock.now(), app.newest_root(), desk.actor.clone());
    let (context, above) = (app.selector_context(), app.second_person_above);
    let read = app.db.read(move |conn| read(conn, &actor, &reference, root.as_deref(), above, &context)).await?;
    let Read { record, hours, failures, targets, second_person } = read;
    let name = record.spec.name.to_string();
    let forecast = forecast(app, &desk.actor, &record).await?;
    let rollout = rollouts::show(app, record);
    let bar = Bar::all(&rollout.phases);
    let done = rollout.phases.iter().map(|phase| u64::from(phase.counts.done())).sum();
    let since = rollout.started_at.unwrap_or(now);
    let drawn_to = rollout.ended_at.unwrap_or(now);
    let picture = picture::draw(&hours, done, bar.wanted.into(), since, drawn_to);
    let more_failures = i64::try_from(failures.len()).is_ok_and(|n| n >= FAILURES);
    Ok(Page {
        frame: Frame::new(desk, Section::Rollouts, name.clone()).live(),
        path: path(&name),
        name,
        badge: badge(rollout.state),
        reason: rollout.state_reason.clone().unwrap_or_default(),
        facts: facts(&rollout),
        file: to_toml(&rollout.spec).map_err(|source| Error::Unexpected(source.to_string()))?,
        times: times(&rollout, now),
        warnings: rollout.warnings.clone(),
        numbers: numbers(&rollout),
        track: track(&rollout, now),
        picture,
        forecast,
        failures: groups(failures),
        more_failures,
        acts: acts(desk, &rollout, targets, second_person),
        form,
    })
}

/// What the page is made of.
struct Read {
    record: Record,
    hours: Vec<Hour>,
    failures: Vec<(Option<Failure>, String)>,
    /// Releases that it could be taken back to.
    targets: Vec<(String, String)>,
    /// Whether it waits for one.
    second_person: bool,
}

fn read(
    conn: &mut DbConn,
    actor: &Actor,
    reference: &str,
    root: Option<&PublishedRoot>,
    above: Option<u64>,
    context: &Context,
) -> crate::app::Result<Read> {
    let record = rollouts::resolve_for(conn, actor, reference)?;
    let second_person = rollouts::countersign::is_wanted(conn, &record, above, context)?;
    let hours = db::hours::of(conn, record.id, context.now, LOOK_BACK)?;
    let failed = db::assignments::failures(conn, record.id, FAILURES)?;
    let failures = failed.into_iter().map(|(assignment, device)| (assignment.failure, device)).collect();
    let targets = match root {
        Some(root) if record.started_at.is_some() => older(conn, root, &record)?,
        _ => Vec::new(),
    };
    Ok(Read { record, hours, failures, targets, second_person })
}

/// Older releases of the same product that devices would take, the newest first and before them none that went wrong
/// itself, with what is said of each.
fn older(conn: &mut DbConn, root: &PublishedRoot, record: &Record) -> crate::app::Result<Vec<(String, String)>> {
    let Some(own) = db::releases::get(conn, record.release)? else { return Ok(Vec::new()) };
    let own = crate::app::releases::open(root, &own)?.release;
    let top = db::releases::Place::top();
    let all = db::releases::list(conn, Some(&own.product), top, TARGETS)?;
    let mut found = Vec::new();
    for one in &all {
        let opened = crate::app::releases::open(root, one)?;
        let older = (opened.release.epoch, opened.release.counter) < (own.epoch, own.counter);
        if older && opened.distrust.is_none() {
            let name = format!("{}@{}", opened.release.product, opened.release.version);
            let nobody = DeviceId::from_uuid(Uuid::nil());
            let bad = db::penalties::on(conn, one.sha256, nobody, MOST_COUNTED)?.len();
            let said = match bad {
                0 => name.clone(),
                n => format!("{name}, which rolled back on {}", count(n.try_into().unwrap_or(u64::MAX), "device")),
            };
            found.push((bad > 0, name, said));
        }
    }
    found.sort_by_key(|(bad, ..)| *bad);
    Ok(found.into_iter().map(|(_, name, said)| (name, said)).collect())
}

async fn forecast(app: &App, actor: &Actor, record: &Record) -> ApiResult<String> {
    if !record.state.is_active() {
        return Ok(String::new());
    }
    let now = app.clock.now();
    let found = fleet::forecast(app, actor, record.id).await?;
    Ok(match (found.from, found.to) {
        (Some(from), Some(to)) => {
            format!("done between {} and {} from now: {}", words(from, now), words(to, now), found.basis)
        }
        (Some(from), None) => format!("not done before {} from now: {}", words(from, now), found.basis),
        _ => found.basis,
    })
}

fn words(at: Timestamp, now: Timestamp) -> String {
    span(at.since(now))
}

/// What was asked for: a label, what stands there, and where that leads.
fn facts(rollout: &Rollout) -> Vec<(&'static str, String, String)> {
    let spec = &rollout.spec;
    let mut facts = vec![
        ("Release", spec.release.clone(), format!("/releases/{}", rollout.release)),
        ("Policy", policy(spec.policy).to_owned(), String::new()),
    ];
    let selector = spec.selector.clone().unwrap_or_else(|| "all".to_owned());
    let devices = link("/devices", &[("selector", &selector)]);
    if rollout.takes_back.is_none() {
        facts.push(("Devices", selector, devices));
    }
    let audience = match spec.audience {
        admin::Audience::Live => "live: devices that match later join",
        admin::Audience::Frozen => "frozen: those that matched at the start",
    };
    facts.push(("Audience", audience.to_owned(), String::new()));
    if spec.priority != 500 {
        facts.push(("Priority", spec.priority.to_string(), String::new()));
    }
    let changed = rollout.edited_by.as_ref().map(|by| format!(", changed by {by}")).unwrap_or_default();
    facts.push(("Made by", format!("{}{changed}", rollout.created_by), String::new()));
    if let Some(second) = &rollout.countersigned {
        facts.push(("Second person", second.by.clone(), String::new()));
    }
    if let Some(bad) = &rollout.takes_back {
        facts.push((
            "Devices",
            "those that got the release of the rollout that it takes back".to_owned(),
            String::new(),
        ));
        facts.push(("Takes back", bad.to_string(), path(bad.as_str())));
    }
    facts
}

fn times(rollout: &Rollout, now: Timestamp) -> Vec<(&'static str, When)> {
    let all = [
        ("Made", Some(rollout.created_at)),
        ("Started", rollout.started_at),
        ("Ended", rollout.ended_at),
        ("Not before", rollout.spec.start_at),
        ("Deadline", rollout.spec.deadline),
        ("Ends", rollout.spec.ends_at),
    ];
    all.into_iter().filter_map(|(name, at)| Some((name, When::new(at?, now)))).collect()
}

/// Devices by state, each with the way to the list of them.
fn numbers(rollout: &Rollout) -> Vec<(&'static str, u32, String)> {
    let sum = |of: fn(&Counts) -> u32| rollout.phases.iter().map(|phase| of(&phase.counts)).sum::<u32>();
    let devices = |state: &str| format!("{}/devices?state={state}", path(rollout.spec.name.as_str()));
    let all: [(&'static str, u32, String); 13] = [
        ("succeeded", sum(|counts| counts.succeeded), devices("succeeded")),
        ("rolled back", sum(|counts| counts.rolled_back), devices("rolled_back")),
        ("failed", sum(|counts| counts.failed), devices("failed")),
        ("timed out", sum(|counts| counts.timed_out), devices("timed_out")),
        ("activating", sum(|counts| counts.activating), devices("activating")),
        ("verifying", sum(|counts| counts.verifying), devices("verifying")),
        ("staged", sum(|counts| counts.staged), devices("staged")),
        ("downloading", sum(|counts| counts.downloading), devices("downloading")),
        ("queued", sum(|counts| counts.queued), devices("queued")),
        ("cancelled", sum(|counts| counts.cancelled), devices("cancelled")),
        ("not reached yet", sum(|counts| counts.unreached), devices("unreached")),
        ("silent", sum(|counts| counts.silent), String::new()),
        ("need nothing or cannot have it", sum(|counts| counts.excluded), String::new()),
    ];
    all.into_iter().filter(|(_, n, _)| *n > 0).collect()
}

fn track(rollout: &Rollout, now: Timestamp) -> Vec<Step> {
    let open = rollout.phases.iter().rposition(|phase| phase.opened_at.is_some());
    let step = |(at, phase): (usize, &PhaseProgress)| {
        let asked = rollout.spec.phases.get(at);
        let (stands, badge) = match open {
            Some(open) if at < open => ("done", Badge::new("passed", "good")),
            Some(open) if at == open => match rollout.state {
                RolloutState::Completed => ("done", Badge::new("done", "good")),
                RolloutState::Cancelled => ("done", Badge::new("ended", "dull")),
                RolloutState::Paused => ("open", Badge::new("held", "warn")),
                _ => ("open", Badge::new("open", "busy")),
            },
            _ => ("ahead", Badge::new("ahead", "dull")),
        };
        Step {
            name: phase.name.clone(),
            stands,
            badge,
            bar: Bar::of(&phase.counts),
            wanted: count(phase.counts.wanted().into(), "device"),
            gate: asked.map(gate).unwrap_or_default(),
            waits: phase.gate.as_ref().map(|reason| reason.text.clone()).unwrap_or_default(),
            soak: asked.map(|asked| soak(asked, phase, now)).unwrap_or_default(),
            approved: phase.approved.as_ref().map(|by| by.by.clone()).unwrap_or_default(),
            opened: phase.opened_at.map(|at| When::new(at, now)),
        }
    };
    rollout.phases.iter().enumerate().map(step).collect()
}

/// What the phase after it asks of a phase.
fn gate(asked: &admin::Phase) -> String {
    let mut gate = format!(
        "{} % done, {} % of them well, at least {}",
        asked.completed_percent,
        asked.success_percent,
        count(asked.min_completed.into(), "device")
    );
    if let Some(wait) = asked.max_wait_min {
        gate = format!("{gate}; after {} those will do", minutes(wait));
    }
    if asked.approval == Approval::Manual {
        gate.push_str("; then somebody approves");
    }
    gate
}

fn soak(asked: &admin::Phase, phase: &PhaseProgress, now: Timestamp) -> String {
    if asked.soak_min == 0 {
        return String::new();
    }
    let length = Duration::from_secs(u64::from(asked.soak_min) * 60);
    match (phase.gate_met_at, phase.soak_skipped_at) {
        (_, Some(_)) => "soak skipped".to_owned(),
        (Some(met), _) if met + length > now => {
            format!("soaks for {} of {} more", span((met + length).since(now)), span(length))
        }
        (Some(_), _) => format!("soaked for {}", span(length)),
        (None, _) => format!("soaks for {} once its gate is met", span(length)),
    }
}

fn minutes(minutes: u32) -> String {
    span(Duration::from_secs(u64::from(minutes) * 60))
}

/// Failures by their codes, those with the most devices first.
fn groups(failures: Vec<(Option<Failure>, String)>) -> Vec<Group> {
    let mut by_code: BTreeMap<String, Group> = BTreeMap::new();
    for (failure, device) in failures {
        let class = match failure.as_ref().map(|failure| failure.class) {
            Some(callboard_proto::report::FailureClass::Transient) => "may help to try again",
            Some(callboard_proto::report::FailureClass::Permanent) => "would fail again",
            None => "no report came",
        };
        let code = failure.as_ref().map_or_else(|| "silence".to_owned(), |failure| failure.code.clone());
        let group = by_code.entry(code.clone()).or_insert_with(|| Group {
            code,
            class,
            n: 0,
            text: failure.map(|failure| failure.text).unwrap_or_default(),
            devices: Vec::new(),
            more: 0,
        });
        group.n += 1;
        if group.devices.len() < NAMED {
            let path = format!("/devices/{}", frame::segment(&device));
            group.devices.push((device, path));
        } else {
            group.more += 1;
        }
    }
    let mut groups: Vec<Group> = by_code.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.n));
    groups
}

/// What may be done now, and what it means.
fn acts<P>(desk: &Desk<P>, rollout: &Rollout, targets: Vec<(String, String)>, second_person: bool) -> Acts {
    let sum = |of: fn(&Counts) -> u32| u64::from(rollout.phases.iter().map(|phase| of(&phase.counts)).sum::<u32>());
    let (switching, waiting, have) = (
        sum(|counts| counts.activating + counts.verifying),
        sum(|counts| counts.queued + counts.downloading + counts.staged),
        sum(|counts| counts.succeeded),
    );
    let (reached, failed) = (sum(|counts| counts.unreached), sum(|counts| counts.rolled_back + counts.failed));
    let device = |n: u64| count(n, "device");
    let mut acts = Acts::default();
    let (draft, running, paused) = (
        rollout.state == RolloutState::Draft,
        rollout.state == RolloutState::Running,
        rollout.state == RolloutState::Paused,
    );
    if super::operates(desk) {
        acts.start = draft;
        acts.edit = draft || running || paused;
        if running {
            acts.pause = format!(
                "Nothing is granted any more: {} stay as they are, and {} that are switching finish. It can go on later.",
                device(waiting + reached),
                device(switching)
            );
        }
        if paused {
            acts.resume = format!("It goes on for {}; {} failed so far.", device(waiting + reached), device(failed));
        }
        if draft || running || paused {
            acts.cancel = format!(
                "It ends for good: {} drop it or are never offered it, {} that are switching finish, and {} keep what they got.",
                device(waiting + reached),
                device(switching),
                device(have)
            );
        }
        if rollout.started_at.is_some() && have + switching > 0 && !targets.is_empty() {
            acts.rollback = format!(
                "Brings {} with {} back to the release that you choose, and each of {} that are switching as soon as \
                 it has arrived there.{}",
                device(have),
                rollout.spec.release,
                device(switching),
                if running || paused { " This rollout ends." } else { "" }
            );
            acts.targets = targets;
        }
    }
    if desk.may_do(Permission::Approve) {
        by_approvers(&mut acts, desk, rollout, second_person);
    }
    acts
}

fn by_approvers<P>(acts: &mut Acts, desk: &Desk<P>, rollout: &Rollout, second_person: bool) {
    let all: u32 = rollout.phases.iter().map(|phase| phase.counts.wanted()).sum();
    let own = rollout.created_by == desk.me.name || rollout.edited_by.as_ref() == Some(&desk.me.name);
    if second_person && !own {
        acts.countersign = match all {
            0 => "You approve it as a second person, as it is now; a change takes that back.".to_owned(),
            n => format!(
                "You approve it as a second person for {}, as it is now; a change takes that back.",
                count(n.into(), "device")
            ),
        };
    }
    if !matches!(rollout.state, RolloutState::Running | RolloutState::Paused) {
        return;
    }
    let open = rollout.phases.iter().rposition(|phase| phase.opened_at.is_some()).unwrap_or(0);
    let (Some(phase), Some(asked)) = (rollout.phases.get(open), rollout.spec.phases.get(open)) else { return };
    let waits = phase.gate.as_ref().map(|reason| reason.text.as_str()).unwrap_or_default();
    if asked.soak_min > 0 && phase.gate_met_at.is_some() && phase.soak_skipped_at.is_none() {
        acts.skip_soak = format!("Phase {} counts as healthy now. Otherwise: {waits}.", phase.name);
    }
    let Some(next) = rollout.phases.get(open + 1) else { return };
    let opens = format!("Phase {} opens for {}.", next.name, count(next.counts.wanted().into(), "device"));
    if asked.approval == Approval::Manual && phase.approved.is_none() {
        acts.approve = opens.clone();
    }
    acts.next_phase = next.name.clone();
    acts.open_phase = format!("{opens} Its gate says otherwise: {waits}.");
}
