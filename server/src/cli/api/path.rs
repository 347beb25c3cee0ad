//! Paths below `/api/v1`, with every part that people wrote escaped.

use std::fmt::{self, Write as _};

/// A path and its query.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    path: String,
    query: String,
}

impl Path {
    /// `/api/v1/` and the segments.
    pub(crate) fn new<'a>(segments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut path = "/api/v1".to_owned();
        for segment in segments {
            path.push('/');
            escape(&mut path, segment);
        }
        Self { path, query: String::new() }
    }

    /// With a parameter.
    pub(crate) fn query(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(key);
        self.query.push('=');
        escape(&mut self.query, &value.to_string());
        self
    }

    /// With a parameter, if there is a value.
    pub(crate) fn maybe(self, key: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, self.query)
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters; dots alone too, which would climb.
fn escape(into: &mut String, text: &str) {
    let dots = !text.is_empty() && text.bytes().all(|c| c == b'.');
    for c in text.bytes() {
        if c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'~') || (c == b'.' && !dots) {
            into.push(char::from(c));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(into, "%{c:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_stays_in_its_segment() {
        let path = Path::new(["releases", "pos-app@2.4.0/..?a=b"]);
        assert_eq!(path.to_string(), "/api/v1/releases/pos-app%402.4.0%2F..%3Fa%3Db");
        assert_eq!(Path::new(["devices", ".."]).to_string(), "/api/v1/devices/%2E%2E");
    }

    #[test]
    fn parameters_are_joined_and_escaped() {
        let path = Path::new(["devices"]).query("limit", 5).maybe("after", None::<&str>);
        assert_eq!(
            path.query("selector", "a = \"ü&b\"").to_string(),
            "/api/v1/devices?limit=5&selector=a%20%3D%20%22%C3%BC%26b%22"
        );
    }
}
