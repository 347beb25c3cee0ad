//! Settings and the audit by the pages, without scripts.

use callboard_proto::admin::{Freeze, Site, User};
use callboard_tests::{
    browser::{Browser, PASSWORD, text},
    server::TestServer,
};

use crate::on_both;

fn hours_of_a_site(server: &TestServer, root: &Browser) {
    server.api().try_post("sites/import", &serde_json::json!({ "sites": [{ "id": "A", "tz": "UTC" }] })).ok();
    let hours = |typed: &str| root.post("/settings/sites/A", &[("trading_hours", typed)]);
    let wrong = hours("mon-sat 08:00 20:00");
    assert!(wrong.status == 422 && wrong.text().contains("is not a span such as 08:00-20:00"), "{}", wrong.text());
    assert_eq!(hours("mon-sat 08:00-20:00\n\nsun 10:00-18:00\n").status, 303);
    let site: Site = server.api().get("sites/A");
    let days: Vec<usize> = site.trading_hours.iter().map(|span| span.days.len()).collect();
    assert_eq!(days, [6, 1], "{:?}", site.trading_hours);
    assert!(root.page("/settings/sites/A").contains("\nmon-sat 08:00-20:00\nsun 10:00-18:00</textarea>"));
    assert_eq!(hours("").status, 303);
    assert_eq!(server.api().get::<Site>("sites/A").trading_hours, []);
}

#[test]
fn an_admin_lets_people_in_and_makes_tokens_webhooks_and_freezes() {
    on_both(|server| {
        // Who looks at the server itself, before there are people, has nothing of its own.
        let local = Browser::at_the_server(server).page("/settings");
        assert!(local.contains("You have not logged in"), "{local}");
        let root = Browser::of(server, "admin");
        let wrong = root.post("/settings/people", &[("name", "ada"), ("role", ""), ("grant-selector", "")]);
        assert!(wrong.status == 422 && wrong.text().contains("choose a role"), "{}", wrong.text());
        assert!(wrong.text().contains("value=\"ada\""), "{}", wrong.text());
        let north = [("name", "ada"), ("role", "operator"), ("grant-selector", "region ="), ("password", PASSWORD)];
        let wrong = root.post("/settings/people", &north);
        assert!(wrong.status == 422 && wrong.text().contains("grants[0].selector: column 9"), "{}", wrong.text());
        assert!(wrong.text().contains("value=\"region =\"") && !wrong.text().contains(PASSWORD), "{}", wrong.text());
        let made = root
            .post("/settings/people", &[("name", "ada"), ("role", "operator"), ("grant-selector", "region = north")]);
        assert!(made.status == 200 && made.text().contains("Password, shown this once"), "{}", made.text());
        let page =
            root.submit("/settings/people/ada", &[("deed", "grants"), ("role", "viewer"), ("grant-selector", "")]);
        assert!(text(&page).contains("What this person may do was changed."), "{page}");
        root.submit("/settings/people/ada", &[("deed", "password"), ("password", PASSWORD)]);
        let ada = Browser::new(server);
        ada.log_in("ada");
        assert!(text(&root.page("/settings/people/ada")).contains("127.0.0.1"));
        let last = root.post("/settings/people/admin", &[("deed", "disable")]);
        // The token of the test is an admin's too.
        assert_eq!(last.status, 303, "{}", last.text());
        server.cli(["user", "enable", "admin"]).ok();
        root.log_in("admin");
        root.submit("/settings/people/ada", &[("deed", "disable")]);
        assert!(ada.get("/rollouts").header("location").unwrap().starts_with("/login"));

        let token = root
            .post("/settings/tokens", &[("name", "script"), ("role", "viewer"), ("grant-selector", ""), ("days", "1")]);
        assert!(token.status == 200 && token.text().contains("cba_"), "{}", token.text());
        let wrong = root
            .post("/settings/tokens", &[("name", "other"), ("role", "viewer"), ("grant-selector", ""), ("days", "0")]);
        assert!(wrong.status == 422 && wrong.text().contains("1 to 3660 days are allowed"), "{}", wrong.text());
        root.submit("/settings/tokens/revoke", &[("token", "script")]);
        assert!(text(&root.page("/settings/tokens")).contains("revoked"));

        let wrong = root.post("/settings/webhooks", &[("name", "desk"), ("url", "ftp://x")]);
        assert!(wrong.status == 422 && wrong.text().contains("is not one of a web server"), "{}", wrong.text());
        let made = root.post("/settings/webhooks", &[("name", "desk"), ("url", "http://127.0.0.1:1/hook")]);
        assert!(made.status == 200 && made.text().contains("cbw_"), "{}", made.text());
        let tested = root.submit("/settings/webhooks/desk", &[("deed", "test")]);
        assert!(text(&tested).contains("The test was not taken") && text(&tested).contains("given up"), "{tested}");
        root.submit("/settings/webhooks/desk", &[("deed", "delete")]);

        let freeze = [("name", "winter"), ("reason", "holidays"), ("from", "2027-12-20"), ("to", "2027-12-10")];
        let wrong = root.post("/settings/freezes", &freeze);
        assert!(wrong.status == 422 && wrong.text().contains("value=\"holidays\""), "{}", wrong.text());
        let freeze = [("name", "winter"), ("reason", "holidays"), ("from", "2027-12-20"), ("to", "2027-12-31")];
        root.submit("/settings/freezes", &freeze);
        assert_eq!(server.api().list::<Freeze>("freezes").len(), 1);
        root.submit("/settings/freezes/delete", &[("freeze", "winter")]);

        hours_of_a_site(server, &root);

        // Everything of that stands in the audit, with what was before and after, and the chain is whole.
        let audit = root.page("/audit?kind=user");
        assert!(text(&audit).contains("user.grants") && !text(&audit).contains("freeze.created"), "{audit}");
        assert!(audit.contains("<del>operator</del>") && audit.contains("<ins>viewer</ins>"), "{audit}");
        assert!(text(&root.page("/audit?who=nobody")).contains("No change fits."));
        assert!(text(&root.page("/audit/check")).contains("The chain is whole"));
        let export = root.get("/audit/export");
        assert_eq!(export.header("content-disposition"), Some("attachment; filename=\"audit.jsonl\""));
        let file = server.home().join("audit.jsonl");
        std::fs::write(&file, &export.body).unwrap();
        server.cli(["audit", "verify", file.to_str().unwrap()]).ok();
    });
}

#[test]
fn a_person_changes_the_own_password_and_switches_codes_on() {
    on_both(|server| {
        let ada = Browser::of(server, "viewer");
        let change = |old: &str, new: &str, again: &str| {
            ada.post("/settings/password", &[("old-password", old), ("new-password", new), ("again-password", again)])
        };
        let new = "another horse battery";
        for (answer, said) in [
            (change("wrong", new, new), "old is not the password so far"),
            (change(PASSWORD, "short", "short"), "12 to 128 are allowed"),
            (change(PASSWORD, new, PASSWORD), "this is not the same"),
        ] {
            assert!(answer.status == 422 && answer.text().contains(said), "{said}: {}", answer.text());
        }
        assert_eq!(change(PASSWORD, new, new).header("location"), Some("/settings"));
        let begun = ada.post("/settings/totp", &[("deed", "begin"), ("password", new)]);
        let page = begun.text();
        assert!(begun.status == 200 && page.contains("<svg") && page.contains("Switch codes on"), "{page}");
        assert!(!page.contains("<?xml"), "{page}");
        let secret = page.split("name=\"secret\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let wrong = ada.post("/settings/totp", &[("deed", "confirm"), ("code", "000000"), ("secret", secret)]);
        assert!(wrong.status == 422 && wrong.text().contains("code is not what the app shows"), "{}", wrong.text());
        assert!(wrong.text().contains(secret) && wrong.text().contains("<svg"), "{}", wrong.text());
        assert!(!server.api().list::<User>("users")[0].totp, "it does not count yet");
    });
}
