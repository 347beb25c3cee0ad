//! Counting anew: after every test the counters of all phases are what their rows and sets give.

use std::collections::BTreeMap;

use callboard_proto::state::AssignmentState as S;
use diesel::{
    QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Binary, Text},
};
use roaring::RoaringBitmap;

use super::{Engine, TestServer};

#[derive(QueryableByName)]
struct Off {
    #[diesel(sql_type = Text)]
    what: String,
    #[diesel(sql_type = BigInt)]
    off: i64,
}

#[derive(QueryableByName)]
struct Sets {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Binary)]
    members: Vec<u8>,
    #[diesel(sql_type = Binary)]
    without: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    size: i64,
    #[diesel(sql_type = BigInt)]
    excluded: i64,
}

#[derive(QueryableByName)]
struct Excluded {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Binary)]
    members: Vec<u8>,
}

/// Each counter, and the assignments that it counts. States are numbers in the database.
fn counters() -> Vec<(&'static str, String)> {
    let states = |states: &[S]| {
        let places = states.iter().map(|state| S::ALL.iter().position(|one| one == state).unwrap().to_string());
        format!("a.state IN ({})", places.collect::<Vec<_>>().join(", "))
    };
    let waiting = states(&[S::Queued, S::Downloading, S::Staged]);
    let deferred = |why: usize| format!("{waiting} AND a.deferred = {why}");
    vec![
        ("queued", states(&[S::Queued])),
        ("downloading", states(&[S::Downloading])),
        ("staged", states(&[S::Staged])),
        ("deferred_window", deferred(0)),
        ("deferred_trading_hours", deferred(1)),
        ("deferred_freeze", deferred(2)),
        ("deferred_inhibitor", deferred(3)),
        ("deferred_user", deferred(4)),
        ("activating", states(&[S::Activating])),
        ("verifying", states(&[S::Verifying])),
        ("silent", format!("{} AND a.silent = 1", states(&[S::Activating, S::Verifying]))),
        ("succeeded", states(&[S::Succeeded])),
        ("rolled_back", states(&[S::RolledBack])),
        ("failed", states(&[S::Failed])),
        ("timed_out", states(&[S::TimedOut])),
        ("cancelled", states(&[S::Cancelled, S::Expired])),
        ("acknowledged", format!("{} AND a.attention_since IS NULL", states(&[S::RolledBack, S::Failed]))),
    ]
}

impl TestServer {
    /// Fails if a counter is not what a recount gives, or a timer runs where none should.
    #[track_caller]
    pub(super) fn recount(&self) {
        let counted = counters().into_iter().map(|(column, which)| {
            format!(
                "SELECT '{column}' AS what, CAST(COALESCE(SUM(ABS(c.{column} - (SELECT COUNT(*) FROM assignments a \
                 WHERE a.rollout_id = c.rollout_id AND a.phase = c.idx AND {which}))), 0) AS BIGINT) AS off FROM counts c"
            )
        });
        // Downloading, activating, verifying.
        let timers = "SELECT 'timers' AS what, COUNT(*) AS off FROM assignments a \
                      WHERE (a.state IN (1, 3, 4)) <> (a.timer_at IS NOT NULL)";
        let query = counted.chain([timers.to_owned()]).collect::<Vec<_>>().join(" UNION ALL ");
        let off: Vec<Off> = match self.engine {
            Engine::Sqlite => sql_query(query).get_results(&mut self.sqlite()).unwrap(),
            Engine::Postgres => sql_query(query).get_results(&mut self.postgres()).unwrap(),
        };
        for one in off {
            assert_eq!(one.off, 0, "{:?}: {} is off", self.engine, one.what);
        }
        self.recount_sets();
        self.recount_exclusions();
    }

    /// Who is excluded is excluded for one reason.
    #[track_caller]
    fn recount_exclusions(&self) {
        let get = |query: &str| -> Vec<Excluded> {
            match self.engine {
                Engine::Sqlite => sql_query(query).get_results(&mut self.sqlite()).unwrap(),
                Engine::Postgres => sql_query(query).get_results(&mut self.postgres()).unwrap(),
            }
        };
        let read = |bytes: &[u8]| RoaringBitmap::deserialize_from(bytes).unwrap();
        let by_why = "SELECT r.name, e.members FROM exclusions e JOIN rollouts r ON r.id = e.rollout_id";
        let mut sums: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        for one in get(by_why) {
            let (members, sum) = (read(&one.members), sums.entry(one.name).or_default());
            assert!(sum.is_disjoint(&members), "{:?}: a device is excluded twice", self.engine);
            *sum |= members;
        }
        for one in get("SELECT name, excluded AS members FROM rollouts") {
            let sum = sums.remove(&one.name).unwrap_or_default();
            assert_eq!(sum, read(&one.members), "{:?}: who is excluded from {}", self.engine, one.name);
        }
    }

    #[track_caller]
    fn recount_sets(&self) {
        let query = "SELECT p.name, p.members, r.excluded AS without, c.size, c.excluded FROM phases p \
                     JOIN rollouts r ON r.id = p.rollout_id \
                     JOIN counts c ON c.rollout_id = p.rollout_id AND c.idx = p.idx";
        let sets: Vec<Sets> = match self.engine {
            Engine::Sqlite => sql_query(query).get_results(&mut self.sqlite()).unwrap(),
            Engine::Postgres => sql_query(query).get_results(&mut self.postgres()).unwrap(),
        };
        for phase in sets {
            let read = |bytes: &[u8]| RoaringBitmap::deserialize_from(bytes).unwrap();
            let (members, without) = (read(&phase.members), read(&phase.without));
            let counted = (members.len(), members.intersection_len(&without));
            let stored = (phase.size.unsigned_abs(), phase.excluded.unsigned_abs());
            assert_eq!(stored, counted, "{:?}: size of phase {}", self.engine, phase.name);
        }
    }
}
