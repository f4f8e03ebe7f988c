//! What the documents say about the code holds: the tests they name, the codes and defaults they list.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cos_escrow::cli::settings::Connections;
use cos_escrow::envelope::package::Package;
use cos_escrow::handover::Terms;
use cos_escrow::http::document;
use cos_escrow::meter::profile::Profiles;
use cos_escrow::types::Code;
use serde_json::json;

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let tests = test_names();
    assert!(tests.len() > 100, "tests were not found");
    let mut rows = 0;
    for cell in last_cells(&text("threat-model.md"), "test") {
        let named: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        let missing: Vec<_> = named
            .iter()
            .filter(|name| !tests.contains(**name))
            .collect();
        assert!(missing.is_empty(), "no such test: {missing:?}");
        assert!(
            !named.is_empty() || cell.starts_with("not yet: "),
            "neither a test nor what is missing: {cell}"
        );
        rows += 1;
    }
    assert!(rows > 30, "the tables were not found");
}

#[test]
fn the_table_of_codes_is_complete() {
    let readme = text("README.md");
    let described = document()["components"]["schemas"]["Code"]["description"].clone();
    for code in Code::ALL {
        // As the API's description has it: - `code` (status): title
        let mark = format!("- `{code}` (");
        let line = described.as_str().unwrap().lines();
        let line = line.filter_map(|line| line.strip_prefix(&mark)).next();
        let (status, title) = line.unwrap().split_once("): ").unwrap();
        let row = format!("| `{code}` | {status} | {title} |");
        assert!(readme.lines().any(|line| line == row), "no row {row}");
    }
}

#[test]
fn the_table_of_settings_has_the_defaults() {
    let readme = text("README.md");
    let defaults = [
        ("terms", json!(Terms::default())),
        ("limits", json!(Connections::default())),
    ];
    for (table, values) in defaults {
        for (name, value) in values.as_object().unwrap() {
            let row = format!("| `{table}.{name}` | {value} |");
            let there = readme.lines().any(|line| line.starts_with(&row));
            assert!(there, "no row in the README begins with {row}");
        }
    }
}

#[test]
fn the_package_of_the_readme_is_whole_and_its_meter_has_a_profile() {
    let readme = text("README.md");
    let blocks = readme.split("```json\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("```").next());
    let package = blocks.find(|block| block.contains("cos-escrow/package/1"));
    let package = Package::parse(package.unwrap().as_bytes()).unwrap();
    assert_eq!(package.gaps(), [] as [String; 0]);
    let make = package.meter.make.as_str();
    let profiles = Profiles::built_in();
    assert!(profiles.choose(make, "iec62056-21").is_some(), "{make}");
}

#[test]
fn the_architecture_is_short() {
    assert!(text("ARCHITECTURE.md").lines().count() <= 150);
}

/// The last cells of the tables whose last column has this head.
fn last_cells(markdown: &str, head: &str) -> Vec<String> {
    let mut cells = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        let Some(row) = line.strip_prefix('|') else {
            inside = false;
            continue;
        };
        let last = row.trim_end_matches('|').rsplit('|').next();
        let last = last.unwrap_or_default().trim();
        match inside {
            true if !last.starts_with("---") => cells.push(last.to_owned()),
            true => {}
            false => inside = last == head,
        }
    }
    cells
}

/// Names of all functions in the code that are tests.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "tests"].map(|folder| root.join(folder));
    for file in folders
        .iter()
        .flat_map(|folder| super::openapi::rust_files(folder))
    {
        let source = fs::read_to_string(file).unwrap();
        let mut is_test = false;
        for line in source.lines().map(str::trim) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let Some(function) = line.trim_start_matches("async ").strip_prefix("fn ") else {
                continue;
            };
            if is_test {
                names.extend(function.split('(').next().map(str::to_owned));
            }
            is_test = false;
        }
    }
    names
}

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}
