//! A session with the service: who we are, whom we trust, what we have seen of the log.

use std::path::Path;
use std::sync::Arc;

use super::config::{Connection, Settings, missing};
use super::exit::{Exit, Failure};
use super::files;
use super::outbox::Outbox;
use super::trust;
use crate::client::{Client, ClientError, Depositor, Endpoint, LogView};
use crate::envelope::SealingPublicKey;
use crate::identity::profile::CLIENT;
use crate::identity::{Anchors, Certificate, Identity, Kind, SigningIdentity, pem};
use crate::tlog::{KeyKind, VerifierKey};
use crate::tls::{Material, PostQuantum, client_config};
use crate::types::{Clock as _, Code, PartyId, SystemClock, SystemRandom, Timestamp};

/// What a command works with.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) identity: Identity,
    pub(super) settings: Settings,
    pub(super) anchors: Anchors,
    signer: Option<SigningIdentity>,
}

impl Session {
    /// Reads configuration and files. Connects only when a request is sent.
    pub(super) fn open(connection: &Connection) -> Result<Self, Failure> {
        let settings = Settings::resolve(connection)?;
        let material = Material::load(&settings.tls()?)?;
        let identity = identity(&material)?;
        let anchors = trust::anchors(&settings, now())?;
        let tls = client_config(&material, PostQuantum::Preferred, Arc::new(SystemClock));
        let tls = tls.map_err(|error| Failure::new(Exit::Unverified, error))?;
        let endpoint = Endpoint::from_url(&settings.url, Arc::new(tls))
            .map_err(|error| Failure::new(Exit::Usage, error))?;
        let view = log_view(&settings, identity.kind)?;
        Ok(Self {
            client: Client::new(endpoint, view),
            identity,
            settings,
            anchors,
            signer: None,
        })
    }

    /// The same, able to sign in the name of its party.
    pub(super) fn open_signing(connection: &Connection) -> Result<Self, Failure> {
        let session = Self::open(connection)?;
        let (chain, key) = session.settings.signing()?;
        let signer = signing_identity(&chain, &key)?;
        if *signer.identity() != session.identity {
            let message = format!(
                "`{}` is for {}, and the connection for {}",
                chain.display(),
                signer.identity(),
                session.identity
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let signer = Some(signer);
        Ok(Self { signer, ..session })
    }

    /// The party that we are.
    pub(super) fn party(&self) -> Result<&PartyId, Failure> {
        match self.identity.kind {
            Kind::Party => Ok(&self.identity.id),
            kind => Err(Failure::new(
                Exit::Refused,
                format!(
                    "this is for a party, and the certificate is {kind} `{}`'s",
                    self.identity.id
                ),
            )),
        }
    }

    /// What signs and draws randomness.
    pub(super) fn depositor(&self) -> Result<Depositor<'_>, Failure> {
        Ok(Depositor {
            party: self.party()?.clone(),
            signer: self
                .signer
                .as_ref()
                .ok_or_else(|| missing("signing_cert"))?,
            random: &SystemRandom,
            now: now(),
        })
    }

    /// The newest active sealing key of a party, if it has one, with its statement verified: signed by the party, and
    /// the one that is in the log. So the service cannot slip us a key of its own.
    pub(super) async fn sealing_key(
        &self,
        party: &PartyId,
    ) -> Result<Option<SealingPublicKey>, ClientError> {
        let keys = self.client.keys(party.as_str()).await?;
        let active = keys.iter().find(|document| document.active);
        active
            .map(|document| trust::stated_key(document, party, &self.anchors).map(|(_, key)| key))
            .transpose()
    }

    /// Proves, beside answers that carry no receipt, that the log continues the one seen before. A service that is fenced
    /// signs nothing, and its lists are read all the same.
    pub(super) async fn prove_log(&self) -> Result<(), ClientError> {
        match self.client.verified_checkpoint().await {
            Err(error) if error.code() == Some(Code::Fenced.as_str()) => Ok(()),
            proven => proven.map(drop),
        }
    }

    /// The requests that wait for an answer.
    pub(super) fn outbox(&self) -> Result<Outbox, Failure> {
        Outbox::open(&self.settings.state)
    }
}

/// Runs what waits for the network.
pub(super) fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::failed)?
        .block_on(work)
}

/// The time of this machine.
pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

/// A log's key from its text, or from the file of this name.
pub(super) fn log_key(text: &str) -> Result<VerifierKey, Failure> {
    let text = match text.contains('+') {
        true => text.to_owned(),
        false => {
            let bytes = files::read(Path::new(text))?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let key: VerifierKey = text.trim().parse().map_err(|error| {
        Failure::new(Exit::Usage, format!("the log's key: {error}"))
            .hint("a key reads `<origin>+<id>+<base64>`; the service's operator hands it out")
    })?;
    match key.kind() {
        KeyKind::Log => Ok(key),
        KeyKind::Cosigner => Err(Failure::new(
            Exit::Usage,
            "this is a witness's key, not a log's",
        )),
    }
}

/// What was seen of this log before; kept apart for each log.
///
/// Parties, auditors and witnesses rely on what the log says, so they do not start without its key.
fn log_view(settings: &Settings, kind: Kind) -> Result<Option<LogView>, Failure> {
    let relies = matches!(kind, Kind::Party | Kind::Auditor | Kind::Witness);
    let Some(text) = &settings.log_key else {
        return match relies {
            true => Err(missing("log_key")),
            false => Ok(None),
        };
    };
    let key = log_key(text)?;
    let id = u32::from_be_bytes(key.id());
    let folder = settings.state.join("logs").join(format!("{id:08x}"));
    files::private_folder(&folder)?;
    Ok(Some(LogView::kept(key, &folder.join("checkpoint"))?))
}

fn identity(material: &Material) -> Result<Identity, Failure> {
    let leaf = material.chain.first();
    let leaf = leaf.and_then(|leaf| Certificate::read(leaf, &CLIENT).ok());
    leaf.and_then(|leaf| leaf.identity).ok_or_else(|| {
        let wrong = "the TLS certificate is not one of a client";
        Failure::new(Exit::Unverified, wrong).hint("`cos-escrow pki inspect FILE` says what it is")
    })
}

fn signing_identity(chain: &Path, key: &Path) -> Result<SigningIdentity, Failure> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(Exit::Unverified, format!("`{}`: {error}", path.display()))
    };
    let pkcs8 = pem::key(&files::read(key)?).map_err(|error| wrong(key, &error))?;
    let certificates =
        pem::certificates(&files::read(chain)?).map_err(|error| wrong(chain, &error))?;
    SigningIdentity::new(certificates, &pkcs8).map_err(|error| wrong(chain, &error))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Refused { code, .. } if code == "not_found" => Exit::NotFound,
            ClientError::Stranger(_) => Exit::Unverified,
            error if error.is_retryable() => Exit::TryAgain,
            ClientError::Refused { .. } | ClientError::NotAdmitted { .. } => Exit::Refused,
            ClientError::Verification(_) | ClientError::Revoked(_) => Exit::Unverified,
            _ => Exit::Failed,
        };
        let failure = Self::new(exit, &error);
        match error {
            ClientError::Refused {
                code, request_id, ..
            } => {
                let hint = advice(&code);
                let failure = hint.into_iter().fold(failure, Self::hint);
                failure.hint(format!("code `{code}`, request {request_id}"))
            }
            ClientError::NotAdmitted { code, .. } => {
                let hint = advice(code.as_str());
                let failure = hint.into_iter().fold(failure, Self::hint);
                failure.hint(format!("code `{code}`"))
            }
            ClientError::Stranger(_) => failure.hint(
                "are `roots` and `lists` those of this service, and is the name in `url` the one in its certificate?",
            ),
            ClientError::Indeterminate(_) => {
                failure.hint("it may have been done; run the same command again to find out")
            }
            ClientError::Revoked(_) => failure.hint(
                "its party has to retire the key and to publish another, signed with a certificate that holds",
            ),
            ClientError::Verification(_) => failure.hint(
                "keep the state folder and ask an auditor: the log may have been tampered with",
            ),
            _ => failure,
        }
    }
}

/// What to do about a refusal, where that is not plain from its title.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "recipient_key_inactive" => "`cos-escrow key create` and `key publish` make a sealing key",
        "sealed_to_others" => {
            "name the key that it is sealed to with `--key-id`, or have the depositor deposit for the escrow"
        }
        "escrow_left_out" => "deposit with `--recipients both`",
        "certificate_expired" => "`cos-escrow pki renew` makes a new certificate",
        "certificate_revoked" => "ask the authority that issued it for another one",
        "certificate_invalid" => {
            "`cos-escrow pki inspect FILE` says what it is; the service may not know its authority, or its revocation \
             lists are stale"
        }
        "revocation_unknown" => "the service's revocation lists are stale; tell its operator",
        "no_package" => "the losing supplier has not deposited yet",
        "before_window" => "try again when supply has started",
        "meter_mismatch" => "read the serial on the meter again",
        "fenced" => "its operator has to recover the log; until then it signs and writes nothing",
        "not_found" => "it does not exist, or only others may see it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(error: ClientError) -> Exit {
        Failure::from(error).exit
    }

    fn refused(status: u16, code: &str) -> ClientError {
        ClientError::Refused {
            status,
            code: code.to_owned(),
            title: "t".to_owned(),
            detail: None,
            request_id: "r".to_owned(),
        }
    }

    #[test]
    fn each_failure_of_a_call_has_its_exit_code() {
        assert_eq!(exit(refused(403, "before_window")), Exit::Refused);
        assert_eq!(exit(refused(404, "not_found")), Exit::NotFound);
        assert_eq!(exit(refused(429, "rate_limited")), Exit::TryAgain);
        assert_eq!(exit(refused(503, "fenced")), Exit::TryAgain);
        assert_eq!(exit(refused(500, "unavailable")), Exit::TryAgain);
        assert_eq!(exit(refused(503, "of_a_later_version")), Exit::TryAgain);
        assert_eq!(
            exit(ClientError::Verification(String::new())),
            Exit::Unverified
        );
        assert_eq!(exit(ClientError::Revoked(String::new())), Exit::Unverified);
        assert_eq!(
            exit(ClientError::Unreachable(String::new())),
            Exit::TryAgain
        );
        assert_eq!(
            exit(ClientError::Indeterminate(String::new())),
            Exit::TryAgain
        );
        assert_eq!(exit(ClientError::Unexpected(String::new())), Exit::Failed);
        assert_eq!(exit(ClientError::Stranger(String::new())), Exit::Unverified);
    }

    #[test]
    fn a_refusal_quotes_its_code_and_request() {
        let failure = Failure::from(refused(403, "meter_mismatch"));
        assert_eq!(
            failure.hints.last().unwrap(),
            "code `meter_mismatch`, request r"
        );
    }

    #[test]
    fn a_path_is_told_from_a_key() {
        for (text, problem) in [
            ("/nowhere/log.vkey", "`/nowhere/log.vkey`: "),
            ("escrow.example/log+00+AA", "the log's key: "),
        ] {
            let failure = log_key(text).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(problem), "{failure:?}");
        }
    }
}
