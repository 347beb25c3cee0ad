//! `/api/v1/overview`.

use actix_web::web::{Data, Json};
use callboard_proto::admin::Overview;

use crate::{
    app::{self, App},
    http::{auth::Operator, problem::ApiResult},
};

/// The fleet in numbers.
#[utoipa::path(get, path = "/overview", tag = "fleet", responses((status = 200, body = Overview)))]
pub(crate) async fn get(_: Operator, app: Data<App>) -> ApiResult<Json<Overview>> {
    Ok(Json(app::overview::overview(&app).await?))
}
