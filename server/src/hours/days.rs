//! Days of the week as people write them: `daily`, `mon-fri`, `sat,sun`.

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `daily`, `mon`, `mon-fri`, `fri-mon` and lists of them; no days mean every day.
pub(crate) fn parse(word: &str) -> Result<Vec<String>, String> {
    if word == "daily" {
        return Ok(Vec::new());
    }
    let index = |day: &str| {
        let found = DAYS.iter().position(|known| *known == day);
        found.ok_or_else(|| format!("{day:?} is not a day: mon, tue, wed, thu, fri, sat, sun or daily"))
    };
    let mut chosen = [false; 7];
    for part in word.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (index(from)?, index(to)?);
        // fri-mon goes over the week's end.
        for n in from..=(if from <= to { to } else { to + 7 }) {
            if let Some(day) = chosen.get_mut(n % 7) {
                *day = true;
            }
        }
    }
    Ok(DAYS.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(day, _)| (*day).to_owned()).collect())
}

/// Days in short, as [`parse`] reads them.
pub(crate) fn in_short(days: &[String]) -> String {
    let chosen: Vec<usize> =
        DAYS.iter().enumerate().filter(|(_, day)| days.iter().any(|one| one == *day)).map(|(n, _)| n).collect();
    let name = |n: usize| DAYS.get(n).copied().unwrap_or_default();
    match *chosen.as_slice() {
        [] => "daily".to_owned(),
        [first, .., last] if last - first + 1 == chosen.len() && chosen.len() > 2 => {
            if chosen.len() == DAYS.len() {
                "daily".to_owned()
            } else {
                format!("{}-{}", name(first), name(last))
            }
        }
        _ => chosen.into_iter().map(name).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_in_short_are_read_as_they_were() {
        for word in ["daily", "mon", "mon-fri", "sat,sun", "mon,wed,fri-sun", "mon,tue"] {
            let days = parse(word).expect("days");
            assert_eq!(parse(&in_short(&days)), Ok(days), "{word}");
        }
        assert_eq!(in_short(&parse("fri-mon").expect("days")), "mon,fri,sat,sun");
        assert_eq!(in_short(&parse("mon-fri").expect("days")), "mon-fri");
    }

    #[test]
    fn days_are_single_lists_and_ranges() {
        let days = |word: &str| parse(word).map(|days| days.join(" "));
        assert_eq!(days("daily").as_deref(), Ok(""));
        assert_eq!(days("sun,wed").as_deref(), Ok("wed sun"));
        assert_eq!(days("fri-mon").as_deref(), Ok("mon fri sat sun"));
        assert_eq!(days("mon-tue,sat").as_deref(), Ok("mon tue sat"));
    }
}
