//! A root that moves devices to another address: what they do until that address has proved itself, and what if it never
//! does.

use callboard_proto::root;
use data_encoding::BASE64;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::*;
use crate::servers;

/// How a root lists a server.
fn entry(server: &TestServer) -> root::Server {
    let der = CertificateDer::from_pem_slice(server.ca_pem.as_bytes()).expect("a certificate");
    root::Server { url: format!("https://{}", server.address), ca_der: vec![BASE64.encode(&der)] }
}

fn place(server: &TestServer) -> servers::Place {
    servers::Place::from(&entry(server))
}

/// An address at which the same server answers, with another name and another CA.
async fn another(server: &Rc<RefCell<Server>>) -> TestServer {
    let answering = Rc::clone(server);
    TestServer::start((2000, 2100), move |asked| answering.borrow_mut().answer(asked)).await
}

/// One that answers as `answer` says.
async fn other(answer: impl Fn() -> Answer + 'static) -> TestServer {
    TestServer::start((2000, 2100), move |_| answer()).await
}

fn check_ins(server: &TestServer) -> usize {
    server.asked().iter().filter(|asked| asked.line == "POST /v1/checkin").count()
}

fn kept(scene: &Scene) -> Option<servers::Place> {
    let bytes = std::fs::read(scene.world.state_dir.identity()).ok()?;
    let kept: Identity = serde_json::from_slice(&bytes).expect("an identity");
    Some(kept.place())
}

#[test]
fn a_device_moves_when_the_new_address_has_answered_and_not_before() {
    play(async || {
        let mut scene = Scene::new(|_| {}).await;
        let (new, asked) = (another(&scene.server).await, scene.own.asked().len());
        scene.server().add_root(|root| root.servers = vec![entry(&new)]);
        scene.interval().await;
        assert_eq!((scene.trusted(), check_ins(&new)), (2, 0), "the old address told of it");
        assert!(kept(&scene).is_none() && scene.own.asked().len() > asked);
        let asked = scene.own.asked().len();
        for _ in 0..3 {
            scene.interval().await;
        }
        assert!(kept(&scene).is_some_and(|kept| kept.is(&place(&new))));
        assert_eq!((check_ins(&new), scene.own.asked().len()), (3, asked), "the old address is not asked any more");
        assert_eq!(scene.contact_error(), None);
    });
}

#[test]
fn an_address_that_proves_nothing_is_not_moved_to() {
    let unwilling: [fn() -> Answer; 5] = [
        || Answer::status(403),
        || Answer::status(503),
        Answer::none,
        || Answer::ok("not signed"),
        || Answer::ok(testing::root_envelope(&Keys::fixed())),
    ];
    for answer in unwilling {
        play(async || {
            let mut scene = Scene::new(|_| {}).await;
            let new = other(answer).await;
            scene.server().add_root(|root| root.servers = vec![entry(&new)]);
            for _ in 0..2 {
                scene.interval().await;
            }
            assert_eq!(check_ins(&new), 1);
            assert_eq!((scene.server().check_ins.len(), scene.contact_error()), (2, None), "the old one goes on");
            assert!(kept(&scene).is_none());
            // For a while it is not asked again, and then it is.
            let agent = &scene.runner.agent;
            agent.servers.borrow_mut().put_off(Duration::MAX);
            assert!(servers::to_ask(agent)[0].is(&place(&scene.own)));
            agent.servers.borrow_mut().put_off(Duration::ZERO);
            assert!(servers::to_ask(agent)[0].is(&place(&new)));
        });
    }
}

#[test]
fn what_the_first_root_lists_moves_nobody_and_is_asked_when_the_own_server_is_gone() {
    play(async || {
        let mut scene = Scene::new(|_| {}).await;
        let (dead, alive) = (other(Answer::none).await, another(&scene.server).await);
        // The own one is listed, so that nothing moves; two others are.
        let listed = [&dead, &scene.own, &alive].map(entry);
        scene.server().add_root(|root| root.servers = listed.to_vec());
        for _ in 0..3 {
            scene.interval().await;
        }
        assert_eq!((check_ins(&dead), check_ins(&alive)), (0, 0));
        let online = scene.server().online.clone();
        scene.server().online = SigningKey::from_bytes(&[77; 32]);
        scene.interval().await;
        assert_eq!((check_ins(&dead), check_ins(&alive)), (1, 1), "each in turn");
        assert!(scene.contact_error().is_some() && kept(&scene).is_none());
        scene.server().online = online;
        scene.interval().await;
        assert_eq!((check_ins(&alive), scene.contact_error()), (1, None), "the own one is back");
    });
}

#[test]
fn a_listed_server_that_refuses_the_device_or_wants_peace_sends_it_nowhere_else() {
    for status in [401, 403, 429, 503] {
        play(async || {
            let world = World::new();
            let own = other(move || Answer::status(status)).await;
            let elsewhere = other(Answer::none).await;
            std::fs::write(world.state_dir.key(), identity().1).expect("written");
            let mut root = testing::first_root(&Keys::fixed());
            root.servers = [&own, &elsewhere].map(entry).to_vec();
            let root = testing::signed(&root, &[&Keys::fixed().root]);
            std::fs::write(world.state_dir.root(), root).expect("written");
            let mut runner = started(&world, &own);
            runner.next = Duration::ZERO;
            runner.begin_talk();
            let talk = runner.talking.take().expect("a conversation").await;
            runner.talked(talk);
            assert_eq!((check_ins(&own), elsewhere.asked().len()), (1, 0), "{status}");
        });
    }
}

/// Starts an agent on this disk and lets it check in `times`; what it begins besides is of no interest here.
async fn check_in_from(fs: &SimFs, times: u32) -> std::io::Result<()> {
    let kept = Identity::load(fs, &state_dir());
    let Ok(agent) =
        start::open(settings(Health::Good), Rc::new(SimFs::shared(fs)), kept.expect("an identity"), testing::process())
    else {
        assert!(fs.is_off(), "an agent that does not start");
        return Err(std::io::ErrorKind::Other.into());
    };
    let mut runner = Runner::new(Rc::new(agent), false);
    for _ in 0..times {
        runner.agent.servers.borrow_mut().put_off(Duration::ZERO);
        runner.next = Duration::ZERO;
        runner.begin_talk();
        let talk = runner.talking.take().expect("a conversation").await;
        runner.talked(talk);
    }
    if fs.is_off() { Err(std::io::ErrorKind::Other.into()) } else { Ok(()) }
}

#[test]
fn a_power_cut_before_any_call_of_a_move_leaves_a_device_at_one_of_the_two_addresses() {
    play(async || {
        let server = Rc::new(RefCell::new(Server::new()));
        let [old, new] = [another(&server).await, another(&server).await];
        server.borrow_mut().add_root(|root| root.servers = vec![entry(&new)]);
        let shop = shop(Before::FactoryLink);
        let state_dir = state_dir();
        let at_first = Identity {
            server_url: format!("https://{}", old.address),
            server_ca_pem: old.ca_pem.clone(),
            ..identity().0
        };
        crate::fs::replace(&shop, &state_dir.identity(), &serde_json::to_vec(&at_first).expect("JSON")).expect("kept");
        let (mut states, mut cut) = (0, 0);
        loop {
            let fs = SimFs::clone(&shop);
            fs.cut_power_at(cut);
            let moved = check_in_from(&fs, 2).await;
            if moved.is_ok() {
                break;
            }
            for keeps in all_keeps(4) {
                states += 1;
                let context = format!("cut before call {cut} after {}, {keeps:?}", fs.last());
                let rebooted = fs.reboot(keeps);
                let kept = Identity::load(&rebooted, &state_dir).expect(&context).place();
                assert!(kept.is(&at_first.place()) || kept.is(&place(&new)), "{kept:?}: {context}");
                check_in_from(&rebooted, 2).await.expect(&context);
                let again = rebooted.reboot(Keeps::Nothing);
                let kept = Identity::load(&again, &state_dir).expect(&context);
                assert!(kept.place().is(&place(&new)) && kept.server_root == 2, "{kept:?}: {context}");
            }
            cut += 1;
        }
        assert!(states > 60, "{states} crash states");
    });
}
