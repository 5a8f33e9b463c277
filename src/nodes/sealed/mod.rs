//! Category `secret`: a secret made of plain values, encrypted for the execution that it is made in.

mod keys;

pub use keys::{ExecutionKeys, SecretError};

use super::port::input;
use super::{Behaviour, NodeError, NodeRun, NodeType};
use crate::nodes::port::output;

/// The types of this folder.
pub(super) const TYPES: &[NodeType] = &[NodeType {
    name: "UnencryptedSecret",
    category: "secret",
    about: "A secret made of plain values; only this execution can read it. The plain values stay in the flow and its events",
    ports: const {
        &[
            input("secretType", SECRET_TYPE),
            input(
                "unencryptedData",
                r#"{"type":"object","schema":{"properties":{}},"isSchemaMutable":true,"defaultValue":{}}"#,
            ),
            output("secret", r#"{"type":"secret","secretType":"string"}"#),
        ]
    },
    behaviour: Behaviour::Pure(encrypt),
    disabled_auto_execution: false,
}];

const SECRET_TYPE: &str = r#"{"type":"enum","options":[
    {"id":"string","type":"string","defaultValue":"string"},
    {"id":"openai","type":"string","defaultValue":"openai"},
    {"id":"0g","type":"string","defaultValue":"0g"},
    {"id":"anthropic","type":"string","defaultValue":"anthropic"},
    {"id":"gemini","type":"string","defaultValue":"gemini"},
    {"id":"coinmarketcap","type":"string","defaultValue":"coinmarketcap"},
    {"id":"deepseek","type":"string","defaultValue":"deepseek"},
    {"id":"groq","type":"string","defaultValue":"groq"},
    {"id":"xAPI","type":"string","defaultValue":"xAPI"},
    {"id":"xApp","type":"string","defaultValue":"xApp"},
    {"id":"OkxDexApi","type":"string","defaultValue":"OkxDexApi"},
    {"id":"alchemy","type":"string","defaultValue":"alchemy"},
    {"id":"moonshot","type":"string","defaultValue":"moonshot"}]}"#;

fn encrypt(run: &mut NodeRun) -> Result<(), NodeError> {
    if run.text("secretType").is_empty() {
        return Err(NodeError::new("port `secretType` is empty; choose what kind of secret it is"));
    }
    let fields = run.get("unencryptedData");
    if fields.as_object().is_none() {
        return Err(NodeError::new("port `unencryptedData` holds no fields; connect it to the secret's values"));
    }
    let secret = run.context().keys.seal(fields);
    run.set("secret", secret.map_err(|error| NodeError::new(format!("the secret can't be encrypted: {error}")))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::nodes::testing::{Bench, fails};

    #[tokio::test]
    async fn a_consumer_in_the_same_execution_reads_the_secret() {
        let inputs = json!({"secretType": "openai", "unencryptedData": {"apiKey": "sk-plain"}});
        let bench = Bench::new("UnencryptedSecret", &inputs);
        let context = bench.context.clone();
        let outcome = bench.run().await;
        assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        let secret = &outcome.ports["secret"];
        assert!(!secret.to_json().to_string().contains("sk-plain"));
        assert_eq!(context.keys.open(secret).unwrap().to_json(), json!({"apiKey": "sk-plain"}));
        assert!(!format!("{context:?}").contains("sk-plain"));
    }

    #[test]
    fn type_and_data_are_needed() {
        for (inputs, words) in [
            (json!({"secretType": "", "unencryptedData": {"value": "sk-plain"}}), "`secretType` is empty"),
            (json!({"unencryptedData": {"value": "sk-plain"}}), "`secretType` is empty"),
            (json!({"secretType": "string", "unencryptedData": null}), "`unencryptedData` holds no fields"),
            (json!({"secretType": "string", "unencryptedData": "sk-plain"}), "`unencryptedData` holds no fields"),
        ] {
            let (text, ports) = fails("UnencryptedSecret", &inputs);
            assert!(text.contains(words) && !text.contains("sk-plain"), "{text}");
            assert_eq!(ports["secret"], json!(null));
        }
    }
}
