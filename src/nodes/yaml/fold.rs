//! Breaking long lines at spaces.
//!
//! Widths count UTF-16 code units, since the library whose layout this follows is written in JavaScript.

/// Lines are kept within this width where a space allows it.
pub(super) const LINE_WIDTH: usize = 80;
/// However deep the indentation, lines may hold at least this much.
const MIN_CONTENT: usize = 20;

/// What kind of text is broken, and thus where breaks may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A plain or single-quoted scalar.
    Flow,
    /// A folded block, in which more-indented lines are left alone.
    Block,
    /// A double-quoted scalar, which may break anywhere with a backslash.
    Quoted,
}

/// A text with its breaks, and whether some line is still too long for lack of spaces.
pub(super) struct Folded {
    pub text: Vec<u16>,
    pub overflow: bool,
}

const TAB: u16 = b'\t' as u16;
const LINE_FEED: u16 = b'\n' as u16;
const SPACE: u16 = b' ' as u16;
const BACKSLASH: u16 = b'\\' as u16;

/// Break `text`; continuation lines start with `indent` spaces. `start_column` is where the first line starts, when
/// that is not at the indentation.
pub(super) fn fold(text: &[u16], indent: usize, mode: Mode, start_column: Option<usize>) -> Folded {
    let step = (1 + MIN_CONTENT).max((1 + LINE_WIDTH).saturating_sub(indent));
    if text.len() <= step {
        return Folded { text: text.to_vec(), overflow: false };
    }
    let mut breaks = Breaks::default();
    let mut end = LINE_WIDTH as isize - indent as isize;
    if let Some(column) = start_column {
        if column > LINE_WIDTH - MIN_CONTENT {
            breaks.positions.push(0);
        } else {
            end = LINE_WIDTH as isize - column as isize;
        }
    }
    let step = step as isize;
    let mut overflow = false;
    let mut split: Option<usize> = None;
    let mut previous: Option<u16> = None;
    let mut escape = Escape::default();
    let mut next = 0;
    if mode == Mode::Block
        && let Some(line_end) = skip_indented_lines(text, None, indent)
    {
        end = line_end as isize + step;
        next = line_end + 1;
    }
    while let Some(&unit) = text.get(next) {
        let mut at = next;
        let mut unit = unit;
        if mode == Mode::Quoted && unit == BACKSLASH {
            escape.start = Some(at);
            at += match text.get(at + 1).and_then(|unit| u8::try_from(*unit).ok()) {
                Some(b'x') => 3,
                Some(b'u') => 5,
                _ => 1,
            };
            escape.end = Some(at);
        }
        if unit == LINE_FEED {
            if mode == Mode::Block {
                at = skip_indented_lines(text, Some(at), indent).unwrap_or(at);
            }
            end = (at + indent) as isize + step;
            split = None;
        } else {
            if unit == SPACE && previous.is_some_and(|unit| !is_blank(unit)) {
                // Only a lone space may become a line end.
                if text.get(at + 1).is_some_and(|unit| !is_blank(*unit)) {
                    split = Some(at);
                }
            }
            if at as isize >= end {
                if let Some(position) = split.take_if(|position| *position > 0) {
                    breaks.positions.push(position);
                    end = position as isize + step;
                } else if mode == Mode::Quoted {
                    // Blanks at the end may stretch beyond the width.
                    while matches!(previous, Some(SPACE | TAB)) {
                        previous = Some(unit);
                        at += 1;
                        let Some(&following) = text.get(at) else { break };
                        unit = following;
                        overflow = true;
                    }
                    let position = escape.break_before(at);
                    if breaks.escaped.contains(&position) {
                        return Folded { text: text.to_vec(), overflow };
                    }
                    breaks.positions.push(position);
                    breaks.escaped.push(position);
                    end = position as isize + step;
                    split = None;
                } else {
                    overflow = true;
                }
            }
        }
        previous = Some(unit);
        next = at + 1;
    }
    Folded { text: breaks.apply(text, indent), overflow }
}

/// The last escape sequence seen in double quotes.
#[derive(Default)]
struct Escape {
    start: Option<usize>,
    end: Option<usize>,
}

impl Escape {
    /// Where to break before `at`, with room for a backslash and without cutting the escape sequence.
    fn break_before(&self, at: usize) -> usize {
        match (self.start, self.end) {
            (Some(start), Some(end)) if at <= end + 1 => start.saturating_sub(1),
            _ => at.saturating_sub(2),
        }
    }
}

#[derive(Default)]
struct Breaks {
    positions: Vec<usize>,
    /// Those that need a backslash, ascending.
    escaped: Vec<usize>,
}

impl Breaks {
    fn apply(&self, text: &[u16], indent: usize) -> Vec<u16> {
        let Some(&first) = self.positions.first() else {
            return text.to_vec();
        };
        let mut result = text[..first].to_vec();
        for (index, &position) in self.positions.iter().enumerate() {
            let end = self.positions.get(index + 1).copied().unwrap_or(text.len());
            let from = if position == 0 { 0 } else { position + 1 };
            if position > 0 && self.escaped.binary_search(&position).is_ok() {
                result.extend([text[position], BACKSLASH]);
            }
            result.push(LINE_FEED);
            result.extend(std::iter::repeat_n(SPACE, indent));
            result.extend(text.get(from..end).unwrap_or(&[]));
        }
        result
    }
}

fn is_blank(unit: u16) -> bool {
    matches!(unit, SPACE | TAB | LINE_FEED)
}

/// With a line starting after `at`: the end of the last of the more-indented lines that follow, or `at`.
fn skip_indented_lines(text: &[u16], at: Option<usize>, indent: usize) -> Option<usize> {
    let mut end = at;
    let mut at = at.map_or(-1, |at| at as isize);
    let mut start = at + 1;
    let unit_at = |position: isize| usize::try_from(position).ok().and_then(|position| text.get(position)).copied();
    let mut unit = unit_at(start);
    while matches!(unit, Some(SPACE | TAB)) {
        if at < start + indent as isize {
            at += 1;
            unit = unit_at(at);
        } else {
            loop {
                at += 1;
                unit = unit_at(at);
                if unit.is_none_or(|unit| unit == LINE_FEED) {
                    break;
                }
            }
            end = usize::try_from(at).ok();
            start = at + 1;
            unit = unit_at(start);
        }
    }
    end
}
