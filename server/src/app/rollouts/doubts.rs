//! What looks like a mistake in a rollout although it is possible: said when it is made and when it is previewed.

use callboard_policy::{
    rollout::{Plan, Share},
    selector::{Doubt, Expr, Selector},
};

use crate::{
    app::Result,
    db::{
        self, DbConn,
        selector::{Context, Slice, Whom},
    },
};

/// More than this many mistakes are not looked for: each one is a look at every device.
const MAX_FOUND: usize = 10;

/// Looks at the selectors of a plan against the fleet as it is now.
pub(super) fn of(conn: &mut DbConn, plan: &Plan, context: &Context) -> Result<Vec<String>> {
    let mut found = Vec::new();
    look(conn, "", &plan.selector, &plan.selector, context, &mut found)?;
    for phase in &plan.phases {
        if let Share::Selector(selector) = &phase.share {
            let both = Selector::from_expr(Expr::and([plan.selector.expr().clone(), selector.expr().clone()]));
            look(conn, &format!("phase {}: ", phase.name), selector, &both, context, &mut found)?;
        }
    }
    Ok(found)
}

fn look(
    conn: &mut DbConn,
    whose: &str,
    selector: &Selector,
    taken: &Selector,
    context: &Context,
    found: &mut Vec<String>,
) -> Result<()> {
    let before = found.len();
    doubted(conn, whose, selector.doubts(), context, found)?;
    if found.len() == before && !somebody(conn, taken, context)? {
        found.push(format!("{whose}{selector} matches no device now"));
    }
    Ok(())
}

fn doubted(
    conn: &mut DbConn,
    whose: &str,
    doubts: Vec<Doubt>,
    context: &Context,
    found: &mut Vec<String>,
) -> Result<()> {
    for doubt in doubts {
        if found.len() >= MAX_FOUND {
            break;
        }
        if somebody(conn, &doubt.confirmed_by, context)? {
            doubted(conn, whose, doubt.then, context, found)?;
        } else {
            found.push(format!("{whose}{}", doubt.text));
        }
    }
    Ok(())
}

fn somebody(conn: &mut DbConn, selector: &Selector, context: &Context) -> Result<bool> {
    let slice = Slice { after: -1, limit: 1, whom: Whom::AtOpenSites };
    Ok(!db::selector::select(conn, selector, context, slice)?.is_empty())
}
