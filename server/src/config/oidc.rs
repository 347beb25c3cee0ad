//! The section `[oidc]` of the settings: the identity provider by which people may log in, and what its groups may do.

use std::path::{Path, PathBuf};

use callboard_proto::admin::{Grant, Role};
use openidconnect::{IssuerUrl, RedirectUrl};
use serde::Deserialize;

use super::ConfigError;

/// Where the provider sends people back to.
pub(crate) const CALLBACK: &str = "/login/provider/callback";

/// An identity provider that can be used, as far as the settings say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Oidc {
    pub(crate) issuer: IssuerUrl,
    pub(crate) client_id: String,
    /// None of a public client: PKCE alone proves whose code it is.
    pub(crate) client_secret_file: Option<PathBuf>,
    /// Below `admin_url`.
    pub(crate) redirect: RedirectUrl,
    /// Who is trusted to be the provider; the system's list of issuers unless it is given.
    pub(crate) ca_file: Option<PathBuf>,
    /// What the button says after "Log in with".
    pub(crate) title: String,
    pub(crate) scopes: Vec<String>,
    /// The claim that is a person's name here.
    pub(crate) name_claim: String,
    /// The claim that lists a person's groups.
    pub(crate) groups_claim: String,
    pub(crate) grants: Vec<GroupGrant>,
}

/// What the members of a group may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupGrant {
    group: String,
    role: Role,
    selector: Option<String>,
}

impl Oidc {
    /// What somebody in these groups may do; nothing without a group that is named here.
    pub(crate) fn grants_of(&self, groups: &[String]) -> Vec<Grant> {
        let own = self.grants.iter().filter(|one| groups.contains(&one.group));
        let mut grants: Vec<Grant> = own.map(|one| Grant { role: one.role, selector: one.selector.clone() }).collect();
        grants.dedup();
        grants
    }

    /// Everything that can be granted, to be checked at the start.
    pub(crate) fn all_grants(&self) -> Vec<Grant> {
        self.grants.iter().map(|one| Grant { role: one.role, selector: one.selector.clone() }).collect()
    }
}

/// The section as it is written.
#[derive(Deserialize)]
struct File {
    oidc: Section,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    issuer: String,
    client_id: String,
    client_secret_file: Option<PathBuf>,
    admin_url: String,
    ca_file: Option<PathBuf>,
    #[serde(default = "title")]
    title: String,
    #[serde(default = "scopes")]
    scopes: Vec<String>,
    #[serde(default = "name_claim")]
    name_claim: String,
    #[serde(default = "groups_claim")]
    groups_claim: String,
    grants: Vec<GroupGrant>,
}

fn title() -> String {
    "your organisation".to_owned()
}

fn scopes() -> Vec<String> {
    vec!["profile".to_owned()]
}

fn name_claim() -> String {
    "preferred_username".to_owned()
}

fn groups_claim() -> String {
    "groups".to_owned()
}

/// Reads the section from its value in TOML.
pub(super) fn parse(dir: &Path, source: &str, value: &str) -> Result<Oidc, ConfigError> {
    let bad = |text: String| ConfigError::Oidc { source_name: source.to_owned(), text };
    let section = toml::from_str::<File>(&format!("oidc = {value}"));
    // Never the text itself, as in the whole file.
    let section = section.map_err(|error| bad(error.message().replace('\n', ", ")))?.oidc;
    let secure = |url: &str| {
        let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
        let local = local.iter().filter_map(|start| url.strip_prefix(start));
        url.starts_with("https://") || local.into_iter().any(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    };
    if !secure(&section.issuer) {
        return Err(bad("issuer is https://HOST[/PATH], the address under which the provider knows itself".to_owned()));
    }
    let base = section.admin_url.strip_suffix('/').unwrap_or(&section.admin_url);
    if !secure(base) || base.matches('/').count() > 2 {
        return Err(bad("admin_url is https://HOST[:PORT], where browsers reach this server".to_owned()));
    }
    if section.grants.is_empty() {
        return Err(bad("grants is empty, so nobody could log in; name a group and its role".to_owned()));
    }
    let issuer = IssuerUrl::new(section.issuer).map_err(|source| bad(format!("issuer: {source}")))?;
    let redirect =
        RedirectUrl::new(format!("{base}{CALLBACK}")).map_err(|source| bad(format!("admin_url: {source}")))?;
    Ok(Oidc {
        issuer,
        client_id: section.client_id,
        client_secret_file: section.client_secret_file.map(|file| dir.join(file)),
        redirect,
        ca_file: section.ca_file.map(|file| dir.join(file)),
        title: section.title,
        scopes: section.scopes,
        name_claim: section.name_claim,
        groups_claim: section.groups_claim,
        grants: section.grants,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{ issuer = "https://id.example.com", client_id = "callboard",
        admin_url = "https://callboard.example.com/", grants = [
            { group = "north", role = "operator", selector = "region = north" }, { group = "all", role = "viewer" } ] }"#;

    fn read(value: &str) -> Result<Oidc, String> {
        parse(Path::new("/d"), "server.toml", value).map_err(|error| error.to_string())
    }

    #[test]
    fn groups_are_mapped_to_grants() {
        let oidc = read(GOOD).expect("good");
        assert_eq!(oidc.redirect.as_str(), "https://callboard.example.com/login/provider/callback");
        let of = |groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
            oidc.grants_of(&groups).iter().map(|grant| grant.role.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&["all", "north", "others"]), "operator viewer");
        assert_eq!(of(&["All"]), "");
    }

    #[test]
    fn messages_say_what_would_be_right() {
        for (from, to, said) in [
            ("https://id.", "http://id.", "issuer is https://HOST[/PATH]"),
            ("https://callboard.example.com/", "https://callboard.example.com/ui", "admin_url is https://HOST[:PORT]"),
            ("http", "httpx", "issuer is https://HOST[/PATH]"),
            ("operator", "king", "unknown variant `king`"),
            ("client_id", "clientid", "unknown field `clientid`"),
            ("client_id = \"callboard\",", "", "missing field `client_id`"),
        ] {
            let message = read(&GOOD.replace(from, to)).expect_err(from);
            assert!(message.contains(said) && message.contains("server.toml"), "{message}");
        }
    }
}
