//! Workers whose clocks are wrong: each starts under libfaketime (<https://github.com/wolfcw/libfaketime>), half of
//! them two seconds fast and half two seconds slow.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use darkroom::local_system::function_names;
use tempfile::TempDir;

/// Where Debian's package puts it, below `/usr/lib/<machine>`.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The library, if it is installed.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join(LIBRARY)).find(|file| file.is_file())
}

/// A folder with the functions' binaries, of which the worker's is started with a wrong clock.
pub(crate) fn skewed(binaries: &Path, library: &Path) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for name in function_names()? {
        let (binary, link) = (binaries.join(&name), folder.path().join(&name));
        if name == "worker" {
            fs::write(&link, script(&binary, library))?;
            fs::set_permissions(&link, fs::Permissions::from_mode(0o755))?;
        } else {
            symlink(binary, link)?;
        }
    }
    Ok(folder)
}

/// An environment's number ends its log stream's name. Waits stay what they are: only the wall clock is wrong.
fn script(binary: &Path, library: &Path) -> String {
    format!(
        "#!/bin/sh\n\
         case \"$AWS_LAMBDA_LOG_STREAM_NAME\" in *[02468ace]) offset=+2s ;; *) offset=-2s ;; esac\n\
         export FAKETIME=\"$offset\" FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n\
         export LD_PRELOAD='{}'\n\
         exec '{}'\n",
        library.display(),
        binary.display()
    )
}
