//! What differs from play to play and stands as `@NAME@` in configuration files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

/// Values by name.
#[derive(Debug, Default)]
pub(super) struct Setting(BTreeMap<&'static str, String>);

impl Setting {
    /// Gives a name its value.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        self.0.insert(name, value);
    }

    /// The value of a name that has one.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Writes a file and the folders that it is in.
    pub(super) fn write(&self, file: &Path, template: &str) -> anyhow::Result<()> {
        let text = self.fill(template).with_context(|| format!("filling in {}", file.display()))?;
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    fn fill(&self, template: &str) -> anyhow::Result<String> {
        let mut text = String::with_capacity(template.len());
        for (number, part) in template.split('@').enumerate() {
            if number % 2 == 0 {
                text.push_str(part);
                continue;
            }
            let value = self.0.get(part).with_context(|| format!("nothing is called `@{part}@`"))?;
            text.push_str(value);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_values_and_others_are_refused() {
        let mut setting = Setting::default();
        setting.set("PORT", "53".to_owned());
        assert_eq!(setting.fill("port @PORT@;\n").unwrap(), "port 53;\n");
        assert!(setting.fill("@POTR@").unwrap_err().to_string().contains("`@POTR@`"));
    }
}
