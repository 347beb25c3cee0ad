//! The client against servers whose certificates, bodies and manners are not as they should be.

use std::time::Duration;

use callboard_proto::time::Timestamp;

use super::*;
use crate::{
    clock::Clock,
    testing::server::{Answer, Asked, NETWORK, TestServer, Years},
};

/// 2026-11-18
const NOW: Timestamp = crate::testing::NOW;
const VALID: Years = (2020, 2040);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// A clock that says `now`, because a signed answer did.
fn clock(now: Timestamp) -> Arc<Clock> {
    let clock = Clock::new(Timestamp::from_millis(0));
    let _ = clock.attest(now);
    Arc::new(clock)
}

async fn ask(client: &Client, dates: Dates) -> Result<Bytes, ClientError> {
    client.post("/", b"question".to_vec(), 100, dates).await
}

#[test]
fn requests_share_one_connection_until_it_is_closed() {
    block_on(async {
        let server = TestServer::start(VALID, |_| Answer::ok("answer")).await;
        let client = server.client(&clock(NOW));
        for _ in 0..3 {
            assert_eq!(ask(&client, Dates::Matter).await.expect("an answer"), "answer");
        }
        client.close();
        ask(&client, Dates::Matter).await.expect("an answer");
        let connections: Vec<usize> = server.asked().iter().map(|asked| asked.connection).collect();
        assert_eq!(connections, [0, 0, 0, 1]);
    });
}

#[test]
fn a_certificate_that_is_out_of_date_is_refused_but_for_asking_the_time() {
    for years in [(2010, 2020), (2030, 2040)] {
        block_on(async {
            let server = TestServer::start(years, |_| Answer::ok("answer")).await;
            let client = server.client(&clock(NOW));
            let error = ask(&client, Dates::Matter).await.expect_err("refused");
            assert_eq!(error.code(), "tls", "{error}");
            assert!(client.range("/", "bytes=0-").await.is_err(), "recovery mode cannot fetch payloads");
            for connection in 0..2 {
                ask(&client, Dates::MayBeWrong).await.expect("an answer");
                assert!(client.get("/", 100, Dates::Matter).await.is_err(), "the connection is not kept for documents");
                assert_eq!(server.asked().len(), connection + 1);
            }
        });
    }
}

#[test]
fn a_device_with_a_wrong_clock_learns_the_time_and_goes_on_normally() {
    block_on(async {
        let server = TestServer::start((2027, 2028), |_| Answer::ok("answer")).await;
        let clock = Arc::new(Clock::new(Timestamp::from_millis(0)));
        let client = server.client(&clock);
        ask(&client, Dates::MayBeWrong).await.expect("an answer");
        let _ = clock.attest("2027-06-01T00:00:00Z".parse().expect("a time"));
        client.get("/", 100, Dates::Matter).await.expect("the certificate is valid now");
    });
}

#[test]
fn a_server_of_another_ca_is_refused_even_when_asking_the_time() {
    block_on(async {
        let server = TestServer::start(VALID, |_| Answer::ok("answer")).await;
        let other = TestServer::start((2010, 2020), |_| Answer::ok("answer")).await;
        for address in [server.address, other.address] {
            let endpoint = Endpoint::parse(&format!("https://{address}")).expect("an address");
            let strange_ca = if address == server.address { &other.ca_pem } else { &server.ca_pem };
            let client = Client::new(endpoint, strange_ca, None, &clock(NOW), NETWORK).expect("a client");
            assert_eq!(ask(&client, Dates::MayBeWrong).await.expect_err("refused").code(), "tls");
        }
        assert!(server.asked().is_empty() && other.asked().is_empty());
    });
}

#[test]
fn a_server_of_another_name_is_refused_even_when_asking_the_time() {
    block_on(async {
        let server = TestServer::start((2010, 2020), |_| Answer::ok("answer")).await;
        let endpoint = Endpoint::parse(&format!("https://localhost:{}", server.address.port())).expect("an address");
        let client = Client::new(endpoint, &server.ca_pem, None, &clock(NOW), NETWORK).expect("a client");
        assert!(ask(&client, Dates::MayBeWrong).await.is_err());
        assert!(server.asked().is_empty());
    });
}

#[test]
fn a_body_over_the_limit_is_refused() {
    block_on(async {
        let server = TestServer::start(VALID, |_| Answer::ok(vec![0; 101])).await;
        let error = ask(&server.client(&clock(NOW)), Dates::Matter).await.expect_err("refused");
        assert_eq!(error.attack(), Some(crate::words::Attack::Oversize));
    });
}

#[test]
fn redirects_are_not_followed() {
    block_on(async {
        let server = TestServer::start(VALID, |_| Answer::status(307).header("location", "/elsewhere")).await;
        let error = ask(&server.client(&clock(NOW)), Dates::Matter).await.expect_err("refused");
        assert_eq!(error.to_string(), "get an answer: HTTP status 307");
        assert_eq!(server.asked().len(), 1);
    });
}

#[test]
fn an_encoded_body_is_refused() {
    block_on(async {
        let server = TestServer::start(VALID, |_| Answer::ok("x").header("content-encoding", "gzip")).await;
        let error = ask(&server.client(&clock(NOW)), Dates::Matter).await.expect_err("refused");
        assert_eq!(error.code(), "encoded");
    });
}

#[test]
fn a_problem_is_told_with_its_code_and_retry_after() {
    block_on(async {
        let problem = r#"{"type":"urn:callboard:problem:unavailable","title":"t","status":503,"code":"unavailable",
            "detail":"come\u001b back"}"#;
        let server =
            TestServer::start(VALID, move |_| Answer { status: 503, ..Answer::ok(problem) }.header("retry-after", "9"))
                .await;
        let error = ask(&server.client(&clock(NOW)), Dates::Matter).await.expect_err("refused");
        assert_eq!(error.to_string(), "get an answer: HTTP status 503, unavailable: come  back");
        assert_eq!((error.code(), error.retry_after()), ("unavailable", Some(Duration::from_secs(9))));
    });
}

#[test]
fn whatever_was_signed_at_the_wrong_time_is_signed_again_by_the_servers_clock_and_once() {
    let date = "Mon, 23 Nov 2026 02:00:00 GMT";
    let problem = r#"{"type":"urn:callboard:problem:signature_expired","title":"t","status":401,
        "code":"signature_expired","detail":"d"}"#;
    let refused = move || Answer { status: 401, ..Answer::ok(problem) }.header("date", date);
    let created = |asked: &Asked| -> i64 {
        let rest = asked.signed.as_ref().and_then(|input| input.split_once(";created=")).expect("signed").1;
        rest.split(';').next().expect("a number").parse().expect("a number")
    };
    let in_time = move |asked: &Asked| created(asked).abs_diff(1_795_399_200) < 60;
    let signing = |server: &TestServer| {
        let (own, key) = crate::testing::identity();
        let credentials = Credentials::from_pem(&own.certificate_pem, key.as_bytes()).expect("credentials");
        let endpoint = Endpoint::parse(&format!("https://{}", server.address)).expect("an address");
        let network = Network { shows: Shows::Signature, ..NETWORK };
        Client::new(endpoint, &server.ca_pem, Some(credentials), &clock(NOW), network).expect("a client")
    };
    block_on(async {
        let server = TestServer::start(VALID, move |asked| match in_time(asked) {
            true => Answer::part(b"answer", asked.range.as_deref()),
            false => refused(),
        });
        let server = server.await;
        for ranged in [false, true] {
            let client = signing(&server);
            match ranged {
                false => assert_eq!(ask(&client, Dates::Matter).await.expect("an answer"), "answer"),
                true => {
                    let stream = client.range("/", "bytes=2-").await.expect("an answer");
                    assert_eq!(stream.response.into_body().collect().await.expect("a body").to_bytes(), "swer");
                }
            }
            let times: Vec<bool> = server.asked().iter().map(in_time).collect();
            assert_eq!(times, [false, true].repeat(1 + usize::from(ranged)));
        }
        // A server that is never content is not asked for ever.
        let server = TestServer::start(VALID, move |_| refused()).await;
        let client = signing(&server);
        assert_eq!(ask(&client, Dates::Matter).await.expect_err("refused").code(), "signature_expired");
        assert_eq!(client.range("/", "bytes=2-").await.err().expect("refused").code(), "signature_expired");
        assert_eq!(server.asked().len(), 4);
    });
}

#[test]
fn a_server_that_stops_while_it_is_asked_is_told_in_plain_words() {
    block_on(async {
        let server = TestServer::start(VALID, |_| Answer::none()).await;
        let error = ask(&server.client(&clock(NOW)), Dates::Matter).await.expect_err("cut off");
        assert_eq!(error.to_string(), "get an answer: the server closed the connection");
        assert_eq!(error.code(), "http");
    });
}

#[test]
fn nobody_listening_is_unreachable() {
    block_on(async {
        let server = TestServer::start(VALID, |_| Answer::ok("x")).await;
        let client = server.client_of_nobody(&clock(NOW));
        let error = ask(&client, Dates::MayBeWrong).await.expect_err("refused");
        assert!(error.is_unreachable(), "{error}");
    });
}
