//! Witnesses of the log: each new head is shown to them, what they cosign is kept and served, and what they know better
//! than the database raises the fence.
//!
//! One task goes in rounds: it takes the newest head, asks every witness that is not still busy or backing off, and is
//! done when the quorum has cosigned or nobody is left to wait for. Heads that come meanwhile wait for the next round,
//! so a busy log is cosigned as often as its witnesses answer, and no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::receipt::Receipt;
use super::sequencer::Answer;
use super::{Escrow, Failure, Shared};
use crate::store::StoredCosignature;
use crate::tlog::{
    AddCheckpoint, Checkpoint, Note, ProofPlan, Signature, TreeHead, TrustPolicy, VerifierKey,
};
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

/// The task that shows heads to witnesses.
pub(super) struct Rounds {
    shared: Arc<Shared>,
    /// The newest anchored head. Ends with the sequencer.
    heads: watch::Receiver<TreeHead>,
    standings: Vec<Standing>,
    /// Requests under way, those of earlier rounds too.
    asked: JoinSet<(usize, TreeHead, Result<Signature, Unwilling>)>,
}

/// How a witness stands with us.
struct Standing {
    /// The size that it has cosigned last, as far as is known.
    latest: u64,
    failures: u32,
    /// When it may be asked again.
    due: Instant,
    is_busy: bool,
}

/// Why a witness has not cosigned.
struct Unwilling {
    reason: String,
    /// The size that it has cosigned last, where it said so.
    latest: Option<u64>,
}

impl Rounds {
    /// Starts the task; nothing to do without witnesses.
    pub(super) fn start(shared: &Arc<Shared>, heads: watch::Receiver<TreeHead>) {
        let Some(witnessing) = &shared.witnessing else {
            return;
        };
        let standing = |_: &(VerifierKey, WitnessClient)| Standing {
            latest: 0,
            failures: 0,
            due: Instant::now(),
            is_busy: false,
        };
        let rounds = Self {
            standings: witnessing.clients.iter().map(standing).collect(),
            shared: Arc::clone(shared),
            heads,
            asked: JoinSet::new(),
        };
        tokio::spawn(rounds.run());
    }

    async fn run(mut self) {
        while let Some(head) = self.next_head().await {
            let began = self.shared.clock.now();
            let Ok(note) = self.shared.checkpoint_of(head) else {
                // Fenced: this process has nothing to show any more.
                return;
            };
            let note = self.round(head, note).await;
            self.finish(head, &note, began).await;
            let pause = Instant::now() + PAUSE;
            if self.shared.mode() == WitnessMode::Background {
                sleep_until(pause).await;
            }
        }
    }

    /// The newest head, once it is worth a round: it is not empty, somebody can be asked, and not all have cosigned it.
    async fn next_head(&mut self) -> Option<TreeHead> {
        loop {
            let head = *self.heads.borrow_and_update();
            let missing = |s: &Standing| s.latest < head.size;
            let free = self.standings.iter().filter(|s| missing(s) && !s.is_busy);
            let due = free.map(|standing| standing.due).min();
            let now = Instant::now();
            if head.size > 0 && due.is_some_and(|due| due <= now) {
                return Some(head);
            }
            tokio::select! {
                changed = self.heads.changed() => changed.ok()?,
                () = sleep_until(due.unwrap_or(now + IDLE)), if due.is_some() => {}
                Some(done) = self.asked.join_next(), if !self.asked.is_empty() => {
                    self.record(done.ok(), None);
                }
            }
        }
    }

    /// Shows a head to everybody who can be asked; returns its note with the cosignatures that came in time.
    async fn round(&mut self, head: TreeHead, mut note: Note) -> Note {
        let now = Instant::now();
        for at in 0..self.standings.len() {
            let standing = &mut self.standings[at];
            if standing.is_busy || standing.due > now || standing.latest >= head.size {
                continue;
            }
            standing.is_busy = true;
            let (shared, latest, bare) = (Arc::clone(&self.shared), standing.latest, note.clone());
            self.asked.spawn(async move {
                let asked = shared.ask(at, latest, head, bare).await;
                (at, head, asked)
            });
        }
        while self.standings.iter().any(|s| s.is_busy) {
            let Some(done) = self.asked.join_next().await else {
                break;
            };
            self.record(done.ok(), Some((head, &mut note)));
            if self.shared.needs_quorum() && self.shared.publish(head, &note) {
                break;
            }
        }
        note
    }

    fn record(
        &mut self,
        done: Option<(usize, TreeHead, Result<Signature, Unwilling>)>,
        round: Option<(TreeHead, &mut Note)>,
    ) {
        // A request that panicked leaves its witness busy for ever, which is what a defect should look like.
        let Some((at, of, asked)) = done else {
            return;
        };
        let standing = &mut self.standings[at];
        standing.is_busy = false;
        match asked {
            Ok(signature) => {
                standing.latest = standing.latest.max(of.size);
                standing.failures = 0;
                if let Some((_, note)) = round.filter(|(head, _)| *head == of) {
                    // More than a note can hold are more than any quorum needs.
                    let _ = note.add_once(signature);
                }
            }
            Err(Unwilling { reason, latest }) => {
                standing.latest = latest.unwrap_or(standing.latest);
                standing.failures += 1;
                let wait = FIRST_WAIT * 2_u32.pow(standing.failures.min(9) - 1);
                standing.due = Instant::now() + wait.min(LONGEST_WAIT);
                let witness = self.shared.witness_name(at);
                metrics::counter!("cos_escrow_witness_failures_total", "witness" => witness.clone())
                    .increment(1);
                tracing::warn!(witness, reason, "a witness did not cosign");
            }
        }
    }

    /// Keeps what the round has brought.
    async fn finish(&mut self, head: TreeHead, note: &Note, began: Timestamp) {
        let is_enough = self.shared.publish(head, note);
        let newest = self.heads.borrow().size;
        self.shared.cosigned.send_modify(|cosigned| {
            cosigned.newest = Some((head, note.clone()));
            cosigned.behind_since = match is_enough {
                true if newest == head.size => None,
                true => Some(began),
                false => cosigned.behind_since.or(Some(began)),
            };
        });
        let rows = self.shared.rows_of(head, note);
        let quorum = self.shared.cosigned.borrow().quorum.clone();
        let sizes = [head.size, quorum.map_or(head.size, |(head, _)| head.size)];
        // What is not kept is asked for again after the next start.
        if let Err(error) = self.shared.store.keep_cosignatures(&rows, sizes).await {
            tracing::error!(%error, "cosignatures were not kept");
        }
    }
}

impl Shared {
    fn mode(&self) -> WitnessMode {
        let witnessing = self.witnessing.as_ref();
        witnessing.map_or(WitnessMode::Background, |witnessing| witnessing.mode)
    }

    fn needs_quorum(&self) -> bool {
        let witnessing = self.witnessing.as_ref();
        witnessing.is_some_and(|witnessing| witnessing.policy.needs_witnesses())
    }

    fn witness_name(&self, at: usize) -> String {
        let clients = self.witnessing.iter().flat_map(|w| &w.clients);
        let key = clients.map(|(key, _)| key).nth(at);
        key.map(|key| key.name().to_string()).unwrap_or_default()
    }

    /// Makes a head the newest that the quorum has cosigned, if it has. Wakes the answers that wait for it.
    fn publish(&self, head: TreeHead, note: &Note) -> bool {
        let witnessing = self.witnessing.as_ref();
        let is_enough = witnessing.is_some_and(|witnessing| self.is_enough(witnessing, note));
        if is_enough {
            self.cosigned
                .send_modify(|cosigned| cosigned.quorum = Some((head, note.clone())));
        }
        is_enough
    }

    fn rows_of(&self, head: TreeHead, note: &Note) -> Vec<StoredCosignature> {
        let own = self.log_key.verifier();
        let by_others = note.signatures().iter().filter(|s| s.key_id() != own.id());
        by_others
            .map(|signature| StoredCosignature {
                size: head.size,
                line: signature.to_string(),
            })
            .collect()
    }

    /// Asks one witness to cosign a head, showing how it continues what that has cosigned last.
    async fn ask(
        &self,
        at: usize,
        mut latest: u64,
        head: TreeHead,
        checkpoint: Note,
    ) -> Result<Signature, Unwilling> {
        let witnessing = self.witnessing.as_ref();
        let (key, client) = witnessing
            .and_then(|witnessing| witnessing.clients.get(at))
            .ok_or_else(|| Unwilling::because("no such witness"))?;
        // Twice: the first answer may say what the witness has cosigned last.
        for _ in 0..2 {
            let proof = self.proof(ProofPlan::consistency(latest, head.size)).await;
            let request = AddCheckpoint {
                old_size: latest,
                proof: proof.map_err(Unwilling::because)?,
                checkpoint: checkpoint.only(std::slice::from_ref(self.log_key.verifier())),
            };
            match client
                .add_checkpoint(&request)
                .await
                .map_err(Unwilling::because)?
            {
                witness::Answer::Cosigned(signatures) => {
                    let by_it = signatures.into_iter().find(|signature| {
                        let note = Note::new(checkpoint.text().to_owned(), signature.clone());
                        note.is_ok_and(|note| note.verify(std::slice::from_ref(key)).is_ok())
                    });
                    return by_it
                        .ok_or_else(|| Unwilling::because("its cosignature does not verify"));
                }
                witness::Answer::Latest(size) if size <= head.size && size != latest => {
                    latest = size
                }
                witness::Answer::Latest(size) => {
                    self.look_at(key, client)
                        .await
                        .map_err(Unwilling::because)?;
                    let reason = format!("it says that it has cosigned {size} entries");
                    return Err(Unwilling {
                        reason,
                        latest: None,
                    });
                }
                witness::Answer::Refused { status, reason } => {
                    // It may know of a history that we do not.
                    self.look_at(key, client)
                        .await
                        .map_err(Unwilling::because)?;
                    let reason = format!("{status}: {reason}");
                    // What is believed of it may be wrong.
                    return Err(Unwilling {
                        reason,
                        latest: Some(0),
                    });
                }
            }
        }
        Err(Unwilling::because("it changes what it has cosigned last"))
    }
}

impl Unwilling {
    fn because(reason: impl std::fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            latest: None,
        }
    }
}

/// From one round to the next, where nobody waits.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a witness that failed is left alone; twice as long each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long the start of the service waits to hear what witnesses know.
const CONSULTATION: Duration = Duration::from_secs(2);
/// Any time that is over before long.
const IDLE: Duration = Duration::from_secs(60);
