//! Who asks for something, and in which part of the fleet that is allowed.

use std::{net::IpAddr, sync::Arc};

use callboard_policy::{
    device::{Connectivity, Device},
    selector::{Expr, MAX_LEN, Seen, Selector},
};
use callboard_proto::{
    admin::{Grant, Permission},
    problem::Code,
    time::Timestamp,
};
use serde_json::Value;

use super::{Error, Result, edition::Expected};
use crate::db::{
    self, DbConn,
    audit::{BY_ITSELF, Change},
    events::NewEvent,
};

/// Whoever has the data directory, in the audit.
pub(crate) const AT_HOME: &str = "whoever has the data directory";
/// Whoever looks at pages at the server itself, without a login.
pub(crate) const AT_THE_SERVER: &str = "a person at the server";

/// Somebody who has the permission that a request needs.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    /// By which events know who did something.
    pub(crate) name: String,
    /// The person behind it, if there is one.
    pub(crate) person: Option<String>,
    /// The address that asks; none for whoever has the data directory.
    pub(crate) source: Option<IpAddr>,
    /// What is there for this one at all.
    pub(crate) sees: Reach,
    /// Where the permission holds; nowhere that is not seen.
    pub(crate) may: Reach,
    /// What this one has looked at before, and means to change.
    pub(crate) expected: Expected,
}

/// A part of the fleet.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    Everything,
    /// The devices that one of these selects.
    Within(Arc<[Selector]>),
}

impl Actor {
    /// Somebody with these grants, if they give the permission. They were checked when they were given.
    pub(crate) fn with(name: &str, grants: &[Grant], permission: Permission) -> Option<Self> {
        let (sees, may) = (Reach::of(grants, Permission::View)?, Reach::of(grants, permission)?);
        Some(Self { sees, may, ..Self::unlimited(name) })
    }

    /// Somebody whom nobody limits: who has the data directory.
    pub(crate) fn unlimited(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            person: None,
            source: None,
            sees: Reach::Everything,
            may: Reach::Everything,
            expected: Expected::Any,
        }
    }

    /// An event as a change by this one: `before` and `after` are what was changed, null for what was or is not there.
    pub(crate) fn did(&self, event: NewEvent, before: &Value, after: &Value) -> NewEvent {
        let text = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
        let change = Change {
            who: self.name.clone(),
            person: self.person.clone().unwrap_or_default(),
            source: self.source.map(|source| source.to_string()).unwrap_or_default(),
            before: text(before),
            after: text(after),
        };
        NewEvent { change: Some(change), ..event }
    }

    /// Refuses what is outside of the permission: as if it was not there if it is not even seen.
    pub(crate) fn check(&self, noun: &str, name: &str, may: bool, sees: bool) -> Result<()> {
        match (may, sees) {
            (true, _) => Ok(()),
            (_, true) => Err(self.outside(format!("{noun} {name}"))),
            _ => Err(Error::not_found(noun, name)),
        }
    }

    /// Says of something that the permission does not hold there.
    pub(crate) fn outside(&self, what: impl std::fmt::Display) -> Error {
        let detail = format!("{what} is outside of what you may do this for, which is {}", self.may.selector());
        Error::refused(Code::Forbidden, detail)
    }

    /// Refuses what is about the whole fleet to whoever has a part of it.
    pub(crate) fn check_whole_fleet(&self, what: &str) -> Result<()> {
        match self.may {
            Reach::Everything => Ok(()),
            Reach::Within(_) => Err(self.outside(what)),
        }
    }

    /// The selector that somebody asked for, limited to where the permission holds. One that cannot be read stays as it
    /// is, for whoever checks what was asked for to say so, with everything else that is wrong.
    pub(crate) fn confine(&self, wanted: Option<String>) -> Result<Option<String>> {
        let Ok(selector) = super::devices::parse_selector(wanted.as_deref()) else { return Ok(wanted) };
        if self.may.holds(&selector) {
            return Ok(wanted);
        }
        let text = selector.and(&self.may.selector()).to_string();
        // What is stored has to be read again.
        Selector::parse(&text).map_err(|source| {
            let detail = format!("with what you may do this for, the selector is too much ({MAX_LEN} bytes): {source}");
            Error::refused(Code::BadSelector, detail)
        })?;
        Ok(Some(text))
    }
}

impl Reach {
    /// Where these grants give the permission; `None` if nowhere.
    fn of(grants: &[Grant], permission: Permission) -> Option<Self> {
        let mut within = Vec::new();
        for grant in grants.iter().filter(|grant| grant.role.allows(permission)) {
            match &grant.selector {
                None => return Some(Self::Everything),
                // One that this version cannot read gives nothing.
                Some(text) => within.extend(Selector::parse(text).ok()),
            }
        }
        (!within.is_empty()).then(|| Self::Within(within.into()))
    }

    /// Its selectors, as they are written down beside what it limits; none for the whole fleet.
    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        match self {
            Self::Everything => None,
            Self::Within(parts) => Some(parts.iter().map(ToString::to_string).collect()),
        }
    }

    /// The part of the fleet that was written down like this. A selector that this version cannot read selects nothing.
    pub(crate) fn from_texts(texts: Option<&[String]>) -> Self {
        texts.map_or(Self::Everything, |texts| {
            Self::Within(texts.iter().filter_map(|text| Selector::parse(text).ok()).collect())
        })
    }

    /// Whether it is the whole fleet.
    pub(crate) const fn is_everything(&self) -> bool {
        matches!(self, Self::Everything)
    }

    /// As one selector.
    pub(crate) fn selector(&self) -> Selector {
        match self {
            Self::Everything => Selector::all(),
            Self::Within(parts) => Selector::from_expr(Expr::or(parts.iter().map(|part| part.expr().clone()))),
        }
    }

    /// What `selector` selects of it.
    pub(crate) fn narrow(&self, selector: Selector) -> Selector {
        match self {
            Self::Everything => selector,
            Self::Within(_) => selector.and(&self.selector()),
        }
    }

    /// The part of it that a selector selects.
    pub(crate) fn only(&self, selector: Selector) -> Self {
        if *selector.expr() == Expr::All { self.clone() } else { Self::Within([self.narrow(selector)].into()) }
    }

    /// Whether a device is in it.
    pub(crate) fn covers(&self, device: &Device, now: Timestamp) -> bool {
        // Grants do not ask for presence.
        let seen = Seen { last_seen: None, status: Connectivity::Unknown, now };
        match self {
            Self::Everything => true,
            Self::Within(parts) => parts.iter().any(|part| part.matches(device, &seen)),
        }
    }

    /// Whether a selector surely selects nothing outside.
    pub(crate) fn holds(&self, selector: &Selector) -> bool {
        self.is_everything() || selector.is_within(&self.selector())
    }
}

/// Refuses a name by which the audit means somebody else: who is no person and has no token, or an identity provider.
pub(crate) fn check_not_reserved(name: &str) -> Result<()> {
    let means = |reserved: &&str| reserved.eq_ignore_ascii_case(name);
    if [AT_HOME, AT_THE_SERVER, BY_ITSELF].iter().any(means) || name.contains("://") {
        let detail = format!("the audit means somebody else by the name {name:?}; take another one");
        return Err(Error::refused(Code::Conflict, detail));
    }
    Ok(())
}

/// Writes into the audit what whoever has the data directory has done to its files.
pub(crate) fn note_at_home(conn: &mut DbConn, event: NewEvent, after: &Value, now: Timestamp) -> Result<()> {
    Ok(db::events::insert(conn, now, &Actor::unlimited(AT_HOME).did(event, &Value::Null, after))?)
}

/// Refuses grants that could not be kept to.
pub(crate) fn check_grants(grants: &[Grant]) -> Result<()> {
    for (n, Grant { role, selector }) in grants.iter().enumerate() {
        let Some(text) = selector else { continue };
        if !role.can_be_limited() {
            let detail = format!("grants[{n}]: {role} is a role for the whole fleet; leave the selector out");
            return Err(Error::invalid(detail));
        }
        let read = Selector::parse(text)
            .map_err(|source| Error::refused(Code::BadSelector, format!("grants[{n}].selector: {source}")))?;
        if read.frozen_only().is_some() {
            let detail = format!(
                "grants[{n}].selector: status and last_seen change with every check-in; a permission needs something \
                 that stays, such as a label or a site"
            );
            return Err(Error::invalid(detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use callboard_proto::admin::Role;

    use super::*;

    fn grant(role: Role, selector: Option<&str>) -> Grant {
        Grant { role, selector: selector.map(str::to_owned) }
    }

    #[test]
    fn a_permission_reaches_as_far_as_the_grants_that_give_it() {
        let grants = [
            grant(Role::Viewer, None),
            grant(Role::Operator, Some("region = north")),
            grant(Role::Operator, Some("region = south")),
        ];
        let actor = Actor::with("ada", &grants, Permission::Operate).unwrap();
        assert!(actor.sees.is_everything());
        assert_eq!(actor.may.selector().to_string(), "region = north or region = south");
        assert!(Actor::with("ada", &grants, Permission::Approve).is_none());
        assert!(Actor::with("ada", &grants[1..2], Permission::View).is_some_and(|ada| !ada.sees.is_everything()));
        assert!(Actor::with("ada", &[], Permission::View).is_none());
    }

    #[test]
    fn what_is_asked_for_is_confined_once() {
        let actor = Actor::with("ada", &[grant(Role::Operator, Some("region = north"))], Permission::Operate).unwrap();
        let confine = |text: Option<&str>| actor.confine(text.map(str::to_owned)).unwrap();
        assert_eq!(confine(None).as_deref(), Some("region = north"));
        let once = confine(Some("hw = x or hw = y"));
        assert_eq!(once.as_deref(), Some("(hw = x or hw = y) and region = north"));
        assert_eq!(confine(once.as_deref()), once);
    }

    #[test]
    fn nobody_is_called_what_the_audit_calls_others() {
        for name in ["Whoever has the data directory", "a person at the server", "the server", "https://id.example.com"]
        {
            assert!(check_not_reserved(name).is_err(), "{name}");
        }
        assert!(check_not_reserved("the server room").is_ok());
    }

    #[test]
    fn grants_that_could_not_be_kept_to_are_refused() {
        let said = |role, text| check_grants(&[grant(role, Some(text))]).unwrap_err().to_string();
        assert!(said(Role::Admin, "all").contains("admin is a role for the whole fleet"));
        assert!(said(Role::Releaser, "all").contains("releaser is a role for the whole fleet"));
        assert!(said(Role::Viewer, "status = online").contains("change with every check-in"));
        assert!(said(Role::Viewer, "region =").contains("grants[0].selector: column 9"));
    }
}
