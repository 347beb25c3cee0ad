//! What is counted and looked up within a part of the fleet.

use std::collections::HashSet;

use callboard_proto::state::AssignmentState;

use super::{Bind, Context, DbConn, QueryResult, Selector, Sql};
use crate::db::assignments::column;

/// Devices asked about in one statement: each is a bind parameter.
const ASKED: usize = 500;

/// How many devices in service a selector selects.
pub(crate) fn count(conn: &mut DbConn, selector: &Selector, context: &Context) -> QueryResult<i64> {
    let mut sql = Sql::new(conn, context);
    sql.push("SELECT COUNT(*) AS number FROM devices d LEFT JOIN sites s ON s.id = d.site_id ");
    sql.push("WHERE d.decommissioned_at IS NULL AND ");
    sql.expr(selector.expr());
    Ok(sql.run(conn)?.first().map_or(0, |row| row.number))
}

/// Assignments that are not final of devices that a selector selects, counted by state.
pub(crate) fn count_open(
    conn: &mut DbConn,
    selector: &Selector,
    context: &Context,
) -> QueryResult<Vec<(AssignmentState, i64)>> {
    let states = AssignmentState::ALL.into_iter().filter(|state| !state.is_final());
    states.map(|state| Ok((state, count_assignments(conn, selector, context, state)?))).collect()
}

fn count_assignments(
    conn: &mut DbConn,
    selector: &Selector,
    context: &Context,
    state: AssignmentState,
) -> QueryResult<i64> {
    let mut sql = Sql::new(conn, context);
    sql.push("SELECT COUNT(*) AS number FROM assignments a JOIN devices d ON d.id = a.device_id ");
    sql.push("LEFT JOIN sites s ON s.id = d.site_id WHERE a.state = ");
    sql.bind(Bind::Int(column(state).into()));
    sql.push(" AND ");
    sql.expr(selector.expr());
    Ok(sql.run(conn)?.first().map_or(0, |row| row.number))
}

/// Those of these numbers whose devices a selector selects, whether or not they are in service.
pub(crate) fn among(
    conn: &mut DbConn,
    selector: &Selector,
    context: &Context,
    numbers: &[i64],
) -> QueryResult<HashSet<i64>> {
    let mut found = HashSet::new();
    for numbers in numbers.chunks(ASKED) {
        let mut sql = Sql::new(conn, context);
        sql.push("SELECT d.number FROM devices d LEFT JOIN sites s ON s.id = d.site_id WHERE d.number IN (");
        for (n, number) in numbers.iter().enumerate() {
            sql.push(if n > 0 { ", " } else { "" });
            sql.bind(Bind::Int(*number));
        }
        sql.push(") AND ");
        sql.expr(selector.expr());
        found.extend(sql.run(conn)?.into_iter().map(|row| row.number));
    }
    Ok(found)
}
