//! Processes that tests start and leave running for a while: none outlives its test, not even one that is killed.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::live::Live;
use crate::witness::Kind;

/// A command whose process is killed when it is dropped, and by the kernel when the test's own process ends.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program)
        .kill_on_drop(true);
    command
}

/// Kills a test, this one in a process of its own, in the middle of its work.
#[tokio::test]
async fn no_process_outlives_a_test_that_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        return work_for_ever().await;
    }
    let name = format!(
        "{}::no_process_outlives_a_test_that_is_killed",
        module_path!().split_once("::").unwrap().1
    );
    let folder = tempfile::tempdir().unwrap();
    let mut victim = command(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(VICTIM, "1")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut addresses = Vec::new();
    while addresses.len() < 2 {
        let line = lines.next_line().await.unwrap().expect("it starts both");
        if let Some((_, address)) = line.split_once(STARTED) {
            TcpStream::connect(address).await.unwrap();
            addresses.push(address.to_owned());
        }
    }
    victim.kill().await.unwrap();
    for address in addresses {
        let ended = timeout(PATIENCE, async {
            // Who lives ends a silent connection, too, and listens for the next one.
            while let Ok(mut stream) = TcpStream::connect(&address).await {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
        assert!(ended.await.is_ok(), "{address} is still served");
    }
}

/// Starts a service and a witness, says where, and waits to be killed.
#[expect(clippy::print_stdout, reason = "who kills it reads this")]
async fn work_for_ever() {
    let (live, service) = Live::open().await;
    println!("{STARTED}{}", service.address);
    let log = service.log_key.to_string();
    let witness = Kind::Ours.prepare(&live.path("witness"), &log).await;
    let witness = witness.serve("127.0.0.1:0").await;
    println!("{STARTED}{}", witness.address());
    std::future::pending().await
}

const VICTIM: &str = "COS_ESCROW_TEST_VICTIM";
const STARTED: &str = "started at ";
const PATIENCE: Duration = Duration::from_secs(60);
