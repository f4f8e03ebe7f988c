//! The one writer of a journal: what many takeovers want written at the same time goes into one transaction.
//!
//! While a commit waits for the disk, the next steps queue up; so the fsyncs are shared by however many meters there are,
//! and a single meter waits for nobody. Each caller hears of its step only once the commit is durable.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::JournalError;

/// Hands work to the writer. Clones share it.
#[derive(Clone)]
pub(super) struct Writer(mpsc::Sender<Message>);

/// The transaction that a piece of work is part of.
pub(super) struct Batch {
    pub(super) connection: SqliteConnection,
    /// Whether keys were destroyed, which the log of the database still has.
    pub(super) destroyed_keys: bool,
    emptied_at: Instant,
}

enum Message {
    Work(Work),
    Close(oneshot::Sender<()>),
}

/// Writes, and gives what tells the caller how it went once it is known whether the batch is durable.
type Work = Box<dyn for<'b> FnOnce(&'b mut Batch) -> BoxFuture<'b, (Written, Answer)> + Send>;
type Answer = Box<dyn FnOnce(Durable) + Send>;

/// Whether a piece of work may be part of a commit.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Written {
    /// It wrote all of it, or nothing.
    Whole,
    /// It failed half-way.
    Half,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Durable {
    Yes,
    No,
}

impl Writer {
    /// Starts the writer on its connection.
    pub(super) fn start(connection: SqliteConnection) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(connection, queue));
        Self(sender)
    }

    /// Has `work` done and committed. Work that returns [`JournalError::LeaseLost`] or [`JournalError::MeterBusy`] has
    /// written nothing; after any other error nothing of its batch is kept.
    pub(super) async fn write<T, W>(&self, work: W) -> Result<T, JournalError>
    where
        T: Send + 'static,
        W: for<'b> FnOnce(&'b mut Batch) -> BoxFuture<'b, Result<T, JournalError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |batch| {
            async move {
                let result = work(batch).await;
                let written = match &result {
                    Ok(_) | Err(JournalError::LeaseLost | JournalError::MeterBusy) => {
                        Written::Whole
                    }
                    Err(_) => Written::Half,
                };
                let answer: Answer = Box::new(move |durable| {
                    let result = match durable {
                        Durable::Yes => result,
                        Durable::No => Err(result.err().unwrap_or(JournalError::NotWritten)),
                    };
                    // Whoever asked may be gone, as after a crash.
                    let _ = answer.send(result);
                });
                (written, answer)
            }
            .boxed()
        });
        let gone = |_| JournalError::NotWritten;
        self.0.send(Message::Work(work)).await.map_err(gone)?;
        answered.await.map_err(|_| JournalError::NotWritten)?
    }

    /// Ends the writer once its queue is empty.
    pub(super) async fn close(&self) {
        let (closed, when_closed) = oneshot::channel();
        if self.0.send(Message::Close(closed)).await.is_ok() {
            // An error says that it has ended.
            let _ = when_closed.await;
        }
    }
}

async fn run(connection: SqliteConnection, mut queue: mpsc::Receiver<Message>) {
    let mut batch = Batch {
        connection,
        destroyed_keys: false,
        emptied_at: Instant::now(),
    };
    let mut closed = None;
    while closed.is_none()
        && let Some(first) = queue.recv().await
    {
        let mut works = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Work(work) => works.push(work),
                Message::Close(sender) => closed = Some(sender),
            }
            if works.len() < LARGEST_BATCH {
                next = queue.try_recv().ok();
            }
        }
        let (answers, durable) = batch.settle(works).await;
        // ORDER: a takeover on its own is answered only when the log has lost its old keys; of many, the log is emptied
        // now and then, for that costs fsyncs of its own.
        if batch.destroyed_keys && (queue.is_empty() || batch.emptied_at.elapsed() > EMPTY_EVERY) {
            batch.empty().await;
        }
        for answer in answers {
            answer(durable);
        }
    }
    if batch.destroyed_keys {
        batch.empty().await;
    }
    // Nobody is left to be told when closing fails, and everything is durable.
    let _ = batch.connection.close().await;
    drop(closed);
}

impl Batch {
    /// Does all of the work in one transaction.
    async fn settle(&mut self, works: Vec<Work>) -> (Vec<Answer>, Durable) {
        let began = sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut self.connection)
            .await;
        let mut answers = Vec::with_capacity(works.len());
        let mut durable = match began {
            Ok(_) => Durable::Yes,
            Err(_) => Durable::No,
        };
        for work in works {
            if durable == Durable::No {
                // Dropped: whoever asked hears that it was not written.
                continue;
            }
            let (written, answer) = work(self).await;
            answers.push(answer);
            if written == Written::Half {
                durable = Durable::No;
            }
        }
        let end = match durable {
            Durable::Yes => "COMMIT",
            Durable::No => "ROLLBACK",
        };
        let ended = sqlx::raw_sql(end).execute(&mut self.connection).await;
        if ended.is_err() {
            durable = Durable::No;
            // A transaction that cannot be committed must not stay open under the next batch.
            let _ = sqlx::raw_sql("ROLLBACK")
                .execute(&mut self.connection)
                .await;
        }
        (answers, durable)
    }

    async fn empty(&mut self) {
        // Where it fails, a reader was in the way: the next batch tries again.
        if empty_log(&mut self.connection).await.is_ok() {
            self.destroyed_keys = false;
        }
        self.emptied_at = Instant::now();
    }
}

/// Moves everything from the log of the database into its file and empties the log, which may still have deleted rows.
pub(super) async fn empty_log(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(connection)
        .await
        .map(drop)
}

/// Pieces of work that wait; beyond that, takeovers wait.
const QUEUE: usize = 1_024;
const LARGEST_BATCH: usize = 512;
const EMPTY_EVERY: Duration = Duration::from_secs(1);
