//! What a selector says, as a tree.

use callboard_proto::{
    ids::{DeviceId, Product},
    time::Timestamp,
    version::Version,
};

use super::Glob;
use crate::device::Connectivity;

/// An expression. `And` and `Or` have at least two parts, none of which is of the same sort: make them with
/// [`Expr::and`] and [`Expr::or`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Every device.
    All,
    /// All of these.
    And(Vec<Expr>),
    /// At least one of these.
    Or(Vec<Expr>),
    /// Not this.
    Not(Box<Expr>),
    /// The device has this.
    Exists(Field),
    /// The device has this, and it compares so. The value is of the field's kind.
    Compare {
        /// Left side.
        field: Field,
        /// How.
        op: Op,
        /// Right side.
        value: Value,
    },
    /// The device has this, and it is (or is not) among these. The values are of the field's kind.
    In {
        /// Left side.
        field: Field,
        /// At least one.
        values: Vec<Value>,
        /// Whether it is `not in`.
        negated: bool,
    },
    /// The device has this, and it matches. The field is text or a version.
    Like {
        /// Left side.
        field: Field,
        /// Right side.
        glob: Glob,
    },
}

/// What can be asked about a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Its id.
    Id,
    /// Its name.
    Name,
    /// Its site's id.
    Site,
    /// Whether it is there.
    Status,
    /// Its last check-in.
    LastSeen,
    /// When it got its certificate.
    Enrolled,
    /// Hardware model.
    Hw,
    /// Processor architecture.
    Arch,
    /// Time zone.
    Tz,
    /// Version of the agent.
    Agent,
    /// Installed version of a product.
    Version(Product),
    /// An effective label.
    Label(String),
    /// A reported attribute.
    Attr(String),
}

/// How the values of a field compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Equality of device ids.
    Id,
    /// Bytes.
    Text,
    /// The order of versions.
    Version,
    /// Points in time.
    Time,
    /// Equality of states.
    Status,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// The right side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// For [`Kind::Id`].
    Id(DeviceId),
    /// For [`Kind::Text`].
    Text(String),
    /// For [`Kind::Version`].
    Version(Version),
    /// For [`Kind::Time`].
    Time(TimeValue),
    /// For [`Kind::Status`].
    Status(Connectivity),
}

/// A point in time as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeValue {
    /// This one.
    At(Timestamp),
    /// So long before the question is asked.
    Ago(Ago),
}

/// An age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ago {
    /// How many.
    pub count: u32,
    /// Of what.
    pub unit: TimeUnit,
}

/// The unit of an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// `s`
    Second,
    /// `m`
    Minute,
    /// `h`
    Hour,
    /// `d`, 24 hours
    Day,
    /// `w`, seven days
    Week,
}

impl Expr {
    /// All of `parts`; nested conjunctions are flattened.
    pub fn and(parts: impl IntoIterator<Item = Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::And(inner) => inner,
            other => vec![other],
        });
        one_or(flat.collect(), Self::And)
    }

    /// Any of `parts`; nested disjunctions are flattened.
    pub fn or(parts: impl IntoIterator<Item = Self>) -> Self {
        let flat = parts.into_iter().flat_map(|part| match part {
            Self::Or(inner) => inner,
            other => vec![other],
        });
        one_or(flat.collect(), Self::Or)
    }

    /// Every field that occurs, from left to right.
    pub fn fields(&self) -> Vec<&Field> {
        match self {
            Self::All => Vec::new(),
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::fields).collect(),
            Self::Not(inner) => inner.fields(),
            Self::Exists(field) | Self::Compare { field, .. } | Self::In { field, .. } | Self::Like { field, .. } => {
                vec![field]
            }
        }
    }
}

fn one_or(mut parts: Vec<Expr>, many: impl FnOnce(Vec<Expr>) -> Expr) -> Expr {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, Some(last)) => {
            parts.push(last);
            many(parts)
        }
        (_, None) => Expr::All,
    }
}

impl Field {
    /// How its values compare.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Id => Kind::Id,
            Self::Name | Self::Site | Self::Hw | Self::Arch | Self::Tz | Self::Label(_) | Self::Attr(_) => Kind::Text,
            Self::Agent | Self::Version(_) => Kind::Version,
            Self::LastSeen | Self::Enrolled => Kind::Time,
            Self::Status => Kind::Status,
        }
    }
}

impl Op {
    /// Whether two values in this order satisfy it.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

impl TimeValue {
    /// The point in time that is meant when the question is asked at `now`.
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => now - std::time::Duration::from_secs(u64::from(ago.count) * ago.unit.seconds()),
        }
    }
}

impl TimeUnit {
    /// Its length.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        }
    }
}
