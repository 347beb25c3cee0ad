//! `/rollouts/new`: a rollout is made by fields or by a file, with what it would do beside it while one types.

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use callboard_proto::admin::RolloutSpec;
use serde::Deserialize;

use super::{act::told, fields, path, preview};
use crate::{
    app::{self, App, Because, Error, releases, rollouts},
    db,
    http::{auth::Operate, problem::ApiResult},
    rollout_file::{parse_toml, to_toml},
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame::{self, Frame, Section},
    },
};

/// Releases to choose from in the form; any other can be typed.
const RELEASES: i64 = 100;

/// Query of the empty form.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    release: String,
    #[serde(default)]
    selector: String,
    /// `file` for the form with a file.
    #[serde(default, rename = "as")]
    by: String,
    /// A rollout to begin with.
    #[serde(default)]
    like: String,
}

/// The form, for a new rollout and for one that is changed.
#[derive(Template)]
#[template(path = "rollout_form.html")]
pub(super) struct Page {
    pub(super) frame: Frame,
    pub(super) title: String,
    pub(super) form: Form,
    /// Where it is sent.
    pub(super) to: String,
    pub(super) by_file: bool,
    /// Of a rollout that is changed; it keeps its name.
    pub(super) editing: bool,
    pub(super) releases: Vec<String>,
    pub(super) phases: Vec<fields::Row>,
    pub(super) windows: Vec<fields::Row>,
    pub(super) halts: Vec<fields::Row>,
    pub(super) preview: preview::Shown,
    /// What somebody else has changed meanwhile: the setting, what it is now, what was typed.
    pub(super) conflict: Vec<(String, String, String)>,
}

impl Page {
    pub(super) fn new<P>(desk: &Desk<P>, title: impl Into<String>, form: Form, releases: Vec<String>) -> Self {
        let title = title.into();
        Self {
            frame: Frame::new(desk, Section::Rollouts, title.clone()),
            title,
            by_file: form.has("file"),
            phases: fields::rows(&form, "phases"),
            windows: fields::rows(&form, "windows"),
            halts: fields::rows(&form, "halt"),
            form,
            to: "/rollouts/new".to_owned(),
            editing: false,
            releases,
            preview: preview::Shown::waiting(
                "What would happen is shown here as soon as name, release and policy are chosen.",
            ),
            conflict: Vec::new(),
        }
    }

    /// Whether something stands in a field of a row.
    fn filled(&self, row: &fields::Row, field: &str) -> bool {
        self.form.some(&row.at(field)).is_some()
    }

    /// Whether something stands in a row of a list.
    fn any(&self, list: &str) -> bool {
        fields::rows(&self.form, list).len() > 1
    }
}

/// References of the newest releases that can be rolled out.
pub(super) async fn known_releases(app: &App) -> ApiResult<Vec<String>> {
    let Some(root) = app.newest_root() else { return Ok(Vec::new()) };
    let found = app
        .db
        .read(move |conn| {
            let newest = db::releases::list(conn, None, db::releases::Place::top(), RELEASES)?;
            newest.iter().map(|one| releases::open(&root, one)).collect::<app::Result<Vec<_>>>()
        })
        .await?;
    let usable = found.into_iter().filter(|one| one.distrust.is_none());
    Ok(usable.map(|one| format!("{}@{}", one.release.product, one.release.version)).collect())
}

const BEGIN: [(&str, &str); 6] = [
    ("policy", "progressive"),
    ("phases[0].name", "canary"),
    ("phases[0].percent", "10"),
    ("phases[1].name", "everyone"),
    ("phases[1].percent", "100"),
    ("halt[0].max_failures", "3"),
];

/// `GET /rollouts/new`.
pub(crate) async fn get(desk: Desk<Operate>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    let asked = asked.into_inner();
    let mut form = if asked.like.is_empty() {
        let begin = BEGIN.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Form::of([begin, vec![("release".to_owned(), asked.release), ("selector".to_owned(), asked.selector)]].concat())
    } else {
        let (actor, like) = (desk.actor.clone(), asked.like);
        let record = app.db.read(move |conn| rollouts::resolve_for(conn, &actor, &like)).await?;
        let unreadable = |source: crate::rollout_file::NotWritten| Error::Unexpected(source.to_string());
        fields::fill(&record.spec).map_err(unreadable)?.without("name")
    };
    if asked.by == "file" {
        form = Form::with([("file", EXAMPLE.to_owned())]);
    }
    frame::show(&Page::new(&desk, "New rollout", form, known_releases(&app).await?))
}

const EXAMPLE: &str = "\
name = \"spring\"
release = \"pos-app@2.0.0\"
policy = \"progressive\"
selector = \"all\"

[[phases]]
name = \"canary\"
percent = 10
soak_min = 60

[[phases]]
name = \"everyone\"
percent = 100

[[halt]]
max_failures = 3
";

/// `POST /rollouts/new`: shows what it would do, turns fields into a file, or makes the rollout.
pub(crate) async fn post(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    if form.has("rows") {
        return frame::show(&Page::new(&desk, "New rollout", form, known_releases(&app).await?));
    }
    if form.has("as-file") {
        if let Some(form) = as_file(&mut form)? {
            return frame::show(&Page::new(&desk, "New rollout", form, known_releases(&app).await?));
        }
    } else if form.has("preview") {
        let preview = preview::of_form(&app, &desk, &mut form).await?;
        let wrong = !form.is_right();
        let page = Page { preview, ..Page::new(&desk, "New rollout", form, known_releases(&app).await?) };
        return if wrong { frame::show_refused(&page) } else { frame::show(&page) };
    } else if let Some(spec) = typed(&mut form) {
        match make(&app, &desk, spec, form.has("then-start")).await {
            Ok((name, text)) => return frame::done(&path(&name), text),
            Err(error) => preview::place(&mut form, error.into())?,
        }
    }
    frame::show_refused(&Page::new(&desk, "New rollout", form, known_releases(&app).await?))
}

/// The rollout that was typed, in fields or as a file.
pub(super) fn typed(form: &mut Form) -> Option<RolloutSpec> {
    if !form.has("file") {
        return fields::read(form);
    }
    match parse_toml(form.text("file")) {
        Ok(spec) => Some(spec),
        Err(what) => {
            form.refuse("file", what);
            None
        }
    }
}

fn as_file(form: &mut Form) -> ApiResult<Option<Form>> {
    let Some(spec) = fields::read(form) else { return Ok(None) };
    let text = to_toml(&spec).map_err(|source| Error::Unexpected(source.to_string()))?;
    Ok(Some(Form::with([("file", text)])))
}

async fn make<P>(app: &App, desk: &Desk<P>, spec: RolloutSpec, start: bool) -> app::Result<(String, String)> {
    let (record, mut doubts) = rollouts::create(app, desk.actor.clone(), spec).await?;
    let name = record.spec.name.to_string();
    if !start {
        return Ok((name, told("It is a draft, and does nothing until it is started.", &doubts)));
    }
    let because = Because { by: desk.actor.clone(), reason: String::new() };
    let (_, more) = rollouts::start(app, name.clone(), because).await?;
    doubts.extend(more.into_iter().filter(|one| !doubts.contains(one)).collect::<Vec<_>>());
    Ok((name, told("It has started.", &doubts)))
}
