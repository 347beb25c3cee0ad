//! Sites: imported as a whole list, again and again with the same result.

use callboard_policy::{
    device::Hold,
    site::{self, SiteState, Suspension},
};
use callboard_proto::{
    admin::{self, BandwidthLimit, Eligible, ImportSites, Imported, Labels, MAX_IMPORT, TradingHours},
    ids::SiteId,
    problem::Code,
    time::Timestamp,
};
use chrono_tz::Tz;
use serde_json::{Value, json};

use super::{
    Actor, App, Because, Error, Reach, Result, assignments, devices,
    edition::Edition,
    eligibility,
    part::{self, Part, Place},
    rollouts,
};
use crate::db::{self, DbConn, events::NewEvent, sites::Site};

/// What a list may speak of.
type More = (Option<Vec<TradingHours>>, Option<Vec<BandwidthLimit>>);

/// A page of the sites in reach.
pub(crate) async fn list(app: &App, sees: Reach, place: Place<Option<SiteId>>) -> Result<Part<Site, Option<SiteId>>> {
    let now = app.clock.now();
    app.db
        .read(move |conn| {
            let read =
                |conn: &mut DbConn, after: Option<SiteId>, rows| Ok(db::sites::list(conn, after.as_ref(), rows)?);
            let keep = |_: &mut DbConn, page: &[Site]| page.iter().map(|site| covers(&sees, site, now)).collect();
            part::read(conn, &sees, place, |site| Some(site.id.clone()), read, keep)
        })
        .await
}

/// Takes all sites of the list, or none.
pub(crate) async fn import(app: &App, actor: Actor, import: ImportSites) -> Result<Imported> {
    if import.sites.len() > MAX_IMPORT {
        return Err(Error::invalid(format!("{} sites; at most {MAX_IMPORT} at a time", import.sites.len())));
    }
    let mut sites = Vec::with_capacity(import.sites.len());
    for site in import.sites {
        let tz = zone(&site.tz).map_err(|detail| Error::invalid(format!("site {}: {detail}", site.id)))?;
        if sites.iter().any(|(other, _): &(Site, _)| other.id == site.id) {
            return Err(Error::invalid(format!("site {} stands twice in the list", site.id)));
        }
        if let Some(hours) = &site.trading_hours {
            check_hours(hours).map_err(|detail| Error::invalid(format!("site {}: {detail}", site.id)))?;
        }
        if let Some(limits) = &site.bandwidth {
            check_limits(limits).map_err(|detail| Error::invalid(format!("site {}: {detail}", site.id)))?;
        }
        sites.push((Site::new(site.id, site.name, tz, site.labels), (site.trading_hours, site.bandwidth)));
    }
    let (now, dry_run) = (app.clock.now(), import.dry_run);
    let catalog = app.catalog();
    let imported = app
        .db
        .write(move |conn| {
            let mut outcome = Imported { created: 0, updated: 0, unchanged: 0, dry_run, eligible: Vec::new() };
            let (mut changed, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
            for (site, more) in &sites {
                let old = db::sites::get(conn, &site.id)?;
                let site = &merged(site, more.clone(), old.as_ref());
                for known in old.iter().chain([site]) {
                    if !is_within(conn, &actor.may, known, now)? {
                        return Err(actor.outside(format!("site {}", known.id)));
                    }
                }
                match old {
                    Some(old) if old == *site => outcome.unchanged += 1,
                    Some(old) => {
                        outcome.updated += 1;
                        before.push(facts(&old));
                        after.push(facts(site));
                        changed.push((old, site.clone()));
                        put(conn, site, dry_run, now)?;
                    }
                    None => {
                        outcome.created += 1;
                        after.push(facts(site));
                        put(conn, site, dry_run, now)?;
                    }
                }
            }
            outcome.eligible = eligibility::of_sites(conn, &catalog, &changed, now)?;
            if outcome.created + outcome.updated > 0 && !dry_run {
                db::counters::bump_generation(conn)?;
                let text = format!(
                    "imported {}, and changed {}",
                    callboard_policy::counted(outcome.created, "site"),
                    outcome.updated
                );
                let event = NewEvent::general("site.imported", text);
                db::events::insert(conn, now, &actor.did(event, &before.into(), &after.into()))?;
            }
            Ok::<_, Error>(outcome)
        })
        .await?;
    if !imported.dry_run {
        app.forget_devices();
        app.reload_catalog().await?;
    }
    Ok(imported)
}

/// What a list does not speak of stays as it is.
fn merged(listed: &Site, (trading, bandwidth): More, old: Option<&Site>) -> Site {
    let Site { id, name, tz, labels, .. } = listed.clone();
    let kept = old.cloned().unwrap_or_else(|| listed.clone());
    let trading = trading.unwrap_or_else(|| kept.trading.clone());
    let bandwidth = bandwidth.unwrap_or_else(|| kept.bandwidth.clone());
    Site { id, name, tz, labels, trading, bandwidth, ..kept }
}

fn put(conn: &mut DbConn, site: &Site, dry_run: bool, now: Timestamp) -> Result<()> {
    if dry_run {
        return Ok(());
    }
    db::sites::put(conn, site)?;
    touch_devices(conn, site, now)
}

/// What its devices are told may be otherwise from now on.
fn touch_devices(conn: &mut DbConn, site: &Site, now: Timestamp) -> Result<()> {
    for device in db::devices::of_site(conn, site)? {
        db::devices::touch(conn, device, now)?;
    }
    Ok(())
}

/// Understands an IANA zone.
pub(crate) fn zone(text: &str) -> std::result::Result<Tz, String> {
    text.parse().map_err(|source: chrono_tz::ParseError| {
        format!("{text:?} is not an IANA time zone, such as America/New_York ({source})")
    })
}

fn check_hours(hours: &[TradingHours]) -> std::result::Result<(), String> {
    db::sites::hours(hours).map(drop).map_err(|detail| format!("trading_hours: {detail}"))
}

fn check_limits(limits: &[BandwidthLimit]) -> std::result::Result<(), String> {
    db::sites::limits(limits).map(drop).map_err(|detail| format!("bandwidth: {detail}"))
}

/// A site by its id.
pub(crate) fn resolve(conn: &mut DbConn, reference: &str) -> Result<Site> {
    let found = match reference.parse() {
        Ok(id) => db::sites::get(conn, &id)?,
        Err(_) => None,
    };
    found.ok_or_else(|| Error::not_found("site", reference))
}

/// A site by its id, for somebody whose permission holds for it and for every device there.
pub(crate) fn resolve_for(conn: &mut DbConn, actor: &Actor, reference: &str, now: Timestamp) -> Result<Site> {
    let site = resolve(conn, reference)?;
    let sees = covers(&actor.sees, &site, now)?;
    let may = is_within(conn, &actor.may, &site, now)?;
    actor.check("site", reference, may, sees)?;
    actor.expected.check(|| facts(&site))?;
    Ok(site)
}

/// A site by its id, for somebody who only looks.
pub(crate) fn seen_by(conn: &mut DbConn, actor: &Actor, reference: &str, now: Timestamp) -> Result<Site> {
    let site = resolve(conn, reference)?;
    if covers(&actor.sees, &site, now)? { Ok(site) } else { Err(Error::not_found("site", reference)) }
}

/// Whether a device that stands there is in reach, as long as it says nothing else of itself.
pub(crate) fn covers(reach: &Reach, site: &Site, now: Timestamp) -> Result<bool> {
    devices::would_cover(reach, Some(site), &Labels::new(), now)
}

/// The same, and whether no device there is out of reach.
fn is_within(conn: &mut DbConn, reach: &Reach, site: &Site, now: Timestamp) -> Result<bool> {
    if reach.is_everything() {
        return Ok(true);
    }
    if !covers(reach, site, now)? {
        return Ok(false);
    }
    for id in db::devices::of_site(conn, site)? {
        if db::devices::get(conn, id)?.is_some_and(|record| !reach.covers(&record.device, now)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Replaces the trading hours of a site.
pub(crate) async fn set_trading(app: &App, actor: Actor, reference: String, hours: Vec<TradingHours>) -> Result<Site> {
    check_hours(&hours).map_err(Error::invalid)?;
    change(app, actor, reference, move |_, site| {
        site.trading = hours;
        let hours = db::sites::hours(&site.trading).map_err(Error::Unexpected)?;
        let text = if hours.is_empty() { "it never trades".to_owned() } else { hours.to_string() };
        Ok(NewEvent::general("site.trading_hours", format!("trading hours of site {}: {text}", site.id)))
    })
    .await
}

/// Replaces the limits of a site's bandwidth.
pub(crate) async fn set_bandwidth(
    app: &App,
    actor: Actor,
    reference: String,
    limits: Vec<BandwidthLimit>,
) -> Result<Site> {
    check_limits(&limits).map_err(Error::invalid)?;
    change(app, actor, reference, move |_, site| {
        site.bandwidth = limits;
        let limits = db::sites::limits(&site.bandwidth).map_err(Error::Unexpected)?;
        let text = if limits.is_empty() { "no limit".to_owned() } else { limits.to_string() };
        Ok(NewEvent::general("site.bandwidth", format!("bandwidth of site {}: {text}", site.id)))
    })
    .await
}

async fn change(
    app: &App,
    actor: Actor,
    reference: String,
    f: impl FnOnce(&mut DbConn, &mut Site) -> Result<NewEvent> + Send + 'static,
) -> Result<Site> {
    let now = app.clock.now();
    let site = app
        .db
        .write(move |conn| {
            let old = resolve_for(conn, &actor, &reference, now)?;
            let mut site = old.clone();
            let event = f(conn, &mut site)?;
            if site != old {
                write(conn, &site, &actor.did(event, &facts(&old), &facts(&site)), now)?;
            }
            Ok::<_, Error>(site)
        })
        .await?;
    app.forget_devices();
    app.reload_catalog().await?;
    Ok(site)
}

/// What the audit says of a site.
fn facts(site: &Site) -> Value {
    let hold = site.held.as_ref().map(|hold| json!({ "reason": hold.reason, "until": hold.until }));
    json!({
        "id": site.id,
        "name": site.name,
        "tz": site.tz.name(),
        "labels": site.labels,
        "trading_hours": site.trading,
        "bandwidth": site.bandwidth,
        "state": site.state.as_str(),
        "hold": hold,
    })
}

/// Which edition of a site this is.
pub(crate) fn edition(site: &Site) -> Edition {
    Edition::of(&facts(site))
}

/// Writes a site that was changed.
fn write(conn: &mut DbConn, site: &Site, event: &NewEvent, now: Timestamp) -> Result<()> {
    db::sites::put(conn, site)?;
    touch_devices(conn, site, now)?;
    db::counters::bump_generation(conn)?;
    Ok(db::events::insert(conn, now, event)?)
}

/// Holds every device of a site, or lifts the hold.
pub(crate) async fn hold(app: &App, actor: Actor, reference: String, hold: Option<Hold>) -> Result<Site> {
    devices::check_hold(hold.as_ref(), app.clock.now())?;
    let operator = actor.name.clone();
    change(app, actor, reference, move |_, site| {
        let (kind, text) = match &hold {
            Some(hold) => ("site.held", format!("site {} is held by {operator}: {}", site.id, hold.reason)),
            None => ("site.unheld", format!("the hold of site {} was lifted by {operator}", site.id)),
        };
        site.held = hold;
        Ok(NewEvent::general(kind, text))
    })
    .await
}

/// Suspends or closes a site.
pub(crate) async fn change_state(app: &App, reference: String, to: SiteState, because: Because) -> Result<Site> {
    let (now, reason) = (app.clock.now(), because.reason.trim().to_owned());
    if reason.is_empty() {
        return Err(Error::invalid(format!("reason is empty; say why the site is {}", to.as_str())));
    }
    change(app, because.by.clone(), reference, move |conn, site| {
        if (site.state, to) == (SiteState::Closed, SiteState::Suspended) {
            let detail = format!("site {} is closed; activate it first", site.id);
            return Err(Error::refused(Code::WrongState, detail));
        }
        if to == SiteState::Closed {
            let devices = db::devices::of_site(conn, site)?;
            rollouts::members::leave(conn, &devices, now)?;
        }
        *site = in_state(site.clone(), to, reason, now);
        Ok(changed_state(site, &because))
    })
    .await
}

/// Activates a site, or only says for which rollouts its devices would be eligible then.
pub(crate) async fn activate(
    app: &App,
    reference: String,
    because: Because,
    dry_run: bool,
) -> Result<(Site, Vec<Eligible>)> {
    let (now, catalog) = (app.clock.now(), app.catalog());
    let activated = app
        .db
        .write(move |conn| {
            let old = resolve_for(conn, &because.by, &reference, now)?;
            let site = in_state(old.clone(), SiteState::Active, String::new(), now);
            if site == old {
                return Ok((old, Vec::new()));
            }
            let eligible = eligibility::of_sites(conn, &catalog, &[(old.clone(), site.clone())], now)?;
            if dry_run {
                return Ok((old, eligible));
            }
            for device in db::devices::of_site(conn, &site)? {
                assignments::come_back(conn, device, now)?;
            }
            let event = because.by.did(changed_state(&site, &because), &facts(&old), &facts(&site));
            write(conn, &site, &event, now)?;
            Ok::<_, Error>((site, eligible))
        })
        .await?;
    if !dry_run {
        app.forget_devices();
        app.reload_catalog().await?;
    }
    Ok(activated)
}

fn in_state(site: Site, to: SiteState, state_reason: String, now: Timestamp) -> Site {
    let suspension = match (site.state, to) {
        (SiteState::Suspended, SiteState::Suspended) => site.suspension,
        (_, SiteState::Suspended) => Some(Suspension { from: now, until: None }),
        (SiteState::Suspended, _) => site.suspension.map(|last| Suspension { until: Some(now), ..last }),
        _ => site.suspension,
    };
    Site { state: to, state_reason, suspension, ..site }
}

fn changed_state(site: &Site, because: &Because) -> NewEvent {
    let kind = match site.state {
        SiteState::Active => "site.activated",
        SiteState::Suspended => "site.suspended",
        SiteState::Closed => "site.closed",
    };
    NewEvent::general(kind, format!("site {} is {} {because}", site.id, site.state.as_str()))
}

/// A site as operators see it.
pub(crate) fn show(app: &App, site: Site) -> admin::Site {
    let hold = site::in_force(site.held.as_ref(), app.clock.now()).cloned();
    admin::Site {
        id: site.id,
        name: site.name,
        tz: site.tz.name().to_owned(),
        labels: site.labels,
        trading_hours: site.trading,
        bandwidth: site.bandwidth,
        state: match site.state {
            SiteState::Active => admin::SiteState::Active,
            SiteState::Suspended => admin::SiteState::Suspended,
            SiteState::Closed => admin::SiteState::Closed,
        },
        state_reason: Some(site.state_reason).filter(|reason| !reason.is_empty()),
        hold: hold.map(|hold| admin::Hold { reason: hold.reason, until: hold.until }),
    }
}
