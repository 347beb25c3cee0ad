//! Limits by source address, where no identity is known yet, and of the time that a request may take to arrive.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use actix_web::{
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use callboard_proto::problem::Code;
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _};

use super::problem::ApiProblem;

/// Enrolments a minute from one address: a shop's tills share one, and a token is beyond guessing anyway.
const ENROLMENTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(120).unwrap();

/// A body of some KB over the worst link takes seconds; a trickle would hold a connection and its buffers.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// Ends requests that do not arrive, or cannot be answered, in time. Answers may take as long as they need.
pub(crate) async fn deadline(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    match tokio::time::timeout(ARRIVES_WITHIN, next.call(request)).await {
        Ok(answered) => answered,
        Err(_) => {
            let detail = format!("the request did not arrive within {} s", ARRIVES_WITHIN.as_secs());
            Err(ApiProblem::new(Code::Timeout, detail).into())
        }
    }
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
        self.0.check_key(&source).map_err(|until| {
            let wait = until.wait_time_from(governor::clock::QuantaClock::default().now());
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(60).saturating_add(1);
            let detail = format!("more than {ENROLMENTS_PER_MINUTE} enrolments a minute from one address");
            ApiProblem::retry_after(Code::TooManyRequests, detail, seconds)
        })
    }
}
