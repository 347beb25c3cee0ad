//! Lists of rollouts, newest first, for those who see a part of the fleet.

use callboard_policy::rollout::RolloutState;
use callboard_proto::ids::RolloutId;

use super::is_within;
use crate::{
    app::{
        App, Reach, Result,
        part::{self, Part, Place},
    },
    db::{self, DbConn, rollouts::Record},
};

/// A page of the rollouts in reach, perhaps only those in one state.
pub(crate) async fn list(
    app: &App,
    sees: Reach,
    state: Option<RolloutState>,
    place: Place<RolloutId>,
) -> Result<Part<Record, RolloutId>> {
    app.db
        .read(move |conn| {
            let read = |conn: &mut DbConn, before, rows| Ok(db::rollouts::list(conn, state, before, rows)?);
            let keep =
                |conn: &mut DbConn, page: &[Record]| page.iter().map(|record| is_within(conn, &sees, record)).collect();
            part::read(conn, &sees, place, |record| record.id, read, keep)
        })
        .await
}
