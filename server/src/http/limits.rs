//! Limits by source address, where no identity is known yet, and of the time that a request may take to arrive.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    time::Duration,
};

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
        self.0.check_key(&network(source)).map_err(|until| {
            let wait = until.wait_time_from(governor::clock::QuantaClock::default().now());
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(60).saturating_add(1);
            let detail = format!("more than {ENROLMENTS_PER_MINUTE} enrolments a minute from one address");
            ApiProblem::retry_after(Code::TooManyRequests, detail, seconds)
        })
    }
}

/// Whose quota an address counts against: with IPv6 a single machine has a whole /64 of addresses.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_many_addresses_has_one_quota() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }
}
