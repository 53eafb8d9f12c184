//! The functions' binaries: built by cargo from this checkout, or found beside this program.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail};

/// Where this program's own binary is, and so the functions'.
///
/// # Errors
/// When the system does not tell.
pub fn folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let folder = program.parent().context("this program has no folder")?;
    // Test programs are in `deps`, one below.
    let is_deps = folder.file_name().is_some_and(|name| name == "deps");
    Ok(if is_deps { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() })
}

/// The folder that holds the functions' binaries, up to date: under `cargo run` and `cargo test` they are built from
/// the same checkout and in the same profile as this program; a no-op when nothing has changed. Elsewhere they must be
/// there already.
///
/// # Errors
/// When they do not build, or are not there.
pub async fn up_to_date(names: &[String]) -> anyhow::Result<PathBuf> {
    let folder = folder()?;
    if let (Some(cargo), Some(manifest_folder)) =
        (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
    {
        build(Path::new(&cargo), Path::new(&manifest_folder), &folder).await?;
    }
    for name in names {
        let binary = folder.join(name);
        if !binary.is_file() {
            bail!("the function {name} is not at {}: run `cargo build --release` first", binary.display());
        }
    }
    Ok(folder)
}

/// Builds all default members, as the `cargo run` before did: another choice of packages would be another choice of
/// features, and every dependency would be built twice.
async fn build(cargo: &Path, manifest_folder: &Path, folder: &Path) -> anyhow::Result<()> {
    let workspace = manifest_folder
        .ancestors()
        .find(|folder| folder.join("Cargo.lock").is_file())
        .context("no Cargo.lock above this package: run in a checkout of Darkroom")?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut build = tokio::process::Command::new(cargo);
    // What `cargo run` and `cargo test` tell this program about its own package is not the build's: a dependency that looks
    // at it (ring) would be built anew, and all that use it.
    for (name, _) in std::env::vars_os() {
        let of_package = |name: &str| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name.starts_with("CARGO_BIN_")
        };
        if name.to_str().is_some_and(of_package) {
            build.env_remove(&name);
        }
    }
    let output = build
        .args(["build", "--locked", "--bins", "--profile", profile])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .context("cargo does not start")?;
    if !output.success() {
        bail!("the functions do not build: see cargo's messages above");
    }
    Ok(())
}
