//! The JSON that envelopes and bodies are written in. It is JSON with less room for two readers to see two things: no
//! object names anything twice, known or not, nesting is bounded, and numbers are integers.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Checks a whole text.
///
/// # Errors
/// Says what is wrong and where.
pub(super) fn check(text: &[u8], max_depth: usize) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Value { left: max_depth, max_depth }.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|source| source.to_string())
}

/// A value that may be nested so much further.
#[derive(Clone, Copy)]
struct Value {
    left: usize,
    max_depth: usize,
}

impl Value {
    fn inside<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        left.map(|left| Self { left, ..self })
            .ok_or_else(|| E::custom(format!("nested deeper than {}", self.max_depth)))
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        Err(E::custom(format!("{number} is not an integer of at most 64 bits")))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let inside = self.inside::<A::Error>()?;
        while list.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inside = self.inside::<A::Error>()?;
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(inside)?;
            if let Some(twice) = names.replace(name) {
                return Err(A::Error::custom(format!("{twice:?} stands twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (text, wanted) in [
            (r#"{"a":1,"b":[{"a":2},{"a":3}]}"#, ""),
            (r#"{"a":1,"a":2}"#, "\"a\" stands twice"),
            (r#"{"a":1,"\u0061":2}"#, "\"a\" stands twice"),
            (r#"{"a":{"b":1,"b":1}}"#, "\"b\" stands twice"),
            ("[1.0]", "not an integer"),
            ("[1e2]", "not an integer"),
            ("[-0]", "not an integer"),
            ("[18446744073709551616]", "not an integer"),
            ("[18446744073709551615,-9223372036854775808]", ""),
            ("[NaN]", "expected"),
            (r#"["\ud800"]"#, "hex escape"),
            ("[[[[[[[[1]]]]]]]]", ""),
            ("[[[[[[[[[1]]]]]]]]]", "nested deeper than 8"),
            ("1 2", "trailing"),
            ("", "EOF"),
        ] {
            let said = check(text.as_bytes(), 8).err().unwrap_or_default();
            assert!(said.contains(wanted) && wanted.is_empty() == said.is_empty(), "{text}: {said}");
        }
        assert!(check(b"[\"\xff\"]", 8).is_err(), "not UTF-8");
    }

    #[test]
    fn a_bomb_of_brackets_is_refused_where_it_gets_too_deep() {
        let bomb = vec![b'['; 10 << 20];
        assert!(check(&bomb, 8).is_err_and(|said| said.contains("column 9")));
    }
}
