//! A server that has everything but the release key, and one that has even that, against the real agent. Whatever it
//! sends: the agent runs its previous release, goes on asking, has counted what it refused, and takes the next honest
//! update.
//!
//! Every case begins with a till of its own that has an honest release, then meets an honest server that changes one
//! thing, and then the real one again.

mod archives;
mod documents;
mod downloads;
mod orders;
mod thief;
mod transport;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use callboard_proto::{admin::Device, check_in::CheckIn, paths, report::Reports};
use callboard_tests::{
    hostile::{Answer, Asked, Hostile, Kit, Software, Stolen},
    proxy::Proxy,
    release::{NewRelease, bytes},
    server::{Engine, TestServer},
    till::QUICK,
    wait,
    world::rollout,
};
use rustls::ServerConfig;
use serde_json::json;

use crate::BINARIES;

/// Cases at the same time: most of them wait most of their time.
const AT_ONCE: usize = 8;

type Change = dyn Fn(&Kit, &Asked) -> Option<Answer> + Send + Sync;
type Make = dyn Fn(&Stolen) -> Software + Send + Sync;
type Show = dyn Fn(&Stolen) -> Arc<ServerConfig> + Send + Sync;

/// How the agent shows that it has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It counts an attack of this kind, and of no other.
    Counts(&'static str),
    /// It says why with this code, and counts nothing: honest servers and lines do that too.
    Says(&'static str),
    /// It says nothing to such a server, and tries again.
    KeepsQuiet,
    /// Nothing was wrong.
    Obeys,
}

/// One attack.
struct Case {
    name: &'static str,
    sign: Sign,
    software: Box<Make>,
    other: Option<Box<Make>>,
    tls: Box<Show>,
    change: Box<Change>,
    /// What must not have been asked for.
    never: Option<&'static str>,
}

/// An attack by what is answered.
fn answer(
    name: &'static str,
    sign: Sign,
    change: impl Fn(&Kit, &Asked) -> Option<Answer> + Send + Sync + 'static,
) -> Case {
    Case {
        name,
        sign,
        software: Box::new(|stolen| stolen.software(|_| {})),
        other: None,
        tls: Box::new(Stolen::tls),
        change: Box::new(change),
        never: None,
    }
}

/// An attack by what the release says, or by what is in it.
fn release(name: &'static str, sign: Sign, software: impl Fn(&Stolen) -> Software + Send + Sync + 'static) -> Case {
    Case { software: Box::new(software), ..answer(name, sign, |_, _| None) }
}

/// The answer to a check-in.
fn to_check_in(asked: &Asked, answer: impl FnOnce() -> Vec<u8>) -> Option<Answer> {
    (asked.path == paths::CHECK_IN).then(|| Answer::ok(answer()))
}

/// The answer to a request for the payload itself.
fn to_payload(kit: &Kit, asked: &Asked, answer: impl FnOnce(&[u8]) -> Answer) -> Option<Answer> {
    let payload = kit.software.payloads[0].sha256;
    (asked.path == paths::payload(payload)).then(|| answer(&kit.software.files[&payload]))
}

/// The real server, and what was stolen from it.
struct Scene {
    server: TestServer,
    stolen: Arc<Stolen>,
    honest: [Vec<u8>; 2],
}

impl Scene {
    fn new() -> Self {
        let server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
        let stolen = Arc::new(Stolen::from(&server));
        let payload = |version: &str| bytes(&format!("honest {version}"), 3000);
        let honest = ["1.1.0", "1.2.0"].map(payload);
        let [first, second] = &honest;
        let release = |version, counter, payload: &Vec<u8>| {
            NewRelease::with_payload("pos-app", version, counter, payload.clone()).with(|release| release.min_floor = 8)
        };
        release("1.1.0", 11, first).publish(&server);
        release("1.2.0", 200, second).publish(&server);
        server.roll_out(&rollout("first", "pos-app@1.1.0", &json!({})));
        Self { server, stolen, honest }
    }

    /// Plays one case from enrolment to the next honest update.
    fn play(&self, n: usize, case: Case) {
        let Case { name, sign, software, other, tls, change, never } = case;
        let (server, [before, after]) = (&self.server, &self.honest);
        let proxy = Proxy::to(server.device_address());
        let mut till = server.till_via(proxy.address(), &format!("till-{n}"), QUICK);
        till.once().ok();
        let current = till.product().join("current/pos-app.bin");
        let runs = || std::fs::read(&current).ok();
        assert_eq!(runs().as_ref(), Some(before), "{name}: the honest beginning");
        let device: Device = server.registered(&till);
        let kit = Kit {
            stolen: self.stolen.clone(),
            device: device.id,
            software: software(&self.stolen),
            other: other.map(|make| make(&self.stolen)),
        };
        let harm = kit.software.files.clone();
        let hostile =
            Hostile::start(tls(&self.stolen), move |asked| change(&kit, asked).unwrap_or_else(|| kit.honest(asked)));
        proxy.retarget(hostile.address);
        till.switch_on();
        let asked = hostile.wait_until(name, |seen| match sign {
            Sign::KeepsQuiet => seen.connections >= 3,
            Sign::Obeys => runs().is_some_and(|bytes| harm.values().any(|harm| *harm == bytes)),
            _ => refused(&seen.asked, sign),
        });
        if sign == Sign::Obeys {
            return;
        }
        assert_eq!(runs().as_ref(), Some(before), "{name}: the previous release");
        if let Some(never) = never {
            let found = asked.iter().find(|one| one.path.contains(never));
            assert!(found.is_none(), "{name}: asked for {found:?}");
        }
        // The honest server is back, and has something new for this till.
        let rollout_name = format!("next-{n}");
        let selector = json!({ "selector": format!("name = till-{n}") });
        server.roll_out(&rollout(&rollout_name, "pos-app@1.2.0", &selector));
        proxy.retarget(server.device_address());
        proxy.cut();
        wait::until(&format!("{name}: the next honest update"), || runs().as_ref() == Some(after));
        till.switch_off();
        self.counted(name, sign, &till.name);
    }

    /// What the server shows of it afterwards.
    fn counted(&self, name: &str, sign: Sign, till: &str) {
        let device: Device = self.server.api().get(&format!("devices/{till}"));
        let kinds: Vec<&str> = device.attacks.iter().map(|one| one.kind.as_str()).collect();
        match sign {
            Sign::Counts(kind) => assert_eq!(kinds, [kind], "{name}"),
            _ => assert_eq!(kinds, Vec::<&str>::new(), "{name}"),
        }
    }
}

/// Whether the agent has shown that it refused, and has asked again since.
fn refused(asked: &[Asked], sign: Sign) -> bool {
    let check_ins = asked.iter().enumerate().filter(|(_, one)| one.path == paths::CHECK_IN);
    let mut check_ins = check_ins.map(|(n, one)| (n, serde_json::from_slice::<CheckIn>(&one.body).unwrap()));
    match sign {
        Sign::Counts(kind) => {
            let counts = |question: &CheckIn| question.attacks.get(kind).is_some_and(|count| *count > 0);
            check_ins.any(|(_, question)| counts(&question))
        }
        Sign::Says(code) => {
            let reported = asked.iter().position(|one| reports(one, code));
            check_ins.any(|(n, question)| {
                question.last_error.as_deref() == Some(code) || reported.is_some_and(|reported| reported < n)
            })
        }
        Sign::KeepsQuiet | Sign::Obeys => false,
    }
}

fn reports(asked: &Asked, code: &str) -> bool {
    if asked.path != paths::REPORTS {
        return false;
    }
    let reports: Reports = serde_json::from_slice(&asked.body).unwrap();
    reports.reports.iter().any(|one| one.failure.as_ref().is_some_and(|failure| failure.code == code))
}

/// Plays all cases, several at once; says of each what went wrong.
fn play(cases: Vec<Case>) {
    let scene = Scene::new();
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), names.len(), "names are unique");
    let queue = Mutex::new(cases.into_iter().enumerate());
    let played = AtomicUsize::new(0);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            loop {
                let Some((n, case)) = queue.lock().unwrap().next() else { return failed };
                let name = case.name;
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scene.play(n, case)));
                played.fetch_add(1, Ordering::SeqCst);
                if outcome.is_err() {
                    failed.push(name.to_owned());
                }
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!((played.into_inner(), failed), (names.len(), Vec::<String>::new()));
}

#[test]
fn a_till_survives_every_hostile_answer_to_a_check_in() {
    play(orders::cases());
}

#[test]
fn a_till_survives_every_hostile_document() {
    play(documents::cases());
}

#[test]
fn a_till_survives_every_hostile_download() {
    play(downloads::cases());
}

#[test]
fn a_till_survives_every_hostile_archive() {
    play(archives::cases());
}

#[test]
fn a_till_survives_every_hostile_line() {
    play(transport::cases());
}
