//! Terms that no device can satisfy are most likely typing errors. Which those are is asked of the fleet, one small
//! selector at a time, by whoever has a fleet to ask.

use super::{Expr, Field, Op, Selector};

/// Questions about one selector, or about the values of one field, at most: each may have to look at every device.
const MAX_DOUBTS: usize = 64;

/// Something that a selector takes for granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Selects the devices that confirm it.
    pub confirmed_by: Selector,
    /// What to say if there are none.
    pub text: String,
    /// What to ask only if there are some.
    pub then: Vec<Doubt>,
}

/// What `expr` takes for granted: that the fields it asks about exist, and the values that it wants. What follows a
/// `not` is meant to hold for few or none, so only the fields count there.
pub(super) fn of(expr: &Expr) -> Vec<Doubt> {
    let mut found = Vec::new();
    collect(expr, true, &mut found);
    found.truncate(MAX_DOUBTS);
    found
}

fn collect(expr: &Expr, wanted: bool, found: &mut Vec<Doubt>) {
    match expr {
        Expr::All => {}
        Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| collect(part, wanted, found)),
        Expr::Not(inner) => collect(inner, !wanted, found),
        Expr::Exists(field) => add(found, field, Vec::new()),
        Expr::Compare { field, op, .. } => {
            let values = if wanted && *op == Op::Eq { vec![expr.clone()] } else { Vec::new() };
            add(found, field, values);
        }
        Expr::In { field, values, negated } => {
            let each = values.iter().map(|value| {
                let (field, value) = (field.clone(), value.clone());
                Expr::Compare { field, op: Op::Eq, value }
            });
            add(found, field, if wanted != *negated { each.collect() } else { Vec::new() });
        }
        Expr::Like { field, .. } => add(found, field, if wanted { vec![expr.clone()] } else { Vec::new() }),
    }
}

fn add(found: &mut Vec<Doubt>, field: &Field, values: Vec<Expr>) {
    // Every device has these, whatever it is like, and they come and go.
    if matches!(field, Field::Status | Field::LastSeen | Field::Enrolled) {
        return;
    }
    let value = |expr: Expr| Doubt {
        text: format!("no device has {expr}"),
        confirmed_by: Selector::from_expr(expr),
        then: Vec::new(),
    };
    let doubt = Doubt {
        confirmed_by: Selector::from_expr(Expr::Exists(field.clone())),
        text: match field {
            Field::Label(key) => format!("no device has a label {key}"),
            Field::Attr(key) => format!("no device reports an attribute {key}"),
            Field::Version(product) => format!("no device reports product {product}"),
            Field::Site => "no device stands at a site".to_owned(),
            field => format!("no device has {field}"),
        },
        then: values.into_iter().take(MAX_DOUBTS).map(value).collect(),
    };
    if !found.contains(&doubt) {
        found.push(doubt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &str) -> String {
        let line = |doubt: Doubt| {
            let then: Vec<String> = doubt.then.iter().map(|one| one.text.clone()).collect();
            [vec![format!("{} [{}]", doubt.text, doubt.confirmed_by)], then].concat().join("; ")
        };
        Selector::parse(text).expect("a selector").doubts().into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_a_selector_takes_for_granted() {
        insta::assert_snapshot!(
            say("site in (NYC-01, BOS-002) and (regoin = northeast or hw ~ \"verifone-*\") and status = online"),
            @r#"
            no device stands at a site [exists site]; no device has site = NYC-01; no device has site = BOS-002
            no device has a label regoin [exists regoin]; no device has regoin = northeast
            no device has hw [exists hw]; no device has hw ~ "verifone-*"
            "#
        );
        insta::assert_snapshot!(
            say("version(\"pos-ap\") < 2.2.0 and not (canary = true) and kind not in (till) and attr.os != debian"),
            @r#"
            no device reports product pos-ap [exists version("pos-ap")]
            no device has a label canary [exists canary]
            no device has a label kind [exists kind]
            no device reports an attribute os [exists attr.os]
            "#
        );
        assert_eq!(say("all"), "");
        let many: Vec<String> = (0..100).map(|n| format!("k{n} = 1")).collect();
        assert_eq!(Selector::parse(&many.join(" or ")).expect("a selector").doubts().len(), MAX_DOUBTS);
    }
}
