//! Selectors as text, in one canonical form.

use std::fmt;

use super::{Expr, Field, Glob, Op, TimeUnit, TimeValue, Value, parse};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::And(parts) => join(f, parts, " and "),
            Self::Or(parts) => join(f, parts, " or "),
            Self::Not(inner) => {
                f.write_str("not ")?;
                part(f, inner)
            }
            Self::Exists(field) => write!(f, "exists {field}"),
            Self::Compare { field, op, value } => write!(f, "{field} {op} {value}"),
            Self::In { field, values, negated } => {
                write!(f, "{field} {}in (", if *negated { "not " } else { "" })?;
                for (n, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if n == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Self::Like { field, glob } => write!(f, "{field} ~ {}", GlobText(glob)),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Expr], word: &str) -> fmt::Result {
    for (n, one) in parts.iter().enumerate() {
        if n > 0 {
            f.write_str(word)?;
        }
        part(f, one)?;
    }
    Ok(())
}

/// Parentheses stand around every `and` and `or` inside something else, also where the grammar could do without.
fn part(f: &mut fmt::Formatter<'_>, expr: &Expr) -> fmt::Result {
    match expr {
        Expr::And(_) | Expr::Or(_) => write!(f, "({expr})"),
        _ => fmt::Display::fmt(expr, f),
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "id",
            Self::Name => "name",
            Self::Site => "site",
            Self::Status => "status",
            Self::LastSeen => "last_seen",
            Self::Enrolled => "enrolled",
            Self::Hw => "hw",
            Self::Arch => "arch",
            Self::Tz => "tz",
            Self::Agent => "agent",
            Self::Version(product) => return write!(f, "version({:?})", product.as_str()),
            Self::Label(key) if parse::is_bare_label(key) => key,
            Self::Label(key) => return write!(f, "label.{}", Key(key)),
            Self::Attr(key) => return write!(f, "attr.{}", Key(key)),
        })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Text(text) => word_or_quoted(f, text),
            Self::Version(version) => word_or_quoted(f, version.as_str()),
            Self::Time(time) => write!(f, "{time}"),
            Self::Status(status) => f.write_str(status.as_str()),
        }
    }
}

impl fmt::Display for TimeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => write!(f, "{time}"),
            Self::Ago(ago) => {
                let unit = match ago.unit {
                    TimeUnit::Second => 's',
                    TimeUnit::Minute => 'm',
                    TimeUnit::Hour => 'h',
                    TimeUnit::Day => 'd',
                    TimeUnit::Week => 'w',
                };
                write!(f, "{}{unit} ago", ago.count)
            }
        }
    }
}

struct Key<'a>(&'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.chars().all(parse::is_key_char) {
            f.write_str(self.0)
        } else {
            quoted(f, self.0)
        }
    }
}

/// Globs are always quoted, so that they stand out.
struct GlobText<'a>(&'a Glob);

impl fmt::Display for GlobText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quoted(f, self.0.as_str())
    }
}

fn word_or_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if parse::is_word(text) { f.write_str(text) } else { quoted(f, text) }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
