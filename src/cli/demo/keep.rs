//! What `demo --keep` leaves behind: a service to start, certificates that are valid now, and how to use them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::events::Event;
use super::market::{Market, SETTINGS};
use super::play::Play;
use super::script::{Action, Step};
use crate::cli::exit::Failure;
use crate::identity::{Identity, Subject};
use crate::types::{Clock as _, Mpid, Secret, SystemClock};

/// The command lines that show what was played by hand.
pub(super) fn command_lines(folder: &Path, log_key: &str, event: &Event) -> Vec<String> {
    let folder = folder.display();
    let curl = |who: &str| {
        format!(
            "curl --cacert {folder}/pki/root.pem --cert {folder}/pki/{who}.pem --key {folder}/pki/{who}.key"
        )
    };
    let escrow = |what: &str, who: &str| {
        format!(
            "cos-escrow {what} --url https://localhost:8443 --cert {folder}/pki/{who}.pem --roots \
             {folder}/pki/root.pem --lists {folder}/pki/lists.pem --log-key '{log_key}'"
        )
    };
    let (loser, gainer) = (lower(event.loser), lower(event.gainer));
    vec![
        format!("cos-escrow serve --config {folder}/escrow.toml"),
        format!(
            "{} 'https://localhost:8443/v1/handovers?role=losing'",
            curl(&loser)
        ),
        format!(
            "{} 'https://localhost:8443/v1/handovers?role=gaining'",
            curl(&gainer)
        ),
        format!(
            "{} -H 'Idempotency-Key: again-1' -d '{{\"meter_serial\":\"{}\"}}' https://localhost:8443/v1/handovers/{}/release",
            curl(&gainer),
            event.serial(),
            super::play::handover(event)
        ),
        format!(
            "{} 'https://localhost:8443/v1/log/entries?kind=release.granted&limit=3'",
            curl("auditor")
        ),
        escrow("handover list --role gaining", &gainer),
        escrow(&format!("log mirror {folder}/copy"), "auditor"),
        format!("cos-escrow log verify --dir {folder}/copy --log-key '{log_key}'"),
    ]
}

/// One more handover, which can be released now, by hand.
pub(super) async fn one_more(market: &mut Market, event: &Event) -> Result<Event, Failure> {
    let now = SystemClock.now();
    market.wait_until(now).await?;
    let events = [event.returned(now)?];
    let mut play = Play::new(market, &events);
    for action in [Action::Pending, Action::Deposit, Action::Secured] {
        let step = Step {
            at: now,
            event: 0,
            action,
        };
        play.take(&step).await?;
    }
    let [event] = events;
    Ok(event)
}

/// Writes a configuration with fixed ports and an identity of each kind, all valid from now.
pub(super) fn write(market: &Market, event: &Event) -> Result<(), Failure> {
    let now = SystemClock.now();
    market.write_service_files(now)?;
    let settings = SETTINGS
        .replacen("127.0.0.1:0", "127.0.0.1:8443", 1)
        .replacen("127.0.0.1:0", "127.0.0.1:8444", 1);
    fs::write(market.folder.join("escrow.toml"), settings).map_err(Failure::failed)?;
    for kind in ["operator", "registrar", "auditor"] {
        let identity = format!("urn:cos-escrow:{kind}:demo").parse::<Identity>();
        let identity = identity.map_err(Failure::failed)?;
        market.write_identity(&Subject::Client(identity), kind, now)?;
    }
    for mpid in [event.loser, event.gainer] {
        let Some(supplier) = market.suppliers.get(&mpid) else {
            continue;
        };
        let (name, identity) = (lower(mpid), Identity::party(supplier.party.clone()));
        market.write_identity(&Subject::Client(identity.clone()), &name, now)?;
        market.write_identity(&Subject::Signer(identity), &format!("{name}-signing"), now)?;
        let file = market.folder.join(format!("pki/{name}.x-wing"));
        private(&file, &supplier.sealing.to_secret())?;
    }
    Ok(())
}

fn private(file: &Path, secret: &Secret) -> Result<(), Failure> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(Failure::failed)?;
    file.write_all(secret.expose()).map_err(Failure::failed)
}

fn lower(mpid: Mpid) -> String {
    mpid.as_str().to_lowercase()
}
