//! A tool that reads the API's description asks the running service what the description allows, and what it forbids: no
//! answer is a 5xx, and none is one that is not described.

use std::path::{Path, PathBuf};
use std::process::Command;

use cos_escrow::cli::demo::market::Market;
use cos_escrow::http::document;
use cos_escrow::identity::Subject;
use cos_escrow::types::{Clock as _, SystemClock};

/// Requests for each operation and identity; `COS_ESCROW_TEST_EXAMPLES` asks for more.
const EXAMPLES: &str = "8";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_whatever_the_description_suggests_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let mpids = ["LOSE", "GAIN"].map(|mpid| mpid.parse().unwrap());
    let market = Market::open(&folder.path().join("market"), SystemClock.now(), mpids)
        .await
        .unwrap();
    let description = folder.path().join("openapi.json");
    std::fs::write(&description, document().to_string()).unwrap();
    for identity in [
        "party:lose",
        "operator:demo",
        "registrar:demo",
        "auditor:demo",
    ] {
        ask(&market, identity, &description);
    }
    assert!(market.auditor.verified_checkpoint().await.is_ok());
}

fn ask(market: &Market, identity: &str, description: &Path) {
    let subject = Subject::Client(format!("urn:cos-escrow:{identity}").parse().unwrap());
    let name = identity.replace(':', "-");
    let (cert, key) = market
        .write_identity(&subject, &name, market.clock.now())
        .unwrap();
    let url = format!("https://localhost:{}", market.instance.address.port());
    let examples = std::env::var_os("COS_ESCROW_TEST_EXAMPLES").unwrap_or_else(|| EXAMPLES.into());
    let asked = Command::new(program())
        .current_dir(description.parent().unwrap())
        .args(["--no-color", "run"])
        .arg(description)
        .args(["--url", &url, "--max-examples"])
        .arg(examples)
        .arg("--request-cert")
        .arg(cert)
        .arg("--request-cert-key")
        .arg(key)
        .arg("--tls-verify")
        .arg(market.root_file())
        .args(["--phases", "fuzzing", "--generation-deterministic"])
        .args(["--continue-on-failure", "--suppress-health-check", "all"])
        .args(["--checks", CHECKS, "--exclude-path-regex", ELSEWHERE])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    let talk = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{identity}: {said}\n{talk}");
    assert!(generated(&said) > 100, "{identity}: {said}");
}

/// How many requests the tool says that it made.
fn generated(said: &str) -> usize {
    let counted = |line: &&str| line.contains(" generated,");
    let line = said.lines().find(counted);
    let count = line.and_then(|line| line.split_whitespace().next());
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The tool beside the Python that `tests/run` prepares.
fn program() -> PathBuf {
    let python = std::env::var_os("COS_ESCROW_TEST_PYTHON").expect(
        "COS_ESCROW_TEST_PYTHON names a Python with the test packages; `tests/run` makes one",
    );
    Path::new(&python).with_file_name("schemathesis")
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// On the admin listener, or a stream of records, which the tool cannot write.
const ELSEWHERE: &str = "^/(livez|readyz|metrics)$|^/v1/(meters|supply-points:lookup)$";
