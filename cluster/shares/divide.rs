//! Dividing a limit by what each node wants of it.

/// In how many steps what a node wants is said: small changes are not worth moving shares for.
const STEPS: u64 = 16;

/// What a node wants, rounded up to a step of the limit and bounded by it.
pub(super) fn coarse(wants: u64, most: u64) -> u64 {
    wants.next_multiple_of((most / STEPS).max(1)).min(most)
}

/// Divides `most` among nodes that want so much each, evenly but for those that want less (max-min
/// fairness). What nobody wants is divided evenly among those that want anything, so that they need
/// not ask for every little more, and those that `may_want` something at any moment, so that they
/// need not begin with nothing.
///
/// Returns as many parts as there are nodes. Their sum is `most`, or nothing where there is nobody to
/// have it.
pub(super) fn divide(most: u64, wants: &[u64], may_want: &[bool]) -> Vec<u64> {
    let mut parts = vec![0; wants.len()];
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|place| wants.get(*place));
    let wanted = |place: &usize| wants.get(*place).copied().unwrap_or(0);
    order.retain(|place| wanted(place) > 0 || may_want.get(*place) == Some(&true));
    let mut left = most;
    let mut nodes = count(order.len());
    for place in &order {
        let part = wanted(place).min(left.div_ceil(nodes.max(1)));
        give(&mut parts, *place, part);
        left -= part;
        nodes -= 1;
    }
    let mut nodes = count(order.len());
    for place in &order {
        let part = left.div_ceil(nodes.max(1));
        give(&mut parts, *place, part);
        left -= part;
        nodes -= 1;
    }
    parts
}

/// Divides what is free among those that lack so much each, in proportion. No part is more than
/// what is lacking, and all of `free` is given where that much lacks.
pub(super) fn hand_out(free: u64, lacks: &[u64]) -> Vec<u64> {
    let (mut free, mut all) = (free, lacks.iter().sum::<u64>());
    let part = |lack: &u64| {
        let exact = u128::from(free.min(all)) * u128::from(*lack);
        let part = exact.div_ceil(u128::from(all.max(1)));
        let part = u64::try_from(part).unwrap_or(u64::MAX).min(free).min(*lack);
        free -= part;
        all -= lack;
        part
    };
    lacks.iter().map(part).collect()
}

fn give(parts: &mut [u64], place: usize, amount: u64) {
    if let Some(part) = parts.get_mut(place) {
        *part += amount;
    }
}

fn count(nodes: usize) -> u64 {
    u64::try_from(nodes).unwrap_or(u64::MAX)
}
