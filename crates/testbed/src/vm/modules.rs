// SPDX-License-Identifier: Apache-2.0
//! In which order modules have to be inserted, by the `modules.dep` that `depmod` writes.

use std::collections::{BTreeMap, BTreeSet};

/// Paths of the wanted modules and of all they need, each after what it needs. A wanted one that is not listed is part
/// of the kernel itself.
pub(super) fn in_order(dependencies: &str, wanted: &[&str]) -> Vec<String> {
    let lines = dependencies.lines().filter_map(|line| line.split_once(':'));
    let needs: BTreeMap<&str, Vec<&str>> = lines
        .map(|(module, needs)| (module, needs.split_whitespace().collect()))
        .collect();
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in wanted {
        let file = format!("/{name}.ko");
        if let Some(module) = needs.keys().find(|path| path.ends_with(&file)) {
            visit(module, &needs, &mut seen, &mut order);
        }
    }
    order.into_iter().map(str::to_owned).collect()
}

fn visit<'a>(
    module: &'a str,
    needs: &BTreeMap<&'a str, Vec<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    // Seen on the way down, so that a circle ends.
    if !seen.insert(module) {
        return;
    }
    for needed in needs.get(module).into_iter().flatten() {
        visit(needed, needs, seen, order);
    }
    order.push(module);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "kernel/net/9p/9pnet_virtio.ko: kernel/drivers/virtio/virtio.ko kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/net/9p/9pnet.ko:
";

    #[test]
    fn each_comes_after_what_it_needs() {
        let order = in_order(LISTED, &["9pnet_virtio", "virtio", "built_in"]);
        let position = |name: &str| order.iter().position(|path| path.ends_with(name)).unwrap();
        assert_eq!(order.len(), 4, "none twice: {order:?}");
        assert!(position("virtio_ring.ko") < position("/virtio.ko"));
        assert!(position("/virtio.ko") < position("9pnet_virtio.ko"));
        assert!(position("9pnet.ko") < position("9pnet_virtio.ko"));
    }
}
