//! What the fleet runs, counted.

use std::collections::BTreeMap;

use callboard_proto::{check_in::Installed, ids::Product, version::Version};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};

use super::{Bind, Context, DbConn, QueryResult, Selector, Sql};
use crate::db::devices::read_installed;

/// Different sets of products and versions looked at, the most frequent ones: a fleet has tens of them.
const SETS: i64 = 2000;

/// How many devices run which version of each product.
pub(crate) type Runs = BTreeMap<Product, BTreeMap<Version, u64>>;

#[derive(QueryableByName)]
struct Set {
    #[diesel(sql_type = Text)]
    installed: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// What the devices in service run that a selector selects. Devices with the same set are one row of the answer, so that
/// no JSON is read for each of them.
pub(crate) fn versions(conn: &mut DbConn, selector: &Selector, context: &Context) -> QueryResult<Runs> {
    let mut sql = Sql::new(conn, context);
    sql.push("SELECT d.installed AS installed, COUNT(*) AS number FROM devices d ");
    sql.push("LEFT JOIN sites s ON s.id = d.site_id WHERE d.decommissioned_at IS NULL AND ");
    sql.expr(selector.expr());
    sql.push(" GROUP BY d.installed ORDER BY COUNT(*) DESC LIMIT ");
    sql.bind(Bind::Int(SETS));
    let mut runs = Runs::new();
    for Set { installed, number } in sql.rows::<Set>(conn)? {
        for Installed { product, version, .. } in read_installed(&installed)? {
            let known = runs.entry(product).or_default().entry(version).or_default();
            *known = known.saturating_add(u64::try_from(number).unwrap_or(0));
        }
    }
    Ok(runs)
}
