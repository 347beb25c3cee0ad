//! Sites: imported as a whole list, again and again with the same result.

use callboard_proto::{
    admin::{self, ImportSites, Imported, MAX_IMPORT},
    time::Timestamp,
};
use chrono_tz::Tz;

use super::{App, Error, Result, eligibility, labels};
use crate::db::{self, DbConn, events::NewEvent, sites::Site};

/// Takes all sites of the list, or none.
pub(crate) async fn import(app: &App, import: ImportSites) -> Result<Imported> {
    if import.sites.len() > MAX_IMPORT {
        return Err(Error::invalid(format!("{} sites; at most {MAX_IMPORT} at a time", import.sites.len())));
    }
    let mut sites = Vec::with_capacity(import.sites.len());
    for site in import.sites {
        labels::check(&site.labels)?;
        let tz = zone(&site.tz).map_err(|detail| Error::invalid(format!("site {}: {detail}", site.id)))?;
        if sites.iter().any(|other: &Site| other.id == site.id) {
            return Err(Error::invalid(format!("site {} stands twice in the list", site.id)));
        }
        sites.push(Site { id: site.id, name: site.name, tz, labels: site.labels });
    }
    let (now, dry_run) = (app.clock.now(), import.dry_run);
    let catalog = app.catalog();
    let imported = app
        .db
        .write(move |conn| {
            let mut outcome = Imported { created: 0, updated: 0, unchanged: 0, dry_run, eligible: Vec::new() };
            let mut changed = Vec::new();
            for site in &sites {
                match db::sites::get(conn, &site.id)? {
                    Some(old) if old == *site => outcome.unchanged += 1,
                    Some(old) => {
                        outcome.updated += 1;
                        changed.push((old, site.clone()));
                        put(conn, site, dry_run, now)?;
                    }
                    None => {
                        outcome.created += 1;
                        put(conn, site, dry_run, now)?;
                    }
                }
            }
            outcome.eligible = eligibility::of_sites(conn, &catalog, &changed, now)?;
            if outcome.created + outcome.updated > 0 && !dry_run {
                db::counters::bump_generation(conn)?;
                let text = format!("{} sites were imported, {} changed", outcome.created, outcome.updated);
                db::events::insert(conn, now, &NewEvent::general("site.imported", text))?;
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

fn put(conn: &mut DbConn, site: &Site, dry_run: bool, now: Timestamp) -> Result<()> {
    if dry_run {
        return Ok(());
    }
    db::sites::put(conn, site)?;
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

/// A site as operators see it.
pub(crate) fn show(site: Site) -> admin::Site {
    admin::Site { id: site.id, name: site.name, tz: site.tz.name().to_owned(), labels: site.labels }
}
