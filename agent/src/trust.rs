//! What this device trusts, the newest root and the newest head it has, and how it comes to newer ones.
//!
//! Both are walked forward only. Each root is durable before the next is asked for, so a power cut anywhere leaves a root
//! from which the walk goes on.

use std::{cell::RefCell, rc::Rc};

use callboard_proto::{
    digest::Digest,
    head::Head,
    paths,
    release::Release,
    report::Failure,
    root::Root,
    signed::{Document, Verified, max_envelope},
};

use crate::{
    agent::Agent,
    check_in::{CheckInError, kept_release},
    client::{ClientError, Dates},
    fs::{self, Fs},
    layout::StateDir,
    machine::{permanent, transient},
    verify::{Refusal, stale},
    words::{Attack, Code},
};

/// Roots walked in one check-in at most: the rest is walked in the next, and an endless chain costs little.
pub(crate) const MAX_ROOTS: u32 = 64;

/// The documents that everything else is verified against.
pub(crate) struct Trust {
    root: RefCell<Rc<Verified<Root>>>,
    head: RefCell<Option<Rc<Verified<Head>>>>,
}

impl Trust {
    /// Begins with what is kept.
    pub(crate) fn new(root: Verified<Root>, head: Option<Verified<Head>>) -> Self {
        Self { root: RefCell::new(Rc::new(root)), head: RefCell::new(head.map(Rc::new)) }
    }

    pub(crate) fn root(&self) -> Rc<Verified<Root>> {
        Rc::clone(&self.root.borrow())
    }

    pub(crate) fn head(&self) -> Option<Rc<Verified<Head>>> {
        self.head.borrow().clone()
    }
}

/// The kept head, if the root still accepts it; one that cannot be read is fetched again.
pub(crate) fn load_head(fs: &dyn Fs, state_dir: &StateDir, root: &Root) -> Option<Verified<Head>> {
    let bytes = fs.read(&state_dir.head(), max_envelope(Head::MAX_BYTES)).ok()?;
    root.open_head(&bytes).ok()
}

/// Walks from the trusted root to the newest one that the server has; says whether there was any.
///
/// # Errors
/// When the server could not be asked, or offers what does not follow. What was walked until then is kept.
pub(crate) async fn walk(agent: &Agent) -> Result<bool, CheckInError> {
    let mut moved = false;
    for _ in 0..MAX_ROOTS {
        let root = agent.trust.root();
        let path = paths::root(root.version.saturating_add(1));
        // Documents that are signed offline need no TLS: a device without a clock must reach the newest root.
        let bytes = match agent.client().get(&path, max_envelope(Root::MAX_BYTES), Dates::MayBeWrong).await {
            Err(ClientError::Status { status: 404, .. }) => break,
            answer => answer?,
        };
        let next = root.open_next(&bytes).map_err(|source| {
            let refusal = Refusal::Root { version: root.version.saturating_add(1), source };
            agent.refused(&refusal);
            CheckInError::Refused(refusal)
        })?;
        fs::replace(&*agent.fs, &agent.state_dir.root(), &bytes).map_err(CheckInError::Storage)?;
        adopt(agent, &root, next);
        moved = true;
    }
    Ok(moved)
}

fn adopt(agent: &Agent, before: &Root, next: Verified<Root>) {
    tracing::info!(root.version = next.version, "a newer root is trusted");
    agent.clock.raise_floor(next.issued_at);
    let dropped = |id: &Digest| !next.roles.online.keyids.contains(id);
    if before.roles.online.keyids.iter().any(dropped) {
        // Whoever has a key that was dropped may have told the time.
        agent.clock.forget();
    }
    let head = load_head(&*agent.fs, &agent.state_dir, &next);
    agent.trust.head.replace(head.map(Rc::new));
    agent.trust.root.replace(Rc::new(next));
}

/// Fetches the head that the root asks for, if a newer one is told of, or the one at hand is none to install under.
pub(crate) async fn refresh_head(agent: &Agent, told: Option<u64>) -> Result<(), CheckInError> {
    let root = agent.trust.root();
    if root.roles.head.is_none() {
        return Ok(());
    }
    let have = agent.trust.head();
    let newer = have.as_ref().is_some_and(|have| told.is_some_and(|told| told > have.serial));
    if !newer && stale(&root, head_of(have.as_ref()), agent.clock.trusted_now()).is_ok() {
        return Ok(());
    }
    let bytes = match agent.client().get(paths::HEAD, max_envelope(Head::MAX_BYTES), Dates::Matter).await {
        Err(ClientError::Status { status: 404, .. }) => return Ok(()),
        answer => answer?,
    };
    let head = match root.open_head(&bytes) {
        Ok(head) => head,
        Err(source) => {
            // The one before stays, and what comes next is compared with that.
            agent.refused(&Refusal::Document(source));
            return Ok(());
        }
    };
    match have {
        Some(have) if have.digest() == head.digest() => return Ok(()),
        Some(have) if !head.replaces(&have) => {
            tracing::warn!(head.serial, kept = have.serial, "an older head, or another one with the same serial");
            agent.attack(Attack::Rollback);
            return Ok(());
        }
        _ => {}
    }
    fs::replace(&*agent.fs, &agent.state_dir.head(), &bytes).map_err(CheckInError::Storage)?;
    agent.clock.raise_floor(head.issued_at);
    tracing::info!(head.serial, head.expires = %head.expires, "a newer head holds");
    agent.trust.head.replace(Some(Rc::new(head)));
    Ok(())
}

fn head_of(head: Option<&Rc<Verified<Head>>>) -> Option<&Head> {
    head.map(|head| &***head)
}

/// Why the release at hand is not to be activated any more, if it has not been already: it was revoked, or whoever signed
/// it may not any more. That something has expired meanwhile is no reason.
pub(crate) fn distrusted(agent: &Agent) -> Option<Failure> {
    let state = agent.state();
    let task = state.task().filter(|task| task.phase.is_before_switch())?;
    still_trusted(agent, task.order.release).err()
}

/// The kept document of a release that may still be activated.
pub(crate) fn still_trusted(agent: &Agent, digest: Digest) -> Result<Verified<Release>, Failure> {
    let root = agent.trust.root();
    let release = match kept_release(agent, digest) {
        Ok(release) => release,
        Err(None) => {
            let text = "the release's document is gone from the state directory, or was changed";
            return Err(transient(Code::ReleaseLost, text));
        }
        Err(Some(refusal)) => {
            let text = format!("root {} does not accept the release any more: {refusal}", root.version);
            return Err(permanent(Code::Untrusted, text));
        }
    };
    let head = agent.trust.head().filter(|_| root.roles.head.is_some());
    match head.map(|head| head.allows(&release, digest)) {
        Some(Err(taken_back)) => {
            let refusal = Refusal::TakenBack(taken_back);
            Err(permanent(refusal.code(), format!("the release was taken back: {refusal}")))
        }
        _ => Ok(release),
    }
}
