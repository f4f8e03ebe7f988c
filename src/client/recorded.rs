//! Acknowledgements that have to be proven: the log must record what was sent, and the receipt of that comes with the answer.

use serde_json::{Map, Value, json};

use super::{Client, ClientError, ReceiptDocument, Request};
use crate::envelope::Envelope;
use crate::envelope::statement::Outcome;
use crate::tlog::OpenEntry;
use crate::types::{Digest, HandoverId};

/// What was sent, as far as its entry must say the same.
#[derive(Clone, Copy)]
pub enum Sent<'a> {
    /// Envelopes to be kept. Each has an entry of its own, and the receipt is of one of them.
    Envelopes(&'a [Envelope]),
    /// A package in clear, which became an envelope that nobody here knows.
    Plain(Option<HandoverId>),
    /// Another closing read than the losing supplier's.
    Dispute(HandoverId, &'a Envelope),
    /// How a handover ended.
    Confirmation {
        /// Which.
        handover: HandoverId,
        /// How.
        outcome: Outcome,
        /// The generation that opens the meter now.
        generation: Option<u32>,
        /// SHA-256 of the signed document.
        document: Digest,
    },
    /// That the released credentials do not open the meter.
    Rejection(HandoverId, &'a str),
}

impl Client {
    /// Sends a request whose answer means that the log records it: the answer must prove that it does.
    pub async fn recorded(&self, request: Request, sent: Sent<'_>) -> Result<Value, ClientError> {
        let body: Value = self.send(request).await?.json()?;
        let receipt = ReceiptDocument::from_json(&body["receipt"])?;
        self.verify_receipt(&receipt).await?;
        let wrong = |what: &str| Err(ClientError::Verification(what.to_owned()));
        match Recorded::of(&receipt) {
            None => wrong("the receipt is not of an entry that we can read"),
            Some(entry) if sent.is(&entry) => Ok(body),
            Some(_) => wrong("the log records something else than what was sent"),
        }
    }
}

/// The entry of a receipt with what it hides from others.
struct Recorded {
    kind: String,
    fields: Map<String, Value>,
}

impl Recorded {
    fn of(receipt: &ReceiptDocument) -> Option<Self> {
        let entry = OpenEntry::read(&receipt.leaf).ok()?;
        let mut fields = entry.open(&receipt.disclosures).ok()?;
        fields.extend(entry.shown().clone());
        Some(Self {
            kind: entry.kind().to_owned(),
            fields,
        })
    }

    fn has(&self, name: &str, value: &Value) -> bool {
        self.fields.get(name).unwrap_or(&Value::Null) == value
    }
}

impl Sent<'_> {
    fn is(self, entry: &Recorded) -> bool {
        match self {
            Self::Envelopes(envelopes) => {
                let mut bodies = envelopes.iter().map(|envelope| envelope.body().digest());
                let is_one = bodies.any(|body| entry.has("package", &json!(body)));
                entry.kind == "package.deposited" && is_one
            }
            Self::Plain(handover) => {
                entry.kind == "package.deposited" && entry.has("handover", &json!(handover))
            }
            Self::Dispute(handover, read) => {
                let read = read.body().header().read_commitment;
                entry.kind == "read.disputed"
                    && entry.has("handover", &json!(handover))
                    && entry.has("read", &json!(read))
            }
            Self::Confirmation {
                handover,
                outcome,
                generation,
                document,
            } => {
                // Said again in another document, the entry is that of the first.
                let is_same = entry.has("outcome", &json!(outcome))
                    && entry.has("generation", &json!(generation));
                entry.kind == "handover.confirmed"
                    && entry.has("handover", &json!(handover))
                    && (is_same || entry.has("confirmation", &json!(document)))
            }
            Self::Rejection(handover, reason) => {
                entry.kind == "handover.rejected"
                    && entry.has("handover", &json!(handover))
                    && entry.has("reason", &json!(reason))
            }
        }
    }
}
