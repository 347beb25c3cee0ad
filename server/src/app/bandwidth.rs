//! Bandwidth: the share of one download in what its site may take, by the hour of the site's day.
//!
//! The budget of the hour is divided by the downloads under way at the site, of whatever rollout. Each device is told its
//! share at each check-in, and keeps to it by itself; when others begin or are done it changes within a minute. What this
//! server sends to all devices together is limited where it is sent (`max_bytes_per_s` in `server.toml`), and no device is
//! told more than that.

use std::{num::NonZeroU64, time::Duration};

use callboard_policy::{
    bandwidth::rate,
    catalog::Catalog,
    decide::{Decision, Step},
    device::Device,
};
use callboard_proto::{ids::RolloutId, time::Timestamp};

use super::{App, Error, Result};
use crate::db;

/// How long a share may be out of date.
const FOLLOW: Duration = Duration::from_secs(60);

/// Adds to a decision for a download how fast it may be, and says that number too. `granted` is whether it has been
/// carried out, so that the download is one of those under way.
pub(super) async fn allot(
    app: &App,
    catalog: &Catalog,
    device: &Device,
    decision: &mut Decision,
    granted: bool,
    now: Timestamp,
) -> Result<Option<u64>> {
    let own = match decision.step {
        Step::GrantDownload { .. } => u64::from(!granted),
        Step::ContinueDownload { .. } => 0,
        _ => return Ok(None),
    };
    let share = share(app, catalog, device, decision, own, now).await?;
    let whole = app.max_bytes_per_s.map(NonZeroU64::get);
    if let Some(whole) = whole {
        let text = &mut decision.reason.text;
        *text = format!("{text}; this server sends at most {} to all devices together", rate(whole));
    }
    Ok([share, whole].into_iter().flatten().min())
}

/// The part in what the site may take, if that is limited now. `own` is 1 if the download is not among those under way.
async fn share(
    app: &App,
    catalog: &Catalog,
    device: &Device,
    decision: &mut Decision,
    own: u64,
    now: Timestamp,
) -> Result<Option<u64>> {
    let (Some(site), Some(tz)) = (&device.site, device.site_tz) else { return Ok(None) };
    let Some(allowed) = device.site_rules.bandwidth.at(now, tz) else { return Ok(None) };
    let (rollouts, at) = (catalog.rollouts.iter().map(|one| one.id).collect::<Vec<RolloutId>>(), site.clone());
    let under_way = app.db.read(move |conn| Ok::<_, Error>(db::loads::downloads_at(conn, &rollouts, &at)?)).await?;
    let downloads = (under_way + own).max(1);
    let until = allowed.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let text = &mut decision.reason.text;
    let whom = if downloads == 1 { "one download".to_owned() } else { format!("{downloads} downloads") };
    *text = format!("{text}; site {site} has {}{until} for {whom}", rate(allowed.bytes_per_s));
    let changes = allowed.until.map_or(FOLLOW, |until| until.since(now).max(Duration::from_secs(1)));
    decision.next_check_in = decision.next_check_in.min(FOLLOW).min(changes);
    Ok(Some(allowed.share(downloads)))
}
