//! The synthetic events that the demo plays, and the packages, reads and registration records made of them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::exit::Failure;
use crate::envelope::package::Package;
use crate::envelope::read::Read;
use crate::types::{Mpid, RegistrationId, SupplyPoint, SupplyStartDate, Timestamp};

/// One change of supplier with the outcome that a correct service gives.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// What is special about it.
    pub scenario: String,
    /// The outcome: `RELEASE`, `RELEASE_PARTIAL`, `RELEASE_LATE`, `DENY:code`, `HOLD:code`.
    pub expect: String,
    /// Where.
    pub mpxn: SupplyPoint,
    /// Its id, which becomes the registration's.
    pub event_id: String,
    /// Supplies until the supply start date.
    pub loser: Mpid,
    /// Supplies from then on.
    pub gainer: Mpid,
    /// Asks for the package.
    pub requester: Mpid,
    /// From which date the gainer supplies.
    pub supply_start_date: SupplyStartDate,
    /// The instant of that date.
    pub effective_utc: Timestamp,
    /// When the registration is secured.
    pub gate_closure_utc: Timestamp,
    meter: Value,
    comms: Value,
    security: Value,
    cos_read: Value,
    head_end: String,
    protocol: String,
}

impl Event {
    /// Reads the data file: one event a line.
    pub fn read_all(text: &str) -> Result<Vec<Self>, Failure> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).map_err(Failure::failed))
            .collect()
    }

    /// The name of the registration that the event is about.
    pub fn registration_id(&self) -> RegistrationId {
        let short: String = self.event_id.chars().take(8).collect();
        let id = short.to_uppercase().parse();
        id.expect("event ids are UUIDs")
    }

    /// The meter's serial.
    pub fn serial(&self) -> &str {
        self.meter["msn"].as_str().unwrap_or_default()
    }

    /// The meter's make.
    pub fn make(&self) -> &str {
        self.meter["make_model"].as_str().unwrap_or_default()
    }

    /// The customer goes back: the same meter, the two suppliers the other way round, since yesterday.
    pub fn returned(&self, now: Timestamp) -> Result<Self, Failure> {
        let yesterday = now.before(std::time::Duration::from_secs(86_400));
        let start = SupplyStartDate::containing(yesterday).map_err(Failure::failed)?;
        Ok(Self {
            scenario: "normal".to_owned(),
            event_id: format!("back{}", self.event_id),
            loser: self.gainer,
            gainer: self.loser,
            requester: self.loser,
            supply_start_date: start,
            effective_utc: start.effective_at(),
            gate_closure_utc: start.gate_closure_at(),
            ..self.clone()
        })
    }

    /// Whether the meter speaks DLMS.
    pub fn is_dlms(&self) -> bool {
        self.security["suite"] == "dlms-0"
    }

    /// All import registers of the closing read together, in watt-hours.
    pub fn total_watt_hours(&self) -> u32 {
        let registers = self.cos_read["registers"].as_array();
        let values = registers.into_iter().flatten().filter_map(|register| {
            let text = register["value"].as_str()?;
            let (whole, tenths) = text.split_once('.').unwrap_or((text, "0"));
            Some(whole.parse::<u32>().ok()? * 1_000 + tenths.parse::<u32>().ok()? * 100)
        });
        values.sum()
    }

    /// The package that the losing supplier deposits.
    pub fn package(&self) -> Result<Package, Failure> {
        let meter = &self.meter;
        let comms = &self.comms;
        let package = json!({
            "format": "cos-escrow/package/1",
            "supply_point": self.mpxn,
            "supply_start_date": self.supply_start_date,
            "payment_mode": "credit",
            "meter": {
                "serial": meter["msn"], "make": meter["make_model"], "class": meter["class"],
                "outstation_id": meter["outstation_id"], "guid": meter["guid"],
                "installed": meter["installed"],
            },
            "comms": {
                "type": comms["type"], "method": comms["method"], "address": comms["ip"],
                "port": comms["port"], "apn": comms["apn"], "iccid": comms["iccid"],
                "imsi": comms["imsi"], "msisdn": comms["msisdn"], "baud": comms["baud"],
                "dial": comms["dial"], "provider": comms["provider"],
                "head_end": self.head_end, "protocol": self.protocol,
                "reachable_until": self.effective_utc.after(std::time::Duration::from_secs(30 * 86_400)),
            },
            "credentials": [self.credential()],
        });
        Package::parse(package.to_string().as_bytes()).map_err(Failure::failed)
    }

    fn credential(&self) -> Value {
        let security = &self.security;
        if self.is_dlms() {
            return json!({ "dlms": {
                "association": "management", "client_sap": security["client_sap"],
                "mechanism": security["hls_mechanism"], "suite": 0,
                "system_title": security["system_title"], "kek": security["kek"],
                "guek": security["guek"], "gak": security["gak"],
                "hls_secret": security["hls_secret"],
                "invocation_counter": security["invocation_counter"],
            }});
        }
        json!({ "password": {
            "levels": security["levels"], "pin": security["outstation_pin"],
        }})
    }

    /// The closing read that the losing supplier deposits; `off_by` thousandths more than its own for a disputed one.
    pub fn closing_read(&self, source: &str, off_by: u32) -> Result<Read, Failure> {
        let registers: Vec<Value> = self.cos_read["registers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|register| {
                let value = register["value"].as_str().unwrap_or("0");
                let value = match off_by {
                    0 => value.to_owned(),
                    more => format!("{}{more:02}", value),
                };
                let tpr = register["tpr"].as_str().filter(|tpr| !tpr.is_empty());
                json!({
                    "id": register["register"], "tpr": tpr, "quantity": register["quantity"],
                    "digits": register["digits"], "multiplier": register["multiplier"],
                    "value": value, "at": register["at"],
                })
            })
            .collect();
        let read = json!({
            "format": "cos-escrow/read/1",
            "supply_point": self.mpxn,
            "supply_start_date": self.supply_start_date,
            "meter_serial": self.meter["msn"],
            "type": self.cos_read["type"],
            "source": source,
            "registers": registers,
        });
        Read::parse(read.to_string().as_bytes()).map_err(Failure::failed)
    }

    /// The supply point with its last two digits swapped: a typing error that the check digit does not catch.
    pub fn swapped(&self) -> Option<SupplyPoint> {
        let digits = self.mpxn.as_str();
        let (body, last) = digits.split_at(digits.len() - 2);
        let swapped: String = last.chars().rev().collect();
        format!("{body}{swapped}").parse().ok()
    }

    /// A record as the real feed has it: the secured one names no supplier.
    pub fn css(&self, kind: &str, status: &str, at: Timestamp) -> Value {
        css(
            (&self.mpxn, &self.registration_id()),
            (kind, status),
            at,
            match kind {
                "RegistrationPendingNotification" => json!({
                    "supplierMpid": self.gainer,
                    "supplyStartDate": self.supply_start_date,
                    "erroneousSwitchResolutionInd": self.scenario == "erroneous_switch_return",
                }),
                _ => json!({ "registrationActiveDate": self.effective_utc }),
            },
        )
    }
}

/// A CSS event about a registration.
pub fn css(
    (mpxn, registration): (&SupplyPoint, &RegistrationId),
    (kind, status): (&str, &str),
    at: Timestamp,
    mut data: Value,
) -> Value {
    data["registrationStatus"] = json!(status);
    data["registrationId"] = json!(registration);
    data["mpxn"] = json!(mpxn);
    json!({
        "eventId": format!("{registration}-{kind}-{status}"),
        "eventType": kind,
        "eventStatus": "Ok",
        "eventDate": at,
        "data": data,
    })
}
