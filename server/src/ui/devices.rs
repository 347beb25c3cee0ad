//! The list of devices: by selector, with the columns that one likes, page by page.

pub(crate) mod bulk;
pub(crate) mod change;
pub(crate) mod complete;
pub(super) mod labels;
pub(crate) mod one;

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use callboard_policy::selector::Selector;
use callboard_proto::{
    admin::{Device, DeviceStatus, Permission},
    time::Timestamp,
};

use super::{
    desk::Desk,
    form::Form,
    frame::{self, Frame, Section},
    parts::{Badge, Pager, ROWS, When, cut, link},
};
use crate::{
    app::{self, App},
    http::{auth::View, params, problem::ApiResult},
};

/// What a query of a page holds.
pub(crate) type Asked = Query<Vec<(String, String)>>;

/// A column that can be chosen: its word in the URL, its heading, and whether it is there if nobody chose.
type Column = (&'static str, &'static str, bool);

const COLUMNS: [Column; 11] = [
    ("site", "Site", true),
    ("status", "Status", true),
    ("installed", "Installed", true),
    ("seen", "Last seen", true),
    ("labels", "Labels", true),
    ("description", "Description", false),
    ("hw", "Hardware", false),
    ("serial", "Serial number", false),
    ("agent", "Agent", false),
    ("tz", "Time zone", false),
    ("address", "Address", false),
];

#[derive(Template)]
#[template(path = "devices.html")]
struct Page {
    frame: Frame,
    form: Form,
    columns: Vec<(Column, bool)>,
    shown: Vec<Column>,
    rows: Vec<Row>,
    pager: Pager,
    /// The selector with a mark below the column where it went wrong.
    pointer: String,
    may_operate: bool,
    /// Whether any selector narrows the list.
    narrowed: bool,
}

struct Row {
    name: String,
    cells: Vec<Cell>,
}

enum Cell {
    Text(String),
    Badge(Badge),
    Time(When),
    Chips(Vec<String>),
}

/// `GET /devices`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>, asked: Asked) -> ApiResult<HttpResponse> {
    let mut form = Form::of(asked.into_inner());
    let chosen: Vec<&str> = form.all("column").collect();
    let is_shown = |column: &Column| if chosen.is_empty() { column.2 } else { chosen.contains(&column.0) };
    let columns: Vec<(Column, bool)> = COLUMNS.into_iter().map(|column| (column, is_shown(&column))).collect();
    let shown: Vec<Column> = columns.iter().filter(|(_, shown)| *shown).map(|(column, _)| *column).collect();
    let after = form.some("after");
    let place = params::parse_some("after", after.as_deref())?.unwrap_or(-1);
    let (mut rows, mut pager, mut pointer) = (Vec::new(), Pager::default(), String::new());
    match Selector::parse(form.some("selector").as_deref().unwrap_or("all")) {
        Ok(selector) => {
            let records = app::devices::list(&app, desk.sees.narrow(selector), place, ROWS + 1).await?;
            let (records, more) = cut(records);
            let next = records.last().filter(|_| more).map(|record| record.device.number.to_string());
            let now = app.clock.now();
            let row = |record| row(app::devices::show(&app, record), &shown, now);
            rows = records.into_iter().map(row).collect();
            let mut filters: Vec<(&str, &str)> = vec![("selector", form.text("selector").trim())];
            filters.extend(form.all("column").map(|column| ("column", column)));
            pager = Pager::new("/devices", &filters, after.as_deref(), next.as_deref());
        }
        Err(error) => {
            pointer = pointing(form.text("selector"), error.column);
            form.refuse("selector", error.to_string());
        }
    }
    let page = Page {
        frame: Frame::new(&desk, Section::Devices, "Devices").live(),
        may_operate: desk.may_do(Permission::Operate),
        narrowed: form.some("selector").is_some(),
        columns,
        shown,
        rows,
        pager,
        pointer,
        form,
    };
    if page.form.is_right() { frame::show(&page) } else { frame::show_refused(&page) }
}

/// A text of one line with a mark below a column.
pub(crate) fn pointing(text: &str, column: usize) -> String {
    // Errors count in the text without the space before it.
    let text = text.trim_start().replace('\n', " ");
    format!("{text}\n{}^", " ".repeat(column.saturating_sub(1)))
}

/// How a device stands, in a word.
pub(crate) fn badge(device: &Device) -> Badge {
    match (device.decommissioned, device.hold.is_some(), device.status) {
        (true, ..) => Badge::new("decommissioned", "bad"),
        (_, true, _) => Badge::new("held", "warn"),
        (_, _, DeviceStatus::Unknown) => Badge::new("unknown", "dull"),
        (_, _, DeviceStatus::Online) => Badge::new("online", "good"),
        (_, _, DeviceStatus::Offline) => Badge::new("offline", "warn"),
        (_, _, DeviceStatus::Abandoned) => Badge::new("abandoned", "bad"),
    }
}

/// Where the page of a device is.
pub(crate) fn path(name: &str) -> String {
    format!("/devices/{}", frame::segment(name))
}

/// Where a list of devices is.
pub(crate) fn list_path(selector: &str) -> String {
    link("/devices", &[("selector", selector)])
}

fn row(device: Device, shown: &[Column], now: Timestamp) -> Row {
    let badge = badge(&device);
    let cell = |column: &Column| match column.0 {
        "site" => Cell::Text(device.site.as_ref().map(ToString::to_string).unwrap_or_default()),
        "status" => Cell::Badge(badge),
        "installed" => {
            Cell::Chips(device.installed.iter().map(|one| format!("{} {}", one.product, one.version)).collect())
        }
        "seen" => Cell::Time(When::some(device.last_seen, now)),
        "labels" => Cell::Chips(device.labels.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        "description" => Cell::Text(device.description.clone()),
        "hw" => Cell::Text(device.hw.clone()),
        "serial" => Cell::Text(device.serial.clone().unwrap_or_default()),
        "agent" => Cell::Text(device.agent.clone()),
        "tz" => Cell::Text(device.tz.clone().unwrap_or_default()),
        _ => Cell::Text(device.address.clone().unwrap_or_default()),
    };
    Row { cells: shown.iter().map(cell).collect(), name: device.name.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_below_what_is_wrong() {
        let error = Selector::parse("region = (").unwrap_err();
        assert_eq!(pointing("  region = (", error.column), "region = (\n         ^");
    }
}
