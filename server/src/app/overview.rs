//! The fleet in numbers.

use std::time::Duration;

use callboard_policy::{device::online_for, selector::Selector};
use callboard_proto::{
    admin::{EnrolmentState, Overview},
    ids::EnrolmentId,
    state::AssignmentState,
};
use uuid::Uuid;

use super::{App, Error, Reach, Result, attacks, enrol, part};
use crate::db::{self, DbConn, selector::Context};

const MINUTE: Duration = Duration::from_secs(60);

/// Devices by status, and what else is shown of them.
type Numbers = ([i64; 5], Vec<(AssignmentState, i64)>, i64);

/// Devices by status, and assignments that are not final by state.
pub(crate) async fn overview(app: &App, sees: Reach) -> Result<Overview> {
    let context = app.selector_context();
    let attacks = attacks::recent(app, sees.clone()).await?;
    let (devices, assignments, waiting) = app
        .db
        .read(move |conn| {
            db::Purpose::Metrics.of(|| match &sees {
                Reach::Everything => of_all(conn, &context),
                part => of_part(conn, part, &context),
            })
        })
        .await?;
    let [all, never, online, abandoned, just_now] = devices.map(|n| u64::try_from(n).unwrap_or(0));
    let by_status = [
        ("unknown", never),
        ("online", online),
        ("offline", all.saturating_sub(never).saturating_sub(online).saturating_sub(abandoned)),
        ("abandoned", abandoned),
    ];
    Ok(Overview {
        devices: by_status.into_iter().map(|(status, n)| (status.to_owned(), n)).collect(),
        seen_last_minute: just_now,
        assignments: assignments
            .into_iter()
            .map(|(state, n)| (state.as_str().to_owned(), u64::try_from(n).unwrap_or(0)))
            .collect(),
        enrolments_waiting: u64::try_from(waiting).unwrap_or(0),
        attack_alarms: attacks
            .iter()
            .filter(|(_, devices)| attacks::is_alarming(**devices, all))
            .map(|(kind, _)| kind.clone())
            .collect(),
        attacks,
    })
}

fn of_all(conn: &mut DbConn, context: &Context) -> Result<Numbers> {
    let [all, never, online] = db::devices::count_by_last_seen(conn, context.now - online_for(context.poll_interval))?;
    let just_now = db::devices::count_seen_since(conn, context.now - MINUTE)?;
    let abandoned = db::selector::count_abandoned(conn, context)?;
    let waiting = db::enrolments::count_waiting(conn)?;
    Ok(([all, never, online, abandoned, just_now], db::assignments::count_open(conn)?, waiting))
}

fn parse(text: &str) -> Result<Selector> {
    Selector::parse(text).map_err(|source| Error::Unexpected(source.to_string()))
}

fn of_part(conn: &mut DbConn, part: &Reach, context: &Context) -> Result<Numbers> {
    let mut count = |text: &str| Ok::<_, Error>(db::selector::count(conn, &part.narrow(parse(text)?), context)?);
    let devices = [
        count("all")?,
        count("status = unknown")?,
        count("status = online")?,
        count("status = abandoned")?,
        count("last_seen >= 1m ago")?,
    ];
    let open = db::selector::count_open(conn, &part.selector(), context)?;
    let mut waiting = 0;
    let mut from = EnrolmentId::from_uuid(Uuid::max());
    loop {
        let page = enrol::list(conn, part, part::Place { from, rows: 1001 }, context.now)?;
        let here = page.items.iter().filter(|(one, _)| one.state == EnrolmentState::Waiting).count();
        waiting += i64::try_from(here).unwrap_or(0);
        match page.next {
            Some(next) => from = next,
            None => return Ok((devices, open, waiting)),
        }
    }
}
