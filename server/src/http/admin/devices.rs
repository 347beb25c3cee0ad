//! `/api/v1/devices`.

use actix_web::web::{Data, Json, Path, Query};
use callboard_policy::device as policy;
use callboard_proto::{
    admin::{
        AllowReenrolment, Decommission, Device, EditLabels, Event, Explanation, Hold, ImportDevices, Imported,
        KeepDevice, Page, SetSerial,
    },
    problem::Problem,
};
use serde::Deserialize;

use crate::{
    app::{self, App, Error},
    db,
    http::{
        auth::{May, Operate, View},
        body::Body,
        etag::Edited,
        page::{self, Paging},
        params,
        problem::ApiResult,
    },
};

/// Query of a device list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct List {
    selector: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Devices that a selector selects, in the order in which they were registered.
#[utoipa::path(get, path = "/devices", tag = "devices", security(("bearer" = ["view"])),
    params(("selector" = Option<String>, Query, description = "every device without one"),
           ("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000, 100 by default")),
    responses((status = 200, body = Page<Device>), (status = 422, body = Problem)))]
pub(crate) async fn list(may: May<View>, app: Data<App>, query: Query<List>) -> ApiResult<Json<Page<Device>>> {
    let rows = page::rows(query.limit)?;
    let selector = may.sees.narrow(app::devices::parse_selector(query.selector.as_deref())?);
    let after = params::parse_some("after", query.after.as_deref())?.unwrap_or(-1);
    let records = app::devices::list(&app, selector, after, rows).await?;
    let page = page::page(records, rows, |record| record.device.number.to_string());
    let items = page.items.into_iter().map(|record| app::devices::show(&app, record)).collect();
    Ok(Json(Page { items, next: page.next }))
}

fn shown(app: &App, record: db::devices::Record) -> Edited<Device> {
    let edition = app::devices::edition(&record);
    Edited(app::devices::show(app, record), edition)
}

/// One device, by its id or its name.
#[utoipa::path(get, path = "/devices/{device}", tag = "devices", security(("bearer" = ["view"])), params(("device" = String, Path)),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn get(may: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<Device>> {
    app::attacks::flush(&app).await.ok();
    let now = app.clock.now();
    let record = app.db.read(move |conn| app::devices::resolve_for(conn, &may, &path, now)).await?;
    Ok(shown(&app, record))
}

/// Takes a list of devices, again and again with the same result.
#[utoipa::path(post, path = "/devices/import", tag = "devices", security(("bearer" = ["operate"])), request_body = ImportDevices,
    responses((status = 200, body = Imported), (status = 422, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn import(may: May<Operate>, app: Data<App>, body: Body<ImportDevices>) -> ApiResult<Json<Imported>> {
    Ok(Json(app::devices::import(&app, may.actor, body.into_inner()).await?))
}

/// Sets and removes labels of every device that a selector selects.
#[utoipa::path(post, path = "/devices/labels", tag = "devices", security(("bearer" = ["operate"])), request_body = EditLabels,
    responses((status = 200, body = Imported), (status = 422, body = Problem)))]
pub(crate) async fn edit_labels(
    may: May<Operate>,
    app: Data<App>,
    body: Body<EditLabels>,
) -> ApiResult<Json<Imported>> {
    Ok(Json(app::devices::edit_labels(&app, may.actor, body.into_inner()).await?))
}

/// Holds a device: no rollout touches it.
#[utoipa::path(put, path = "/devices/{device}/hold", tag = "devices", security(("bearer" = ["operate"])), params(("device" = String, Path)),
    request_body = Hold, responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn hold(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Hold>,
) -> ApiResult<Edited<Device>> {
    let hold = policy::Hold { reason: body.reason.clone(), until: body.until };
    let record = app::devices::hold(&app, may.actor, path.into_inner(), Some(hold)).await?;
    Ok(shown(&app, record))
}

/// Lifts a hold.
#[utoipa::path(delete, path = "/devices/{device}/hold", tag = "devices", security(("bearer" = ["operate"])), params(("device" = String, Path)),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn unhold(may: May<Operate>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<Device>> {
    let record = app::devices::hold(&app, may.actor, path.into_inner(), None).await?;
    Ok(shown(&app, record))
}

/// Gives a device a serial number: an enrolment that reports it is this device's.
#[utoipa::path(put, path = "/devices/{device}/serial", tag = "devices", security(("bearer" = ["operate"])), params(("device" = String, Path)),
    request_body = SetSerial,
    responses((status = 200, body = Device), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn set_serial(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<SetSerial>,
) -> ApiResult<Edited<Device>> {
    let serial = Some(body.into_inner().serial);
    let record = app::devices::set_serial(&app, may.actor, path.into_inner(), serial).await?;
    Ok(shown(&app, record))
}

/// Takes the serial number from a device, so that another one may have it.
#[utoipa::path(delete, path = "/devices/{device}/serial", tag = "devices", security(("bearer" = ["operate"])), params(("device" = String, Path)),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn clear_serial(may: May<Operate>, app: Data<App>, path: Path<String>) -> ApiResult<Edited<Device>> {
    let record = app::devices::set_serial(&app, may.actor, path.into_inner(), None).await?;
    Ok(shown(&app, record))
}

/// Devices that may have copies, in the order in which they were registered.
#[utoipa::path(get, path = "/clones", tag = "devices", security(("bearer" = ["view"])),
    params(("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Device>)))]
pub(crate) async fn clones(may: May<View>, app: Data<App>, query: Query<Paging>) -> ApiResult<Json<Page<Device>>> {
    let rows = page::rows(query.limit)?;
    let from = params::parse_some("after", query.after.as_deref())?.unwrap_or(-1);
    let (place, now) = (app::part::Place { from, rows }, app.clock.now());
    let part = app.db.read(move |conn| app::clones::list(conn, &may.sees, place, now)).await?;
    let items = part.items.into_iter().map(|record| app::devices::show(&app, record)).collect();
    Ok(Json(Page { items, next: part.next.map(|number| number.to_string()) }))
}

/// Says that a device that may have had a copy is to go on as it is.
#[utoipa::path(post, path = "/devices/{device}/clone/keep", tag = "devices", security(("bearer" = ["operate"])),
    params(("device" = String, Path)), request_body = KeepDevice,
    responses((status = 200, body = Device), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn keep(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<KeepDevice>,
) -> ApiResult<Json<Device>> {
    let record = app::clones::keep(&app, may.actor, path.into_inner(), body.into_inner().reason).await?;
    Ok(Json(app::devices::show(&app, record)))
}

/// Lets a device enrol again by its serial number or its name, although it has a key.
#[utoipa::path(put, path = "/devices/{device}/reenrolment", tag = "devices", security(("bearer" = ["operate"])),
    params(("device" = String, Path)), request_body = AllowReenrolment,
    responses((status = 200, body = Device), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn allow(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<AllowReenrolment>,
) -> ApiResult<Json<Device>> {
    let until = Some(body.into_inner().until);
    let record = app::clones::allow_reenrolment(&app, may.actor, path.into_inner(), until).await?;
    Ok(Json(app::devices::show(&app, record)))
}

/// Takes that back.
#[utoipa::path(delete, path = "/devices/{device}/reenrolment", tag = "devices", security(("bearer" = ["operate"])),
    params(("device" = String, Path)),
    responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn forbid(may: May<Operate>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Device>> {
    let record = app::clones::allow_reenrolment(&app, may.actor, path.into_inner(), None).await?;
    Ok(Json(app::devices::show(&app, record)))
}

/// Takes a device out of service: its certificate is refused from the next request on.
#[utoipa::path(post, path = "/devices/{device}/decommission", tag = "devices", security(("bearer" = ["operate"])), params(("device" = String, Path)),
    request_body = Decommission, responses((status = 200, body = Device), (status = 404, body = Problem)))]
pub(crate) async fn decommission(
    may: May<Operate>,
    app: Data<App>,
    path: Path<String>,
    body: Body<Decommission>,
) -> ApiResult<Edited<Device>> {
    let record = app::devices::decommission(&app, may.actor, path.into_inner(), body.into_inner().reason).await?;
    Ok(shown(&app, record))
}

/// What happened to a device, newest first.
#[utoipa::path(get, path = "/devices/{device}/history", tag = "devices", security(("bearer" = ["view"])),
    params(("device" = String, Path), ("after" = Option<String>, Query), ("limit" = Option<u32>, Query)),
    responses((status = 200, body = Page<Event>), (status = 404, body = Problem)))]
pub(crate) async fn history(
    may: May<View>,
    app: Data<App>,
    path: Path<String>,
    query: Query<Paging>,
) -> ApiResult<Json<Page<Event>>> {
    let ((rows, before), now) = (super::events::paging(&query)?, app.clock.now());
    let events = app
        .db
        .read(move |conn| {
            let device = Some(app::devices::resolve_for(conn, &may, &path, now)?.device.id);
            let filter = db::events::Filter { device, before, limit: rows, ..db::events::Filter::default() };
            Ok::<_, Error>(db::events::list(conn, filter)?)
        })
        .await?;
    let page = page::page(events, rows, |event| event.seq.to_string());
    Ok(super::events::show(page.items, page.next))
}

/// Why a device gets what it gets: every active rollout, and the first rule that decided.
#[utoipa::path(get, path = "/devices/{device}/explain", tag = "devices", security(("bearer" = ["view"])), params(("device" = String, Path)),
    responses((status = 200, body = Explanation), (status = 404, body = Problem)))]
pub(crate) async fn explain(may: May<View>, app: Data<App>, path: Path<String>) -> ApiResult<Json<Explanation>> {
    Ok(Json(app::explain::explain(&app, may.actor, path.into_inner()).await?))
}
