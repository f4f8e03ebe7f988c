//! Parties publish the keys that packages for them are sealed to.
//!
//! A key statement is signed by the party's signing leaf and becomes an entry, so that the service cannot swap a key
//! unnoticed. Before that the party proves that it can open what is sealed to the key.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ledger::{Act, Ledger};
use super::receipt::Receipt;
use super::sequencer::{Command, Verdict};
use super::{Answer, Caller, Escrow, Failure};
use crate::envelope::SignedDocument;
use crate::envelope::statement::{KeyRetirement, KeyStatement};
use crate::envelope::{Recipient, SealingPublicKey, possession};
use crate::store::{Needs, SealingKey};
use crate::types::{Code, Digest, KeyId, PartyId, Timestamp};

/// A key that a party wants to be sealed to.
#[derive(Clone, Debug)]
pub struct KeyOffer {
    /// The signed key statement.
    pub statement: SignedDocument,
    /// The token that came with the challenge.
    pub token: Option<String>,
    /// What the challenge sealed, in base64url: proof of possession.
    pub possession: Option<String>,
}

/// What is needed to seal to a key, and to believe that it is the party's.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KeyView {
    /// SHA-256 of the public key.
    pub key_id: KeyId,
    /// The KEM's number in the HPKE registry.
    pub kem: u16,
    /// The public key, in base64url.
    pub public_key: String,
    /// Whether it may be sealed to now.
    pub active: bool,
    /// From when it may.
    pub active_at: Timestamp,
    /// Until when its statement is valid.
    pub not_after: Timestamp,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
    /// The statement that the party signed; none for the escrow's own keys, which the first entry names.
    pub statement: Option<Value>,
    /// Proof that the statement is in the log.
    pub receipt: Receipt,
}

/// What happens to an offered key.
#[derive(Debug)]
pub enum Offered {
    /// The party must first open this.
    Challenged {
        /// What is sealed to the key, in base64url.
        challenge: String,
        /// To be sent back with the answer.
        token: String,
    },
    /// It is published.
    Published(Answer),
}

impl Escrow {
    /// Challenges the holder of an offered key, or publishes the key once the challenge is answered.
    pub async fn offer_key(&self, caller: Caller, offer: KeyOffer) -> Result<Offered, Failure> {
        let party = caller.party()?.clone();
        let statement = self.verified_statement(&party, &offer.statement)?;
        let public = statement
            .key()
            .map_err(|error| Failure::because(Code::StatementInvalid, error.to_string()))?;
        let now = self.shared.clock.now();
        let Some(possession) = &offer.possession else {
            return self.challenged(&party, &public, now);
        };
        let token = offer.token.as_deref().unwrap_or_default();
        if !self.possession_proven(&party, public.id(), token, possession) {
            return Err(Failure::refused(Code::PossessionFailed));
        }
        let document = String::from_utf8(offer.statement.to_json())
            .map_err(|error| Failure::Broken(error.to_string()))?;
        let command = Publish {
            party,
            statement,
            document,
        };
        self.submit(caller, None, command)
            .await
            .map(Offered::Published)
    }

    /// Retires a key by a signed statement of its party.
    pub async fn retire_key(
        &self,
        caller: Caller,
        document: SignedDocument,
    ) -> Result<Answer, Failure> {
        let party = caller.party()?.clone();
        let retirement: KeyRetirement = self.verified(&party, &document)?;
        if retirement.party != Recipient::Party(party.clone()) {
            return Err(Failure::refused(Code::StatementInvalid));
        }
        let key_id = retirement.key_id;
        self.submit(caller, None, Retire { party, key_id }).await
    }

    /// All keys of a party, newest first, each with its proof; for `escrow` the service's own.
    pub async fn sealing_keys(&self, id: &str) -> Result<Vec<KeyView>, Failure> {
        let note = self.shared.checkpoint()?;
        let size = self.shared.size_of(&note)?;
        let now = self.shared.clock.now();
        if id == ESCROW {
            let receipt = Receipt {
                disclosures: Vec::new(),
                ..self.shared.receipt_at(0, size, &note).await?
            };
            let views = self
                .shared
                .custody
                .sealing_keys()
                .iter()
                .map(|pair| KeyView {
                    key_id: pair.id(),
                    kem: pair.public().kem().id(),
                    public_key: BASE64_URL_SAFE_NO_PAD.encode(pair.public().as_bytes()),
                    active: true,
                    active_at: Timestamp::default(),
                    not_after: Timestamp::from_millis(i64::MAX as u64),
                    retired_at: None,
                    statement: None,
                    receipt: receipt.clone(),
                });
            return Ok(views.collect());
        }
        let unknown = || Failure::refused(Code::NotFound);
        let party: PartyId = id.parse().map_err(|_| unknown())?;
        let directory = self.shared.store.directory().await?;
        directory.party(&party).ok_or_else(unknown)?;
        let mut views = Vec::new();
        let keys = directory.keys_of(&party).iter().rev();
        // One that is not anchored yet is not shown yet: nothing could prove it.
        for key in keys.filter(|key| key.entry < size) {
            views.push(KeyView {
                key_id: key.key_id,
                kem: key.kem,
                public_key: BASE64_URL_SAFE_NO_PAD.encode(&key.public_key),
                active: key.active_at(now),
                active_at: key.active_at,
                not_after: key.not_after,
                retired_at: key.retired_at,
                statement: serde_json::from_str(&key.statement).ok(),
                // The statement is shown by the leaf; what is hidden, such as how often the party acts, is its own.
                receipt: Receipt {
                    disclosures: Vec::new(),
                    ..self.shared.receipt_at(key.entry, size, &note).await?
                },
            });
        }
        Ok(views)
    }

    fn verified_statement(
        &self,
        party: &PartyId,
        document: &SignedDocument,
    ) -> Result<KeyStatement, Failure> {
        let statement: KeyStatement = self.verified(party, document)?;
        let invalid = |why: &str| Err(Failure::because(Code::StatementInvalid, why));
        if statement.party != Recipient::Party(party.clone()) {
            return invalid("the statement is another party's");
        }
        if statement.not_after <= self.shared.clock.now() {
            return invalid("the statement is not valid any more");
        }
        if statement.not_after > self.shared.clock.now().after(LONGEST_VALIDITY) {
            return invalid("the statement is valid for more than 800 days from now");
        }
        Ok(statement)
    }

    fn challenged(
        &self,
        party: &PartyId,
        key: &SealingPublicKey,
        now: Timestamp,
    ) -> Result<Offered, Failure> {
        let (wire, expected) = possession::challenge(key, &*self.shared.random)
            .map_err(|error| Failure::because(Code::StatementInvalid, error.to_string()))?;
        let expires = now.after(CHALLENGE_TTL);
        Ok(Offered::Challenged {
            challenge: BASE64_URL_SAFE_NO_PAD.encode(wire),
            token: self.token(party, key.id(), expires, &expected),
        })
    }

    /// `expiry . expected digest . MAC`: lets any instance check the answer without remembering the challenge.
    fn token(
        &self,
        party: &PartyId,
        key_id: KeyId,
        expires: Timestamp,
        expected: &Digest,
    ) -> String {
        let signed = format!("{}.{expected}", expires.as_millis());
        let mac = self
            .shared
            .custody
            .index_of(&format!("possession {party} {key_id} {signed}"));
        format!("{signed}.{}", Digest(mac))
    }

    fn possession_proven(
        &self,
        party: &PartyId,
        key_id: KeyId,
        token: &str,
        possession: &str,
    ) -> bool {
        let mut words = token.split('.');
        let (Some(expires), Some(expected), Some(_)) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        let (Ok(millis), Ok(expected)) = (expires.parse::<u64>(), expected.parse::<Digest>())
        else {
            return false;
        };
        let expires = Timestamp::from_millis(millis);
        let Ok(nonce) = BASE64_URL_SAFE_NO_PAD.decode(possession) else {
            return false;
        };
        // Digests are compared, so that the time it takes tells nothing of the MAC.
        let made = self.token(party, key_id, expires, &expected);
        Digest::of(made.as_bytes()) == Digest::of(token.as_bytes())
            && self.shared.clock.now() < expires
            && possession::is_answer(&expected, &nonce)
    }
}

struct Publish {
    party: PartyId,
    statement: KeyStatement,
    document: String,
}

impl Command for Publish {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let statement = &self.statement;
        let keys = ledger.facts.directory.keys_of(&self.party);
        let sequence = u64::from(statement.sequence);
        if let Some(known) = keys.iter().find(|key| key.key_id == statement.key_id) {
            let refused =
                |why: &str| Verdict::Refused(Failure::because(Code::StatementInvalid, why));
            let valid = (statement.not_before, statement.not_after);
            return match known.retired_at {
                Some(_) => refused("the key was retired; it stays so"),
                None if (known.sequence, known.not_before, known.not_after)
                    != (sequence, valid.0, valid.1) =>
                {
                    refused("the key was published by another statement, which is not changed")
                }
                None => Verdict::Done {
                    answer: json!({ "key_id": known.key_id, "active_at": known.active_at }),
                    entry: Some(known.entry),
                },
            };
        }
        // Exactly the next number: a greatest one would be the last that the party can ever use.
        if sequence != keys.last().map_or(0, |last| last.sequence) + 1 {
            return Verdict::Refused(Failure::refused(Code::StatementSequence));
        }
        // A stolen signing key must not divert packages at once: the party has time to see the new key and object.
        let active_at = match keys.is_empty() {
            true => ledger.now,
            false => ledger.now.after(ledger.rules.terms.key_activation_delay()),
        };
        let act = Act::of("sealing_key.published", caller)
            .shows("party", self.party.as_str())
            .shows("key_id", statement.key_id.to_string())
            .shows("kem", statement.kem.as_str())
            .shows(
                "statement",
                Digest::of(self.document.as_bytes()).to_string(),
            )
            .shows("active_at", active_at.to_string());
        let entry = ledger.append(act);
        let key = SealingKey {
            party: self.party.clone(),
            key_id: statement.key_id,
            kem: statement.kem.id(),
            public_key: statement.public_key.clone(),
            sequence,
            not_before: statement.not_before,
            not_after: statement.not_after,
            active_at,
            retired_at: None,
            statement: self.document.clone(),
            entry,
        };
        let answer = json!({ "key_id": key.key_id, "active_at": key.active_at });
        put_key(ledger, key);
        Verdict::Done {
            answer,
            entry: Some(entry),
        }
    }
}

struct Retire {
    party: PartyId,
    key_id: KeyId,
}

impl Command for Retire {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict {
        let Some(key) = ledger
            .facts
            .directory
            .key(&self.party, &self.key_id)
            .cloned()
        else {
            return Verdict::Refused(Failure::refused(Code::NotFound));
        };
        let answer = |at: Timestamp| json!({ "key_id": self.key_id, "retired_at": at });
        if let Some(at) = key.retired_at {
            return Verdict::Done {
                answer: answer(at),
                entry: None,
            };
        }
        let entry = ledger.append(
            Act::of("sealing_key.retired", caller)
                .shows("party", self.party.as_str())
                .shows("key_id", self.key_id.to_string()),
        );
        let retired_at = Some(ledger.now);
        put_key(ledger, SealingKey { retired_at, ..key });
        Verdict::Done {
            answer: answer(ledger.now),
            entry: Some(entry),
        }
    }
}

fn put_key(ledger: &mut Ledger<'_>, key: SealingKey) {
    ledger.change_directory(|directory| {
        let keys = directory.sealing_keys.entry(key.party.clone()).or_default();
        keys.retain(|other| other.key_id != key.key_id);
        keys.push(key.clone());
        keys.sort_by_key(|key| key.sequence);
    });
    ledger.changes.sealing_keys.push(key);
}

/// The name under which the escrow's own keys are listed.
const ESCROW: &str = "escrow";
/// From now to the end of a statement: a key that nobody looks after is not sealed to for ever.
const LONGEST_VALIDITY: std::time::Duration = std::time::Duration::from_secs(800 * 86_400);
/// How long a challenge may take to answer.
const CHALLENGE_TTL: std::time::Duration = std::time::Duration::from_secs(600);
