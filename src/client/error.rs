use rustls::{AlertDescription, Error as TlsError};
use serde::Deserialize;

use crate::types::Code;

/// Why a call gave no answer that can be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The service refused.
    #[error("{title}{}", detail.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// What it means.
        title: String,
        /// What exactly, where that helps.
        detail: Option<String>,
        /// The request's id, to be quoted to the service's operator.
        request_id: String,
    },
    /// The service refused our certificate when we connected, so nothing was asked of it.
    #[error("{} (TLS alert {alert:?})", code.title())]
    NotAdmitted {
        /// The stable code: what the same certificate is refused with on a living connection.
        code: Code,
        /// What the service sent. It tells an unknown authority not from lists that are stale; the service's log does.
        alert: AlertDescription,
    },
    /// Who answers is not the service, as far as our roots and the name in the URL tell. Nothing was sent.
    #[error("the service's certificate is not acceptable: {0}")]
    Stranger(String),
    /// The service could not be reached, or cannot answer now: the same request may be sent again.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The connection broke after the request was sent: it may or may not have been done. Sending it again under the
    /// same idempotency key tells.
    #[error("the answer was lost: {0}")]
    Indeterminate(String),
    /// What the service said does not verify: its log was changed, or something between us lies.
    #[error("verification failed: {0}")]
    Verification(String),
    /// Who signed something was no longer entitled to: its certificate had been revoked before the log recorded it.
    #[error("{0}")]
    Revoked(String),
    /// The answer is not what the API promises.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
    /// Something on this side cannot be used.
    #[error("{0}")]
    Local(String),
}

impl ClientError {
    /// Whether sending the same request again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            // Another connection may meet the right one.
            Self::Unreachable(_) | Self::Indeterminate(_) | Self::Stranger(_) => true,
            // A code of a later version is known by its status alone.
            Self::Refused { status, code, .. } => match Code::of(code) {
                Some(code) => code.is_passing(),
                None => matches!(status, 429 | 503),
            },
            Self::NotAdmitted { .. }
            | Self::Verification(_)
            | Self::Revoked(_)
            | Self::Unexpected(_)
            | Self::Local(_) => false,
        }
    }

    /// The stable code, if the service refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::NotAdmitted { code, .. } => Some(code.as_str()),
            _ => None,
        }
    }

    /// Why no connection came about.
    pub(super) fn from_connecting(error: &std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        match tls {
            Some(TlsError::InvalidCertificate(why)) => Self::Stranger(why.to_string()),
            Some(TlsError::AlertReceived(alert)) => match admission(*alert) {
                Some(code) => Self::NotAdmitted {
                    code,
                    alert: *alert,
                },
                None => Self::Unreachable(error.to_string()),
            },
            _ => Self::Unreachable(error.to_string()),
        }
    }

    pub(super) fn from_problem(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Self::Refused {
                status,
                code: problem.code,
                title: problem.title,
                detail: problem.detail,
                request_id: problem.instance.unwrap_or_default(),
            },
            Err(_) => Self::Unexpected(format!("status {status} without a problem document")),
        }
    }
}

/// What an alert says of our certificate, if it is about that.
fn admission(alert: AlertDescription) -> Option<Code> {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateExpired => Some(Code::CertificateExpired),
        Alert::CertificateRevoked => Some(Code::CertificateRevoked),
        Alert::NoCertificate
        | Alert::CertificateRequired
        | Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => Some(Code::CertificateInvalid),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    title: String,
    detail: Option<String>,
    instance: Option<String>,
}
