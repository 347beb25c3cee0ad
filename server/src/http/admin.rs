//! What operators ask for, under `/api/v1`.

pub(crate) mod api_tokens;
pub(crate) mod attention;
pub(crate) mod audit;
pub(crate) mod clock;
pub(crate) mod devices;
pub(crate) mod enrolments;
pub(crate) mod events;
pub(crate) mod freezes;
pub(crate) mod health;
pub(crate) mod overview;
pub(crate) mod payloads;
pub(crate) mod releases;
pub(crate) mod rollouts;
pub(crate) mod session;
pub(crate) mod sites;
pub(crate) mod stream;
pub(crate) mod tokens;
pub(crate) mod trust;
pub(crate) mod users;
pub(crate) mod webhooks;
