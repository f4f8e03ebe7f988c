//! The verifiers as processes, and `cos-escrow log mirror`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::live::{Live, Service};

/// Somebody who is given a copy, the log's key and an older checkpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verifier {
    /// `cos-escrow log verify`.
    Ours,
    /// Go's `sumdb/note` and `sumdb/tlog`.
    Go,
    /// `aics-tlog`.
    Python,
}

impl Verifier {
    pub(crate) fn all() -> [Self; 3] {
        [Self::Ours, Self::Go, Self::Python]
    }

    /// Whether it accepts the copy; what it says if not.
    pub(crate) fn verify(self, dir: &Path, vkey: &Path, old: &Path) -> Result<(), String> {
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_cos-escrow"));
                command.args(["log", "verify", "--dir"]).arg(dir);
                command.arg("--log-key").arg(vkey).arg("--against").arg(old);
                command
            }
            Self::Go => {
                let mut command = Command::new(go_verifier());
                command.args([dir, vkey, old]);
                command
            }
            Self::Python => {
                let mut command = Command::new(python());
                command.arg(peer("verify.py")).args([dir, vkey, old]);
                command
            }
        };
        let output = command.output().unwrap();
        match (self, output.status.code()) {
            (_, Some(0)) => Ok(()),
            (Self::Ours, Some(5 | 7)) | (Self::Go | Self::Python, Some(1)) => Err(said(&output)),
            // A verifier that does not work.
            _ => panic!("{self:?}: {output:?}"),
        }
    }
}

impl Verifier {
    /// Whether the Python one accepts a copy that a witness must have cosigned.
    pub(crate) fn python_with(
        dir: &Path,
        vkey: &Path,
        old: &Path,
        witness: &Path,
    ) -> Result<(), String> {
        let mut command = Command::new(python());
        command.arg(peer("verify.py"));
        let output = command.args([dir, vkey, old, witness]).output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(said(&output)),
        }
    }
}

/// Copies the log of a service as its auditor does.
pub(crate) async fn mirror(live: &Live, service: &Service, dir: &Path) {
    let output = auditor(live, service, &["log", "mirror", dir.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
}

/// Runs a command as the auditor whose certificate lies in `auditor.pem`.
pub(crate) async fn auditor(live: &Live, service: &Service, words: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_cos-escrow"))
        .args(words)
        .arg("--url")
        .arg(format!("https://localhost:{}", service.address.port()))
        .arg("--cert")
        .arg(live.pki("auditor.pem"))
        .arg("--roots")
        .arg(live.pki("root.pem"))
        .arg("--lists")
        .arg(live.pki("lists.pem"))
        .arg("--log-key")
        .arg(live.path("log.vkey"))
        .arg("--state-dir")
        .arg(live.path("auditor-state"))
        .output()
        .await
        .unwrap()
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        match file.path().is_dir() {
            true => copy_folder(&file.path(), &target),
            false => {
                fs::copy(file.path(), target).unwrap();
            }
        }
    }
}

pub(crate) fn python() -> PathBuf {
    std::env::var_os("COS_ESCROW_TEST_PYTHON")
        .expect("COS_ESCROW_TEST_PYTHON names a Python with `aics-tlog`: run tests/run")
        .into()
}

fn peer(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/peers/tlog")
        .join(name)
}

/// The Go program, built once.
fn go_verifier() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join("verify-log");
        let output = Command::new("go")
            .args(["build", "-o"])
            .args([&program, &peer("verify.go")])
            // Only what Debian has packaged: nothing is fetched.
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOCACHE", folder.join("go-cache"))
            .output()
            .expect("`go` is installed: run tests/run");
        assert!(output.status.success(), "{}", said(&output));
        program
    })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
