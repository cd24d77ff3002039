// SPDX-License-Identifier: Apache-2.0
//! Reads: one object, a range, the journal, the changes since a revision. Each is one snapshot; none leaves a transaction
//! open.

use std::{collections::HashSet, time::Duration};

use model::{Key, KeyRange};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, types::Type};

use super::{
    options::Incarnation,
    schema::{signed, unsigned},
};
use crate::store::{Change, Entry, Hint, JournalRecord, Listing, Revision};

/// One object.
pub(super) fn get(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached("SELECT revision, value FROM kv WHERE key = ?1")?
        .query_row([key.to_string()], |row| {
            Ok(Entry {
                key: key.clone(),
                revision: Revision(unsigned(row, 0)?),
                value: row.get(1)?,
            })
        })
        .optional()
}

/// A range, with the hints applied.
pub(super) fn list(connection: &Connection, range: &KeyRange, hint: &Hint) -> rusqlite::Result<Listing> {
    let snapshot = connection.unchecked_transaction()?;
    let revision = snapshot
        .prepare_cached("SELECT max(revision) FROM changes")?
        .query_row([], |row| unsigned(row, 0))?;
    let bounds = Bounds::of(range);
    let limit = hint
        .limit
        .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let mut parameters: Vec<&dyn ToSql> = vec![&bounds.first, &bounds.end, &limit];
    parameters.extend(affinity(range, hint).map(|affinity| affinity as &dyn ToSql));
    let sql = list_sql(range, hint);
    let mut statement = snapshot.prepare_cached(&sql)?;
    let rows = statement.query_map(parameters.as_slice(), entry)?;
    let entries = rows
        .filter_map(Result::transpose)
        .collect::<rusqlite::Result<_>>()?;
    Ok(Listing {
        entries,
        revision: Revision(revision),
    })
}

/// Compiles what an assignment lists blocks with.
pub(super) fn compile_list_of_blocks(connection: &Connection) -> rusqlite::Result<()> {
    let hint = Hint {
        affinity: Some(String::new()),
        with_room: true,
        ..Hint::default()
    };
    let sql = list_sql(&KeyRange::Blocks { v6: false }, &hint);
    connection.prepare_cached(&sql).map(drop)
}

/// The statement of a list, which depends on which hints there are only.
fn list_sql(range: &KeyRange, hint: &Hint) -> String {
    let value = if hint.keys_only { "''" } else { "value" };
    let by_affinity = if affinity(range, hint).is_some() {
        "AND affinity = ?4"
    } else {
        ""
    };
    let with_room = hint.with_room && matches!(range, KeyRange::Blocks { .. });
    let by_room = if with_room { "AND room = 1" } else { "" };
    format!(
        "SELECT key, revision, {value} FROM kv
         WHERE key >= ?1 AND key < ?2 {by_affinity} {by_room} ORDER BY key LIMIT ?3"
    )
}

/// The affinity asked for; only blocks have one.
fn affinity<'a>(range: &KeyRange, hint: &'a Hint) -> Option<&'a String> {
    hint.affinity
        .as_ref()
        .filter(|_| matches!(range, KeyRange::Blocks { .. }))
}

/// `None` for an object of a kind that only a newer program knows: to this one it does not exist.
fn entry(row: &Row<'_>) -> rusqlite::Result<Option<Entry>> {
    let Ok(key) = text(row, 0)?.parse() else {
        return Ok(None);
    };
    Ok(Some(Entry {
        key,
        revision: Revision(unsigned(row, 1)?),
        value: row.get(2)?,
    }))
}

fn text<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<&'row str> {
    let found = row.get_ref(column)?;
    found
        .as_str()
        .map_err(|_| rusqlite::Error::InvalidColumnType(column, "key".to_owned(), Type::Text))
}

/// The newest lines of the journal, newest first.
pub(super) fn journal(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<JournalRecord>> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, time_us, event, subject, handle, cause, duration_us
         FROM journal ORDER BY sequence DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(JournalRecord {
            sequence: unsigned(row, 0)?,
            time_us: row.get(1)?,
            event: row.get(2)?,
            subject: row.get(3)?,
            handle: row.get(4)?,
            cause: row.get(5)?,
            duration: Duration::from_micros(unsigned(row, 6)?),
        })
    })?;
    rows.collect()
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    /// Of the store it watches.
    pub(super) incarnation: Incarnation,
    /// Everything up to here has been delivered.
    pub(super) revision: u64,
}

/// What happened since a position, in one range.
#[derive(Debug)]
pub(super) enum Since {
    /// The last change of each key, in revision order.
    Changes(Vec<Change>),
    /// The log does not reach back that far, or is another store's.
    Forgotten,
}

/// Reads the change log from a position on; says where it ends.
pub(super) fn changes_since(
    connection: &Connection,
    position: Position,
    bounds: &Bounds,
) -> rusqlite::Result<(Since, Position)> {
    let snapshot = connection.unchecked_transaction()?;
    let (incarnation, first, last) = snapshot
        .prepare_cached(
            "SELECT incarnation, (SELECT min(revision) FROM changes), (SELECT max(revision) FROM changes)
             FROM meta",
        )?
        .query_row([], |row| {
            Ok((row.get::<_, String>(0)?, unsigned(row, 1)?, unsigned(row, 2)?))
        })?;
    let incarnation = Incarnation::parse(&incarnation)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(0, incarnation, Type::Text))?;
    let end = Position {
        incarnation,
        revision: last,
    };
    let known = first.saturating_sub(1)..=last;
    if incarnation != position.incarnation || !known.contains(&position.revision) {
        return Ok((Since::Forgotten, end));
    }
    if position.revision == last {
        return Ok((Since::Changes(Vec::new()), end));
    }
    let mut statement = snapshot.prepare_cached(
        "SELECT changes.key, changes.revision, kv.revision, kv.value
         FROM changes LEFT JOIN kv ON kv.key = changes.key
         WHERE changes.revision > ?1 AND changes.key >= ?2 AND changes.key < ?3
         ORDER BY changes.revision DESC",
    )?;
    let mut rows = statement.query(params![signed(position.revision), bounds.first, bounds.end])?;
    let mut deleted = HashSet::new();
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let Ok(key) = text(row, 0)?.parse::<Key>() else {
            continue;
        };
        let revision = Revision(unsigned(row, 1)?);
        match row.get::<_, Option<i64>>(2)? {
            None if deleted.insert(key.clone()) => changes.push(Change::Deleted { key, revision }),
            Some(stored) if stored == signed(revision.0) => {
                changes.push(Change::Put(Entry {
                    key,
                    revision,
                    value: row.get(3)?,
                }));
            }
            // Not the last change of its key.
            _ => {}
        }
    }
    changes.reverse();
    Ok((Since::Changes(changes), end))
}

/// The keys of a range as an interval of texts.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    first: String,
    end: String,
}

impl Bounds {
    pub(super) fn of(range: &KeyRange) -> Self {
        let first = range.prefix();
        let end = end_of_prefix(&first);
        Self { first, end }
    }
}

/// The least text above all texts with this prefix: its last character replaced by the next one. UTF-8 sorts as its
/// characters do, and SQLite compares bytes.
fn end_of_prefix(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The range steps over the surrogates, which are no characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return end;
        }
    }
    // Only a prefix of nothing but the greatest character: no key has it.
    format!("{prefix}{}", char::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::schema;

    #[test]
    fn the_end_of_a_prefix_is_the_next_text_without_it() {
        for (prefix, end) in [
            ("/calico/", "/calico0"),
            ("caf\u{e9}", "caf\u{ea}"),
            ("x\u{7f}", "x\u{80}"),
            ("x\u{bf}", "x\u{c0}"),
            ("x\u{d7ff}", "x\u{e000}"),
            ("x\u{10ffff}", "y"),
        ] {
            assert_eq!(end_of_prefix(prefix), end);
            let within = format!("{prefix}\u{10ffff}\u{10ffff}");
            assert!(prefix.as_bytes() < end.as_bytes() && within.as_bytes() < end.as_bytes());
        }
    }

    /// The cost of an ADD must not depend on how many addresses are in use.
    #[test]
    fn the_blocks_of_a_node_with_room_are_found_by_their_index() {
        let connection = Connection::open_in_memory().unwrap();
        schema::create(&connection, Incarnation([0; 16]), 1).unwrap();
        let plan = |hint: &Hint| -> String {
            let sql = format!(
                "EXPLAIN QUERY PLAN {}",
                list_sql(&KeyRange::Blocks { v6: false }, hint)
            );
            let mut statement = connection.prepare(&sql).unwrap();
            let rows = statement.raw_query().mapped(|row| row.get::<_, String>(3));
            rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
        };
        let of_a_node = Hint {
            affinity: Some("host:n".to_owned()),
            with_room: true,
            limit: Some(4),
            ..Hint::default()
        };
        let expected = "SEARCH kv USING INDEX blocks (affinity=? AND room=? AND key>? AND key<?)";
        assert_eq!(plan(&of_a_node), expected);
        let by_key = "SEARCH kv USING INDEX sqlite_autoindex_kv_1 (key>? AND key<?)";
        assert_eq!(
            plan(&Hint {
                with_room: true,
                ..Hint::default()
            }),
            by_key
        );
        let all_of_a_node = plan(&Hint {
            with_room: false,
            ..of_a_node
        });
        assert!(
            all_of_a_node.starts_with("SEARCH kv USING INDEX blocks (affinity=?)"),
            "{all_of_a_node}"
        );
    }
}
