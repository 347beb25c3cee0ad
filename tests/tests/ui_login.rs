//! Logging in and out by the pages, the first person of a new server, and forms whose session had ended.

use callboard_proto::{
    admin::{Rollout, Session, User},
    problem::Code,
};
use callboard_tests::{
    browser::{Browser, PASSWORD, text},
    http::Request,
    release::NewRelease,
    server::TestServer,
    world::rollout,
};
use data_encoding::BASE64;
use serde_json::json;

use crate::{on_both, refused};

#[test]
fn the_first_person_is_whoever_has_the_admin_token() {
    on_both(|server| {
        let browser = Browser::new(server);
        let welcome = browser.get("/login?next=/");
        assert!(text(&welcome.text()).contains("Nobody is known here yet."), "{}", welcome.text());
        let token = server.api().token;
        let ask = |token: &str, name: &str, password: &str| {
            browser.post_raw("/login/first", &[("token", token), ("name", name), ("password", password)])
        };
        for (token, name, password, said) in [
            ("cba_x", "ada", PASSWORD, "that is no API token"),
            (token.as_str(), "ada", "short", "the password has 5 bytes; 12 to 128 are allowed"),
            (token.as_str(), "first admin", PASSWORD, "there is an API token &#34;first admin&#34;"),
            (token.as_str(), "ada", "", "choose a password"),
        ] {
            let answer = ask(token, name, password);
            assert_eq!(answer.status, 422, "{}", answer.text());
            assert!(answer.text().contains(said), "{said}: {}", answer.text());
            assert!(answer.text().contains(&format!("value=\"{name}\"")), "{}", answer.text());
            assert!(!answer.text().contains(PASSWORD) && !answer.text().contains(token), "{}", answer.text());
        }
        NewRelease::new("pos-app", "2.0.0", 1).publish(server);
        server.api().post::<Rollout>("rollouts", &rollout("r", "pos-app@2.0.0", &json!({})));
        server.api_of("script").post::<Rollout>("rollouts", &rollout("by-script", "pos-app@2.0.0", &json!({})));
        let made = ask(&token, "ada", PASSWORD);
        assert_eq!((made.status, made.header("location")), (303, Some("/")), "{}", made.text());
        let page = browser.page("/");
        assert!(text(&page).starts_with("Welcome, ada. You are the first admin."), "{page}");
        assert!(!browser.page("/").contains("You are the first admin"), "it is said once");
        assert_eq!(server.api().list::<User>("users").len(), 1);
        // It is over then.
        // Nobody is a second person beside what was made with the tokens from before.
        for (name, by) in [("r", "first admin"), ("by-script", "script")] {
            let path = format!("/api/v1/rollouts/{name}/countersign");
            let asked = Request::post(path).header("sec-fetch-site", "same-origin").json(&json!({}));
            let said = format!("ada is behind {by}, who made or changed rollout {name}");
            refused(&browser.send(asked), Code::WrongState, &said);
        }
        let second = Browser::new(server);
        assert!(second.page("/login").contains("<h1>Log in</h1>"));
        let again = second.post_raw("/login/first", &[("token", &token), ("name", "eve"), ("password", PASSWORD)]);
        assert_eq!((again.status, again.header("location")), (303, Some("/login")));
        assert_eq!(server.api().list::<User>("users").len(), 1);
    });
}

#[test]
fn a_login_goes_where_it_was_asked_to_on_this_server_and_a_logout_ends_it() {
    on_both(|server| {
        let ada = Browser::of(server, "viewer");
        let sessions = |server: &TestServer| server.api().get::<Vec<Session>>("users/viewer/sessions").len();
        assert_eq!(sessions(server), 1);
        let page = ada.page("/");
        assert!(page.contains("viewer <small>viewer</small>") && page.contains("action=\"/logout\""), "{page}");
        assert!(page.contains("<a href=\"/\" aria-current=\"page\">Overview</a>"), "{page}");
        assert_eq!(ada.post("/logout", &[]).header("location"), Some("/login"));
        assert!(ada.page("/login").contains("You have logged out."));
        assert_eq!((ada.get("/").status, sessions(server)), (303, 0));

        let fields = |next: &'static str| [("name", "viewer"), ("password", PASSWORD), ("next", next)];
        for (next, to) in [("/x?a=b", "/x?a=b"), ("//evil.example.com", "/"), ("https://evil.example.com/", "/")] {
            assert_eq!(ada.post_raw("/login", &fields(next)).header("location"), Some(to));
        }
        let wrong = ada.post_raw("/login", &[("name", "<b>ada"), ("password", "wrong horse battery"), ("next", "/x")]);
        assert_eq!(wrong.status, 401);
        for kept in ["name, password or code is wrong", "value=\"&#60;b&#62;ada\"", "name=\"next\" value=\"/x\""] {
            assert!(wrong.text().contains(kept), "{kept}: {}", wrong.text());
        }
        assert!(!wrong.text().contains("wrong horse"), "{}", wrong.text());
        // No browser asks for a password because a script of a page is refused.
        for (mode, asks) in [("navigate", true), ("cors", false)] {
            let request = Request::get("/api/v1/events/stream").header("sec-fetch-mode", mode);
            let answer = server.api().send_raw(request);
            assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, asks), "{mode}");
        }
        // Another site's page logs nobody in.
        for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example.com")] {
            let request = Request::post("/login").header(name, value);
            let answer = server.api().send_raw(request.body("application/x-www-form-urlencoded", "name=viewer"));
            assert_eq!(answer.status, 403, "{}", answer.text());
        }
    });
}

#[test]
fn what_was_typed_before_a_session_ended_can_be_sent_after_another_login() {
    on_both(|server| {
        let ada = Browser::with(server, "ada", &json!([{ "role": "operator" }]));
        let old = ada.token();
        ada.forget();
        let typed =
            [("csrf", old.as_str()), ("reason", "a <b>broken</b> drawer\r\n\"2\""), ("new-password", "secret-9")];
        let asked = ada.post_raw("/logout", &typed);
        assert_eq!(asked.status, 401);
        let page = asked.text();
        assert!(page.contains("What you typed is kept"), "{page}");
        assert!(!page.contains("secret-9") && !page.contains(&old), "{page}");
        let kept = page.split("name=\"kept\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let kept = kept.replace("&#34;", "\"").replace("&#60;", "<").replace("&#62;", ">").replace("&#38;", "&");
        let login = [("name", "ada"), ("password", PASSWORD), ("next", "/logout"), ("kept", &kept)];
        let shown = ada.post_raw("/login", &login);
        let page = shown.text();
        assert_eq!(shown.status, 200, "{page}");
        assert!(page.contains("<form method=\"post\" action=\"/logout\">"), "{page}");
        assert!(page.contains("a &#60;b&#62;broken&#60;/b&#62; drawer\n&#34;2&#34;"), "{page}");
        assert!(page.contains(&ada.token()) && !page.contains(&old), "{page}");
    });
}

#[test]
fn what_another_sites_page_sends_is_neither_kept_nor_done() {
    on_both(|server| {
        let ada = Browser::of(server, "admin");
        let form = |path: &str, from: &str| {
            let request =
                Request::post(path).header("sec-fetch-site", from).header("origin", "http://evil.example.com");
            request.body("application/x-www-form-urlencoded", "deed=grants&role=admin")
        };
        // The browser leaves the cookie out, and the form would be shown as what somebody had typed.
        let sent = Browser::new(server).send(form("/settings/people/ada", "cross-site"));
        assert!(sent.status == 403 && !sent.text().contains("deed"), "{}", sent.text());
        // A token that a browser remembers as a password goes with whatever page asks.
        let basic = format!("Basic {}", BASE64.encode(format!("x:{}", server.api().token).as_bytes()));
        let disable = "/api/v1/users/admin/disable";
        let sent = server.api().send_raw(form(disable, "cross-site").header("authorization", basic.as_str()));
        assert!(sent.problem(Code::Forbidden).contains("another site's page"), "{}", sent.text());
        ada.page("/");
        let by_hand = Request::post("/api/v1/users/admin/totp").header("authorization", basic.as_str());
        server.api().send_raw(by_hand.json(&json!({}))).ok();
    });
}
