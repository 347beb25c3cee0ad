//! Somebody at a browser, without one: pages are fetched and forms are sent, scripts are off.

use std::cell::RefCell;

use serde_json::{Value, json};

use crate::{
    api::{Api, escape},
    http::{Request, Response},
    server::TestServer,
};

/// The password of everybody that tests make known.
pub const PASSWORD: &str = "correct horse battery";

/// A browser with its cookies.
pub struct Browser {
    api: Api,
    /// By name.
    cookies: RefCell<Vec<(String, String)>>,
    /// Under which name it asks for the server.
    pub host: String,
}

impl Browser {
    /// One that nobody has used, away from the server: without a login it may see nothing.
    pub fn new(server: &TestServer) -> Self {
        Self { api: server.api(), cookies: RefCell::default(), host: "callboard.example.com".to_owned() }
    }

    /// One at the server itself.
    pub fn at_the_server(server: &TestServer) -> Self {
        Self { host: "localhost".to_owned(), ..Self::new(server) }
    }

    /// Makes a person known who has this role, and logs in.
    pub fn of(server: &TestServer, role: &str) -> Self {
        Self::with(server, role, &json!([{ "role": role }]))
    }

    /// Makes a person known who has these grants, and logs in.
    pub fn with(server: &TestServer, name: &str, grants: &Value) -> Self {
        let user = json!({ "name": name, "password": PASSWORD, "grants": grants });
        server.api().try_post("users", &user).ok();
        let browser = Self::new(server);
        browser.log_in(name);
        browser
    }

    /// Logs in by the page.
    #[track_caller]
    pub fn log_in(&self, name: &str) {
        let answer = self.post_raw("/login", &[("name", name), ("password", PASSWORD), ("next", "/")]);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{}", answer.text());
    }

    /// `GET`, as a browser asks.
    pub fn get(&self, path: &str) -> Response {
        self.send(Request::get(path))
    }

    /// A page that is there.
    #[track_caller]
    pub fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        answer.text()
    }

    /// Sends a form with the token that pages have.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let token = self.token();
        self.post_raw(path, &[&[("csrf", token.as_str())], fields].concat())
    }

    /// Sends a form and gives the page that comes then.
    #[track_caller]
    pub fn submit(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(path, fields);
        assert_eq!(answer.status, 303, "{path}: {}", answer.text());
        self.page(answer.header("location").unwrap())
    }

    /// Sends a form as it is.
    pub fn post_raw(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        self.send(Request::post(path).body("application/x-www-form-urlencoded", fields.join("&")))
    }

    /// The token of the session, as every page of somebody who has logged in has it.
    pub fn token(&self) -> String {
        let page = self.get("/").text();
        let token = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        token.unwrap_or_default().to_owned()
    }

    /// Forgets the session, as if it had ended.
    pub fn forget(&self) {
        self.cookies.borrow_mut().clear();
    }

    /// Sends any request with its cookies.
    pub fn send(&self, request: Request) -> Response {
        let cookies: Vec<String> =
            self.cookies.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.header("accept", "text/html,*/*;q=0.8").header("host", self.host.as_str());
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let answer = self.api.send_raw(request);
        for set in &answer.cookies {
            let (cookie, rest) = set.split_once(';').unwrap();
            let (name, value) = cookie.split_once('=').unwrap();
            let mut cookies = self.cookies.borrow_mut();
            cookies.retain(|(known, _)| known != name);
            if !rest.contains("Max-Age=0") {
                cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }
}

/// What a reader sees of a page's main part, line by line.
pub fn text(html: &str) -> String {
    let main = html.split_once("<main").and_then(|(_, rest)| rest.split_once("</main>")).map_or(html, |(main, _)| main);
    let main = main.split_once('>').map_or(main, |(_, rest)| rest);
    let line = |line: &str| {
        let words = line.split('<').map(|part| part.split_once('>').map_or(part, |(_tag, words)| words));
        words.filter(|words| !words.trim().is_empty()).map(str::trim).collect::<Vec<_>>().join(" | ")
    };
    main.lines().map(line).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}
