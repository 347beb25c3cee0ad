//! Events out: a real receiver gets what happened, signed, once it is there and as often as it takes; and who listens
//! goes on where it was.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use callboard_proto::{
    admin::{Delivery, DeliveryState, Notice, Webhook, WebhookCreated},
    problem::Code,
    report::{Event as Reported, FailureClass},
};
use callboard_tests::{
    api::Api, browser::Browser, device::FakeDevice, http::Request, release::NewRelease, server::TestServer, wait,
    world::rollout,
};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{on_both, refused};

/// What a receiver got.
struct Got {
    headers: BTreeMap<String, String>,
    body: String,
}

/// A receiver on this machine. It answers with what it is told to, else with 204.
struct Receiving {
    url: String,
    got: Receiver<Got>,
    answers: Sender<String>,
}

fn receiver() -> Receiving {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, got) = channel();
    let (answers, told) = channel::<String>();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let Some(request) = read(&stream) else { continue };
            let answer = told.try_recv().unwrap_or_else(|_| "204 No Content".to_owned());
            let (status, more) = answer.split_once('|').unwrap_or((&answer, ""));
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{more}connection: close\r\ncontent-length: 0\r\n\r\n");
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    Receiving { url, got, answers }
}

fn read(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    assert!(line.starts_with("POST /hook HTTP/1.1"), "{line}");
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    Some(Got { headers, body: String::from_utf8(body).unwrap() })
}

impl Receiving {
    fn next(&self) -> Got {
        self.got.recv_timeout(Duration::from_secs(60)).expect("something was sent")
    }

    /// The next kinds, whatever their order.
    fn kinds(&self, n: usize) -> Vec<String> {
        let mut kinds: Vec<String> = (0..n).map(|_| self.next().headers["callboard-kind"].clone()).collect();
        kinds.sort();
        kinds
    }
}

fn made(server: &TestServer, name: &str, more: &Value) -> WebhookCreated {
    let mut body = json!({ "name": name });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.api().post("webhooks", &body)
}

fn deliveries(server: &TestServer, name: &str) -> Vec<Delivery> {
    server.api().list(&format!("webhooks/{name}/deliveries"))
}

#[test]
fn a_receiver_is_told_what_happened_and_can_tell_who_told_it() {
    on_both(|server| {
        let receiving = receiver();
        let secret = made(server, "all", &json!({ "url": receiving.url })).secret.unwrap();
        assert!(secret.starts_with("cbw_") && secret.len() == 56, "{secret}");
        let mut till = FakeDevice::enrol(server, "till-1").runs("pos-app", "1.0.0");
        let got = receiving.next();
        assert_eq!(got.headers["callboard-kind"], "device.enrolled");
        let notice: Notice = serde_json::from_str(&got.body).unwrap();
        assert_eq!((notice.kind.as_str(), notice.device.as_deref()), ("device.enrolled", Some("till-1")));
        let (seconds, signature) = got.headers["callboard-signature"].split_once(",v1=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{}.{}", seconds.strip_prefix("t=").unwrap(), got.body).as_bytes());
        assert_eq!(HEXLOWER.encode(&mac.finalize().into_bytes()), signature);

        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({ "audience": "frozen" })));
        assert_eq!(receiving.kinds(1), ["rollout.started"]);
        let told = till.check_in();
        till.report_failure(&told, Reported::Failed, FailureClass::Permanent, "disk_full");
        // What happened at the same time comes in any order.
        let attention = std::iter::repeat_with(|| receiving.next())
            .find(|got| got.headers["callboard-kind"] == "device.attention")
            .unwrap();
        assert!(
            attention.body.contains("disk_full") && attention.body.contains("\"rollout\":\"r\""),
            "{}",
            attention.body
        );
        let id = &attention.headers["callboard-delivery"];
        wait::until("it is written down", || {
            let found = deliveries(server, "all");
            let one = found.iter().find(|one| one.id.to_string() == *id).unwrap();
            (one.state, one.attempts, one.error.as_deref()) == (DeliveryState::Delivered, 1, None)
        });
        // The secret is neither listed nor logged nor in the audit.
        let audit = server.api().try_get("audit?limit=1000").text();
        assert!(!server.api().try_get("webhooks").text().contains(&secret) && !audit.contains(&secret));
        // An address may have a secret in it too.
        assert!(audit.contains("to http://127.0.0.1:") && !audit.contains("/hook"), "{audit}");
        assert!(!server.log().contains(&secret));
    });
}

#[test]
fn only_the_kinds_that_were_asked_for_are_sent() {
    on_both(|server| {
        let receiving = receiver();
        let more = json!({ "url": receiving.url, "kinds": ["rollout.paused", "rollout.started"] });
        made(server, "some", &more);
        FakeDevice::enrol(server, "till-1");
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
        server.tell_rollout("r", "pause");
        assert_eq!(receiving.kinds(2), ["rollout.paused", "rollout.started"]);
        assert_eq!(deliveries(server, "some").len(), 2);
    });
}

#[test]
fn what_is_not_taken_is_sent_again_and_given_up_in_the_end_and_survives_the_server() {
    on_both(|server| {
        let receiving = receiver();
        made(server, "w", &json!({ "url": receiving.url, "kinds": ["device.enrolled"] }));
        receiving.answers.send("503 Not now".to_owned()).unwrap();
        receiving.answers.send("302 Elsewhere|location: http://127.0.0.1:1/\r\n".to_owned()).unwrap();
        FakeDevice::enrol(server, "till-1");
        receiving.next();
        let state = |server: &TestServer, n: u32| {
            let one = deliveries(server, "w").remove(0);
            (one.attempts == n).then_some(one)
        };
        let one = wait::until_some("it has failed", || state(server, 1));
        assert!(one.state == DeliveryState::Waiting && one.error.as_ref().unwrap().contains("503"), "{one:?}");
        server.advance(Duration::from_secs(10));
        receiving.next();
        let one = wait::until_some("it has failed again", || state(server, 2));
        assert!(one.error.unwrap().contains("redirects are not followed"));
        assert_eq!(one.next_at, server.clock.now() + Duration::from_secs(20));
        server.kill();
        server.serve();
        server.advance(Duration::from_secs(20));
        receiving.next();
        let one = wait::until_some("it was taken", || state(server, 3));
        assert_eq!((one.state, one.error), (DeliveryState::Delivered, None));

        for _ in 0..18 {
            receiving.answers.send("500 No".to_owned()).unwrap();
        }
        FakeDevice::enrol(server, "till-2");
        for n in 1..=18 {
            receiving.next();
            wait::until("it is written down", || state(server, n).is_some());
            server.advance(Duration::from_secs(3600));
        }
        let dead: Vec<Delivery> = server.api().list("webhooks/w/deliveries?state=dead");
        assert_eq!(dead.len(), 1);
        let shown: Vec<Webhook> = server.api().get("webhooks");
        assert_eq!((shown[0].waiting, shown[0].dead), (0, 1));
        server.cli(["webhook", "resend", &dead[0].id.to_string()]).ok();
        assert_eq!(receiving.next().headers["callboard-delivery"], dead[0].id.to_string());
        wait::until("it was taken after all", || {
            server.api().list::<Delivery>("webhooks/w/deliveries?state=dead").is_empty()
        });
        let again = server.api().try_post(&format!("deliveries/{}/resend", dead[0].id), &json!({}));
        refused(&again, Code::WrongState, "one that is dead can be sent again");
    });
}

#[test]
fn a_test_is_sent_at_once_and_says_how_that_went() {
    on_both(|server| {
        let receiving = receiver();
        let url = receiving.url.clone();
        server.cli(["webhook", "create", "w", "--url", &url, "--kind", "rollout.halted"]).ok();
        let said = server.cli(["webhook", "test", "w"]);
        assert!(said.ok().stdout.contains("delivered"), "{}", said.stdout);
        assert_eq!(receiving.next().headers["callboard-kind"], "test");
        receiving.answers.send("410 Gone".to_owned()).unwrap();
        let said = server.cli(["webhook", "test", "w"]);
        assert!(said.refused(1).contains("was not taken: it answered 410"), "{}", said.stderr);
        // What was given up is sent again by the page, and once only.
        let dead = deliveries(server, "w").into_iter().find(|one| one.state == DeliveryState::Dead).unwrap().id;
        let root = Browser::of(server, "admin");
        assert!(root.page("/settings/webhooks/w?state=dead").contains(&format!("value=\"{dead}\"")));
        let again = [("deed", "resend"), ("delivery", &dead.to_string())];
        assert!(root.submit("/settings/webhooks/w", &again).contains("It is sent again."));
        assert_eq!(receiving.next().headers["callboard-delivery"], dead.to_string());
        let state = || deliveries(server, "w").into_iter().find(|one| one.id == dead).unwrap().state;
        wait::until("it was taken after all", || state() == DeliveryState::Delivered);
        let twice = root.post("/settings/webhooks/w", &again);
        assert!(twice.status == 422 && twice.text().contains("one that is dead can be sent again"), "{}", twice.text());
        server.cli(["webhook", "delete", "w"]).ok();
        server.api().try_get("webhooks/w/deliveries").problem(Code::NotFound);
        let post = |body: Value| server.api().try_post("webhooks", &body);
        refused(&post(json!({ "name": "w", "url": "ftp://a/" })), Code::Invalid, "is not one of a web server");
        refused(
            &post(json!({ "name": "w", "url": url, "kinds": ["x"] })),
            Code::Invalid,
            "there is no \"x\"; there are",
        );
        refused(&post(json!({ "name": "w", "url": url, "secret": "short" })), Code::Invalid, "secret has 5 bytes");
    });
}

/// Listens, and reads until it has seen so many notices.
fn listen(server: &TestServer, after: Option<u64>, n: usize) -> Vec<(u64, String)> {
    let mut stream = open(&server.api(), after);
    let mut reader = BufReader::new(&mut stream);
    let (mut seen, mut id, mut line) = (Vec::new(), 0, String::new());
    while seen.len() < n {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it ended after {seen:?}");
        if let Some(number) = line.strip_prefix("id: ") {
            id = number.trim().parse().unwrap();
        }
        if let Some(kind) = line.strip_prefix("event: ") {
            seen.push((id, kind.trim().to_owned()));
        }
    }
    seen
}

/// Begins to listen; the first line has come.
fn open(api: &Api, after: Option<u64>) -> TcpStream {
    let mut stream = TcpStream::connect(api.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let after = after.map(|seq| format!("last-event-id: {seq}\r\n")).unwrap_or_default();
    let head = format!("host: localhost\r\nauthorization: Bearer {}\r\n{after}", api.token);
    stream.write_all(format!("GET /api/v1/events/stream HTTP/1.1\r\n{head}\r\n").as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[test]
fn who_listens_hears_what_happens_and_goes_on_where_it_was() {
    on_both(|server| {
        FakeDevice::enrol(server, "till-1");
        FakeDevice::enrol(server, "till-2");
        let seen = listen(server, Some(0), 2);
        assert_eq!(seen, [(1, "device.enrolled".to_owned()), (2, "device.enrolled".to_owned())]);
        assert_eq!(listen(server, Some(1), 1), [(2, "device.enrolled".to_owned())]);
        std::thread::scope(|scope| {
            let heard = scope.spawn(|| listen(server, Some(2), 1));
            NewRelease::new("pos-app", "2.0.0", 1).publish(server);
            server.roll_out(&rollout("r", "pos-app@2.0.0", &json!({})));
            assert_eq!(heard.join().unwrap(), [(3, "rollout.started".to_owned())]);
        });
        let request = Request::get("/api/v1/events/stream").header("last-event-id", "x");
        refused(&server.api().send(request), Code::BadRequest, "Last-Event-ID is the id of an event");
        // Places are bounded, and free again.
        let mut held: Vec<TcpStream> = (0..16).map(|_| open(&server.api(), None)).collect();
        let own = server.api().try_get("events/stream");
        refused(&own, Code::TooManyRequests, "first admin listens 16 times already");
        for name in ["a", "b", "c"] {
            let api = server.api_of(name);
            held.extend((0..16).map(|_| open(&api, None)));
        }
        let full = server.api_of("d").try_get("events/stream");
        refused(&full, Code::Unavailable, "64 listen already");
        assert_eq!(full.header("retry-after"), Some("30"));
        drop(held);
    });
}
