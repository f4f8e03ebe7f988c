//! The gaining supplier's head end: claims released meters and runs their takeovers.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::desk::Desk;
use super::ending::{Ending, note};
use super::releases::{Loaded, Ready, Source, Unsigned, Unusable, Verified};
use crate::cli::exit::{Exit, Failure};
use crate::cli::takeover::{SupplierEscrow, Voices};
use crate::client::{Client, Request};
use crate::dlms::SystemTitle;
use crate::envelope::SealingPublicKey;
use crate::identity::{Anchors, SigningIdentity};
use crate::meter::fleet::{Bounds, Counts, run_fleet};
use crate::meter::journal::{Claim, Intake, JournalSettings, Query, RunId, Scope};
use crate::meter::link::{DlmsDial, MeterDial};
use crate::meter::profile::Profiles;
use crate::meter::takeover::{Rounds, Settings, Takeover};
use crate::types::{Clock, Code, HandoverId, PartyId, SystemRandom, Timestamp};

/// How meters are taken over.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Takeover")]
pub struct How {
    /// Meters at the same time.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CONCURRENCY)]
    pub concurrency: NonZeroUsize,
    /// Meters of one network (access point, or provider of the card) at the same time; as many as `--concurrency` if not
    /// given.
    #[arg(long, value_name = "N")]
    pub per_network: Option<NonZeroUsize>,
    /// Connections that are made to one network in a second; as many as come if not given.
    #[arg(long, value_name = "N")]
    pub connects_per_second: Option<NonZeroU32>,
    /// Go on for so long, with meters whose wait is over in the meantime.
    #[arg(long = "for", value_name = "MINUTES", default_value_t = 0)]
    pub minutes: u64,
    /// What is sent.
    #[command(flatten)]
    pub rotation: Rotation,
    /// Use packages that bear no depositor's signature, because the service sealed what came in clear: once all that do
    /// have led nowhere.
    #[arg(long)]
    pub accept_unsigned: bool,
    /// Go where somebody says the meter is who only had it once: when all else has led nowhere.
    #[arg(long)]
    pub accept_former: bool,
    /// Our system title, 16 hexadecimal digits: head ends with journals of their own need titles of their own.
    #[arg(long, value_name = "HEX", default_value = DEFAULT_TITLE, value_parser = SystemTitle::from_hex)]
    pub system_title: SystemTitle,
    /// How long a worker that hangs keeps others from its meter; that of a process that died is free at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub lease: u64,
    /// How long to leave a meter alone that cannot be reached.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub retry_after: u64,
    /// How long to leave a meter alone that refused us three times, at first; twice as long each time after that.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub back_off: u64,
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
            refused_wait: Duration::from_secs(self.back_off),
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
            per_network: None,
            connects_per_second: None,
            minutes: 0,
            rotation: Rotation::default(),
            accept_unsigned: false,
            accept_former: false,
            system_title: SystemTitle(*b"COSESCRW"),
            lease: 300,
            retry_after: 300,
            back_off: 900,
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
    /// Its journal.
    pub desk: &'a Desk,
    /// What is particular to types of meters.
    pub profiles: Profiles,
    /// How.
    pub how: How,
    /// The sealing key for the next packages, if not the one that each release is sealed to.
    pub own_key: Option<SealingPublicKey>,
}

impl HeadEnd<'_> {
    /// A release that may be used on its meter.
    pub fn verified(&self, loaded: Loaded) -> Result<Verified, Unusable> {
        loaded.verified(self.anchors, Unsigned::by_flag(self.how.accept_unsigned))
    }

    /// The ways to its meter. Who loses the meter is asked for where it matters whose word is which.
    pub async fn ready(&self, release: Verified, source: &Source) -> Result<Ready, Failure> {
        let voices = match release.needs_loser() {
            true => Voices::Due {
                losing: self.losing_party(release.handover()).await?,
                accept_former: self.how.accept_former,
            },
            false => Voices::All,
        };
        release.ready(source, &self.profiles, &voices)
    }

    /// Who loses the meter, as the service knows it.
    async fn losing_party(&self, handover: HandoverId) -> Result<Option<PartyId>, Failure> {
        #[derive(serde::Deserialize)]
        struct Handover {
            losing: Counterparty,
        }
        #[derive(serde::Deserialize)]
        struct Counterparty {
            party: Option<PartyId>,
        }
        let asked = Request::get(format!("/v1/handovers/{handover}"));
        match self.client.send(asked).await {
            Ok(answer) => Ok(answer.json::<Handover>()?.losing.party),
            // Who supplies the point from a full copy of the registrations on has taken it over from nobody.
            Err(error) if error.code() == Some(Code::NotFound.as_str()) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a released meter down, as part of a run. From then on `resume` knows it.
    pub async fn claim(&self, ready: &Ready, run: RunId) -> Result<Claim, Failure> {
        if ready.recipient != self.party {
            let message = format!(
                "released to `{}`, and we are `{}`",
                ready.recipient, self.party
            );
            return Err(Failure::new(Exit::Refused, message));
        }
        let readied = &ready.readied;
        let papers = readied.papers(&ready.sealed_to);
        let intake = Intake {
            meter: &readied.meter,
            papers: Some(&papers),
            left_out: &readied.left_out,
            network: &readied.network,
            run: Some(run),
        };
        Ok(self.desk.journal.take_in(intake, self.clock.now()).await?)
    }

    /// Takes the meters of a run as far as they go until it has had its time. Dropped at any point, it goes on with the
    /// next run.
    pub async fn run(
        &self,
        run: RunId,
        on_change: &(dyn Fn(&Counts) + Sync),
    ) -> Result<(), Failure> {
        let journal = &self.desk.journal;
        let escrow = SupplierEscrow {
            client: self.client,
            party: self.party.clone(),
            signer: self.signer,
            own_key: self.own_key.clone(),
            clock: self.clock,
            journal,
            escrow_key: OnceCell::new(),
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
        let at_once = self.how.concurrency;
        let bounds = Bounds {
            scope: Scope::Run(run),
            at_once,
            per_network: self.how.per_network.unwrap_or(at_once),
            connects_per_second: self.how.connects_per_second,
            describe: &note,
            on_change,
        };
        let end = self
            .clock
            .now()
            .after(Duration::from_secs(self.how.minutes * 60));
        loop {
            run_fleet(&takeover, bounds).await?;
            match self.next_pass(bounds.scope).await? {
                Some(at) if at < end => tokio::time::sleep(at.since(self.clock.now())).await,
                _ => return Ok(()),
            }
        }
    }

    /// When there is something to do again, a moment from now at the earliest: who refuses at once is not asked at once.
    async fn next_pass(&self, scope: Scope) -> Result<Option<Timestamp>, Failure> {
        let next = self.desk.journal.next_due(scope).await?;
        Ok(next.map(|at| at.max(self.clock.now().after(BREATH))))
    }

    /// How the takeovers of a run stand.
    pub async fn endings(&self, run: RunId) -> Result<Vec<Ending>, Failure> {
        let mut query = Query {
            scope: Scope::Run(run),
            limit: PAGE,
            ..Query::default()
        };
        let mut endings = Vec::new();
        loop {
            let page = self.desk.journal.list(&query).await?;
            let Some(last) = page.last() else {
                return Ok(endings);
            };
            query.after = Some(last.handover);
            endings.extend(page.into_iter().map(Ending::of_status));
        }
    }
}

const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");
/// `COSESCRW`.
const DEFAULT_TITLE: &str = "434F534553435257";
const BREATH: Duration = Duration::from_secs(5);
/// Takeovers that are looked up at a time.
const PAGE: u32 = 1_000;
