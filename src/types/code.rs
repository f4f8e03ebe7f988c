use std::fmt;

/// Defines the codes with their text and the sentence that people read.
macro_rules! codes {
    ($($(#[$group:meta])* $name:ident = $text:literal, $title:literal;)+) => {
        /// Why something was refused: stable, one cause each, safe to show to the party that may see it.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Code {
            $($(#[$group])* #[doc = $title] $name,)+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable word, as in problem documents, entries and the documentation.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// One sentence for people; the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    // Check 1: who asks.
    CertificateInvalid = "certificate_invalid", "the client certificate is not acceptable";
    CertificateExpired = "certificate_expired", "the client certificate has expired";
    CertificateRevoked = "certificate_revoked", "the client certificate has been revoked";
    RevocationUnknown = "revocation_unknown", "no current revocation list covers the client certificate";
    WrongRole = "wrong_role", "this kind of identity may not do this";
    // Check 2: may the party act at all.
    PartyUnknown = "party_unknown", "no such party takes part";
    PartySuspended = "party_suspended", "the party is suspended";
    // Check 3: is the request fresh and new.
    IdempotencyKeyMissing = "idempotency_key_missing", "this request needs an idempotency key";
    IdempotencyKeyReused = "idempotency_key_reused", "the idempotency key was used with another request";
    StaleRequest = "stale_request", "the time in the signed request is too far from now";
    // Check 4: form.
    MalformedRequest = "malformed_request", "the request cannot be read";
    MalformedSupplyPoint = "malformed_supply_point", "the supply point is not an MPAN core or MPRN";
    CheckDigit = "check_digit", "the check digit of the supply point does not hold";
    TooLarge = "too_large", "the request is larger than allowed";
    // Check 5: is there something to release, from someone who may deposit.
    NoPackage = "no_package", "no package has been deposited";
    DepositorNotAllowed = "depositor_not_allowed", "the depositor may not deposit for this supply point";
    // Check 6: registration.
    NotRegisteredSupplier = "not_registered_supplier", "the requester is not the registered supplier";
    RegistrationNotSecured = "registration_not_secured", "the registration is not secured";
    RegistrationWithdrawn = "registration_withdrawn", "the registration was withdrawn";
    RegistrationAnnulled = "registration_annulled", "the registration was annulled";
    RegistrationStale = "registration_stale", "the registration feed has been silent for too long";
    NotGainingSupplier = "not_gaining_supplier", "only the gaining supplier of the handover may do this";
    // Check 7: time.
    BeforeWindow = "before_window", "the release window has not opened";
    AfterWindow = "after_window", "the release window has closed";
    // Check 8: the same meter.
    MeterMismatch = "meter_mismatch", "deposit, request and registration do not name the same meter";
    // Check 9: the key it is sealed to.
    RecipientKeyInactive = "recipient_key_inactive", "the requester has no active sealing key";
    SealedToOthers = "sealed_to_others", "what was deposited is sealed to other keys than the requester's";
    // Check 10: volume.
    Quarantined = "quarantined", "the release waits for approval";
    // Check 11: holds.
    ReadMismatch = "read_mismatch", "the closing read is disputed";
    OnHold = "on_hold", "the handover is held";
    // Of requests other than releases.
    NotFound = "not_found", "nothing here that this requester may see";
    WrongState = "wrong_state", "not possible in the present state";
    Forbidden = "forbidden_by_policy", "an operator's policy forbids this";
    EnvelopeMalformed = "envelope_malformed", "the envelope cannot be read";
    EnvelopeDoesNotOpen = "envelope_does_not_open", "the envelope does not open with the escrow's key";
    EnvelopeMismatch = "envelope_mismatch", "the envelope was made for something else";
    EnvelopeReused = "envelope_reused", "this envelope id was deposited before";
    SignatureInvalid = "signature_invalid", "the signature does not verify";
    EscrowLeftOut = "escrow_left_out", "only the losing supplier may seal past the escrow, to the gaining supplier";
    StanzaForeign = "stanza_foreign", "a stanza is sealed to a key of another party";
    PackageInvalid = "package_invalid", "the package is not valid";
    ReadInvalid = "read_invalid", "the closing read is not valid";
    SealServerForbidden = "seal_server_forbidden", "policy requires packages sealed by the depositor";
    StatementInvalid = "statement_invalid", "the key statement is not valid";
    StatementSequence = "statement_sequence", "the key statement does not follow the last one";
    PossessionFailed = "possession_failed", "possession of the sealing key was not proven";
    RegistrationInvalid = "registration_invalid", "the registration record is not valid";
    RegistrationConflict = "registration_conflict", "the registration record contradicts what is known";
    RateLimited = "rate_limited", "too many refused requests in this minute, or too many packages kept";
    AllowanceSpent = "allowance_spent", "too many repetitions or look-ups in a short time; the next is possible soon";
    TooManyAtOnce = "too_many_at_once", "too many requests of this identity are under way";
    Fenced = "fenced", "the service is read-only until its log has been recovered";
    ClockBack = "clock_back", "the service's clock went back";
    Unavailable = "unavailable", "the service cannot answer now";
}

impl Code {
    /// The code of this word, if it is one.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }

    /// Whether the same request may be granted later without anybody changing it or its ground.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::RegistrationStale
                | Self::RateLimited
                | Self::AllowanceSpent
                | Self::TooManyAtOnce
                | Self::Fenced
                | Self::ClockBack
                | Self::Unavailable
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_codes_share_a_word() {
        let words: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
