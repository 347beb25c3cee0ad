//! The fleet in numbers.

use callboard_policy::device::online_for;
use callboard_proto::admin::Overview;

use super::{App, Error, Result};
use crate::db;

/// Devices by status, and assignments that are not final by state.
pub(crate) async fn overview(app: &App) -> Result<Overview> {
    let context = app.selector_context();
    let online = context.now - online_for(context.poll_interval);
    let (devices, assignments, waiting) = app
        .db
        .read(move |conn| {
            db::Purpose::Metrics.of(|| {
                let [all, never, online] = db::devices::count_by_last_seen(conn, online)?;
                let abandoned = db::selector::count_abandoned(conn, &context)?;
                let waiting = db::enrolments::count_waiting(conn)?;
                Ok::<_, Error>(([all, never, online, abandoned], db::assignments::count_open(conn)?, waiting))
            })
        })
        .await?;
    let [all, never, online, abandoned] = devices.map(|n| u64::try_from(n).unwrap_or(0));
    let by_status = [
        ("unknown", never),
        ("online", online),
        ("offline", all.saturating_sub(never).saturating_sub(online).saturating_sub(abandoned)),
        ("abandoned", abandoned),
    ];
    Ok(Overview {
        devices: by_status.into_iter().map(|(status, n)| (status.to_owned(), n)).collect(),
        assignments: assignments
            .into_iter()
            .map(|(state, n)| (state.as_str().to_owned(), u64::try_from(n).unwrap_or(0)))
            .collect(),
        enrolments_waiting: u64::try_from(waiting).unwrap_or(0),
    })
}
