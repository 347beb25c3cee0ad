use callboard_proto::digest::Digest;
use proptest::prelude::*;

use super::*;
use crate::fixture::{at, release, rollout_id, spec, till};
use crate::rollout::{PolicyKind, Spec};
use crate::selector::Selector;

fn phase(share: Share) -> Phase {
    Phase {
        name: "p".to_owned(),
        share,
        success_percent: 100,
        completed_percent: 80,
        min_completed: 1,
        max_wait: None,
        soak: std::time::Duration::ZERO,
        approval: crate::rollout::Approval::Auto,
    }
}

fn percents(percents: &[u32]) -> Vec<Phase> {
    percents.iter().map(|percent| phase(Share::Percent(*percent))).collect()
}

fn candidate(n: u32) -> Candidate {
    let unit = UnitKey::Device(till(n).id);
    Candidate { number: n, unit, taken_by: None, canary: false, excluded: None, away: false }
}

/// Something that fits, or nothing to get.
fn nothing(fits: bool) -> Option<Exclusion> {
    (!fits).then_some(Exclusion::AlreadyInstalled)
}

fn draw(rollout: u8) -> Draw {
    Draw::of(&format!("rollout-{rollout}").parse().expect("a name"), Digest::of(b"release"))
}

fn count(count: usize) -> u64 {
    u64::try_from(count).expect("small")
}

fn sizes(audience: &Audience) -> Vec<u64> {
    audience.phases.iter().map(RoaringBitmap::len).collect()
}

#[test]
fn ten_percent_of_ten_devices_is_exactly_one() {
    let audience = assign(draw(1), &percents(&[10, 50, 100]), (0..10).map(candidate));
    assert_eq!(sizes(&audience), [1, 4, 5]);
    let other = assign(draw(2), &percents(&[10, 50, 100]), (0..10).map(candidate));
    assert_ne!(audience.phases, other.phases, "another rollout has other canaries");
}

#[test]
fn small_audiences_leave_phases_empty() {
    assert_eq!(sizes(&assign(draw(1), &percents(&[10, 50, 100]), [candidate(4)])), [1, 0, 0]);
    assert_eq!(sizes(&assign(draw(1), &percents(&[10, 50, 100]), [])), [0, 0, 0]);
}

#[test]
fn canaries_come_first_without_making_the_first_phase_larger() {
    let marked = |n: u32| Candidate { canary: n == 7, ..candidate(n) };
    let audience = assign(draw(1), &percents(&[10, 100]), (0..10).map(marked));
    assert_eq!(audience.phases[0].iter().collect::<Vec<_>>(), [7]);
    let marked = |n: u32| Candidate { canary: n >= 7, ..candidate(n) };
    let audience = assign(draw(1), &percents(&[10, 100]), (0..10).map(marked));
    assert_eq!(audience.phases[0].iter().collect::<Vec<_>>(), [7, 8, 9], "more labels than percents");
}

#[test]
fn a_selector_takes_its_devices_before_percents_count() {
    let phases = [phase(Share::Selector(Selector::all())), phase(Share::Percent(50)), phase(Share::Percent(100))];
    let taken = |n: u32| Candidate { taken_by: (n < 4).then_some(0), ..candidate(n) };
    let audience = assign(draw(1), &phases, (0..10).map(taken));
    assert_eq!(audience.phases[0].iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(sizes(&audience), [4, 3, 3]);
}

#[test]
fn the_canary_label_does_not_put_a_device_into_a_phase_whose_selector_does_not_take_it() {
    let pilot = || phase(Share::Selector(Selector::all()));
    let marked = |n: u32| Candidate { taken_by: (n == 3).then_some(0), canary: matches!(n, 3 | 9), ..candidate(n) };
    let phases = [pilot(), phase(Share::Percent(10)), phase(Share::Percent(100))];
    let audience = assign(draw(1), &phases, (0..10).map(marked));
    assert_eq!(audience.phases[0].iter().collect::<Vec<_>>(), [3], "who does not match is not a pilot");
    assert_eq!(audience.phases[1].iter().collect::<Vec<_>>(), [9], "but leads among the others");
    // Before a phase of pilots, a canary phase has all canaries.
    let marked = |n: u32| Candidate { taken_by: (n < 4).then_some(1), ..marked(n) };
    let phases = [phase(Share::Percent(10)), pilot(), phase(Share::Percent(100))];
    let audience = assign(draw(1), &phases, (0..10).map(marked));
    assert_eq!(audience.phases[0].iter().collect::<Vec<_>>(), [3, 9]);
    assert_eq!(audience.phases[1].iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn who_matches_late_joins_the_last_open_phase_that_may_have_it() {
    let boston = || phase(Share::Selector(Selector::parse("site = BOS-001").expect("a selector")));
    let seen = Seen { last_seen: None, status: crate::device::Connectivity::Online, now: at("2026-11-23T12:00:00Z") };
    let joins = |open_phase, phases: Vec<Phase>| {
        let plan = Plan { phases, ..spec().plan().expect("a plan") };
        let rollout = Rollout { open_phase, ..Rollout::draft(rollout_id(1), plan) };
        let mut elsewhere = till(2);
        elsewhere.site = Some("BOS-001".parse().expect("a name"));
        [&till(1), &elsewhere].map(|device| super::joins(&rollout, device, &seen))
    };
    let phases = || vec![boston(), phase(Share::Percent(10)), boston(), phase(Share::Percent(100))];
    assert_eq!(joins(0, phases()), [1, 0], "no member of a phase that does not take it: it waits for the next one");
    assert_eq!(joins(1, phases()), [1, 1]);
    assert_eq!(joins(2, phases()), [1, 2]);
    assert_eq!(joins(3, phases()), [3, 3]);
}

#[test]
fn devices_with_nothing_to_get_do_not_fill_the_canary_phase() {
    let some = |n: u32| Candidate { excluded: nothing(n.is_multiple_of(2)), canary: true, ..candidate(n) };
    let audience = assign(draw(1), &percents(&[100]), (0..10).map(some));
    assert_eq!(audience.uncounted().iter().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    assert_eq!((audience.why_excluded(1), audience.why_excluded(2)), (Some(Exclusion::AlreadyInstalled), None));
    assert_eq!(Exclusion::from_code(Exclusion::AlreadyInstalled.code()), Some(Exclusion::AlreadyInstalled));
    let some = |n: u32| Candidate { excluded: nothing(n.is_multiple_of(2)), ..candidate(n) };
    let audience = assign(draw(1), &percents(&[20, 100]), (0..10).map(some));
    assert_eq!(sizes(&audience), [1, 9]);
    assert!(audience.phases[0].is_disjoint(&audience.uncounted()));
}

#[test]
fn a_site_moves_together() {
    let site = |n: u32| -> SiteId { format!("S{}", n / 5).parse().expect("a name") };
    let member = |n: u32| Candidate { unit: UnitKey::Site(site(n)), excluded: nothing(n != 3), ..candidate(n) };
    let audience = assign(draw(1), &percents(&[10, 100]), (0..50).map(member));
    assert_eq!(sizes(&audience), [5, 45]);
    let sites: std::collections::BTreeSet<u32> = audience.phases[0].iter().map(|n| n / 5).collect();
    assert_eq!(sites.len(), 1);
    assert_eq!(audience.uncounted().iter().collect::<Vec<_>>(), [3]);
}

fn by_site(phases: &[(&str, u32)]) -> Plan {
    let phases = phases.iter().map(|(name, percent)| crate::fixture::phase(name, *percent)).collect();
    let spec = Spec { policy: PolicyKind::Progressive, unit: Unit::Site, phases, ..spec() };
    spec.plan().expect("a plan")
}

#[test]
fn a_candidate_is_what_plan_release_and_device_say() {
    let now = at("2026-11-23T12:00:00Z");
    let seen = Seen { last_seen: None, status: crate::device::Connectivity::Unknown, now };
    let mut device = till(3);
    device.labels.insert("canary".to_owned(), "true".to_owned());
    let plan = by_site(&[("all", 100)]);
    let made = Candidate::of(&plan, &release("2.2.0", 22), &device, &seen);
    let unit = UnitKey::Site("NYC-001".parse().expect("a name"));
    // It was never seen.
    assert_eq!(made, Candidate { number: 3, unit, taken_by: None, canary: true, excluded: None, away: true });
    device.site = None;
    let alone = Candidate::of(&plan, &release("2.1.0", 21), &device, &seen);
    assert_eq!((alone.unit, alone.excluded), (UnitKey::Device(device.id), Some(Exclusion::AlreadyInstalled)));
    device.decommissioned = true;
    assert_eq!(matching(&plan, [(&device, seen)]).count(), 0);
}

proptest! {
    #[test]
    fn counts_are_exact_and_each_device_is_in_one_phase(
        rollout in any::<u8>(),
        cuts in proptest::collection::btree_set(1u32..100, 0..5),
        flags in proptest::collection::vec(any::<[bool; 2]>(), 0..200),
        canary_every in 1usize..50,
    ) {
        let percents: Vec<u32> = cuts.into_iter().chain([100]).collect();
        let phases = self::percents(&percents);
        let candidates: Vec<Candidate> = flags.iter().enumerate().map(|(n, [a, b])| Candidate {
            excluded: nothing(*a || *b),
            canary: n % canary_every == 7,
            ..candidate(u32::try_from(n).expect("small"))
        }).collect();
        let audience = assign(draw(rollout), &phases, candidates.iter().cloned());
        let reversed = assign(draw(rollout), &phases, candidates.iter().rev().cloned());
        prop_assert_eq!(&audience, &reversed);

        let all: u64 = sizes(&audience).iter().sum();
        let union = audience.phases.iter().fold(RoaringBitmap::new(), |union, phase| union | phase);
        prop_assert_eq!(all, count(candidates.len()));
        prop_assert_eq!(union.len(), all);

        let n = count(candidates.iter().filter(|one| one.excluded.is_none()).count());
        let canaries = count(candidates.iter().filter(|one| one.excluded.is_none() && one.canary).count());
        let mut reached = 0;
        let mut wanted_before = 0;
        for (phase, percent) in audience.phases.iter().zip(&percents) {
            reached += (phase - &audience.uncounted()).len();
            let exact = (n * u64::from(*percent)).div_ceil(100);
            wanted_before = exact.max(wanted_before).max(canaries);
            prop_assert_eq!(reached, wanted_before);
        }
        prop_assert_eq!(reached, n);
    }
}

#[test]
fn late_joiners_of_a_shop_join_its_phase_and_those_of_a_new_one_the_open_phase() {
    let shop = |n: u32, site: &str| Device { site: Some(site.parse().expect("a name")), ..till(n) };
    let seen = Seen { last_seen: None, status: Connectivity::Online, now: at("2026-11-23T12:00:00Z") };
    let plan = by_site(&[("a", 25), ("b", 50), ("c", 100)]);
    let fleet: Vec<Device> = (0..8).map(|n| shop(n, &format!("SHOP-{}", n / 2))).collect();
    let all = fleet.iter().map(|device| Candidate::of(&plan, &release("2.2.0", 22), device, &seen));
    let audience = assign(draw(1), &plan.phases, all);
    assert_eq!(audience.sites.len(), 4);
    let mut rollout = Rollout { sites: audience.sites.clone(), ..Rollout::draft(rollout_id(1), plan) };
    for device in &fleet {
        let late = shop(100, device.site.as_ref().expect("a site").as_str());
        assert_eq!(Some(joins(&rollout, &late, &seen)), audience.phase_of(device.number), "{}", device.name);
    }
    for open in 0..3 {
        rollout.open_phase = open;
        assert_eq!(joins(&rollout, &shop(100, "SHOP-NEW"), &seen), open);
        assert_eq!(joins(&rollout, &Device { site: None, ..till(101) }, &seen), open);
    }
}

#[test]
fn a_frozen_rollout_that_none_of_its_devices_can_have_does_not_start() {
    let frozen = Spec { audience: Membership::Frozen, ..spec() }.plan().expect("a plan");
    let cannot = |n| Candidate { excluded: Some(Exclusion::DoesNotFit(Misfit::Hardware)), ..candidate(n) };
    let has = Candidate { excluded: Some(Exclusion::AlreadyInstalled), ..candidate(3) };
    let refused = check_somebody(&frozen, &[cannot(1), cannot(2)]).expect_err("refused");
    assert!(refused.starts_with("release: no device that all matches can have it (2 incompatible_hw)"), "{refused}");
    assert_eq!(check_somebody(&frozen, &[cannot(1), has]), Ok(()), "one has it, so that it is done");
    assert_eq!(check_somebody(&frozen, &[cannot(1), candidate(2)]), Ok(()));
    assert_eq!(check_somebody(&spec().plan().expect("a plan"), &[cannot(1)]), Ok(()), "others may come");
}
