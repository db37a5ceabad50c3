//! Whether PostgreSQL keeps what it says it keeps.

use crate::OpenError;

/// The statement that [`Durability::read`] reads: what is in force in this session.
pub(super) const STATEMENT: &str = "SELECT pg_is_in_recovery(), current_setting('fsync'), \
     current_setting('synchronous_commit'), current_setting('full_page_writes'), \
     current_setting('synchronous_standby_names')";

/// What decides whether an acknowledged record outlives a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Durability {
    pub(super) is_standby: bool,
    pub(super) fsync: String,
    pub(super) synchronous_commit: String,
    pub(super) full_page_writes: String,
    pub(super) synchronous_standby_names: String,
}

impl Durability {
    /// Refuses what loses records.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let refuse = |why: &str| Err(OpenError::Refused(why.to_owned()));
        if self.is_standby {
            return refuse(
                "this PostgreSQL is a standby, which takes no records; give the primary's address, \
                 or those of all",
            );
        }
        if self.fsync == "off" {
            return refuse(
                "PostgreSQL runs with fsync = off, and a crash of its machine loses what it has \
                 acknowledged; set fsync = on",
            );
        }
        if self.synchronous_commit == "off" {
            return refuse(
                "PostgreSQL runs with synchronous_commit = off for this user, and a crash loses \
                 what it has acknowledged; set synchronous_commit = on",
            );
        }
        Ok(())
    }

    /// What is at stake with what was not refused.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.synchronous_standby_names.trim().is_empty() {
            warnings.push(
                "PostgreSQL has no synchronous standby: if its disk or machine is lost, so are all \
                 events that are not delivered yet, and if a standby takes over, the last ones; set \
                 synchronous_standby_names"
                    .to_owned(),
            );
        } else if ["local", "remote_write"].contains(&&*self.synchronous_commit) {
            warnings.push(format!(
                "PostgreSQL runs with synchronous_commit = {}: it acknowledges what no standby has \
                 on disk, and if one takes over, the last events may be lost; set \
                 synchronous_commit = on",
                self.synchronous_commit
            ));
        }
        if self.full_page_writes == "off" {
            warnings.push(
                "PostgreSQL runs with full_page_writes = off: unless its file system writes pages \
                 whole, a power cut can damage the log beyond repair"
                    .to_owned(),
            );
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe() -> Durability {
        Durability {
            is_standby: false,
            fsync: "on".to_owned(),
            synchronous_commit: "on".to_owned(),
            full_page_writes: "on".to_owned(),
            synchronous_standby_names: "*".to_owned(),
        }
    }

    /// Checks what is said of these settings.
    fn check(change: impl FnOnce(&mut Durability), refused: &str, warned: &[&str]) {
        let mut durability = safe();
        change(&mut durability);
        let refusal = durability.check().err().map(|error| error.to_string());
        let refusal = refusal.unwrap_or_default();
        assert!(
            refusal.contains(refused) && refusal.is_empty() == refused.is_empty(),
            "{refusal}"
        );
        let warnings = durability.warnings();
        assert_eq!(warnings.len(), warned.len(), "{warnings:?}");
        for (warning, warned) in warnings.iter().zip(warned) {
            assert!(warning.contains(warned), "{warning}");
        }
    }

    #[test]
    fn what_loses_records_is_refused_and_what_may_is_said() {
        check(|_| (), "", &[]);
        check(|d| d.is_standby = true, "standby", &[]);
        check(|d| d.fsync = "off".into(), "fsync", &[]);
        check(
            |d| d.synchronous_commit = "off".into(),
            "synchronous_commit",
            &[],
        );
        check(
            |d| d.synchronous_commit = "local".into(),
            "",
            &["synchronous_commit = local"],
        );
        check(|d| d.synchronous_commit = "remote_apply".into(), "", &[]);
        check(
            |d| d.synchronous_standby_names = " ".into(),
            "",
            &["synchronous_standby_names"],
        );
        check(
            |d| {
                d.synchronous_standby_names = String::new();
                d.full_page_writes = "off".into();
            },
            "",
            &["standby", "full_page_writes"],
        );
    }
}
