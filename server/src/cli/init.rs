//! `callboard init`: makes a data directory that `callboard serve` can run at once.
//!
//! Root and release keys for trying out are made beside it, marked as such; real ones are made elsewhere with
//! `callboard key new` and never lie on the server. What is there already, data directory or profile, is never changed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use callboard_proto::{admin::Grant, time::Timestamp};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;

use super::{
    Context,
    exit::{self, BadInput},
    key, profile,
    root::{self, init::FirstRoot, role::NewRole},
    show,
};
use crate::{
    app::tokens,
    ca::{self, DeviceCa, ServerCa},
    clock::Clock,
    config::{FILE, Fragment, PublicUrl, Settings},
    db::{self, Db, DbError},
    durable::{self, Access},
    sign::ONLINE_KEY,
};

/// Keys for trying out, in the data directory.
const TRY_OUT: &str = "try-out-keys";
const TRY_OUT_README: &str = "\
These keys are for trying out. Whoever has them can sign software for your devices, so they must not stay on the
server of a real fleet:

1. On a machine that is not the server: callboard key new --out root.key; callboard key new --out release.key
2. callboard root init --root-key root.key --release-key release.key.pub --online-key online.key.pub ...
   (online.key.pub and server-ca.pem are in the data directory)
3. Make a new data directory with: callboard init --dir DIR --no-try-out-keys, and publish that root in it
   before the first device enrols: callboard root publish root.json
";

/// Makes a data directory.
#[derive(clap::Args)]
pub(crate) struct InitArgs {
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where devices will reach the server: https://HOST[:PORT]; by default this machine
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Make no root and release keys for trying out; publish your own root afterwards
    #[arg(long)]
    no_try_out_keys: bool,
    /// Store the admin token in no profile: it is only printed
    #[arg(long)]
    no_profile: bool,
    /// The time that certificates and documents are made for; for tests
    #[arg(long, hide = true, value_name = "TIME")]
    fixed_clock: Option<Timestamp>,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    dir: PathBuf,
    /// Shown this once.
    admin_token: String,
    profile: Option<PathBuf>,
    try_out_keys: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &InitArgs, context: &Context) -> anyhow::Result<()> {
    durable::keep_to_oneself();
    let now = args.fixed_clock.unwrap_or_else(|| Clock::system().now());
    let url = args.public_url.as_deref().map(parse_url).transpose()?;
    let dir = args.dir.display();
    if args.dir.join(ca::DEVICE_CA_CERT).exists() {
        let hint = "nothing was changed; another certificate or URL: callboard certificate renew --dir";
        return Err(BadInput(format!("{dir} is a data directory already; {hint} {dir}")).into());
    }
    if fs::read_dir(&args.dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BadInput(format!("{dir} is not empty; name a directory that does not exist")).into());
    }
    let profile = if args.no_profile { None } else { free_profile(context)? };
    let admin_token = create(args, url.as_ref(), profile.as_deref(), now)?;
    let try_out_keys = (!args.no_try_out_keys).then(|| args.dir.join(TRY_OUT));
    let made = Made { dir: args.dir.clone(), admin_token, profile, try_out_keys };
    show::value(context.format, &made, sentences)
}

/// Reads `--public-url`.
pub(crate) fn parse_url(text: &str) -> Result<PublicUrl, BadInput> {
    PublicUrl::parse(text)
        .ok_or_else(|| BadInput(format!("--public-url {text:?} is not allowed: https://HOST[:PORT] is wanted")))
}

/// Where the operator's commands will find server and token; none without a home directory.
fn free_profile(context: &Context) -> anyhow::Result<Option<PathBuf>> {
    let path = match context.connection.profile_path() {
        Ok(path) => path,
        Err(profile::ProfileError::Nowhere) => return Ok(None),
        Err(error) => return Err(BadInput(error.to_string()).into()),
    };
    if path.symlink_metadata().is_ok() {
        let hint = "name another one with --profile NAME, or have none written with --no-profile";
        return Err(BadInput(format!("the profile {} exists, and nothing was made; {hint}", path.display())).into());
    }
    Ok(Some(path))
}

fn create(args: &InitArgs, url: Option<&PublicUrl>, profile: Option<&Path>, now: Timestamp) -> anyhow::Result<String> {
    let dir = &args.dir;
    fs::create_dir_all(dir.join("run")).map_err(exit::unusable("make", dir))?;
    let host = url.map_or("localhost", |url| url.host.as_str());
    // Last of all the device CA: a directory without it is not taken for a finished one.
    ServerCa::create(dir, now)?.issue_server(dir, host, now)?;
    let online = key::create(&dir.join(ONLINE_KEY))?;
    write_settings(dir, url)?;
    let settings = Settings::merge(dir, &[Fragment::from_file(&dir.join(FILE))?, Fragment::from_env(std::env::vars())])
        .map_err(|error| BadInput(error.to_string()))?;
    let root = if args.no_try_out_keys { None } else { Some(try_out_root(dir, &online, url, now)?) };
    let token = tokens::generate(tokens::API)?;
    let text = token.text.clone();
    let (id, secret) = (token.id, token.secret_sha256);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let db = Db::open(settings.database.clone()).context("cannot make the database")?;
    runtime.block_on(db.write(move |conn| {
        if let Some(envelope) = root
            && db::trust::newest_root(conn)?.is_none()
        {
            db::trust::insert_root(conn, 1, &envelope, now)?;
        }
        let token = db::api_tokens::ApiToken {
            id,
            secret_sha256: secret,
            name: "first admin".to_owned(),
            created_at: now,
            revoked_at: None,
            grants: vec![Grant::everything()],
            expires_at: None,
            person: None,
        };
        Ok::<_, DbError>(db::api_tokens::insert(conn, &token)?)
    }))?;
    db.close();
    DeviceCa::create(dir, now)?;
    if let Some(path) = profile {
        let server = format!("http://{}", settings.admin_listen);
        profile::Profile { server, token: text.clone(), ca: None }.save(path)?;
    }
    Ok(text)
}

/// Writes the settings, all of them as comments but the URL.
pub(crate) fn write_settings(dir: &Path, url: Option<&PublicUrl>) -> anyhow::Result<()> {
    let path = dir.join(FILE);
    let commented = include_str!("../../../deploy/server.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|_| commented.to_owned());
    let line = |url: &PublicUrl| format!("public_url = {:?}", url.text);
    let lines = text.lines().map(|old| match url {
        Some(url) if old.trim_start_matches('#').starts_with("public_url") => line(url),
        _ => old.to_owned(),
    });
    let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    Ok(durable::replace(&path, text.as_bytes(), Access::Owner)?)
}

fn try_out_root(dir: &Path, online: &VerifyingKey, url: Option<&PublicUrl>, now: Timestamp) -> anyhow::Result<Vec<u8>> {
    let keys = dir.join(TRY_OUT);
    fs::create_dir(&keys)?;
    durable::write_new(&keys.join("README"), TRY_OUT_README.as_bytes(), Access::Everyone)?;
    let root_path = keys.join("root.key");
    let root_key = key::create(&root_path)?;
    let release_key = key::create(&keys.join("release.key"))?;
    let first = FirstRoot {
        root_keys: &[root_key.into()],
        threshold: None,
        release_roles: &[NewRole::for_all(vec![release_key.into()], 1)],
        head_keys: &[],
        head_threshold: 1,
        online_key: *online,
        servers: vec![root::init::server(
            url.map_or("https://localhost:8443", |url| &url.text),
            &fs::read(dir.join(ca::SERVER_CA_CERT))?,
        )?],
        expires: None,
    };
    let (envelope, _) = root::init::build(&first, &[key::read_private(&root_path)?], now)?;
    let bytes = envelope.to_json();
    durable::write_new(&dir.join("root.json"), &bytes, Access::Everyone)?;
    Ok(bytes)
}

fn sentences(made: &Made) -> String {
    let dir = made.dir.display();
    let mut lines = vec![format!("made {dir}"), format!("admin token, shown this once: {}", made.admin_token)];
    if let Some(path) = &made.profile {
        lines.push(format!("stored in {}, so that callboard's commands work at once", path.display()));
    }
    lines.push(match &made.try_out_keys {
        None => "publish your root before the first device enrols: callboard root publish root.json".to_owned(),
        Some(keys) => {
            format!(
                "root and release keys for trying out are in {}; its README says how to replace them",
                keys.display()
            )
        }
    });
    lines.push(match &made.try_out_keys {
        None => format!("next: start the service, as its user, or try it with: callboard serve --dir {dir}"),
        Some(_) => format!("next: callboard serve --dir {dir}"),
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use callboard_proto::root::Root;

    use super::*;

    #[test]
    fn the_root_for_trying_out_is_one_that_root_init_makes() {
        let dir = tempfile::tempdir().expect("a directory");
        let now: Timestamp = "2026-11-23T02:00:00Z".parse().expect("a time");
        ServerCa::create(dir.path(), now).expect("a CA");
        let online = key::create(&dir.path().join(ONLINE_KEY)).expect("a key");
        let url = PublicUrl::parse("https://updates.example.com:8443/");
        let bytes = try_out_root(dir.path(), &online, url.as_ref(), now).expect("a root");
        let root = Root::open_initial(&bytes).expect("devices accept it");
        let keys = dir.path().join(TRY_OUT);
        let public = |name: &str| key::read_public(&keys.join(name)).expect("a public key");
        let first = FirstRoot {
            root_keys: &[public("root.key.pub")],
            threshold: Some(1),
            release_roles: &[NewRole::for_all(vec![public("release.key.pub")], 1)],
            head_keys: &[],
            head_threshold: 1,
            online_key: online,
            servers: vec![
                root::init::server(
                    "https://updates.example.com:8443",
                    &fs::read(dir.path().join(ca::SERVER_CA_CERT)).expect("the CA"),
                )
                .expect("a server"),
            ],
            expires: Some("2028-05-24T02:00:00Z".parse().expect("a time")),
        };
        assert_eq!(root::init::build(&first, &[], now).expect("a root").1, *root);
        assert_eq!(fs::read(dir.path().join("root.json")).expect("written"), bytes);
    }
}
