//! A server that has the online key and wants to wear devices out: every answer is a new assignment, and every report
//! is left unanswered.

use std::cell::Cell;

use callboard_proto::{
    check_in::CheckIn,
    ids::AssignmentId,
    instruction::{Action, Instruction},
    payload::Chunker,
};

use super::*;
use crate::{
    fs::Disk,
    testing::{
        World,
        server::{Answer, Asked, TestServer},
    },
};

/// Never due by itself while a test runs.
const FAR: u32 = 86_400;

/// The release that the server has, and its payload.
struct Software {
    envelope: Vec<u8>,
    digest: Digest,
    payload: Payload,
    bytes: Vec<u8>,
    list: Vec<u8>,
}

impl Software {
    fn new(change: impl FnOnce(Release) -> Release) -> Self {
        let bytes = b"software ".repeat(2000);
        let payload = testing::payload("app", &bytes);
        let mut chunker = Chunker::new(payload.chunk_size);
        chunker.update(&bytes);
        let list = chunker.finish().list;
        let release = change(Release { payloads: vec![payload.clone()], ..testing::release(5) });
        let envelope = testing::signed(&release, &[&Keys::fixed().release]);
        let digest = Envelope::parse::<Release>(&envelope).expect("an envelope").digest();
        Self { envelope, digest, payload, bytes, list }
    }

    fn answer(&self, asked: &Asked, order: &mut dyn FnMut() -> (Action, AssignmentId)) -> Answer {
        match asked.line.rsplit('/').next().expect("a path") {
            "checkin" => {
                let (action, assignment) = order();
                Answer::ok(self.instruction(&asked.body, action, assignment))
            }
            "reports" => Answer::ok(r#"{ "accepted": [], "refused": [] }"#),
            name if name == self.digest.to_string() => Answer::ok(self.envelope.clone()),
            name if name == self.payload.chunks_sha256.to_string() => Answer::ok(self.list.clone()),
            name if name == self.payload.sha256.to_string() => Answer::part(&self.bytes, asked.range.as_deref()),
            _ => Answer::status(404),
        }
    }

    fn instruction(&self, question: &[u8], action: Action, assignment: AssignmentId) -> Vec<u8> {
        let asked: CheckIn = serde_json::from_slice(question).expect("a check-in");
        let instruction = Instruction {
            action,
            release_sha256: Some(self.digest),
            assignment_id: Some(assignment),
            attempt: Some(1),
            allow_downgrade: true,
            next_checkin_s: FAR,
            ..testing::instruction(asked.nonce, Digest::of(question))
        };
        testing::signed(&instruction, &[&Keys::fixed().online])
    }
}

/// Another assignment each time.
fn assignment(n: u32) -> AssignmentId {
    format!("0192f0c1-7e8a-7c3e-9d54-{n:012x}").parse().expect("an id")
}

/// An agent on the real disk that checks in at `server`.
fn runner(world: &World, server: &TestServer) -> Runner {
    let (own, key) = identity();
    let identity =
        Identity { server_url: format!("https://{}", server.address), server_ca_pem: server.ca_pem.clone(), ..own };
    let text = format!(
        "state_dir = '{}'\n[products.pos-app]\ndirectory = '{}'\ntrial_s = 0",
        world.state_dir.path().display(),
        world.dirs.path().display()
    );
    std::fs::write(world.state_dir.key(), key).expect("written");
    std::fs::write(world.state_dir.root(), testing::root_envelope(&Keys::fixed())).expect("written");
    let agent = start::open(Settings::parse(&text).expect("settings"), Rc::new(Disk), identity, testing::process())
        .expect("an agent");
    Runner::new(Rc::new(agent), false)
}

/// The interval has passed once: does everything that the agent does without waiting for it again.
async fn interval(runner: &mut Runner) {
    runner.next = Duration::ZERO;
    loop {
        runner.begin_talk();
        if let Some(talking) = runner.talking.take() {
            runner.talked(talking.await);
        } else if let Some(work) = runner.work.take() {
            runner.apply(work.await);
        } else {
            return;
        }
    }
}

/// Runs `intervals` intervals against a server that gives `order`s for `software`; returns what it was asked.
fn play(
    software: Software,
    order: impl FnMut() -> (Action, AssignmentId) + 'static,
    intervals: u32,
) -> (Vec<Asked>, Runner) {
    let runtime = runtime();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut order = order;
        let world = World::new();
        let server = TestServer::start((2000, 2100), move |asked| software.answer(asked, &mut order)).await;
        let mut runner = runner(&world, &server);
        for _ in 0..intervals {
            interval(&mut runner).await;
        }
        (server.asked(), runner)
    })
}

fn count(asked: &[Asked], what: &str) -> u32 {
    u32::try_from(asked.iter().filter(|asked| asked.line.contains(what)).count()).expect("few")
}

/// What a budget gives while `began` is past.
fn at_most(budget: u32, every_s: u64, began: Duration) -> u32 {
    budget + u32::try_from((boottime() - began).as_secs() / every_s).expect("few")
}

fn new_each_time(action: Action) -> impl FnMut() -> (Action, AssignmentId) {
    let mut n = 0;
    move || {
        n += 1;
        (action, assignment(n))
    }
}

#[test]
fn a_server_that_orders_what_must_be_refused_cannot_make_a_device_spin() {
    let began = boottime();
    let software = Software::new(|release| Release { hw: vec!["another".to_owned()], ..release });
    let (asked, runner) = play(software, new_each_time(Action::Install), 3);
    let check_ins = count(&asked, "/checkin");
    assert!((3..=3 + at_most(8, 60, began)).contains(&check_ins), "{check_ins} check-ins");
    assert_eq!(runner.agent.state(), machine::State::Idle);
}

#[test]
fn a_server_that_orders_what_is_staged_already_causes_no_second_download() {
    let began = boottime();
    let (asked, runner) = play(Software::new(|release| release), new_each_time(Action::Download), 20);
    assert_eq!(count(&asked, "/payloads/"), 2, "the chunk list and the payload");
    let check_ins = count(&asked, "/checkin");
    assert!((20..=20 + at_most(8, 60, began)).contains(&check_ins), "{check_ins} check-ins");
    let last = runner.agent.state().task().expect("staged").order.attempt;
    assert_eq!(last.assignment_id, assignment(check_ins), "it is the newest assignment's");
}

#[test]
fn a_server_that_orders_and_cancels_without_end_cannot_wear_out_the_flash() {
    let began = boottime();
    let turn = Rc::new(Cell::new(0_u32));
    let order = {
        let turn = Rc::clone(&turn);
        move || {
            turn.set(turn.get() + 1);
            (if turn.get() % 2 == 1 { Action::Download } else { Action::Cancel }, assignment(turn.get().div_ceil(2)))
        }
    };
    let (asked, runner) = play(Software::new(|release| release), order, 200);
    let downloads = count(&asked, "/payloads/") / 2;
    assert!((2..=at_most(40, 1800, began)).contains(&downloads), "{downloads} downloads");
    assert!(runner.agent.attacks.borrow().get("flood").is_some_and(|count| *count > 10));
    assert_eq!(runner.agent.contact_error.borrow().as_deref(), None, "the last answer was a cancellation");
}
