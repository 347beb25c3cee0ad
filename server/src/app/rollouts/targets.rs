//! Whether what halt rules bring devices back to is there, and whether every device would take it: asked when a rollout is
//! made, previewed and started, because when it halts it is too late.

use callboard_policy::{
    device::Device,
    guard,
    release::Release,
    rollout::{Plan, SpecError},
};
use callboard_proto::{admin::RolloutSpec, digest::Digest, problem::Code, time::Timestamp};

use super::spec;
use crate::{
    app::{App, Error, Result, releases, trust::PublishedRoot},
    db::{self, DbConn},
};

/// A checked plan with its release and what its halt rules bring devices back to.
pub(super) struct Checked {
    pub(super) plan: Plan,
    pub(super) release: Release,
    targets: Vec<Target>,
}

struct Target {
    field: String,
    name: String,
    release: Release,
    /// Devices that would not take it, and why the first one would not.
    stranded: u64,
    first: String,
}

/// The root under which releases were verified.
pub(super) fn root(app: &App) -> Result<std::sync::Arc<PublishedRoot>> {
    app.newest_root().ok_or_else(|| Error::not_found("root", "yet"))
}

/// Checks everything about a rollout that needs no devices; what is wrong is told at once.
pub(super) fn check(conn: &mut DbConn, root: &PublishedRoot, wire: &RolloutSpec, digest: Digest) -> Result<Checked> {
    let published = db::releases::get(conn, digest)?.ok_or_else(|| Error::not_found("release", digest))?;
    let opened = releases::open(root, &published)?;
    if let Some((_, why)) = &opened.distrust {
        let (product, version) = (&opened.release.product, &opened.release.version);
        return Err(Error::refused(Code::WrongState, format!("{product} {version} cannot be rolled out: {why}")));
    }
    let release = releases::for_policy(&opened);
    let (mut targets, mut faults) = (Vec::new(), Vec::new());
    for (n, rule) in wire.halt.iter().enumerate() {
        let Some(name) = &rule.rollback_to else {
            continue;
        };
        let field = format!("halt[{n}].rollback_to");
        match target(conn, root, &release, name)? {
            Ok(release) => {
                targets.push(Target { field, name: name.clone(), release, stranded: 0, first: String::new() });
            }
            Err(message) => faults.push(SpecError { field, message }),
        }
    }
    match spec::faults(wire, digest) {
        Ok(plan) if faults.is_empty() => Ok(Checked { plan, release, targets }),
        Ok(_) => Err(spec::refusal(&faults)),
        Err(mut all) => {
            all.append(&mut faults);
            Err(spec::refusal(&all))
        }
    }
}

/// The release that a rollout of `release` would be taken back to, or why it cannot be.
pub(super) fn target(
    conn: &mut DbConn,
    root: &PublishedRoot,
    release: &Release,
    name: &str,
) -> Result<std::result::Result<Release, String>> {
    let published = match releases::resolve(conn, name) {
        Ok(published) => published,
        Err(Error::Refused { detail, .. }) => return Ok(Err(format!("{detail}; name a published one"))),
        Err(error) => return Err(error),
    };
    let opened = releases::open(root, &published)?;
    if let Some((_, why)) = &opened.distrust {
        return Ok(Err(format!("devices would not go back to it: {why}")));
    }
    let target = releases::for_policy(&opened);
    Ok(guard::check_target(release, &target).map(|()| target))
}

impl Checked {
    /// Whether devices have to be looked at.
    pub(super) fn asks(&self) -> bool {
        !self.targets.is_empty()
    }

    /// What its halt rules bring devices back to.
    pub(super) fn releases(&self) -> impl Iterator<Item = &Release> {
        self.targets.iter().map(|target| &target.release)
    }

    /// Looks at one device that the rollout is for.
    pub(super) fn look(&mut self, device: &Device, now: Timestamp) {
        for target in &mut self.targets {
            if let Some(why) = guard::stranded(&self.release, &target.release, &self.plan, device, now) {
                if target.stranded == 0 {
                    target.first = format!("{} ({why})", device.name);
                }
                target.stranded += 1;
            }
        }
    }

    /// Refuses the rollout if a device could not be brought back.
    pub(super) fn refuse_stranded(&self) -> Result<()> {
        let stranded = self.targets.iter().filter(|target| target.stranded > 0);
        let faults: Vec<SpecError> = stranded
            .map(|Target { field, name, stranded, first, .. }| SpecError {
                field: field.clone(),
                message: format!(
                    "{stranded} of the devices could not go back to {name}, such as {first}; name a release that all of \
                     them take, or leave them out by the selector"
                ),
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(spec::refusal(&faults)) }
    }
}
