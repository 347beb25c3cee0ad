//! The whole route table, on one page. Handlers stand in one file per noun; status codes only in `problem`.

use actix_web::{
    middleware::from_fn,
    web::{self, ServiceConfig, delete, get, patch, post, put, resource},
};

use callboard_proto::{check_in, enrol, report};

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod device;
pub(crate) mod etag;
pub(crate) mod limits;
pub(crate) mod listen;
mod once;
pub(crate) mod openapi;
pub(crate) mod page;
pub(crate) mod params;
pub(crate) mod problem;
pub(crate) mod signed;
mod whole;

use crate::ui;
use once::once;
use problem::{method_not_allowed, not_found};
use whole::to_the_end;

/// Largest JSON body of the admin API but for uploads: an import of 5000 devices.
const MAX_ADMIN_JSON: usize = 8 * 1024 * 1024;
/// Largest form of a page: a list of devices' names, or a rollout as a file.
const MAX_FORM: usize = 256 * 1024;

/// Routes of the device listener. Every one but enrolment and trust documents needs a client certificate.
pub(crate) fn device_routes(config: &mut ServiceConfig) {
    config
        .service(only(
            resource("/v1/enrol")
                .app_data(body_limit(enrol::MAX_BYTES))
                .route(post().to(device::enrol::post).wrap(from_fn(to_the_end))),
        ))
        .service(only(
            resource("/v1/renew")
                .app_data(body_limit(enrol::MAX_BYTES))
                .route(post().to(device::renew::post).wrap(from_fn(to_the_end))),
        ))
        .service(only(
            resource("/v1/checkin").app_data(body_limit(check_in::MAX_BYTES)).route(post().to(device::check_in::post)),
        ))
        .service(only(
            resource("/v1/reports")
                .app_data(body_limit(report::MAX_BYTES))
                .route(post().to(device::reports::post).wrap(from_fn(to_the_end))),
        ))
        .service(only(
            resource("/v1/payloads/{sha256}")
                .route(get().to(device::get_payload))
                .route(web::head().to(device::get_payload)),
        ))
        .service(only(resource("/v1/trust/root").route(get().to(device::trust::newest_root))))
        .service(only(resource("/v1/trust/root/{version}").route(get().to(device::trust::root))))
        .service(only(resource("/v1/trust/head").route(get().to(device::trust::head))))
        .service(only(resource("/v1/trust/releases/{sha256}").route(get().to(device::trust::release))))
        .default_service(web::to(not_found));
}

/// Routes of the admin listener. Every handler under `/api/v1` but the description takes `auth::May` with a permission.
pub(crate) fn admin_routes(config: &mut ServiceConfig) {
    config
        .app_data(
            web::JsonConfig::default()
                .limit(MAX_ADMIN_JSON)
                .error_handler(|error, _| problem::from_actix(&error.into()).into()),
        )
        .app_data(web::QueryConfig::default().error_handler(|error, _| problem::from_actix(&error.into()).into()))
        .app_data(web::PathConfig::default().error_handler(|error, _| problem::from_actix(&error.into()).into()))
        .service(only(resource("/healthz").route(get().to(admin::health::live))))
        .service(only(resource("/readyz").route(get().to(admin::health::ready))))
        .service(only(resource("/metrics").route(get().to(admin::health::metrics))))
        .service(
            web::scope("/api/v1")
                .wrap(from_fn(etag::tagged))
                .wrap(from_fn(auth::identify))
                .configure(api_routes)
                .default_service(web::to(not_found)),
        )
        .service(
            web::scope("")
                .app_data(
                    web::FormConfig::default()
                        .limit(MAX_FORM)
                        .error_handler(|error, _| problem::from_actix(&error.into()).into()),
                )
                .wrap(from_fn(ui::door::pages))
                .configure(page_routes)
                .default_service(web::to(not_found)),
        );
}

/// The pages. Every handler but those of the login takes `ui::desk::Desk` or `ui::desk::Submitted` with a permission.
fn page_routes(config: &mut ServiceConfig) {
    use ui::{
        assets, attention, audit, devices, docs, enrolment, login, overview, provider, releases, rollouts, settings,
    };
    let mut page = |path: &str, routes: Vec<actix_web::Route>| {
        let whole = routes.into_iter().map(|route| route.wrap(from_fn(to_the_end)));
        config.service(only(whole.fold(resource(path), actix_web::Resource::route)));
    };
    page("/", vec![get().to(overview::get)]);
    page("/assets/{name}", vec![get().to(assets::get)]);
    page("/login", vec![get().to(login::get), post().to(login::post)]);
    page("/login/first", vec![post().to(login::first)]);
    page("/login/provider", vec![get().to(provider::begin)]);
    page("/login/provider/callback", vec![get().to(provider::finish)]);
    page("/api/docs", vec![get().to(docs::get)]);
    page("/api/docs/{file}", vec![get().to(docs::file)]);
    page("/logout", vec![post().to(login::end)]);
    page("/devices", vec![get().to(devices::get)]);
    page("/devices/{device}", vec![get().to(devices::one::get)]);
    page("/devices/{device}/hold", vec![post().to(devices::change::set_hold)]);
    page("/devices/{device}/unhold", vec![post().to(devices::change::unhold)]);
    page("/devices/{device}/labels", vec![post().to(devices::change::set_labels)]);
    page("/devices/{device}/decommission", vec![post().to(devices::change::decommission)]);
    page("/devices/{device}/deal", vec![post().to(devices::change::deal)]);
    page("/fleet/bulk", vec![post().to(devices::bulk::post)]);
    page("/fleet/complete", vec![get().to(devices::complete::get)]);
    page("/attention", vec![get().to(attention::get)]);
    page("/attention/deal", vec![post().to(attention::deal::post)]);
    page("/attention/attacks", vec![get().to(attention::attacks::get)]);
    page("/attention/attacks/acknowledge", vec![post().to(attention::attacks::acknowledge)]);
    page("/enrolment", vec![get().to(enrolment::get)]);
    page("/enrolment/tokens", vec![post().to(enrolment::tokens::create)]);
    page("/enrolment/tokens/{token}/revoke", vec![post().to(enrolment::tokens::revoke)]);
    page("/enrolment/{enrolment}/accept", vec![post().to(enrolment::accept)]);
    page("/enrolment/{enrolment}/reject", vec![post().to(enrolment::reject)]);
    page("/releases", vec![get().to(releases::list)]);
    page("/releases/new", vec![get().to(releases::upload::get), post().to(releases::upload::post)]);
    page("/releases/head", vec![post().to(releases::head::post)]);
    page("/releases/{release}", vec![get().to(releases::one)]);
    page("/rollouts", vec![get().to(rollouts::list)]);
    page("/rollouts/new", vec![get().to(rollouts::new::get), post().to(rollouts::new::post)]);
    page("/rollouts/preview", vec![post().to(rollouts::preview::part)]);
    page("/rollouts/{rollout}", vec![get().to(rollouts::one::get)]);
    page("/rollouts/{rollout}/preview", vec![get().to(rollouts::preview::page)]);
    page("/rollouts/{rollout}/edit", vec![get().to(rollouts::edit::get), post().to(rollouts::edit::post)]);
    page("/rollouts/{rollout}/run", vec![post().to(rollouts::act::run)]);
    page("/rollouts/{rollout}/approve", vec![post().to(rollouts::act::approve)]);
    page("/rollouts/{rollout}/devices", vec![get().to(rollouts::devices::list)]);
    page("/rollouts/{rollout}/sites", vec![get().to(rollouts::devices::sites)]);
    page("/audit", vec![get().to(audit::list)]);
    page("/audit/check", vec![get().to(audit::check)]);
    page("/audit/export", vec![get().to(audit::export)]);
    page("/settings", vec![get().to(settings::get)]);
    page("/settings/password", vec![post().to(settings::password)]);
    page("/settings/totp", vec![post().to(settings::totp)]);
    page("/settings/people", vec![get().to(settings::people::list), post().to(settings::people::create)]);
    page("/settings/people/{person}", vec![get().to(settings::people::get), post().to(settings::people::change)]);
    page("/settings/tokens", vec![get().to(settings::tokens::list), post().to(settings::tokens::create)]);
    page("/settings/tokens/revoke", vec![post().to(settings::tokens::revoke)]);
    page("/settings/webhooks", vec![get().to(settings::webhooks::list), post().to(settings::webhooks::create)]);
    page(
        "/settings/webhooks/{webhook}",
        vec![get().to(settings::webhooks::get), post().to(settings::webhooks::change)],
    );
    page("/settings/freezes", vec![get().to(settings::freezes::list), post().to(settings::freezes::create)]);
    page("/settings/freezes/delete", vec![post().to(settings::freezes::delete)]);
    page("/settings/sites", vec![get().to(settings::sites::list)]);
    page("/settings/sites/{site}", vec![get().to(settings::sites::get), post().to(settings::sites::change)]);
}

#[expect(clippy::too_many_lines, reason = "one line for each path")]
fn api_routes(config: &mut ServiceConfig) {
    use admin::{
        api_tokens, attention, audit, clock, devices, enrolments, events, freezes, overview, payloads, releases,
        rollouts, session, sites, stream, tokens, trust, users, webhooks,
    };
    // It changes nothing and takes long: it ends with its connection. It comes before the rollouts with other names.
    let mut while_asked_at = |path: &str, route: actix_web::Route| {
        config.service(only(resource(path).route(route)));
    };
    while_asked_at("/rollouts/simulate", post().to(rollouts::simulate));
    while_asked_at("/events/stream", get().to(stream::get));
    let mut at = |path: &str, routes: Vec<actix_web::Route>| {
        let whole = routes.into_iter().map(|route| route.wrap(from_fn(once)).wrap(from_fn(to_the_end)));
        config.service(only(whole.fold(resource(path), actix_web::Resource::route)));
    };
    at("/openapi.json", vec![get().to(openapi::get)]);
    at("/session", vec![get().to(session::get), post().to(session::begin), delete().to(session::end)]);
    at("/session/password", vec![put().to(session::change_password)]);
    at("/session/totp", vec![post().to(session::begin_totp), put().to(session::confirm_totp)]);
    at("/session/totp/disable", vec![post().to(session::end_totp)]);
    at("/users", vec![get().to(users::list), post().to(users::create)]);
    at("/users/{user}", vec![get().to(users::get)]);
    at("/users/{user}/grants", vec![put().to(users::set_grants)]);
    at("/users/{user}/password", vec![put().to(users::set_password)]);
    at("/users/{user}/totp", vec![post().to(users::totp_on), delete().to(users::totp_off)]);
    at("/users/{user}/disable", vec![post().to(users::disable)]);
    at("/users/{user}/enable", vec![post().to(users::enable)]);
    at("/users/{user}/sessions", vec![get().to(users::sessions)]);
    at("/sessions/{session}", vec![delete().to(users::end_session)]);
    at("/overview", vec![get().to(overview::get)]);
    at("/clock", vec![put().to(clock::put)]);
    at("/sites", vec![get().to(sites::list)]);
    at("/sites/import", vec![post().to(sites::import)]);
    at("/sites/{site}", vec![get().to(sites::get)]);
    at("/sites/{site}/trading-hours", vec![put().to(sites::set_trading_hours)]);
    at("/sites/{site}/bandwidth", vec![put().to(sites::set_bandwidth)]);
    at("/sites/{site}/hold", vec![put().to(sites::hold), delete().to(sites::unhold)]);
    at("/sites/{site}/suspend", vec![post().to(sites::suspend)]);
    at("/sites/{site}/activate", vec![post().to(sites::activate)]);
    at("/sites/{site}/close", vec![post().to(sites::close)]);
    at("/devices", vec![get().to(devices::list)]);
    at("/devices/import", vec![post().to(devices::import)]);
    at("/devices/labels", vec![post().to(devices::edit_labels)]);
    at("/devices/{device}", vec![get().to(devices::get)]);
    at("/devices/{device}/hold", vec![put().to(devices::hold), delete().to(devices::unhold)]);
    at("/clones", vec![get().to(devices::clones)]);
    at("/devices/{device}/clone/keep", vec![post().to(devices::keep)]);
    at("/devices/{device}/reenrolment", vec![put().to(devices::allow), delete().to(devices::forbid)]);
    at("/devices/{device}/serial", vec![put().to(devices::set_serial), delete().to(devices::clear_serial)]);
    at("/devices/{device}/decommission", vec![post().to(devices::decommission)]);
    at("/devices/{device}/history", vec![get().to(devices::history)]);
    at("/devices/{device}/explain", vec![get().to(devices::explain)]);
    at("/freezes", vec![get().to(freezes::list), post().to(freezes::create)]);
    at("/freezes/{freeze}", vec![delete().to(freezes::delete)]);
    at("/tokens", vec![get().to(tokens::list), post().to(tokens::create)]);
    at("/tokens/{token}", vec![delete().to(tokens::revoke)]);
    at("/enrolments", vec![get().to(enrolments::list)]);
    at("/enrolments/{enrolment}/accept", vec![post().to(enrolments::accept)]);
    at("/enrolments/{enrolment}/reject", vec![post().to(enrolments::reject)]);
    at("/api-tokens", vec![get().to(api_tokens::list), post().to(api_tokens::create)]);
    at("/api-tokens/{token}", vec![delete().to(api_tokens::revoke)]);
    at("/payloads/{sha256}", vec![put().to(payloads::put)]);
    at("/payloads/{sha256}/info", vec![get().to(payloads::info)]);
    at("/payloads/{sha256}/upload", vec![get().to(payloads::received), put().to(payloads::put_piece)]);
    at("/trust", vec![get().to(trust::status)]);
    at("/trust/root", vec![get().to(trust::root), post().to(trust::publish)]);
    at("/trust/head", vec![get().to(trust::head), post().to(trust::publish_head)]);
    at("/releases", vec![get().to(releases::list), post().to(releases::publish)]);
    at("/releases/{release}", vec![get().to(releases::get)]);
    at("/rollouts", vec![get().to(rollouts::list), post().to(rollouts::create)]);
    at("/rollouts/preview", vec![post().to(rollouts::preview_new)]);
    at("/rollouts/{rollout}", vec![get().to(rollouts::get), patch().to(rollouts::edit)]);
    at("/rollouts/{rollout}/preview", vec![get().to(rollouts::preview)]);
    at("/rollouts/{rollout}/start", vec![post().to(rollouts::start)]);
    at("/rollouts/{rollout}/pause", vec![post().to(rollouts::pause)]);
    at("/rollouts/{rollout}/resume", vec![post().to(rollouts::resume)]);
    at("/rollouts/{rollout}/cancel", vec![post().to(rollouts::cancel)]);
    at("/rollouts/{rollout}/countersign", vec![post().to(rollouts::countersign)]);
    at("/rollouts/{rollout}/approve", vec![post().to(rollouts::approve)]);
    at("/rollouts/{rollout}/skip-soak", vec![post().to(rollouts::skip_soak)]);
    at("/rollouts/{rollout}/rollback", vec![post().to(rollouts::roll_back)]);
    at("/rollouts/{rollout}/open-phase", vec![post().to(rollouts::open_phase)]);
    at("/rollouts/{rollout}/forecast", vec![get().to(rollouts::forecast)]);
    at("/rollouts/{rollout}/progress", vec![get().to(rollouts::progress)]);
    at("/rollouts/{rollout}/assignments", vec![get().to(rollouts::assignments)]);
    at("/rollouts/{rollout}/unreached", vec![get().to(rollouts::unreached)]);
    at("/rollouts/{rollout}/devices/retry", vec![post().to(attention::retry)]);
    at("/rollouts/{rollout}/devices/skip", vec![post().to(attention::skip)]);
    at("/rollouts/{rollout}/devices/cancel", vec![post().to(attention::cancel)]);
    at("/attention", vec![get().to(attention::list)]);
    at("/attention/attacks", vec![get().to(attention::attacks)]);
    at("/attention/attacks/acknowledge", vec![post().to(attention::acknowledge_attacks)]);
    at("/events", vec![get().to(events::list)]);
    at("/webhooks", vec![get().to(webhooks::list), post().to(webhooks::create)]);
    at("/webhooks/{webhook}", vec![delete().to(webhooks::delete)]);
    at("/webhooks/{webhook}/test", vec![post().to(webhooks::test)]);
    at("/webhooks/{webhook}/deliveries", vec![get().to(webhooks::deliveries)]);
    at("/deliveries/{delivery}/resend", vec![post().to(webhooks::resend)]);
    at("/audit", vec![get().to(audit::list)]);
    at("/audit/head", vec![get().to(audit::head)]);
}

/// Says in our words that a path does not have a method.
fn only(resource: actix_web::Resource) -> actix_web::Resource {
    resource.default_service(web::to(method_not_allowed))
}

fn body_limit(bytes: usize) -> web::PayloadConfig {
    web::PayloadConfig::new(bytes)
}
