//! What a DLMS meter shows at a change of supplier: its registers now, or a row that it froze.

use std::time::Duration;

use super::DlmsLink;
use crate::dlms::axdr::Value;
use crate::dlms::clock;
use crate::dlms::obis::{Member, Obis};
use crate::dlms::objects::{Column, ScalerUnit, captured_between};
use crate::dlms::service::Selection;
use crate::meter::link::{Counters, Item, LinkError, Shown};
use crate::types::Timestamp;

impl<C: Counters> DlmsLink<'_, C> {
    /// What the registers of the profile show now, those that the meter has.
    pub(super) async fn current(&mut self) -> Result<Vec<Shown>, LinkError> {
        let registers = self.profile()?.read.registers.clone();
        let both = |register: &Obis| [Member::register(*register), Member::scaler_unit(*register)];
        let mut attributes: Vec<_> = registers.iter().flat_map(both).collect();
        attributes.extend(self.profile()?.objects.item(Item::Clock));
        let values = self.get_all(&attributes).await?;
        let time = values.get(2 * registers.len()).and_then(Option::as_ref);
        let meter_time = time.and_then(|time| clock::instant(time).unwrap_or(None));
        let mut shown = Vec::new();
        for (register, pair) in registers.into_iter().zip(values.chunks(2)) {
            if let [Some(value), Some(scaler_unit)] = pair {
                shown.push(show(register, value, scaler_unit, meter_time)?);
            }
        }
        Ok(shown)
    }

    /// What the registers of the profile showed in the first row that was frozen on the day from `as_of`. Nothing if
    /// the meter has no such row.
    pub(super) async fn frozen(
        &mut self,
        buffer: Obis,
        as_of: Timestamp,
    ) -> Result<Vec<Shown>, LinkError> {
        let columns = match self.get(Member::new(7, buffer, 3)).await {
            Ok(columns) => Column::parse_all(&columns).map_err(|_| LinkError::Garbled)?,
            Err(LinkError::Denied(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let is_time = |column: &Column| column.attribute.class == CLOCK;
        let Some(at) = columns.iter().position(is_time) else {
            return Ok(Vec::new());
        };
        let parameters = captured_between(columns[at], as_of, as_of.after(A_DAY));
        let selection = Selection {
            attribute: Member::new(7, buffer, 2),
            selector: Some((BY_RANGE, parameters)),
        };
        let rows = match self.get_selected(selection).await {
            Ok(rows) => rows,
            Err(LinkError::Denied(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let rows = rows.as_items().map_err(|_| LinkError::Garbled)?;
        let captured = |row: &Value| {
            let row = row.as_items().ok()?.to_vec();
            let time = clock::instant(row.get(at)?).unwrap_or(None)?;
            (time >= as_of).then_some((time, row))
        };
        let first = rows
            .iter()
            .filter_map(captured)
            .min_by_key(|(time, _)| *time);
        match first {
            Some((time, row)) => self.row(&columns, &row, time).await,
            None => Ok(Vec::new()),
        }
    }

    /// The registers of the profile in one row of a buffer.
    async fn row(
        &mut self,
        columns: &[Column],
        row: &[Value],
        time: Timestamp,
    ) -> Result<Vec<Shown>, LinkError> {
        let wanted = self.profile()?.read.registers.clone();
        let found = |register: &Obis| {
            let is_it = |column: &Column| column.attribute == Member::register(*register);
            let value = row.get(columns.iter().position(is_it)?)?;
            Some((*register, value))
        };
        let found: Vec<_> = wanted.iter().filter_map(found).collect();
        let scalers = found
            .iter()
            .map(|(register, _)| Member::scaler_unit(*register));
        let scalers = self.get_all(&scalers.collect::<Vec<_>>()).await?;
        let both = found.into_iter().zip(scalers);
        let shown = both.filter_map(|((register, value), scaler_unit)| {
            Some(show(register, value, &scaler_unit?, Some(time)))
        });
        shown.collect()
    }
}

fn show(
    register: Obis,
    value: &Value,
    scaler_unit: &Value,
    meter_time: Option<Timestamp>,
) -> Result<Shown, LinkError> {
    Ok(Shown {
        register,
        value: value.as_integer().map_err(|_| LinkError::Garbled)?,
        scaler_unit: ScalerUnit::parse(scaler_unit).map_err(|_| LinkError::Garbled)?,
        meter_time,
    })
}

const CLOCK: u16 = 8;
const BY_RANGE: u8 = 1;
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60 - 1);
