//! The one writer of this server: drains a queue, commits many operations at once, then answers all of them.
//!
//! Each operation runs in a savepoint, so that its error undoes it alone. An error of the transaction itself fails
//! every operation in it, and nobody is told of a success that is not durable.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use tokio::sync::{mpsc, oneshot};

use super::{DbConn, DbError, DbUrl, QueryError, is_connection_lost};

/// Operations that may wait; more are refused, because their devices would have given up before their turn.
const QUEUE: usize = 4096;
/// Operations of one transaction at most: keeps the wait of the first one short.
const BATCH: usize = 256;

/// Tells one caller what became of its operation; `Some` when the transaction failed.
type Answer = Box<dyn FnOnce(Option<Failed>) + Send>;
/// Runs one operation, or turns it down with a reason; says whether it is to be kept.
type Operation = Box<dyn FnOnce(Result<&mut DbConn, Arc<str>>) -> (bool, Answer) + Send>;

/// How a transaction failed.
#[derive(Clone)]
enum Failed {
    /// Nothing of it is stored.
    Undone(Arc<str>),
    /// The connection broke while it was committing.
    Unknown(Arc<str>),
}

impl From<Failed> for DbError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Undone(why) => Self::Commit(why),
            Failed::Unknown(why) => Self::Unknown(why),
        }
    }
}

/// A handle on the writer's thread.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Operation>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(url: DbUrl, conn: DbConn) -> Result<Self, DbError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread =
            std::thread::Builder::new().name("db-writer".to_owned()).spawn(move || run(&url, conn, receiver))?;
        Ok(Self { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    pub(super) async fn run<T, E, F>(&self, f: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: FnOnce(&mut DbConn) -> Result<T, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel::<Result<T, E>>();
        let operation: Operation = Box::new(move |conn| {
            let result = match conn {
                Ok(conn) => catch_unwind(AssertUnwindSafe(|| f(conn)))
                    .unwrap_or_else(|_| Err(DbError::Unavailable("the operation panicked".to_owned()).into())),
                Err(why) => Err(DbError::Commit(why).into()),
            };
            let keep = result.is_ok();
            let tell: Answer = Box::new(move |failed| {
                let result = match failed {
                    Some(failed) if keep => Err(DbError::from(failed).into()),
                    _ => result,
                };
                // A caller that has gone away needs no answer.
                let _ = answer.send(result);
            });
            (keep, tell)
        });
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(queue) = queue else {
            return Err(DbError::Unavailable("the server is stopping".to_owned()).into());
        };
        if queue.try_send(operation).is_err() {
            return Err(DbError::Unavailable("too many writes are waiting".to_owned()).into());
        }
        drop(queue);
        answered.await.unwrap_or_else(|_| Err(DbError::Unavailable("the writer has ended".to_owned()).into()))
    }

    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread catches the panics of its operations; there is nothing to pass on.
            let _ = thread.join();
        }
    }
}

fn run(url: &DbUrl, conn: DbConn, mut queue: mpsc::Receiver<Operation>) {
    let mut conn = Some(conn);
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let mut live = match conn.take().map_or_else(|| url.open(), Ok) {
            Ok(live) => live,
            Err(source) => {
                tracing::error!(error = %source, "the writer cannot connect");
                decline(batch, &source);
                continue;
            }
        };
        match commit(&mut live, batch) {
            Ok(Ended::AllKept) => conn = Some(live),
            // A session that became read-only stays so, whatever the database allows meanwhile.
            Ok(Ended::SomeRefused) => conn = live.takes_writes().is_ok_and(|writes| writes).then_some(live),
            // The connection may be broken; the next batch gets a new one.
            Err(source) => tracing::error!(error = %source, "a batch of writes was lost"),
        }
    }
}

/// How a batch went that was committed.
enum Ended {
    AllKept,
    SomeRefused,
}

/// Tells callers that their operations did not run.
fn decline(batch: Vec<Operation>, source: &dyn std::error::Error) {
    let why = Arc::<str>::from(source.to_string());
    for operation in batch {
        let (_, answer) = operation(Err(why.clone()));
        answer(None);
    }
}

fn commit(conn: &mut DbConn, batch: Vec<Operation>) -> Result<Ended, QueryError> {
    if let Err(source) = conn.begin() {
        decline(batch, &source);
        return Err(source);
    }
    let mut answers = Vec::with_capacity(batch.len());
    let ran = run_all(conn, batch, &mut answers);
    let committing = ran.is_ok();
    let ended = ran.and_then(|ended| conn.batch("COMMIT").map(|()| ended));
    let failed = ended.as_ref().err().map(|source| {
        let why = Arc::<str>::from(source.to_string());
        if committing && is_connection_lost(source) { Failed::Unknown(why) } else { Failed::Undone(why) }
    });
    if failed.is_some() {
        // The transaction may be gone already.
        let _ = conn.batch("ROLLBACK");
    }
    for answer in answers {
        answer(failed.clone());
    }
    ended
}

fn run_all(conn: &mut DbConn, batch: Vec<Operation>, answers: &mut Vec<Answer>) -> Result<Ended, QueryError> {
    let mut ended = Ended::AllKept;
    for operation in batch {
        conn.batch("SAVEPOINT operation")?;
        let (keep, answer) = operation(Ok(conn));
        answers.push(answer);
        conn.batch(if keep { "RELEASE operation" } else { "ROLLBACK TO operation; RELEASE operation" })?;
        if !keep {
            ended = Ended::SomeRefused;
        }
    }
    Ok(ended)
}
