//! A supplier's requests, made by hand so that an answer counts from the moment it arrives, and what was acknowledged.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use cos_escrow::cli::demo::{events::Event, play::handover};
use cos_escrow::client::{Client, Depositor, Request, seal_package};
use cos_escrow::envelope::statement::{Confirmation, Outcome};
use cos_escrow::envelope::{Kem, Recipient, SealingKeyPair, SealingPublicKey, SignedDocument};
use cos_escrow::identity::{Authority, Identity, Issued, SigningIdentity, Subject};
use cos_escrow::tlog::{Receipt, VerifierKey};
use cos_escrow::types::{HandoverId, Mpid, PartyId, Secret, SystemRandom};
use serde_json::{Value, json};

use super::{DAY, now, release_request};

/// A supplier with all that it signs, opens and connects with.
pub(crate) struct Supplier {
    pub(crate) party: PartyId,
    pub(crate) mpid: Mpid,
    pub(crate) tls: Issued,
    pub(crate) sealing: SealingKeyPair,
    signer: SigningIdentity,
}

impl Supplier {
    pub(super) fn new(mpid: Mpid, authority: &Authority) -> Self {
        let party: PartyId = mpid.as_str().to_lowercase().parse().unwrap();
        let identity = Identity::party(party.clone());
        let signer = Subject::Signer(identity.clone());
        let signer = authority.issue(&signer, 30, now()).unwrap();
        let key = Secret::new(signer.key.unwrap().expose().to_vec());
        Self {
            tls: authority
                .issue(&Subject::Client(identity), 30, now())
                .unwrap(),
            signer: SigningIdentity::new(signer.chain, &key).unwrap(),
            sealing: SealingKeyPair::generate(Kem::XWing, &SystemRandom),
            party,
            mpid,
        }
    }

    pub(super) async fn join(&self, operator: &Client) {
        let add = json!({ "id": self.party, "name": format!("Supplier {}", self.mpid) });
        let hold = json!({ "mpid": self.mpid, "role": "X", "at": "2010-01-01T00:00:00.000Z" });
        let mpids = format!("/v1/parties/{}/mpids", self.party);
        for (path, body) in [("/v1/parties", add), (&mpids, hold)] {
            let request = Request::post(path, body.to_string());
            operator.acknowledged(request).await.unwrap();
        }
    }

    pub(super) async fn publish_key(&self, client: &Client) {
        let valid = (now(), now().after(300 * DAY));
        let depositor = self.depositor();
        let published = client.publish_key(&self.sealing, valid, 1, &depositor);
        published.await.unwrap();
    }

    fn depositor(&self) -> Depositor<'_> {
        Depositor {
            party: self.party.clone(),
            signer: &self.signer,
            random: &SystemRandom,
            now: now(),
        }
    }
}

/// The losing supplier's deposit for a handover, sealed to the escrow.
pub(crate) fn deposit_of(event: &Event, loser: &Supplier, escrow: &SealingPublicKey) -> Request {
    let path = format!("/v1/handovers/{}/deposit", handover(event));
    Request::post(path, deposit_body(event, loser, escrow))
        .idempotent(&format!("deposit-{}", event.event_id))
}

/// The body of such a deposit; a new envelope every time.
pub(crate) fn deposit_body(event: &Event, loser: &Supplier, escrow: &SealingPublicKey) -> String {
    let recipients = [(Recipient::Escrow, escrow.clone())];
    let package = event.package().unwrap();
    let envelope = seal_package(&package, None, &recipients, &loser.depositor()).unwrap();
    let envelopes = [BASE64_STANDARD.encode(envelope.encode())];
    json!({ "seal": "client", "envelopes": envelopes }).to_string()
}

/// The gaining supplier's request for the package.
pub(crate) fn release_of(event: &Event) -> Request {
    let path = format!("/v1/handovers/{}/release", handover(event));
    Request::post(path, release_request(event).to_string())
        .idempotent(&format!("release-{}", event.event_id))
}

/// The gaining supplier's word that it has the meter, whose keys cannot be changed.
pub(crate) fn confirmation(event: &Event, gainer: &Supplier) -> Request {
    let confirmation = Confirmation {
        handover: handover(event),
        party: Recipient::Party(gainer.party.clone()),
        outcome: Outcome::NotRotatable,
        generation: None,
        address_of: None,
        at: now(),
    };
    let depositor = gainer.depositor();
    let document = SignedDocument::sign(&confirmation, |message| depositor.sign(message)).unwrap();
    let path = format!("/v1/handovers/{}/confirm", confirmation.handover);
    Request::post(path, document.to_json()).idempotent(&format!("confirm-{}", event.event_id))
}

/// An answer with its receipt: what must never be lost.
pub(crate) struct Acknowledged {
    pub(crate) handover: HandoverId,
    pub(crate) what: What,
    pub(crate) index: u64,
    /// The receipt as it came.
    pub(crate) document: Value,
    leaf: Vec<u8>,
    receipt: Receipt,
}

/// What was acknowledged.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum What {
    Deposit,
    Release,
    Confirmation,
}

impl Acknowledged {
    /// Reads an answer's receipt.
    pub(crate) fn read(what: What, event: &Event, answer: &Value) -> Self {
        let receipt = &answer["receipt"];
        let leaf = receipt["leaf"].as_str().expect("an answer with a receipt");
        Self {
            handover: handover(event),
            what,
            index: receipt["index"].as_u64().unwrap(),
            document: receipt.clone(),
            leaf: BASE64_URL_SAFE_NO_PAD.decode(leaf).unwrap(),
            receipt: receipt["proof"].as_str().unwrap().parse().unwrap(),
        }
    }

    /// Whether the log has the entry at its place, and had the root that the receipt shows.
    pub(crate) fn is_in(&self, log: &super::mirror::Log, key: &VerifierKey) -> bool {
        let Ok(checkpoint) = self.receipt.verify(&self.leaf, key) else {
            return false;
        };
        let index = usize::try_from(self.index).unwrap();
        log.leaves.get(index) == Some(&self.leaf)
            && log.root_at(checkpoint.head.size) == Some(checkpoint.head.root)
    }
}
