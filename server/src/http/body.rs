//! JSON bodies: an object. The derived readers would take a list of the values in their order as well, and an empty list
//! for whatever has nothing but defaults.

use std::{fmt, future::Future, marker::PhantomData, ops::Deref, pin::Pin, time::Duration};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    web::{Bytes, Data, Json},
};
use callboard_proto::{problem::Code, text::Check};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    limits::in_time,
    problem::{ApiProblem, from_actix},
};
use crate::app::App;

/// The body of an operator's request, whose texts have been checked.
pub(crate) struct Body<T>(T);

impl<T> Body<T> {
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Body<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: DeserializeOwned + Check + 'static> FromRequest for Body<T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, actix_web::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (within, json) = (within(request), Json::<Object<T>>::from_request(request, payload));
        Box::pin(async move {
            let Object(message) = in_time(within, json).await??.into_inner();
            message.check().map_err(|detail| ApiProblem::new(Code::Invalid, detail))?;
            Ok(Self(message))
        })
    }
}

/// A signed document in an operator's request, byte for byte.
pub(crate) struct Envelope(pub(crate) Vec<u8>);

impl FromRequest for Envelope {
    type Error = ApiProblem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiProblem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (within, bytes) = (within(request), Bytes::from_request(request, payload));
        Box::pin(async move {
            let bytes = in_time(within, bytes).await?;
            bytes.map(|bytes| Self(bytes.to_vec())).map_err(|error| from_actix(&error))
        })
    }
}

fn within(request: &HttpRequest) -> Duration {
    request.app_data::<Data<App>>().map_or(Duration::ZERO, |app| app.operators_request_timeout())
}

/// What is written as an object and not as a list.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Wish {
        reason: String,
    }

    fn read(text: &str) -> Result<Wish, String> {
        serde_json::from_str::<Object<Wish>>(text).map(|object| object.0).map_err(|error| error.to_string())
    }

    #[test]
    fn an_object_is_read_and_a_list_is_not() {
        assert_eq!(read("{}"), Ok(Wish::default()));
        assert_eq!(read(r#" {"reason": "x"}"#), Ok(Wish { reason: "x".to_owned() }));
        for (text, said) in [
            ("[]", "invalid type: sequence, expected a JSON object at line 1 column 0"),
            ("[\"x\"]", "invalid type: sequence, expected a JSON object"),
            ("null", "invalid type: null, expected a JSON object"),
            ("{\"colour\": 1}", "unknown field `colour`, expected `reason` at line 1 column 9"),
            ("{} {}", "trailing characters"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(said), "{error}");
        }
    }
}
