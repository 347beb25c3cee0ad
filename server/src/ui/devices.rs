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
use callboard_policy::selector::{Expr, Field, Op, Selector, Value};
use callboard_proto::{
    admin::{Device, DeviceStatus, Permission},
    time::Timestamp,
};

use super::{
    desk::Desk,
    form::Form,
    frame::{self, Frame, Section},
    parts::{Badge, Pager, ROWS, When, link},
};
use crate::{
    app::{self, App},
    http::{auth::View, page, params, problem::ApiResult},
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
    let (mut rows, mut pager) = (Vec::new(), Pager::default());
    let (selector, pointer) = selector(&mut form);
    if let Some(selector) = selector {
        let records = app::devices::list(&app, desk.sees.narrow(selector), place, ROWS + 1).await?;
        let records = page::page(records, ROWS + 1, |record| record.device.number.to_string());
        let now = app.clock.now();
        let row = |record| row(app::devices::show(&app, record), &shown, now);
        rows = records.items.into_iter().map(row).collect();
        let mut filters: Vec<(&str, &str)> = vec![("selector", form.text("selector").trim())];
        filters.extend(form.all("column").map(|column| ("column", column)));
        pager = Pager::new("/devices", &filters, after.as_deref(), records.next.as_deref());
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

/// The selector that was typed, every device without one; or what is wrong with it, with a mark below where.
pub(crate) fn selector(form: &mut Form) -> (Option<Selector>, String) {
    match Selector::parse(form.some("selector").as_deref().unwrap_or("all")) {
        Ok(selector) => (Some(selector), String::new()),
        Err(error) => {
            let pointer = pointing(form.text("selector"), error.column);
            form.refuse("selector", error.to_string());
            (None, pointer)
        }
    }
}

/// A text of one line with a mark below a column.
fn pointing(text: &str, column: usize) -> String {
    // Errors count in the text without the space before it.
    let text = text.trim_start().replace('\n', " ");
    format!("{text}\n{}^", " ".repeat(column.saturating_sub(1)))
}

/// How a device stands, in a word.
pub(crate) fn badge(device: &Device) -> Badge {
    match (device.decommissioned, device.hold.is_some(), device.status) {
        (true, ..) => Badge::new("decommissioned", "bad"),
        (_, true, _) => Badge::new("held", "warn"),
        (_, _, status) => status_badge(status),
    }
}

/// Whether it is there, in a word.
pub(crate) const fn status_badge(status: DeviceStatus) -> Badge {
    match status {
        DeviceStatus::Unknown => Badge::new("unknown", "dull"),
        DeviceStatus::Online => Badge::new("online", "good"),
        DeviceStatus::Offline => Badge::new("offline", "warn"),
        DeviceStatus::Abandoned => Badge::new("abandoned", "bad"),
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

/// Where the devices are listed of which a field is this.
pub(crate) fn list_of(field: Field, value: Value) -> String {
    list_path(&Expr::Compare { field, op: Op::Eq, value }.to_string())
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
    fn a_link_selects_what_it_was_made_for_whatever_it_is_called() {
        for version in ["1.2.0", "2.0\"or\"1", "3\\", "a,b)=c", "and", "%22&after=9"] {
            let (product, version) = ("pos-app".parse().unwrap(), version.parse().unwrap());
            let (field, value) = (Field::Version(product), Value::Version(version));
            let path = list_of(field.clone(), value.clone());
            let selector = path.strip_prefix("/devices?selector=").unwrap();
            let selector = percent_encoding::percent_decode_str(selector).decode_utf8().unwrap();
            let wanted = Expr::Compare { field, op: Op::Eq, value };
            assert_eq!(*Selector::parse(&selector).unwrap().expr(), wanted, "{path}");
        }
    }

    #[test]
    fn a_mark_stands_below_what_is_wrong() {
        let error = Selector::parse("region = (").unwrap_err();
        assert_eq!(pointing("  region = (", error.column), "region = (\n         ^");
    }
}
