use super::*;
use crate::fixture::{at, installed, release, till};

fn judge(change: impl FnOnce(&mut Release, &mut Device), allow_downgrade: bool) -> String {
    let (mut release, mut device) = (release("2.2.0", 22), till(1));
    change(&mut release, &mut device);
    match fit(&release, &device, allow_downgrade, at("2026-11-23T12:00:00Z")) {
        Fit::Incompatible(misfit) => {
            format!("{}: {}", misfit.code(), misfit.text(&release, &device, &"spring".parse().expect("a name")))
        }
        fit => format!("{fit:?}"),
    }
}

#[test]
fn a_newer_release_for_this_hardware_and_channel_fits() {
    assert_eq!(judge(|_, _| {}, false), "Fits");
    assert_eq!(judge(|_, device| device.installed.clear(), false), "Fits", "the first install");
    let stone = |release: &mut Release, device: &mut Device| {
        release.requires_at_least = Some(21);
        device.installed.retain(|one| one.counter == 21);
    };
    assert_eq!(judge(stone, false), "Fits", "it stands on the stone");
    let first = |release: &mut Release, device: &mut Device| {
        release.requires_at_least = Some(21);
        device.installed.clear();
    };
    assert_eq!(judge(first, false), "Fits", "nothing has to hand over");
    assert_eq!(judge(|_, device| device.installed[0].counter = 22, false), "Fits", "the same counter, other bytes");
}

#[test]
fn what_runs_already_is_never_a_misfit() {
    let already = |release: &mut Release, device: &mut Device| {
        device.installed = vec![installed("2.2.0", 22)];
        release.not_after = Some(at("2020-01-01T00:00:00Z"));
        device.hw = "other".to_owned();
    };
    assert_eq!(judge(already, false), "AlreadyInstalled");
}

#[test]
fn each_misfit_says_what_is_wrong() {
    let check = |change: fn(&mut Release, &mut Device), wanted| assert_eq!(judge(change, false), wanted);
    check(
        |_, device| device.hw = "ipad".to_owned(),
        "incompatible_hw: the release is for hardware verifone-*, the device is \"ipad\"",
    );
    check(
        |_, device| device.channels = vec!["beta".to_owned()],
        "incompatible_channel: the release is on channel stable, the device accepts beta",
    );
    check(
        |_, device| device.channels.clear(),
        "incompatible_channel: the release is on channel stable, the device accepts none",
    );
    check(
        |release, _| release.requires_agent = "0.10".parse().ok(),
        "agent_too_old: the release needs agent 0.10 or newer, the device has \"0.3.0\"",
    );
    check(
        |_, device| (device.installed[0].counter, device.installed[0].floor) = (30, 25),
        "below_floor: release counter 1.22 is below the device's floor 1.25",
    );
    check(
        |release, _| release.requires_at_least = Some(22),
        "needs_stepping_stone: pos-app 2.2.0 needs counter 1.22 or a higher one to be installed first, the device has 1.21 (2.1.0)",
    );
    check(
        |release, _| release.requires = vec![needed("os", "13")],
        "needs_product: pos-app 2.2.0 needs os 13 or newer, the device has no os",
    );
    check(
        |release, device| {
            device.installed.push(Installed { product: "os".parse().expect("a name"), ..installed("12.10", 4) });
            release.requires = vec![needed("os", "12.9"), needed("os", "12.11")];
        },
        "needs_product: pos-app 2.2.0 needs os 12.11 or newer, the device has os 12.10",
    );
    check(
        |_, device| device.installed = vec![installed("2.3.0", 23)],
        "downgrade: pos-app 2.3.0 is newer than 2.2.0, and the rollout does not allow a downgrade",
    );
    check(
        |release, _| release.not_after = Some(at("2026-11-23T12:00:00Z")),
        "release_expired: the release may not be installed since 2026-11-23T12:00:00Z",
    );
    check(
        |release, device| device.bad_releases.push(release.digest),
        "rolled_back_before: pos-app 2.2.0 rolled back on this device; `callboard rollout retry spring --device till-1 --reason ...` tries again",
    );
}

fn needed(product: &str, version: &str) -> Requirement {
    let (product, at_least) = (product.parse().expect("a name"), version.parse().expect("a version"));
    Requirement { product, at_least }
}

#[test]
fn a_downgrade_must_be_meant_and_never_goes_below_the_floor() {
    let newer = |_: &mut Release, device: &mut Device| device.installed = vec![installed("2.3.0", 23)];
    assert_eq!(judge(newer, true), "Fits");
    let epoch = |_: &mut Release, device: &mut Device| device.installed[0].epoch = 2;
    assert!(judge(epoch, true).starts_with("below_floor"), "a lower epoch lies below every floor");
    let floor = |_: &mut Release, device: &mut Device| device.installed[0].floor = 23;
    assert!(judge(floor, true).starts_with("below_floor"));
}

#[test]
fn nothing_is_held_against_a_device_that_never_reported() {
    let silent = |_: &mut Release, device: &mut Device| (device.hw, device.agent) = (String::new(), String::new());
    assert_eq!(judge(silent, false), "Unreported");
    let expired = |release: &mut Release, device: &mut Device| {
        device.agent = String::new();
        release.not_after = Some(at("2020-01-01T00:00:00Z"));
    };
    assert!(judge(expired, false).starts_with("release_expired"), "but what is known is");
}
