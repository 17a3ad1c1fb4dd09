//! Semantic versions for the `version_*` filters.

use std::cmp::Ordering;

/// `major.minor.patch`, perhaps with `-prerelease` and `+build`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u64,
    pub(super) minor: u64,
    pub(super) patch: u64,
    prerelease: Option<String>,
}

impl Version {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a version of the form 1.2.3");
        let without_build = text.split_once('+').map_or(text, |(version, _)| version);
        let (numbers, prerelease) = match without_build.split_once('-') {
            Some((numbers, prerelease)) => (numbers, Some(prerelease.to_owned())),
            None => (without_build, None),
        };
        let numbers: Vec<u64> = numbers.split('.').map(str::parse).collect::<Result<_, _>>().ok().ok_or_else(bad)?;
        match *numbers {
            [major, minor, patch] => Ok(Self { major, minor, patch, prerelease }),
            _ => Err(bad()),
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (&self.prerelease, &other.prerelease) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(left), Some(right)) => compare_prereleases(left, right),
        })
    }
}

/// Numbers before words, numbers as numbers, and what is longer comes later.
fn compare_prereleases(left: &str, right: &str) -> Ordering {
    let rank = |part: &str| {
        part.parse::<u64>().map_or_else(|_word| (1, 0, part.to_owned()), |number| (0, number, String::new()))
    };
    left.split('.').map(rank).cmp(right.split('.').map(rank))
}

type Accepts = fn(Ordering) -> bool;

/// `>=1.2.0`, `<2.0.0`, `==1.0.0`, `!=1.0.0`: a comparison and one version.
pub(super) fn matches(version: &str, condition: &str) -> Result<bool, String> {
    let accepted: [(&str, Accepts); 6] = [
        (">=", Ordering::is_ge),
        ("<=", Ordering::is_le),
        ("==", Ordering::is_eq),
        ("!=", Ordering::is_ne),
        (">", Ordering::is_gt),
        ("<", Ordering::is_lt),
    ];
    let version = Version::parse(version)?;
    for (sign, accepts) in accepted {
        if let Some(wanted) = condition.strip_prefix(sign) {
            return Ok(accepts(version.compare(&Version::parse(wanted)?)));
        }
    }
    Err(format!("`{condition}` does not start with one of >= <= == != > <"))
}
