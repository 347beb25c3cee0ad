#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod admin;
pub mod check_in;
pub mod digest;
pub mod enrol;
pub mod head;
pub mod ids;
pub mod instruction;
mod parsed;
pub mod payload;
pub mod problem;
pub mod release;
pub mod report;
pub mod request;
pub mod root;
pub mod signed;
pub mod state;
pub mod text;
pub mod time;
pub mod version;

/// The paths of the device listener.
pub mod paths {
    /// `POST`: enrolment token and CSR in, certificate out. Needs no client certificate.
    pub const ENROL: &str = "/v1/enrol";
    /// `POST`: a new key's CSR in, its certificate out. A certificate that has ended is welcome here, and nowhere else.
    pub const RENEW: &str = "/v1/renew";
    /// `POST`: [`crate::check_in::CheckIn`] in, a signed [`crate::instruction::Instruction`] out.
    pub const CHECK_IN: &str = "/v1/checkin";
    /// `POST`: [`crate::report::Reports`] in, [`crate::report::Receipt`] out.
    pub const REPORTS: &str = "/v1/reports";
    /// `GET`: the newest root. Needs no client certificate.
    pub const ROOT: &str = "/v1/trust/root";

    /// `GET`: root number `version`. Needs no client certificate.
    pub fn root(version: u64) -> String {
        format!("/v1/trust/root/{version}")
    }

    /// `GET`: the newest head. Needs no client certificate.
    pub const HEAD: &str = "/v1/trust/head";

    /// `GET`: the envelope of one release. Needs no client certificate.
    pub fn release(sha256: crate::digest::Digest) -> String {
        format!("/v1/trust/releases/{sha256}")
    }

    /// `GET`, `HEAD`: the bytes whose SHA-256 is `sha256`, with byte ranges.
    pub fn payload(sha256: crate::digest::Digest) -> String {
        format!("/v1/payloads/{sha256}")
    }
}
