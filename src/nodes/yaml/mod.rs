//! YAML 1.2: writing it as the `yaml` library for JavaScript does, character for character, and reading it.

mod fold;
mod read;
mod scalar;
mod write;

pub(super) use read::read;
pub(super) use write::write;

#[cfg(test)]
mod tests {
    use crate::flow::Value;

    /// Texts written by the library itself.
    const WRITTEN: &str = include_str!("written.json");

    #[test]
    fn writes_what_the_library_writes() {
        let cases: Vec<(serde_json::Value, String)> = serde_json::from_str(WRITTEN).unwrap();
        assert!(cases.len() > 100);
        for (value, text) in &cases {
            assert_eq!(super::write(&Value::from(value), false).unwrap(), *text, "{value}");
        }
    }
}
