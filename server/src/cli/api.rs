//! The admin API from the caller's side: one method for each kind of request, typed bodies, problems as errors.
//!
//! Nothing is retried: every command may be repeated by its caller, and only the caller knows whether to.

use std::{io::Read, time::Duration};

use anyhow::Context as _;
use callboard_proto::{
    admin::{MAX_PAGE, Page},
    problem::{Code, Problem},
};
use serde::{Serialize, de::DeserializeOwned};
use ureq::{AsSendBody, Body, SendBody, http};

use super::{connection::Connection, exit::Refused};

mod path;
mod tls;

pub(crate) use path::Path;

/// Largest answer that is read: a page of a thousand devices with all their labels is about 4 MB.
const MAX_ANSWER: u64 = 64 << 20;
/// Empty pages of a list in a row: the server has looked through 10,000 rows for each.
const MAX_EMPTY_PAGES: u32 = 1000;
const JSON: &str = "application/json";

/// A server's admin API.
#[derive(Clone)]
pub(crate) struct Api {
    agent: ureq::Agent,
    server: String,
    bearer: String,
    token_from: String,
}

/// Which part of a list to show.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PageArgs {
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = MAX_PAGE, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Go on after this key, which a shortened list ends with
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
}

impl Api {
    /// Prepares requests; connects only when one is sent.
    pub(crate) fn new(to: &Connection) -> anyhow::Result<Self> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("callboard/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(60)));
        if to.server.starts_with("https:") {
            config = config.tls_config(tls::config(to.ca.as_deref())?);
        }
        if to.is_local() {
            config = config.proxy(None);
        }
        let bearer = format!("Bearer {}", to.token);
        Ok(Self {
            agent: config.build().new_agent(),
            server: to.server.clone(),
            bearer,
            token_from: to.token_from.clone(),
        })
    }

    /// `GET`.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &Path) -> anyhow::Result<T> {
        parse(&self.send(http::Method::GET, path, JSON, ())?)
    }

    /// `GET`; `None` if nothing is there.
    pub(crate) fn find<T: DeserializeOwned>(&self, path: &Path) -> anyhow::Result<Option<T>> {
        match self.get(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(Refused(problem)) if problem.status == 404 => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// `GET` of a list, page by page, until `args.limit` items.
    pub(crate) fn list<T: DeserializeOwned>(&self, path: &Path, args: &PageArgs) -> anyhow::Result<Page<T>> {
        let limit = usize::try_from(args.limit)?;
        let mut all = Page { items: Vec::new(), next: args.after.clone() };
        let mut empty = 0;
        loop {
            let missing = u32::try_from(limit.saturating_sub(all.items.len()))?;
            let path = path.clone().query("limit", missing.min(MAX_PAGE)).maybe("after", all.next.as_ref());
            let page: Page<T> = self.get(&path)?;
            // Whoever sees a part of the fleet gets empty pages; they must not keep us here forever.
            empty = if page.items.is_empty() { empty + 1 } else { 0 };
            let stuck = empty > MAX_EMPTY_PAGES;
            all.items.extend(page.items);
            all.next = page.next;
            if all.items.len() >= limit || stuck || all.next.is_none() {
                return Ok(all);
            }
        }
    }

    /// `POST` of JSON.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &Path, body: &impl Serialize) -> anyhow::Result<T> {
        parse(&self.tell(http::Method::POST, path, body)?)
    }

    /// `PATCH` of JSON.
    pub(crate) fn patch<T: DeserializeOwned>(&self, path: &Path, body: &impl Serialize) -> anyhow::Result<T> {
        parse(&self.tell(http::Method::PATCH, path, body)?)
    }

    /// `POST` of a signed envelope, byte for byte.
    pub(crate) fn post_envelope(&self, path: &Path, envelope: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.send(http::Method::POST, path, JSON, envelope)
    }

    /// `PUT` of `size` bytes from a stream.
    pub(crate) fn put_stream<T: DeserializeOwned>(
        &self,
        path: &Path,
        size: u64,
        stream: &mut dyn Read,
    ) -> anyhow::Result<T> {
        let request = self
            .request(http::Method::PUT, path)
            .header(http::header::CONTENT_TYPE, "application/octet-stream")
            .header(http::header::CONTENT_LENGTH, size);
        parse(&self.run(request.body(SendBody::from_reader(stream)))?)
    }

    /// Any method with JSON, whatever the answer is.
    pub(crate) fn tell(&self, method: http::Method, path: &Path, body: &impl Serialize) -> anyhow::Result<Vec<u8>> {
        self.send(method, path, JSON, serde_json::to_vec(body)?)
    }

    /// `DELETE`.
    pub(crate) fn delete(&self, path: &Path) -> anyhow::Result<()> {
        self.send(http::Method::DELETE, path, JSON, ()).map(drop)
    }

    fn send(&self, method: http::Method, path: &Path, kind: &str, body: impl AsSendBody) -> anyhow::Result<Vec<u8>> {
        let mut request = self.request(method.clone(), path);
        if method != http::Method::GET && method != http::Method::DELETE {
            request = request.header(http::header::CONTENT_TYPE, kind);
        }
        self.run(request.body(body))
    }

    fn request(&self, method: http::Method, path: &Path) -> http::request::Builder {
        http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(http::header::AUTHORIZATION, &self.bearer)
            .header(http::header::ACCEPT, JSON)
    }

    fn run(&self, request: http::Result<http::Request<impl AsSendBody>>) -> anyhow::Result<Vec<u8>> {
        let reached = || format!("cannot reach {}", self.server);
        let mut response = self.agent.run(request?).map_err(explained).with_context(reached)?;
        let status = response.status();
        let body = read(response.body_mut()).with_context(reached)?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if problem.code == Code::Unauthorized.as_str() => {
                let (server, from) = (&self.server, &self.token_from);
                let another = "another one: --token, CALLBOARD_TOKEN, --profile, or callboard api-token create";
                let said = format!("{server} does not accept the token of {from} ({another})");
                Err(anyhow::Error::new(Refused(problem)).context(said))
            }
            Ok(problem) => Err(Refused(problem).into()),
            Err(_) => anyhow::bail!(
                "{} answered {status} and not in a Callboard server's way: is it the admin listener's URL?",
                self.server
            ),
        }
    }
}

fn read(body: &mut Body) -> Result<Vec<u8>, ureq::Error> {
    body.with_config().limit(MAX_ANSWER).read_to_vec()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body)
        .context("the server's answer is not what this version expects: are both of the same version?")
}

/// The library's errors say little about the commonest mistakes.
fn explained(error: ureq::Error) -> anyhow::Error {
    match error {
        ureq::Error::Io(error) => anyhow::Error::new(error),
        ureq::Error::Timeout(_) => anyhow::anyhow!("no answer in time"),
        ureq::Error::HostNotFound => anyhow::anyhow!("the host name is not known"),
        ureq::Error::Rustls(error) => anyhow::Error::new(error)
            .context("TLS failed (--ca names the certificate of the server's issuer, if it is not a public one)"),
        other => other.into(),
    }
}

#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;
