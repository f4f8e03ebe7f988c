//! Whose signature it is, by the certificates that the service trusts now.

use super::{Escrow, Failure};
use crate::envelope::{Body, SignedDocument, SignerChain, Statement};
use crate::identity::{CertificateDer, IdentityError, Kind, Made, verify_signature};
use crate::types::{Code, PartyId};

impl Escrow {
    /// Verifies that the depositor that an envelope names has signed it, as of now, by which takers verify it, and as of the
    /// time that it tells: a deposit that is acknowledged as signed is one that they can use. That this time is not to come is
    /// for the transaction to see, which knows how late it is by the log.
    pub(super) fn verify_made(&self, body: &Body) -> Result<(), Failure> {
        let made_at = body.header().created_at;
        let verified = body.verify(|chain, message, signature| {
            let rules = self.shared.rules.load();
            rules.anchors.verify_signer(&ders(chain), made_at)?;
            self.signer(chain, message, signature)
        });
        verified.map_err(|error| Failure::because(Code::SignatureInvalid, error.to_string()))
    }

    /// The party whose signing leaf made a signature.
    fn signer(
        &self,
        chain: &SignerChain,
        message: &[u8],
        signature: &[u8],
    ) -> Result<PartyId, IdentityError> {
        let rules = self.shared.rules.load();
        let made = Made::By(self.shared.clock.now());
        let leaf = verify_signature(&ders(chain), message, signature, &rules.anchors, made)?;
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

fn ders(chain: &SignerChain) -> Vec<CertificateDer<'_>> {
    let certificates = chain.certificates().iter();
    certificates
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect()
}
