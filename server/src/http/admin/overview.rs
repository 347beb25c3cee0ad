//! `/api/v1/overview`.

use actix_web::web::{Data, Json};
use callboard_proto::admin::Overview;

use crate::{
    app::{self, App},
    http::{
        auth::{May, View},
        problem::ApiResult,
    },
};

/// The fleet in numbers.
#[utoipa::path(get, path = "/overview", tag = "fleet", security(("bearer" = ["view"])), responses((status = 200, body = Overview)))]
pub(crate) async fn get(may: May<View>, app: Data<App>) -> ApiResult<Json<Overview>> {
    Ok(Json(app::overview::overview(&app, may.actor.sees).await?))
}
