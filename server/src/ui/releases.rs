//! `/releases`: the list, and one release: who signed it, whether that is enough, where it is installed, and whether devices
//! still take it. Releases come in by the form below, and are taken back by a head that is signed elsewhere.

pub(crate) mod head;
pub(crate) mod upload;

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use askama::Template;
use callboard_policy::selector::{Field, Value};
use callboard_proto::{
    admin::{self, Permission, TrustRole},
    digest::Digest,
    ids::Product,
};
use serde::Deserialize;

use super::{
    desk::Desk,
    devices::list_of,
    form::Form,
    frame::{self, Frame, Section},
    parts::{Badge, Pager, ROWS, When, bytes, count, span},
};
use crate::{
    app::{
        self, App, Error, fleet, releases,
        rollouts::{self, spec::state_to_wire},
        trust,
    },
    db::{self, selector::Runs},
    http::{auth::View, page, params, problem::ApiResult},
};

/// Rollouts of a release that are listed, the newest.
const ROLLOUTS: i64 = 500;

/// Query of the list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    product: String,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "releases.html")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
    pager: Pager,
    form: Form,
    may_publish: bool,
}

struct Row {
    product: String,
    version: String,
    path: String,
    kind: String,
    order: String,
    size: String,
    signed: String,
    badge: Badge,
    at: When,
}

#[derive(Template)]
#[template(path = "release.html")]
struct One {
    frame: Frame,
    name: String,
    reference: String,
    badge: Badge,
    distrusted: String,
    facts: Vec<(&'static str, String)>,
    advisory: Option<(String, bool)>,
    payloads: Vec<(String, String, String, bool)>,
    roles: Vec<Role>,
    strangers: Vec<String>,
    installed: String,
    installed_path: String,
    rollouts: Vec<(String, String, Badge)>,
    may_publish: bool,
    may_roll: bool,
    revoke: String,
}

/// A role that may sign the product, and who of it did.
struct Role {
    name: String,
    badge: Badge,
    words: String,
    keys: Vec<(String, bool)>,
}

/// `GET /releases`.
pub(crate) async fn list(desk: Desk<View>, app: Data<App>, asked: Query<Asked>) -> ApiResult<HttpResponse> {
    let Asked { product, after } = asked.into_inner();
    let wanted: Option<Product> =
        params::parse_some("product", Some(product.as_str()).filter(|text| !text.is_empty()))?;
    let from: Option<Digest> = params::parse_some("after", after.as_deref())?;
    let found = match app.newest_root() {
        None => Vec::new(),
        Some(root) => {
            let read = app.db.read(move |conn| {
                let from = match from {
                    Some(sha256) => {
                        db::releases::place(conn, sha256)?.ok_or_else(|| Error::not_found("release", sha256))?
                    }
                    None => db::releases::Place::top(),
                };
                let found = db::releases::list(conn, wanted.as_ref(), from, ROWS + 1)?;
                found.iter().map(|one| releases::show(&root, one)).collect::<app::Result<Vec<_>>>()
            });
            read.await?
        }
    };
    let listed = page::page(found, ROWS + 1, |release: &admin::Release| release.sha256.to_string());
    let now = app.clock.now();
    let page = List {
        frame: Frame::new(&desk, Section::Releases, "Releases"),
        rows: listed.items.iter().map(|release| row(release, When::new(release.published_at, now))).collect(),
        pager: Pager::new("/releases", &[("product", &product)], after.as_deref(), listed.next.as_deref()),
        form: Form::with([("product", product)]),
        may_publish: desk.may_do(Permission::Release),
    };
    frame::show(&page)
}

fn row(release: &admin::Release, at: When) -> Row {
    Row {
        product: release.product.to_string(),
        version: release.version.to_string(),
        path: path(release.sha256),
        kind: word(&release.kind),
        order: format!("{}.{}", release.epoch, release.counter),
        size: bytes(release.payloads.iter().map(|payload| payload.size).sum()),
        signed: count(u64::try_from(release.signed_by.len()).unwrap_or(0), "key"),
        badge: badge(release),
        at,
    }
}

/// Where a release is shown.
pub(super) fn path(sha256: Digest) -> String {
    format!("/releases/{sha256}")
}

fn badge(release: &admin::Release) -> Badge {
    match release.distrusted {
        None => Badge::new("trusted", "good"),
        Some(_) => Badge::new("not taken any more", "bad"),
    }
}

/// A word of the protocol.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(|word| word.replace('_', " ")))
        .unwrap_or_default()
}

/// `GET /releases/{release}`, by its digest or as `product@version`.
pub(crate) async fn one(desk: Desk<View>, app: Data<App>, release: Path<String>) -> ApiResult<HttpResponse> {
    let reference = release.into_inner();
    let root = app.newest_root().ok_or_else(|| Error::not_found("release", &reference))?;
    let look = fleet::look(&app, &desk.sees).await?;
    let sees = desk.sees.clone();
    let own = root.clone();
    let read = app.db.read(move |conn| {
        let published = releases::resolve(conn, &reference)?;
        let release = releases::show(&own, &published)?;
        let advisory = releases::open(&own, &published)?.release.advisory;
        let mut of_it = db::rollouts::of_release(conn, published.sha256, ROLLOUTS)?;
        let mut kept = Vec::new();
        for record in of_it.drain(..) {
            if rollouts::is_within(conn, &sees, &record)? {
                kept.push((record.spec.name.to_string(), record.state));
            }
        }
        Ok::<_, Error>((release, advisory, kept))
    });
    let (release, advisory, of_it) = read.await?;
    let installed = runs(&look.runs, &release);
    let before = trust::status::head(&root).map(|head| head.serial);
    let trusted = trust::status::root(&app, &root).roles;
    let name = format!("{} {}", release.product, release.version);
    let page = One {
        frame: Frame::new(&desk, Section::Releases, name.clone()),
        name,
        reference: format!("{}@{}", release.product, release.version),
        badge: badge(&release),
        distrusted: release.distrusted.clone().unwrap_or_default(),
        facts: facts(&release),
        // Only addresses of web servers are links.
        advisory: advisory.map(|text| {
            let is_link = text.starts_with("https://") || text.starts_with("http://");
            (text, is_link)
        }),
        payloads: payloads(&release),
        strangers: strangers(&release, &trusted),
        roles: trusted.iter().filter(|role| is_for(role, &release)).map(|role| signed(role, &release)).collect(),
        installed: count(installed, "device"),
        installed_path: list_of(Field::Version(release.product.clone()), Value::Version(release.version.clone())),
        rollouts: of_it
            .into_iter()
            .map(|(name, state)| {
                let path = super::rollouts::path(&name);
                (name, path, super::rollouts::badge(state_to_wire(state)))
            })
            .collect(),
        may_publish: desk.may_do(Permission::Release),
        may_roll: desk.may_do(Permission::Operate),
        revoke: if trusted.iter().any(|role| role.kind == "head") { revoke(&release, before) } else { String::new() },
    };
    frame::show(&page)
}

/// How many devices run it, as of a moment ago.
fn runs(runs: &Runs, release: &admin::Release) -> u64 {
    runs.get(&release.product).and_then(|versions| versions.get(&release.version)).copied().unwrap_or(0)
}

fn facts(release: &admin::Release) -> Vec<(&'static str, String)> {
    let all = [
        ("Product", Some(release.product.to_string())),
        ("Order", Some(format!("epoch {}, counter {}", release.epoch, release.counter))),
        ("Kind", Some(word(&release.kind))),
        ("Size", Some(bytes(release.payloads.iter().map(|payload| payload.size).sum()))),
        ("Channels", Some(release.channels.join(", "))),
        ("Hardware", Some(release.hw.join(", "))),
        ("Installer", Some(word(&release.installer))),
        ("Restarts", Some(word(&release.restart))),
        ("Floor", (release.min_floor > 0).then(|| format!("nothing below counter {} afterwards", release.min_floor))),
        ("Needs", release.requires_at_least.map(|counter| format!("counter {counter} of the product before"))),
        ("Needs besides", Some(release.requires.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        ("Needs an agent", release.requires_agent.as_ref().map(|version| format!("{version} or newer"))),
        ("Not after", release.not_after.map(|at| at.to_string())),
        ("May be put off", release.max_postpone_s.map(|s| span(std::time::Duration::from_secs(s.into())))),
        ("Digest", Some(release.sha256.to_string())),
        ("Published", Some(release.published_at.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).filter(|(_, value)| !value.is_empty()).collect()
}

/// Name, size, digest, and whether it is a bill of materials, by its name.
fn payloads(release: &admin::Release) -> Vec<(String, String, String, bool)> {
    let one = |payload: &callboard_proto::release::Payload| {
        let sbom = ["sbom", ".cdx.", ".spdx."].iter().any(|mark| payload.name.to_lowercase().contains(mark));
        (payload.name.clone(), bytes(payload.size), payload.sha256.to_string(), sbom)
    };
    release.payloads.iter().map(one).collect()
}

fn is_for(role: &TrustRole, release: &admin::Release) -> bool {
    let product = release.product.as_str();
    role.kind == "release" && (role.products.is_empty() || role.products.iter().any(|known| known == product))
}

fn signed(role: &TrustRole, release: &admin::Release) -> Role {
    let has = |key: &admin::TrustKey| key.counted && release.signed_by.contains(&key.id);
    let n = role.keys.iter().filter(|key| has(key)).count();
    let enough = u32::try_from(n).is_ok_and(|n| n >= role.threshold);
    Role {
        name: role.name.clone().unwrap_or_else(|| role.kind.clone()),
        badge: if enough { Badge::new("enough", "good") } else { Badge::new("not enough", "bad") },
        words: format!(
            "{n} of {} signed; {} needed",
            count(u64::try_from(role.keys.len()).unwrap_or(0), "key"),
            role.threshold
        ),
        keys: role.keys.iter().map(|key| (key.id.to_string(), has(key))).collect(),
    }
}

/// Keys that signed, and that no role knows any more.
fn strangers(release: &admin::Release, roles: &[TrustRole]) -> Vec<String> {
    let known = |id: &Digest| roles.iter().any(|role| role.keys.iter().any(|key| key.id == *id));
    release.signed_by.iter().filter(|id| !known(id)).map(ToString::to_string).collect()
}

/// What whoever has the head key runs to take it back; `before` is the serial of the head that is published.
fn revoke(release: &admin::Release, before: Option<u64>) -> String {
    let (from, out) = match before {
        Some(serial) => (format!("--from head-{serial}.json "), format!("head-{}.json", serial.saturating_add(1))),
        None => (String::new(), "head-1.json".to_owned()),
    };
    format!("callboard head new {from}--revoke {}={} --key head.key --out {out}", release.product, release.sha256)
}
