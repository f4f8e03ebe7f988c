//! Tests: packages are read strictly, refused by the place that is wrong, and written in one form.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A package with every field set.
fn full() -> Value {
    json!({
        "format": "cos-escrow/package/1",
        "supply_point": "9693016118873",
        "supply_start_date": "2025-10-19",
        "payment_mode": "prepayment",
        "meter": {
            "serial": "E19B762798", "make": "EDMI Mk10A", "class": "RCAMR", "outstation_id": "E19B762798",
            "guid": "F0:F3:AD:6C:DF:4E:6F:76", "installed": "2019-11-28",
            "device_name": "EDM0000000E19B76", "firmware": "2.31"
        },
        "comms": {
            "type": "IP", "method": "GS", "address": "10.31.22.221", "port": 8080, "apn": "smart.example",
            "iccid": "8944106393601680724", "imsi": "001019274574098", "msisdn": "003459010858854815",
            "baud": 9600, "dial": "I", "provider": "NETC", "head_end": "zchl-hes-1", "protocol": "dlms-cosem",
            "reachable_until": "2025-11-18T00:00:00.000Z"
        },
        "credentials": [
            { "dlms": {
                "association": "management", "client_sap": 1, "mechanism": 5, "suite": 0,
                "system_title": "454C535B1C104119", "kek": KEY, "guek": KEY, "gak": KEY, "gbek": KEY,
                "hls_secret": "00FF", "invocation_counter": 268_004, "broadcast_counter": 7
            } },
            { "password": {
                "levels": [
                    { "level": 1, "user": "reader", "password": "NB6ZHGHW" },
                    { "level": 2, "password": "a\"b\\c~" },
                    { "level": 3, "password": "6VBNW7MC804S" }
                ],
                "reader_password": "r", "pin": "303", "encryption_key": "k"
            } }
        ]
    })
}

const KEY: &str = "B31081157F817ADF1BE99C1DFD0BE23C";

fn parse(value: &Value) -> Result<Package, ContentError> {
    Package::parse(&serde_json::to_vec(value).unwrap())
}

/// The full package with one value replaced, or taken away if `None`.
fn changed(pointer: &str, to: Option<Value>) -> Value {
    let mut value = full();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Object(object) => match to {
            Some(to) => drop(object.insert(name.to_owned(), to)),
            None => drop(object.remove(name)),
        },
        Value::Array(array) => match to {
            Some(to) => array[name.parse::<usize>().unwrap()] = to,
            None => drop(array.remove(name.parse().unwrap())),
        },
        _ => panic!("`{parent}` has no members"),
    }
    value
}

#[test]
fn the_canonical_form_is_rfc_8785_and_reads_back() {
    let package = parse(&full()).unwrap();
    let canonical = package.to_json();
    let other_implementation = serde_json_canonicalizer::to_vec(&full()).unwrap();
    assert_eq!(
        str::from_utf8(canonical.expose()),
        str::from_utf8(&other_implementation)
    );
    let again = Package::parse(canonical.expose()).unwrap();
    assert_eq!(again.to_json().expose(), canonical.expose());
}

#[test]
fn the_least_package_is_accepted_and_its_gaps_are_named() {
    let package = parse(&json!({
        "format": "cos-escrow/package/1", "supply_point": "9693016118873",
        "meter": { "serial": "1", "guid": null }, "comms": {}, "credentials": []
    }))
    .unwrap();
    assert_eq!(
        package.gaps(),
        ["comms.address", "comms.port", "credentials"]
    );
    assert_eq!(package.inventory().names().count(), 0);
}

#[test]
fn the_inventory_names_what_is_there() {
    let package = parse(&full()).unwrap();
    let inventory = package.inventory();
    for name in [
        "comms.address",
        "dlms.guek",
        "password.level_3",
        "meter.guid",
        "payment_mode",
    ] {
        assert!(inventory.has(name), "{name}");
    }
    assert_eq!(package.gaps(), [""; 0]);
    let less = parse(&changed("/credentials/1/password/pin", None)).unwrap();
    assert!(!less.inventory().has("password.pin"));
}

#[test]
fn a_missing_key_is_a_gap_of_its_own_credential() {
    let gaps = |value| parse(&value).unwrap().gaps();
    assert_eq!(
        gaps(changed("/credentials/1/password/levels/2", None)),
        ["credentials[1].password.level_3"]
    );
    assert_eq!(
        gaps(changed("/credentials/0/dlms/gak", None)),
        ["credentials[0].dlms.gak"]
    );
}

#[test]
fn a_bad_field_is_named_by_its_path_and_never_by_its_value() {
    let bad = "SECRET-VALUE";
    for (pointer, path, problem) in [
        ("/format", "format", Problem::Invalid),
        ("/supply_point", "supply_point", Problem::Invalid),
        ("/supply_start_date", "supply_start_date", Problem::Invalid),
        ("/payment_mode", "payment_mode", Problem::Invalid),
        ("/meter/guid", "meter.guid", Problem::Invalid),
        ("/meter/installed", "meter.installed", Problem::Invalid),
        ("/comms/port", "comms.port", Problem::Invalid),
        ("/comms/iccid", "comms.iccid", Problem::Invalid),
        (
            "/comms/reachable_until",
            "comms.reachable_until",
            Problem::Invalid,
        ),
        ("/comms/colour", "comms", Problem::Unknown),
        ("/colour", ".", Problem::Unknown),
        ("/credentials/0", "credentials[0]", Problem::Invalid),
        (
            "/credentials/0/dlms/guek",
            "credentials[0].dlms.guek",
            Problem::Invalid,
        ),
        (
            "/credentials/0/dlms/suite",
            "credentials[0].dlms.suite",
            Problem::Invalid,
        ),
        (
            "/credentials/0/dlms/SECRET-VALUE",
            "credentials[0].dlms",
            Problem::Unknown,
        ),
        (
            "/credentials/1/password/pin/",
            "credentials[1].password.pin",
            Problem::Invalid,
        ),
        (
            "/credentials/1/password/levels/0/level",
            "credentials[1].password.levels[0].level",
            Problem::Invalid,
        ),
    ] {
        let value = match pointer.strip_suffix('/') {
            Some(pointer) => changed(pointer, Some(json!([bad]))),
            None => changed(pointer, Some(json!(bad))),
        };
        let error = parse(&value).unwrap_err();
        assert_eq!(
            (error.path.as_str(), error.problem),
            (path, problem),
            "{pointer}"
        );
        assert!(!format!("{error} {error:?}").contains("SECRET"), "{error}");
    }
}

#[test]
fn an_unknown_name_is_not_repeated() {
    for (pointer, path) in [
        ("/comms/SECRET.a.b", "comms"),
        (
            "/credentials/1/password/levels/0/SECRET[1].c",
            "credentials[1].password.levels[0]",
        ),
    ] {
        let error = parse(&changed(pointer, Some(json!(1)))).unwrap_err();
        assert_eq!(error, ContentError::at(path, Problem::Unknown));
    }
    let variant = changed("/credentials/0", Some(json!({ "SECRET": {} })));
    let error = parse(&variant).unwrap_err();
    assert_eq!(error.problem, Problem::Invalid);
    assert!(!error.path.contains("SECRET"), "{error}");
}

#[test]
fn a_missing_field_is_named() {
    for (pointer, path) in [
        ("/format", "format"),
        ("/meter", "meter"),
        ("/meter/serial", "meter.serial"),
        ("/credentials", "credentials"),
        ("/credentials/0/dlms/suite", "credentials[0].dlms.suite"),
        (
            "/credentials/1/password/levels/0/password",
            "credentials[1].password.levels[0].password",
        ),
    ] {
        let error = parse(&changed(pointer, None)).unwrap_err();
        let expected = ContentError::at(path, Problem::Missing);
        assert_eq!(error, expected, "{pointer}");
    }
}

#[test]
fn rules_beyond_one_field_hold() {
    let password = |level: u8| json!({ "level": level, "password": "p" });
    for (pointer, to, path, problem) in [
        (
            "/credentials/0/dlms/suite",
            json!(3),
            "credentials[0].dlms.suite",
            Problem::Invalid,
        ),
        (
            "/credentials/0/dlms/suite",
            json!(2),
            "credentials[0].dlms.kek",
            Problem::Invalid,
        ),
        (
            "/credentials/0/dlms/gak",
            json!("00".repeat(24)),
            "credentials[0].dlms.gak",
            Problem::Invalid,
        ),
        (
            "/credentials/0/dlms/mechanism",
            json!(8),
            "credentials[0].dlms.mechanism",
            Problem::Invalid,
        ),
        (
            "/credentials/1/password/levels",
            json!([password(2), password(2)]),
            "credentials[1].password.levels",
            Problem::Repeated,
        ),
        (
            "/credentials/1/password/levels",
            json!([password(4)]),
            "credentials[1].password.levels[0].level",
            Problem::Invalid,
        ),
        ("/comms/port", json!(0), "comms.port", Problem::Invalid),
        (
            "/comms/iccid",
            json!("12345678901234567"),
            "comms.iccid",
            Problem::Invalid,
        ),
    ] {
        let error = parse(&changed(pointer, Some(to))).unwrap_err();
        assert_eq!(error, ContentError::at(path, problem), "{pointer}");
    }
}

#[test]
fn a_repeated_field_or_text_after_the_end_is_refused() {
    let json = full().to_string();
    let repeated = json.replacen("\"pin\":", "\"pin\":\"1\",\"pin\":", 1);
    let error = Package::parse(repeated.as_bytes()).unwrap_err();
    assert_eq!(error.problem, Problem::Repeated);
    let error = Package::parse(format!("{json} x").as_bytes()).unwrap_err();
    assert_eq!(error, ContentError::at(".", Problem::Syntax));
    let error = Package::parse(&[b' '; MAX_BYTES + 1]).unwrap_err();
    assert_eq!(error, ContentError::at(".", Problem::TooLarge));
}

#[test]
fn levels_in_any_order_are_written_ascending() {
    let level = |n: u8| json!({ "level": n, "password": "p", "user": "" });
    let levels = json!([level(3), level(1)]);
    let package = parse(&changed("/credentials/1/password/levels", Some(levels))).unwrap();
    let written: Value = serde_json::from_slice(package.to_json().expose()).unwrap();
    assert_eq!(
        written.pointer("/credentials/1/password/levels").unwrap(),
        &json!([{ "level": 1, "password": "p" }, { "level": 3, "password": "p" }])
    );
}

#[test]
fn a_wrong_luhn_digit_is_warned_of_and_allowed() {
    let package = parse(&changed("/comms/iccid", Some(json!("8944106393601680725")))).unwrap();
    assert_eq!(package.warnings().len(), 1);
    assert_eq!(parse(&full()).unwrap().warnings().len(), 0);
}

#[test]
fn a_package_does_not_print_its_secrets() {
    let printed = format!("{:?}", parse(&full()).unwrap());
    for secret in [
        KEY,
        "NB6ZHGHW",
        "10.31.22.221",
        "8944106393601680724",
        "smart.example",
    ] {
        assert!(!printed.contains(secret), "{secret}");
    }
}

proptest! {
    #[test]
    fn reading_never_panics(text: String, at in 0..1500_usize, byte: u8) {
        let _ = Package::parse(text.as_bytes());
        let mut json = full().to_string().into_bytes();
        let at = at % json.len();
        json[at] = byte;
        let _ = Package::parse(&json);
    }

    #[test]
    fn any_text_that_no_meter_takes_is_no_password(password in "[ -~]{0,4}[^ -~][ -~]{0,4}") {
        for field in ["levels/0/password", "levels/0/user", "reader_password", "pin", "encryption_key"] {
            let value = changed(&format!("/credentials/1/password/{field}"), Some(json!(password)));
            prop_assert!(parse(&value).is_err(), "{field}");
        }
    }

    #[test]
    fn any_password_survives(password in "[ -~]{1,16}") {
        let value = changed("/credentials/1/password/levels/0/password", Some(json!(password)));
        let package = parse(&value).unwrap();
        let written: Value = serde_json::from_slice(package.to_json().expose()).unwrap();
        let read = written.pointer("/credentials/1/password/levels/0/password").unwrap();
        prop_assert_eq!(read.as_str().unwrap(), password);
    }
}
