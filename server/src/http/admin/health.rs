//! `/healthz`, `/readyz` and `/metrics`.

use actix_web::{HttpResponse, web::Data};

use crate::{
    app::{self, App, Error, Reach, expiry},
    db,
    http::problem::ApiResult,
};

/// The process answers.
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// The database answers too.
pub(crate) async fn ready(app: Data<App>) -> ApiResult<HttpResponse> {
    app.db.read(|conn| Ok::<_, Error>(db::counters::generation(conn)?)).await?;
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"))
}

/// Counters and gauges for Prometheus.
pub(crate) async fn metrics(app: Data<App>) -> ApiResult<HttpResponse> {
    let overview = app::overview::overview(&app, Reach::Everything).await?;
    let now = app.clock.now();
    let expiries = expiry::all(&app).into_iter();
    let remaining = expiries.map(|one| (one.what, expiry::seconds_until(one.at, now), one.is_alarming(now)));
    let text = app.metrics.encode(&overview, remaining).map_err(|source| Error::Unexpected(source.to_string()))?;
    Ok(HttpResponse::Ok().content_type("application/openmetrics-text; version=1.0.0; charset=utf-8").body(text))
}
