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

/// The fleet in numbers: of 10,000 devices and more as it was a moment ago.
#[utoipa::path(get, path = "/overview", tag = "fleet", security(("bearer" = ["view"])), responses((status = 200, body = Overview)))]
pub(crate) async fn get(may: May<View>, app: Data<App>) -> ApiResult<Json<Overview>> {
    let look = app::fleet::look(&app, &may.actor.sees).await?;
    Ok(Json(look.overview.clone()))
}
