//! Registration sources: lines of bytes become events, each line by itself.

mod css;
mod snapshot;

use crate::handover::RegistrationEvent;
use crate::types::Code;

/// The forms in which registrations come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// One CSS event a line, as JSON.
    Css,
    /// A CSV copy of the registration data, with a header row.
    Snapshot,
}

/// A record that cannot be read, and why; the others are not touched by it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct RecordError {
    /// The stable code.
    pub code: Code,
    /// What is wrong, naming the field and never a value.
    pub message: String,
}

impl RecordError {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: Code::RegistrationInvalid,
            message: message.into(),
        }
    }
}

/// Reads records line by line, each numbered from one as an editor numbers them.
pub struct Reader {
    format: Format,
    header: Option<snapshot::Columns>,
    line: u64,
}

impl Reader {
    /// A reader at the first line.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            header: None,
            line: 0,
        }
    }

    /// Reads the next line: its number and what it says; none for an empty line or a header row.
    pub fn read(&mut self, line: &[u8]) -> Option<(u64, Result<RegistrationEvent, RecordError>)> {
        self.line += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        let result = if line.len() > MAX_LINE {
            Err(RecordError {
                code: Code::TooLarge,
                message: format!("a record has at most {MAX_LINE} bytes"),
            })
        } else {
            match (self.format, &self.header) {
                (Format::Css, _) => css::read(line),
                (Format::Snapshot, Some(columns)) => snapshot::read(line, columns),
                (Format::Snapshot, None) => match snapshot::Columns::read(line) {
                    Ok(columns) => {
                        self.header = Some(columns);
                        return None;
                    }
                    Err(error) => Err(error),
                },
            }
        };
        Some((self.line, result))
    }
}

/// Bytes of one record.
pub const MAX_LINE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::Change;

    fn css(line: &str) -> Result<RegistrationEvent, RecordError> {
        Reader::new(Format::Css).read(line.as_bytes()).unwrap().1
    }

    const SECURED: &str = r#"{"eventId":"e1","eventType":"RegistrationSecuredActiveNotification","eventStatus":"Ok","eventDate":"2025-10-18T16:00:00Z","correlationId":"c","updatedProperties":[],"data":{"registrationStatus":"SecuredActive","fuelType":"E","registrationId":"4C3619B4","registrationActiveDate":"2025-10-18T23:00:00Z","mpxn":"9693016118873"}}"#;

    #[test]
    fn a_secured_event_needs_no_supplier() {
        let event = css(SECURED).unwrap();
        let expected = Change::Secured {
            supplier: None,
            supply_start_date: Some("2025-10-19".parse().unwrap()),
        };
        assert_eq!(event.change, expected);
        assert_eq!(event.registration_id.as_str(), "4C3619B4");
    }

    #[test]
    fn a_pending_event_names_supplier_and_start() {
        let line = SECURED
            .replace("RegistrationSecuredActiveNotification", "RegistrationPendingNotification")
            .replace(
                r#""registrationActiveDate":"2025-10-18T23:00:00Z""#,
                r#""supplyStartDate":"2025-10-19","supplierMpid":"ZHTL","erroneousSwitchResolutionInd":true"#,
            );
        let expected = Change::Pending {
            supplier: "ZHTL".parse().unwrap(),
            supply_start_date: "2025-10-19".parse().unwrap(),
            erroneous_return: true,
        };
        assert_eq!(css(&line).unwrap().change, expected);
    }

    #[test]
    fn a_cancellation_tells_an_objection_from_a_withdrawal() {
        for (status, change) in [
            ("Rejected", Change::Rejected),
            ("Cancelled", Change::Cancelled),
        ] {
            let line = SECURED
                .replace(
                    "RegistrationSecuredActiveNotification",
                    "RegistrationCancelledNotification",
                )
                .replace("\"SecuredActive\"", &format!("\"{status}\""));
            assert_eq!(css(&line).unwrap().change, change);
        }
    }

    #[test]
    fn a_bad_record_has_a_code_and_says_where_but_not_what() {
        for (line, code) in [
            ("{".to_owned(), Code::RegistrationInvalid),
            (
                SECURED.replace("9693016118873", "9693016118874"),
                Code::CheckDigit,
            ),
            (
                SECURED.replace("9693016118873", "96930"),
                Code::MalformedSupplyPoint,
            ),
            (
                SECURED.replace("\"4C3619B4\"", "7"),
                Code::RegistrationInvalid,
            ),
            (
                SECURED.replace("2025-10-18T23", "2025-13-18T23"),
                Code::RegistrationInvalid,
            ),
            (
                SECURED.replace("RegistrationSecuredActive", "Unheard"),
                Code::RegistrationInvalid,
            ),
        ] {
            let error = css(&line).unwrap_err();
            assert_eq!(error.code, code, "{line}");
            assert!(!error.message.contains("96930"), "{}", error.message);
        }
    }

    #[test]
    fn a_snapshot_is_read_by_its_header() {
        let mut reader = Reader::new(Format::Snapshot);
        let header = b"mpxn,registration_id,supplier_mpid,supply_start_date,supply_end_date,status,meter_serial";
        assert!(reader.read(header).is_none());
        let row = b"9693016118873,P1,ZCHL,2020-01-01,,SecuredActive,E19B762798\r\n";
        let (line, event) = reader.read(row).unwrap();
        let event = event.unwrap();
        assert_eq!(line, 2);
        assert!(matches!(
            event.change,
            Change::Snapshot {
                supply_end_date: None,
                meter: Some(_),
                ..
            }
        ));
        let (line, error) = reader.read(b"9693016118873,P1,ZCHL").unwrap();
        assert_eq!(
            (line, error.unwrap_err().code),
            (3, Code::RegistrationInvalid)
        );
    }

    #[test]
    fn a_record_that_is_too_long_is_not_parsed() {
        let error = css(&"x".repeat(MAX_LINE + 1)).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line: Vec<u8>) {
            let _ = Reader::new(Format::Css).read(&line);
            let mut reader = Reader::new(Format::Snapshot);
            let _ = reader.read(b"registration_id,mpxn,supplier_mpid,supply_start_date");
            let _ = reader.read(&line);
        }
    }
}
