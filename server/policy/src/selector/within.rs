//! Whether one selector surely selects no device that another one does not: told by their form, without any device.

use super::{Expr, Op};

/// Sound and not complete: `false` says that it does not show.
pub(super) fn within(inner: &Expr, outer: &Expr) -> bool {
    match (inner, outer) {
        (_, Expr::All) => true,
        (_, Expr::And(parts)) => parts.iter().all(|part| within(inner, part)),
        (Expr::Or(parts), _) => parts.iter().all(|part| within(part, outer)),
        _ if inner == outer || among(inner, outer) => true,
        _ => {
            let of_outer = match outer {
                Expr::Or(parts) => parts.as_slice(),
                _ => &[],
            };
            let of_inner = match inner {
                Expr::And(parts) => parts.as_slice(),
                _ => &[],
            };
            of_inner.iter().any(|part| within(part, outer)) || of_outer.iter().any(|part| within(inner, part))
        }
    }
}

/// `site = a` and `site in (a, b)` within `site in (a, b, c)`.
fn among(inner: &Expr, outer: &Expr) -> bool {
    let Expr::In { field, values, negated: false } = outer else {
        return false;
    };
    match inner {
        Expr::Compare { field: own, op: Op::Eq, value } => own == field && values.contains(value),
        Expr::In { field: own, values: some, negated: false } => {
            own == field && some.iter().all(|value| values.contains(value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Selector;

    fn check(inner: &str, outer: &str) -> bool {
        Selector::parse(inner).unwrap().is_within(&Selector::parse(outer).unwrap())
    }

    #[test]
    fn what_is_joined_to_a_selector_by_and_is_within_it() {
        assert!(check("region = north and hw = x", "region = north"));
        assert!(check("hw = x and (a = b or c = d) and region = north", "region = north and hw = x"));
        assert!(check("region = north", "all") && check("all", "all"));
        assert!(check("region = north", "region = north or region = south"));
        assert!(check("region = north or region = south", "region = north or region = south or x = y"));
        assert!(check("(region = north or region = south) and x = y", "region = south or region = north"));
        assert!(check("region = north and x = y or region = north and not x = y", "region = north"));
        assert!(check("site = A", "site in (A, B)") && check("site in (B, A)", "site in (A, B, C)"));
    }

    #[test]
    fn what_may_reach_further_is_not() {
        for (inner, outer) in [
            ("all", "region = north"),
            ("region = south", "region = north"),
            ("region = north or x = y", "region = north"),
            ("not region = north", "region = north"),
            ("region = north", "region = north and hw = x"),
            ("site in (A, D)", "site in (A, B)"),
            ("site not in (A)", "site in (A, B)"),
            ("site != A", "site in (A, B)"),
            ("hw in (A)", "site in (A)"),
        ] {
            assert!(!check(inner, outer), "{inner} within {outer}");
        }
    }
}
