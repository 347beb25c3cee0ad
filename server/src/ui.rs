//! Pages for people, rendered on the server.

pub(crate) mod overview;
