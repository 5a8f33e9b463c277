//! Rate limits as people write them: `"100 per 1m"`.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

use crate::sysdb::RateLimit;

#[expect(clippy::ref_option, reason = "the form that serde asks for")]
pub fn serialize<S: Serializer>(rate: &Option<RateLimit>, serializer: S) -> Result<S::Ok, S::Error> {
    match rate {
        Some(rate) => serializer.collect_str(rate),
        None => serializer.serialize_none(),
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RateLimit>, D::Error> {
    let text = String::deserialize(deserializer).map_err(D::Error::custom)?;
    text.parse().map(Some).map_err(|error| D::Error::custom(format!("\"{text}\": {error}")))
}
