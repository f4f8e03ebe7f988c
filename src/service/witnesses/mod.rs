//! Witnesses of the log: each new head is shown to them, what they cosign is kept and served, and what they know better
//! than the database raises the fence.

mod rounds;

use std::time::Duration;

use tokio::time::timeout;

pub(super) use rounds::Rounds;

use super::receipt::Receipt;
use super::sequencer::Answer;
use super::{Escrow, Failure, Shared};
use crate::tlog::{Checkpoint, Note, TreeHead, TrustPolicy, VerifierKey};
use crate::types::Timestamp;
use crate::witness::{self, WitnessClient};

/// Who cosigns the log, and what depends on it.
pub struct Witnessing {
    /// The witnesses, and how many of them are enough.
    pub policy: TrustPolicy,
    /// How each is reached, by its verifier key.
    pub clients: Vec<(VerifierKey, WitnessClient)>,
    /// Whether answers wait.
    pub mode: WitnessMode,
    /// How long an answer waits for the quorum.
    pub patience: Duration,
    /// How long the newest head may go without its quorum before the service says it is not ready.
    pub alarm: Duration,
}

/// Whether answers to parties wait for the quorum.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WitnessMode {
    /// They do not; heads are cosigned behind them.
    Background,
    /// They do. Without a quorum in time there is no answer, and nothing is handed out.
    Quorum,
}

/// What is known of cosignatures.
#[derive(Default)]
pub(super) struct Cosigned {
    /// The newest head that the quorum has cosigned, with its cosignatures.
    quorum: Option<(TreeHead, Note)>,
    /// The head that was shown last, with the cosignatures that there are.
    newest: Option<(TreeHead, Note)>,
    /// Since when the log has been ahead of its quorum.
    behind_since: Option<Timestamp>,
}

impl Escrow {
    /// The newest checkpoint that the quorum has cosigned; the newest of all where there are no witnesses, or none yet.
    /// None behind the fence.
    pub fn cosigned_checkpoint(&self) -> Result<String, Failure> {
        let quorum = self.shared.cosigned.borrow().quorum.clone();
        match quorum {
            Some((head, _)) => Ok(self.shared.checkpoint_of(head)?.to_string()),
            None => self.checkpoint(),
        }
    }

    /// How long the log has been ahead of what its quorum has cosigned; nothing where it has no witnesses.
    pub fn cosign_age(&self) -> Option<Duration> {
        self.shared.witnessing.as_ref()?;
        let since = self.shared.cosigned.borrow().behind_since;
        let now = self.shared.clock.now();
        Some(since.map_or(Duration::ZERO, |since| now.since(since)))
    }

    /// What is wrong with the witnesses, if it has gone on for too long.
    pub fn witness_alarm(&self) -> Option<String> {
        let alarm = self.shared.witnessing.as_ref()?.alarm;
        let age = self.cosign_age().filter(|age| *age > alarm)?;
        let seconds = age.as_secs();
        Some(format!(
            "the quorum has cosigned nothing new for {seconds} s"
        ))
    }
}

impl Shared {
    /// The note of a head, with the cosignatures that there are.
    pub(super) fn checkpoint_of(&self, head: TreeHead) -> Result<Note, Failure> {
        self.fence.check()?;
        let cosigned = self.cosigned.borrow();
        let known = [&cosigned.newest, &cosigned.quorum];
        let known = known.into_iter().flatten().find(|(of, _)| *of == head);
        match known {
            Some((_, note)) => Ok(note.clone()),
            None => self.sign(head),
        }
    }

    /// In quorum mode, waits until the witnesses have cosigned the entry of an answer, and proves it by what they have
    /// cosigned.
    ///
    /// INVARIANT: without the quorum in time this fails, and the caller hands nothing out. The entry stays; asking again
    /// waits again.
    pub(super) async fn witnessed(&self, answer: Answer) -> Result<Answer, Failure> {
        let Some(witnessing) = &self.witnessing else {
            return Ok(answer);
        };
        let (WitnessMode::Quorum, Some(Receipt { index, .. })) = (witnessing.mode, &answer.receipt)
        else {
            return Ok(answer);
        };
        let index = *index;
        let mut cosigned = self.cosigned.subscribe();
        let covers = |cosigned: &Cosigned| {
            let quorum = cosigned.quorum.as_ref();
            quorum.is_some_and(|(head, _)| head.size > index)
        };
        let quorum = async {
            let cosigned = cosigned.wait_for(covers).await.ok()?;
            cosigned.quorum.clone()
        };
        let quorum = timeout(witnessing.patience, quorum).await.ok().flatten();
        let late = || Failure::Unavailable("too few witnesses cosigned in time".to_owned());
        let (head, note) = quorum.ok_or_else(late)?;
        let receipt = self.receipt_at(index, head.size, &note).await?;
        Ok(Answer {
            receipt: Some(receipt),
            ..answer
        })
    }

    /// Asks the witnesses what they know.
    ///
    /// A witness that shows a checkpoint which our own key has signed, and which the database does not continue, proves
    /// that the database is not the newest: the anchor may have been restored with it.
    pub(super) async fn consult_witnesses(&self) -> Result<(), Failure> {
        let Some(witnessing) = &self.witnessing else {
            return Ok(());
        };
        let named = witnessing.policy.logs();
        if !named.is_empty() && !named.iter().any(|log| log.key == *self.log_key.verifier()) {
            let reason = "the policy for witnesses names other logs and not this one";
            return Err(Failure::Broken(reason.to_owned()));
        }
        let asked = witnessing.clients.iter().map(|(key, client)| async move {
            let looked = timeout(CONSULTATION, self.look_at(key, client)).await;
            if !matches!(looked, Ok(Ok(()))) {
                tracing::warn!(witness = %key.name(), "a witness cannot say what it has cosigned");
            }
        });
        futures_util::future::join_all(asked).await;
        Ok(())
    }

    /// Puts the cosignatures that were stored before the service was started back on their heads.
    pub(super) async fn recall_cosignatures(&self) -> Result<(), Failure> {
        let Some(witnessing) = &self.witnessing else {
            return Ok(());
        };
        let mut rows = self.store.cosignatures().await?;
        rows.sort_by_key(|row| row.size);
        let size = self.store.head().await?.size;
        for rows in rows.chunk_by(|a, b| a.size == b.size) {
            let of = rows[0].size;
            if of > size {
                continue;
            }
            let root = self.root_at(of).await?;
            let head = TreeHead { size: of, root };
            let mut note = self.sign(head)?;
            for row in rows {
                // A row that no longer reads is a cosignature less.
                if let Ok(signature) = row.line.parse() {
                    let _ = note.add(signature);
                }
            }
            self.cosigned.send_modify(|cosigned| {
                if self.is_enough(witnessing, &note) {
                    cosigned.quorum = Some((head, note.clone()));
                }
                cosigned.newest = Some((head, note));
            });
        }
        Ok(())
    }

    fn is_enough(&self, witnessing: &Witnessing, note: &Note) -> bool {
        let key = self.log_key.verifier();
        witnessing.policy.open(note, Some(key)).is_ok()
    }

    /// Compares what a witness has cosigned last with the log.
    async fn look_at(
        &self,
        key: &VerifierKey,
        client: &WitnessClient,
    ) -> Result<(), witness::Unreachable> {
        let log_key = self.log_key.verifier();
        let Some(note) = client.latest(log_key.name().as_str()).await? else {
            return Ok(());
        };
        // Only what our own key has signed proves anything against us.
        let Ok(shown) = Checkpoint::open(&note, log_key) else {
            return Err(witness::Unreachable::Answer);
        };
        let shown = shown.head;
        let continues = async {
            let size = self.store.head().await?.size;
            Ok(size >= shown.size && self.root_at(shown.size).await? == shown.root)
        };
        let continues: Result<bool, Failure> = continues.await;
        match continues {
            Ok(true) => {}
            Ok(false) => self.fence.raise(format!(
                "witness {} holds a checkpoint of {} entries that this log has signed and does not continue: \
                 the database was restored from a backup or has another history",
                key.name(),
                shown.size
            )),
            Err(error) => tracing::error!(%error, "a witness's checkpoint cannot be compared"),
        }
        Ok(())
    }
}

/// How long the start of the service waits to hear what witnesses know.
const CONSULTATION: Duration = Duration::from_secs(2);
