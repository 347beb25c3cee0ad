//! What a rollout would do: a part of the form in which one is made, and the page before a draft is started.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use askama::Template;
use callboard_proto::{
    admin::{ComesFirst, Permission, Preview},
    problem::Code,
    time::Timestamp,
};

use super::{fields, new::typed, path};
use crate::{
    app::{App, rollouts},
    http::{
        auth::{Operate, View},
        problem::{ApiProblem, ApiResult},
    },
    rollout_file::located,
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame::{self, Frame, Section},
        parts::{Bar, When, bars, count},
    },
};

/// Devices named of each phase, and of those that cannot have it.
const NAMED: usize = 8;

/// A preview as it is shown.
#[derive(Template, Default)]
#[template(path = "rollout_preview.html")]
pub(super) struct Shown {
    /// Nothing was looked at yet, for this reason.
    waits: String,
    sum: String,
    phases: Vec<Bar>,
    phase_devices: Vec<(String, String)>,
    zones: Vec<Zone>,
    conflicts: Vec<(String, String, String)>,
    incompatible: Vec<(String, String)>,
    more_incompatible: u32,
    warnings: Vec<String>,
}

/// When the devices of a zone could first install.
struct Zone {
    name: String,
    source: String,
    devices: u32,
    first: Option<When>,
    local: String,
    never: u32,
}

#[derive(Template)]
#[template(path = "rollout_start.html")]
struct Page {
    frame: Frame,
    name: String,
    path: String,
    preview: Shown,
    devices: String,
    form: Form,
    may_start: bool,
}

impl Shown {
    pub(super) fn waiting(why: impl Into<String>) -> Self {
        Self { waits: why.into(), ..Self::default() }
    }

    pub(super) fn of(preview: Preview, now: Timestamp) -> Self {
        let device = |n: u32| count(n.into(), "device");
        let sum = format!(
            "{}, {} of them online; {} have it already, {} cannot have it, {} have not reported what they run",
            device(preview.devices),
            preview.online,
            preview.already_installed,
            preview.incompatible,
            preview.unreported
        );
        let named = |devices: &[callboard_proto::ids::DeviceName], size: u32| {
            let mut names: Vec<String> = devices.iter().take(NAMED).map(ToString::to_string).collect();
            if usize::try_from(size).is_ok_and(|size| size > names.len()) {
                names.push("…".to_owned());
            }
            names.join(", ")
        };
        let shown = preview.incompatible_devices.iter().take(NAMED);
        let incompatible: Vec<(String, String)> =
            shown.map(|one| (one.device.to_string(), one.reason.text.clone())).collect();
        Self {
            waits: String::new(),
            sum,
            phases: bars(preview.phases.iter().map(|phase| (phase.name.clone(), String::new(), phase.size.into()))),
            phase_devices: preview
                .phases
                .iter()
                .map(|phase| (phase.name.clone(), named(&phase.devices, phase.size)))
                .collect(),
            zones: preview.zones.iter().map(|zone| show_zone(zone, now)).collect(),
            conflicts: preview
                .conflicts
                .iter()
                .map(|one| {
                    let first = match one.comes_first {
                        ComesFirst::This => "this one comes first",
                        ComesFirst::Other => "the other one comes first",
                    };
                    (one.rollout.to_string(), path(one.rollout.as_str()), format!("{}; {first}", device(one.devices)))
                })
                .collect(),
            more_incompatible: preview
                .incompatible
                .saturating_sub(u32::try_from(incompatible.len()).unwrap_or(u32::MAX)),
            incompatible,
            warnings: preview.warnings,
        }
    }
}

fn show_zone(zone: &callboard_proto::admin::PreviewZone, now: Timestamp) -> Zone {
    let known: Option<chrono_tz::Tz> = zone.zone.parse().ok();
    let local = known.zip(zone.first_opens_at).map(|(tz, at)| {
        let at = at.utc().with_timezone(&tz);
        at.format("%a %d %b %H:%M there").to_string()
    });
    Zone {
        name: zone.zone.clone(),
        source: zone.source.clone(),
        devices: zone.devices,
        first: zone.first_opens_at.map(|at| {
            if at <= now { When { exact: at.to_string(), words: "now".to_owned() } } else { When::new(at, now) }
        }),
        local: local.unwrap_or_default(),
        never: zone.never,
    }
}

/// `POST /rollouts/preview`: the part alone, of what is typed in a form.
pub(crate) async fn part(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let shown = of_form(&app, &desk, &mut form).await?;
    frame::show(&shown)
}

/// What the rollout in a form would do, or what is missing yet.
pub(super) async fn of_form<P>(app: &App, desk: &Desk<P>, form: &mut Form) -> ApiResult<Shown> {
    let Some(spec) = typed(form) else {
        return Ok(Shown::waiting("What would happen is shown here as soon as name, release and policy are chosen."));
    };
    match rollouts::preview::of_spec(app, desk.actor.clone(), spec).await {
        Ok(preview) => Ok(Shown::of(preview, app.clock.now())),
        Err(error) => {
            let problem = refusal(form, error.into());
            let said = problem.detail.clone();
            placed(form, problem)?;
            Ok(Shown::waiting(said))
        }
    }
}

/// A refusal of a rollout in a file, with the lines in which its fields stand.
fn refusal(form: &Form, problem: ApiProblem) -> ApiProblem {
    match located(form.text("file"), &problem.detail).filter(|_| form.has("file")) {
        Some(detail) => ApiProblem::new(problem.code, detail),
        None => problem,
    }
}

/// Places a refusal: at the file, or at the fields.
pub(super) fn place(form: &mut Form, problem: ApiProblem) -> ApiResult<()> {
    let problem = refusal(form, problem);
    placed(form, problem)
}

fn placed(form: &mut Form, problem: ApiProblem) -> ApiResult<()> {
    if form.has("file") && [Code::Invalid, Code::BadSelector, Code::NotFound].contains(&problem.code) {
        form.refuse("file", problem.detail);
        return Ok(());
    }
    if problem.code == Code::NotFound && problem.detail.contains("release") {
        form.refuse("release", problem.detail);
        return Ok(());
    }
    if problem.code == Code::BadSelector && !problem.detail.contains("]") {
        form.refuse("selector", problem.detail);
        return Ok(());
    }
    fields::place(form, problem)
}

/// `GET /rollouts/{rollout}/preview`: what a draft would do, and the button that starts it.
pub(crate) async fn page(desk: Desk<View>, app: Data<App>, rollout: Path<String>) -> ApiResult<HttpResponse> {
    let name = rollout.into_inner();
    let preview = rollouts::preview::of_rollout(&app, desk.actor.clone(), name.clone()).await?;
    let devices = count(preview.devices.into(), "device");
    let page = Page {
        frame: Frame::new(&desk, Section::Rollouts, format!("Preview of {name}")),
        path: path(&name),
        name,
        preview: Shown::of(preview, app.clock.now()),
        devices,
        form: Form::default(),
        may_start: desk.may_do(Permission::Operate),
    };
    frame::show(&page)
}
