//! Keeps the keys that open everything else, apart from the database: a stolen database or backup opens nothing.
//!
//! ```text
//! root key ── wraps ─▶ epoch keys ── wrap ─▶ data keys of envelopes   (in the database)
//!          ├─ wraps ─▶ the escrow's sealing keys, the log's signing key
//!          └─ wraps ─▶ the disclosure key ── wraps ─▶ keys of scopes  (in the database)
//! ```
//!
//! An epoch key is destroyed once no live data key is wrapped under it; with it die the copies in old backups.

mod file;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::envelope::{Kek, Kem, SealingKeyPair};
use crate::types::{Random, Secret, Timestamp};
use file::FileProvider;

/// Where the keys lie: secrets by name, each protected by a root key that never leaves the provider.
trait KeyProvider: Send + Sync {
    /// The names of all secrets.
    fn names(&self) -> Result<Vec<String>, CustodyError>;

    /// Keeps a new secret, durably; a name is used once.
    fn put(&self, name: &str, secret: &Secret, random: &dyn Random) -> Result<(), CustodyError>;

    /// The secret of that name.
    fn open_key(&self, name: &str) -> Result<Secret, CustodyError>;

    /// Destroys a secret: from then on nobody opens it, whatever was copied of the database.
    fn destroy(&self, name: &str) -> Result<(), CustodyError>;
}

/// All keys of the service, opened.
pub struct Custody {
    provider: Box<dyn KeyProvider>,
    epochs: ArcSwap<BTreeMap<u32, Epoch>>,
    sealing: Vec<SealingKeyPair>,
    log: Secret,
    disclosure: Kek,
    index: Secret,
}

/// A key that wraps data keys for a time.
#[derive(Clone)]
pub struct Epoch {
    /// Its number, from one.
    pub number: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// The key.
    pub kek: Arc<Kek>,
}

impl Custody {
    /// Whether somebody has begun to make keys in `folder`.
    pub fn has_root_key(folder: &Path) -> Result<bool, CustodyError> {
        Ok(FileProvider::has_root_key(folder)?)
    }

    /// The numbers of the epochs whose keys are in `folder`, which is not touched otherwise.
    pub fn epochs_in(folder: &Path) -> Result<Vec<u32>, CustodyError> {
        let names = FileProvider::names_in(folder)?;
        let numbers = names.iter().filter_map(|name| parse_epoch_name(name));
        Ok(numbers.map(|(number, _)| number).collect())
    }

    /// Opens the keys in `folder`; makes those that are missing.
    ///
    /// Only for a log that has not begun yet: nothing is wrapped under any of them, and whoever began to make them may
    /// have been cut off anywhere.
    pub fn open_or_create(
        folder: &Path,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<Self, CustodyError> {
        let provider = FileProvider::open_or_create(folder, random)?;
        complete(&provider, now, random)?;
        Self::of(Box::new(provider))
    }

    /// Opens the keys in `folder`.
    pub fn open(folder: &Path) -> Result<Self, CustodyError> {
        Self::of(Box::new(FileProvider::open(folder)?))
    }

    fn of(provider: Box<dyn KeyProvider>) -> Result<Self, CustodyError> {
        let mut epochs = BTreeMap::new();
        for name in provider.names()? {
            let Some((number, created_at)) = parse_epoch_name(&name) else {
                continue;
            };
            let kek = Arc::new(kek(&name, &provider.open_key(&name)?)?);
            epochs.insert(
                number,
                Epoch {
                    number,
                    created_at,
                    kek,
                },
            );
        }
        if epochs.is_empty() {
            return Err(CustodyError::Missing("epoch".to_owned()));
        }
        let sealing = ESCROW_KEMS
            .iter()
            .map(|kem| {
                let name = sealing_name(*kem);
                SealingKeyPair::from_secret(*kem, &provider.open_key(&name)?)
                    .map_err(|_| CustodyError::Damaged(name))
            })
            .collect::<Result<_, CustodyError>>()?;
        Ok(Self {
            epochs: ArcSwap::from_pointee(epochs),
            sealing,
            log: provider.open_key("log")?,
            disclosure: kek("disclosure", &provider.open_key("disclosure")?)?,
            index: provider.open_key("index")?,
            provider,
        })
    }

    /// The epoch that new data keys are wrapped under.
    pub fn current_epoch(&self) -> Epoch {
        let epochs = self.epochs.load();
        let (_, newest) = epochs
            .last_key_value()
            .expect("`open` requires an epoch, and `destroy_epoch` keeps the newest");
        newest.clone()
    }

    /// The epochs before the current one that have not been destroyed, oldest first.
    pub fn older_epochs(&self) -> Vec<Epoch> {
        let current = self.current_epoch().number;
        let epochs = self.epochs.load();
        epochs
            .range(..current)
            .map(|(_, epoch)| epoch.clone())
            .collect()
    }

    /// The epoch of that number, unless it was destroyed.
    pub fn epoch(&self, number: u32) -> Option<Epoch> {
        self.epochs.load().get(&number).cloned()
    }

    /// Begins a new epoch.
    pub fn begin_epoch(&self, now: Timestamp, random: &dyn Random) -> Result<Epoch, CustodyError> {
        let number = self.current_epoch().number + 1;
        let secret = random_key(random);
        let name = epoch_name(number, now);
        self.provider.put(&name, &secret, random)?;
        let epoch = Epoch {
            number,
            created_at: now,
            kek: Arc::new(kek(&name, &secret)?),
        };
        let mut epochs = BTreeMap::clone(&self.epochs.load());
        epochs.insert(number, epoch.clone());
        self.epochs.store(Arc::new(epochs));
        Ok(epoch)
    }

    /// Destroys an epoch that is not the newest: what is still wrapped under it, here or in a backup, is gone.
    pub fn destroy_epoch(&self, number: u32) -> Result<(), CustodyError> {
        let mut epochs = BTreeMap::clone(&self.epochs.load());
        if number == self.current_epoch().number {
            return Err(CustodyError::InUse(number));
        }
        if let Some(epoch) = epochs.remove(&number) {
            self.provider
                .destroy(&epoch_name(number, epoch.created_at))?;
            self.epochs.store(Arc::new(epochs));
        }
        Ok(())
    }

    /// The escrow's own sealing keys, which depositors seal to.
    pub fn sealing_keys(&self) -> &[SealingKeyPair] {
        &self.sealing
    }

    /// The log's signing key: Ed25519, PKCS#8.
    pub fn log_key(&self) -> &Secret {
        &self.log
    }

    /// Wraps the keys that disclosures are encrypted under.
    pub fn disclosure_kek(&self) -> &Kek {
        &self.disclosure
    }

    /// The keyed digest by which entries about `subject` are found.
    pub fn index_of(&self, subject: &str) -> [u8; 32] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.index.expose());
        let tag = ring::hmac::sign(&key, subject.as_bytes());
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }
}

/// Makes the keys that are missing.
fn complete(
    provider: &dyn KeyProvider,
    now: Timestamp,
    random: &dyn Random,
) -> Result<(), CustodyError> {
    let names = provider.names()?;
    let is_missing = |name: &str| !names.iter().any(|known| known == name);
    if is_missing("log") {
        provider.put("log", &new_log_key()?, random)?;
    }
    for name in ["disclosure", "index"] {
        if is_missing(name) {
            provider.put(name, &random_key(random), random)?;
        }
    }
    if !names.iter().any(|name| parse_epoch_name(name).is_some()) {
        provider.put(&epoch_name(1, now), &random_key(random), random)?;
    }
    for kem in ESCROW_KEMS {
        if is_missing(&sealing_name(kem)) {
            let pair = SealingKeyPair::generate(kem, random);
            provider.put(&sealing_name(kem), &pair.to_secret(), random)?;
        }
    }
    Ok(())
}

fn new_log_key() -> Result<Secret, CustodyError> {
    let rng = ring::rand::SystemRandom::new();
    let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&rng)
        .map_err(|_| CustodyError::Damaged("log".to_owned()))?;
    Ok(Secret::new(document.as_ref().to_vec()))
}

fn kek(name: &str, secret: &Secret) -> Result<Kek, CustodyError> {
    Kek::from_secret(secret).map_err(|_| CustodyError::Damaged(name.to_owned()))
}

fn random_key(random: &dyn Random) -> Secret {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    Secret::take_from(&mut bytes)
}

fn sealing_name(kem: Kem) -> String {
    format!("sealing-{:04x}", kem.id())
}

fn epoch_name(number: u32, created_at: Timestamp) -> String {
    format!("epoch-{number:06}-{}", created_at.as_millis())
}

fn parse_epoch_name(name: &str) -> Option<(u32, Timestamp)> {
    let (number, millis) = name.strip_prefix("epoch-")?.split_once('-')?;
    Some((
        number.parse().ok()?,
        Timestamp::from_millis(millis.parse().ok()?),
    ))
}

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// No such key.
    #[error("key `{0}` is missing")]
    Missing(String),
    /// The key's file does not open with the root key, or holds something else.
    #[error("key `{0}` is damaged or belongs to another root key")]
    Damaged(String),
    /// The newest epoch cannot be destroyed.
    #[error("epoch {0} is in use")]
    InUse(u32),
    /// Others than the owner may read the file.
    #[error("`{0}` must be readable by its owner only")]
    Exposed(String),
    /// A file operation failed.
    #[error("key files: {0}")]
    File(#[from] std::io::Error),
}

/// The KEMs that the escrow offers to depositors.
const ESCROW_KEMS: [Kem; 3] = [Kem::XWing, Kem::X25519, Kem::P256];
