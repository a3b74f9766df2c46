//! Circles in what imports what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::modules::Import;

/// Who imports whom, with one place where it does so.
#[derive(Default)]
pub(crate) struct Imports(BTreeMap<PathBuf, BTreeMap<PathBuf, String>>);

impl Imports {
    /// Between files.
    pub(crate) fn of_files<'a>(imports: impl Iterator<Item = &'a Import>) -> Self {
        Self::by(imports, Path::to_owned)
    }

    /// Between the modules at the top of the crate whose sources are in `src`: one that has a folder counts as that.
    pub(crate) fn of_top_modules<'a>(
        imports: impl Iterator<Item = &'a Import>,
        src: &Path,
    ) -> Self {
        Self::by(imports, |file| {
            let below = file.strip_prefix(src).unwrap_or(file);
            let top = src.join(below.iter().next().unwrap_or_default());
            let folder = top.with_extension("");
            if folder.is_dir() { folder } else { top }
        })
    }

    fn by<'a>(imports: impl Iterator<Item = &'a Import>, node: impl Fn(&Path) -> PathBuf) -> Self {
        let mut graph = Self::default();
        for import in imports {
            let (from, to) = (node(&import.from), node(&import.to));
            if from != to {
                let place = format!("{}:{}", import.from.display(), import.line);
                let places = graph.0.entry(from).or_default();
                places.entry(to).or_insert(place);
            }
        }
        graph
    }

    /// One sentence for each circle: the shortest way round for every import that has a way back.
    pub(crate) fn circles(&self) -> Vec<String> {
        let mut known = BTreeSet::new();
        let mut sentences = Vec::new();
        for (from, targets) in &self.0 {
            for to in targets.keys() {
                let Some(back) = self.way(to, from) else {
                    continue;
                };
                let members: BTreeSet<_> = back.iter().copied().collect();
                if known.insert(members) {
                    sentences.push(self.sentence(from, &back));
                }
            }
        }
        sentences
    }

    /// How many are in each group whose members all reach each other, the largest first.
    pub(crate) fn groups(&self) -> Vec<usize> {
        let reached: BTreeMap<_, _> = self.0.keys().map(|from| (from, self.reach(from))).collect();
        let mut groups = BTreeSet::new();
        for (from, targets) in &reached {
            let has_way_back = |to: &&&Path| {
                reached
                    .iter()
                    .any(|(name, ways)| name.as_path() == **to && ways.contains(from.as_path()))
            };
            let group: BTreeSet<&Path> = targets.iter().filter(has_way_back).copied().collect();
            if !group.is_empty() {
                groups.insert(group);
            }
        }
        let mut sizes: Vec<_> = groups.iter().map(BTreeSet::len).collect();
        sizes.sort_by(|a, b| b.cmp(a));
        sizes
    }

    fn targets(&self, from: &Path) -> impl Iterator<Item = &Path> {
        let targets = self.0.get(from).into_iter();
        targets.flat_map(|targets| targets.keys().map(PathBuf::as_path))
    }

    /// All that `from` imports, directly or by way of others.
    fn reach<'a>(&'a self, from: &'a Path) -> BTreeSet<&'a Path> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![from];
        while let Some(next) = waiting.pop() {
            waiting.extend(self.targets(next).filter(|target| reached.insert(*target)));
        }
        reached
    }

    /// The shortest way, both ends included.
    fn way<'a>(&'a self, from: &'a Path, to: &'a Path) -> Option<Vec<&'a Path>> {
        let mut ways = VecDeque::from([vec![from]]);
        let mut seen = BTreeSet::from([from]);
        while let Some(way) = ways.pop_front() {
            let last = *way.last()?;
            if last == to {
                return Some(way);
            }
            for next in self.targets(last).filter(|next| seen.insert(*next)) {
                ways.push_back([way.as_slice(), &[next]].concat());
            }
        }
        None
    }

    /// `back` leads from what `from` imports to `from` itself.
    fn sentence(&self, from: &Path, back: &[&Path]) -> String {
        let names: Vec<_> = back.iter().map(|path| path.display().to_string()).collect();
        let between = &names[1..names.len() - 1];
        let by_way_of = match between {
            [] => String::new(),
            _ => format!(" by way of {}", between.join(", ")),
        };
        let mut places = vec![self.0[from][back[0]].clone()];
        places.extend(back.windows(2).map(|hop| self.0[hop[0]][hop[1]].clone()));
        format!(
            "{} imports {}, which imports it{by_way_of} ({})",
            from.display(),
            names[0],
            places.join(", ")
        )
    }
}
