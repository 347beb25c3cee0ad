//! The chain of roots and the head, by what a real agent does with what a server gives it.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use callboard_proto::{
    check_in::CheckIn,
    head::{Head, HeadProduct},
    instruction::{Action, Instruction},
    payload::Chunker,
    report::{Receipt, Reports},
    root::{HeadRole, Key, Root},
    signed::{Sign, key_id},
    time::Timestamp,
};
use ed25519_dalek::SigningKey;

use super::*;
use crate::{
    fs::Disk,
    testing::{
        World,
        server::{Answer, Asked, TestServer},
    },
    trust::MAX_ROOTS,
    words::Attack,
};

mod moving;

const DAY: Duration = Duration::from_secs(86_400);

/// What the server has, and what it says to the next check-in.
struct Server {
    /// By version.
    roots: BTreeMap<u64, Vec<u8>>,
    head: Option<Vec<u8>>,
    /// Signs instructions.
    online: SigningKey,
    root_version: u64,
    head_serial: Option<u64>,
    action: Action,
    server_time: Timestamp,
    release: Vec<u8>,
    payload: (Payload, Vec<u8>, Vec<u8>),
    check_ins: Vec<CheckIn>,
    reports: Vec<report::Report>,
}

impl Server {
    fn new() -> Self {
        let bytes = b"software ".repeat(500);
        let payload = testing::payload("app", &bytes);
        let mut chunker = Chunker::new(payload.chunk_size);
        chunker.update(&bytes);
        let list = chunker.finish().list;
        let release = Release { payloads: vec![payload.clone()], ..testing::release(5) };
        Self {
            roots: BTreeMap::new(),
            head: None,
            online: Keys::fixed().online,
            root_version: 1,
            head_serial: None,
            action: Action::None,
            server_time: testing::NOW,
            release: testing::signed(&release, &[&Keys::fixed().release]),
            payload: (payload, bytes, list),
            check_ins: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn digest(&self) -> Digest {
        Envelope::parse::<Release>(&self.release).expect("an envelope").digest()
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        let (payload, bytes, list) = &self.payload;
        let path = asked.line.split(' ').nth(1).expect("a path");
        let last = path.rsplit('/').next().expect("a name");
        match path {
            "/v1/checkin" => Answer::ok(self.instruction(&asked.body)),
            "/v1/reports" => {
                let reports: Reports = serde_json::from_slice(&asked.body).expect("reports");
                let accepted = reports.reports.iter().map(report::Report::key).collect();
                self.reports.extend(reports.reports);
                let receipt = Receipt { accepted, refused: Vec::new() };
                Answer::ok(serde_json::to_vec(&receipt).expect("JSON"))
            }
            "/v1/trust/head" => self.head.clone().map_or(Answer::status(404), Answer::ok),
            _ if path.starts_with("/v1/trust/root/") => {
                let root = last.parse().ok().and_then(|version: u64| self.roots.get(&version));
                root.cloned().map_or(Answer::status(404), Answer::ok)
            }
            _ if last == self.digest().to_string() => Answer::ok(self.release.clone()),
            _ if last == payload.chunks_sha256.to_string() => Answer::ok(list.clone()),
            _ if last == payload.sha256.to_string() => Answer::part(bytes, asked.range.as_deref()),
            _ => Answer::status(404),
        }
    }

    fn instruction(&mut self, question: &[u8]) -> Vec<u8> {
        let asked: CheckIn = serde_json::from_slice(question).expect("a check-in");
        let about = matches!(self.action, Action::Download | Action::Install);
        let instruction = Instruction {
            issued_at: self.server_time,
            server_time: self.server_time,
            action: self.action,
            release_sha256: about.then(|| self.digest()),
            assignment_id: about.then(|| "0192f0c1-7e8a-7c3e-9d54-3f1f6a2b8c77".parse().expect("an id")),
            attempt: about.then_some(1),
            root_version: self.root_version,
            head_serial: self.head_serial,
            ..testing::instruction(asked.nonce, Digest::of(question))
        };
        self.check_ins.push(asked);
        testing::signed(&instruction, &[&self.online])
    }

    /// Adds the root after the newest one, signed by the root key.
    fn add_root(&mut self, change: impl FnOnce(&mut Root)) -> u64 {
        let newest = self.roots.values().last();
        let mut root = newest.map_or_else(
            || testing::first_root(&Keys::fixed()),
            |bytes| Envelope::parse::<Root>(bytes).expect("an envelope").claim().expect("a root"),
        );
        root.version += 1;
        let version = root.version;
        change(&mut root);
        self.roots.insert(version, testing::signed(&root, &[&Keys::fixed().root]));
        self.root_version = version;
        version
    }

    fn publish_head(&mut self, serial: u64, change: impl FnOnce(&mut Head)) {
        self.head = Some(testing::signed(&head(serial, change), &[&head_key()]));
        self.head_serial = Some(serial);
    }

    fn said(&self) -> Vec<String> {
        self.reports.iter().filter_map(|report| report.failure.as_ref()).map(|failure| failure.code.clone()).collect()
    }
}

fn head_key() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

fn head(serial: u64, change: impl FnOnce(&mut Head)) -> Head {
    let mut head = Head {
        v: 1,
        issued_at: testing::NOW - DAY,
        crit: Vec::new(),
        serial,
        epoch: 0,
        expires: testing::NOW + 7 * DAY,
        products: Vec::new(),
    };
    change(&mut head);
    head
}

/// Names somebody who signs heads.
fn with_head_role(root: &mut Root) {
    let key = head_key().public();
    root.keys.insert(key.id(), Key::new(&key));
    root.roles.head = Some(HeadRole { keyids: vec![key.id()], threshold: 1, epoch: 0 });
}

fn with_online(root: &mut Root, keys: &[&SigningKey]) {
    root.keys.extend(keys.iter().map(|key| (key_id(&key.verifying_key()), Key::new(&key.public()))));
    root.roles.online.keyids = keys.iter().map(|key| key_id(&key.verifying_key())).collect();
}

/// An agent and its server.
struct Scene {
    world: World,
    own: TestServer,
    server: Rc<RefCell<Server>>,
    runner: Runner,
}

impl Scene {
    async fn new(prepare: impl FnOnce(&mut Server)) -> Self {
        let world = World::new();
        let mut server = Server::new();
        prepare(&mut server);
        let server = Rc::new(RefCell::new(server));
        let answering = Rc::clone(&server);
        let own = TestServer::start((2000, 2100), move |asked| answering.borrow_mut().answer(asked)).await;
        std::fs::write(world.state_dir.key(), identity().1).expect("written");
        std::fs::write(world.state_dir.root(), testing::root_envelope(&Keys::fixed())).expect("written");
        let runner = started(&world, &own);
        Self { world, own, server, runner }
    }

    /// The agent's process ends and another one begins.
    fn restart(&mut self) {
        self.runner = started(&self.world, &self.own);
    }

    fn server(&self) -> std::cell::RefMut<'_, Server> {
        self.server.borrow_mut()
    }

    /// One interval passes.
    async fn interval(&mut self) {
        let runner = &mut self.runner;
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

    fn trusted(&self) -> u64 {
        self.runner.agent.trust.root().version
    }

    fn kept_head(&self) -> Option<u64> {
        self.runner.agent.trust.head().map(|head| head.serial)
    }

    fn attacks(&self, kind: Attack) -> u64 {
        self.runner.agent.attacks.borrow().get(kind.as_str()).copied().unwrap_or(0)
    }

    fn contact_error(&self) -> Option<String> {
        self.runner.agent.contact_error.borrow().clone()
    }

    fn phase(&self) -> Option<Phase> {
        self.runner.agent.state().task().map(|task| task.phase.clone())
    }

    fn said(&self) -> Vec<String> {
        self.server.borrow().said()
    }
}

fn started(world: &World, server: &TestServer) -> Runner {
    let (own, _) = identity();
    let identity =
        Identity { server_url: format!("https://{}", server.address), server_ca_pem: server.ca_pem.clone(), ..own };
    let text = format!(
        "state_dir = '{}'\n[products.pos-app]\ndirectory = '{}'\ntrial_s = 0",
        world.state_dir.path().display(),
        world.dirs.path().display()
    );
    let agent = start::open(Settings::parse(&text).expect("settings"), Rc::new(Disk), identity, testing::process())
        .expect("an agent");
    Runner::new(Rc::new(agent), false)
}

fn play(test: impl AsyncFnOnce()) {
    let runtime = runtime();
    tokio::task::LocalSet::new().block_on(&runtime, test());
}

// Roots.

#[test]
fn ten_roots_are_walked_in_one_cycle_and_the_bytes_on_disk_are_those_received() {
    play(async || {
        let mut scene = Scene::new(|server| {
            for _ in 0..10 {
                server.add_root(|_| {});
            }
        })
        .await;
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error()), (11, None));
        let kept = std::fs::read(scene.world.state_dir.root()).expect("there");
        assert_eq!(kept, scene.server().roots[&11]);
        scene.interval().await;
        assert_eq!(scene.server().check_ins.last().map(|asked| asked.root_version), Some(11));
    });
}

#[test]
fn a_bad_root_in_the_chain_stops_the_walk_before_it_until_it_is_good() {
    play(async || {
        let mut scene = Scene::new(|server| {
            for _ in 0..10 {
                server.add_root(|_| {});
            }
        })
        .await;
        let good = scene.server().roots[&7].clone();
        let stranger = SigningKey::from_bytes(&[99; 32]);
        let body: Root = Envelope::parse::<Root>(&good).expect("an envelope").claim().expect("a root");
        scene.server().roots.insert(7, testing::signed(&body, &[&stranger]));
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error().as_deref()), (6, Some("bad_root")));
        assert_eq!(scene.attacks(Attack::BadSig), 1);
        scene.server().roots.insert(7, good);
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error()), (11, None));
    });
}

#[test]
fn a_root_served_in_the_place_of_another_is_refused() {
    play(async || {
        let mut scene = Scene::new(|server| {
            server.add_root(|_| {});
            server.add_root(|_| {});
        })
        .await;
        let [second, third] = [2, 3].map(|version| scene.server().roots[&version].clone());
        scene.server().roots.insert(2, third);
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.attacks(Attack::Rollback)), (1, 1), "3 in the place of 2");
        scene.server().roots.insert(2, second.clone());
        scene.server().roots.insert(3, second);
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.attacks(Attack::Rollback)), (2, 2), "2 in the place of 3");
    });
}

#[test]
fn an_endless_chain_of_roots_is_walked_sixty_four_at_a_time() {
    play(async || {
        let mut scene = Scene::new(|server| {
            for _ in 0..100 {
                server.add_root(|_| {});
            }
        })
        .await;
        scene.interval().await;
        assert_eq!(scene.trusted(), 1 + u64::from(MAX_ROOTS));
        assert_eq!(
            scene.contact_error().as_deref(),
            Some("root_missing"),
            "the answer is of a root it does not have yet"
        );
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error()), (101, None));
    });
}

#[test]
fn a_walk_that_is_cut_short_goes_on_from_the_last_root_that_was_kept() {
    play(async || {
        let mut scene = Scene::new(|server| {
            for _ in 0..4 {
                server.add_root(|_| {});
            }
        })
        .await;
        let missing = scene.server().roots.remove(&4).expect("there");
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error().as_deref()), (3, Some("root_missing")));
        scene.restart();
        assert_eq!(scene.trusted(), 3);
        scene.server().roots.insert(4, missing);
        scene.interval().await;
        assert_eq!(scene.trusted(), 5);
    });
}

#[test]
fn an_instruction_by_an_online_key_that_the_newer_root_drops_is_refused_in_the_same_cycle() {
    play(async || {
        let mut scene = Scene::new(|server| {
            server.add_root(|root| with_online(root, &[&SigningKey::from_bytes(&[33; 32])]));
            server.action = Action::Install;
            server.server_time = testing::NOW + 300 * DAY;
        })
        .await;
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error().as_deref()), (2, Some("bad_signature")));
        assert_eq!(scene.phase(), None, "it was not obeyed");
        let (now, told) = (scene.runner.agent.clock.trusted_now(), testing::NOW + 300 * DAY);
        assert!(now.since(told) + told.since(now) > Duration::from_secs(3600), "nor believed about the time");
    });
}

#[test]
fn an_online_key_that_only_the_newer_root_lists_is_accepted_in_the_same_cycle() {
    play(async || {
        let next = SigningKey::from_bytes(&[33; 32]);
        let mut scene = Scene::new(|server| {
            server.add_root(|root| with_online(root, &[&next]));
            server.online = next.clone();
        })
        .await;
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error()), (2, None));
        assert_eq!(scene.attacks(Attack::BadSig), 0, "an honest rotation is no attack");
    });
}

#[test]
fn an_answer_by_a_stranger_is_refused_after_no_newer_root_was_found() {
    play(async || {
        let mut scene = Scene::new(|server| server.online = SigningKey::from_bytes(&[33; 32])).await;
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error().as_deref()), (1, Some("bad_signature")));
        assert_eq!(scene.attacks(Attack::BadSig), 1);
    });
}

#[test]
fn a_time_far_ahead_that_a_stolen_online_key_told_ends_with_that_key() {
    play(async || {
        let next = SigningKey::from_bytes(&[33; 32]);
        let mut scene = Scene::new(|server| server.server_time = testing::NOW + 40_000 * DAY).await;
        scene.interval().await;
        let clock = Arc::clone(&scene.runner.agent.clock);
        assert!(clock.trusted_now() <= clock.floor() + 401 * DAY, "the cap holds");
        assert!(clock.trusted_now() > testing::NOW + 300 * DAY);
        {
            let mut server = scene.server();
            server.add_root(|root| with_online(root, &[&next]));
            (server.online, server.server_time) = (next, testing::NOW);
        }
        scene.interval().await;
        assert!(clock.trusted_now() < testing::NOW + 2 * DAY, "{}", clock.trusted_now());
    });
}

#[test]
fn an_expired_root_is_walked_through_and_blocks_installing_but_not_asking() {
    play(async || {
        let mut scene = Scene::new(|server| {
            server.add_root(|root| root.expires = testing::NOW - DAY);
            server.action = Action::Install;
        })
        .await;
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.contact_error()), (2, None));
        assert_eq!((scene.phase(), scene.said()), (None, vec!["root_expired".to_owned()]));
        scene.server().add_root(|root| root.expires = testing::NOW + DAY);
        scene.interval().await;
        assert_eq!(scene.trusted(), 3, "from an expired root the way leads on");
    });
}

#[test]
fn without_a_root_that_is_right_the_agent_does_not_start() {
    play(async || {
        let scene = Scene::new(|_| {}).await;
        let path = scene.world.state_dir.root();
        let unsigned = testing::signed(&testing::first_root(&Keys::fixed()), &[]);
        for bytes in [Some(&b"no root"[..]), Some(&unsigned), None] {
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).expect("written"),
                None => std::fs::remove_file(&path).expect("removed"),
            }
            let settings = format!("state_dir = '{}'", scene.world.state_dir.path().display());
            let settings = Settings::parse(&settings).expect("settings");
            let refused =
                start::open(settings, Rc::new(Disk), identity().0, testing::process()).map(drop).expect_err("no root");
            assert!(refused.to_string().contains("root.json"), "{refused}");
        }
        assert!(scene.own.asked().is_empty(), "and asks for nothing");
    });
}

#[test]
fn a_server_that_was_restored_from_an_old_backup_takes_nothing_back() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.add_root(|_| {});
            server.publish_head(5, |head| head.products.push(about_pos_app(None, 6)));
        })
        .await;
        scene.interval().await;
        {
            let mut server = scene.server();
            server.roots.remove(&3);
            server.root_version = 2;
            server.publish_head(4, |_| {});
            server.action = Action::Install;
        }
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.kept_head(), scene.contact_error()), (3, Some(5), None));
        assert_eq!((scene.phase(), scene.said()), (None, vec!["below_floor".to_owned()]), "release 5 stays below 6");
    });
}

#[test]
fn what_is_staged_is_dropped_when_the_release_role_may_not_sign_it_any_more() {
    play(async || {
        let mut scene = Scene::new(|server| server.action = Action::Download).await;
        scene.interval().await;
        assert!(matches!(scene.phase(), Some(Phase::Staged { .. })), "{:?}", scene.phase());
        {
            let mut server = scene.server();
            server.add_root(|root| root.roles.release[0].products = vec!["kiosk".parse().expect("a name")]);
            server.action = Action::Install;
        }
        scene.interval().await;
        assert_eq!((scene.phase(), scene.said()), (None, vec!["untrusted".to_owned()]));
        assert!(scene.runner.agent.product_record(&"pos-app".parse().expect("a name")).installed.is_none());
    });
}

// Heads.

fn with_head(server: &mut Server) {
    server.add_root(with_head_role);
}

#[test]
fn without_the_head_that_the_root_asks_for_nothing_is_installed_and_that_is_told() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.action = Action::Install;
        })
        .await;
        scene.interval().await;
        assert_eq!((scene.trusted(), scene.phase(), scene.contact_error()), (2, None, None));
        scene.interval().await;
        let last = scene.server().check_ins.last().cloned().expect("asked");
        assert_eq!((last.last_error.as_deref(), last.head_serial), (Some("head_missing"), None));
        assert_eq!(scene.said(), Vec::<String>::new(), "the order is not failed, it waits");
        scene.server().publish_head(1, |_| {});
        scene.interval().await;
        assert!(scene.phase().is_some() || !scene.server().reports.is_empty(), "it is begun");
        assert_eq!(scene.kept_head(), Some(1));
    });
}

#[test]
fn an_expired_head_blocks_what_is_new_and_nothing_else() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.publish_head(3, |head| head.expires = testing::NOW - Duration::from_secs(60));
            server.action = Action::Install;
        })
        .await;
        scene.interval().await;
        assert_eq!((scene.phase(), scene.kept_head(), scene.contact_error()), (None, Some(3), None));
        scene.interval().await;
        let last = scene.server().check_ins.last().cloned().expect("asked");
        assert_eq!((last.last_error.as_deref(), last.head_serial), (Some("head_expired"), Some(3)));
    });
}

#[test]
fn a_head_with_a_lower_serial_or_the_same_with_other_contents_is_not_taken() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.publish_head(5, |_| {});
        })
        .await;
        scene.interval().await;
        let kept = std::fs::read(scene.world.state_dir.head()).expect("kept");
        assert_eq!(Some(kept.clone()), scene.server().head, "the bytes received");
        for (serial, told) in [(4, 6), (5, 7)] {
            scene.server().publish_head(serial, |head| head.expires = testing::NOW + 30 * DAY);
            scene.server().head_serial = Some(told);
            scene.interval().await;
            assert_eq!(std::fs::read(scene.world.state_dir.head()).expect("kept"), kept, "serial {serial}");
        }
        assert_eq!(scene.attacks(Attack::Rollback), 2);
    });
}

#[test]
fn a_head_by_a_stranger_is_not_kept_and_the_next_is_compared_with_the_old_one() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.publish_head(5, |_| {});
        })
        .await;
        scene.interval().await;
        scene.server().head = Some(testing::signed(&head(9, |_| {}), &[&Keys::fixed().online]));
        scene.server().head_serial = Some(9);
        scene.interval().await;
        assert_eq!((scene.kept_head(), scene.attacks(Attack::BadSig)), (Some(5), 1));
        scene.server().publish_head(6, |_| {});
        scene.interval().await;
        assert_eq!(scene.kept_head(), Some(6), "9 was never there");
        scene.restart();
        assert_eq!(scene.kept_head(), Some(6));
    });
}

#[test]
fn a_new_epoch_of_the_head_role_ends_the_serials_of_the_old_one() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.publish_head(1 << 62, |_| {});
        })
        .await;
        scene.interval().await;
        assert_eq!(scene.kept_head(), Some(1 << 62));
        scene.server().add_root(|root| root.roles.head.as_mut().expect("there").epoch = 1);
        scene.server().publish_head(1, |head| head.epoch = 1);
        scene.interval().await;
        assert_eq!(scene.kept_head(), Some(1));
    });
}

fn about_pos_app(digest: Option<Digest>, min_counter: u64) -> HeadProduct {
    let product = "pos-app".parse().expect("a name");
    HeadProduct { product, epoch: 1, latest_counter: 9, min_counter, revoked: digest.into_iter().collect() }
}

#[test]
fn a_release_that_is_revoked_after_it_was_staged_is_dropped_before_activation() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.publish_head(1, |_| {});
            server.action = Action::Download;
        })
        .await;
        scene.interval().await;
        assert!(matches!(scene.phase(), Some(Phase::Staged { .. })), "{:?}", scene.phase());
        let digest = scene.server().digest();
        scene.server().publish_head(2, |head| head.products.push(about_pos_app(Some(digest), 0)));
        scene.server().action = Action::Install;
        scene.interval().await;
        assert_eq!((scene.phase(), scene.said()), (None, vec!["revoked".to_owned()]));
        assert!(scene.runner.agent.product_record(&"pos-app".parse().expect("a name")).installed.is_none());
    });
}

#[test]
fn an_order_for_less_than_the_heads_minimum_is_refused_and_counted() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.publish_head(1, |head| head.products.push(about_pos_app(None, 6)));
            server.action = Action::Install;
        })
        .await;
        scene.interval().await;
        assert_eq!((scene.phase(), scene.said()), (None, vec!["below_floor".to_owned()]));
        assert_eq!(scene.attacks(Attack::Rollback), 1);
    });
}

#[test]
fn a_release_that_expires_between_staging_and_commit_is_committed() {
    play(async || {
        let mut scene = Scene::new(|server| {
            let release: Release =
                Envelope::parse::<Release>(&server.release).expect("an envelope").claim().expect("one");
            let release = Release { not_after: Some(testing::NOW + DAY), ..release };
            server.release = testing::signed(&release, &[&Keys::fixed().release]);
            server.action = Action::Download;
        })
        .await;
        scene.interval().await;
        assert!(matches!(scene.phase(), Some(Phase::Staged { .. })));
        scene.server().server_time = testing::NOW + 2 * DAY;
        scene.server().action = Action::Install;
        scene.interval().await;
        assert!(scene.runner.agent.product_record(&"pos-app".parse().expect("a name")).installed.is_some());
    });
}

#[test]
fn a_head_that_expires_between_staging_and_commit_aborts_nothing() {
    play(async || {
        let mut scene = Scene::new(|server| {
            with_head(server);
            server.publish_head(1, |_| {});
            server.action = Action::Download;
        })
        .await;
        scene.interval().await;
        assert!(matches!(scene.phase(), Some(Phase::Staged { .. })));
        scene.server().server_time = testing::NOW + 8 * DAY;
        scene.server().action = Action::Install;
        scene.interval().await;
        assert!(scene.runner.agent.product_record(&"pos-app".parse().expect("a name")).installed.is_some());
    });
}
