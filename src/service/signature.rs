//! Whose signature it is, by the certificates that the service trusts now.

use super::{Escrow, Failure};
use crate::envelope::SignerChain;
use crate::envelope::{SignedDocument, Statement};
use crate::identity::{CertificateDer, IdentityError, Kind, verify_signature};
use crate::types::{Code, PartyId};

impl Escrow {
    /// The party whose signing leaf made a signature.
    pub(super) fn signer(
        &self,
        chain: &SignerChain,
        message: &[u8],
        signature: &[u8],
    ) -> Result<PartyId, IdentityError> {
        let rules = self.shared.rules.load();
        let chain: Vec<_> = chain
            .certificates()
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let now = self.shared.clock.now();
        let leaf = verify_signature(&chain, message, signature, &rules.anchors, now)?;
        match leaf.identity.kind {
            Kind::Party => Ok(leaf.identity.id),
            _ => Err(IdentityError::Untrusted),
        }
    }

    /// A document's content, if this party's signing leaf signed it.
    pub(super) fn verified<T: Statement>(
        &self,
        party: &PartyId,
        document: &SignedDocument,
    ) -> Result<T, Failure> {
        let verified = document
            .verify(|chain, message, signature| self.signer(chain, message, signature))
            .map_err(|error| Failure::because(Code::SignatureInvalid, error.to_string()));
        match verified? {
            (statement, signer) if signer == *party => Ok(statement),
            _ => Err(Failure::because(
                Code::SignatureInvalid,
                "the document was signed by another party",
            )),
        }
    }
}
