//! Witnesses as processes: ours, and one that nobody here wrote.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::child;
use crate::verifiers::python;

/// Which witness.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `cos-escrow witness`.
    Ours,
    /// The same, with TLS: certificate and key are put into its folder, as `CHAIN` and `KEY`.
    OursWithTls,
    /// `aics-witness`.
    Foreign,
}

/// The folder of a witness that has a key and knows a log.
pub(crate) struct Prepared {
    kind: Kind,
    dir: PathBuf,
    pub(super) vkey: String,
}

/// A witness that listens. Killed when it is dropped.
pub(crate) struct Running {
    /// The prefix of its URLs.
    pub(super) url: String,
    child: Child,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Kind {
    /// Makes a witness and has it trust a log.
    pub(crate) async fn prepare(self, dir: &Path, log: &str) -> Prepared {
        std::fs::create_dir_all(dir).unwrap();
        let name = "witness.example/w1";
        let vkey = match self {
            Self::Ours | Self::OursWithTls => {
                let made =
                    run(ours(dir).args(["witness", "init", ".", "--name", name, "-o", "json"]))
                        .await;
                let made: serde_json::Value = serde_json::from_str(&made).unwrap();
                run(ours(dir).args(["witness", "add-log", ".", log])).await;
                made["vkey"].as_str().unwrap().to_owned()
            }
            Self::Foreign => {
                let made =
                    run(foreign(dir).args(["init", "--name", name, "--listen", "127.0.0.1:0"]))
                        .await;
                let origin = log.split('+').next().unwrap();
                run(foreign(dir).args(["add-log", "--origin", origin, "--vkey", log])).await;
                let vkey = made.lines().find(|line| line.starts_with(name));
                vkey.unwrap().trim().to_owned()
            }
        };
        Prepared {
            kind: self,
            dir: dir.to_owned(),
            vkey,
        }
    }
}

impl Prepared {
    /// Starts it on an address; `127.0.0.1:0` is any free one.
    pub(crate) async fn serve(&self, listen: &str) -> Running {
        let mut command = match self.kind {
            Kind::Ours => {
                let mut command = ours(&self.dir);
                command.args(["witness", "serve", "."]);
                command
            }
            Kind::OursWithTls => {
                let mut command = ours(&self.dir);
                command.args(["witness", "serve", ".", "--cert", CHAIN, "--key", KEY]);
                command
            }
            Kind::Foreign => {
                let mut command = foreign(&self.dir);
                command.arg("serve");
                command
            }
        };
        let mut child = command
            .args(["--listen", listen])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, address)) = line.split_once("listening on ") {
                let address = address.split(' ').next().unwrap();
                let url = match self.kind {
                    Kind::Ours => format!("http://{address}"),
                    Kind::OursWithTls => address.replace("127.0.0.1", "https://localhost"),
                    Kind::Foreign => address.trim_end_matches('/').to_owned(),
                };
                tokio::spawn(drain(lines.into_inner()));
                return Running { url, child };
            }
            said.push(line);
        }
        panic!("the witness does not start: {said:#?}");
    }
}

impl Running {
    /// Its host and port.
    pub(crate) fn address(&self) -> &str {
        let rest = self.url.strip_prefix("http://").unwrap();
        rest.split('/').next().unwrap()
    }

    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub(super) async fn post(&self, body: &[u8]) -> Answer {
        self.send("POST", "/add-checkpoint", body).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, b"").await
    }

    /// Says that a body of this length comes, and sends none.
    pub(super) async fn announce(&self, length: usize) -> Answer {
        self.exchange("POST", "/add-checkpoint", length, b"").await
    }

    async fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.exchange(method, path, body.len(), body).await
    }

    async fn exchange(&self, method: &str, path: &str, length: usize, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: witness\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }
}

fn ours(dir: &Path) -> Command {
    let mut command = child::command(env!("CARGO_BIN_EXE_cos-escrow"));
    command.current_dir(dir);
    command
}

fn foreign(dir: &Path) -> Command {
    let mut command = child::command(python());
    command.args(["-m", "aics_witness"]).current_dir(dir);
    command
}

async fn run(command: &mut Command) -> String {
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Reads what a process says to its end: a full pipe would stop it.
async fn drain(mut said: impl AsyncRead + Unpin) {
    let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
}

/// Where a witness with TLS has its certificates, and their key.
pub(super) const CHAIN: &str = "chain.pem";
pub(super) const KEY: &str = "key.pem";
