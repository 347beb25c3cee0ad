//! `POST /v1/checkin`. The answer may be held back; whether the device is welcome is asked again whenever it is decided
//! anew.

use actix_web::{HttpResponse, web};
use callboard_proto::{check_in::CheckIn, digest::Digest};

use crate::{
    app::{
        App,
        check_in::{Question, Reply, answer},
    },
    http::{
        auth::Peer,
        limits::{self, Deadline},
        problem::{ApiResult, from_actix},
    },
};

pub(crate) async fn post(
    app: web::Data<App>,
    mut peer: Peer,
    deadline: web::ReqData<Deadline>,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    limits::pace(&peer.known)?;
    let mut question = {
        let bytes = body.map_err(|error| from_actix(&error))?;
        let check_in: CheckIn = super::parse(&bytes)?;
        Question::new(&app, &peer.known, check_in, Digest::of(&bytes), deadline.0)
    };
    loop {
        match answer(&app, peer.known.clone(), &mut question).await? {
            Reply::Signed(body) => return Ok(HttpResponse::Ok().content_type("application/json").body(body)),
            Reply::Later(until) => question.wait(until).await,
        }
        peer = peer.again(&app).await?;
    }
}
