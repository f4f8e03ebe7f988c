//! `cos-escrow serve` as a process of its own: started, asked, signalled, killed.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cos_escrow::tlog::VerifierKey;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr};

use crate::child::command;

/// A process that may not listen yet. Killed when it is dropped.
pub(crate) struct Starting {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

/// A process that listens. Killed when it is dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log_key: VerifierKey,
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Starting {
    /// Serves by the configuration of this folder.
    pub(crate) fn spawn(folder: &Path, environment: &[(&str, PathBuf)]) -> Self {
        let mut child = command(BINARY)
            .arg("serve")
            .current_dir(folder)
            .env("RUST_LOG", "warn")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits until it says where it listens.
    pub(crate) async fn listening(self) -> Service {
        match self.listening_or_ended().await {
            Ok(service) => service,
            Err((status, said)) => panic!("the service does not start: {status}, {said:#?}"),
        }
    }

    /// Waits until it says where it listens, or ends; then says how, and what its last words were.
    pub(crate) async fn listening_or_ended(mut self) -> Result<Service, (ExitStatus, Vec<String>)> {
        let mut said = Vec::new();
        let mut addresses = None;
        while let Some(line) = self.lines.next_line().await.unwrap() {
            said.push(line.clone());
            if let Some(places) = line.strip_prefix("cos-escrow: listening on ") {
                let (address, admin) = places.split_once(", admin on ").unwrap();
                addresses = Some((address.parse().unwrap(), admin.parse().unwrap()));
            }
            if let Some(key) = line.strip_prefix("cos-escrow: log key ") {
                let (address, admin) = addresses.expect("the addresses come before the key");
                let said = Arc::new(Mutex::new(said));
                tokio::spawn(collect(self.lines, Arc::clone(&said)));
                return Ok(Service {
                    address,
                    admin,
                    log_key: key.parse().unwrap(),
                    child: self.child,
                    said,
                });
            }
        }
        Err((self.child.wait().await.unwrap(), said))
    }

    /// `kill -9`, wherever it is.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

impl Service {
    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("it still runs")).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    pub(crate) async fn ended(mut self) -> ExitStatus {
        self.child.wait().await.unwrap()
    }

    /// Waits until something else than this test has killed it.
    pub(crate) async fn gone(&mut self) {
        let gone = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        let status = gone
            .expect("it is still there: has the load stopped?")
            .unwrap();
        let said = self.said.lock().unwrap();
        assert_eq!(
            status.signal(),
            Some(Signal::KILL.as_raw()),
            "{status}, {said:#?}"
        );
    }

    /// The answer of the admin listener: status and body.
    pub(crate) async fn probe(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// Where the database ends, if the service is fenced because more was promised.
    pub(crate) async fn ends_early(&self) -> Option<u64> {
        let (_, checks) = self.probe("/readyz?verbose").await;
        let (_, rest) = checks.split_once("[-] log failed: the database ends at entry ")?;
        rest.split(' ').next()?.parse().ok()
    }
}

impl Drop for Service {
    /// A test that fails says what the service said, and whether it still ran.
    #[expect(clippy::print_stderr, reason = "where a failing test explains itself")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (ended, said) = (self.child.try_wait(), self.said.lock().unwrap());
            eprintln!("the service, ended {ended:?}, said {said:#?}");
        }
    }
}

/// Reads what the service says to its end: a full pipe would stop it.
async fn collect(mut lines: Lines<BufReader<ChildStderr>>, said: Arc<Mutex<Vec<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        said.lock().unwrap().push(line);
    }
}

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_cos-escrow");
