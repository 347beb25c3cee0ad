//! The fleet in numbers.

use callboard_policy::device::online_for;
use callboard_proto::admin::Overview;

use super::{ABANDONED_AFTER, App, Error, Result};
use crate::db;

/// Devices by status, and assignments that are not final by state.
pub(crate) async fn overview(app: &App) -> Result<Overview> {
    let now = app.clock.now();
    let online = now - online_for(app.poll_interval);
    let offline = now - ABANDONED_AFTER;
    let (devices, assignments) = app
        .db
        .read(move |conn| {
            db::Purpose::Metrics.of(|| {
                let devices = db::devices::count_by_last_seen(conn, online, offline)?;
                Ok::<_, Error>((devices, db::assignments::count_open(conn)?))
            })
        })
        .await?;
    let [all, never, online, recent] = devices.map(|n| u64::try_from(n).unwrap_or(0));
    let by_status = [
        ("unknown", never),
        ("online", online),
        ("offline", recent.saturating_sub(online)),
        ("abandoned", all.saturating_sub(never).saturating_sub(recent)),
    ];
    Ok(Overview {
        devices: by_status.into_iter().map(|(status, n)| (status.to_owned(), n)).collect(),
        assignments: assignments
            .into_iter()
            .map(|(state, n)| (state.as_str().to_owned(), u64::try_from(n).unwrap_or(0)))
            .collect(),
    })
}
