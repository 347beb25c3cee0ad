//! Counting anew: after every test the counters of all phases are what their rows and sets give.

use std::collections::BTreeMap;

use callboard_proto::state::AssignmentState as S;
use diesel::{
    QueryableByName, RunQueryDsl as _, sql_query,
    sql_types::{BigInt, Binary, Nullable, Text},
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
struct Phase {
    #[diesel(sql_type = Text)]
    rollout: String,
    #[diesel(sql_type = BigInt)]
    idx: i64,
    #[diesel(sql_type = Binary)]
    members: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    size: i64,
    #[diesel(sql_type = BigInt)]
    excluded: i64,
}

#[derive(QueryableByName)]
struct Excluded {
    #[diesel(sql_type = Text)]
    rollout: String,
    #[diesel(sql_type = Text)]
    why: String,
    #[diesel(sql_type = Binary)]
    members: Vec<u8>,
}

/// What a membership has come to.
#[derive(QueryableByName)]
struct Since {
    #[diesel(sql_type = Text)]
    rollout: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = BigInt)]
    phase: i64,
    #[diesel(sql_type = Nullable<Text>)]
    excluded: Option<String>,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = Text)]
    rollout: String,
    #[diesel(sql_type = BigInt)]
    idx: i64,
    #[diesel(sql_type = Text)]
    why: String,
    #[diesel(sql_type = BigInt)]
    devices: i64,
}

/// A member: of which phase, and why it does not count.
type Member = (i64, Option<String>);

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
    pub fn recount(&self) {
        let counted = counters().into_iter().map(|(column, which)| {
            format!(
                "SELECT '{column}' AS what, CAST(COALESCE(SUM(ABS(c.{column} - (SELECT COUNT(*) FROM assignments a \
                 WHERE a.rollout_id = c.rollout_id AND a.phase = c.idx AND {which}))), 0) AS BIGINT) AS off FROM counts c"
            )
        });
        // Downloading, activating, verifying.
        let timers = "SELECT 'timers' AS what, COUNT(*) AS off FROM assignments a \
                      WHERE (a.state IN (1, 3, 4)) <> (a.timer_at IS NOT NULL)";
        let query = counted.chain([timers.to_owned(), self.versions()]).collect::<Vec<_>>().join(" UNION ALL ");
        let off: Vec<Off> = match self.engine {
            Engine::Sqlite => sql_query(query).get_results(&mut self.sqlite()).unwrap(),
            Engine::Postgres => sql_query(query).get_results(&mut self.postgres()).unwrap(),
        };
        for one in off {
            assert_eq!(one.off, 0, "{:?}: {} is off", self.engine, one.what);
        }
        self.recount_members();
    }

    /// What devices run by product and version is what stands in their columns.
    fn versions(&self) -> String {
        let told = match self.engine {
            Engine::Sqlite => {
                "SELECT j.key, json_extract(j.value, '$.key'), d.number, json_extract(j.value, '$.version') \
                 FROM devices d, json_each(d.installed) j"
            }
            Engine::Postgres => {
                "SELECT j.key COLLATE \"C\", j.value ->> 'key' COLLATE \"C\", d.number, j.value ->> 'version' COLLATE \"C\" \
                 FROM devices d, jsonb_each(d.installed::jsonb) j"
            }
        };
        let kept = "SELECT product, key, number, version FROM installed_versions";
        format!(
            "SELECT 'installed_versions' AS what, CAST((SELECT COUNT(*) FROM ({told} EXCEPT {kept}) a) \
             + (SELECT COUNT(*) FROM ({kept} EXCEPT {told}) b) AS BIGINT) AS off"
        )
    }

    /// Sizes are what the sets of the start and the rows since then give.
    #[track_caller]
    fn recount_members(&self) {
        let phases: Vec<Phase> = self.rows(
            "SELECT r.name AS rollout, p.idx, p.members, c.size, c.excluded FROM phases p \
             JOIN rollouts r ON r.id = p.rollout_id JOIN counts c ON c.rollout_id = p.rollout_id AND c.idx = p.idx",
        );
        let members = self.members(&phases);
        let counted: Vec<Counted> = self.rows(
            "SELECT r.name AS rollout, e.idx, e.why, e.devices FROM excluded e JOIN rollouts r ON r.id = e.rollout_id",
        );
        for Phase { rollout, idx, size, excluded, .. } in &phases {
            let own: Vec<&Member> = members[rollout].values().filter(|(phase, _)| phase == idx).collect();
            let mut whys: BTreeMap<&str, i64> = BTreeMap::new();
            own.iter().filter_map(|(_, why)| why.as_deref()).for_each(|why| *whys.entry(why).or_default() += 1);
            let at = format!("{:?}: phase {idx} of {rollout}", self.engine);
            assert_eq!((*size, *excluded), (own.len() as i64, whys.values().sum()), "{at}");
            let of_phase = counted.iter().filter(|one| one.rollout == *rollout && one.idx == *idx && one.devices != 0);
            let stored: BTreeMap<&str, i64> = of_phase.map(|one| (one.why.as_str(), one.devices)).collect();
            assert_eq!(stored, whys, "{at}: who is excluded");
        }
    }

    /// The members of each rollout by their numbers.
    #[track_caller]
    fn members(&self, phases: &[Phase]) -> BTreeMap<String, BTreeMap<u32, Member>> {
        let read = |bytes: &[u8]| RoaringBitmap::deserialize_from(bytes).unwrap();
        let mut members: BTreeMap<String, BTreeMap<u32, Member>> = BTreeMap::new();
        for Phase { rollout, idx, members: set, .. } in phases {
            let of_rollout = members.entry(rollout.clone()).or_default();
            for number in read(set) {
                assert_eq!(of_rollout.insert(number, (*idx, None)), None, "{rollout}: {number} is in two phases");
            }
        }
        let sets: Vec<Excluded> = self.rows(
            "SELECT r.name AS rollout, e.why, e.members FROM exclusions e JOIN rollouts r ON r.id = e.rollout_id",
        );
        for Excluded { rollout, why, members: set } in sets {
            for number in read(&set) {
                let member = members.get_mut(&rollout).and_then(|members| members.get_mut(&number)).unwrap();
                assert_eq!(member.1.replace(why.clone()), None, "{rollout}: {number} is excluded twice");
            }
        }
        let since: Vec<Since> = self.rows(
            "SELECT r.name AS rollout, m.number, m.phase, m.excluded FROM members m \
             JOIN rollouts r ON r.id = m.rollout_id",
        );
        for Since { rollout, number, phase, excluded } in since {
            let of_rollout = members.get_mut(&rollout).unwrap();
            if let Some((before, _)) = of_rollout.insert(number.try_into().unwrap(), (phase, excluded)) {
                assert_eq!(before, phase, "{rollout}: {number} has changed its phase");
            }
        }
        members
    }

    fn rows<T: QueryableByName<diesel::sqlite::Sqlite> + QueryableByName<diesel::pg::Pg> + 'static>(
        &self,
        query: &str,
    ) -> Vec<T> {
        match self.engine {
            Engine::Sqlite => sql_query(query).get_results(&mut self.sqlite()).unwrap(),
            Engine::Postgres => sql_query(query).get_results(&mut self.postgres()).unwrap(),
        }
    }
}
