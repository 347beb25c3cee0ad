//! `callboard trust status`: keys, thresholds, ends, and what would break when.

use callboard_proto::admin::{Ahead, Trust, TrustCa, TrustRole, TrustServer};

use super::{Context, api::Path, head, show, table};

/// What to ask about trust.
#[derive(clap::Subcommand)]
pub(crate) enum TrustCommand {
    /// Show who may sign what, until when, and what would break when
    Status,
}

/// Runs a command.
pub(crate) fn run(command: &TrustCommand, context: &Context) -> anyhow::Result<()> {
    let TrustCommand::Status = command;
    let trust: Trust = context.api()?.get(&Path::new(["trust"]))?;
    show::value(context.format, &trust, sentences)
}

fn sentences(trust: &Trust) -> String {
    let mut parts = Vec::new();
    match &trust.root {
        None => parts.push("no root is published".to_owned()),
        Some(root) => {
            parts.push(table::fields([
                ("root", root.version.to_string()),
                ("digest", root.sha256.to_string()),
                ("made", root.issued_at.to_string()),
                ("expires", root.expires.to_string()),
            ]));
            parts.push(table::list(["SERVER", "CA", "UNTIL", "THIS SERVER'S"], root.servers.iter().flat_map(server)));
            parts.push(table::list(["ROLE", "THRESHOLD", "SPARE", "FOR", "KEYS"], root.roles.iter().map(row)));
        }
    }
    if let Some(head) = &trust.head {
        parts.push(table::fields([
            ("head", format!("{} of epoch {}", head.serial, head.epoch)),
            ("made", head.issued_at.to_string()),
            ("next is due", head.half_life.to_string()),
            ("expires", head.expires.to_string()),
        ]));
        if !head.products.is_empty() {
            parts.push(head::products(&head.products));
        }
    }
    let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let keys = trust.online_keys.iter().map(|key| [key.id.short(), word(key.listed), word(key.signs)]);
    parts.push(table::list(["ONLINE KEY", "IN THE ROOT", "SIGNS"], keys));
    let cas = trust
        .device_cas
        .iter()
        .map(|ca| [ca.sha256.short(), ca.expires.to_string(), word(ca.issues), ca.devices.to_string()]);
    parts.push(table::list(["DEVICE CA", "UNTIL", "ISSUES", "DEVICES"], cas));
    let standings = trust.standings.iter().map(|one| {
        [table::or_empty(one.root_version), one.address.clone().unwrap_or_default(), one.devices.to_string()]
    });
    parts.push(table::list(["ROOT OF DEVICES", "CAME BY", "DEVICES"], standings));
    if !trust.distrusted_releases.is_empty() {
        parts.push(format!("not installed any more: {}", trust.distrusted_releases.join(", ")));
    }
    parts.push(table::list(["WHEN", "", "WHAT BREAKS"], trust.ahead.iter().map(|one| ahead(one, trust))));
    parts.join("\n\n")
}

/// A row for each certificate.
fn server(server: &TrustServer) -> Vec<[String; 4]> {
    let row = |ca: &TrustCa| {
        let own = if ca.own { "yes" } else { "no" };
        [server.url.clone(), ca.sha256.short(), table::or_empty(ca.expires), own.to_owned()]
    };
    server.ca.iter().map(row).collect()
}

fn row(role: &TrustRole) -> [String; 5] {
    let kind = role.name.as_ref().map_or_else(|| role.kind.clone(), |name| format!("{} {name}", role.kind));
    let keys = role.keys.iter().map(|key| {
        let doubt = if key.counted { "" } else { ", not counted" };
        if key.alg == "ed25519" { key.id.short() } else { format!("{} ({}{doubt})", key.id.short(), key.alg) }
    });
    let all = |list: &[String], all: &str| if list.is_empty() { all.to_owned() } else { list.join(", ") };
    let scope = match role.kind.as_str() {
        "release" => format!("{} in {}", all(&role.products, "every product"), all(&role.channels, "every channel")),
        _ => String::new(),
    };
    let epoch = role.epoch.map(|epoch| format!("epoch {epoch}"));
    let scope = [scope, epoch.unwrap_or_default()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    let threshold = format!("{} of {}", role.threshold, role.keys.len());
    [kind, threshold, role.spare.to_string(), scope.join(", "), keys.collect::<Vec<_>>().join(", ")]
}

fn ahead(one: &Ahead, trust: &Trust) -> [String; 3] {
    let when = match one.at {
        Some(at) if at <= trust.server_time => format!("since {at}"),
        Some(at) => at.to_string(),
        None => "-".to_owned(),
    };
    [when, if one.alarm { "!" } else { "" }.to_owned(), one.text.clone()]
}
