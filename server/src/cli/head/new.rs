//! `callboard head new`: the next head, from the one before.

use std::{path::PathBuf, time::Duration};

use callboard_proto::{
    digest::Digest,
    head::{Head, HeadProduct},
    ids::Product,
    signed::Envelope,
    time::Timestamp,
};

use crate::{
    cli::{
        duration,
        exit::{self, BadInput},
        key, show,
    },
    durable::{self, Access},
};

/// Weeks of a fleet that installs whatever it is told are the price of a longer life.
const MAX_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// What the next head says.
#[derive(clap::Args)]
pub(crate) struct NewArgs {
    /// The head before it: what it says stays, its serial is counted on
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Serial, if there is none before it
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "from")]
    serial: u64,
    /// Epoch of the root's head role [default: as before, or 0]
    #[arg(long, value_name = "N")]
    epoch: Option<u32>,
    /// Newest release of a product: PRODUCT=EPOCH.COUNTER
    #[arg(long, value_name = "PRODUCT=EPOCH.COUNTER")]
    latest: Vec<String>,
    /// Oldest counter of that epoch that may still be installed: PRODUCT=COUNTER
    #[arg(long, value_name = "PRODUCT=COUNTER")]
    min: Vec<String>,
    /// Release that is not to be installed any more: PRODUCT=DIGEST
    #[arg(long, value_name = "PRODUCT=DIGEST")]
    revoke: Vec<String>,
    /// How long it holds; the server warns from half of that on
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = duration::parse)]
    valid_for: Duration,
    /// Private key that signs at once; give the option once for each
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Where to write the head
    #[arg(long, value_name = "FILE", default_value = "head.json")]
    out: PathBuf,
    /// The time that it is made for; for tests
    #[arg(long, hide = true, value_name = "TIME")]
    fixed_clock: Option<Timestamp>,
}

/// Runs the command.
pub(crate) fn run(args: &NewArgs, format: show::Format, now: Timestamp) -> anyhow::Result<()> {
    let now = args.fixed_clock.unwrap_or(now);
    let before = args.from.as_deref().map(super::read).transpose()?;
    let head = next(args, before, now)?;
    let mut envelope =
        Envelope::unsigned(&head).map_err(|error| BadInput(format!("such a head would be refused: {error}")))?;
    for path in &args.keys {
        envelope.sign(&key::read_private(path)?);
    }
    match durable::write_new(&args.out, &envelope.to_json(), Access::Everyone) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let what = format!("{} exists already; give another --out", args.out.display());
            return Err(BadInput(what).into());
        }
        other => other.map_err(exit::unusable("write", &args.out))?,
    }
    super::print(format, &args.out, &envelope, head, None)
}

fn next(args: &NewArgs, before: Option<Head>, now: Timestamp) -> Result<Head, BadInput> {
    if args.valid_for > MAX_LIFE {
        return Err(BadInput(format!("--valid-for is longer than {} days", MAX_LIFE.as_secs() / 86_400)));
    }
    let (serial, epoch, products) = match before {
        Some(head) => (head.serial.saturating_add(1), head.epoch, head.products),
        None => (args.serial, 0, Vec::new()),
    };
    let epoch_now = args.epoch.unwrap_or(epoch);
    if epoch_now < epoch {
        return Err(BadInput(format!("--epoch {epoch_now} is below that of the head before, {epoch}")));
    }
    let mut head = Head {
        v: 1,
        issued_at: now,
        crit: Vec::new(),
        // Serials of another epoch are another count.
        serial: if epoch_now > epoch { 1 } else { serial },
        epoch: epoch_now,
        expires: now + args.valid_for,
        products,
    };
    for text in &args.latest {
        let (product, order) = pair("--latest", text)?;
        let (epoch, counter) = order.split_once('.').ok_or_else(|| bad("--latest", text, "EPOCH.COUNTER is wanted"))?;
        let (epoch, counter) = (number("--latest", text, epoch)?, number("--latest", text, counter)?);
        let one = entry(&mut head, product);
        if (epoch, counter) < (one.epoch, one.latest_counter) {
            let what = format!("the head before says {}.{}", one.epoch, one.latest_counter);
            return Err(bad("--latest", text, &what));
        }
        if epoch > one.epoch {
            (one.epoch, one.min_counter) = (epoch, 0);
        }
        one.latest_counter = counter;
    }
    for text in &args.min {
        let (product, counter) = pair("--min", text)?;
        entry(&mut head, product).min_counter = number("--min", text, counter)?;
    }
    for text in &args.revoke {
        let (product, digest) = pair("--revoke", text)?;
        let digest: Digest = digest.parse().map_err(|error| bad("--revoke", text, &format!("{error}")))?;
        let revoked = &mut entry(&mut head, product).revoked;
        if !revoked.contains(&digest) {
            revoked.push(digest);
        }
    }
    Ok(head)
}

fn entry(head: &mut Head, product: Product) -> &mut HeadProduct {
    let at = head.products.iter().position(|one| one.product == product).unwrap_or_else(|| {
        let (epoch, latest_counter, min_counter, revoked) = (0, 0, 0, Vec::new());
        head.products.push(HeadProduct { product, epoch, latest_counter, min_counter, revoked });
        head.products.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "it was found there, or pushed just now")]
    &mut head.products[at]
}

fn pair<'a>(flag: &str, text: &'a str) -> Result<(Product, &'a str), BadInput> {
    let (product, value) = text.split_once('=').ok_or_else(|| bad(flag, text, "PRODUCT=VALUE is wanted"))?;
    Ok((product.parse().map_err(|error| bad(flag, text, &format!("{error}")))?, value))
}

fn number<N: std::str::FromStr>(flag: &str, text: &str, digits: &str) -> Result<N, BadInput> {
    digits.parse().ok().ok_or_else(|| bad(flag, text, "numbers are wanted"))
}

fn bad(flag: &str, text: &str, what: &str) -> BadInput {
    BadInput(format!("{flag} {text:?}: {what}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: NewArgs,
    }

    fn now() -> Timestamp {
        "2026-11-23T02:00:00Z".parse().unwrap()
    }

    fn make(before: Option<Head>, more: &str) -> Result<Head, BadInput> {
        let line = Line::try_parse_from(["new"].into_iter().chain(more.split_whitespace())).unwrap();
        next(&line.args, before, now())
    }

    #[test]
    fn a_head_follows_from_the_one_before() {
        let digest = Digest::of(b"bad");
        let first = make(None, "--latest pos-app=0.42").unwrap();
        assert_eq!((first.serial, first.epoch, first.expires.to_string().as_str()), (1, 0, "2026-12-07T02:00:00Z"));
        let second = make(Some(first), &format!("--min pos-app=41 --revoke pos-app={digest} --valid-for 7d")).unwrap();
        let one = &second.products[0];
        assert_eq!((second.serial, one.latest_counter, one.min_counter), (2, 42, 41));
        assert_eq!(one.revoked, [digest]);
        let third = make(Some(second), &format!("--latest pos-app=1.1 --epoch 1 --revoke pos-app={digest}")).unwrap();
        assert_eq!((third.serial, third.epoch, third.products[0].min_counter), (1, 1, 0), "a new count");
        assert_eq!(third.products[0].revoked.len(), 1, "what is taken back stays so, once");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let before = || make(None, "--latest pos-app=1.42 --epoch 2").ok();
        for (more, wanted) in [
            ("--latest pos-app", "PRODUCT=VALUE"),
            ("--latest pos-app=42", "EPOCH.COUNTER"),
            ("--latest pos-app=1.x", "numbers are wanted"),
            ("--latest pos-app=1.41", "the head before says 1.42"),
            ("--min ../x=3", "--min"),
            ("--revoke pos-app=abc", "--revoke"),
            ("--valid-for 91d", "longer than 90 days"),
            ("--epoch 1", "below that of the head before"),
        ] {
            let said = make(before(), more).unwrap_err().to_string();
            assert!(said.contains(wanted), "{more}: {said}");
        }
    }
}
