//! A device that speaks the protocol by itself: it shares the types with server and agent, and none of their code.
//!
//! It verifies what it is told as an agent has to, so a server that signs the wrong thing fails the test. It keeps
//! nothing over a restart and installs nothing: the real agent is tested beside it.

mod enrol;
mod update;
mod wire;

use std::collections::BTreeMap;

use callboard_proto::{
    check_in::{CheckIn, Facts, Installed, Progress},
    digest::Digest,
    ids::{DeviceId, DeviceName},
    instruction::{Instruction, Nonce},
    paths,
    report::{Event, Failure, FailureClass, Receipt, Report, Reports},
    root::Root,
    signed::{Envelope, Verified, verify},
    state::AgentState,
};
pub use enrol::{Key, enrolment, try_enrol};
pub use update::Health;
pub use wire::{Wire, anonymous, speaking, with_certificate};

use crate::{
    clock::TestClock,
    http::{Request, Response},
    server::TestServer,
};

/// An enrolled device.
pub struct FakeDevice {
    pub id: DeviceId,
    pub name: DeviceName,
    pub certificate_pem: String,
    pub key: Key,
    /// What it says of itself at the next check-in.
    pub facts: Facts,
    pub boot_id: String,
    pub state: AgentState,
    pub progress: Option<Progress>,
    /// For so long it lets the server wait with an answer.
    pub wait_s: u32,
    pub free_bytes: Option<u64>,
    /// What it has refused, by kind.
    pub attacks: BTreeMap<String, u64>,
    pub wire: Wire,
    root: Verified<Root>,
    clock: TestClock,
    check_ins: u64,
    reports: BTreeMap<(Digest, u32), u32>,
}

impl FakeDevice {
    /// Registers a new device by a token of its own.
    pub fn enrol(server: &TestServer, name: &str) -> Self {
        let token = server.enrolment_token(&serde_json::json!({}));
        Self::enrol_with(server, &enrolment(&token, &Key::new()).named(name))
    }

    /// Enrols the imported device `name`, by a token for it.
    pub fn enrol_imported(server: &TestServer, name: &str) -> Self {
        let token = server.enrolment_token(&serde_json::json!({ "device": name }));
        Self::enrol_with(server, &enrolment(&token, &Key::new()))
    }

    /// Enrols with any request.
    pub fn enrol_with(server: &TestServer, request: &enrol::Enrolment) -> Self {
        let enrolled: callboard_proto::enrol::Enrolled = try_enrol(server, &request.body).json();
        Self::of(server, request.key.clone(), enrolled)
    }

    /// The device that an enrolment made.
    pub fn of(server: &TestServer, key: Key, enrolled: callboard_proto::enrol::Enrolled) -> Self {
        Self {
            id: enrolled.device_id,
            name: enrolled.name,
            wire: with_certificate(server, &key, &enrolled.certificate_pem),
            certificate_pem: enrolled.certificate_pem,
            key,
            facts: Facts { installed: Vec::new(), ..example().facts },
            boot_id: "boot-1".to_owned(),
            state: AgentState::Idle,
            progress: None,
            wait_s: 0,
            free_bytes: example().free_bytes,
            attacks: BTreeMap::new(),
            root: server.root(),
            clock: server.clock.clone(),
            check_ins: 0,
            reports: BTreeMap::new(),
        }
    }

    /// The same device once more, with a connection of its own to any server.
    pub fn twin(&self, server: &TestServer) -> Self {
        Self {
            id: self.id,
            name: self.name.clone(),
            wire: with_certificate(server, &self.key, &self.certificate_pem),
            certificate_pem: self.certificate_pem.clone(),
            key: self.key.clone(),
            facts: self.facts.clone(),
            boot_id: self.boot_id.clone(),
            state: self.state,
            progress: self.progress.clone(),
            wait_s: self.wait_s,
            attacks: self.attacks.clone(),
            free_bytes: self.free_bytes,
            root: self.root.clone(),
            clock: self.clock.clone(),
            check_ins: self.check_ins + 1_000_000,
            reports: self.reports.clone(),
        }
    }

    /// What it runs.
    pub fn runs(mut self, product: &str, version: &str) -> Self {
        self.set_installed(Installed {
            product: product.parse().unwrap(),
            version: version.parse().unwrap(),
            release: None,
            epoch: 0,
            counter: 0,
            floor: 0,
        });
        self
    }

    /// Replaces what is installed of one product.
    pub fn set_installed(&mut self, installed: Installed) {
        self.facts.installed.retain(|one| one.product != installed.product);
        self.facts.installed.push(installed);
    }

    pub fn version_of(&self, product: &str) -> Option<&str> {
        let found = self.facts.installed.iter().find(|one| one.product.as_str() == product);
        found.map(|one| one.version.as_str())
    }

    /// The next check-in. Nonces never repeat and are the same in every run.
    pub fn next_check_in(&mut self) -> CheckIn {
        self.check_ins += 1;
        let seed = format!("{} {}", self.name, self.check_ins);
        CheckIn {
            nonce: Nonce(*Digest::of(seed.as_bytes()).as_bytes()),
            checkin_seq: self.check_ins,
            boot_id: self.boot_id.clone(),
            facts: self.facts.clone(),
            state: self.state,
            progress: self.progress.clone(),
            root_version: self.root.version,
            head_serial: None,
            wait_s: self.wait_s,
            free_bytes: self.free_bytes,
            attacks: self.attacks.clone(),
            ..example()
        }
    }

    /// What it says of itself while it is at what it was told.
    pub fn is_at(&mut self, told: &Instruction, state: AgentState) {
        let (assignment_id, attempt) = (told.assignment_id.unwrap(), told.attempt.unwrap());
        self.state = state;
        self.progress = Some(Progress { assignment_id, attempt, bytes_done: 0, bytes_total: 1 });
    }

    /// Checks in and verifies the answer.
    #[track_caller]
    pub fn check_in(&mut self) -> Instruction {
        let check_in = self.next_check_in();
        let body = serde_json::to_vec(&check_in).unwrap();
        let answer = self.try_check_in(&body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.verify(&check_in, &body, &answer.body)
    }

    /// Sends any body as a check-in.
    pub fn try_check_in(&mut self, body: &[u8]) -> Response {
        self.wire.send(&Request::post(paths::CHECK_IN).body("application/json", body))
    }

    /// Verifies an answer as an agent has to.
    #[track_caller]
    pub fn verify(&self, check_in: &CheckIn, body: &[u8], answer: &[u8]) -> Instruction {
        let envelope = Envelope::parse::<Instruction>(answer).unwrap();
        let instruction = verify::<Instruction>(&envelope, &self.root.online().0, self.root.online().1).unwrap();
        assert_eq!(instruction.device_id, self.id);
        assert_eq!(instruction.nonce, check_in.nonce);
        assert_eq!(instruction.request_sha256, Digest::of(body));
        assert_eq!(instruction.server_time, self.clock.now());
        assert_eq!(instruction.root_version, self.root.version);
        instruction.into_inner()
    }

    /// The next report about the instruction's assignment.
    pub fn next_report(&mut self, about: &Instruction, event: Event) -> Report {
        let (assignment_id, attempt) = (about.assignment_id.unwrap(), about.attempt.unwrap());
        let key = (Digest::of(assignment_id.as_bytes()), attempt);
        let seq = self.reports.entry(key).or_default();
        *seq += 1;
        Report {
            assignment_id,
            attempt,
            seq: *seq,
            event,
            at: self.clock.now(),
            release_sha256: about.release_sha256.unwrap(),
            failure: None,
        }
    }

    /// Reports, and expects that it is accepted.
    #[track_caller]
    pub fn report(&mut self, about: &Instruction, event: Event) {
        let report = self.next_report(about, event);
        self.send_reports(&[report]);
    }

    /// Reports a failure, and expects that it is accepted.
    #[track_caller]
    pub fn report_failure(&mut self, about: &Instruction, event: Event, class: FailureClass, code: &str) {
        let failure = Failure { class, code: code.to_owned(), text: format!("{code} on {}", self.name) };
        let report = Report { failure: Some(failure), ..self.next_report(about, event) };
        self.send_reports(&[report]);
    }

    /// Sends reports, all of which must be accepted.
    #[track_caller]
    pub fn send_reports(&mut self, reports: &[Report]) {
        let receipt: Receipt = self.try_reports(reports).json();
        assert_eq!(receipt.refused, Vec::new());
        assert_eq!(receipt.accepted, reports.iter().map(Report::key).collect::<Vec<_>>());
    }

    /// Sends reports, whatever the answer.
    pub fn try_reports(&mut self, reports: &[Report]) -> Response {
        let body = Reports { crit: Vec::new(), reports: reports.to_vec() };
        self.wire.send(&Request::post(paths::REPORTS).json(&body))
    }

    /// The server listens elsewhere after a restart.
    pub fn follow(&mut self, server: &TestServer) {
        self.wire.reconnect_to(server.device_address());
    }
}

/// The check-in that the protocol's pages show.
pub fn example() -> CheckIn {
    serde_json::from_str(include_str!("../../proto-docs/examples/check-in.json")).unwrap()
}
