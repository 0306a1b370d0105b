//! The pages: built, with their sizes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Result;

/// A package that is built for a page.
pub struct Package {
    name: &'static str,
    feature: Option<&'static str>,
    pub what: &'static str,
    /// What it may have, compressed, in bytes.
    pub bound: usize,
    /// Files of its own that its page loads beside it, by their folder.
    files: Option<&'static str>,
}

/// What is measured, too.
const NODE: Package = Package {
    name: "star-bench-node",
    feature: None,
    what: "ping, identify and streams",
    bound: 450_000,
    files: None,
};
/// The same with the transport alone beside it, whose size is not told.
const RAW: Package = Package {
    feature: Some("raw"),
    ..NODE
};
const EXAMPLE: Package = Package {
    name: "star-browser-example",
    feature: None,
    what: "the example's page",
    bound: 650_000,
    files: Some("examples/browser/page"),
};
/// The bundles of npm, which the page of the npm client loads under these names.
const BUNDLES: [&str; 3] = ["libp2p-websocket-star", "multiaddr", "peer-id"];

/// How many bytes something has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    pub raw: usize,
    /// By `gzip -9`.
    pub compressed: usize,
}

impl std::ops::Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            raw: self.raw + other.raw,
            compressed: self.compressed + other.compressed,
        }
    }
}

/// What a page loads.
pub struct Sizes {
    pub package: &'static Package,
    pub wasm: Size,
    pub rest: Size,
}

impl Sizes {
    pub fn all(&self) -> Size {
        self.wasm + self.rest
    }

    pub fn is_met(&self) -> bool {
        self.all().compressed <= self.package.bound
    }
}

/// All that is served.
pub struct Pages {
    pub folder: PathBuf,
    pub sizes: Vec<Sizes>,
    /// The bundle of the npm client, without that of its keys.
    pub npm: Size,
}

/// Builds everything.
///
/// # Errors
/// If something cannot be built, or is not installed.
pub fn build() -> Result<Pages> {
    let folder = root().join("target/browser/bench");
    let raw = folder.join("raw");
    package(&RAW, &raw)?;
    fs::write(raw.join("node.html"), include_str!("node.html"))?;
    let sizes = vec![
        package(&NODE, &folder)?,
        package(&EXAMPLE, &folder.join("example"))?,
    ];
    for (name, text) in [
        ("node.html", include_str!("node.html")),
        ("npm.html", include_str!("npm.html")),
        ("npm.js", include_str!("npm.js")),
    ] {
        fs::write(folder.join(name), text)?;
    }
    for bundle in BUNDLES {
        let from = root().join(format!("tests/js/node_modules/{bundle}/dist/index.min.js"));
        let copied = fs::copy(&from, folder.join(format!("{bundle}.js")));
        copied.map_err(|error| format!("{}, which .ci/setup installs: {error}", from.display()))?;
    }
    let npm = size(&folder.join(format!("{}.js", BUNDLES[0])))?;
    Ok(Pages { folder, sizes, npm })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn package(package: &'static Package, folder: &Path) -> Result<Sizes> {
    let target = root().join("target/browser");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "page", "--package"])
        .arg(package.name)
        .args(
            package
                .feature
                .map(|feature| format!("--features={feature}")),
        )
        .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
        .arg(&target)
        .current_dir(root())
        .status()?;
    if !built.success() {
        return Err(format!("{} was not built", package.name).into());
    }
    let name = package.name.replace('-', "_");
    let built = format!("wasm32-unknown-unknown/page/{name}.wasm");
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen
        .input_path(target.join(built))
        .web(true)?
        .typescript(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(folder)?;
    let mut rest = size(&folder.join(format!("{name}.js")))?;
    if let Some(files) = package.files {
        rest = rest + files_of_a_page(&root().join(files))?;
    }
    Ok(Sizes {
        package,
        wasm: size(&folder.join(format!("{name}_bg.wasm")))?,
        rest,
    })
}

/// What a page loads from this folder.
fn files_of_a_page(folder: &Path) -> Result<Size> {
    let mut sum = Size::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_loaded = ["html", "css", "js"].map(|kind| path.extension() == Some(kind.as_ref()));
        if is_loaded.contains(&true) {
            sum = sum + size(&path)?;
        }
    }
    Ok(sum)
}

fn size(path: &Path) -> Result<Size> {
    let zipped = Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .arg(path)
        .output()?;
    if !zipped.status.success() {
        return Err(format!("gzip failed on {}", path.display()).into());
    }
    Ok(Size {
        raw: fs::metadata(path)?.len() as usize,
        compressed: zipped.stdout.len(),
    })
}
