//! Limits by source address, where no identity is known yet.

use std::{net::IpAddr, num::NonZeroU32};

use callboard_proto::problem::Code;
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _};

use super::problem::ApiProblem;

/// Enrolments a minute from one address: a shop's tills share one, and a token is beyond guessing anyway.
const ENROLMENTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(120).unwrap();

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
