//! The API's description says what the routers do, and changes only when somebody means it to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cos_escrow::http::document;
use cos_escrow::types::Code;
use serde_json::Value;

#[test]
fn the_document_is_the_one_of_the_snapshot() {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(snapshot(), written(&document())).unwrap();
    }
    let known = fs::read_to_string(snapshot()).unwrap();
    let differs = written(&document()) != known;
    assert!(!differs, "the API has changed; if that is meant: {REWRITE}");
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let described: BTreeSet<_> = operations(&document())
        .map(|(path, method, _)| (path, method))
        .collect();
    let registered: BTreeSet<_> = rust_files(&in_source("src/http"))
        .iter()
        // A witness is another service, and C2SP describes it.
        .filter(|file| !file.ends_with("witness.rs"))
        .flat_map(|file| routes(&fs::read_to_string(file).unwrap()))
        .collect();
    assert!(
        registered.len() > 30,
        "routes were not found: {registered:?}"
    );
    assert_eq!(described, registered);
}

#[test]
fn every_code_is_described_once() {
    let document = document();
    let listed = document["components"]["schemas"]["Code"]["enum"].clone();
    let words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(listed, serde_json::json!(words));
}

#[test]
fn every_code_belongs_to_an_operation() {
    let document = document();
    let mut used = BTreeSet::new();
    for (_, _, operation) in operations(&document) {
        for response in operation["responses"].as_object().unwrap().values() {
            for codes in ["x-codes", "x-line-codes"] {
                let codes = response[codes].as_array().into_iter().flatten();
                used.extend(codes.map(|code| code.as_str().unwrap().to_owned()));
            }
        }
    }
    let all: BTreeSet<_> = Code::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(used, all);
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_referred_to() {
    let document = document();
    let mut referred = BTreeSet::new();
    references(&document, &mut referred);
    for reference in &referred {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let reference = format!("#/components/schemas/{name}");
        assert!(referred.contains(&reference), "{name} is not used");
    }
}

#[test]
fn operations_have_names_of_their_own_and_their_paths_parameters() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, _, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{name} twice");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let declared: BTreeSet<_> = parameters
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| format!("{{{}}}", parameter["name"].as_str().unwrap()))
            .collect();
        let wanted: BTreeSet<_> = path
            .split('/')
            .filter(|piece| piece.starts_with('{'))
            .map(str::to_owned)
            .collect();
        assert_eq!(declared, wanted, "{path}");
    }
}

/// Path, method and operation of everything that is described.
fn operations(document: &Value) -> impl Iterator<Item = (String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap();
        methods
            .iter()
            .map(|(method, operation)| (path.clone(), method.clone(), operation))
    })
}

/// Path and method of every `.route("…", …)` in a source text.
fn routes(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (at, opening) in source.match_indices(".route(") {
        let call = until_closed(&source[at + opening.len()..]);
        let mut pieces = call.splitn(3, '"');
        let (Some(_), Some(path), Some(handlers)) = (pieces.next(), pieces.next(), pieces.next())
        else {
            panic!("a route without a path: {call}");
        };
        for method in ["get", "post", "put", "patch", "delete"] {
            for (at, _) in handlers.match_indices(&format!("{method}(")) {
                let before = handlers[..at].chars().next_back();
                if matches!(before, Some(' ' | '.')) {
                    found.push((path.replace("{*", "{"), method.to_owned()));
                }
            }
        }
    }
    found
}

/// The text up to the parenthesis that closes what was opened before it.
fn until_closed(text: &str) -> &str {
    let mut depth = 1;
    let end = text.find(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &text[..end.expect("calls are closed")]
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference.clone());
            }
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

pub(super) fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

fn written(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap();
    text.push('\n');
    text
}

fn snapshot() -> PathBuf {
    in_source("tests/snapshots/openapi.json")
}

fn in_source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const REWRITE: &str = "UPDATE_SNAPSHOTS=1 cargo test --test it openapi";
