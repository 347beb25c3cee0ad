//! The language of the scripts. One command a line; `#` begins a comment; an indented line belongs to the rollout
//! above it.
//!
//! ```text
//! now 2026-11-23T12:00:00Z              set the clock
//! wait 5m                               move it on (s, m, h, d)
//! site NYC-001 America/New_York region=northeast
//! trades NYC-001 mon,tue 08:00-20:00; sun 10:00-18:00     trading hours of a site, for its devices so far
//! bandwidth NYC-001 08:00-20:00 0; 2000000                bytes a second to a site by its hours, for its devices so far
//! suspend SITE REASON / activate SITE / close SITE REASON / hold-site SITE UNTIL REASON
//! freeze NAME 2026-11-26 2026-11-30 REASON [for SELECTOR] / unfreeze NAME
//! device till-1 site=NYC-001 pos-app=2.1.0 canary=true [never-seen | seen=2h] [unreported]
//! release pos-app 2.2.0 [hw=model] [agent=0.4.0] [needs=2.0.0] [requires=os:13] [space=BYTES] [floor=own]     later lines are newer releases
//! rollout NAME PRODUCT VERSION          then indented: policy, selector, phase, window, ...
//! preview NAME / start NAME / pause NAME / resume NAME / cancel NAME
//! resume NAME acknowledging             and look past the failures so far
//! retry NAME DEVICE / skip NAME DEVICE / cancel NAME DEVICE     what is done about a failure
//! countersign NAME                      a second person approves it
//! approve NAME / skip-soak NAME         what the open phase waits for
//! open-phase NAME PHASE                 whatever the gate says
//! check-in DEVICE                       what is it told?
//! online DEVICE until TIME              it checks in every five minutes, without doing anything
//! explain DEVICE                        and what of every rollout?
//! facts DEVICE hw=model ...             what it will say of itself from now on
//! runs DEVICE PRODUCT VERSION           it runs that release now, whatever it reported
//! restore DEVICE PRODUCT VERSION        it runs that now, which was no release
//! move DEVICE SITE                      it stands there from now on
//! label DEVICE region=west              an operator's labels of it, or of the site that it moved to
//! space DEVICE BYTES                     so much room it has from now on
//! lose DEVICE PRODUCT                   it has that product no more
//! forget DEVICE                         its agent has lost what it was at
//! boot DEVICE                           it starts anew; the next check-in says so
//! report DEVICE EVENT [transient]       staged, activating, verifying, succeeded, rolled_back, failed, ...
//! alone DEVICE [shutdown | boot]        it cannot ask, goes down or comes up: does it install, and report later?
//! update DEVICE [fails]                 check in and do as told until there is nothing to do
//! enrol DEVICE                          it gets a new certificate, or is imaged anew
//! decommission DEVICE                   it is taken out of service
//! hold DEVICE REASON / unhold DEVICE
//! status NAME / fleet
//! ```

use std::{collections::BTreeMap, time::Duration};

use callboard_policy::{
    assignment::Event as Transition,
    bandwidth::{Bandwidth, LimitSpec},
    decide::Step,
    device::{DEFAULT_ABANDONED_AFTER, Device, Hold},
    freeze::FreezeSpec,
    gate::Word,
    guard::{Cap, Caps, Pace},
    ledger::Unit,
    preview::preview,
    release::Release,
    rollout::{
        Approval, HaltKind, HaltSpec, Membership, PhaseSpec, PolicyKind, Rollout, RolloutState, Spec, Unit as Moves,
        WindowSpec,
    },
    selector::Glob,
    site::{SiteRules, SiteState, Suspension},
    trading::{HoursSpec, TradingHours},
    window::{Gates, Mode},
};
use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::Product,
    instruction::ActivateOn,
    release::Requirement,
    report::{Event, FailureClass},
    state::AssignmentState,
};

use crate::{
    report,
    world::{Actor, POLL, World, id},
};

/// Runs a script and returns its transcript: every line of it, and below each command what came of it.
pub(crate) fn run(script: &str) -> String {
    play(script).0
}

/// The world after a script.
pub(crate) fn set_up(script: &str) -> World {
    play(script).1
}

fn play(script: &str) -> (String, World) {
    let mut world = World::default();
    let mut transcript = String::new();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        transcript += &format!("{line}\n");
        let mut details = vec![];
        while let Some(detail) = lines.next_if(|next| next.starts_with("  ")) {
            transcript += &format!("{detail}\n");
            details.push(detail.trim());
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut printed = command(&mut world, &words, &details);
        printed.append(&mut world.news);
        for line in printed {
            transcript += &format!("    {line}\n");
        }
    }
    (transcript, world)
}

fn command(world: &mut World, words: &[&str], details: &[&str]) -> Vec<String> {
    match words {
        ["now", time] => world.now = time.parse().expect("a time"),
        ["wait", time] => world.now = world.now + span(time),
        ["device", name, facts @ ..] => device(world, name, facts),
        ["release", product, version, facts @ ..] => release(world, product, version, facts),
        ["rollout", name, product, version] => return rollout(world, name, product, version, details),
        ["preview", name] => {
            let plan = &world.rollout(name).plan;
            let units = world.actors.values().map(|actor| &actor.unit);
            let fleet: Vec<_> =
                units.map(|unit| (&unit.device, unit.seen(world.now, POLL, DEFAULT_ABANDONED_AFTER))).collect();
            let release = world.release(plan.release);
            let seen = preview(world.now, id(name), plan, release, &fleet, &world.ledger.catalog);
            return report::preview(world, &seen);
        }
        ["check-in", name] => return vec![report::decision(&world.check_in(name))],
        ["explain", name] => {
            let decision = world.explain(name);
            return report::explained(world, &decision);
        }
        ["online", name, "until", time] => {
            let until = time.parse().expect("a time");
            while world.now < until {
                world.check_in(name);
                world.now = (world.now + POLL).min(until);
            }
        }
        ["facts", name, facts @ ..] => {
            for fact in facts {
                let (key, value) = pair(fact);
                learn(&mut world.actor(name).unit.device, &key, value);
            }
        }
        ["runs", name, product, version] => {
            world.install(name, Digest::of(format!("{product} {version}").as_bytes()));
        }
        ["restore", name, product, version] => {
            let device = &mut world.actor(name).unit.device;
            device.installed.retain(|one| one.product.as_str() != *product);
            device.installed.push(installed(product, version));
        }
        ["label", name, labels @ ..] => {
            world.actor(name).unit.device.labels.extend(labels.iter().map(|label| pair(label)));
        }
        ["space", name, bytes] => world.actor(name).unit.free_bytes = Some(bytes.parse().unwrap()),
        ["lose", name, product] => {
            world.actor(name).unit.device.installed.retain(|one| one.product.as_str() != *product);
        }
        ["move", name, site] => world.actor(name).unit.device.site = Some(site.parse().unwrap()),
        ["forget", name] => world.actor(name).idle = true,
        ["boot", name] => world.actor(name).booted = true,
        ["report", name, event, class @ ..] => {
            let class = class.first().map(|_| FailureClass::Transient);
            world.report(name, reported(event), class);
        }
        ["alone", name, how @ ..] => return alone(world, name, activate_on(how.first().copied().unwrap_or("now"))),
        ["update", name, how @ ..] => return update(world, name, how.contains(&"fails")),
        ["status", name] => return report::status(world, name),
        ["fleet"] => return report::fleet(world),
        _ => operate(world, words),
    }
    world.settle();
    vec![]
}

/// What operators say to what is there already.
fn operate(world: &mut World, words: &[&str]) {
    match words {
        ["start", name] => world.start(name),
        ["countersign", name] => world.ledger.countersign(id(name)),
        ["pause", name] => world.set_state(name, RolloutState::Paused, false),
        ["resume", name] => world.set_state(name, RolloutState::Running, false),
        ["resume", name, "acknowledging"] => world.set_state(name, RolloutState::Running, true),
        ["cancel", name] => world.set_state(name, RolloutState::Cancelled, false),
        ["retry", name, device] => world.deal(name, device, Transition::Retried),
        ["skip", name, device] => world.deal(name, device, Transition::Skipped),
        ["cancel", name, device] => world.deal(name, device, Transition::Cancelled),
        ["approve", name] => world.by_hand(name, Word::Approve),
        ["skip-soak", name] => world.by_hand(name, Word::SkipSoak),
        ["open-phase", name, phase] => {
            let phases = &world.rollout(name).plan.phases;
            let wanted = phases.iter().position(|one| one.name == *phase).expect("a phase");
            world.by_hand(name, Word::Open(wanted));
        }
        ["hold", name, reason @ ..] => {
            let hold = Hold { reason: reason.join(" "), until: None };
            world.actor(name).unit.device.held = Some(hold);
        }
        ["enrol", name] => {
            let unit = &mut world.actors.get_mut(*name).unwrap().unit;
            world.ledger.enrol(world.now, unit).unwrap();
            world.actor(name).idle = true;
        }
        ["decommission", name] => {
            let unit = &mut world.actors.get_mut(*name).unwrap().unit;
            world.ledger.decommission(world.now, unit).unwrap();
        }
        ["unhold", name] => world.actor(name).unit.device.held = None,
        _ => surroundings(world, words),
    }
}

/// Changes the rules of a site, for its devices so far.
fn rule(world: &mut World, site: &str, change: impl Fn(&mut SiteRules)) {
    let units = world.actors.values_mut().map(|actor| &mut actor.unit.device);
    for device in units.filter(|device| device.site.as_ref().is_some_and(|id| id.as_str() == site)) {
        change(&mut device.site_rules);
    }
}

/// What is not about devices and rollouts themselves.
fn surroundings(world: &mut World, words: &[&str]) {
    match words {
        ["site", name, tz, labels @ ..] => {
            let labels = labels.iter().map(|label| pair(label)).collect();
            world.sites.insert((*name).to_owned(), (tz.parse().expect("a zone"), labels));
        }
        ["trades", site, hours @ ..] => {
            let hours = trading(&hours.join(" "));
            rule(world, site, |rules| rules.trading = hours.clone());
        }
        ["suspend", site, reason @ ..] => {
            let suspension = Some(Suspension { from: world.now, until: None });
            rule(world, site, |rules| {
                (rules.state, rules.suspension) = (SiteState::Suspended, suspension);
                rules.state_reason = reason.join(" ");
            });
        }
        ["activate", site] => {
            let now = world.now;
            rule(world, site, |rules| {
                rules.state = SiteState::Active;
                rules.suspension = rules.suspension.map(|last| Suspension { until: last.until.or(Some(now)), ..last });
            });
        }
        ["bandwidth", site, limits @ ..] => {
            let limits = bandwidth(&limits.join(" "));
            rule(world, site, |rules| rules.bandwidth = limits.clone());
        }
        ["close", site, reason @ ..] => rule(world, site, |rules| {
            (rules.state, rules.state_reason) = (SiteState::Closed, reason.join(" "));
        }),
        ["hold-site", site, until, reason @ ..] => {
            let hold = Hold { reason: reason.join(" "), until: Some(until.parse().expect("a time")) };
            rule(world, site, |rules| rules.held = Some(hold.clone()));
        }
        ["freeze", name, from, to, rest @ ..] => freeze(world, name, from, to, &rest.join(" ")),
        ["unfreeze", name] => world.ledger.catalog.freezes.retain(|freeze| freeze.name.as_str() != *name),
        _ => panic!("no such command: {words:?}"),
    }
}

/// A device that does as it is told until it is told nothing new.
fn update(world: &mut World, name: &str, fails: bool) -> Vec<String> {
    let mut lines = vec![];
    for _ in 0..10 {
        let decision = world.check_in(name);
        let line = report::decision(&decision);
        if lines.last() == Some(&line) {
            break;
        }
        lines.push(line);
        match decision.step {
            Step::GrantDownload { .. } | Step::ContinueDownload { .. } => {
                for event in [Event::Downloading, Event::Staged] {
                    world.report(name, event, None);
                }
            }
            Step::GrantActivation { .. } | Step::ContinueActivation { .. } => {
                let end = if fails { Event::RolledBack } else { Event::Succeeded };
                for event in [Event::Activating, Event::Verifying, end] {
                    world.report(name, event, None);
                }
            }
            Step::Nothing | Step::Hold { .. } => break,
            _ => {}
        }
        lines.append(&mut world.news);
    }
    lines
}

/// A device that cannot ask, goes down or comes up.
fn alone(world: &mut World, name: &str, how: ActivateOn) -> Vec<String> {
    let now = world.now;
    match world.actors[name].right {
        Some(right) if right.on == how && (right.not_before..=right.not_after).contains(&now) => {
            for event in [Event::Activating, Event::Verifying, Event::Succeeded] {
                world.report(name, event, None);
            }
            vec!["installs by itself".to_owned()]
        }
        Some(right) => vec![format!("does nothing: {right}")],
        None => vec!["does nothing: it has no right to".to_owned()],
    }
}

fn activate_on(text: &str) -> ActivateOn {
    match text {
        "now" => ActivateOn::Now,
        "shutdown" => ActivateOn::Shutdown,
        "boot" => ActivateOn::Boot,
        _ => panic!("no such moment: {text}"),
    }
}

fn device(world: &mut World, name: &str, facts: &[&str]) {
    let mut device = Device {
        hw: "verifone-m440".to_owned(),
        arch: "x86_64".to_owned(),
        agent: "0.3.0".to_owned(),
        channels: vec!["stable".to_owned()],
        enrolled_at: Some(world.now),
        ..Device::unheard_of(id(name), u32::try_from(world.actors.len()).unwrap(), name.parse().expect("a name"))
    };
    let mut last_seen = Some(world.now);
    for fact in facts.iter().filter(|fact| fact.contains('=')) {
        let (key, value) = pair(fact);
        match key.as_str() {
            "site" => {
                let (tz, labels) = &world.sites[&value];
                device.labels.extend(labels.clone());
                (device.site, device.site_tz) = (Some(value.parse().unwrap()), Some(*tz));
            }
            "seen" => last_seen = Some(world.now - span(&value)),
            _ => learn(&mut device, &key, value),
        }
    }
    if facts.contains(&"unreported") {
        (device.hw, device.agent) = (String::new(), String::new());
    }
    if facts.contains(&"never-seen") {
        last_seen = None;
    }
    let unit = Unit::new(device, last_seen);
    world.actors.insert(
        name.to_owned(),
        Actor { unit, booted: false, works_on: None, said: BTreeMap::new(), idle: true, right: None },
    );
}

fn learn(device: &mut Device, key: &str, value: String) {
    match key {
        "hw" => device.hw = value,
        "agent" => device.agent = value,
        "tz" => device.tz = Some(value.parse().unwrap()),
        product if product == "os" || product.ends_with("-app") => device.installed.push(installed(product, &value)),
        _ => {
            device.labels.insert(key.to_owned(), value);
        }
    }
}

fn installed(product: &str, version: &str) -> Installed {
    let (product, version): (Product, _) = (product.parse().unwrap(), version.parse().unwrap());
    Installed { product, version, release: None, epoch: 0, counter: 0, floor: 0 }
}

fn release(world: &mut World, product: &str, version: &str, facts: &[&str]) {
    let facts: BTreeMap<String, String> = facts.iter().map(|fact| pair(fact)).collect();
    let counter = u64::try_from(world.ledger.catalog.releases.len()).unwrap() + 1;
    let release = Release {
        digest: Digest::of(format!("{product} {version}").as_bytes()),
        product: product.parse().unwrap(),
        version: version.parse().unwrap(),
        epoch: 1,
        counter,
        min_floor: if facts.contains_key("floor") { counter } else { 0 },
        channels: vec!["stable".to_owned()],
        hw: vec![Glob::new(facts.get("hw").map_or("*", String::as_str))],
        not_after: None,
        requires_agent: facts.get("agent").map(|version| version.parse().unwrap()),
        requires_at_least: facts.get("needs").map(|version| {
            let stone = Digest::of(format!("{product} {version}").as_bytes());
            world.ledger.catalog.releases[&stone].counter
        }),
        requires: facts.get("requires").map(|text| required(text)).into_iter().collect(),
        space_bytes: facts.get("space").map_or(0, |text| text.parse().unwrap()),
        distrust: None,
    };
    world.ledger.catalog.releases.insert(release.digest, release);
}

/// `os:13`
fn required(text: &str) -> Requirement {
    let (product, version) = text.split_once(':').expect("a product and a version");
    Requirement { product: product.parse().unwrap(), at_least: version.parse().unwrap() }
}

fn rollout(world: &mut World, name: &str, product: &str, version: &str, details: &[&str]) -> Vec<String> {
    let mut spec = Spec {
        name: name.parse().unwrap(),
        release: Digest::of(format!("{product} {version}").as_bytes()),
        selector: "all".to_owned(),
        audience: Membership::Live,
        policy: PolicyKind::Immediate,
        start_at: None,
        min_absence_s: None,
        windows: vec![],
        phases: vec![],
        unit: Moves::Device,
        caps: Caps::default(),
        pace: None,
        halt: vec![],
        priority: 500,
        max_attempts: 3,
        allow_downgrade: false,
        security: false,
        expected_install_min: 0,
        during_trading: false,
        offline_activation: false,
        activate_on: ActivateOn::Now,
        deadline: None,
        ends_at: None,
        default_tz: None,
    };
    for detail in details {
        let (key, rest) = detail.split_once(' ').expect("a key and a value");
        set(&mut spec, key, rest);
    }
    match spec.plan() {
        Ok(plan) => {
            world.ledger.add(Rollout::draft(id(name), plan));
            vec![]
        }
        Err(errors) => errors.iter().map(|error| format!("refused: {error}")).collect(),
    }
}

fn set(spec: &mut Spec, key: &str, value: &str) {
    match key {
        "selector" => spec.selector = value.to_owned(),
        "audience" => spec.audience = if value == "frozen" { Membership::Frozen } else { Membership::Live },
        "policy" => {
            spec.policy = match value {
                "immediate" => PolicyKind::Immediate,
                "scheduled" => PolicyKind::Scheduled,
                "progressive" => PolicyKind::Progressive,
                "on_connect" => PolicyKind::OnConnect,
                _ => panic!("no such policy: {value}"),
            }
        }
        "start_at" => spec.start_at = Some(value.parse().unwrap()),
        "min_absence_s" => spec.min_absence_s = Some(value.parse().unwrap()),
        "unit" => spec.unit = if value == "site" { Moves::Site } else { Moves::Device },
        "downloads" => spec.caps.downloads = cap(value),
        "activations" => spec.caps.activations = cap(value),
        "pace" => spec.pace = Some(pace(value)),
        "halt" => spec.halt.push(halt(value)),
        "priority" => spec.priority = value.parse().unwrap(),
        "max_attempts" => spec.max_attempts = value.parse().unwrap(),
        "allow_downgrade" => spec.allow_downgrade = value == "true",
        "security" => spec.security = value == "true",
        "expected_install_min" => spec.expected_install_min = value.parse().unwrap(),
        "during_trading" => spec.during_trading = value == "true",
        "offline_activation" => spec.offline_activation = value == "true",
        "activate_on" => spec.activate_on = activate_on(value),
        "deadline" => spec.deadline = Some(value.parse().unwrap()),
        "ends_at" => spec.ends_at = Some(value.parse().unwrap()),
        "default_tz" => spec.default_tz = Some(value.to_owned()),
        "phase" => spec.phases.push(phase(value)),
        "window" => spec.windows.push(window(value)),
        _ => panic!("no such part of a rollout: {key}"),
    }
}

/// `NAME 10% success=95 [min=1] [completed=80] [max_wait=60] [soak=60] [approval=manual]`, or `NAME selector=...` to the end of the line.
fn phase(text: &str) -> PhaseSpec {
    let (text, selector) = match text.split_once(" selector=") {
        Some((name, selector)) => (name, Some(selector.to_owned())),
        None => (text, None),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let facts: BTreeMap<String, String> =
        words.iter().filter(|word| word.contains('=')).map(|fact| pair(fact)).collect();
    let number = |key: &str, default| facts.get(key).map_or(default, |text| text.parse().unwrap());
    PhaseSpec {
        name: words[0].to_owned(),
        percent: words.iter().find_map(|word| word.strip_suffix('%')).map(|text| text.parse().unwrap()),
        selector,
        success_percent: number("success", 95),
        completed_percent: number("completed", 80),
        min_completed: number("min", 1),
        max_wait_min: facts.get("max_wait").map(|text| text.parse().unwrap()),
        soak_min: number("soak", 0),
        approval: if words.contains(&"approval=manual") { Approval::Manual } else { Approval::Auto },
    }
}

/// `max=100 per_site=2`, or one of them.
fn cap(text: &str) -> Cap {
    let facts: BTreeMap<String, String> = text.split_whitespace().map(pair).collect();
    let number = |key: &str| facts.get(key).map(|text| text.parse().unwrap());
    Cap { max_in_flight: number("max"), max_in_flight_per_site: number("per_site") }
}

/// `2 [doubles_every=4]`
fn pace(text: &str) -> Pace {
    let (offers, doubles) = text.split_once(" doubles_every=").unwrap_or((text, ""));
    Pace { max_offers_per_minute: offers.parse().unwrap(), doubles_every: doubles.parse().ok() }
}

/// Limits, then `cancel` or `rollback_to=PRODUCT@VERSION` if it is not to pause.
fn halt(text: &str) -> HaltSpec {
    let mut rule = HaltSpec::default();
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "min_completed" => rule.min_completed = value.parse().ok(),
            "failure_percent" => rule.failure_percent = value.parse().ok(),
            "max_failures" => rule.max_failures = value.parse().ok(),
            "consecutive_failures" => rule.consecutive_failures = value.parse().ok(),
            "max_silent" => rule.max_silent = value.parse().ok(),
            "cancel" => rule.action = HaltKind::Cancel,
            "rollback_to" => (rule.action, rule.rollback_to) = (HaltKind::RollBackTo, Some(value.to_owned())),
            _ => panic!("no such part of a halt rule: {word}"),
        }
    }
    rule
}

/// `02:00 120` or `cron=0_2_1_*_* 90`, and `[tz=site] [days=mon,tue] [gates=download,install] [mode=best_effort]`
fn window(text: &str) -> WindowSpec {
    let words: Vec<&str> = text.split_whitespace().collect();
    let facts: BTreeMap<String, String> = words[2..].iter().map(|fact| pair(fact)).collect();
    let gates = facts.get("gates").map_or("install", String::as_str);
    WindowSpec {
        tz: facts.get("tz").map_or("site", String::as_str).to_owned(),
        days: facts.get("days").map(|days| days.split(',').map(str::to_owned).collect()).unwrap_or_default(),
        start: (!words[0].contains('=')).then(|| words[0].to_owned()),
        cron: words[0].strip_prefix("cron=").map(|fields| fields.replace('_', " ")),
        duration_min: words[1].parse().unwrap(),
        gates: Gates { download: gates.contains("download"), install: gates.contains("install") },
        mode: if facts.get("mode").is_some_and(|mode| mode == "best_effort") { Mode::BestEffort } else { Mode::Hard },
    }
}

fn freeze(world: &mut World, name: &str, from: &str, to: &str, text: &str) {
    let (reason, selector) = match text.split_once(" for ") {
        Some((reason, selector)) => (reason, Some(selector.to_owned())),
        None => (text, None),
    };
    let (name, reason) = (name.parse().unwrap(), reason.to_owned());
    let spec = FreezeSpec { name, reason, from: from.to_owned(), to: to.to_owned(), selector };
    world.ledger.catalog.freezes.push(spec.read().unwrap());
}

/// `mon,tue 08:00-20:00; sun 10:00-18:00`; no days are all of them.
fn trading(text: &str) -> TradingHours {
    let span = |text: &str| {
        let (days, times) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
        let days = days.split(',').filter(|day| !day.is_empty()).map(str::to_owned).collect();
        let (opens, closes) = times.split_once('-').expect("two times");
        HoursSpec { days, opens: opens.to_owned(), closes: closes.to_owned() }
    };
    TradingHours::read(&text.split(';').map(span).collect::<Vec<_>>()).unwrap()
}

/// `08:00-20:00 0; 2000000`: the first whose hours it is.
fn bandwidth(text: &str) -> Bandwidth {
    let limit = |text: &str| {
        let (hours, rate) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
        let (from, to) = hours.split_once('-').map(|(from, to)| (from.to_owned(), to.to_owned())).unzip();
        LimitSpec { days: vec![], from, to, bytes_per_s: rate.parse().unwrap() }
    };
    Bandwidth::read(&text.split(';').map(limit).collect::<Vec<_>>()).unwrap()
}

fn reported(event: &str) -> Event {
    match event {
        "downloading" => Event::Downloading,
        "staged" => Event::Staged,
        "deferred" => Event::Deferred,
        "activating" => Event::Activating,
        "verifying" => Event::Verifying,
        "succeeded" => Event::Succeeded,
        "rolled_back" => Event::RolledBack,
        "failed" => Event::Failed,
        "cancelled" => Event::Cancelled,
        _ => panic!("no such event: {event}, {:?}", AssignmentState::ALL),
    }
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or_else(|| panic!("{text} is not key=value"));
    (key.to_owned(), value.to_owned())
}

fn span(text: &str) -> Duration {
    let (count, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => panic!("no such unit of time: {text}"),
    };
    Duration::from_secs(count.parse::<u64>().unwrap() * unit)
}
