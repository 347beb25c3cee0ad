//! What holds for every operation, said in the document once and added to each: problems, entity tags, keys, pages.

use std::collections::BTreeSet;

use callboard_proto::{
    admin::{DEFAULT_PAGE, MAX_PAGE},
    problem::{Code, MEDIA_TYPE},
};
use utoipa::openapi::{
    Components, Content, Header, HttpMethod, KnownFormat, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Required,
    Response, Schema, SchemaFormat, Type,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    schema::ArrayItems,
};

use crate::http::etag::is_edited;

/// Adds it.
pub(super) struct Conventions;

impl utoipa::Modify for Conventions {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        link_items(components);
        let rest = "Something else is wrong, with the request or with the server; `code` says what.";
        components.responses.insert("Problem".to_owned(), problem(rest).into());
        for parameter in parameters() {
            components.parameters.insert(parameter_key(&parameter.name), parameter.into());
        }
        let mut used = BTreeSet::new();
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                parameters_of(path, &method, operation);
                bytes_of(operation);
                used.extend(responses_of(path, &method, operation));
            }
        }
        for status in used {
            components.responses.insert(format!("Problem{status}"), problem(&meaning(&status)).into());
        }
    }
}

/// The operations of a path.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// The codes of a status and what they say.
fn meaning(status: &str) -> String {
    let codes = Code::ALL.iter().map(|code| code.row()).filter(|(_, _, own)| own.to_string() == status);
    codes.map(|(code, title, _)| format!("`{code}`: {title}.")).collect::<Vec<_>>().join(" ")
}

fn problem(description: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    let mut response = Response::new(description);
    response.content.insert(MEDIA_TYPE.to_owned(), Content::new(Some(schema)).into());
    response
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn parameters() -> [Parameter; 3] {
    let header = |name: &str, schema: ObjectBuilder, said: &str| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(said))
            .schema(Some(schema))
            .build()
    };
    [
        header("If-None-Match", text(), "The `ETag` of an answer that the client has: 304 if it still is that one."),
        header(
            "If-Match",
            text(),
            "The `ETag` of the thing as the client has seen it: 412 if somebody has edited it since. What devices do \
             meanwhile does not count.",
        ),
        header(
            "Idempotency-Key",
            text().min_length(Some(16)).max_length(Some(128)).pattern(Some("^[!-~]+$")),
            "A random UUID of the client's, for this request alone: sent again within 24 hours, it is answered as it was \
             the first time, and not carried out again.",
        ),
    ]
}

/// A body that is taken as the bytes it is.
fn bytes_of(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    if let Some(RefOr::T(content)) = body.content.get_mut("application/octet-stream") {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        content.schema = Some(text().format(Some(format)).into());
    }
}

/// Names of components have no hyphens in all tools.
fn parameter_key(name: &str) -> String {
    name.replace('-', "")
}

fn parameters_of(path: &str, method: &HttpMethod, operation: &mut Operation) {
    let own = operation.parameters.get_or_insert_default();
    for parameter in own.iter_mut() {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Query
        {
            describe(parameter);
        }
    }
    let mut add =
        |name: &str| own.push(RefOr::Ref(Ref::new(format!("#/components/parameters/{}", parameter_key(name)))));
    match method {
        HttpMethod::Get if path != "/events/stream" => add("If-None-Match"),
        HttpMethod::Post if path != "/session" && path != "/rollouts/simulate" => add("Idempotency-Key"),
        _ => {}
    }
    if *method != HttpMethod::Get && is_edited(path) {
        add("If-Match");
    }
    if own.is_empty() {
        operation.parameters = None;
    }
}

/// Says of the parameters of pages what is the same everywhere.
fn describe(parameter: &mut Parameter) {
    match parameter.name.as_str() {
        "limit" => {
            let schema = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(1))
                .maximum(Some(MAX_PAGE))
                .default(Some(DEFAULT_PAGE.into()));
            parameter.schema = Some(schema.into());
            parameter.description = Some("Items of a page at most.".to_owned());
        }
        "after" => parameter.description = Some("`next` of the page before.".to_owned()),
        _ => {}
    }
}

/// Completes the answers; gives the statuses of those that are problems.
fn responses_of(path: &str, method: &HttpMethod, operation: &mut Operation) -> Vec<String> {
    let stream = path == "/events/stream";
    let (summary, secured) = (operation.summary.clone().unwrap_or_default(), operation.security.is_some());
    let responses = &mut operation.responses.responses;
    let mut problems: Vec<String> = responses.keys().filter(|status| status.as_str() >= "400").cloned().collect();
    problems.push("400".to_owned());
    if secured {
        problems.extend(["401".to_owned(), "403".to_owned()]);
    }
    if *method != HttpMethod::Get && is_edited(path) {
        problems.push("412".to_owned());
    }
    for (status, response) in responses.iter_mut() {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            let words = if status == "204" { "Done; there is no body." } else { summary.as_str() };
            words.clone_into(&mut response.description);
        }
        let tagged = (*method == HttpMethod::Get && !stream) || (is_edited(path) && status == "200");
        if tagged {
            response.headers.insert("ETag".to_owned(), Header::new(text()).into());
        }
    }
    if *method == HttpMethod::Get && !stream {
        let same = Response::new("It is what `If-None-Match` names; there is no body.");
        responses.insert("304".to_owned(), same.into());
    }
    for status in &problems {
        let named = Ref::from_response_name(format!("Problem{status}"));
        responses.insert(status.clone(), RefOr::Ref(named));
    }
    responses.insert("default".to_owned(), RefOr::Ref(Ref::from_response_name("Problem")));
    problems
}

/// A page's items are what their name says, and not a copy of it.
fn link_items(components: &mut Components) {
    let names: Vec<String> = components.schemas.keys().cloned().collect();
    for name in &names {
        let Some(item) = name.strip_prefix("Page_").filter(|item| names.iter().any(|name| name == item)) else {
            continue;
        };
        if let Some(RefOr::T(Schema::Object(page))) = components.schemas.get_mut(name)
            && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
        {
            items.items = ArrayItems::RefOrSchema(Box::new(RefOr::Ref(Ref::from_schema_name(item))));
        }
    }
}
