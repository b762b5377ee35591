//! [`repeated`]: what of a packet its socket has had before.
//!
//! A retransmitted segment that is merged with the next one, in the socket's backlog or by the retransmission itself, comes
//! as one packet. TCP's own readers skip its beginning; a verdict is handed all of it.

use halephant_common::flow::Position;

/// Where a packet stands in its stream, as TCP numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub begin: u32,
    /// Behind the last byte; a FIN counts as one.
    pub end: u32,
}

/// A packet that does not follow what came before it, or a kernel that numbers packets in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced;

/// How many of the packet's `bytes` are to be taken off at the front, and what comes next.
#[inline(always)]
pub fn repeated(next: Position, span: Span, bytes: u32) -> Result<(u32, Position), Misplaced> {
    let length = span.end.wrapping_sub(span.begin);
    let whole = is_length(length, bytes);
    let after = Position::at(span.end);
    let Some(next) = next.sequence() else {
        return if whole { Ok((0, after)) } else { Err(Misplaced) };
    };
    let repeated = next.wrapping_sub(span.begin);
    if repeated > length {
        return Err(Misplaced);
    }
    if whole {
        let off = if repeated < bytes { repeated } else { bytes };
        Ok((off, after))
    } else if is_length(length - repeated, bytes) {
        // This kernel has done so itself.
        Ok((0, after))
    } else {
        Err(Misplaced)
    }
}

/// Whether so many numbers are a packet's of so many bytes: a SYN or a FIN has one too.
#[inline(always)]
fn is_length(length: u32, bytes: u32) -> bool {
    length.wrapping_sub(bytes) <= 1
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    fn packet(begin: u32, bytes: u32) -> (Span, u32) {
        (Span { begin, end: begin.wrapping_add(bytes) }, bytes)
    }

    #[test]
    fn the_first_packet_is_taken_as_it_is() {
        let (span, bytes) = packet(u32::MAX - 3, 10);
        assert_eq!(repeated(Position::UNKNOWN, span, bytes), Ok((0, Position::at(6))));
        assert_eq!(repeated(Position::UNKNOWN, span, bytes + 1), Err(Misplaced));
        assert_eq!(repeated(Position::UNKNOWN, span, bytes - 2), Err(Misplaced));
    }

    #[test]
    fn a_fin_has_a_number_and_no_byte() {
        let span = Span { begin: 7, end: 8 };
        assert_eq!(repeated(Position::at(7), span, 0), Ok((0, Position::at(8))));
        let span = Span { begin: 7, end: 18 };
        assert_eq!(repeated(Position::at(7), span, 10), Ok((0, Position::at(18))));
        assert_eq!(repeated(Position::at(17), span, 10), Ok((10, Position::at(18))));
    }

    #[test]
    fn what_does_not_follow_is_misplaced() {
        let (span, bytes) = packet(100, 10);
        assert_eq!(repeated(Position::at(99), span, bytes), Err(Misplaced));
        assert_eq!(repeated(Position::at(111), span, bytes), Err(Misplaced));
        assert_eq!(repeated(Position::at(100), span, 5), Err(Misplaced));
    }

    proptest! {
        /// A stream cut into packets, each of which repeats some of what was before it: every byte is taken once, whether
        /// the kernel takes the repeated ones off itself or not.
        #[test]
        fn every_byte_is_taken_once(
            start: u32,
            packets in prop::collection::vec((0_u32..70_000, 1_u32..70_000, any::<bool>()), 1..50),
        ) {
            let (mut next, mut sent) = (Position::at(start), 0_u32);
            for (again, new, taken_off) in packets {
                let again = again.min(sent);
                let (span, bytes) = packet(start.wrapping_add(sent - again), again + new);
                let shown = if taken_off && again > 1 { new } else { bytes };
                let (off, after) = repeated(next, span, shown).expect("it follows");
                prop_assert_eq!(shown - off, new);
                sent += new;
                next = after;
                prop_assert_eq!(next.sequence(), Some(start.wrapping_add(sent)));
            }
        }
    }
}
