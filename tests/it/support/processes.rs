//! Which processes are there. Also a part of the demo's own test.

use std::fs;
use std::path::Path;

/// The processes whose command line has a word with `text` in it, without those that only wait to be picked up.
pub(crate) fn processes_with(text: &Path) -> Vec<String> {
    let text = text.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let with_text = processes.filter(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    });
    with_text.map(|process| process.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The processes whose parent is this one.
pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    pids.filter(|pid| super::stat(*pid).is_some_and(|fields| fields[1] == parent.to_string())).collect()
}
