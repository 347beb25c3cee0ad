use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix_web::{App, HttpServer, web};
use callboard_proto::payload::CHUNK_SIZE;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::store::upload::Expected;

const LEN: u64 = 1000;
const TAG: &str = "\"tag\"";

/// What `method` with such headers gets of a payload of a thousand bytes.
fn check(method: &Method, headers: &[(HeaderName, &'static str)], wanted: Answer) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.clone(), HeaderValue::from_static(value));
    }
    assert_eq!(answer(method, &map, TAG, LEN), wanted, "{method} {headers:?}");
}

const PART: Answer = Answer::Part { start: 5, end: 9 };
const RANGE: (HeaderName, &str) = (header::RANGE, "bytes=5-9");

#[test]
fn ranges_are_for_get_alone_and_only_one_at_a_time() {
    check(&Method::GET, &[], Answer::Whole);
    check(&Method::GET, &[RANGE], PART);
    check(&Method::HEAD, &[RANGE], Answer::Whole);
    check(&Method::GET, &[(header::RANGE, "")], Answer::Whole);
    check(&Method::GET, &[(header::RANGE, "bytes=9-5")], Answer::Whole);
    check(&Method::GET, &[(header::RANGE, "bytes=5-9,20-30")], Answer::Whole);
    check(&Method::GET, &[RANGE, (header::RANGE, "bytes=20-30")], Answer::Whole);
    check(&Method::GET, &[(header::RANGE, "bytes=1000-")], Answer::Unsatisfiable);
    check(&Method::GET, &[(header::RANGE, "bytes=-0")], Answer::Unsatisfiable);
}

#[test]
fn a_range_of_other_bytes_gets_the_whole() {
    check(&Method::GET, &[RANGE, (header::IF_RANGE, TAG)], PART);
    check(&Method::GET, &[RANGE, (header::IF_RANGE, "\"other\"")], Answer::Whole);
    check(&Method::GET, &[RANGE, (header::IF_RANGE, "W/\"tag\"")], Answer::Whole);
    check(&Method::GET, &[RANGE, (header::IF_RANGE, "Mon, 23 Nov 2026 02:00:00 GMT")], Answer::Whole);
    check(&Method::GET, &[(header::RANGE, "bytes=1000-"), (header::IF_RANGE, "\"other\"")], Answer::Whole);
    check(&Method::GET, &[RANGE, (header::IF_RANGE, TAG), (header::IF_RANGE, TAG)], Answer::Whole);
}

#[test]
fn bytes_that_are_there_already_are_not_sent_again() {
    for method in [Method::GET, Method::HEAD] {
        for tags in [TAG, "*", "W/\"tag\"", "\"a\", \"tag\"", "\"a\",\"tag\""] {
            check(&method, &[(header::IF_NONE_MATCH, tags)], Answer::NotModified);
            check(&method, &[RANGE, (header::IF_NONE_MATCH, tags)], Answer::NotModified);
        }
        for tags in ["", "\"a\"", "tag", "\"tag"] {
            check(&method, &[(header::IF_NONE_MATCH, tags)], Answer::Whole);
        }
    }
}

/// A server with one payload and as many places as asked for.
struct Scene {
    _dir: tempfile::TempDir,
    address: std::net::SocketAddr,
    path: String,
    bytes: Vec<u8>,
    served: Arc<AtomicU64>,
    handle: actix_web::dev::ServerHandle,
}

async fn handler(
    request: HttpRequest,
    path: web::Path<String>,
    store: web::Data<Store>,
    transfers: web::Data<Transfers>,
) -> ApiResult<HttpResponse> {
    serve(&request, &store, path.parse().unwrap(), &transfers, DeviceId::from_uuid(uuid::Uuid::nil()), None).await
}

impl Scene {
    fn start(len: u32, places: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::prepare(dir.path(), u64::MAX).unwrap();
        let bytes: Vec<u8> = (0..len / 4).flat_map(u32::to_be_bytes).collect();
        let expected = Expected { sha256: Digest::of(&bytes), size: u64::try_from(bytes.len()).unwrap() };
        let mut upload = store.begin(expected, CHUNK_SIZE).unwrap();
        upload.write(&bytes).unwrap();
        upload.finish().unwrap();
        let served = Arc::new(AtomicU64::new(0));
        let transfers = web::Data::new(Transfers::new(places, None, served.clone()));
        let store = web::Data::new(store);
        let server = HttpServer::new(move || {
            let route = web::route().to(handler);
            App::new().app_data(store.clone()).app_data(transfers.clone()).route("/v1/payloads/{sha256}", route)
        });
        let server = server.workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
        let address = server.addrs()[0];
        let running = server.run();
        let handle = running.handle();
        actix_web::rt::spawn(running);
        Self { _dir: dir, address, path: format!("/v1/payloads/{}", expected.sha256), bytes, served, handle }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and reads the head of its answer.
    async fn ask(&self, stream: &mut TcpStream, method: &str, headers: &str) -> Head {
        let request = format!("{method} {} HTTP/1.1\r\nhost: x\r\n{headers}\r\n", self.path);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        Head::parse(&String::from_utf8(head).unwrap())
    }

    async fn get(&self, headers: &str) -> (Head, Vec<u8>) {
        let mut stream = self.connect().await;
        let head = self.ask(&mut stream, "GET", headers).await;
        let body = head.body(&mut stream).await;
        (head, body)
    }

    /// Asks again until there is a place; the server notices the end of a transfer a little later than its client.
    async fn get_when_free(&self) -> Vec<u8> {
        for _ in 0..10_000 {
            let (head, body) = self.get("").await;
            if head.status == 200 {
                return body;
            }
            assert_eq!(head.status, 503);
        }
        panic!("the place was never free again");
    }
}

struct Head {
    status: u16,
    fields: BTreeMap<String, String>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned()));
        Self { status, fields: fields.collect() }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    async fn body(&self, stream: &mut TcpStream) -> Vec<u8> {
        let mut body = vec![0; self.field("content-length").parse().unwrap_or(0)];
        stream.read_exact(&mut body).await.unwrap();
        body
    }
}

#[actix_web::test]
async fn the_whole_and_parts_arrive_with_what_a_cache_needs() {
    let scene = Scene::start(1_000_000, 4);
    let (head, body) = scene.get("").await;
    assert_eq!((head.status, body.as_slice()), (200, scene.bytes.as_slice()));
    assert_eq!(head.field("etag"), format!("\"{}\"", Digest::of(&scene.bytes)));
    assert_eq!(head.field("cache-control"), "private, max-age=31536000, immutable");
    assert_eq!(head.field("accept-ranges"), "bytes");
    assert_eq!(head.field("content-type"), "application/octet-stream");
    assert_eq!(head.field("content-encoding"), "");
    for (range, from, to) in [("10-19", 10, 19), ("999990-", 999_990, 999_999), ("-5", 999_995, 999_999)] {
        let (head, body) = scene.get(&format!("range: bytes={range}\r\n")).await;
        assert_eq!((head.status, body.as_slice()), (206, &scene.bytes[from..=to]));
        assert_eq!(head.field("content-range"), format!("bytes {from}-{to}/1000000"));
    }
    assert_eq!(scene.served.load(Ordering::Relaxed), 1_000_025);
    scene.handle.stop(false).await;
}

#[actix_web::test]
async fn answers_without_bytes_need_no_place_and_keep_the_connection() {
    let scene = Scene::start(1_000_000, 0);
    let mut stream = scene.connect().await;
    let head = scene.ask(&mut stream, "HEAD", "").await;
    assert_eq!((head.status, head.field("content-length")), (200, "1000000"));
    let tag = head.field("etag").to_owned();
    let head = scene.ask(&mut stream, "GET", &format!("if-none-match: {tag}\r\n")).await;
    assert_eq!((head.status, head.field("etag")), (304, tag.as_str()));
    let head = scene.ask(&mut stream, "GET", "range: bytes=1000000-\r\n").await;
    assert_eq!((head.status, head.field("content-range")), (416, "bytes */1000000"));
    assert_eq!(head.field("content-type"), callboard_proto::problem::MEDIA_TYPE);
    head.body(&mut stream).await;
    let head = scene.ask(&mut stream, "GET", "").await;
    assert_eq!((head.status, head.field("retry-after")), (503, "15"));
    assert_eq!(scene.served.load(Ordering::Relaxed), 0);
    scene.handle.stop(false).await;
}

#[actix_web::test]
async fn a_place_is_free_again_when_a_transfer_ends_or_is_cut() {
    // More than the sockets' buffers hold, so that a client that does not read keeps its place.
    let scene = Scene::start(32 << 20, 1);
    let mut stalled = scene.connect().await;
    let head = scene.ask(&mut stalled, "GET", "").await;
    assert_eq!(head.status, 200);
    assert_eq!(scene.get("").await.0.status, 503);
    drop(stalled);
    assert_eq!(scene.get_when_free().await, scene.bytes);
    assert_eq!(scene.get_when_free().await, scene.bytes);
    scene.handle.stop(false).await;
}

#[actix_web::test]
async fn what_is_not_there_is_not_found() {
    let mut scene = Scene::start(4, 1);
    scene.path = format!("/v1/payloads/{}", Digest::of(b"other"));
    assert_eq!(scene.get("").await.0.status, 404);
    scene.handle.stop(false).await;
}
