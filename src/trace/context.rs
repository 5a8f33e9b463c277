//! Ids, and how a trace is handed on: `traceparent` of the W3C's Trace Context, `00-<trace>-<span>-<flags>`.

use uuid::Uuid;

/// The span that an execution is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    flags: u8,
}

/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;

impl Parent {
    /// Of a trace that isn't recorded, and has no span yet.
    pub fn unrecorded(trace: [u8; 16]) -> Parent {
        Parent { trace, span: new_span(), flags: 0 }
    }

    /// Whether its trace is recorded. If not, ours isn't either.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As it came, for who goes on with it; without what later versions add.
    pub fn text(&self) -> String {
        traceparent(self.trace, self.span, self.flags)
    }

    /// Out of a `traceparent`. One that isn't as it should be counts as none, as the standard wants it.
    pub fn read(text: &str) -> Option<Parent> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = hex::<1>(version)?;
        // What later versions add comes after a dash.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let (trace, span, [flags]) = (hex::<16>(trace)?, hex::<8>(span)?, hex::<1>(flags)?);
        let there = trace != [0; 16] && span != [0; 8];
        there.then_some(Parent { trace, span, flags })
    }
}

/// Exactly so many bytes, in lower-case digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// For who goes on with this span, which is recorded.
pub(super) fn recorded(trace: [u8; 16], span: [u8; 8]) -> String {
    traceparent(trace, span, SAMPLED)
}

fn traceparent(trace: [u8; 16], span: [u8; 8], flags: u8) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("00-{}-{}-{flags:02x}", hex(&trace), hex(&span))
}

/// The trace of an execution that nobody put into another one.
pub(super) fn trace_of(execution: &str) -> [u8; 16] {
    *Uuid::new_v5(&Uuid::NAMESPACE_OID, execution.as_bytes()).as_bytes()
}

/// A span of its own.
pub(super) fn new_span() -> [u8; 8] {
    rand::random_range(1..=u64::MAX).to_be_bytes()
}

/// Whether a trace is among those that are recorded: the same answer for all its spans, by whichever worker.
pub(super) fn is_sampled(trace: [u8; 16], ratio: f64) -> bool {
    if ratio >= 1.0 {
        return true;
    }
    let low = trace[8..].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // The two highest bits of a UUID's second half are fixed.
    ((low << 2 >> 2) as f64) < ratio * (1_u64 << 62) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_read_as_the_standard_says() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Parent::read(text).unwrap();
        assert!(parent.is_sampled());
        assert_eq!((recorded(parent.trace, parent.span).as_str(), parent.text().as_str()), (text, text));
        for (flags, sampled) in [("-00", false), ("-02", false), ("-03", true)] {
            let text = text.replace("-01", flags);
            let parent = Parent::read(&text).unwrap();
            assert_eq!((parent.is_sampled(), parent.text()), (sampled, text));
        }
        let unrecorded = Parent::unrecorded(parent.trace);
        assert_eq!(Parent::read(&unrecorded.text()), Some(unrecorded));
        assert!(Parent::read(&text.replacen("00-", "01-", 1)).is_some(), "a later version");
        assert!(Parent::read(&format!("{}-more", text.replacen("00-", "01-", 1))).is_some());
        for wrong in [
            "",
            "nonsense",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_share_of_the_traces_is_recorded_and_the_same_ones_by_everybody() {
        assert_eq!(trace_of("EX1"), trace_of("EX1"));
        let sampled = |ratio| (0..10_000).filter(|number| is_sampled(trace_of(&format!("EX{number}")), ratio)).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        assert!((2300..2700).contains(&sampled(0.25)), "{}", sampled(0.25));
    }
}
