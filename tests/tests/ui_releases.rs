//! Releases by the pages: uploaded by a form without scripts and piece by piece, looked at, and taken back by a head.

use callboard_proto::{
    admin::{PartialPayload, Release},
    digest::Digest,
    problem::Code,
};
use callboard_tests::{
    browser::{Browser, text},
    http::Request,
    release::{NewRelease, bytes},
};

use crate::{on_both, refused};

/// A form with files, as a browser sends it.
fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, content) in parts {
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        body.extend_from_slice(
            format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--\r\n");
    body
}

#[test]
fn a_release_is_uploaded_by_a_form_and_looked_at() {
    on_both(|server| {
        let ada = Browser::of(server, "releaser");
        let release = NewRelease::new("pos-app", "1.0.0", 1);
        let envelope = release.signed(server).to_json();
        let (payload, digest) = (release.payload.clone(), Digest::of(&release.payload).to_string());
        let token = ada.token();
        let send = |parts: &[(&str, Option<&str>, &[u8])]| {
            ada.send(Request::post("/releases/new").body("multipart/form-data; boundary=x", form(parts)))
        };
        let csrf: (&str, Option<&str>, &[u8]) = ("csrf", None, token.as_bytes());
        let document: (&str, Option<&str>, &[u8]) = ("release", Some("release.json"), &envelope);
        assert_eq!(send(&[document, csrf]).status, 403, "the token comes first");
        for (parts, said) in [
            (vec![csrf], "choose release.json"),
            (vec![csrf, document], "has not been uploaded"),
            (vec![csrf, ("release", Some("x"), b"{}")], "that is no release.json"),
            (vec![csrf, document, ("payload", Some("other"), b"x")], "the release names no payload"),
            (vec![csrf, document, ("payload", Some(digest.as_str()), b"short")], "bytes came"),
        ] {
            let answer = send(&parts);
            assert!(
                answer.status == 422 && answer.text().contains(said),
                "{said}: {} {}",
                answer.status,
                answer.text()
            );
        }
        let done = send(&[csrf, document, ("payload", Some(digest.as_str()), &payload)]);
        assert_eq!(done.status, 303, "{}", done.text());
        let published: Release = server.api().get("releases/pos-app@1.0.0");
        let page = ada.page(&format!("/releases/{}", published.sha256));
        let shown = text(&page);
        assert!(shown.contains("1 of 1 key signed; 1 needed") && shown.contains("enough"), "{shown}");
        assert!(shown.contains("0 devices") && page.contains(&digest), "{page}");
        let list = text(&ada.page("/releases?product=pos-app"));
        assert!(list.contains("pos-app 1.0.0") && list.contains("trusted"), "{list}");
        // A head that is none is said at its field, with what was typed.
        let head = ada.post("/releases/head", &[("head", "{\"a\":1}"), ("release", "pos-app@1.0.0")]);
        assert!(head.status == 422 && head.text().contains("{&#34;a&#34;:1}"), "{}", head.text());
        let viewer = Browser::of(server, "viewer");
        assert_eq!(viewer.get("/releases/new").status, 403);
        assert!(!viewer.page(&format!("/releases/{}", published.sha256)).contains("Publish the head"));
    });
}

#[test]
fn a_payload_that_comes_in_pieces_goes_on_where_it_broke_off() {
    on_both(|server| {
        let payload = bytes("pieces", 3_000_000);
        let digest = Digest::of(&payload);
        let api = server.api();
        let path = format!("/api/v1/payloads/{digest}/upload");
        let size = payload.len();
        let send = |from: usize, piece: &[u8]| {
            let path = format!("{path}?from={from}&size={size}");
            api.send(Request::new("PUT", path).body("application/octet-stream", piece))
        };
        let received = || api.get::<PartialPayload>(&format!("payloads/{digest}/upload")).received;
        assert_eq!(received(), 0);
        assert_eq!(send(0, &payload[..1_500_000]).json::<PartialPayload>().received, 1_500_000);
        refused(&send(0, &payload[..10]), Code::Conflict, "1500000 bytes have come; go on from there");
        assert_eq!(received(), 1_500_000);
        refused(&send(1_500_000, &vec![0; 1_500_000]), Code::DigestMismatch, "announced was");
        assert_eq!(received(), 0, "nobody goes on with what is wrong");
        for from in (0..size).step_by(1_000_000) {
            send(from, &payload[from..size.min(from + 1_000_000)]).ok();
        }
        assert_eq!(std::fs::read(server.payload_file(digest)).unwrap(), payload);
        assert_eq!(send(7, b"x").json::<PartialPayload>().received, size as u64, "it is there");
    });
}
