//! The folder and its lock: one live process per folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::StartError;

/// A folder held by this process until every clone is dropped: each thread that writes to the folder has one.
/// The operating system gives the lock back when the process dies, however it dies, so that a killed process
/// never leaves the folder locked.
#[derive(Clone)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Holds the lock while open.
    _lock: Arc<File>,
}

impl DataDir {
    /// Makes the folder where absent and takes its lock.
    ///
    /// # Errors
    /// [`StartError::Locked`] while another process holds it.
    pub(crate) fn hold(path: &Path) -> Result<Self, StartError> {
        let broken = |source| StartError::DataDir { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(broken)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(broken)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StartError::Locked { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(broken(source)),
        }
        write_holder(&mut lock).map_err(broken)?;
        Ok(Self { path: path.to_owned(), _lock: Arc::new(lock) })
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn write_holder(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    write!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(process) => format!("process {process}"),
        None => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_folder_is_refused_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::hold(folder.path()).unwrap();
        let refused = DataDir::hold(folder.path()).err().unwrap();
        let text = refused.to_string();
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        assert!(text.contains("stop that process"), "{text}");
        let writer = held.clone();
        drop(held);
        assert!(DataDir::hold(folder.path()).is_err());
        drop(writer);
        assert!(DataDir::hold(folder.path()).is_ok());
    }
}
