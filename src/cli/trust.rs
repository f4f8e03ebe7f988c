//! Whose signature something bears, and whose sealing key something is: verified here, not believed.

use super::config::Settings;
use super::exit::Failure;
use super::files;
use crate::client::{ClientError, KeyDocument};
use crate::envelope::statement::KeyStatement;
use crate::envelope::{
    Body, DocumentError, Recipient, SealingPublicKey, SignatureError, SignedDocument, SignerChain,
};
use crate::identity::{Anchors, CertificateDer, IdentityError, Kind, Made, pem, verify_signature};
use crate::tlog::OpenEntry;
use crate::types::{PartyId, Timestamp};

/// The configured roots and revocation lists, as they hold at `now`.
pub(super) fn anchors(settings: &Settings, now: Timestamp) -> Result<Anchors, Failure> {
    let (roots, lists) = settings.trust()?;
    let wrong = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        Failure::failed(format!("`{}`: {error}", path.display()))
    };
    let root_certificates =
        pem::certificates(&files::read(&roots)?).map_err(|error| wrong(&roots, &error))?;
    let revocations = pem::lists(&files::read(&lists)?).map_err(|error| wrong(&lists, &error))?;
    Ok(Anchors::new(&root_certificates, &revocations, now)?)
}

/// The party whose signing leaf made a signature, and was entitled to.
fn signer(
    anchors: &Anchors,
    made: Made,
) -> impl Fn(&SignerChain, &[u8], &[u8]) -> Result<PartyId, IdentityError> {
    move |chain, message, signature| {
        let chain: Vec<_> = chain
            .certificates()
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let leaf = verify_signature(&chain, message, signature, anchors, made)?;
        match leaf.identity.kind {
            Kind::Party => Ok(leaf.identity.id),
            _ => Err(IdentityError::Untrusted),
        }
    }
}

/// Verifies that the depositor that a body names has signed it.
pub(super) fn verify_body(
    body: &Body,
    anchors: &Anchors,
    made: Made,
) -> Result<(), SignatureError<IdentityError>> {
    body.verify(signer(anchors, made))
}

/// The key that a party states to be its own, with the statement.
///
/// The statement is verified as of its entry's time: its signer's certificate may have ended, or been revoked, since.
pub(super) fn stated_key(
    document: &KeyDocument,
    party: &PartyId,
    anchors: &Anchors,
) -> Result<(KeyStatement, SealingPublicKey), ClientError> {
    let wrong = |why: &dyn std::fmt::Display| {
        ClientError::Verification(format!("the statement of key {}: {why}", document.key_id))
    };
    let entry = OpenEntry::read(&document.receipt.leaf).map_err(|error| wrong(&error))?;
    let json = document
        .statement
        .as_ref()
        .ok_or_else(|| wrong(&"there is none"))?;
    let signed =
        SignedDocument::from_json(json.to_string().as_bytes()).map_err(|error| wrong(&error))?;
    let logged = entry
        .shown()
        .get("statement")
        .and_then(|digest| digest.as_str());
    if logged != Some(signed.digest().to_string().as_str()) {
        return Err(wrong(&"the log records another one"));
    }
    let verified = signed.verify(signer(anchors, Made::Logged(entry.at())));
    let (statement, author): (KeyStatement, PartyId) = verified.map_err(|error| match error {
        DocumentError::Signature(IdentityError::Revoked) => {
            ClientError::Revoked(format!("the statement of key {}: {error}", document.key_id))
        }
        error => wrong(&error),
    })?;
    if author != *party || statement.party != Recipient::Party(party.clone()) {
        return Err(wrong(&"it is another party's"));
    }
    if statement.key_id != document.key_id {
        return Err(wrong(&"it is about another key"));
    }
    let key = statement.key().map_err(|error| wrong(&error))?;
    Ok((statement, key))
}
