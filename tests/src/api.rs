//! The admin API from the test's side.

use std::net::SocketAddr;

use callboard_proto::admin::Page;
use serde::{Serialize, de::DeserializeOwned};

use crate::http::{Plain, Request, Response, exchange};

/// The admin API of one server. Paths are given below `/api/v1/`.
#[derive(Clone, Debug)]
pub struct Api {
    pub address: SocketAddr,
    pub token: String,
}

impl Api {
    /// Sends any request with the token.
    pub fn send(&self, request: Request) -> Response {
        self.send_raw(request.header("authorization", format!("Bearer {}", self.token)))
    }

    /// Sends any request as it is.
    pub fn send_raw(&self, request: Request) -> Response {
        let mut stream = Plain::connect(self.address).unwrap();
        exchange(&mut stream, &request).unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.path))
    }

    /// `GET`, whatever the answer.
    pub fn try_get(&self, path: &str) -> Response {
        self.send(Request::get(format!("/api/v1/{path}")))
    }

    /// `POST`, whatever the answer.
    pub fn try_post(&self, path: &str, body: &impl Serialize) -> Response {
        self.send(Request::post(format!("/api/v1/{path}")).json(body))
    }

    /// `PUT`, whatever the answer.
    pub fn try_put(&self, path: &str, body: &impl Serialize) -> Response {
        self.send(Request::new("PUT", format!("/api/v1/{path}")).json(body))
    }

    /// `DELETE`, whatever the answer.
    pub fn try_delete(&self, path: &str) -> Response {
        self.send(Request::new("DELETE", format!("/api/v1/{path}")))
    }

    #[track_caller]
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.try_get(path).json()
    }

    #[track_caller]
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        self.try_post(path, body).json()
    }

    /// A whole list, page by page.
    #[track_caller]
    pub fn list<T: DeserializeOwned>(&self, path: &str) -> Vec<T> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut page: Page<T> = self.get(path);
        let mut all = page.items;
        while let Some(next) = page.next {
            page = self.get(&format!("{path}{separator}after={next}"));
            all.append(&mut page.items);
        }
        all
    }

    /// Uploads a payload under its digest.
    pub fn upload(&self, bytes: &[u8]) -> Response {
        self.upload_as(callboard_proto::digest::Digest::of(bytes), bytes)
    }

    /// Uploads bytes under any digest.
    pub fn upload_as(&self, digest: callboard_proto::digest::Digest, bytes: &[u8]) -> Response {
        let request = Request::new("PUT", format!("/api/v1/payloads/{digest}"));
        self.send(request.body("application/octet-stream", bytes))
    }

    /// The sum of a metric over all its labels that contain `label`; `""` takes all.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.send_raw(Request::get("/metrics")).text();
        let values = text.lines().filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            let rest = key.strip_prefix(name)?;
            let own = rest.is_empty() || rest.starts_with('{');
            (own && rest.contains(label)).then(|| value.parse::<f64>().unwrap())
        });
        values.sum()
    }
}

/// Escapes text for a query.
pub fn escape(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    text.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}
