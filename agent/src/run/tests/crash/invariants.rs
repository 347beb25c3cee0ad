//! What must hold on a till whatever happens, by number. Each is a check of its own; a test shows that it can fail.

use super::{super::*, office::Office, plan::Plan};
use crate::{
    client::belong_together,
    journal::Journal,
    products::{ProductRecord, ProductSlots},
};

/// An invariant that does not hold.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) invariant: &'static str,
    text: String,
}

impl Broken {
    pub(super) fn new(invariant: &'static str, text: impl Into<String>) -> Self {
        Self { invariant, text: text.into() }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.text)
    }
}

type Verdict = Result<(), Broken>;

fn holds(invariant: &'static str, right: bool, text: impl FnOnce() -> String) -> Verdict {
    if right { Ok(()) } else { Err(Broken::new(invariant, text())) }
}

/// A till at rest, and what is known of it.
pub(super) struct Scene<'a> {
    pub(super) fs: &'a SimFs,
    pub(super) plan: &'a Plan,
    pub(super) office: &'a Office,
    /// No floor below this one was ever in force.
    pub(super) floor: u64,
    /// No root before this one was ever trusted.
    pub(super) root: usize,
    /// The medium failed on the way, so an order may have ended otherwise than planned.
    pub(super) faulty: bool,
}

/// Everything that can be asked the moment the power is back, before any agent runs.
pub(super) fn at_power_back(scene: &Scene<'_>) -> Verdict {
    let now = running(scene.fs);
    i1_current_is_a_complete_version(scene, now.as_ref())?;
    let record = record(scene.fs)?;
    i2_what_runs_was_signed_and_is_not_below_the_floor(scene, now.as_ref(), &record)?;
    i3_the_floor_never_falls(scene, &record)?;
    i4_nothing_unverified_is_visible(scene)?;
    i7_what_ran_before_stays_until_the_commit(scene, &record)?;
    data_are_whole(scene)?;
    i11_key_and_root_are_there(scene)
}

/// Everything that can be asked when all is over.
pub(super) fn in_the_end(scene: &Scene<'_>) -> Verdict {
    at_power_back(scene)?;
    if scene.faulty && is_inconsistent(scene.fs) {
        // The agent has said that it changes nothing any more.
        return Ok(());
    }
    i9_nothing_is_left_over(scene)?;
    i10_every_order_has_one_result(scene)?;
    data_fit_what_runs(scene)
}

/// I1: `current` is a complete tree: that of before, or one of an ordered release. Where there was nothing, nothing may be.
fn i1_current_is_a_complete_version(scene: &Scene<'_>, now: Option<&Contents>) -> Verdict {
    let is = |counter: &u64| now.is_some_and(|now| scene.plan.signed(*counter).is(now));
    let known = scene.plan.orders.iter().any(is) || now == running_before(scene.plan.before).as_ref();
    holds("I1", known, || {
        format!("what runs is no version at all: {:?}", now.map(|now| now.keys().collect::<Vec<_>>()))
    })
}

/// I2: what runs is a release that was signed and is not below the floor, or software from before the first commit.
fn i2_what_runs_was_signed_and_is_not_below_the_floor(
    scene: &Scene<'_>,
    now: Option<&Contents>,
    record: &ProductRecord,
) -> Verdict {
    let counter = (1..=2).find(|counter| now.is_some_and(|now| scene.plan.signed(*counter).is(now)));
    let allowed = match counter {
        Some(counter) => counter >= record.floor.counter,
        None => record.installed.is_none() && record.floor.counter == 0,
    };
    holds("I2", allowed, || format!("counter {counter:?} runs under the floor {:?}", record.floor))
}

/// I3: the floor never falls, and a success that was told has raised it.
fn i3_the_floor_never_falls(scene: &Scene<'_>, record: &ProductRecord) -> Verdict {
    let told = scene
        .plan
        .orders
        .iter()
        .enumerate()
        .filter_map(|(n, counter)| scene.office.ends(n).contains(&report::Event::Succeeded).then_some(*counter));
    let wanted = told.fold(scene.floor, u64::max);
    let found = record.floor.counter;
    holds("I3", found >= wanted, || format!("the floor is {found}, and was {wanted}"))
}

/// I4: under a version's name lies the complete tree of a verified release and nothing else, at any moment.
pub(super) fn i4_nothing_unverified_is_visible(scene: &Scene<'_>) -> Verdict {
    let versions = product_dir().versions();
    for name in scene.fs.list(&versions).unwrap_or_default() {
        let name = name.to_str().unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        let found = tree(scene.fs, &versions.join(name));
        let right = if name == "factory" {
            found == running_before(Before::FactoryDirectory)
        } else {
            let plain = name.strip_suffix(".1").unwrap_or(name);
            (1..=2).any(|counter| {
                let signed = scene.plan.signed(counter);
                plain == signed.digest.short() && found.as_ref().is_some_and(|found| signed.is(found))
            })
        };
        holds("I4", right, || format!("versions/{name} is not what it is called"))?;
    }
    Ok(())
}

/// I6: bounded work: the journal counts steps, and no order takes more than any update needs.
pub(super) fn i6_work_is_bounded(scene: &Scene<'_>) -> Verdict {
    let record =
        Journal::peek(scene.fs, state_dir().slots(), 1).map_err(|error| Broken::new("I6", error.to_string()))?;
    let steps = record.unwrap_or_default().state.task().map_or(0, |task| task.transitions);
    holds("I6", steps <= 20, || format!("{steps} steps in one order"))
}

/// I7: until a newer release is committed, what ran before is complete in its place.
fn i7_what_ran_before_stays_until_the_commit(scene: &Scene<'_>, record: &ProductRecord) -> Verdict {
    let Some(before) = running_before(scene.plan.before) else { return Ok(()) };
    let committed = record
        .installed
        .as_ref()
        .is_some_and(|installed| scene.plan.before != Before::Release || installed.release != signed(1).digest);
    let (fs, dirs) = (scene.fs, product_dir());
    let first = signed(1).digest.short();
    let places = [
        dirs.current(),
        dirs.path().join("current.new"),
        dirs.path().join("pos-0.9"),
        dirs.version("factory"),
        dirs.version(&first),
        dirs.version(&format!("{first}.1")),
    ];
    let is_there = || places.iter().any(|place| tree(fs, place).as_ref() == Some(&before));
    holds("I7", committed || is_there(), || "what ran before is gone, and nothing newer is committed".to_owned())
}

/// I8: recovery is idempotent: a start where all is over changes nothing.
pub(super) fn i8_another_start_changes_nothing(before: &SimFs, after: &SimFs) -> Verdict {
    let same = before.fingerprint(varies) == after.fingerprint(varies);
    holds("I8", same, || format!("another start leads from {before:?} to {after:?}"))
}

/// I9: when all is over, payloads, half-made trees and links are gone, and of releases there are two at most.
pub(super) fn i9_nothing_is_left_over(scene: &Scene<'_>) -> Verdict {
    let fs = scene.fs;
    let list = |path: &Path| fs.list(path).unwrap_or_default();
    let payloads = list(&state_dir().payloads());
    holds("I9", payloads.is_empty(), || format!("payloads are left over: {payloads:?}"))?;
    let outbox = list(&state_dir().outbox());
    holds("I9", outbox.is_empty(), || format!("reports are left over: {outbox:?}"))?;
    let releases = list(&state_dir().releases());
    holds("I9", releases.len() <= 1, || format!("documents are left over: {releases:?}"))?;
    let renewal = matches!(fs.stat(&state_dir().renewal()), Ok(None));
    holds("I9", renewal || scene.faulty, || "a renewal that is over is left over".to_owned())?;
    let versions = list(&product_dir().versions());
    let hidden = versions.iter().any(|name| name.as_encoded_bytes().starts_with(b"."));
    holds("I9", versions.len() <= 2 && !hidden, || format!("trees are left over: {versions:?}"))?;
    let links = list(Path::new(POS));
    let half = links.iter().any(|name| name.as_encoded_bytes().ends_with(b".new"));
    holds("I9", !half, || format!("links are left over: {links:?}"))
}

/// I10: of every order the server has heard one result, which is the one that the plan leads to, and what runs fits it.
pub(super) fn i10_every_order_has_one_result(scene: &Scene<'_>) -> Verdict {
    let (plan, office) = (scene.plan, scene.office);
    holds("I10", office.contradictions.is_empty(), || {
        format!("the device contradicts itself: {:?}", office.contradictions)
    })?;
    for n in 0..plan.orders.len() {
        let ends = office.ends(n);
        // An attempt that failed is followed by another; the last one tells.
        let earlier = ends.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let right = ends.last().is_some_and(|end| scene.faulty || *end == plan.end())
            && earlier.iter().all(|event| *event == report::Event::Failed)
            && (scene.faulty || earlier.is_empty());
        holds("I10", right, || format!("order {n} has ended as {ends:?}, and not once as {:?}", plan.end()))?;
    }
    let succeeded =
        |(n, counter): (usize, &u64)| (office.ends(n).last() == Some(&report::Event::Succeeded)).then_some(*counter);
    let newest = plan.orders.iter().enumerate().filter_map(succeeded).max();
    let wanted = newest.map_or_else(|| running_before(plan.before), |counter| Some(plan.contents_of(counter)));
    let runs = running(scene.fs);
    holds("I10", runs == wanted, || "what runs in the end is not what was told".to_owned())?;
    let (floor, raised) = (record(scene.fs)?.floor.counter, newest.unwrap_or(plan.floor_before()));
    holds("I10", floor == raised, || format!("the floor is {floor}; a commit and nothing else raises it, to {raised}"))
}

fn data(scene: &Scene<'_>) -> Option<Vec<u8>> {
    scene.fs.read(Path::new(hooks::DATA), 100).ok()
}

/// The product's data are what they were or what the new version has made of them, whichever hook was cut short.
fn data_are_whole(scene: &Scene<'_>) -> Verdict {
    let (found, has_some) = (data(scene), scene.plan.hooks.is_some());
    let right = !has_some || [&b"old"[..], b"new"].map(Some).contains(&found.as_deref());
    holds("data", right, || format!("the product's data are {found:?}"))
}

/// In the end the data are those of the version that runs.
fn data_fit_what_runs(scene: &Scene<'_>) -> Verdict {
    let (found, wanted) = (data(scene), scene.plan.data_in_the_end());
    holds("data", scene.faulty || wanted.is_none() || found.as_deref() == wanted, || {
        format!("the product's data are {found:?}, and not {wanted:?}")
    })
}

/// I11: the device is enrolled, has the key of its certificate, and trusts a root that is not older than before.
pub(super) fn i11_key_and_root_are_there(scene: &Scene<'_>) -> Verdict {
    let (fs, dir) = (scene.fs, state_dir());
    let read = |path: PathBuf| fs.read(&path, 1 << 20).ok();
    let own = Identity::load(fs, &dir).map_err(|error| Broken::new("I11", error.to_string()))?;
    let keys = [read(dir.key()), read(dir.next_key())];
    let has_key = if own.certificate_pem == identity().0.certificate_pem {
        keys[0].as_deref() == Some(identity().1.as_bytes())
    } else {
        keys.iter().flatten().any(|key| belong_together(&own.certificate_pem, key))
    };
    holds("I11", has_key, || "the key of the device's certificate is gone".to_owned())?;
    let root = read(dir.root()).and_then(|root| scene.office.roots().iter().position(|known| *known == root));
    holds("I11", root.is_some_and(|root| root >= scene.root), || {
        format!("the root is {root:?}, and was {}", scene.root)
    })
}

fn is_inconsistent(fs: &SimFs) -> bool {
    let record = Journal::peek(fs, state_dir().slots(), 1).ok().flatten().unwrap_or_default();
    record.state.task().is_some_and(|task| matches!(task.phase, Phase::Inconsistent { .. }))
}

/// Floor and root of what lies on the medium: no later one may be below.
pub(super) fn in_force(fs: &SimFs, office: &Office) -> (u64, usize) {
    let root = fs.read(&state_dir().root(), 1 << 20).ok();
    let root = root.and_then(|root| office.roots().iter().position(|known| *known == root));
    (record(fs).map_or(0, |record| record.floor.counter), root.unwrap_or(0))
}

/// The product's record. One copy may be torn at any moment, both never.
fn record(fs: &SimFs) -> Result<ProductRecord, Broken> {
    let product = "pos-app".parse().expect("a name");
    let found = ProductSlots::peek(fs, state_dir().product(&product), 1);
    Ok(found.map_err(|error| Broken::new("I3", error.to_string()))?.unwrap_or_default())
}

/// Files that hold the time, or keys and certificates made by chance.
pub(super) fn varies(path: &std::ffi::OsStr) -> bool {
    let (above, name) = path.to_str().and_then(|path| path.rsplit_once('/')).unwrap_or_default();
    let names = ["device.key", "device.json", "renewal.json", "status.json", "status.new"];
    above.ends_with("/outbox") || names.iter().any(|varying| name.starts_with(varying))
}
