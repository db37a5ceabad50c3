//! Where the nodes of a drawing in three columns stand: sources, rules, targets.

/// The column of the rules, in the middle.
pub(crate) const MIDDLE: usize = 1;

/// The row of each node, by the column that it is in, and how many rows there are. Those of the
/// middle column stand in their order; the others beside the middle of those that they are joined
/// to, so that few ways cross.
pub(crate) fn rows(columns: &[usize], edges: &[(usize, usize)]) -> (Vec<usize>, usize) {
    let mut rows = vec![0; columns.len()];
    let mut height = 0;
    for column in [MIDDLE, 0, 2] {
        let of_column = columns.iter().enumerate();
        let of_column = of_column.filter(|(_, own)| **own == column);
        let mut nodes: Vec<usize> = of_column.map(|(index, _)| index).collect();
        if column != MIDDLE {
            let key = |index: usize| middle(index, edges, &rows);
            nodes.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
        }
        height = height.max(nodes.len());
        for (row, index) in nodes.into_iter().enumerate() {
            if let Some(own) = rows.get_mut(index) {
                *own = row;
            }
        }
    }
    (rows, height)
}

/// The mean row of what a node is joined to; last where there is nothing.
fn middle(index: usize, edges: &[(usize, usize)], rows: &[usize]) -> f64 {
    let others = edges.iter().filter_map(|(from, to)| match index {
        _ if *from == index => Some(*to),
        _ if *to == index => Some(*from),
        _ => None,
    });
    let ranks = others.filter_map(|other| rows.get(other));
    let (sum, count) = ranks.fold((0, 0), |(sum, count), row| (sum + row, count + 1));
    match count {
        0 => f64::MAX,
        count => sum as f64 / f64::from(count),
    }
}
