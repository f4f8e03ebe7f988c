//! The calls of suppliers, each with what has to be verified about its answer.

use std::convert::Infallible;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Client, ClientError, Depositor, Request, Sent};
use crate::envelope::statement::{Confirmation, KeyStatement};
use crate::envelope::{
    DocumentError, Envelope, Kem, Recipient, Release, SealingKeyPair, SealingPublicKey,
    SignedDocument, possession,
};
use crate::tlog::OpenEntry;
use crate::types::{Digest, HandoverId, KeyId, Timestamp};

/// A receipt as it travels.
#[derive(Clone, Debug, Deserialize)]
pub struct ReceiptDocument {
    /// The entry's index.
    pub index: u64,
    /// The leaf's bytes.
    #[serde(deserialize_with = "base64url")]
    pub leaf: Vec<u8>,
    /// What the entry hides from others.
    pub disclosures: Vec<String>,
    /// Inclusion proof and checkpoint.
    pub proof: String,
}

impl ReceiptDocument {
    /// The receipt in an answer. One that does not read proves nothing.
    pub fn from_json(receipt: &Value) -> Result<Self, ClientError> {
        Self::deserialize(receipt)
            .map_err(|error| ClientError::Verification(format!("the receipt: {error}")))
    }

    /// A field that the entry shows, or hides from others.
    fn field(&self, name: &str) -> Option<Value> {
        let entry = OpenEntry::read(&self.leaf).ok()?;
        if let Some(value) = entry.shown().get(name) {
            return Some(value.clone());
        }
        entry.open(&self.disclosures).ok()?.get(name).cloned()
    }
}

fn base64url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(serde::de::Error::custom)
}

/// What the service says of a deposit.
#[derive(Clone, Debug)]
pub struct Deposited {
    /// The whole answer.
    pub body: Value,
    /// The generation of the credentials, if some were deposited.
    pub generation: Option<u32>,
}

/// A release with the answer that it came in.
#[derive(Debug)]
pub struct ReleaseDocument {
    /// The whole answer.
    pub body: Value,
    /// The release, whose digest is in the log.
    pub release: Release,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// One of the escrow's own keys.
#[derive(Clone, Debug)]
pub struct EscrowKey {
    /// The key.
    pub key: SealingPublicKey,
    /// Its name.
    pub key_id: KeyId,
}

/// A sealing key as it is listed.
#[derive(Clone, Debug, Deserialize)]
pub struct KeyDocument {
    /// SHA-256 of the public key.
    pub key_id: KeyId,
    /// The KEM's number.
    pub kem: u16,
    /// The public key, in base64url.
    pub public_key: String,
    /// Whether it may be sealed to now.
    pub active: bool,
    /// From when it may.
    pub active_at: Timestamp,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
    /// The statement that the party signed.
    pub statement: Option<Value>,
    /// Proof that it is in the log.
    pub receipt: ReceiptDocument,
}

impl KeyDocument {
    fn public(&self) -> Result<SealingPublicKey, ClientError> {
        let wrong = || ClientError::Verification("a sealing key is not what it says".to_owned());
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(&self.public_key)
            .map_err(|_| wrong())?;
        let kem = Kem::of_id(self.kem).ok_or_else(wrong)?;
        let key = SealingPublicKey::from_bytes(kem, &bytes).map_err(|_| wrong())?;
        (key.id() == self.key_id).then_some(key).ok_or_else(wrong)
    }

    /// What its statement says, whoever may have signed it.
    pub fn claim(&self) -> Result<KeyStatement, ClientError> {
        let wrong = |why: &dyn std::fmt::Display| {
            ClientError::Verification(format!("the statement of key {}: {why}", self.key_id))
        };
        let json = self
            .statement
            .as_ref()
            .ok_or_else(|| wrong(&"there is none"))?;
        let document = SignedDocument::from_json(json.to_string().as_bytes())
            .map_err(|error| wrong(&error))?;
        document
            .claim()
            .map_err(|error: DocumentError<Infallible>| wrong(&error))
    }
}

impl Client {
    /// The escrow's key for this KEM, which its log's first entry names.
    pub async fn escrow_key(&self, kem: Kem) -> Result<EscrowKey, ClientError> {
        let keys = self.keys("escrow").await?;
        let document = keys
            .iter()
            .find(|document| document.kem == kem.id())
            .ok_or_else(|| ClientError::Unexpected(format!("the escrow has no {kem} key")))?;
        let key = document.public()?;
        let named = document.receipt.field("sealing_keys").unwrap_or_default();
        let id = json!(document.key_id);
        let in_log = named
            .as_array()
            .is_some_and(|keys| keys.iter().any(|named| named["key_id"] == id));
        if !in_log || document.receipt.index != 0 {
            return Err(ClientError::Verification(
                "the log's first entry does not name the escrow's key".to_owned(),
            ));
        }
        Ok(EscrowKey {
            key,
            key_id: document.key_id,
        })
    }

    /// All sealing keys of a party, newest first, or with `escrow` the service's; each receipt verified.
    pub async fn keys(&self, of: &str) -> Result<Vec<KeyDocument>, ClientError> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<KeyDocument>,
        }
        let answer = self
            .send(Request::get(format!("/v1/parties/{of}/sealing-keys")))
            .await?;
        let keys: Keys = answer.json()?;
        for key in &keys.keys {
            self.verify_receipt(&key.receipt).await?;
        }
        Ok(keys.keys)
    }

    /// Publishes a sealing key: signs the statement, answers the challenge.
    pub async fn publish_key(
        &self,
        pair: &SealingKeyPair,
        valid: (Timestamp, Timestamp),
        sequence: u32,
        depositor: &Depositor<'_>,
    ) -> Result<Value, ClientError> {
        let statement = KeyStatement {
            party: Recipient::Party(depositor.party.clone()),
            kem: pair.public().kem(),
            public_key: pair.public().as_bytes().to_vec(),
            key_id: pair.id(),
            not_before: valid.0,
            not_after: valid.1,
            sequence,
        };
        let document = SignedDocument::sign(&statement, |message| depositor.sign(message))?;
        let statement: Value = from_json(&document.to_json())?;
        let challenge: Value = self
            .send(Request::put(
                OWN_KEYS,
                json!({ "statement": statement }).to_string(),
            ))
            .await?
            .json()?;
        let wire = challenge["challenge"]
            .as_str()
            .and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or_else(|| ClientError::Unexpected("no challenge".to_owned()))?;
        let nonce = possession::answer(pair, &wire)
            .map_err(|error| ClientError::Unexpected(error.to_string()))?;
        let offer = json!({
            "statement": statement,
            "token": challenge["token"],
            "possession": BASE64_URL_SAFE_NO_PAD.encode(nonce),
        });
        self.acknowledged(Request::put(OWN_KEYS, offer.to_string()))
            .await
    }

    /// Deposits envelopes; for a handover, or standing.
    pub async fn deposit(
        &self,
        handover: Option<HandoverId>,
        envelopes: &[Envelope],
        key: &str,
    ) -> Result<Deposited, ClientError> {
        let path = match handover {
            Some(id) => format!("/v1/handovers/{id}/deposit"),
            None => "/v1/deposits".to_owned(),
        };
        let body = self
            .recorded(deposit(path, envelopes, key), Sent::Envelopes(envelopes))
            .await?;
        let generation = body["envelopes"].as_array().and_then(|stored| {
            let credentials = stored.iter().find(|e| e["component"] == "credentials")?;
            u32::try_from(credentials["generation"].as_u64()?).ok()
        });
        Ok(Deposited { body, generation })
    }

    /// Disputes the losing supplier's closing read with another one.
    pub async fn dispute(
        &self,
        handover: HandoverId,
        read: &Envelope,
        key: &str,
    ) -> Result<Value, ClientError> {
        let path = format!("/v1/handovers/{handover}/dispute");
        let request = deposit(path, std::slice::from_ref(read), key);
        self.recorded(request, Sent::Dispute(handover, read)).await
    }

    /// Fetches the package of a handover. The release is what the log says was released, or the call fails.
    pub async fn release(
        &self,
        handover: HandoverId,
        request: &Value,
        key: &str,
    ) -> Result<ReleaseDocument, ClientError> {
        let path = format!("/v1/handovers/{handover}/release");
        self.release_from(path, request, key).await
    }

    /// Gets the keys of one's own meter back.
    pub async fn recover(
        &self,
        supply_point: &crate::types::SupplyPoint,
        request: &Value,
        key: &str,
    ) -> Result<ReleaseDocument, ClientError> {
        let path = format!("/v1/supply-points/{supply_point}/release");
        self.release_from(path, request, key).await
    }

    async fn release_from(
        &self,
        path: String,
        request: &Value,
        key: &str,
    ) -> Result<ReleaseDocument, ClientError> {
        let request = Request::post(path, request.to_string()).idempotent(key);
        let body: Value = self.send(request).await?.json()?;
        let receipt = ReceiptDocument::from_json(&body["receipt"])?;
        self.verify_receipt(&receipt).await?;
        let bytes = body["release"]
            .as_str()
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .ok_or_else(|| ClientError::Unexpected("no release in the answer".to_owned()))?;
        let logged = receipt.field("release");
        if logged != Some(json!(Digest::of(&bytes))) {
            return Err(ClientError::Verification(
                "the log records another release than the one that was handed out".to_owned(),
            ));
        }
        let release = Release::decode(&bytes)
            .map_err(|error| ClientError::Verification(error.to_string()))?;
        Ok(ReleaseDocument {
            body,
            release,
            bytes,
        })
    }

    /// Confirms how a handover ended.
    pub async fn confirm(
        &self,
        confirmation: &Confirmation,
        depositor: &Depositor<'_>,
        key: &str,
    ) -> Result<Value, ClientError> {
        let document = SignedDocument::sign(confirmation, |message| depositor.sign(message))?;
        self.confirm_signed(confirmation, &document.to_json(), key)
            .await
    }

    /// The same with a document that is signed already, and says this, whatever time it tells.
    pub async fn confirm_signed(
        &self,
        says: &Confirmation,
        document: &[u8],
        key: &str,
    ) -> Result<Value, ClientError> {
        let path = format!("/v1/handovers/{}/confirm", says.handover);
        let sent = Sent::Confirmation {
            handover: says.handover,
            outcome: says.outcome,
            generation: says.generation,
            document: Digest::of(document),
        };
        let request = Request::post(path, document.to_vec()).idempotent(key);
        self.recorded(request, sent).await
    }

    /// Says that the released credentials do not open the meter.
    pub async fn reject(
        &self,
        handover: HandoverId,
        reason: &str,
        key: &str,
    ) -> Result<Value, ClientError> {
        let path = format!("/v1/handovers/{handover}/reject");
        let body = json!({ "reason": reason }).to_string();
        let request = Request::post(path, body).idempotent(key);
        self.recorded(request, Sent::Rejection(handover, reason))
            .await
    }

    /// Accepts the losing supplier's closing read.
    pub async fn accept_read(&self, handover: HandoverId) -> Result<Value, ClientError> {
        let path = format!("/v1/handovers/{handover}/accept-read");
        self.acknowledged(Request::post(path, "")).await
    }

    /// Sends a request whose answer may carry a receipt, and verifies that receipt.
    pub async fn acknowledged(&self, request: Request) -> Result<Value, ClientError> {
        let body: Value = self.send(request).await?.json()?;
        if let Some(receipt) = body.get("receipt").filter(|receipt| !receipt.is_null()) {
            self.verify_receipt(&ReceiptDocument::from_json(receipt)?)
                .await?;
        }
        Ok(body)
    }
}

fn deposit(path: String, envelopes: &[Envelope], key: &str) -> Request {
    let envelopes: Vec<_> = envelopes
        .iter()
        .map(|envelope| BASE64_STANDARD.encode(envelope.encode()))
        .collect();
    let body = json!({ "seal": "client", "envelopes": envelopes });
    Request::post(path, body.to_string()).idempotent(key)
}

fn from_json(bytes: &[u8]) -> Result<Value, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Unexpected(error.to_string()))
}

const OWN_KEYS: &str = "/v1/parties/me/sealing-keys";
