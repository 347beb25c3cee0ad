//! Enrolment on its page: tokens, and machines that wait to be let in.

use callboard_proto::{admin::Token, problem::Code};
use callboard_tests::{
    browser::{Browser, text},
    device::{FakeDevice, Key, enrolment, try_enrol},
};
use serde_json::json;

use crate::on_both;

/// What stands between two texts, as a browser reads it.
fn between(page: &str, before: &str, after: &str) -> String {
    let found = page.split(before).nth(1).unwrap().split(after).next().unwrap();
    found.replace("&#34;", "\"").replace("&#39;", "'").replace("&#60;", "<").replace("&#62;", ">").replace("&#38;", "&")
}

#[test]
fn a_token_is_made_shown_once_with_its_command_and_revoked() {
    on_both(|server| {
        server.import_fleet();
        let ada = Browser::of(server, "operator");
        let path = "/enrolment/tokens";
        let form = |site: &'static str, labels: &'static str, uses: &'static str, days: &'static str| {
            [
                ("site", site),
                ("labels", labels),
                ("max_uses", uses),
                ("days", days),
                ("serial_pattern", ""),
                ("device", ""),
            ]
        };
        for (fields, said) in [
            (form("NOWHERE", "", "1", "7"), "there is no site NOWHERE"),
            (form("", "x", "1", "7"), "&#34;x&#34; is not key=value"),
            (form("", "", "many", "7"), "invalid digit found in string"),
            (form("", "", "0", "7"), "max_uses is 0; 1 to"),
            (form("", "", "1", "9999"), "ttl_s is"),
        ] {
            let wrong = ada.post(path, &fields);
            assert_eq!(wrong.status, 422, "{}", wrong.text());
            assert!(wrong.text().contains(said), "{said}: {}", wrong.text());
        }
        assert!(server.api().list::<Token>("tokens").is_empty());
        let made = ada.post(path, &form("NYC-001", "lane=4", "2", "7"));
        assert_eq!((made.status, made.header("cache-control")), (200, Some("no-store")), "{}", made.text());
        let command = between(&made.text(), "<pre id=\"command\" tabindex=\"0\">", "</pre>");
        let json = between(&command, "printf %s '", "' >");
        let bundle: callboard_proto::enrol::Bundle = serde_json::from_str(&json.replace("'\\''", "'")).unwrap();
        let mut till = FakeDevice::enrol_with(server, &enrolment(&bundle.token, &Key::new()).named("till-1"));
        till.check_in();
        let listed = ada.page("/enrolment");
        assert!(!listed.contains(&bundle.token), "it is shown once");
        assert!(text(&listed).contains("1 of 2 | site NYC-001 | lane=4"), "{}", text(&listed));
        let id = server.api().list::<Token>("tokens")[0].id;
        let revoked = ada.submit(&format!("{path}/{id}/revoke"), &[]);
        assert!(
            revoked.contains("The token is revoked.") && text(&revoked).contains("| revoked | 1 of 2"),
            "{revoked}"
        );
    });
}

#[test]
fn machines_that_wait_are_let_in_or_rejected() {
    on_both(|server| {
        let token = server.enrolment_token(&json!({ "auto_approve": false, "max_uses": 5 }));
        let [one, two] = ["till-1", "till-2"].map(|name| enrolment(&token, &Key::new()).named(name));
        for request in [&one, &two] {
            try_enrol(server, &request.body).problem(Code::EnrolmentPending);
        }
        let ada = Browser::of(server, "operator");
        let page = ada.page("/enrolment");
        let id = |name: &str| {
            let card = page.split("<article").find(|card| card.contains(&format!("<b>{name}</b>"))).unwrap();
            between(card, "action=\"/enrolment/", "/accept\"")
        };
        assert!(ada.page("/").contains("<b>2</b> waiting to enrol"));
        assert_eq!(ada.post(&format!("/enrolment/{}/accept", id("till-1")), &[("name", "no name")]).status, 400);
        let let_in = ada.submit(&format!("/enrolment/{}/accept", id("till-1")), &[("name", "till-9")]);
        assert!(let_in.contains("till-9 is let in the next time that it asks."), "{let_in}");
        assert_eq!(FakeDevice::enrol_with(server, &one).name.as_str(), "till-9");
        assert!(ada.submit(&format!("/enrolment/{}/reject", id("till-2")), &[]).contains("It is refused each time"));
        try_enrol(server, &two.body).problem(Code::EnrolmentRejected);
    });
}
