//! What a device does with an instruction: the steps of an update, played without a disk.

use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    instruction::{Action, Instruction},
    paths,
    release::{Payload, Release},
    report::{Event, FailureClass},
    signed::{Envelope, Verified},
    state::AgentState,
};

use super::FakeDevice;
use crate::http::Request;

/// How a new release fares on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// Its health check fails, and the device goes back.
    Bad,
}

impl FakeDevice {
    /// Checks in and does what it is told.
    #[track_caller]
    pub fn obey(&mut self, health: Health) -> Instruction {
        let instruction = self.check_in();
        match instruction.action {
            Action::Download => self.stage(&instruction),
            Action::Install => self.activate(&instruction, health),
            Action::Cancel => self.state = AgentState::Idle,
            Action::None | Action::Hold => {}
        }
        instruction
    }

    /// Checks in and obeys until there is nothing to do now; gives the last instruction.
    #[track_caller]
    pub fn settle(&mut self, health: Health) -> Instruction {
        for _ in 0..8 {
            let instruction = self.obey(health);
            if matches!(instruction.action, Action::None | Action::Hold) {
                return instruction;
            }
        }
        panic!("{} is kept busy for ever", self.name);
    }

    /// Fetches and verifies everything of a release.
    #[track_caller]
    pub fn stage(&mut self, instruction: &Instruction) {
        self.report(instruction, Event::Downloading);
        let release = self.fetch_release(instruction.release_sha256.unwrap());
        for payload in &release.payloads {
            self.fetch_payload(payload);
        }
        self.state = AgentState::Staged;
        self.report(instruction, Event::Staged);
    }

    /// Switches to the staged release, and back if it is bad.
    #[track_caller]
    pub fn activate(&mut self, instruction: &Instruction, health: Health) {
        self.report(instruction, Event::Activating);
        self.report(instruction, Event::Verifying);
        if health == Health::Bad {
            self.state = AgentState::RolledBack;
            self.report_failure(instruction, Event::RolledBack, FailureClass::Permanent, "health_check");
            return;
        }
        let release = self.fetch_release(instruction.release_sha256.unwrap());
        self.install(&release);
        self.report(instruction, Event::Succeeded);
    }

    /// Runs a release from now on.
    pub fn install(&mut self, release: &Verified<Release>) {
        self.state = AgentState::Committed;
        self.set_installed(Installed {
            product: release.product.clone(),
            version: release.version.clone(),
            release: Some(release.digest()),
            epoch: release.epoch,
            counter: release.counter,
            floor: release.min_floor,
        });
    }

    /// Fetches and verifies a release document.
    #[track_caller]
    pub fn fetch_release(&mut self, digest: Digest) -> Verified<Release> {
        let answer = self.wire.send(&Request::get(paths::release(digest)));
        answer.ok();
        let release = self.root.verify_release(&Envelope::parse::<Release>(&answer.body).unwrap()).unwrap();
        assert_eq!(release.digest(), digest);
        release
    }

    /// Fetches a payload chunk by chunk, each verified against the chunk list.
    #[track_caller]
    pub fn fetch_payload(&mut self, payload: &Payload) -> Vec<u8> {
        let list = self.wire.send(&Request::get(paths::payload(payload.chunks_sha256)));
        list.ok();
        assert_eq!(Digest::of(&list.body), payload.chunks_sha256);
        let mut bytes = Vec::new();
        for (chunk, wanted) in (0..payload.chunk_count()).zip(list.body.chunks(32)) {
            let start = chunk * u64::from(payload.chunk_size);
            let end = (start + u64::from(payload.chunk_size)).min(payload.size) - 1;
            let answer = self.fetch_range(payload.sha256, &format!("bytes={start}-{end}"));
            assert_eq!(answer.status, 206);
            assert_eq!(Digest::of(&answer.body).as_bytes().as_slice(), wanted);
            bytes.extend(answer.body);
        }
        assert_eq!(Digest::of(&bytes), payload.sha256);
        bytes
    }

    /// Asks for a range of a payload.
    #[track_caller]
    pub fn fetch_range(&mut self, digest: Digest, range: &str) -> crate::http::Response {
        self.wire.send(&Request::get(paths::payload(digest)).header("range", range))
    }
}
