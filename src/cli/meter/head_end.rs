//! The gaining supplier's head end: claims released meters and runs their takeovers.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::desk::Desk;
use super::ending::Ending;
use super::releases::{Loaded, SealingKeys, Unsigned, Verified};
use crate::cli::exit::{Exit, Failure};
use crate::cli::takeover::{Opened, SupplierEscrow};
use crate::client::Client;
use crate::dlms::SystemTitle;
use crate::envelope::SealingPublicKey;
use crate::identity::{Anchors, SigningIdentity};
use crate::meter::fleet::{Counts, run_fleet};
use crate::meter::journal::{Claim, JournalSettings};
use crate::meter::link::{DlmsDial, MeterDial};
use crate::meter::profile::Profiles;
use crate::meter::released::ReleasedMeter;
use crate::meter::takeover::{Rounds, Settings, Takeover};
use crate::types::{Clock, HandoverId, PartyId, SystemRandom};

/// How meters are taken over.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Takeover")]
pub struct How {
    /// Meters at the same time.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONCURRENCY)]
    pub concurrency: NonZeroUsize,
    /// What is sent.
    #[command(flatten)]
    pub rotation: Rotation,
    /// Use packages that bear no depositor's signature, because the service sealed what came in clear.
    #[arg(long)]
    pub accept_unsigned: bool,
    /// Our system title, 16 hexadecimal digits: head ends with journals of their own need titles of their own.
    #[arg(long, value_name = "HEX", default_value = DEFAULT_TITLE, value_parser = SystemTitle::from_hex)]
    pub system_title: SystemTitle,
    /// How long a worker that died keeps others from its meter.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub lease: u64,
    /// How long to leave a meter alone that cannot be reached.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub retry_after: u64,
}

/// What is sent to a meter.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Rotation {
    /// Rotate once only: whoever listens on the losing supplier's path then knows the new keys.
    #[arg(long)]
    pub once: bool,
    /// A folder of profiles (`*.toml`) of meter types that are not built in.
    #[arg(long, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
}

impl Rotation {
    /// As a takeover takes it.
    pub fn settings(&self) -> Settings {
        Settings {
            rounds: match self.once {
                true => Rounds::Once,
                false => Rounds::Twice,
            },
            ..Settings::default()
        }
    }

    /// The profiles of meter types that are known.
    pub fn profiles(&self) -> Result<Profiles, Failure> {
        let mut profiles = Profiles::built_in();
        if let Some(folder) = &self.profiles {
            let added = profiles.add_folder(folder);
            added.map_err(|error| Failure::new(Exit::Usage, error))?;
        }
        Ok(profiles)
    }
}

impl How {
    fn settings(&self) -> Settings {
        Settings {
            unreachable_wait: Duration::from_secs(self.retry_after),
            ..self.rotation.settings()
        }
    }

    /// The bounds of the journal that goes with it.
    pub fn journal_settings(&self) -> JournalSettings {
        JournalSettings {
            lease: Duration::from_secs(self.lease),
            ..JournalSettings::default()
        }
    }
}

impl Default for How {
    fn default() -> Self {
        Self {
            concurrency: DEFAULT_CONCURRENCY,
            rotation: Rotation::default(),
            accept_unsigned: false,
            system_title: SystemTitle(*b"COSESCRW"),
            lease: 300,
            retry_after: 300,
        }
    }
}

/// Who takes over, with what.
pub struct HeadEnd<'a> {
    /// The connection to the escrow.
    pub client: &'a Client,
    /// The supplier.
    pub party: PartyId,
    /// Its signing leaf.
    pub signer: &'a SigningIdentity,
    /// Whose depositors' signatures it trusts.
    pub anchors: &'a Anchors,
    /// Its time.
    pub clock: &'a dyn Clock,
    /// Journal and releases.
    pub desk: &'a Desk,
    /// What is particular to types of meters.
    pub profiles: Profiles,
    /// How.
    pub how: How,
}

/// Takeovers that may run: their releases opened, and the key that their next packages are sealed to.
#[derive(Default)]
pub struct Work {
    opened: BTreeMap<HandoverId, Opened>,
    own_key: Option<SealingPublicKey>,
    handovers: Vec<HandoverId>,
}

impl Work {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.handovers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.handovers.is_empty()
    }
}

impl HeadEnd<'_> {
    /// A release that may be used on its meter.
    pub fn verified(&self, loaded: Loaded) -> Result<Verified, Failure> {
        let unsigned = match self.how.accept_unsigned {
            true => Unsigned::Accepted,
            false => Unsigned::Refused,
        };
        loaded.verified(self.anchors, unsigned)
    }

    /// Writes a released meter down. From then on `resume` knows it.
    pub async fn claim(&self, release: &Verified, meter: &ReleasedMeter) -> Result<Claim, Failure> {
        let loaded = release.loaded();
        if loaded.recipient != self.party {
            let message = format!(
                "released to `{}`, and we are `{}`",
                loaded.recipient, self.party
            );
            return Err(Failure::new(Exit::Refused, message));
        }
        // ORDER: what is in the journal has its release beside it, or it could not go on after a crash.
        self.desk.releases.keep(loaded.handover(), &loaded.bytes)?;
        let claim = self.desk.journal.claim(meter, self.clock.now()).await?;
        Ok(claim)
    }

    /// The work that claimed releases make.
    pub fn work(&self, releases: Vec<Verified>, keys: &SealingKeys) -> Work {
        let own_key = keys.newest(releases.iter().map(Verified::loaded)).cloned();
        let opened: BTreeMap<_, _> = releases
            .into_iter()
            .map(Verified::into_loaded)
            .map(|loaded| (loaded.handover(), loaded.opened))
            .collect();
        Work {
            own_key,
            handovers: opened.keys().copied().collect(),
            opened,
        }
    }

    /// The work that the journal has left, and what is wrong with the releases beside it. A takeover whose release does
    /// not verify is not gone on with.
    pub async fn unfinished(
        &self,
        keys: &SealingKeys,
    ) -> Result<(Work, Vec<(HandoverId, Failure)>), Failure> {
        let all = self.desk.journal.list().await?;
        let open = all.iter().filter(|takeover| !takeover.is_over());
        let (mut handovers, mut releases, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for handover in open.map(|takeover| takeover.handover) {
            match self.kept(handover, keys) {
                Ok(kept) => releases.push(kept),
                Err(failure) => {
                    let tampered = failure.exit == Exit::Unverified;
                    failures.push((handover, failure));
                    if tampered {
                        continue;
                    }
                }
            }
            handovers.push(handover);
        }
        let work = Work {
            handovers,
            ..self.work(releases, keys)
        };
        Ok((work, failures))
    }

    fn kept(&self, handover: HandoverId, keys: &SealingKeys) -> Result<Verified, Failure> {
        let missing = || {
            let message = format!("the release of `{handover}` is not beside the journal");
            Failure::new(Exit::NotFound, message)
                .hint("fetch it again, and start `meter takeover` with it")
        };
        let bytes = self.desk.releases.read(handover)?.ok_or_else(missing)?;
        self.verified(Loaded::open(bytes, keys)?)
    }

    /// Takes the meters as far as they go now. Dropped at any point, it goes on with the next run.
    pub async fn run(
        &self,
        work: Work,
        on_change: &(dyn Fn(&Counts) + Sync),
    ) -> Result<Vec<Ending>, Failure> {
        let Some(own_key) = work.own_key else {
            return match work.handovers.is_empty() {
                true => Ok(Vec::new()),
                false => Err(no_own_key()),
            };
        };
        let journal = &self.desk.journal;
        let escrow = SupplierEscrow {
            client: self.client,
            party: self.party.clone(),
            signer: self.signer,
            own_key,
            clock: self.clock,
            opened: work.opened,
        };
        let dlms = DlmsDial {
            title: self.how.system_title,
            counters: journal,
            random: &SystemRandom,
        };
        let dial = MeterDial { dlms };
        let takeover = Takeover {
            journal,
            dial: &dial,
            profiles: &self.profiles,
            escrow: &escrow,
            clock: self.clock,
            random: &SystemRandom,
            settings: self.how.settings(),
        };
        let at_once = self.how.concurrency.get();
        let outcomes = run_fleet(&takeover, &work.handovers, at_once, on_change).await;
        self.desk.clear().await?;
        let known = journal.list().await?.into_iter();
        let known = known.map(|status| (status.handover, status)).collect();
        let ending = |(handover, outcome)| Ending::of_run(handover, &known, &outcome);
        Ok(outcomes.into_iter().map(ending).collect())
    }
}

fn no_own_key() -> Failure {
    let message = "no sealing key of ours is known, and new keys must be sealed to one";
    Failure::new(Exit::NotFound, message).hint("name it with `--sealing-key`")
}

const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");
/// `COSESCRW`.
const DEFAULT_TITLE: &str = "434F534553435257";
