//! The server in memory and the real one side by side: they have to answer the same.

use std::collections::BTreeMap;

use callboard_policy::gate::PhaseCounts;
use callboard_proto::{ids::AssignmentId, report::Report, state::AssignmentState, time::Timestamp};

use super::{
    real::Real,
    server::{Row, Says, Server, Stand, Told, Twin, Word},
    setup::Setup,
    template::Template,
};

pub(super) struct Pair {
    seed: u64,
    twin: Twin,
    real: Real,
    /// What the twin calls an assignment of the real one.
    names: BTreeMap<AssignmentId, AssignmentId>,
}

impl Pair {
    pub(super) fn new(setup: &Setup, template: &Template) -> Self {
        let (twin, real) = (Twin::new(setup), Real::new(setup, template, 1));
        Self { seed: setup.seed, twin, real, names: BTreeMap::new() }
    }
}

/// What both have to say about a row.
fn said(row: &Row) -> impl PartialEq + std::fmt::Debug + use<> {
    let one = &row.whole;
    let holds =
        matches!(row.state, AssignmentState::Downloading | AssignmentState::Activating | AssignmentState::Verifying);
    let site = row.site.clone().filter(|_| holds);
    (
        (row.rollout, row.phase, row.state, site),
        (one.attempt, one.failures, one.not_before, one.lapsed, one.silent, one.deferred),
        one.begun,
    )
}

fn plain(stand: &Stand) -> Stand {
    let counts =
        |counts: &PhaseCounts| PhaseCounts { cancelled: counts.cancelled + counts.expired, expired: 0, ..*counts };
    Stand { counts: stand.counts.iter().map(counts).collect(), ..stand.clone() }
}

impl Server for Pair {
    fn tell(&mut self, now: Timestamp, rollout: usize, word: Word) -> bool {
        let (twin, real) = (self.twin.tell(now, rollout, word), self.real.tell(now, rollout, word));
        assert_eq!(twin, real, "seed {}: {word:?} to {rollout} at {now}", self.seed);
        real
    }

    fn hold(&mut self, now: Timestamp, device: usize, held: bool) {
        self.twin.hold(now, device, held);
        self.real.hold(now, device, held);
    }

    fn move_to(&mut self, now: Timestamp, device: usize, site: usize) {
        self.twin.move_to(now, device, site);
        self.real.move_to(now, device, site);
    }

    fn enrol(&mut self, now: Timestamp, device: usize) {
        self.twin.enrol(now, device);
        self.real.enrol(now, device);
    }

    fn check_in(&mut self, now: Timestamp, device: usize, says: &Says) -> Told {
        let works_on =
            says.works_on.map(|(id, attempt, state)| (self.names.get(&id).copied().unwrap_or(id), attempt, state));
        let real = self.real.check_in(now, device, says);
        let twin = self.twin.check_in(now, device, &Says { works_on, ..says.clone() });
        if let (Some(real), Some(twin)) = (real.assignment, twin.assignment) {
            self.names.insert(real, twin);
        }
        let nameless = |told: &Told| (Told { assignment: None, ..told.clone() }, told.assignment.is_some());
        assert_eq!(nameless(&twin), nameless(&real), "seed {}: device {device} at {now} says {says:?}", self.seed);
        real
    }

    fn report(&mut self, now: Timestamp, device: usize, reports: &[Report]) -> Vec<bool> {
        let named = |report: &Report| Report {
            assignment_id: self.names.get(&report.assignment_id).copied().unwrap_or(report.assignment_id),
            ..report.clone()
        };
        let named: Vec<Report> = reports.iter().map(named).collect();
        let (twin, real) = (self.twin.report(now, device, &named), self.real.report(now, device, reports));
        assert_eq!(twin, real, "seed {}: device {device} at {now} reports {reports:?}", self.seed);
        real
    }

    fn pass(&mut self, now: Timestamp) {
        self.twin.pass(now);
        self.real.pass(now);
    }

    fn restart(&mut self, now: Timestamp) {
        self.real.restart(now);
    }

    fn keeps_time(&self) -> bool {
        // It is enough that the twin alone is watched for that.
        false
    }

    fn rows_of(&mut self, device: usize) -> Vec<Row> {
        let (twin, real) = (self.twin.rows_of(device), self.real.rows_of(device));
        let all = |rows: &[Row]| rows.iter().map(said).collect::<Vec<_>>();
        assert_eq!(all(&twin), all(&real), "seed {}: the rows of device {device}", self.seed);
        real
    }

    fn stands(&mut self) -> Vec<Stand> {
        let (twin, real) = (self.twin.stands(), self.real.stands());
        let all = |stands: &[Stand]| stands.iter().map(plain).collect::<Vec<_>>();
        assert_eq!(all(&twin), all(&real), "seed {}: how rollouts stand", self.seed);
        real
    }
}
