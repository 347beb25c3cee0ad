//! API tokens: who is let in, by which name the log knows them, and that nobody locks everybody out by accident.

use callboard_proto::{
    admin::{ApiToken, ApiTokenCreated, Event, Page, Site},
    problem::Code,
};
use callboard_tests::{api::Api, server::TestServer};
use serde_json::{Value, json};
use std::fs;

use crate::{on_both, refused};

fn made(server: &TestServer, name: &str) -> (ApiTokenCreated, Api) {
    let made: ApiTokenCreated = server.cli(["--output", "json", "api-token", "create", name]).json();
    let api = Api { address: server.api().address, token: made.token.clone() };
    (made, api)
}

#[test]
fn a_token_of_ones_own_does_everything_under_its_name_until_it_is_revoked() {
    on_both(|server| {
        let (token, api) = made(server, "Ada");
        assert_eq!((token.name.as_str(), &token.token[..4]), ("Ada", "cba_"));
        let freeze = json!({ "name": "f", "reason": "a", "from": "2027-02-01", "to": "2027-02-01" });
        assert_eq!(api.post::<Value>("freezes", &freeze)["created_by"], "Ada");
        let shown = server.cli(["api-token", "list"]).ok().stdout.clone();
        assert!(shown.contains("Ada") && shown.contains("first admin") && !shown.contains("cba_"), "{shown}");
        assert!(!shown.contains(&token.token[31..]), "{shown}");
        server.cli(["api-token", "revoke", "Ada"]).ok();
        refused(
            &api.try_get("sites"),
            Code::Unauthorized,
            "this server does not know the API token, or it was revoked",
        );
        let listed: Vec<ApiToken> = server.api().list("api-tokens");
        let revoked: Vec<bool> = listed.iter().map(|token| token.revoked_at.is_some()).collect();
        assert_eq!(revoked, [true, false]);
        // Again is no error, and the name is free.
        server.cli(["api-token", "revoke", &token.id.to_string()]).ok();
        made(server, "Ada");
        let events: Vec<Event> = server.api().list("events");
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds[..4], ["api_token.created", "api_token.revoked", "freeze.created", "api_token.created"]);
        assert!(events[1].text.contains("API token \"Ada\"") && events[1].text.ends_with("by first admin"));
        assert!(events.iter().all(|event| !event.text.contains("cba_")));
    });
}

#[test]
fn names_are_given_once_and_can_be_read() {
    on_both(|server| {
        made(server, "Ada");
        let post = |name: &str| server.api().try_post("api-tokens", &json!({ "name": name }));
        for name in ["Ada", "ada", " ADA "] {
            let shown = name.trim();
            refused(&post(name), Code::Conflict, &format!("there is an API token {shown:?} already"));
        }
        // Cyrillic, fullwidth, with a space that is not seen, with two of them: all would pass for Ada or for her script.
        for name in ["", "  ", "a\u{7}b", &"x".repeat(65), "\u{410}da", "\u{ff21}da", "A\u{200b}da", "her  script"] {
            refused(&post(name), Code::Invalid, "1 to 64 printable ASCII characters with single spaces");
        }
        refused(&server.api().try_delete("api-tokens/Bob"), Code::NotFound, "there is no API token Bob");
        assert_eq!(server.api().list::<ApiToken>("api-tokens").len(), 2);
        let page: Page<ApiToken> = server.api().get("api-tokens?limit=1");
        assert_eq!((page.items.len(), page.next.is_some()), (1, true));
    });
}

#[test]
fn the_last_token_is_revoked_only_by_force_and_the_data_directory_makes_another() {
    on_both(|server| {
        let refusal = server.cli(["api-token", "revoke", "first admin"]);
        let said = "API token \"first admin\" is the last one that can be used";
        assert!(refusal.refused(1).contains(said) && refusal.stderr.contains("--force"), "{}", refusal.stderr);
        server.cli(["api-token", "revoke", "first admin", "--force"]).ok();
        refused(&server.api().try_get("sites"), Code::Unauthorized, "was revoked");
        // The server runs all the while.
        let dir = server.dir();
        let rescued = server.cli(["--output", "json", "api-token", "create", "Ada", "--dir", dir.to_str().unwrap()]);
        let api = Api { address: server.api().address, token: rescued.json::<ApiTokenCreated>().token };
        assert_eq!(api.list::<Site>("sites"), []);
        assert!(api.list::<Event>("events")[0].text.ends_with("was made by whoever has the data directory"));
        let again = server.cli(["api-token", "create", "Ada", "--dir", dir.to_str().unwrap()]);
        assert!(again.refused(2).contains("already"), "{}", again.stderr);
        // Nobody locks oneself out unawares, even where there is another.
        api.post::<ApiTokenCreated>("api-tokens", &json!({ "name": "Bob" }));
        refused(&api.try_delete("api-tokens/Ada"), Code::WrongState, "\"Ada\" is the one that you use");
        api.try_delete("api-tokens/Ada?force=true").ok();
    });
}

#[test]
fn a_wrong_token_is_said_to_be_wrong_and_where_it_came_from() {
    on_both(|server| {
        let profile = server.home().join("other.toml");
        let url = format!("http://{}", server.api().address);
        let wrong = format!("cba_{0}_{0}", "a".repeat(26));
        fs::write(&profile, format!("server = \"{url}\"\ntoken = \"{wrong}\"\n")).unwrap();
        let ask = |flags: &[&str], variable: Option<&str>| {
            let mut command = server.command();
            command.args(["site", "list"]).args(flags);
            command.env_remove("CALLBOARD_TOKEN").env_remove("CALLBOARD_SERVER").env_remove("CALLBOARD_PROFILE");
            if let Some(token) = variable {
                command.env("CALLBOARD_TOKEN", token);
            }
            let done = command.output().unwrap();
            (done.status.code(), String::from_utf8(done.stderr).unwrap())
        };
        let profile = profile.to_str().unwrap();
        let from_profile = format!("the profile {profile}");
        for (flags, variable, from) in [
            (&["--server", url.as_str(), "--token", wrong.as_str()][..], None, "--token"),
            (&["--server", url.as_str()][..], Some(wrong.as_str()), "CALLBOARD_TOKEN"),
            (&["--profile", profile][..], None, from_profile.as_str()),
        ] {
            let (code, said) = ask(flags, variable);
            let wanted = format!(
                "callboard: {url} does not accept the token of {from} (another one: --token, CALLBOARD_TOKEN, \
                 --profile, or callboard api-token create): this server does not know the API token, or it was revoked\n"
            );
            assert_eq!((code, said), (Some(1), wanted));
        }
        let (code, said) = ask(&["--profile", "nobody"], None);
        assert!(code == Some(2) && said.contains("there is no profile") && said.contains("nobody.toml"), "{said}");
        refused(
            &Api { address: server.api().address, token: "nonsense".to_owned() }.try_get("sites"),
            Code::Unauthorized,
            "that is no API token: one is cba_",
        );
    });
}
