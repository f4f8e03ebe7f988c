//! A certificate that the service does not take: a refusal with a code, not an answer that was lost.

use std::process::Output;
use std::sync::Arc;

use cos_escrow::client::{Client, ClientError, Endpoint, Request};
use cos_escrow::identity::{Authority, Issued, Subject};
use cos_escrow::tls::outside_config;
use cos_escrow::types::{Code, SystemClock};

use crate::live::{DAY, Live, Service, now};
use crate::verifiers::auditor;

const KATE: &str = "urn:cos-escrow:auditor:kate";

/// `log checkpoint` in the name of a certificate.
async fn checkpoint(live: &Live, service: &Service, issued: &Issued) -> Output {
    live.write_issued("auditor", issued);
    auditor(live, service, &["log", "checkpoint"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_taken_is_a_refusal_with_its_code() {
    let live = Live::new();
    let revoked = live.issue(KATE, now());
    live.revoke(&revoked.certificate.serial);
    let expired = live.issue(KATE, now().before(40 * DAY));
    let foreign = Authority::create("elsewhere", now()).unwrap();
    let subject = Subject::Client(KATE.parse().unwrap());
    let foreign = foreign.issue(&subject, 30, now()).unwrap();
    let service = live.start().await;
    std::fs::write(live.path("log.vkey"), service.log_key.to_string()).unwrap();

    for (issued, code) in [
        (&revoked, "certificate_revoked"),
        (&expired, "certificate_expired"),
        (&foreign, "certificate_invalid"),
    ] {
        let output = checkpoint(&live, &service, issued).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{code}: {said}");
        let mark = format!("hint: code `{code}`\n");
        assert!(said.ends_with(&mark), "{code}: {said}");
        assert_eq!(said.matches("hint: ").count(), 2, "what to do: {said}");
    }
    let good = live.issue(KATE, now());
    let output = checkpoint(&live, &service, &good).await;
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_refused_before_it_asks() {
    let live = Live::new();
    let service = live.start().await;
    let roots = live.material(&live.issue(KATE, now())).roots;
    let tls = outside_config(&roots, Arc::new(SystemClock)).unwrap();
    let endpoint = Endpoint {
        host: "localhost".to_owned(),
        port: service.address.port(),
        tls: Arc::new(tls),
    };
    let client = Client::new(endpoint, None);
    let asked = client.send(Request::get("/log/checkpoint")).await;
    let error = asked.unwrap_err();
    let invalid = matches!(
        error,
        ClientError::NotAdmitted {
            code: Code::CertificateInvalid,
            ..
        }
    );
    assert!(invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_another_authority_is_not_trusted_and_not_asked() {
    let live = Live::new();
    let service = live.start().await;
    std::fs::write(live.path("log.vkey"), service.log_key.to_string()).unwrap();
    let other = Live::new();
    for file in ["root.pem", "lists.pem"] {
        std::fs::copy(other.pki(file), live.pki(file)).unwrap();
    }
    let output = checkpoint(&live, &service, &live.issue(KATE, now())).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("`roots`"), "{said}");
}
