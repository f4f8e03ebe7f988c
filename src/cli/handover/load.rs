//! What is to be deposited: a package and a read, validated before anything is sent.

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::files;
use crate::client::ClientError;
use crate::envelope::MeterMake;
use crate::envelope::package::Package;
use crate::envelope::read::Read;
use crate::types::{HandoverId, MeterSerial, SupplyPoint};

/// A package, a read, or both, for one meter.
pub(super) struct Load {
    pub(super) supply_point: SupplyPoint,
    serial: MeterSerial,
    pub(super) package: Option<Package>,
    pub(super) read: Option<Read>,
}

/// A record of a batch: `{"handover":"ho_…","package":{…},"read":{…}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    handover: Option<HandoverId>,
    #[serde(borrow)]
    package: Option<&'a RawValue>,
    #[serde(borrow)]
    read: Option<&'a RawValue>,
}

impl Load {
    /// Reads the files that are named.
    pub(super) fn read(package: Option<&Path>, read: Option<&Path>) -> Result<Self, Failure> {
        let text = |path: Option<&Path>| path.map(files::read).transpose();
        let (package_text, read_text) = (text(package)?, text(read)?);
        Self::parse(
            package_text.as_ref().map(|text| text.as_slice()),
            read_text.as_ref().map(|text| text.as_slice()),
        )
        .map_err(|message| Failure::new(Exit::Refused, message))
    }

    /// Reads a record of a batch: for which handover, and what. Errors repeat nothing of the record.
    pub(super) fn record(line: &[u8]) -> Result<(Option<HandoverId>, Self), ClientError> {
        let record: Record<'_> = serde_json::from_slice(line).map_err(|error| {
            let column = error.column();
            ClientError::Local(format!("not a record of a deposit, at column {column}"))
        })?;
        let json = |raw: Option<&'_ RawValue>| raw.map(|raw| raw.get().as_bytes().to_vec());
        let (package, read) = (
            json(record.package).map(zeroize::Zeroizing::new),
            json(record.read).map(zeroize::Zeroizing::new),
        );
        let load = Self::parse(
            package.as_ref().map(|json| json.as_slice()),
            read.as_ref().map(|json| json.as_slice()),
        );
        Ok((record.handover, load.map_err(ClientError::Local)?))
    }

    fn parse(package: Option<&[u8]>, read: Option<&[u8]>) -> Result<Self, String> {
        let package = package.map(Package::parse).transpose();
        let package = package.map_err(|error| format!("package: {error}"))?;
        let read = read.map(Read::parse).transpose();
        let read = read.map_err(|error| format!("read: {error}"))?;
        let of_package = (package.iter()).map(|p| (&p.supply_point, &p.meter.serial));
        let of_read = (read.iter()).map(|r| (&r.supply_point, &r.meter_serial));
        let mut subjects = of_package.chain(of_read);
        let (supply_point, serial) = subjects.next().ok_or("neither a package nor a read")?;
        if subjects.any(|other| other != (supply_point, serial)) {
            return Err("package and read are for different meters".to_owned());
        }
        Ok(Self {
            supply_point: supply_point.clone(),
            serial: serial.clone(),
            package,
            read,
        })
    }

    pub(super) fn make(&self) -> MeterMake {
        let make = self.package.as_ref().map(|package| &package.meter.make);
        make.cloned().unwrap_or_default()
    }

    /// What would be deposited, without its secrets.
    pub(super) fn outline(&self, handover: Option<HandoverId>) -> Value {
        let package = self.package.as_ref();
        let read = self.read.as_ref();
        let inventory = package.map(Package::inventory);
        let components = [package.map(|_| "credentials"), read.map(|_| "read")];
        let components: Vec<_> = components.into_iter().flatten().collect();
        json!({
            "handover": handover,
            "supply_point": self.supply_point,
            "meter_serial": self.serial,
            "components": components,
            "fields": inventory.iter().flat_map(|i| i.names()).collect::<Vec<_>>(),
            "gaps": package.map(Package::gaps).unwrap_or_default(),
            "warnings": package.map(Package::warnings).unwrap_or_default(),
            "registers": read.map(|read| read.registers().len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: &str = r#"{"format":"cos-escrow/package/1","supply_point":"9693016118873","meter":{"serial":"E19B762798"},"comms":{},"credentials":[{"password":{"levels":[{"level":1,"password":"NB6ZHGHW"}]}}]}"#;
    const READ: &str = r#"{"format":"cos-escrow/read/1","supply_point":"9693016118873","meter_serial":"E19B762798","type":"D","registers":[{"id":"01","value":"1.5","at":"2025-10-18T23:00:00.000Z"}]}"#;

    #[test]
    fn an_outline_names_what_is_there_and_shows_no_secret() {
        let load = Load::parse(Some(PACKAGE.as_bytes()), Some(READ.as_bytes())).unwrap();
        let outline = load.outline(None);
        assert_eq!(outline["components"], json!(["credentials", "read"]));
        assert_eq!(outline["meter_serial"], "E19B762798");
        assert!(!outline.to_string().contains("NB6ZHGHW"));
        let gaps = outline["gaps"].to_string();
        assert!(gaps.contains("level_3"), "{gaps}");
    }

    #[test]
    fn package_and_read_are_for_one_meter() {
        let other = READ.replace("E19B762798", "E19B762799");
        assert!(Load::parse(Some(PACKAGE.as_bytes()), Some(other.as_bytes())).is_err());
        assert!(Load::parse(None, None).is_err());
    }

    #[test]
    fn a_record_that_does_not_read_is_not_repeated() {
        let line = format!(r#"{{"package":{PACKAGE},"SECRET":1}}"#);
        let error = Load::record(line.as_bytes()).err().unwrap().to_string();
        assert!(!error.contains("SECRET"), "{error}");
        let wrong = PACKAGE.replace("NB6ZHGHW", "NB6\\u0000");
        let line = format!(r#"{{"package":{wrong}}}"#);
        let error = Load::record(line.as_bytes()).err().unwrap().to_string();
        assert!(!error.contains("NB6"), "{error}");
    }
}
