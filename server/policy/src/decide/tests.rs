//! What the stories in `tests/scripts` do not tell.

use std::sync::Arc;

use callboard_proto::state::AssignmentState;

use super::*;
use crate::{
    audience::{Audience, Exclusion},
    device::{Assignment, Member},
    fixture::{assignment, at, contact, installed, release, rollout_id, spec, till},
    guard::{Cap, Caps, Full, Holders, InFlight, Load},
    release::Release,
    rollout::{Membership, Rollout, RolloutState, Spec, WindowSpec},
    trust::{Distrust, HeadTerms, Terms},
    window::{Gates, Mode},
};

const NOW: &str = "2026-11-23T12:00:00Z";

fn running(n: u8, spec: &Spec) -> Rollout {
    let started_at = Some(at("2026-11-20T00:00:00Z") + Duration::from_secs(u64::from(n)));
    let plan = spec.plan().expect("a plan");
    let members = Arc::new(Audience::of(vec![[1].into_iter().collect(); plan.phases.len()]));
    Rollout { state: RolloutState::Running, started_at, members, ..Rollout::draft(rollout_id(n), plan) }
}

fn catalog(rollouts: Vec<Rollout>) -> Catalog {
    Catalog::new(1, rollouts, [release("2.0.0", 20), release("2.2.0", 22), release("2.3.0", 23)])
}

fn frozen(release: &Release) -> Spec {
    Spec { release: release.digest, audience: Membership::Frozen, ..spec() }
}

fn check(catalog: &Catalog, device: &Device) -> Decision {
    let now = at(NOW);
    let decision = decide(now, catalog, device, &contact(now), &Loads::default());
    let explained = explain(now, catalog, device, &contact(now), &Loads::default());
    assert_eq!(explained.considered.len(), catalog.rollouts.len());
    assert_eq!(Decision { considered: Vec::new(), ..explained }, decision, "one decision, told twice");
    decision
}

fn with(state: AssignmentState) -> (Device, Assignment) {
    let one = assignment(rollout_id(1), &release("2.2.0", 22), state);
    let mut device = till(1);
    device.assignments.push(one.clone());
    (device, one)
}

#[test]
fn an_idle_device_comes_back_after_its_interval() {
    let decision = check(&Catalog::default(), &till(1));
    assert_eq!((decision.step, decision.next_check_in), (Step::Nothing, Duration::from_secs(300)));
    assert_eq!(decision.reason.code, "nothing_pending");
}

#[test]
fn devices_are_not_told_about_rollouts_that_are_not_theirs() {
    let mut other = running(1, &frozen(&release("2.2.0", 22)));
    other.members = Arc::new(Audience::of(vec![[2].into_iter().collect()]));
    assert_eq!(check(&catalog(vec![other.clone()]), &till(1)).reason.code, "nothing_pending");
    let explained = explain(at(NOW), &catalog(vec![other]), &till(1), &contact(at(NOW)), &Loads::default());
    assert_eq!(explained.considered[0].verdict, Verdict::NotInAudience);
    let text = "rollout spring: its audience was fixed when it started, without this device";
    assert_eq!(explained.considered[0].reason.text, text);
}

#[test]
fn a_decommissioned_device_gets_nothing() {
    let device = Device { decommissioned: true, ..till(1) };
    let decision = check(&catalog(vec![running(1, &spec())]), &device);
    assert_eq!((decision.step, decision.reason.code.as_str()), (Step::Nothing, "decommissioned"));
}

#[test]
fn who_is_no_member_joins_a_live_rollout_in_the_last_open_phase() {
    let mut live = running(1, &spec());
    live.members = Arc::new(Audience::of(vec![[2].into_iter().collect()]));
    live.open_phase = 0;
    let step = check(&catalog(vec![live]), &till(1)).step;
    assert_eq!(step, Step::GrantDownload { rollout: rollout_id(1), phase: 0, admission: Admission::Joins });
}

#[test]
fn an_excluded_member_returns_when_the_release_fits_after_all() {
    let mut rollout = running(1, &frozen(&release("2.2.0", 22)));
    let was = Exclusion::DoesNotFit(Misfit::Agent);
    Arc::make_mut(&mut rollout.members).excluded.insert(was, [1].into_iter().collect());
    let (rollout, returns) = (catalog(vec![rollout]), Admission::Returns { was });
    let step = |device: &Device| check(&rollout, device).step;
    let offer = |admission| Step::GrantDownload { rollout: rollout_id(1), phase: 0, admission };
    assert_eq!(step(&till(1)), offer(returns));
    let mut device = till(1);
    device.set_member(Member { rollout: rollout_id(1), phase: 0, excluded: None });
    assert_eq!(step(&device), offer(Admission::Member), "it has returned already");
    device.set_member(Member { rollout: rollout_id(1), phase: 0, excluded: Some(Exclusion::AlreadyInstalled) });
    assert_eq!(step(&device), offer(Admission::Returns { was: Exclusion::AlreadyInstalled }), "and was excluded again");
}

#[test]
fn a_member_of_a_live_rollout_that_was_offered_nothing_leaves_with_its_label() {
    let mut rollout = running(1, &Spec { selector: "region = northeast".to_owned(), ..spec() });
    let mut device = till(1);
    device.labels.insert("region".to_owned(), "west".to_owned());
    let decision = check(&catalog(vec![rollout.clone()]), &device);
    assert_eq!(decision.step, Step::Exclude { rollout: rollout_id(1), phase: 0, why: Exclusion::LeftAudience });
    let text = "rollout spring: it is not for this device any more (region = northeast: it is west)";
    assert_eq!((decision.reason.code.as_str(), decision.reason.text.as_str()), ("left_audience", text));
    Arc::make_mut(&mut rollout.members).excluded.insert(Exclusion::LeftAudience, [1].into_iter().collect());
    let decision = check(&catalog(vec![rollout.clone()]), &device);
    assert_eq!((decision.step, decision.reason.code.as_str()), (Step::Nothing, "nothing_pending"));
    // It may have the release meanwhile, and an older one of another rollout is not kept away by this one.
    let has = Device { installed: vec![installed("2.2.0", 22)], ..device.clone() };
    let older = Spec { release: release("2.0.0", 20).digest, allow_downgrade: true, priority: 1, ..spec() };
    let both = || catalog(vec![rollout.clone(), running(2, &older)]);
    let step = check(&both(), &has).step;
    assert!(matches!(step, Step::GrantDownload { rollout, .. } if rollout == rollout_id(2)), "{step:?}");
    // What it was offered goes on, and who is a member of a frozen one stays so.
    let one = assignment(rollout_id(1), &release("2.2.0", 22), AssignmentState::Downloading);
    let at_it = Device { assignments: vec![one.clone()], ..device.clone() };
    assert_eq!(check(&catalog(vec![rollout.clone()]), &at_it).step, Step::ContinueDownload { assignment: one.id });
    rollout.plan.audience = Membership::Frozen;
    let step = check(&catalog(vec![rollout]), &device).step;
    assert!(matches!(step, Step::GrantDownload { .. }), "{step:?}");
}

#[test]
fn a_member_with_nothing_to_get_is_excluded_once() {
    let mut rollout = running(1, &frozen(&release("2.2.0", 22)));
    let device = Device { installed: vec![installed("2.2.0", 22)], ..till(1) };
    let decision = check(&catalog(vec![rollout.clone()]), &device);
    assert_eq!(decision.step, Step::Exclude { rollout: rollout_id(1), phase: 0, why: Exclusion::AlreadyInstalled });
    assert_eq!(decision.next_check_in, SOON);
    let at_start = Audience {
        excluded: [(Exclusion::AlreadyInstalled, [1].into_iter().collect())].into(),
        ..Audience::clone(&rollout.members)
    };
    let mut since = device.clone();
    since.set_member(Member { rollout: rollout_id(1), phase: 0, excluded: Some(Exclusion::AlreadyInstalled) });
    let decision = check(&catalog(vec![rollout.clone()]), &since);
    assert_eq!((decision.step, decision.reason.code.as_str()), (Step::Nothing, "already_installed"));
    rollout.members = Arc::new(at_start);
    let decision = check(&catalog(vec![rollout]), &device);
    assert_eq!((decision.step, decision.reason.code.as_str()), (Step::Nothing, "already_installed"));
}

#[test]
fn what_runs_closes_its_assignment_whatever_the_server_thought() {
    use AssignmentState::{Activating, Cancelled, Downloading, Queued, Staged, TimedOut, Verifying};
    for state in [Queued, Downloading, Staged, Activating, Verifying, TimedOut] {
        let (mut device, one) = with(state);
        device.installed = vec![installed("2.2.0", 22)];
        let step = check(&Catalog::default(), &device).step;
        assert_eq!(step, Step::CloseAsInstalled { assignment: one.id }, "{state:?}");
    }
    let (mut device, _) = with(Cancelled);
    device.installed = vec![installed("2.2.0", 22)];
    assert_eq!(check(&Catalog::default(), &device).step, Step::Nothing);
}

#[test]
fn an_activation_goes_on_without_its_rollout_and_under_a_hold() {
    let (mut device, one) = with(AssignmentState::Verifying);
    device.held = Some(crate::device::Hold { reason: "inventory".to_owned(), until: None });
    let step = check(&Catalog::default(), &device).step;
    assert_eq!(step, Step::ContinueActivation { assignment: one.id, not_after: None });
}

#[test]
fn an_assignment_of_a_rollout_that_this_server_does_not_know_yet_is_left_alone() {
    let (device, _) = with(AssignmentState::Staged);
    assert_eq!(check(&Catalog::default(), &device).step, Step::Nothing);
}

#[test]
fn an_expired_hold_holds_nothing() {
    let held = |until: &str| {
        let hold = crate::device::Hold { reason: "inventory".to_owned(), until: Some(at(until)) };
        let device = Device { held: Some(hold), ..till(1) };
        check(&catalog(vec![running(1, &spec())]), &device)
    };
    assert_eq!(held("2026-11-23T12:00:01Z").step, Step::Hold { assignment: None });
    assert!(matches!(held("2026-11-23T12:00:00Z").step, Step::GrantDownload { .. }));
}

#[test]
fn a_success_that_is_gone_is_a_regression() {
    let (device, one) = with(AssignmentState::Succeeded);
    let catalog = catalog(vec![running(1, &spec())]);
    let decision = check(&catalog, &device);
    let regress = Step::Regress { assignment: one.id };
    assert_eq!((decision.step, decision.reason.code.as_str()), (regress, "regressed"));
    assert_eq!(check(&Catalog::default(), &device).step, regress, "of a rollout that is over too");
    let newer = Device { installed: vec![installed("2.3.0", 23)], ..device.clone() };
    assert_eq!(check(&catalog, &newer).reason.code, "succeeded");
    let silent = Device { agent: String::new(), ..device.clone() };
    assert_eq!(check(&catalog, &silent).reason.code, "regressed", "what was imported is not what it runs");
    assert_eq!(check(&catalog, &silent).step, Step::Nothing);
    // A check-in that was under way while the agent was at it shows what was there before.
    let stale = Contact { works_on: Some(one.id), ..contact(at(NOW)) };
    assert_eq!(decide(at(NOW), &catalog, &device, &stale, &Loads::default()).step, Step::Nothing);
    // A later rollout took it back on purpose.
    let back = assignment(rollout_id(2), &release("2.1.0", 21), AssignmentState::Succeeded);
    let mut device = device;
    device.assignments.push(Assignment { granted_at: at(NOW), ..back });
    assert_eq!(check(&catalog, &device).step, Step::Nothing);
}

#[test]
fn an_ended_rollout_expires_what_is_not_activating() {
    let ended = running(1, &Spec { ends_at: Some(at(NOW)), ..spec() });
    let (device, one) = with(AssignmentState::Staged);
    let decision = check(&catalog(vec![ended.clone()]), &device);
    assert_eq!(decision.step, Step::Cancel { assignment: one.id, why: CancelWhy::RolloutEnded });
    assert_eq!(CancelWhy::RolloutEnded.event(), Event::Expired);
    assert_eq!(check(&catalog(vec![ended]), &till(1)).reason.code, "rollout_ended");
}

#[test]
fn what_fits_no_longer_is_dropped() {
    let (mut device, one) = with(AssignmentState::Staged);
    device.installed[0].floor = 23;
    let decision = check(&catalog(vec![running(1, &spec())]), &device);
    let why = CancelWhy::NoLongerFits(Misfit::BelowFloor);
    assert_eq!(decision.step, Step::Cancel { assignment: one.id, why });
    assert_eq!(decision.reason.code, "below_floor");
}

#[test]
fn what_was_taken_back_is_neither_offered_nor_activated() {
    for (distrust, misfit) in [(Distrust::Revoked, Misfit::Revoked), (Distrust::Untrusted, Misfit::Untrusted)] {
        let mut catalog = catalog(vec![running(1, &spec())]);
        catalog.releases.values_mut().for_each(|release| release.distrust = Some(distrust));
        let (device, one) = with(AssignmentState::Staged);
        let why = CancelWhy::NoLongerFits(misfit);
        assert_eq!(check(&catalog, &device).step, Step::Cancel { assignment: one.id, why });
        let idle = check(&catalog, &till(1));
        assert!(!matches!(idle.step, Step::GrantDownload { .. }), "{idle:?}");
        assert_eq!(idle.reason.code, misfit.code());
    }
}

#[test]
fn nothing_goes_on_while_devices_install_nothing_new() {
    let ended = at(NOW) - Duration::from_secs(1);
    for (terms, code) in [
        (Terms { root_expires: Some(ended), head: HeadTerms::NotNeeded }, "root_expired"),
        (Terms { root_expires: None, head: HeadTerms::Missing }, "head_missing"),
        (Terms { root_expires: None, head: HeadTerms::Until(ended) }, "head_expired"),
    ] {
        let catalog = catalog(vec![running(1, &spec())]).with_trust(terms);
        let idle = check(&catalog, &till(1));
        assert_eq!((idle.step, idle.reason.code.as_str()), (Step::Hold { assignment: None }, code));
        let (device, one) = with(AssignmentState::Staged);
        assert_eq!(check(&catalog, &device).step, Step::Hold { assignment: Some(one.id) });
        let (device, _) = with(AssignmentState::Verifying);
        assert!(matches!(check(&catalog, &device).step, Step::ContinueActivation { .. }), "what has begun is finished");
    }
}

#[test]
fn a_satisfied_rollout_keeps_older_releases_away() {
    let back = Spec { allow_downgrade: true, release: release("2.0.0", 20).digest, ..spec() };
    let (older, newer) = (running(1, &back), running(2, &spec()));
    let device = Device { installed: vec![installed("2.2.0", 22)], ..till(1) };
    assert!(matches!(check(&catalog(vec![older.clone()]), &device).step, Step::GrantDownload { .. }));
    let explained = explain(at(NOW), &catalog(vec![older, newer]), &device, &contact(at(NOW)), &Loads::default());
    assert_eq!(explained.considered[1].verdict, Verdict::Superseded { by: rollout_id(2) });
}

#[test]
fn a_rollout_that_has_not_begun_supersedes_nothing() {
    let later =
        Spec { start_at: Some(at("2026-11-29T02:00:00Z")), policy: crate::rollout::PolicyKind::Scheduled, ..spec() };
    let later = Spec { release: release("2.3.0", 23).digest, ..later };
    let step = check(&catalog(vec![running(1, &spec()), running(2, &later)]), &till(1)).step;
    assert!(matches!(step, Step::GrantDownload { rollout, .. } if rollout == rollout_id(1)), "{step:?}");
}

#[test]
fn a_paused_rollout_still_comes_first() {
    let mut newer = running(2, &Spec { release: release("2.3.0", 23).digest, ..spec() });
    newer.state = RolloutState::Paused;
    newer.state_reason = Some("gate of phase canary".to_owned());
    let decision = check(&catalog(vec![running(1, &spec()), newer]), &till(1));
    assert_eq!(decision.reason.text, "rollout spring: it is paused (gate of phase canary)");
}

fn windowed(gates: Gates) -> Spec {
    let window = WindowSpec {
        tz: "UTC".to_owned(),
        days: Vec::new(),
        start: Some("12:03".to_owned()),
        cron: None,
        duration_min: 4,
        gates,
        mode: Mode::Hard,
    };
    Spec { windows: vec![window], ..spec() }
}

#[test]
fn a_window_for_downloads_holds_back_grants_and_interrupts() {
    let rollout = running(1, &windowed(Gates { download: true, install: false }));
    let decision = check(&catalog(vec![rollout.clone()]), &till(1));
    assert_eq!((decision.step, decision.reason.code.as_str()), (Step::Nothing, "download_window_closed"));
    // It opens in three minutes, and the device comes in the first of its four.
    let (earliest, latest) = (Duration::from_secs(180), Duration::from_secs(240));
    assert!((earliest..latest).contains(&decision.next_check_in), "{:?}", decision.next_check_in);
    let (device, one) = with(AssignmentState::Downloading);
    let step = |device: &Device| check(&catalog(vec![rollout.clone()]), device).step;
    assert_eq!(step(&device), Step::Defer { assignment: one.id, why: Some(Deferral::Window) }, "that is written down");
    let deferred = Assignment { deferred: Some(Deferral::Window), ..one.clone() };
    let device = Device { assignments: vec![deferred], ..device };
    assert_eq!(step(&device), Step::Hold { assignment: Some(one.id) });
    let (device, one) = with(AssignmentState::Staged);
    let step = check(&catalog(vec![rollout]), &device).step;
    assert_eq!(step, Step::GrantActivation { assignment: one.id, not_after: None });
}

#[test]
fn devices_that_wait_for_a_window_do_not_come_all_at_once() {
    let catalog = catalog(vec![running(1, &windowed(Gates { download: true, install: true }))]);
    let times: std::collections::BTreeSet<Duration> =
        (1..50).map(|n| check(&catalog, &till(n)).next_check_in).collect();
    assert!(times.len() > 40, "{times:?}");
}

#[test]
fn an_activation_grant_ends_with_its_window() {
    let rollout = running(1, &windowed(Gates { download: false, install: true }));
    let (device, one) = with(AssignmentState::Activating);
    let contact = contact(at(NOW));
    let ends = |now: &str| decide(at(now), &catalog(vec![rollout.clone()]), &device, &contact, &Loads::default()).step;
    let until = |time: &str| Step::ContinueActivation { assignment: one.id, not_after: Some(at(time)) };
    assert_eq!(ends("2026-11-23T12:04:00Z"), until("2026-11-23T12:07:00Z"));
    assert_eq!(ends("2026-11-23T13:00:00Z"), until("2026-11-23T12:07:00Z"), "it may have passed");
}

#[test]
fn stretches_are_every_opening_up_to_the_end_of_the_rollout() {
    let ends_at = Some(at("2026-11-25T12:05:00Z"));
    let rollout = running(1, &Spec { ends_at, ..windowed(Gates { download: false, install: true }) });
    let (from, to) = (at("2026-11-23T12:04:00Z"), at("2026-11-30T00:00:00Z"));
    let found = stretches(&catalog(Vec::new()), &rollout, &till(1), from, to);
    let span = |start: &str, end: &str| Span { start: at(start), end: at(end) };
    let all = [
        span("2026-11-23T12:04:00Z", "2026-11-23T12:07:00Z"),
        span("2026-11-24T12:03:00Z", "2026-11-24T12:07:00Z"),
        span("2026-11-25T12:03:00Z", "2026-11-25T12:05:00Z"),
    ];
    assert_eq!(found, all);
    assert_eq!(first_stretch(&catalog(Vec::new()), &rollout, &till(1), from, to), Some(all[0]));
}

#[test]
fn a_timed_out_assignment_waits_and_keeps_its_product() {
    let (mut device, one) = with(AssignmentState::TimedOut);
    let older = Spec { release: release("2.3.0", 23).digest, priority: 100, ..spec() };
    let catalog = catalog(vec![running(1, &spec()), running(2, &older)]);
    let says = |device: &Device, works_on| {
        let contact = Contact { works_on, ..contact(at(NOW)) };
        let decision = decide(at(NOW), &catalog, device, &contact, &Loads::default());
        (decision.step, decision.reason.code)
    };
    assert_eq!(says(&device, Some(one.id)), (Step::Nothing, "timed_out".to_owned()), "it may still be at it");
    let again = Step::TryAgain { assignment: one.id };
    assert_eq!(says(&device, None), (again, "tried_again".to_owned()), "it knows nothing of it");
    device.assignments[0].failures = 2;
    assert_eq!(says(&device, None), (Step::Nothing, "timed_out".to_owned()), "there is no try left");
}

#[test]
fn a_silent_device_that_is_at_it_is_heard_and_one_whose_download_lapsed_keeps_what_it_has() {
    let (mut device, one) = with(AssignmentState::Verifying);
    device.assignments[0].silent = true;
    let catalog = catalog(vec![running(1, &spec())]);
    let step = |device: &Device, works_on| {
        let contact = Contact { works_on, ..contact(at(NOW)) };
        decide(at(NOW), &catalog, device, &contact, &Loads::default()).step
    };
    assert_eq!(step(&device, Some(one.id)), Step::Hear { assignment: one.id });
    assert!(matches!(step(&device, None), Step::ContinueActivation { .. }), "an idle agent says nothing of it");
    let (mut device, one) = with(AssignmentState::Queued);
    device.assignments[0].not_before = Some(at("2026-11-23T12:01:00Z"));
    assert_eq!(step(&device, None), Step::Nothing);
    device.assignments[0].lapsed = true;
    assert_eq!(step(&device, None), Step::Hold { assignment: Some(one.id) });
}

#[test]
fn who_finds_no_place_is_told_the_numbers_and_other_products_do_not_wait() {
    let caps = Caps { downloads: Cap { max_in_flight: Some(9), max_in_flight_per_site: Some(2) }, ..Caps::default() };
    let capped = running(1, &Spec { caps, ..frozen(&release("2.2.0", 22)) });
    let mut firmware = release("7", 7);
    firmware.product = "firmware".parse().expect("a name");
    let mut other = running(2, &Spec { priority: 1, ..frozen(&firmware) });
    other.plan.name = "firmware".parse().expect("a name");
    let tell = |rollouts: Vec<Rollout>, device: &Device, load: Load| {
        let catalog = Catalog::new(1, rollouts, [release("2.2.0", 22), firmware.clone()]);
        explain(at(NOW), &catalog, device, &contact(at(NOW)), &Loads::from([(rollout_id(1), load)]))
    };
    let holders = |count| Holders { count, oldest: Some(at("2026-11-23T02:14:00Z")) };
    let load = |overall, site| {
        let downloads = InFlight { overall: holders(overall), at_site: holders(site) };
        Load { downloads, ..Load::default() }
    };
    let told = tell(vec![capped.clone()], &till(1), load(8, 2));
    let full = Full { grant: crate::guard::Grant::Download, at_site: true, cap: 2, holders: holders(2) };
    assert_eq!((told.step, told.considered[0].verdict), (Step::Nothing, Verdict::Full(full)));
    let text = "rollout spring: site NYC-001 has 2 of 2 downloads in flight, oldest since 2026-11-23T02:14:00Z";
    assert_eq!((told.reason.code.as_str(), told.reason.text.as_str()), ("downloads_full", text));
    assert_eq!(told.next_check_in, SITE_RETRY, "few tills compete for the places of a site");
    let told = tell(vec![capped.clone()], &till(1), load(9, 0));
    assert_eq!(told.next_check_in, Duration::from_secs(300), "many compete for those of the rollout");
    let text = "rollout spring: the rollout has 9 of 9 downloads in flight, oldest since 2026-11-23T02:14:00Z";
    assert_eq!(told.reason.text, text);
    let told = tell(vec![capped.clone(), other.clone()], &till(1), load(9, 0));
    assert!(matches!(told.step, Step::GrantDownload { rollout, .. } if rollout == rollout_id(2)), "{told:?}");
    let (device, _) = with(AssignmentState::Downloading);
    let told = tell(vec![capped], &device, load(9, 2));
    assert!(matches!(told.step, Step::ContinueDownload { .. }), "whoever has a place keeps it: {told:?}");
}

#[test]
fn a_device_that_is_still_at_what_was_called_off_is_told_so() {
    for state in [AssignmentState::Cancelled, AssignmentState::Expired] {
        let (device, one) = with(state);
        let told = |works_on| {
            let contact = Contact { works_on, ..contact(at(NOW)) };
            decide(at(NOW), &Catalog::default(), &device, &contact, &Loads::default())
        };
        let recalled = told(Some(one.id));
        assert_eq!((recalled.step, recalled.reason.code.as_str()), (Step::Recall { assignment: one.id }, "cancelled"));
        assert_eq!(told(None).step, Step::Nothing, "it has dropped it");
    }
}

#[test]
fn a_device_that_has_lost_what_it_was_to_install_at_closing_time_fetches_it_again() {
    let spec = Spec { offline_activation: true, activate_on: ActivateOn::Shutdown, ..frozen(&release("2.2.0", 22)) };
    let catalog = catalog(vec![running(1, &spec)]);
    let (device, staged) = with(AssignmentState::Staged);
    let now = at(NOW);
    let told = |works_on| {
        let contact = Contact { works_on, ..contact(now) };
        decide(now, &catalog, &device, &contact, &Loads::default()).step
    };
    assert_eq!(told(Some(staged.id)), Step::Hold { assignment: Some(staged.id) });
    assert_eq!(told(None), Step::ContinueDownload { assignment: staged.id });
}
