//! One task per process that takes whatever is queued, decides it in order inside one transaction, and answers only
//! when the commit is known: natural group commit, without a timer.
//!
//! INVARIANT: nothing is signed, sent or released before the entry that records it is durable.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::anchor::Anchor;
use super::ledger::{Growth, Ledger};
use super::receipt::Receipt;
use super::{Caller, Escrow, Failure, Shared};
use crate::identity::{Identity, Kind};
use crate::store::{Changes, Head, IdempotentAnswer, Needs};
use crate::tlog::{self, Note, ProofPlan, TreeHead};
use crate::types::{Code, Digest};

/// A use case's part inside the transaction: says what it must know, and decides on it.
pub(super) trait Command: Send + Sync {
    /// Names what has to be read.
    fn needs(&self, needs: &mut Needs);

    /// Decides over facts that nobody can change before the commit. May be asked again, over other facts, when the
    /// transaction failed.
    fn decide(&self, caller: &Caller, ledger: &mut Ledger<'_>) -> Verdict;
}

/// What was decided.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Done, or done before: the answer, and the entry that records it, if anything was recorded.
    Done {
        answer: serde_json::Value,
        entry: Option<u64>,
    },
    /// Refused; the requester sees this.
    Refused(Failure),
    /// What was prepared outside the transaction no longer fits: prepare again.
    Stale,
}

/// A request that was answered before: its answer is given again, and it is not decided.
pub(super) struct Remembered;

impl Command for Remembered {
    fn needs(&self, _: &mut Needs) {}

    fn decide(&self, _: &Caller, _: &mut Ledger<'_>) -> Verdict {
        let forgotten = "an answer was forgotten while it was asked for";
        Verdict::Refused(Failure::Unavailable(forgotten.to_owned()))
    }
}

/// One request on its way to the log.
pub(super) struct Submission {
    pub(super) caller: Caller,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) command: Box<dyn Command>,
}

/// The key that the client chose for its request, and what the request was.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// 1 to 128 printable characters, unique within the identity.
    pub key: String,
    /// Digest of the request's content.
    pub request: Digest,
    /// Whether a repetition is answered from memory, or decided again (releases are).
    pub repeat: Repeat,
}

impl Idempotency {
    /// The key among those of everybody: kinds of identities share ids, not keys.
    pub(super) fn of(&self, identity: &Identity) -> (String, String) {
        (identity.to_string(), self.key.clone())
    }
}

/// How a repeated request is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// With the answer given before.
    Answer,
    /// By deciding again.
    Decide,
}

/// An answer with its receipt.
#[derive(Debug)]
pub struct Answer {
    /// What the use case answers.
    pub body: serde_json::Value,
    /// The proof that it is in the log.
    pub receipt: Option<Receipt>,
}

impl Escrow {
    /// Whether the clock is so far behind the newest entry that nothing is decided.
    pub fn is_clock_back(&self, head: &Head) -> bool {
        head.last_at.since(self.shared.clock.now()) > MAX_CLOCK_BACK
    }
}

/// What the waiter is told.
pub(super) enum Settled {
    Answer(Answer),
    Stale,
}

/// The queue to the sequencer.
#[derive(Clone)]
pub(super) struct Sequencer {
    queue: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

struct Job {
    submission: Submission,
    waiter: oneshot::Sender<Result<Settled, Failure>>,
}

impl Sequencer {
    /// Starts the task. It ends when the last handle is gone.
    pub(super) fn start(
        shared: Arc<Shared>,
        anchor: Anchor,
        heads: watch::Sender<TreeHead>,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(MAX_QUEUED);
        let worker = Worker {
            shared: Arc::clone(&shared),
            anchor,
            heads,
        };
        tokio::spawn(worker.run(jobs));
        Self { queue, shared }
    }

    /// Hands a submission in and waits until its fate is durable, and what a party is answered is witnessed where the
    /// service is told to wait for that.
    pub(super) async fn submit(&self, submission: Submission) -> Result<Settled, Failure> {
        let is_party = submission.caller.identity.kind == Kind::Party;
        match self.settled(submission).await? {
            Settled::Answer(answer) if is_party => {
                Ok(Settled::Answer(self.shared.witnessed(answer).await?))
            }
            settled => Ok(settled),
        }
    }

    async fn settled(&self, submission: Submission) -> Result<Settled, Failure> {
        let (waiter, settled) = oneshot::channel();
        let gone = || Failure::Unavailable("the sequencer has stopped".to_owned());
        self.queue
            .send(Job { submission, waiter })
            .await
            .map_err(|_| gone())?;
        settled.await.map_err(|_| gone())?
    }
}

/// Settles batches, one after the other.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) anchor: Anchor,
    /// Told each new head, once it is anchored.
    pub(super) heads: watch::Sender<TreeHead>,
}

/// A batch that is committed, with what its answers are made of.
struct Committed {
    verdicts: Vec<Verdict>,
    growth: Growth,
    /// How far the clock is behind the newest entry.
    behind: Duration,
}

/// Why a batch is not committed, or not answered.
enum Unsettled {
    /// For what one of its requests would have done. Nothing is stored; the others are not to blame.
    ByOne(Failure),
    /// For a reason that each of its requests would meet.
    ByAll(Failure),
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while jobs.recv_many(&mut batch, MAX_BATCH).await > 0 {
            let (submissions, waiters): (Vec<_>, Vec<_>) = batch
                .drain(..)
                .map(|job| (job.submission, job.waiter))
                .unzip();
            let results = self.settle_each(&submissions).await;
            for (waiter, result) in waiters.into_iter().zip(results) {
                // A client that has gone away does not change what was committed.
                let _ = waiter.send(result);
            }
        }
    }

    /// Settles a batch together or, where one of its requests makes that fail, each request alone.
    pub(super) async fn settle_each(
        &mut self,
        submissions: &[Submission],
    ) -> Vec<Result<Settled, Failure>> {
        match self.settle(submissions).await {
            Ok(results) => return results,
            Err(Unsettled::ByOne(failure)) if submissions.len() > 1 => {
                tracing::warn!(error = %failure, "a batch is taken apart");
            }
            Err(Unsettled::ByOne(failure) | Unsettled::ByAll(failure)) => {
                tracing::error!(error = %failure, "a batch was not committed");
                return submissions.iter().map(|_| Err(failure.clone())).collect();
            }
        }
        let mut results = Vec::with_capacity(submissions.len());
        for submission in submissions {
            results.push(match self.settle(std::slice::from_ref(submission)).await {
                Ok(alone) => alone.into_iter().next().unwrap_or_else(|| {
                    Err(Failure::Broken("a request without a result".to_owned()))
                }),
                Err(Unsettled::ByOne(failure) | Unsettled::ByAll(failure)) => {
                    tracing::error!(error = %failure, "a request was not committed");
                    Err(failure)
                }
            });
        }
        results
    }

    /// Decides, commits, anchors, signs: in this order.
    async fn settle(
        &mut self,
        submissions: &[Submission],
    ) -> Result<Vec<Result<Settled, Failure>>, Unsettled> {
        self.shared.fence.check().map_err(Unsettled::ByAll)?;
        let Committed {
            verdicts,
            growth,
            behind,
        } = self.commit(submissions).await?;
        if behind > CLOCK_ALARM {
            metrics::counter!("cos_escrow_clock_back_total").increment(1);
            tracing::warn!(
                behind_ms = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX),
                "the clock went back"
            );
        }

        // ORDER: a crash here leaves a durable batch whose answers were not sent; the clients ask again. A crash
        // between anchor and answer does the same. Signing before the anchor could show a head that a restored
        // database contradicts without anybody noticing.
        if !growth.entries.is_empty() {
            if let Err(failure) = self.anchor.advance(growth.head).await {
                // What is committed is neither answered nor signed; the next start anchors it, or does not start.
                self.shared
                    .fence
                    .raise(format!("the anchor cannot be written: {failure}"));
                return Err(Unsettled::ByAll(failure));
            }
            self.heads.send_replace(growth.head);
        }
        let note = self.shared.sign(growth.head).map_err(Unsettled::ByAll)?;
        let mut results = Vec::with_capacity(verdicts.len());
        for verdict in verdicts {
            results.push(match verdict {
                Verdict::Done { answer, entry } => {
                    let receipt = self.receipt(entry, &growth, &note).await;
                    receipt.map(|receipt| {
                        Settled::Answer(Answer {
                            body: answer,
                            receipt,
                        })
                    })
                }
                Verdict::Refused(failure) => Err(failure),
                Verdict::Stale => Ok(Settled::Stale),
            });
        }
        Ok(results)
    }

    /// Decides a batch inside one transaction, and commits it.
    async fn commit(&self, submissions: &[Submission]) -> Result<Committed, Unsettled> {
        let now = self.shared.clock.now();
        let rules = self.shared.rules.load_full();
        let shared = &self.shared;
        let committed = shared
            .store
            .commit_batch(&needs_of(submissions), |facts| {
                let head = facts.head.clone();
                let behind = head.last_at.since(now);
                // A defect that one request meets must not end the task that all the others wait for.
                let decided = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    let mut ledger =
                        Ledger::new(facts, now, &rules, &shared.custody, &*shared.random);
                    let verdicts = decide_all(submissions, behind, &mut ledger);
                    (verdicts, ledger.finish())
                }));
                match decided {
                    Ok((verdicts, (changes, growth))) => {
                        let committed = Committed {
                            verdicts,
                            growth,
                            behind,
                        };
                        (changes, Some(committed))
                    }
                    // The same head: nothing is written.
                    Err(_) => (
                        Changes {
                            head,
                            ..Changes::default()
                        },
                        None,
                    ),
                }
            })
            .await;
        match committed {
            Ok(Some(committed)) => Ok(committed),
            Ok(None) => Err(Unsettled::ByOne(Failure::Broken(
                "deciding panicked".to_owned(),
            ))),
            Err(error) if error.is_of_one_request() => Err(Unsettled::ByOne(error.into())),
            Err(error) => Err(Unsettled::ByAll(error.into())),
        }
    }

    async fn receipt(
        &self,
        entry: Option<u64>,
        growth: &Growth,
        note: &Note,
    ) -> Result<Option<Receipt>, Failure> {
        let Some(index) = entry else {
            return Ok(None);
        };
        let Some(appended) = growth.entries.iter().find(|e| e.index == index) else {
            // An answer given before: its entry is older than the batch.
            let receipt = self
                .shared
                .receipt_at(index, growth.head.size, note)
                .await?;
            return Ok(Some(receipt));
        };
        let hashes = ProofPlan::inclusion(index, growth.head.size)
            .map_err(|error| Failure::Broken(error.to_string()))?
            .assemble(|node| growth.nodes.get(&node).copied())
            .map_err(|error| Failure::Broken(error.to_string()))?;
        Ok(Some(Receipt {
            index,
            leaf: appended.leaf.clone(),
            disclosures: appended.disclosures.clone(),
            proof: tlog::Receipt::new(index, hashes, note.clone()).to_string(),
        }))
    }
}

fn needs_of(submissions: &[Submission]) -> Needs {
    let mut needs = Needs::default();
    for submission in submissions {
        let caller = &submission.caller.identity;
        needs.actors.insert(caller.to_string());
        needs.scopes.insert(caller.to_string());
        if let Some(idempotency) = &submission.idempotency {
            needs.idempotency.insert(idempotency.of(caller));
        }
        submission.command.needs(&mut needs);
    }
    let points = needs.supply_points.iter().chain(&needs.guarded);
    let points: Vec<String> = points.map(ToString::to_string).collect();
    needs.scopes.extend(points);
    needs
}

/// Decides requests in their order; none at all while the clock is far behind the newest entry.
fn decide_all(
    submissions: &[Submission],
    behind: Duration,
    ledger: &mut Ledger<'_>,
) -> Vec<Verdict> {
    let decided = submissions.iter().map(|submission| {
        if behind > MAX_CLOCK_BACK {
            refused(Code::ClockBack)
        } else {
            decide(submission, ledger)
        }
    });
    decided.collect()
}

fn decide(submission: &Submission, ledger: &mut Ledger<'_>) -> Verdict {
    let caller = &submission.caller;
    if let Err(failure) = caller.check_live(&ledger.facts.directory) {
        return Verdict::Refused(failure);
    }
    if let Some(idempotency) = &submission.idempotency
        && let Some(before) = ledger.answered(&idempotency.of(&caller.identity))
    {
        if before.request != idempotency.request {
            return refused(Code::IdempotencyKeyReused);
        }
        if idempotency.repeat == Repeat::Answer {
            return match serde_json::from_str(&before.answer) {
                Ok(answer) => Verdict::Done {
                    answer,
                    entry: Some(before.entry),
                },
                Err(error) => Verdict::Refused(Failure::Broken(error.to_string())),
            };
        }
    }
    let verdict = submission.command.decide(caller, ledger);
    if let (
        Some(idempotency),
        Verdict::Done {
            answer,
            entry: Some(entry),
        },
    ) = (&submission.idempotency, &verdict)
        && ledger.answered(&idempotency.of(&caller.identity)).is_none()
    {
        let answer = IdempotentAnswer {
            request: idempotency.request,
            created_at: ledger.now,
            entry: *entry,
            answer: answer.to_string(),
        };
        ledger.remember(idempotency.of(&caller.identity), answer);
    }
    verdict
}

fn refused(code: Code) -> Verdict {
    Verdict::Refused(Failure::refused(code))
}

/// Requests that wait; more wait at the listener.
const MAX_QUEUED: usize = 4_096;
/// Requests that are committed together.
const MAX_BATCH: usize = 512;
/// A clock this far behind the newest entry is an alarm.
const CLOCK_ALARM: Duration = Duration::from_secs(1);
/// A clock this far behind the newest entry stops the service from deciding anything that depends on time.
const MAX_CLOCK_BACK: Duration = Duration::from_secs(300);
