//! Builds the pages, and measures their sizes.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Result, files,
    site::{self, Page},
};

const NODE_HTML: &str = include_str!("node.html");
/// The npm bundles. The page of the npm client loads them under these names.
const BUNDLES: [&str; 3] = ["libp2p-websocket-star", "multiaddr", "peer-id"];

/// A size in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    pub raw: usize,
    /// The size after `gzip -9`.
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

/// The sizes of the files that a page loads.
pub struct Sizes {
    pub what: &'static str,
    /// The largest compressed size allowed, in bytes.
    pub bound: usize,
    pub wasm: Size,
    pub rest: Size,
}

impl Sizes {
    pub fn all(&self) -> Size {
        self.wasm + self.rest
    }

    pub fn is_met(&self) -> bool {
        self.all().compressed <= self.bound
    }
}

/// All files that are served.
pub struct Pages {
    folder: PathBuf,
    pub sizes: Vec<Sizes>,
    /// The size of the npm client's bundle, without the bundle for its keys.
    pub npm: Size,
}

impl Pages {
    /// Serves the files to this machine until the runtime ends. Returns the address.
    pub async fn serve(&self) -> Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let app = site::router(&self.folder);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(address)
    }
}

/// Builds everything.
///
/// # Errors
/// If something cannot be built, or is not installed.
pub fn build() -> Result<Pages> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // No files here: the HTML of the benchmark does not count towards the size.
    let node = Page {
        workspace: root,
        package: "star-bench-page",
        features: &[],
        profile: "page",
        folder: "bench",
        files: &[],
    };
    // The same with the feature `raw`, which adds the transport alone. Its size is not reported.
    let raw = Page {
        features: &["raw"],
        folder: "bench/raw",
        files: &[("node.html", NODE_HTML)],
        ..node
    };
    raw.build()?;
    let folder = node.build()?;
    let example = files::page(root);
    let sizes = vec![
        sizes("ping, identify and streams", 450_000, &node, &folder)?,
        sizes("the example's page", 650_000, &example, &example.build()?)?,
    ];
    for (name, text) in [
        ("node.html", NODE_HTML),
        ("npm.html", include_str!("npm.html")),
        ("npm.js", include_str!("npm.js")),
    ] {
        fs::write(folder.join(name), text)?;
    }
    for bundle in BUNDLES {
        let from = root.join(format!("tests/js/node_modules/{bundle}/dist/index.min.js"));
        let copied = fs::copy(&from, folder.join(format!("{bundle}.js")));
        copied.map_err(|error| format!("{}, which .ci/setup installs: {error}", from.display()))?;
    }
    let npm = size(&folder.join(format!("{}.js", BUNDLES[0])))?;
    Ok(Pages { folder, sizes, npm })
}

/// Returns the sizes of a page that was built into this folder.
fn sizes(what: &'static str, bound: usize, page: &Page<'_>, folder: &Path) -> Result<Sizes> {
    let library = page.library();
    let mut rest = size(&folder.join(format!("{library}.js")))?;
    for (name, _) in page.files {
        rest = rest + size(&folder.join(name))?;
    }
    Ok(Sizes {
        what,
        bound,
        wasm: size(&folder.join(format!("{library}_bg.wasm")))?,
        rest,
    })
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
