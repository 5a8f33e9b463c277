//! White space around tags: `~` eats all of it, and a block's tag or a comment that stands alone on its line takes
//! the line with it.

use super::tree::{Block, Content, Program, Statement, Strip};

/// Cut the white space of a whole template.
pub(super) fn control(program: &mut Program) {
    control_body(&mut program.body, true);
}

/// What a statement wants of its surroundings.
#[derive(Default)]
struct Wants {
    strip: Strip,
    open_alone: bool,
    close_alone: bool,
    inline_alone: bool,
}

fn control_body(body: &mut [Statement], is_root: bool) {
    for index in 0..body.len() {
        let wants = match &mut body[index] {
            Statement::Content(_) => continue,
            Statement::Mustache(_, strip) | Statement::Partial(strip) => Wants { strip: *strip, ..Wants::default() },
            Statement::Comment(strip) => Wants { strip: *strip, inline_alone: true, ..Wants::default() },
            Statement::Block(block) => control_block(block),
        };
        let line_starts = blank_before(body, index, is_root);
        let line_ends = blank_after(body, Some(index), is_root);
        if wants.strip.right {
            cut_start(body.get_mut(index + 1), true);
        }
        if wants.strip.left {
            cut_end(before(body, index), true);
        }
        if wants.inline_alone && line_starts && line_ends {
            cut_start(body.get_mut(index + 1), false);
            cut_end(before(body, index), false);
        }
        if wants.open_alone && line_starts {
            if let Statement::Block(block) = &mut body[index]
                && let Some(program) = block.program.as_mut().or(block.inverse.as_mut())
            {
                cut_start(program.body.first_mut(), false);
            }
            cut_end(before(body, index), false);
        }
        if wants.close_alone && line_ends {
            cut_start(body.get_mut(index + 1), false);
            if let Statement::Block(block) = &mut body[index]
                && let Some(program) = block.inverse.as_mut().or(block.program.as_mut())
            {
                cut_end(program.body.last_mut(), false);
            }
        }
    }
}

fn control_block(block: &mut Block) -> Wants {
    for program in [&mut block.program, &mut block.inverse].into_iter().flatten() {
        control_body(&mut program.body, false);
    }
    let has_both = block.program.is_some() && block.inverse.is_some();
    let mut wants = Wants { strip: Strip { left: block.open.left, right: block.close.right }, ..Wants::default() };
    let (main, other) = if block.program.is_some() {
        (block.program.as_mut(), block.inverse.as_mut())
    } else {
        (block.inverse.as_mut(), None)
    };
    let Some(main) = main else {
        return wants;
    };
    wants.open_alone = blank_after(&main.body, None, false);
    let ends_with = match &other {
        Some(other) => blank_before(first_branch(other), first_branch(other).len(), false),
        None => blank_before(&main.body, main.body.len(), false),
    };
    wants.close_alone = ends_with;
    if block.open.right {
        cut_start(main.body.first_mut(), true);
    }
    match other {
        Some(other) if has_both => {
            if block.middle.left {
                cut_end(main.body.last_mut(), true);
            }
            if block.middle.right {
                cut_start(first_branch_mut(other).first_mut(), true);
            }
            if block.close.left {
                cut_end(last_branch_mut(other).last_mut(), true);
            }
            // An {{else}} alone on its line.
            if blank_before(&main.body, main.body.len(), false) && blank_after(first_branch(other), None, false) {
                cut_end(main.body.last_mut(), false);
                cut_start(first_branch_mut(other).first_mut(), false);
            }
        }
        _ if block.close.left => {
            cut_end(main.body.last_mut(), true);
        }
        _ => {}
    }
    wants
}

/// The statements after an `{{else}}`; after an `{{else if}}` those of its block.
fn first_branch(program: &Program) -> &[Statement] {
    match program.body.first() {
        Some(Statement::Block(block)) if program.chained => block.program.as_ref().map_or(&[], |inner| &inner.body),
        _ => &program.body,
    }
}

fn first_branch_mut(program: &mut Program) -> &mut [Statement] {
    if !program.chained {
        return &mut program.body;
    }
    match program.body.first_mut() {
        Some(Statement::Block(block)) => block.program.as_mut().map_or(&mut [], |inner| &mut inner.body),
        _ => &mut [],
    }
}

/// The statements of the block at the end of a chain.
fn last_branch_mut(program: &mut Program) -> &mut [Statement] {
    first_branch_mut(program) // inner blocks are not chained programs themselves, so the chain is one step long
}

/// Whether only blanks stand between the line's start and the statement at `index`.
fn blank_before(body: &[Statement], index: usize, is_root: bool) -> bool {
    let Some(previous) = index.checked_sub(1).and_then(|previous| body.get(previous)) else {
        return is_root;
    };
    let Statement::Content(content) = previous else {
        return false;
    };
    let blanks_from = content.original.trim_end().len();
    let blanks = &content.original[blanks_from..];
    blanks.contains('\n') || (is_root && index == 1 && blanks_from == 0)
}

/// Whether only blanks stand between the statement at `index` (none: the body's start) and the line's end.
fn blank_after(body: &[Statement], index: Option<usize>, is_root: bool) -> bool {
    let next = index.map_or(0, |index| index + 1);
    let Some(following) = body.get(next) else {
        return is_root;
    };
    let Statement::Content(content) = following else {
        return false;
    };
    let text = content.original.trim_start();
    let blanks = &content.original[..content.original.len() - text.len()];
    blanks.contains('\n') || (is_root && next + 1 == body.len() && text.is_empty())
}

fn before(body: &mut [Statement], index: usize) -> Option<&mut Statement> {
    index.checked_sub(1).and_then(|previous| body.get_mut(previous))
}

fn content(statement: Option<&mut Statement>) -> Option<&mut Content> {
    match statement {
        Some(Statement::Content(content)) => Some(content),
        _ => None,
    }
}

/// Cut blanks at a text's start: all of them, or up to the end of the line, and that once only.
fn cut_start(statement: Option<&mut Statement>, all: bool) {
    let Some(content) = content(statement).filter(|content| all || !content.right_stripped) else {
        return;
    };
    let rest = if all {
        content.value.trim_start()
    } else {
        let rest = content.value.trim_start_matches([' ', '\t']);
        rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')).unwrap_or(rest)
    };
    let rest = rest.to_owned();
    content.right_stripped = rest != content.value;
    content.value = rest;
}

/// Cut blanks at a text's end: all of them, or those of the last line, and that once only.
fn cut_end(statement: Option<&mut Statement>, all: bool) {
    let Some(content) = content(statement).filter(|content| all || !content.left_stripped) else {
        return;
    };
    let rest = if all { content.value.trim_end() } else { content.value.trim_end_matches([' ', '\t']) };
    let length = rest.len();
    content.left_stripped = length != content.value.len();
    content.value.truncate(length);
}
