//! A gaining supplier with its journal, an escrow that remembers what it was told, and meters to take over.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use cos_escrow::dlms::SystemTitle;
use cos_escrow::dlms::keys::{Suite, key_name};
use cos_escrow::meter::escrow::{Escrow, EscrowError, Report};
use cos_escrow::meter::journal::{Claim, Journal, JournalSettings, SealError, Sealer, State};
use cos_escrow::meter::link::{
    Change, Credentials, DeviceId, Dial, DlmsDial, Identity, Item, LinkError, Login, MeterDial,
    MeterLink, Setting, SettingName, Shown, Station,
};
use cos_escrow::meter::profile::{KeyTransfer, Profile, Profiles};
use cos_escrow::meter::released::{Belief, RegisterRead, ReleasedMeter, Way};
use cos_escrow::meter::secrets::{KeySet, Role, Secrets};
use cos_escrow::meter::simulate::{Faults, MeterSeed, Simulator};
use cos_escrow::meter::takeover::{Outcome, Settings, Takeover, TakeoverError};
use cos_escrow::types::{
    Digest, HandoverId, ManualClock, Random as _, Secret, SystemRandom, Timestamp,
};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::proxy::Proxy;

pub(super) struct World {
    folder: Arc<TempDir>,
    sealer: Arc<TestSealer>,
    pub(super) journal: Journal,
    pub(super) escrow: Arc<TestEscrow>,
    pub(super) clock: ManualClock,
    profiles: Profiles,
}

impl World {
    /// A world for meters that do not answer.
    pub(super) async fn impatient() -> Self {
        Self {
            profiles: profiles(1),
            ..Self::new().await
        }
    }

    pub(super) async fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let sealer = Arc::new(TestSealer::new());
        let journal = open(&folder, &sealer).await;
        Self {
            folder,
            sealer,
            journal,
            escrow: Arc::default(),
            clock: ManualClock::at(Timestamp::from_seconds(1_790_000_000)),
            profiles: profiles(5),
        }
    }

    /// A new process on the same file, after the lease of the dead one has run out.
    pub(super) async fn after_crash(&self) -> Self {
        self.journal.close().await;
        self.clock.advance(Duration::from_secs(5 * 60));
        Self {
            folder: Arc::clone(&self.folder),
            sealer: Arc::clone(&self.sealer),
            journal: open(&self.folder, &self.sealer).await,
            escrow: Arc::clone(&self.escrow),
            clock: self.clock.clone(),
            profiles: self.profiles.clone(),
        }
    }

    pub(super) async fn meter(&self, seed: MeterSeed, faults: &[&str]) -> Simulator {
        let faults = Faults::parse(faults.iter().copied()).unwrap();
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        Simulator::start(bind, seed, faults).await.unwrap()
    }

    pub(super) fn released(&self, meter: &Simulator, candidates: Vec<KeySet>) -> ReleasedMeter {
        self.released_at(meter.address(), candidates)
    }

    pub(super) fn released_at(
        &self,
        address: SocketAddr,
        candidates: Vec<KeySet>,
    ) -> ReleasedMeter {
        ReleasedMeter {
            handover: HandoverId::random(&SystemRandom),
            supply_point: "2499999999991".parse().unwrap(),
            serial: "A01 2345678".parse().unwrap(),
            ways: vec![Way {
                generation: 1,
                address_of: None,
                belief: Belief::Due,
                address,
                profile: profile_with(KeyTransfer::Together).to_owned(),
                device: DeviceId::SystemTitle(TITLE),
                device_name: None,
                firmware: None,
                candidates: candidates.into_iter().map(Secrets::from).collect(),
            }],
            supply_start: None,
            closing_read: None,
            repoint: None,
        }
    }

    pub(super) fn dial(&self) -> MeterDial<'_, Journal> {
        let dlms = DlmsDial {
            title: OURS,
            counters: &self.journal,
            random: &SystemRandom,
        };
        MeterDial { dlms }
    }

    pub(super) fn takeover<'a, D>(
        &'a self,
        dial: &'a D,
        settings: Settings,
    ) -> Takeover<'a, D, TestEscrow> {
        Takeover {
            journal: &self.journal,
            dial,
            profiles: &self.profiles,
            escrow: &self.escrow,
            clock: &self.clock,
            random: &SystemRandom,
            settings,
        }
    }

    pub(super) async fn try_claim(&self, meter: &ReleasedMeter) -> Result<Claim, TakeoverError> {
        let dial = self.dial();
        self.takeover(&dial, Settings::default()).claim(meter).await
    }

    pub(super) async fn claim(&self, meter: &ReleasedMeter) -> Claim {
        self.try_claim(meter).await.unwrap()
    }

    pub(super) async fn try_run(
        &self,
        handover: HandoverId,
        settings: Settings,
    ) -> Result<Outcome, TakeoverError> {
        let dial = self.dial();
        self.takeover(&dial, settings)
            .run(handover, &|_, _| {})
            .await
    }

    pub(super) async fn run(&self, handover: HandoverId, settings: Settings) -> Outcome {
        self.try_run(handover, settings).await.unwrap()
    }

    pub(super) async fn take_over(&self, meter: &ReleasedMeter, settings: Settings) -> Outcome {
        self.claim(meter).await;
        self.run(meter.handover, settings).await
    }

    /// Runs a takeover and drops it at a chosen point, as a crash would. Returns whether it got there.
    pub(super) async fn run_until(
        &self,
        handover: HandoverId,
        settings: Settings,
        kill: Kill,
    ) -> bool {
        let inner = self.dial();
        let reached = Notify::new();
        let dial = KillingDial {
            inner: &inner,
            kill,
            changes: AtomicUsize::new(0),
            reached: &reached,
        };
        let dial = &dial;
        let takeover = self.takeover(&dial, settings);
        let on_step = |_, state| {
            if kill == Kill::AfterState(state) {
                reached.notify_one();
            }
        };
        tokio::select! {
            biased;
            () = reached.notified() => true,
            outcome = takeover.run(handover, &on_step) => { outcome.unwrap(); false }
        }
    }

    /// Runs a takeover and drops it after so many polls, wherever that is. `None` if it was dropped.
    pub(super) async fn run_for(
        &self,
        handover: HandoverId,
        settings: Settings,
        polls: usize,
    ) -> Option<Outcome> {
        let mut run = Box::pin(self.try_run(handover, settings));
        let mut left = polls;
        let ended = poll_fn(|context| match run.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        });
        ended.await.map(Result::unwrap)
    }

    pub(super) fn profile_of(&self, meter: &ReleasedMeter) -> Arc<Profile> {
        Arc::clone(self.profiles.get(&meter.ways[0].profile).unwrap())
    }

    pub(super) fn profile(&self, transfer: KeyTransfer) -> Arc<Profile> {
        Arc::clone(self.profiles.get(profile_with(transfer)).unwrap())
    }

    pub(super) fn profile_named(&self, name: &str) -> Arc<Profile> {
        Arc::clone(self.profiles.get(name).unwrap())
    }

    /// The keys that the meter shall have had last.
    pub(super) async fn newest_keys(&self, handover: HandoverId) -> KeySet {
        let newest = self.journal.newest_secrets(handover).await.unwrap();
        newest.into_keys().unwrap()
    }

    /// Looks at a meter and changes nothing.
    pub(super) async fn inventory(&self, meter: &ReleasedMeter) {
        self.claim(meter).await;
        let inventoried = Kill::AfterState(State::Inventoried);
        let settings = Settings::default();
        assert!(self.run_until(meter.handover, settings, inventoried).await);
    }

    /// What was read off the meter at first.
    pub(super) async fn reads(&self, handover: HandoverId) -> Vec<RegisterRead> {
        self.journal.record(handover).await.unwrap().progress.reads
    }

    /// A meter at `address` that is as those here are.
    pub(super) fn station(&self, address: SocketAddr) -> Station {
        Station {
            address,
            device: DeviceId::SystemTitle(TITLE),
            profile: self.profile(KeyTransfer::Together),
        }
    }

    /// Whether these secrets open the meter at `address`, and a protected read is answered.
    pub(super) async fn try_secrets(
        &self,
        address: SocketAddr,
        secrets: &Secrets,
        counter_above: u32,
    ) -> Result<(), LinkError> {
        let credentials = Credentials {
            secrets,
            gak: secrets,
            counter_above,
        };
        let dial = self.dial();
        let mut link = dial.dial(self.station(address));
        link.enter(Login::Manager(credentials)).await?;
        assert!(!link.registers(None).await?.is_empty());
        link.leave().await;
        Ok(())
    }

    /// What the meter at `address` tells anybody as its serial number.
    pub(super) async fn read_serial(&self, address: SocketAddr) -> Result<Identity, LinkError> {
        let dial = self.dial();
        let mut link = dial.dial(self.station(address));
        link.enter(Login::Anybody).await?;
        link.identity(&[Item::Serial]).await
    }

    /// Runs a takeover and drops it once the meter has its keys and before its answer has come.
    pub(super) async fn run_until_sent(
        &self,
        handover: HandoverId,
        settings: Settings,
        proxy: &Proxy,
    ) {
        tokio::select! {
            biased;
            () = proxy.line().sent.notified() => {}
            outcome = self.run(handover, settings) => panic!("nothing was sent: {outcome:?}"),
        }
    }

    pub(super) fn journal_files(&self) -> Vec<Vec<u8>> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }

    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// The built-in profiles, as patient as this many seconds, and with another one that takes keys one by one.
fn profiles(seconds: u16) -> Profiles {
    let text = include_str!("../../../policies/meters/dlms.toml");
    let line = format!("[line]\nconnect_seconds = 5\nanswer_seconds = {seconds}\n");
    let one_by_one = text.replace("[dlms]", "[dlms]\nkey_transfer = \"one_by_one\"");
    let mut profiles = Profiles::built_in();
    for form in ["plain", "wrapped"] {
        let text = text.replace("[dlms]", &format!("[dlms]\nsecret_change = \"{form}\""));
        profiles.add(Profile::parse(form, &text).unwrap());
    }
    for (transfer, text) in [
        (KeyTransfer::Together, text),
        (KeyTransfer::OneByOne, one_by_one.as_str()),
    ] {
        let text = format!("{line}{text}");
        profiles.add(Profile::parse(profile_with(transfer), &text).unwrap());
    }
    let mode_c = include_str!("../../../policies/meters/simulated-mode-c.toml");
    let line = "[line]\nconnect_seconds = 5\nanswer_seconds = 1\n[iec62056-21.passwords]";
    let mode_c = mode_c.replace("[iec62056-21.passwords]", line);
    profiles.add(Profile::parse("simulated-mode-c", &mode_c).unwrap());
    profiles
}

/// The name of the profile of meters that take keys in this way.
pub(super) fn profile_with(transfer: KeyTransfer) -> &'static str {
    match transfer {
        KeyTransfer::Together => "dlms",
        KeyTransfer::OneByOne => "one-by-one",
    }
}

async fn open(folder: &TempDir, sealer: &Arc<TestSealer>) -> Journal {
    let path = folder.path().join("journal.db");
    let sealer = Arc::clone(sealer) as Arc<dyn Sealer>;
    Journal::open(&path, sealer, JournalSettings::default())
        .await
        .unwrap()
}

/// Where a run dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kill {
    /// When this state is durable.
    AfterState(State),
    /// When the change of secrets of this number, counted from 1, is about to be sent.
    BeforeChange(usize),
    /// When it has been sent, and before it is answered.
    WithoutAnswer(usize),
    /// When the meter has answered.
    AfterChange(usize),
}

/// The keys that every meter here starts with: counting up from 00, D0 and 10.
pub(super) fn released_keys(suite: Suite) -> KeySet {
    let count_from = |first: u8| {
        let bytes = (0..suite.key_bytes()).map(|at| first.wrapping_add(u8::try_from(at).unwrap()));
        Secret::new(bytes.collect())
    };
    KeySet::new(suite, count_from(0x00), count_from(0xD0), count_from(0x10)).unwrap()
}

pub(super) fn seed(suite: Suite) -> MeterSeed {
    let mut seed = MeterSeed::new("A012345678", TITLE, released_keys(suite));
    seed.last_counter = Some(500);
    seed
}

/// Our own title.
pub(super) const OURS: SystemTitle = SystemTitle(*b"COSTEST1");
/// That of every meter here, unless a test says otherwise.
pub(super) const TITLE: SystemTitle = SystemTitle(*b"MMM\0\0\xBC\x61\x4E");

/// An escrow that does what it is asked and remembers it.
#[derive(Default)]
pub(super) struct TestEscrow {
    deposits: Mutex<Vec<Vec<Digest>>>,
    reads: Mutex<Vec<RegisterRead>>,
    reports: Mutex<Vec<Report>>,
    refuses: AtomicBool,
}

impl TestEscrow {
    pub(super) fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    pub(super) fn reads(&self) -> Vec<RegisterRead> {
        self.reads.lock().unwrap().clone()
    }

    pub(super) fn deposits(&self) -> usize {
        self.deposits.lock().unwrap().len()
    }

    pub(super) fn last_deposit_is(&self, set: &KeySet) -> bool {
        self.deposits.lock().unwrap().last() == Some(&names(set))
    }

    pub(super) fn last_deposit_holds(&self, secrets: &Secrets) -> bool {
        self.deposits.lock().unwrap().last() == Some(&names_of(secrets))
    }

    pub(super) fn refuse_deposits(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }
}

fn names_of(secrets: &Secrets) -> Vec<Digest> {
    match secrets {
        Secrets::Keys(set) => names(set),
        Secrets::Passwords(set) => {
            let passwords = set.levels().filter_map(|level| set.password(level));
            passwords.map(key_name).collect()
        }
    }
}

fn names(set: &KeySet) -> Vec<Digest> {
    [set.guek(), set.gak(), set.kek()].map(key_name).to_vec()
}

impl Escrow for TestEscrow {
    async fn write_ahead(
        &self,
        _: HandoverId,
        _: &Way,
        secrets: &Secrets,
    ) -> Result<u32, EscrowError> {
        let names = names_of(secrets);
        if self.refuses.load(Ordering::SeqCst) {
            return Err(EscrowError::Unavailable("as the test wants".to_owned()));
        }
        let mut deposits = self.deposits.lock().unwrap();
        let known = deposits.iter().position(|known| *known == names);
        let index = known.unwrap_or_else(|| {
            deposits.push(names);
            deposits.len() - 1
        });
        Ok(u32::try_from(index + 1).unwrap())
    }

    async fn closing_read(
        &self,
        _: HandoverId,
        _: &Way,
        reads: &[RegisterRead],
    ) -> Result<(), EscrowError> {
        *self.reads.lock().unwrap() = reads.to_vec();
        Ok(())
    }

    async fn report(&self, _: HandoverId, _: &Way, report: &Report) -> Result<(), EscrowError> {
        self.reports.lock().unwrap().push(report.clone());
        Ok(())
    }
}

struct TestSealer(LessSafeKey);

impl TestSealer {
    fn new() -> Self {
        let mut key = [0; 32];
        SystemRandom.fill(&mut key);
        Self(LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, &key).unwrap(),
        ))
    }
}

impl Sealer for TestSealer {
    fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        SystemRandom.fill(&mut nonce);
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, Aad::from(context), &mut sealed)
            .unwrap();
        [nonce.to_vec(), sealed].concat()
    }

    fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Secret, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk().ok_or(SealError)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(context), &mut plain);
        opened
            .map(|plain| Secret::new(plain.to_vec()))
            .map_err(|_| SealError)
    }
}

/// Hands out links that stop for ever at a chosen point of the first transfer.
struct KillingDial<'a> {
    inner: &'a MeterDial<'a, Journal>,
    kill: Kill,
    /// How many changes there were.
    changes: AtomicUsize,
    reached: &'a Notify,
}

impl<'a> Dial for &'a KillingDial<'a> {
    type Link = KillingLink<'a>;

    fn dial(&self, station: Station) -> Self::Link {
        KillingLink {
            inner: self.inner.dial(station),
            dial: self,
        }
    }
}

struct KillingLink<'a> {
    inner: <MeterDial<'a, Journal> as Dial>::Link,
    dial: &'a KillingDial<'a>,
}

impl KillingDial<'_> {
    async fn die(&self) {
        self.reached.notify_one();
        std::future::pending::<()>().await;
    }
}

impl MeterLink for KillingLink<'_> {
    async fn enter(&mut self, login: Login<'_>) -> Result<(), LinkError> {
        self.inner.enter(login).await
    }

    async fn identity(&mut self, wanted: &[Item]) -> Result<Identity, LinkError> {
        self.inner.identity(wanted).await
    }

    async fn registers(&mut self, as_of: Option<Timestamp>) -> Result<Vec<Shown>, LinkError> {
        self.inner.registers(as_of).await
    }

    async fn setting(&mut self, name: SettingName) -> Result<Setting, LinkError> {
        self.inner.setting(name).await
    }

    async fn set(&mut self, setting: &Setting) -> Result<(), LinkError> {
        self.inner.set(setting).await
    }

    async fn other_secrets(&mut self) -> Result<Vec<Role>, LinkError> {
        self.inner.other_secrets().await
    }

    async fn change(&mut self, change: Change<'_>) -> Result<(), LinkError> {
        let number = self.dial.changes.fetch_add(1, Ordering::SeqCst) + 1;
        if self.dial.kill == Kill::BeforeChange(number) {
            self.dial.die().await;
        }
        if self.dial.kill == Kill::WithoutAnswer(number) {
            // The first poll sends; the answer is for the second.
            let mut sending = Box::pin(self.inner.change(change));
            let sent = poll_fn(|context| Poll::Ready(sending.as_mut().poll(context).is_pending()));
            assert!(sent.await, "the answer was there before it was waited for");
            drop(sending);
            self.dial.die().await;
        }
        let done = self.inner.change(change).await;
        if self.dial.kill == Kill::AfterChange(number) {
            self.dial.die().await;
        }
        done
    }

    async fn leave(&mut self) {
        self.inner.leave().await;
    }
}
