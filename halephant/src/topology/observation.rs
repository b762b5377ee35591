//! What one node says about itself when it is asked.

use std::time::Duration;

/// A position in the write-ahead log, in bytes from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub in_recovery: bool,
    /// Written so far on a primary; replayed so far on a replica.
    pub lsn: Option<Lsn>,
    /// Of a primary: a promotion begins a new, higher one.
    pub timeline: Option<u32>,
    /// How long ago the last transaction that a replica replayed was committed.
    pub replay_age: Option<Duration>,
    /// Tells database clusters apart, where the role that asks may see it.
    pub system_identifier: Option<u64>,
    /// The node's name no longer leads to the address that connections were opened to.
    pub moved: bool,
}

impl Lsn {
    /// As PostgreSQL writes a `pg_lsn`: two hexadecimal numbers parted by a slash.
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let half = |text: &str| u32::from_str_radix(text, 16).ok();
        Some(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

/// The timeline in the name of a write-ahead log file: its first eight hexadecimal digits.
pub fn timeline_of_file(name: &str) -> Option<u32> {
    u32::from_str_radix(name.get(..8)?, 16).ok()
}

/// How far a replica is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Written on the primary and not yet replayed here, as far as both were asked.
    pub bytes: Option<u64>,
    /// Zero where nothing is left to replay, else the age of the last replayed transaction.
    pub time: Option<Duration>,
}

impl Observation {
    /// The lag behind a primary that has written up to `written`.
    pub fn lag(&self, written: Option<Lsn>) -> Lag {
        let bytes = match (written, self.lsn) {
            // Both are asked at different moments: a replica may be seen ahead.
            (Some(written), Some(replayed)) => Some(written.0.saturating_sub(replayed.0)),
            _ => None,
        };
        // Without new transactions the last one only grows older.
        let time = if bytes == Some(0) { Some(Duration::ZERO) } else { self.replay_age };
        Lag { bytes, time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_two_hexadecimal_numbers() {
        assert_eq!(Lsn::parse("0/0"), Some(Lsn(0)));
        assert_eq!(Lsn::parse("16/B374D848"), Some(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn::parse("FFFFFFFF/FFFFFFFF"), Some(Lsn(u64::MAX)));
        for text in ["", "/", "1", "1/", "x/1", "100000000/0", "1/2/3", "-1/0"] {
            assert_eq!(Lsn::parse(text), None, "{text}");
        }
        assert_eq!(timeline_of_file("0000000A000000010000002B"), Some(10));
        assert_eq!(timeline_of_file("000"), None);
    }

    #[test]
    fn a_replica_with_nothing_to_replay_has_no_lag() {
        let replica = |lsn| Observation {
            in_recovery: true,
            lsn: Some(Lsn(lsn)),
            timeline: None,
            replay_age: Some(Duration::from_secs(60)),
            system_identifier: None,
            moved: false,
        };
        let lag = |bytes, time: u64| Lag { bytes, time: Some(Duration::from_secs(time)) };
        assert_eq!(replica(100).lag(Some(Lsn(100))), lag(Some(0), 0));
        assert_eq!(replica(101).lag(Some(Lsn(100))), lag(Some(0), 0));
        assert_eq!(replica(90).lag(Some(Lsn(100))), lag(Some(10), 60));
        assert_eq!(replica(90).lag(None), lag(None, 60));
    }
}
