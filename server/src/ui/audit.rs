//! `/audit`: every change that somebody made, with what was there before and after, and whether the chain of them is whole.

use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, Data, Query},
};
use askama::Template;
use callboard_proto::admin::{AuditEntry, AuditHead, AuditStart, ChainReader, WholeChain};
use futures_util::stream;
use serde::Deserialize;
use serde_json::Value;

use super::{
    desk::Desk,
    form::Form,
    frame::{self, Frame, Section},
    parts::{Pager, ROWS, When},
};
use crate::{
    app::{App, Error},
    db::{self, audit::Filter},
    differences,
    http::{auth::View, page, params, problem::ApiResult},
};

/// Links that are read at a time.
const STEP: i64 = 1000;

/// Query of the list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    who: String,
    #[serde(default)]
    kind: String,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    form: Form,
    rows: Vec<Row>,
    pager: Pager,
    head: String,
    start: String,
}

struct Row {
    link: u64,
    at: When,
    kind: String,
    who: String,
    /// The person behind a token.
    person: String,
    source: String,
    text: String,
    hash: String,
    changes: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "audit_check.html")]
struct Check {
    frame: Frame,
    good: bool,
    said: String,
}

/// `GET /audit`.
pub(crate) async fn list(desk: Desk<View>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    desk.check_whole_fleet("the audit")?;
    let Asked { who, kind, after } = asked.into_inner();
    let before: Option<u64> = params::parse_some("after", after.as_deref())?;
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = Filter { who: some(&who), kind: some(&kind), before, limit: ROWS + 1 };
    let (found, AuditHead { start, head }) =
        app.db.read(move |conn| Ok::<_, Error>((db::audit::newest(conn, &filter)?, db::audit::head(conn)?))).await?;
    let found = page::page(found, ROWS + 1, |entry| entry.link.to_string());
    let now = app.clock.now();
    let page = Page {
        frame: Frame::new(&desk, Section::Audit, "Audit"),
        rows: found.items.into_iter().map(|entry| row(entry, now)).collect(),
        pager: Pager::new("/audit", &[("who", &who), ("kind", &kind)], after.as_deref(), found.next.as_deref()),
        form: Form::with([("who", who), ("kind", kind)]),
        head: format!("{}:{}", head.link, head.hash),
        start: if start.link > 0 { format!("{}:{}", start.link, start.hash) } else { String::new() },
    };
    frame::show(&page)
}

fn row(entry: AuditEntry, now: callboard_proto::time::Timestamp) -> Row {
    let changes = changes(&entry.before, &entry.after);
    Row {
        link: entry.link,
        at: When::new(entry.at, now),
        kind: entry.kind,
        person: if entry.person == entry.who { String::new() } else { entry.person },
        who: entry.who,
        source: entry.source,
        text: entry.text,
        hash: entry.hash.to_string(),
        changes,
    }
}

/// What is otherwise: where, what was there, what is there.
fn changes(before: &str, after: &str) -> Vec<(String, String, String)> {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let words = |value: Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    let found = differences::of_values(&read(before), &read(after));
    found.into_iter().map(|one| (one.field, words(one.server), words(one.file))).collect()
}

/// `GET /audit/export`: the whole chain, as `callboard audit export` writes it.
pub(crate) async fn export(desk: Desk<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    desk.check_whole_fleet("the audit")?;
    let start = app.db.read(|conn| Ok::<_, Error>(db::audit::head(conn)?)).await?.start;
    let first = serde_json::to_string(&AuditStart { start }).unwrap_or_default();
    let pages = stream::unfold(Some((start.link, Some(first))), move |place| {
        let app = app.clone();
        async move {
            let (after, first) = place?;
            if let Some(first) = first {
                return Some((Ok(Bytes::from(format!("{first}\n"))), Some((after, None))));
            }
            let read = app.db.read(move |conn| Ok::<_, Error>(db::audit::list(conn, after, STEP)?)).await;
            match read {
                Ok(entries) => {
                    let last = entries.last()?.link;
                    let lines: String = entries
                        .iter()
                        .map(|entry| format!("{}\n", serde_json::to_string(entry).unwrap_or_default()))
                        .collect();
                    Some((Ok(Bytes::from(lines)), Some((last, None))))
                }
                // A file that ends in the middle of a line is none; the browser says that it broke off.
                Err(error) => Some((Err(std::io::Error::other(error.to_string())), None)),
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("application/jsonl")
        .insert_header((header::CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\""))
        .streaming(pages))
}

/// `GET /audit/check`: follows the chain from its beginning to its end.
pub(crate) async fn check(desk: Desk<View>, app: Data<App>) -> ApiResult<HttpResponse> {
    desk.check_whole_fleet("the audit")?;
    let head = app.db.read(|conn| Ok::<_, Error>(db::audit::head(conn)?)).await?;
    let (good, said) = match follow(&app, head).await? {
        Ok(whole) => (true, format!("{}.", whole.to_string().replacen("the", "The", 1))),
        Err(what) => (false, format!("The chain is broken: {what}.")),
    };
    frame::show(&Check { frame: Frame::new(&desk, Section::Audit, "The chain"), good, said })
}

async fn follow(app: &App, head: AuditHead) -> ApiResult<Result<WholeChain, String>> {
    let pins = if head.head == head.start { Vec::new() } else { vec![head.head] };
    let mut reader = match ChainReader::new(head.start, pins) {
        Ok(reader) => reader,
        Err(broken) => return Ok(Err(broken.to_string())),
    };
    let mut after = head.start.link;
    loop {
        let entries = app.db.read(move |conn| Ok::<_, Error>(db::audit::list(conn, after, STEP)?)).await?;
        let Some(last) = entries.last() else { break };
        after = last.link;
        for entry in &entries {
            if let Err(broken) = reader.next(entry) {
                return Ok(Err(broken.to_string()));
            }
        }
    }
    Ok(reader.end().map_err(|broken| broken.to_string()))
}
