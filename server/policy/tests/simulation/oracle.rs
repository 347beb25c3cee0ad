//! Somebody who watches, and knows the specification but not the program: every grant is looked at when it is made, and
//! counters, caps and gates after every step. What is said here of windows, trading hours and gates is worked out anew,
//! minute by minute and in plain arithmetic.

use std::{collections::BTreeMap, time::Duration};

use callboard_policy::{gate::PhaseCounts, rollout::RolloutState};
use callboard_proto::{
    check_in::Installed,
    digest::Digest,
    ids::AssignmentId,
    instruction::Action,
    report::{Event as Reported, Report},
    state::AssignmentState as State,
    time::Timestamp,
};
use chrono::{LocalResult, NaiveDateTime, TimeZone, Timelike};

use super::{
    server::{Row, Says, Server, Stand, Told, Word},
    setup::{Kind, Night, Part, Roll, Setup, Shop},
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// A fleet of more devices is not recounted after every step.
const SMALL: usize = 200;

pub(crate) struct Oracle {
    setup: Setup,
    rows: Vec<Vec<Row>>,
    stands: Vec<Stand>,
    held: Vec<bool>,
    installed: Vec<Vec<Installed>>,
    seen: Vec<Option<Timestamp>>,
    /// When each was last heard of at all, and at work on what.
    heard: Vec<Option<Timestamp>>,
    busy: Vec<Option<(Timestamp, AssignmentId)>>,
    /// When each last reported anything, and about what.
    reported: Vec<Option<(Timestamp, AssignmentId)>>,
    /// Who has never been away for a whole hour of the clock, at a shop that does not say when it trades: nothing speaks
    /// against its being there at any time.
    always_there: Vec<bool>,
    /// The last minute in which each rollout made offers, and how many.
    offers: Vec<(i64, u32)>,
    /// The last time in which a device was away.
    away: Vec<Option<(Option<Timestamp>, Timestamp)>>,
    /// Since when the gate of the open phase is met.
    met: Vec<Option<Timestamp>>,
    opened: Vec<Timestamp>,
    /// When each rollout was started.
    started: Vec<Option<Timestamp>>,
    /// Who is in the audience of each rollout, and stays in it.
    members: Vec<Vec<bool>>,
    paused_by_hand: Vec<bool>,
    looks: u64,
}

impl Oracle {
    pub(crate) fn new(setup: &Setup) -> Self {
        let (devices, rollouts) = (setup.devices.len(), setup.rollouts.len());
        let draft = Stand { state: RolloutState::Draft, open_phase: 0, counts: Vec::new() };
        Self {
            setup: setup.clone(),
            rows: vec![Vec::new(); devices],
            stands: vec![draft; rollouts],
            held: vec![false; devices],
            installed: vec![Vec::new(); devices],
            seen: vec![None; devices],
            heard: vec![None; devices],
            busy: vec![None; devices],
            reported: vec![None; devices],
            always_there: vec![false; devices],
            offers: vec![(0, 0); rollouts],
            away: vec![None; devices],
            met: vec![None; rollouts],
            opened: vec![setup.start; rollouts],
            started: vec![None; rollouts],
            members: vec![vec![false; devices]; rollouts],
            paused_by_hand: vec![false; rollouts],
            looks: 0,
        }
    }

    pub(crate) fn held(&mut self, device: usize, held: bool) {
        self.held[device] = held;
    }

    pub(crate) fn moved(&mut self, device: usize, site: usize) {
        self.setup.devices[device].site = site;
    }

    /// A device installed without asking. It was told at its last check-in, at which it stood at `site`, that it might.
    pub(crate) fn acted_alone(&mut self, device: usize, at: Timestamp, release: Digest, site: usize) {
        let release = self.setup.releases.iter().position(|one| one.digest == release).unwrap();
        let roll = self.setup.rollouts.iter().find(|roll| roll.release == release).unwrap();
        let shop = &self.setup.sites[site];
        let told = self.seen[device].unwrap();
        assert!(roll.alone.is_some(), "seed {}: {} must ask", self.setup.seed, roll.name);
        let exempt = roll.window.is_some_and(|night| self.missed(device, told, night, shop));
        if !exempt {
            self.check_window(
                device,
                at,
                roll.window,
                roll.expected_install_min,
                shop,
                "an install that nobody asked about",
            );
        }
        self.check_time(device, at, roll, shop);
    }

    pub(crate) fn told(&mut self, now: Timestamp, rollout: usize, word: Word, server: &mut impl Server) {
        if word == Word::Start {
            self.opened[rollout] = now;
        }
        let running = self.stands[rollout].state == RolloutState::Running;
        self.paused_by_hand[rollout] = word == Word::Pause && (running || self.paused_by_hand[rollout]);
        self.look(now, None, server);
        if word == Word::Start && self.started[rollout].is_none() && self.stands[rollout].state != RolloutState::Draft {
            self.started[rollout] = Some(now);
            let matches = |device| self.matches(device, rollout);
            self.members[rollout] = (0..self.setup.devices.len()).map(matches).collect();
        }
    }

    fn matches(&self, device: usize, rollout: usize) -> bool {
        self.setup.rollouts[rollout].region.is_none_or(|region| region == self.setup.shop(device).region)
    }

    /// Whether a device is, or would be by asking now, in the audience. A live one is left by whoever was given nothing
    /// while it was for him; `rows` are what he was given.
    fn is_member(&self, device: usize, rollout: usize, rows: &[Row]) -> bool {
        let live = !self.setup.rollouts[rollout].frozen;
        let stays = !live || rows.iter().any(|row| row.rollout == rollout);
        (self.members[rollout][device] && stays) || (live && self.matches(device, rollout))
    }

    /// Time has had its effect.
    pub(crate) fn passed(&mut self, now: Timestamp, server: &mut impl Server) {
        let before = (self.setup.devices.len() <= SMALL && server.keeps_time()).then(|| self.rows.clone());
        self.look(now, None, server);
        for (device, rows) in before.iter().flatten().enumerate() {
            self.check_leases(now, device, rows);
        }
    }

    /// A download is given up half an hour after the last word of its device, a switch that was not begun after an hour, and
    /// both after a day; not before, if the device says that it is at it. Who has begun is silent after a quarter of an
    /// hour and has timed out after an hour or a day, but only hours count in which it is expected.
    fn check_leases(&self, now: Timestamp, device: usize, before: &[Row]) {
        let since = |at: Option<Timestamp>| at.map_or(Duration::MAX, |at| now.since(at));
        for row in &self.rows[device] {
            let one = &row.whole;
            let what = format!("seed {}, {} at {now}: {row:?}", self.setup.seed, self.name(device));
            let about =
                |word: Option<(Timestamp, AssignmentId)>| word.filter(|(_, id)| *id == one.id).map(|(at, _)| at);
            let at_work = about(self.busy[device]);
            let lease = match row.state {
                State::Downloading => MINUTE * 30,
                State::Activating if !one.begun => MINUTE * 60,
                State::Activating | State::Verifying => {
                    let word = at_work.max(about(self.reported[device])).max(Some(one.granted_at));
                    let due = since(word) >= MINUTE * 60 || now.since(one.granted_at) >= DAY;
                    assert!(!(due && self.always_there[device]), "{what}: it has not timed out");
                    let silent = one.silent || since(word) < MINUTE * 15;
                    assert!(silent || !self.always_there[device], "{what}: it is not counted as silent");
                    continue;
                }
                _ => {
                    let was = |states: &[State]| {
                        before.iter().any(|old| old.whole.id == one.id && states.contains(&old.state))
                    };
                    let early = |time| since(at_work) < time && now.since(one.granted_at) < DAY;
                    let same = |old: &Row| (old.whole.id, old.whole.attempt) == (one.id, one.attempt);
                    let lapsed = row.state == State::Queued && one.lapsed && was(&[State::Downloading]);
                    assert!(!lapsed || before.iter().any(same), "{what}: what it has fetched is thrown away");
                    assert!(!lapsed || !early(MINUTE * 30), "{what}: it was at it a moment ago");
                    let timed_out = row.state == State::TimedOut && was(&[State::Activating, State::Verifying]);
                    assert!(!timed_out || !early(MINUTE * 60), "{what}: it was at it a moment ago");
                    let word = at_work.max(about(self.reported[device])).unwrap_or(one.granted_at);
                    let off = timed_out && !self.may_time_out(device, one.granted_at, word.max(one.granted_at), now);
                    assert!(!off, "{what}: it was off nearly all the time");
                    continue;
                }
            };
            let silent = since(self.heard[device]).min(now.since(one.granted_at));
            assert!(silent <= lease && now.since(one.granted_at) <= DAY, "{what}: it holds its place for too long");
        }
    }

    /// Whether enough time has passed since the last word of a till, or since its grant, without the hours in which tills
    /// are switched off. That it is one with such hours is known of those that stay at a shop that says when it trades.
    fn may_time_out(&self, device: usize, granted: Timestamp, word: Timestamp, now: Timestamp) -> bool {
        let shop = self.setup.shop(device);
        let till = self.setup.devices[device].kind == Kind::Till && !self.setup.moves;
        let Some((opens, closes)) = shop.trades.filter(|_| till) else { return true };
        let on = |at: Timestamp| (opens - 1..=closes).contains(&at.utc().with_timezone(&shop.tz).hour());
        let minutes = |from: Timestamp| {
            (0..).map(|minute| from + MINUTE * minute).take_while(|at| *at < now).filter(|at| on(*at)).count()
        };
        minutes(word) >= 59 || minutes(granted) >= 24 * 60 - 1
    }

    pub(crate) fn enrolled(&mut self, now: Timestamp, device: usize, server: &mut impl Server) {
        self.look(now, Some(device), server);
        for row in &self.rows[device] {
            assert!(
                row.state.is_final() && row.state != State::TimedOut,
                "{}: {row:?} is left open",
                self.name(device)
            );
        }
    }

    /// A report has to be taken unless it cannot have happened; what was taken once is taken again.
    pub(crate) fn reported(
        &mut self,
        now: Timestamp,
        device: usize,
        reports: &[Report],
        taken: &[bool],
        server: &mut impl Server,
    ) {
        assert_eq!(reports.len(), taken.len());
        self.reported[device] = reports.last().map(|report| (now, report.assignment_id)).or(self.reported[device]);
        for (n, report) in reports.iter().enumerate() {
            let first = reports.iter().position(|other| other.key() == report.key()).unwrap();
            let again = first < n && taken[first];
            assert!(!again || taken[n] || report.attempt > 0, "{}: a repeat is refused", self.name(device));
        }
        self.look(now, Some(device), server);
        // What was taken has its effect, in every attempt.
        for report in reports.iter().zip(taken).filter(|(one, taken)| **taken && one.event == Reported::Staged) {
            let waits = |row: &&Row| matches!(row.state, State::Queued | State::Downloading);
            let same = |row: &&Row| (row.whole.id, row.whole.attempt) == (report.0.assignment_id, report.0.attempt);
            let unheard = self.rows[device].iter().filter(same).find(waits);
            assert!(unheard.is_none(), "{}: {:?} is not heard: {unheard:?}", self.name(device), report.0);
        }
    }

    pub(crate) fn comes(&mut self, now: Timestamp, device: usize, says: &Says, server: &mut impl Server) {
        self.installed[device].clone_from(&says.installed);
        self.heard[device] = Some(now);
        self.busy[device] = says.works_on.map(|(id, ..)| (now, id)).or(self.busy[device]);
        let seen = self.seen[device];
        let hour = |at: Timestamp| at.millis().div_euclid(3_600_000);
        self.always_there[device] = match seen {
            None => self.setup.shop(device).trades.is_none(),
            Some(seen) => self.always_there[device] && hour(now) - hour(seen) <= 1,
        };
        if seen.is_none_or(|seen| now.since(seen) > Duration::from_secs(600)) {
            self.away[device] = Some((seen, now));
        }
        self.look(now, Some(device), server);
    }

    /// Looks at what a check-in was answered.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        device: usize,
        told: &Told,
        setup: &Setup,
        server: &mut impl Server,
    ) {
        let before = self.rows[device].clone();
        let stands = self.stands.clone();
        self.look(now, Some(device), server);
        self.seen[device] = Some(now);
        let after = self.rows[device].clone();
        let granted = |states: &[State]| {
            let was = |row: &Row| before.iter().find(|old| old.whole.id == row.whole.id);
            let new = |row: &&Row| states.contains(&row.state) && was(row).is_none_or(|old| old.state != row.state);
            after.iter().filter(new).cloned().collect::<Vec<_>>()
        };
        let (downloads, installs) = (granted(&[State::Downloading]), granted(&[State::Activating]));
        assert!(downloads.len() + installs.len() <= 1, "{}: {told:?} grants twice", self.name(device));
        let about = after.iter().find(|row| Some(row.whole.id) == told.assignment);
        if let Some((row, right)) = about.zip(told.right).filter(|_| !server.may_be_behind()) {
            let what = format!("seed {}, {} at {now} may install by itself: {right:?}", setup.seed, self.name(device));
            let stand = &stands[row.rollout];
            assert!(stand.state == RolloutState::Running && row.phase <= stand.open_phase, "{what}: {stand:?}");
            assert!(!self.held[device] && matches!(row.state, State::Downloading | State::Staged), "{what}: {row:?}");
        }
        if !server.may_be_behind() {
            self.check_truth(now, device, &after);
        }
        for row in downloads.iter().chain(&installs) {
            let roll = &setup.rollouts[row.rollout];
            let what = format!("seed {}, {}, {} at {now}: {told:?}", setup.seed, self.name(device), roll.name);
            assert_eq!(stands[row.rollout].state, RolloutState::Running, "{what}: it does not run");
            assert!(row.phase <= stands[row.rollout].open_phase, "{what}: phase {} is not open", row.phase);
            assert!(!self.held[device], "{what}: it is held");
            self.check_audience(device, row.rollout, &before, &what);
            self.members[row.rollout][device] = true;
            self.check_order(device, row.rollout, (&before, &stands), &what);
            assert!(!frozen(setup, setup.shop(device), now), "{what}: a freeze is in force");
            assert_eq!(
                row.site.as_deref(),
                Some(setup.shop(device).id.as_str()),
                "{what}: its place is counted elsewhere"
            );
            let other = |one: &&Row| one.whole.id != row.whole.id;
            let busy = |one: &Row| matches!(one.state, State::Activating | State::Verifying);
            assert!(!after.iter().filter(other).any(busy), "{what}: it is installing already");
        }
        for row in &downloads {
            let roll = &setup.rollouts[row.rollout];
            let night = roll.window.filter(|night| night.downloads);
            let product = |row: &Row| setup.releases[setup.rollouts[row.rollout].release].product;
            let kept =
                |one: &&Row| one.whole.id != row.whole.id && product(one) == product(row) && one.whole.is_on_device();
            let what = format!("seed {}, {} at {now}: {row:?}", setup.seed, self.name(device));
            assert_eq!(after.iter().find(kept), None, "{what}: it has something else of the product");
            self.check_window(device, now, night, 0, setup.shop(device), "a download");
            self.check_pace(now, row.rollout);
            assert_eq!(told.action, Action::Download);
        }
        for row in &installs {
            let roll = &setup.rollouts[row.rollout];
            let minutes = roll.expected_install_min;
            self.check_window(device, now, roll.window, minutes, setup.shop(device), "an install");
            self.check_time(device, now, roll, setup.shop(device));
            assert_eq!(told.action, Action::Install);
        }
    }

    /// What a device says that it runs is the truth, whatever was lost.
    fn check_truth(&self, now: Timestamp, device: usize, rows: &[Row]) {
        for row in rows {
            let runs = self.installed[device].iter().any(|one| one.release == Some(row.whole.release));
            let open = !row.state.is_final() || matches!(row.state, State::TimedOut | State::Failed);
            let (seed, name) = (self.setup.seed, self.name(device));
            assert!(!(runs && open), "seed {seed}, {name} at {now}: it runs what {row:?} brings");
        }
    }

    fn check_pace(&mut self, now: Timestamp, rollout: usize) {
        let minute = now.millis().div_euclid(60_000);
        let (last, made) = self.offers[rollout];
        let made = if last == minute { made + 1 } else { 1 };
        self.offers[rollout] = (minute, made);
        let (seed, roll) = (self.setup.seed, &self.setup.rollouts[rollout]);
        let succeeded: u64 = self.stands[rollout].counts.iter().map(|counts| counts.succeeded).sum();
        let doublings = roll.doubles_every.map_or(0, |every| succeeded / u64::from(every));
        assert!(
            roll.pace.is_none_or(|pace| u64::from(made) <= u64::from(pace) << doublings),
            "seed {seed}: {rollout} makes {made} offers in one minute at {now}, with {succeeded} successes"
        );
    }

    /// Nothing is installed in trading hours or in a freeze, and nothing that would last into them.
    fn check_time(&self, device: usize, now: Timestamp, roll: &Roll, shop: &Shop) {
        let (seed, name) = (self.setup.seed, self.name(device));
        for minute in 0..=roll.expected_install_min.saturating_sub(1) {
            let at = now + MINUTE * minute;
            let trades = !roll.during_trading && trades(shop, at);
            assert!(!trades, "seed {seed}, {name}: installs at {now}, and the shop trades at {at}");
            assert!(!frozen(&self.setup, shop, at), "seed {seed}, {name}: installs at {now}, a freeze begins at {at}");
        }
    }

    fn check_audience(&self, device: usize, rollout: usize, before: &[Row], what: &str) {
        let roll = &self.setup.rollouts[rollout];
        let (unit, release) = (&self.setup.devices[device], &self.setup.releases[roll.release]);
        assert!(self.is_member(device, rollout, before), "{what}: it is not for {}", self.setup.shop(device).region);
        assert!(release.hw == "*" || unit.hw.starts_with("verifone-"), "{what}: it does not run on {}", unit.hw);
        let installed = self.installed[device].iter().find(|one| one.product.as_str() == release.product);
        assert!(installed.is_none_or(|one| one.counter <= release.counter), "{what}: {installed:?} is newer");
    }

    /// Nothing is granted while another rollout of the same product comes first: one of a higher priority, or as high and
    /// started later, that is under way and can still bring the device something.
    fn check_order(&self, device: usize, granted: usize, (before, stands): (&[Row], &[Stand]), what: &str) {
        let rank = |rollout: usize| (self.setup.rollouts[rollout].priority, self.started[rollout]);
        let brings = |rollout: usize| &self.setup.releases[self.setup.rollouts[rollout].release];
        for other in (0..self.setup.rollouts.len()).filter(|other| *other != granted && rank(*other) > rank(granted)) {
            let release = brings(other);
            let installed = self.installed[device].iter().find(|one| one.product.as_str() == release.product);
            let fits = release.hw == "*" || self.setup.devices[device].hw.starts_with("verifone-");
            let newer = installed.is_none_or(|one| one.counter < release.counter);
            let mut rows = before.iter().filter(|row| row.rollout == other);
            let through = rows.any(|row| row.state.is_final() && row.state != State::TimedOut);
            let under_way = matches!(stands[other].state, RolloutState::Running | RolloutState::Paused);
            let first = under_way && fits && newer && !through && self.is_member(device, other, before);
            assert!(
                !first || release.product != brings(granted).product,
                "{what}: {} comes first",
                self.setup.rollouts[other].name
            );
        }
    }

    fn check_window(&self, device: usize, now: Timestamp, night: Option<Night>, minutes: u32, shop: &Shop, what: &str) {
        let Some(night) = night else { return };
        let spans = nights(night, shop, now);
        let needed = now + MINUTE * minutes;
        // Nights that touch are one.
        let open = spans.iter().any(|(start, end)| *start <= now && now < *end && needed <= *end);
        let missed = self.missed(device, now, night, shop);
        let (seed, name, away) = (self.setup.seed, self.name(device), self.away[device]);
        assert!(
            open || missed,
            "seed {seed}, {name}: {what} at {now} ({}) outside of {night:?}; it was away {away:?}",
            shop.tz
        );
    }

    /// Whether a device was away for the whole of the last night, where that lets it in.
    fn missed(&self, device: usize, now: Timestamp, night: Night, shop: &Shop) -> bool {
        night.best_effort
            && nights(night, shop, now).iter().rfind(|(_, end)| *end <= now).is_some_and(|(start, end)| {
                self.away[device].is_some_and(|(since, back)| since.is_none_or(|since| since < *start) && *end <= back)
            })
    }

    /// Looks at everything, or at what one device and the rollouts show.
    fn look(&mut self, now: Timestamp, device: Option<usize>, server: &mut impl Server) {
        self.looks += 1;
        let devices = self.setup.devices.len();
        let whole = devices <= SMALL || self.looks.is_multiple_of(devices as u64);
        let which: Vec<usize> = match device {
            Some(device) if !whole || devices > 20 => vec![device],
            Some(device) => vec![device],
            None if whole => (0..devices).collect(),
            None => Vec::new(),
        };
        for device in which {
            self.rows[device] = server.rows_of(device);
        }
        let stands = server.stands();
        for (rollout, stand) in stands.iter().enumerate() {
            self.check_gate(now, rollout, stand);
            self.check_halt(rollout, stand);
        }
        self.stands = stands;
        // Of a large fleet only what was read just now counts.
        if whole && (devices <= SMALL || device.is_none()) {
            self.recount(device.is_none());
        }
    }

    /// Phases open one after the other, each by its gate.
    fn check_gate(&mut self, now: Timestamp, rollout: usize, stand: &Stand) {
        let parts = self.setup.rollouts[rollout].phases.clone();
        let opened = self.stands[rollout].open_phase;
        for (part, counts) in parts.iter().zip(&stand.counts).take(stand.open_phase).skip(opened) {
            let what = format!("seed {}, rollout {rollout}, phase {} at {now}: {counts:?}", self.setup.seed, part.name);
            if asked(counts) > 0 {
                let met = self.met[rollout].or_else(|| self.is_met(now, rollout, part, counts).then_some(now));
                assert!(met.is_some(), "{what}: its gate is not met");
                let soaked = met.is_some_and(|met| now.since(met) >= MINUTE * part.soak_min);
                assert!(soaked, "{what}: the soak is not over, met {met:?}");
                assert!(healthy(part, counts), "{what}: too many have failed");
            }
            (self.met[rollout], self.opened[rollout]) = (None, now);
        }
        let Some((part, counts)) = parts.get(stand.open_phase).zip(stand.counts.get(stand.open_phase)) else { return };
        self.met[rollout] = match self.met[rollout] {
            Some(_) if !healthy(part, counts) => None,
            Some(met) => Some(met),
            None => self.is_met(now, rollout, part, counts).then_some(now),
        };
    }

    fn is_met(&self, now: Timestamp, rollout: usize, part: &Part, counts: &PhaseCounts) -> bool {
        let size = asked(counts).saturating_sub(acknowledged(counts));
        let least = u64::from(part.min_completed).min(asked(counts));
        let share = (size * u64::from(part.completed_percent)).div_ceil(100);
        let patient = part.max_wait_min.is_none_or(|wait| now < self.opened[rollout] + MINUTE * wait);
        let needed = if patient { least.max(share) } else { least };
        completed(counts) >= needed && healthy(part, counts)
    }

    /// More failures than are borne end a rollout at once. Fleets in which nothing fails pause nothing.
    fn check_halt(&self, rollout: usize, stand: &Stand) {
        let failures: u64 = stand.counts.iter().map(failed).sum();
        let borne = self.setup.rollouts[rollout].max_failures.is_none_or(|max| failures <= u64::from(max));
        let active = matches!(stand.state, RolloutState::Running | RolloutState::Paused);
        assert!(borne || !active, "seed {}: rollout {rollout} goes on with {failures} failures", self.setup.seed);
        // What is learnt later, while it is paused, resumes nothing by itself.
        let ran = self.stands[rollout].state == RolloutState::Running;
        let alone = ran && stand.state == RolloutState::Paused && !self.paused_by_hand[rollout];
        // Whoever is away for too long has timed out, until it says otherwise; that alone pauses nothing.
        let failed: u64 = stand.counts.iter().map(|counts| counts.rolled_back + counts.failed).sum();
        let seed = self.setup.seed;
        assert!(!(self.setup.healthy && failed > 0), "seed {seed}: healthy devices count as failures: {stand:?}");
        // Nor is a phase without anybody to learn from anybody's failure.
        let learnt = |counts: &PhaseCounts| completed(counts) > 0 && counts.timed_out == 0;
        let somebody = stand.counts.get(stand.open_phase).is_some_and(learnt);
        assert!(!(self.setup.healthy && alone && somebody), "seed {seed}: it was paused: {stand:?}");
    }

    /// Counters are what a recount gives, and no cap is exceeded.
    fn recount(&self, exact: bool) {
        let seed = self.setup.seed;
        let mut counted: BTreeMap<(usize, usize), PhaseCounts> = BTreeMap::new();
        let mut places: BTreeMap<(usize, bool, Option<&str>), u32> = BTreeMap::new();
        for row in self.rows.iter().flatten() {
            let counts = counted.entry((row.rollout, row.phase)).or_default();
            counts.recount(None, Some(&row.whole));
            let installs = match row.state {
                State::Downloading => false,
                State::Activating | State::Verifying => true,
                _ => continue,
            };
            *places.entry((row.rollout, installs, None)).or_default() += 1;
            *places.entry((row.rollout, installs, Some(row.site.as_deref().unwrap_or_default()))).or_default() += 1;
        }
        for ((rollout, installs, site), held) in places {
            let [downloads, downloads_site, activations, activations_site] = self.setup.rollouts[rollout].caps;
            let cap = match (installs, site) {
                (false, None) => downloads,
                (false, Some(_)) => downloads_site,
                (true, None) => activations,
                (true, Some(_)) => activations_site,
            };
            assert!(
                cap.is_none_or(|cap| held <= cap),
                "seed {seed}: {held} places at {site:?} in {rollout}, {cap:?} are allowed"
            );
        }
        if !exact {
            return;
        }
        for (rollout, stand) in self.stands.iter().enumerate() {
            for (phase, counts) in stand.counts.iter().enumerate() {
                let recounted = counted.get(&(rollout, phase)).copied().unwrap_or_default();
                // How many members there are, and what was acknowledged before it is written down, no row knows.
                let recounted =
                    PhaseCounts { size: counts.size, acknowledged: counts.acknowledged, ..plain(recounted) };
                assert_eq!(plain(*counts), recounted, "seed {seed}, rollout {rollout}, phase {phase}");
                assert!(counts.size >= counts.untouched(), "seed {seed}: {counts:?}");
            }
        }
    }

    /// At the end of a calm time everything that had begun has come to an end.
    pub(crate) fn over(&mut self, setup: &Setup, server: &mut impl Server) {
        let seed = setup.seed;
        for device in 0..setup.devices.len() {
            self.rows[device] = server.rows_of(device);
            for row in &self.rows[device] {
                let name = self.name(device);
                assert!(!matches!(row.state, State::Activating | State::Verifying), "seed {seed}, {name}: {row:?}");
            }
        }
        for (rollout, stand) in server.stands().iter().enumerate() {
            // One that is for nobody was not started, and one may wait for an operator's word about a device, in it or in
            // another one that comes first there.
            let product = |rollout: usize| setup.releases[setup.rollouts[rollout].release].product;
            let asks = |device: usize, row: &Row| {
                let first = product(row.rollout) == product(rollout) && self.members[rollout][device];
                row.whole.attention_since.is_some() && (row.rollout == rollout || first)
            };
            let waits = self.rows.iter().enumerate().any(|(device, rows)| rows.iter().any(|row| asks(device, row)));
            let over = waits || !matches!(stand.state, RolloutState::Running | RolloutState::Paused);
            assert!(
                over || !setup.rollouts[rollout].frozen,
                "seed {seed}: no end of {:?}: {stand:?}",
                setup.rollouts[rollout]
            );
        }
    }

    fn name(&self, device: usize) -> &str {
        &self.setup.devices[device].name
    }
}

/// Expired ones count as cancelled, wherever it is not asked for the difference.
fn plain(counts: PhaseCounts) -> PhaseCounts {
    PhaseCounts { cancelled: counts.cancelled + counts.expired, expired: 0, ..counts }
}

fn asked(counts: &PhaseCounts) -> u64 {
    counts.size - (counts.cancelled + counts.expired).min(counts.size)
}

fn acknowledged(counts: &PhaseCounts) -> u64 {
    counts.acknowledged.min(counts.rolled_back + counts.failed)
}

fn failed(counts: &PhaseCounts) -> u64 {
    counts.rolled_back + counts.failed + counts.timed_out - acknowledged(counts)
}

fn completed(counts: &PhaseCounts) -> u64 {
    counts.succeeded + failed(counts)
}

fn healthy(part: &Part, counts: &PhaseCounts) -> bool {
    counts.succeeded * 100 >= completed(counts) * u64::from(part.success_percent)
}

/// The shop's open hours, by the clock on its wall.
fn trades(shop: &Shop, at: Timestamp) -> bool {
    let hour = at.utc().with_timezone(&shop.tz).hour();
    shop.trades.is_some_and(|(opens, closes)| (opens..closes).contains(&hour))
}

/// The freeze, by the calendar on the shop's wall.
fn frozen(setup: &Setup, shop: &Shop, at: Timestamp) -> bool {
    let day = at.utc().with_timezone(&shop.tz).date_naive();
    setup.freeze.is_some_and(|(from, to, region)| region == shop.region && from <= day && day <= to)
}

/// The nights around `now` in their order: each begins at its hour, or at the first minute after it that the clock
/// shows, the first time that it does, and lasts its minutes. Those that touch are one.
fn nights(night: Night, shop: &Shop, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let today = now.utc().with_timezone(&shop.tz).date_naive();
    let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
    for back in (-2..=10).rev() {
        let date = today - chrono::Duration::days(back);
        let start = first_instant(shop, date.and_hms_opt(night.hour, 0, 0).unwrap());
        let end = start + MINUTE * night.minutes;
        match spans.last_mut() {
            Some((_, last)) if start <= *last => *last = end.max(*last),
            _ => spans.push((start, end)),
        }
    }
    spans
}

fn first_instant(shop: &Shop, mut face: NaiveDateTime) -> Timestamp {
    loop {
        match shop.tz.from_local_datetime(&face) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => return at.to_utc().into(),
            LocalResult::None => face += chrono::Duration::minutes(1),
        }
    }
}
