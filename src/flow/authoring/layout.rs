//! Where nodes stand in a picture: a column for each step along the edges, members of a group inside of it.

use std::collections::{BTreeMap, VecDeque};

use indexmap::IndexMap;

/// Distance of columns and rows, in the editor's pixels.
const COLUMN: f64 = 320.0;
const ROW: f64 = 180.0;
/// What a group's frame needs around its members.
const MARGIN: f64 = 60.0;

/// A node's place: relative to its group's, where it is in one; a group's size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spot {
    pub position: [f64; 2],
    pub size: Option<[f64; 2]>,
}

/// Places for nodes with these groups and edges.
pub(super) fn spots(groups: &[Option<usize>], edges: &[(usize, usize)]) -> Vec<Spot> {
    let column = columns(groups.len(), edges);
    let mut spots = vec![Spot::default(); groups.len()];
    let depth = depths(groups);
    // Inner groups first: their size is known when they are put into theirs.
    let mut frames: IndexMap<Option<usize>, Vec<usize>> = IndexMap::new();
    for (node, group) in groups.iter().enumerate() {
        frames.entry(*group).or_default().push(node);
    }
    // Inner groups first: their size is known when they are put into theirs.
    frames.sort_by_cached_key(|group, _| std::cmp::Reverse(group.map_or(0, |group| depth[group] + 1)));
    for (group, members) in &frames {
        let size = place(members, &column, &mut spots, if group.is_some() { MARGIN } else { 0.0 });
        if let Some(group) = group {
            spots[*group].size = Some(size);
        }
    }
    spots
}

/// Put some nodes into columns, and give the size of it all.
fn place(members: &[usize], column: &[usize], spots: &mut [Spot], margin: f64) -> [f64; 2] {
    let mut columns: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for member in members {
        columns.entry(column[*member]).or_default().push(*member);
    }
    let (mut x, mut height) = (margin, 0.0_f64);
    for (_, stack) in columns {
        let (mut y, mut width) = (margin, COLUMN);
        for member in stack {
            let size = spots[member].size.unwrap_or([0.0, 0.0]);
            spots[member].position = [x, y];
            y += (size[1] + MARGIN).max(ROW);
            width = width.max(size[0] + MARGIN);
        }
        x += width;
        height = height.max(y);
    }
    [x + margin, height + margin]
}

/// How many groups each node is in. Groups that contain each other count as none.
fn depths(groups: &[Option<usize>]) -> Vec<usize> {
    const MAX_LEVELS: usize = 64;
    let depth = |node: usize| {
        let mut levels = 0;
        let mut at = groups[node];
        while let Some(group) = at {
            levels += 1;
            at = groups[group];
            if levels > MAX_LEVELS {
                return 0;
            }
        }
        levels
    };
    (0..groups.len()).map(depth).collect()
}

/// The longest way to each node; nodes that wait for each other stay in the first column.
fn columns(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    let mut waits = vec![0_usize; nodes];
    for (from, to) in edges {
        next[*from].push(*to);
        waits[*to] += 1;
    }
    let mut column = vec![0; nodes];
    let mut ready: VecDeque<usize> = (0..nodes).filter(|node| waits[*node] == 0).collect();
    while let Some(node) = ready.pop_front() {
        for to in std::mem::take(&mut next[node]) {
            column[to] = column[to].max(column[node] + 1);
            waits[to] -= 1;
            if waits[to] == 0 {
                ready.push_back(to);
            }
        }
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_reads_from_left_to_right_and_groups_hold_their_members() {
        let found = spots(&[None, None, None, None], &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        let positions: Vec<_> = found.iter().map(|spot| spot.position).collect();
        assert_eq!(positions, [[0.0, 0.0], [COLUMN, 0.0], [COLUMN, ROW], [2.0 * COLUMN, 0.0]]);
        let found = spots(&[None, Some(0), Some(0), None], &[(1, 2), (2, 3)]);
        assert_eq!(found[1].position, [MARGIN, MARGIN]);
        assert_eq!(found[2].position, [MARGIN + COLUMN, MARGIN]);
        assert_eq!(found[0].size, Some([2.0 * COLUMN + 2.0 * MARGIN, ROW + 2.0 * MARGIN]));
        assert!(found[3].position[0] >= found[0].size.unwrap()[0], "{found:?}");
        // Cycles of edges and of groups end, too.
        assert_eq!(spots(&[Some(1), Some(0)], &[(0, 1), (1, 0)]).len(), 2);
    }
}
