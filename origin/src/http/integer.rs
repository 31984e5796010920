//! Integers in JSON bodies. 60.0 is one too (JSON Schema Core 2020-12, section 4.2.3), and some clients write them so.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// Integers up to here are exact as floating point (2^53).
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// An integer. For `deserialize_with`.
pub(super) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(Integer)
}

/// An integer or null. For `deserialize_with`, beside `default`.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Given(#[serde(deserialize_with = "required")] u64);
    Ok(Option::<Given>::deserialize(deserializer)?.map(|Given(number)| number))
}

struct Integer;

impl Visitor<'_> for Integer {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer that is not negative")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
        let exact = (0.0..=EXACT_MAX).contains(&value).then(|| value.to_string());
        let whole = exact.and_then(|text| text.parse().ok());
        whole.ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(deserialize_with = "required")]
        must: u64,
        #[serde(default, deserialize_with = "optional")]
        may: Option<u64>,
    }

    #[test]
    fn an_integer_may_be_written_with_a_fraction_of_zero() {
        for (text, must, may) in [
            (r#"{"must":60}"#, 60, None),
            (r#"{"must":60.0,"may":null}"#, 60, None),
            (r#"{"must":6e1,"may":3595.0}"#, 60, Some(3_595)),
            (r#"{"must":0.0,"may":18446744073709551615}"#, 0, Some(u64::MAX)),
        ] {
            let body: Body = serde_json::from_str(text).unwrap();
            assert_eq!((body.must, body.may), (must, may), "{text}");
        }
        for wrong in ["60.5", "-1", "-1.0", "1e300", "\"60\"", "null", "[60]"] {
            assert!(serde_json::from_str::<Body>(&format!(r#"{{"must":{wrong}}}"#)).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Body>(r#"{"must":1,"may":0.5}"#).is_err());
    }
}
