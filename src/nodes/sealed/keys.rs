//! The key pair of an execution, and what is encrypted for it: only the execution that obtained a secret can read it.
//!
//! P-256 ECDH between the execution's key pair and one made for the secret; HKDF-SHA-256 of what they share, with the
//! secret's nonce as salt and no info; AES-256-GCM. Encrypted is a 12-byte IV, the ciphertext and a 16-byte tag.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::{PublicKey, Sec1Point, SecretKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::flow::text::json_text;
use crate::flow::{Object, Value};

/// Bytes of a secret's salt for the key derivation.
const SALT_LEN: usize = 32;
/// Bytes of a P-256 private key.
const KEY_LEN: usize = 32;
/// How often a random number may be no private key; one in 2^32 is none.
const TRIES: usize = 16;

/// Why a secret could not be made or read. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
    /// The plain value nests too deeply to be written as JSON.
    #[error("its value nests too deeply")]
    TooDeep,
    /// Not an object with `encrypted`, `hkdfNonce` and `publicKey` in base64.
    #[error("its field `{0}` is missing, or is no base64 text of the right kind")]
    Form(&'static str),
    /// Encrypted for somebody else, or changed since.
    #[error("it was not made in this execution, or was changed since; secrets can't be stored")]
    Sealed,
}

/// The key pair of one execution, made when it is first needed. Clones are the same pair.
#[derive(Clone, Default)]
pub struct ExecutionKeys(Arc<Mutex<Option<SecretKey>>>);

/// Without the keys.
impl fmt::Debug for ExecutionKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExecutionKeys").finish_non_exhaustive()
    }
}

impl ExecutionKeys {
    /// The public key, as an uncompressed point: what others encrypt for.
    ///
    /// # Errors
    /// [`SecretError::Random`].
    pub fn public_key(&self) -> Result<Vec<u8>, SecretError> {
        Ok(point(&self.private()?.public_key()))
    }

    /// Encrypt a secret's fields for this execution, in the form that a secret port holds.
    ///
    /// # Errors
    /// [`SecretError::Random`] and [`SecretError::TooDeep`].
    pub fn seal(&self, fields: &Value) -> Result<Value, SecretError> {
        let mut text = json_text(fields, false).map_err(|_| SecretError::TooDeep)?.into_bytes();
        let other = private_key()?;
        let salt: [u8; SALT_LEN] = random()?;
        let nonce: [u8; NONCE_LEN] = random()?;
        let key = derive(&other, &self.private()?.public_key(), &salt);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text)
            .map_err(|_| SecretError::TooDeep)?; // longer than the cipher allows: 64 GiB
        let encrypted = [nonce.as_slice(), &text].concat();
        let sealed: Object = [
            ("encrypted", BASE64_STANDARD.encode(encrypted)),
            ("hkdfNonce", BASE64_STANDARD.encode(salt)),
            ("publicKey", BASE64_STANDARD.encode(point(&other.public_key()))),
        ]
        .into_iter()
        .map(|(name, text)| (Arc::from(name), Value::from(text)))
        .collect();
        Ok(sealed.into())
    }

    /// Read a secret that was encrypted for this execution: its fields.
    ///
    /// # Errors
    /// [`SecretError::Form`] and [`SecretError::Sealed`].
    pub fn open(&self, secret: &Value) -> Result<Value, SecretError> {
        let part = |name: &'static str| {
            let text = secret.as_object().and_then(|fields| fields.get(name)).and_then(Value::as_str);
            text.and_then(|text| BASE64_STANDARD.decode(text).ok()).ok_or(SecretError::Form(name))
        };
        let (mut encrypted, salt, public) = (part("encrypted")?, part("hkdfNonce")?, part("publicKey")?);
        let public = PublicKey::from_sec1_bytes(&public).map_err(|_| SecretError::Form("publicKey"))?;
        let (nonce, text) = encrypted.split_at_mut_checked(NONCE_LEN).ok_or(SecretError::Form("encrypted"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretError::Form("encrypted"))?;
        let key = derive(&self.private()?, &public, &salt);
        let text = key.open_in_place(nonce, Aad::empty(), text).map_err(|_| SecretError::Sealed)?;
        let json: serde_json::Value = serde_json::from_slice(text).map_err(|_| SecretError::Sealed)?;
        Ok(Value::from(&json))
    }

    fn private(&self) -> Result<SecretKey, SecretError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some(key) => Ok(key.clone()),
            None => {
                let key = private_key()?;
                *held = Some(key.clone());
                Ok(key)
            }
        }
    }
}

fn private_key() -> Result<SecretKey, SecretError> {
    for _ in 0..TRIES {
        if let Ok(key) = SecretKey::from_slice(&random::<KEY_LEN>()?) {
            return Ok(key);
        }
    }
    Err(SecretError::Random)
}

fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SecretError::Random)?;
    Ok(bytes)
}

fn point(key: &PublicKey) -> Vec<u8> {
    Sec1Point::from(key).as_bytes().to_vec()
}

/// The key that both sides come to.
fn derive(private: &SecretKey, public: &PublicKey, salt: &[u8]) -> LessSafeKey {
    let shared = p256::ecdh::diffie_hellman(private.to_nonzero_scalar(), public.as_affine());
    let derived = Salt::new(HKDF_SHA256, salt).extract(shared.raw_secret_bytes());
    // The length of such a key is far below what the derivation can give.
    let key = derived.expand(&[], &AES_256_GCM).map(UnboundKey::from).expect("a key of 32 bytes");
    LessSafeKey::new(key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_its_own_execution_reads_a_secret() {
        let keys = ExecutionKeys::default();
        let fields = Value::from(&json!({"apiKey": "sk-plain", "n": 1}));
        let secret = keys.seal(&fields).unwrap();
        assert_eq!(keys.clone().open(&secret).unwrap().to_json(), fields.to_json());
        assert_eq!(ExecutionKeys::default().open(&secret).unwrap_err(), SecretError::Sealed);
        // Each one under a key of its own.
        let again = keys.seal(&fields).unwrap();
        for field in ["encrypted", "hkdfNonce", "publicKey"] {
            assert_ne!(secret.to_json()[field], again.to_json()[field], "{field}");
        }
        let shown = format!("{keys:?} {secret:?}");
        assert!(!shown.contains("sk-plain"), "{shown}");
        let private = keys.private().unwrap().to_bytes();
        assert!(!shown.contains(&BASE64_STANDARD.encode(private)), "{shown}");
    }

    #[test]
    fn a_changed_secret_is_refused() {
        let keys = ExecutionKeys::default();
        let secret = keys.seal(&Value::from(&json!({"value": "x"}))).unwrap().to_json();
        let error = |field: &str, value: serde_json::Value| {
            let mut changed = secret.clone();
            changed[field] = value;
            keys.open(&Value::from(&changed)).unwrap_err()
        };
        let mut bytes = BASE64_STANDARD.decode(secret["encrypted"].as_str().unwrap()).unwrap();
        bytes[14] ^= 1;
        assert_eq!(error("encrypted", json!(BASE64_STANDARD.encode(bytes))), SecretError::Sealed);
        assert_eq!(error("encrypted", json!("AAAA")), SecretError::Form("encrypted"));
        assert_eq!(error("encrypted", json!("*")), SecretError::Form("encrypted"));
        assert_eq!(error("hkdfNonce", json!("AAAA")), SecretError::Sealed);
        assert_eq!(error("hkdfNonce", json!(null)), SecretError::Form("hkdfNonce"));
        assert_eq!(error("publicKey", json!("AAAA")), SecretError::Form("publicKey"));
        assert_eq!(keys.open(&Value::Null).unwrap_err(), SecretError::Form("encrypted"));
    }

    #[test]
    fn node_js_comes_to_the_same_key() {
        // Made with Node's WebCrypto: ECDH P-256, HKDF, AES-GCM.
        let recorded: serde_json::Value = serde_json::from_str(include_str!("sealed.json")).unwrap();
        let private = BASE64_STANDARD.decode(recorded["privateKey"].as_str().unwrap()).unwrap();
        let keys = ExecutionKeys(Arc::new(Mutex::new(SecretKey::from_slice(&private).ok())));
        assert_eq!(BASE64_STANDARD.encode(keys.public_key().unwrap()), recorded["publicKey"].as_str().unwrap());
        assert_eq!(keys.open(&Value::from(&recorded["secret"])).unwrap().to_json(), recorded["fields"]);
    }
}
