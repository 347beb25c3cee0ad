//! `PUT /api/v1/clock`: steps the clock of a server that was started for a demonstration or a test.

use actix_web::{HttpResponse, web::Data};
use callboard_proto::{problem::Code, text::Check, time::Timestamp};
use serde::Deserialize;

use crate::{
    app::{App, Error},
    http::{
        auth::{Administer, May},
        body::Body,
        problem::ApiResult,
    },
};

/// The time that it shall be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    now: Timestamp,
}

impl Check for Set {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) async fn put(_: May<Administer>, app: Data<App>, body: Body<Set>) -> ApiResult<HttpResponse> {
    if !app.clock.set(body.now) {
        return Err(Error::refused(Code::Forbidden, "this server's clock cannot be set").into());
    }
    Ok(HttpResponse::NoContent().finish())
}
