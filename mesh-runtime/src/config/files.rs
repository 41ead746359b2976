//! Configuration from files: every `.yaml`, `.yml` and `.json` of the directories named, polled for change.
//!
//! Polled by content, not by notification: ConfigMap mounts swap symlinks, editors replace files, and NFS tells nobody.

use mesh_core::config::SourceFile;
use std::{
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Reads the files named and those in the directories named (not deeper), sorted by name.
///
/// A file that cannot be read is in the list with the reason, so that what it held before is kept. A path that does not
/// exist is no file: what it held is gone. Hidden files (`.#edit.yaml`, `..data`) are left out of directories.
pub fn read_files(paths: &[PathBuf]) -> Vec<SourceFile> {
    let mut files: Vec<_> = paths.iter().flat_map(|path| read_path(path)).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|a, b| a.name == b.name);
    files
}

fn read_path(path: &Path) -> Vec<SourceFile> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => read_directory(path),
        Ok(_) => read_file(path).into_iter().collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => vec![unreadable(path, &e)],
    }
}

fn read_directory(directory: &Path) -> Vec<SourceFile> {
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(e) => return vec![unreadable(directory, &e)],
    };
    let is_config = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str());
        !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && !path.is_dir()
    };
    entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(is_config)
        .filter_map(|path| read_file(&path))
        .collect()
}

/// Returns `None` for a file that went away meanwhile.
fn read_file(path: &Path) -> Option<SourceFile> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > FILE_MAX => Some(SourceFile {
            name: path.display().to_string(),
            text: Err(format!("larger than {} MiB; split it", FILE_MAX >> 20)),
        }),
        Ok(_) => Some(SourceFile { name: path.display().to_string(), text: Ok(text) }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => Some(unreadable(path, &e)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> SourceFile {
    SourceFile { name: path.display().to_string(), text: Err(error.to_string()) }
}

/// 20,000 routes are about 8 MB of YAML; four times that is room, a log file named by mistake is not.
const FILE_MAX: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_configuration_files_in_the_order_of_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "notes.txt", ".hidden.yaml", "d.yaml~"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        fs::create_dir(directory.path().join("deeper.yaml")).unwrap();
        let files = read_files(&[directory.path().to_owned()]);
        let texts: Vec<_> = files.iter().map(|file| file.text.clone().unwrap()).collect();
        assert_eq!(texts, ["a.yml", "b.yaml", "c.json"]);
    }

    #[test]
    fn a_file_named_twice_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "x").unwrap();
        assert_eq!(read_files(&[file, directory.path().to_owned()]).len(), 1);
    }

    #[test]
    fn a_file_that_is_gone_is_not_listed_and_one_that_does_not_read_is() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone.yaml");
        let latin = directory.path().join("latin.yaml");
        fs::write(&latin, [0x66, 0xfc]).unwrap();
        let files = read_files(&[gone, latin]);
        assert_eq!(files.len(), 1);
        assert!(files[0].text.as_ref().unwrap_err().contains("UTF-8"), "{:?}", files[0]);
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused_without_being_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let huge = directory.path().join("huge.yaml");
        fs::File::create(&huge).unwrap().set_len(FILE_MAX + 1).unwrap();
        assert!(read_files(&[huge])[0].text.as_ref().unwrap_err().contains("larger than 32 MiB"));
    }

    #[cfg(unix)]
    #[test]
    fn a_symlink_swap_as_configmaps_do_it_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, text) in [("..v1", "one"), ("..v2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("mesh.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/mesh.yaml", at("mesh.yaml")).unwrap();
        let read = || read_files(&[directory.path().to_owned()]).remove(0).text.unwrap();
        assert_eq!(read(), "one");
        std::os::unix::fs::symlink("..v2", at("..next")).unwrap();
        fs::rename(at("..next"), at("..data")).unwrap();
        assert_eq!(read(), "two");
    }
}
