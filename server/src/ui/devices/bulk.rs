//! What is done to many devices at once: which, what it would do, and then that it is done.

use actix_web::{HttpResponse, web::Data};
use askama::Template;
use callboard_policy::{
    device::Hold,
    selector::{Expr, Field, Selector, Value},
};
use callboard_proto::{
    admin::{DevicesOfRollout, EditLabels, Imported},
    ids::AssignmentId,
};
use uuid::Uuid;

use super::{change, labels, list_path};
use crate::{
    app::{self, App, Because, Error, attention::Deed as OfRollout, devices},
    db::{
        self,
        selector::{Slice, Whom},
    },
    http::{
        auth::Operate,
        problem::{ApiProblem, ApiResult},
    },
    ui::{
        desk::{Desk, Submitted},
        form::Form,
        frame::{self, Frame, Section},
        parts::count,
    },
};

/// Names that are shown before one goes on.
const NAMED: i64 = 20;
/// Failures looked through for those of the devices that are meant.
const LOOKED_THROUGH: i64 = 1000;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Label,
    Hold,
    Unhold,
    Retry,
}

#[derive(Template)]
#[template(path = "devices_bulk.html")]
struct Page {
    frame: Frame,
    form: Form,
    deed: &'static str,
    title: &'static str,
    selector: String,
    /// How many devices, in words.
    number: String,
    names: Vec<String>,
    more: u64,
    /// Rollouts with failures.
    rollouts: Vec<(String, String)>,
    holds: [(&'static str, &'static str); 6],
    /// What it would do; empty as long as that was not asked.
    effects: Vec<String>,
}

impl Deed {
    const ALL: [Self; 4] = [Self::Label, Self::Hold, Self::Unhold, Self::Retry];

    const fn word(self) -> (&'static str, &'static str) {
        match self {
            Self::Label => ("label", "Change labels"),
            Self::Hold => ("hold", "Hold devices"),
            Self::Unhold => ("unhold", "Lift holds"),
            Self::Retry => ("retry", "Try again"),
        }
    }
}

/// `POST /devices/bulk`: first for which devices, then what it would do, and with `sure` it is done.
pub(crate) async fn post(sent: Submitted<Operate>, app: Data<App>) -> ApiResult<HttpResponse> {
    let Submitted { desk, mut form } = sent;
    let deed = Deed::ALL.into_iter().find(|deed| form.is("deed", deed.word().0));
    let (Some(deed), Some(selector)) = (deed, whom(&form)?) else {
        return frame::not_done(
            &list_path(form.text("selector")),
            "Tick the devices that are meant, or take all that are listed.",
        );
    };
    let mut page = begin(&app, &desk, deed, &selector).await?;
    if !form.has("step") {
        page.form = form;
        return frame::show(&page);
    }
    let effects = match deed {
        Deed::Label => label(&app, &desk, &mut form, &selector).await?,
        Deed::Hold => hold(&app, &mut form, &page.number)?,
        Deed::Unhold => vec![format!("{}: the hold is lifted, and rollouts touch them again", page.number)],
        Deed::Retry => retry(&app, &desk, &mut form, &selector).await?,
    };
    if !form.is_right() {
        page.form = form;
        return frame::show_refused(&page);
    }
    if !form.is("step", "sure") {
        (page.form, page.effects) = (form, effects);
        return frame::show(&page);
    }
    match act(&app, desk, deed, &form, &selector).await {
        Ok(said) => frame::done(&list_path(&selector.to_string()), said),
        Err(problem) => {
            form.take(problem)?;
            page.form = form;
            frame::show_refused(&page)
        }
    }
}

/// The devices that are meant: those that are ticked, or all that the list had.
fn whom(form: &Form) -> Result<Option<Selector>, Error> {
    if form.has("step") || form.is("whom", "all") {
        return devices::parse_selector(Some(form.text("selector"))).map(Some);
    }
    let values: Vec<Value> = form.all("device").map(|name| Value::Text(name.to_owned())).collect();
    let ticked = Expr::In { field: Field::Name, values, negated: false };
    // What was sent may be anything: what is stored and shown has to be read again.
    let ticked = if form.has("device") { Some(Selector::from_expr(ticked).to_string()) } else { None };
    ticked.map(|text| devices::parse_selector(Some(&text))).transpose()
}

async fn begin(app: &App, desk: &Desk<Operate>, deed: Deed, selector: &Selector) -> ApiResult<Page> {
    let (context, narrowed) = (app.selector_context(), desk.may.narrow(selector.clone()));
    let sees = desk.sees.clone();
    let (n, names, rollouts) = app
        .db
        .read(move |conn| {
            let n = db::selector::count(conn, &narrowed, &context)?;
            let slice = Slice { after: -1, limit: NAMED, whom: Whom::InService };
            let numbers = db::selector::select(conn, &narrowed, &context, slice)?;
            let records = db::devices::numbered(conn, numbers)?;
            let names: Vec<String> = records.into_iter().map(|record| record.device.name.to_string()).collect();
            let rollouts = if deed == Deed::Retry { crate::ui::attention::rollouts(conn, &sees)? } else { Vec::new() };
            Ok::<_, Error>((u64::try_from(n).unwrap_or(0), names, rollouts))
        })
        .await?;
    let (word, title) = deed.word();
    Ok(Page {
        frame: Frame::new(desk, Section::Devices, title),
        form: Form::default(),
        deed: word,
        title,
        selector: selector.to_string(),
        number: count(n, "device"),
        more: n.saturating_sub(u64::try_from(names.len()).unwrap_or(0)),
        names,
        rollouts: rollouts.into_iter().map(|name| (name.clone(), name)).collect(),
        holds: change::HOLDS,
        effects: Vec::new(),
    })
}

fn edit(form: &mut Form, selector: &Selector, dry_run: bool) -> Option<EditLabels> {
    let set = labels::read(form.text("set")).map_err(|what| form.refuse("set", what)).ok()?;
    let remove: Vec<String> = form.text("remove").split([',', ' ', '\n']).map(str::to_owned).collect();
    let remove: Vec<String> = remove.into_iter().filter(|key| !key.is_empty()).collect();
    if set.is_empty() && remove.is_empty() {
        form.refuse("set", "say what is to be set, as key=value, or what is to be removed");
        return None;
    }
    Some(EditLabels { selector: selector.to_string(), set, remove, dry_run })
}

async fn label(app: &App, desk: &Desk<Operate>, form: &mut Form, selector: &Selector) -> ApiResult<Vec<String>> {
    let Some(edit) = edit(form, selector, true).filter(|_| !form.is("step", "sure")) else { return Ok(Vec::new()) };
    match devices::edit_labels(app, desk.actor.clone(), edit).await {
        Ok(Imported { updated, unchanged, eligible, .. }) => {
            let mut effects = vec![format!("{} change", count(updated, "device"))];
            effects
                .extend((unchanged > 0).then(|| format!("{} have these labels already", count(unchanged, "device"))));
            let joins = eligible.into_iter();
            effects.extend(
                joins.map(|one| format!("{} come into the rollout {}", count(one.devices, "device"), one.rollout)),
            );
            Ok(effects)
        }
        Err(error) => {
            form.take(error)?;
            Ok(Vec::new())
        }
    }
}

fn hold(app: &App, form: &mut Form, number: &str) -> ApiResult<Vec<String>> {
    let hold = change::hold(app, form);
    if let Err(error) = devices::check_hold(Some(&hold), app.clock.now()) {
        form.take(error)?;
    }
    let until = hold.until.map_or_else(|| "until the hold is lifted".to_owned(), |until| format!("until {until}"));
    Ok(vec![
        format!("{number}: no rollout touches them {until}"),
        "What is being installed just now is finished.".to_owned(),
    ])
}

async fn retry(app: &App, desk: &Desk<Operate>, form: &mut Form, selector: &Selector) -> ApiResult<Vec<String>> {
    let (Some(rollout), Some(_)) = (form.some("rollout"), form.some("reason")) else {
        if form.some("rollout").is_none() {
            form.refuse("rollout", "choose a rollout");
        }
        if form.some("reason").is_none() {
            form.refuse("reason", "say why");
        }
        return Ok(Vec::new());
    };
    let (context, reach, selector) = (app.selector_context(), desk.may.clone(), selector.clone());
    let name = rollout.clone();
    let n = app
        .db
        .read(move |conn| {
            let rollout = app::rollouts::resolve(conn, &name)?.id;
            let first = AssignmentId::from_uuid(Uuid::nil());
            let failing = db::assignments::failing(conn, Some(rollout), first, LOOKED_THROUGH)?;
            let numbers: Vec<i64> = failing.iter().map(|one| one.number).collect();
            let meant = reach.narrow(selector);
            let found = db::selector::among(conn, &meant, &context, &numbers)?;
            Ok::<_, Error>(u64::try_from(found.len()).unwrap_or(0))
        })
        .await?;
    if n == 0 {
        form.refuse("rollout", "none of these devices has failed in this rollout, or it is tried again by itself");
    }
    Ok(vec![format!("{} begin anew with {rollout}, whatever failed before", count(n, "device"))])
}

/// Does it, and says what was done.
async fn act(app: &App, desk: Desk<Operate>, deed: Deed, form: &Form, selector: &Selector) -> ApiResult<String> {
    let mut form = form.clone();
    Ok(match deed {
        Deed::Label => {
            let edit = edit(&mut form, selector, false);
            let edit = edit.ok_or_else(|| ApiProblem::from(Error::invalid("set says nothing")))?;
            let done = devices::edit_labels(app, desk.actor, edit).await?;
            format!("The labels of {} were changed.", count(done.updated, "device"))
        }
        Deed::Hold => {
            let n = devices::bulk::hold(app, desk.actor, selector.clone(), Some(change::hold(app, &form))).await?;
            format!("{} held.", count(n, "device"))
        }
        Deed::Unhold => {
            let n = devices::bulk::hold(app, desk.actor, selector.clone(), None::<Hold>).await?;
            format!("The holds of {} were lifted.", count(n, "device"))
        }
        Deed::Retry => {
            let reason = form.text("reason").to_owned();
            let because = Because { by: desk.actor, reason: reason.clone() };
            let wanted = DevicesOfRollout { devices: Vec::new(), selector: Some(selector.to_string()), reason };
            let rollout = form.text("rollout").to_owned();
            let dealt = app::attention::act(app, rollout, OfRollout::Retry, wanted, because).await?;
            format!("{} begin anew.", count(dealt.total.into(), "device"))
        }
    })
}
