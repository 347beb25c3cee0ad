//! The server of these stories: it signs its answers, hands out documents and payloads, and keeps what it hears.

use std::collections::BTreeSet;

use callboard_proto::{
    check_in::CheckIn,
    enrol::{Renew, Renewed},
    instruction::Instruction,
    payload::Chunker,
    report::{FailureClass, Reports},
    state::AgentState,
    time::Timestamp,
};
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair};

use super::{
    super::*,
    plan::{HEAD_SERIAL, Plan, Trusted},
};
use crate::testing::server::{Answer, Asked};

/// Attempts at one order, before the server gives it up.
const MAX_ATTEMPTS: u32 = 6;

/// What it knows. A copy of it is what it knew at that moment.
#[derive(Clone)]
pub(super) struct Office {
    pub(super) plan: Rc<Plan>,
    trusted: Rc<Trusted>,
    /// First reports of a number stand; the number is order, attempt, place in the attempt.
    pub(super) heard: BTreeMap<(usize, u32, u32), report::Event>,
    /// Reports that say something else than the first with their number.
    pub(super) contradictions: Vec<String>,
    /// Which order is open, and which attempt of it.
    open: (usize, u32),
    pub(super) called_off: bool,
    /// Starts of the machine.
    pub(super) boots: u32,
    /// Nobody answers.
    pub(super) away: bool,
    pub(super) check_ins: u32,
    /// The last check-in told of the newest root and head.
    up_to_date: bool,
    /// Certificates handed out, by the request's text.
    certificates: BTreeMap<String, Renewed>,
    /// Codes of failures that were reported.
    pub(super) codes: BTreeSet<String>,
}

impl Office {
    pub(super) fn of(plan: &Rc<Plan>) -> Self {
        Self {
            plan: Rc::clone(plan),
            trusted: Rc::new(Trusted::of(plan)),
            heard: BTreeMap::new(),
            contradictions: Vec::new(),
            open: (0, 1),
            called_off: false,
            boots: 0,
            away: false,
            check_ins: 0,
            up_to_date: false,
            certificates: BTreeMap::new(),
            codes: BTreeSet::new(),
        }
    }

    /// Every root that the device may have.
    pub(super) fn roots(&self) -> &[Vec<u8>] {
        &self.trusted.roots
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_satisfied(&self) -> bool {
        self.open.0 >= self.plan.orders.len() && (self.up_to_date || !self.plan.newer_trust)
    }

    /// Two copies that agree in this would answer the same.
    pub(super) fn knowledge(&self) -> u64 {
        use std::hash::{Hash, Hasher};
        let mut hasher = std::hash::DefaultHasher::new();
        self.heard.keys().for_each(|key| key.hash(&mut hasher));
        (self.open, self.called_off, self.up_to_date, self.certificates.is_empty()).hash(&mut hasher);
        hasher.finish()
    }

    /// The attempt at order `n`.
    pub(super) fn attempt(n: usize, attempt: u32) -> Attempt {
        let id = format!("0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8d{n:02x}");
        Attempt { assignment_id: id.parse().expect("an id"), attempt }
    }

    /// How each order ended, by what was heard: its final reports in the order of attempts.
    pub(super) fn ends(&self, n: usize) -> Vec<report::Event> {
        let last = outbox::seq(report::Event::Failed);
        let finals = self.heard.iter().filter(|((order, _, seq), _)| *order == n && *seq == last);
        finals.map(|(_, event)| *event).collect()
    }

    pub(super) fn answer(&mut self, asked: &Asked) -> Answer {
        if self.away {
            return Answer::none();
        }
        let path = asked.line.split(' ').nth(1).expect("a path");
        let last = path.rsplit('/').next().expect("a name");
        match path {
            "/v1/checkin" => Answer::ok(self.instruction(&asked.body)),
            "/v1/reports" => Answer::ok(self.receipt(&asked.body)),
            "/v1/renew" => Answer::ok(self.renewed(&asked.body)),
            "/v1/trust/head" => self.trusted.head.clone().map_or(Answer::status(404), Answer::ok),
            _ if path.starts_with("/v1/trust/root/") => {
                let version: usize = last.parse().expect("a version");
                self.trusted.roots.get(version - 1).cloned().map_or(Answer::status(404), Answer::ok)
            }
            _ => file(&self.plan, last, asked.range.as_deref()),
        }
    }

    fn instruction(&mut self, question: &[u8]) -> Vec<u8> {
        let asked: CheckIn = serde_json::from_slice(question).expect("a check-in");
        self.check_ins += 1;
        let newest = u64::try_from(self.trusted.roots.len()).expect("small");
        let head_serial = self.trusted.head.as_ref().map(|_| HEAD_SERIAL);
        self.up_to_date = asked.root_version == newest && asked.head_serial == head_serial;
        let order = self.plan.orders.get(self.open.0).copied();
        if order.is_some() && self.open.1 == 1 && self.plan.cancel_at.is_some_and(|at| reached(asked.state, at)) {
            self.called_off = true;
        }
        let alone = match self.plan.way {
            Way::Alone(on) if order.is_some() => Some(on),
            _ => None,
        };
        let action = match (order, alone) {
            (None, _) => Action::None,
            _ if self.called_off => Action::Cancel,
            (_, Some(_)) => Action::Download,
            _ => Action::Install,
        };
        let right = alone.filter(|_| action == Action::Download);
        let attempt = order.map(|_| Self::attempt(self.open.0, self.open.1));
        let instruction = Instruction {
            action,
            release_sha256: order.map(|counter| self.plan.signed(counter).digest),
            assignment_id: attempt.map(|attempt| attempt.assignment_id),
            attempt: attempt.map(|attempt| attempt.attempt),
            // Whatever the clock of the machine says that runs the test.
            not_before: right.map(|_| Timestamp::from_millis(0)),
            not_after: right.map(|_| Timestamp::from_millis(i64::MAX)),
            offline_activation: right.is_some(),
            activate_on: right.unwrap_or(ActivateOn::Now),
            root_version: newest,
            head_serial,
            ..testing::instruction(asked.nonce, Digest::of(question))
        };
        testing::signed(&instruction, &[&self.trusted.online])
    }

    fn receipt(&mut self, body: &[u8]) -> Vec<u8> {
        let reports: Reports = serde_json::from_slice(body).expect("reports");
        let accepted = reports.reports.iter().map(report::Report::key).collect();
        for report in &reports.reports {
            self.hear(report);
        }
        serde_json::to_vec(&Receipt { accepted, refused: Vec::new() }).expect("JSON")
    }

    fn hear(&mut self, report: &report::Report) {
        let order = (0..self.plan.orders.len())
            .find(|n| Self::attempt(*n, 1).assignment_id == report.assignment_id)
            .expect("a report of an order that there is");
        self.codes.extend(report.failure.iter().map(|failure| failure.code.clone()));
        let number = (order, report.attempt, report.seq);
        match self.heard.get(&number) {
            Some(first) if *first != report.event => {
                self.contradictions.push(format!("{number:?}: {first:?}, then {:?}", report.event));
            }
            Some(_) => return,
            None => {
                self.heard.insert(number, report.event);
            }
        }
        if !outbox::is_final(report.event) || (order, report.attempt) != self.open {
            return;
        }
        let passing = report.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Transient);
        self.open = if report.event == report::Event::Failed && passing && self.open.1 < MAX_ATTEMPTS {
            (order, self.open.1 + 1)
        } else {
            (order + 1, 1)
        };
        self.called_off = false;
    }

    /// The same request gets the same certificate.
    fn renewed(&mut self, body: &[u8]) -> Vec<u8> {
        let asked: Renew = serde_json::from_slice(body).expect("a request");
        let renewed = self.certificates.entry(asked.csr_pem.clone()).or_insert_with(|| {
            let request = CertificateSigningRequestParams::from_pem(&asked.csr_pem).expect("a request");
            let (key, year) = (KeyPair::generate().expect("a key"), Duration::from_secs(365 * 86_400));
            let issuer = Issuer::new(CertificateParams::default(), key);
            Renewed {
                certificate_pem: request.signed_by(&issuer).expect("a certificate").pem(),
                expires_at: testing::NOW + year,
                renew_at: testing::NOW + year,
                server_time: testing::NOW,
            }
        });
        serde_json::to_vec(renewed).expect("JSON")
    }
}

/// A release, a chunk list or a payload by its digest.
fn file(plan: &Plan, name: &str, range: Option<&str>) -> Answer {
    for signed in [plan.signed(1), plan.signed(2)] {
        if name == signed.digest.to_string() {
            return Answer::ok(signed.bytes.clone());
        }
        for (payload, bytes) in &signed.contents {
            if name == payload.sha256.to_string() {
                return Answer::part(bytes, range);
            }
            if name == payload.chunks_sha256.to_string() {
                let mut chunker = Chunker::new(payload.chunk_size);
                chunker.update(bytes);
                return Answer::ok(chunker.finish().list);
            }
        }
    }
    Answer::status(404)
}

/// Whether a device that says `state` is as far as `at`, and can still go back.
fn reached(state: AgentState, at: AgentState) -> bool {
    let order = [
        AgentState::Accepted,
        AgentState::Downloading,
        AgentState::Staging,
        AgentState::Staged,
        AgentState::Waiting,
        AgentState::Pre,
    ];
    let place = |state| order.iter().position(|one| *one == state);
    place(state).is_some_and(|place_now| place(at).is_some_and(|wanted| place_now >= wanted))
}
