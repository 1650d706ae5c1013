//! A directory of secrets in the layout of Kubernetes. `name` links to `..data/name`, and `..data` links to a numbered directory.
//! An update replaces the link `..data` atomically.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub(crate) struct Mounted {
    home: PathBuf,
    version: usize,
}

impl Mounted {
    pub(crate) fn new(home: PathBuf, files: &[(&str, String)]) -> Self {
        fs::create_dir(&home).unwrap();
        let mut mounted = Self { home, version: 0 };
        mounted.swap(files);
        for (name, _) in files {
            symlink(format!("..data/{name}"), mounted.path(name)).unwrap();
        }
        mounted
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Replaces the contents of all files atomically.
    pub(crate) fn swap(&mut self, files: &[(&str, String)]) {
        let before = self.directory();
        self.version += 1;
        let next = self.directory();
        fs::create_dir(self.path(&next)).unwrap();
        for (name, content) in files {
            fs::write(self.path(&next).join(name), content).unwrap();
        }
        symlink(&next, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        // The first version has no predecessor.
        let _ = fs::remove_dir_all(self.path(&before));
    }

    fn directory(&self) -> String {
        format!("..2026_11_28_{:04}", self.version)
    }
}
