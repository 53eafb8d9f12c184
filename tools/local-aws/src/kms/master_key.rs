//! The folder's master key: 32 random bytes in a file that only its owner may read.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use super::SERVICE;
use crate::StartError;
use crate::data_dir::DataDir;

/// The file's name.
const FILE: &str = "kms-master-key";
const KEY_BYTES: usize = 32;

/// The cipher under which every data key of this folder is encrypted.
pub(super) struct MasterKey(LessSafeKey);

impl MasterKey {
    /// The folder's key; made, once, when there is none.
    ///
    /// # Errors
    /// [`StartError::MasterKey`] when others may read the file, or it is no key.
    pub(super) fn of(data_dir: &DataDir) -> Result<Self, StartError> {
        let path = data_dir.join(FILE);
        if !path.exists() {
            make(&path, &data_dir.join("kms-master-key.new"))
                .map_err(|source| StartError::storage(SERVICE, source))?;
        }
        Self::read(&path)
    }

    fn read(path: &Path) -> Result<Self, StartError> {
        let refused = |problem| StartError::MasterKey { path: path.to_owned(), problem };
        let failed = |source: std::io::Error| StartError::storage(SERVICE, source);
        let mut file = File::open(path).map_err(failed)?;
        // Of the open file, so that it is the one that is read.
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(refused(format!(
                "its mode is {mode:o}, so that others may read it: say `chmod 600`, and replace the API keys if others could"
            )));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        (&mut file).take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        UnboundKey::new(&AES_256_GCM, &bytes).map(|key| Self(LessSafeKey::new(key))).map_err(|_| {
            refused(format!(
                "it must have {KEY_BYTES} bytes: restore it from a copy, or move the data folder away to begin anew"
            ))
        })
    }

    pub(super) fn cipher(&self) -> &LessSafeKey {
        &self.0
    }
}

/// Written under another name first and then linked, which fails when there is one already: no crash leaves half a
/// key, and no key is ever overwritten.
fn make(path: &Path, unfinished: &Path) -> std::io::Result<()> {
    let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(std::io::Error::other)?;
    match std::fs::remove_file(unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(unfinished)?;
    file.write_all(bytes.as_slice())?;
    std::fs::hard_link(unfinished, path)?;
    std::fs::remove_file(unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (path, unfinished) = (folder.path().join("key"), folder.path().join("key.new"));
        // What a crash may leave.
        std::fs::write(&unfinished, "half").unwrap();
        make(&path, &unfinished).unwrap();
        let made = std::fs::read(&path).unwrap();
        assert_eq!(made.len(), KEY_BYTES);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!unfinished.exists());
        assert_eq!(make(&path, &unfinished).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), made);
    }
}
