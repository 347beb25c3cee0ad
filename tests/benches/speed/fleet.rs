//! Registered devices, by the million: written into the database before the server starts, since importing them takes
//! minutes.

use std::path::Path;

use anyhow::Context as _;
use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};

/// Tills of one shop.
const OF_A_SHOP: usize = 10;

/// `n` tills in shops of ten, in ten regions and five zones. Each has told what it is and runs, and was seen lately.
pub(crate) fn fill(database: &Path, n: usize) -> anyhow::Result<()> {
    let mut conn = SqliteConnection::establish(database.to_str().context("a name")?)?;
    let shops = n.div_ceil(OF_A_SHOP);
    let installed = r#"{"pos-app":{"version":"2.1.0","key":"k","release":null,"epoch":0,"counter":0,"floor":0},
        "pos-os":{"version":"11.4.2","key":"k","release":null,"epoch":0,"counter":0,"floor":0}}"#;
    let sql = format!(
        "PRAGMA synchronous = OFF; BEGIN;
         INSERT INTO sites (id, name, tz, labels, trading, bandwidth, state, state_reason)
         WITH RECURSIVE shop (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM shop WHERE k + 1 < {shops})
         SELECT printf('S-%06d', k), printf('Shop %d', k),
                CASE k % 5 WHEN 0 THEN 'America/New_York' WHEN 1 THEN 'America/Chicago' WHEN 2 THEN 'America/Denver'
                           WHEN 3 THEN 'Europe/Berlin' ELSE 'Asia/Tokyo' END,
                json_object('region', printf('r%d', k % 10)), '[]', '[]', 0, '' FROM shop;
         INSERT INTO devices (id, number, revision, name, site_id, description, serial, labels, certificate, enrolled_at,
                              last_seen, boot_id, rhythm, hw, arch, agent, agent_key, channels, attributes, installed)
         WITH RECURSIVE till (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM till WHERE k + 1 < {n})
         SELECT randomblob(16), k, 1, printf('till-%07d', k), printf('S-%06d', k / {OF_A_SHOP}), 'Front counter',
                printf('F-%07d', k), json_object('ring', 'general'), hex(zeroblob(450)), 1750000000000, 1760000000000,
                'a-boot', zeroblob(21), 'verifone-m440', 'x86_64', '0.3.0', 'k', '[\"stable\"]',
                json_object('printer', 'epson-tm88', 'lane', printf('%d', k % {OF_A_SHOP})), '{installed}' FROM till;
         UPDATE counters SET value = {n} WHERE name = 'device_number';
         COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
    );
    Ok(conn.batch_execute(&sql)?)
}
