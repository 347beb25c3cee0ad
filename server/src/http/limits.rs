//! How often somebody may ask: a device by its certificate, an address where no identity is known yet. And how long a
//! request may take to arrive.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use actix_web::{
    HttpMessage as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};
use callboard_proto::problem::Code;
use governor::{
    DefaultKeyedRateLimiter, NotUntil, Quota,
    clock::{Clock as _, QuantaClock, QuantaInstant},
};

use tokio::time::Instant;

use super::problem::{ApiProblem, ApiResult};
use crate::app::{App, devices::Known, people::doors::network};

/// Enrolments a minute from one address: a shop's tills share one, and a token is beyond guessing anyway.
const ENROLMENTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(120).unwrap();

/// When a request has to be answered; with every request of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Instant);

/// Ends requests of devices that do not arrive, or cannot be answered, in time. Answers may take as long as they need.
pub(crate) async fn deadline(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let within = request.app_data::<web::Data<App>>().map_or(Duration::ZERO, |app| app.request_timeout);
    request.extensions_mut().insert(Deadline(Instant::now() + within));
    in_time(within, next.call(request)).await?
}

/// Waits for what has to arrive.
pub(crate) async fn in_time<T>(within: Duration, arriving: impl Future<Output = T>) -> ApiResult<T> {
    tokio::time::timeout(within, arriving).await.map_err(|_elapsed| {
        ApiProblem::new(Code::Timeout, format!("the request did not arrive within {} s", within.as_secs()))
    })
}

/// Limits enrolment by source address.
pub(crate) struct EnrolLimit(DefaultKeyedRateLimiter<IpAddr>);

impl EnrolLimit {
    pub(crate) fn new() -> Self {
        Self(DefaultKeyedRateLimiter::keyed(Quota::per_minute(ENROLMENTS_PER_MINUTE)))
    }

    /// Counts one attempt; refuses it when there were too many.
    pub(crate) fn check(&self, source: IpAddr) -> Result<(), ApiProblem> {
        // Forgets addresses that are back at their full quota, so that the map cannot grow without bound.
        if self.0.len() > 10_000 {
            self.0.retain_recent();
        }
        self.0.check_key(&network(source)).map_err(|until| {
            too_many(format!("more than {ENROLMENTS_PER_MINUTE} enrolments a minute from one address"), &until)
        })
    }
}

/// Counts a check-in, a renewal or a request with reports; refuses it when there were too many.
pub(crate) fn pace(known: &Known) -> ApiResult<()> {
    known.pace.check().map_err(|until| {
        let per_minute = until.quota().burst_size();
        too_many(format!("more than {per_minute} check-ins and reports a minute from one device"), &until)
    })
}

fn too_many(detail: String, until: &NotUntil<QuantaInstant>) -> ApiProblem {
    let wait = until.wait_time_from(QuantaClock::default().now());
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(60).saturating_add(1);
    ApiProblem::retry_after(Code::TooManyRequests, detail, seconds)
}
