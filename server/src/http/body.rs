//! JSON bodies: an object. The derived readers would take a list of the values in their order as well, and an empty list
//! for whatever has nothing but defaults.

use std::{fmt, future::Future, marker::PhantomData, ops::Deref, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Json};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The body of an operator's request.
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

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, actix_web::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let json = Json::<Object<T>>::from_request(request, payload);
        Box::pin(async move { json.await.map(|json| Self(json.into_inner().0)) })
    }
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
