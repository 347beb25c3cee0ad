//! The admin API to read and to try, in a browser: Swagger UI from the binary, under its own content policy.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use callboard_tests::{
    browser::Browser,
    server::{Engine, TestServer},
};

use crate::BINARIES;

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut into = gzip.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || into.write_all(&bytes));
    let done = gzip.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(done.status.success(), "gzip does not take it");
    done.stdout
}

#[test]
fn the_page_has_all_that_it_needs_from_this_server() {
    let server = TestServer::start(BINARIES, Engine::Sqlite, &[]).unwrap();
    let local = Browser::at_the_server(&server);
    let page = local.get("/api/docs");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    assert!(!text.contains("http:") && !text.contains("https:"), "it leads elsewhere: {text}");
    let mut found = 0;
    for part in text.split(['"', '\'']).filter(|part| part.starts_with("/api/")) {
        let file = local.get(part);
        assert_eq!(file.status, 200, "{part}");
        found += 1;
    }
    assert!(found >= 7, "{found}");
    let script = local.get("/api/docs/swagger-ui-bundle.js");
    assert_eq!(script.header("content-encoding"), Some("gzip"));
    assert!(String::from_utf8(unpacked(&script.body)).unwrap().contains("SwaggerUIBundle"));
    assert_eq!(local.get("/api/docs/nothing").status, 404);
    let nobody = Browser::new(&server).get("/api/docs/swagger-ui.css");
    assert!(nobody.status == 303 || nobody.status == 401, "{}", nobody.status);
}
