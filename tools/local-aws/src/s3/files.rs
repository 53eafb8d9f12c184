//! The files that hold objects' bytes. Their names are random, never a key, so that no key can name a path.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::checksum::{Digester, Digests};

/// Bytes gathered before they are written, and read at once: a whole image is usually one of these.
pub(super) const CHUNK_BYTES: usize = 1024 * 1024;

/// The folder of objects.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn open(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self(folder.to_owned()))
    }

    /// Removes every file that `is_named` does not know: what a killed process was writing, or had replaced.
    /// Only right while nobody writes.
    pub(super) fn remove_unnamed<E: From<std::io::Error>>(
        &self,
        is_named: impl Fn(&str) -> Result<bool, E>,
    ) -> Result<(), E> {
        for file in std::fs::read_dir(&self.0)? {
            let file = file?;
            let named = match file.file_name().to_str() {
                Some(name) => is_named(name)?,
                None => false,
            };
            if !named {
                std::fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    pub(super) fn incoming(&self, digester: Digester) -> Incoming {
        Incoming {
            folder: self.0.clone(),
            pending: Vec::new(),
            pending_bytes: 0,
            sink: None,
            digester: Some(digester),
        }
    }

    /// Puts files together, one behind the other, in a new one.
    pub(super) fn concatenate<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        digester: Digester,
    ) -> std::io::Result<Received> {
        let mut sink = Sink { file: NewFile::create(&self.0)?, digester, bytes: 0 };
        for name in names {
            let mut part = self.open_file(name)?;
            loop {
                let piece = read_some(&mut part, CHUNK_BYTES)?;
                if piece.is_empty() {
                    break;
                }
                sink.take(&piece)?;
            }
        }
        Ok(sink.finish())
    }

    pub(super) fn open_file(&self, name: &str) -> std::io::Result<File> {
        File::open(self.0.join(name))
    }

    /// Removes a file that no object names any more. Readers that have it open keep it.
    pub(super) fn remove(&self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.0.join(name)) {
            tracing::warn!(%error, file = name, "a file of a replaced or deleted object is left; the next start removes it");
        }
    }
}

/// A file being written. It is gone again when dropped, unless it was kept.
pub(super) struct NewFile {
    name: String,
    path: PathBuf,
    file: File,
    kept: bool,
}

impl NewFile {
    fn create(folder: &Path) -> std::io::Result<Self> {
        let name = random_name()?;
        let path = folder.join(&name);
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Self { name, path, file, kept: false })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The index names this file now: leave it.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, file = self.name, "a refused object's file is left; the next start removes it");
        }
    }
}

/// An object's bytes as they arrive.
pub(super) struct Incoming {
    folder: PathBuf,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    sink: Option<Sink>,
    digester: Option<Digester>,
}

/// A complete file that no object names yet.
pub(super) struct Received {
    pub(super) file: NewFile,
    pub(super) bytes: u64,
    pub(super) digests: Digests,
}

struct Sink {
    file: NewFile,
    digester: Digester,
    bytes: u64,
}

impl Sink {
    fn take(&mut self, piece: &[u8]) -> std::io::Result<()> {
        self.digester.update(piece);
        self.bytes += piece.len() as u64;
        self.file.file.write_all(piece)
    }

    fn finish(self) -> Received {
        Received { file: self.file, bytes: self.bytes, digests: self.digester.finish() }
    }
}

impl Incoming {
    /// Takes a piece; writes out what has gathered once it is a chunk.
    pub(super) async fn push(&mut self, piece: Bytes) -> std::io::Result<()> {
        self.pending_bytes += piece.len();
        self.pending.push(piece);
        if self.pending_bytes < CHUNK_BYTES {
            return Ok(());
        }
        let write = self.take_write();
        self.sink = Some(blocking(write).await??);
        Ok(())
    }

    /// Writes the rest.
    pub(super) async fn finish(mut self) -> std::io::Result<Received> {
        let write = self.take_write();
        blocking(move || {
            let sink = write()?;
            Ok(sink.finish())
        })
        .await?
    }

    fn take_write(&mut self) -> impl FnOnce() -> std::io::Result<Sink> + use<> {
        let pieces = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let sink = self.sink.take();
        let digester = self.digester.take();
        let folder = self.folder.clone();
        move || {
            let mut sink = match (sink, digester) {
                (Some(sink), _) => sink,
                (None, Some(digester)) => Sink { file: NewFile::create(&folder)?, digester, bytes: 0 },
                (None, None) => return Err(std::io::Error::other("an earlier write of this object failed")),
            };
            for piece in pieces {
                sink.take(&piece)?;
            }
            Ok(sink)
        }
    }
}

/// A name that nothing has yet.
pub(super) fn random_name() -> std::io::Result<String> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(HEXLOWER.encode(&random))
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}

/// Reads up to `limit` bytes from `file` where it stands.
pub(super) fn read_some(file: &mut File, limit: usize) -> std::io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(limit);
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

pub(super) fn seek(file: &mut File, position: u64) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(position)).map(drop)
}
