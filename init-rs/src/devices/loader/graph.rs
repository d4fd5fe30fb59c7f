//! The dependencies of the packed modules as numbers, and without cycles.

use std::collections::HashMap;

use crate::devices::table::{ModuleTable, canonical_name};

/// One edge: the module to load before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) to: usize,
    /// Its failure is fatal.
    pub(super) hard: bool,
}

/// Who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) names: HashMap<String, usize>,
    /// What each module waits for.
    pub(super) before: Vec<Vec<Edge>>,
    /// Hard dependencies that the table does not have.
    pub(super) unpacked: Vec<Vec<String>>,
    /// Edges left out because they were part of a circle, as (module, dependency).
    pub(super) cut: Vec<(usize, usize)>,
}

impl Graph {
    pub(super) fn new(table: &ModuleTable) -> Self {
        let mut graph = Self::default();
        for (i, module) in table.modules.iter().enumerate() {
            graph.names.entry(canonical_name(&module.name)).or_insert(i);
        }
        for (i, module) in table.modules.iter().enumerate() {
            let mut edges: Vec<Edge> = Vec::with_capacity(module.deps.len() + module.soft.len());
            let mut unpacked = Vec::new();
            let wanted = module.deps.iter().map(|n| (n, true)).chain(module.soft.iter().map(|n| (n, false)));
            for (name, hard) in wanted {
                match graph.find(name) {
                    Some(to) if to == i || edges.iter().any(|e| e.to == to) => {}
                    Some(to) => edges.push(Edge { to, hard }),
                    None if hard => unpacked.push(name.clone()),
                    None => {}
                }
            }
            graph.before.push(edges);
            graph.unpacked.push(unpacked);
        }
        // The packer writes a module after everything it waits for; only a table that breaks the rule needs work.
        if graph.before.iter().enumerate().any(|(i, edges)| edges.iter().any(|e| e.to > i)) {
            graph.cut_circles();
        }
        graph
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).or_else(|| self.names.get(&canonical_name(name))).copied()
    }

    /// Orders the modules; where everything left waits in circles, drops what the first of them still waits for -
    /// preferably one that waits only for soft dependencies.
    fn cut_circles(&mut self) {
        let count = self.before.len();
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut waiting: Vec<usize> = Vec::with_capacity(count);
        for (i, edges) in self.before.iter().enumerate() {
            waiting.push(edges.len());
            for edge in edges {
                if let Some(list) = after.get_mut(edge.to) {
                    list.push(i);
                }
            }
        }
        let mut placed = vec![false; count];
        let mut ready: Vec<usize> = (0..count).filter(|&i| waiting.get(i) == Some(&0)).collect();
        let mut left = count;
        while left > 0 {
            let Some(next) = ready.pop() else {
                let open = |i: &usize| placed.get(*i) == Some(&false);
                let soft_only =
                    |i: &usize| self.before.get(*i).is_some_and(|edges| edges.iter().all(|e| !e.hard || !open(&e.to)));
                let victim = (0..count).filter(open).find(soft_only).or_else(|| (0..count).find(open));
                let Some(victim) = victim else { break };
                let (keep, cut): (Vec<Edge>, Vec<Edge>) =
                    self.before.get(victim).into_iter().flatten().partition(|e| !open(&e.to));
                self.cut.extend(cut.iter().map(|e| (victim, e.to)));
                if let Some(edges) = self.before.get_mut(victim) {
                    *edges = keep;
                }
                if let Some(n) = waiting.get_mut(victim) {
                    *n = 0;
                }
                ready.push(victim);
                continue;
            };
            if let Some(done) = placed.get_mut(next)
                && !std::mem::replace(done, true)
            {
                left -= 1;
                for &i in after.get(next).into_iter().flatten() {
                    if let Some(n) = waiting.get_mut(i)
                        && *n > 0
                    {
                        *n -= 1;
                        if *n == 0 {
                            ready.push(i);
                        }
                    }
                }
            }
        }
    }
}
