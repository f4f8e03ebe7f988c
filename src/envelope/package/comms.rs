//! How a meter is reached.

use std::num::NonZeroU16;

use serde::Deserialize;

use crate::envelope::json::ObjectWriter;
use crate::types::Timestamp;

use super::{SecretDigits, SecretText, Text};

/// How a meter is reached. Every field may be unknown.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Comms {
    /// What kind of address it is, by the industry's code, such as `IP`.
    #[serde(rename = "type")]
    pub kind: Option<Text<1, 16>>,
    /// Over what it is reached, by the industry's code, such as `GS`.
    pub method: Option<Text<1, 16>>,
    /// IP address or host name.
    pub address: Option<SecretText<1, 253>>,
    /// TCP port.
    pub port: Option<NonZeroU16>,
    /// Access point name of the mobile network.
    pub apn: Option<SecretText<1, 100>>,
    /// Number of the SIM card; its Luhn digit is only warned of, for cards without one exist.
    pub iccid: Option<SecretDigits<18, 22>>,
    /// Number of the subscriber.
    pub imsi: Option<SecretDigits<6, 15>>,
    /// Telephone number, digits only.
    pub msisdn: Option<SecretDigits<5, 20>>,
    /// Speed of the line.
    pub baud: Option<u32>,
    /// How it dials, by the industry's code.
    pub dial: Option<Text<1, 16>>,
    /// Who provides the SIM.
    pub provider: Option<Text<1, 64>>,
    /// Until when the loser keeps the meter reachable.
    pub reachable_until: Option<Timestamp>,
    /// The loser's head end.
    pub head_end: Option<Text<1, 64>>,
    /// What it speaks, such as `dlms-cosem`.
    pub protocol: Option<Text<1, 32>>,
}

impl Comms {
    pub(super) fn write(&self, o: &mut ObjectWriter<'_>) {
        o.optional_text("address", self.address.as_ref().map(SecretText::expose));
        o.optional_text("apn", self.apn.as_ref().map(SecretText::expose));
        o.optional_number("baud", self.baud);
        o.optional_text("dial", self.dial.as_ref().map(Text::as_str));
        o.optional_text("head_end", self.head_end.as_ref().map(Text::as_str));
        o.optional_text("iccid", self.iccid.as_ref().map(SecretDigits::expose));
        o.optional_text("imsi", self.imsi.as_ref().map(SecretDigits::expose));
        o.optional_text("method", self.method.as_ref().map(Text::as_str));
        o.optional_text("msisdn", self.msisdn.as_ref().map(SecretDigits::expose));
        o.optional_number("port", self.port.map(|port| port.get().into()));
        o.optional_text("protocol", self.protocol.as_ref().map(Text::as_str));
        o.optional_text("provider", self.provider.as_ref().map(Text::as_str));
        let until = self.reachable_until.map(|at| at.to_string());
        o.optional_text("reachable_until", until.as_deref());
        o.optional_text("type", self.kind.as_ref().map(Text::as_str));
    }

    pub(super) fn present(&self) -> Vec<&'static str> {
        [
            ("comms.address", self.address.is_some()),
            ("comms.apn", self.apn.is_some()),
            ("comms.baud", self.baud.is_some()),
            ("comms.dial", self.dial.is_some()),
            ("comms.head_end", self.head_end.is_some()),
            ("comms.iccid", self.iccid.is_some()),
            ("comms.imsi", self.imsi.is_some()),
            ("comms.method", self.method.is_some()),
            ("comms.msisdn", self.msisdn.is_some()),
            ("comms.port", self.port.is_some()),
            ("comms.protocol", self.protocol.is_some()),
            ("comms.provider", self.provider.is_some()),
            ("comms.reachable_until", self.reachable_until.is_some()),
            ("comms.type", self.kind.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect()
    }
}
