//! A page with WebAssembly: built from a package of this workspace, and served.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use axum::{Router, http::HeaderValue, middleware::map_response, response::Response};
use tower_http::services::ServeDir;
use wasm_bindgen_cli_support::Bindgen;

/// The parts of a page.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The folder of the workspace.
    pub workspace: &'a Path,
    /// The package whose library becomes a JavaScript module with the library's name.
    pub package: &'a str,
    /// The package's features, in addition to the default ones.
    pub features: &'a [&'a str],
    /// Cargo's profile; any but `dev`.
    pub profile: &'a str,
    /// The name of its folder among the folders of all pages.
    pub folder: &'a str,
    /// The other files: names and contents.
    pub files: &'a [(&'a str, &'a str)],
}

/// Turns on vector instructions, which speed up the per-byte work of noise. Browsers support them since 2021, Safari
/// since 2023.
const FLAGS: &str = "-Ctarget-feature=+simd128";

impl Page<'_> {
    /// Builds the page, and returns its folder. The first build takes minutes.
    ///
    /// # Errors
    /// If the package does not compile, or if the version of `wasm-bindgen` in this program differs from the one in
    /// the package.
    pub fn build(&self) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
        let target = self.workspace.join("target/browser");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--lib"])
            .args(["--package", self.package, "--profile", self.profile])
            .args(["--features", &self.features.join(",")])
            .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
            .arg(&target)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", FLAGS)
            .current_dir(self.workspace)
            .status()?;
        if !built.success() {
            return Err(io::Error::other(format!("{} was not built", self.package)).into());
        }
        let library = self.library();
        let compiled = target.join("wasm32-unknown-unknown").join(self.profile);
        let folder = target.join("pages").join(self.folder);
        std::fs::create_dir_all(&folder)?;
        Bindgen::new()
            .input_path(compiled.join(format!("{library}.wasm")))
            .web(true)?
            .typescript(false)
            .remove_name_section(true)
            .remove_producers_section(true)
            .generate(&folder)?;
        for (name, text) in self.files {
            std::fs::write(folder.join(name), text)?;
        }
        Ok(folder)
    }

    /// Returns the name of the module.
    pub fn library(&self) -> String {
        self.package.replace('-', "_")
    }
}

/// Serves the files of a folder. Browsers ask each time whether a file has changed.
pub fn router(folder: &Path) -> Router {
    Router::new()
        .fallback_service(ServeDir::new(folder))
        .layer(map_response(async |mut response: Response| {
            let fresh = HeaderValue::from_static("no-cache");
            response.headers_mut().insert("cache-control", fresh);
            response
        }))
}
