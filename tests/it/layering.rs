//! Modules use only modules of a lower layer, so no import cycle can form; and each outside crate stays in its place.

use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: &[&[&str]] = &[
    &["types"],
    &["envelope", "tlog", "dlms", "iec62056_21", "identity"],
    &["policy", "handover"],
    &["lock"],
    &["store", "registry", "tls", "client", "custody", "witness"],
    &["service", "meter"],
    &["http"],
    &["cli"],
];

const HOMES: &[(&str, &[&str])] = &[
    ("aes_gcm", &["envelope", "dlms"]),
    ("axum", &["http"]),
    ("cedar_policy", &["policy"]),
    ("clap", &["cli"]),
    ("dlms_cosem_rs", &["meter", "dlms"]),
    ("hpke", &["envelope"]),
    ("hyper", &["client", "http", "witness"]),
    ("hyper_util", &["client", "http", "witness"]),
    ("indicatif", &["cli"]),
    ("ml_kem", &["tls"]),
    ("rcgen", &["identity"]),
    ("rustls", &["tls", "http", "client", "witness"]),
    ("sqlx", &["store", "meter"]),
    ("x509_parser", &["identity"]),
    (
        "tokio",
        &[
            "client", "http", "meter", "service", "store", "tls", "witness", "cli",
        ],
    ),
];

#[test]
fn modules_only_use_lower_layers() {
    let wrong: Vec<_> = uses("crate")
        .filter(|(user, used, _)| layer(user) <= layer(used) && user != used)
        .collect();
    assert!(wrong.is_empty(), "upward or sideways use: {wrong:#?}");
}

#[test]
fn outside_crates_stay_home() {
    for (krate, homes) in HOMES {
        let wrong: Vec<_> = uses(krate)
            .filter(|(user, ..)| !homes.contains(&user.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{krate} belongs in {homes:?}: {wrong:#?}");
    }
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|l| l.contains(&module))
        .unwrap_or_else(|| panic!("`{module}` has no layer"))
}

/// Every `root::name` in a module's code: the module, the name, the place.
fn uses(root: &str) -> impl Iterator<Item = (String, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in rust_files(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy()
            .into_owned();
        if module.ends_with(".rs") {
            continue; // `lib.rs` and `main.rs` hold no code of their own.
        }
        for (n, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (at, _) in code.match_indices(&format!("{root}::")) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let name = code[at + root.len() + 2..]
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next();
                let place = format!("{}:{}", inside.display(), n + 1);
                found.push((module.clone(), name.unwrap_or_default().to_owned(), place));
            }
        }
    }
    found.into_iter()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
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
