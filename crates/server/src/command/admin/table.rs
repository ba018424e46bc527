//! Rows for people: columns as wide as their widest cell. Asks nothing and prints nothing.

use std::fmt;

use qpc_server::admin::{AccountRow, InviteRow, LimitRow, SessionRow};

use super::date;

/// A table with a headline.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new<T>(head: &[&str], rows: &[T], cells: impl Fn(&T) -> Vec<String>) -> Self {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        Self { rows: std::iter::once(head).chain(rows.iter().map(cells)).collect() }
    }

    pub(super) fn accounts(rows: &[AccountRow]) -> Self {
        Self::new(&["NAME", "STANDING", "DEVICES", "CREATED", "DELETED AT"], rows, |row| {
            vec![
                row.name.clone(),
                row.standing.clone(),
                row.devices.to_string(),
                date(Some(row.created_at_ms)),
                date(row.delete_at_ms),
            ]
        })
    }

    pub(super) fn invites(rows: &[InviteRow]) -> Self {
        Self::new(&["ID", "EXPIRES"], rows, |row| {
            vec![row.id.clone(), date(Some(row.expires_at_ms))]
        })
    }

    pub(super) fn sessions(rows: &[SessionRow]) -> Self {
        Self::new(&["DEVICE", "BEGAN", "EXPIRES"], rows, |row| {
            vec![row.device.clone(), date(row.began_at_ms), date(Some(row.expires_at_ms))]
        })
    }

    pub(super) fn limits(rows: &[LimitRow]) -> Self {
        Self::new(&["LIMIT", "VALUE"], rows, |row| vec![row.name.clone(), row.value.to_string()])
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            let padded: Vec<_> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let end = if number + 1 < self.rows.len() { "\n" } else { "" };
            write!(f, "{}{end}", padded.join("  ").trim_end())?;
        }
        Ok(())
    }
}
