//! Who may see and do what on pages: every route of the pages for every role, and for nobody.

use std::{collections::BTreeMap, fs};

use callboard_proto::admin::{Permission, Role};
use callboard_tests::{browser::Browser, http::Request};

use crate::on_both;

/// Pages for whoever is not known yet, and the end of a session, which every role has.
const FOR_EVERYBODY: [&str; 5] =
    ["/assets/{name}", "/login", "/login/first", "/login/provider", "/login/provider/callback"];

/// A route of a page, and what its handler takes.
struct Route {
    method: &'static str,
    path: String,
    permission: Permission,
}

fn source(path: &str) -> String {
    fs::read_to_string(format!("{}/../server/src/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The routes of the table in the source, with the permission that stands in each handler's signature.
fn routes() -> Vec<Route> {
    let table = source("http.rs");
    let table = table.split("fn page_routes").nth(1).unwrap().split("\n}\n").next().unwrap();
    let mut found = Vec::new();
    for statement in table.split(';').filter(|statement| statement.contains("page(\"/")) {
        let path = statement.split("page(\"").nth(1).unwrap().split('"').next().unwrap();
        if FOR_EVERYBODY.contains(&path) {
            continue;
        }
        for (word, method) in [("get().to(", "GET"), ("post().to(", "POST")] {
            for handler in statement.split(word).skip(1).map(|rest| rest.split(')').next().unwrap()) {
                let permission = permission(handler, method);
                found.push(Route { method, path: path.to_owned(), permission });
            }
        }
    }
    found
}

fn permission(handler: &str, method: &str) -> Permission {
    let (file, name) = handler.rsplit_once("::").unwrap();
    let text = source(&format!("ui/{}.rs", file.replace("::", "/")));
    let signature = text.split(&format!("async fn {name}(")).nth(1);
    let signature = signature.unwrap_or_else(|| panic!("{handler} is not in its file"));
    let signature = signature.split("->").next().unwrap();
    let taken = if method == "GET" { "Desk<" } else { "Submitted<" };
    let word = signature.split(taken).nth(1).unwrap_or_else(|| panic!("{handler} takes no {taken}..>: {signature}"));
    let words = BTreeMap::from([
        ("View", Permission::View),
        ("Operate", Permission::Operate),
        ("Publish", Permission::Release),
        ("Approve", Permission::Approve),
        ("Administer", Permission::Administer),
    ]);
    words[word.split('>').next().unwrap()]
}

/// A path of something that is not there.
fn path(route: &Route) -> String {
    let part = |part: &str| if part.starts_with('{') { "nobody" } else { part }.to_owned();
    route.path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[test]
fn every_page_is_for_the_roles_that_its_handler_names_and_every_form_needs_its_token() {
    on_both(|server| {
        let routes = routes();
        assert!(routes.iter().any(|route| route.method == "POST") && routes.len() >= 2, "the table was not read");
        let nobody = Browser::new(server);
        let local = Browser::at_the_server(server);
        for route in &routes {
            let (path, method) = (path(route), route.method);
            match method {
                "GET" => {
                    let answer = nobody.get(&path);
                    let login = answer.header("location").unwrap_or_default();
                    assert_eq!(answer.status, 303, "{path} for nobody: {}", answer.text());
                    assert!(login.starts_with("/login?next=/"), "{path}: {login}");
                    let looks = local.get(&path).status;
                    let may =
                        if route.permission == Permission::View { looks < 500 && looks != 303 } else { looks == 303 };
                    assert!(may, "{path} for a person at the server: {looks}");
                }
                _ => {
                    for browser in [&nobody, &local] {
                        let answer = browser.post_raw(&path, &[("reason", "a test")]);
                        assert_eq!(answer.status, 401, "{path} for nobody: {}", answer.text());
                        assert!(answer.text().contains("What you typed is kept"), "{path}: {}", answer.text());
                    }
                }
            }
        }
        for role in Role::ALL {
            let browser = Browser::of(server, role.as_str());
            // What somebody may not see is not for whoever sits at the server either, once there are people.
            assert_eq!(local.get("/devices").status, 303);
            let token = browser.token();
            // Logging out comes last.
            for route in routes.iter().filter(|route| route.path != "/logout") {
                let (path, method) = (path(route), route.method);
                let answer = match method {
                    "GET" => browser.get(&path),
                    _ => {
                        let forged = browser.post_raw(&path, &[("reason", "a test"), ("csrf", &"0".repeat(64))]);
                        assert_eq!(forged.status, 403, "{method} {path} as {role} without a token: {}", forged.text());
                        browser.post_raw(&path, &[("csrf", &token)])
                    }
                };
                let text = answer.text();
                if role.allows(route.permission) {
                    let fine = ![401, 403].contains(&answer.status) && answer.status < 500;
                    assert!(fine, "{method} {path} as {role}: {} {text}", answer.status);
                } else {
                    assert_eq!(answer.status, 403, "{method} {path} as {role}: {text}");
                    let said = format!("this takes the permission {}, which ", route.permission);
                    assert!(text.contains(&said) && text.contains(&format!("; {role} is {role}")), "{text}");
                }
            }
        }
        // Whoever does not ask for HTML gets what the API answers.
        let answer = server.api().send_raw(Request::get("/nowhere"));
        assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/problem+json")));
        assert!(local.get("/nowhere").text().contains("<h1>Not found</h1>"));
    });
}
