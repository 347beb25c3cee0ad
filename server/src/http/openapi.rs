//! The OpenAPI document of the admin API, generated from the handlers.

use actix_web::HttpResponse;
use utoipa::OpenApi;

use super::admin::{devices, events, overview, payloads, releases, rollouts, sites, tokens, trust};

/// The admin API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Callboard admin API", description = "What operators do: the CLI and the pages use nothing else."),
    servers((url = "/api/v1")),
    paths(
        overview::get,
        sites::list, sites::get, sites::import,
        devices::list, devices::get, devices::import, devices::edit_labels, devices::hold, devices::unhold,
        devices::decommission, devices::history, devices::explain,
        tokens::list, tokens::create, tokens::revoke,
        payloads::info, payloads::put,
        trust::root, trust::publish,
        releases::list, releases::get, releases::publish,
        rollouts::list, rollouts::get, rollouts::create, rollouts::preview_new, rollouts::preview, rollouts::start,
        rollouts::pause, rollouts::resume, rollouts::cancel, rollouts::progress, rollouts::assignments,
        events::list,
    ),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
pub(crate) struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The document as it is committed.
pub(crate) fn json() -> Result<String, serde_json::Error> {
    Ok(format!("{}\n", Document::openapi().to_pretty_json()?))
}

/// `GET /api/v1/openapi.json`.
pub(crate) async fn get() -> HttpResponse {
    HttpResponse::Ok().json(Document::openapi())
}
