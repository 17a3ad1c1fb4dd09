//! Domain names as Route 53 takes and gives them. Pure.

use anyhow::{anyhow, ensure};

const MOST_CHARACTERS: usize = 253;
const MOST_OF_A_LABEL: usize = 63;

/// A domain name in lower case, without its last dot.
pub(super) fn domain_name(text: &str) -> anyhow::Result<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        let plain = label.chars().all(|char| char.is_ascii_alphanumeric() || char == '-' || char == '_');
        plain && (1..=MOST_OF_A_LABEL).contains(&label.len())
    };
    let is_name = name.len() <= MOST_CHARACTERS && name.split('.').all(is_label);
    is_name.then_some(name).ok_or_else(|| anyhow!("`{text}` is not a DNS name"))
}

/// Is a name the domain itself or below it?
pub(super) fn is_in(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The full name of a record below its domain.
pub(super) fn below(domain: &str, name: &str) -> anyhow::Result<String> {
    let (domain, name) = (domain_name(domain)?, domain_name(name)?);
    ensure!(is_in(&name, &domain), "`{name}` is not below `{domain}`: give the full name, as `{name}.{domain}`");
    Ok(name)
}

/// A name and all that it is below, the longest first.
pub(super) fn suffixes(name: &str) -> Vec<String> {
    let labels: Vec<&str> = name.split('.').collect();
    (0..labels.len()).map(|from| labels.iter().skip(from).copied().collect::<Vec<_>>().join(".")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_lower_case_and_end_without_a_dot() {
        assert_eq!(domain_name("Web-001.Example.ORG.").unwrap(), "web-001.example.org");
        for bad in ["", ".", "a..b", "a b", "*.example.org", &"x".repeat(64)] {
            assert!(domain_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_in_its_domain_and_not_in_one_that_ends_alike() {
        assert!(is_in("a.example.org", "example.org") && is_in("example.org", "example.org"));
        assert!(!is_in("badexample.org", "example.org"));
        assert!(below("web.example.org", "web-001").unwrap_err().to_string().contains("give the full name"));
        assert_eq!(suffixes("a.b.c"), ["a.b.c", "b.c", "c"]);
    }
}
