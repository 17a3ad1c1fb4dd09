//! "Did you mean": the nearest of the names that exist.

/// The candidate nearest to `name`, if it is near enough to be a slip of the fingers.
pub fn closest<T: AsRef<str> + Ord>(name: &str, candidates: impl IntoIterator<Item = T>) -> Option<T> {
    let limit = (name.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate.as_ref()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?" for the nearest candidate.
pub fn did_you_mean<T: AsRef<str> + Ord>(name: &str, candidates: impl IntoIterator<Item = T>) -> Option<String> {
    closest(name, candidates).map(|candidate| format!("did you mean `{}`?", candidate.as_ref()))
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = above[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_if_it_is_near() {
        let names = ["cmd", "cwd", "description", "enabled", "pattern", "type"];
        for (slip, meant) in [("enabeld", Some("enabled")), ("descripton", Some("description")), ("colour", None)] {
            assert_eq!(closest(slip, names), meant, "{slip}");
        }
    }
}
