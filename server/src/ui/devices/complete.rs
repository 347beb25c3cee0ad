//! `/devices/complete`: what may stand next in a selector, for the script of the field that it is typed in.

use std::{collections::BTreeSet, sync::Arc};

use actix_web::{
    HttpResponse,
    web::{Data, Json, Query},
};
use serde::{Deserialize, Serialize};

use crate::{
    app::{self, App, Error, fleet},
    db,
    http::{auth::View, problem::ApiResult},
    ui::desk::Desk,
};

/// What is offered at once.
const OFFERED: usize = 12;
/// Devices whose labels are looked at: enough to know the keys of a fleet, and their usual values.
const LOOKED_AT: i64 = 300;
/// Sites looked at.
const SITES: i64 = 200;

const FIELDS: [&str; 10] = ["name", "site", "status", "last_seen", "enrolled", "hw", "arch", "tz", "agent", "id"];
const OPERATORS: [&str; 9] = ["=", "!=", "~", "<", "<=", ">", ">=", "in (", "not in ("];
const JOINTS: [&str; 2] = ["and", "or"];
const STATUSES: [&str; 4] = ["online", "offline", "unknown", "abandoned"];
const AGES: [&str; 4] = ["1h ago", "24h ago", "7d ago", "30d ago"];

/// The text up to where somebody types.
#[derive(Deserialize)]
pub(crate) struct Typed {
    #[serde(default)]
    text: String,
}

/// What may stand instead of the last word, which begins at `from` (in UTF-16 units, as scripts count).
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Offer {
    from: usize,
    options: Vec<String>,
}

/// What a word is to be.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Field,
    Operator,
    Value(String),
    Joint,
}

/// `GET /devices/complete`.
pub(crate) async fn get(desk: Desk<View>, app: Data<App>, typed: Query<Typed>) -> ApiResult<HttpResponse> {
    let (before, word) = last_word(&typed.text);
    let all = match wanted(before) {
        Wanted::Operator => words(&OPERATORS),
        Wanted::Joint => words(&JOINTS),
        Wanted::Field => fields(&app, &desk).await?,
        Wanted::Value(field) => values(&app, &desk, &field).await?,
    };
    let lower = word.trim_start_matches('"').to_lowercase();
    let fits = |option: &String| option.trim_start_matches('"').to_lowercase().starts_with(&lower) && option != word;
    let options = all.into_iter().filter(fits).take(OFFERED).collect();
    Ok(HttpResponse::Ok().json(Json(Offer { from: before.encode_utf16().count(), options }).into_inner()))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The text before the word that is being typed, and that word.
fn last_word(text: &str) -> (&str, &str) {
    let quoted = text.matches('"').count() % 2 == 1;
    let at = if quoted { text.rfind('"') } else { text.rfind([' ', '(', ',']).map(|at| at + 1) };
    text.split_at_checked(at.unwrap_or(0)).unwrap_or((text, ""))
}

/// What comes after what was typed so far.
fn wanted(before: &str) -> Wanted {
    let spaced = before.replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let is_operator = |token: &str| OPERATORS.contains(&token) || token == "in";
    match tokens.as_slice() {
        [] | [.., "and" | "or" | "not" | "exists"] => Wanted::Field,
        [.., "version", "("] => Wanted::Value("product".to_owned()),
        [.., "version", "(", _, ")"] => Wanted::Operator,
        [.., "version", "(", product, ")", operator] if is_operator(operator) => {
            Wanted::Value(format!("version {}", product.trim_matches('"')))
        }
        [.., field, operator] if is_operator(operator) && *field != "not" => Wanted::Value((*field).to_owned()),
        [.., "(" | ","] => in_list(&tokens),
        [.., before, _] if is_operator(before) => Wanted::Joint,
        [.., ")"] | [.., "ago"] | ["all"] => Wanted::Joint,
        _ => Wanted::Operator,
    }
}

/// After a parenthesis: a value of a list, or a field.
fn in_list(tokens: &[&str]) -> Wanted {
    let open = tokens.iter().rposition(|token| *token == "(");
    let before = open.and_then(|at| tokens.get(..at)).unwrap_or_default();
    match before {
        [.., field, "not", "in"] | [.., field, "in"] => Wanted::Value((*field).to_owned()),
        _ => Wanted::Field,
    }
}

async fn fields(app: &Arc<App>, desk: &Desk<View>) -> ApiResult<Vec<String>> {
    let keys: BTreeSet<String> = labels(app, desk).await?.into_iter().map(|(key, _)| key).collect();
    let look = fleet::look(app, &desk.sees).await?;
    let versions = look.runs.keys().map(|product| format!("version(\"{product}\")"));
    let keys = keys.into_iter().filter(|key| !FIELDS.contains(&key.as_str()));
    Ok(keys.chain(words(&FIELDS)).chain(versions).chain(words(&["not", "exists", "all"])).collect())
}

async fn values(app: &Arc<App>, desk: &Desk<View>, field: &str) -> ApiResult<Vec<String>> {
    let found: Vec<String> = match field {
        "status" => words(&STATUSES),
        "last_seen" | "enrolled" => words(&AGES),
        "site" => {
            // Whoever sees a part of the fleet knows its sites from its devices.
            if !desk.sees.is_everything() {
                return devices(app, desk, |device| device.site.as_ref().map(ToString::to_string)).await;
            }
            let sites = app.db.read(|conn| Ok::<_, Error>(db::sites::list(conn, None, SITES)?)).await?;
            sites.into_iter().map(|site| site.id.to_string()).collect()
        }
        "product" => fleet::look(app, &desk.sees).await?.runs.keys().map(|product| format!("\"{product}\"")).collect(),
        "name" => return devices(app, desk, |device| Some(device.name.to_string())).await,
        "hw" => return devices(app, desk, |device| Some(device.hw.clone())).await,
        "arch" => return devices(app, desk, |device| Some(device.arch.clone())).await,
        "agent" => return devices(app, desk, |device| Some(device.agent.clone())).await,
        "tz" => return devices(app, desk, |device| device.tz.map(|tz| tz.name().to_owned())).await,
        other => match other.strip_prefix("version ") {
            Some(product) => {
                let look = fleet::look(app, &desk.sees).await?;
                let versions =
                    look.runs.iter().filter(|(known, _)| known.as_str() == product).flat_map(|(_, all)| all.keys());
                versions.map(ToString::to_string).collect()
            }
            None => {
                let key = other.strip_prefix("label.").unwrap_or(other);
                labels(app, desk).await?.into_iter().filter(|(known, _)| known == key).map(|(_, value)| value).collect()
            }
        },
    };
    Ok(found.iter().map(|value| quoted(value)).collect())
}

/// Pairs of key and value among the first devices that one sees.
async fn labels(app: &App, desk: &Desk<View>) -> ApiResult<BTreeSet<(String, String)>> {
    let records = app::devices::list(app, desk.sees.selector(), -1, LOOKED_AT).await?;
    Ok(records.into_iter().flat_map(|record| record.device.labels).collect())
}

/// What the first devices that one sees have.
async fn devices(
    app: &App,
    desk: &Desk<View>,
    value: impl Fn(&callboard_policy::device::Device) -> Option<String>,
) -> ApiResult<Vec<String>> {
    let records = app::devices::list(app, desk.sees.selector(), -1, LOOKED_AT).await?;
    let values: BTreeSet<String> =
        records.iter().filter_map(|record| value(&record.device)).filter(|value| !value.is_empty()).collect();
    Ok(values.iter().map(|value| quoted(value)).collect())
}

/// A value as a selector takes it.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '+' | '/' | '@');
    let is_age = AGES.contains(&value);
    if is_age || value.starts_with('"') || !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_follows_from_what_stands_before() {
        let value = |field: &str| Wanted::Value(field.to_owned());
        for (before, comes) in [
            ("", Wanted::Field),
            ("region ", Wanted::Operator),
            ("region = ", value("region")),
            ("region = north ", Wanted::Joint),
            ("region = north and ", Wanted::Field),
            ("site in (", value("site")),
            ("site not in (NYC-001, ", value("site")),
            ("site in (NYC-001) ", Wanted::Joint),
            ("(", Wanted::Field),
            ("version(", value("product")),
            ("version(\"pos-app\") ", Wanted::Operator),
            ("version(\"pos-app\") < ", value("version pos-app")),
            ("not ", Wanted::Field),
            ("last_seen > 24h ago ", Wanted::Joint),
        ] {
            assert_eq!(wanted(before), comes, "{before}");
        }
        assert_eq!(last_word("region = no"), ("region = ", "no"));
        assert_eq!(last_word("a = \"two wo"), ("a = ", "\"two wo"));
        assert_eq!([quoted("a-1"), quoted("a b"), quoted("24h ago")], ["a-1", "\"a b\"", "24h ago"]);
    }
}
