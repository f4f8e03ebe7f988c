//! The task that shows heads to witnesses.
//!
//! It goes in rounds: it takes the newest head, asks every witness that is not still busy or backing off, and is done
//! when the quorum has cosigned or nobody is left to wait for. Heads that come meanwhile wait for the next round, so a
//! busy log is cosigned as often as its witnesses answer, and no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::super::Shared;
use super::WitnessMode;
use crate::store::StoredCosignature;
use crate::tlog::{AddCheckpoint, Note, ProofPlan, Signature, TreeHead, VerifierKey};
use crate::types::Timestamp;
use crate::witness::{self, WitnessClient};

/// The task that shows heads to witnesses.
pub(in crate::service) struct Rounds {
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
    pub(in crate::service) fn start(shared: &Arc<Shared>, heads: watch::Receiver<TreeHead>) {
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
/// Any time that is over before long.
const IDLE: Duration = Duration::from_secs(60);
