//! The OpenAPI document of the admin API, generated from the handlers.
//!
//! It needs no token: it says nothing about this server, and programs want it before they have one.

use actix_web::HttpResponse;
use utoipa::OpenApi;

use super::admin::{
    api_tokens, attention, audit, devices, enrolments, events, freezes, overview, payloads, releases, rollouts,
    session, sites, stream, tokens, trust, users, webhooks,
};
use super::auth::COOKIE;

mod conventions;

use conventions::{Conventions, operations};

/// The admin API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Callboard admin API", description = "What operators do; the CLI uses nothing else."),
    servers((url = "/api/v1")),
    paths(
        overview::get,
        sites::list, sites::get, sites::import, sites::set_trading_hours, sites::set_bandwidth, sites::hold, sites::unhold,
        sites::suspend, sites::activate, sites::close,
        devices::list, devices::get, devices::import, devices::edit_labels, devices::hold, devices::unhold,
        devices::clones, devices::keep, devices::allow, devices::forbid,
        devices::set_serial, devices::clear_serial, devices::decommission, devices::history, devices::explain,
        freezes::list, freezes::create, freezes::delete,
        tokens::list, tokens::create, tokens::revoke,
        enrolments::list, enrolments::accept, enrolments::reject,
        api_tokens::list, api_tokens::create, api_tokens::revoke,
        payloads::info, payloads::put, payloads::received, payloads::put_piece,
        trust::status, trust::root, trust::publish, trust::head, trust::publish_head,
        releases::list, releases::get, releases::publish,
        rollouts::list, rollouts::get, rollouts::create, rollouts::edit, rollouts::preview_new, rollouts::preview, rollouts::simulate,
        rollouts::start,
        rollouts::pause, rollouts::resume, rollouts::cancel, rollouts::countersign, rollouts::approve, rollouts::skip_soak,
        rollouts::open_phase, rollouts::roll_back, rollouts::forecast, rollouts::progress, rollouts::assignments, rollouts::unreached,
        attention::list, attention::retry, attention::skip, attention::cancel,
        attention::attacks, attention::acknowledge_attacks,
        events::list,
        audit::list, audit::head,
        stream::get,
        webhooks::list, webhooks::create, webhooks::delete, webhooks::test, webhooks::deliveries, webhooks::resend,
        session::get, session::begin, session::end, session::change_password, session::begin_totp,
        session::confirm_totp, session::end_totp,
        users::list, users::get, users::create, users::set_grants, users::set_password, users::totp_on, users::totp_off, users::disable,
        users::enable, users::sessions, users::end_session,
    ),
    modifiers(&Bearer, &Sessions, &Names, &Conventions),
    security(("bearer" = []))
)]
pub(crate) struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let cookie = "changes need the header X-CSRF-Token besides";
        let cookie = ApiKey::Cookie(ApiKeyValue::with_description(COOKIE, cookie));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    }
}

/// Whatever a token may do, somebody who has logged in may do too.
struct Sessions;

impl utoipa::Modify for Sessions {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::SecurityRequirement;
        for item in document.paths.paths.values_mut() {
            for security in operations(item).filter_map(|(_, operation)| operation.security.as_mut()) {
                let permissions = serde_json::to_value(&*security).unwrap_or_default();
                if let Some(permission) = permissions.pointer("/0/bearer/0").and_then(serde_json::Value::as_str) {
                    security.push(SecurityRequirement::new("session", [permission]));
                }
            }
        }
    }
}

/// Operations are named after module and handler (`devices_list`); handlers alone would not be unique.
struct Names;

impl utoipa::Modify for Names {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            for (_, operation) in operations(item) {
                let tag = operation.tags.iter().flatten().next();
                operation.operation_id =
                    tag.zip(operation.operation_id.as_ref()).map(|(tag, handler)| format!("{tag}_{handler}"));
            }
        }
    }
}

/// `GET /api/v1/openapi.json`, for anybody who reaches the listener.
pub(crate) async fn get() -> HttpResponse {
    HttpResponse::Ok().json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let operations: Vec<_> = paths.flat_map(|item| item.as_object().unwrap().values()).collect();
        let names: std::collections::BTreeSet<&str> =
            operations.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(names.len(), operations.len(), "{names:?}");
        assert!(names.contains("devices_list") && names.contains("rollouts_preview_new"), "{names:?}");
    }

    /// `CALLBOARD_UPDATE=1 cargo test -p callboard-server openapi` writes the committed files anew.
    fn check(file: &str, generated: &str) {
        let path = format!("{}/../proto-docs/{file}", env!("CARGO_MANIFEST_DIR"));
        let generated = format!("{generated}\n");
        if std::env::var_os("CALLBOARD_UPDATE").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "proto-docs/{file} is stale; run this test with CALLBOARD_UPDATE=1");
    }

    #[test]
    fn the_committed_document_is_the_generated_one() {
        check("openapi.json", &Document::openapi().to_pretty_json().unwrap());
    }

    #[test]
    fn the_committed_openapi_schema_of_rollout_files_is_the_generated_one() {
        let document: Value = serde_json::from_str(&Document::openapi().to_json().unwrap()).unwrap();
        let schemas = &document["components"]["schemas"];
        let (mut wanted, mut parts) = (vec!["RolloutSpec".to_owned()], BTreeMap::new());
        while let Some(name) = wanted.pop() {
            let mut part = schemas[&name].clone();
            if !parts.contains_key(&name) {
                relink(&mut part, &mut wanted);
            }
            parts.entry(name).or_insert(part);
        }
        let mut schema = parts.remove("RolloutSpec").unwrap();
        schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        schema["title"] = json!("Callboard rollout file");
        schema["$defs"] = json!(parts);
        check("rollout.schema.json", &serde_json::to_string_pretty(&schema).unwrap());
    }

    /// Points references to `$defs`, and tells which parts are meant.
    fn relink(value: &mut Value, wanted: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(link)) = map.get_mut("$ref") {
                    let name = link.rsplit('/').next().unwrap().to_owned();
                    *link = format!("#/$defs/{name}");
                    wanted.push(name);
                }
                map.values_mut().for_each(|value| relink(value, wanted));
            }
            Value::Array(list) => list.iter_mut().for_each(|value| relink(value, wanted)),
            _ => {}
        }
    }
}
