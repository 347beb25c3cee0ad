//! Who answers at all: certificates, and answers that are no answers.

use callboard_proto::paths;
use callboard_tests::hostile::{Answer, End, Stolen};

use super::{
    Case, Show,
    Sign::{Counts, KeepsQuiet, Says},
    answer,
};

/// The right answers of a server that shows another certificate. Nothing is said to it.
fn shows(name: &'static str, tls: Box<Show>) -> Case {
    Case { tls, never: Some("/"), ..answer(name, KeepsQuiet, |_, _| None) }
}

/// Every check-in is answered so.
fn check_in(name: &'static str, make: fn() -> Answer) -> Case {
    answer(name, KeepsQuiet, move |_, asked| (asked.path == paths::CHECK_IN).then(|| make().end(End::Cut)))
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        shows("a certificate that nobody has issued", Box::new(Stolen::self_signed)),
        shows("a certificate of another CA", Box::new(|stolen| stolen.certificate(false, "127.0.0.1", 2040))),
        shows("a certificate for another name", Box::new(|stolen| stolen.certificate(true, "example.com", 2040))),
        // It may be that the device's clock is wrong: it is asked for the time, and for nothing else.
        Case {
            tls: Box::new(|stolen| stolen.certificate(true, "127.0.0.1", 2021)),
            never: Some("/payloads/"),
            ..answer("a certificate that has expired", Says("tls"), |_, _| None)
        },
        check_in("status 403 to a check-in", || Answer::status(403)),
        check_in("status 404 to a check-in", || Answer::status(404)),
        check_in("status 429 to a check-in", || Answer::status(429).header("retry-after", "99999999999")),
        check_in("status 500 to a check-in", || Answer::status(500)),
        check_in("status 503 to a check-in", || Answer::status(503).header("retry-after", "soon")),
        check_in("a redirect of a check-in", || Answer::status(307).header("location", "https://example.com/")),
        check_in("no answer to a check-in", || Answer::ok([]).header("content-length", "100")),
        answer("a check-in answered by a byte now and then", Counts("slow"), |_, asked| {
            (asked.path == paths::CHECK_IN).then(|| Answer::ok(vec![b' '; 10_000]).end(End::Trickle))
        }),
    ]
}
