//! `POST /v1/checkin`. The answer may be held back; whether the device is welcome is asked again whenever it is decided
//! anew.

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use callboard_proto::{check_in::CheckIn, digest::Digest};

use crate::{
    app::{
        App,
        check_in::{Arrival, Question, Reply, answer},
    },
    http::{
        auth::Peer,
        limits::{self, Deadline},
        problem::{ApiResult, from_actix},
    },
};

/// A host name and a port are no longer.
const MAX_ADDRESS: usize = 260;

pub(crate) async fn post(
    app: web::Data<App>,
    mut peer: Peer,
    request: HttpRequest,
    deadline: web::ReqData<Deadline>,
    body: Result<web::Bytes, actix_web::Error>,
) -> ApiResult<HttpResponse> {
    limits::pace(&peer.known)?;
    let mut question = {
        let bytes = body.map_err(|error| from_actix(&error))?;
        let check_in: CheckIn = super::parse(&bytes)?;
        let arrival = Arrival {
            request: Digest::of(&bytes),
            address: address(&request),
            issuer: peer.identity.issuer,
            deadline: deadline.0,
        };
        Question::new(&app, &peer.known, check_in, arrival)
    };
    loop {
        // A wait takes long, and so may a body to arrive: the device may have been changed meanwhile.
        peer = peer.again(&app).await?;
        match answer(&app, peer.known.clone(), &mut question).await? {
            Reply::Signed(body) => return Ok(HttpResponse::Ok().content_type("application/json").body(body)),
            Reply::Later(until) => question.wait(until).await,
        }
    }
}

/// Host and port that a request was sent to, for people: that devices have moved is seen by it. Nothing is decided by it.
fn address(request: &HttpRequest) -> Option<String> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-:[]".contains(&c);
    (!host.is_empty() && host.len() <= MAX_ADDRESS && host.bytes().all(plain)).then(|| host.to_ascii_lowercase())
}
