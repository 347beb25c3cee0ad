//! Payloads: stored by content, served whole or in ranges, and nothing half.

use callboard_proto::{
    admin::StoredPayload,
    digest::Digest,
    paths,
    payload::{CHUNK_SIZE, Chunker},
    problem::Code,
};
use callboard_tests::{
    device::FakeDevice,
    http::{self, Plain, Request, Response},
    release::bytes,
    server::TestServer,
    wait,
};
use std::io::{Read as _, Write as _};

use crate::{on_both, on_both_with, refused};

fn get(device: &mut FakeDevice, digest: Digest, headers: &[(&str, &str)]) -> Response {
    let request = Request::get(paths::payload(digest));
    device.wire.send(&headers.iter().fold(request, |request, (name, value)| request.header(name, *value)))
}

#[test]
fn what_is_uploaded_is_served_with_its_chunk_list() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        for len in [1, 1 << 20, (5 << 20) + 17] {
            let payload = bytes("payload", len);
            let mut chunker = Chunker::new(CHUNK_SIZE);
            chunker.update(&payload);
            let chunked = chunker.finish();
            let answer = server.api().upload(&payload);
            assert_eq!(answer.status, 201);
            let stored: StoredPayload = answer.json();
            assert_eq!((stored.sha256, stored.size), (chunked.sha256, chunked.size));
            assert_eq!(stored.chunks_sha256, Digest::of(&chunked.list));
            assert!(get(&mut device, chunked.sha256, &[]).body == payload);
            assert_eq!(get(&mut device, stored.chunks_sha256, &[]).body, chunked.list);
            let again = server.api().upload(&payload);
            assert_eq!((again.status, again.json::<StoredPayload>()), (200, stored.clone()));
            let info: StoredPayload = server.api().get(&format!("payloads/{}/info", stored.sha256));
            assert_eq!(info, stored);
        }
    });
}

#[test]
fn one_range_is_served_as_it_was_asked_for() {
    on_both(|server| {
        let payload = bytes("payload", 3 << 20);
        server.api().upload(&payload).ok();
        let digest = Digest::of(&payload);
        let mut device = FakeDevice::enrol(server, "till-1");
        let end = payload.len() - 1;
        for (range, start, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=1048576-2097151", 1 << 20, (2 << 20) - 1),
            ("bytes=3000000-", 3_000_000, end),
            ("bytes=-100", payload.len() - 100, end),
            ("bytes=3000000-99999999", 3_000_000, end),
            ("bytes=-99999999", 0, end),
        ] {
            let answer = get(&mut device, digest, &[("range", range)]);
            assert_eq!(answer.status, 206, "{range}");
            let wanted = format!("bytes {start}-{last}/{}", payload.len());
            assert_eq!(answer.header("content-range"), Some(wanted.as_str()));
            assert!(answer.body == payload[start..=last], "{range}");
        }
        // What cannot be understood, and more than one range, is the whole.
        for range in ["bytes=5-2", "bytes=a-b", "chunks=0-1", "bytes=0-1,4-5", "bytes=-", ""] {
            let answer = get(&mut device, digest, &[("range", range)]);
            assert_eq!((answer.status, answer.body.len()), (200, payload.len()), "{range}");
        }
    });
}

#[test]
fn a_range_beyond_the_end_is_not_satisfiable_and_the_answer_says_how_long_it_is() {
    on_both(|server| {
        let payload = bytes("payload", 1000);
        server.api().upload(&payload).ok();
        let mut device = FakeDevice::enrol(server, "till-1");
        for range in ["bytes=1000-", "bytes=2000-3000", "bytes=-0"] {
            let answer = get(&mut device, Digest::of(&payload), &[("range", range)]);
            refused(&answer, Code::RangeNotSatisfiable, "the payload has 1000 bytes");
            assert_eq!(answer.header("content-range"), Some("bytes */1000"));
        }
    });
}

#[test]
fn the_digest_is_the_tag_and_conditions_on_it_hold() {
    on_both(|server| {
        let payload = bytes("payload", 1000);
        server.api().upload(&payload).ok();
        let digest = Digest::of(&payload);
        let (tag, other) = (format!("\"{digest}\""), format!("\"{}\"", Digest::of(b"other")));
        let mut device = FakeDevice::enrol(server, "till-1");
        let whole = get(&mut device, digest, &[]);
        assert_eq!(whole.header("etag"), Some(tag.as_str()));
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
        assert!(whole.header("cache-control").unwrap().contains("immutable"));
        let mut with = |headers: &[(&str, &str)]| get(&mut device, digest, headers).status;
        assert_eq!(with(&[("range", "bytes=5-9"), ("if-range", &tag)]), 206);
        assert_eq!(with(&[("range", "bytes=5-9"), ("if-range", &other)]), 200);
        assert_eq!(with(&[("range", "bytes=5-9"), ("if-range", &format!("W/{tag}"))]), 200);
        assert_eq!(with(&[("if-none-match", &tag)]), 304);
        assert_eq!(with(&[("if-none-match", &format!("{other}, W/{tag}"))]), 304);
        assert_eq!(with(&[("if-none-match", "*")]), 304);
        assert_eq!(with(&[("if-none-match", &other)]), 200);
    });
}

#[test]
fn head_answers_as_get_without_the_bytes() {
    on_both(|server| {
        let payload = bytes("payload", 5000);
        server.api().upload(&payload).ok();
        let mut device = FakeDevice::enrol(server, "till-1");
        let head = device.wire.send(&Request::new("HEAD", paths::payload(Digest::of(&payload))));
        assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5000"), 0));
        // The connection is still in step.
        device.check_in();
        let none = device.wire.send(&Request::new("HEAD", paths::payload(Digest::of(b"none"))));
        assert_eq!(none.status, 404);
    });
}

#[test]
fn an_unknown_payload_and_a_bad_digest_are_told_apart() {
    on_both(|server| {
        let mut device = FakeDevice::enrol(server, "till-1");
        let unknown = Digest::of(b"nothing");
        refused(&get(&mut device, unknown, &[]), Code::NotFound, &format!("there is no payload {unknown}"));
        for bad in ["x", "..%2f..%2fcallboard.db", &unknown.to_string().to_uppercase(), &format!("{unknown}0")] {
            let answer = device.wire.send(&Request::get(format!("/v1/payloads/{bad}")));
            refused(&answer, Code::BadRequest, "64 lower-case hexadecimal digits");
        }
        server.api().try_get("payloads/x/info").problem(Code::BadRequest);
        server.api().try_get(&format!("payloads/{unknown}/info")).problem(Code::NotFound);
    });
}

fn nothing_is_left(server: &TestServer) {
    wait::until("nothing is left in the store", || server.payload_files().is_empty());
}

#[test]
fn an_upload_that_is_not_what_it_says_leaves_nothing() {
    on_both_with(&["max_payload_bytes = 2000000"], |server| {
        let (payload, api) = (bytes("payload", 1 << 20), server.api());
        let digest = Digest::of(&payload);
        let wrong = api.upload_as(Digest::of(b"other"), &payload);
        refused(&wrong, Code::DigestMismatch, &format!("the bytes have the digest {digest}, announced was"));
        nothing_is_left(server);
        refused(&api.upload(&[]), Code::Invalid, "a payload of 0 bytes");
        let large = bytes("payload", 2_000_001);
        refused(&api.upload(&large), Code::TooLarge, "2000001 bytes is over the limit of 2000000 bytes");
        let chunked = Request::new("PUT", format!("/api/v1/payloads/{digest}")).header("transfer-encoding", "chunked");
        refused(&api.send(chunked), Code::BadRequest, "an upload needs Content-Length");
        api.send(Request::new("PUT", "/api/v1/payloads/xyz").body("a/b", *b"abc")).problem(Code::BadRequest);
        nothing_is_left(server);
        api.try_get(&format!("payloads/{digest}/info")).problem(Code::NotFound);
        api.upload(&payload).ok();
    });
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    on_both(|server| {
        let payload = bytes("payload", 4 << 20);
        let api = server.api();
        let digest = Digest::of(&payload);
        let mut stream = Plain::connect(api.address).unwrap();
        let head = format!(
            "PUT /api/v1/payloads/{digest} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            api.token,
            payload.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&payload[..3 << 20]).unwrap();
        wait::until("the upload is under way", || !server.payload_files().is_empty());
        drop(stream);
        nothing_is_left(server);
        api.try_get(&format!("payloads/{digest}/info")).problem(Code::NotFound);
    });
}

#[test]
fn transfers_beyond_the_limit_are_told_to_come_back_and_find_a_place_later() {
    on_both_with(&["max_transfers = 1"], |server| {
        let payload = bytes("payload", 32 << 20);
        server.api().upload(&payload).ok();
        let digest = Digest::of(&payload);
        let mut device = FakeDevice::enrol(server, "till-1");
        let mut slow = device.wire.open().unwrap();
        let request = format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", paths::payload(digest));
        slow.write_all(request.as_bytes()).unwrap();
        assert_eq!(http::read_head(&mut slow).unwrap().0, 200);
        let second = get(&mut device, digest, &[("range", "bytes=0-9")]);
        refused(&second, Code::Unavailable, "all 1 places for transfers are taken; resume later");
        assert_eq!(second.header("retry-after"), Some("15"));
        // Everything else goes on meanwhile.
        device.check_in();
        let mut some = [0; 1000];
        slow.read_exact(&mut some).unwrap();
        assert!(some == payload[..1000]);
        drop(slow);
        wait::until("the place is free again", || get(&mut device, digest, &[("range", "bytes=0-9")]).status == 206);
    });
}
