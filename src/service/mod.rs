//! Use cases: the one place where *decide → append to the log → commit → hand out* can be read in order.
//!
//! Each use case prepares what is slow (signatures, key encapsulation) outside the transaction, then submits a command
//! that decides over facts inside it. The sequencer commits commands in batches, then anchors, signs and answers.

mod allowance;
mod anchor;
mod caller;
mod confirm;
mod deposit;
mod epochs;
mod generation;
mod handover;
mod intake;
mod issue;
mod ledger;
mod log;
mod lookup;
mod meter;
mod offer;
mod overdue;
mod party;
mod quota;
mod read;
mod receipt;
mod recover;
mod refusal;
mod registration;
mod release;
mod release_facts;
mod retire;
mod room;
mod rules;
mod sealing_key;
mod sequencer;
mod signature;
mod supplier;
#[cfg(test)]
mod tests;
mod witnesses;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use anchor::may_begin;
pub use caller::{Caller, Failure};
pub use deposit::{DepositRequest, Seal};
pub use handover::{HandoverPage, HandoverQuery, HandoverView};
pub use log::{EntryView, LogQuery};
pub use lookup::LookupRequest;
pub use meter::MeterStatement;
pub use party::{MpidChange, NewParty};
pub use receipt::Receipt;
pub use recover::{Adopt, RecoverError, RecoveredEntry, Recovery, adopt, recover};
pub use registration::RecordResult;
pub use release::{ReleaseRequest, Released};
pub use rules::{Rules, SealServer};
pub use sealing_key::{KeyOffer, KeyView, Offered};
pub use sequencer::{Answer, Idempotency, Repeat};
pub use witnesses::{WitnessMode, Witnessing};

use crate::custody::Custody;
use crate::store::{Needs, Store};
use crate::tlog::{Checkpoint, Frontier, Hash, KeyName, LogKey, Note, TreeHead, VerifierKey};
use crate::types::{Clock, Random};
use allowance::Allowances;
use anchor::{Anchor, Fence};
use quota::Quota;
use sequencer::{Command, Sequencer, Settled, Submission};
use witnesses::{Cosigned, Rounds};

/// What the use cases stand on.
pub struct Foundation {
    /// The database.
    pub store: Store,
    /// The keys.
    pub custody: Custody,
    /// Policy and terms.
    pub rules: Rules,
    /// The log's name: its origin line and key name.
    pub origin: KeyName,
    /// The file that remembers the newest head outside the database.
    pub anchor: PathBuf,
    /// Who cosigns the log, if anybody does.
    pub witnessing: Option<Witnessing>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes keys, salts and ids.
    pub random: Arc<dyn Random>,
}

/// The escrow: all use cases.
#[derive(Clone)]
pub struct Escrow {
    shared: Arc<Shared>,
    sequencer: Sequencer,
}

/// What use cases and the sequencer share.
struct Shared {
    store: Store,
    custody: Custody,
    rules: ArcSwap<Rules>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    fence: Fence,
    quota: Quota,
    allowances: Allowances,
    log_key: LogKey,
    /// The newest head that may be signed.
    anchored: watch::Receiver<TreeHead>,
    witnessing: Option<Witnessing>,
    cosigned: watch::Sender<Cosigned>,
}

impl Escrow {
    /// Checks the database against the anchor and starts the sequencer.
    ///
    /// A database that is behind or beside what was promised, or whose promise is gone, is served read-only: the
    /// fence is up, and nothing is signed.
    pub async fn start(foundation: Foundation) -> Result<Self, Failure> {
        let log_key = LogKey::from_pkcs8(foundation.origin, foundation.custody.log_key())
            .map_err(|error| Failure::Broken(error.to_string()))?;
        let head = foundation.store.head().await?;
        let (mut anchor, promise) = Anchor::open(&foundation.anchor).await?;
        let (heads, anchored) = watch::channel(head.tree());
        let shared = Arc::new(Shared {
            store: foundation.store,
            custody: foundation.custody,
            rules: ArcSwap::from_pointee(foundation.rules),
            clock: foundation.clock,
            random: foundation.random,
            fence: Fence::default(),
            quota: Quota::default(),
            allowances: Allowances::default(),
            log_key,
            anchored: anchored.clone(),
            witnessing: foundation.witnessing,
            cosigned: watch::Sender::default(),
        });
        shared.check_origin().await?;
        shared.check_history(promise).await?;
        shared.consult_witnesses().await?;
        if shared.fence.reason().is_none() {
            if promise != Some(head.tree()) {
                // ORDER: before anything is signed. A batch may have been committed and cut off before its anchor.
                anchor.advance(head.tree()).await?;
            }
            shared.recall_cosignatures().await?;
            Rounds::start(&shared, anchored);
        }
        let sequencer = Sequencer::start(Arc::clone(&shared), anchor, heads);
        let escrow = Self { shared, sequencer };
        escrow.begin_log().await?;
        escrow.announce_rules().await?;
        Ok(escrow)
    }

    /// The log's key, as auditors and clients are given it.
    pub fn log_key(&self) -> &VerifierKey {
        self.shared.log_key.verifier()
    }

    /// Why nothing is written any more, if so.
    pub fn fenced(&self) -> Option<String> {
        self.shared.fence.reason()
    }

    /// The database, for health checks and backups.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Whether something was answered under this idempotency key: then nothing has to be prepared. A repetition is not
    /// refused for what has changed since, such as the time.
    async fn is_remembered(
        &self,
        caller: &Caller,
        idempotency: &Idempotency,
    ) -> Result<bool, Failure> {
        let key = idempotency.of(&caller.identity);
        let wanted = key.clone();
        let facts = self
            .shared
            .facts(|needs| {
                needs.idempotency.insert(wanted);
            })
            .await?;
        Ok(facts.idempotency.contains_key(&key))
    }

    /// Submits a command that cannot become stale.
    async fn submit(
        &self,
        caller: Caller,
        idempotency: Option<Idempotency>,
        command: impl Command + 'static,
    ) -> Result<Answer, Failure> {
        let settled = self
            .sequencer
            .submit(Submission {
                caller,
                idempotency,
                command: Box::new(command),
            })
            .await?;
        match settled {
            Settled::Answer(answer) => Ok(answer),
            Settled::Stale => Err(Failure::Broken("a fresh command was stale".to_owned())),
        }
    }
}

impl Shared {
    /// What a request about these things would see now. Only for preparing: the transaction decides.
    async fn facts(&self, needs: impl FnOnce(&mut Needs)) -> Result<crate::store::Facts, Failure> {
        let mut wanted = Needs::default();
        needs(&mut wanted);
        Ok(self.store.facts(&wanted).await?)
    }

    /// Raises the fence when the database does not continue what was promised.
    async fn check_history(&self, promise: Option<TreeHead>) -> Result<(), Failure> {
        let head = self.store.head().await?;
        let Some(promise) = promise else {
            self.fence.raise(format!(
                "the anchor is gone or damaged, and the database has {} entries: \
                 `db recover` or `db anchor` is the way out",
                head.size
            ));
            return Ok(());
        };
        if head.size < promise.size {
            self.fence.raise(format!(
                "the database ends at entry {} but {} were promised: it was restored from a backup",
                head.size, promise.size
            ));
            return Ok(());
        }
        let root = self.root_at(promise.size).await?;
        if root != promise.root {
            self.fence.raise(format!(
                "the database has another history: its root at {} entries is not the promised one",
                promise.size
            ));
        }
        Ok(())
    }

    /// The root over the first `size` entries, from stored nodes.
    async fn root_at(&self, size: u64) -> Result<Hash, Failure> {
        let nodes = self.nodes(Frontier::node_ids(size)).await?;
        Frontier::assemble(size, |node| nodes.get(&node).copied())
            .map(|frontier| frontier.root())
            .map_err(|error| Failure::Broken(error.to_string()))
    }

    /// A signed checkpoint of the newest head that is anchored: what is only committed could be lost unnoticed.
    fn checkpoint(&self) -> Result<Note, Failure> {
        let head = *self.anchored.borrow();
        self.checkpoint_of(head)
    }

    /// Signs a head.
    ///
    /// INVARIANT: all heads are signed here, and none behind the fence: it could contradict what was signed before.
    fn sign(&self, head: TreeHead) -> Result<Note, Failure> {
        self.fence.check()?;
        Ok(Checkpoint::sign(head, &self.log_key))
    }

    /// The size that one of our own checkpoints speaks of.
    fn size_of(&self, note: &Note) -> Result<u64, Failure> {
        Checkpoint::open(note, self.log_key.verifier())
            .map(|checkpoint| checkpoint.head.size)
            .map_err(|error| Failure::Broken(error.to_string()))
    }
}
