//! The right sides: each kind of field reads its own.

use callboard_proto::{ids::DeviceId, time::Timestamp, version::Version};
use winnow::{
    combinator::{alt, cut_err, separated, terminated},
    error::ContextError,
    prelude::*,
    token::{one_of, take_while},
};

use super::{
    super::{Ago, Expr, Field, Kind, MAX_VALUES, TimeUnit, TimeValue, Value},
    Input, blanks, expected, fail, is_word_char, keyword, symbol, text,
};
use crate::device::Connectivity;

/// One value. `id = till-1` means the name.
pub(super) fn single(field: Field, input: &mut Input<'_>) -> ModalResult<(Field, Value)> {
    let value = cut_err(value(field.kind())).parse_next(input)?;
    let field = if field == Field::Id && matches!(value, Value::Text(_)) { Field::Name } else { field };
    Ok((field, value))
}

/// The list of an `in`.
pub(super) fn membership(field: Field, negated: bool, input: &mut Input<'_>) -> ModalResult<Expr> {
    let open = symbol("(").context(expected("`(` and a list of values"));
    let close = symbol(")").context(expected("`,` or `)`"));
    let list = separated(1.., cut_err(value(field.kind())), symbol(","));
    let values: Vec<Value> = cut_err((open, list, close)).map(|(_, values, _)| values).parse_next(input)?;
    input.state.values += values.len();
    if input.state.values > MAX_VALUES {
        return fail("at most 512 values in all lists");
    }
    if field != Field::Id {
        return Ok(Expr::In { field, values, negated });
    }
    // Ids and names may stand in one list, but compare with different fields.
    let (ids, names): (Vec<Value>, Vec<Value>) = values.into_iter().partition(|value| matches!(value, Value::Id(_)));
    let parts = [(Field::Id, ids), (Field::Name, names)].into_iter().filter(|(_, values)| !values.is_empty());
    let parts = parts.map(|(field, values)| Expr::In { field, values, negated });
    Ok(if negated { Expr::and(parts) } else { Expr::or(parts) })
}

fn value<'a>(kind: Kind) -> impl ModalParser<Input<'a>, Value, ContextError> {
    move |input: &mut Input<'a>| match kind {
        Kind::Id => text.map(id_or_name).context(expected("a device id or name")).parse_next(input),
        Kind::Text => {
            text.map(Value::Text).context(expected("a value: a word, or text in double quotes")).parse_next(input)
        }
        Kind::Version => text
            .verify_map(|text| text.parse::<Version>().ok().map(Value::Version))
            .context(expected("a version such as 2.2.0"))
            .parse_next(input),
        Kind::Status => text
            .verify_map(|text| Connectivity::ALL.into_iter().find(|status| status.as_str() == text).map(Value::Status))
            .context(expected("one of unknown, online, offline, abandoned"))
            .parse_next(input),
        Kind::Time => alt((ago.map(TimeValue::Ago), instant.map(TimeValue::At)))
            .map(Value::Time)
            .context(expected("a time such as 2026-11-23T02:00:00Z or 24h ago"))
            .parse_next(input),
    }
}

fn id_or_name(text: String) -> Value {
    match text.parse::<DeviceId>() {
        Ok(id) => Value::Id(id),
        Err(_) => Value::Text(text),
    }
}

fn instant(input: &mut Input<'_>) -> ModalResult<Timestamp> {
    text.verify_map(|text| text.parse().ok()).parse_next(input)
}

fn ago(input: &mut Input<'_>) -> ModalResult<Ago> {
    let count = take_while(1..=9, |c: char| c.is_ascii_digit()).parse_to::<u32>();
    let unit = one_of(['s', 'm', 'h', 'd', 'w']).map(|unit| match unit {
        's' => TimeUnit::Second,
        'm' => TimeUnit::Minute,
        'h' => TimeUnit::Hour,
        'd' => TimeUnit::Day,
        _ => TimeUnit::Week,
    });
    let end_of_word = winnow::combinator::not(one_of(is_word_char));
    let age = (terminated(count, blanks), terminated(unit, (end_of_word, blanks)));
    let word = cut_err(keyword("ago").context(expected("`ago`")));
    terminated(age, word).map(|(count, unit)| Ago { count, unit }).parse_next(input)
}
