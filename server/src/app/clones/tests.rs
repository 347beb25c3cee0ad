//! What is a copy, what is a backup, and what is neither.

use callboard_proto::{check_in::Facts, instruction::Nonce, state::AgentState};

use super::*;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// A machine with an agent's state on it.
#[derive(Clone)]
struct Machine {
    boot: &'static str,
    seq: u64,
    hardware: Option<&'static str>,
}

impl Machine {
    fn new(hardware: Option<&'static str>) -> Self {
        Self { boot: "boot-1", seq: 0, hardware }
    }

    /// It starts; the agent has kept numbers in reserve.
    fn boots(&mut self, boot: &'static str) {
        (self.boot, self.seq) = (boot, self.seq.next_multiple_of(64));
    }
}

/// What the server knows of a device, and what it finds strange.
struct Watch {
    contact: LastContact,
    enrolled_at: Option<Timestamp>,
    now: Timestamp,
    signs: Vec<Sign>,
}

impl Watch {
    fn new() -> Self {
        Self { contact: LastContact::default(), enrolled_at: Some(START), now: START, signs: Vec::new() }
    }

    fn send(&mut self, machine: &Machine) {
        self.now = self.now + Duration::from_secs(300);
        let body = CheckIn {
            crit: Vec::new(),
            nonce: Nonce([0; 32]),
            checkin_seq: machine.seq,
            boot_id: machine.boot.to_owned(),
            uptime_s: 0,
            facts: Facts { hardware_id: machine.hardware.map(str::to_owned), ..Facts::default() },
            state: AgentState::Idle,
            progress: None,
            root_version: 1,
            head_serial: None,
            free_bytes: None,
            last_error: None,
            attacks: std::collections::BTreeMap::new(),
            wait_s: 0,
        };
        let (trace, sign) = follow(self.enrolled_at, &self.contact, &body, self.now);
        self.signs.extend(sign);
        self.contact = LastContact {
            last_seen: Some(self.now),
            boot_id: Some(machine.boot.to_owned()),
            trace: Some(trace),
            ..LastContact::default()
        };
    }

    /// The next check-in of a machine.
    fn check_in(&mut self, machine: &mut Machine) {
        machine.seq += 1;
        self.send(machine);
    }
}

#[test]
fn a_till_that_works_boots_loses_answers_and_crashes_is_one_till() {
    let (mut watch, mut till) = (Watch::new(), Machine::new(Some("board")));
    for boot in ["boot-1", "boot-2", "boot-3", "boot-4", "boot-5", "boot-6"] {
        till.boots(boot);
        for _ in 0..30 {
            watch.check_in(&mut till);
            // The answer was lost, and the same question goes out again.
            watch.send(&till);
        }
        // The agent was killed and has begun anew under the same boot.
        till.seq += 64;
    }
    // One that does not tell of its hardware any more, and does again.
    till.hardware = None;
    watch.check_in(&mut till);
    till.hardware = Some("board");
    watch.check_in(&mut till);
    assert_eq!(watch.signs, []);
}

#[test]
fn two_machines_that_take_turns_are_found_by_their_boots() {
    let (mut watch, mut till) = (Watch::new(), Machine::new(None));
    watch.check_in(&mut till);
    let mut copy = till.clone();
    copy.boots("boot-of-the-copy");
    for _ in 0..2 {
        watch.check_in(&mut copy);
        watch.check_in(&mut till);
    }
    assert_eq!(watch.signs, [Sign::TwoAtOnce]);
}

#[test]
fn two_agents_on_one_kernel_are_found_by_their_numbers() {
    let (mut watch, mut till) = (Watch::new(), Machine::new(None));
    watch.check_in(&mut till);
    let mut copy = Machine { hardware: Some("told by one alone"), ..till.clone() };
    till.seq += 64;
    for _ in 0..3 {
        watch.check_in(&mut till);
        watch.check_in(&mut copy);
    }
    assert_eq!(watch.signs, [Sign::TwoAtOnce]);
}

#[test]
fn one_question_that_was_late_is_no_copy() {
    let (mut watch, mut till) = (Watch::new(), Machine::new(None));
    watch.check_in(&mut till);
    for _ in 0..3 {
        let late = Machine { seq: till.seq + 1, ..till.clone() };
        till.seq += 1;
        till.boots("boot-2");
        watch.check_in(&mut till);
        watch.send(&late);
        watch.check_in(&mut till);
        // The next one is another day.
        watch.now = watch.now + WITHIN;
        till.boots("boot-3");
        watch.check_in(&mut till);
        till.boot = "boot-1";
        watch.check_in(&mut till);
    }
    assert_eq!(watch.signs, []);
}

#[test]
fn a_disk_in_another_machine_is_seen_at_once() {
    let (mut watch, mut till) = (Watch::new(), Machine::new(Some("board")));
    watch.check_in(&mut till);
    till.boots("boot-2");
    till.hardware = Some("another board");
    watch.check_in(&mut till);
    watch.check_in(&mut till);
    assert_eq!(watch.signs, [Sign::Hardware { before: "board".to_owned(), now: "another board".to_owned() }]);
}

#[test]
fn a_backup_that_was_put_back_is_told_from_a_copy() {
    let (mut watch, mut till) = (Watch::new(), Machine::new(Some("board")));
    watch.check_in(&mut till);
    let backup = till.clone();
    for _ in 0..200 {
        watch.check_in(&mut till);
    }
    let mut till = Machine { boot: "boot-2", ..backup };
    for _ in 0..50 {
        watch.check_in(&mut till);
    }
    assert_eq!(watch.signs, [Sign::SetBack { before: 201, now: 2 }]);
}

#[test]
fn enrolling_again_is_a_new_beginning() {
    let (mut watch, mut till) = (Watch::new(), Machine::new(Some("board")));
    for _ in 0..10 {
        watch.check_in(&mut till);
    }
    watch.enrolled_at = Some(watch.now + Duration::from_secs(1));
    let mut till = Machine { boot: "boot-2", ..Machine::new(Some("another board")) };
    for _ in 0..3 {
        watch.check_in(&mut till);
    }
    assert_eq!(watch.signs, []);
}
