//! Where boxes go: layers from left to right by the longest way, ordered within a layer by their neighbours' places,
//! frames laid out before what is around them.

use super::Drawing;

/// Between layers, where edges run.
const BETWEEN: f64 = 70.0;
/// Between boxes of a layer.
const APART: f64 = 24.0;
/// Around what a frame holds.
const MARGIN: f64 = 20.0;
/// For a frame's name.
const TITLE: f64 = 30.0;
/// Times that layers are put in order.
const SWEEPS: usize = 6;

/// A box's place, its upper left corner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The layer of each node: one more than the furthest of those that feed it. Rings are cut somewhere.
pub(super) fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut waiting = vec![0_usize; count];
    for (from, to) in edges.iter().filter(|(from, to)| from != to) {
        next[*from].push(*to);
        waiting[*to] += 1;
    }
    let mut layer = vec![0; count];
    let mut done = vec![false; count];
    let mut open: Vec<usize> = (0..count).filter(|node| waiting[*node] == 0).collect();
    let mut cut = 0;
    loop {
        while let Some(node) = open.pop() {
            if std::mem::replace(&mut done[node], true) {
                continue;
            }
            for target in &next[node] {
                waiting[*target] -= 1;
                if !done[*target] {
                    layer[*target] = layer[*target].max(layer[node] + 1);
                    if waiting[*target] == 0 {
                        open.push(*target);
                    }
                }
            }
        }
        while cut < count && done[cut] {
            cut += 1;
        }
        if cut == count {
            return layer;
        }
        open.push(cut);
    }
}

/// The place of every node; those that hold others have the frame's.
pub(super) fn place(drawing: &Drawing, size: impl Fn(usize) -> (f64, f64)) -> Vec<Area> {
    let count = drawing.nodes.len();
    let (top, members) = drawing.members();
    let depth = depths(drawing);
    let mut areas = vec![Area::default(); count];
    for (node, area) in areas.iter_mut().enumerate() {
        let (width, height) = size(node);
        *area = Area { width, height, ..Area::default() };
    }
    // Edges as the layout of their common frame sees them: between the boxes right in it.
    let mut lifted: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count + 1];
    for edge in &drawing.edges {
        if let Some((frame, from, to)) = lift(drawing, &depth, edge.from, edge.to) {
            lifted[frame.unwrap_or(count)].push((from, to));
        }
    }
    let mut frames: Vec<usize> = (0..count).filter(|node| drawing.nodes[*node].holds).collect();
    frames.sort_by_key(|node| std::cmp::Reverse(depth[*node]));
    for frame in &frames {
        let own = areas[*frame];
        let (width, height) = arrange(&members[*frame], &lifted[*frame], &mut areas);
        // A frame with ports of its own shows them above its members.
        let head = TITLE.max(own.height);
        for member in &members[*frame] {
            areas[*member].x += MARGIN;
            areas[*member].y += head + MARGIN / 2.0;
        }
        areas[*frame].width = (width + 2.0 * MARGIN).max(own.width);
        areas[*frame].height = height + head + 1.5 * MARGIN;
    }
    arrange(&top, &lifted[count], &mut areas);
    // Members' places so far are within their frames; outer frames come first.
    for frame in frames.iter().rev() {
        let (x, y) = (areas[*frame].x, areas[*frame].y);
        for member in &members[*frame] {
            areas[*member].x += x;
            areas[*member].y += y;
        }
    }
    areas
}

/// How many frames are around each node.
fn depths(drawing: &Drawing) -> Vec<usize> {
    let mut depth: Vec<Option<usize>> = vec![None; drawing.nodes.len()];
    for start in 0..drawing.nodes.len() {
        let mut way = Vec::new();
        let mut at = Some(start);
        let mut known = 0;
        while let Some(node) = at {
            if let Some(depth) = depth[node] {
                known = depth + 1;
                break;
            }
            way.push(node);
            at = drawing.nodes[node].parent;
        }
        for (above, node) in way.into_iter().rev().enumerate() {
            depth[node] = Some(known + above);
        }
    }
    depth.into_iter().map(Option::unwrap_or_default).collect()
}

/// The innermost frame around both ends, and the boxes right in it that they are in; none where one end is the frame
/// that holds the other.
fn lift(drawing: &Drawing, depth: &[usize], from: usize, to: usize) -> Option<(Option<usize>, usize, usize)> {
    let parent = |node: usize| drawing.nodes[node].parent;
    let (mut from, mut to) = (from, to);
    while depth[from] > depth[to] {
        from = parent(from)?;
    }
    while depth[to] > depth[from] {
        to = parent(to)?;
    }
    while from != to && parent(from) != parent(to) {
        from = parent(from)?;
        to = parent(to)?;
    }
    (from != to).then(|| (parent(from), from, to))
}

/// Lay out boxes from their sizes; gives the size of the whole.
fn arrange(boxes: &[usize], edges: &[(usize, usize)], areas: &mut [Area]) -> (f64, f64) {
    let local: std::collections::HashMap<usize, usize> =
        boxes.iter().enumerate().map(|(local, node)| (*node, local)).collect();
    let edges: Vec<(usize, usize)> =
        edges.iter().filter_map(|(from, to)| Some((*local.get(from)?, *local.get(to)?))).collect();
    let layer_of = layers(boxes.len(), &edges);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); layer_of.iter().max().map_or(0, |last| last + 1)];
    for (node, layer) in layer_of.iter().enumerate() {
        layers[*layer].push(node);
    }
    let (mut before, mut after) = (vec![Vec::new(); boxes.len()], vec![Vec::new(); boxes.len()]);
    for (from, to) in &edges {
        if layer_of[*from] < layer_of[*to] {
            before[*to].push(*from);
            after[*from].push(*to);
        }
    }
    order(&mut layers, &before, &after);

    let mut x = 0.0;
    let mut bottom: f64 = 0.0;
    for (number, layer) in layers.iter().enumerate() {
        let width = layer.iter().map(|node| areas[boxes[*node]].width).fold(0.0, f64::max);
        let mut free = f64::NEG_INFINITY;
        for node in layer {
            let height = areas[boxes[*node]].height;
            let middle = |node: &usize| areas[boxes[*node]].y + areas[boxes[*node]].height / 2.0;
            let wanted = mean(before[*node].iter().map(middle)).map(|middle| middle - height / 2.0);
            let y = match wanted {
                Some(wanted) => wanted.max(free),
                None if free.is_finite() => free,
                None => 0.0,
            };
            let area = &mut areas[boxes[*node]];
            area.x = x + (width - area.width) / 2.0;
            area.y = y;
            free = y + height + APART;
        }
        // A layer that was pushed down stands around where it wanted to be.
        if number > 0 {
            let wanted = mean(layer.iter().flat_map(|node| &before[*node]).map(|node| middle_of(areas[boxes[*node]])));
            let found = mean(layer.iter().map(|node| middle_of(areas[boxes[*node]])));
            if let Some((wanted, found)) = wanted.zip(found) {
                layer.iter().for_each(|node| areas[boxes[*node]].y += wanted - found);
            }
        }
        x += width + BETWEEN;
    }
    let top = boxes.iter().map(|node| areas[*node].y).fold(f64::INFINITY, f64::min);
    for node in boxes {
        areas[*node].y -= top;
        bottom = bottom.max(areas[*node].y + areas[*node].height);
    }
    ((x - BETWEEN).max(0.0), bottom)
}

fn middle_of(area: Area) -> f64 {
    area.y + area.height / 2.0
}

/// Put each layer in the order of its neighbours' mean places, forth and back.
fn order(layers: &mut [Vec<usize>], before: &[Vec<usize>], after: &[Vec<usize>]) {
    let mut place: Vec<f64> = vec![0.0; before.len()];
    let settle = |layer: &[usize], place: &mut [f64]| {
        for (position, node) in layer.iter().enumerate() {
            place[*node] = (position as f64 + 0.5) / layer.len() as f64;
        }
    };
    layers.iter().for_each(|layer| settle(layer, &mut place));
    for sweep in 0..SWEEPS {
        let forth = sweep % 2 == 0;
        let neighbours = if forth { before } else { after };
        let count = layers.len();
        for step in 0..count {
            let layer = &mut layers[if forth { step } else { count - 1 - step }];
            let mut keyed: Vec<(f64, usize)> = layer
                .iter()
                .map(|node| (mean(neighbours[*node].iter().map(|other| place[*other])).unwrap_or(place[*node]), *node))
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *layer = keyed.into_iter().map(|(_, node)| node).collect();
            settle(layer, &mut place);
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_the_longest_way_and_rings_are_cut() {
        assert_eq!(layers(5, &[(0, 1), (1, 2), (0, 2), (3, 2)]), [0, 1, 2, 0, 0]);
        assert_eq!(layers(3, &[(0, 1), (1, 2), (2, 0), (1, 1)]), [0, 1, 2]);
    }
}
