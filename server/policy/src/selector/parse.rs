//! The parser. Once the beginning of a term fixes what it is, errors are final: so the column is where it went wrong.

mod values;

use callboard_proto::ids::Product;
use winnow::{
    combinator::{alt, cut_err, opt, preceded, repeat, terminated},
    error::{ContextError, ErrMode, StrContext, StrContextValue},
    prelude::*,
    stream::Stateful,
    token::{any, one_of, take_while},
};

use super::{Expr, Field, Glob, Kind, MAX_DEPTH, MAX_LEN, MAX_TERMS, Op, SelectorError};

type Input<'a> = Stateful<&'a str, Count>;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    depth: usize,
    terms: usize,
    values: usize,
}

const RESERVED: [&str; 17] = [
    "all",
    "and",
    "or",
    "not",
    "in",
    "exists",
    "id",
    "name",
    "site",
    "status",
    "last_seen",
    "enrolled",
    "hw",
    "arch",
    "tz",
    "agent",
    "version",
];

const A_TERM: &str = "a field (id, name, site, status, last_seen, enrolled, hw, arch, tz, agent, version(\"product\"), \
     attr.key or a label), `not`, `exists`, `all` or `(`";
const A_FIELD: &str = "a field (id, name, site, status, last_seen, enrolled, hw, arch, tz, agent, version(\"product\"), \
     attr.key or a label)";

pub(super) fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_word_char(c: char) -> bool {
    is_key_char(c) || matches!(c, ':' | '+' | '/' | '@' | '*' | '?')
}

pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word_char)
}

/// Whether a label's key needs no `label.` before it.
pub(super) fn is_bare_label(key: &str) -> bool {
    !key.is_empty()
        && key.chars().all(is_key_char)
        && !RESERVED.contains(&key)
        && !key.starts_with("label.")
        && !key.starts_with("attr.")
}

pub(super) fn selector(text: &str) -> Result<Expr, SelectorError> {
    if text.len() > MAX_LEN {
        let (found, expected) = (format!("{} bytes", text.len()), format!("at most {MAX_LEN} bytes"));
        return Err(SelectorError { column: 1, found, expected });
    }
    let end = winnow::combinator::eof.context(expected("`and`, `or` or the end"));
    let input = Input { input: text, state: Count::default() };
    terminated(preceded(blanks, disjunction), end).parse(input).map_err(|error| {
        let wanted = error.inner().context().find_map(|context| match context {
            StrContext::Expected(StrContextValue::Description(text)) => Some((*text).to_owned()),
            _ => None,
        });
        let (before, rest) = text.split_at_checked(error.offset()).unwrap_or((text, ""));
        SelectorError {
            column: before.chars().count() + 1,
            found: found(rest),
            expected: wanted.unwrap_or_else(|| A_TERM.to_owned()),
        }
    })
}

fn found(rest: &str) -> String {
    let word: String = rest.chars().take_while(|c| is_word_char(*c)).take(40).collect();
    match (word.is_empty(), rest.chars().next()) {
        (_, None) => "the end".to_owned(),
        (true, Some(c)) => format!("`{c}`"),
        (false, _) => format!("`{word}`"),
    }
}

const fn expected(text: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(text))
}

fn disjunction(input: &mut Input<'_>) -> ModalResult<Expr> {
    let first = conjunction(input)?;
    let rest: Vec<Expr> = repeat(0.., preceded(keyword("or"), cut_err(conjunction))).parse_next(input)?;
    Ok(Expr::or(std::iter::once(first).chain(rest)))
}

fn conjunction(input: &mut Input<'_>) -> ModalResult<Expr> {
    let first = factor(input)?;
    let rest: Vec<Expr> = repeat(0.., preceded(keyword("and"), cut_err(factor))).parse_next(input)?;
    Ok(Expr::and(std::iter::once(first).chain(rest)))
}

fn factor(input: &mut Input<'_>) -> ModalResult<Expr> {
    if opt(keyword("not")).parse_next(input)?.is_some() {
        let inner = deeper(input, cut_err(factor))?;
        return Ok(Expr::Not(Box::new(inner)));
    }
    if opt(symbol("(")).parse_next(input)?.is_some() {
        let inner = deeper(input, cut_err(disjunction))?;
        cut_err(symbol(")").context(expected("`and`, `or` or `)`"))).parse_next(input)?;
        return Ok(inner);
    }
    term(input)
}

fn deeper<'a>(input: &mut Input<'a>, mut inner: impl ModalParser<Input<'a>, Expr, ContextError>) -> ModalResult<Expr> {
    input.state.depth += 1;
    if input.state.depth > MAX_DEPTH {
        return fail("at most 16 levels of `(` and `not`");
    }
    let expr = inner.parse_next(input)?;
    input.state.depth -= 1;
    Ok(expr)
}

fn term(input: &mut Input<'_>) -> ModalResult<Expr> {
    input.state.terms += 1;
    if input.state.terms > MAX_TERMS {
        return fail("at most 128 terms");
    }
    if opt(keyword("all")).parse_next(input)?.is_some() {
        return Ok(Expr::All);
    }
    if opt(keyword("exists")).parse_next(input)?.is_some() {
        let inner = alt((in_parentheses, field.context(expected(A_FIELD))));
        return cut_err(inner).map(Expr::Exists).parse_next(input);
    }
    let field = field.context(expected(A_TERM)).parse_next(input)?;
    let kind = field.kind();
    let legal = operator.verify(|operator: &Operator| operator.suits(kind)).context(expected(operators(kind)));
    match cut_err(legal).parse_next(input)? {
        Operator::Compare(op) => {
            let (field, value) = values::single(field, input)?;
            Ok(Expr::Compare { field, op, value })
        }
        Operator::Like => {
            let glob = cut_err(text.context(expected("a pattern such as \"verifone-*\""))).parse_next(input)?;
            Ok(Expr::Like { field, glob: Glob::new(glob) })
        }
        Operator::In { negated } => values::membership(field, negated, input),
    }
}

fn fail<T>(wanted: &'static str) -> ModalResult<T> {
    let mut error = ContextError::new();
    error.push(expected(wanted));
    Err(ErrMode::Cut(error))
}

#[derive(Clone, Copy)]
enum Operator {
    Compare(Op),
    Like,
    In { negated: bool },
}

impl Operator {
    fn suits(self, kind: Kind) -> bool {
        let ordered = matches!(kind, Kind::Text | Kind::Version);
        match self {
            Self::Compare(Op::Eq | Op::Ne) => true,
            Self::Compare(_) => ordered || kind == Kind::Time,
            Self::Like => ordered,
            Self::In { .. } => kind != Kind::Time,
        }
    }
}

const fn operators(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Version => "one of = != < <= > >= ~ in, not in",
        Kind::Time => "one of = != < <= > >=",
        Kind::Id | Kind::Status => "one of = != in, not in",
    }
}

fn operator(input: &mut Input<'_>) -> ModalResult<Operator> {
    alt((
        symbol("!=").value(Operator::Compare(Op::Ne)),
        symbol("<=").value(Operator::Compare(Op::Le)),
        symbol(">=").value(Operator::Compare(Op::Ge)),
        symbol("=").value(Operator::Compare(Op::Eq)),
        symbol("<").value(Operator::Compare(Op::Lt)),
        symbol(">").value(Operator::Compare(Op::Gt)),
        symbol("~").value(Operator::Like),
        keyword("in").value(Operator::In { negated: false }),
        (keyword("not"), cut_err(keyword("in").context(expected("`in`")))).value(Operator::In { negated: true }),
    ))
    .parse_next(input)
}

fn in_parentheses(input: &mut Input<'_>) -> ModalResult<Field> {
    let close = symbol(")").context(expected("`)`"));
    preceded(symbol("("), cut_err(terminated(field.context(expected(A_FIELD)), close))).parse_next(input)
}

fn field(input: &mut Input<'_>) -> ModalResult<Field> {
    let key = take_while(1.., is_key_char).verify_map(|key: &str| match key {
        "id" => Some(Field::Id),
        "name" => Some(Field::Name),
        "site" => Some(Field::Site),
        "status" => Some(Field::Status),
        "last_seen" => Some(Field::LastSeen),
        "enrolled" => Some(Field::Enrolled),
        "hw" => Some(Field::Hw),
        "arch" => Some(Field::Arch),
        "tz" => Some(Field::Tz),
        "agent" => Some(Field::Agent),
        key if is_bare_label(key) => Some(Field::Label(key.to_owned())),
        _ => None,
    });
    alt((version_of, prefixed("label.", Field::Label), prefixed("attr.", Field::Attr), terminated(key, blanks)))
        .parse_next(input)
}

fn prefixed<'a>(prefix: &'static str, make: fn(String) -> Field) -> impl ModalParser<Input<'a>, Field, ContextError> {
    let bare = take_while(1.., is_key_char).map(str::to_owned);
    let key = alt((quoted, bare)).context(expected("a key"));
    preceded(prefix, cut_err(terminated(key, blanks))).map(make)
}

fn version_of(input: &mut Input<'_>) -> ModalResult<Field> {
    let product = text.verify_map(|name| name.parse::<Product>().ok()).context(expected("the name of a product"));
    let open = symbol("(").context(expected("`(` and the name of a product"));
    let close = symbol(")").context(expected("`)`"));
    preceded(keyword("version"), cut_err((open, product, close)))
        .map(|(_, product, _)| Field::Version(product))
        .parse_next(input)
}

/// A word or a quoted text, and the blanks behind it.
fn text(input: &mut Input<'_>) -> ModalResult<String> {
    let word = take_while(1.., is_word_char).map(str::to_owned);
    terminated(alt((quoted, word)), blanks).parse_next(input)
}

fn quoted(input: &mut Input<'_>) -> ModalResult<String> {
    let escaped =
        preceded('\\', cut_err(one_of(['"', '\\']).context(expected("a quote or a backslash after the backslash"))));
    // Control characters have no place in names, and databases refuse NUL.
    let plain = any.verify(|c: &char| *c != '"' && !c.is_control());
    let inside = repeat(0.., alt((escaped, plain))).fold(String::new, |mut text, c| {
        text.push(c);
        text
    });
    preceded('"', cut_err(terminated(inside, '"'.context(expected("a closing `\"`"))))).parse_next(input)
}

fn symbol<'a>(symbol: &'static str) -> impl ModalParser<Input<'a>, (), ContextError> {
    (symbol, blanks).void()
}

fn keyword<'a>(word: &'static str) -> impl ModalParser<Input<'a>, (), ContextError> {
    (take_while(1.., is_word_char).verify(move |found: &str| found == word), blanks).void()
}

fn blanks(input: &mut Input<'_>) -> ModalResult<()> {
    take_while(0.., |c: char| c.is_ascii_whitespace()).void().parse_next(input)
}
