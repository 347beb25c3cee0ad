//! What a world is made of, drawn from its seed.

use callboard_proto::{
    digest::Digest,
    ids::{DeviceId, RolloutId},
    time::Timestamp,
};
use chrono::NaiveDate;
use chrono_tz::Tz;

/// Chance that comes out the same way each time.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Below `n`.
    pub(crate) fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0) % n
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

pub(crate) fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Both halves of the world, half hours and quarters, and zones whose clocks change in October and November, in spring
/// there and in autumn here, or never.
pub(crate) const ZONES: [Tz; 30] = [
    Tz::America__New_York,
    Tz::America__Chicago,
    Tz::America__Denver,
    Tz::America__Los_Angeles,
    Tz::America__Phoenix,
    Tz::America__Anchorage,
    Tz::America__Havana,
    Tz::America__Sao_Paulo,
    Tz::America__St_Johns,
    Tz::America__Asuncion,
    Tz::Pacific__Honolulu,
    Tz::Pacific__Auckland,
    Tz::Pacific__Chatham,
    Tz::Pacific__Kiritimati,
    Tz::Pacific__Apia,
    Tz::Europe__London,
    Tz::Europe__Berlin,
    Tz::Europe__Athens,
    Tz::Europe__Moscow,
    Tz::Atlantic__Azores,
    Tz::Africa__Cairo,
    Tz::Africa__Johannesburg,
    Tz::Asia__Kolkata,
    Tz::Asia__Kathmandu,
    Tz::Asia__Tokyo,
    Tz::Asia__Shanghai,
    Tz::Asia__Tehran,
    Tz::Australia__Sydney,
    Tz::Australia__Adelaide,
    Tz::Australia__Lord_Howe,
];

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) start: Timestamp,
    /// Nothing fails, nobody interferes: devices are only switched off, imaged anew and cut off.
    pub(crate) healthy: bool,
    pub(crate) sites: Vec<Shop>,
    pub(crate) devices: Vec<Unit>,
    pub(crate) releases: Vec<Rel>,
    pub(crate) rollouts: Vec<Roll>,
    /// From and to, for sites of this region.
    pub(crate) freeze: Option<(NaiveDate, NaiveDate, &'static str)>,
    /// Now and then a device moves to another site.
    pub(crate) moves: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Shop {
    pub(crate) id: String,
    pub(crate) tz: Tz,
    pub(crate) region: &'static str,
    /// Full hours of its day.
    pub(crate) trades: Option<(u32, u32)>,
    /// Bytes a second of its line, which all downloads share.
    pub(crate) line: Option<u64>,
}

/// 10 Mbit/s.
pub(crate) const LINE: u64 = 1_250_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Three fifths of the time, in stretches.
    Vehicle,
    /// While the shop is open and a little longer, not on Sundays, with nine hours in ten.
    Till,
    /// Three hours in ten.
    Sensor,
    /// Nearly always.
    Signage,
}

#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) id: DeviceId,
    pub(crate) name: String,
    pub(crate) site: usize,
    pub(crate) kind: Kind,
    pub(crate) hw: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Rel {
    pub(crate) product: &'static str,
    pub(crate) version: &'static str,
    pub(crate) counter: u64,
    pub(crate) hw: &'static str,
    pub(crate) digest: Digest,
    /// Of its payload, where a line is shared.
    pub(crate) bytes: u64,
}

/// When devices may install without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    /// When they cannot ask.
    CutOff,
    /// When they are switched off.
    Shutdown,
    /// When they have been switched on.
    Boot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offers {
    Immediate,
    Scheduled,
    Progressive,
    OnConnect,
}

#[derive(Clone, Debug)]
pub(crate) struct Roll {
    pub(crate) id: RolloutId,
    /// Who comes first is drawn by it, so the seed is in it.
    pub(crate) name: String,
    pub(crate) release: usize,
    /// For sites of this region, or for all.
    pub(crate) region: Option<&'static str>,
    pub(crate) frozen: bool,
    pub(crate) offers: Offers,
    pub(crate) phases: Vec<Part>,
    pub(crate) window: Option<Night>,
    /// Downloads over all and per site, activations over all and per site.
    pub(crate) caps: [Option<u32>; 4],
    pub(crate) priority: u32,
    pub(crate) expected_install_min: u32,
    pub(crate) during_trading: bool,
    pub(crate) max_attempts: u32,
    pub(crate) by_site: bool,
    /// Offers a minute.
    pub(crate) pace: Option<u32>,
    /// Successes after which that doubles.
    pub(crate) doubles_every: Option<u32>,
    /// One failure more cancels it.
    pub(crate) max_failures: Option<u32>,
    pub(crate) alone: Option<Alone>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) percent: u32,
    pub(crate) success_percent: u32,
    pub(crate) completed_percent: u32,
    pub(crate) min_completed: u32,
    pub(crate) max_wait_min: Option<u32>,
    pub(crate) soak_min: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Night {
    pub(crate) hour: u32,
    pub(crate) minutes: u32,
    pub(crate) downloads: bool,
    pub(crate) best_effort: bool,
}

fn id<K>(text: &str) -> callboard_proto::ids::Id<K> {
    callboard_proto::ids::Id::from_slice(&Digest::of(text.as_bytes()).as_bytes()[..16]).unwrap()
}

impl Setup {
    /// A world of so many devices.
    pub(crate) fn draw(seed: u64, devices: usize) -> Self {
        let mut dice = Dice::new(seed);
        // Before the clocks change in Europe, between that and America, and before they do in spring.
        let start = dice.one_of(&["2026-10-23T06:00:00Z", "2026-10-30T15:00:00Z", "2027-03-12T20:00:00Z"]);
        let shops = (devices / 4).clamp(2, 3000);
        let sites: Vec<Shop> = (0..shops).map(|n| shop(n, &mut dice)).collect();
        let devices = (0..devices).map(|n| unit(n, shops, &mut dice)).collect();
        let release = |product, version, counter, hw| {
            let digest = Digest::of(format!("{product} {version}").as_bytes());
            Rel { product, version, counter, hw, digest, bytes: 600_000_000 }
        };
        let releases = vec![
            release("pos-app", "2.0", 20, "*"),
            release("pos-app", "2.1", 21, "verifone-*"),
            release("os", "2", 2, "*"),
        ];
        let names = ["first", "second", "third"];
        let mut rollouts: Vec<Roll> =
            (0..1 + dice.roll(3) as usize).map(|n| roll(names[n], n, seed, &mut dice)).collect();
        if let Some(second) = rollouts.get_mut(1).filter(|_| dice.percent(30)) {
            second.make_urgent();
        }
        let start: Timestamp = start.parse().unwrap();
        let day = start.utc().date_naive();
        let freeze = dice.percent(30).then(|| (day.succ_opt().unwrap(), day.succ_opt().unwrap(), "east"));
        let (healthy, moves) = (dice.percent(30), dice.percent(30));
        Self { seed, start, healthy, sites, devices, releases, rollouts, freeze, moves }
    }

    /// One shop with so many tills on one line, which nobody switches on at night.
    pub(crate) fn shop_of_tills(seed: u64, tills: usize) -> Self {
        let mut setup = Self::draw(seed, tills);
        setup.sites.truncate(1);
        (setup.sites[0].trades, setup.sites[0].line) = (Some((8, 18)), Some(LINE));
        setup.devices.iter_mut().for_each(|till| (till.kind, till.site) = (Kind::Till, 0));
        (setup.moves, setup.freeze) = (false, None);
        // Whatever is to be done can be done while the tills are on.
        setup.rollouts.truncate(1);
        let first = &mut setup.rollouts[0];
        (first.offers, first.window, first.region, first.during_trading) = (Offers::Immediate, None, None, true);
        (first.phases, first.by_site, first.alone) = (Vec::new(), false, None);
        setup
    }

    pub(crate) fn shop(&self, device: usize) -> &Shop {
        &self.sites[self.devices[device].site]
    }
}

impl Roll {
    /// It is for everybody at once, and comes before everything else.
    fn make_urgent(&mut self) {
        (self.priority, self.offers, self.window, self.region) = (1000, Offers::Immediate, None, None);
        (self.phases, self.caps, self.pace, self.alone) = (Vec::new(), [None; 4], None, None);
        (self.during_trading, self.by_site) = (true, false);
    }
}

fn shop(n: usize, dice: &mut Dice) -> Shop {
    let trades = dice.percent(60).then(|| (7 + dice.roll(3) as u32, 18 + dice.roll(4) as u32));
    let line = dice.percent(30).then_some(LINE);
    Shop { id: format!("S-{n}"), tz: dice.one_of(&ZONES), region: dice.one_of(&["east", "west"]), trades, line }
}

fn unit(n: usize, shops: usize, dice: &mut Dice) -> Unit {
    let name = format!("d-{n}");
    let kind = dice.one_of(&[Kind::Vehicle, Kind::Till, Kind::Till, Kind::Sensor, Kind::Signage]);
    let hw = dice.one_of(&["verifone-m440", "verifone-m440", "verifone-m440", "ipad"]);
    Unit { id: id(&name), name, site: dice.roll(shops as u64) as usize, kind, hw }
}

fn roll(name: &'static str, n: usize, seed: u64, dice: &mut Dice) -> Roll {
    let offers = dice.one_of(&[
        Offers::Immediate,
        Offers::Scheduled,
        Offers::Progressive,
        Offers::Progressive,
        Offers::OnConnect,
    ]);
    let night = Night {
        hour: dice.one_of(&[0, 1, 2, 3, 23, 12]),
        minutes: dice.one_of(&[120, 300]),
        downloads: dice.percent(30),
        best_effort: dice.percent(50),
    };
    // A window at noon never opens for a shop that trades then.
    let noon = night.hour == 12;
    let windowed = offers == Offers::Scheduled || dice.percent(30);
    let part = |name, percent, dice: &mut Dice| Part {
        name,
        percent,
        success_percent: dice.one_of(&[50, 80, 100]),
        completed_percent: dice.one_of(&[50, 80, 100]),
        min_completed: dice.one_of(&[1, 2]),
        max_wait_min: dice.percent(50).then_some(600),
        soak_min: dice.one_of(&[0, 0, 30, 240]),
    };
    let phases = match offers {
        Offers::Progressive => vec![part("canary", 10, dice), part("half", 50, dice), part("all", 100, dice)],
        _ => Vec::new(),
    };
    let mut cap = |percent, least, range| dice.percent(percent).then(|| least + dice.roll(range) as u32);
    let mut caps = [cap(40, 3, 4), cap(30, 1, 2), cap(40, 3, 4), cap(30, 1, 2)];
    let alone = dice.percent(30).then(|| dice.one_of(&[Alone::CutOff, Alone::Shutdown, Alone::Boot]));
    if alone.is_some() {
        // Whoever does not ask is not counted beforehand.
        (caps[2], caps[3]) = (None, None);
    }
    Roll {
        id: id(&format!("{name} {seed}")),
        name: format!("{name}-{seed}"),
        release: n,
        region: dice.one_of(&[None, None, Some("east")]),
        frozen: dice.percent(70),
        offers,
        phases,
        window: windowed.then_some(night),
        caps,
        priority: dice.one_of(&[100, 500, 500, 900]),
        expected_install_min: dice.one_of(&[0, 15, 30]),
        during_trading: noon || dice.percent(20),
        max_attempts: dice.one_of(&[1, 3]),
        // Units matter to phases alone.
        by_site: dice.percent(25) && offers == Offers::Progressive,
        pace: dice.percent(20).then_some(1),
        doubles_every: seed.is_multiple_of(2).then_some(2),
        max_failures: dice.percent(20).then(|| dice.roll(3) as u32),
        alone,
    }
}
