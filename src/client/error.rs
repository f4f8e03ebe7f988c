use serde::Deserialize;

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
            Self::Unreachable(_) | Self::Indeterminate(_) => true,
            Self::Refused { status, .. } => matches!(status, 429 | 503),
            Self::Verification(_) | Self::Unexpected(_) | Self::Local(_) => false,
        }
    }

    /// The stable code, if the service refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
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

#[derive(Deserialize)]
struct Problem {
    code: String,
    title: String,
    detail: Option<String>,
    instance: Option<String>,
}
